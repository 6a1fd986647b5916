//! TOPOLOGY: the nodes nearhit knows, and which of them may be read from.

use super::console::Call;
use super::reply::{Answer, Map, micros, millis};
use crate::command::Effect;
use crate::metrics::RouteReason;
use crate::resp::Value;
use crate::time::Instant;
use crate::topology::{Asked, Node, Objection, Route, Routing};

/// Every node: the master first.
pub(super) fn topology(call: &Call<'_>) -> Result<Value, String> {
    let Some(routing) = &call.shared.routing else {
        let address = call.shared.master.now().map(|address| address.to_string());
        let master = Map::default().with("node", address).with("role", "master");
        return Ok(vec![master].into_value());
    };
    let routes = routing.routes();
    let master = routes.primary.iter().map(|node| row(node, "master", routing, call.now));
    let replicas = routes
        .replicas
        .iter()
        .map(|node| row(node, "replica", routing, call.now));
    Ok(master.chain(replicas).collect::<Vec<_>>().into_value())
}

fn row(node: &Node, role: &str, routing: &Routing, now: Instant) -> Map {
    let objection = node.objection(routing.rules().max_lag, now);
    let known = node.caught_up() != Instant::ZERO;
    let latency = node.latency();
    Map::default()
        .with("node", node.address().to_string())
        .with("role", role)
        .with("state", objection.map_or("ok", Objection::name))
        .with("lag_ms", known.then(|| millis(now.since(node.caught_up()))))
        .with("lag_bytes", known.then(|| node.lag_bytes()))
        .with("rtt_usec", (!latency.is_zero()).then(|| micros(latency)))
        .with("zone", Some(node.zone()).filter(|zone| !zone.is_empty()))
}

/// Where a read by the asker goes now that memory does not answer: the node and why. `None`: there is but one node.
pub(super) fn route(call: &Call<'_>, effect: Effect, keys: &[&[u8]]) -> Option<(Option<String>, &'static str)> {
    let routing = call.shared.routing.as_ref()?;
    let master = || call.shared.master.now().map(|address| address.to_string());
    let hashes: Vec<_> = keys.iter().map(|key| call.shared.cache.hash(key)).collect();
    let (Effect::Read, Some(key)) = (effect, keys.first()) else {
        return Some((master(), "only reads of keys are routed"));
    };
    let asked = Asked {
        key,
        hashes: &hashes,
        seen: call.asker.seen,
        replicas: call.asker.replicas,
    };
    Some(match routing.route(&asked, call.now) {
        Route::Primary(why) => (master(), meaning(why)),
        Route::Nobody(why) => (None, meaning(why)),
        Route::Replica(choice, why) => (Some(choice.node.address().to_string()), meaning(why)),
    })
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
        RouteReason::Lost => "a replica could not answer",
        RouteReason::Degraded => "the master is away, and routing.stale_reads allows any replica",
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
