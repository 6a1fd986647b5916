//! Settings: what each is called, what it may be, and where its value came from.
//!
//! ```text
//! default ─┐
//! file ────┤ nodes with spans ─read→ Config ─check→ Config
//! env ─────┤                           │
//! flags ───┘  (the later one wins)     └→ every problem, each with its place
//! ```
//! A setting is one row in `sections`: its name, type, default, range and help. The key in the file, the environment
//! variable, the flag, `--help` and the table in the README are all derived from that row.

mod check;
mod choice;
mod docs;
mod duration;
mod error;
mod layer;
mod listen;
mod load;
mod name;
mod picture;
mod policy;
mod reader;
mod row;
mod secret;
mod sections;
mod setting;
mod size;
mod upstream;
mod url;

pub use choice::{
    Admission, CacheMode, EvictionKind, InvalidationMode, LogFormat, MonitorMode, OnLoss, PartitionBy, PresentAs, Reads,
};
pub use docs::settings_markdown;
pub use error::{Code, ConfigError, ConfigErrors, Invalid, Place};
pub use listen::Listen;
pub use name::{AdminCommand, ClientName, HttpPath, LogLevel};
pub use policy::Policy;
pub use row::{Row, Section, Shape, env_name, find_row, flag_name, rows, sections};
pub use secret::Secret;
pub use sections::{
    Cache, Facade, Invalidation, Limits, Log, Metrics, PubSub, Routing, Sentinel, Server, Upstream, UpstreamTls,
};
pub use size::ByteSize;
pub use upstream::{Address, Credentials, UpstreamPlace, UpstreamUrl};

/// Everything that can be set, as parsed types. [`Config::default`] is what an empty file means.
///
/// Built by [`Config::load`], or in code by starting from the defaults:
///
/// ```
/// use nearhit::config::{ByteSize, Config};
///
/// let mut config = Config::default();
/// config.server.listen = vec!["127.0.0.1:0".parse()?];
/// config.upstream.url = "redis://10.0.0.1:6379/2".parse()?;
/// config.cache.max_memory = ByteSize::mib(64);
/// config.validate()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Version of the file's format; this nearhit reads version 1.
    pub config_version: u32,
    /// `[server]`: the clients' side.
    pub server: Server,
    /// `[upstream]`: the Redis side.
    pub upstream: Upstream,
    /// `[sentinel]`: who to be at the sentinels.
    pub sentinel: Sentinel,
    /// `[routing]`: which node is read from.
    pub routing: Routing,
    /// `[facade]`: what clients may learn about the proxy.
    pub facade: Facade,
    /// `[pubsub]`: subscribers.
    pub pubsub: PubSub,
    /// `[cache]`: the near-cache.
    pub cache: Cache,
    /// `[invalidation]`: how the near-cache learns that a key changed.
    pub invalidation: Invalidation,
    /// `[[policy]]`: settings for some keys, first match wins.
    pub policies: Vec<Policy>,
    /// `[metrics]`: what Prometheus reads.
    pub metrics: Metrics,
    /// `[log]`: what is written to stderr.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            config_version: 1,
            server: Server::default(),
            upstream: Upstream::default(),
            sentinel: Sentinel::default(),
            routing: Routing::default(),
            facade: Facade::default(),
            pubsub: PubSub::default(),
            cache: Cache::default(),
            invalidation: Invalidation::default(),
            policies: Vec::new(),
            metrics: Metrics::default(),
            log: Log::default(),
        }
    }
}
