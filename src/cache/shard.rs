//! One lock's part of the store: slots by key name, their entries, and the order in which they would be evicted.

use hashbrown::HashTable;

use super::eviction::{Eviction, EvictionKind};
use super::{Entry, EntryId};

/// What a slot costs beyond its name and entries: the struct, its share of the table and of the eviction order, and the
/// name's allocation. Chosen from the layout, not measured.
const SLOT_OVERHEAD: u64 = 96 + 48;

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

/// What `coherence/` keeps per key name.
pub trait SlotState {
    /// The state of a name that was just met.
    fn create() -> Self;
    /// Whether nothing refers to the slot, so that it may go when it has no entries.
    fn is_idle(&self) -> bool;
}

/// Everything kept for one key name, in all databases and for all commands.
#[derive(Debug)]
pub struct Slot<S> {
    hash: u64,
    name: Box<[u8]>,
    entries: Vec<Entry>,
    /// Generation and flights.
    pub state: S,
}

impl<S> Slot<S> {
    /// The key's name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What is cached for it.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of `id`.
    pub fn entry(&self, id: &EntryId<'_>) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.is(id))
    }

    fn weight(&self) -> u64 {
        SLOT_OVERHEAD + size_of::<S>() as u64 + self.name.len() as u64
    }
}

/// One lock's part of the store.
///
/// Invariants: a slot is in `order` exactly when it has entries; a slot without entries is kept only while its state is
/// not idle; `bytes` is the sum of all weights.
pub struct Shard<S> {
    table: HashTable<u32>,
    slots: Vec<Option<Slot<S>>>,
    free: Vec<u32>,
    order: Box<dyn Eviction>,
    bytes: u64,
    entries: usize,
}

impl<S: SlotState> Shard<S> {
    /// An empty shard.
    pub fn new(eviction: EvictionKind) -> Self {
        Self {
            table: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            order: eviction.build(),
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

    /// How many entries there are.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// The slot of `name`.
    pub fn find(&self, hash: u64, name: &[u8]) -> Option<SlotId> {
        let slots = &self.slots;
        self.table
            .find(hash, |&at| {
                slot_at(slots, at).is_some_and(|slot| slot.hash == hash && *slot.name == *name)
            })
            .map(|&at| SlotId(at))
    }

    /// The slot of `name`, made when there is none. `None` only when the shard holds 2³² slots.
    pub fn find_or_create(&mut self, hash: u64, name: &[u8]) -> Option<SlotId> {
        if let Some(id) = self.find(hash, name) {
            return Some(id);
        }
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                let at = u32::try_from(self.slots.len()).ok().filter(|&at| at != u32::MAX)?;
                self.slots.push(None);
                at
            }
        };
        let slot = Slot {
            hash,
            name: name.into(),
            entries: Vec::new(),
            state: S::create(),
        };
        self.bytes += slot.weight();
        if let Some(place) = self.slots.get_mut(at as usize) {
            *place = Some(slot);
        }
        let slots = &self.slots;
        self.table
            .insert_unique(hash, at, |&at| slot_at(slots, at).map_or(0, |slot| slot.hash));
        Some(SlotId(at))
    }

    /// The slot at `id`.
    pub fn slot(&self, id: SlotId) -> Option<&Slot<S>> {
        slot_at(&self.slots, id.0)
    }

    /// The state of the slot at `id`.
    pub fn state_mut(&mut self, id: SlotId) -> Option<&mut S> {
        self.slots
            .get_mut(id.index())
            .and_then(Option::as_mut)
            .map(|slot| &mut slot.state)
    }

    /// Every slot whose name has this hash: usually one, all of them when names collide.
    pub fn with_hash(&self, hash: u64) -> impl Iterator<Item = SlotId> + '_ {
        self.table
            .iter_hash(hash)
            .filter(move |&&at| slot_at(&self.slots, at).is_some_and(|slot| slot.hash == hash))
            .map(|&at| SlotId(at))
    }

    /// Notes that an entry of the slot was served.
    pub fn touch(&mut self, id: SlotId) {
        self.order.touched(id);
    }

    /// Stores `entry` in the slot, and gives back the entry it replaces.
    pub fn insert(&mut self, id: SlotId, entry: Entry, is: &EntryId<'_>) -> Option<Entry> {
        let slot = self.slots.get_mut(id.index()).and_then(Option::as_mut)?;
        let first = slot.entries.is_empty();
        self.bytes += entry.weight();
        let replaced = match slot.entries.iter_mut().find(|held| held.is(is)) {
            Some(held) => Some(std::mem::replace(held, entry)),
            None => {
                // Most names have one entry; a vector that grows by itself makes room for four.
                slot.entries.reserve_exact(1);
                slot.entries.push(entry);
                self.entries += 1;
                None
            }
        };
        if let Some(old) = &replaced {
            self.bytes -= old.weight();
        }
        if first {
            self.order.inserted(id);
        } else {
            // Somebody just asked for it.
            self.order.touched(id);
        }
        replaced
    }

    /// Takes all entries out of the slot. The slot itself stays until [`Shard::release`].
    pub fn clear(&mut self, id: SlotId) -> Vec<Entry> {
        let Some(slot) = self.slots.get_mut(id.index()).and_then(Option::as_mut) else {
            return Vec::new();
        };
        let entries = std::mem::take(&mut slot.entries);
        if !entries.is_empty() {
            self.order.removed(id);
            self.entries -= entries.len();
            self.bytes -= entries.iter().map(Entry::weight).sum::<u64>();
        }
        entries
    }

    /// Takes the entries out of the slot for which `dead` holds.
    pub fn clear_if(&mut self, id: SlotId, mut dead: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        let Some(slot) = self.slots.get_mut(id.index()).and_then(Option::as_mut) else {
            return Vec::new();
        };
        let gone: Vec<_> = slot.entries.extract_if(.., |entry| dead(entry)).collect();
        self.entries -= gone.len();
        self.bytes -= gone.iter().map(Entry::weight).sum::<u64>();
        if !gone.is_empty() && slot.entries.is_empty() {
            self.order.removed(id);
        }
        gone
    }

    /// Drops the slot when it has no entries and its state is idle.
    pub fn release(&mut self, id: SlotId) {
        let Some(slot) = self.slot(id) else { return };
        if !slot.entries.is_empty() || !slot.state.is_idle() {
            return;
        }
        let (hash, weight) = (slot.hash, slot.weight());
        if let Ok(found) = self.table.find_entry(hash, |&at| at == id.0) {
            found.remove();
        }
        self.bytes -= weight;
        if let Some(place) = self.slots.get_mut(id.index()) {
            *place = None;
        }
        self.free.push(id.0);
    }

    /// Evicts one slot's entries; `None` when there is nothing to evict.
    pub fn evict(&mut self) -> Option<Vec<Entry>> {
        let victim = self.order.victim()?;
        let entries = self.clear(victim);
        self.release(victim);
        Some(entries)
    }

    /// The slots at places `from .. from + count`, and whether there are places behind them: a sweep in slices.
    pub fn slice(&self, from: usize, count: usize) -> (Vec<SlotId>, bool) {
        let end = from.saturating_add(count).min(self.slots.len());
        let ids = (from..end)
            .filter(|&at| matches!(self.slots.get(at), Some(Some(_))))
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
        let slots = || self.slots.iter().flatten();
        assert_eq!(slots().count(), self.table.len());
        assert_eq!(slots().map(|slot| slot.entries.len()).sum::<usize>(), self.entries);
        let bytes: u64 = slots()
            .map(|slot| slot.weight() + slot.entries.iter().map(Entry::weight).sum::<u64>())
            .sum();
        assert_eq!(bytes, self.bytes);
        assert!(
            slots().all(|slot| !slot.entries.is_empty() || !slot.state.is_idle()),
            "an idle slot was kept"
        );
        assert_eq!(self.order.victim().is_none(), self.entries == 0);
    }
}

fn slot_at<S>(slots: &[Option<Slot<S>>], at: u32) -> Option<&Slot<S>> {
    slots.get(at as usize).and_then(Option::as_ref)
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
    }

    fn put(shard: &mut Shard<Idle>, hash: u64, name: &[u8], command: u16, reply: &'static [u8]) {
        let id = EntryId {
            origin: 0,
            db: 0,
            command,
            rest: b"",
        };
        let stamp = Stamp { epoch: 1, flush: 0 };
        let slot = shard.find_or_create(hash, name).unwrap();
        shard.insert(
            slot,
            Entry::new(&id, Bytes::from_static(reply), Shape::Same, stamp, 1),
            &id,
        );
    }

    #[test]
    fn names_with_one_hash_are_kept_apart_and_found_together() {
        let mut shard = Shard::new(EvictionKind::Lru);
        put(&mut shard, 7, b"a", 0, b"$1\r\nx\r\n");
        put(&mut shard, 7, b"b", 0, b"$1\r\ny\r\n");
        shard.validate();
        assert_ne!(shard.find(7, b"a"), shard.find(7, b"b"));
        assert_eq!(shard.with_hash(7).count(), 2);
        assert_eq!(shard.with_hash(8).count(), 0);
    }

    #[test]
    fn a_slot_that_was_refilled_is_not_the_next_to_leave() {
        let mut shard = Shard::new(EvictionKind::Lru);
        put(&mut shard, 1, b"a", 0, b"$1\r\nx\r\n");
        put(&mut shard, 2, b"b", 0, b"$1\r\nx\r\n");
        put(&mut shard, 1, b"a", 0, b"$1\r\ny\r\n");
        shard.evict();
        assert!(shard.find(1, b"a").is_some() && shard.find(2, b"b").is_none());
    }

    #[test]
    fn bytes_are_given_back_when_everything_leaves() {
        let mut shard = Shard::new(EvictionKind::Lru);
        for key in 0..100_u64 {
            put(&mut shard, key, &key.to_be_bytes(), 0, b"$1\r\nx\r\n");
            put(&mut shard, key, &key.to_be_bytes(), 1, b":1\r\n");
            put(&mut shard, key, &key.to_be_bytes(), 1, b":22\r\n");
        }
        shard.validate();
        assert_eq!((shard.len(), shard.entries()), (100, 200));
        while shard.evict().is_some() {
            shard.validate();
        }
        assert_eq!((shard.bytes(), shard.len(), shard.entries()), (0, 0, 0));
    }
}
