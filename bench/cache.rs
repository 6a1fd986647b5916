//! The near-cache by itself, beside two cache libraries, and the pieces that a request is made of.
//!
//! ```text
//! make bench-cache                       five rounds, about a minute
//! make bench-cache BENCH_ARGS=--quick    one round
//! ```
//! Reads of 100,000 keys of 32 bytes, all there, with values of 64 bytes that are copied out; keys hashed by foldhash in
//! all three. nearhit's reads are the very calls that a session makes for a GET, its verdict on freshness included, and
//! they find its worker's own copies first. Rates are per second of a thread's CPU time, rounds go round the three caches,
//! and ratios are taken within a round. Results go to `bench/results/cache.{md,json}`.

#[path = "cache/contenders.rs"]
mod contenders;
#[path = "../tests/support/mod.rs"]
mod harness;
#[path = "support/machine.rs"]
mod machine;
#[path = "cache/parts.rs"]
mod parts;
#[path = "cache/report.rs"]
mod report;
#[path = "support/statistics.rs"]
mod statistics;
#[path = "cache/timing.rs"]
mod timing;

use std::process::ExitCode;
use std::sync::Barrier;

use bytes::Bytes;
use contenders::{Contender, Key, Moka, Near, Quick, key};
use nearhit::load::Zipf;
use nearhit::time;
use report::{Hot, Mix, Report};
use timing::Rate;

const KEYS: u32 = 100_000;
/// Keys that are read in an order made beforehand, over and over.
const PICKS: usize = 1 << 17;
/// CPU time of one measurement in nanoseconds.
const NANOS: u64 = 400_000_000;

fn main() -> ExitCode {
    let mut rounds = 5;
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--quick" => rounds = 1,
            "--bench" => {}
            _ => {
                eprintln!("cache: unknown argument {word}\nusage: cargo bench --bench cache -- [--quick]");
                return ExitCode::FAILURE;
            }
        }
    }
    match report::publish(&run(rounds), rounds > 1) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cache: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(rounds: u32) -> Report {
    let mut report = Report::new(machine::Machine::look());
    let (near, quick, moka) = (Near::filled(KEYS), Quick::filled(KEYS), Moka::filled(KEYS));
    for (name, exponent) in [("Zipf 0.99", 0.99), ("uniform", 0.0)] {
        let picks = picks(exponent);
        for round in 1..=rounds {
            eprintln!("{name}, round {round} of {rounds}");
            let row = [hits(&near, &picks), hits(&quick, &picks), hits(&moka, &picks)];
            report.add(Mix::Hits(name), row.map(Rate::mops));
        }
    }
    let picks = picks(0.99);
    for round in 0..rounds {
        eprintln!("with new keys, round {} of {rounds}", round + 1);
        let row = [
            mixed(&near, &picks, round, &Bytes::from(format!("$64\r\n{:0>64}\r\n", 1))),
            mixed(&quick, &picks, round, &Bytes::from("0".repeat(64))),
            mixed(&moka, &picks, round, &Bytes::from("0".repeat(64))),
        ];
        report.add(Mix::New, row.map(Rate::mops));
    }
    for round in 1..=rounds {
        eprintln!("one key, round {round} of {rounds}");
        report.hot(Near::NAME, hot(&near));
        report.hot(Quick::NAME, hot(&quick));
        report.hot(Moka::NAME, hot(&moka));
    }
    for (name, part, aim) in parts::ALL {
        eprintln!("{name}");
        for _ in 0..rounds {
            report.part(name, part(2_000_000), aim);
        }
    }
    report
}

/// Keys in an order by Zipf's law with this exponent; 0 is uniform.
fn picks(exponent: f64) -> Vec<Key> {
    let (zipf, mut state) = (Zipf::new(KEYS, exponent), 1_u64);
    // Knuth's generator, the better half of its bits.
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as f64 / (1_u64 << 32) as f64
    };
    (0..PICKS).map(|_| key(zipf.draw(&mut uniform) - 1)).collect()
}

/// Reads of keys that are there.
fn hits<C: Contender>(cache: &C, picks: &[Key]) -> Rate {
    let (mut local, mut out) = (C::Local::default(), Vec::new());
    // Once without being measured: to warm up, and to make copies.
    cache.read(&mut local, picks, &mut out);
    let mut pieces = picks.chunks(PICKS / 16).cycle();
    Rate::of(NANOS, || {
        let piece = pieces.next().unwrap_or_default();
        cache.read(&mut local, piece, &mut out);
        piece.len() as u64
    })
}

/// The same with a key that was never seen stored for every 19 that are read.
fn mixed<C: Contender>(cache: &C, picks: &[Key], round: u32, value: &Bytes) -> Rate {
    let (mut local, mut out) = (C::Local::default(), Vec::new());
    let mut next = KEYS + round * 1_000_000;
    let mut pieces = picks.chunks(19).cycle();
    Rate::of(NANOS / 4, || {
        for _ in 0..1000 {
            cache.read(&mut local, pieces.next().unwrap_or_default(), &mut out);
            cache.store(&key(next), value);
            next += 1;
        }
        20_000
    })
}

/// One key, read by one thread and by two at once.
fn hot<C: Contender>(cache: &C) -> Hot {
    let keys = vec![key(7); 4096];
    let read = |threads: usize| {
        let barrier = Barrier::new(threads);
        let rates: Vec<(Rate, f64)> = std::thread::scope(|scope| {
            let reader = || {
                let (mut local, mut out) = (C::Local::default(), Vec::new());
                cache.read(&mut local, &keys, &mut out);
                barrier.wait();
                let began = time::now();
                let rate = Rate::of(NANOS / 2, || {
                    cache.read(&mut local, &keys, &mut out);
                    keys.len() as u64
                });
                (rate, time::now().since(began).as_secs_f64())
            };
            let readers: Vec<_> = (0..threads).map(|_| scope.spawn(reader)).collect();
            readers
                .into_iter()
                .map(|reader| reader.join().expect("a reader"))
                .collect()
        });
        let cpu = rates.iter().map(|(rate, _)| rate.mops()).sum();
        let wall = rates
            .iter()
            .map(|(rate, seconds)| rate.operations as f64 / 1e6 / seconds)
            .sum();
        (cpu, wall)
    };
    let ((one, one_wall), (two, two_wall)) = (read(1), read(2));
    Hot {
        one,
        two,
        one_wall,
        two_wall,
    }
}
