//! Clients of the model runs: they keep the session's rules as `downstream/` does.

use std::collections::VecDeque;

use super::super::super::{Causality, Flushing, Keys};
use super::redis::{Answer, Watched};
use super::witness::Witness;
use super::world::World;
use super::*;
use crate::command::Effect;
use crate::mutants::{Mutant, mutated};

/// A command that was executed, its answer, and the state all keys were in then.
pub(super) type Reply = (Asked, Answer, PerKey<usize>);

pub(super) struct Client {
    pub(super) rules: Causality,
    pub(super) witness: Witness,
    pub(super) db: usize,
    /// Commands it has on its own connection at most.
    depth: usize,
    protocol: Version,
    /// What the requests of one `read` have in common, and how many of them are left.
    pub(super) batch: Option<(Sight, PerKey<usize>, usize)>,
    /// The next command, when it must wait for others of the client.
    held: Option<Asked>,
    /// A read of two keys from the cache that is not over.
    pub(super) looking: Option<Looking>,
    pub(super) issued: u64,
    /// Commands on the client's own connection: not executed yet, and executed but not read yet.
    pub(super) requests: VecDeque<Asked>,
    pub(super) replies: VecDeque<Reply>,
    /// What came of fetches.
    pub(super) inbox: VecDeque<(Asked, Delivery)>,
    /// One for each command on its way that changes keys without saying which; oldest first.
    flushing: VecDeque<Flushing<u32>>,
    /// Between WATCH and EXEC.
    pub(super) watching: Option<Watching>,
    /// What the server has it watch.
    pub(super) watched: Option<Watched>,
}

/// A key that is watched, the place of WATCH in the client's order, and what was read of the key behind it.
pub(super) struct Watching {
    pub(super) key: usize,
    issue: u64,
    pub(super) read: Option<Option<u64>>,
}

/// How far a read of two keys has come: what was seen of each, and how many were looked at again.
pub(super) struct Looking {
    asked: Asked,
    sight: Sight,
    seen: Vec<(u64, Option<u64>)>,
    again: usize,
}

impl Client {
    pub(super) fn new(number: usize) -> Self {
        Self {
            rules: Causality::default(),
            witness: Witness::default(),
            db: number / 3,
            depth: [3, 1, 1, 2][number % 4],
            protocol: [Version::V3, Version::V2][number % 2],
            batch: None,
            held: None,
            looking: None,
            issued: 0,
            requests: VecDeque::new(),
            replies: VecDeque::new(),
            inbox: VecDeque::new(),
            flushing: VecDeque::new(),
            watching: None,
            watched: None,
        }
    }

    /// Nothing of it is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.requests.is_empty() && self.replies.is_empty() && self.inbox.is_empty() && self.rules.nothing_fetching()
    }

    pub(super) fn can_act(&self) -> bool {
        self.held.is_some() || self.requests.len() + self.replies.len() < self.depth
    }

    pub(super) fn can_be_executed(&self) -> bool {
        !self.requests.is_empty()
    }

    pub(super) fn can_hear(&self) -> bool {
        !self.replies.is_empty() || !self.inbox.is_empty()
    }

    /// It has a connection of its own, on which everything goes in order.
    pub(super) fn is_pinned(&self) -> bool {
        let on_pin = |asked: &Asked| asked.pinned;
        self.watching.is_some()
            || self.requests.iter().any(on_pin)
            || self.replies.iter().any(|(asked, ..)| on_pin(asked))
    }

    /// It has begun something that it must go on with.
    pub(super) fn is_busy(&self) -> bool {
        self.held.is_some() || self.looking.is_some()
    }
}

impl World {
    pub(super) fn client_acts(&mut self, client: usize) {
        let own = &mut self.clients[client];
        if own.looking.is_some() {
            // Whatever others can do between two looks must be likely to happen.
            if self.random.one_in(4) {
                self.look_on(client);
            }
            return;
        }
        if !own.can_act() {
            return;
        }
        let mut asked = match own.held.take() {
            Some(asked) => {
                // What was read before a wait is no sight any more.
                own.batch = None;
                asked
            }
            None => match self.next_command(client) {
                Some(asked) => asked,
                None => return,
            },
        };
        asked.pinned |= self.clients[client].is_pinned();
        if self.must_wait(&asked) {
            self.clients[client].held = Some(asked);
            return;
        }
        self.begins(asked);
    }

    /// Rule H; and whoever changes connection waits for everything of its own.
    pub(super) fn must_wait(&self, asked: &Asked) -> bool {
        let own = &self.clients[asked.client];
        let (keys, effect) = self.effect(asked.op);
        if asked.pinned && !own.is_pinned() && !own.is_idle() {
            return true;
        }
        !own.rules.may_proceed(keys.as_slice(), effect)
    }

    pub(super) fn begins(&mut self, asked: Asked) {
        let past_watch = mutated(Mutant::WatchCached) && asked.pinned;
        let may_look = |key: usize| {
            let rules = &self.clients[asked.client].rules;
            rules.may_look(self.hashes[key]).is_ok()
        };
        match asked.op {
            Op::Watch(key) => {
                self.clients[asked.client].watching = Some(Watching {
                    key,
                    issue: asked.issue,
                    read: None,
                });
                self.forward(asked);
            }
            Op::Get(key) | Op::Strlen(key) if (!asked.pinned || past_watch) && may_look(key) => self.look(asked),
            Op::Mget if !asked.pinned && may_look(0) && may_look(1) => {
                let sight = self.sight_of(&asked);
                self.clients[asked.client].looking = Some(Looking {
                    asked,
                    sight,
                    seen: Vec::with_capacity(2),
                    again: 0,
                });
                self.look_on(asked.client);
            }
            _ => self.forward(asked),
        }
    }

    pub(super) fn query(&self, op: Op, db: usize) -> Query<'static> {
        let (command, key) = match op {
            Op::Get(key) => (GET, key),
            Op::Strlen(key) => (STRLEN, key),
            other => panic!("{other:?}"),
        };
        Query {
            hash: self.hashes[key],
            key: NAMES[key].as_bytes(),
            id: EntryId {
                origin: self.origin.number(),
                db: if mutated(Mutant::SelectLeaks) {
                    0
                } else {
                    u32::try_from(db).unwrap()
                },
                command,
                rest: b"",
            },
            shape: Shape::Generic,
            hash_fields: false,
        }
    }

    /// The sight of the batch that `asked` belongs to: as old as the batch.
    fn sight_of(&self, asked: &Asked) -> Sight {
        match &self.clients[asked.client].batch {
            Some((sight, ..)) if sight.now() == asked.invoked => sight.clone(),
            _ => self.cache.sight(&self.origin, self.now),
        }
    }

    fn look(&mut self, asked: Asked) {
        let sight = self.sight_of(&asked);
        let own = &self.clients[asked.client];
        let (protocol, must_see) = (own.protocol, own.rules.must_see());
        let query = self.query(asked.op, own.db);
        self.waiters += 1;
        let (waiter, mut out) = (self.waiters, Vec::new());
        let (found, ping_helps) = self.cache.lookup(
            &mut self.copies[asked.client % 2],
            &query,
            sight.reader(must_see, protocol),
            waiter,
            &mut out,
        );
        if ping_helps {
            self.deeds.lapses += 1;
            self.kicked = true;
        }
        match found {
            Lookup::Hit { .. } => {
                self.deeds.hits += 1;
                self.reads(&asked, version_in(asked.op, &out, protocol), Source::Cache);
            }
            Lookup::Bypass(_) => self.forward(asked),
            Lookup::Wait => self.waits(waiter, asked),
            Lookup::Lead(lease) => {
                self.waits(waiter, asked);
                self.fetch(asked.op, lease);
            }
        }
    }

    /// One more look of MGET: each key, and each of them again. Other parties may do something between two looks.
    pub(super) fn look_on(&mut self, client: usize) {
        let Some(mut looking) = self.clients[client].looking.take() else {
            return;
        };
        let own = &self.clients[client];
        let (must_see, protocol) = (own.rules.must_see(), own.protocol);
        let (cache, sight) = (Arc::clone(&self.cache), &looking.sight);
        let (at, first) = match looking.seen.len() {
            2 => (looking.again, false),
            at => (at, true),
        };
        let query = self.query(Op::Get(at), own.db);
        let copies = &mut self.copies[client % 2];
        let still = if first {
            let mut out = Vec::new();
            let serial = cache.peek(copies, &query, sight.reader(must_see, protocol), &mut out);
            let version = serial.map(|serial| (serial, version_in(Op::Get(at), &out, protocol)));
            looking.seen.extend(version);
            serial.is_some()
        } else {
            looking.again += 1;
            cache.is_unchanged(copies, &query, sight.reader(must_see, protocol), looking.seen[at].0)
        };
        if !still {
            return self.forward(looking.asked);
        }
        if looking.again < 2 {
            self.clients[client].looking = Some(looking);
            return;
        }
        self.deeds.both += 1;
        let values = [looking.seen[0].1, looking.seen[1].1];
        self.reads_both(&looking.asked, values, Source::Cache);
    }

    fn waits(&mut self, waiter: u32, asked: Asked) {
        self.deeds.waits += 1;
        self.waiting.insert(waiter, asked);
        let (keys, _) = self.effect(asked.op);
        for &hash in keys.as_slice() {
            self.clients[asked.client].rules.fetching(hash);
        }
    }

    fn forward(&mut self, asked: Asked) {
        let (keys, effect) = self.effect(asked.op);
        let flushing = self.cache.leaves(effect, &keys);
        let own = &mut self.clients[asked.client];
        own.flushing.extend(flushing);
        if !asked.pinned {
            own.rules.forwarded(&keys, effect);
        }
        own.requests.push_back(asked);
    }

    /// As the command table and `downstream/pinned.rs` have it.
    fn effect(&self, op: Op) -> (Keys, Effect) {
        let both = || Keys::from([self.hashes[0], self.hashes[1]].as_slice());
        match op {
            Op::Get(key) | Op::Strlen(key) => (Keys::One(self.hashes[key]), Effect::Read),
            Op::Mget => (both(), Effect::Read),
            Op::Set(key, _) | Op::Del(key) | Op::Expire(key, _) => (Keys::One(self.hashes[key]), Effect::Write),
            Op::Look => (Keys::None, Effect::KeylessRead),
            Op::Script(_) => (Keys::None, Effect::Unknown),
            Op::Both => (both(), Effect::Unknown),
            Op::Cas(key) => (Keys::One(self.hashes[key]), Effect::Unknown),
            Op::Watch(_) => (Keys::None, Effect::None),
            Op::FlushAll | Op::SwapDb => (Keys::None, Effect::Admin),
        }
    }

    pub(super) fn client_is_executed(&mut self, client: usize) {
        let own = &mut self.clients[client];
        let Some(asked) = own.requests.pop_front() else { return };
        let before = self.redis.at();
        let answer = self.redis.execute(asked.op, own.db, &mut own.watched, self.now);
        let at = self.redis.at();
        for key in 0..NAMES.len() {
            let (before, at) = (before[own.db][key], at[own.db][key]);
            if at > before && !matches!(asked.op, Op::FlushAll | Op::SwapDb) {
                own.witness.wrote(asked.issue, key, at);
            }
        }
        own.replies.push_back((asked, answer, at));
    }

    /// The client's worker handles the next reply, or what came of a fetch.
    pub(super) fn client_hears(&mut self, client: usize) {
        let own = &mut self.clients[client];
        if own.looking.is_some() {
            return;
        }
        if !own.inbox.is_empty() && (own.replies.is_empty() || self.random.one_in(2)) {
            return self.client_gets_its_fetch(client);
        }
        let Some((asked, answer, at)) = own.replies.pop_front() else {
            return;
        };
        self.ends(&asked);
        match asked.op {
            Op::Get(_) | Op::Strlen(_) => {
                self.deeds.homes += 1;
                self.reads(&asked, answer.values[0], Source::Home);
            }
            Op::Mget | Op::Look => {
                self.deeds.homes += 1;
                self.reads_both(&asked, answer.values, Source::Home);
            }
            Op::Cas(key) => self.client_has_swapped(&asked, key, answer, &at),
            _ => self.is_acknowledged(&asked, &at),
        }
        self.clients[client].witness.is_answered(asked.issue);
    }

    fn client_has_swapped(&mut self, asked: &Asked, key: usize, answer: Answer, at: &PerKey<usize>) {
        let watching = self.clients[asked.client].watching.take();
        if answer.aborted {
            self.deeds.aborts += 1;
            return;
        }
        self.deeds.swaps += 1;
        if let Some(read) = watching
            .filter(|watching| watching.key == key)
            .and_then(|watching| watching.read)
        {
            Witness::swapped(read, answer.values[0], asked);
        }
        self.is_acknowledged(asked, at);
    }

    /// A write was acknowledged when it had put all keys into the states `at`.
    fn is_acknowledged(&mut self, asked: &Asked, at: &PerKey<usize>) {
        let own = &mut self.clients[asked.client];
        let (db, witness) = (own.db, &mut own.witness);
        let keys = match asked.op {
            Op::Set(key, _) | Op::Del(key) | Op::Script(key) | Op::Cas(key) => key..key + 1,
            Op::Both => 0..2,
            Op::FlushAll | Op::SwapDb => 0..NAMES.len(),
            _ => 0..0,
        };
        for key in keys {
            witness.acknowledged(asked, key, at[db][key], db);
            // What a script writes it does not say.
            if !matches!(asked.op, Op::Script(_)) {
                self.acked[db][key] = self.acked[db][key].max(at[db][key]);
            }
        }
        if matches!(asked.op, Op::FlushAll | Op::SwapDb) {
            for (all, at) in self.acked.iter_mut().flatten().zip(at.iter().flatten()) {
                *all = (*all).max(*at);
            }
        }
    }

    fn client_gets_its_fetch(&mut self, client: usize) {
        let Some((asked, delivery)) = self.clients[client].inbox.pop_front() else {
            return;
        };
        let (keys, _) = self.effect(asked.op);
        for &hash in keys.as_slice() {
            self.clients[client].rules.fetched(hash);
        }
        match delivery {
            Delivery::Reply(reply, _) => self.is_fetched(&asked, &reply),
            Delivery::Home => self.forward(asked),
        }
    }

    /// A fetch was answered; when the server rejected it, so is the client.
    fn is_fetched(&mut self, asked: &Asked, reply: &[u8]) {
        if reply.starts_with(b"-") {
            return self.clients[asked.client].witness.is_answered(asked.issue);
        }
        self.reads(asked, version_in(asked.op, reply, Version::V3), Source::Fetch);
    }

    /// A command on the client's own connection was answered, or its connection is gone.
    pub(super) fn ends(&mut self, asked: &Asked) {
        let (keys, effect) = self.effect(asked.op);
        let own = &mut self.clients[asked.client];
        let flushing = own.flushing.pop_front_if(|_| effect == Effect::Admin);
        let unproved = self.cache.returns(effect, &keys, flushing, &mut own.rules, self.now);
        if !asked.pinned {
            own.rules.answered(&keys, effect);
        }
        if mutated(Mutant::AckFirst) && matches!(effect, Effect::Write | Effect::Unknown) {
            self.late_kills.extend(keys.as_slice());
        }
        if unproved {
            self.kicked = true;
        }
    }

    /// What a mutant puts off is done.
    pub(super) fn kill_late(&mut self) {
        if let Some(hash) = self.late_kills.pop_front() {
            self.cache.kill(hash);
        }
    }

    fn reads(&mut self, asked: &Asked, value: Option<u64>, source: Source) {
        let (Op::Get(key) | Op::Strlen(key)) = asked.op else {
            return;
        };
        self.note(asked.issue << 32 | value.unwrap_or(0) << 2 | source as u64);
        let own = &mut self.clients[asked.client];
        own.witness.read(asked, key, value, source, &self.redis, own.db);
        own.witness.is_answered(asked.issue);
        if let Some(watching) = &mut own.watching
            && (watching.key, true) == (key, asked.issue > watching.issue)
        {
            watching.read = Some(value);
        }
    }

    fn reads_both(&mut self, asked: &Asked, values: [Option<u64>; 2], source: Source) {
        self.note(asked.issue << 32 | values[0].unwrap_or(0) << 16 | values[1].unwrap_or(0));
        let own = &mut self.clients[asked.client];
        own.witness.read_both(asked, values, source, &self.redis, own.db);
        own.witness.is_answered(asked.issue);
    }
}
