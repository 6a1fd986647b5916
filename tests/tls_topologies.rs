//! TLS to more than one node: every one of them, sentinels too, is spoken to in TLS, and verified as what it is announced as.

mod support;
mod tls_support;

use support::{Nearhit, RedisCluster, RedisServer, SOON, Sentinel, eventually, wait_for};
use tls_support::Authority;

/// Connections of nearhit to a node that are in the clear, where the harness has one itself.
#[track_caller]
fn assert_all_in_tls(node: &RedisServer) {
    let list = node.cmd(&["CLIENT", "LIST"]).text();
    let port = format!("laddr=127.0.0.1:{} ", node.port());
    let clear: Vec<_> = list
        .lines()
        .filter(|line| line.contains("name=nearhit") && line.contains(&port))
        .collect();
    assert!(clear.is_empty(), "in the clear: {clear:?}");
    assert!(list.contains("name=nearhit"), "nearhit is there:\n{list}");
}

#[test]
fn a_cluster_is_spoken_to_in_tls() {
    let authority = Authority::new();
    let cluster = RedisCluster::start_tls(3, 0, |builder| authority.tls(builder));
    // One node is named; the others announce themselves, by their addresses and with their TLS ports.
    let url = format!("rediss+cluster://localhost:{}", cluster.node(0).tls_port());
    let nearhit = Nearhit::serve_with(&url, &["--upstream.tls.ca-file", &authority.ca()]);
    let mut client = nearhit.connect();
    let keys: Vec<String> = (0..3).map(|primary| cluster.key_at(primary, "k")).collect();
    for (primary, key) in keys.iter().enumerate() {
        assert!(eventually(SOON, || client.cmd(&["SET", key, "v"]) == "OK"), "{key}");
        assert_eq!(cluster.node(primary).cmd(&["GET", key]), "v");
        assert_eq!(client.cmd(&["GET", key]), "v");
    }
    let mut all = vec!["MGET"];
    all.extend(keys.iter().map(String::as_str));
    assert!(client.cmd(&all).items().iter().all(|value| *value == "v"));
    for (primary, key) in keys.iter().enumerate() {
        cluster.node(primary).cmd(&["SET", key, "w"]);
        assert!(eventually(SOON, || client.cmd(&["GET", key]) == "w"), "{key}");
        assert_all_in_tls(cluster.node(primary));
    }
}

#[test]
fn a_redirection_is_followed_in_tls() {
    let authority = Authority::new();
    let cluster = RedisCluster::start_tls(2, 0, |builder| authority.tls(builder));
    let url = format!("rediss+cluster://localhost:{}", cluster.node(0).tls_port());
    let nearhit = Nearhit::serve_with(&url, &["--upstream.tls.ca-file", &authority.ca()]);
    let mut client = nearhit.connect();
    let key = cluster.key_at(0, "moved");
    let slot = support::cluster::slot_of(&key);
    assert!(eventually(SOON, || client.cmd(&["SET", &key, "v"]) == "OK"));
    cluster.node(0).cmd(&["DEL", &key]);
    cluster.begin_move(slot, 0, 1);
    // On a busy machine the first connection to the other node may take longer than a client is kept waiting.
    assert!(eventually(SOON, || client.cmd(&["SET", &key, "asked"]) == "OK"));
    cluster.end_move(slot, 0, 1);
    assert!(eventually(SOON, || client.cmd(&["GET", &key]) == "asked"));
    assert_eq!(cluster.node(1).cmd(&["GET", &key]), "asked");
}

#[test]
fn sentinels_and_whom_they_name_are_spoken_to_in_tls() {
    let authority = Authority::new();
    let tls = |builder| authority.tls(builder).arg("--tls-replication", "yes");
    let primary = tls(RedisServer::builder()).start();
    let master = format!("127.0.0.1 {}", primary.tls_port());
    let replica = tls(RedisServer::builder()).arg("--replicaof", &master).start();
    replica.wait_for_link();
    let sentinel = Sentinel::watch_tls(&primary, 1, tls);
    sentinel.wait_for_replicas(1);
    let url = format!("rediss+sentinel://localhost:{}/mymaster", sentinel.tls_port());
    let ca = authority.ca();
    let args = [
        "--upstream.tls.ca-file",
        &ca,
        "--routing.reads",
        "prefer-replica",
        "--cache.mode",
        "off",
    ];
    let nearhit = Nearhit::serve_with(&url, &args);
    let mut client = nearhit.connect();
    assert!(eventually(SOON, || client.line("SET k v") == "OK"));
    assert_eq!(primary.cmd(&["GET", "k"]), "v");
    wait_for("a read from the replica", SOON, || {
        assert_eq!(client.line("GET k"), "v");
        nearhit.metric("nearhit_reads_routed_total", &["to=\"replica\""]) > 0.0
    });
    for node in [&primary, &replica] {
        assert_all_in_tls(node);
    }
    let refused = sentinel.client().cmd(&["SENTINEL", "FAILOVER", "mymaster"]);
    assert_eq!(refused, "OK");
    let failover = support::replicated::FAILOVER;
    // Not before all is done is the replica asked itself: the sentinel has it cut off whoever is connected.
    wait_for("the sentinel to name the replica", failover, || {
        sentinel.primary().1 == replica.tls_port()
    });
    wait_for("writes to go there", failover, || {
        client.line("SET k w") == "OK" && replica.cmd(&["GET", "k"]) == "w"
    });
}
