//! Which node a read is sent to.
//!
//! A replica answers a read only if it is known to have everything the reader may expect: what was written through this
//! nearhit ([`Written`]), what the same session has seen ([`Seen`]), and what the primary acknowledged before
//! `routing.replica_max_lag`. All three are compared with one time, [`Node::caught_up`]. Otherwise the primary answers.
//! Scripts may read keys that they do not name, so for them what the session has seen counts whatever the key.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::cluster::NodeId;
use super::node::{Node, Objection, Source};
use super::seen::Seen;
use super::written::Written;
use crate::config::{Policy, Reads};
use crate::metrics::RouteReason;
use crate::resp::Glob;
use crate::time::Instant;

/// Nodes that take so much longer than the fastest are not near. Chosen, not measured.
const NEAR: u32 = 2;
/// Differences below this are noise. Chosen, not measured.
const NOISE: Duration = Duration::from_micros(200);

/// What reads are routed by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Which node is asked, where no policy and no connection says otherwise.
    pub reads: Reads,
    /// How long ago the primary may have acknowledged what a replica lacks.
    pub max_lag: Duration,
    /// How many bytes of the replication stream it may lack.
    pub max_lag_bytes: u64,
    /// Replicas are read from whatever they lack while the primary is away.
    pub stale_reads: bool,
    /// The availability zone nearhit is in; empty: not known.
    pub zone: String,
}

/// The nodes that may be asked.
#[derive(Debug, Default)]
pub struct Routes {
    /// The node that takes writes, if one is known to.
    pub primary: Option<Arc<Node>>,
    /// Those that follow it.
    pub replicas: Vec<Arc<Node>>,
}

/// Where a read goes.
#[derive(Clone, Debug)]
pub enum Route {
    /// To the node that takes writes.
    Primary(RouteReason),
    /// To a replica.
    Replica(Choice, RouteReason),
    /// Nowhere: it may not be read at the primary, and there is no replica.
    Nobody(RouteReason),
}

/// A replica that was chosen, and what was known of it then.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The replica.
    pub node: Arc<Node>,
    /// The life of its data.
    pub source: Source,
    /// Everything the primary had acknowledged at this time is there.
    pub caught_up: Instant,
}

impl Choice {
    fn of(node: &Arc<Node>) -> Self {
        Self {
            caught_up: node.caught_up(),
            source: node.source(),
            node: Arc::clone(node),
        }
    }
}

/// Who asks for what.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The first key.
    pub key: &'a [u8],
    /// The hashes of all keys; at least one.
    pub hashes: &'a [u64],
    /// What the session has seen; `None`: nothing yet.
    pub seen: Option<&'a Seen>,
    /// All that it has seen must be there, of whatever key: the request may read keys that it does not name, or the session
    /// is a strict one.
    pub all_seen: bool,
    /// What the connection said: READONLY (replicas) or READWRITE (the primary).
    pub replicas: Option<bool>,
    /// In a cluster, the primary that has the key.
    pub owner: Option<NodeId>,
}

/// The nodes that may be asked, by the primary where there are several.
pub type Groups = HashMap<Option<NodeId>, Routes, foldhash::fast::RandomState>;

/// Routes reads. Shared by all workers.
pub struct Routing {
    rules: Rules,
    policies: Vec<(Glob, Reads)>,
    groups: ArcSwap<Groups>,
    written: Written,
}

impl Routing {
    /// Routes by `rules` and the policies that say something else; nothing is known of any node yet.
    pub fn new(rules: Rules, policies: &[Policy]) -> Self {
        let own = |policy: &Policy| {
            Some((
                Glob::new(policy.pattern.as_bytes()),
                policy.reads.unwrap_or(rules.reads),
            ))
        };
        Self {
            policies: policies.iter().filter_map(own).collect(),
            groups: ArcSwap::default(),
            written: Written::default(),
            rules,
        }
    }

    /// What reads are routed by.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The nodes, as they are now.
    pub fn groups(&self) -> Arc<Groups> {
        self.groups.load_full()
    }

    /// From here on these are the nodes.
    pub fn publish(&self, groups: Groups) {
        self.groups.store(Arc::new(groups));
    }

    /// When keys were written last.
    pub fn written(&self) -> &Written {
        &self.written
    }

    /// Where a read goes at `now`.
    pub fn route(&self, asked: &Asked<'_>, now: Instant) -> Route {
        let reads = match asked.replicas {
            Some(false) => Reads::Master,
            Some(true) if self.rules.reads == Reads::Master => Reads::PreferReplica,
            _ => self.reads_of(asked.key),
        };
        if reads == Reads::Master {
            return Route::Primary(RouteReason::Setting);
        }
        let groups = self.groups.load();
        let Some(routes) = groups.get(&asked.owner) else {
            return match reads {
                Reads::Replica => Route::Nobody(RouteReason::Away),
                _ => Route::Primary(RouteReason::Away),
            };
        };
        let objection = |node: &Node| node.objection(self.rules.max_lag, now);
        let healthy: Vec<_> = routes
            .replicas
            .iter()
            .filter(|node| objection(node).is_none())
            .collect();
        if healthy.is_empty() {
            return self.without_replica(reads, routes, asked, now);
        }
        let wanted = match reads {
            Reads::Nearest => match self.nearest(routes, &healthy, asked) {
                Some(order) => order,
                None => return Route::Primary(RouteReason::Nearest),
            },
            _ => ranked(healthy, asked),
        };
        let mut why = RouteReason::Written;
        for node in wanted {
            let choice = Choice::of(node);
            match self.lacks(asked, &choice) {
                None => return Route::Replica(choice, RouteReason::Setting),
                Some(lacks) => why = lacks,
            }
        }
        Route::Primary(why)
    }

    /// Why the reader may miss something there.
    fn lacks(&self, asked: &Asked<'_>, choice: &Choice) -> Option<RouteReason> {
        let (source, caught_up) = (choice.source, choice.caught_up);
        if asked.hashes.iter().any(|&key| self.written.last(key) >= caught_up) {
            return Some(RouteReason::Written);
        }
        let sees = |seen: &Seen| match asked.all_seen {
            true => seen.all_is_in(source, caught_up),
            false => asked.hashes.iter().all(|&key| seen.is_in(key, source, caught_up)),
        };
        (!asked.seen.is_none_or(sees)).then_some(RouteReason::Seen)
    }

    fn reads_of(&self, key: &[u8]) -> Reads {
        let policy = self.policies.iter().find(|(glob, _)| glob.matches(key));
        policy.map_or(self.rules.reads, |(_, reads)| *reads)
    }

    fn without_replica(&self, reads: Reads, routes: &Routes, asked: &Asked<'_>, now: Instant) -> Route {
        let objection = |node: &Arc<Node>| node.objection(self.rules.max_lag, now);
        if self.rules.stale_reads
            && routes
                .primary
                .as_ref()
                .is_none_or(|primary| objection(primary).is_some())
        {
            let objections = [Objection::Link, Objection::Bytes, Objection::Lag];
            let answers = |node: &&Arc<Node>| objection(node).is_some_and(|why| objections.contains(&why));
            if let Some(node) = ranked(routes.replicas.iter().filter(answers).collect(), asked).first() {
                return Route::Replica(Choice::of(node), RouteReason::Degraded);
            }
        }
        let worst_reason = routes
            .replicas
            .iter()
            .filter_map(objection)
            .map(|objection| match objection {
                Objection::Lag | Objection::Bytes => RouteReason::Lag,
                Objection::Link => RouteReason::Link,
                Objection::Unknown | Objection::Unreachable | Objection::Stranger => RouteReason::Away,
            });
        // The one that is nearest to being of use says why there is none.
        let order = |reason: &RouteReason| match reason {
            RouteReason::Lag => 0,
            RouteReason::Link => 1,
            _ => 2,
        };
        let why = worst_reason.min_by_key(order).unwrap_or(RouteReason::Away);
        match reads {
            Reads::Replica => Route::Nobody(why),
            _ => Route::Primary(why),
        }
    }

    /// The nearest replicas, the best first; `None`: the primary is nearest.
    fn nearest<'r>(
        &self,
        routes: &'r Routes,
        healthy: &[&'r Arc<Node>],
        asked: &Asked<'_>,
    ) -> Option<Vec<&'r Arc<Node>>> {
        let all = || healthy.iter().copied().chain(&routes.primary);
        let here = |node: &Arc<Node>| !self.rules.zone.is_empty() && node.zone() == self.rules.zone;
        let zoned = all().any(here);
        let candidates = || all().filter(|node| !zoned || here(node));
        let fastest = candidates().map(|node| node.latency()).min().unwrap_or_default();
        let limit = fastest * NEAR + NOISE;
        let near: Vec<_> = candidates().filter(|node| node.latency() <= limit).collect();
        // Two choices by the key, the faster one of them: steady for a key, and no node is everybody's first choice.
        let mut order = ranked(near, asked);
        if let [first, second, ..] = order.as_mut_slice()
            && second.latency() + NOISE < first.latency()
        {
            std::mem::swap(first, second);
        }
        let primary = |node: &&Arc<Node>| {
            routes
                .primary
                .as_ref()
                .is_some_and(|primary| Arc::ptr_eq(primary, node))
        };
        match order.first() {
            Some(first) if primary(first) => None,
            _ => Some(order.into_iter().filter(|node| !primary(node)).collect()),
        }
    }
}

/// The same order for a key as long as the nodes are the same: so a session that goes on reading a key goes on reading it
/// at one node.
fn ranked<'n>(mut nodes: Vec<&'n Arc<Node>>, asked: &Asked<'_>) -> Vec<&'n Arc<Node>> {
    let key = asked.hashes.first().copied().unwrap_or_default();
    nodes.sort_by_key(|node| std::cmp::Reverse(node.rank(key)));
    nodes
}
