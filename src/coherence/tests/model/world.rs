//! The model runs' world: the scheduler, the tracked connection, a network that delivers in pieces and freezes, other
//! writers and lost connections. `clients` holds the clients.

use std::collections::{HashMap, VecDeque};

use super::super::super::Subscriber;
use super::clients::Client;
use super::losses::Zombie;
use super::redis::Redis;
use super::*;
use crate::mutants::{Mutant, mutated};

pub(super) struct World {
    pub(super) cache: Arc<NearCache<u32>>,
    /// Of two workers.
    pub(super) copies: [Copies; 2],
    pub(super) origin: Arc<Origin>,
    pub(super) hashes: [u64; NAMES.len()],
    pub(super) redis: Redis,
    tracked: Option<Tracked<u32>>,
    subscriber: Option<Subscriber<u32>>,
    fills: VecDeque<Fill>,
    pub(super) clients: Vec<Client>,
    /// Who waits for a fetch; never walked through, for its order is not the same every time.
    pub(super) waiting: HashMap<u32, Asked>,
    pub(super) waiters: u32,
    /// A session wants a proof.
    pub(super) kicked: bool,
    pub(super) acked: PerKey<usize>,
    pub(super) zombies: Vec<Zombie>,
    /// Second kills that a mutant puts off.
    pub(super) late_kills: VecDeque<u64>,
    pub(super) now: Instant,
    pub(super) random: Random,
    /// For how many steps nothing arrives on the tracked and on the subscribed connection.
    pub(super) frozen: [usize; 2],
    /// All want one key; the network is slow; few write; the server rejects now and then.
    pub(super) hot: bool,
    slow: bool,
    pub(super) calm: bool,
    rejecting: bool,
    white: bool,
    /// Entries stored when the inside was looked at last.
    pub(super) stored: u64,
    pub(super) deeds: Deeds,
    trace: u64,
    out: Vec<u8>,
}

impl World {
    pub(super) fn new(setup: Setup) -> Self {
        let seed = setup.seed;
        let limits = Limits {
            max_bytes: if seed % 16 == 5 { 2500 } else { 1 << 20 },
            max_staleness: BOUND,
            admit_always: !seed.is_multiple_of(4),
            // Half of the runs copy what is served for the first time, the others what is hot.
            eviction: if seed.is_multiple_of(2) {
                EvictionKind::Fifo
            } else {
                EvictionKind::Worth
            },
            ..Limits::default()
        };
        let now = Instant::from_nanos(1_000_000_000_000);
        let cache = Arc::new(NearCache::with_fixed_hashes(limits, Policies::default()));
        let mut world = Self {
            origin: cache.open().unwrap(),
            hashes: NAMES.map(|name| cache.hash(name.as_bytes())),
            cache,
            copies: [Copies::eager(), Copies::eager()],
            redis: Redis::new(setup.redirect, now),
            tracked: None,
            subscriber: None,
            fills: VecDeque::new(),
            clients: (0..4).map(Client::new).collect(),
            waiting: HashMap::new(),
            waiters: 0,
            kicked: false,
            acked: PerKey::default(),
            zombies: Vec::new(),
            late_kills: VecDeque::new(),
            now,
            random: Random(seed),
            frozen: [0; 2],
            hot: seed & 1 == 1,
            slow: seed & 6 == 2,
            calm: seed & 8 == 8,
            rejecting: seed % 4 == 3,
            white: setup.white,
            stored: 0,
            deeds: Deeds::default(),
            trace: seed,
            out: Vec::new(),
        };
        world.redis.merges = seed % 8 == 1;
        world.connect();
        world
    }

    pub(super) fn deeds(&self) -> Deeds {
        Deeds {
            races: self.cache.tally().rejected_race.load(Ordering::Relaxed),
            ..self.deeds
        }
    }

    /// The hash of all that happened.
    pub(super) fn trace(&self) -> u64 {
        self.trace
    }

    /// Something happened; `what` tells it apart from other things.
    pub(super) fn note(&mut self, what: u64) {
        self.trace = (self.trace ^ what).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    /// One thing happens to one party.
    pub(super) fn step(&mut self) {
        self.deeds.steps += 1;
        let dice = self.random.next();
        self.note(dice);
        self.pass(dice % 400_000);
        self.frozen = self.frozen.map(|left| left.saturating_sub(1));
        let client = (dice >> 40) as usize % self.clients.len();
        match (dice >> 20) % 256 {
            0..74 => self.client_acts(self.one_who(Client::can_act, client)),
            74..124 if !self.slow || self.random.one_in(4) => self.serve(),
            124..142 => self.client_is_executed(self.one_who(Client::can_be_executed, client)),
            142..166 => self.client_hears(self.one_who(Client::can_hear, client)),
            166..198 if self.frozen[0] == 0 && (!self.slow || self.random.one_in(3)) => self.deliver(),
            198..210 if self.frozen[1] == 0 => self.deliver_messages(),
            210..222 => self.take_orders(),
            222..227 => self.tick(),
            227 if !self.calm || self.random.one_in(4) => self.other_writes(),
            228..230 => {
                let (db, key) = (self.random.below(DBS), self.some_key());
                self.redis.expire(db, key);
            }
            230..239 => self.redis.pong(),
            239 if self.random.one_in(2) => self.client_loses_its_connection(client),
            240..243 => self.zombie_acts(),
            243..245 => self.something_breaks(),
            245 => self.cache.sweep(self.now),
            246..249 => self.connect(),
            249..251 => self.prefetch(),
            251 if self.random.one_in(3) => self.server_kills_a_zombie(),
            252 if self.random.one_in(4) => {
                let key = self.some_key();
                self.redis.changed(key);
            }
            _ => self.kill_late(),
        }
        if self.white {
            self.must_be_registered();
        }
    }

    /// A client for whom `is` holds; this one if it does.
    fn one_who(&self, is: fn(&Client) -> bool, client: usize) -> usize {
        let mut turn = (client..self.clients.len()).chain(0..client);
        turn.find(|&client| is(&self.clients[client])).unwrap_or(client)
    }

    /// A link freezes, nearhit gives its tracked connection up, or the server closes it without nearhit's knowledge.
    fn something_breaks(&mut self) {
        let which = self.random.below(2);
        match self.random.below(36) {
            0..10 => self.frozen[which] = [20, 60, 100, 200, 350, 600][self.random.below(6)],
            18..21 => self.fence(),
            21..23 => {
                let kept = self.random.below(80);
                self.redis.drop_connection(which, kept);
                self.frozen[which] = [0, 400][self.random.below(2)];
            }
            _ => {}
        }
    }

    /// Fetches a key that nobody waits for.
    fn prefetch(&mut self) {
        let (db, key) = (self.random.below(DBS), self.some_key());
        let (query, sight) = (self.query(Op::Get(key), db), self.cache.sight(&self.origin, self.now));
        if let Some(lease) = self.cache.prefetch(&query, &sight, Instant::ZERO) {
            self.fetch(Op::Get(key), lease);
        }
    }

    /// Queues a fetch for the tracked connection.
    pub(super) fn fetch(&mut self, op: Op, lease: Lease) {
        let (word, key) = match op {
            Op::Strlen(key) => ("$6\r\nSTRLEN", key),
            Op::Get(key) => ("$3\r\nGET", key),
            other => panic!("{other:?}"),
        };
        let frame = format!("*2\r\n{word}\r\n$1\r\n{}\r\n", NAMES[key]);
        let frame = frame.into_bytes().into();
        self.fills.push_back(Fill { lease, frame });
    }

    pub(super) fn pass(&mut self, nanos: u64) {
        self.now = self.now.after(Duration::from_nanos(nanos + 1));
        self.redis.pass(self.now);
    }

    pub(super) fn serve(&mut self) {
        let reject = self.rejecting && self.random.one_in(if self.redis.is_asked_to_read() { 20 } else { 150 });
        self.redis.serve(self.now, reject);
    }

    fn connect(&mut self) {
        if self.tracked.is_some() {
            return;
        }
        let stream = self.origin.stream();
        let renews = !self.redis.redirect;
        self.tracked = Some(Tracked::new(Arc::clone(&self.cache), Arc::clone(&stream), 0, renews));
        if self.subscriber.is_some() {
            return self.redis.connect_filling();
        }
        self.redis.connect();
        self.subscriber = (!renews).then(|| Subscriber::new(Arc::clone(&self.cache), Arc::clone(&stream)));
        stream.go_live();
    }

    /// The tracked connection is given up.
    pub(super) fn fence(&mut self) {
        self.deeds.fences += 1;
        // What is on its way is lost, too.
        self.redis.drop_connection(0, 0);
        if !(self.redis.redirect && mutated(Mutant::RedirectDeathIgnored)) {
            self.origin.fence();
            self.subscriber = None;
            self.redis.drop_connection(1, 0);
        }
        let mut given = Given::default();
        if let Some(tracked) = self.tracked.take() {
            tracked.abandon(&mut given);
        }
        self.hand_out(given);
    }

    fn send_fills(&mut self) {
        let Some(fill) = self.fills.pop_front() else { return };
        self.out.clear();
        let refused = match &mut self.tracked {
            Some(tracked) => tracked.fill(fill, self.now, &mut self.out).err(),
            None => Some(fill),
        };
        self.redis.accept(&self.out);
        if let Some(fill) = refused {
            let mut given = Given::default();
            for waiter in self.cache.abandon(fill.lease) {
                given.deliver(waiter, Delivery::Home);
            }
            self.hand_out(given);
        }
    }

    /// What sessions have asked for is done: a proof, and the next fetch.
    pub(super) fn take_orders(&mut self) {
        if std::mem::take(&mut self.kicked) {
            self.ping();
        }
        self.send_fills();
    }

    pub(super) fn ping(&mut self) {
        self.out.clear();
        if let Some(tracked) = &mut self.tracked {
            tracked.ping(self.now, &mut self.out);
        }
        self.redis.accept(&self.out);
        if let Some(subscriber) = &mut self.subscriber {
            subscriber.ping(self.now, &mut Vec::new());
            self.redis.pings += usize::from(self.redis.has[1]);
        }
    }

    fn tick(&mut self) {
        self.out.clear();
        let mut silent = false;
        if let Some(tracked) = &mut self.tracked {
            silent |= tracked.tick(self.now, &mut self.out).is_err();
            self.redis.accept(&self.out);
        }
        if let Some(subscriber) = &mut self.subscriber {
            self.out.clear();
            silent |= subscriber.tick(self.now, &mut self.out).is_err();
            self.redis.pings += usize::from(!self.out.is_empty() && self.redis.has[1]);
        }
        if silent {
            self.fence();
        }
    }

    /// Some bytes arrive on the tracked connection, or its end does.
    pub(super) fn deliver(&mut self) {
        let count = 1 + self.random.below(160);
        self.deliver_bytes(count);
    }

    /// So many bytes arrive on the tracked connection, if there are so many.
    pub(super) fn deliver_bytes(&mut self, count: usize) {
        let Some(tracked) = &mut self.tracked else { return };
        let count = count.min(self.redis.stream.bytes.len());
        if count == 0 {
            if !self.redis.has[0] {
                self.fence();
            }
            return;
        }
        self.out.clear();
        self.out.extend(self.redis.stream.bytes.drain(..count));
        if let Some(subscriber) = self.subscriber.as_mut() {
            subscriber.hold(&self.out, self.now, &mut Vec::new());
            self.redis.pings += usize::from(self.redis.has[1]);
            return self.redis.stream_taken(count);
        }
        let mut given = Given::default();
        let handled = tracked.receive(&self.out, self.now, &mut given);
        self.redis.stream_taken(count);
        self.hand_out(given);
        self.heed(handled);
    }

    pub(super) fn deliver_messages(&mut self) {
        let Some(subscriber) = &mut self.subscriber else { return };
        let count = (1 + self.random.below(200)).min(self.redis.messages.bytes.len());
        if count == 0 && !self.redis.has[1] {
            return self.fence();
        }
        self.out.clear();
        self.out.extend(self.redis.messages.bytes.drain(..count));
        let handled = subscriber.receive(&self.out);
        self.redis.messages_taken(count);
        self.heed(handled);
        self.release();
    }

    /// What was held back until the invalidations in front of it were handled is handled.
    pub(super) fn release(&mut self) {
        let (Some(subscriber), mut handled) = (&mut self.subscriber, Ok(())) else {
            return;
        };
        let mut given = Given::default();
        while let (Ok(()), Some(tracked), Some(bytes)) = (&handled, &mut self.tracked, subscriber.release()) {
            handled = tracked.receive(&bytes, self.now, &mut given);
        }
        self.hand_out(given);
        self.heed(handled);
    }

    /// A connection that must be given up is given up.
    fn heed(&mut self, handled: Result<(), Fence>) {
        match handled {
            Ok(()) => {}
            Err(Fence::Protocol(why)) => panic!("I9 protocol: {why}"),
            Err(_) => self.fence(),
        }
    }

    fn hand_out(&mut self, given: Given) {
        for (waiter, delivery) in given.0 {
            let asked = self
                .waiting
                .remove(&waiter)
                .expect("I9 protocol: a waiter is answered once");
            self.clients[asked.client].inbox.push_back((asked, delivery));
        }
    }

    /// Nobody asks for more, and everything on its way arrives.
    pub(super) fn settle_down(&mut self) {
        self.frozen = [0; 2];
        self.rejecting = false;
        while !self.zombies.is_empty() {
            self.zombie_acts();
            self.server_kills_a_zombie();
        }
        for _ in 0..2000 {
            self.connect();
            if self.is_quiet() {
                return;
            }
            self.pass(1000);
            for client in 0..self.clients.len() {
                self.clients[client].batch = None;
                if self.clients[client].is_busy() {
                    self.client_acts(client);
                }
                self.client_is_executed(client);
                self.client_hears(client);
            }
            self.take_orders();
            (0..8).for_each(|_| self.serve());
            (0..20).for_each(|_| self.deliver());
            self.redis.pong();
            (0..20).for_each(|_| self.deliver_messages());
            self.kill_late();
        }
        panic!("I8 convergence: somebody still waits: {:?}", self.waiting);
    }

    fn is_quiet(&self) -> bool {
        let redis = &self.redis;
        let queued = redis.stream.bytes.len() + redis.messages.bytes.len() + redis.pings + self.late_kills.len();
        queued == 0
            && redis.is_whole()
            && !redis.has_requests()
            && self.waiting.is_empty()
            && self.fills.is_empty()
            && self.clients.iter().all(|client| client.is_idle() && !client.is_busy())
    }

    /// What the cache has is what the server has, and the server will say when it changes.
    pub(super) fn must_converge(&mut self, db: usize, key: usize) {
        for op in [Op::Get(key), Op::Strlen(key)] {
            let (query, sight) = (self.query(op, db), self.cache.sight(&self.origin, self.now));
            let mut out = Vec::new();
            let held = self.cache.peek(
                &mut Copies::default(),
                &query,
                sight.reader(Instant::ZERO, Version::V3),
                &mut out,
            );
            if held.is_some() {
                let (held, is) = (version_in(op, &out, Version::V3), self.redis.value(db, key));
                assert_eq!(held, is, "I8 convergence: {op:?}");
                assert!(
                    self.redis.table[key],
                    "I8 convergence: nobody would say that {op:?} changed"
                );
            }
        }
        let flights = self.cache.report(NAMES[key].as_bytes(), self.now);
        assert_eq!(flights.map_or(0, |report| report.flights), 0, "a flight was leaked");
    }
}
