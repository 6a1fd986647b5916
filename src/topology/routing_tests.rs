//! Where reads go, by what is known of the nodes.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::{Address, Policy, Reads};
use crate::metrics::RouteReason;
use crate::time::Instant;

fn ms(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

fn node(port: u16, zone: &str, micros: u64) -> Arc<Node> {
    let host = "n".to_owned();
    let node = Node::new(Address::Tcp { host, port }, zone.to_owned());
    tell(&node, 1000, micros);
    Arc::new(node)
}

/// The node has everything up to `caught_up`.
fn tell(node: &Node, caught_up: u64, micros: u64) {
    let look = Look {
        asked_at: ms(caught_up),
        caught_up: ms(caught_up),
        lag_bytes: 0,
        took: Duration::from_micros(micros),
    };
    node.looked(&look, 100);
}

fn one(routes: Routes) -> Groups {
    [(None, routes)].into_iter().collect()
}

fn routing(reads: Reads, replicas: &[&Arc<Node>]) -> Routing {
    let rules = Rules {
        reads,
        max_lag: Duration::from_secs(1),
        max_lag_bytes: 100,
        stale_reads: false,
        zone: "here".into(),
    };
    let policies = [
        Policy::new("fresh", "fresh:*").reads(Reads::Master),
        Policy::new("old", "old:*").reads(Reads::Replica),
    ];
    let routing = Routing::new(rules, &policies);
    routing.publish(one(Routes {
        primary: Some(node(1, "", 100)),
        replicas: replicas.iter().copied().cloned().collect(),
    }));
    routing
}

const HASH: u64 = 0x1234_5678_9abc_def0;

fn asked<'a>(key: &'a str, seen: Option<&'a Seen>) -> Asked<'a> {
    Asked {
        key: key.as_bytes(),
        hashes: &[HASH],
        seen,
        all_seen: false,
        replicas: None,
        owner: None,
    }
}

/// Where it goes: the port and why, or "primary", or "nobody".
fn goes(routing: &Routing, asked: &Asked<'_>, now: u64) -> (String, RouteReason) {
    match routing.route(asked, ms(now)) {
        Route::Primary(why) => ("primary".into(), why),
        Route::Replica(choice, why) => (choice.node.address().to_string(), why),
        Route::Nobody(why) => ("nobody".into(), why),
    }
}

fn to(place: &str, why: RouteReason) -> (String, RouteReason) {
    (place.to_owned(), why)
}

#[test]
fn the_setting_the_policy_of_the_key_and_the_connection_say_who_is_asked() {
    let replica = node(2, "", 100);
    let routing = routing(Reads::PreferReplica, &[&replica]);
    let chosen = to("n:2", RouteReason::Setting);
    assert_eq!(goes(&routing, &asked("k", None), 1100), chosen);
    let primary = to("primary", RouteReason::Setting);
    assert_eq!(goes(&routing, &asked("fresh:1", None), 1100), primary);
    let readwrite = Asked {
        replicas: Some(false),
        ..asked("k", None)
    };
    assert_eq!(goes(&routing, &readwrite, 1100), primary);

    let by_default = self::routing(Reads::Master, &[&replica]);
    assert_eq!(goes(&by_default, &asked("k", None), 1100), primary);
    let readonly = Asked {
        replicas: Some(true),
        ..asked("k", None)
    };
    assert_eq!(goes(&by_default, &readonly, 1100), chosen);
}

#[test]
fn without_a_replica_that_may_be_read_the_primary_is_asked_or_nobody() {
    let replica = node(2, "", 100);
    let routing = routing(Reads::PreferReplica, &[&replica]);
    assert_eq!(goes(&routing, &asked("k", None), 2001), to("primary", RouteReason::Lag));
    assert_eq!(
        goes(&routing, &asked("old:1", None), 2001),
        to("nobody", RouteReason::Lag)
    );
    replica.object(Objection::Link);
    assert_eq!(
        goes(&routing, &asked("k", None), 1100),
        to("primary", RouteReason::Link)
    );
    replica.renew(Objection::Unreachable);
    assert_eq!(
        goes(&routing, &asked("k", None), 1100),
        to("primary", RouteReason::Away)
    );
    assert_eq!(
        goes(&self::routing(Reads::Replica, &[]), &asked("k", None), 1100),
        to("nobody", RouteReason::Away)
    );
}

#[test]
fn what_was_written_here_is_read_at_the_primary_until_a_replica_has_it() {
    let replica = node(2, "", 100);
    let routing = routing(Reads::Replica, &[&replica]);
    routing.written().note(&[HASH], ms(1000));
    assert_eq!(
        goes(&routing, &asked("k", None), 1100),
        to("primary", RouteReason::Written)
    );
    tell(&replica, 1001, 100);
    assert_eq!(goes(&routing, &asked("k", None), 1100), to("n:2", RouteReason::Setting));
}

#[test]
fn no_session_reads_an_older_state_than_it_has_seen() {
    let [one, other] = [node(2, "", 100), node(3, "", 100)];
    let routing = routing(Reads::PreferReplica, &[&one, &other]);
    let mut seen = Seen::default();
    let (first, _) = goes(&routing, &asked("k", Some(&seen)), 1100);
    let (chosen, second) = if first == "n:2" { (&one, &other) } else { (&other, &one) };
    seen.at_replica(HASH, chosen.source(), chosen.caught_up(), ms(1100));
    assert_eq!(
        goes(&routing, &asked("k", Some(&seen)), 1200).0,
        first,
        "the same one has it"
    );
    chosen.object(Objection::Unreachable);
    assert_eq!(
        goes(&routing, &asked("k", Some(&seen)), 1200),
        to("primary", RouteReason::Seen)
    );
    tell(second, 1150, 100);
    assert_eq!(
        goes(&routing, &asked("k", Some(&seen)), 1200).0,
        second.address().to_string()
    );
}

#[test]
fn who_may_read_unnamed_keys_finds_all_that_the_session_has_seen_or_is_not_asked() {
    let replica = node(2, "", 100);
    let routing = routing(Reads::PreferReplica, &[&replica]);
    let mut seen = Seen::default();
    seen.at_primary(HASH.rotate_left(20), ms(1050));
    let script = |seen| Asked {
        all_seen: true,
        ..asked("k", Some(seen))
    };
    assert_eq!(
        goes(&routing, &asked("k", Some(&seen)), 1100).0,
        "n:2",
        "of k nothing was seen"
    );
    assert_eq!(goes(&routing, &script(&seen), 1100), to("primary", RouteReason::Seen));
    tell(&replica, 1051, 100);
    assert_eq!(goes(&routing, &script(&seen), 1100).0, "n:2");
    routing.written().note(&[HASH], ms(1060));
    assert_eq!(
        goes(&routing, &script(&seen), 1100),
        to("primary", RouteReason::Written),
        "the key that it names counts as it does for others"
    );
}

#[test]
fn a_key_is_read_at_one_of_several_replicas_and_keys_at_all_of_them() {
    let replicas = [node(2, "", 100), node(3, "", 100), node(4, "", 100)];
    let routing = routing(Reads::PreferReplica, &replicas.each_ref());
    let mut counts = std::collections::HashMap::new();
    for number in 0..300_u64 {
        let hashes = [number.wrapping_mul(0x9E37_79B9_7F4A_7C15)];
        let asked = Asked {
            hashes: &hashes,
            ..asked("k", None)
        };
        let place = goes(&routing, &asked, 1100).0;
        assert_eq!(place, goes(&routing, &asked, 1100).0);
        *counts.entry(place).or_insert(0) += 1;
    }
    assert!(
        counts.len() == 3 && counts.values().all(|&count| count > 60),
        "{counts:?}"
    );
}

#[test]
fn the_nearest_is_in_the_same_zone_and_answers_fast() {
    let [far, near] = [node(2, "there", 100), node(3, "here", 900)];
    let routing = routing(Reads::Nearest, &[&far, &near]);
    assert_eq!(goes(&routing, &asked("k", None), 1100).0, "n:3");

    let slow = node(2, "", 5000);
    let routing = self::routing(Reads::Nearest, &[&slow]);
    assert_eq!(
        goes(&routing, &asked("k", None), 1100),
        to("primary", RouteReason::Nearest)
    );
}

#[test]
fn while_the_primary_is_away_old_replicas_answer_only_if_that_is_allowed() {
    let replica = node(2, "", 100);
    let mut routing = routing(Reads::PreferReplica, &[&replica]);
    replica.object(Objection::Link);
    assert_eq!(
        goes(&routing, &asked("k", None), 3000),
        to("primary", RouteReason::Link)
    );
    routing = Routing::new(
        Rules {
            stale_reads: true,
            ..routing.rules().clone()
        },
        &[],
    );
    routing.publish(one(Routes {
        primary: None,
        replicas: vec![Arc::clone(&replica)],
    }));
    assert_eq!(
        goes(&routing, &asked("k", None), 3000),
        to("n:2", RouteReason::Degraded)
    );
    replica.object(Objection::Unreachable);
    assert_eq!(
        goes(&routing, &asked("k", None), 3000),
        to("primary", RouteReason::Away)
    );
}
