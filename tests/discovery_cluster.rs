//! Discovery of a cluster: what its nodes say is published, and followed while slots move and nodes come and go.

mod support;

use std::collections::HashMap;

use nearhit::command::Slot;
use nearhit::config::{Address, UpstreamPlace};
use nearhit::topology::Topology;
use support::cluster::{CLUSTER_FAILOVER, RedisCluster};
use support::replicated::address;
use support::{Discovered, wait_for};

fn seeds(cluster: &RedisCluster, nodes: &[usize]) -> UpstreamPlace {
    UpstreamPlace::Cluster {
        seeds: nodes.iter().map(|node| cluster.at(*node)).collect(),
    }
}

fn owner(topology: &Topology, slot: u16) -> Option<Address> {
    let shards = topology.shards.as_ref()?;
    Some(shards.of(Slot::new(slot)?)?.primary.clone())
}

#[track_caller]
fn wait_for_owner(discovered: &Discovered, slot: u16, node: Option<&Address>) {
    let what = format!("{node:?} to have slot {slot}");
    wait_for(&what, CLUSTER_FAILOVER, || {
        owner(&discovered.now(), slot).as_ref() == node
    });
}

/// Waits until all primaries of the start have their slots and so many replicas each.
#[track_caller]
fn wait_for_start(discovered: &Discovered, cluster: &RedisCluster, replicas: usize) {
    wait_for("the whole cluster", CLUSTER_FAILOVER, || {
        let now = discovered.now();
        let shards = now.shards.iter().flat_map(|shards| shards.all());
        let counts: Vec<_> = shards.map(|shard| shard.replicas.len()).collect();
        let owned = |place| owner(&now, *cluster.first_slots(place).end()) == Some(cluster.at(place));
        counts == [replicas; 3] && (0..3).all(owned)
    });
}

#[test]
fn one_node_is_enough_to_find_all_others() {
    let cluster = RedisCluster::start(3, 1);
    for seed in [0, 4] {
        let discovered = Discovered::look(seeds(&cluster, &[seed]), false);
        wait_for_start(&discovered, &cluster, 1);
        let now = discovered.now();
        let shards = now.shards.expect("shards");
        for (place, shard) in shards.all().iter().enumerate() {
            assert_eq!(shard.replicas, [cluster.at(cluster.replica_of(place))]);
            assert_eq!(shard.slots, [cluster.first_slots(place)]);
        }
        assert!(
            now.primary
                .is_some_and(|primary| (0..3).any(|node| cluster.at(node) == primary))
        );
    }
}

#[test]
fn slots_are_followed_there_and_back() {
    let cluster = RedisCluster::start(3, 0);
    let discovered = Discovered::look(seeds(&cluster, &[2]), false);
    for _ in 0..3 {
        wait_for_owner(&discovered, 7, Some(&cluster.at(0)));
        cluster.move_slot(7, 0, 1);
        wait_for_owner(&discovered, 7, Some(&cluster.at(1)));
        cluster.move_slot(7, 1, 0);
    }
    wait_for_owner(&discovered, 7, Some(&cluster.at(0)));
    wait_for_owner(&discovered, 8, Some(&cluster.at(0)));
}

#[test]
fn a_slot_that_is_taken_is_followed_although_its_owner_has_not_said_so() {
    let cluster = RedisCluster::start(3, 0);
    let discovered = Discovered::look(seeds(&cluster, &[0]), false);
    wait_for_owner(&discovered, 9, Some(&cluster.at(0)));
    cluster.take_slot(9, 1);
    wait_for_owner(&discovered, 9, Some(&cluster.at(1)));
}

#[test]
fn replicas_that_take_over_are_published() {
    let mut cluster = RedisCluster::start(3, 1);
    let discovered = Discovered::look(seeds(&cluster, &[0, 1, 2]), false);
    wait_for_start(&discovered, &cluster, 1);
    cluster.fail_over(1);
    let by_hand = cluster.at(cluster.replica_of(1));
    wait_for_owner(&discovered, *cluster.first_slots(1).start(), Some(&by_hand));
    // Its seed, too.
    cluster.nodes()[0].kill9();
    let elected = cluster.at(cluster.replica_of(0));
    wait_for_owner(&discovered, 0, Some(&elected));
    let now = discovered.now();
    assert_ne!(
        now.primary,
        Some(cluster.at(0)),
        "somebody else is asked what names no key"
    );
    assert!(now.primary.is_some());
    // It comes back as the replica of the one that replaced it.
    cluster.nodes()[0].restart();
    wait_for("the old primary to be a replica", CLUSTER_FAILOVER, || {
        let shards = discovered.now().shards.expect("shards");
        shards.of(Slot::new(0).expect("a slot")).expect("a shard").replicas == [cluster.at(0)]
    });
}

#[test]
fn seeds_may_go_once_others_are_known() {
    let mut cluster = RedisCluster::start(3, 0);
    let discovered = Discovered::look(seeds(&cluster, &[0]), false);
    wait_for_start(&discovered, &cluster, 0);
    cluster.nodes()[0].kill9();
    cluster.move_slot(6000, 1, 2);
    wait_for_owner(&discovered, 6000, Some(&cluster.at(2)));
    let others = [cluster.at(1), cluster.at(2)];
    discovered.wait_for_primary("a primary that answers", |primary| others.contains(primary));
    // Nobody took its place.
    wait_for_owner(&discovered, 0, Some(&cluster.at(0)));
}

#[test]
fn slots_that_nobody_has_are_nobody_s() {
    let cluster = RedisCluster::start(3, 0);
    let discovered = Discovered::look(seeds(&cluster, &[1]), false);
    wait_for_owner(&discovered, 100, Some(&cluster.at(0)));
    for node in 0..3 {
        assert_eq!(cluster.node(node).cmd(&["CLUSTER", "DELSLOTS", "100"]), "OK");
    }
    wait_for_owner(&discovered, 100, None);
    wait_for_owner(&discovered, 101, Some(&cluster.at(0)));
}

#[test]
fn nodes_may_want_to_be_called_by_their_names() {
    let names = [
        ("--cluster-announce-hostname", "localhost"),
        ("--cluster-preferred-endpoint-type", "hostname"),
    ];
    let cluster = RedisCluster::start_with(3, 0, &names);
    let discovered = Discovered::look(seeds(&cluster, &[0]), false);
    for node in 0..3 {
        let Address::Tcp { port, .. } = cluster.at(node) else {
            panic!("nodes have ports")
        };
        let host = "localhost".to_owned();
        let named = Address::Tcp { host, port };
        wait_for_owner(&discovered, *cluster.first_slots(node).start(), Some(&named));
    }
}

#[test]
fn nodes_may_be_reached_elsewhere_than_they_say() {
    let cluster = RedisCluster::start(3, 0);
    let mut reached = HashMap::new();
    for node in 0..3 {
        let announced = cluster.node(node).port() + 1000;
        let set = ["CONFIG", "SET", "cluster-announce-port", &announced.to_string()];
        assert_eq!(cluster.node(node).cmd(&set), "OK");
        reached.insert(address(announced), cluster.at(node));
    }
    let discovered = Discovered::look_through(seeds(&cluster, &[0]), false, None, reached);
    for node in 0..3 {
        wait_for_owner(&discovered, *cluster.first_slots(node).start(), Some(&cluster.at(node)));
    }
    cluster.move_slot(7, 0, 1);
    wait_for_owner(&discovered, 7, Some(&cluster.at(1)));
}
