//! TOPOLOGY: the nodes nearhit knows, and which of them may be read from.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::console::Call;
use super::figures::{tracking, tracking_state};
use super::reply::{Answer, Map, micros, millis};
use crate::command::{Command, Effect, Slot, Spread};
use crate::config::Address;
use crate::downstream::Cluster;
use crate::metrics::RouteReason;
use crate::resp::Value;
use crate::time::Instant;
use crate::topology::{Asked, Node, Objection, Route, Routing};

/// Every node: the master first; in a cluster each primary with its replicas.
pub(super) fn topology(call: &Call<'_>) -> Result<Value, String> {
    if let Some(cluster) = &call.shared.cluster {
        return Ok(nodes_of(call, cluster).into_value());
    }
    let Some(routing) = &call.shared.routing else {
        let address = call.shared.master.now().map(|address| address.to_string());
        let up = call.console.gauges.reachable.load(Ordering::Relaxed);
        let master = Map::default()
            .with("node", address)
            .with("role", "master")
            .with("state", if up { "ok" } else { Objection::Unreachable.name() });
        let master =
            with_load(master, call, call.shared.master.now().as_ref()).with("tracking", tracking_state(call.shared));
        return Ok(vec![master].into_value());
    };
    let groups = routing.groups();
    let Some(routes) = groups.get(&None) else {
        return Ok(Vec::<Map>::new().into_value());
    };
    let master = routes.primary.iter().map(|node| {
        // Memory is filled from the master alone.
        row(node, "master", routing, call).with("tracking", tracking_state(call.shared))
    });
    let replicas = routes.replicas.iter().map(|node| row(node, "replica", routing, call));
    Ok(master.chain(replicas).collect::<Vec<_>>().into_value())
}

fn nodes_of(call: &Call<'_>, cluster: &Cluster) -> Vec<Map> {
    let own = call.shared.accounts.own();
    let routing = call.shared.routing.as_deref();
    let groups = routing.map(|routing| (routing, routing.groups()));
    let shards = Arc::clone(cluster.owners.borrow().shards());
    let mut nodes = Vec::new();
    for shard in shards.all() {
        let node = cluster.roster.find(&shard.primary);
        let partition = node.and_then(|node| own.partition(Some(node)));
        let routes = groups
            .as_ref()
            .and_then(|(routing, groups)| Some((routing, groups.get(&node)?)));
        let count: usize = shard.slots.iter().map(ExactSizeIterator::len).sum();
        let ranges: Vec<_> = shard.slots.iter().map(range).collect();
        let primary = Map::default()
            .with("node", shard.primary.to_string())
            .with("role", "master");
        let primary = with_load(primary, call, Some(&shard.primary))
            .with("tracking", partition.map(|partition| tracking(&partition)))
            .with("slots", count)
            .with("slot_ranges", ranges.join(" "));
        let replica = |replica: &Address| {
            let watched = routes.and_then(|(routing, routes)| {
                let mut nodes = routes.replicas.iter();
                Some(row(
                    nodes.find(|node| node.address() == replica)?,
                    "replica",
                    routing,
                    call,
                ))
            });
            let unwatched = || {
                let node = Map::default().with("node", replica.to_string()).with("role", "replica");
                with_load(node, call, Some(replica))
            };
            watched.unwrap_or_else(unwatched).with("of", shard.primary.to_string())
        };
        nodes.push(primary);
        nodes.extend(shard.replicas.iter().map(replica));
    }
    nodes
}

fn range(slots: &RangeInclusive<u16>) -> String {
    match slots.start() == slots.end() {
        true => slots.start().to_string(),
        false => format!("{}-{}", slots.start(), slots.end()),
    }
}

/// Adds whether connections to the node can be had, and how much is on its way there. Of a node without connections nothing
/// speaks against either.
fn with_load(node: Map, call: &Call<'_>, address: Option<&Address>) -> Map {
    let load = address.map(|address| call.console.gauges.census.load(address));
    let since = load.and_then(|load| load.since);
    node.with("circuit", load.map(|load| load.circuit.name()))
        .with("circuit_since_ms", since.map(|since| millis(call.now.since(since))))
        .with("in_flight", load.map(|load| load.in_flight))
}

fn row(node: &Node, role: &str, routing: &Routing, call: &Call<'_>) -> Map {
    let now = call.now;
    let objection = node.objection(routing.rules().max_lag, now);
    let known = node.caught_up() != Instant::ZERO;
    let latency = node.latency();
    let row = Map::default()
        .with("node", node.address().to_string())
        .with("role", role)
        .with("state", objection.map_or("ok", Objection::name));
    with_load(row, call, Some(node.address()))
        .with("lag_ms", known.then(|| millis(now.since(node.caught_up()))))
        .with("lag_bytes", known.then(|| node.lag_bytes()))
        .with("rtt_usec", (!latency.is_zero()).then(|| micros(latency)))
        .with("zone", Some(node.zone()).filter(|zone| !zone.is_empty()))
}

/// Where a read by the asker goes now that memory does not answer: the node and why. `None`: there is but one node.
pub(super) fn route(
    call: &Call<'_>,
    command: &Command,
    effect: Effect,
    keys: &[&[u8]],
) -> Option<(Option<String>, &'static str)> {
    let asked = call
        .shared
        .cluster
        .as_ref()
        .map(|cluster| owner(cluster, command, keys));
    let Some(routing) = &call.shared.routing else {
        return asked;
    };
    if let Some((None, _)) = &asked {
        return asked;
    }
    let master = || match &asked {
        Some((node, _)) => node.clone(),
        None => call.shared.master.now().map(|address| address.to_string()),
    };
    let hashes: Vec<_> = keys.iter().map(|key| call.shared.cache.hash(key)).collect();
    let suits = effect == command.effect && command.suits_replicas(keys.len(), call.shared.cluster.is_some());
    let (true, Some(key)) = (suits, keys.first()) else {
        let why = match effect {
            Effect::Read | Effect::KeylessRead if !keys.is_empty() => {
                "only the master can tell: it counts this as an access, or in a cluster knows which keys are on the move"
            }
            _ => "only what reads the keys that it names is routed",
        };
        return Some((master(), why));
    };
    let asked = Asked {
        key,
        hashes: &hashes,
        seen: call.asker.seen,
        all_seen: effect == Effect::KeylessRead || call.asker.causality.is_strict(),
        replicas: call.asker.replicas,
        owner: call.owner(key),
    };
    Some(match routing.route(&asked, call.now) {
        Route::Primary(why) => (master(), meaning(why)),
        Route::Nobody(why) => (None, meaning(why)),
        Route::Replica(choice, why) => (Some(choice.node.address().to_string()), meaning(why)),
    })
}

/// Who in a cluster is asked, and why; `None`: several are, or nobody can be.
fn owner(cluster: &Cluster, command: &Command, keys: &[&[u8]]) -> (Option<String>, &'static str) {
    let differs = |pair: &[&[u8]]| matches!(pair, [one, other] if Slot::of(one) != Slot::of(other));
    let several = keys.windows(2).any(differs);
    let key = match (command.spread, keys.first()) {
        (Spread::All(_), _) => return (None, "every primary is asked, and their replies are made one"),
        (Spread::Scan, _) => return (None, "one primary after another is asked, as the cursor says"),
        (Spread::Sketches, Some(_)) if several => {
            return (None, "each key is read where it is, and what they hold is counted here");
        }
        (Spread::Keys(_), Some(_)) if several => return (None, "each slot among its keys is asked for those it has"),
        (_, None) => return (None, "it names no key, so one primary is asked that is always the same"),
        (_, Some(key)) => key,
    };
    let node = cluster.owner(key).and_then(|node| cluster.roster.address(node));
    let why = match node {
        Some(_) => "it has the slot of the first key",
        None => "nobody is known to have the slot of the first key",
    };
    (node.map(|node| node.to_string()), why)
}

/// What a reason means, for people.
fn meaning(why: RouteReason) -> &'static str {
    match why {
        RouteReason::Setting => {
            "routing.reads, the policy of the key or READONLY and READWRITE of this connection say so"
        }
        RouteReason::Nearest => "the master is the nearest node",
        RouteReason::Written => {
            "it was written through this nearhit a moment ago, and no replica is known to have that"
        }
        RouteReason::Seen => "this connection has seen something newer than what the replicas are known to have",
        RouteReason::Pipelined => "an earlier request of the client on this key is still on its way",
        RouteReason::Lag => {
            "the replicas are further behind than routing.replica_max_lag or replica_max_lag_bytes allow"
        }
        RouteReason::Link => "no replica's link to the master is up",
        RouteReason::Away => "no replica can be reached, or none is known",
        RouteReason::Warming => "the connection to the replica is new",
        RouteReason::Degraded => "the master is away, and routing.stale_reads allows any replica",
        RouteReason::Script => "the replica said a moment ago that it has not got the script or function",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Label;

    #[test]
    fn every_reason_has_words_of_its_own() {
        let words: std::collections::HashSet<_> = RouteReason::ALL.iter().map(|&why| meaning(why)).collect();
        assert_eq!(words.len(), RouteReason::ALL.len());
    }
}
