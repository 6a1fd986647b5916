//! A session that has a connection of its own to one node of a cluster asks the others all the same.

mod support;

use support::cluster::RedisCluster;
use support::{Nearhit, Reply};

/// A cluster of three primaries and nearhit before it.
fn served() -> (RedisCluster, Nearhit) {
    let cluster = RedisCluster::start(3, 0);
    let proxy = Nearhit::serve(&cluster.url());
    (cluster, proxy)
}

#[test]
fn pipelined_transactions_run_each_on_the_node_of_its_keys() {
    let (cluster, proxy) = served();
    let mut client = proxy.connect();
    let keys: Vec<_> = (0..3).map(|node| cluster.key_at(node, "key:")).collect();
    for _ in 0..20 {
        for key in &keys {
            client.send(&["MULTI"]);
            client.send(&["INCR", key]);
            client.send(&["EXEC"]);
        }
        for _ in &keys {
            assert_eq!(client.reply(), "OK");
            assert_eq!(client.reply(), "QUEUED");
            assert!(matches!(client.reply(), Reply::Array(done) if matches!(done[..], [Reply::Int(_)])));
        }
    }
    assert!(keys.iter().all(|key| client.cmd(&["GET", key]) == "20"));
}

#[test]
fn what_several_nodes_answer_is_asked_of_all_of_them_behind_a_transaction_and_a_blocking_command() {
    let (cluster, proxy) = served();
    let mut client = proxy.connect();
    let [a, b, c] = [0, 1, 2].map(|node| cluster.key_at(node, "key:"));
    let all = [a.as_str(), &b, &c];
    for _ in 0..20 {
        client.send(&["MULTI"]);
        client.send(&["SET", &a, "1"]);
        client.send(&["EXEC"]);
        client.send(&["MSET", &a, "2", &b, "2", &c, "2"]);
        client.send(&["BLPOP", "none", "0.001"]);
        client.send(&["MGET", &a, &b, &c]);
        client.send(&["BLPOP", "none", "0.001"]);
        client.send(&["FLUSHALL"]);
        let replies: Vec<_> = (0..8).map(|_| client.reply()).collect();
        assert_eq!(replies[3], "OK", "{replies:?}");
        assert_eq!(replies[5].items(), ["2", "2", "2"]);
        assert_eq!(replies[7], "OK");
        for (node, key) in all.iter().enumerate() {
            assert_eq!(cluster.node(node).cmd(&["EXISTS", key]), 0);
        }
    }
}

#[test]
fn who_watches_a_key_asks_all_nodes_for_others() {
    let (cluster, proxy) = served();
    let mut client = proxy.connect();
    let [a, b, c] = [0, 1, 2].map(|node| cluster.key_at(node, "key:"));
    assert_eq!(client.cmd(&["MSET", &a, "1", &b, "2", &c, "3"]), "OK");
    assert_eq!(client.cmd(&["WATCH", &a]), "OK");
    assert_eq!(client.cmd(&["MGET", &a, &b, &c]).items(), ["1", "2", "3"]);
    assert_eq!(client.cmd(&["DBSIZE"]), 3);
    assert_eq!(client.cmd(&["MULTI"]), "OK");
    assert_eq!(client.cmd(&["INCR", &a]), "QUEUED");
    assert_eq!(client.cmd(&["EXEC"]).items(), [Reply::Int(2)]);
}
