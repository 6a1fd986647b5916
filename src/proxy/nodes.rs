//! Following the nodes that discovery finds: who connects to the master goes where it is, and reads are routed to those
//! that follow it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{acl, learn};
use crate::channel::Channel;
use crate::config::{Address, UpstreamPlace};
use crate::discovery::{Discovery, Monitor};
use crate::downstream::Shared;
use crate::topology::{Owners, Topology};
use crate::upstream::{Gauges, Handshake, Resolver, Teller, Whereabouts};

/// What is known of the nodes, and who is told.
pub(super) struct Nodes {
    /// Finds the nodes.
    pub(super) discovery: Discovery,
    /// What it has found.
    pub(super) found: watch::Sender<Arc<Topology>>,
    /// Where the master is, for all who connect to it.
    pub(super) master: Whereabouts,
    pub(super) tell_master: Teller,
    /// How often names are looked up; zero: never.
    pub(super) resolve_interval: Duration,
    /// The zones of nodes that the configuration tells.
    pub(super) zones: HashMap<Address, String>,
    /// In a cluster, which node has what, for all who send requests.
    pub(super) tell_owners: watch::Sender<Arc<Owners>>,
}

impl Nodes {
    /// Follows what is found, and watches the master wherever it is, for as long as the proxy runs. `channel`: the application
    /// channel; empty: none.
    pub(super) fn watch(
        self,
        shared: &Arc<Shared>,
        gauges: &Arc<Gauges>,
        handshake: &Handshake,
        channel: String,
        tasks: &mut JoinSet<()>,
    ) {
        if shared.settings.caching && !channel.is_empty() {
            let shared = Arc::clone(shared);
            let listen = move |handshake| {
                let channel = Channel {
                    handshake,
                    name: channel.clone(),
                    cache: Arc::clone(&shared.cache),
                    metrics: Arc::clone(&shared.metrics),
                };
                channel.watch()
            };
            tasks.spawn(at_master(self.master.clone(), handshake.clone(), listen));
        }
        let watched = Arc::clone(shared);
        let watch_rights = move |handshake| acl::watch(Arc::clone(&watched), handshake);
        tasks.spawn(at_master(self.master.clone(), handshake.clone(), watch_rights));
        let (learner, gauges) = (Arc::clone(shared), Arc::clone(gauges));
        let learn = move |handshake| {
            // Of this node nothing is known yet.
            gauges.reachable.store(false, Ordering::Relaxed);
            learn::watch(Arc::clone(&learner), Arc::clone(&gauges), handshake)
        };
        tasks.spawn(at_master(self.master.clone(), handshake.clone(), learn));
        if let Some(routing) = &shared.routing {
            let monitor = Monitor {
                routing: Arc::clone(routing),
                handshake: handshake.clone(),
                zones: self.zones,
                hurry: Arc::clone(&shared.hurry),
                roster: shared.cluster.as_ref().map(|cluster| Arc::clone(&cluster.roster)),
            };
            tasks.spawn(monitor.watch(self.found.subscribe()));
        }
        let Teller { place, turns } = self.tell_master;
        let names = Names {
            resolver: self.discovery.resolver.clone(),
            patience: self.discovery.timeout,
            listed: match &self.discovery.place {
                UpstreamPlace::Nodes(nodes) => nodes.clone(),
                UpstreamPlace::Sentinel { .. } | UpstreamPlace::Cluster { .. } => Vec::new(),
            },
            master: self.master,
            turns,
        };
        if shared.cluster.is_none() && !self.resolve_interval.is_zero() {
            tasks.spawn(names.follow(self.resolve_interval, Arc::clone(shared)));
        }
        tasks.spawn(self.discovery.watch(self.found.clone()));
        if shared.cluster.is_some() {
            let (shared, news) = (Arc::clone(shared), self.found.subscribe());
            tasks.spawn(follow_shards(shared, news, self.tell_owners));
        }
        tasks.spawn(follow(self.found, place));
    }
}

/// The host names of nodes, which may come to lead elsewhere.
struct Names {
    resolver: Resolver,
    /// How long a look may take.
    patience: Duration,
    /// Nodes that the configuration lists.
    listed: Vec<Address>,
    master: Whereabouts,
    /// Who connects to the master is told that its name leads elsewhere.
    turns: watch::Sender<u64>,
}

impl Names {
    async fn follow(self, every: Duration, shared: Arc<Shared>) {
        loop {
            tokio::time::sleep(every).await;
            let master = self.master.now();
            let others = self.listed.iter().filter(|listed| Some(*listed) != master.as_ref());
            for address in others.chain(&master) {
                if !self.has_moved(address).await {
                    continue;
                }
                tracing::warn!(node = %address, "the name of the node leads elsewhere now; connections to where it led are left");
                shared.metrics.upstream_names_moved.inc();
                if master.as_ref() == Some(address) {
                    self.turns.send_modify(|turns| *turns += 1);
                }
            }
        }
    }

    async fn has_moved(&self, address: &Address) -> bool {
        let looking = tokio::time::timeout(self.patience, self.resolver.has_moved(address));
        match looking.await {
            Ok(Ok(moved)) => moved,
            // What is known stays: a resolver that is away says nothing about the node.
            Ok(Err(error)) => {
                tracing::debug!(node = %address, %error, "the name of the node could not be looked up");
                false
            }
            Err(_) => {
                tracing::debug!(node = %address, after = ?self.patience, "the name of the node could not be looked up in time");
                false
            }
        }
    }
}

/// Tells where the master is, whenever that changes.
async fn follow(found: watch::Sender<Arc<Topology>>, tell: watch::Sender<Option<Address>>) {
    let mut news = found.subscribe();
    loop {
        let primary = news.borrow_and_update().primary.clone();
        tell.send_if_modified(|known| {
            let differs = *known != primary;
            if differs {
                if known.is_some() {
                    let place = primary.as_ref().map(ToString::to_string);
                    tracing::warn!(master = place, "the last master is left");
                }
                known.clone_from(&primary);
            }
            differs
        });
        // It cannot fail: the sender is here.
        if news.changed().await.is_err() {
            return;
        }
    }
}

/// Tells which node of a cluster has what, whenever that changes. Each node with keys has a part of the near-cache.
async fn follow_shards(
    shared: Arc<Shared>,
    mut news: watch::Receiver<Arc<Topology>>,
    tell: watch::Sender<Arc<Owners>>,
) {
    let Some(roster) = shared.cluster.as_ref().map(|cluster| &cluster.roster) else {
        return;
    };
    loop {
        let shards = news.borrow_and_update().shards.clone();
        if let Some(shards) = shards.filter(|shards| *shards != *tell.borrow().shards()) {
            let owners = Arc::new(roster.enter(shards));
            let nodes = owners.primaries().iter();
            let nodes = nodes.filter_map(|&node| Some((node, roster.address(node)?))).collect();
            // The canaries of new parts have to know it.
            tell.send_replace(owners);
            shared.accounts.follow(nodes);
        }
        if news.changed().await.is_err() {
            return;
        }
    }
}

/// Does `work` with the master for as long as that is where it is, and once more wherever it is then.
async fn at_master<F: Future<Output = ()>>(master: Whereabouts, handshake: Handshake, work: impl Fn(Handshake) -> F) {
    loop {
        let here = master.known().await;
        let handshake = Handshake {
            address: here.address.clone(),
            ..handshake.clone()
        };
        tokio::select! {
            () = work(handshake) => return,
            () = master.left(&here) => {}
        }
    }
}
