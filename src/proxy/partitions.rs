//! Parts of the near-cache and the tracked connections that keep them true, one for each account.

use std::sync::Arc;

use super::worker::Outboxes;
use crate::coherence::NearCache;
use crate::config::Credentials;
use crate::downstream::{Partition, Partitions, Ticket};
use crate::tracking::{Totals, Tracker};
use crate::upstream::{Handshake, Identity};

/// Opens and closes partitions.
pub(super) struct Opener {
    pub(super) cache: Arc<NearCache<Ticket>>,
    pub(super) tracker: Tracker,
    /// Whom nearhit's own credentials say.
    pub(super) own: Option<Credentials>,
    /// What all tracked connections say, but for who they are.
    pub(super) handshake: Handshake,
    pub(super) outboxes: Outboxes,
}

impl Partitions for Opener {
    fn open(&self, identity: &Identity) -> Option<Partition> {
        let origin = self.cache.open()?;
        let handshake = Handshake {
            identity: identity.clone(),
            ..self.handshake.clone()
        };
        let (cache, outboxes) = (Arc::clone(&self.cache), self.outboxes.clone());
        let own = identity.credentials() == self.own.as_ref();
        let tracking = self.tracker.track(handshake, own, cache, Arc::clone(&origin), outboxes);
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
