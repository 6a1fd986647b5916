//! Reads that replicas answer: which, when, and that no session notices but by the load.

mod support;

use std::time::Duration;

use support::{Nearhit, RedisServer, SOON, wait_for};

/// Calls of GET at a server, whoever asked.
fn gets(server: &RedisServer) -> u64 {
    let stats = server.cmd(&["INFO", "commandstats"]).text();
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls="));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// Waits until nearhit may read from so many replicas.
#[track_caller]
fn wait_for_replicas(proxy: &Nearhit, count: usize) {
    let mut client = proxy.connect3();
    wait_for("replicas that may be read from", Duration::from_secs(10), || {
        let nodes = client.cmd(&["PROXY", "TOPOLOGY"]).items();
        let ok = |node: &support::Reply| {
            node.get("role").is_some_and(|role| role == "replica") && node.get("state").is_some_and(|state| state == "ok")
        };
        nodes.iter().filter(|node| ok(node)).count() == count
    });
}

fn prefer_replica(master: &RedisServer) -> Nearhit {
    Nearhit::serve_with(
        &master.url(),
        &["--cache-mode", "off", "--routing-reads", "prefer-replica"],
    )
}

#[test]
fn reads_go_to_a_replica_and_writes_to_the_master() {
    let master = RedisServer::start();
    let replica = RedisServer::replica_of(&master);
    replica.wait_for_link();
    let proxy = prefer_replica(&master);
    wait_for_replicas(&proxy, 1);
    let mut client = proxy.connect();
    client.cmd(&["SET", "k", "v"]);
    wait_for("a read of the replica", SOON, || {
        assert_eq!(client.cmd(&["GET", "k"]), "v");
        gets(&replica) > 0
    });
    let before = (gets(&master), gets(&replica));
    for _ in 0..100 {
        assert_eq!(client.cmd(&["GET", "k"]), "v");
    }
    assert_eq!((gets(&master), gets(&replica)), (before.0, before.1 + 100));
}
