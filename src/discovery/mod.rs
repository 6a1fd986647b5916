//! Finding out which nodes there are and what each is for: tasks that publish a [`Topology`] whenever it changes.
//!
//! ```text
//! redis://a          → fixed     nothing to find out: published, never asked
//! redis://a,b        → fixed     every node ─ ROLE, each second ───────────────────────┐
//! redis+sentinel://… → sentinel  every sentinel ─ events, and questions twice a second ┼→ Topology
//!                                the node they name ─ ROLE, each second ───────────────┤
//! redis+cluster://…  → cluster   nodes ─ CLUSTER NODES and SLOTS, each second ─────────┘
//! ```
//! Whoever was the primary and may not be it any more is taken out first ([`Topology::primary`] is `None`), and another one
//! is put in only once it says itself that it is the primary: reads of a demoted node are old, and its writes are lost.

mod ask;
mod cluster;
mod cluster_merge;
mod cluster_view;
mod fixed;
mod group;
mod history;
mod monitor;
mod node;
mod sentinel;

pub use monitor::{Hurry, Monitor};

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{Address, UpstreamPlace};
use crate::resp::Version;
use crate::tls::ClientTls;
use crate::topology::Topology;
use crate::upstream::{Handshake, Identity, Resolver};

/// Where to look, and how to connect there.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// Where to look.
    pub place: UpstreamPlace,
    /// How to speak TLS to nodes and sentinels; `None`: in the clear.
    pub tls: Option<ClientTls>,
    /// Who to be at the nodes. They must let it say `ROLE`: a node that does not is never taken for a primary, unless it is
    /// the only one that is listed.
    pub identity: Identity,
    /// Who to be at the sentinels.
    pub sentinel_identity: Identity,
    /// The name of the connections in `CLIENT LIST`; empty: none.
    pub client_name: String,
    /// How long connecting may take, and an answer.
    pub timeout: Duration,
    /// How deep a reply may nest.
    pub max_reply_depth: usize,
    /// Whether to publish replicas that are not listed. Without it one node that is listed alone is not even asked, and
    /// sentinels are asked for the primary only.
    pub find_replicas: bool,
    /// Where nodes of a cluster are reached, by where they announce themselves, if that is elsewhere.
    pub addresses: HashMap<Address, Address>,
    /// Whoever is told by the primary that it is none, or by a node of a cluster that another has the key, wishes here for
    /// another look.
    pub doubt: Arc<Hurry>,
    /// Says where host names lead.
    pub resolver: Resolver,
}

impl Discovery {
    /// Watches for ever and publishes to `found` what changed. There is nothing to watch when one node is listed and
    /// replicas are not wanted: then it returns once that node is published.
    ///
    /// `found` starts with whatever the caller knows; [`Topology::default`] is nothing.
    pub async fn watch(self, found: watch::Sender<Arc<Topology>>) {
        let publisher = Publisher(found);
        match self.place.clone() {
            UpstreamPlace::Nodes(nodes) => fixed::watch(Arc::new(self), nodes, publisher).await,
            UpstreamPlace::Sentinel { sentinels, group } => {
                sentinel::watch(Arc::new(self), sentinels, group, publisher).await;
            }
            UpstreamPlace::Cluster { seeds } => cluster::watch(Arc::new(self), seeds, publisher).await,
        }
    }

    fn handshake(&self, address: &Address, identity: &Identity) -> Handshake {
        Handshake {
            address: address.clone(),
            tls: self.tls.clone(),
            identity: identity.clone(),
            // The oldest servers and sentinels speak it, and nothing here needs more.
            version: Version::V2,
            db: 0,
            client_name: self.client_name.clone(),
            timeout: self.timeout,
            max_reply_depth: self.max_reply_depth,
            reads_replica: false,
            resolver: self.resolver.clone(),
        }
    }
}

/// Where topologies are published.
struct Publisher(watch::Sender<Arc<Topology>>);

impl Publisher {
    /// Publishes a topology that is not the published one.
    fn publish(&self, topology: Topology) {
        self.0.send_if_modified(|published| {
            if **published == topology {
                return false;
            }
            log(published, &topology);
            *published = Arc::new(topology);
            true
        });
    }

    /// What is published.
    fn published(&self) -> Arc<Topology> {
        Arc::clone(&self.0.borrow())
    }
}

fn log(before: &Topology, now: &Topology) {
    if let Some(shards) = &now.shards {
        let (count, primary) = (shards.all().len(), now.primary.as_ref().map(ToString::to_string));
        let slots: usize = shards
            .all()
            .iter()
            .flat_map(|shard| &shard.slots)
            .map(ExactSizeIterator::len)
            .sum();
        if primary.is_none() {
            return tracing::warn!(
                shards = count,
                slots,
                "no node of the cluster can be asked what names no key"
            );
        }
        let before = before.shards.as_ref().map(|shards| shards.all().len());
        return match before == Some(count) {
            false => tracing::info!(shards = count, slots, primary, "the cluster is known"),
            true => tracing::debug!(
                shards = count,
                slots,
                primary,
                "slots or nodes of the cluster have changed"
            ),
        };
    }
    let replicas: Vec<_> = now.replicas.iter().map(ToString::to_string).collect();
    match (&before.primary, &now.primary) {
        (_, Some(primary)) => tracing::info!(%primary, ?replicas, "the topology is known"),
        (Some(before), None) => tracing::warn!(%before, "no primary is known any more"),
        (None, None) => tracing::info!(?replicas, "no primary is known"),
    }
}

/// A task that ends when its value is dropped.
#[derive(Debug)]
struct Task(tokio::task::JoinHandle<()>);

impl Task {
    fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
