//! Which node of a cluster has which keys: immutable, replaced as a whole.

use std::ops::RangeInclusive;

use crate::command::{SLOT_COUNT, Slot};
use crate::config::Address;

/// In place of a shard's number: nobody is known to have the slot.
const NOBODY: u16 = u16::MAX;

/// A part of the keys, and the nodes that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The node that takes writes.
    pub primary: Address,
    /// The nodes that follow it and are known to be there, in the order of their addresses' text.
    pub replicas: Vec<Address>,
    /// The hash slots it has, in order, no two of them adjacent. Invariant: at least one, and its end is not before its start.
    pub slots: Vec<RangeInclusive<u16>>,
}

/// Which shard has which slot.
#[derive(Clone, PartialEq, Eq)]
pub struct Shards {
    shards: Vec<Shard>,
    /// The shard's place, by slot.
    owners: Box<[u16]>,
}

impl Shards {
    /// Shards that share no slot, in any order.
    pub fn new(mut shards: Vec<Shard>) -> Self {
        shards.sort_by_key(|shard| shard.slots.first().map(|range| *range.start()));
        let mut owners = vec![NOBODY; SLOT_COUNT].into_boxed_slice();
        for (place, shard) in (0..NOBODY).zip(&shards) {
            let slots = shard.slots.iter().cloned().flatten();
            for slot in slots {
                if let Some(owner) = owners.get_mut(usize::from(slot)) {
                    *owner = place;
                }
            }
        }
        Self { shards, owners }
    }

    /// All shards, in the order of their lowest slots.
    pub fn all(&self) -> &[Shard] {
        &self.shards
    }

    /// The place among [`Shards::all`] of the shard that has `slot`; `None`: nobody is known to.
    pub fn place_of(&self, slot: Slot) -> Option<usize> {
        let place = self.owners.get(usize::from(slot.get())).copied()?;
        (place != NOBODY).then_some(usize::from(place))
    }

    /// The shard that has `slot`.
    pub fn of(&self, slot: Slot) -> Option<&Shard> {
        self.shards.get(self.place_of(slot)?)
    }
}

impl std::fmt::Debug for Shards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shards").field(&self.shards).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(host: &str, slots: &[RangeInclusive<u16>]) -> Shard {
        Shard {
            primary: Address::Tcp {
                host: host.to_owned(),
                port: 1,
            },
            replicas: Vec::new(),
            slots: slots.to_vec(),
        }
    }

    #[test]
    fn a_slot_belongs_to_one_shard_or_to_nobody() {
        let shards = Shards::new(vec![shard("b", &[100..=199, 300..=16383]), shard("a", &[0..=99])]);
        let owner = |slot| {
            shards
                .of(Slot::new(slot).unwrap())
                .map(|shard| shard.primary.to_string())
        };
        assert_eq!(shards.all()[0].primary.to_string(), "a:1");
        assert_eq!(
            [0, 99, 200].map(owner),
            [Some("a:1".to_owned()), Some("a:1".to_owned()), None]
        );
        assert_eq!(
            [100, 199, 300, 16383].map(owner),
            [const { "b:1" }; 4].map(|name| Some(name.to_owned()))
        );
    }
}
