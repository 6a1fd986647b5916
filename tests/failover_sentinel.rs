//! Failovers by sentinels: no reply is wrong, no write is done twice, and nearhit adds little to the outage.

mod failover_support;
mod replica_support;
mod support;

use failover_support::{Place, Run, fail_over};
use replica_support::calls;
use support::replicated::FAILOVER;
use support::{RedisServer, SentinelGroup, eventually};

/// Everybody, where they are, and where to ask.
fn group() -> (SentinelGroup, String, Place) {
    let group = SentinelGroup::start();
    let sentinels: Vec<_> = group.sentinels.iter().map(support::Sentinel::addr).collect();
    let listed: Vec<_> = sentinels.iter().map(ToString::to_string).collect();
    let url = format!("redis+sentinel://{}/mymaster", listed.join(","));
    (group, url, Place::Sentinels(sentinels))
}

/// Waits until this sentinel names another primary than the first one.
#[track_caller]
fn wait_for_switch(group: &SentinelGroup, sentinel: usize) {
    let old = group.nodes.primary().port();
    let named = eventually(FAILOVER, || group.sentinels[sentinel].primary().1 != old);
    assert!(named, "no other primary is named:\n{}", group.sentinels[sentinel].log());
}

#[test]
fn a_failover_that_is_asked_for_is_followed() {
    let (group, url, place) = group();
    fail_over("SENTINEL FAILOVER", &url, &place, |_| {
        group.fail_over(0);
        wait_for_switch(&group, 0);
    });
}

#[test]
fn a_master_that_is_killed_is_replaced() {
    let (mut group, url, place) = group();
    // One of them need not ask the others whether they miss the master as well, so it stands for election before they do:
    // of three at a time none wins, and the next election is seconds away.
    let quorum = ["SENTINEL", "SET", "mymaster", "quorum", "1"];
    assert_eq!(group.sentinels[0].client().cmd(&quorum), "OK");
    fail_over("master killed", &url, &place, |_| {
        group.nodes.nodes()[0].kill9();
        wait_for_switch(&group, 0);
    });
}

#[test]
fn a_failover_is_followed_although_a_sentinel_has_died() {
    let (mut group, url, place) = group();
    fail_over("a sentinel killed, then SENTINEL FAILOVER", &url, &place, |run| {
        group.sentinels[0].server().kill9();
        run.go_on();
        group.fail_over(1);
        wait_for_switch(&group, 1);
    });
}

/// What clients ask of a server, and nobody else.
fn asked(server: &RedisServer) -> u64 {
    ["get", "set", "incr", "eval", "rpush"]
        .iter()
        .map(|command| calls(server, command))
        .sum()
}

/// Has everything go on for a while in which nothing may be asked of the old master, although it would answer.
#[track_caller]
fn leave_alone(run: &Run<'_>, old: &RedisServer) {
    let before = asked(old);
    for _ in 0..3 {
        run.go_on();
        assert_eq!(old.cmd(&["ROLE"]).items()[0], "master", "it would take writes");
    }
    assert_eq!(asked(old) - before, 0, "requests at the old master");
}

#[test]
fn an_old_master_that_nobody_demotes_is_neither_read_from_nor_written_to() {
    let (group, url, place) = group();
    fail_over("old master goes on", &url, &place, |run| {
        group.fail_over(0);
        wait_for_switch(&group, 0);
        let old = group.nodes.primary();
        assert_eq!(old.cmd(&["REPLICAOF", "NO", "ONE"]), "OK");
        run.go_on();
        leave_alone(run, old);
    });
}
