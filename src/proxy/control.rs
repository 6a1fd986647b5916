//! The control thread: accepts clients, serves metrics and probes, and does what must be done every now and then.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use super::listen::Bound;
use super::nodes::Nodes;
use super::worker::{Handle, Incoming};
use crate::admin::{Prober, http};
use crate::coherence::TOUCH_PARTS;
use crate::downstream::{Peer, Shared};
use crate::error::{Error, Kind, Result, Side};
use crate::metrics::Disconnect;
use crate::time;
use crate::upstream::{Gauges, Handshake};

/// What the control thread needs.
pub(super) struct Control {
    pub(super) shared: Arc<Shared>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) workers: Handle,
    pub(super) handshake: Handshake,
    pub(super) clients: Vec<Bound>,
    pub(super) metrics: Option<std::net::TcpListener>,
    pub(super) metrics_path: String,
    pub(super) keepalive: Duration,
    pub(super) max_clients: usize,
    pub(super) touch_interval: Duration,
    /// The application channel; empty: none.
    pub(super) channel: String,
    pub(super) nodes: Nodes,
}

/// How far the proxy is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// No new clients.
    Draining,
    Stopped,
}

/// A handle on the control thread.
#[derive(Debug)]
pub(super) struct Running {
    phase: watch::Sender<Phase>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    /// Accepts no more clients; metrics and probes go on.
    pub(super) fn drain(&self) {
        self.phase.send_replace(Phase::Draining);
    }

    /// Ends the thread.
    pub(super) fn stop(&mut self) {
        self.phase.send_replace(Phase::Stopped);
        if let Some(thread) = self.thread.take() {
            let _panicked_and_logged = thread.join();
        }
    }
}

/// Starts the thread.
pub(super) fn start(control: Control) -> Result<Running> {
    let fail = |error: io::Error| Error::new(Side::Internal, Kind::Io, "start the control thread").with_source(error);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(fail)?;
    let (phase, watcher) = watch::channel(Phase::Serving);
    let thread = std::thread::Builder::new()
        .name("nearhit-control".into())
        .spawn(move || runtime.block_on(control.run(watcher)))
        .map_err(fail)?;
    Ok(Running {
        phase,
        thread: Some(thread),
    })
}

impl Control {
    async fn run(self, mut phase: watch::Receiver<Phase>) {
        let Self {
            shared,
            gauges,
            workers,
            handshake,
            clients,
            metrics,
            metrics_path,
            keepalive,
            max_clients,
            touch_interval,
            channel,
            nodes,
        } = self;
        let door = Door {
            shared: Arc::clone(&shared),
            workers: workers.clone(),
            keepalive,
            max_clients,
        };
        let mut accepting = tokio::task::JoinSet::new();
        for bound in clients {
            accepting.spawn(door.clone().accept(bound));
        }
        let draining = Arc::new(AtomicBool::new(false));
        let mut others = tokio::task::JoinSet::new();
        if let Some(listener) = metrics.and_then(|listener| TcpListener::from_std(listener).ok()) {
            let prober = Prober::new(
                Arc::clone(&shared),
                Arc::clone(&gauges),
                workers.heartbeats.clone(),
                Arc::clone(&draining),
            );
            others.spawn(http::serve(listener, metrics_path, Arc::new(prober)));
        }
        nodes.watch(&shared, &gauges, &handshake, channel, &mut others);
        others.spawn(keep_warm(Arc::clone(&shared), touch_interval));
        others.spawn(prove_slots(Arc::clone(&shared)));
        others.spawn(upkeep(Arc::clone(&shared)));
        drop(phase.wait_for(|phase| *phase != Phase::Serving).await);
        // Relaxed: the probe may learn it a moment later.
        draining.store(true, Ordering::Relaxed);
        // Closes the listeners: whoever connects now is refused by the kernel.
        accepting.shutdown().await;
        drop(phase.wait_for(|phase| *phase == Phase::Stopped).await);
        others.shutdown().await;
    }
}

/// Has the server told within every `interval` which keys are read from memory; zero: never.
async fn keep_warm(shared: Arc<Shared>, interval: Duration) {
    if interval.is_zero() || !shared.settings.caching {
        return;
    }
    let pause = interval / u32::try_from(TOUCH_PARTS).unwrap_or(1);
    let mut ticks = tokio::time::interval(pause.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for part in (0..TOUCH_PARTS).cycle() {
        ticks.tick().await;
        shared.accounts.touch(shared.cache.gather_touches(part, time::now()));
    }
}

/// Has the nodes of a cluster asked in time whether they still have the slots whose entries are served.
async fn prove_slots(shared: Arc<Shared>) {
    let (Some(slots), Some(cluster)) = (shared.cache.slots(), &shared.cluster) else {
        return;
    };
    // A proof is asked for when half of its time is over.
    let mut ticks = tokio::time::interval((shared.cache.limits().max_staleness / 10).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let doubts = slots.doubts(time::now());
        if !doubts.is_empty() {
            shared.accounts.ask_owners(doubts, &cluster.owners.borrow());
        }
    }
}

/// Seconds in which all of the near-cache is swept: dead entries take memory for so long, and are never served. Chosen: a
/// million entries take some 0.1 s.
const SWEEP_PARTS: usize = 4;

async fn upkeep(shared: Arc<Shared>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    for part in (0..SWEEP_PARTS).cycle() {
        seconds.tick().await;
        let now = time::now();
        shared.accounts.tidy(now);
        if shared.settings.caching {
            shared.cache.sweep_part(part, SWEEP_PARTS, now);
        }
        shared.metrics.tick(now);
    }
}

/// Lets clients in.
#[derive(Clone)]
struct Door {
    shared: Arc<Shared>,
    workers: Handle,
    keepalive: Duration,
    max_clients: usize,
}

impl Door {
    async fn accept(self, bound: Bound) {
        let listening = bound.address().to_string();
        let accepted = match &bound {
            Bound::Tcp(listener) => match listener.try_clone().and_then(TcpListener::from_std) {
                Ok(listener) => self.accept_tcp(listener).await,
                Err(error) => error,
            },
            Bound::Unix(listener, place) => match listener.try_clone().and_then(UnixListener::from_std) {
                Ok(listener) => self.accept_unix(listener, &place.path).await,
                Err(error) => error,
            },
        };
        tracing::error!(listening, error = %accepted, "clients can no longer connect here");
    }

    /// Accepts until the listener fails for good.
    async fn accept_tcp(&self, listener: TcpListener) -> io::Error {
        loop {
            match listener.accept().await {
                Ok((stream, addr)) => {
                    let peer = Peer {
                        addr: addr.to_string(),
                        laddr: stream.local_addr().map(|addr| addr.to_string()).unwrap_or_default(),
                        ..peer()
                    };
                    if self.is_full() {
                        refuse(stream).await;
                        self.shared.metrics.client_disconnects.inc(Disconnect::Limit);
                        continue;
                    }
                    let _best_effort = stream.set_nodelay(true);
                    if !self.keepalive.is_zero() {
                        // Three probes in as long again, as Redis has it.
                        let keepalive = socket2::TcpKeepalive::new()
                            .with_time(self.keepalive)
                            .with_interval((self.keepalive / 3).max(Duration::from_secs(1)))
                            .with_retries(3);
                        let _best_effort = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
                    }
                    match stream.into_std() {
                        Ok(stream) => self.workers.assign(Incoming::Tcp(stream), peer),
                        Err(error) => tracing::warn!(%error, "a client's socket could not be handed to a worker"),
                    }
                }
                Err(error) => pause_after(&error).await,
            }
        }
    }

    async fn accept_unix(&self, listener: UnixListener, path: &Path) -> io::Error {
        // As Redis writes them.
        let addr = format!("{}:0", path.display());
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let peer = Peer {
                        addr: addr.clone(),
                        laddr: addr.clone(),
                        ..peer()
                    };
                    if self.is_full() {
                        refuse(stream).await;
                        self.shared.metrics.client_disconnects.inc(Disconnect::Limit);
                        continue;
                    }
                    match stream.into_std() {
                        Ok(stream) => self.workers.assign(Incoming::Unix(stream), peer),
                        Err(error) => tracing::warn!(%error, "a client's socket could not be handed to a worker"),
                    }
                }
                Err(error) => pause_after(&error).await,
            }
        }
    }

    fn is_full(&self) -> bool {
        self.workers.clients() >= self.max_clients
    }
}

fn peer() -> Peer {
    Peer {
        resp: 2,
        since: time::now(),
        ..Peer::default()
    }
}

/// In Redis' words.
async fn refuse(mut stream: impl tokio::io::AsyncWrite + Unpin) {
    let _client_may_be_gone = stream.write_all(b"-ERR max number of clients reached\r\n").await;
}

/// A client that gave up before it was accepted is nothing; no file descriptors left is a reason to wait for some.
async fn pause_after(error: &io::Error) {
    if matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    ) {
        return;
    }
    tracing::warn!(%error, "accepting clients is paused for a second");
    tokio::time::sleep(Duration::from_secs(1)).await;
}
