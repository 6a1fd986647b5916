//! The production near-cache, tracked connection and session rules against a model of Redis, under a seeded scheduler that
//! does one thing of one party at a time and delivers bytes in pieces. What each read may return follows from the history
//! of the key; `world` runs the parties, this file says what must hold.

use super::redis::{DBS, NAMES, Op, PerKey, Redis, State};
use super::world::World;
use super::*;

/// The staleness bound of the runs.
pub(super) const BOUND: Duration = millis(60);

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Cache,
    Fetch,
    Home,
}

/// One command of one client, and what was known when it was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) op: Op,
    pub(super) client: usize,
    /// Its place in the client's order.
    pub(super) issue: u64,
    pub(super) invoked: Instant,
    /// The state every key was in, as far as writes through the proxy had been acknowledged.
    pub(super) acked: PerKey<usize>,
}

/// What one client has seen and done.
#[derive(Default)]
pub(super) struct Witness {
    /// The newest state of every key that the client has seen or made.
    pub(super) seen: PerKey<usize>,
    /// Its executed writes: place in the client's order, key, and the state it made.
    pub(super) writes: Vec<(u64, usize, usize)>,
    /// Its reads: place in the client's order, key, and the newest state it can have been.
    reads: Vec<(u64, usize, usize)>,
}

impl Witness {
    /// The states of the client's `key` that a read may return.
    ///
    /// Validity: it had the value. Bounded staleness: it had it at some time since `invoked - BOUND` (for a cached reply
    /// not beyond its expiry either; for a reply of the client's own connection since `invoked`). Read-your-writes and
    /// monotonic reads: not before what the client has seen. Visibility: not before what was acknowledged to anybody.
    /// Order: not behind a write that the client asked for later.
    pub(super) fn admissible<'h>(
        &self,
        asked: &Asked,
        key: usize,
        value: Option<u64>,
        source: Source,
        history: &'h PerKey<Vec<State>>,
        db: usize,
    ) -> impl Iterator<Item = usize> + use<'h> {
        let states = &history[db][key];
        let floor = self.seen[db][key].max(asked.acked[db][key]);
        let later = self
            .writes
            .iter()
            .filter(|write| write.0 > asked.issue && write.1 == key);
        let below = later.map(|write| write.2).min().unwrap_or(states.len());
        let since = match source {
            Source::Home => asked.invoked,
            _ => Instant::from_nanos(asked.invoked.as_nanos() - u64::try_from(BOUND.as_nanos()).unwrap()),
        };
        let invoked = asked.invoked;
        (floor..below).filter(move |&index| {
            let current = states.get(index + 1).is_none_or(|next| {
                next.from >= since && !(source == Source::Cache && next.expiry && next.from <= invoked)
            });
            states[index].value == value && current
        })
    }

    pub(super) fn read(
        &mut self,
        asked: &Asked,
        key: usize,
        value: Option<u64>,
        source: Source,
        redis: &Redis,
        db: usize,
    ) {
        let mut admissible = self.admissible(asked, key, value, source, &redis.history, db);
        let (first, last) = (admissible.next(), admissible.last());
        let Some(index) = first else {
            let states = &redis.history[db][key];
            let recent = &states[states.len().saturating_sub(8)..];
            let writes = &self.writes[self.writes.len().saturating_sub(4)..];
            panic!(
                "{source:?} gave {value:?}, seen {}, of {}: {asked:?}\n{recent:?}\n{writes:?}",
                self.seen[db][key],
                states.len() - 1
            );
        };
        self.seen[db][key] = index;
        self.reads.push((asked.issue, key, last.unwrap_or(index)));
    }

    /// The client's command was acknowledged and had put `key` into state `at`: no read asked for behind it, in the same
    /// pipeline, may have been answered with an older one.
    pub(super) fn made(&mut self, asked: &Asked, key: usize, at: usize, db: usize) {
        let overtook = self
            .reads
            .iter()
            .find(|read| read.0 > asked.issue && read.1 == key && read.2 < at);
        assert!(
            overtook.is_none(),
            "a read {overtook:?} overtook {asked:?}, which made {at}"
        );
        self.seen[db][key] = self.seen[db][key].max(at);
    }

    /// Two values that were read together must have been current together.
    pub(super) fn read_both(&mut self, asked: &Asked, values: [Option<u64>; 2], redis: &Redis, db: usize) {
        let [first, second] = [0, 1].map(|key| {
            self.admissible(asked, key, values[key], Source::Cache, &redis.history, db)
                .map(|index| span(&redis.history[db][key], index))
                .collect::<Vec<_>>()
        });
        let together = first.iter().any(|a| second.iter().any(|b| a.0 <= b.1 && b.0 <= a.1));
        assert!(together, "{values:?} were never current together: {asked:?}");
    }
}

fn span(states: &[State], index: usize) -> (Instant, Instant) {
    let end = states.get(index + 1).map_or(Instant::MAX, |next| next.from);
    (states[index].from, end)
}

/// What the runs did, summed: a test in which nothing was hit, joined, killed or lost tests nothing.
#[derive(Debug, Default)]
pub(super) struct Deeds {
    pub(super) hits: usize,
    pub(super) waits: usize,
    pub(super) both: usize,
    pub(super) homes: usize,
    pub(super) lapses: usize,
    pub(super) races: u64,
    pub(super) fences: usize,
}

fn run(seed: u64, steps: usize, redirect: bool, deeds: &mut Deeds) {
    let mut world = World::new(seed, redirect);
    for _ in 0..steps {
        world.step();
    }
    world.settle_down();
    for (db, key) in (0..DBS).flat_map(|db| (0..NAMES.len()).map(move |key| (db, key))) {
        world.must_converge(db, key);
    }
    validate(&world.cache);
    world.deeds_into(deeds);
}

fn run_all(redirect: bool) {
    let mut deeds = Deeds::default();
    let seeds = std::env::var("NEARHIT_SEEDS").map_or(250, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, 4000, redirect, &mut deeds)));
        assert!(outcome.is_ok(), "seed {seed}");
    }
    let Deeds { hits, waits, both, .. } = deeds;
    assert!(hits > 3000 && waits > 1000 && both > 50, "{deeds:?}");
    assert!(
        deeds.homes > 1000 && deeds.lapses > 200 && deeds.races > 200 && deeds.fences > 100,
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
