//! nearhit in front of a cluster: every command reaches the node that has its keys, and the client sees one plain Redis.

mod support;

use support::cluster::{RedisCluster, slot_of};
use support::{Nearhit, Reply, SOON, eventually, wait_for};

/// A cluster of three primaries and nearhit before it.
fn served() -> (RedisCluster, Nearhit) {
    let cluster = RedisCluster::start(3, 0);
    let proxy = Nearhit::serve(&cluster.url());
    (cluster, proxy)
}

/// Waits until all nodes' invalidations arrive.
fn wait_for_tracking(proxy: &Nearhit) {
    wait_for("tracking", SOON, || {
        proxy.metric("nearhit_tracking_connected", &[]) == 3.0
    });
}

#[test]
fn keys_are_written_to_and_read_from_the_node_that_has_them() {
    let (cluster, proxy) = served();
    let mut client = proxy.connect();
    for number in 0..100 {
        let key = format!("key:{number}");
        assert_eq!(client.cmd(&["SET", &key, "value"]), "OK");
        let owner = cluster.node(cluster.owner_of(slot_of(&key)));
        assert_eq!(owner.cmd(&["GET", &key]), "value");
        assert_eq!(client.cmd(&["GET", &key]), "value");
    }
}
