//! The read path: may this entry be served to this session now, and if not, who fetches it.

use std::sync::Arc;

use super::copies::Copies;
use super::flight::{Flight, Lease, Query, Record, State, serial};
use super::near_cache::{NearCache, Tally};
use super::sight::{Reader, Sight};
use crate::cache::{Entry, Shard, SharedReply, Slot, SlotId};
use crate::metrics::Bypass;
use crate::mutants::{Mutant, mutated};
use crate::resp::Version;
use crate::time::Instant;

/// What became of a lookup.
#[derive(Debug)]
pub enum Lookup {
    /// Answered; small replies were appended to the output, a large one is shared.
    Hit {
        /// The key does not exist, and that is cached.
        negative: bool,
        /// A reply too large to copy, or compressed.
        shared: Option<SharedReply>,
        /// Which entry it was; no two have the same number.
        serial: u64,
        /// When the fetch of the entry was handed to the socket.
        fetched_at: Instant,
    },
    /// The waiter, if there is one, was added to another session's fetch.
    Wait,
    /// The waiter, if there is one, leads a new fetch: it must be handed to the tracked connection.
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

impl<W> NearCache<W> {
    /// Answers `query` from memory, or says who will answer it. `copies` are the calling worker's.
    ///
    /// A hit is appended to `out`. The second value tells whether a PING on the tracked connection could make the entry servable.
    pub fn lookup(
        &self,
        copies: &mut Copies,
        query: &Query<'_>,
        reader: Reader<'_>,
        waiter: W,
        out: &mut Vec<u8>,
    ) -> (Lookup, bool) {
        if let Some(entry) = self.copied(copies, query, reader) {
            return (hit(entry, reader.version, out), false);
        }
        self.look(copies, query, reader, Some(waiter), out)
    }

    /// Does what [`NearCache::lookup`] does, for somebody whom the server answers all the same: nobody waits.
    pub fn shadow(
        &self,
        copies: &mut Copies,
        query: &Query<'_>,
        reader: Reader<'_>,
        out: &mut Vec<u8>,
    ) -> (Lookup, bool) {
        self.look(copies, query, reader, None, out)
    }

    /// The first look: the worker's copy of the entry, if it may be served. No lock, and nothing is written that another
    /// thread reads.
    pub(super) fn copied<'c>(
        &self,
        copies: &'c mut Copies,
        query: &Query<'_>,
        reader: Reader<'_>,
    ) -> Option<&'c Entry> {
        let copy = copies.find(query)?;
        let entry = copy.entry()?;
        let current = copy.version == self.versions.of(query.hash) && copy.mark == self.mark(query.hash);
        let serves =
            current && self.judge(entry, copy.seen_at, reader.sight, reader.entry_must_see()) == Verdict::Serve;
        serves.then_some(entry)
    }

    /// An entry was served under the shard's lock: further hits on it may be a copy's.
    fn served(
        &self,
        shard: &Shard<State<W>>,
        id: SlotId,
        (slot, entry): (&Slot<State<W>>, &Entry),
        query: &Query<'_>,
        copies: &mut Copies,
    ) {
        entry.note_hit();
        if let Some(mark) = shard.touch(id) {
            // Under the lock: nothing that raises the number can come between. Most do not get a copy, and it is not read.
            let number = || self.versions.of(query.hash);
            copies.keep(query, entry, number, slot.seen_at(), mark);
        }
    }

    fn look(
        &self,
        copies: &mut Copies,
        query: &Query<'_>,
        reader: Reader<'_>,
        waiter: Option<W>,
        out: &mut Vec<u8>,
    ) -> (Lookup, bool) {
        let Reader {
            sight,
            must_see,
            version,
            ..
        } = reader;
        let mut shard = self.lock(query.hash);
        let found = shard.find(query.hash, query.key);
        let mut unproved = false;
        if let Some(id) = found
            && let Some(slot) = shard.slot(id)
        {
            match self.judge_slot(slot, query, sight, reader.entry_must_see()) {
                Some((Verdict::Serve, entry)) => {
                    self.served(&shard, id, (slot, entry), query, copies);
                    return (hit(entry, version, out), false);
                }
                Some((Verdict::Dead(death), _)) => {
                    let dead = shard.clear_if(id, |entry| entry.is(&query.id));
                    self.count_death(death, dead.len());
                    // It is freed here, under the lock, but it is one entry and rare.
                }
                Some((Verdict::Unproved, _)) => {
                    unproved = true;
                    self.count_unproved(sight);
                }
                None => {}
            }
        }
        let record = found.and_then(|id| shard.slot(id)?.record());
        if let Some(id) = found
            && let Some(joined) = record.and_then(|record| self.join(record, query, sight, must_see))
        {
            return match joined {
                Join::Wait(flight) => {
                    let joiner = waiter.map(|waiter| (waiter, sight.now));
                    shard.with_state(id, |state| state.join(flight, joiner));
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
        let lease = lead(&mut shard, query, sight, waiter);
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
    pub fn peek(&self, copies: &mut Copies, query: &Query<'_>, reader: Reader<'_>, out: &mut Vec<u8>) -> Option<u64> {
        let Reader { sight, version, .. } = reader;
        if sight.by_age {
            // Entries of different ages were not current together.
            return None;
        }
        if let Some(entry) = self.copied(copies, query, reader) {
            append_whole(entry.append(version, out), out);
            return Some(entry.serial);
        }
        let shard = self.lock(query.hash);
        let id = shard.find(query.hash, query.key)?;
        let slot = shard.slot(id)?;
        let (Verdict::Serve, entry) = self.judge_slot(slot, query, sight, reader.entry_must_see())? else {
            return None;
        };
        self.served(&shard, id, (slot, entry), query, copies);
        let (shared, serial) = (entry.append(version, out), entry.serial);
        drop(shard);
        append_whole(shared, out);
        Some(serial)
    }

    /// Whether the entry that [`NearCache::peek`] saw is still there and still servable: the second look of a multi-key
    /// read. When it holds for all keys, all values were current together at the moment between the two looks.
    pub fn is_unchanged(&self, copies: &mut Copies, query: &Query<'_>, reader: Reader<'_>, serial: u64) -> bool {
        if mutated(Mutant::MgetSingleCollect) {
            return true;
        }
        if let Some(entry) = self.copied(copies, query, reader) {
            return entry.serial == serial;
        }
        let shard = self.lock(query.hash);
        shard
            .find(query.hash, query.key)
            .and_then(|id| shard.slot(id))
            .and_then(|slot| self.judge_slot(slot, query, reader.sight, reader.entry_must_see()))
            .is_some_and(|(verdict, entry)| verdict == Verdict::Serve && entry.serial == serial)
    }

    /// Whether the entry with this number of a name with this hash is still there, and nothing but a proof of life is
    /// missing for it to be served: it was not invalidated, flushed, or given up with its connection.
    pub fn holds(&self, hash: u64, serial: u64, sight: &Sight) -> bool {
        let shard = self.lock(hash);
        let mut slots = shard.with_hash(hash).filter_map(|id| shard.slot(id));
        slots
            .find_map(|slot| slot.entries().iter().find(|entry| entry.serial == serial))
            .is_some_and(|entry| !matches!(self.judge(entry, Instant::ZERO, sight, Instant::ZERO), Verdict::Dead(_)))
    }

    /// Starts a fetch of `query` that nobody waits for, if the key is admitted, not cached and not being fetched.
    pub fn prefetch(&self, query: &Query<'_>, sight: &Sight, must_see: Instant) -> Option<Lease> {
        let mut shard = self.lock(query.hash);
        if let Some(slot) = shard.find(query.hash, query.key).and_then(|id| shard.slot(id)) {
            let held = matches!(
                self.judge_slot(slot, query, sight, must_see),
                Some((Verdict::Serve | Verdict::Unproved, _))
            );
            let fetching = slot.record().is_some_and(|record| {
                let alive = |flight: &Flight<W>| flight.is(&query.id) && flight.generation == record.generation;
                record.flights.iter().any(alive)
            });
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
        if entry.stamp().epoch > stamp.epoch {
            return Verdict::Unproved;
        }
        if entry.stamp().epoch < stamp.epoch && !mutated(Mutant::EpochAtLeast) {
            return Verdict::Dead(Death::TrackingLost);
        }
        if entry.stamp().flush != stamp.flush {
            return Verdict::Dead(Death::Flushed);
        }
        if sight.now >= entry.deadline() {
            return Verdict::Dead(Death::Expired);
        }
        let as_of = if sight.by_age { entry.fetched_at } else { sight.fresh };
        // Zero is no proof, however long this process has run.
        let proved = sight.stream.is_live()
            && sight.fresh > Instant::ZERO
            && (sight.now.since(sight.fresh) <= self.limits.max_staleness || mutated(Mutant::NoLease))
            && as_of >= seen_at
            && as_of >= must_see;
        if proved { Verdict::Serve } else { Verdict::Unproved }
    }

    fn count_unproved(&self, sight: &Sight) {
        let counter = if self.has_lapsed(sight) {
            &self.tally.lapsed
        } else {
            &self.tally.outdated
        };
        Tally::add(counter, 1);
    }

    fn has_lapsed(&self, sight: &Sight) -> bool {
        !sight.stream.is_live()
            || sight.fresh == Instant::ZERO
            || sight.now.since(sight.fresh) > self.limits.max_staleness
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
        slot: &'s Slot<State<W>>,
        query: &Query<'_>,
        sight: &Sight,
        must_see: Instant,
    ) -> Option<(Verdict, &'s Entry)> {
        let entry = slot.entry(&query.id)?;
        Some((self.judge(entry, slot.seen_at(), sight, must_see), entry))
    }

    /// Looks for a fetch of the same read that is alive. An old one could miss a foreign write older than the bound.
    fn join(&self, record: &Record<W>, query: &Query<'_>, sight: &Sight, must_see: Instant) -> Option<Join> {
        let stamp = sight.stream.stamp();
        let alive = |flight: &Flight<W>| {
            let alive = flight.generation == record.generation && flight.stamp == stamp;
            flight.is(&query.id) && (alive || mutated(Mutant::JoinDead))
        };
        let index = record.flights.iter().position(alive)?;
        let flight = record.flights.get(index)?;
        let oldest = self.limits.max_staleness.min(sight.stream.reach().longest);
        let shareable = sight.stream.is_live()
            && (sight.now.since(flight.sent_at) <= oldest || mutated(Mutant::JoinOld))
            && flight.sent_at >= record.seen_at
            && flight.sent_at >= must_see;
        Some(if shareable { Join::Wait(index) } else { Join::TooOld })
    }

    pub(super) fn admit(&self, query: &Query<'_>, sight: &Sight) -> Result<(), Bypass> {
        self.may_store(query.hash, query.key, query.id.command, sight)?;
        if self.limits.admit_always {
            return Ok(());
        }
        if self.write_hot.bars(query.hash, sight.now) {
            return Err(Bypass::WriteHot);
        }
        if !self.recent.see(query.hash, sight.now) {
            return Err(Bypass::Cold);
        }
        Ok(())
    }

    /// Whether a reply would be stored as far as stream, policy and its last size go.
    pub(super) fn may_store(&self, hash: u64, key: &[u8], command: u16, sight: &Sight) -> Result<(), Bypass> {
        if !sight.stream.is_live() {
            return Err(Bypass::NotLive);
        }
        if !sight.stream.reach().covers(key) {
            return Err(Bypass::NotCovered);
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
    Wait(usize),
    TooOld,
}

fn hit(entry: &Entry, version: Version, out: &mut Vec<u8>) -> Lookup {
    Lookup::Hit {
        negative: entry.negative,
        shared: entry.append(version, out),
        serial: entry.serial,
        fetched_at: entry.fetched_at,
    }
}

fn append_whole(shared: Option<SharedReply>, out: &mut Vec<u8>) {
    if let Some(shared) = shared {
        shared.append(out);
    }
}

fn lead<W>(shard: &mut Shard<State<W>>, query: &Query<'_>, sight: &Sight, waiter: Option<W>) -> Option<Lease> {
    let id = shard.find_or_create(query.hash, query.key)?;
    let flight = Flight {
        serial: serial(),
        origin: query.id.origin,
        command: query.id.command,
        db: query.id.db,
        rest: query.id.rest.into(),
        generation: 0,
        sent_at: sight.now,
        // Captured under the shard's lock: a flush after this makes the flight's reply unstorable.
        stamp: sight.stream.stamp(),
        leader: waiter,
        joiners: Vec::new(),
        as_read: None,
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
        stream: Arc::clone(&sight.stream),
    };
    shard.with_state(id, |state| {
        let record = state.begin();
        // One, not room for four.
        record.flights.reserve_exact(1);
        record.flights.push(Flight {
            generation: record.generation,
            ..flight
        });
    })?;
    Some(lease)
}
