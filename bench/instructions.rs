//! Instructions of the hot paths, counted by valgrind and compared with `bench/instructions.toml`.
//!
//! ```text
//! cargo bench --bench instructions                 fails when a count is off by more than 3 %
//! cargo bench --bench instructions -- --bless      writes the counts as the new baseline
//! cargo bench --bench instructions -- --only hit   one of them
//! ```
//! Unlike time, the count hardly depends on who else uses the machine: it is the gate against getting slower. It says
//! nothing about system calls, caches or waiting; `bench/throughput.rs` does.

#[path = "../tests/support/mod.rs"]
mod harness;
mod instructions_support;

use std::process::{Command, ExitCode};

use harness::RedisServer;
use instructions_support::baseline::{Baseline, SLACK, Verdict, bless};
use instructions_support::callgrind;
use instructions_support::ops::Op;

/// What was asked for.
#[derive(Default)]
struct Options {
    bless: bool,
    only: Option<Op>,
    /// Set in the process that is counted.
    counted: Option<(Op, u64, String)>,
}

fn main() -> ExitCode {
    let result = parse(std::env::args().skip(1)).and_then(|options| match &options.counted {
        Some((op, count, upstream)) => {
            let url = upstream.parse().map_err(|_| format!("{upstream} is no URL"))?;
            op.run(*count, &url).map(|()| true)
        }
        None => compare(&options),
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Counts, prints the table, says whether all is as it was.
fn compare(options: &Options) -> Result<bool, String> {
    if !callgrind::is_here() {
        return Err("valgrind is missing; install it (Debian: apt-get install valgrind)".to_owned());
    }
    let path = Baseline::path();
    let baseline = Baseline::read(&path)?;
    let redis = RedisServer::start();
    let mut counts = Vec::new();
    println!("| hot path | baseline | instructions | |");
    println!("| --- | --: | --: | --- |");
    let mut good = true;
    for op in Op::ALL
        .into_iter()
        .filter(|op| options.only.is_none_or(|only| only == *op))
    {
        let count = callgrind::per_operation(op, &redis.url())?;
        let verdict = baseline.judge(op, count);
        good &= verdict == Verdict::Same;
        let before = baseline.of(op).map_or("–".to_owned(), |count| format!("{count:.0}"));
        println!(
            "| {} | {before} | {count:.0} | {} |",
            op.about(),
            said(op, verdict, count, &baseline)
        );
        counts.push((op, count));
    }
    if options.bless {
        bless(&path, &baseline, &counts, &compiler())?;
        eprintln!("written to {}", path.display());
        return Ok(true);
    }
    if !good {
        eprintln!(
            "off by more than {:.0} %: find out why, or bless it (BLESS=1)",
            SLACK * 100.0
        );
    }
    Ok(good)
}

fn said(op: Op, verdict: Verdict, count: f64, baseline: &Baseline) -> String {
    let change = baseline.of(op).map_or(0.0, |before| (count / before - 1.0) * 100.0);
    match verdict {
        Verdict::Same => format!("{change:+.1} %"),
        Verdict::Fewer => format!("**{change:+.1} %: fewer, bless it**"),
        Verdict::More => format!("**{change:+.1} %: more**"),
        Verdict::New => "**not in the baseline**".to_owned(),
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    let (mut op, mut count, mut upstream) = (None, None, None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // cargo says this to every benchmark.
            "--bench" => {}
            "--bless" => options.bless = true,
            "--only" => options.only = Some(named(arguments.next())?),
            "--op" => op = Some(named(arguments.next())?),
            "--count" => count = arguments.next().and_then(|text| text.parse().ok()),
            "--upstream" => upstream = arguments.next(),
            _ => {
                return Err(format!(
                    "unknown argument {argument}; there are --bless and --only NAME"
                ));
            }
        }
    }
    if let (Some(op), Some(count), Some(upstream)) = (op, count, upstream) {
        options.counted = Some((op, count, upstream));
    }
    Ok(options)
}

fn named(name: Option<String>) -> Result<Op, String> {
    let name = name.unwrap_or_default();
    Op::ALL.into_iter().find(|op| op.name() == name).ok_or_else(|| {
        let known = Op::ALL.map(Op::name).join(", ");
        format!("there is no \"{name}\"; there are {known}")
    })
}

/// Which compiler made this: another one counts differently.
fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    text.split(" (").next().unwrap_or("rustc").trim().to_owned()
}
