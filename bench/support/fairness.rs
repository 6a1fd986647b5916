//! What a near-cache costs the server: CPU for its clients, and memory for the table of what they were told.
//!
//! Three redis-servers with the same million keys, each behind a nearhit: without a near-cache, with one, and with one
//! that has every key tracked that anybody read. The requests are those of the row "Zipf".

use nearhit::load::{Load, Pace, Until};
use serde::Serialize;

use super::cpu::CpuTime;
use super::options::Options;
use super::stage::{calls, every_key, serve, tcp};
use super::statistics::Spread;
use super::work::{Work, Works};
use crate::harness::{Nearhit, RedisServer};

/// How nearhit is set: what the table calls it, and the arguments.
const MODES: [(&str, &[&str]); 3] = [
    ("near-cache off", &["--cache.mode", "off"]),
    ("near-cache 64 MiB", &["--cache.max-memory", "64mb"]),
    (
        "near-cache 64 MiB, everything tracked",
        &["--cache.max-memory", "64mb", "--cache.admission", "always"],
    ),
];
const CONNECTIONS: usize = 50;
const PIPELINE: usize = 16;

/// One way to use the server.
#[derive(Debug, Serialize)]
pub(crate) struct Mode {
    pub(crate) name: &'static str,
    /// CPU of redis-server and of nearhit for each request of a client, in microseconds.
    pub(crate) server_cpu_us: Spread,
    pub(crate) nearhit_cpu_us: Spread,
    /// redis-server's CPU as a multiple of its CPU without a near-cache, paired.
    pub(crate) server_ratio: Spread,
    /// Of all GETs, how many the server saw.
    pub(crate) gets_at_server: Spread,
    /// Keys in the server's tracking table, and clients noted for them, at the end.
    pub(crate) tracked_keys: u64,
    pub(crate) tracked_items: u64,
    /// `used_memory` at the end, and how much of it came since the keys were written.
    pub(crate) used_memory: u64,
    pub(crate) grown: u64,
    /// nearhit's memory at the end.
    pub(crate) nearhit_resident: u64,
}

struct Place {
    nearhit: Nearhit,
    redis: RedisServer,
    before: u64,
    server_cpu_us: Vec<f64>,
    nearhit_cpu_us: Vec<f64>,
    gets_at_server: Vec<f64>,
}

/// Measures all ways, interleaved.
pub(crate) fn measure(works: &Works, options: &Options) -> Result<Vec<Mode>, String> {
    let mut places = Vec::new();
    for (_, settings) in MODES {
        places.push(Place::prepare(works, settings)?);
    }
    for round in 1..=options.rounds {
        for (place, (name, _)) in places.iter_mut().zip(MODES) {
            eprintln!("round {round} of {}: server with {name}", options.rounds);
            place.measure(works, round, options)?;
        }
    }
    let off = places
        .first()
        .map(|place| place.server_cpu_us.clone())
        .unwrap_or_default();
    let modes = places.into_iter().zip(MODES);
    modes.map(|(place, (name, _))| place.finish(name, &off)).collect()
}

impl Place {
    fn prepare(works: &Works, settings: &[&str]) -> Result<Self, String> {
        let redis = RedisServer::start();
        every_key(&tcp(redis.addr()), works, Work::Zipf, true)?;
        let nearhit = serve(&redis.url(), settings);
        Ok(Self {
            before: number(&redis, "used_memory")?,
            nearhit,
            redis,
            server_cpu_us: Vec::new(),
            nearhit_cpu_us: Vec::new(),
            gets_at_server: Vec::new(),
        })
    }

    fn measure(&mut self, works: &Works, round: u32, options: &Options) -> Result<(), String> {
        let text = |error: nearhit::error::Error| error.to_string();
        let (script, picker) = (works.script(Work::Zipf), works.picker(Work::Zipf, round));
        let mut load = Load::open(&tcp(self.nearhit.addr()), script, picker, CONNECTIONS).map_err(text)?;
        let pace = Pace::Closed { pipeline: PIPELINE };
        load.run(pace, options.warm_up(), false).map_err(text)?;
        let seen = calls(&self.redis)?;
        let server = CpuTime::of(Some(self.redis.pid()))?;
        let nearhit = CpuTime::of(Some(self.nearhit.pid()))?;
        let done = load
            .run(pace, Until::Elapsed(options.duration()), false)
            .map_err(text)?;
        let per_request = |cpu: u64| cpu as f64 / 1e3 / done.requests() as f64;
        let server = CpuTime::of(Some(self.redis.pid()))?.since(&server);
        let nearhit = CpuTime::of(Some(self.nearhit.pid()))?.since(&nearhit);
        let seen = calls(&self.redis)?.since(seen);
        self.server_cpu_us.push(per_request(server));
        self.nearhit_cpu_us.push(per_request(nearhit));
        self.gets_at_server.push(seen.gets as f64 / done.gets as f64);
        Ok(())
    }

    fn finish(self, name: &'static str, off: &[f64]) -> Result<Mode, String> {
        let used_memory = number(&self.redis, "used_memory")?;
        let ratios = self.server_cpu_us.iter().zip(off).map(|(cpu, off)| cpu / off);
        Ok(Mode {
            name,
            server_ratio: Spread::of(ratios),
            server_cpu_us: Spread::of(self.server_cpu_us.iter().copied()),
            nearhit_cpu_us: Spread::of(self.nearhit_cpu_us.iter().copied()),
            gets_at_server: Spread::of(self.gets_at_server.iter().copied()),
            tracked_keys: number(&self.redis, "tracking_total_keys")?,
            tracked_items: number(&self.redis, "tracking_total_items")?,
            used_memory,
            grown: used_memory.saturating_sub(self.before),
            nearhit_resident: self.nearhit.resident(),
        })
    }
}

fn number(redis: &RedisServer, field: &str) -> Result<u64, String> {
    let text = redis.info(field);
    text.parse().map_err(|_| format!("redis-server says {field}:{text}"))
}
