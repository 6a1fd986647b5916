//! What one worker copied of the hottest entries: a hit there takes no lock, and writes nothing that others read.
//!
//! ```text
//! lookup ── the worker's copy, its number still the name's? ── served
//!        └─ no ── the shard, under its lock ── served, and copied if it is hot
//! ```
//! A copy is served under the same verdict as the entry it was made of, and only while the number of its name
//! (`Versions`) is the one it was copied under: it never outlives its entry. Eviction needs to know what is served, so
//! a copy is made only where a hit has nothing to tell it any more, and lasts for as long as that is so.

use super::flight::Query;
use crate::cache::Entry;
use crate::cache::eviction::Mark;
use crate::time::Instant;

/// Sets of two: 2048 copies a worker, about 100 KiB and their entries, of which none is much longer than 1 KiB. In requests
/// by Zipf's law (0.99) of a million keys they are asked for every second time. Four times as many answered no more of
/// `make bench-cache` a second: they do not fit into a core's own cache.
const SETS: usize = 1024;

/// One worker's copies.
#[derive(Debug)]
pub struct Copies {
    /// What the names of the copies in each set hash to, as far as it fits: a name without a copy, which most have none,
    /// costs a look at these 8 KiB. Invariant: `SETS` of them.
    tags: Box<[[u32; 2]]>,
    /// Who was the last to want a copy in each set: a name gets one when it wants it twice in a row. Without that, names
    /// that are read evenly would be copied all the time, and served from their copies hardly ever.
    wanting: Box<[u32]>,
    /// Everything that is wanted once is copied.
    eager: bool,
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
    entry: Option<Box<Entry>>,
}

impl Default for Copies {
    fn default() -> Self {
        Self {
            tags: vec![[0; 2]; SETS].into(),
            wanting: vec![0; SETS].into(),
            eager: false,
            sets: std::iter::repeat_with(Default::default).take(SETS).collect(),
        }
    }
}

impl Copies {
    /// For tests: what is served once is copied.
    #[cfg(test)]
    pub(super) fn eager() -> Self {
        Self {
            eager: true,
            ..Self::default()
        }
    }

    /// The copy of the entry of `query`, whether or not it may be served now.
    pub(super) fn find(&mut self, query: &Query<'_>) -> Option<&Copy> {
        let (set, tag) = (place(query.hash), tag(query.hash));
        let way = self.tags.get(set)?.iter().position(|held| *held == tag)?;
        let copy = self.sets.get_mut(set)?.get_mut(way).filter(|copy| copy.is_of(query))?;
        copy.used = true;
        Some(copy)
    }

    /// The entry of `query` was just served under its shard's lock, and eviction knows: copies it, if it wants that for
    /// the second time. Of two others in its place one that was not served lately makes room. `version` reads the number of
    /// its name, under that lock still.
    pub(super) fn keep(
        &mut self,
        query: &Query<'_>,
        entry: &Entry,
        version: impl FnOnce() -> u64,
        seen_at: Instant,
        mark: Mark,
    ) {
        let (set, tag) = (place(query.hash), tag(query.hash));
        let (Some(tags), Some(copies)) = (self.tags.get_mut(set), self.sets.get_mut(set)) else {
            return;
        };
        // Of two reads of one name, and of two names with one tag, one has a copy.
        let known = tags.iter().position(|held| *held == tag);
        if known.is_none()
            && !self.eager
            && let Some(wanting) = self.wanting.get_mut(set)
            && std::mem::replace(wanting, tag) != tag
        {
            return;
        }
        let way = known.or_else(|| copies.iter_mut().position(|copy| !std::mem::take(&mut copy.used)));
        let Some((held, copy)) = way.and_then(|way| Some((tags.get_mut(way)?, copies.get_mut(way)?))) else {
            return;
        };
        if let Some(entry) = entry.duplicate() {
            *held = tag;
            *copy = Copy {
                hash: query.hash,
                version: version(),
                seen_at,
                mark,
                used: true,
                entry: Some(entry),
            };
        }
    }
}

/// Where the copies of names with this hash are.
fn place(hash: u64) -> usize {
    usize::try_from((hash >> 24) % SETS as u64).unwrap_or_default()
}

/// Never zero: zero means none.
fn tag(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or_default() | 1
}

impl Copy {
    /// The copied entry.
    pub(super) fn entry(&self) -> Option<&Entry> {
        self.entry.as_deref()
    }

    fn is_of(&self, query: &Query<'_>) -> bool {
        let is_of = |entry: &Entry| entry.is(&query.id) && entry.name() == query.key;
        self.hash == query.hash && self.entry().is_some_and(is_of)
    }
}
