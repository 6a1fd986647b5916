//! What people ask about the near-cache: totals, the cached keys, and everything about one key.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::flight::Query;
use super::lookup::Verdict;
use super::near_cache::NearCache;
use super::recent::Event;
use super::settle::Rejected;
use super::sight::Sight;
use super::stream::Origin;
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
    /// Number of the origin it comes from ([`Origin::number`]).
    pub origin: u16,
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
    /// `serve`, `unproved` (nothing proves lately that it is true) or `dead`.
    pub state: &'static str,
    /// The same, one by one.
    pub conditions: Conditions,
}

/// What must hold for an entry to be served. It is served when all of it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// The tracked connection is up.
    pub live: bool,
    /// It is the one the entry was filled over.
    pub epoch: bool,
    /// Nothing was flushed since the fetch began.
    pub flush: bool,
    /// Its time is not over.
    pub deadline: bool,
    /// It is known what the user may do.
    pub rights: bool,
    /// The newest answered request was sent within the staleness bound.
    pub lease: bool,
    /// Nobody was told something newer about the key than the stream has proved.
    pub seen_at: bool,
    /// The session has seen nothing newer than the stream has proved.
    pub must_see: bool,
    /// Since that request was sent, or the entry's own fetch where nothing else proves anything; `None`: none was answered
    /// yet.
    pub proof_age: Option<Duration>,
}

impl Conditions {
    /// Of an entry whose origin is gone.
    const NONE: Self = Self {
        live: false,
        epoch: false,
        flush: false,
        deadline: false,
        rights: false,
        lease: false,
        seen_at: false,
        must_see: false,
        proof_age: None,
    };

    /// Each by its name, in the order in which they are judged.
    pub fn by_name(&self) -> [(&'static str, bool); 8] {
        [
            ("live", self.live),
            ("epoch", self.epoch),
            ("flush", self.flush),
            ("deadline", self.deadline),
            ("rights", self.rights),
            ("lease", self.lease),
            ("seen_at", self.seen_at),
            ("must_see", self.must_see),
        ]
    }
}

/// Why the entries of a name were dropped, or its fetches forbidden to store their replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The server said that the key changed.
    Push,
    /// A write of a client of this nearhit.
    Write,
    /// An operator.
    Admin,
    /// The application channel.
    Application,
}

impl Dropped {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Write => "own write",
            Self::Admin => "admin",
            Self::Application => "application",
        }
    }
}

impl Event for Dropped {
    const ALL: &'static [Self] = &[Self::Push, Self::Write, Self::Admin, Self::Application];

    fn place(self) -> u64 {
        self as u64
    }
}

/// Why all entries were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// The server said that everything changed.
    NullPush,
    /// A command passed through that changes keys without naming them.
    Command,
    /// The tracked connection was given up.
    TrackingLost,
    /// An application said that everything changed.
    Application,
}

impl Flushed {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NullPush => "null push",
            Self::Command => "command",
            Self::TrackingLost => "tracking lost",
            Self::Application => "application",
        }
    }
}

impl Event for Flushed {
    const ALL: &'static [Self] = &[Self::NullPush, Self::Command, Self::TrackingLost, Self::Application];

    fn place(self) -> u64 {
        self as u64
    }
}

/// What is remembered about a name, each with how long ago it was, to about a third of the staleness bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Why something of this name was dropped last.
    pub dropped: Option<(Dropped, Duration)>,
    /// Why a reply about it was not kept last.
    pub rejected: Option<(Rejected, Duration)>,
    /// Why everything was dropped last, of all users or of one.
    pub flushed: Option<(Flushed, Duration)>,
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

    /// What is remembered about `key`: the last few thousand names to which something happened.
    pub fn past(&self, key: &[u8], now: Instant) -> Past {
        let hash = self.hash(key);
        Past {
            dropped: self.drops.recall(hash, now),
            rejected: self.rejections.recall(hash, now),
            flushed: self.flushes.recall(0, now),
        }
    }

    /// Everything about `key`; `None` when there is nothing.
    pub fn report(&self, key: &[u8], now: Instant) -> Option<KeyReport> {
        self.report_for(key, Instant::ZERO, now)
    }

    /// The same for a session that has seen what `must_see` says.
    pub fn report_for(&self, key: &[u8], must_see: Instant, now: Instant) -> Option<KeyReport> {
        let sights = self.sights(now);
        let hash = self.hash(key);
        let shard = self.lock(hash);
        let slot = shard.slot(shard.find(hash, key)?)?;
        let entries = slot
            .entries()
            .iter()
            .map(|entry| self.describe(entry, slot.seen_at(), sights.of(entry.origin()), must_see, now));
        Some(KeyReport {
            entries: entries.collect(),
            flights: slot.flights().len(),
        })
    }

    /// The entry that would answer `query` of a session that has seen what `must_see` says; `None` when there is none.
    pub fn entry_report(&self, query: &Query<'_>, must_see: Instant, now: Instant) -> Option<EntryReport> {
        let sights = self.sights(now);
        let shard = self.lock(query.hash);
        let slot = shard.slot(shard.find(query.hash, query.key)?)?;
        let entry = slot.entry(&query.id)?;
        Some(self.describe(entry, slot.seen_at(), sights.of(entry.origin()), must_see, now))
    }

    /// What the policies say about `key`.
    pub fn terms(&self, key: &[u8]) -> &Terms {
        self.policies.terms(key)
    }

    /// Whether a read of `key` would be fetched from `origin` for the cache now. Unlike a lookup this is not noted, so asking does not
    /// make a key a candidate.
    ///
    /// # Errors
    /// Why it would not.
    pub fn would_admit(&self, origin: &Origin, key: &[u8], command: u16, now: Instant) -> Result<(), Bypass> {
        let hash = self.hash(key);
        self.may_store(hash, key, command, &self.sight(origin, now))?;
        if self.limits.admit_always {
            return Ok(());
        }
        if self.write_hot.bars(hash, now) {
            return Err(Bypass::WriteHot);
        }
        if self.recent.knows(hash, now) {
            return Ok(());
        }
        Err(Bypass::Cold)
    }

    fn describe(
        &self,
        entry: &Entry,
        seen_at: Instant,
        sight: Option<&Sight>,
        must_see: Instant,
        now: Instant,
    ) -> EntryReport {
        let verdict = sight.map(|sight| self.judge(entry, seen_at, sight, must_see));
        let conditions = sight.map(|sight| self.conditions(entry, seen_at, sight, must_see));
        EntryReport {
            command: entry.command(),
            db: self.database(entry.db()),
            origin: entry.origin(),
            reply_bytes: entry.reply_len(),
            weight: entry.weight(),
            age: now.since(entry.fetched_at),
            left: entry.deadline().since(now),
            negative: entry.negative,
            state: match verdict {
                Some(Verdict::Serve) => "serve",
                Some(Verdict::Unproved) => "unproved",
                Some(Verdict::Dead(_)) | None => "dead",
            },
            conditions: conditions.unwrap_or(Conditions::NONE),
        }
    }

    /// What [`NearCache::judge`] looks at, one by one.
    fn conditions(&self, entry: &Entry, seen_at: Instant, sight: &Sight, must_see: Instant) -> Conditions {
        let (stamp, now) = (sight.stream.stamp(), sight.now());
        let fresh = match sight.rights {
            _ if sight.by_age => entry.fetched_at,
            true => sight.fresh,
            false => sight.stream.fresh(),
        };
        let proof_age = (fresh > Instant::ZERO).then(|| now.since(fresh));
        Conditions {
            live: sight.stream.is_live(),
            epoch: entry.stamp().epoch == stamp.epoch,
            flush: entry.stamp().flush == stamp.flush,
            deadline: now < entry.deadline(),
            rights: sight.rights,
            // By age alone an entry may be served until its time is over.
            lease: sight.by_age || proof_age.is_some_and(|age| age <= self.limits.max_staleness),
            seen_at: fresh >= seen_at,
            must_see: fresh >= must_see,
            proof_age,
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
