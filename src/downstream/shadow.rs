//! Shadow mode: the server answers every read, and what memory would have answered is compared with that.
//!
//! ```text
//! read ┬ would be a hit    → home, with what memory held ─ reply ┬ the same, or an error        → equal, uncompared
//!      │                                                         ├ memory has dropped it by now → raced
//!      │                                                         └ not yet: a suspect ┬ dropped → late
//!      │                                                                              └ proved  → stale
//!      ├ would be fetched  → home, and fetched for memory; nobody waits for that
//!      └ would be passed on → home
//! ```
//! The near-cache is filled and invalidated, and the rules of the session are kept, as if it answered: a read it would
//! have answered is not something that the session has on its way or has seen from the server.
//!
//! A different answer alone proves nothing: the key may have changed while the request travelled, or a moment ago, so
//! that the invalidation is still on its way. So the verdict waits until the invalidation stream has proved that
//! everything before the server's answer was invalidated. Who then still holds its own answer would go on serving it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::cached::{collect_all, query_get};
use super::context::{Context, Ticket};
use super::forward::{Forwarded, Op};
use super::request::{Flow, Turn};
use crate::cache::SharedReply;
use crate::coherence::{Keys, Lookup, NearCache, Origin, Query, Sight};
use crate::command::{Command, Effect};
use crate::metrics::{Bypass, CacheResult, ShadowLookup, ShadowVerdict};
use crate::resp::{Request, members};
use crate::time::Instant;

/// Entries that may wait for a verdict on one worker. One that finds no room is called stale: never flattering. Chosen,
/// not measured; all reads of one entry take one place.
const MOST_SUSPECTS: usize = 4096;

/// What the near-cache would have done with a read.
enum Would {
    Answer(Claim),
    Fetch,
    Join,
    PassOn,
}

/// A read that the near-cache would not have passed on.
pub(super) struct Shadowed {
    /// The policy of its key.
    policy: usize,
    /// What it would have answered, until that is compared; `None`: it would have been fetched.
    claim: Option<Claim>,
}

/// What memory would have answered.
struct Claim {
    answer: Bytes,
    /// So many bytes of it the server has said as well, as far as it did not say others.
    matched: usize,
    differs: bool,
    order: Order,
    origin: Arc<Origin>,
    entries: Entries,
}

/// Hash of the name and number of each entry that an answer came from; several for a read of several keys.
type Entries = Box<[(u64, u64)]>;

/// Whether a command says its elements in an order that means something. Redis moves the elements of sets and hashes
/// while they are only read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Fixed,
    /// Any order of elements.
    Elements,
    /// Any order of pairs.
    Pairs,
}

impl Order {
    fn of(command: &Command) -> Self {
        match command.name() {
            "smembers" | "hkeys" | "hvals" => Self::Elements,
            "hgetall" => Self::Pairs,
            _ => Self::Fixed,
        }
    }

    /// Whether two answers that are not the same bytes mean the same.
    fn allows(self, one: &[u8], other: &[u8]) -> bool {
        let width = match self {
            Self::Fixed => return false,
            Self::Elements => 1,
            Self::Pairs => 2,
        };
        let (Some(one), Some(other)) = (members(one), members(other)) else {
            return false;
        };
        let sorted = |members: &[&[u8]]| {
            let mut groups: Vec<Vec<u8>> = members.chunks(width).map(|group| group.concat()).collect();
            groups.sort_unstable();
            groups
        };
        one.len() == other.len() && sorted(&one) == sorted(&other)
    }
}

impl Turn<'_> {
    /// A read of one key.
    pub(super) fn shadow_one(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        // What is known to be large goes the way it always does, and is not looked at.
        if let Some(flow) = self.read_alone(command, request) {
            return flow;
        }
        let would = match self.query(command, request) {
            Ok(query) => self.would(&query, command, request),
            Err(_) => Would::PassOn,
        };
        self.send_shadowed(would, command, request)
    }

    fn would(&mut self, query: &Query<'_>, command: &Command, request: &Request<'_>) -> Would {
        let (must_see, version, mut out) = (self.core.causality.must_see(), self.core.version, Vec::new());
        let look = |turn: &mut Self, sight: &Sight| {
            let cache = &turn.context.shared.cache;
            let mut copies = turn.context.copies.borrow_mut();
            let reader = sight.reader(must_see, version).of_slot(turn.owns(query.id.db));
            cache.shadow(&mut copies, query, reader, &mut out)
        };
        let Some((lookup, unproved)) = self.with_sight(look) else {
            return Would::PassOn;
        };
        if unproved && let Some(partition) = self.core.account.partition(self.node) {
            partition.tracking.kick();
        }
        match lookup {
            Lookup::Hit { shared, serial, .. } => {
                let answer = shared.map_or_else(|| out.into(), SharedReply::into_bytes);
                self.claim(answer, Order::of(command), [(query.hash, serial)].into())
            }
            Lookup::Wait => Would::Join,
            Lookup::Lead(lease) => {
                self.fetch(lease, request.frame());
                Would::Fetch
            }
            Lookup::Bypass(_) => Would::PassOn,
        }
    }

    /// A read of several keys.
    pub(super) fn shadow_many(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        if let Some(flow) = self.read_alone(command, request) {
            return flow;
        }
        let Ok(id) = self.query_all() else {
            return self.send_shadowed(Would::PassOn, command, request);
        };
        let (keys, mut out) = (std::mem::take(&mut self.core.keys), Vec::new());
        let queries = |at: usize| query_get(request.arg(at + 1), keys.get(at).copied().unwrap_or_default(), id);
        let (must_see, version) = (self.core.causality.must_see(), self.core.version);
        let serials = self.with_sight(|turn, sight| {
            let cache = &turn.context.shared.cache;
            let mut copies = turn.context.copies.borrow_mut();
            let reader = sight.reader(must_see, version).of_slot(turn.owns(id.db));
            let look = |at| Some((queries(at), reader));
            let serials = collect_all(cache, &mut copies, &look, keys.len(), &mut out);
            if serials.is_none() {
                turn.prefetch_all(&queries, keys.len(), sight, must_see);
            }
            serials
        });
        let would = match serials.flatten() {
            Some(serials) => {
                let entries = keys.iter().copied().zip(serials).collect();
                self.claim(out.into(), Order::Fixed, entries)
            }
            None => Would::PassOn,
        };
        self.core.keys = keys;
        self.send_shadowed(would, command, request)
    }

    fn claim(&self, answer: Bytes, order: Order, entries: Entries) -> Would {
        let Some(partition) = self.core.account.partition(self.node) else {
            return Would::PassOn;
        };
        Would::Answer(Claim {
            answer,
            matched: 0,
            differs: false,
            order,
            origin: Arc::clone(&partition.origin),
            entries,
        })
    }

    /// Sends the read home, whatever the near-cache would have done.
    fn send_shadowed(&mut self, would: Would, command: &Command, request: &Request<'_>) -> Flow {
        self.tell(Bypass::Shadow);
        let shared = &self.context.shared;
        self.context.recorder.cache.inc(CacheResult::Bypass);
        self.context.recorder.bypass.inc(Bypass::Shadow);
        // Of several keys the first one counts.
        let policy = shared.cache.terms(request.arg(1)).number;
        let (looked, claim) = match would {
            Would::Answer(claim) => (ShadowLookup::Hit, Some(claim)),
            Would::Fetch => (ShadowLookup::Miss, None),
            Would::Join => (ShadowLookup::Coalesced, None),
            Would::PassOn => (ShadowLookup::Bypass, None),
        };
        shared.metrics.shadow.looked(policy, looked);
        let op = Op {
            keys: Keys::from(self.core.keys.as_slice()),
            effect: Effect::Read,
            shadow: (looked != ShadowLookup::Bypass).then(|| Box::new(Shadowed { policy, claim })),
            ..Op::plain(command.id().number(), self.now)
        };
        self.send_home(op, request.frame(), self.core.db, self.core.version);
        Flow::Next
    }
}

impl Claim {
    /// The server says `part`, behind what it said before.
    fn hear(&mut self, part: &[u8]) {
        let expected = self.answer.get(self.matched..self.matched + part.len());
        self.differs |= expected != Some(part);
        self.matched += part.len();
    }

    /// Whether all that the server said is the same.
    fn is_same(&self) -> bool {
        !self.differs && self.matched == self.answer.len()
    }
}

impl Forwarded {
    /// Compares what the server says, as far as memory would have said something.
    pub(super) fn compare(&mut self, kind: u8, part: &[u8], last: bool, now: Instant) {
        let Some(shadowed) = self.op.shadow.as_deref_mut() else {
            return;
        };
        let Some(claim) = &mut shadowed.claim else { return };
        if matches!(kind, b'-' | b'!') {
            return self.not_compared();
        }
        let whole = last && claim.matched == 0;
        claim.hear(part);
        if !last {
            return;
        }
        let same = claim.is_same() || (whole && claim.order.allows(&claim.answer, part));
        let policy = shadowed.policy;
        let Some(claim) = shadowed.claim.take() else { return };
        let context = &self.session.context;
        let verdict = if same {
            Some(ShadowVerdict::Equal)
        } else if still_holds(&context.shared.cache, &claim.origin, &claim.entries, now).is_none() {
            Some(ShadowVerdict::Raced)
        } else {
            if let Some(partition) = self.session.core.borrow().account.partition(self.op.node) {
                partition.tracking.kick();
            }
            context.suspects.add(claim, policy, now)
        };
        if let Some(verdict) = verdict {
            context.shared.metrics.shadow.compared(policy, verdict, 1);
        }
    }

    /// The server will not say what memory's answer could be compared with.
    pub(super) fn not_compared(&mut self) {
        if let Some(shadowed) = self.op.shadow.as_deref_mut()
            && shadowed.claim.take().is_some()
        {
            let metrics = &self.session.context.shared.metrics;
            metrics.shadow.compared(shadowed.policy, ShadowVerdict::Uncompared, 1);
        }
    }
}

/// Until when the stream has proved itself, if memory still holds all of the entries then.
fn still_holds(cache: &NearCache<Ticket>, origin: &Origin, entries: &Entries, now: Instant) -> Option<Instant> {
    // First the proof, then the entries: what the proof covers has been dropped when they are looked at.
    let sight = cache.sight(origin, now);
    let all = entries.iter().all(|&(hash, serial)| cache.holds(hash, serial, &sight));
    all.then(|| sight.fresh())
}

/// Answers of memory that differed from the server's and have no verdict yet.
#[derive(Default)]
pub(super) struct Suspects(RefCell<HashMap<Entries, Suspect>>);

struct Suspect {
    origin: Arc<Origin>,
    policy: usize,
    /// How many reads it concerns.
    reads: u64,
    /// When the last of the server's answers arrived: what it saw was written before.
    until: Instant,
}

impl Suspects {
    /// Adds one read; the verdict, if there is no room to wait for it.
    fn add(&self, claim: Claim, policy: usize, now: Instant) -> Option<ShadowVerdict> {
        let mut suspects = self.0.borrow_mut();
        if suspects.len() >= MOST_SUSPECTS && !suspects.contains_key(&claim.entries) {
            return Some(ShadowVerdict::Stale);
        }
        let suspect = suspects.entry(claim.entries).or_insert(Suspect {
            origin: claim.origin,
            policy,
            reads: 0,
            until: now,
        });
        suspect.reads += 1;
        suspect.until = suspect.until.max(now);
        None
    }
}

impl Context {
    /// Gives verdicts on comparisons of shadow mode. Call it about ten times a second.
    pub fn settle_shadows(&self, now: Instant) {
        let mut suspects = self.suspects.0.borrow_mut();
        suspects.retain(|entries, suspect| {
            let verdict = match still_holds(&self.shared.cache, &suspect.origin, entries, now) {
                None => ShadowVerdict::Late,
                Some(proved) if proved >= suspect.until => ShadowVerdict::Stale,
                Some(_) => return true,
            };
            let metrics = &self.shared.metrics;
            metrics.shadow.compared(suspect.policy, verdict, suspect.reads);
            false
        });
    }
}
