//! Runs of many sequences: which seeds, and what is said of those that fail.

use super::clustered::clustered;
use super::driver::Driver;
use super::sequence::generate;
use super::shrink::{picture, shrink};
use super::steps::{Request, Step};
use super::{Behind, Profile};
use nearhit::time::now;
use std::time::Duration;

/// A test.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The file it is in.
    pub file: &'static str,
    /// The first of its seeds.
    pub base: u64,
    /// So many sequences.
    pub sequences: u64,
    /// After so many sequences another node takes the primary's place.
    pub fail_over_after: Option<u64>,
}

pub const PLAIN: Profile = Profile {
    name: "resp2",
    behind: Behind::Server,
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
fn seeds(run: Run) -> Box<dyn Iterator<Item = u64>> {
    if let Some(seed) = asked("NEARHIT_SEED") {
        return Box::new(std::iter::once(seed));
    }
    let Some(seconds) = asked("NEARHIT_DIFFERENTIAL_SECONDS") else {
        return Box::new(run.base..run.base + run.sequences);
    };
    let end = now().after(Duration::from_secs(seconds));
    let start = nearhit::time::unix_seconds().to_bits() << 16;
    Box::new((start.wrapping_add(run.base)..).take_while(move |_| now() < end))
}

fn mentions_multi(steps: &[Step]) -> bool {
    steps.iter().any(|step| match step {
        Step::Send(send) => send.requests.contains(&Request::line("MULTI")),
        _ => false,
    })
}

/// What a server with replicas or sentinels (their channel) answers differently, what would hand its place to one of them, and what nearhit takes for
/// itself when it reads from several nodes.
const REPLICATION: [&[u8]; 7] = [
    b"CHANNELS",
    b"FAILOVER",
    b"REPLICAOF",
    b"WAIT",
    b"ROLE",
    b"READONLY",
    b"READWRITE",
];

fn without_replication(steps: &mut [Step]) {
    let mentions = |request: &Request, word: &[u8]| {
        let bytes = request.bytes().to_ascii_uppercase();
        bytes.windows(word.len()).any(|part| part == word)
    };
    for step in steps {
        if let Step::Send(send) = step {
            send.requests
                .retain(|request| !REPLICATION.iter().any(|word| mentions(request, word)));
        }
    }
}

/// Runs one sequence; says how it failed.
fn failure(driver: &mut Driver, run: Run, profile: &Profile, seed: u64, steps: &[Step]) -> Option<String> {
    let failure = driver.run(steps).err()?;
    let all = picture(driver, steps, &failure);
    let shrunk = shrink(&mut Driver::start(profile), steps, &failure);
    Some(format!(
        "NEARHIT_SEED={seed} cargo test --test {} {}\n{all}\n{shrunk}",
        run.file, profile.name
    ))
}

/// Runs them all, on a driver that is given back.
pub fn run(run: Run, profile: &Profile) -> Driver {
    let mut driver = Driver::start(profile);
    let (mut failed, mut around_multi, mut count) = (Vec::new(), 0.0, 0);
    for seed in seeds(run) {
        let mut steps = generate(seed, profile);
        match profile.behind {
            Behind::Server => {}
            Behind::Replicas | Behind::Sentinels => without_replication(&mut steps),
            Behind::Cluster => clustered(&mut steps, seed),
        }
        if run.fail_over_after == Some(count) {
            driver.fail_over();
        }
        let multi = mentions_multi(&steps) && around_multi < 20.0;
        let before = if multi { driver.hits() } else { 0.0 };
        if let Some(text) = failure(&mut driver, run, profile, seed, &steps) {
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
        // More than one in each sequence.
        assert!(
            driver.hits() > count as f64,
            "many reads were hits, not {}",
            driver.hits()
        );
        assert!(around_multi > 0.0, "some of them around transactions");
    }
    driver
}
