//! One worker's connections to a node: shared ones by identity, database and protocol, and pinned ones that wait for
//! reuse.
//!
//! ```text
//! Good ─ not connected, or lost before it answered anything → Suspect ─ a request is answered → Good
//! ```
//! While the node is suspect, one connection is opened at a time and none for 20–80 ms after a failure; requests in
//! between fail at once with what the last attempt found. So a node that is down, or closes every connection, meets at
//! most some twenty attempts a second from each worker, however many clients there are.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::census::Seat;
use super::connection::Connection;
use super::gauges::Gauges;
use super::handshake::Handshake;
use super::health::{Health, Home, Key, key};
use super::identity::Identity;
use super::loss::Loss;
use super::resolve::Resolver;
use super::throttle::{Admission, Rate, Throttle};
use super::waiter::{Waiter, Watcher};
use crate::config::Address;
use crate::metrics::WorkerRecorder;
use crate::resp::Version;
use crate::time::{self, Instant};
use crate::tls::ClientTls;

/// Pinned connections kept for reuse, per identity, database and protocol: as many clients of one worker may be between two
/// transactions without a connection being opened for each. Chosen, not measured.
const IDLE_PINNED: usize = 64;

/// Why no connection can be opened while discovery looks for the master.
const NO_MASTER: &str = "no node is known to be the master now; nearhit goes on looking";

/// What the connections of a pool have in common.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Where the node is; `None`: that is not known now, and no connection can be opened.
    pub address: Option<Address>,
    /// How to speak TLS to it; `None`: in the clear.
    pub tls: Option<ClientTls>,
    /// The name shown in the server's CLIENT LIST.
    pub client_name: String,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How deep a reply may nest.
    pub max_reply_depth: usize,
    /// Pinned connections in use at most, over all workers.
    pub pinned_max: u64,
    /// Connections opened a second at most, once `pinned_max` and some more were opened at once; 0: no limit.
    pub connect_rate: u64,
    /// How long a shared connection of a database other than 0 is kept that nobody uses: clients choose databases.
    pub idle_timeout: Duration,
    /// Requests are kept until they are answered, however many there are: the node may say that another one has the key.
    pub keeps_requests: bool,
    /// The node is a replica in a cluster, and is read from.
    pub reads_replica: bool,
    /// Says where host names lead.
    pub resolver: Resolver,
}

/// A shared connection.
struct Shared<W> {
    home: Home,
    connection: Connection<W>,
    /// How much had been asked over it when [`Pool::tidy`] looked, and since when it is no more.
    idle: (u64, Instant),
}

/// What one connection means to the node's health and to the counts.
struct Watch {
    home: Home,
    health: Rc<Health>,
    era: Rc<Cell<u64>>,
    gauges: Arc<Gauges>,
    pinned: bool,
    came_up: Cell<bool>,
    throttle: Option<(Arc<Throttle>, Rate)>,
}

impl Watcher for Watch {
    fn ready(&self) {
        self.came_up.set(true);
        // The next one may be opened; the node is believed in once it has answered something.
        self.health.unknown();
    }

    fn useful(&self) {
        *self.health.last_failure.borrow_mut() = None;
    }

    fn retired(&self) {
        self.era.set(self.era.get() + 1);
    }

    fn ended(&self, loss: &Loss, useful: bool) {
        self.gauges.of(self.pinned).fetch_sub(1, Ordering::Relaxed);
        self.gauges.count(loss);
        if let (Loss::Connect(_), Some((throttle, rate))) = (loss, &self.throttle) {
            throttle.give_back(rate);
        }
        match loss {
            // It says nothing about the node. If it was the one attempt, the next one may begin.
            Loss::Shutdown | Loss::Left(_) | Loss::Crowded(_) => self.health.unknown(),
            Loss::Refused(_) => {
                self.health.unknown();
                self.health.refused(&self.home, loss);
            }
            // Whoever waits in a blocking command has no answer yet when it is killed, or its user is deleted. That is an
            // affair of its own.
            Loss::Closed if self.pinned && self.came_up.get() => {}
            _ if useful => {}
            _ => self.health.failed(loss),
        }
    }
}

/// One worker's connections to one node.
pub struct Pool<W> {
    settings: PoolSettings,
    /// Who the doorman is: nobody a session could be.
    stranger: Identity,
    /// Looked into for every request that is passed on, so with a fast hash; clients choose only the database in its keys.
    shared: HashMap<Key, Shared<W>, foldhash::fast::RandomState>,
    idle: HashMap<Home, Vec<Connection<W>>>,
    pinned: Vec<Connection<W>>,
    /// Shared ones that still wait for somebody who does not read.
    retired: Vec<Connection<W>>,
    health: Rc<Health>,
    /// How often a shared connection was retired.
    era: Rc<Cell<u64>>,
    gauges: Arc<Gauges>,
    /// Where it says what it knows of the node; `None`: it is not known where that is.
    seat: Option<Arc<Seat>>,
    recorder: Arc<WorkerRecorder>,
}

impl<W: Waiter + 'static> Pool<W> {
    /// A pool without connections; they are opened on use.
    pub fn new(settings: PoolSettings, gauges: Arc<Gauges>, recorder: Arc<WorkerRecorder>) -> Self {
        Self {
            seat: settings.address.as_ref().map(|address| gauges.census.seat(address)),
            settings,
            stranger: Identity::new(None),
            shared: HashMap::default(),
            idle: HashMap::new(),
            pinned: Vec::new(),
            retired: Vec::new(),
            health: Rc::default(),
            era: Rc::default(),
            gauges,
            recorder,
        }
    }

    /// A pool like this one for another node. Sessions that use both are told by one [`Pool::era`].
    #[must_use]
    pub fn sibling(&self, address: Address) -> Self {
        let settings = PoolSettings {
            address: Some(address),
            ..self.settings.clone()
        };
        let (gauges, recorder) = (Arc::clone(&self.gauges), Arc::clone(&self.recorder));
        Self {
            era: Rc::clone(&self.era),
            ..Self::new(settings, gauges, recorder)
        }
    }

    /// Where the node is; `None`: that is not known.
    pub fn address(&self) -> Option<&Address> {
        self.settings.address.as_ref()
    }

    /// What is sent from here on may go elsewhere than what was before: nothing of a session leaves before all it has on its way
    /// is answered.
    pub fn begin_era(&self) {
        self.era.set(self.era.get() + 1);
    }

    /// Whether the node could not be reached the last time.
    pub fn is_suspect(&self) -> bool {
        self.health.last_failure.borrow().is_some()
    }

    /// Whether the node has not said for so long what somebody waits for.
    pub fn is_silent(&self, limit: Duration, now: Instant) -> bool {
        self.all().any(|connection| connection.is_silent(limit, now))
    }

    /// Whether somebody waits for a reply.
    pub fn is_awaited(&self) -> bool {
        self.all().any(|connection| connection.in_flight() > 0)
    }

    /// The shared connection of an identity, a database and a protocol.
    ///
    /// # Errors
    /// Why the node cannot be reached, when it was tried a moment ago.
    pub fn shared(&mut self, identity: &Identity, db: u32, version: Version) -> Result<Connection<W>, Loss> {
        if let Some(Shared { connection, .. }) = self.shared.get(&key(identity, db, version))
            && !connection.is_retired()
        {
            return Ok(connection.clone());
        }
        let home = Home::new(identity, db, version);
        let connection = self.open(&home, false)?;
        let shared = Shared {
            home,
            connection: connection.clone(),
            idle: (0, time::now()),
        };
        let before = self.shared.insert(shared.home.key(), shared);
        self.retired.extend(before.map(|before| before.connection));
        Ok(connection)
    }

    /// How often a shared connection was retired so far, or an era begun: while it stays the same, so do all shared connections
    /// that did not end, and what goes where.
    pub fn era(&self) -> u64 {
        self.era.get()
    }

    /// The name its connections have at the server; empty: none.
    pub fn client_name(&self) -> &str {
        &self.settings.client_name
    }

    /// The connection on which clients' passwords are judged: it says nothing about itself and speaks RESP2 in database 0,
    /// until a client's HELLO changes that.
    ///
    /// # Errors
    /// See [`Pool::shared`].
    pub fn doorman(&mut self) -> Result<Connection<W>, Loss> {
        let stranger = self.stranger.clone();
        self.shared(&stranger, 0, Version::V2)
    }

    /// A connection for one session alone.
    ///
    /// # Errors
    /// Why the node cannot be reached, or that too many are in use.
    pub fn pinned(&mut self, identity: &Identity, db: u32, version: Version) -> Result<Connection<W>, Loss> {
        let home = Home::new(identity, db, version);
        while let Some(connection) = self.idle.get_mut(&home).and_then(Vec::pop) {
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
        let connection = self.open(&home, true)?;
        self.pinned.retain(|connection| !connection.is_closed());
        self.pinned.push(connection.clone());
        Ok(connection)
    }

    /// A connection for something the worker does for many sessions, other than forwarding their requests. It counts as
    /// shared.
    ///
    /// # Errors
    /// Why the node cannot be reached.
    pub fn dedicated(&mut self, identity: &Identity, db: u32, version: Version) -> Result<Connection<W>, Loss> {
        let connection = self.open(&Home::new(identity, db, version), false)?;
        self.pinned.retain(|connection| !connection.is_closed());
        self.pinned.push(connection.clone());
        Ok(connection)
    }

    /// Gives a pinned connection back that is in the state it was handed out in.
    pub fn release(&mut self, connection: Connection<W>, identity: &Identity, db: u32, version: Version) {
        connection.set_outlet(None);
        let (rate, now) = (self.rate(), time::now());
        let scarce = self
            .seat
            .as_ref()
            .is_some_and(|seat| seat.throttle().is_scarce(&rate, now));
        let idle = self.idle.entry(Home::new(identity, db, version)).or_default();
        // Connections kept idle here count against the limit of all workers; they must not use it up.
        let roomy = self.gauges.pinned.load(Ordering::Relaxed) <= self.settings.pinned_max / 2;
        let worth_it = idle.len() < IDLE_PINNED || scarce;
        if roomy && worth_it && connection.in_flight() == 0 && !connection.is_retired() {
            idle.push(connection);
        } else {
            connection.close();
        }
    }

    /// Closes what belongs to identities nobody has any more and what nobody uses, forgets what was closed, and writes down
    /// how much is on its way. Call it about ten times a second.
    pub fn tidy(&mut self, now: Instant) {
        if let Some(seat) = &self.seat {
            let in_flight: usize = self.all().map(Connection::in_flight).sum();
            let (circuit, since) = self.health.circuit(now);
            seat.write(in_flight as u64, circuit, since);
        }
        for shared in self.shared.values_mut().filter(|shared| shared.home.db != 0) {
            let asked = shared.connection.asked();
            if shared.idle.0 != asked || shared.connection.in_flight() > 0 {
                shared.idle = (asked, now);
            } else if now.since(shared.idle.1) > self.settings.idle_timeout {
                shared.connection.close();
            }
        }

        let idle = self
            .idle
            .iter()
            .flat_map(|(home, idle)| idle.iter().map(move |connection| (home, connection)));
        let shared = self.shared.values().map(|shared| (&shared.home, &shared.connection));
        for (home, connection) in shared.chain(idle) {
            if home.identity.is_retired() {
                connection.close();
            }
        }
        self.shared.retain(|_, shared| !shared.connection.is_closed());
        self.pinned.retain(|connection| !connection.is_closed());
        self.retired.retain(|connection| !connection.is_closed());
        self.idle.retain(|_, idle| {
            idle.retain(|connection| !connection.is_closed());
            !idle.is_empty()
        });
    }

    /// Tells waiters whose replies are late. Call it about ten times a second.
    pub fn check_late(&self, now: Instant) {
        for connection in self.all() {
            connection.check_late(now);
        }
    }

    /// Closes every connection.
    pub fn close(&mut self) {
        for connection in self.all() {
            connection.close();
        }
    }

    /// Gives every connection up, because of `why`.
    pub fn leave(&self, why: &str) {
        for connection in self.all() {
            connection.leave(why);
        }
    }

    /// From here on the node is elsewhere, or nowhere that is known; connections to where it was are given up.
    pub fn move_to(&mut self, address: Option<Address>) {
        if self.settings.address == address {
            return;
        }
        let why = match &address {
            Some(address) => format!("the master is {address} now"),
            None => NO_MASTER.to_owned(),
        };
        self.leave(&why);
        self.seat = address.as_ref().map(|address| self.gauges.census.seat(address));
        self.settings.address = address;
        // What was found out about another node says nothing about this one.
        self.health = Rc::default();
    }

    /// From here on the name of the node leads elsewhere. What is on its way is answered yet; nothing new goes there, but over
    /// connections that are held for one client each, as long as these are.
    pub fn renew(&mut self) {
        let shared = self.shared.values().map(|shared| &shared.connection);
        shared.chain(&self.retired).for_each(Connection::retire);
        for connection in self.idle.drain().flat_map(|(_, idle)| idle) {
            connection.close();
        }
        for connection in &self.pinned {
            connection.outdate("the name of the node leads elsewhere now");
        }
        self.health = Rc::default();
        self.begin_era();
    }

    /// What another pool of the same kind is made of.
    pub fn parts(&self) -> (PoolSettings, Arc<Gauges>, Arc<WorkerRecorder>) {
        (
            self.settings.clone(),
            Arc::clone(&self.gauges),
            Arc::clone(&self.recorder),
        )
    }

    fn all(&self) -> impl Iterator<Item = &Connection<W>> {
        let shared = self.shared.values().map(|shared| &shared.connection);
        shared.chain(&self.pinned).chain(&self.retired)
    }

    /// What a connection of this identity, database and protocol says first.
    ///
    /// # Errors
    /// It is not known where the node is.
    pub fn handshake(&self, identity: &Identity, db: u32, version: Version) -> Result<Handshake, Loss> {
        let address = self.settings.address.clone();
        Ok(Handshake {
            address: address.ok_or_else(|| Loss::Connect(NO_MASTER.to_owned()))?,
            tls: self.settings.tls.clone(),
            identity: identity.clone(),
            version,
            db,
            client_name: self.settings.client_name.clone(),
            timeout: self.settings.connect_timeout,
            max_reply_depth: self.settings.max_reply_depth,
            reads_replica: self.settings.reads_replica,
            resolver: self.settings.resolver.clone(),
        })
    }

    fn rate(&self) -> Rate {
        Rate {
            per_second: self.settings.connect_rate,
            burst: self.settings.pinned_max,
            patience: self.settings.connect_timeout,
        }
    }

    fn open(&self, home: &Home, pinned: bool) -> Result<Connection<W>, Loss> {
        let now = time::now();
        // It may have to wait for its turn for as long as it may then take.
        let deadline = now.after(self.settings.connect_timeout * 2);
        if let Some(loss) = self.health.objection(home, now, deadline) {
            return Err(loss);
        }
        let handshake = self.handshake(&home.identity, home.db, home.version)?;
        let rate = self.rate();
        let throttle = self.seat.as_ref().map(|seat| Arc::clone(seat.throttle()));
        let admission = throttle.as_ref().map_or(Admission::Now, |throttle| {
            throttle.take(&rate, pinned, &handshake.address, now)
        });
        if let (false, [shared, own]) = (admission == Admission::Now, &self.gauges.delayed) {
            let delayed = if pinned { own } else { shared };
            delayed.fetch_add(1, Ordering::Relaxed);
        }
        self.gauges.of(pinned).fetch_add(1, Ordering::Relaxed);
        self.gauges.opened.fetch_add(1, Ordering::Relaxed);
        let watch = Watch {
            home: home.clone(),
            health: Rc::clone(&self.health),
            era: Rc::clone(&self.era),
            gauges: Arc::clone(&self.gauges),
            pinned,
            came_up: Cell::new(false),
            throttle: throttle.map(|throttle| (throttle, rate)),
        };
        let connection = Connection::open_when(admission, handshake, Arc::clone(&self.recorder), watch);
        if self.settings.keeps_requests && !pinned {
            connection.keep_requests();
        }
        Ok(connection)
    }
}
