//! Parts of the near-cache and the tracked connections that keep them true, one for each account.

use std::sync::Arc;

use super::worker::Outboxes;
use crate::coherence::NearCache;
use crate::config::{Address, Credentials};
use crate::downstream::{Cluster, Partition, Partitions, Ticket};
use crate::tracking::{Totals, Tracker};
use crate::upstream::{Handshake, Identity, Whereabouts};

/// Opens and closes partitions.
pub(super) struct Opener {
    pub(super) cache: Arc<NearCache<Ticket>>,
    pub(super) tracker: Tracker,
    /// Whom nearhit's own credentials say.
    pub(super) own: Option<Credentials>,
    /// What all tracked connections say, but for who they are.
    pub(super) handshake: Handshake,
    pub(super) outboxes: Outboxes,
    /// The cluster behind the proxy, if it is one.
    pub(super) cluster: Option<Cluster>,
}

/// Names that are tried for one whose slot a node has: of a node with one slot in a thousand, one is found but for one time in
/// 20,000. The canary of a node with less may find none; then nobody checks that node's invalidations.
const NAMES: u32 = 10_000;

impl Opener {
    /// Opens tracked connections to one node of a cluster. Its canary has one of the node's slots.
    fn tracker_at(&self, node: &Address) -> Tracker {
        let cluster = self.cluster.as_ref();
        let id = cluster.and_then(|cluster| cluster.roster.find(node));
        let owner = |name: &[u8]| cluster.and_then(|cluster| cluster.owner(name));
        let name = |number: u32| {
            let tag = format!("{{{number}}}");
            [self.tracker.canary_key(), tag.as_bytes()].concat().into_boxed_slice()
        };
        let canary = (0..NAMES).map(name).find(|name| id.is_some() && owner(name) == id);
        // A node is where it is for as long as it is a node.
        let (_, place) = Whereabouts::new(Some(node.clone()));
        self.tracker.at_node(place, canary)
    }
}

impl Partitions for Opener {
    fn open(&self, identity: &Identity, node: Option<&Address>) -> Option<Partition> {
        let origin = self.cache.open()?;
        let tracker = match node {
            None => self.tracker.clone(),
            Some(node) => self.tracker_at(node),
        };
        let handshake = Handshake {
            identity: identity.clone(),
            ..self.handshake.clone()
        };
        let (cache, outboxes) = (Arc::clone(&self.cache), self.outboxes.clone());
        let own = identity.credentials() == self.own.as_ref();
        let tracking = tracker.track(handshake, own, cache, Arc::clone(&origin), outboxes);
        Some(Partition { origin, tracking })
    }

    fn totals(&self) -> Totals {
        self.tracker.totals()
    }

    fn close(&self, partition: &Partition) {
        partition.tracking.stop();
        self.cache.close(&partition.origin);
    }
}
