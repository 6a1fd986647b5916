//! One client: connects, sends batches of operations, reads every reply, and begins anew when its connection is lost.
//!
//! ```text
//! Connecting ─greeted→ [ batch: build, send, read all replies ]… ─lost→ Connecting (a new session: it promises nothing
//!                                                                       about what the old one saw)
//! ```

use super::cell::{Broken, Content, Kind, Outcome, Read, Ttl};
use super::keys::Region;
use super::requests;
use super::servers::Place;
use super::wire::{Greeting, PATIENCE, Whom, Wire, Wires};
use super::workload::{Op, Random};
use super::world::{Part, SLACK, World};
use nearhit::resp::Version;
use nearhit::time::{self, Instant};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

/// Between two attempts to connect, and after a batch with errors: everything may be down for a while.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a foreign writer waits between batches in calm times.
const CALM: Duration = Duration::from_millis(4);
/// Of 100 batches, how many are an increment with WATCH instead.
const CAS_SHARE: u64 = 4;

/// Who a client is.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) addr: Place,
    /// The nodes of the cluster that it asks instead, one operation after the other.
    pub(super) nodes: Vec<String>,
    /// The instance behind that address; `None`: the server itself.
    pub(super) via: Option<usize>,
    pub(super) version: Version,
    /// Most operations in one batch.
    pub(super) depth: u64,
    /// Only reads, one quiet key again and again: for such a client nothing but the lease bars an old entry.
    pub(super) quiet: bool,
    /// The database it begins in, by its place in the list.
    pub(super) db: usize,
    /// User and password; the default user's name is empty.
    pub(super) credentials: Option<(String, Vec<u8>)>,
}

/// What a reply will be the answer to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pending {
    /// MULTI, WATCH, UNWATCH: OK.
    Ok,
    /// SELECT of the database with this place in the list.
    Select(usize),
    /// A command in MULTI.
    Queued,
    /// ECHO of this number.
    Echo(u64),
    /// An operation on so many keys, which are next in `parts`.
    Read {
        op: Op,
        parts: usize,
    },
    Write {
        op: Op,
        parts: usize,
        ttl: Ttl,
    },
}

/// What the session has seen and done to a key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Floor {
    pub(super) generation: u32,
    pub(super) read: u64,
    pub(super) wrote: u64,
}

/// One connection's life.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) world: Arc<World>,
    pub(super) seat: Seat,
    pub(super) random: Random,
    pub(super) id: u32,
    /// Which database, by its place in the list.
    pub(super) db: usize,
    /// By key.
    pub(super) floors: Vec<Floor>,
    pub(super) out: Vec<u8>,
    pub(super) pending: VecDeque<Pending>,
    pub(super) parts: VecDeque<Part>,
    /// Writes that [`World::enter`] let in and that have not left.
    pub(super) entered: usize,
    pub(super) invoked: Instant,
    pub(super) faults: u64,
    /// Every reply since the last MULTI was as it should be.
    pub(super) transaction_is_whole: bool,
    /// What a watched counter was.
    pub(super) watched: Option<u64>,
    pub(super) errors: u64,
    /// What a quiet client reads, and until when.
    pub(super) favourite: Option<(Op, usize, Instant)>,
}

/// Runs one client until the run is over.
pub(super) async fn run(world: Arc<World>, seat: Seat, random: Random) {
    let keys = world.keys();
    let mut session = Session {
        id: 0,
        db: 0,
        floors: vec![Floor::default(); keys],
        out: Vec::new(),
        pending: VecDeque::new(),
        parts: VecDeque::new(),
        entered: 0,
        invoked: Instant::ZERO,
        faults: 0,
        transaction_is_whole: false,
        watched: None,
        errors: 0,
        favourite: None,
        world,
        seat,
        random,
    };
    while !session.world.is_stopping() {
        if let Some(mut way) = session.connect().await {
            session.begin();
            while !session.world.is_stopping() && session.batch(&mut way).await.is_some() {}
            session.lose();
        }
        if !session.world.is_stopping() {
            sleep(PAUSE).await;
        }
    }
}

/// The way to whoever is asked.
#[derive(Debug)]
enum Way {
    One(Wire),
    /// To the nodes of a cluster.
    Nodes(Box<Wires>),
}

impl Session {
    /// Connects and greets.
    async fn connect(&mut self) -> Option<Way> {
        let mut greeting = Greeting::default();
        let mut say = |args: &[&[u8]]| {
            requests::request(&mut greeting.bytes, args);
            greeting.replies += 1;
        };
        if let Some((user, password)) = &self.seat.credentials {
            say(&[b"AUTH", super::server_faults::user_name(user), password]);
        }
        let version: &[u8] = if self.seat.version == Version::V3 { b"3" } else { b"2" };
        say(&[b"HELLO", version]);
        if let Some(db) = self.world.dbs.get(self.seat.db).filter(|db| **db != 0) {
            say(&[b"SELECT", db.to_string().as_bytes()]);
        }
        let node = self.random.index(self.seat.nodes.len());
        if let Some(node) = self.seat.nodes.get(node) {
            return Wires::open(node, greeting)
                .await
                .map(|wires| Way::Nodes(Box::new(wires)));
        }
        let addr = self.seat.addr.now();
        let wire = Wire::open(&addr, &greeting).await?;
        // Who came too late to be sent away from an old primary must go by himself.
        (addr == self.seat.addr.now()).then_some(Way::One(wire))
    }

    /// A new connection is a new session.
    fn begin(&mut self) {
        self.id = self.world.new_session();
        self.db = self.seat.db;
        self.floors.fill(Floor::default());
    }

    /// The connection is gone: nobody knows what became of the writes under way.
    fn lose(&mut self) {
        let at = time::now();
        if !self.pending.is_empty() {
            self.world.findings.lost_connections.fetch_add(1, Ordering::Relaxed);
        }
        while let Some(pending) = self.pending.pop_front() {
            let (parts, write) = match pending {
                Pending::Read { parts, .. } => (parts, None),
                Pending::Write { op, parts, ttl } => (parts, Some((op, ttl))),
                _ => (0, None),
            };
            let parts: Vec<_> = self.parts.drain(..parts.min(self.parts.len())).collect();
            for part in parts {
                let counts = self.world.kind(part.index).counts();
                let Some((op, ttl)) = write.filter(|_| !counts) else {
                    continue;
                };
                let event = self.event(op, at, Content::Nothing, Outcome::Unknown);
                self.world.settle(&part, op, ttl, Outcome::Unknown, &event);
            }
            if write.is_some() {
                self.world.findings.unknown_writes.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.parts.clear();
        while self.entered > 0 {
            self.left();
        }
    }

    /// One write has come to its end.
    pub(super) fn left(&mut self) {
        self.entered -= 1;
        self.world.leave();
    }

    /// Sends one batch and reads its replies. `None`: the connection is of no more use.
    async fn batch(&mut self, way: &mut Way) -> Option<()> {
        self.start_batch();
        if !self.seat.quiet && self.random.below(100) < CAS_SHARE && self.world.enter() {
            self.entered += 1;
            self.increment_watched(way).await?;
            return Some(());
        }
        let depth = 1 + self.random.below(self.seat.depth);
        for _ in 0..depth {
            self.add_operation();
            // It may fail, and what is sent behind it would then meet the keys of another database.
            if matches!(self.pending.back(), Some(Pending::Select(_))) {
                break;
            }
        }
        self.exchange(way).await?;
        self.rest().await;
        Some(())
    }

    fn start_batch(&mut self) {
        self.invoked = time::now();
        self.faults = self.world.faults();
        self.out.clear();
        self.errors = 0;
    }

    /// Time for others: foreign writers in calm times, everybody after errors.
    async fn rest(&mut self) {
        if self.errors > 0 {
            sleep(PAUSE).await;
        } else if self.seat.via.is_none() && self.world.phase(self.invoked).calm {
            sleep(CALM).await;
        }
    }

    /// WATCH and GET, then MULTI, SET and EXEC with what was read. It counts as one write under way.
    async fn increment_watched(&mut self, way: &mut Way) -> Option<()> {
        let found = self.random_cas();
        self.watched = None;
        self.add_watched_read(found);
        self.exchange(way).await?;
        self.start_batch();
        // Where WATCH was refused, nothing would stop two increments from making the same value.
        match self.watched.take().filter(|_| self.transaction_is_whole) {
            Some(value) => self.add_increment_of(found, value),
            None => {
                self.add_ok(&[b"UNWATCH"]);
                self.left();
            }
        }
        self.exchange(way).await
    }

    fn random_cas(&mut self) -> usize {
        loop {
            let dice = self.random.below(1 << 20);
            let index = self.world.choose(self.db, Region::Hot, dice);
            if self.world.kind(index) == Kind::Cas {
                return index;
            }
        }
    }

    async fn exchange(&mut self, way: &mut Way) -> Option<()> {
        match way {
            Way::One(wire) => self.exchange_with(wire).await,
            Way::Nodes(wires) => self.exchange_among(wires).await,
        }
    }

    /// Asks the node that has the keys. There is one operation only.
    async fn exchange_among(&mut self, wires: &mut Wires) -> Option<()> {
        let follows = !matches!(self.pending.back(), Some(Pending::Write { op: Op::CasIncr, .. }));
        // What was watched at one node cannot be written at another one.
        let part = self.parts.front().filter(|_| follows);
        let whom = part.map_or(Whom::Last, |part| Whom::Owner(self.world.slot_of(part.index)));
        let begun = time::now();
        let Some((replies, completed)) = wires.ask(&self.out, self.pending.len(), whom).await else {
            self.note_silence(begun);
            return None;
        };
        for reply in replies {
            self.answered(&reply, completed)?;
        }
        Some(())
    }

    /// Writes what was built and reads all its replies.
    async fn exchange_with(&mut self, wire: &mut Wire) -> Option<()> {
        wire.stream.write_all(&self.out).await.ok()?;
        let mut completed = time::now();
        while !self.pending.is_empty() {
            match wire.next() {
                Ok(Some(range)) => {
                    let reply = wire.read.get(range).unwrap_or_default();
                    self.answered(reply, completed)?;
                }
                Ok(None) => {
                    if wire.fill().await.is_none() {
                        self.note_silence(completed);
                        return None;
                    }
                    completed = time::now();
                }
                Err(()) => return self.odd(b"bytes that are no reply"),
            }
        }
        match wire.used == wire.read.len() {
            true => Some(()),
            false => self.odd(wire.read.get(wire.used..).unwrap_or_default()),
        }
    }

    fn note_silence(&self, since: Instant) {
        if time::now().since(since) >= PATIENCE {
            self.world.findings.stuck.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A reply that does not belong there: what follows can belong to anybody.
    pub(super) fn odd(&self, reply: &[u8]) -> Option<()> {
        let what = self.pending.front().copied();
        let shown = String::from_utf8_lossy(reply.get(..reply.len().min(300)).unwrap_or_default());
        let (id, seat) = (self.id, &self.seat);
        let story = || format!("  session {id} of {seat:?}\n  waited for {what:?}\n  and was told {shown:?}\n");
        self.world.findings.violation(Broken::Protocol, story, self.faults);
        None
    }

    /// What this session must see of a key.
    pub(super) fn read_of(&self, part: &Part, completed: Instant) -> Read {
        let floor = self.floors.get(part.index).copied().unwrap_or_default();
        let floor = if floor.generation == part.generation {
            floor
        } else {
            Floor::default()
        };
        let bound = match self.seat.via {
            Some(_) => self.world.bound + SLACK,
            // Who asks the server itself sees what the server has acknowledged: this checks the checker.
            None => self.world.direct_bound,
        };
        Read {
            session: self.id,
            invoked: self.invoked,
            completed,
            bound,
            read: floor.read,
            wrote: floor.wrote,
            through: part.number,
            faults: self.faults | self.world.faults(),
        }
    }

    /// The session has seen or written this position of a key.
    pub(super) fn raise(&mut self, part: &Part, read: u64, wrote: u64) {
        let Some(floor) = self.floors.get_mut(part.index) else {
            return;
        };
        if floor.generation != part.generation {
            *floor = Floor {
                generation: part.generation,
                ..Floor::default()
            };
        }
        floor.read = floor.read.max(read);
        floor.wrote = floor.wrote.max(wrote);
    }
}
