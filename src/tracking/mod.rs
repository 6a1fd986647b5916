//! The tracked connections' I/O: a thread of their own that opens them, one for each identity whose replies are cached,
//! writes fills whole, hands every byte it reads to [`crate::coherence::Tracked`] in order, and starts over when a
//! connection must be given up.
//!
//! ```text
//! Down ─ connect, HELLO 3, CLIENT TRACKING ON OPTIN → Up ─ canary heard of → Live ─ lost, silent, odd → Fenced → Down
//!                                          └ refused: the next source (`ladder`)                        (new epoch)
//! ```
//! While it is not live every fill is refused at once, so that whoever waits asks over its own connection.

mod canary;
mod ladder;
mod link;
mod live;
mod run;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::coherence::{Deliver, Fill, NearCache, Origin, Touch};
use crate::error::{Error, Kind, Result, Side};
use crate::metrics::Metrics;
use crate::upstream::{Handshake, Whereabouts};

pub use ladder::{Ladder, Source};

/// Takes deliveries of one batch, then is told that the batch is over.
pub trait Outbox<W>: Deliver<W> {
    /// Everything of this batch was delivered: wake whoever got something.
    fn flush(&mut self);
}

/// What the keeper of a tracked connection is asked.
enum Order {
    Fill(Fill),
    Touch(Vec<Touch>),
    Ping,
    Stop,
}

/// What all tracked connections of a process did; for metrics. It never goes down, whoever comes and goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Times one came up.
    pub connects: u64,
    /// Of these: not for the first time.
    pub reconnects: u64,
}

/// What is known about a tracked connection; for metrics and probes.
#[derive(Debug, Default)]
pub struct Status {
    /// Tracking is on.
    pub connected: AtomicBool,
    /// Times it came up again after the first time.
    pub reconnects: AtomicU64,
    /// Times it came up.
    pub connects: AtomicU64,
    /// When it came up last, in nanoseconds of [`crate::time::Instant`].
    pub since: AtomicU64,
}

/// The thread all tracked connections live on: each has one reader that stores and kills, and none waits for other work.
///
/// Dropping it ends the thread, and with it every connection.
pub struct TrackingThread {
    tracker: Tracker,
    /// Closed by the drop of this value: the thread waits for that.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl TrackingThread {
    /// Starts the thread; its connections are to `master` and hear of changes by the first source of `ladder` that works, and say so in
    /// `metrics`.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub fn start(ladder: Ladder, master: Whereabouts, metrics: Arc<Metrics>) -> Result<Self> {
        let fail = |error: std::io::Error| {
            Error::new(Side::Internal, Kind::Io, "start the tracking thread").with_source(error)
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(fail)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("nearhit-tracking".into())
            .spawn(move || drop(runtime.block_on(stopped)))
            .map_err(fail)?;
        Ok(Self {
            tracker: Tracker {
                runtime: handle,
                ladder: Arc::new(ladder),
                master,
                metrics,
                silent: Arc::new(watch::Sender::new(0)),
                keepers: Arc::default(),
                status: Arc::default(),
            },
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Opens tracked connections on this thread.
    pub fn tracker(&self) -> Tracker {
        self.tracker.clone()
    }
}

impl Drop for TrackingThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _panicked_and_logged = thread.join();
        }
    }
}

/// Opens tracked connections on the tracking thread. Once that has ended, those it opens are as if there were no server.
#[derive(Clone)]
pub struct Tracker {
    runtime: tokio::runtime::Handle,
    ladder: Arc<Ladder>,
    master: Whereabouts,
    metrics: Arc<Metrics>,
    /// Sources that the canary found to be silent.
    silent: Arc<watch::Sender<u8>>,
    /// How many connections are kept: while the server is away, many knock less often each.
    keepers: Arc<AtomicUsize>,
    /// What all of them did.
    status: Arc<Status>,
}

impl Tracker {
    /// What all its connections did so far.
    pub fn totals(&self) -> Totals {
        Totals {
            connects: self.status.connects.load(Ordering::Relaxed),
            reconnects: self.status.reconnects.load(Ordering::Relaxed),
        }
    }

    /// The same, but its connections are to `node`, whose canary is `canary`; `None`: it has none.
    #[must_use]
    pub fn at_node(&self, node: Whereabouts, canary: Option<Box<[u8]>>) -> Self {
        let ladder = Ladder {
            canary_interval: self.ladder.canary_interval.filter(|_| canary.is_some()),
            canary_key: canary.unwrap_or_else(|| self.ladder.canary_key.clone()),
            ..Ladder::clone(&self.ladder)
        };
        Self {
            master: node,
            ladder: Arc::new(ladder),
            ..self.clone()
        }
    }

    /// The canary's key.
    pub fn canary_key(&self) -> &[u8] {
        &self.ladder.canary_key
    }

    /// Keeps a tracked connection to the master, wherever it is, as the handshake's identity, and feeds the partition of `origin` in
    /// `cache`, until [`Tracking::stop`]. With `own` it is nearhit's own user's: it writes the canary for all.
    pub fn track<W, O>(
        &self,
        handshake: Handshake,
        own: bool,
        cache: Arc<NearCache<W>>,
        origin: Arc<Origin>,
        outbox: O,
    ) -> Tracking
    where
        W: Send + 'static,
        O: Outbox<W> + Send + 'static,
    {
        let (orders, inbox) = mpsc::unbounded_channel();
        let tracking = Tracking {
            orders,
            kicked: Arc::default(),
            retry: Arc::default(),
            waiting: Arc::default(),
            status: Arc::default(),
        };
        let keeper = run::Keeper {
            handshake,
            master: self.master.clone(),
            here: None,
            ladder: Arc::clone(&self.ladder),
            own,
            silent: Arc::clone(&self.silent),
            metrics: Arc::clone(&self.metrics),
            cache,
            origin,
            outbox,
            inbox,
            keepers: Arc::clone(&self.keepers),
            kicked: Arc::clone(&tracking.kicked),
            retry: Arc::clone(&tracking.retry),
            waiting: Arc::clone(&tracking.waiting),
            status: Arc::clone(&tracking.status),
            all: Arc::clone(&self.status),
            said: Vec::new(),
        };
        // It ends by itself when the last handle on it is gone.
        let keepers = Arc::clone(&self.keepers);
        keepers.fetch_add(1, Ordering::Relaxed);
        let task = async move {
            keeper.run().await;
            keepers.fetch_sub(1, Ordering::Relaxed);
        };
        drop(self.runtime.spawn(task));
        tracking
    }
}

/// A handle on one tracked connection. Clones are the same connection.
#[derive(Clone)]
pub struct Tracking {
    orders: mpsc::UnboundedSender<Order>,
    /// A PING was asked for and not written yet: asking again would be useless.
    kicked: Arc<AtomicBool>,
    /// A server that refused may not refuse any more.
    retry: Arc<Notify>,
    /// Who waits for news of the connection.
    waiting: Arc<Waiting>,
    status: Arc<Status>,
}

/// Tasks that wait for something newer to be proved, or for the connection to end.
#[derive(Default)]
struct Waiting {
    /// There is one. SeqCst on both sides: who finds no news after it was set is woken by the next.
    any: AtomicBool,
    /// Held to put one in and to take all out.
    tasks: Mutex<Vec<Waker>>,
}

impl Waiting {
    fn wake(&self) {
        if self.any.swap(false, Ordering::SeqCst) {
            std::mem::take(&mut *self.tasks.lock())
                .into_iter()
                .for_each(Waker::wake);
        }
    }
}

impl Tracking {
    /// A connection that nobody keeps, for tests of what stands above.
    #[cfg(test)]
    pub(crate) fn detached() -> Self {
        Self {
            orders: mpsc::unbounded_channel().0,
            kicked: Arc::default(),
            retry: Arc::default(),
            waiting: Arc::default(),
            status: Arc::default(),
        }
    }

    /// Queues a fill; false: the thread is gone, and the fill with it (only at shutdown). A fill that cannot be made
    /// comes back through the outbox.
    pub fn fill(&self, fill: Fill) -> bool {
        self.orders.send(Order::Fill(fill)).is_ok()
    }

    /// Asks for a PING, so that entries that wait for a newer proof become servable.
    pub fn kick(&self) {
        // Relaxed: it only saves a message. It is cleared before the PING is written.
        if !self.kicked.swap(true, Ordering::Relaxed) {
            let _gone_at_shutdown = self.orders.send(Order::Ping);
        }
    }

    /// Wakes `task` once, when something newer may be proved or the connection has ended. Look at the stream again after
    /// this call: what was proved before it wakes nobody.
    pub fn when_proved(&self, task: &Waker) {
        self.waiting.tasks.lock().push(task.clone());
        self.waiting.any.store(true, Ordering::SeqCst);
    }

    /// Tells the server that these keys are read from memory.
    pub fn touch(&self, keys: Vec<Touch>) {
        let _gone_at_shutdown = self.orders.send(Order::Touch(keys));
    }

    /// Tries again soon, if the server has refused the connection: rights may have changed.
    pub fn retry(&self) {
        self.retry.notify_one();
    }

    /// Closes the connection for good; fills that come after are refused.
    pub fn stop(&self) {
        let _gone_already = self.orders.send(Order::Stop);
    }

    /// What is known about the connection.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Whether it is up.
    pub fn is_connected(&self) -> bool {
        self.status.connected.load(Ordering::Relaxed)
    }
}
