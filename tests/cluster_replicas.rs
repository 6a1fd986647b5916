//! Reads of a cluster that its replicas answer.

mod support;

use std::time::Duration;

use support::cluster::{RedisCluster, slot_of};
use support::{Nearhit, Resp, SOON, eventually, wait_for};

/// Three primaries with a replica each, and nearhit that reads at replicas and keeps nothing in memory.
fn served() -> (RedisCluster, Nearhit) {
    let cluster = RedisCluster::start(3, 1);
    let proxy = Nearhit::serve_with(
        &cluster.url(),
        &["--routing.reads", "prefer-replica", "--cache.mode", "off"],
    );
    (cluster, proxy)
}

fn at_replicas(proxy: &Nearhit) -> f64 {
    proxy.metric("nearhit_reads_routed_total", &["to=\"replica\""])
}

/// Reads until a replica has answered.
#[track_caller]
fn read_at_a_replica(proxy: &Nearhit, client: &mut Resp, key: &str, value: &str) {
    let before = at_replicas(proxy);
    let read = eventually(SOON, || {
        assert_eq!(client.cmd(&["GET", key]), value);
        at_replicas(proxy) > before
    });
    assert!(read, "{key} is read at a replica");
}

#[test]
fn each_shard_s_keys_are_read_at_its_replica() {
    let (cluster, proxy) = served();
    let mut client = proxy.connect();
    for shard in 0..3 {
        let key = cluster.key_at(shard, "key:");
        assert_eq!(client.cmd(&["SET", &key, "value"]), "OK");
        read_at_a_replica(&proxy, &mut client, &key, "value");
        let replica = cluster.node(cluster.replica_of(shard));
        let commands = replica.cmd(&["INFO", "commandstats"]).text();
        assert!(commands.contains("cmdstat_get:"), "shard {shard}");
    }
}

#[test]
fn a_session_reads_what_it_has_written_at_whichever_node() {
    let (cluster, proxy) = served();
    let mut client = proxy.connect();
    let keys: Vec<_> = (0..3).map(|shard| cluster.key_at(shard, "own:")).collect();
    for round in 0..300 {
        for key in &keys {
            let value = round.to_string();
            assert_eq!(client.cmd(&["SET", key, &value]), "OK");
            assert_eq!(client.cmd(&["GET", key]), value.as_str());
        }
    }
}

#[test]
fn what_a_replica_has_not_got_is_asked_of_the_primary() {
    let (cluster, proxy) = served();
    let mut client = proxy.connect();
    let key = cluster.key_at(0, "gone:");
    let again = || proxy.metric("nearhit_retries_total", &["reason=\"replica\""]);
    wait_for("a replica that is asked first", SOON, || {
        assert!(client.cmd(&["GET", &key]).is_nil());
        again() > 0.0
    });
}

#[test]
fn the_keys_of_a_slot_that_moves_are_never_missing() {
    let (cluster, proxy) = served();
    let (mut client, mut other) = (proxy.connect(), proxy.connect());
    let keys: Vec<_> = (0..20).map(|number| format!("{{moves}}:{number}")).collect();
    for key in &keys {
        assert_eq!(client.cmd(&["SET", key, "there"]), "OK");
    }
    read_at_a_replica(&proxy, &mut client, &keys[0], "there");
    let slot = slot_of(&keys[0]);
    let from = cluster.owner_of(slot);
    let to = (from + 1) % 3;
    let mut read = || {
        for key in &keys {
            assert_eq!(client.cmd(&["GET", key]), "there", "{key}");
            assert_eq!(other.cmd(&["STRLEN", key]).int(), 5, "{key}");
        }
    };
    for _ in 0..5 {
        move_slowly(&cluster, slot, [from, to], &mut read);
        cluster.move_slot(slot, to, from);
        read();
    }
    read_at_a_replica(&proxy, &mut client, &keys[0], "there");
}

/// Moves a slot, and does something after each step.
fn move_slowly(cluster: &RedisCluster, slot: u16, [from, to]: [usize; 2], then: &mut impl FnMut()) {
    for step in [
        RedisCluster::begin_move,
        RedisCluster::move_keys,
        RedisCluster::end_move,
    ] {
        step(cluster, slot, from, to);
        then();
    }
}

/// A replica does not know that keys are on the move, and what a script makes of that cannot be seen from its reply.
#[test]
fn scripts_run_at_the_primaries_and_find_the_keys_of_a_slot_that_moves() {
    let (cluster, proxy) = served();
    let mut client = proxy.connect();
    assert_eq!(client.cmd(&["SET", "{moves}:k", "there"]), "OK");
    read_at_a_replica(&proxy, &mut client, "{moves}:k", "there");
    let slot = slot_of("{moves}:k");
    let from = cluster.owner_of(slot);
    let to = (from + 1) % 3;
    let mut run = || {
        let script = "return redis.call('EXISTS', KEYS[1]) == 1 and 'there' or 'missing'";
        for _ in 0..20 {
            assert_eq!(client.cmd(&["EVAL_RO", script, "1", "{moves}:k"]), "there");
        }
    };
    run();
    move_slowly(&cluster, slot, [from, to], &mut run);
    for shard in 0..3 {
        let commands = cluster
            .node(cluster.replica_of(shard))
            .cmd(&["INFO", "commandstats"])
            .text();
        assert!(!commands.contains("cmdstat_eval_ro:"), "shard {shard}");
    }
}

#[test]
fn a_replica_that_is_gone_is_no_loss() {
    let (mut cluster, proxy) = served();
    let mut client = proxy.connect();
    let key = cluster.key_at(1, "lost:");
    assert_eq!(client.cmd(&["SET", &key, "value"]), "OK");
    read_at_a_replica(&proxy, &mut client, &key, "value");
    let replica = cluster.replica_of(1);
    cluster.nodes()[replica].kill9();
    client.patience(Duration::from_secs(5));
    for _ in 0..200 {
        assert_eq!(client.cmd(&["GET", &key]), "value");
    }
}
