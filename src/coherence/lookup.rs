//! The read path: may this entry be served to this session now, and if not, who fetches it.

use std::sync::Arc;

use bytes::Bytes;

use super::flight::{Flight, Lease, Query, Record, serial};
use super::near_cache::{NearCache, Tally};
use super::stream::Stream;
use crate::cache::{Entry, Slot};
use crate::metrics::Bypass;
use crate::resp::Version;
use crate::time::Instant;

/// What a lookup needs to know about the stream, loaded once for a group of requests and always before any entry.
///
/// `fresh` may be older than the stream's: that only claims less. Whether the stream is live and how often it was
/// flushed is read again by every lookup, because a session must see its own flush at once.
#[derive(Clone, Debug)]
pub struct Sight {
    stream: Arc<Stream>,
    fresh: Instant,
    now: Instant,
}

impl Sight {
    /// When it was taken.
    pub fn now(&self) -> Instant {
        self.now
    }
}

/// What became of a lookup.
#[derive(Debug)]
pub enum Lookup {
    /// Answered; small replies were appended to the output, a large one is shared.
    Hit {
        /// The key does not exist, and that is cached.
        negative: bool,
        /// A reply too large to copy.
        shared: Option<Bytes>,
    },
    /// Another session's fetch of this read has its reply (RESP3 bytes) already.
    Value(Bytes),
    /// The waiter was added to another session's fetch.
    Wait,
    /// The waiter leads a new fetch: it must be handed to the tracked connection.
    Lead(Lease),
    /// Ask the server over the session's own connection.
    Bypass(Bypass),
}

/// How an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Serve,
    /// The lease lapsed, or this session or name has seen something newer than the stream has proved.
    Unproved,
    /// Never to be served again.
    Dead(Death),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    Expired,
    Flushed,
    TrackingLost,
}

/// Replies up to this many bytes are copied into the output under the lock; larger ones are shared. A copy of 16 KiB
/// takes about as long as the two atomic operations and the cache misses of sharing. Chosen, not measured.
const COPY_LIMIT: usize = 16 * 1024;

impl<W> NearCache<W> {
    /// What a group of lookups starts from. `now` must have been read after the requests were.
    pub fn sight(&self, now: Instant) -> Sight {
        let stream = self.origin.stream();
        let fresh = stream.fresh();
        Sight { stream, fresh, now }
    }

    /// Answers `query` from memory, or says who will answer it.
    ///
    /// `must_see` is what the session has seen ([`super::Causality::must_see`]). A hit is appended to `out` in `version`.
    /// The second value tells whether a PING on the tracked connection could make the entry servable.
    pub fn lookup(
        &self,
        query: &Query<'_>,
        sight: &Sight,
        must_see: Instant,
        waiter: W,
        version: Version,
        out: &mut Vec<u8>,
    ) -> (Lookup, bool) {
        let mut shard = self.lock(query.hash);
        let found = shard.find(query.hash, query.key);
        let mut unproved = false;
        if let Some(id) = found
            && let Some(slot) = shard.slot(id)
        {
            match self.judge_slot(slot, query, sight, must_see) {
                Some((Verdict::Serve, entry)) => {
                    let (shared, negative) = (serve(entry, version, out), entry.negative);
                    shard.touch(id);
                    return (Lookup::Hit { negative, shared }, false);
                }
                Some((Verdict::Dead(death), _)) => {
                    let dead = shard.clear_if(id, |entry| entry.is(&query.id));
                    self.count_death(death, dead.len());
                    // It is freed here, under the lock, but it is one entry and rare.
                }
                Some((Verdict::Unproved, _)) => unproved = true,
                None => {}
            }
        }
        if let Some(id) = found
            && let Some(record) = shard.state_mut(id)
            && let Some(joined) = self.join(record, query, sight, must_see)
        {
            return match joined {
                Join::Value(value) => (Lookup::Value(value), unproved),
                Join::Wait(flight) => {
                    if let Some(flight) = record.flights.get_mut(flight) {
                        flight.waiters.push(waiter);
                    }
                    (Lookup::Wait, unproved)
                }
                Join::TooOld => (Lookup::Bypass(Bypass::FlightStale), unproved),
            };
        }
        if let Err(why) = self.admit(query, sight) {
            if let Some(id) = found {
                shard.release(id);
            }
            return (Lookup::Bypass(why), unproved);
        }
        let lease = lead(&mut shard, query, sight, Some(waiter));
        drop(shard);
        // The flight's slot takes memory, too. When nothing is left to evict, the flights end soon.
        self.make_room(0);
        match lease {
            Some(lease) => (Lookup::Lead(lease), unproved),
            None => (Lookup::Bypass(Bypass::TooLarge), unproved),
        }
    }

    /// Appends the entry of `query` to `out` if it may be served, and says which entry it was. Part of a multi-key read:
    /// nothing is fetched and nobody waits.
    pub fn peek(
        &self,
        query: &Query<'_>,
        sight: &Sight,
        must_see: Instant,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Option<u64> {
        let mut shard = self.lock(query.hash);
        let id = shard.find(query.hash, query.key)?;
        let slot = shard.slot(id)?;
        let (Verdict::Serve, entry) = self.judge_slot(slot, query, sight, must_see)? else {
            return None;
        };
        let serial = entry.serial;
        out.extend_from_slice(entry.reply(version));
        shard.touch(id);
        Some(serial)
    }

    /// Whether the entry that [`NearCache::peek`] saw is still there and still servable: the second look of a multi-key
    /// read. When it holds for all keys, all values were current together at the moment between the two looks.
    pub fn is_unchanged(&self, query: &Query<'_>, sight: &Sight, must_see: Instant, serial: u64) -> bool {
        let shard = self.lock(query.hash);
        shard
            .find(query.hash, query.key)
            .and_then(|id| shard.slot(id))
            .and_then(|slot| self.judge_slot(slot, query, sight, must_see))
            .is_some_and(|(verdict, entry)| verdict == Verdict::Serve && entry.serial == serial)
    }

    /// Starts a fetch of `query` that nobody waits for, if the key is admitted, not cached and not being fetched.
    pub fn prefetch(&self, query: &Query<'_>, sight: &Sight, must_see: Instant) -> Option<Lease> {
        let mut shard = self.lock(query.hash);
        if let Some(slot) = shard.find(query.hash, query.key).and_then(|id| shard.slot(id)) {
            let held = matches!(
                self.judge_slot(slot, query, sight, must_see),
                Some((Verdict::Serve | Verdict::Unproved, _))
            );
            let fetching = slot
                .state
                .flights
                .iter()
                .any(|flight| flight.is(&query.id) && flight.generation == slot.state.generation);
            if held || fetching {
                return None;
            }
        }
        self.admit(query, sight).ok()?;
        let lease = lead(&mut shard, query, sight, None);
        drop(shard);
        self.make_room(0);
        lease
    }

    pub(super) fn judge(&self, entry: &Entry, seen_at: Instant, sight: &Sight, must_see: Instant) -> Verdict {
        let stamp = sight.stream.stamp();
        // Filled after this sight's connection was given up: of no use to the sight, but others may be served.
        if entry.stamp.epoch > stamp.epoch {
            return Verdict::Unproved;
        }
        if entry.stamp.epoch < stamp.epoch {
            return Verdict::Dead(Death::TrackingLost);
        }
        if entry.stamp.flush != stamp.flush {
            return Verdict::Dead(Death::Flushed);
        }
        if sight.now >= entry.deadline {
            return Verdict::Dead(Death::Expired);
        }
        let proved = sight.stream.is_live()
            && sight.now.since(sight.fresh) <= self.limits.max_staleness
            && sight.fresh >= seen_at
            && sight.fresh >= must_see;
        if proved { Verdict::Serve } else { Verdict::Unproved }
    }

    pub(super) fn count_death(&self, death: Death, entries: usize) {
        let counter = match death {
            Death::Expired => &self.tally.evicted_ttl,
            Death::Flushed => &self.tally.evicted_flush,
            Death::TrackingLost => &self.tally.evicted_tracking_lost,
        };
        Tally::add(counter, entries);
    }

    fn judge_slot<'s>(
        &self,
        slot: &'s Slot<Record<W>>,
        query: &Query<'_>,
        sight: &Sight,
        must_see: Instant,
    ) -> Option<(Verdict, &'s Entry)> {
        let entry = slot.entry(&query.id)?;
        Some((self.judge(entry, slot.state.seen_at, sight, must_see), entry))
    }

    /// Looks for a fetch of the same read that is alive. An old one could miss a foreign write older than the bound.
    fn join(&self, record: &Record<W>, query: &Query<'_>, sight: &Sight, must_see: Instant) -> Option<Join> {
        let stamp = sight.stream.stamp();
        let alive = |flight: &Flight<W>| {
            flight.is(&query.id) && flight.generation == record.generation && flight.stamp == stamp
        };
        let index = record.flights.iter().position(alive)?;
        let flight = record.flights.get(index)?;
        let shareable = sight.stream.is_live()
            && sight.now.since(flight.sent_at) <= self.limits.max_staleness
            && flight.sent_at >= record.seen_at
            && flight.sent_at >= must_see;
        Some(match (&flight.value, shareable) {
            (_, false) => Join::TooOld,
            (Some(value), true) => Join::Value(value.clone()),
            (None, true) => Join::Wait(index),
        })
    }

    pub(super) fn admit(&self, query: &Query<'_>, sight: &Sight) -> Result<(), Bypass> {
        self.may_store(query.hash, query.key, query.id.command, sight)?;
        if !self.limits.admit_always && !self.recent.see(query.hash, sight.now) {
            return Err(Bypass::Cold);
        }
        Ok(())
    }

    /// Whether a reply would be stored as far as stream, policy and its last size go.
    pub(super) fn may_store(&self, hash: u64, key: &[u8], command: u16, sight: &Sight) -> Result<(), Bypass> {
        if !sight.stream.is_live() {
            return Err(Bypass::NotLive);
        }
        if !self.policies.terms(key).allows(command) {
            return Err(Bypass::Policy);
        }
        if key.len() > self.limits.max_entry || self.is_too_large(hash, command, sight.now) {
            return Err(Bypass::TooLarge);
        }
        Ok(())
    }
}

enum Join {
    Value(Bytes),
    Wait(usize),
    TooOld,
}

fn serve(entry: &Entry, version: Version, out: &mut Vec<u8>) -> Option<Bytes> {
    let reply = entry.reply(version);
    if reply.len() > COPY_LIMIT {
        return Some(reply.clone());
    }
    out.extend_from_slice(reply);
    None
}

fn lead<W>(
    shard: &mut crate::cache::Shard<Record<W>>,
    query: &Query<'_>,
    sight: &Sight,
    waiter: Option<W>,
) -> Option<Lease> {
    let id = shard.find_or_create(query.hash, query.key)?;
    let record = shard.state_mut(id)?;
    let flight = Flight {
        serial: serial(),
        origin: query.id.origin,
        command: query.id.command,
        db: query.id.db,
        rest: query.id.rest.into(),
        generation: record.generation,
        sent_at: sight.now,
        // Captured under the shard's lock: a flush after this makes the flight's reply unstorable.
        stamp: sight.stream.stamp(),
        value: None,
        waiters: waiter.into_iter().collect(),
    };
    let lease = Lease {
        hash: query.hash,
        key: query.key.into(),
        flight: flight.serial,
        origin: query.id.origin,
        command: query.id.command,
        db: query.id.db,
        rest: query.id.rest.into(),
        shape: query.shape,
        hash_fields: query.hash_fields,
        stamp: flight.stamp,
    };
    // As for entries: one, not room for four.
    record.flights.reserve_exact(1);
    record.flights.push(flight);
    Some(lease)
}
