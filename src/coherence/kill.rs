//! What takes entries away: kills by name, flushes, and the sweep that gives dead memory back.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::inspect::{Dropped, Flushed};
use super::lookup::{Death, Verdict};
use super::near_cache::{NearCache, Tally};
use crate::cache::{Entry, Shard, Slot, SlotId};
use crate::mutants::{Mutant, mutated};
use crate::time::Instant;

use super::flight::State;

/// A command that changes keys without saying which (SWAPDB, FLUSHALL, …) is on its way. Everything was dropped when it
/// began, nothing is stored while it is held, and everything is dropped again when it is let go, which must be before the
/// reply is passed on.
///
/// Flushing before and after is not enough: Redis tells nobody of a SWAPDB, so what is stored in between may be from
/// before it, and be served to a session that has seen the swapped database already.
#[must_use = "let it go when the command was answered or its connection is gone"]
pub struct Flushing<W>(Arc<NearCache<W>>);

impl<W> Drop for Flushing<W> {
    fn drop(&mut self) {
        self.0.flush_all();
        self.0.flushing.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a kill found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Removed,
    Raced,
    Absent,
}

impl<W> NearCache<W> {
    /// Drops everything cached for every name with this hash, in all databases and for all commands, and revokes the
    /// leases of its fetches. Called before a write is forwarded and again before it is acknowledged.
    pub fn kill(&self, hash: u64) {
        self.kill_slots(hash, Dropped::Write);
    }

    /// An invalidation from the server named `key`.
    pub fn invalidate(&self, key: &[u8]) {
        let effect = self.kill_slots(self.hash(key), Dropped::Push);
        Tally::add(&self.tally.invalidated_keys, 1);
        match effect {
            Effect::Removed => Tally::add(&self.tally.invalidated_removed, 1),
            Effect::Raced => Tally::add(&self.tally.invalidated_raced, 1),
            Effect::Absent => {}
        }
    }

    /// A reply about this name was given that did not come from the cache: from `now` on, nothing older may be served
    /// for it. `now` must have been read after the reply was. True when there are entries that are not served until the
    /// stream proves something newer.
    pub fn saw(&self, hash: u64, now: Instant) -> bool {
        let mut shard = self.lock(hash);
        let mut waiting = false;
        for id in slots_of(&shard, hash) {
            if shard.slot(id).is_some_and(|slot| !slot.entries().is_empty()) {
                waiting = true;
                if !mutated(Mutant::CopyUnseen) {
                    shard.outdate(id);
                }
            }
            shard.with_state(id, |state| {
                let record = state.begin();
                record.seen_at = record.seen_at.max(now);
            });
        }
        waiting
    }

    /// A command that changes keys without saying which is about to be forwarded.
    pub fn flushing(self: &Arc<Self>) -> Flushing<W> {
        // First the count, then the flush: a fetch begun after the flush finds the count when it is to be stored.
        self.flushing.fetch_add(1, Ordering::SeqCst);
        self.flush_by_command();
        Flushing(Arc::clone(self))
    }

    /// A command that changed keys without saying which passed through: everything is dead. For commands that are
    /// forwarded by this very process, [`NearCache::flushing`] is the one to use.
    pub fn flush_by_command(&self) {
        self.flush_all();
        self.note_flush(Flushed::Command);
        Tally::add(&self.tally.flushed_by_command, 1);
    }

    /// An application said that everything changed, or may have said so while nobody listened.
    pub fn flush_by_application(&self) {
        self.flush_all();
        self.note_flush(Flushed::Application);
        Tally::add(&self.tally.flushed_by_application, 1);
    }

    /// An operator wants the entries gone whose key's name `matches`; returns how many there were.
    pub fn flush_matching(&self, matches: impl FnMut(&[u8]) -> bool) -> usize {
        Tally::add(&self.tally.flushed_by_admin, 1);
        self.drop_matching(Dropped::Admin, matches)
    }

    /// Drops the entries whose key's name `matches`; returns how many there were.
    pub fn drop_matching(&self, why: Dropped, mut matches: impl FnMut(&[u8]) -> bool) -> usize {
        let mut dropped = 0;
        self.for_each_slot(|shard, id| {
            if let Some(slot) = shard.slot(id).filter(|slot| matches(slot.name())) {
                self.drops.note(shard.hash_of(slot), why, self.about_now());
                let entries = kill_slot(shard, id);
                dropped += entries.len();
                shard.release(id);
            }
        });
        Tally::add(&self.tally.evicted_flush, dropped);
        dropped
    }

    /// An operator wants the entries of one key gone, in all databases; returns how many there were.
    pub fn flush_key(&self, key: &[u8]) -> usize {
        self.drop_key(Dropped::Admin, key)
    }

    /// Drops the entries of one key, in all databases; returns how many there were.
    pub fn drop_key(&self, why: Dropped, key: &[u8]) -> usize {
        let hash = self.hash(key);
        let mut shard = self.lock(hash);
        let Some(id) = shard.find(hash, key) else { return 0 };
        let entries = kill_slot(&mut shard, id);
        shard.release(id);
        drop(shard);
        self.drops.note(hash, why, self.about_now());
        Tally::add(&self.tally.evicted_flush, entries.len());
        entries.len()
    }

    /// Gives back the memory of entries that can never be served again.
    pub fn sweep(&self, now: Instant) {
        self.sweep_part(0, 1, now);
    }

    /// The same for one of so many parts of the near-cache, in turn, about once a second: looking at an entry takes a wait for memory, and there may be
    /// millions.
    pub fn sweep_part(&self, part: usize, parts: usize, now: Instant) {
        self.note_time(now);
        let sights = self.sights(now);
        let mut counts = [0_usize; 3];
        let mut bury = |shard: &mut Shard<State<W>>, id| {
            let life = self.slots().zip(shard.slot(id));
            let life = life.map(|(slots, slot)| slots.life_of(slot.name()));
            let dead = shard.clear_if(id, |entry| {
                let verdict = match sights.of(entry.origin()) {
                    _ if life.is_some_and(|life| life != entry.db()) => Verdict::Dead(Death::Flushed),
                    Some(sight) => self.judge(entry, Instant::ZERO, sight, Instant::ZERO),
                    None => Verdict::Dead(Death::TrackingLost),
                };
                match verdict {
                    Verdict::Dead(death) => {
                        match death {
                            Death::Expired => counts[0] += 1,
                            Death::Flushed => counts[1] += 1,
                            Death::TrackingLost => counts[2] += 1,
                        }
                        true
                    }
                    Verdict::Serve | Verdict::Unproved => false,
                }
            });
            if !dead.is_empty() {
                shard.release(id);
            }
        };
        for index in (part..self.shard_count()).step_by(parts.max(1)) {
            self.for_each_slot_in(index, 0..usize::MAX, &mut bury);
        }
        let [expired, flushed, lost] = counts;
        self.count_death(Death::Expired, expired);
        self.count_death(Death::Flushed, flushed);
        self.count_death(Death::TrackingLost, lost);
    }

    /// Calls `visit` for every slot, a few hundred per lock.
    pub(super) fn for_each_slot(&self, mut visit: impl FnMut(&mut Shard<State<W>>, SlotId)) {
        for index in 0..self.shard_count() {
            self.for_each_slot_in(index, 0..usize::MAX, &mut visit);
        }
    }

    /// The same for the slots at some places of one shard.
    pub(super) fn for_each_slot_in(
        &self,
        index: usize,
        places: Range<usize>,
        mut visit: impl FnMut(&mut Shard<State<W>>, SlotId),
    ) {
        const SLICE: usize = 256;
        let mut from = places.start;
        while from < places.end {
            let mut shard = self.lock_at(index);
            let (ids, more) = shard.slice(from, SLICE.min(places.end - from));
            for id in ids {
                visit(&mut shard, id);
            }
            if !more {
                break;
            }
            from += SLICE;
        }
    }

    pub(super) fn note_flush(&self, why: Flushed) {
        self.flushes.note(0, why, self.about_now());
    }

    fn kill_slots(&self, hash: u64, why: Dropped) -> Effect {
        let mut effect = Effect::Absent;
        let mut dropped = Vec::new();
        let mut shard = self.lock(hash);
        let mut earned = None;
        for id in slots_of(&shard, hash) {
            earned = earned.max(shard.slot(id).and_then(has_earned));
            let entries = kill_slot(&mut shard, id);
            effect = match (effect, entries.is_empty()) {
                (_, false) | (Effect::Removed, _) => Effect::Removed,
                (_, true) => Effect::Raced,
            };
            shard.release(id);
            if dropped.is_empty() {
                dropped = entries;
            } else {
                dropped.extend(entries);
            }
        }
        drop(shard);
        if let Some(earned) = earned.filter(|_| !self.limits.admit_always) {
            self.write_hot.written(hash, earned, self.about_now());
        }
        if effect != Effect::Absent {
            self.drops.note(hash, why, self.about_now());
        }
        Tally::add(&self.tally.evicted_invalidated, dropped.len());
        // `dropped` is freed here, after the lock was let go.
        effect
    }
}

/// All slots with this hash. Almost always none or one, and then nothing is allocated.
fn slots_of<W>(shard: &Shard<State<W>>, hash: u64) -> impl Iterator<Item = SlotId> + use<W> {
    let mut ids = shard.with_hash(hash);
    let first = ids.next();
    let others: Vec<_> = ids.collect();
    first.into_iter().chain(others)
}

/// Whether what was fetched for a name served anybody who did not begin the fetch; `None`: nothing was.
fn has_earned<W>(slot: &Slot<State<W>>) -> Option<bool> {
    let alive = slot.record().map(|record| {
        let flights = record.flights.iter();
        flights.filter(|flight| flight.generation == record.generation)
    });
    let joined = alive.into_iter().flatten().map(|flight| !flight.joiners.is_empty());
    let hit = slot.entries().iter().map(|entry| entry.was_served());
    hit.chain(joined).max()
}

fn kill_slot<W>(shard: &mut Shard<State<W>>, id: SlotId) -> Vec<Box<Entry>> {
    shard.with_state(id, State::kill);
    if mutated(Mutant::DbOnlyInval) {
        return shard.clear_if(id, |entry| entry.db() == 0);
    }
    shard.clear(id)
}
