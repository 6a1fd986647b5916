//! Failovers among nodes that are listed: no reply is wrong, no write is done twice, and nearhit adds little to the outage.

mod failover_support;
mod replica_support;
mod support;

use failover_support::book::{Appended, Counter, Register, Told, Verdict};
use failover_support::{Place, fail_over};
use nearhit::time;
use std::time::Duration;
use support::{Replicated, wait_for};

/// A primary, two replicas, and where they are.
fn nodes() -> (Replicated, String, Place) {
    let mut nodes = Replicated::start(2);
    let addresses = nodes.nodes().iter().map(support::RedisServer::addr).collect();
    let url = nodes.url();
    (nodes, url, Place::Nodes(addresses))
}

#[test]
fn a_master_that_is_killed_and_comes_back_has_every_acknowledged_write_once() {
    let (mut nodes, url, place) = nodes();
    // Every write is with the kernel before it is answered, which a killed process does not change.
    for setting in [["appendfsync", "no"], ["appendonly", "yes"]] {
        let [name, value] = setting;
        assert_eq!(nodes.primary().cmd(&["CONFIG", "SET", name, value]), "OK");
    }
    assert_eq!(nodes.primary().cmd(&["CONFIG", "REWRITE"]), "OK");
    let figures = fail_over("killed and restarted", &url, &place, |run| {
        nodes.nodes()[0].kill9();
        nodes.nodes()[0].restart();
        run.has_returned();
    });
    assert!(figures.iter().all(|figures| figures.lost == 0), "{figures:?}");
}

#[test]
fn a_master_that_hangs_loses_nothing_and_does_nothing_twice() {
    let (nodes, url, place) = nodes();
    let figures = fail_over("stopped for two seconds", &url, &place, |run| {
        nodes.primary().pause();
        let begun = time::now();
        wait_for("two seconds to pass", Duration::from_secs(3), || {
            time::now().since(begun) > Duration::from_secs(2)
        });
        nodes.primary().resume();
        nodes.primary().client().line("PING");
        run.has_returned();
    });
    assert!(figures.iter().all(|figures| figures.lost == 0), "{figures:?}");
}

#[test]
fn a_master_that_is_demoted_by_hand_takes_with_it_only_what_its_successor_never_had() {
    let (nodes, url, place) = nodes();
    let figures = fail_over("demoted by hand", &url, &place, |run| {
        nodes.promote(1);
        // What is written from now on is lost, whoever writes it.
        run.go_on();
        nodes.demote(0, 1);
        nodes.demote(2, 1);
    });
    assert!(figures.iter().all(|figures| figures.lost > 0), "{figures:?}");
}

#[test]
fn the_checks_find_what_they_are_for() {
    let mut counter = Counter::default();
    assert_eq!(counter.answered(1, 0), Verdict::Right);
    counter.uncertain();
    assert_eq!(counter.answered(3, 0), Verdict::Right);
    assert!(matches!(counter.answered(5, 0), Verdict::Doubled(_)));
    assert_eq!(counter.answered(5, 0), Verdict::Lost { since: 0 });

    let mut register = Register::default();
    assert_eq!(register.read(None, 0), Verdict::Right);
    for (value, told) in [
        (1, Told::Acknowledged(0)),
        (2, Told::Uncertain),
        (3, Told::Acknowledged(1)),
    ] {
        register.set(value, told);
    }
    register.set(4, Told::Refused);
    assert_eq!(register.read(Some(3), 1), Verdict::Right);
    assert!(matches!(register.read(Some(4), 1), Verdict::Wrong(_)), "it was refused");
    assert_eq!(register.read(Some(1), 1), Verdict::Lost { since: 1 });
    assert!(matches!(register.read(Some(3), 1), Verdict::Wrong(_)), "it was gone");
    assert_eq!(register.read(Some(2), 1), Verdict::Right, "it came late");
    assert_eq!(
        register.read(Some(1), 1),
        Verdict::Lost { since: 1 },
        "it was overwritten"
    );

    let told = [
        Told::Acknowledged(0),
        Told::Uncertain,
        Told::Acknowledged(0),
        Told::Acknowledged(1),
        Told::Refused,
    ];
    let appended = Appended { told: told.to_vec() };
    let wrong = |list: &[usize]| appended.check(list).0.len();
    assert_eq!(appended.check(&[0, 3]), (Vec::new(), 1));
    assert_eq!(wrong(&[0, 1, 2, 3]), 0);
    assert_eq!(wrong(&[0, 2]), 1, "the last master forgot");
    assert_eq!(wrong(&[0, 2, 3, 4]), 1, "refused");
    assert_eq!(wrong(&[0, 0, 2, 3]), 1, "twice");
    assert_eq!(wrong(&[2, 0, 3]), 1, "out of order");
}
