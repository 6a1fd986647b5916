//! What all sessions of a worker have in common.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;

use super::forward::Forwarded;
use super::session::Session;
use crate::coherence::{Delivery, NearCache};
use crate::command::CommandTable;
use crate::config::{Credentials, Limits};
use crate::metrics::{Metrics, WorkerRecorder};
use crate::resp::{Request, Version};
use crate::time::Instant;
use crate::tracking::Tracking;
use crate::upstream::Pool;

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
}

/// nearhit's own command (`PROXY …`); built on a higher floor.
pub trait AdminCommand: Send + Sync {
    /// Answers `request` for a client that speaks `version` and is in database `db`.
    fn run(&self, request: &Request<'_>, version: Version, db: u32, out: &mut Vec<u8>);
    /// The `# Proxy` section of INFO, header line included.
    fn info_section(&self) -> String;
}

/// Settings of sessions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Limits that protect the process from one client.
    pub limits: Limits,
    /// How long the server may take to answer; `None`: forever.
    pub command_timeout: Option<Duration>,
    /// Whether the near-cache is asked at all.
    pub caching: bool,
    /// The database clients start in.
    pub db: u32,
    /// The server's address, for errors.
    pub upstream: String,
    /// What nearhit authenticates with; a client that says the same shares its connections and its cache.
    pub credentials: Option<Credentials>,
    /// Append `# Proxy` to INFO.
    pub info_section: bool,
    /// The name of nearhit's own command, in lower case; empty: none.
    pub admin_command: String,
}

/// What all workers share.
pub struct Shared {
    /// The near-cache.
    pub cache: Arc<NearCache<Ticket>>,
    /// The command table; replaced when the upstream's commands are learned.
    pub table: ArcSwap<CommandTable>,
    /// Settings of sessions.
    pub settings: Settings,
    /// Who fetches for the cache; `None`: nothing is cached.
    pub tracking: Option<Tracking>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// nearhit's own command; set once everything it reports on exists.
    pub admin: std::sync::OnceLock<Arc<dyn AdminCommand>>,
    /// Every connected client by id.
    pub peers: DashMap<u64, Peer>,
    /// The id the next client gets.
    pub next_id: std::sync::atomic::AtomicU64,
}

/// One worker's part.
pub struct Context {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Which worker this is.
    pub worker: u16,
    /// Its connections to the server.
    pub pool: RefCell<Pool<Forwarded>>,
    /// Its counters.
    pub recorder: Arc<WorkerRecorder>,
    /// Its sessions by place.
    pub(super) sessions: RefCell<Vec<Option<Rc<Session>>>>,
    pub(super) free: RefCell<Vec<u32>>,
    pub(super) generations: Cell<u32>,
    /// What is read goes here first: an idle session holds no buffer.
    pub(super) scratch: RefCell<Vec<u8>>,
    /// nearhit stops: sessions finish what they received and close.
    pub(super) draining: Cell<bool>,
}

impl Context {
    /// A worker without sessions.
    pub fn new(shared: Arc<Shared>, worker: u16, pool: Pool<Forwarded>, recorder: Arc<WorkerRecorder>) -> Rc<Self> {
        Rc::new(Self {
            shared,
            worker,
            pool: RefCell::new(pool),
            recorder,
            sessions: RefCell::default(),
            free: RefCell::default(),
            generations: Cell::new(0),
            scratch: RefCell::default(),
            draining: Cell::new(false),
        })
    }

    /// Hands what the tracked connection fetched to the session that waits for it, if it is still there.
    pub fn deliver(&self, ticket: Ticket, delivery: &Delivery) {
        let session = usize::try_from(ticket.place)
            .ok()
            .and_then(|place| self.sessions.borrow().get(place).cloned().flatten());
        if let Some(session) = session.filter(|session| session.generation == ticket.generation) {
            session.fetched(ticket.number, delivery);
        }
    }

    /// Answers requests whose replies are late with an error. Call it about ten times a second.
    pub fn check_late(&self, now: Instant) {
        let Some(limit) = self.shared.settings.command_timeout else {
            return;
        };
        self.pool.borrow().check_late(now);
        for session in self.sessions.borrow().iter().flatten() {
            session.check_late(limit, now);
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
