//! The servers of a run, all on free ports of 127.0.0.1 and gone when this is dropped.
//!
//! ```text
//! direct:  load ──────────────────────────→ redis-server A
//! cached:  load ──→ nearhit (as it comes) ─┐
//! off:     load ──→ nearhit (cache off) ───┼→ redis-server B
//! never:   load ──→ nearhit (window 1 ms) ─┘
//! ```
//! Two redis-servers, because one that tracks keys for nearhit pays a little for every write: the baseline must not.
//! The processes that a cell does not use sleep.

use std::net::SocketAddr;

use super::cpu::CpuTime;
use super::load::pass;
use super::script::Scripts;
use super::workload::{Keys, Verb, Via};
use crate::harness::redis::info_field;
use crate::harness::{Nearhit, RedisServer};

/// Everything that runs.
pub(crate) struct Stage {
    // Fields are dropped in this order: nearhit goes before the server it stands in front of.
    cached: Nearhit,
    off: Nearhit,
    never: Nearhit,
    direct: RedisServer,
    behind: RedisServer,
}

/// Where a workload's requests go, and who works on them.
pub(crate) struct Target<'a> {
    pub(crate) addr: SocketAddr,
    /// nearhit, or the redis-server itself.
    front_pid: u32,
    /// The redis-server behind nearhit.
    back_pid: Option<u32>,
    /// The redis-server that holds the data.
    pub(crate) server: &'a RedisServer,
    proxy: Option<&'a Nearhit>,
}

impl Stage {
    /// Starts the servers and writes all keys.
    pub(crate) fn start(scripts: &Scripts) -> Result<Self, String> {
        let direct = RedisServer::start();
        let behind = RedisServer::start();
        for server in [&direct, &behind] {
            pass(server.addr(), scripts.of(Verb::Set, Keys::Hot))?;
            pass(server.addr(), scripts.of(Verb::Set, Keys::InTurn))?;
        }
        // One worker: redis-server has one thread too, and CPU per request is compared, not cores.
        let serve = |settings: &[&str]| {
            let mut arguments = vec!["--server.threads", "1"];
            arguments.extend_from_slice(settings);
            Nearhit::serve_with(&behind.url(), &arguments)
        };
        Ok(Self {
            cached: serve(&[]),
            off: serve(&["--cache.enabled", "false"]),
            never: serve(&["--cache.admission-window", "1ms"]),
            direct,
            behind,
        })
    }

    /// Where this way leads.
    pub(crate) fn target(&self, via: Via) -> Target<'_> {
        let proxy = match via {
            Via::Direct => {
                return Target {
                    addr: self.direct.addr(),
                    front_pid: self.direct.pid(),
                    back_pid: None,
                    server: &self.direct,
                    proxy: None,
                };
            }
            Via::Cached => &self.cached,
            Via::CacheOff => &self.off,
            Via::NeverAdmitted => &self.never,
        };
        Target {
            addr: proxy.addr(),
            front_pid: proxy.pid(),
            back_pid: Some(self.behind.pid()),
            server: &self.behind,
            proxy: Some(proxy),
        }
    }

    /// As the server says it.
    pub(crate) fn redis_version(&self) -> String {
        self.direct.info("redis_version")
    }
}

impl Target<'_> {
    /// CPU time so far, in front and behind.
    pub(crate) fn cpu_time(&self) -> Result<(CpuTime, CpuTime), String> {
        Ok((CpuTime::of(Some(self.front_pid))?, CpuTime::of(self.back_pid)?))
    }

    /// How many calls of the command its redis-server has counted.
    pub(crate) fn calls(&self, verb: Verb) -> Result<u64, String> {
        let field = match verb {
            Verb::Get => "cmdstat_get",
            Verb::Set => "cmdstat_set",
        };
        let stats = self.server.cmd(&["INFO", "commandstats"]).text();
        let Some(line) = info_field(&stats, field) else {
            return Ok(0);
        };
        line.strip_prefix("calls=")
            .and_then(|rest| rest.split(',').next())
            .and_then(|calls| calls.parse().ok())
            .ok_or_else(|| format!("redis-server says {field}:{line}"))
    }

    /// What nearhit wrote to stderr so far; nothing where there is none.
    pub(crate) fn stderr(&self) -> String {
        self.proxy.map(Nearhit::stderr).unwrap_or_default()
    }
}
