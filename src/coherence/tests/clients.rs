//! Clients of the model runs: they keep the session's rules as `downstream/` does.

use std::collections::VecDeque;

use super::super::{Causality, Flushing, Keys};
use super::model::{Asked, Source, Witness};
use super::redis::{NAMES, Op, PerKey};
use super::world::World;
use super::*;

/// Commands a client has on its own connection at most.
const DEPTH: usize = 3;

pub(super) struct Client {
    pub(super) rules: Causality,
    pub(super) witness: Witness,
    pub(super) db: usize,
    /// What the requests of one `read` have in common, and how many of them are left.
    pub(super) batch: Option<(Sight, PerKey<usize>, usize)>,
    /// The next command, when rule H holds it back.
    pub(super) held: Option<Asked>,
    pub(super) issued: u64,
    /// Commands on the client's own connection: not executed yet, and executed but not read yet.
    pub(super) requests: VecDeque<Asked>,
    pub(super) replies: VecDeque<(Asked, Option<u64>, PerKey<usize>)>,
    /// One for each command on its way that changes keys without saying which; oldest first.
    pub(super) flushing: VecDeque<Flushing<u32>>,
}

impl Client {
    pub(super) fn new(db: usize) -> Self {
        Self {
            rules: Causality::default(),
            witness: Witness::default(),
            db,
            batch: None,
            held: None,
            issued: 0,
            requests: VecDeque::new(),
            replies: VecDeque::new(),
            flushing: VecDeque::new(),
        }
    }
}

impl World {
    pub(super) fn client_acts(&mut self, client: usize) {
        let own = &mut self.clients[client];
        if own.held.is_none() && own.requests.len() + own.replies.len() >= DEPTH {
            return;
        }
        let asked = match own.held.take() {
            Some(asked) => {
                // What was read before a wait is no sight any more.
                self.clients[client].batch = None;
                asked
            }
            None => self.next_command(client),
        };
        let keyless = matches!(asked.op, Op::Script(_) | Op::FlushAll | Op::SwapDb);
        let hashes: Vec<u64> = declared(asked.op).map(|key| self.hash(key)).into_iter().collect();
        if !self.clients[client].rules.may_proceed(&hashes, keyless) {
            self.clients[client].held = Some(asked);
            return;
        }
        match asked.op {
            Op::Get(key) if self.clients[client].rules.may_look(self.hash(key)).is_ok() => self.look(asked, key),
            _ => self.forward(asked),
        }
    }

    fn next_command(&mut self, client: usize) -> Asked {
        let key = self.some_key();
        let op = match self.random.below(100) {
            0..4 => self.some_op(key),
            4..6 => Op::Script(key),
            6 if self.random.one_in(4) => Op::SwapDb,
            _ => Op::Get(key),
        };
        let fresh = (self.cache.sight(self.now), self.acked, self.random.below(3));
        let own = &mut self.clients[client];
        let (sight, acked, left) = own.batch.take().unwrap_or(fresh);
        let invoked = sight.now();
        if left > 0 {
            own.batch = Some((sight, acked, left - 1));
        }
        own.issued += 1;
        Asked {
            op,
            client,
            issue: own.issued,
            invoked,
            acked,
        }
    }

    pub(super) fn query(&self, key: usize, db: usize) -> Query<'static> {
        Query {
            hash: self.hash(key),
            key: NAMES[key].as_bytes(),
            id: EntryId {
                origin: 0,
                db: u32::try_from(db).unwrap(),
                command: GET,
                rest: b"",
            },
            shape: Shape::Same,
            hash_fields: false,
        }
    }

    /// The sight of the batch that `asked` belongs to: as old as the batch.
    fn sight_of(&self, asked: &Asked) -> Sight {
        match &self.clients[asked.client].batch {
            Some((sight, ..)) if sight.now() == asked.invoked => sight.clone(),
            _ => self.cache.sight(self.now),
        }
    }

    fn look(&mut self, asked: Asked, key: usize) {
        let sight = self.sight_of(&asked);
        let (db, must_see) = (
            self.clients[asked.client].db,
            self.clients[asked.client].rules.must_see(),
        );
        if self.random.one_in(6) && self.look_at_both(&asked, &sight) {
            return;
        }
        self.waiters += 1;
        let (waiter, mut out) = (self.waiters, Vec::new());
        let query = self.query(key, db);
        let (found, ping_helps) = self
            .cache
            .lookup(&query, &sight, must_see, waiter, Version::V3, &mut out);
        if ping_helps {
            self.deeds.lapses += 1;
            self.kick();
        }
        match found {
            Lookup::Hit { .. } => {
                self.deeds.hits += 1;
                self.completes(&asked, number(&out), Source::Cache);
            }
            Lookup::Value(value) => self.completes(&asked, number(&value), Source::Fetch),
            Lookup::Bypass(_) => self.forward(asked),
            Lookup::Wait => self.waits(waiter, asked),
            Lookup::Lead(lease) => {
                self.waits(waiter, asked);
                self.fetch(key, lease);
            }
        }
    }

    /// MGET of two keys from the cache, with something happening between the two looks. False: it did not work out.
    fn look_at_both(&mut self, asked: &Asked, sight: &Sight) -> bool {
        let (db, must_see) = (
            self.clients[asked.client].db,
            self.clients[asked.client].rules.must_see(),
        );
        let free = |key| {
            let rules = &self.clients[asked.client].rules;
            rules.may_proceed(&[self.hash(key)], false) && rules.may_look(self.hash(key)).is_ok()
        };
        if !(free(0) && free(1)) {
            return false;
        }
        let queries = [0, 1].map(|key| self.query(key, db));
        let mut values = [None; 2];
        let mut serials = [0; 2];
        for (at, query) in queries.iter().enumerate() {
            let mut out = Vec::new();
            let Some(serial) = self.cache.peek(query, sight, must_see, Version::V3, &mut out) else {
                return false;
            };
            (serials[at], values[at]) = (serial, number(&out));
            self.others_act(db);
        }
        let same = |at: usize| self.cache.is_unchanged(&queries[at], sight, must_see, serials[at]);
        if !(same(0) && same(1)) {
            return false;
        }
        self.deeds.both += 1;
        self.clients[asked.client]
            .witness
            .read_both(asked, values, &self.redis, db);
        true
    }

    fn waits(&mut self, waiter: u32, asked: Asked) {
        self.deeds.waits += 1;
        self.waiting.insert(waiter, asked);
        if let Some(key) = declared(asked.op) {
            let hash = self.hash(key);
            self.clients[asked.client].rules.fetching(hash);
        }
    }

    pub(super) fn forward(&mut self, asked: Asked) {
        let (keys, unknown) = self.keys(asked.op);
        let own = &mut self.clients[asked.client];
        match asked.op {
            Op::Set(..) | Op::Del(_) => keys.as_slice().iter().for_each(|&hash| self.cache.kill(hash)),
            Op::FlushAll | Op::SwapDb => own.flushing.push_back(self.cache.flushing()),
            Op::Get(_) | Op::Script(_) => {}
        }
        own.rules.forwarded(&keys, unknown);
        own.requests.push_back(asked);
    }

    fn keys(&self, op: Op) -> (Keys, bool) {
        match declared(op) {
            Some(key) => (Keys::One(self.hash(key)), false),
            None => (Keys::None, true),
        }
    }

    pub(super) fn client_is_executed(&mut self, client: usize) {
        let Some(asked) = self.clients[client].requests.pop_front() else {
            return;
        };
        let db = self.clients[client].db;
        let before = self.redis.at();
        let value = self.redis.execute(asked.op, db, self.now);
        let at = self.redis.at();
        if let Op::Set(key, _) | Op::Del(key) | Op::Script(key) = asked.op
            && at[db][key] > before[db][key]
        {
            let write = (asked.issue, key, at[db][key]);
            self.clients[client].witness.writes.push(write);
        }
        self.clients[client].replies.push_back((asked, value, at));
    }

    pub(super) fn client_hears(&mut self, client: usize) {
        let Some((asked, value, at)) = self.clients[client].replies.pop_front() else {
            return;
        };
        self.ends(&asked);
        let db = self.clients[client].db;
        let witness = &mut self.clients[client].witness;
        match asked.op {
            Op::Get(_) => {
                self.deeds.homes += 1;
                self.completes(&asked, value, Source::Home);
            }
            Op::Set(key, _) | Op::Del(key) => {
                witness.made(&asked, key, at[db][key], db);
                self.acked[db][key] = self.acked[db][key].max(at[db][key]);
            }
            Op::Script(key) => witness.made(&asked, key, at[db][key], db),
            Op::FlushAll | Op::SwapDb => {
                (0..NAMES.len()).for_each(|key| witness.made(&asked, key, at[db][key], db));
                for (all, at) in self.acked.iter_mut().flatten().zip(at.iter().flatten()) {
                    *all = (*all).max(*at);
                }
            }
        }
    }

    /// A command on the client's own connection was answered, or its connection is gone.
    fn ends(&mut self, asked: &Asked) {
        let (keys, unknown) = self.keys(asked.op);
        let own = &mut self.clients[asked.client];
        match asked.op {
            Op::Get(key) => drop(self.cache.saw(self.cache.hash(NAMES[key].as_bytes()), self.now)),
            // Before it is acknowledged.
            Op::Set(..) | Op::Del(_) => keys.as_slice().iter().for_each(|&hash| self.cache.kill(hash)),
            Op::FlushAll | Op::SwapDb => drop(own.flushing.pop_front()),
            Op::Script(_) => {}
        }
        own.rules.answered(&keys, unknown);
        if unknown {
            own.rules.saw(self.now);
        }
    }

    pub(super) fn completes(&mut self, asked: &Asked, value: Option<u64>, source: Source) {
        let Op::Get(key) = asked.op else { return };
        let own = &mut self.clients[asked.client];
        own.witness.read(asked, key, value, source, &self.redis, own.db);
    }

    pub(super) fn client_loses_its_connection(&mut self, client: usize) {
        let own = &mut self.clients[client];
        let answered = std::mem::take(&mut own.replies)
            .into_iter()
            .map(|(asked, ..)| (asked, true));
        let lost: Vec<_> = answered
            .chain(
                std::mem::take(&mut own.requests)
                    .into_iter()
                    .map(|asked| (asked, false)),
            )
            .collect();
        for (asked, executed) in lost {
            // A SWAPDB that executes later is the hole that only killing the old connection closes.
            if !executed && !matches!(asked.op, Op::SwapDb) && self.random.one_in(2) {
                self.zombies.push((asked.op, self.clients[client].db));
            }
            self.ends(&asked);
        }
    }

    pub(super) fn zombie_acts(&mut self) {
        if !self.zombies.is_empty() {
            let (op, db) = self.zombies.remove(0);
            self.redis.execute(op, db, self.now);
        }
    }
}

/// The key a command names.
pub(super) fn declared(op: Op) -> Option<usize> {
    match op {
        Op::Get(key) | Op::Set(key, _) | Op::Del(key) => Some(key),
        Op::Script(_) | Op::FlushAll | Op::SwapDb => None,
    }
}

/// The number in a bulk string; `None` for nil.
pub(super) fn number(reply: &[u8]) -> Option<u64> {
    text(reply).split("\r\n").nth(1).and_then(|digits| digits.parse().ok())
}
