//! A cluster of three primaries with nearhit before it, and one plain server that says what a client is to see.
//!
//! ```text
//! client ─┬ direct ──→ plain redis-server
//!         └ proxied ─→ nearhit ─→ node of {a} · node of {b} · node of {c}      the same bytes
//! ```
//! One is shared by all tests of a binary that run at the same time: each has keys of its own.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary compiles this module and uses its own part of it"
)]

use crate::session_support::{CACHE_ALL, Twin};
use crate::support::cluster::slot_of;
use crate::support::{Nearhit, RedisCluster, RedisServer, Resp, SOON, wait_for};
use parking_lot::{Mutex, MutexGuard};
use std::sync::{Arc, Weak};

/// A tag of each node's.
pub const TAGS: [&str; 3] = ["{a}", "{b}", "{c}"];

/// What a cluster says of keys of several slots.
pub const CROSSSLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

/// A cluster, nearhit before it, and a plain server.
pub struct Front {
    // In the order in which they are to end.
    pub proxy: Nearhit,
    pub cluster: RedisCluster,
    pub plain: RedisServer,
    /// Held by whoever has to do with all keys.
    turn: Mutex<()>,
}

/// What is running, for as long as some test uses it: what is never dropped would leave its servers behind.
static RUNNING: Mutex<Weak<Front>> = Mutex::new(Weak::new());

impl Front {
    /// Starts all of it; every read of a key but the first is a hit.
    #[track_caller]
    pub fn start() -> Self {
        let (cluster, plain) = (RedisCluster::start(3, 0), RedisServer::start());
        let owners = TAGS.map(|tag| cluster.owner_of(slot_of(tag)));
        assert_eq!(owners, [2, 0, 1], "the tags' nodes");
        let proxy = Nearhit::serve_with(&cluster.url(), CACHE_ALL);
        wait_for_tracking(&proxy);
        Self {
            proxy,
            cluster,
            plain,
            turn: Mutex::new(()),
        }
    }

    /// The one that other tests use, too.
    #[track_caller]
    pub fn shared() -> Arc<Self> {
        let mut running = RUNNING.lock();
        running.upgrade().unwrap_or_else(|| {
            let front = Arc::new(Self::start());
            *running = Arc::downgrade(&front);
            front
        })
    }

    /// Empty, and nobody else's until the guard is dropped.
    pub fn alone(&self) -> MutexGuard<'_, ()> {
        let turn = self.turn.lock();
        let nodes = [0, 1, 2].map(|node| self.cluster.node(node));
        for server in nodes.into_iter().chain([&self.plain]) {
            server
                .client()
                .lines_ok(&["FLUSHALL", "SCRIPT FLUSH", "FUNCTION FLUSH"]);
        }
        turn
    }

    /// A client of nearhit and one of the plain server.
    #[track_caller]
    pub fn twin(&self, version: u8) -> Twin {
        self.twin_at(&self.proxy, version)
    }

    /// The same with another nearhit.
    #[track_caller]
    pub fn twin_at(&self, proxy: &Nearhit, version: u8) -> Twin {
        let mut twin = Twin {
            direct: self.plain.client(),
            proxied: proxy.connect(),
        };
        if version == 3 {
            // What it says of the server differs.
            twin.direct.hello3();
            twin.proxied.hello3();
        }
        twin
    }

    /// The node that has the key now.
    #[track_caller]
    pub fn owner(&self, key: &str) -> &RedisServer {
        self.cluster.node(self.cluster.owner_of(slot_of(key)))
    }
}

/// Waits until all nodes' invalidations arrive.
#[track_caller]
pub fn wait_for_tracking(proxy: &Nearhit) {
    wait_for("tracking", SOON, || {
        proxy.stderr().matches("tracking is on").count() >= 3
    });
}

/// Sends lines and reads their replies, for a person to compare.
#[track_caller]
pub fn told(client: &mut Resp, lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| format!("{:?}", client.line(line))).collect()
}
