//! One cell: warm up, measure, and prove that it measured what its name says.

use nearhit::load::{self, Done, Load, Until};

use super::cell::{Cell, Latency, Pace, Sample};
use super::inprocess::Inside;
use super::options::Options;
use super::stage::{Calls, Stage, Target, every_key};
use super::work::{ServerSees, Via, Work, Works, server_sees};

/// Passes over the keys after which the near-cache must hold all of them. Two are enough when nothing else happens:
/// the second read of a key is stored.
const MAX_PASSES: u32 = 50;
/// How much of a cell may go the other way before it is not that cell any more. Entries may be dropped and fetched
/// again, and two readers may share one fetch; both are rare.
const STRAYS: f64 = 0.01;

/// Measures one cell.
pub(crate) fn measure(
    stage: &Stage,
    works: &Works,
    cell: Cell,
    round: u32,
    options: &Options,
) -> Result<Sample, String> {
    let measured = match cell.via {
        Via::InProcess(threads) => measure_inside(stage, works, cell, threads, round, options),
        _ => measure_outside(stage, works, cell, round, options),
    };
    measured.map_err(|error| {
        let said = stage.target(cell.via).stderr();
        format!("{cell}: {error}\n{said}")
    })
}

fn measure_outside(stage: &Stage, works: &Works, cell: Cell, round: u32, options: &Options) -> Result<Sample, String> {
    let target = stage.target(cell.via);
    let script = works.script(cell.work);
    let sees = server_sees(cell.work, cell.via);
    if sees == ServerSees::None {
        fill(&target, works, cell.work)?;
    }
    let text = |error: nearhit::error::Error| error.to_string();
    let picker = works.picker(cell.work, round);
    let mut load = Load::open(&target.url, script, picker, cell.connections).map_err(text)?;
    let warm_up = options.warm_up();
    if sees == ServerSees::Some {
        load.run(load::Pace::Closed { pipeline: 16 }, warm_up, false)
            .map_err(text)?;
    }
    load.run(pace(cell.pace), Until::Elapsed(options.lead_in()), false)
        .map_err(text)?;

    // The server's own account is read outside the CPU readings: asking costs the server CPU time.
    let calls = target.calls()?;
    let (front, back) = target.cpu_time()?;
    let until = Until::Elapsed(options.duration());
    let done = load.run(pace(cell.pace), until, cell.is_timed()).map_err(text)?;
    let (front_after, back_after) = target.cpu_time()?;
    let calls = target.calls()?.since(calls);

    check(sees, &done, calls)?;
    Ok(Sample {
        cell,
        name: cell.to_string(),
        round,
        requests: done.requests(),
        seconds: done.elapsed.as_secs_f64(),
        front_cpu_us: front_after.since(&front) as f64 / 1e3,
        back_cpu_us: back_after.since(&back) as f64 / 1e3,
        server_calls: calls.gets + calls.sets,
        latency: cell.is_timed().then(|| latency(&done)),
        histogram: cell.is_timed().then_some(done.latency),
    })
}

/// Over streams inside this process; that the requests were hits, nearhit's own counters say.
fn measure_inside(
    stage: &Stage,
    works: &Works,
    cell: Cell,
    threads: usize,
    round: u32,
    options: &Options,
) -> Result<Sample, String> {
    let Pace::Pipeline(pipeline) = cell.pace else {
        return Err("there is no fixed rate in-process".to_owned());
    };
    let inside = stage.inside(threads).ok_or("no such proxy")?;
    let (script, picker) = (works.script(cell.work), works.picker(cell.work, round));
    let play = |seed: u32, duration| {
        let hits = inside.hits();
        let seeded = (&picker, u64::from(seed));
        let played = inside.play(script, seeded, (cell.connections, pipeline), duration)?;
        let missed = played.requests.saturating_sub(inside.hits() - hits);
        Ok::<_, String>((played, missed))
    };
    // Freshly filled, as the others are.
    every_key(&stage.target(cell.via).url, works, cell.work, true)?;
    let mut passes = 0;
    while passes < MAX_PASSES && play(passes, options.lead_in())?.1 > 0 {
        passes += 1;
    }

    let cpu = Inside::cpu_time()?;
    let (played, missed) = play(MAX_PASSES + round, options.duration())?;
    let cpu = Inside::cpu_time()?.since(&cpu);
    if missed as f64 > played.requests as f64 * STRAYS {
        return Err(format!(
            "{missed} of {} requests were no hits: {:?}",
            played.requests,
            inside.stats()
        ));
    }
    Ok(Sample {
        cell,
        name: cell.to_string(),
        round,
        requests: played.requests,
        seconds: played.elapsed.as_secs_f64(),
        front_cpu_us: cpu as f64 / 1e3,
        back_cpu_us: 0.0,
        server_calls: missed,
        latency: None,
        histogram: None,
    })
}

fn pace(pace: Pace) -> load::Pace {
    match pace {
        Pace::Pipeline(pipeline) => load::Pace::Closed { pipeline },
        Pace::Rate(rate) => load::Pace::Open {
            rate: rate.try_into().unwrap_or(std::num::NonZeroU64::MIN),
        },
    }
}

fn latency(done: &Done) -> Latency {
    let at = |quantile: f64| done.latency.value_at_quantile(quantile) as f64 / 1e3;
    Latency {
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: done.latency.max() as f64 / 1e3,
        sent_late_us: done.late.as_secs_f64() * 1e6,
    }
}

/// Makes the near-cache hold every key, freshly: what it held is dropped by writing all keys behind its back, so that
/// no entry reaches the end of its life while it is measured.
///
/// Done when a pass over the keys leaves the redis-server alone, and every key has been fetched since it was written:
/// before the news of a write has arrived, a pass may find the old entries.
fn fill(target: &Target<'_>, works: &Works, work: Work) -> Result<(), String> {
    let start = target.calls()?.gets;
    let mut before = start;
    every_key(&super::stage::tcp(target.server.addr()), works, work, true)?;
    for _ in 0..MAX_PASSES {
        every_key(&target.url, works, work, false)?;
        let after = target.calls()?.gets;
        if after == before && after - start >= u64::from(works.script(work).keys()) {
            return Ok(());
        }
        before = after;
    }
    Err(format!(
        "after {MAX_PASSES} reads of every key some still go to the redis-server"
    ))
}

/// Refuses a sample whose requests went another way than they should.
fn check(sees: ServerSees, done: &Done, calls: Calls) -> Result<(), String> {
    let most = |seen: u64, sent: u64| seen as f64 >= sent as f64 * (1.0 - STRAYS);
    let gets_as_wanted = match sees {
        ServerSees::All => most(calls.gets, done.gets),
        ServerSees::Some => (1..done.gets).contains(&calls.gets),
        ServerSees::None => calls.gets as f64 <= done.gets as f64 * STRAYS,
    };
    if gets_as_wanted && most(calls.sets, done.sets) {
        return Ok(());
    }
    Err(format!(
        "of {} GETs and {} SETs the redis-server saw {} and {}: this is not what was to be measured",
        done.gets, done.sets, calls.gets, calls.sets
    ))
}
