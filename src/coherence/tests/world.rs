//! The model runs' world: the scheduler, the tracked connection, a network that delivers in pieces and freezes, other
//! writers and lost connections. `clients` holds the clients.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;

use super::super::Subscriber;
use super::clients::{Client, declared, number};
use super::model::{Asked, BOUND, Deeds, Source};
use super::redis::{DBS, NAMES, Op, PerKey, Redis};
use super::*;

pub(super) struct World {
    pub(super) cache: Arc<NearCache<u32>>,
    pub(super) redis: Redis,
    pub(super) tracked: Option<Tracked<u32>>,
    pub(super) subscriber: Option<Subscriber<u32>>,
    pub(super) fills: VecDeque<Fill>,
    pub(super) clients: Vec<Client>,
    pub(super) waiting: HashMap<u32, Asked>,
    pub(super) waiters: u32,
    pub(super) acked: PerKey<usize>,
    /// Commands of connections that were lost; the server has them and will execute them.
    pub(super) zombies: Vec<(Op, usize)>,
    pub(super) now: Instant,
    pub(super) random: Random,
    /// For how many steps nothing arrives on the tracked and on the subscribed connection.
    pub(super) frozen: [usize; 2],
    /// What this world is like: all want one key, the network is slow, few write.
    pub(super) hot: bool,
    slow: bool,
    pub(super) deeds: Deeds,
}

impl World {
    pub(super) fn new(seed: u64, redirect: bool) -> Self {
        let limits = Limits {
            max_bytes: 1 << 20,
            max_staleness: BOUND,
            admit_always: !seed.is_multiple_of(4),
            ..Limits::default()
        };
        let now = Instant::from_nanos(1_000_000_000_000);
        let mut world = Self {
            cache: Arc::new(NearCache::new(limits, Policies::default())),
            redis: Redis::new(redirect, now),
            tracked: None,
            subscriber: None,
            fills: VecDeque::new(),
            clients: [0, 0, 0, 1].map(Client::new).into(),
            waiting: HashMap::new(),
            waiters: 0,
            acked: PerKey::default(),
            zombies: Vec::new(),
            now,
            random: Random(seed),
            frozen: [0; 2],
            hot: seed & 1 == 1,
            slow: seed & 2 == 2,
            deeds: Deeds::default(),
        };
        world.connect();
        world
    }

    pub(super) fn deeds_into(&self, sum: &mut Deeds) {
        sum.hits += self.deeds.hits;
        sum.waits += self.deeds.waits;
        sum.both += self.deeds.both;
        sum.homes += self.deeds.homes;
        sum.lapses += self.deeds.lapses;
        sum.fences += self.deeds.fences;
        sum.races += self.cache.tally().rejected_race.load(Ordering::Relaxed);
    }

    /// One thing happens to one party.
    pub(super) fn step(&mut self) {
        let nanos = self.random.next() % 400_000;
        self.pass(nanos);
        self.frozen = self.frozen.map(|left| left.saturating_sub(1));
        let client = self.random.below(self.clients.len());
        let (db, key) = (self.random.below(DBS), self.some_key());
        match self.random.below(200) {
            0..50 => self.client_acts(client),
            50..80 if !self.slow || self.random.one_in(4) => self.redis.serve(self.now),
            80..95 => self.client_is_executed(client),
            95..110 => self.client_hears(client),
            110..150 if self.frozen[0] == 0 => self.deliver(),
            150..158 if self.frozen[1] == 0 => self.deliver_messages(),
            158..170 => self.send_fills(),
            170..176 => self.tick(),
            176..180 if self.random.one_in(2) => {
                let op = self.some_op(key);
                self.redis.execute(op, db, self.now);
            }
            180..182 => self.redis.expire(db, key),
            182..190 => self.redis.pong(),
            190 if self.random.one_in(2) => self.client_loses_its_connection(client),
            191..194 => self.zombie_acts(),
            194 if self.random.one_in(3) => {
                let link = self.random.below(2);
                self.frozen[link] = [40, 200, 600][self.random.below(3)];
            }
            195 if self.random.one_in(6) => self.fence(),
            196 => self.cache.sweep(self.now),
            197 | 198 => self.connect(),
            199 => self.prefetch(db, key),
            _ => {}
        }
    }

    pub(super) fn some_key(&mut self) -> usize {
        if self.hot && !self.random.one_in(8) {
            return 0;
        }
        self.random.below(NAMES.len())
    }

    /// What happens between two steps of a client that are one step for the client: others write both of its keys, and
    /// the second is fetched again.
    pub(super) fn others_act(&mut self, db: usize) {
        for _ in 0..self.random.below(50) {
            self.pass(1000);
            match self.random.below(40) {
                0..20 => self.deliver(),
                20..32 => self.redis.serve(self.now),
                32..36 => self.send_fills(),
                36 => [0, 1].into_iter().for_each(|key| {
                    self.redis.execute(Op::Set(key, None), db, self.now);
                }),
                37 => self.deliver_messages(),
                _ => self.prefetch(db, 1),
            }
        }
    }

    /// Fetches a key that nobody waits for.
    fn prefetch(&mut self, db: usize, key: usize) {
        let (query, sight) = (self.query(key, db), self.cache.sight(self.now));
        if let Some(lease) = self.cache.prefetch(&query, &sight, Instant::ZERO) {
            self.fetch(key, lease);
        }
    }

    /// Queues a fetch for the tracked connection.
    pub(super) fn fetch(&mut self, key: usize, lease: Lease) {
        let name = NAMES[key];
        let frame = format!("*2\r\n$3\r\nGET\r\n${}\r\n{name}\r\n", name.len());
        let frame = frame.into_bytes().into();
        self.fills.push_back(Fill { lease, frame });
    }

    fn pass(&mut self, nanos: u64) {
        self.now = self.now.after(Duration::from_nanos(nanos + 1));
        self.redis.pass(self.now);
    }

    /// What other writers do: anything but SWAPDB, which Redis tells nobody.
    pub(super) fn some_op(&mut self, key: usize) -> Op {
        match self.random.below(30) {
            0 => Op::FlushAll,
            1..5 => Op::Del(key),
            5..12 => Op::Set(key, Some(1 + self.random.next() % 150)),
            _ => Op::Set(key, None),
        }
    }

    pub(super) fn hash(&self, key: usize) -> u64 {
        self.cache.hash(NAMES[key].as_bytes())
    }

    fn connect(&mut self) {
        if self.tracked.is_some() {
            return;
        }
        self.redis.disconnect();
        let stream = self.cache.origin().stream();
        let renews = !self.redis.redirect;
        self.tracked = Some(Tracked::new(Arc::clone(&self.cache), Arc::clone(&stream), 0, renews));
        self.subscriber = (!renews).then(|| Subscriber::new(Arc::clone(&self.cache), Arc::clone(&stream)));
        stream.go_live();
    }

    fn fence(&mut self) {
        self.deeds.fences += 1;
        self.cache.origin().fence();
        self.subscriber = None;
        let mut given = Given::default();
        if let Some(tracked) = self.tracked.take() {
            tracked.abandon(&mut given);
        }
        self.hand_out(given);
    }

    fn send_fills(&mut self) {
        let Some(tracked) = &mut self.tracked else { return };
        let Some(fill) = self.fills.pop_front() else { return };
        let mut out = Vec::new();
        let refused = tracked.fill(fill, self.now, &mut out);
        self.redis.accept(&out);
        if let Err(fill) = refused {
            let mut given = Given::default();
            for waiter in self.cache.abandon(fill.lease) {
                given.deliver(waiter, Delivery::Home);
            }
            self.hand_out(given);
        }
    }

    pub(super) fn kick(&mut self) {
        let mut out = Vec::new();
        if let Some(tracked) = &mut self.tracked {
            tracked.ping(self.now, &mut out);
        }
        self.redis.accept(&out);
        if let Some(subscriber) = &mut self.subscriber {
            subscriber.ping(self.now, &mut Vec::new());
            self.redis.pings += 1;
        }
    }

    fn tick(&mut self) {
        let mut out = Vec::new();
        let mut silent = false;
        if let Some(tracked) = &mut self.tracked {
            silent |= tracked.tick(self.now, &mut out).is_err();
            self.redis.accept(&out);
        }
        if let Some(subscriber) = &mut self.subscriber {
            out.clear();
            silent |= subscriber.tick(self.now, &mut out).is_err();
            self.redis.pings += usize::from(!out.is_empty());
        }
        if silent {
            self.fence();
        }
    }

    /// Some bytes arrive on the tracked connection.
    pub(super) fn deliver(&mut self) {
        let Some(tracked) = &mut self.tracked else { return };
        let count = (1 + self.random.below(60)).min(self.redis.stream.len());
        let bytes: Vec<u8> = self.redis.stream.drain(..count).collect();
        if let Some(subscriber) = self.subscriber.as_mut().filter(|_| count > 0) {
            subscriber.hold(&bytes, self.now, &mut Vec::new());
            self.redis.pings += 1;
            return;
        }
        let mut given = Given::default();
        tracked.receive(&bytes, self.now, &mut given).unwrap();
        self.hand_out(given);
    }

    fn deliver_messages(&mut self) {
        let Some(subscriber) = &mut self.subscriber else { return };
        let count = (1 + self.random.below(120)).min(self.redis.messages.len());
        let bytes: Vec<u8> = self.redis.messages.drain(..count).collect();
        subscriber.receive(&bytes).unwrap();
        let mut given = Given::default();
        while let (Some(tracked), Some(bytes)) = (&mut self.tracked, subscriber.release()) {
            tracked.receive(&bytes, self.now, &mut given).unwrap();
        }
        self.hand_out(given);
    }

    fn hand_out(&mut self, given: Given) {
        for (waiter, delivery) in given.0 {
            let asked = self.waiting.remove(&waiter).expect("a waiter is answered once");
            if let Some(key) = declared(asked.op) {
                let hash = self.hash(key);
                self.clients[asked.client].rules.fetched(hash);
            }
            match delivery {
                Delivery::Reply(reply, _) => self.completes(&asked, number(&reply), Source::Fetch),
                Delivery::Home => self.forward(asked),
            }
        }
    }

    /// Nobody asks for more, and everything on its way arrives.
    pub(super) fn settle_down(&mut self) {
        self.connect();
        while !self.zombies.is_empty() {
            self.zombie_acts();
        }
        for _ in 0..2000 {
            if self.is_quiet() {
                return;
            }
            self.pass(1000);
            for client in 0..self.clients.len() {
                self.clients[client].batch = None;
                if self.clients[client].held.is_some() {
                    self.client_acts(client);
                }
                self.client_is_executed(client);
                self.client_hears(client);
            }
            self.send_fills();
            (0..8).for_each(|_| self.redis.serve(self.now));
            (0..40).for_each(|_| self.deliver());
            self.redis.pong();
            (0..40).for_each(|_| self.deliver_messages());
        }
        panic!("somebody still waits: {:?}", self.waiting);
    }

    fn is_quiet(&self) -> bool {
        let idle = |own: &Client| {
            let empty = own.requests.is_empty() && own.replies.is_empty() && own.held.is_none();
            empty && own.rules.nothing_fetching()
        };
        let queued = self.redis.inbox.len() + self.redis.stream.len() + self.redis.messages.len() + self.redis.pings;
        queued == 0 && self.waiting.is_empty() && self.fills.is_empty() && self.clients.iter().all(idle)
    }

    /// What the cache has is what the server has, and the server will say when it changes.
    pub(super) fn must_converge(&mut self, db: usize, key: usize) {
        let (query, sight) = (self.query(key, db), self.cache.sight(self.now));
        let mut out = Vec::new();
        let held = self.cache.peek(&query, &sight, Instant::ZERO, Version::V3, &mut out);
        if held.is_some() {
            assert_eq!(number(&out), self.redis.value(db, key), "{}", NAMES[key]);
            assert!(self.redis.table[key], "nobody would say that {} changed", NAMES[key]);
        }
        let flights = self.cache.report(NAMES[key].as_bytes(), self.now);
        assert_eq!(flights.map_or(0, |report| report.flights), 0, "a flight was leaked");
    }
}
