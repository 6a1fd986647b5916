//! Failovers and moving slots of a cluster: no reply is wrong, no write is done twice, and nearhit adds little to the outage.

mod failover_support;
mod replica_support;
mod support;

use failover_support::{Figures, Place, Run, fail_over};
use nearhit::time;
use std::time::Duration;
use support::cluster::{CLUSTER_FAILOVER, RedisCluster, slot_of};
use support::wait_for;

/// Slots that are asked for, all of them of the first primary.
const TAGS: usize = 3;

/// A cluster of three primaries and their replicas, and where what is asked for is.
fn cluster(tags: usize, returns: bool) -> (RedisCluster, String, Place) {
    let mut cluster = RedisCluster::start(3, 1);
    let nodes = cluster.nodes().iter().map(support::RedisServer::addr).collect();
    let tags = cluster.keys_at(0, "tag").take(tags).collect();
    let (url, place) = (cluster.url(), Place::Cluster { nodes, tags, returns });
    (cluster, url, place)
}

/// The slots of what is asked for.
fn slots(place: &Place) -> Vec<u16> {
    match place {
        Place::Cluster { tags, .. } => tags.iter().map(|tag| slot_of(tag)).collect(),
        Place::Nodes(_) | Place::Sentinels(_) => Vec::new(),
    }
}

#[track_caller]
fn wait_for_replica_to_lead(cluster: &RedisCluster) {
    let replica = cluster.node(cluster.replica_of(0));
    wait_for("the replica to take over", CLUSTER_FAILOVER, || {
        replica.info("role") == "master"
    });
}

#[track_caller]
fn nothing_is_lost(figures: &[Figures]) {
    assert!(figures.iter().all(|figures| figures.lost == 0), "{figures:?}");
}

/// The direct client appends about twice as often as all of one nearhit together.
#[track_caller]
fn no_more_is_lost_than_directly(figures: &[Figures]) {
    let is_more = |figures: &&Figures| figures.lost > figures.lost_directly + 20;
    let more = figures.iter().find(is_more);
    assert!(more.is_none(), "{more:?}");
}

#[test]
fn a_failover_by_hand_loses_nothing() {
    let (cluster, url, place) = cluster(TAGS, false);
    let figures = fail_over("CLUSTER FAILOVER", &url, &place, |_| cluster.fail_over(0));
    nothing_is_lost(&figures);
}

#[test]
fn a_failover_back_and_forth_loses_nothing() {
    let (cluster, url, place) = cluster(TAGS, true);
    let figures = fail_over("CLUSTER FAILOVER, and back", &url, &place, |run| {
        cluster.fail_over(0);
        cluster.wait_until_whole();
        run.go_on();
        assert_eq!(cluster.node(0).cmd(&["CLUSTER", "FAILOVER"]), "OK");
        wait_for("the old primary to lead again", CLUSTER_FAILOVER, || {
            cluster.node(0).info("role") == "master"
        });
    });
    nothing_is_lost(&figures);
}

#[test]
fn a_failover_by_force_is_followed() {
    let (cluster, url, place) = cluster(TAGS, false);
    let figures = fail_over("CLUSTER FAILOVER FORCE", &url, &place, |_| {
        let replica = cluster.node(cluster.replica_of(0));
        assert_eq!(replica.cmd(&["CLUSTER", "FAILOVER", "FORCE"]), "OK");
        wait_for_replica_to_lead(&cluster);
    });
    no_more_is_lost_than_directly(&figures);
}

#[test]
fn a_primary_that_is_killed_is_replaced_and_comes_back_as_a_replica() {
    let (mut cluster, url, place) = cluster(TAGS, false);
    let figures = fail_over("primary killed", &url, &place, |run| {
        cluster.nodes()[0].kill9();
        wait_for_replica_to_lead(&cluster);
        run.go_on();
        cluster.nodes()[0].restart();
        cluster.wait_until_whole();
    });
    no_more_is_lost_than_directly(&figures);
}

#[test]
fn a_primary_that_hangs_for_long_is_replaced_and_gives_way_when_it_goes_on() {
    let (cluster, url, place) = cluster(TAGS, false);
    let figures = fail_over("primary hangs for longer than the node timeout", &url, &place, |run| {
        cluster.node(0).pause();
        wait_for_replica_to_lead(&cluster);
        run.go_on();
        cluster.node(0).resume();
        run.go_on();
        cluster.wait_until_whole();
    });
    no_more_is_lost_than_directly(&figures);
}

#[test]
fn a_primary_that_hangs_for_a_moment_loses_nothing() {
    let (cluster, url, place) = cluster(TAGS, false);
    let figures = fail_over("primary hangs for a second", &url, &place, |run| {
        cluster.node(0).pause();
        let begun = time::now();
        wait_for("a second to pass", Duration::from_secs(2), || {
            time::now().since(begun) > Duration::from_secs(1)
        });
        cluster.node(0).resume();
        cluster.node(0).client().line("PING");
        run.has_returned();
    });
    nothing_is_lost(&figures);
}

fn move_all(cluster: &RedisCluster, slots: &[u16], from: usize, to: usize, run: &Run<'_>) {
    for slot in slots {
        cluster.begin_move(*slot, from, to);
        run.go_on();
        cluster.move_keys(*slot, from, to);
        cluster.end_move(*slot, from, to);
    }
    run.go_on();
}

#[test]
fn slots_that_move_there_and_back_lose_nothing() {
    let (cluster, url, place) = cluster(TAGS, true);
    let figures = fail_over("slots moved there and back", &url, &place, |run| {
        let slots = slots(&place);
        for _ in 0..2 {
            move_all(&cluster, &slots, 0, 1, run);
            move_all(&cluster, &slots, 1, 0, run);
        }
    });
    nothing_is_lost(&figures);
}

#[test]
fn a_slot_that_another_primary_takes_is_asked_for_there() {
    let (cluster, url, place) = cluster(1, false);
    let figures = fail_over("slot taken by a newer epoch", &url, &place, |run| {
        cluster.take_slot(slots(&place)[0], 1);
        cluster.wait_until_whole();
        run.go_on();
    });
    no_more_is_lost_than_directly(&figures);
}
