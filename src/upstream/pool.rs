//! One worker's connections to a node: shared ones by database and protocol, and pinned ones that wait for reuse.
//!
//! ```text
//! Good ─ not connected, or lost before it answered anything → Suspect ─ a request is answered → Good
//! ```
//! While the node is suspect, one connection is opened at a time and none for 20–80 ms after a failure; requests in
//! between fail at once with what the last attempt found. So a node that is down, or closes every connection, meets at
//! most some twenty attempts a second from each worker, however many clients there are.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::connection::{Connection, Waiter, Watcher};
use super::handshake::Handshake;
use super::loss::Loss;
use crate::config::{Address, Credentials};
use crate::metrics::WorkerRecorder;
use crate::resp::Version;
use crate::time::{self, Instant};

/// Pinned connections kept for reuse, per database and protocol: as many clients of one worker may be between two
/// transactions without a connection being opened for each. Chosen, not measured.
const IDLE_PINNED: usize = 64;

/// What the connections of a pool have in common.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Where the node is.
    pub address: Address,
    /// Who to be there.
    pub credentials: Option<Credentials>,
    /// The name shown in the server's CLIENT LIST.
    pub client_name: String,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How deep a reply may nest.
    pub max_reply_depth: usize,
    /// Pinned connections in use at most, over all workers.
    pub pinned_max: u64,
}

/// Connection counts over all workers, for metrics and the pinned limit.
#[derive(Debug, Default)]
pub struct Gauges {
    /// The server answers the control thread's PING.
    pub reachable: AtomicBool,
    /// Shared connections that are open or connecting.
    pub shared: AtomicU64,
    /// Pinned connections that are open or connecting.
    pub pinned: AtomicU64,
    /// Connections ever begun.
    pub opened: AtomicU64,
    /// Of these: never came up.
    pub failed: AtomicU64,
    /// Connections lost, by reason: eof, io, protocol, timeout, shutdown.
    pub lost: [AtomicU64; 5],
}

impl Gauges {
    /// The reasons [`Gauges::lost`] counts, in its order.
    pub const LOST: [&'static str; 5] = ["eof", "io", "protocol", "timeout", "shutdown"];

    fn count(&self, loss: &Loss) {
        if loss.never_connected() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        let label = loss.label();
        if let Some(counter) = Self::LOST
            .iter()
            .position(|&name| name == label)
            .and_then(|at| self.lost.get(at))
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether the node could be reached lately.
#[derive(Debug, Default)]
struct Health {
    /// Some: the node is suspect.
    last_failure: RefCell<Option<Loss>>,
    /// Before this, nothing is attempted on a suspect node.
    retry_at: Cell<Instant>,
    /// Handshakes that the node refused, and until when they are not tried again: that is an affair of this database and
    /// protocol (a database that does not exist), not of the node.
    refused: RefCell<HashMap<(u32, Version), (Loss, Instant)>>,
}

impl Health {
    /// Why no connection should be opened now; otherwise one is about to be, which may take until `deadline`.
    fn objection(&self, home: (u32, Version), now: Instant, deadline: Instant) -> Option<Loss> {
        let refused = self.refused.borrow();
        if let Some((loss, _)) = refused.get(&home).filter(|(_, until)| now < *until) {
            return Some(loss.clone());
        }
        let failure = self.last_failure.borrow();
        if failure.is_some() {
            if now < self.retry_at.get() {
                return failure.clone();
            }
            self.retry_at.set(deadline);
        }
        None
    }

    fn failed(&self, loss: &Loss) {
        self.retry_at.set(time::now().after(jittered_pause()));
        *self.last_failure.borrow_mut() = Some(loss.clone());
    }

    fn refused(&self, home: (u32, Version), loss: &Loss) {
        let now = time::now();
        let mut refused = self.refused.borrow_mut();
        // Clients choose the databases; only what still matters is kept.
        refused.retain(|_, (_, until)| now < *until);
        refused.insert(home, (loss.clone(), now.after(jittered_pause())));
    }
}

/// What one connection means to the node's health and to the counts.
struct Watch {
    home: (u32, Version),
    health: Rc<Health>,
    gauges: Arc<Gauges>,
    gauge: fn(&Gauges) -> &AtomicU64,
}

impl Watcher for Watch {
    fn ready(&self) {
        // The next one may be opened; the node is believed in once it has answered something.
        self.health.retry_at.set(Instant::ZERO);
    }

    fn useful(&self) {
        *self.health.last_failure.borrow_mut() = None;
    }

    fn ended(&self, loss: &Loss, useful: bool) {
        (self.gauge)(&self.gauges).fetch_sub(1, Ordering::Relaxed);
        self.gauges.count(loss);
        match loss {
            // It says nothing about the node. If it was the one attempt, the next one may begin.
            Loss::Shutdown => self.health.retry_at.set(Instant::ZERO),
            Loss::Refused(_) => {
                self.health.retry_at.set(Instant::ZERO);
                self.health.refused(self.home, loss);
            }
            _ if useful => {}
            _ => self.health.failed(loss),
        }
    }
}

/// One worker's connections to one node.
pub struct Pool<W> {
    settings: PoolSettings,
    shared: HashMap<(u32, Version), Connection<W>>,
    idle: HashMap<(u32, Version), Vec<Connection<W>>>,
    pinned: Vec<Connection<W>>,
    health: Rc<Health>,
    gauges: Arc<Gauges>,
    recorder: Arc<WorkerRecorder>,
}

impl<W: Waiter + 'static> Pool<W> {
    /// A pool without connections; they are opened on use.
    pub fn new(settings: PoolSettings, gauges: Arc<Gauges>, recorder: Arc<WorkerRecorder>) -> Self {
        Self {
            settings,
            shared: HashMap::new(),
            idle: HashMap::new(),
            pinned: Vec::new(),
            health: Rc::default(),
            gauges,
            recorder,
        }
    }

    /// The shared connection of a database and protocol.
    ///
    /// # Errors
    /// Why the node cannot be reached, when it was tried a moment ago.
    pub fn shared(&mut self, db: u32, version: Version) -> Result<Connection<W>, Loss> {
        if let Some(connection) = self
            .shared
            .get(&(db, version))
            .filter(|connection| !connection.is_closed())
        {
            return Ok(connection.clone());
        }
        let connection = self.open(db, version, |gauges| &gauges.shared)?;
        self.shared.insert((db, version), connection.clone());
        Ok(connection)
    }

    /// A connection for one session alone.
    ///
    /// # Errors
    /// Why the node cannot be reached, or that too many are in use.
    pub fn pinned(&mut self, db: u32, version: Version) -> Result<Connection<W>, Loss> {
        let idle = self.idle.entry((db, version)).or_default();
        while let Some(connection) = idle.pop() {
            if !connection.is_closed() {
                return Ok(connection);
            }
        }
        if self.gauges.pinned.load(Ordering::Relaxed) >= self.settings.pinned_max {
            return Err(Loss::Refused(format!(
                "ERR max number of pinned upstream connections reached ({}); raise upstream.pinned_max",
                self.settings.pinned_max
            )));
        }
        let connection = self.open(db, version, |gauges| &gauges.pinned)?;
        self.pinned.retain(|connection| !connection.is_closed());
        self.pinned.push(connection.clone());
        Ok(connection)
    }

    /// Gives a pinned connection back that is in the state it was handed out in.
    pub fn release(&mut self, connection: Connection<W>, db: u32, version: Version) {
        connection.set_outlet(None);
        let idle = self.idle.entry((db, version)).or_default();
        // Connections kept idle here count against the limit of all workers; they must not use it up.
        let roomy = self.gauges.pinned.load(Ordering::Relaxed) <= self.settings.pinned_max / 2;
        if roomy && idle.len() < IDLE_PINNED && connection.in_flight() == 0 && !connection.is_closed() {
            idle.push(connection);
        } else {
            connection.close();
        }
    }

    /// Forgets what was closed. Call it about ten times a second.
    pub fn tidy(&mut self) {
        self.shared.retain(|_, connection| !connection.is_closed());
        self.pinned.retain(|connection| !connection.is_closed());
        for idle in self.idle.values_mut() {
            idle.retain(|connection| !connection.is_closed());
        }
    }

    /// Tells waiters whose replies are late. Call it about ten times a second.
    pub fn check_late(&self, now: Instant) {
        for connection in self.shared.values().chain(&self.pinned) {
            connection.check_late(now);
        }
    }

    /// Closes every connection.
    pub fn close(&mut self) {
        for connection in self.shared.values().chain(&self.pinned) {
            connection.close();
        }
    }

    fn open(&self, db: u32, version: Version, gauge: fn(&Gauges) -> &AtomicU64) -> Result<Connection<W>, Loss> {
        let now = time::now();
        let deadline = now.after(self.settings.connect_timeout);
        if let Some(loss) = self.health.objection((db, version), now, deadline) {
            return Err(loss);
        }
        let handshake = Handshake {
            address: self.settings.address.clone(),
            credentials: self.settings.credentials.clone(),
            version,
            db,
            client_name: self.settings.client_name.clone(),
            timeout: self.settings.connect_timeout,
            max_reply_depth: self.settings.max_reply_depth,
        };
        gauge(&self.gauges).fetch_add(1, Ordering::Relaxed);
        self.gauges.opened.fetch_add(1, Ordering::Relaxed);
        let watch = Watch {
            home: (db, version),
            health: Rc::clone(&self.health),
            gauges: Arc::clone(&self.gauges),
            gauge,
        };
        Ok(Connection::open(handshake, Arc::clone(&self.recorder), watch))
    }
}

/// 20–80 ms, so that the connections of several workers do not knock in step.
pub(crate) fn jittered_pause() -> Duration {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    Duration::from_millis(20 + random % 61)
}
