//! Which keys are read most: Space-Saving (Metwally, Agrawal and El Abbadi, 2005) over a sample of a worker's reads.
//!
//! ```text
//! one read in eight ─→ current window ─ 30 s ─→ previous window ─ 30 s ─→ forgotten
//! ```
//! A summary that is full gives the counter of its rarest key to a new one, and notes how much of the count may be the old
//! key's: a key was seen `reads` times at most and `reads - error` times at least, and every key that was seen more often
//! than the smallest counter is there. Two windows, because a key that was hot yesterday must not stand here for ever.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hashbrown::HashTable;

use crate::time::Instant;

/// Keys of one window and worker. Chosen: keys with more than a thousandth of the reads are there for certain.
const COUNTERS: usize = 1024;
/// One read in so many is looked at: it costs a lock and some fifty nanoseconds.
pub const SAMPLED: u64 = 8;
/// How long a window is.
const WINDOW: Duration = Duration::from_secs(30);
/// Longer names are not counted: they would be kept.
const LONGEST: usize = 1024;

/// Says which reads are looked at. Written by one worker only.
#[derive(Debug)]
pub struct Sampler {
    /// Reads until the next one. Relaxed, as all of this.
    left: AtomicU32,
    random: AtomicU32,
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            left: AtomicU32::new(0),
            random: AtomicU32::new(0x9e37_79b9),
        }
    }
}

impl Sampler {
    /// Whether this read is looked at: one in [`SAMPLED`], at random distances, so that no pattern of reads hides a key.
    #[inline]
    pub fn takes(&self) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        if left > 0 {
            self.left.store(left - 1, Ordering::Relaxed);
            return false;
        }
        let mut random = self.random.load(Ordering::Relaxed);
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        self.random.store(random, Ordering::Relaxed);
        // 0 to 14 are passed over, seven on average.
        self.left.store(random % 15, Ordering::Relaxed);
        true
    }
}

/// A key and how often it was read, as far as the sample tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotKey {
    /// Its name.
    pub key: Box<[u8]>,
    /// Reads of the sample at most.
    pub reads: u64,
    /// How many of these may have been another key's.
    pub error: u64,
    /// Reads of the sample that were answered from memory, while it had its counter.
    pub hits: u64,
}

/// What one worker has seen.
#[derive(Debug, Default)]
pub struct HotKeys {
    current: Summary,
    previous: Summary,
    /// When the current window began.
    since: Instant,
}

impl HotKeys {
    /// A read of the sample, at `now`; `hash` is any hash of the key, the same each time.
    pub fn record(&mut self, hash: u64, key: &[u8], hit: bool, now: Instant) {
        self.turn(now);
        if key.len() <= LONGEST {
            self.current.record(hash, key, hit);
        }
    }

    /// Begins a new window when the current one is over.
    fn turn(&mut self, now: Instant) {
        let age = now.since(self.since);
        if age < WINDOW {
            return;
        }
        let current = std::mem::take(&mut self.current);
        self.previous = if age < WINDOW * 2 { current } else { Summary::default() };
        self.since = now;
    }
}

/// The keys that all workers together have seen most often in the last minute, the most frequent first, and how long they
/// were watched.
pub(super) fn hottest(workers: &mut [&mut HotKeys], count: usize, now: Instant) -> (Vec<HotKey>, Duration) {
    let (mut all, mut watched) = (HashMap::new(), Duration::ZERO);
    let mut summaries = Vec::new();
    for worker in workers.iter_mut() {
        worker.turn(now);
        let before = if worker.previous.counters.is_empty() {
            Duration::ZERO
        } else {
            WINDOW
        };
        watched = watched.max(now.since(worker.since) + before);
        summaries.extend([&worker.current, &worker.previous]);
    }
    for summary in &summaries {
        for counter in &summary.counters {
            all.entry((&*counter.key, counter.hash)).or_insert((0, 0, 0));
        }
    }
    for ((key, hash), (reads, error, hits)) in &mut all {
        for summary in &summaries {
            let (seen, unsure, served) = summary.of(*hash, key);
            *reads += seen;
            *error += unsure;
            *hits += served;
        }
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_unstable_by(|((a, _), (more, ..)), ((b, _), (less, ..))| less.cmp(more).then(a.cmp(b)));
    all.truncate(count);
    let named = all.into_iter().map(|((key, _), (reads, error, hits))| HotKey {
        key: key.into(),
        reads,
        error,
        hits,
    });
    (named.collect(), watched)
}

#[derive(Debug)]
struct Counter {
    hash: u64,
    key: Box<[u8]>,
    reads: u64,
    error: u64,
    hits: u64,
    /// Its place in the heap.
    place: usize,
}

/// Counters by key and, as a heap, by how often it was seen: the rarest is `heap[0]`.
///
/// Invariant: `counters[heap[i]].place == i`, and no counter is smaller than the one above it in the heap.
#[derive(Debug, Default)]
struct Summary {
    counters: Vec<Counter>,
    table: HashTable<usize>,
    heap: Vec<usize>,
}

impl Summary {
    fn record(&mut self, hash: u64, key: &[u8], hit: bool) {
        let hits = u64::from(hit);
        if let Some(at) = self.find(hash, key) {
            let Some(counter) = self.counters.get_mut(at) else {
                return;
            };
            counter.reads += 1;
            counter.hits += hits;
            let place = counter.place;
            return self.sink(place);
        }
        let at = match self.counters.len() {
            COUNTERS.. => {
                let Some(&at) = self.heap.first() else { return };
                self.give(at, hash, key, hits);
                at
            }
            at => {
                self.counters.push(Counter {
                    hash,
                    key: key.into(),
                    reads: 1,
                    error: 0,
                    hits,
                    place: at,
                });
                self.heap.push(at);
                self.rise(at);
                at
            }
        };
        let counters = &self.counters;
        let hasher = |&at: &usize| counters.get(at).map_or(0, |counter| counter.hash);
        self.table.insert_unique(hash, at, hasher);
        if let Some(place) = self.counters.get(at).map(|counter| counter.place) {
            self.sink(place);
        }
    }

    /// Gives the counter at `at` to another key.
    fn give(&mut self, at: usize, hash: u64, key: &[u8], hits: u64) {
        let Some(counter) = self.counters.get_mut(at) else {
            return;
        };
        if let Ok(found) = self.table.find_entry(counter.hash, |&held| held == at) {
            found.remove();
        }
        let (reads, place) = (counter.reads, counter.place);
        *counter = Counter {
            hash,
            key: key.into(),
            reads: reads + 1,
            error: reads,
            hits,
            place,
        };
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let is = |&at: &usize| {
            self.counters
                .get(at)
                .is_some_and(|counter| counter.hash == hash && *counter.key == *key)
        };
        self.table.find(hash, is).copied()
    }

    /// How often `key` was seen at most, how much of that is unsure, and how often it was answered from memory. Without
    /// a counter it was seen as often as the smallest one at most.
    fn of(&self, hash: u64, key: &[u8]) -> (u64, u64, u64) {
        if let Some(counter) = self.find(hash, key).and_then(|at| self.counters.get(at)) {
            return (counter.reads, counter.error, counter.hits);
        }
        let least = match self.counters.len() {
            COUNTERS.. => self.heap.first().map_or(0, |_| self.reads(0)),
            _ => 0,
        };
        (least, least, 0)
    }

    /// What the counter at a place of the heap counts; more than all others where there is none.
    fn reads(&self, place: usize) -> u64 {
        let counter = self.heap.get(place).and_then(|&at| self.counters.get(at));
        counter.map_or(u64::MAX, |counter| counter.reads)
    }

    /// The counter at `place` was raised: it goes down until none below it is smaller.
    fn sink(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            let child = if self.reads(right) < self.reads(left) {
                right
            } else {
                left
            };
            if self.reads(child) >= self.reads(place) {
                return;
            }
            self.swap(place, child);
            place = child;
        }
    }

    /// The counter at `place` is new: it goes up until the one above it is not larger.
    fn rise(&mut self, mut place: usize) {
        while place > 0 && self.reads(place) < self.reads((place - 1) / 2) {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        for place in [one, other] {
            if let Some(counter) = self.heap.get(place).and_then(|&at| self.counters.get_mut(at)) {
                counter.place = place;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos((1000 + seconds) * 1_000_000_000)
    }

    fn name(rank: u64) -> [u8; 8] {
        rank.to_be_bytes()
    }

    /// Reads with ranks as 1/rank: rank `r` of `keys` comes `keys / r` times, all mixed.
    fn zipf(keys: u64) -> Vec<u64> {
        let mut reads: Vec<u64> = (1..=keys)
            .flat_map(|rank| (0..keys / rank).map(move |_| rank))
            .collect();
        let mut state = 7_u64;
        for at in (1..reads.len()).rev() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            reads.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
        }
        reads
    }

    fn top(hot: &mut HotKeys, count: usize, now: Instant) -> Vec<HotKey> {
        hottest(&mut [hot], count, now).0
    }

    #[test]
    fn every_count_is_within_its_error_and_the_most_frequent_are_found() {
        let (keys, mut hot) = (20_000, HotKeys::default());
        for rank in zipf(keys) {
            hot.record(rank, &name(rank), rank % 2 == 0, at(1));
        }
        let top = top(&mut hot, 128, at(2));
        assert_eq!(top.len(), 128);
        for hot in &top {
            let rank = u64::from_be_bytes((*hot.key).try_into().unwrap());
            let truth = keys / rank;
            assert!((hot.reads - hot.error..=hot.reads).contains(&truth), "{hot:?}: {truth}");
        }
        let found = (1..=64).filter(|rank| top.iter().any(|hot| *hot.key == name(*rank)));
        assert_eq!(found.count(), 64);
        assert_eq!(&*top[0].key, &name(1));
    }

    #[test]
    fn the_heap_stays_a_heap_and_the_table_finds_every_counter() {
        let mut summary = Summary::default();
        for (step, rank) in zipf(3_000).into_iter().enumerate() {
            summary.record(rank % 97, &name(rank), false);
            if step % 1000 == 0 {
                for place in 1..summary.heap.len() {
                    assert!(summary.reads(place) >= summary.reads((place - 1) / 2));
                    assert_eq!(summary.counters[summary.heap[place]].place, place);
                }
                assert_eq!(summary.table.len(), summary.counters.len());
                for counter in &summary.counters {
                    assert!(summary.find(counter.hash, &counter.key).is_some());
                }
            }
        }
        assert_eq!(summary.counters.len(), COUNTERS);
    }

    #[test]
    fn what_was_hot_two_windows_ago_is_forgotten() {
        let mut hot = HotKeys::default();
        hot.record(1, b"old", true, at(0));
        hot.record(2, b"new", false, at(31));
        let names = |top: Vec<HotKey>| top.into_iter().map(|hot| hot.key).collect::<Vec<_>>();
        assert_eq!(names(top(&mut hot, 9, at(32))), [(*b"new").into(), Box::from(*b"old")]);
        assert_eq!(names(top(&mut hot, 9, at(62))), [Box::from(*b"new")]);
        assert!(top(&mut hot, 9, at(200)).is_empty());
    }

    #[test]
    fn workers_are_added_up_and_long_names_are_not_kept() {
        let (mut one, mut other) = (HotKeys::default(), HotKeys::default());
        for _ in 0..3 {
            one.record(1, b"k", true, at(0));
            other.record(1, b"k", false, at(0));
        }
        other.record(2, &[b'x'; LONGEST + 1], false, at(0));
        let (top, watched) = hottest(&mut [&mut one, &mut other], 9, at(10));
        let expected = HotKey {
            key: (*b"k").into(),
            reads: 6,
            error: 0,
            hits: 3,
        };
        assert_eq!((top, watched), (vec![expected], Duration::from_secs(10)));
    }

    #[test]
    fn one_read_in_eight_is_looked_at() {
        let sampler = Sampler::default();
        let taken = (0..80_000).filter(|_| sampler.takes()).count();
        assert!((9_500..10_500).contains(&taken), "{taken}");
    }
}
