//! A proxy inside this process, and a load over its streams: no socket on the clients' side.
//!
//! What counts is the CPU of nearhit's worker threads: the clients are threads of this process too, and on a machine
//! with two cores they take what two workers would need.

use std::time::Duration;

use nearhit::Proxy;
use nearhit::config::Config;
use nearhit::load::{Picker, Player, Script};
use nearhit::proxy::{CacheStats, Stream};
use nearhit::time::{Instant, now};
use tokio::task::JoinSet;

use super::cpu::CpuTime;
use crate::harness::{SOON, eventually};

/// How nearhit's worker threads are called, as far as the kernel keeps names.
const WORKER: &str = "nearhit-worker-";

/// A proxy that listens nowhere.
pub(crate) struct Inside {
    proxy: Proxy,
    threads: usize,
}

/// What a stretch of load did.
pub(crate) struct Played {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
}

impl Inside {
    pub(crate) fn start(upstream: &str, threads: usize) -> Result<Self, String> {
        let mut config = Config::default();
        config.server.listen.clear();
        config.metrics.listen = None;
        config.server.threads = threads;
        let start = Proxy::builder().config(config).upstream(upstream).start();
        let proxy = runtime()?.block_on(start).map_err(|error| error.to_string())?;
        if !eventually(SOON, || proxy.cache().stats().tracking) {
            return Err("the proxy in this process does not track".to_owned());
        }
        Ok(Self { proxy, threads })
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Reads answered from memory so far.
    pub(crate) fn hits(&self) -> u64 {
        self.stats().hits
    }

    /// All it counted, for a message.
    pub(crate) fn stats(&self) -> CacheStats {
        self.proxy.cache().stats()
    }

    /// CPU time of the workers of all proxies in this process; those of the other one sleep.
    pub(crate) fn cpu_time() -> Result<CpuTime, String> {
        CpuTime::of_threads(std::process::id(), WORKER)
    }

    /// Streams in so many threads as there are workers, `connections` for each worker, each with a random sequence of its
    /// own that begins with `seed`; every reply is checked.
    pub(crate) fn play(
        &self,
        script: &Script,
        (picker, seed): (&Picker, u64),
        (connections, pipeline): (usize, usize),
        duration: Duration,
    ) -> Result<Played, String> {
        let start = now();
        let deadline = start.after(duration);
        let requests = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..self.threads)
                .map(|thread| {
                    let first = seed * 10_000 + (thread * connections) as u64;
                    let streams = (0..connections as u64)
                        .map(|stream| (self.proxy.connect(), picker.clone().with_seed(first + stream)))
                        .collect();
                    scope.spawn(move || client(streams, script, pipeline, deadline))
                })
                .collect();
            clients
                .into_iter()
                .map(|client| client.join().map_err(|_| "a client panicked".to_owned())?)
                .sum::<Result<u64, String>>()
        })?;
        Ok(Played {
            requests,
            elapsed: now().since(start),
        })
    }
}

/// One thread's streams.
fn client(streams: Vec<(Stream, Picker)>, script: &Script, pipeline: usize, deadline: Instant) -> Result<u64, String> {
    runtime()?.block_on(async {
        let mut playing = JoinSet::new();
        for (stream, picker) in streams {
            let player = Player::new(stream, script.clone(), picker, pipeline);
            playing.spawn(session(player, deadline));
        }
        let mut requests = 0;
        while let Some(played) = playing.join_next().await {
            requests += played.map_err(|error| error.to_string())??;
        }
        Ok(requests)
    })
}

async fn session(mut player: Player<Stream>, deadline: Instant) -> Result<u64, String> {
    let mut requests = 0;
    while now() < deadline {
        requests += player.batch().await.map_err(|error| error.to_string())?;
    }
    Ok(requests)
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("start a runtime: {error}"))
}
