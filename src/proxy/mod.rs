//! Where the parts are joined: start, serve, drain, stop.
//!
//! ```text
//! control thread   listeners · metrics and probes · sweep, upkeep · learning the server's commands
//! tracking thread  the tracked connections                                    ─ deliveries ─┐
//! worker threads   sessions and their upstream connections            ←─ clients, deliveries ┘
//! ```
//! Nothing global is installed: no logger, no metrics recorder, no signal handler. Two proxies in one process do not mix.

mod acl;
mod builder;
mod control;
mod handle;
mod learn;
mod listen;
mod nodes;
mod partitions;
mod settings;
mod worker;

pub use builder::Builder;
pub use handle::{Cache, CacheStats, Proxy, Stream};
