//! The servers of a run, all on free ports of 127.0.0.1 and gone when this is dropped.
//!
//! ```text
//! direct:    load ──────────────────────────────────→ redis-server A
//! cached:    load ──→ nearhit (as it comes) ────────┐
//! unix:      load ──→ the same, by its Unix socket ─┤
//! off:       load ──→ nearhit (cache off) ──────────┤
//! never:     load ──→ nearhit (window 1 ms) ────────┼→ redis-server B
//! small:     load ──→ nearhit (64 MiB) ─────────────┤
//! peers:     load ──→ twemproxy, HAProxy ───────────┤
//! in-process:load ──→ a proxy in this process ──────┘
//! ```
//! Two redis-servers, because one that tracks keys for nearhit pays a little for every write: the baseline must not.
//! The processes that a cell does not use sleep.

use std::net::SocketAddr;

use nearhit::config::{Address, UpstreamPlace, UpstreamUrl};
use nearhit::load::{Load, Pace, Picker, Script, Until};

use super::cpu::CpuTime;
use super::inprocess::Inside;
use super::peer::Peer;
use super::work::{Via, Work, Works};
use crate::harness::redis::info_field;
use crate::harness::{Nearhit, RedisServer, temp_dir};

/// Everything that runs.
pub(crate) struct Stage {
    // Fields are dropped in this order: a proxy goes before the server it stands in front of.
    inside: Vec<Inside>,
    cached: Nearhit,
    off: Nearhit,
    never: Nearhit,
    small: Nearhit,
    twemproxy: Option<Peer>,
    haproxy: Option<Peer>,
    unix: tempfile::TempDir,
    direct: RedisServer,
    behind: RedisServer,
}

/// Where a cell's requests go, and who works on them.
pub(crate) struct Target<'a> {
    pub(crate) url: UpstreamUrl,
    /// The proxy, or the redis-server itself.
    front_pid: u32,
    /// The redis-server behind the proxy.
    back_pid: Option<u32>,
    /// The redis-server that holds the data.
    pub(crate) server: &'a RedisServer,
    proxy: Option<&'a Nearhit>,
}

/// GETs and SETs that a redis-server has counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calls {
    pub(crate) gets: u64,
    pub(crate) sets: u64,
}

impl Stage {
    /// Starts the servers and writes all keys.
    pub(crate) fn start(works: &Works) -> Result<Self, String> {
        let unix = temp_dir();
        let server_socket = unix.path().join("redis.sock").display().to_string();
        let direct = RedisServer::builder().arg("--unixsocket", &server_socket).start();
        let behind = RedisServer::start();
        for server in [&direct, &behind] {
            for work in Work::ALL.into_iter().filter(|work| works.has(*work)) {
                every_key(&tcp(server.addr()), works, work, true)?;
            }
        }
        let socket = format!("unix://{}", unix.path().join("nearhit.sock").display());
        Ok(Self {
            inside: vec![Inside::start(&behind.url(), 1)?, Inside::start(&behind.url(), 2)?],
            // A value of 1 MiB is a little more than that as a reply.
            cached: serve(&behind.url(), &["--cache.max-entry", "2mb", "--listen", &socket]),
            off: serve(&behind.url(), &["--cache.mode", "off"]),
            never: serve(&behind.url(), &["--cache.admission-window", "1ms"]),
            small: serve(&behind.url(), &["--cache.max-memory", "64mb"]),
            twemproxy: Peer::twemproxy(behind.addr())?,
            haproxy: Peer::haproxy(behind.addr())?,
            unix,
            direct,
            behind,
        })
    }

    /// Whether this way can be gone on this machine.
    pub(crate) fn has(&self, via: Via) -> bool {
        match via {
            Via::Twemproxy => self.twemproxy.is_some(),
            Via::Haproxy => self.haproxy.is_some(),
            _ => true,
        }
    }

    /// The other proxies, by name and version; what is missing says so.
    pub(crate) fn peers(&self) -> String {
        let name = |name: &str, peer: &Option<Peer>| match peer {
            Some(peer) => peer.version().to_owned(),
            None => format!("no {name} here (deploy/need-bench.sh)"),
        };
        format!(
            "{}, {}",
            name("twemproxy", &self.twemproxy),
            name("HAProxy", &self.haproxy)
        )
    }

    /// The proxy inside this process with so many workers.
    pub(crate) fn inside(&self, threads: usize) -> Option<&Inside> {
        self.inside.iter().find(|inside| inside.threads() == threads)
    }

    /// Where this way leads; in-process it is the server behind.
    pub(crate) fn target(&self, via: Via) -> Target<'_> {
        let proxy = match via {
            Via::Direct | Via::DirectUnix => {
                return Target {
                    url: match via {
                        Via::DirectUnix => self.unix("redis.sock"),
                        _ => tcp(self.direct.addr()),
                    },
                    front_pid: self.direct.pid(),
                    back_pid: None,
                    server: &self.direct,
                    proxy: None,
                };
            }
            Via::Twemproxy => return self.peer(self.twemproxy.as_ref()),
            Via::Haproxy => return self.peer(self.haproxy.as_ref()),
            Via::InProcess(_) => return self.peer(None),
            Via::Cached | Via::CachedUnix => &self.cached,
            Via::CacheOff => &self.off,
            Via::NeverAdmitted => &self.never,
            Via::SmallCache => &self.small,
        };
        let url = match via {
            Via::CachedUnix => self.unix("nearhit.sock"),
            _ => tcp(proxy.addr()),
        };
        Target {
            url,
            front_pid: proxy.pid(),
            back_pid: Some(self.behind.pid()),
            server: &self.behind,
            proxy: Some(proxy),
        }
    }

    fn unix(&self, name: &str) -> UpstreamUrl {
        UpstreamUrl {
            place: UpstreamPlace::Nodes(vec![Address::Unix(self.unix.path().join(name))]),
            ..UpstreamUrl::default()
        }
    }

    /// Another proxy before the same server; without one, this process.
    fn peer(&self, peer: Option<&Peer>) -> Target<'_> {
        Target {
            url: tcp(peer.map_or(self.behind.addr(), Peer::addr)),
            front_pid: peer.map_or(std::process::id(), Peer::pid),
            back_pid: Some(self.behind.pid()),
            server: &self.behind,
            proxy: None,
        }
    }

    /// As the server says it.
    pub(crate) fn redis_version(&self) -> String {
        self.direct.info("redis_version")
    }
}

/// One worker: redis-server has one thread too, and CPU per request is compared, not cores.
pub(crate) fn serve(url: &str, settings: &[&str]) -> Nearhit {
    let mut arguments = vec!["--server.threads", "1"];
    arguments.extend_from_slice(settings);
    let nearhit = Nearhit::serve_with(url, &arguments);
    if !settings.contains(&"off") {
        nearhit.wait_for_stderr("tracking is on");
    }
    nearhit
}

/// A server or proxy by its address.
pub(crate) fn tcp(addr: SocketAddr) -> UpstreamUrl {
    UpstreamUrl::tcp(addr.ip().to_string(), addr.port())
}

/// Reads or writes every key once, on one connection.
pub(crate) fn every_key(url: &UpstreamUrl, works: &Works, work: Work, write: bool) -> Result<(), String> {
    pass(url, works.script(work), works.every_key(work, write))
}

/// As many exchanges as the script has keys, in batches of about a megabyte.
pub(crate) fn pass(url: &UpstreamUrl, script: &Script, picker: Picker) -> Result<(), String> {
    let pipeline = ((1 << 20) / script.value_bytes()).clamp(1, 100);
    let mut load = Load::open(url, script, picker, 1).map_err(|error| error.to_string())?;
    let all = Until::Requests(script.keys().into());
    load.run(Pace::Closed { pipeline }, all, false)
        .map_err(|error| error.to_string())?;
    Ok(())
}

impl Target<'_> {
    /// CPU time so far, in front and behind.
    pub(crate) fn cpu_time(&self) -> Result<(CpuTime, CpuTime), String> {
        Ok((CpuTime::of(Some(self.front_pid))?, CpuTime::of(self.back_pid)?))
    }

    /// What its redis-server has counted.
    pub(crate) fn calls(&self) -> Result<Calls, String> {
        calls(self.server)
    }

    /// What nearhit wrote to stderr so far; nothing where there is none.
    pub(crate) fn stderr(&self) -> String {
        self.proxy.map(Nearhit::stderr).unwrap_or_default()
    }
}

/// What a redis-server has counted.
pub(crate) fn calls(server: &RedisServer) -> Result<Calls, String> {
    let stats = server.cmd(&["INFO", "commandstats"]).text();
    let count = |command: &str| {
        let Some(line) = info_field(&stats, &format!("cmdstat_{command}")) else {
            return Ok(0);
        };
        line.strip_prefix("calls=")
            .and_then(|rest| rest.split(',').next())
            .and_then(|calls| calls.parse().ok())
            .ok_or_else(|| format!("redis-server says cmdstat_{command}:{line}"))
    };
    Ok(Calls {
        gets: count("get")?,
        sets: count("set")?,
    })
}

impl Calls {
    /// What was counted since.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            gets: self.gets - earlier.gets,
            sets: self.sets - earlier.sets,
        }
    }
}
