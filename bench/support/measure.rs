//! One cell: warm up, measure, and prove that it measured what its name says.

use std::fmt;

use serde::Serialize;

use super::load::{Load, pass};
use super::options::Options;
use super::script::Scripts;
use super::stage::{Stage, Target};
use super::statistics::percentile;
use super::workload::{ServerSees, Verb, Workload};

/// Passes over the keys after which the near-cache must hold all of them. Two are enough when nothing else happens:
/// the second read of a key is stored.
const MAX_PASSES: u32 = 50;
/// How much of a workload may go the other way before it is not that workload any more. Entries may be dropped and
/// fetched again, and two readers may share one fetch; both are rare.
const STRAYS: f64 = 0.01;

/// What is measured once in every round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) workload: Workload,
    pub(crate) connections: usize,
    pub(crate) pipeline: usize,
}

impl Cell {
    /// One connection that waits for each reply: what it waits for is the latency.
    pub(crate) fn is_timed(self) -> bool {
        self.connections == 1 && self.pipeline == 1
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            workload,
            connections,
            pipeline,
        } = self;
        let plural = if *connections == 1 { "" } else { "s" };
        write!(f, "{workload}, {connections} connection{plural}, pipeline {pipeline}")
    }
}

/// What one cell gave in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    #[serde(skip)]
    pub(crate) cell: Cell,
    pub(crate) round: u32,
    workload: &'static str,
    connections: usize,
    pipeline: usize,
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    /// CPU time of nearhit, or of the redis-server itself where there is no nearhit.
    pub(crate) front_cpu_us: f64,
    /// CPU time of the redis-server behind nearhit; zero where there is none.
    pub(crate) back_cpu_us: f64,
    /// Calls that the redis-server counted.
    pub(crate) server_calls: u64,
    /// Latency, where it was measured.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
}

impl Sample {
    /// Answered requests per second.
    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// CPU time per request in microseconds, in front.
    pub(crate) fn front(&self) -> f64 {
        self.front_cpu_us / self.requests as f64
    }

    /// CPU time per request in microseconds, behind.
    pub(crate) fn back(&self) -> f64 {
        self.back_cpu_us / self.requests as f64
    }

    /// The share of the requests that the redis-server did not see.
    pub(crate) fn hit_ratio(&self) -> f64 {
        1.0 - self.server_calls as f64 / self.requests as f64
    }
}

/// Measures one cell.
pub(crate) fn measure(
    stage: &Stage,
    scripts: &Scripts,
    cell: Cell,
    round: u32,
    options: &Options,
) -> Result<Sample, String> {
    try_measure(stage, scripts, cell, round, options).map_err(|error| {
        let said = stage.target(cell.workload.via()).stderr();
        format!("{cell}: {error}\n{said}")
    })
}

fn try_measure(stage: &Stage, scripts: &Scripts, cell: Cell, round: u32, options: &Options) -> Result<Sample, String> {
    let workload = cell.workload;
    let target = stage.target(workload.via());
    if workload.server_sees() == ServerSees::None {
        fill(&target, scripts, workload)?;
    }
    let script = scripts.of(workload.verb(), workload.keys());
    let mut load = Load::open(target.addr, script, cell.connections, cell.pipeline)?;
    load.run(options.lead_in(), false)?;

    // The server's own account is read outside the CPU readings: asking costs the server CPU time.
    let calls = target.calls(workload.verb())?;
    let (front, back) = target.cpu_time()?;
    let mut done = load.run(options.duration(), cell.is_timed())?;
    let (front_after, back_after) = target.cpu_time()?;
    let server_calls = target.calls(workload.verb())? - calls;

    check(workload, done.requests, server_calls)?;
    done.latencies.sort_unstable();
    let latency = |percent| {
        let nanos = percentile(&done.latencies, percent);
        cell.is_timed().then_some(nanos as f64 / 1e3)
    };
    Ok(Sample {
        cell,
        round,
        workload: workload.name(),
        connections: cell.connections,
        pipeline: cell.pipeline,
        requests: done.requests,
        seconds: done.elapsed.as_secs_f64(),
        front_cpu_us: front_after.since(&front) as f64 / 1e3,
        back_cpu_us: back_after.since(&back) as f64 / 1e3,
        server_calls,
        p50_us: latency(50),
        p99_us: latency(99),
    })
}

/// Makes the near-cache hold every key, freshly: what it held is dropped by writing all keys behind its back, so that
/// no entry reaches the end of its life while it is measured.
///
/// Done when a pass over the keys leaves the redis-server alone, and every key has been fetched since it was written:
/// before the news of a write has arrived, a pass may find the old entries.
fn fill(target: &Target<'_>, scripts: &Scripts, workload: Workload) -> Result<(), String> {
    let reads = scripts.of(Verb::Get, workload.keys());
    let start = target.calls(Verb::Get)?;
    let mut before = start;
    pass(target.server.addr(), scripts.of(Verb::Set, workload.keys()))?;
    for _ in 0..MAX_PASSES {
        pass(target.addr, reads)?;
        let after = target.calls(Verb::Get)?;
        let fetched = after - start;
        if after == before && fetched >= reads.count() as u64 {
            return Ok(());
        }
        before = after;
    }
    Err(format!(
        "after {MAX_PASSES} reads of every key some still go to the redis-server"
    ))
}

/// Refuses a sample whose requests went another way than they should.
fn check(workload: Workload, requests: u64, server_calls: u64) -> Result<(), String> {
    let seen = server_calls as f64 / requests as f64;
    let sound = match workload.server_sees() {
        ServerSees::All => seen >= 1.0 - STRAYS,
        ServerSees::None => seen <= STRAYS,
    };
    if sound {
        return Ok(());
    }
    Err(format!(
        "the redis-server saw {server_calls} of {requests} requests: this is not what was to be measured"
    ))
}
