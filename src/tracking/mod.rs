//! The tracked connection's I/O: a thread of its own that opens it, writes fills whole, hands every byte it reads to
//! [`crate::coherence::Tracked`] in order, and starts over when the connection must be given up.
//!
//! ```text
//! Down ─ connect, HELLO 3, CLIENT TRACKING ON OPTIN → Live ─ lost, silent, odd → Fenced (new epoch) → Down
//! ```
//! While it is not live every fill is refused at once, so that whoever waits asks over its own connection.

mod link;
mod run;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::coherence::{Deliver, Fill, NearCache};
use crate::error::{Error, Kind, Result, Side};
use crate::upstream::Handshake;

/// Where invalidations come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// RESP3 pushes on the filling connection itself.
    Tracking,
    /// A RESP2 subscription to `__redis__:invalidate`, to which the filling connection redirects.
    Redirect,
}

/// Takes deliveries of one batch, then is told that the batch is over.
pub trait Outbox<W>: Deliver<W> {
    /// Everything of this batch was delivered: wake whoever got something.
    fn flush(&mut self);
}

/// What the tracking thread is asked.
enum Order {
    Fill(Fill),
    Ping,
    Stop,
}

/// What is known about the tracked connection; for metrics and probes.
#[derive(Debug, Default)]
pub struct Status {
    /// Tracking is on.
    pub connected: AtomicBool,
    /// Times it came up again after the first time.
    pub reconnects: AtomicU64,
    /// Times it came up.
    pub connects: AtomicU64,
}

/// A handle on the tracking thread. Clones are the same thread.
#[derive(Clone)]
pub struct Tracking {
    orders: mpsc::UnboundedSender<Order>,
    /// A PING was asked for and not written yet: asking again would be useless.
    kicked: Arc<AtomicBool>,
    status: Arc<Status>,
}

impl Tracking {
    /// Starts the thread: it keeps one tracked connection to the node and feeds `cache`.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub fn start<W, O>(
        handshake: Handshake,
        source: Source,
        cache: Arc<NearCache<W>>,
        outbox: O,
    ) -> Result<(Self, std::thread::JoinHandle<()>)>
    where
        W: Send + 'static,
        O: Outbox<W> + Send + 'static,
    {
        let (orders, inbox) = mpsc::unbounded_channel();
        let tracking = Self {
            orders,
            kicked: Arc::default(),
            status: Arc::default(),
        };
        let (kicked, status) = (Arc::clone(&tracking.kicked), Arc::clone(&tracking.status));
        let fail = |error: std::io::Error| {
            Error::new(Side::Internal, Kind::Io, "start the tracking thread").with_source(error)
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(fail)?;
        let thread = std::thread::Builder::new()
            .name("nearhit-tracking".into())
            .spawn(move || {
                let keeper = run::Keeper {
                    handshake,
                    source,
                    cache,
                    outbox,
                    inbox,
                    kicked,
                    status,
                };
                runtime.block_on(keeper.run());
            })
            .map_err(fail)?;
        Ok((tracking, thread))
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

    /// Ends the thread.
    pub fn stop(&self) {
        let _gone_already = self.orders.send(Order::Stop);
    }

    /// What is known about the connection.
    pub fn status(&self) -> &Status {
        &self.status
    }
}
