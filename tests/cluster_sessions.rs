//! What takes its time in front of a cluster: subscriptions, waiting for elements and for replicas, scripts that do not end.

mod support;

use std::time::Duration;

use support::cluster::{RedisCluster, slot_of};
use support::{Nearhit, SOON, wait_for};

fn served(replicas: usize) -> (RedisCluster, Nearhit) {
    let cluster = RedisCluster::start(3, replicas);
    let proxy = Nearhit::serve(&cluster.url());
    (cluster, proxy)
}

#[test]
fn what_is_published_at_any_node_reaches_subscribers_here() {
    let (cluster, proxy) = served(0);
    let mut subscriber = proxy.connect3();
    subscriber.send(&["SUBSCRIBE", "news"]);
    assert_eq!(subscriber.push().items()[0], "subscribe");
    for node in 0..3 {
        let text = format!("from {node}");
        cluster.node(node).cmd(&["PUBLISH", "news", &text]);
        assert_eq!(subscriber.push().items()[2], text.as_str());
    }
    assert_eq!(proxy.connect().cmd(&["PUBLISH", "news", "from here"]).int(), 1);
    assert_eq!(subscriber.push().items()[2], "from here");
}

#[test]
fn shard_channels_are_heard_at_the_node_that_has_their_slot() {
    let (cluster, proxy) = served(0);
    let mut publisher = proxy.connect();
    for node in 0..3 {
        let channel = cluster.key_at(node, "shard:");
        let mut subscriber = proxy.connect3();
        subscriber.send(&["SSUBSCRIBE", &channel]);
        assert_eq!(subscriber.push().items()[0], "ssubscribe");
        assert_eq!(publisher.cmd(&["SPUBLISH", &channel, "hello"]).int(), 1);
        assert_eq!(subscriber.push().items()[2], "hello");
        // It reads and writes all keys meanwhile.
        let elsewhere = cluster.key_at((node + 1) % 3, "key:");
        assert_eq!(subscriber.cmd(&["SET", &elsewhere, "v"]), "OK");
        assert_eq!(subscriber.cmd(&["GET", &elsewhere]), "v");
        let other = cluster.key_at((node + 1) % 3, "shard:");
        assert!(subscriber.cmd(&["SSUBSCRIBE", &other]).is_error_with("CROSSSLOT"));
    }
    let mut both = proxy.connect3();
    both.send(&["SUBSCRIBE", "news"]);
    assert_eq!(both.push().items()[0], "subscribe");
    assert!(both.cmd(&["SSUBSCRIBE", "shard"]).is_error_with("ERR nearhit: "));
}

#[test]
fn wait_waits_for_the_replicas_of_every_node() {
    let (cluster, proxy) = served(1);
    let mut client = proxy.connect();
    for node in 0..3 {
        assert_eq!(client.cmd(&["SET", &cluster.key_at(node, "w:"), "v"]), "OK");
    }
    assert_eq!(client.cmd(&["WAIT", "1", "2000"]).int(), 1);
    let replica = cluster.node(cluster.replica_of(2));
    replica.pause();
    assert_eq!(client.cmd(&["SET", &cluster.key_at(2, "w:"), "later"]), "OK");
    assert_eq!(
        client.cmd(&["WAIT", "1", "200"]).int(),
        0,
        "one node's replica has not got it"
    );
    replica.resume();
    assert_eq!(client.cmd(&["WAIT", "1", "5000"]).int(), 1);
    // What stands behind it in the pipeline is done after it.
    let replies = client.pipeline(&[vec!["WAIT", "1", "2000"], vec!["GET", "nothing"], vec!["PING"]]);
    assert_eq!((replies[0].int(), replies[2].text()), (1, "PONG".to_owned()));
    wait_for("the connections to be closed", SOON, || {
        proxy.metric("nearhit_upstream_connections", &["pool=\"pinned\""]) == 0.0
    });
}

#[test]
fn whoever_waits_for_an_element_follows_its_slot() {
    let (cluster, proxy) = served(0);
    let key = cluster.key_at(0, "list:");
    let mut waiting = proxy.connect();
    waiting.send(&["BLPOP", &key, "0"]);
    wait_for("somebody to wait", SOON, || {
        cluster.node(0).info("blocked_clients") == "1"
    });
    cluster.move_slot(slot_of(&key), 0, 1);
    wait_for("somebody to wait at the new node", SOON, || {
        cluster.node(1).info("blocked_clients") == "1"
    });
    assert_eq!(proxy.connect().cmd(&["RPUSH", &key, "element"]).int(), 1);
    waiting.patience(Duration::from_secs(5));
    assert_eq!(waiting.reply().items()[1], "element");
    assert_eq!(waiting.cmd(&["RPUSH", &key, "another"]).int(), 1);
    // And whoever comes too late for the old one.
    cluster.move_slot(slot_of(&key), 1, 2);
    assert_eq!(waiting.cmd(&["BLPOP", &key, "1"]).items()[1], "another");
}

#[test]
fn a_script_that_does_not_end_is_ended_wherever_it_runs() {
    let (cluster, proxy) = served(0);
    for node in 0..2 {
        let server = cluster.node(node);
        assert_eq!(server.cmd(&["CONFIG", "SET", "busy-reply-threshold", "10"]), "OK");
        let mut stuck = server.client();
        stuck.patience(Duration::from_secs(10));
        stuck.send(&["EVAL", "while true do end", "0"]);
        wait_for("the script to be known as slow", SOON, || {
            server.cmd(&["PING"]).is_error_with("BUSY")
        });
        assert_eq!(proxy.connect().cmd(&["SCRIPT", "KILL"]), "OK");
        assert!(stuck.reply().is_error());
    }
    assert!(proxy.connect().cmd(&["SCRIPT", "KILL"]).is_error_with("NOTBUSY"));
}

#[test]
fn clients_are_not_tracked_for_nobody_could_tell_them_all() {
    let (_cluster, proxy) = served(0);
    let mut client = proxy.connect3();
    assert!(client.cmd(&["CLIENT", "TRACKING", "ON"]).is_error_with("ERR nearhit: "));
    assert_eq!(client.cmd(&["CLIENT", "TRACKING", "OFF"]), "OK");
    assert_eq!(client.cmd(&["SET", "k", "v"]), "OK");
}

#[test]
fn the_nodes_are_shown() {
    let (cluster, proxy) = served(1);
    let mut client = proxy.connect3();
    wait_for("all nodes to be known", SOON, || {
        client.cmd(&["PROXY", "TOPOLOGY"]).items().len() == 6
    });
    wait_for("all nodes to tell of changes", SOON, || {
        let nodes = client.cmd(&["PROXY", "TOPOLOGY"]).items();
        let connected = |node: &&support::Reply| node.get("tracking").is_some_and(|state| state == "connected");
        nodes.iter().filter(connected).count() == 3
    });
    let nodes = client.cmd(&["PROXY", "TOPOLOGY"]).items();
    assert_eq!(
        nodes[0].get("node").expect("a node"),
        cluster.at(0).to_string().as_str()
    );
    assert_eq!(nodes[0].get("slot_ranges").expect("slots"), "0-5460");
    assert_eq!(
        nodes[1].get("of").expect("a primary"),
        cluster.at(0).to_string().as_str()
    );
    let key = cluster.key_at(2, "k");
    let told = client.cmd(&["PROXY", "EXPLAIN", "GET", &key]);
    assert_eq!(told.get("node").expect("a node"), cluster.at(2).to_string().as_str());
}
