//! nearhit is indistinguishable from the Redis behind it: thousands of generated sequences of commands, of all groups,
//! right and wrong, over one to four connections, said to a redis-server and, through nearhit, to a second one. Every
//! byte and every close must be the same; what may differ stands in `differential_support/wanted.rs`.
//!
//! A failure prints its seed, and the fewest steps that still fail. `NEARHIT_SEED=… cargo test --test differential` runs
//! that seed alone; `make differential SECONDS=600` runs fresh seeds for that long.

mod cluster_support;
mod differential_support;
mod session_support;
mod support;

use differential_support::Profile;
use differential_support::runs::{PLAIN, Run, run};

const RUN: Run = Run {
    file: "differential",
    base: 0,
    sequences: 400,
    fail_over_after: None,
};

fn all(profile: &Profile, base: u64) {
    run(Run { base, ..RUN }, profile);
}

#[test]
fn resp2_clients_hear_what_the_server_says() {
    all(&PLAIN, 1_000_000);
}

#[test]
fn resp3_clients_hear_what_the_server_says() {
    let profile = Profile {
        name: "resp3",
        resp3: 80,
        ..PLAIN
    };
    all(&profile, 2_000_000);
}

#[test]
fn redirected_invalidations_change_nothing() {
    let profile = Profile {
        name: "redirected",
        nearhit: &["--invalidation.mode", "redirect"],
        resp3: 40,
        ..PLAIN
    };
    all(&profile, 3_000_000);
}

#[test]
fn passwords_are_judged_by_the_server() {
    let profile = Profile {
        name: "passwords",
        cached: false,
        // A server closes strangers to whom it has more than a kilobyte to say at once.
        depth: 4,
        password: Some("opensesame"),
        resp3: 40,
        ..PLAIN
    };
    all(&profile, 4_000_000);
}
