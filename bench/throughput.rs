//! What a request costs directly and through nearhit: throughput, CPU time and latency, all in one run.
//!
//! ```text
//! cargo bench --bench throughput                 five rounds of two seconds a cell, about three and a half minutes
//! cargo bench --bench throughput -- --quick      three rounds of half a second, under 40 seconds
//! ```
//!
//! The cells of one round run one after the other, direct and through nearhit in turn, and ratios are taken between
//! cells of the same round: a neighbour that steals the machine for a minute then slows both sides of a ratio. CPU time
//! per request is the figure to trust; throughput on a small machine also shows who shares its cores.
//!
//! The table goes to stdout as Markdown; the same with every sample goes to `target/bench/throughput.json`. Progress
//! goes to stderr. The exit code says whether the run was sound (every reply checked, hits really hits), not whether
//! it was fast: PASS and FAIL are lines of the report.

#[path = "../tests/support/mod.rs"]
mod harness;
mod support;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use support::machine::Machine;
use support::measure::{Cell, measure};
use support::options::Options;
use support::report::Report;
use support::script::Scripts;
use support::stage::Stage;
use support::workload::Workload;

/// Requests that a connection sends before it waits for their replies.
const PIPELINES: [usize; 2] = [1, 16];

fn main() -> ExitCode {
    let result = Options::parse(std::env::args().skip(1)).and_then(|options| run(&options));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throughput: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the servers, measures every cell of every round, reports.
fn run(options: &Options) -> Result<(), String> {
    let machine_before = Machine::look();
    let scripts = Scripts::new();
    let stage = Stage::start(&scripts)?;
    let mut samples = Vec::new();
    for round in 1..=options.rounds {
        for cell in cells(options.connections) {
            eprintln!("round {round} of {}: {cell}", options.rounds);
            samples.push(measure(&stage, &scripts, cell, round, options)?);
        }
    }
    let machine = machine_before.with_redis(stage.redis_version());
    publish(&Report::new(machine, options.clone(), samples))
}

/// What one round measures, in this order.
fn cells(connections: usize) -> impl Iterator<Item = Cell> {
    let loaded = PIPELINES.into_iter().flat_map(move |pipeline| {
        Workload::ALL.into_iter().map(move |workload| Cell {
            workload,
            connections,
            pipeline,
        })
    });
    let alone = Workload::LATENCY.into_iter().map(|workload| Cell {
        workload,
        connections: 1,
        pipeline: 1,
    });
    loaded.chain(alone)
}

/// Prints the table and writes the file.
fn publish(report: &Report) -> Result<(), String> {
    println!("{}", report.markdown());
    let path = json_path();
    report
        .write_json(&path)
        .map_err(|error| format!("write {}: {error}", path.display()))?;
    eprintln!("every sample is in {}", path.display());
    Ok(())
}

/// `bench/throughput.json` in the target directory, wherever that is.
fn json_path() -> PathBuf {
    // Cargo names target/tmp to benchmarks, not target.
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().unwrap_or(tmp).join("bench/throughput.json")
}
