//! The harness of all integration tests: real servers, a raw client that is its own oracle, and waiting for conditions.
//!
//! ```text
//! let redis = RedisServer::start();                     // a temporary copy of redis-conf/master.conf, a free port
//! let proxy = Nearhit::serve(&redis.url());             // the built binary, until this is dropped
//! let mut client = proxy.connect();                     // RESP2; `.hello3()` makes it RESP3
//! assert_eq!(client.cmd(&["SET", "k", "v"]), "OK");
//! redis.client().cmd(&["SET", "k", "w"]);
//! assert!(eventually(SOON, || client.cmd(&["GET", "k"]) == "w"));
//! ```
//!
//! Everything here panics with what it waited for; nothing waits without a bound; everything started is stopped when
//! its value is dropped.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test binary compiles this module and uses its own part of it"
)]

pub mod child;
pub mod cluster;
pub mod http;
pub mod nearhit;
pub mod ports;
pub mod redis;
pub mod replicated;
pub mod reply;
pub mod resp;
pub mod sentinel;
pub mod wait;

pub use child::{Finished, run};
pub use cluster::RedisCluster;
pub use nearhit::Nearhit;
pub use ports::{free_addr, free_port};
pub use redis::RedisServer;
pub use replicated::{Discovered, Replicated, SentinelGroup};
pub use reply::Reply;
pub use resp::Resp;
pub use sentinel::Sentinel;
pub use wait::{SOON, eventually, wait_for};

use std::path::{Path, PathBuf};

/// The repository's root: where `Cargo.toml` and `redis-conf/` are.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A directory that vanishes with the value.
pub fn temp_dir() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("nearhit-test-")
        .tempdir()
        .expect("make a temporary directory")
}

/// The same in memory, where Linux has one.
pub fn temp_dir_in_memory() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    let in_memory = builder.prefix("nearhit-test-").tempdir_in("/dev/shm");
    in_memory.unwrap_or_else(|_| temp_dir())
}

/// Reads a file of the repository, or says which one is missing.
pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}
