//! The bound on memory, eviction and the sweep, under directed and random load.

use super::*;

#[test]
fn the_slot_served_longest_ago_leaves_first_and_the_bound_holds() {
    let limits = Limits {
        max_bytes: 300_000,
        max_entry: 10_000,
        ..eager()
    };
    let mut bench = Bench::with(limits, Policies::default());
    let names: Vec<&'static str> = (0..500).map(|at| &*format!("key-{at}").leak()).collect();
    let reply = format!("$2000\r\n{}\r\n", "x".repeat(2000));
    bench.fill_of(Read::of("hot"), &reply, -1);
    for name in names {
        bench.fill_of(Read::of(name), &reply, -1);
        assert!(bench.cache.totals().bytes <= 300_000);
        // Evictions go round the shards, so that it stands out only if it is served again and again.
        bench.get("hot");
        bench.server_answers_all(&reply);
    }
    let totals = bench.cache.totals();
    assert!(totals.entries > 50 && totals.entries < 150, "{totals:?}");
    bench.validate();
}

impl Bench {
    /// Answers every fetch that was begun with `reply`.
    fn server_answers_all(&mut self, reply: &str) {
        while self.flights("hot") > 0 {
            self.server(format!("+OK\r\n{reply}:-1\r\n"));
        }
        self.sent.clear();
    }
}

#[test]
fn an_entry_larger_than_the_cache_is_not_stored_and_evicts_nothing() {
    let limits = Limits {
        max_bytes: 5000,
        max_entry: 100_000,
        ..eager()
    };
    let mut bench = Bench::with(limits, Policies::default());
    bench.fill_of(Read::of("small"), "$1\r\nv\r\n", -1);
    bench.fill(&format!("$6000\r\n{}\r\n", "x".repeat(6000)), -1);
    assert_eq!(bench.entries(), 1);
    assert_eq!(bench.get("small"), hit("$1\r\nv\r\n"));
    bench.validate();
}

#[test]
fn eviction_while_a_fetch_is_on_its_way_neither_loses_nor_revokes_it() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    bench.pass(millis(2000));
    assert_eq!(bench.get("k"), Seen::Lead(2));
    for index in 0..bench.cache.shard_count() {
        while bench.cache.lock_at(index).evict().is_some() {}
    }
    assert_eq!((bench.entries(), bench.flights("k")), (0, 1));
    bench.server("+OK\r\n$1\r\nw\r\n:-1\r\n");
    assert_eq!(bench.get("k"), hit("$1\r\nw\r\n"));
    bench.validate();
}

#[test]
fn the_sweep_gives_back_what_can_never_be_served_and_nothing_else() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", 10);
    bench.fill_of(Read::of("stays"), "$1\r\nv\r\n", -1);
    bench.pass(millis(5000));
    bench.get("l");
    bench.cache.sweep(bench.now);
    assert_eq!((bench.entries(), bench.flights("l")), (1, 1));
    bench.cache.flush_by_command();
    bench.cache.sweep(bench.now);
    assert_eq!((bench.entries(), bench.flights("l")), (0, 1));
    bench.reconnect();
    assert_eq!(bench.cache.totals(), super::super::Totals::default());
    bench.validate();
}

#[test]
fn a_refetched_reply_replaces_the_old_one_and_its_weight() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    let before = bench.cache.totals().bytes;
    for _ in 0..3 {
        bench.pass(millis(2000));
        bench.fill("$1\r\nw\r\n", -1);
    }
    assert_eq!((bench.entries(), bench.cache.totals().bytes), (1, before));
    bench.validate();
}

/// What random operations do; replies come in order, some time later.
struct Storm {
    bench: Bench,
    random: Random,
    fetches: usize,
    /// The oldest fetch has its reply, but not its PTTL.
    halfway: bool,
    asked: u32,
    answered: Vec<u32>,
}

const NAMES: [&str; 24] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w",
    "x",
];
const STORM_BYTES: u64 = 20_000;

impl Storm {
    fn step(&mut self) {
        let name = NAMES[self.random.below(NAMES.len())];
        let hash = self.bench.cache.hash(name.as_bytes());
        match self.random.below(40) {
            0..16 => self.read(name),
            16..28 => self.reply(),
            28..30 => self.bench.cache.kill(hash),
            30..32 => self
                .bench
                .server(format!(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\n{name}\r\n")),
            32 => drop(self.bench.cache.saw(hash, self.bench.now)),
            33 => self.bench.cache.sweep(self.bench.now),
            34 => drop(self.bench.cache.flush_matching(|held| held == name.as_bytes())),
            35 if self.random.one_in(4) => self.bench.cache.flush_by_command(),
            36 if self.random.one_in(4) => {
                self.bench.reconnect();
                (self.fetches, self.halfway) = (0, false);
            }
            37 => self.ping_answered(),
            _ => self.bench.pass(millis(self.random.next() % 400)),
        }
        self.answered
            .extend(self.bench.given.0.drain(..).map(|(waiter, _)| waiter));
    }

    fn read(&mut self, name: &'static str) {
        let command = [GET, STRLEN, HGET][self.random.below(3)];
        let seen = self.bench.read(Read::of(name).command(command, Shape::Generic));
        match seen {
            Seen::Lead(_) => self.fetches += 1,
            Seen::Wait(_) => {}
            Seen::Hit(_) | Seen::Bypass(_) => return,
        }
        self.asked += 1;
    }

    fn reply(&mut self) {
        if self.fetches == 0 {
            return;
        }
        if std::mem::take(&mut self.halfway) {
            self.fetches -= 1;
            let pttl = [-2, -1, 0, 5, 500][self.random.below(5)];
            return self.bench.server(format!(":{pttl}\r\n"));
        }
        self.halfway = true;
        let size = [1, 100, 2500, 3500, 70_000][self.random.below(5)];
        let body = "x".repeat(size);
        self.bench.server(match self.random.below(4) {
            0 => "+OK\r\n_\r\n".to_string(),
            1 => format!("+OK\r\n*1\r\n${size}\r\n{body}\r\n"),
            2 => "+OK\r\n-ERR no\r\n".to_string(),
            _ => format!("+OK\r\n${size}\r\n{body}\r\n"),
        });
    }

    /// A PING is answered behind all fetches that were begun.
    fn ping_answered(&mut self) {
        while self.fetches > 0 {
            self.reply();
        }
        self.bench.ping();
        self.bench.server("+PONG\r\n");
    }
}

#[test]
fn no_byte_slot_or_waiter_is_lost_or_counted_twice_under_random_load() {
    for seed in 0..60 {
        let limits = Limits {
            max_bytes: STORM_BYTES,
            max_entry: 3000,
            ..eager()
        };
        let mut storm = Storm {
            bench: Bench::with(limits, Policies::default()),
            random: Random(seed),
            fetches: 0,
            halfway: false,
            asked: 0,
            answered: Vec::new(),
        };
        for _ in 0..600 {
            storm.step();
            let totals = storm.bench.cache.totals();
            // Slots of fetches on their way have no entry yet and are not made room for.
            let slots = 300 * storm.fetches as u64;
            assert!(totals.bytes <= STORM_BYTES + slots, "seed {seed}: {totals:?}");
            storm.bench.validate();
        }
        storm.bench.reconnect();
        storm
            .answered
            .extend(storm.bench.given.0.drain(..).map(|(waiter, _)| waiter));
        let answers = storm.answered.len();
        storm.answered.sort_unstable();
        storm.answered.dedup();
        assert_eq!(
            (answers, storm.answered.len()),
            (storm.asked as usize, answers),
            "seed {seed}"
        );
        storm.bench.cache.sweep(storm.bench.now);
        assert_eq!(
            storm.bench.cache.totals(),
            super::super::Totals::default(),
            "seed {seed}"
        );
    }
}
