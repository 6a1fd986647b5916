//! What all sessions of a worker have in common.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;

use super::account::Account;
use super::accounts::Accounts;
use super::again::Budget;
use super::cluster::{Cluster, Nodes};
use super::common::Common;
use super::door::Door;
use super::fence::Fences;
use super::forward::Forwarded;
use super::large::LargeReplies;
use super::live::Live;
use super::pubsub::Hub;
use super::replicas::Replicas;
use super::session::Session;
use super::shadow::Suspects;
use super::unready::Gate;
use crate::coherence::{Causality, Copies, Delivery, NearCache};
use crate::command::CommandTable;
use crate::config::{CacheMode, Limits, MonitorMode, PresentAs, PubSub};
use crate::discovery::Hurry;
use crate::metrics::{Metrics, WorkerRecorder};
use crate::resp::{Request, Version};
use crate::time::Instant;
use crate::topology::{Routing, Seen};
use crate::upstream::{Identity, Pool, Whereabouts};

/// How often silent clients are looked for: so much later than allowed they may be noticed. Redis looks once a second.
const IDLE_CHECK: Duration = Duration::from_millis(500);

/// Who waits for a fetch: a reply slot of a session of a worker. Sessions are reused places, so a generation tells a
/// session from the one that had its place before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The worker the session lives on.
    pub worker: u16,
    /// The session's place in its worker.
    pub place: u32,
    /// Which session at that place.
    pub generation: u32,
    /// The pending reply's number in the session's pipeline.
    pub number: u64,
}

/// A client, as `CLIENT LIST` shows it.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its address.
    pub addr: String,
    /// The address it connected to.
    pub laddr: String,
    /// The number of its socket in this process; -1 when it has none.
    pub fd: i32,
    /// Who it is at the server.
    pub user: String,
    /// The name it gave itself.
    pub name: String,
    /// Library name and version, if it said so.
    pub library: (String, String),
    /// The database it is in.
    pub db: u32,
    /// 2 or 3.
    pub resp: u8,
    /// When it connected.
    pub since: Instant,
    /// What changes with every turn of its session.
    pub live: Arc<Live>,
}

/// Who asks nearhit itself.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// Who it is at the server.
    pub account: &'a Account,
    /// The database it is in.
    pub db: u32,
    /// The protocol it speaks.
    pub version: Version,
    /// What it has on its way, and what it has seen.
    pub causality: &'a Causality,
    /// Whether it is told where its answers come from; it may change that.
    pub attributes: &'a Cell<bool>,
    /// What it has seen, where replicas may be read.
    pub seen: Option<&'a Seen>,
    /// What it said about replicas: READONLY or READWRITE.
    pub replicas: Option<bool>,
}

/// A subcommand of nearhit's own command.
#[derive(Clone, Debug)]
pub struct AdminVerb {
    /// Its name.
    pub name: &'static str,
    /// How many arguments a request has, both names included; `-n` means at least `n`.
    pub arity: i64,
    /// What it does, in one sentence or two.
    pub summary: String,
}

/// nearhit's own command (`PROXY …`); built on a higher floor.
pub trait AdminCommand: Send + Sync {
    /// Answers `request` of `asker`.
    fn run(&self, request: &Request<'_>, asker: &Asker<'_>, out: &mut Vec<u8>);
    /// The `# Proxy` section of INFO, header line included.
    fn info_section(&self) -> String;
    /// Every subcommand.
    fn verbs(&self) -> Vec<AdminVerb>;
}

/// Settings of sessions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Limits that protect the process from one client.
    pub limits: Limits,
    /// How long a client may neither send nor read; `None`: forever.
    pub idle_timeout: Option<Duration>,
    /// The same before it has authenticated.
    pub auth_timeout: Option<Duration>,
    /// How long the server may take to answer; `None`: forever.
    pub command_timeout: Option<Duration>,
    /// Whether there is a near-cache: it is filled, invalidated and asked.
    pub caching: bool,
    /// It answers nothing: what it would have said is compared with what the server says.
    pub shadow: bool,
    /// Whether sessions see keys change in the order in which they changed.
    pub strict_sessions: bool,
    /// The database clients start in.
    pub db: u32,
    /// The server's address, for errors.
    pub upstream: String,
    /// Append `# Proxy` to INFO.
    pub info_section: bool,
    /// The name of nearhit's own command, in lower case; empty: none.
    pub admin_command: String,
    /// What MONITOR shows.
    pub monitor: MonitorMode,
    /// What clients see of the server.
    pub present_as: PresentAs,
    /// Subscribers.
    pub pubsub: PubSub,
    /// How long nothing is cached because of a lost command that may still run.
    pub fence_hold: Duration,
    /// In front of a cluster, writes to several slots are cut by slot; otherwise they are refused.
    pub split_writes: bool,
}

impl Settings {
    /// What the near-cache does with reads.
    pub fn cache_mode(&self) -> CacheMode {
        match (self.caching, self.shadow) {
            (false, _) => CacheMode::Off,
            (true, true) => CacheMode::Shadow,
            (true, false) => CacheMode::Serve,
        }
    }

    /// Whether clients may be answered from memory.
    pub fn serves(&self) -> bool {
        self.caching && !self.shadow
    }

    /// Whether `name` is that of nearhit's own command.
    pub(super) fn is_admin_command(&self, name: &[u8]) -> bool {
        !self.admin_command.is_empty() && name.eq_ignore_ascii_case(self.admin_command.as_bytes())
    }
}

/// What all workers share.
pub struct Shared {
    /// The near-cache.
    pub cache: Arc<NearCache<Ticket>>,
    /// Where the server is, or the master of several.
    pub master: Whereabouts,
    /// The cluster behind it; `None`: there is none.
    pub cluster: Option<Cluster>,
    /// Where reads go; `None`: all to the one server there is.
    pub routing: Option<Arc<Routing>>,
    /// Whoever routes reads wishes here for newer news of replicas.
    pub hurry: Arc<Hurry>,
    /// Whoever is told by the master that it follows another wishes here for discovery to look again.
    pub doubt: Arc<Hurry>,
    /// The command table; replaced when the upstream's commands are learned.
    pub table: ArcSwap<CommandTable>,
    /// Settings of sessions.
    pub settings: Settings,
    /// Who clients are at the server.
    pub accounts: Accounts,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// nearhit's own command; set once everything it reports on exists.
    pub admin: std::sync::OnceLock<Arc<dyn AdminCommand>>,
    /// Every connected client by id.
    pub peers: DashMap<u64, Peer>,
    /// What concerns clients of all workers.
    pub common: Common,
    /// The id the next client gets.
    pub next_id: std::sync::atomic::AtomicU64,
}

/// One worker's part.
pub struct Context {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Which worker this is.
    pub worker: u16,
    /// Its connections to the server; to the master, where there are replicas.
    pub pool: RefCell<Pool<Forwarded>>,
    /// How much may be asked again.
    pub(super) budget: Budget,
    /// Whether the master has refused requests, and when it is tried again.
    pub(super) gate: Gate,
    /// How often the name of the master has led elsewhere, as far as its connections know.
    pub(super) turn: Cell<u64>,
    /// In a cluster: its connections to the other nodes, and which has what.
    pub(super) nodes: Option<Nodes>,
    /// Its connections to replicas.
    pub replicas: Replicas,
    /// Its counters.
    pub recorder: Arc<WorkerRecorder>,
    /// Its sessions' subscriptions, by who they are at the server.
    hubs: RefCell<HashMap<Identity, Rc<Hub>>>,
    /// Its sessions by place.
    pub(super) sessions: RefCell<Vec<Option<Rc<Session>>>>,
    pub(super) free: RefCell<Vec<u32>>,
    /// Who waits for the doorman.
    pub(super) door: Door,
    pub(super) generations: Cell<u32>,
    /// What is read goes here first: an idle session holds no buffer.
    pub(super) scratch: RefCell<Vec<u8>>,
    /// Copies of the hottest entries.
    pub(super) copies: RefCell<Copies>,
    /// Bytes of the largest reply over shared connections lately.
    pub(super) largest: Cell<usize>,
    /// Lost commands that may still run.
    pub(super) fences: Fences,
    /// Reads that must not be answered over shared connections.
    pub(super) large: LargeReplies,
    /// Shadow mode: comparisons without a verdict yet.
    pub(super) suspects: Suspects,
    /// When silent clients are looked for next.
    idle_check: Cell<Instant>,
    /// nearhit stops: sessions finish what they received and close.
    pub(super) draining: Cell<bool>,
    /// Read about ten times a second.
    pub(super) tick: Cell<Instant>,
}

impl Context {
    /// A worker without sessions.
    pub fn new(shared: Arc<Shared>, worker: u16, pool: Pool<Forwarded>, recorder: Arc<WorkerRecorder>) -> Rc<Self> {
        Rc::new(Self {
            hubs: RefCell::default(),
            worker,
            budget: Budget::default(),
            gate: Gate::default(),
            turn: Cell::new(shared.master.turn()),
            nodes: shared.cluster.as_ref().map(Nodes::new),
            replicas: Replicas::new(&pool, shared.cluster.is_some()),
            pool: RefCell::new(pool),
            shared,
            recorder,
            sessions: RefCell::default(),
            free: RefCell::default(),
            door: Door::default(),
            generations: Cell::new(0),
            scratch: RefCell::default(),
            copies: RefCell::default(),
            largest: Cell::new(0),
            fences: Fences::default(),
            large: LargeReplies::default(),
            suspects: Suspects::default(),
            idle_check: Cell::default(),
            draining: Cell::new(false),
            tick: Cell::new(Instant::ZERO),
        })
    }

    /// Hands what the tracked connection fetched to the session that waits for it, if it is still there.
    pub fn deliver(&self, ticket: Ticket, delivery: &Delivery) {
        if let Some(session) = self.session(ticket.place, ticket.generation) {
            session.fetched(ticket.number, delivery);
        }
    }

    /// The session at a place, if it is the one that was meant.
    pub(super) fn session(&self, place: u32, generation: u32) -> Option<Rc<Session>> {
        let place = usize::try_from(place).ok()?;
        let session = self.sessions.borrow().get(place).cloned().flatten();
        session.filter(|session| session.generation == generation)
    }

    /// Forgets what was learned some time ago. Call it about ten times a second.
    pub fn forget(&self, now: Instant) {
        self.tick.set(now);
        self.budget.tick();
        // Half of it is forgotten in eighteen seconds.
        self.largest.set(self.largest.get() - self.largest.get() / 256);
    }

    /// Answers requests whose replies are late with an error, and hurries clients for which others wait. An answer is later than
    /// the limit by as much as this is called too seldom.
    pub fn check_late(&self, now: Instant) {
        let limit = self.shared.settings.command_timeout;
        let text = || limit.map(|limit| self.late_text(limit, false)).unwrap_or_default();
        self.door.tend(now, limit, text);
        if limit.is_some_and(|limit| self.shared.common.pause.excuses(limit, now)) {
            return;
        }
        self.pool.borrow().check_late(now);
        self.replicas.check_late(now);
        self.check_late_at_nodes(now);
        let Some(limit) = limit else { return };
        for session in self.sessions.borrow().iter().flatten() {
            session.check_late(limit, now);
        }
    }

    /// Looks after subscriptions. Call it about ten times a second.
    pub fn tend_subscriptions(&self, now: Instant) {
        self.hubs.borrow_mut().retain(|_, hub| {
            hub.tend(self, now);
            !hub.is_over()
        });
        for session in self.sessions.borrow().iter().flatten() {
            session.check_behind(now);
        }
    }

    /// What the worker's sessions are subscribed to together, as who this account is.
    pub(super) fn hub(&self, account: &Account) -> Rc<Hub> {
        let identity = account.identity();
        if let Some(hub) = self.hubs.borrow().get(identity) {
            return Rc::clone(hub);
        }
        let hub = Hub::new(account, Arc::clone(&self.shared));
        self.hubs.borrow_mut().insert(identity.clone(), Rc::clone(&hub));
        hub
    }

    /// Closes clients that have been silent for too long. Call it about ten times a second.
    pub fn check_idle(&self, now: Instant) {
        let Settings {
            idle_timeout,
            auth_timeout,
            ..
        } = &self.shared.settings;
        if (idle_timeout.is_none() && auth_timeout.is_none()) || now < self.idle_check.get() {
            return;
        }
        self.idle_check.set(now.after(IDLE_CHECK));
        for session in self.sessions.borrow().iter().flatten() {
            session.check_idle(*idle_timeout, *auth_timeout, now);
        }
    }

    /// What a client is told about a request that was not answered in time. What may have changed data says so with a
    /// code of its own, because client libraries repeat requests that failed with the usual ones.
    pub(super) fn late_text(&self, after: Duration, writes: bool) -> String {
        let upstream = &self.shared.settings.upstream;
        if writes {
            format!("UNCERTAIN no answer from {upstream} within {after:?}; the command may or may not have run")
        } else {
            format!("ERR nearhit: no answer from {upstream} within {after:?}")
        }
    }

    /// Tells every session to finish what it received and close.
    pub fn drain(&self) {
        self.draining.set(true);
        self.wake_all();
    }

    /// Closes every session, whatever it waits for.
    pub fn close_all(&self) {
        for session in self.sessions.borrow().iter().flatten() {
            session.kill();
        }
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.sessions.borrow().iter().flatten().count()
    }

    fn wake_all(&self) {
        for session in self.sessions.borrow().iter().flatten() {
            session.wake();
        }
    }

    pub(super) fn enroll(&self, session: impl FnOnce(u32, u32) -> Session) -> Rc<Session> {
        let generation = self.generations.get().wrapping_add(1);
        self.generations.set(generation);
        let mut sessions = self.sessions.borrow_mut();
        let place = self
            .free
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| u32::try_from(sessions.len()).unwrap_or(u32::MAX));
        let session = Rc::new(session(place, generation));
        match sessions.get_mut(place as usize) {
            Some(seat) => *seat = Some(Rc::clone(&session)),
            None => sessions.push(Some(Rc::clone(&session))),
        }
        session
    }

    pub(super) fn dismiss(&self, place: u32) {
        if let Some(seat) = self.sessions.borrow_mut().get_mut(place as usize) {
            *seat = None;
        }
        self.free.borrow_mut().push(place);
    }
}
