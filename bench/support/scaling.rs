//! What more nodes take off the first: CPU of each for the same requests, over one node and over three.
//!
//! A master and two replicas with the same keys; nearhit reads from the master only, or from the replicas, without a
//! near-cache and with one. And a cluster of three primaries, among which the keys are spread. The requests are those of
//! the row "Zipf": ten reads a write.

use nearhit::load::{Load, Pace, Until};
use serde::Serialize;

use super::cpu::CpuTime;
use super::options::Options;
use super::stage::{calls, every_key, serve, tcp};
use super::statistics::Spread;
use super::work::{Work, Works};
use crate::harness::{Nearhit, RedisCluster, RedisServer, wait_for};

/// How nearhit reads from a group: what the table calls it, and the arguments.
const OF_A_GROUP: [(&str, &[&str]); 4] = [
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
/// The same for a cluster.
const OF_A_CLUSTER: [(&str, &[&str]); 2] = [
    ("cluster of three primaries, near-cache off", &["--cache.mode", "off"]),
    (
        "cluster of three primaries, near-cache 64 MiB",
        &["--cache.max-memory", "64mb"],
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
    /// CPU of the first node (of a group, its master), of the other two together and of nearhit for each request, in
    /// microseconds.
    pub(crate) first_cpu_us: Spread,
    pub(crate) others_cpu_us: Spread,
    pub(crate) nearhit_cpu_us: Spread,
    /// Of all GETs, how many the first node and the others saw.
    pub(crate) gets_at_first: Spread,
    pub(crate) gets_at_others: Spread,
}

/// One round's figures, in the order of [`Scaled`].
type Figures = [f64; 6];

/// A nearhit before three nodes.
struct Way<'a> {
    name: &'static str,
    nearhit: Nearhit,
    nodes: [&'a RedisServer; 3],
    samples: Vec<Figures>,
}

/// Measures all ways, interleaved.
pub(crate) fn measure(works: &Works, options: &Options) -> Result<Vec<Scaled>, String> {
    let master = RedisServer::start();
    every_key(&tcp(master.addr()), works, Work::Zipf, true)?;
    let replicas = [(); 2].map(|()| RedisServer::replica_of(&master));
    let cluster = RedisCluster::start(3, 0);
    let way = |name, nearhit, nodes| Way {
        name,
        nearhit,
        nodes,
        samples: Vec::new(),
    };
    let mut ways = Vec::new();
    for (name, settings) in OF_A_GROUP {
        let nearhit = serve(&master.url(), settings);
        if settings.contains(&"prefer-replica") {
            wait_for_nodes(&nearhit);
        }
        ways.push(way(name, nearhit, [&master, &replicas[0], &replicas[1]]));
    }
    for (name, settings) in OF_A_CLUSTER {
        let nearhit = serve(&cluster.url(), settings);
        ways.push(way(name, nearhit, [0, 1, 2].map(|index| cluster.node(index))));
    }
    if let Some(any) = ways.last() {
        every_key(&tcp(any.nearhit.addr()), works, Work::Zipf, true)?;
    }
    for round in 1..=options.rounds {
        for way in &mut ways {
            eprintln!("round {round} of {}: {}", options.rounds, way.name);
            way.samples.push(run(works, way, round, options)?);
        }
    }
    Ok(ways.into_iter().map(Way::finish).collect())
}

impl Way<'_> {
    fn finish(self) -> Scaled {
        let spread = |at: usize| Spread::of(self.samples.iter().map(|figures| figures[at]));
        Scaled {
            name: self.name,
            per_second: spread(0),
            first_cpu_us: spread(1),
            others_cpu_us: spread(2),
            nearhit_cpu_us: spread(3),
            gets_at_first: spread(4),
            gets_at_others: spread(5),
        }
    }
}

fn wait_for_nodes(nearhit: &Nearhit) {
    let mut client = nearhit.connect3();
    wait_for("both replicas", std::time::Duration::from_secs(30), || {
        let nodes = client.cmd(&["PROXY", "TOPOLOGY"]).items();
        let ok = nodes
            .iter()
            .filter(|node| node.get("state").is_some_and(|state| state == "ok"));
        ok.count() == 3
    });
}

fn run(works: &Works, way: &Way<'_>, round: u32, options: &Options) -> Result<Figures, String> {
    let text = |error: nearhit::error::Error| error.to_string();
    let (script, picker) = (works.script(Work::Zipf), works.picker(Work::Zipf, round));
    let mut load = Load::open(&tcp(way.nearhit.addr()), script, picker, CONNECTIONS).map_err(text)?;
    let pace = Pace::Closed { pipeline: PIPELINE };
    load.run(pace, options.warm_up(), false).map_err(text)?;
    let servers = way.nodes;
    let seen = [calls(servers[0])?, calls(servers[1])?, calls(servers[2])?];
    let pids = [servers[0].pid(), servers[1].pid(), servers[2].pid(), way.nearhit.pid()];
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
