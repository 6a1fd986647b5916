//! The near-cache: shards of slots under one byte bound, and the settings that judge entries.

use std::hash::{BuildHasher, Hasher};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::flight::State;
use super::inspect::{Dropped, Flushed};
use super::origins::Origins;
use super::recent::{NAMES, Recent};
use super::settle::Rejected;
use super::slots::Slots;
use crate::cache::eviction::{EvictionKind, Mark, Pulse};
use crate::cache::{Entry, HashName, Policies, RecentKeys, Shard, Terms, Versions, WriteHot};
use crate::metrics::{FenceReason, Label};
use crate::sync::{self, Mutex, MutexGuard};
use crate::time::Instant;

/// How long a key whose reply did not fit is not fetched for the cache again. Chosen, not measured.
const TOO_LARGE_WINDOW: Duration = Duration::from_secs(10);

/// The same bound for all replies while nobody can tell when a user's rights change: what the README promises.
pub(super) const UNWATCHED_TTL: Duration = Duration::from_secs(1);

/// Memory kept free for slots of fetches that begin between two evictions, at most: a few hundred bytes per worker.
const SPARE: u64 = 64 << 10;

/// Cells of [`WriteHot`] at most: 128 KiB.
const WRITE_HOT: usize = 16 * 1024;

/// Cells of [`Versions`]: 128 KiB. With 30,000 changes a second each is raised twice a second, and a copy is made anew.
const VERSIONS: usize = 16 * 1024;

/// What bounds and judges entries.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes all slots and entries may take.
    pub max_bytes: u64,
    /// Bytes of one reply that may be stored.
    pub max_entry: usize,
    /// Longer replies are kept compressed, if that saves enough.
    pub compress_above: usize,
    /// No entry is served longer than this after it was fetched, invalidation or not.
    pub max_entry_ttl: Duration,
    /// The same bound for replies about keys that do not exist; zero: such replies are not stored.
    pub negative_ttl: Duration,
    /// The same bound for reads of hashes on servers where single fields expire, where it is not known when they do.
    pub hash_ttl: Duration,
    /// The staleness lease: entries are served only while a request younger than this was answered.
    pub max_staleness: Duration,
    /// Store from the first read on, instead of from the second within `admission_window`.
    pub admit_always: bool,
    /// How close two reads of a key must be for the second one to be fetched for the cache.
    pub admission_window: Duration,
    /// Who leaves when memory is short.
    pub eviction: EvictionKind,
    /// The keys are spread over the nodes of a cluster.
    pub cluster: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 256 << 20,
            max_entry: 1 << 20,
            compress_above: usize::MAX,
            max_entry_ttl: Duration::from_secs(60),
            negative_ttl: Duration::from_secs(1),
            hash_ttl: Duration::from_secs(1),
            max_staleness: Duration::from_secs(1),
            admit_always: false,
            admission_window: Duration::from_secs(60),
            eviction: EvictionKind::Worth,
            cluster: false,
        }
    }
}

impl Limits {
    /// Bytes of the largest reply that is stored about a key with these terms: however large an entry may be, no single one
    /// drives out most others.
    pub fn largest(&self, terms: &Terms) -> usize {
        let share = usize::try_from(self.max_bytes / 8).unwrap_or(usize::MAX);
        terms.max_entry.unwrap_or(self.max_entry).min(share)
    }
}

/// Counts of what happened to entries; relaxed, for metrics only.
#[derive(Debug, Default)]
pub struct Tally {
    /// Entries stored.
    pub inserts: AtomicU64,
    /// Replies that were compressed to be stored.
    pub compressed: AtomicU64,
    /// Bytes of these before.
    pub compressed_from: AtomicU64,
    /// The same, afterwards.
    pub compressed_to: AtomicU64,
    /// Replies not stored: their lease was revoked while they travelled.
    pub rejected_race: AtomicU64,
    /// Replies not stored: larger than `max_entry`.
    pub rejected_too_large: AtomicU64,
    /// Replies not stored: an error.
    pub rejected_error: AtomicU64,
    /// Replies not stored: the key was about to expire, or negative replies are off.
    pub rejected_ttl: AtomicU64,
    /// Entries dropped for space.
    pub evicted_capacity: AtomicU64,
    /// Entries dropped because their time was over.
    pub evicted_ttl: AtomicU64,
    /// Entries dropped because their key changed.
    pub evicted_invalidated: AtomicU64,
    /// Entries dropped because everything was flushed.
    pub evicted_flush: AtomicU64,
    /// Entries dropped because their tracked connection was lost.
    pub evicted_tracking_lost: AtomicU64,
    /// Keys named by invalidations.
    pub invalidated_keys: AtomicU64,
    /// Of these: an entry was dropped.
    pub invalidated_removed: AtomicU64,
    /// Of these: no entry, but a fetch in progress was revoked.
    pub invalidated_raced: AtomicU64,
    /// NULL pushes: the server forgot everything.
    pub null_pushes: AtomicU64,
    /// Flushes by commands that passed through (FLUSHALL, SWAPDB, …).
    pub flushed_by_command: AtomicU64,
    /// Flushes by an application, on its channel.
    pub flushed_by_application: AtomicU64,
    /// Flushes by an operator.
    pub flushed_by_admin: AtomicU64,
    /// Flushes of one user's part because what the user may do may have changed.
    pub flushed_by_rights: AtomicU64,
    /// Lookups that found an entry which was not served, because the server had given no sign of life for longer than
    /// the staleness bound.
    pub lapsed: AtomicU64,
    /// The same, because the session or the name had seen something newer than the stream had proved.
    pub outdated: AtomicU64,
    /// Keys touched at the server to keep them warm: they were there.
    pub touches_present: AtomicU64,
    /// The same: they were not.
    pub touches_missing: AtomicU64,
    /// The same: the server refused.
    pub touches_refused: AtomicU64,
    /// Keys that were to be touched and were not: too many at once, or the server has not answered the last ones.
    pub touches_skipped: AtomicU64,
    /// Times the tracked connection was given up.
    pub fences: AtomicU64,
    /// Of these: for what came over it, or did not, by reason. The others were lost.
    pub fenced: Counts<FenceReason>,
}

/// One counter for each value of a label.
#[derive(Debug)]
pub struct Counts<L> {
    counts: Box<[AtomicU64]>,
    label: PhantomData<L>,
}

impl<L: Label> Default for Counts<L> {
    fn default() -> Self {
        Self {
            counts: L::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            label: PhantomData,
        }
    }
}

impl<L: Label> Counts<L> {
    pub(super) fn inc(&self, label: L) {
        if let Some(count) = self.counts.get(label.index()) {
            Tally::add(count, 1);
        }
    }

    /// The count until now.
    pub fn get(&self, label: L) -> u64 {
        self.counts
            .get(label.index())
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl Tally {
    pub(super) fn add(counter: &AtomicU64, by: usize) {
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }
}

/// Replies by key name, kept true by the invalidation streams of their origins.
///
/// `W` is whoever waits for a fetch; the cache only keeps it and gives it back, so tests use integers.
pub struct NearCache<W> {
    shards: Box<[Mutex<Shard<State<W>>>]>,
    /// The shards' clocks of eviction, for hits on copies.
    pulses: Box<[Arc<Pulse>]>,
    pub(super) versions: Arc<Versions>,
    hasher: foldhash::fast::SeedableRandomState,
    pub(super) origins: Origins,
    /// The hash slots of a cluster. In its place among the databases an entry then has the life of its slot.
    pub(super) slots: Option<Slots>,
    pub(super) limits: Limits,
    pub(super) policies: Policies,
    pub(super) recent: RecentKeys,
    pub(super) write_hot: WriteHot,
    pub(super) too_large: RecentKeys,
    /// The server expires single hash fields. Assumed until it is known better.
    pub(super) hash_fields_expire: AtomicBool,
    /// It is known to, so it can be asked when.
    pub(super) knows_field_ttls: AtomicBool,
    /// Nobody can tell when a user's rights change.
    pub(super) rights_unwatched: AtomicBool,
    /// Until when it is known that what users may do has not changed unseen, in nanoseconds. Stored (Release) after what
    /// changed was flushed, loaded (Acquire) before an entry is looked at.
    pub(super) rights_until: sync::AtomicU64,
    /// Commands on their way that change keys without saying which ([`super::Flushing`]). SeqCst like the flush count:
    /// whoever sees the flush of one sees that it is on its way.
    pub(super) flushing: sync::AtomicU64,
    /// Sum of all shards' bytes; a shard's share is added when its lock is released.
    pub(super) bytes: AtomicU64,
    pub(super) tally: Arc<Tally>,
    /// What people may ask about: why a name's entries were dropped, why a reply was not kept, why all were dropped.
    pub(super) drops: Recent<Dropped>,
    pub(super) rejections: Recent<Rejected>,
    pub(super) flushes: Recent<Flushed>,
    /// About now, for these three only: when a tracked connection was read last, or the sweep began.
    about_now: AtomicU64,
    /// Where the next eviction looks first, so that pressure is spread over shards.
    pub(super) hand: AtomicU64,
}

impl<W> NearCache<W> {
    /// An empty near-cache.
    pub fn new(limits: Limits, policies: Policies) -> Self {
        Self::with_hasher(limits, policies, foldhash::fast::SeedableRandomState::random())
    }

    /// The same with hashes that are the same in every process: for runs that are to be repeated.
    #[cfg(test)]
    pub(super) fn with_fixed_hashes(limits: Limits, policies: Policies) -> Self {
        Self::with_hasher(limits, policies, foldhash::fast::SeedableRandomState::fixed())
    }

    fn with_hasher(limits: Limits, policies: Policies, hasher: foldhash::fast::SeedableRandomState) -> Self {
        // Loom follows every lock.
        let shards = if cfg!(feature = "loom") { 1 } else { 64 };
        // 8 bytes a cell: 3 % of the cache, and at most 4 MiB. With fewer cells than keys fit into the cache, those that are
        // read now and then would be forgotten before their second read.
        let cells = usize::try_from((limits.max_bytes / 256).clamp(64, 524_288)).unwrap_or(64);
        let seed = hasher.clone();
        let hash: HashName = Arc::new(move |name| hash_name(&seed, name));
        let versions = Arc::new(Versions::new(if cfg!(feature = "loom") { 1 } else { VERSIONS }));
        let shard = |_| Shard::with_versions(limits.eviction, Arc::clone(&hash), Arc::clone(&versions));
        let shards: Vec<_> = (0..shards).map(shard).collect();
        Self {
            pulses: shards.iter().map(|shard| Arc::clone(shard.pulse())).collect(),
            shards: shards.into_iter().map(Mutex::new).collect(),
            versions,
            hasher,
            origins: Origins::default(),
            slots: limits.cluster.then(|| Slots::new(limits.max_staleness)),
            limits,
            policies,
            recent: RecentKeys::new(cells, limits.admission_window),
            write_hot: WriteHot::new((cells / 8).clamp(64, WRITE_HOT)),
            too_large: RecentKeys::new(1024, TOO_LARGE_WINDOW),
            hash_fields_expire: AtomicBool::new(true),
            knows_field_ttls: AtomicBool::new(false),
            rights_unwatched: AtomicBool::new(false),
            rights_until: sync::AtomicU64::new(u64::MAX),
            flushing: sync::AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            tally: Arc::default(),
            drops: Recent::new(NAMES),
            rejections: Recent::new(NAMES),
            flushes: Recent::new(1),
            about_now: AtomicU64::new(0),
            hand: AtomicU64::new(0),
        }
    }

    /// The hash of a key's name; seeded per process, because clients choose names.
    pub fn hash(&self, key: &[u8]) -> u64 {
        hash_name(&self.hasher, key)
    }

    /// What bounds and judges entries.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The hash slots, where the keys are spread over a cluster.
    pub fn slots(&self) -> Option<&Slots> {
        self.slots.as_ref()
    }

    /// The database in which entries with this `db` were read.
    pub fn database(&self, db: u32) -> u32 {
        if self.slots.is_some() { 0 } else { db }
    }

    /// What happened to entries so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether the server expires single hash fields (Redis 7.4, Valkey 9): then it is asked when those that were read do,
    /// and other reads of hashes are kept for `hash_ttl` only.
    pub fn set_hash_fields_expire(&self, expire: bool) {
        self.hash_fields_expire.store(expire, Ordering::Relaxed);
        self.knows_field_ttls.store(expire, Ordering::Relaxed);
    }

    /// Whether nobody can tell when a user's rights change: then no entry is kept for longer than a second. True: it was
    /// not so before; what is cached already is the caller's to flush.
    pub fn set_rights_unwatched(&self, unwatched: bool) -> bool {
        let before = self.rights_unwatched.swap(unwatched, Ordering::SeqCst);
        unwatched && !before
    }

    /// What users may do has not changed unseen, so entries may be served until then.
    pub fn prove_rights(&self, until: Instant) {
        self.rights_until.store(until.as_nanos(), Ordering::Release);
    }

    /// Tells what time it is about: what is remembered for people has no clock of its own.
    pub(super) fn note_time(&self, now: Instant) {
        self.about_now.store(now.as_nanos(), Ordering::Relaxed);
    }

    pub(super) fn about_now(&self) -> Instant {
        Instant::from_nanos(self.about_now.load(Ordering::Relaxed))
    }

    pub(super) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Locks the shard of `hash`. Never two at a time.
    pub(super) fn lock(&self, hash: u64) -> Locked<'_, W> {
        self.lock_at(self.shard_of(hash))
    }

    fn shard_of(&self, hash: u64) -> usize {
        // The table inside uses the low and the top bits, so the shard is chosen by bits between.
        usize::try_from((hash >> 40) % self.shards.len() as u64).unwrap_or_default()
    }

    /// The moment in the time of the eviction that the name with this hash is subject to.
    pub(super) fn mark(&self, hash: u64) -> Mark {
        self.pulses
            .get(self.shard_of(hash))
            .map_or_else(Mark::default, |pulse| pulse.mark())
    }

    #[allow(
        clippy::indexing_slicing,
        reason = "index is reduced modulo the fixed, non-zero number of shards"
    )]
    pub(super) fn lock_at(&self, index: usize) -> Locked<'_, W> {
        let shard = self.shards[index % self.shards.len()].lock();
        Locked {
            before: shard.bytes(),
            shard,
            total: &self.bytes,
        }
    }

    /// Notes that the reply of `command` about a key is too large.
    pub fn note_too_large(&self, hash: u64, command: u16, now: Instant) {
        self.too_large.see(RecentKeys::of_read(hash, command), now);
    }

    /// Whether that was noted lately.
    pub(super) fn is_too_large(&self, hash: u64, command: u16, now: Instant) -> bool {
        self.too_large.knows(RecentKeys::of_read(hash, command), now)
    }

    /// Evicts until `extra` more bytes fit, with a little room to spare: slots of fetches are made under a shard's lock,
    /// where nothing can be evicted, and must fit until [`NearCache::make_room`] is called after it. False when they
    /// never will.
    pub(super) fn make_room(&self, extra: u64) -> bool {
        let most = self.limits.max_bytes - (self.limits.max_bytes / 64).min(SPARE);
        if extra > most {
            return false;
        }
        let mut empty = 0;
        while self.bytes.load(Ordering::Relaxed) + extra > most {
            let at = usize::try_from(self.hand.fetch_add(1, Ordering::Relaxed) % self.shards.len() as u64)
                .unwrap_or_default();
            let evicted: Option<Vec<Box<Entry>>> = self.lock_at(at).evict();
            match evicted {
                Some(entries) => {
                    empty = 0;
                    Tally::add(&self.tally.evicted_capacity, entries.len());
                }
                None if empty > self.shards.len() => return false,
                None => empty += 1,
            }
        }
        true
    }
}

fn hash_name(seed: &foldhash::fast::SeedableRandomState, name: &[u8]) -> u64 {
    let mut hasher = seed.build_hasher();
    hasher.write(name);
    hasher.finish()
}

/// A locked shard; when it is let go, what its weight changed by goes into the total.
pub(super) struct Locked<'a, W> {
    shard: MutexGuard<'a, Shard<State<W>>>,
    before: u64,
    total: &'a AtomicU64,
}

impl<W> Deref for Locked<'_, W> {
    type Target = Shard<State<W>>;
    fn deref(&self) -> &Self::Target {
        &self.shard
    }
}

impl<W> DerefMut for Locked<'_, W> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.shard
    }
}

impl<W> Drop for Locked<'_, W> {
    fn drop(&mut self) {
        let after = self.shard.bytes();
        if after > self.before {
            self.total.fetch_add(after - self.before, Ordering::Relaxed);
        } else if after < self.before {
            self.total.fetch_sub(self.before - after, Ordering::Relaxed);
        }
    }
}
