//! Workers: each a thread with its own runtime, its own sessions and its own upstream connections.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::sync::{mpsc, oneshot, watch};

use crate::coherence::{Deliver, Delivery};
use crate::downstream::{self, Context, Courier, Order, Peer, Shared, Socket, Ticket};
use crate::error::{Error, Kind, Result, Side};
use crate::time;
use crate::topology::Owners;
use crate::tracking::Outbox;
use crate::upstream::{Gauges, Pool, PoolSettings, UnixSocket, Whereabouts};

/// How often a worker tidies up and shows that it is alive.
const TICK: Duration = Duration::from_millis(100);
/// How often it looks after late replies: nobody waits longer than that beyond `upstream.command_timeout`.
const LATE: Duration = Duration::from_millis(40);

/// What a worker is told.
pub(super) enum Message {
    Client(Incoming, Box<Peer>),
    Deliveries(Vec<(Ticket, Delivery)>),
    Order(Order),
    /// Finish what was received, then end.
    Drain,
    /// End.
    Close,
}

/// A client's socket on its way to a worker, not registered with any runtime.
pub(super) enum Incoming {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
    Duplex(DuplexStream),
}

impl Incoming {
    /// Registers the socket with the runtime of the worker that calls this.
    fn register(self) -> std::io::Result<Socket> {
        Ok(match self {
            Self::Tcp(stream) => Socket::Tcp(tokio::net::TcpStream::from_std(stream)?),
            Self::Unix(stream) => Socket::Unix(UnixSocket::new(stream)?),
            Self::Duplex(stream) => Socket::Duplex(stream),
        })
    }
}

/// The way to all workers. Deliveries are gathered per worker, so that each is woken once a batch.
#[derive(Clone)]
pub(super) struct Outboxes {
    senders: Vec<mpsc::UnboundedSender<Message>>,
    batches: Vec<Vec<(Ticket, Delivery)>>,
}

impl Outboxes {
    pub(super) fn new(senders: Vec<mpsc::UnboundedSender<Message>>) -> Self {
        let batches = senders.iter().map(|_| Vec::new()).collect();
        Self { senders, batches }
    }

    fn send(&self, worker: usize, message: Message) {
        if let Some(sender) = self.senders.get(worker) {
            // A worker that ended has no sessions left that could miss it.
            let _ended = sender.send(message);
        }
    }
}

impl Courier for Outboxes {
    fn bring(&self, order: Order) {
        self.send(usize::from(order.seat.worker), Message::Order(order));
    }
}

impl Deliver<Ticket> for Outboxes {
    fn deliver(&mut self, waiter: Ticket, delivery: Delivery) {
        if let Some(batch) = self.batches.get_mut(usize::from(waiter.worker)) {
            batch.push((waiter, delivery));
        }
    }
}

impl Outbox<Ticket> for Outboxes {
    fn flush(&mut self) {
        for (sender, batch) in self.senders.iter().zip(&mut self.batches) {
            if !batch.is_empty() {
                let _ended = sender.send(Message::Deliveries(std::mem::take(batch)));
            }
        }
    }
}

/// How busy and alive one worker is.
#[derive(Debug, Default)]
struct Vitals {
    sessions: AtomicUsize,
}

/// Hands clients to workers.
#[derive(Clone)]
pub(super) struct Handle {
    outboxes: Outboxes,
    vitals: Arc<[Vitals]>,
    /// When each worker last showed that it is alive, in nanoseconds.
    pub(super) heartbeats: Vec<Arc<AtomicU64>>,
}

impl Handle {
    /// Hands a client to the worker with the fewest.
    pub(super) fn assign(&self, incoming: Incoming, peer: Peer) {
        let least = self
            .vitals
            .iter()
            .enumerate()
            .min_by_key(|(_, vitals)| vitals.sessions.load(Ordering::Relaxed));
        let Some((worker, vitals)) = least else { return };
        vitals.sessions.fetch_add(1, Ordering::Relaxed);
        self.outboxes.send(worker, Message::Client(incoming, Box::new(peer)));
    }

    /// How many clients there are.
    pub(super) fn clients(&self) -> usize {
        self.vitals
            .iter()
            .map(|vitals| vitals.sessions.load(Ordering::Relaxed))
            .sum()
    }
}

/// All workers.
pub(super) struct Workers {
    handle: Handle,
    ended: Vec<oneshot::Receiver<()>>,
}

impl Workers {
    pub(super) fn start(
        shared: &Arc<Shared>,
        pool: &PoolSettings,
        master: &Whereabouts,
        gauges: &Arc<Gauges>,
        inboxes: Vec<mpsc::UnboundedReceiver<Message>>,
        outboxes: Outboxes,
    ) -> Result<Self> {
        let vitals: Arc<[Vitals]> = inboxes.iter().map(|_| Vitals::default()).collect();
        let heartbeats: Vec<_> = inboxes
            .iter()
            .map(|_| Arc::new(AtomicU64::new(time::now().as_nanos())))
            .collect();
        let mut ended = Vec::new();
        for (number, (inbox, heartbeat)) in inboxes.into_iter().zip(&heartbeats).enumerate() {
            let (tell, end) = oneshot::channel();
            let worker = Worker {
                number,
                shared: Arc::clone(shared),
                pool: pool.clone(),
                gauges: Arc::clone(gauges),
                vitals: Arc::clone(&vitals),
                heartbeat: Arc::clone(heartbeat),
                inbox,
                master: master.clone(),
                owners: shared.cluster.as_ref().map(|cluster| cluster.owners.clone()),
            };
            worker.spawn(tell)?;
            ended.push(end);
        }
        Ok(Self {
            handle: Handle {
                outboxes,
                vitals,
                heartbeats,
            },
            ended,
        })
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Lets all sessions finish what they received, for at most `timeout`, then closes what is left.
    pub(super) async fn drain(&mut self, timeout: Duration) {
        self.tell_all(|| Message::Drain);
        let all = async {
            for end in &mut self.ended {
                let _worker_is_gone = end.await;
            }
        };
        if tokio::time::timeout(timeout, all).await.is_err() {
            self.tell_all(|| Message::Close);
            for end in self.ended.iter_mut().filter(|end| !end.is_terminated()) {
                let _worker_is_gone = end.await;
            }
        }
    }

    /// Tells all workers to end, without waiting.
    pub(super) fn close(&self) {
        self.tell_all(|| Message::Close);
    }

    fn tell_all(&self, message: impl Fn() -> Message) {
        for worker in 0..self.ended.len() {
            self.handle.outboxes.send(worker, message());
        }
    }
}

/// Waits for news of which node of a cluster has what.
async fn next(owners: &mut Option<watch::Receiver<Arc<Owners>>>) -> Arc<Owners> {
    if let Some(owners) = owners
        && owners.changed().await.is_ok()
    {
        return Arc::clone(&owners.borrow_and_update());
    }
    // There is no cluster, or nobody tells any more because the process stops.
    std::future::pending().await
}

struct Worker {
    number: usize,
    shared: Arc<Shared>,
    pool: PoolSettings,
    gauges: Arc<Gauges>,
    vitals: Arc<[Vitals]>,
    heartbeat: Arc<AtomicU64>,
    inbox: mpsc::UnboundedReceiver<Message>,
    master: Whereabouts,
    /// In a cluster, which node has what.
    owners: Option<watch::Receiver<Arc<Owners>>>,
}

impl Worker {
    fn spawn(self, tell: oneshot::Sender<()>) -> Result<()> {
        let fail =
            |error: std::io::Error| Error::new(Side::Internal, Kind::Io, "start a worker thread").with_source(error);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(fail)?;
        std::thread::Builder::new()
            .name(format!("nearhit-worker-{}", self.number))
            .spawn(move || {
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, self.run());
                drop(local);
                let _nobody_waits = tell.send(());
            })
            .map_err(fail)?;
        Ok(())
    }

    async fn run(mut self) {
        let recorder = self.shared.metrics.add_worker();
        let settings = PoolSettings {
            address: self.master.now(),
            ..self.pool.clone()
        };
        let pool = Pool::new(settings, Arc::clone(&self.gauges), Arc::clone(&recorder));
        let number = u16::try_from(self.number).unwrap_or(u16::MAX);
        let context = Context::new(Arc::clone(&self.shared), number, pool, recorder);
        // What is known already.
        self.owners.iter_mut().for_each(watch::Receiver::mark_changed);
        context.follow_primary();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut late = tokio::time::interval(LATE);
        late.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut draining = false;
        while !(draining && context.session_count() == 0) {
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(Message::Client(incoming, peer)) => self.welcome(&context, incoming, *peer),
                    Some(Message::Deliveries(deliveries)) => {
                        for (ticket, delivery) in deliveries {
                            context.deliver(ticket, &delivery);
                        }
                    }
                    Some(Message::Order(order)) => context.follow(order),
                    Some(Message::Drain) => {
                        draining = true;
                        context.drain();
                    }
                    Some(Message::Close) | None => break,
                },
                () = self.master.changed() => context.follow_primary(),
                owners = next(&mut self.owners) => context.follow_owners(&owners),
                _ = late.tick() => context.check_late(time::now()),
                _ = ticks.tick() => {
                    let now = time::now();
                    // Relaxed: it is only compared with the clock.
                    self.heartbeat.store(now.as_nanos(), Ordering::Relaxed);
                    context.pool.borrow_mut().tidy(now);
                    if let Some(routing) = &self.shared.routing {
                        context.replicas.tidy(routing, now);
                    }
                    context.tidy_nodes(now);
                    context.forget(now);
                    context.tend_subscriptions(now);
                    context.check_idle(now);
                    context.settle_shadows(now);
                    if draining {
                        // Sessions that became idle since are noticed here.
                        context.drain();
                    }
                }
            }
        }
        context.close_all();
        context.pool.borrow_mut().close();
        context.replicas.close();
        context.close_nodes();
        // The closed sessions and connections get a turn to say goodbye.
        tokio::task::yield_now().await;
    }

    fn welcome(&self, context: &Rc<Context>, incoming: Incoming, peer: Peer) {
        let socket = match incoming.register() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "a client's socket could not be registered");
                self.leave();
                return;
            }
        };
        let serving = downstream::serve(Rc::clone(context), socket, peer);
        let (vitals, number, shared) = (Arc::clone(&self.vitals), self.number, Arc::clone(&self.shared));
        let task = tokio::task::spawn_local(serving);
        tokio::task::spawn_local(async move {
            // A panic closes one connection, never the process.
            if task.await.is_err_and(|error| error.is_panic()) {
                shared.metrics.panics.inc();
                tracing::error!("a session panicked; its connection was closed");
            }
            if let Some(vitals) = vitals.get(number) {
                vitals.sessions.fetch_sub(1, Ordering::Relaxed);
            }
        });
    }

    fn leave(&self) {
        if let Some(vitals) = self.vitals.get(self.number) {
            vitals.sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
