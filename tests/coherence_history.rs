//! Histories: many clients and foreign writers at once, and what may never be read whatever the timing.

mod coherence_support;
mod support;

use coherence_support::{Bench, MODES, PROTOCOLS, Protocol, run, server_for};
use nearhit::time::{self, Instant};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use support::{Reply, Resp};

/// Values are numbers that only grow; a key that is not there has version 0, which GETRANGE says with an empty string.
fn version(reply: &Reply) -> u64 {
    match reply.is_nil() || *reply == "" {
        true => 0,
        false => reply.text().parse().expect("a version"),
    }
}

fn until(end: Instant) -> impl Fn() -> bool {
    move || time::now() < end
}

/// A server-side pause, so that there are calm times in which entries can be read.
fn rest(direct: &mut Resp, seconds: &str) {
    assert!(direct.cmd(&["BLPOP", "nosuchlist", seconds]).is_nil());
}

/// Writes two keys together, in bursts of five.
fn write_pairs(writer: &mut Resp, running: &impl Fn() -> bool) {
    for number in (1..).take_while(|_| running()) {
        let value = number.to_string();
        writer.cmd(&["MSET", "a", &value, "b", &value]);
        if number % 5 == 0 {
            rest(writer, "0.005");
        }
    }
}

#[test]
fn values_written_together_are_read_together() {
    for mode in MODES {
        let bench = Bench::always(mode);
        run(&mut bench.direct(Protocol::Resp2), "MSET a 0 b 0");
        let running = until(time::now().after(Duration::from_secs(3)));
        let read = |mut client: Resp, single: bool| {
            let mut last = 0;
            while running() {
                let pair = client.cmd(&["MGET", "a", "b"]).items();
                assert_eq!(version(&pair[0]), version(&pair[1]), "a torn pair in {mode}");
                assert!(version(&pair[0]) >= last, "{pair:?} after {last} in {mode}");
                last = version(&pair[0]);
                if single {
                    let now = version(&client.cmd(&["GET", "b"]));
                    assert!(now >= last, "{now} after {last} in {mode}");
                    last = now;
                }
            }
            last
        };
        std::thread::scope(|scope| {
            let mut writer = bench.direct(Protocol::Resp2);
            let running = &running;
            scope.spawn(move || write_pairs(&mut writer, running));
            let readers: Vec<_> = (0..4)
                .map(|number| {
                    let client = bench.client(PROTOCOLS[number % 2]);
                    scope.spawn(move || read(client, number < 2))
                })
                .collect();
            for reader in readers {
                assert!(reader.join().expect("a reader") > 10);
            }
        });
    }
}

#[test]
fn a_pair_that_stays_is_read_from_memory() {
    let bench = Bench::always("tracking");
    for protocol in PROTOCOLS {
        let (mut client, mut direct) = (bench.client(protocol), bench.direct(protocol));
        run(&mut direct, "MSET a 1 b 2");
        bench.converges(&mut client, &mut direct, "MGET a b nosuch");
        bench.read_from_memory(&mut client, "MGET a b nosuch");
        let (mget, get) = (bench.calls("mget"), bench.calls("get"));
        for _ in 0..10 {
            let values = client.cmd(&["MGET", "a", "b"]).items();
            assert_eq!((version(&values[0]), version(&values[1])), (1, 2));
        }
        assert_eq!(
            (bench.calls("mget"), bench.calls("get")),
            (mget, get),
            "not from memory"
        );
        // One of them changes: the whole is asked of the server.
        run(&mut direct, "SET b 3");
        bench.converges(&mut client, &mut direct, "MGET a b nosuch");
        assert!(bench.calls("mget") > mget);
        run(&mut direct, "DEL a b");
    }
}

/// A proof that the stream is up to date must be asked for after the reply it is to be newer than. It was asked for with
/// each read, before its reply: a client that read pairs without a pause was never answered from memory.
#[test]
fn a_pair_read_without_a_pause_is_soon_read_from_memory() {
    for mode in MODES {
        let bench = Bench::always(mode);
        let (mut client, mut direct) = (bench.client(Protocol::Resp2), bench.direct(Protocol::Resp2));
        for round in 0..5 {
            run(&mut direct, &format!("MSET a {round} b {round}"));
            bench.converges(&mut client, &mut direct, "MGET a b");
            let hits = bench.hits();
            (0..1000).for_each(|_| drop(client.cmd(&["MGET", "a", "b"])));
            let hits = bench.hits() - hits;
            assert!(hits >= 500.0, "{hits} hits of 1000 reads in {mode}");
        }
    }
}

/// Small and seeded: a failure can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

const KEYS: [&str; 5] = ["v:0", "v:1", "v:2", "v:3", "v:4"];

/// What everybody knows about a key.
#[derive(Default)]
struct Known {
    /// The newest version acknowledged to a client of the proxy.
    through_proxy: AtomicU64,
    /// The time each version was acknowledged to whoever wrote it; the index is the version.
    acked_at: parking_lot::Mutex<Vec<Option<Instant>>>,
}

impl Known {
    fn acked(&self, version: u64, at: Instant) {
        let mut acked = self.acked_at.lock();
        let index = usize::try_from(version).expect("a small number");
        if acked.len() <= index {
            acked.resize(index + 1, None);
        }
        acked[index] = Some(at);
    }

    /// For how long a newer version had been acknowledged when a read of `version` began.
    fn staleness(&self, version: u64, begun: Instant) -> Duration {
        let acked = self.acked_at.lock();
        let newer = acked.iter().skip(usize::try_from(version).expect("a small number") + 1);
        newer.flatten().map(|at| begun.since(*at)).max().unwrap_or_default()
    }
}

/// One client of the proxy: what it has seen of each key.
struct Observer<'a> {
    client: Resp,
    random: Random,
    known: &'a [Known; KEYS.len()],
    by_age: bool,
    seen: [u64; KEYS.len()],
    worst: Duration,
    reads: u64,
}

/// What a request of a packet was, and what was true when it was sent.
enum Asked {
    Read { key: usize, floor: u64 },
    Write { key: usize },
}

impl Observer<'_> {
    /// Sends one to eight requests in one packet, and holds every reply against what must be true.
    fn turn(&mut self) {
        let count = if self.random.below(2) == 0 {
            1
        } else {
            1 + self.random.below(8)
        };
        let (mut asked, mut packet) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let key = usize::try_from(self.random.below(KEYS.len() as u64)).expect("an index");
            let (request, command) = self.some_request(key);
            packet.push(command);
            asked.push(request);
        }
        let begun = time::now();
        for (request, reply) in asked.iter().zip(self.client.pipeline(&packet)) {
            match *request {
                Asked::Write { key } => self.wrote(key, u64::try_from(reply.int()).expect("a version")),
                Asked::Read { key, floor } => self.read(key, version(&reply), floor, begun),
            }
        }
    }

    fn some_request(&mut self, key: usize) -> (Asked, Vec<String>) {
        let words = |line: String| coherence_support::words(&line);
        let name = KEYS[key];
        match self.random.below(100) {
            0..5 => (Asked::Write { key }, words(format!("INCR {name}"))),
            5..7 => (
                Asked::Write { key },
                words(format!("EVAL 'return redis.call(\"INCR\", KEYS[1])' 1 {name}")),
            ),
            7..9 => (
                Asked::Write { key },
                words(format!("EVAL 'return redis.call(\"INCR\", ARGV[1])' 0 {name}")),
            ),
            // Where entries live by age, only answers of one command are in order.
            9..20 if !self.by_age => (self.reading(key), words(format!("GETRANGE {name} 0 -1"))),
            _ => (self.reading(key), words(format!("GET {name}"))),
        }
    }

    fn reading(&self, key: usize) -> Asked {
        // Acquire: what was acknowledged before this read is sent must be seen by it.
        let floor = self.known[key].through_proxy.load(Ordering::Acquire);
        Asked::Read { key, floor }
    }

    fn wrote(&mut self, key: usize, version: u64) {
        assert!(
            version > self.seen[key],
            "{} went back: wrote {version} after {}",
            KEYS[key],
            self.seen[key]
        );
        self.seen[key] = version;
        self.known[key].acked(version, time::now());
    }

    fn read(&mut self, key: usize, version: u64, floor: u64, begun: Instant) {
        let (name, seen) = (KEYS[key], self.seen[key]);
        assert!(version >= seen, "{name} went back: {version} after {seen}");
        assert!(
            version >= floor,
            "{name} is {version}, but {floor} was acknowledged through the proxy before"
        );
        let stale = self.known[key].staleness(version, begun);
        assert!(
            stale <= Duration::from_millis(1050),
            "{name} is {version}: stale for {stale:?}"
        );
        self.worst = self.worst.max(stale);
        self.seen[key] = version;
        self.reads += 1;
    }
}

/// Increments keys directly until told to stop, in bursts.
fn foreign_writer(mut direct: Resp, mut random: Random, known: &[Known; KEYS.len()], stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..random.below(10) {
            let key = usize::try_from(random.below(KEYS.len() as u64)).expect("an index");
            let version = direct.cmd(&["INCR", KEYS[key]]).int();
            known[key].acked(u64::try_from(version).expect("a version"), time::now());
        }
        rest(&mut direct, "0.004");
    }
}

/// Increments keys through the proxy, declared, and says so when it was acknowledged.
fn proxy_writer(mut client: Resp, mut random: Random, known: &[Known; KEYS.len()], stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let key = usize::try_from(random.below(KEYS.len() as u64)).expect("an index");
        let version = u64::try_from(client.cmd(&["INCR", KEYS[key]]).int()).expect("a version");
        known[key].acked(version, time::now());
        known[key].through_proxy.fetch_max(version, Ordering::Release);
        rest(&mut client, "0.003");
    }
}

fn history(mode: &str, seed: u64) {
    // All keys are written so often that they would be barred.
    let mut args = vec!["--cache.admission", "always"];
    if mode == "ttl" {
        args.extend(["--invalidation.fallback-ttl", "500ms"]);
    }
    let bench = Bench::new(server_for(mode), mode, &args);
    let known: [Known; KEYS.len()] = Default::default();
    let stop = AtomicBool::new(false);
    let random = |number: u64| Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number + 1));
    let running = until(time::now().after(Duration::from_secs(3)));
    let (mut worst, mut reads) = (Duration::ZERO, 0);
    std::thread::scope(|scope| {
        let (known, stop) = (&known, &stop);
        for number in 0..2 {
            let (direct, client) = (bench.direct(Protocol::Resp2), bench.client(Protocol::Resp3));
            scope.spawn(move || foreign_writer(direct, random(100 + number), known, stop));
            scope.spawn(move || proxy_writer(client, random(200 + number), known, stop));
        }
        let observers: Vec<_> = (0..6_u8)
            .map(|number| {
                let client = bench.client(PROTOCOLS[usize::from(number % 2)]);
                let mut observer = Observer {
                    client,
                    random: random(number.into()),
                    known,
                    by_age: mode == "ttl",
                    seen: [0; KEYS.len()],
                    worst: Duration::ZERO,
                    reads: 0,
                };
                let running = &running;
                scope.spawn(move || {
                    while running() {
                        observer.turn();
                    }
                    (observer.worst, observer.reads)
                })
            })
            .collect();
        let ends: Vec<_> = observers.into_iter().map(|observer| observer.join()).collect();
        stop.store(true, Ordering::Relaxed);
        for end in ends {
            let (stale, count) = end.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            worst = worst.max(stale);
            reads += count;
        }
    });
    let hits = bench.hits();
    println!("{mode}, seed {seed}: {reads} reads, {hits} hits, stale for {worst:?} at most");
    assert!(
        hits > reads as f64 / 20.0,
        "{hits} hits of {reads} reads: this tests little"
    );
}

#[test]
fn no_client_ever_goes_back_in_time() {
    history("tracking", 1);
}

#[test]
fn no_client_ever_goes_back_in_time_when_redirected() {
    history("redirect", 2);
}

#[test]
fn no_client_ever_goes_back_in_time_when_prefixes_are_tracked() {
    history("broadcast", 3);
}

#[test]
fn no_client_ever_goes_back_in_time_when_notifications_tell() {
    history("keyspace", 4);
}

#[test]
fn no_client_ever_goes_back_in_time_when_entries_live_by_age() {
    history("ttl", 5);
}
