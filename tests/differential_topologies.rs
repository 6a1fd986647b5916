//! The sequences of `differential.rs` again, with nearhit before a primary whose replicas it reads from, and before a group
//! that sentinels watch, and before a cluster: the replies must be those of one server. What is written past nearhit is waited for at the replicas
//! before it is read; what is written through it is not.

mod cluster_support;
mod differential_support;
mod session_support;
mod support;

use differential_support::runs::{PLAIN, Run, run};
use differential_support::{Behind, Profile};

const RUN: Run = Run {
    file: "differential_topologies",
    base: 5_000_000,
    sequences: 150,
    fail_over_after: None,
};

fn reads_at_replicas(driver: &differential_support::driver::Driver) -> f64 {
    driver.nearhit.metric("nearhit_reads_routed_total", &["to=\"replica\""])
}

#[test]
fn replicas_say_what_the_server_says() {
    let profile = Profile {
        name: "replicas",
        behind: Behind::Replicas,
        resp3: 40,
        ..PLAIN
    };
    let driver = run(RUN, &profile);
    assert!(reads_at_replicas(&driver) > 0.0, "some reads went to replicas");
}

#[test]
fn without_a_cache_replicas_say_what_the_server_says() {
    let profile = Profile {
        name: "without_a_cache",
        behind: Behind::Replicas,
        nearhit: &["--cache.mode", "off"],
        cached: false,
        resp3: 40,
        ..PLAIN
    };
    let driver = run(Run { base: 6_000_000, ..RUN }, &profile);
    assert!(reads_at_replicas(&driver) > 20.0, "many reads went to replicas");
}

#[test]
fn sentinels_change_nothing_nor_does_a_failover() {
    let profile = Profile {
        name: "sentinels",
        behind: Behind::Sentinels,
        resp3: 40,
        ..PLAIN
    };
    let fail_over_after = Some(RUN.sequences / 2);
    run(
        Run {
            base: 7_000_000,
            fail_over_after,
            ..RUN
        },
        &profile,
    );
}

#[test]
fn a_cluster_says_what_the_server_says() {
    let profile = Profile {
        name: "cluster",
        behind: Behind::Cluster,
        resp3: 40,
        ..PLAIN
    };
    run(Run { base: 8_000_000, ..RUN }, &profile);
}

#[test]
fn without_a_cache_a_cluster_says_what_the_server_says() {
    let profile = Profile {
        name: "cluster_without_a_cache",
        behind: Behind::Cluster,
        nearhit: &["--cache.mode", "off"],
        cached: false,
        resp3: 40,
        ..PLAIN
    };
    run(Run { base: 9_000_000, ..RUN }, &profile);
}
