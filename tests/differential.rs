//! nearhit is indistinguishable from the Redis behind it: thousands of generated sequences of commands, of all groups,
//! right and wrong, over one to four connections, said to a redis-server and, through nearhit, to a second one. Every
//! byte and every close must be the same; what may differ stands in `differential_support/wanted.rs`.
//!
//! A failure prints its seed, and the fewest steps that still fail. `NEARHIT_SEED=… cargo test --test differential` runs
//! that seed alone; `make differential SECONDS=600` runs fresh seeds for that long.

mod differential_support;
mod session_support;
mod support;

use differential_support::Profile;
use differential_support::driver::Driver;
use differential_support::sequence::generate;
use differential_support::shrink::{picture, shrink};
use differential_support::steps::{Request, Step};
use nearhit::time::now;
use std::time::Duration;

/// Sequences of each test.
const SEQUENCES: u64 = 600;

const PLAIN: Profile = Profile {
    name: "resp2",
    nearhit: &[],
    login: "",
    cached: true,
    resp3: 10,
    depth: 30,
    password: None,
};

/// What the environment says, as a number.
fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds to run: the one that is asked for, fresh ones for as long as is asked, or always the same ones.
fn seeds(base: u64) -> Box<dyn Iterator<Item = u64>> {
    if let Some(seed) = asked("NEARHIT_SEED") {
        return Box::new(std::iter::once(seed));
    }
    let Some(seconds) = asked("NEARHIT_DIFFERENTIAL_SECONDS") else {
        return Box::new(base..base + SEQUENCES);
    };
    let end = now().after(Duration::from_secs(seconds));
    let start = nearhit::time::unix_seconds().to_bits() << 16;
    Box::new((start.wrapping_add(base)..).take_while(move |_| now() < end))
}

fn mentions_multi(steps: &[Step]) -> bool {
    steps.iter().any(|step| match step {
        Step::Send(send) => send.requests.contains(&Request::line("MULTI")),
        _ => false,
    })
}

/// Runs one sequence; says how it failed.
fn failure(driver: &mut Driver, profile: &Profile, seed: u64, steps: &[Step]) -> Option<String> {
    let failure = driver.run(steps).err()?;
    let all = picture(driver, steps, &failure);
    let shrunk = shrink(&mut Driver::start(profile), steps, &failure);
    Some(format!(
        "NEARHIT_SEED={seed} cargo test --test differential {}\n{all}\n{shrunk}",
        profile.name
    ))
}

fn run(profile: &Profile, base: u64) {
    let mut driver = Driver::start(profile);
    let (mut failed, mut around_multi, mut count) = (Vec::new(), 0.0, 0);
    for seed in seeds(base) {
        let steps = generate(seed, profile);
        let multi = mentions_multi(&steps) && around_multi < 20.0;
        let before = if multi { driver.hits() } else { 0.0 };
        if let Some(text) = failure(&mut driver, profile, seed, &steps) {
            failed.push(text);
            driver = Driver::start(profile);
        } else if multi {
            around_multi += driver.hits() - before;
        }
        count += 1;
        assert!(failed.len() < 5, "{}", failed.join("\n"));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(driver.nearhit.metric("nearhit_panics_total", &[]), 0.0);
    if profile.cached && count > 100 {
        assert!(driver.hits() > 200.0, "many reads were hits, not {}", driver.hits());
        assert!(around_multi > 0.0, "some of them around transactions");
    }
}

#[test]
fn resp2_clients_hear_what_the_server_says() {
    run(&PLAIN, 1_000_000);
}

#[test]
fn resp3_clients_hear_what_the_server_says() {
    let profile = Profile {
        name: "resp3",
        resp3: 80,
        ..PLAIN
    };
    run(&profile, 2_000_000);
}

#[test]
fn redirected_invalidations_change_nothing() {
    let profile = Profile {
        name: "redirected",
        nearhit: &["--invalidation.mode", "redirect"],
        resp3: 40,
        ..PLAIN
    };
    run(&profile, 3_000_000);
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
    run(&profile, 4_000_000);
}
