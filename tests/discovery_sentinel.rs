//! Discovery by sentinels: failovers that are asked for, primaries and sentinels that die, and what is published meanwhile.

mod support;

use nearhit::config::{Credentials, Secret, UpstreamPlace};
use nearhit::topology::Topology;
use support::replicated::address;
use support::{Discovered, RedisServer, Replicated, SOON, Sentinel, SentinelGroup, wait_for};

/// The sentinels with these numbers.
fn listed(group: &SentinelGroup, sentinels: &[usize]) -> UpstreamPlace {
    UpstreamPlace::Sentinel {
        sentinels: sentinels.iter().map(|sentinel| group.at(*sentinel)).collect(),
        group: "mymaster".to_owned(),
    }
}

/// The primary and both its replicas.
fn whole(group: &SentinelGroup) -> Topology {
    let nodes = &group.nodes;
    Topology::new(Some(nodes.at(0)), [nodes.at(1), nodes.at(2)])
}

#[test]
fn a_failover_is_followed_and_nobody_is_published_meanwhile() {
    let group = SentinelGroup::start();
    let discovered = Discovered::look(listed(&group, &[0, 1, 2]), true);
    discovered.wait_for(&whole(&group));
    group.fail_over(0);
    let old = group.nodes.at(0);
    let new = discovered.wait_for_primary("another primary", |primary| *primary != old);
    let found = discovered.primaries_until(Some(&new));
    assert_eq!(found, [Some(old.clone()), None, Some(new.clone())]);
    // The old primary goes on for ten seconds, until the sentinels have it follow the new one.
    let mut others = [group.nodes.at(1), group.nodes.at(2)].into_iter();
    let other = others.find(|node| *node != new);
    discovered.wait_for(&Topology::new(Some(new), other));
}

#[test]
fn replicas_come_and_go() {
    let mut nodes = Replicated::start(1);
    let sentinel = Sentinel::watch(nodes.primary(), 1);
    let place = UpstreamPlace::Sentinel {
        sentinels: vec![address(sentinel.addr().port())],
        group: "mymaster".to_owned(),
    };
    let discovered = Discovered::look(place, true);
    let whole = Topology::new(Some(nodes.at(0)), [nodes.at(1)]);
    discovered.wait_for(&whole);
    nodes.nodes()[1].kill9();
    discovered.wait_for(&Topology::single(nodes.at(0)));
    nodes.nodes()[1].restart();
    discovered.wait_for(&whole);
}

#[test]
fn a_primary_that_died_is_replaced() {
    let mut group = SentinelGroup::start();
    let discovered = Discovered::look(listed(&group, &[0, 1, 2]), false);
    let old = group.nodes.at(0);
    discovered.wait_for(&Topology::single(old.clone()));
    group.nodes.nodes()[0].kill9();
    let new = discovered.wait_for_primary("another primary", |primary| *primary != old);
    let found = discovered.primaries_until(Some(&new));
    assert_eq!(found, [Some(old), None, Some(new)]);
}

#[test]
fn a_listed_sentinel_may_die_because_it_told_of_the_others() {
    let mut group = SentinelGroup::start();
    let discovered = Discovered::look(listed(&group, &[0]), false);
    let old = group.nodes.at(0);
    discovered.wait_for(&Topology::single(old.clone()));
    for sentinel in [1, 2] {
        wait_for("the other sentinels to be asked", SOON, || {
            let clients = group.sentinels[sentinel].client().cmd(&["CLIENT", "LIST"]).text();
            clients.contains("name=discovery") && clients.contains("psub=1")
        });
    }
    group.sentinels[0].server().kill9();
    group.fail_over(1);
    let new = discovered.wait_for_primary("another primary", |primary| *primary != old);
    assert_eq!(discovered.primaries_until(Some(&new)).len(), 3);
}

#[test]
fn without_sentinels_the_topology_stays_until_the_primary_says_otherwise() {
    let mut group = SentinelGroup::start();
    let discovered = Discovered::look(listed(&group, &[0, 1, 2]), false);
    let old = group.nodes.at(0);
    discovered.wait_for(&Topology::single(old.clone()));
    for sentinel in &mut group.sentinels {
        sentinel.server().kill9();
    }
    group.nodes.demote(0, 1);
    discovered.wait_for(&Topology::default());
    group.nodes.promote(0);
    discovered.wait_for(&Topology::single(old.clone()));
    let found = discovered.primaries_until(Some(&old));
    assert_eq!(found, [Some(old.clone()), None, Some(old)]);
}

#[test]
fn a_password_is_said_to_the_sentinels() {
    let primary = RedisServer::start();
    let sentinel = Sentinel::watch(&primary, 1);
    let mut client = sentinel.client();
    assert_eq!(client.cmd(&["ACL", "SETUSER", "default", "resetpass", ">s3cret"]), "OK");
    let place = || UpstreamPlace::Sentinel {
        sentinels: vec![address(sentinel.addr().port())],
        group: "mymaster".to_owned(),
    };
    let stranger = Discovered::look(place(), false);
    let credentials = Credentials {
        username: Box::default(),
        password: Secret::new("s3cret"),
    };
    let known = Discovered::look_as(place(), false, Some(credentials));
    known.wait_for(&Topology::single(address(primary.port())));
    assert_eq!(stranger.now(), Topology::default());
}

#[test]
fn a_group_that_sentinels_do_not_know_has_no_primary() {
    let primary = RedisServer::start();
    let sentinel = Sentinel::watch(&primary, 1);
    let sentinels = vec![address(sentinel.addr().port())];
    let group = "another".to_owned();
    let discovered = Discovered::look(UpstreamPlace::Sentinel { sentinels, group }, false);
    wait_for("the sentinel to be asked", SOON, || {
        sentinel.client().cmd(&["CLIENT", "LIST"]).text().contains("psub=1")
    });
    assert_eq!(discovered.now(), Topology::default());
}
