//! What a request costs directly, through nearhit and through other proxies: throughput, CPU time and latency, in one run.
//!
//! ```text
//! cargo bench --bench throughput                 five rounds of 1.2 seconds a cell, under ten minutes
//! cargo bench --bench throughput -- --quick      three rounds of half a second
//! cargo bench --bench throughput -- --only Zipf  only rows whose name contains that
//! ```
//!
//! The cells of one round run one after the other, direct and through a proxy in turn, and ratios are taken between
//! cells of the same round: a neighbour that steals the machine for a minute then slows both sides of a ratio. CPU time
//! per request is the figure to trust; throughput on a small machine also shows who shares its cores.
//!
//! Tables go to stdout and, with every sample as JSON and plots as SVG, to `bench/results/`. Progress goes to stderr. The
//! exit code says whether the run was sound (every reply checked, hits really hits), not whether it was fast: that is in
//! the tables.

#[path = "../tests/support/mod.rs"]
mod harness;
mod support;

use std::process::ExitCode;

use nearhit::load::Trace;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::cell::Sample;
use support::machine::Machine;
use support::measure::measure;
use support::options::Options;
use support::report::{Line, Report};
use support::rows::{Row, cells, rows};
use support::stage::Stage;
use support::work::{Via, Works};
use support::{fairness, markdown, plot, scaling};

/// What `--only` calls the costs of the server.
const SERVER: &str = "server";
/// What it calls reads from replicas.
const REPLICAS: &str = "replicas";

fn main() -> ExitCode {
    let out = harness::root().join("bench/results");
    let result = Options::parse(std::env::args().skip(1), out).and_then(|options| run(&options));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throughput: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything that was asked for, and reports.
fn run(options: &Options) -> Result<(), String> {
    let machine = Machine::look();
    raise_file_limit()?;
    let trace = options.trace.as_deref().map(Trace::read).transpose();
    let works = Works::new(trace.map_err(|error| error.to_string())?);
    let all = rows(options.rate);
    let wanted: Vec<Row> = all
        .into_iter()
        .filter(|row| row.name.contains(&options.only) && works.has(row.cell.work))
        .collect();
    let mut report = if wanted.is_empty() {
        Report::new(machine, String::new(), options.clone(), &[], Vec::new())
    } else {
        let stage = Stage::start(&works)?;
        let rows: Vec<Row> = wanted.into_iter().filter(|row| stage.has(row.cell.via)).collect();
        let samples = rounds(&stage, &works, &rows, options)?;
        let machine = machine.with_redis(stage.redis_version());
        Report::new(machine, stage.peers(), options.clone(), &rows, samples)
    };
    if SERVER.contains(&options.only) {
        report = report.with_server(fairness::measure(&works, options)?);
    }
    if REPLICAS.contains(&options.only) {
        report = report.with_scaling(scaling::measure(&works, options)?);
    }
    publish(&report)
}

fn rounds(stage: &Stage, works: &Works, rows: &[Row], options: &Options) -> Result<Vec<Sample>, String> {
    let mut samples = Vec::new();
    for round in 1..=options.rounds {
        for cell in cells(rows) {
            eprintln!("round {round} of {}: {cell}", options.rounds);
            samples.push(measure(stage, works, cell, round, options)?);
        }
    }
    Ok(samples)
}

/// A thousand connections are two thousand sockets; what is started from here inherits the limit.
fn raise_file_limit() -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).map_err(|error| format!("raise the limit of open files: {error}"))
}

/// Prints the tables and writes the files.
fn publish(report: &Report) -> Result<(), String> {
    let tables = markdown::markdown(report);
    println!("{tables}");
    let out = &report.options.out;
    let write = || {
        std::fs::create_dir_all(out)?;
        std::fs::write(out.join("throughput.md"), &tables)?;
        report.write_json(&out.join("throughput.json"))?;
        std::fs::write(out.join("cpu.svg"), cpu_plot(report))?;
        std::fs::write(out.join("throughput.svg"), throughput_plot(report))?;
        std::fs::write(out.join("latency.svg"), latency_plot(report))
    };
    write().map_err(|error| format!("write the results to {}: {error}", out.display()))?;
    eprintln!("tables, samples and plots are in {}", out.display());
    Ok(())
}

fn cpu_plot(report: &Report) -> String {
    let groups: Vec<_> = loaded(report)
        .map(|line| {
            let base = line.baseline_cpu_us.median;
            plot::Group {
                name: name(line),
                lengths: vec![line.front_cpu_us.median / base, line.back_cpu_us.median / base],
            }
        })
        .collect();
    let title = "CPU per request, as a multiple of a redis-server asked directly";
    plot::bars(title, "×", &["proxy", "redis-server behind it"], &groups, true)
}

fn throughput_plot(report: &Report) -> String {
    let groups: Vec<_> = loaded(report)
        .map(|line| plot::Group {
            name: name(line),
            lengths: vec![line.per_second.median / 1e3, line.per_second_baseline.median / 1e3],
        })
        .collect();
    let title = "Thousand requests per second, one thread each";
    plot::bars(title, "k/s", &["through", "direct"], &groups, false)
}

fn latency_plot(report: &Report) -> String {
    let lines: Vec<_> = report
        .curves
        .iter()
        .map(|curve| plot::Line {
            name: curve.name,
            points: &curve.points,
        })
        .collect();
    let rate = report.options.rate;
    let title = format!("Latency by percentile at {rate} requests a second, from when each was due");
    plot::curves(&title, &lines)
}

/// The rows that are about CPU and throughput.
fn loaded(report: &Report) -> impl Iterator<Item = &Line> {
    report
        .lines
        .iter()
        .filter(|line| line.latency.is_none() && !matches!(line.cell.via, Via::InProcess(_)))
}

fn name(line: &Line) -> String {
    format!("{}, {}", line.name, line.cell.pace)
}
