//! What reading from replicas takes off the master: CPU of each node for the same requests, over one node and over three.
//!
//! A master and two replicas with the same keys; nearhit reads from the master only, or from the replicas, without a
//! near-cache and with one. The requests are those of the row "Zipf": ten reads a write.

use nearhit::load::{Load, Pace, Until};
use serde::Serialize;

use super::cpu::CpuTime;
use super::options::Options;
use super::stage::{calls, every_key, tcp};
use super::statistics::Spread;
use super::work::{Work, Works};
use crate::harness::{Nearhit, RedisServer, wait_for};

/// How nearhit is set: what the table calls it, and the arguments.
const MODES: [(&str, &[&str]); 4] = [
    ("master only, near-cache off", &["--cache.mode", "off"]),
    (
        "two replicas, near-cache off",
        &["--cache.mode", "off", "--routing.reads", "prefer-replica"],
    ),
    ("master only, near-cache 64 MiB", &["--cache.max-memory", "64mb"]),
    (
        "two replicas, near-cache 64 MiB",
        &["--cache.max-memory", "64mb", "--routing.reads", "prefer-replica"],
    ),
];
const CONNECTIONS: usize = 50;
const PIPELINE: usize = 16;

/// One way to read.
#[derive(Debug, Serialize)]
pub(crate) struct Scaled {
    pub(crate) name: &'static str,
    /// Thousands of requests a second, all processes on this machine together.
    pub(crate) per_second: Spread,
    /// CPU of the master, of both replicas together and of nearhit for each request, in microseconds.
    pub(crate) master_cpu_us: Spread,
    pub(crate) replicas_cpu_us: Spread,
    pub(crate) nearhit_cpu_us: Spread,
    /// Of all GETs, how many the master and the replicas saw.
    pub(crate) gets_at_master: Spread,
    pub(crate) gets_at_replicas: Spread,
}

/// One round's figures, in the order of [`Scaled`].
type Figures = [f64; 6];

/// Measures all ways, interleaved.
pub(crate) fn measure(works: &Works, options: &Options) -> Result<Vec<Scaled>, String> {
    let master = RedisServer::start();
    every_key(&tcp(master.addr()), works, Work::Zipf, true)?;
    let replicas = [(); 2].map(|()| RedisServer::replica_of(&master));
    let nearhits = MODES.map(|(_, settings)| serve(&master, settings));
    let mut samples = MODES.map(|_| Vec::new());
    for round in 1..=options.rounds {
        for ((nearhit, samples), (name, _)) in nearhits.iter().zip(&mut samples).zip(MODES) {
            eprintln!("round {round} of {}: {name}", options.rounds);
            samples.push(run(works, &master, &replicas, nearhit, round, options)?);
        }
    }
    let finish = |(samples, (name, _)): (Vec<Figures>, (&'static str, _))| {
        let spread = |at: usize| Spread::of(samples.iter().map(|figures| figures[at]));
        Scaled {
            name,
            per_second: spread(0),
            master_cpu_us: spread(1),
            replicas_cpu_us: spread(2),
            nearhit_cpu_us: spread(3),
            gets_at_master: spread(4),
            gets_at_replicas: spread(5),
        }
    };
    Ok(samples.into_iter().zip(MODES).map(finish).collect())
}

fn serve(master: &RedisServer, settings: &[&str]) -> Nearhit {
    let nearhit = super::stage::serve(master, settings);
    if settings.contains(&"prefer-replica") {
        let mut client = nearhit.connect3();
        wait_for("both replicas", std::time::Duration::from_secs(30), || {
            let nodes = client.cmd(&["PROXY", "TOPOLOGY"]).items();
            nodes
                .iter()
                .filter(|node| node.get("state").is_some_and(|state| state == "ok"))
                .count()
                == 3
        });
    }
    nearhit
}

fn run(
    works: &Works,
    master: &RedisServer,
    replicas: &[RedisServer; 2],
    nearhit: &Nearhit,
    round: u32,
    options: &Options,
) -> Result<Figures, String> {
    let text = |error: nearhit::error::Error| error.to_string();
    let (script, picker) = (works.script(Work::Zipf), works.picker(Work::Zipf, round));
    let mut load = Load::open(&tcp(nearhit.addr()), script, picker, CONNECTIONS).map_err(text)?;
    let pace = Pace::Closed { pipeline: PIPELINE };
    load.run(pace, options.warm_up(), false).map_err(text)?;
    let servers = [master, &replicas[0], &replicas[1]];
    let seen = [calls(servers[0])?, calls(servers[1])?, calls(servers[2])?];
    let pids = [servers[0].pid(), servers[1].pid(), servers[2].pid(), nearhit.pid()];
    let before: Vec<_> = pids
        .iter()
        .map(|&pid| CpuTime::of(Some(pid)))
        .collect::<Result<_, _>>()?;
    let done = load
        .run(pace, Until::Elapsed(options.duration()), false)
        .map_err(text)?;
    let mut cpu = [0.0; 4];
    for ((cpu, &pid), before) in cpu.iter_mut().zip(&pids).zip(&before) {
        *cpu = CpuTime::of(Some(pid))?.since(before) as f64 / 1e3 / done.requests() as f64;
    }
    let mut gets = [0.0; 3];
    for ((gets, server), seen) in gets.iter_mut().zip(servers).zip(seen) {
        *gets = calls(server)?.since(seen).gets as f64 / done.gets as f64;
    }
    let per_second = done.requests() as f64 / options.duration().as_secs_f64() / 1e3;
    Ok([per_second, cpu[0], cpu[1] + cpu[2], cpu[3], gets[0], gets[1] + gets[2]])
}
