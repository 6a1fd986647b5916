//! What is cached for an account: one part of the near-cache, or in a cluster one for each node that has keys, because each
//! tells of changes on its own.

use std::ops::Deref;
use std::sync::Arc;
use std::task::Waker;

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use super::account::Partition;
use super::accounts::Partitions;
use crate::coherence::Origin;
use crate::config::Address;
use crate::time::Instant;
use crate::topology::NodeId;
use crate::upstream::Identity;

/// The parts of the near-cache that are an account's.
#[derive(Clone)]
pub(super) enum Holdings {
    /// Nothing is cached for it.
    Nothing,
    /// The server is one node.
    One(Box<Partition>),
    /// By the node's number.
    ByNode(Arc<ByNode>),
}

/// One partition a node.
pub(super) struct ByNode {
    identity: Identity,
    parts: ArcSwap<Parts>,
    /// Held while they are replaced.
    turn: Mutex<()>,
}

type Parts = Vec<Option<Partition>>;

/// A partition that is looked at.
pub enum Held<'a> {
    One(&'a Partition),
    /// Invariant: there is one at this place.
    OfNode(Guard<Arc<Parts>>, usize),
}

impl Deref for Held<'_> {
    type Target = Partition;

    #[allow(
        clippy::unreachable,
        reason = "the place was looked at when this was made, and what it looks into is immutable"
    )]
    fn deref(&self) -> &Partition {
        match self {
            Self::One(partition) => partition,
            Self::OfNode(parts, place) => match parts.get(*place) {
                Some(Some(partition)) => partition,
                _ => unreachable!("the partition was there"),
            },
        }
    }
}

impl Holdings {
    /// What `partition` is, if there is one.
    pub(super) fn one(partition: Option<Partition>) -> Self {
        partition.map_or(Self::Nothing, |partition| Self::One(Box::new(partition)))
    }

    /// Nothing yet for any node of a cluster; see [`Holdings::follow`].
    pub(super) fn by_node(identity: Identity) -> Self {
        Self::ByNode(Arc::new(ByNode {
            identity,
            parts: ArcSwap::default(),
            turn: Mutex::default(),
        }))
    }

    /// The partition for what is read of `node`, which is named in a cluster.
    pub(super) fn at(&self, node: Option<NodeId>) -> Option<Held<'_>> {
        match self {
            Self::Nothing => None,
            Self::One(partition) => Some(Held::One(partition)),
            Self::ByNode(by_node) => {
                let (parts, place) = (by_node.parts.load(), node?.index());
                let is_there = matches!(parts.get(place), Some(Some(_)));
                is_there.then_some(Held::OfNode(parts, place))
            }
        }
    }

    /// The number of that partition's origin.
    pub(super) fn origin_at(&self, node: Option<NodeId>) -> Option<u16> {
        match self {
            Self::One(partition) => Some(partition.origin.number()),
            _ => self.at(node).map(|partition| partition.origin.number()),
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Partition> {
        match self {
            Self::Nothing => Vec::new(),
            Self::One(partition) => vec![Partition::clone(partition)],
            Self::ByNode(by_node) => by_node.parts.load().iter().flatten().cloned().collect(),
        }
    }

    /// Whether one of them has this origin.
    pub(super) fn has(&self, origin: u16) -> bool {
        let is = |held: &Arc<Origin>| held.number() == origin;
        match self {
            Self::Nothing => false,
            Self::One(partition) => is(&partition.origin),
            Self::ByNode(by_node) => by_node.parts.load().iter().flatten().any(|part| is(&part.origin)),
        }
    }

    /// Whether every change made before `read_at` is known, so that nobody is served what was there before it. If not, `task`
    /// is woken when there is news.
    pub(super) fn know_all_before(&self, read_at: Instant, task: &Waker) -> bool {
        match self {
            Self::Nothing => true,
            Self::One(partition) => partition.knows_all_before(read_at, task),
            Self::ByNode(by_node) => {
                let parts = by_node.parts.load();
                // Each is asked, so that each is on its way.
                let unknown = parts.iter().flatten();
                unknown.filter(|part| !part.knows_all_before(read_at, task)).count() == 0
            }
        }
    }

    /// Opens what is missing for `nodes` and closes what is not for one of them.
    pub(super) fn follow(&self, nodes: &[(NodeId, Address)], partitions: &dyn Partitions) {
        let Self::ByNode(by_node) = self else { return };
        let _turn = by_node.turn.lock();
        let mut parts = Parts::clone(&by_node.parts.load());
        let mut gone = Vec::new();
        for (place, part) in parts.iter_mut().enumerate() {
            if !nodes.iter().any(|(node, _)| node.index() == place) {
                gone.extend(part.take());
            }
        }
        for (node, address) in nodes {
            if parts.len() <= node.index() {
                parts.resize_with(node.index() + 1, || None);
            }
            if let Some(part @ None) = parts.get_mut(node.index()) {
                *part = partitions.open(&by_node.identity, Some(address));
            }
        }
        by_node.parts.store(Arc::new(parts));
        gone.iter().for_each(|part| partitions.close(part));
    }
}
