//! The nodes of a cluster by number, and who has which slot by these numbers: what routes a request looks into.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::shards::Shards;
use crate::command::{SLOT_COUNT, Slot};
use crate::config::Address;

/// A node of a cluster. A number is never another node's, however many come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u16);

impl NodeId {
    /// The number as an array index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Every node that the cluster has ever announced. Whoever is named elsewhere is not connected to.
#[derive(Debug, Default)]
pub struct Roster {
    known: RwLock<Known>,
    /// Where nodes are reached, by where they announce themselves, if that is elsewhere.
    aliases: HashMap<Address, Address>,
}

#[derive(Debug, Default)]
struct Known {
    numbers: HashMap<Address, NodeId>,
    addresses: Vec<Address>,
}

impl Roster {
    /// No nodes yet; `aliases`: where nodes are reached, by where they announce themselves, if that is elsewhere.
    pub fn new(aliases: HashMap<Address, Address>) -> Self {
        Self {
            aliases,
            ..Self::default()
        }
    }

    /// The node that is announced, or reached, at an address; `None`: there never was any.
    pub fn find(&self, address: &Address) -> Option<NodeId> {
        let reached = self.aliases.get(address).unwrap_or(address);
        self.known.read().numbers.get(reached).copied()
    }

    /// Where a node is.
    pub fn address(&self, node: NodeId) -> Option<Address> {
        self.known.read().addresses.get(node.index()).cloned()
    }

    /// The node that is announced at an address. `None`: there were more nodes than there are numbers.
    pub fn enter_node(&self, address: &Address) -> Option<NodeId> {
        self.known.write().number(address)
    }

    /// The nodes of `shards`, and who has what.
    pub fn enter(&self, shards: Arc<Shards>) -> Owners {
        let mut known = self.known.write();
        let mut primaries = Vec::new();
        for shard in shards.all() {
            primaries.push(known.number(&shard.primary));
            for replica in &shard.replicas {
                known.number(replica);
            }
        }
        drop(known);
        let owner = |number| {
            let place = Slot::new(number).and_then(|slot| shards.place_of(slot))?;
            primaries.get(place).copied().flatten()
        };
        let owners = (0..).take(SLOT_COUNT).map(owner).collect();
        Owners {
            owners,
            primaries: primaries.into_iter().flatten().collect(),
            shards,
        }
    }
}

impl Known {
    /// The number of the node at an address; `None`: there were more than there are numbers.
    fn number(&mut self, address: &Address) -> Option<NodeId> {
        if let Some(&number) = self.numbers.get(address) {
            return Some(number);
        }
        let number = u16::try_from(self.addresses.len()).ok().map(NodeId)?;
        self.numbers.insert(address.clone(), number);
        self.addresses.push(address.clone());
        Some(number)
    }
}

/// Who has which slot, by number.
#[derive(Clone, Debug)]
pub struct Owners {
    owners: Box<[Option<NodeId>]>,
    primaries: Vec<NodeId>,
    shards: Arc<Shards>,
}

impl Owners {
    /// The node that has the slot; `None`: nobody is known to.
    pub fn of(&self, slot: Slot) -> Option<NodeId> {
        self.owners.get(usize::from(slot.get())).copied().flatten()
    }

    /// The nodes that have slots, in the order of their lowest.
    pub fn primaries(&self) -> &[NodeId] {
        &self.primaries
    }

    /// The same by address, with their replicas.
    pub fn shards(&self) -> &Arc<Shards> {
        &self.shards
    }

    /// From here on `node` has the slot, whoever was thought to; false: it was thought to.
    pub fn give(&mut self, slot: Slot, node: NodeId) -> bool {
        let owner = self.owners.get_mut(usize::from(slot.get()));
        let changed = owner.is_some_and(|owner| owner.replace(node) != Some(node));
        if changed && !self.primaries.contains(&node) {
            self.primaries.push(node);
        }
        changed
    }

    /// The slots that others have here.
    pub fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Slot> + 'a {
        (0..)
            .map_while(Slot::new)
            .filter(|&slot| self.of(slot) != other.of(slot))
    }
}

impl Default for Owners {
    fn default() -> Self {
        Roster::default().enter(Arc::new(Shards::new(Vec::new())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Shard;

    fn at(host: &str) -> Address {
        Address::Tcp {
            host: host.to_owned(),
            port: 1,
        }
    }

    fn shards(parts: &[(&str, std::ops::RangeInclusive<u16>)]) -> Arc<Shards> {
        let shard = |(host, slots): &(&str, std::ops::RangeInclusive<u16>)| Shard {
            primary: at(host),
            replicas: vec![at(&format!("{host}-replica"))],
            slots: vec![slots.clone()],
        };
        Arc::new(Shards::new(parts.iter().map(shard).collect()))
    }

    #[test]
    fn nodes_keep_their_numbers_when_slots_move() {
        let roster = Roster::default();
        let slot = |number| Slot::new(number).unwrap();
        let before = roster.enter(shards(&[("a", 0..=99), ("b", 100..=199)]));
        let [a, b] = ["a", "b"].map(|host| roster.find(&at(host)).unwrap());
        assert_eq!(
            [0, 100, 200].map(|number| before.of(slot(number))),
            [Some(a), Some(b), None]
        );
        assert_eq!((roster.find(&at("c")), roster.address(b)), (None, Some(at("b"))));
        assert!(roster.find(&at("b-replica")).is_some());
        let behind_nat = Roster::new(HashMap::from([(at("announced"), at("reached"))]));
        let node = behind_nat.enter_node(&at("reached"));
        assert!(node.is_some() && behind_nat.find(&at("announced")) == node);
        let mut after = roster.enter(shards(&[("c", 100..=199), ("a", 0..=100)]));
        assert_eq!(after.of(slot(0)), Some(a));
        assert_eq!(after.differing(&before).count(), 100);
        assert!(after.give(slot(7), b) && !after.give(slot(7), b));
        assert_eq!(after.of(slot(7)), Some(b));
    }
}
