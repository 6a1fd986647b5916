//! The production near-cache, tracked connection and session rules against a model of Redis, under a seeded scheduler that
//! does one thing of one party at a time and delivers bytes in pieces. A seed makes the same run every time.
//!
//! `redis` is the server, `world` the scheduler and the tracked connection, `clients` the sessions; `witness` says what
//! each answer may be, `registered` what must hold inside. `directed` does what chance seldom does; `matrix` shows that
//! mistakes are found.

mod clients;
mod directed;
mod losses;
#[cfg(feature = "mutants")]
mod matrix;
mod redis;
mod registered;
mod wishes;
mod witness;
mod world;

use std::cell::Cell;
use std::sync::atomic::Ordering;

use self::redis::{ALL, DBS, NAMES, Op, PerKey};
use self::world::World;
use super::*;
use crate::coherence::lookup::Verdict;

/// The staleness bound of the runs.
const BOUND: Duration = millis(60);

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Cache,
    Fetch,
    Home,
}

/// One command of one client, and what was known when it was asked.
#[derive(Clone, Copy, Debug)]
struct Asked {
    op: Op,
    client: usize,
    /// Its place in the client's order.
    issue: u64,
    invoked: Instant,
    /// The state every key was in, as far as writes through the proxy had been acknowledged.
    acked: PerKey<usize>,
    /// On a connection of the client's own.
    pinned: bool,
}

thread_local! {
    /// How far the run has come: to be read when it has failed.
    static STEP: Cell<usize> = const { Cell::new(0) };
}

/// What a run is like.
#[derive(Clone, Copy, Debug)]
struct Setup {
    seed: u64,
    steps: usize,
    /// Invalidations come on another connection.
    redirect: bool,
    /// What only the inside shows is checked, too.
    white: bool,
}

/// What the runs did, summed: a test in which nothing was hit, joined, killed or lost tests nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Deeds {
    steps: u64,
    hits: u64,
    waits: u64,
    both: u64,
    homes: u64,
    lapses: u64,
    races: u64,
    fences: u64,
    swaps: u64,
    aborts: u64,
    zombies: u64,
}

impl Deeds {
    fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.hits += other.hits;
        self.waits += other.waits;
        self.both += other.both;
        self.homes += other.homes;
        self.lapses += other.lapses;
        self.races += other.races;
        self.fences += other.fences;
        self.swaps += other.swaps;
        self.aborts += other.aborts;
        self.zombies += other.zombies;
    }
}

/// The version a reply stands for; `None`: no such key. Nothing else may be answered, in no protocol.
fn version_in(op: Op, reply: &[u8], protocol: Version) -> Option<u64> {
    let text = std::str::from_utf8(reply).unwrap_or_default();
    let version = match (op, protocol) {
        (Op::Strlen(_), _) => text
            .strip_prefix(':')
            .map(|digits| Some(digits).filter(|digits| *digits != "0\r\n")),
        (_, Version::V3) if text == "_\r\n" => Some(None),
        (_, Version::V2) if text == "$-1\r\n" => Some(None),
        _ => text
            .strip_prefix('$')
            .and_then(|rest| rest.split_once("\r\n"))
            .map(|(_, digits)| Some(digits)),
    };
    let version = version.map(|digits| digits.map(|digits| digits.trim_end().parse()));
    match version {
        Some(None) => None,
        Some(Some(Ok(version))) => Some(version),
        _ => panic!("I9 protocol: {op:?} was answered {text:?} in {protocol:?}"),
    }
}

/// Runs one seed; gives the trace's hash.
fn run(setup: Setup, deeds: &mut Deeds) -> u64 {
    let mut world = World::new(setup);
    for step in 0..setup.steps {
        STEP.set(step);
        world.step();
    }
    world.settle_down();
    for (db, key) in (0..DBS).flat_map(|db| (0..NAMES.len()).map(move |key| (db, key))) {
        world.must_converge(db, key);
    }
    validate(&world.cache);
    deeds.add(&world.deeds());
    world.trace()
}

/// The number in an environment variable, or `usual`.
fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().unwrap())
}

/// `NEARHIT_SEEDS` runs of `NEARHIT_STEPS` steps, from seed `NEARHIT_SEED` on.
fn run_all(redirect: bool) {
    let (first, seeds) = (number("NEARHIT_SEED", 0), number("NEARHIT_SEEDS", 300));
    let steps = usize::try_from(number("NEARHIT_STEPS", 6000)).unwrap();
    let began = crate::time::now();
    let mut deeds = Deeds::default();
    for seed in first..first + seeds {
        let setup = Setup {
            seed,
            steps,
            redirect,
            white: true,
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(setup, &mut deeds)));
        assert!(outcome.is_ok(), "seed {seed}, redirect {redirect}");
    }
    let seconds = crate::time::now().since(began).as_secs_f64();
    println!(
        "{seeds} seeds, redirect {redirect}: {:.0} steps/s\n{deeds:?}",
        deeds.steps as f64 / seconds
    );
    if seeds < 100 {
        return;
    }
    let Deeds {
        hits,
        waits,
        both,
        homes,
        ..
    } = deeds;
    assert!(hits > 3000 && waits > 1000 && both > 50 && homes > 1000, "{deeds:?}");
    assert!(
        deeds.lapses > 200 && deeds.races > 200 && deeds.fences > 100,
        "{deeds:?}"
    );
    assert!(
        deeds.swaps > 100 && deeds.aborts > 50 && deeds.zombies > 100,
        "{deeds:?}"
    );
}

#[test]
fn every_read_is_true_and_in_order_whatever_happens() {
    run_all(false);
}

#[test]
fn every_read_is_true_and_in_order_when_invalidations_come_on_another_connection() {
    run_all(true);
}

#[test]
fn a_seed_makes_the_same_run_every_time_and_another_seed_another() {
    let trace = |seed, redirect| {
        let setup = Setup {
            seed,
            steps: 6000,
            redirect,
            white: true,
        };
        run(setup, &mut Deeds::default())
    };
    for redirect in [false, true] {
        for seed in 0..20 {
            assert_eq!(trace(seed, redirect), trace(seed, redirect), "seed {seed}");
            assert_ne!(trace(seed, redirect), trace(seed + 1, redirect), "seed {seed}");
        }
    }
}
