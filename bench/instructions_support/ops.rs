//! What is counted: each operation so many times, in a process of its own that runs under valgrind.
//!
//! The paths of a session are real ones: a whole proxy in this process, one stream, 16 requests at a time, a redis-server
//! that is no part of the count. Of such a process only the thread counts that does nearhit's work.

use std::fs;
use std::hint::black_box;
use std::time::Duration;

use nearhit::Proxy;
use nearhit::config::{Admission, CacheMode, Config, UpstreamUrl};
use nearhit::load::{self, Load, Order, Pace, Picker, Player, Script, Until};
use nearhit::metrics::LatencyArray;
use nearhit::resp::{RequestLimits, RequestScan, RequestScanner};

use crate::harness::{eventually, wait_for};

/// How many requests of a stream stand in one write.
const PIPELINE: usize = 16;
/// Under valgrind everything is fifty times slower.
const SLOW: Duration = Duration::from_secs(60);
const KEYS: u32 = 1_000;
/// Keys that are filled before some of them are invalidated.
const FILLED: u32 = 20_000;

/// One of the hot paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Scan,
    Hit,
    PassedOn,
    Set,
    Fill,
    Invalidate,
    Record,
}

/// The thread that does an operation's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thread {
    Main,
    Worker,
    Tracking,
}

impl Op {
    pub(crate) const ALL: [Self; 7] = [
        Self::Scan,
        Self::Hit,
        Self::PassedOn,
        Self::Set,
        Self::Fill,
        Self::Invalidate,
        Self::Record,
    ];

    /// Its name in the baseline.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Hit => "hit",
            Self::PassedOn => "passed_on",
            Self::Set => "set",
            Self::Fill => "fill",
            Self::Invalidate => "invalidate",
            Self::Record => "record",
        }
    }

    /// What is counted, for people.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Scan => "scan a GET, 16 in a buffer",
            Self::Hit => "GET from memory, pipeline 16, worker",
            Self::PassedOn => "GET passed on, pipeline 16, worker",
            Self::Set => "SET of a cached key, pipeline 16, worker",
            Self::Fill => "store a fetched reply, tracking thread",
            Self::Invalidate => "drop a key that changed, tracking thread",
            Self::Record => "record one latency",
        }
    }

    /// How often it is done: less, and more. The difference is what counts, so that starting costs nothing.
    pub(crate) fn counts(self) -> (u64, u64) {
        match self {
            Self::Scan | Self::Record => (160_000, 480_000),
            Self::Hit => (32_000, 96_000),
            Self::PassedOn | Self::Set => (16_000, 48_000),
            Self::Fill | Self::Invalidate => (4_000, 20_000),
        }
    }

    pub(crate) fn thread(self) -> Thread {
        match self {
            Self::Scan | Self::Record => Thread::Main,
            Self::Hit | Self::PassedOn | Self::Set => Thread::Worker,
            Self::Fill | Self::Invalidate => Thread::Tracking,
        }
    }

    /// Does it, in the process that is counted.
    pub(crate) fn run(self, count: u64, upstream: &UpstreamUrl) -> Result<(), String> {
        match self {
            Self::Scan => scan(count),
            Self::Record => record(count),
            Self::Hit => session(upstream, count, 0, |_| ()).and_then(|hits| all_of(hits, count)),
            Self::PassedOn => session(upstream, count, 0, |config| config.cache.mode = CacheMode::Off).map(drop),
            Self::Set => session(upstream, count, 1000, |_| ()).map(drop),
            Self::Fill => fill(upstream, count, 0),
            Self::Invalidate => fill(upstream, FILLED.into(), count),
        }
    }
}

fn scan(count: u64) -> Result<(), String> {
    let script = Script::new("key:", KEYS, 64);
    let mut picker = Picker::new(&Order::Uniform, KEYS, 0, 1);
    let mut buffer = Vec::new();
    for _ in 0..PIPELINE {
        script.append_request(picker.pick(), &mut buffer);
    }
    let mut scanner = RequestScanner::new(RequestLimits::default());
    for _ in 0..count / PIPELINE as u64 {
        let mut rest = black_box(buffer.as_slice());
        while !rest.is_empty() {
            let RequestScan::Complete { consumed } = scanner.scan(rest).map_err(|error| format!("{error:?}"))? else {
                return Err("a request is not whole".to_owned());
            };
            black_box(scanner.request(&rest[..consumed]).name());
            rest = &rest[consumed..];
            scanner.reset();
        }
    }
    Ok(())
}

fn record(count: u64) -> Result<(), String> {
    let latencies = LatencyArray::default();
    for number in 0..count {
        latencies.record(black_box(1_000 + number % 65_536));
    }
    black_box(&latencies);
    Ok(())
}

/// So many requests on one stream, of which some of a thousand are SETs, after every key was read a few times; how many
/// of them were answered from memory.
fn session(upstream: &UpstreamUrl, count: u64, sets: u32, set: impl FnOnce(&mut Config)) -> Result<u64, String> {
    let script = Script::new("key:", KEYS, 64);
    write(upstream, &script, script.keys().into())?;
    let proxy = start(upstream, set)?;
    let hits = || proxy.cache().stats().hits;
    let before = runtime()?.block_on(async {
        let reads = Picker::new(&Order::InTurn, KEYS, 0, 1);
        let mut player = Player::new(proxy.connect(), script, reads, PIPELINE);
        player.play(u64::from(KEYS) * 4).await?;
        let before = hits();
        player.pick_from(Picker::new(&Order::Uniform, KEYS, sets, 1));
        player.play(count).await?;
        Ok(before)
    });
    let before = before.map_err(|error: nearhit::error::Error| error.to_string())?;
    tell_threads()?;
    Ok(hits() - before)
}

/// What is counted as a hit must be one.
fn all_of(hits: u64, count: u64) -> Result<(), String> {
    match hits * 100 >= count * 99 {
        true => Ok(()),
        false => Err(format!("{hits} of {count} requests were hits")),
    }
}

/// Reads so many keys into the near-cache, then changes some of them behind its back.
fn fill(upstream: &UpstreamUrl, count: u64, changed: u64) -> Result<(), String> {
    let script = Script::new("key:", FILLED, 64);
    write(upstream, &script, FILLED.into())?;
    let proxy = start(upstream, |config| config.cache.admission = Admission::Always)?;
    let reads = Picker::new(&Order::InTurn, FILLED, 0, 1);
    let mut player = Player::new(proxy.connect(), script.clone(), reads, PIPELINE);
    let played = runtime()?.block_on(player.play(count));
    played.map_err(|error| error.to_string())?;
    let stored = eventually(SLOW, || proxy.cache().stats().entries as u64 >= count);
    if !stored {
        return Err(format!(
            "not all of {count} replies are stored: {:?}",
            proxy.cache().stats()
        ));
    }
    write(upstream, &script, changed)?;
    wait_for("all changes to be told", SLOW, || {
        proxy.cache().stats().invalidations >= changed
    });
    tell_threads()
}

/// A proxy with one worker that does little beside what it is asked for.
fn start(upstream: &UpstreamUrl, set: impl FnOnce(&mut Config)) -> Result<Proxy, String> {
    let mut config = Config::default();
    config.server.listen.clear();
    config.server.threads = 1;
    config.metrics.listen = None;
    // Nothing may seem stale or late because valgrind is slow.
    config.invalidation.max_staleness = Duration::from_secs(600);
    config.cache.max_entry_ttl = Duration::ZERO;
    config.upstream.command_timeout = Duration::from_secs(600);
    set(&mut config);
    let tracks = config.cache.mode != CacheMode::Off;
    config.upstream.url = upstream.clone();
    let proxy = runtime()?
        .block_on(Proxy::builder().config(config).start())
        .map_err(|error| error.to_string())?;
    wait_for("tracking", SLOW, || !tracks || proxy.cache().stats().tracking);
    Ok(proxy)
}

/// Writes the first keys at the server itself.
fn write(upstream: &UpstreamUrl, script: &Script, count: u64) -> Result<(), String> {
    let picker = Picker::new(&Order::InTurn, script.keys(), 1000, 1);
    let text = |error: nearhit::error::Error| error.to_string();
    let mut load = Load::open(upstream, script, picker, 1).map_err(text)?;
    let all = Until::Requests(count);
    let done: load::Done = load.run(Pace::Closed { pipeline: 100 }, all, false).map_err(text)?;
    black_box(done.requests());
    Ok(())
}

/// Prints the name of each thread in the order in which they began: valgrind numbers them so.
fn tell_threads() -> Result<(), String> {
    let mut threads = Vec::new();
    let tasks = fs::read_dir("/proc/self/task").map_err(|error| format!("read /proc/self/task: {error}"))?;
    for task in tasks.flatten() {
        let id: u32 = task.file_name().to_string_lossy().parse().unwrap_or(0);
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        threads.push((id, name.trim().to_owned()));
    }
    threads.sort();
    for (_, name) in threads {
        println!("thread {name}");
    }
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("start a runtime: {error}"))
}
