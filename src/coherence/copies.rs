//! What one worker copied of the hottest entries: a hit there takes no lock, and writes nothing that others read.
//!
//! ```text
//! lookup ── the worker's copy, its number still the name's? ── served
//!        └─ no ── the shard, under its lock ── served, and copied if it is hot
//! ```
//! A copy is served under the same verdict as the entry it was made of, and only while the number of its name
//! ([`Versions`]) is the one it was copied under: it never outlives its entry. Eviction needs to know what is served, so
//! a copy is made only where a hit has nothing to tell it any more, and lasts for as long as that is so.

use super::flight::Query;
use crate::cache::Entry;
use crate::cache::eviction::Mark;
use crate::time::Instant;

/// Sets of two: 2048 copies a worker, about 200 KiB and their texts. In requests by Zipf's law (0.99) of a million keys
/// they are asked for every second time; more would not fit into a core's own cache. Chosen, not measured.
const SETS: usize = 1024;
/// Bytes of name, arguments and reply of a copy at most. Beyond that the lock is a small part of what a hit costs.
const LONGEST: usize = 1024;

/// One worker's copies.
#[derive(Debug)]
pub struct Copies {
    /// Invariant: `SETS` of them.
    sets: Box<[[Copy; 2]]>,
}

#[derive(Debug, Default)]
pub(super) struct Copy {
    hash: u64,
    /// The number of its name when it was made.
    pub(super) version: u64,
    /// What its name had seen then.
    pub(super) seen_at: Instant,
    /// The moment in eviction's time until which it need not be told of hits.
    pub(super) mark: Mark,
    /// Served since another name wanted its place.
    used: bool,
    entry: Option<Entry>,
}

impl Default for Copies {
    fn default() -> Self {
        Self {
            sets: std::iter::repeat_with(Default::default).take(SETS).collect(),
        }
    }
}

impl Copies {
    /// The copy of the entry of `query`, whether or not it may be served now.
    pub(super) fn find(&mut self, query: &Query<'_>) -> Option<&Copy> {
        let copy = self.set(query.hash)?.iter_mut().find(|copy| copy.is_of(query))?;
        copy.used = true;
        Some(copy)
    }

    /// Copies the entry of `query`, which was just served under its shard's lock. Of two others in its place the one that
    /// was not served for longest makes room, and nobody does who was served since it was asked last.
    pub(super) fn keep(&mut self, query: &Query<'_>, entry: &Entry, version: u64, seen_at: Instant, mark: Mark) {
        let Some(set) = self.set(query.hash) else { return };
        let known = set.iter().position(|copy| copy.is_of(query));
        let place = known.or_else(|| set.iter_mut().position(|copy| !std::mem::take(&mut copy.used)));
        let Some(copy) = place.and_then(|at| set.get_mut(at)) else {
            return;
        };
        if let Some(entry) = entry.duplicate(LONGEST) {
            *copy = Copy {
                hash: query.hash,
                version,
                seen_at,
                mark,
                used: true,
                entry: Some(entry),
            };
        }
    }

    fn set(&mut self, hash: u64) -> Option<&mut [Copy; 2]> {
        let index = usize::try_from((hash >> 24) % SETS as u64).ok()?;
        self.sets.get_mut(index)
    }
}

impl Copy {
    /// The copied entry.
    pub(super) fn entry(&self) -> Option<&Entry> {
        self.entry.as_ref()
    }

    fn is_of(&self, query: &Query<'_>) -> bool {
        let is_of = |entry: &Entry| entry.is(&query.id) && entry.name() == query.key;
        self.hash == query.hash && self.entry.as_ref().is_some_and(is_of)
    }
}
