//! The keys of a run: which there are, what they are called, and which of them have something in common.

use super::cell::Kind;
use super::workload::{Op, kind_of};
use super::world::World;
use nearhit::command::Slot;

/// All keys of a database.
pub(super) const KEYS: usize = 120;
/// Hash tags of hot keys, and of the others: few enough for every slot to have several keys, and to be on every node.
const HOT_TAGS: usize = 6;
const OTHER_TAGS: usize = 18;

/// Which keys an operation may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Region {
    /// Those that most operations are about.
    Hot,
    Cold,
    /// Read through nearhit only by clients that do nothing else, and only written directly at the server: nothing but
    /// invalidations and the lease bars an old entry there. Elsewhere a client's other commands do, too.
    Quiet,
}

impl Region {
    /// The first key and how many there are.
    fn keys(self) -> (usize, usize) {
        match self {
            Self::Hot => (0, 20),
            Self::Cold => (20, 80),
            Self::Quiet => (100, KEYS - 100),
        }
    }

    fn of(index: usize) -> Self {
        match index % KEYS {
            0..20 => Self::Hot,
            20..100 => Self::Cold,
            _ => Self::Quiet,
        }
    }
}

/// Which hash tag a key has in a cluster.
fn tag(index: usize) -> usize {
    match Region::of(index) {
        Region::Hot => index % HOT_TAGS,
        Region::Cold | Region::Quiet => HOT_TAGS + index % OTHER_TAGS,
    }
}

impl World {
    pub(super) fn kind(&self, index: usize) -> Kind {
        kind_of(index % KEYS)
    }

    /// Which of the databases a key is in.
    pub(super) fn db_of(&self, index: usize) -> u32 {
        self.dbs.get(index / KEYS).copied().unwrap_or(0)
    }

    /// A key of the database with this place in the list, by dice.
    pub(super) fn choose(&self, db: usize, region: Region, dice: u64) -> usize {
        let (from, count) = region.keys();
        db * KEYS + from + usize::try_from(dice % count as u64).unwrap_or(0)
    }

    /// Another key of the same kind in the same region and database.
    pub(super) fn sibling(&self, index: usize, dice: u64) -> usize {
        self.sibling_that(index, dice, |_| true)
    }

    /// The same, for an operation on both that a server makes as a whole: in a cluster, of the same slot.
    pub(super) fn twin(&self, index: usize, dice: u64) -> usize {
        self.sibling_that(index, dice, |other| !self.tagged || tag(other) == tag(index))
    }

    fn sibling_that(&self, index: usize, dice: u64, fits: impl Fn(usize) -> bool) -> usize {
        let (db, kind) = (index - index % KEYS, self.kind(index));
        let (from, count) = Region::of(index).keys();
        let all: Vec<usize> = (db + from..db + from + count)
            .filter(|other| *other != index && self.kind(*other) == kind && fits(*other))
            .collect();
        let pick = usize::try_from(dice).unwrap_or(0).checked_rem(all.len());
        pick.and_then(|pick| all.get(pick)).copied().unwrap_or(index)
    }

    /// The keys an operation on this cell names.
    pub(super) fn names(&self, index: usize, generation: u32, op: Op) -> Vec<Vec<u8>> {
        let kind = self.kind(index);
        let tag = match self.tagged {
            true => format!("{{{}}}", tag(index)),
            false => String::new(),
        };
        let name = format!("{}{tag}{}{}.{generation}", self.prefix, kind.letter(), index % KEYS);
        match (kind, op) {
            (Kind::Pair, Op::Get) => vec![format!("{name}:a").into_bytes()],
            (Kind::Pair, _) => vec![format!("{name}:a").into_bytes(), format!("{name}:b").into_bytes()],
            _ => vec![name.into_bytes()],
        }
    }

    /// The slot of a cluster that a key belongs to, by whatever name.
    pub(super) fn slot_of(&self, index: usize) -> Slot {
        let names = self.names(index, 0, Op::Get);
        Slot::of(names.first().map_or(b"", Vec::as_slice))
    }

    /// A slot that has keys, by dice: one with hot keys in half of all cases.
    pub(super) fn some_slot(&self, dice: u64) -> Slot {
        let region = if dice.is_multiple_of(2) {
            Region::Hot
        } else {
            Region::Cold
        };
        self.slot_of(self.choose(0, region, dice / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::super::findings::Findings;
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn tagged() -> World {
        let mut world = World::new(String::new(), vec![0], Duration::ZERO, Findings::new(1));
        world.tagged = true;
        world
    }

    #[test]
    fn in_a_cluster_every_third_of_the_slots_has_hot_keys_and_others() {
        let world = tagged();
        for keys in [0..20, 20..KEYS] {
            let thirds: BTreeSet<_> = keys.map(|key| world.slot_of(key).get() * 3 / 16384).collect();
            assert_eq!(thirds.len(), 3);
        }
    }

    #[test]
    fn what_is_renamed_keeps_its_slot() {
        let world = tagged();
        for index in 0..KEYS {
            for dice in 0..20 {
                let twin = world.twin(index, dice);
                assert_eq!(world.slot_of(twin), world.slot_of(index));
                assert_eq!(world.kind(twin), world.kind(index));
            }
            let names = world.names(index, 3, Op::MgetPair);
            assert!(names.iter().all(|name| Slot::of(name) == world.slot_of(index)));
        }
        let movable = (0..20).filter(|&index| world.kind(index) == Kind::Text && world.twin(index, 0) != index);
        assert_eq!(movable.count(), 8);
    }
}
