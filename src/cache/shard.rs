//! One lock's part of the store: slots by key name, their entries, and the policy that says who is evicted.

use std::sync::Arc;

use hashbrown::HashTable;

use super::eviction::{self, Candidate, Eviction, EvictionKind, Mark, Pulse, Slots};
use super::pages::Pages;
use super::slot::{Slot, SlotState};
use super::versions::Versions;
use super::{Entry, EntryId};
use crate::mutants::{Mutant, mutated};

/// A slot's place in its shard. It stays valid until the slot is dropped, which needs the shard's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotId(u32);

impl SlotId {
    /// The slot at `raw`.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    pub(super) fn raw(self) -> u32 {
        self.0
    }

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// How names are hashed. A slot does not keep its name's hash: that would be a tenth of what a small entry takes.
pub type HashName = Arc<dyn Fn(&[u8]) -> u64 + Send + Sync>;

/// One lock's part of the store.
///
/// Invariants: a slot is known to `order` exactly when it has entries; a slot without entries is kept only while its
/// state is not idle; `bytes` is the sum of all weights.
pub struct Shard<S> {
    hash: HashName,
    table: HashTable<u32>,
    slots: Pages<Slot<S>>,
    free: Vec<u32>,
    order: Box<dyn Eviction>,
    pulse: Arc<Pulse>,
    /// Raised for a name whose entries change: there may be copies of them.
    versions: Arc<Versions>,
    bytes: u64,
    entries: usize,
}

impl<S: SlotState> Shard<S> {
    /// An empty shard for names that are hashed by `hash`, of whose entries nobody makes copies.
    pub fn new(eviction: EvictionKind, hash: HashName) -> Self {
        Self::with_versions(eviction, hash, Arc::new(Versions::new(1)))
    }

    /// An empty shard for names that are hashed by `hash`; whoever copies entries asks `versions`.
    pub fn with_versions(eviction: EvictionKind, hash: HashName, versions: Arc<Versions>) -> Self {
        let (order, pulse) = eviction::build(eviction);
        Self {
            hash,
            table: HashTable::new(),
            slots: Pages::default(),
            free: Vec::new(),
            order,
            pulse,
            versions,
            bytes: 0,
            entries: 0,
        }
    }

    /// Bytes of memory all slots and entries are accounted for.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no slot.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many places for slots there are, taken or free: see [`Shard::slice`].
    pub fn places(&self) -> usize {
        self.slots.len()
    }

    /// How many entries there are.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// The slot of `name`.
    pub fn find(&self, hash: u64, name: &[u8]) -> Option<SlotId> {
        let slots = &self.slots;
        self.table
            .find(hash, |&at| slot_at(slots, at).is_some_and(|slot| slot.is_named(name)))
            .map(|&at| SlotId(at))
    }

    /// The slot of `name`, made when there is none. `None` only when the shard holds 2³² slots.
    pub fn find_or_create(&mut self, hash: u64, name: &[u8]) -> Option<SlotId> {
        if let Some(id) = self.find(hash, name) {
            return Some(id);
        }
        debug_assert_eq!(hash, (self.hash)(name));
        let at = self.free_place()?;
        let slot = Slot::new(name);
        self.bytes += slot.weight();
        if let Some(place) = self.slots.get_mut(at as usize) {
            *place = slot;
        }
        let (slots, hash_of) = (&self.slots, &self.hash);
        self.table.insert_unique(hash, at, |&at| {
            slot_at(slots, at).map_or(0, |slot| hash_of(slot.name()))
        });
        Some(SlotId(at))
    }

    fn free_place(&mut self) -> Option<u32> {
        if let Some(at) = self.free.pop() {
            return Some(at);
        }
        let at = u32::try_from(self.slots.len()).ok().filter(|&at| at != u32::MAX)?;
        self.slots.push(Slot::free);
        Some(at)
    }

    /// The slot at `id`.
    pub fn slot(&self, id: SlotId) -> Option<&Slot<S>> {
        slot_at(&self.slots, id.0)
    }

    /// The hash of a slot's name.
    pub fn hash_of(&self, slot: &Slot<S>) -> u64 {
        (self.hash)(slot.name())
    }

    /// Changes the state of the slot at `id`.
    pub fn with_state<R>(&mut self, id: SlotId, change: impl FnOnce(&mut S) -> R) -> Option<R> {
        self.change(id, |slot| slot.with_state(change))
    }

    /// Changes a slot, and what it weighs.
    fn change<R>(&mut self, id: SlotId, change: impl FnOnce(&mut Slot<S>) -> R) -> Option<R> {
        let slot = self.slots.get_mut(id.index()).filter(|slot| !slot.is_free())?;
        let before = slot.weight();
        let result = change(slot);
        self.bytes = self.bytes - before + slot.weight();
        Some(result)
    }

    /// Every slot whose name has this hash: usually one, all of them when names collide.
    pub fn with_hash(&self, hash: u64) -> impl Iterator<Item = SlotId> + '_ {
        self.table
            .iter_hash(hash)
            .filter(move |&&at| slot_at(&self.slots, at).is_some_and(|slot| self.hash_of(slot) == hash))
            .map(|&at| SlotId(at))
    }

    /// What those who serve copies tell eviction by.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }

    /// Notes that an entry of the slot was served; until the mark changes, further hits need not be noted.
    pub fn touch(&self, id: SlotId) -> Option<Mark> {
        self.pulse.touch(self.slot(id).and_then(Slot::heat)?)
    }

    /// Copies of the slot's entries are not served any more: what was copied with them has changed.
    pub fn outdate(&self, id: SlotId) {
        if let Some(slot) = self.slot(id) {
            self.versions.raise(self.hash_of(slot));
        }
    }

    /// Stores `entry`, which has the slot's name, in the slot, and gives back the entry it replaces.
    pub fn insert(&mut self, id: SlotId, entry: Box<Entry>, is: &EntryId<'_>) -> Option<Box<Entry>> {
        let (first, replaced) = self.change(id, |slot| {
            debug_assert_eq!(slot.name(), entry.name());
            (slot.entries().is_empty(), slot.insert(entry, is))
        })?;
        self.entries += usize::from(replaced.is_none());
        let slot = slot_at(&self.slots, id.0)?;
        let heat = slot.heat()?;
        if first {
            self.order.inserted(id, (self.hash)(slot.name()), heat);
        } else {
            if replaced.is_some() {
                self.versions.raise((self.hash)(slot.name()));
            }
            // Somebody just asked for it.
            self.order.renewed(heat);
        }
        replaced
    }

    /// Takes all entries out of the slot. The slot itself stays until [`Shard::release`].
    pub fn clear(&mut self, id: SlotId) -> Vec<Box<Entry>> {
        self.take(id, Slot::clear)
    }

    /// Takes the entries out of the slot for which `dead` holds.
    pub fn clear_if(&mut self, id: SlotId, dead: impl FnMut(&Entry) -> bool) -> Vec<Box<Entry>> {
        self.take(id, |slot| slot.clear_if(dead))
    }

    fn take(&mut self, id: SlotId, take: impl FnOnce(&mut Slot<S>) -> Vec<Box<Entry>>) -> Vec<Box<Entry>> {
        let Some(heat) = self.slot(id).and_then(Slot::heat).map(eviction::Heat::copied) else {
            return Vec::new();
        };
        let taken = self.change(id, take).unwrap_or_default();
        self.entries -= taken.len();
        if let Some(slot) = slot_at(&self.slots, id.0).filter(|_| !taken.is_empty()) {
            let hash = (self.hash)(slot.name());
            if !mutated(Mutant::CopyKept) {
                self.versions.raise(hash);
            }
            if slot.entries().is_empty() {
                self.order.removed(id, hash, &heat);
            }
        }
        taken
    }

    /// Drops the slot when it has no entries and its state is idle.
    pub fn release(&mut self, id: SlotId) {
        let Some(slot) = self.slot(id).filter(|slot| slot.is_spent()) else {
            return;
        };
        let (hash, weight) = (self.hash_of(slot), slot.weight());
        if let Ok(found) = self.table.find_entry(hash, |&at| at == id.0) {
            found.remove();
        }
        self.bytes -= weight;
        if let Some(place) = self.slots.get_mut(id.index()) {
            *place = Slot::free();
        }
        self.free.push(id.0);
    }

    /// Evicts one slot's entries; `None` when there is nothing to evict.
    pub fn evict(&mut self) -> Option<Vec<Box<Entry>>> {
        let victim = self.order.victim(&Places(&self.slots))?;
        let entries = self.clear(victim);
        self.release(victim);
        Some(entries)
    }

    /// The slots at places `from .. from + count`, and whether there are places behind them: a sweep in slices.
    pub fn slice(&self, from: usize, count: usize) -> (Vec<SlotId>, bool) {
        let end = from.saturating_add(count).min(self.slots.len());
        let ids = (from..end)
            .filter(|&at| self.slots.get(at).is_some_and(|slot| !slot.is_free()))
            .filter_map(|at| u32::try_from(at).ok())
            .map(SlotId);
        (ids.collect(), end < self.slots.len())
    }

    /// Checks the invariants; for tests.
    ///
    /// # Panics
    /// When one of them does not hold.
    #[cfg(test)]
    pub fn validate(&self) {
        let slots = || self.slots.iter().filter(|slot| !slot.is_free());
        assert_eq!(slots().count(), self.table.len());
        assert_eq!(slots().map(|slot| slot.entries().len()).sum::<usize>(), self.entries);
        assert_eq!(slots().map(|slot| slot.weight()).sum::<u64>(), self.bytes);
        assert!(slots().all(|slot| !slot.is_spent()), "an idle slot was kept");
        let named = |slot: &Slot<S>| slot.entries().iter().all(|entry| entry.name() == slot.name());
        assert!(slots().all(named), "an entry under another name");
        let held = slots().filter(|slot| !slot.entries().is_empty()).count();
        assert_eq!(self.order.len(), held);
    }
}

/// The slots as a policy sees them.
struct Places<'a, S>(&'a Pages<Slot<S>>);

impl<S: SlotState> Slots for Places<'_, S> {
    fn places(&self) -> usize {
        self.0.len()
    }

    fn at(&self, place: usize) -> Option<(SlotId, Candidate<'_>)> {
        let at = u32::try_from(place).ok()?;
        Some((SlotId(at), slot_at(self.0, at)?.candidate()?))
    }
}

fn slot_at<S>(slots: &Pages<Slot<S>>, at: u32) -> Option<&Slot<S>> {
    slots.get(at as usize).filter(|slot| !slot.is_free())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cache::Stamp;
    use crate::resp::Shape;

    struct Idle;
    impl SlotState for Idle {
        fn create() -> Self {
            Self
        }
        fn is_idle(&self) -> bool {
            true
        }
        fn owned(&self) -> usize {
            0
        }
    }

    /// Names that begin alike have one hash.
    fn shard() -> Shard<Idle> {
        let hash = |name: &[u8]| name.iter().take(8).fold(7, |hash, &byte| hash * 31 + u64::from(byte));
        Shard::new(EvictionKind::Lru, Arc::new(hash))
    }

    fn put(shard: &mut Shard<Idle>, name: &[u8], command: u16, reply: &'static [u8]) {
        let id = EntryId {
            origin: 0,
            db: 0,
            command,
            rest: b"",
        };
        let stamp = Stamp { epoch: 1, flush: 0 };
        let hash = (shard.hash)(name);
        let slot = shard.find_or_create(hash, name).unwrap();
        let entry = Entry::new(name, &id, Bytes::from_static(reply), Shape::Same, stamp, 1);
        shard.insert(slot, entry.unwrap(), &id);
    }

    #[test]
    fn names_with_one_hash_are_kept_apart_and_found_together() {
        let mut shard = shard();
        put(&mut shard, b"the-same-a", 0, b"$1\r\nx\r\n");
        put(&mut shard, b"the-same-b", 0, b"$1\r\ny\r\n");
        shard.validate();
        let hash = (shard.hash)(b"the-same-a");
        assert_ne!(shard.find(hash, b"the-same-a"), shard.find(hash, b"the-same-b"));
        assert_eq!(shard.with_hash(hash).count(), 2);
        assert_eq!(shard.with_hash(hash + 1).count(), 0);
    }

    #[test]
    fn a_slot_that_was_refilled_is_not_the_next_to_leave() {
        let mut shard = shard();
        put(&mut shard, b"a", 0, b"$1\r\nx\r\n");
        put(&mut shard, b"b", 0, b"$1\r\nx\r\n");
        put(&mut shard, b"a", 0, b"$1\r\ny\r\n");
        shard.evict();
        let has = |name: &[u8]| shard.find((shard.hash)(name), name).is_some();
        assert!(has(b"a") && !has(b"b"));
    }

    #[test]
    fn bytes_are_given_back_when_everything_leaves() {
        let mut shard = shard();
        for key in 0..100_u64 {
            put(&mut shard, &key.to_be_bytes(), 0, b"$1\r\nx\r\n");
            put(&mut shard, &key.to_be_bytes(), 1, b":1\r\n");
            put(&mut shard, &key.to_be_bytes(), 1, b":22\r\n");
        }
        shard.validate();
        assert_eq!((shard.len(), shard.entries()), (100, 200));
        while shard.evict().is_some() {
            shard.validate();
        }
        assert_eq!((shard.bytes(), shard.len(), shard.entries()), (0, 0, 0));
    }
}
