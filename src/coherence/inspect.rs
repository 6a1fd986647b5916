//! What people ask about the near-cache: totals, the cached keys, and everything about one key.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::flight::Query;
use super::lookup::{Sight, Verdict};
use super::near_cache::NearCache;
use crate::cache::{Entry, Terms};
use crate::metrics::Bypass;
use crate::time::Instant;

/// How much is in the near-cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Key names that have entries or fetches in progress.
    pub keys: usize,
    /// Cached replies.
    pub entries: usize,
    /// Bytes they are accounted for.
    pub bytes: u64,
}

/// Everything about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReport {
    /// Its cached replies.
    pub entries: Vec<EntryReport>,
    /// Fetches in progress.
    pub flights: usize,
}

/// One cached reply, as people want to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryReport {
    /// Index of the command in the command table.
    pub command: u16,
    /// The database.
    pub db: u32,
    /// Length of the RESP3 reply in bytes.
    pub reply_bytes: usize,
    /// Bytes of memory it is accounted for.
    pub weight: u64,
    /// Since its fetch was sent.
    pub age: Duration,
    /// Until it is not served any more.
    pub left: Duration,
    /// The key does not exist.
    pub negative: bool,
    /// `serve`, `unproved` (the lease lapsed) or `dead`.
    pub state: &'static str,
}

impl<W> NearCache<W> {
    /// How much there is now.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            bytes: self.bytes.load(Ordering::Relaxed),
            ..Totals::default()
        };
        for index in 0..self.shard_count() {
            let shard = self.lock_at(index);
            totals.keys += shard.len();
            totals.entries += shard.entries();
        }
        totals
    }

    /// Everything about `key`; `None` when there is nothing.
    pub fn report(&self, key: &[u8], now: Instant) -> Option<KeyReport> {
        let sight = self.sight(now);
        let hash = self.hash(key);
        let shard = self.lock(hash);
        let slot = shard.slot(shard.find(hash, key)?)?;
        let entries = slot
            .entries()
            .iter()
            .map(|entry| self.describe(entry, slot.state.seen_at, &sight));
        Some(KeyReport {
            entries: entries.collect(),
            flights: slot.state.flights.len(),
        })
    }

    /// The entry that would answer `query`, whoever asks; `None` when there is none.
    pub fn entry_report(&self, query: &Query<'_>, now: Instant) -> Option<EntryReport> {
        let sight = self.sight(now);
        let shard = self.lock(query.hash);
        let slot = shard.slot(shard.find(query.hash, query.key)?)?;
        let entry = slot.entry(&query.id)?;
        Some(self.describe(entry, slot.state.seen_at, &sight))
    }

    /// What the policies say about `key`.
    pub fn terms(&self, key: &[u8]) -> &Terms {
        self.policies.terms(key)
    }

    /// Whether a read of `key` would be fetched for the cache now. Unlike a lookup this is not noted, so asking does not
    /// make a key a candidate.
    ///
    /// # Errors
    /// Why it would not.
    pub fn would_admit(&self, key: &[u8], command: u16, now: Instant) -> Result<(), Bypass> {
        let hash = self.hash(key);
        self.may_store(hash, key, command, &self.sight(now))?;
        if self.limits.admit_always || self.recent.knows(hash, now) {
            return Ok(());
        }
        Err(Bypass::Cold)
    }

    fn describe(&self, entry: &Entry, seen_at: Instant, sight: &Sight) -> EntryReport {
        let now = sight.now();
        EntryReport {
            command: entry.command(),
            db: entry.db(),
            reply_bytes: entry.reply_len(),
            weight: entry.weight(),
            age: now.since(entry.fetched_at),
            left: entry.deadline.since(now),
            negative: entry.negative,
            state: match self.judge(entry, seen_at, sight, Instant::ZERO) {
                Verdict::Serve => "serve",
                Verdict::Unproved => "unproved",
                Verdict::Dead(_) => "dead",
            },
        }
    }

    /// How many entries [`NearCache::flush_matching`] would drop. Looks at every key.
    pub fn count_matching(&self, mut matches: impl FnMut(&[u8]) -> bool) -> usize {
        let mut count = 0;
        self.for_each_slot(|shard, id| {
            if let Some(slot) = shard.slot(id).filter(|slot| matches(slot.name())) {
                count += slot.entries().len();
            }
        });
        count
    }

    /// The names of up to `limit` keys that have entries and for which `matches` holds, and whether there are more.
    pub fn keys(&self, limit: usize, mut matches: impl FnMut(&[u8]) -> bool) -> (Vec<Box<[u8]>>, bool) {
        let (mut names, mut more): (Vec<Box<[u8]>>, bool) = (Vec::new(), false);
        self.for_each_slot(|shard, id| {
            let Some(slot) = shard.slot(id) else { return };
            if slot.entries().is_empty() || !matches(slot.name()) {
                return;
            }
            if names.len() < limit {
                names.push(slot.name().into());
            } else {
                more = true;
            }
        });
        (names, more)
    }
}
