//! What nearhit stands before: a server, or several of which one is the primary.

use super::{Behind, Profile};
use crate::support::{Nearhit, RedisCluster, RedisServer, Replicated, Reply, SentinelGroup, wait_for};
use std::time::Duration;

/// Settings of all servers.
const SERVER: &[(&str, &str)] = &[("--hz", "500"), ("--enable-debug-command", "yes")];
/// What all servers know from the start.
const USERS: &[&str] = &[
    "ACL SETUSER alice on >wonderland ~s* ~l* ~z* &c* +@all -@dangerous",
    "ACL SETUSER bob on >builder ~* &* +@read +@connection +@transaction +@pubsub",
    "ACL SETUSER off off >wonderland ~* &* +@all",
];
/// How long nearhit may take to find the nodes, and to find another primary.
const FOUND: Duration = Duration::from_secs(30);

/// The servers behind nearhit.
pub enum Stage {
    Server(RedisServer),
    Replicas(Replicated),
    Sentinels(SentinelGroup),
    Cluster(RedisCluster),
}

/// A server as all servers here are.
pub fn server(profile: &Profile) -> RedisServer {
    let builder = RedisServer::builder();
    let server = SERVER
        .iter()
        .fold(builder, |builder, (name, value)| builder.arg(name, value))
        .start();
    prepare(&server, profile);
    server
}

fn prepare(server: &RedisServer, profile: &Profile) {
    server.client().lines_ok(USERS);
    if let Some(password) = profile.password {
        server.client().line(&format!("CONFIG SET requirepass {password}"));
    }
}

impl Stage {
    pub fn start(profile: &Profile) -> Self {
        let mut stage = match profile.behind {
            Behind::Server => return Self::Server(server(profile)),
            Behind::Replicas => Self::Replicas(Replicated::start_with(2, SERVER)),
            Behind::Sentinels => Self::Sentinels(SentinelGroup::start_with(SERVER)),
            Behind::Cluster => Self::Cluster(RedisCluster::start_with(3, 0, SERVER)),
        };
        for node in stage.nodes() {
            prepare(node, profile);
        }
        stage
    }

    fn nodes(&mut self) -> &mut [RedisServer] {
        match self {
            Self::Server(server) => std::slice::from_mut(server),
            Self::Replicas(nodes) => nodes.nodes(),
            Self::Sentinels(group) => group.nodes.nodes(),
            Self::Cluster(cluster) => cluster.nodes(),
        }
    }

    /// Those that are written to: of a cluster all, else one.
    pub fn primaries(&mut self) -> &[RedisServer] {
        match self {
            Self::Server(server) => std::slice::from_ref(server),
            Self::Replicas(nodes) => std::slice::from_ref(nodes.primary()),
            Self::Sentinels(group) => {
                let primary = group.primary();
                std::slice::from_ref(&group.nodes.nodes()[primary])
            }
            Self::Cluster(cluster) => cluster.nodes(),
        }
    }

    /// What nearhit is told of them.
    pub fn url(&self, login: &str) -> String {
        match self {
            Self::Server(server) => format!("redis://{login}{}", server.addr()),
            Self::Replicas(nodes) => format!("redis://{login}{}", nodes.primary().addr()),
            Self::Sentinels(group) => {
                let sentinels: Vec<_> = group.sentinels.iter().map(|one| one.addr().to_string()).collect();
                format!("redis+sentinel://{login}{}/mymaster", sentinels.join(","))
            }
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// How many nodes follow the primary.
    pub fn replicas(&self) -> usize {
        match self {
            Self::Server(_) | Self::Cluster(_) => 0,
            Self::Replicas(_) | Self::Sentinels(_) => 2,
        }
    }

    /// Waits until nearhit knows the primary and may read from the replicas.
    pub fn wait_until_found(&mut self, nearhit: &Nearhit) {
        match self {
            Self::Server(_) | Self::Cluster(_) => return,
            Self::Replicas(_) | Self::Sentinels(_) => {}
        }
        let (replicas, primary) = (self.replicas(), self.primaries()[0].addr().to_string());
        wait_for("nearhit to find the nodes", FOUND, || {
            let answer = nearhit.connect().cmd(&["PROXY", "TOPOLOGY"]);
            let nodes = if answer.is_error() { Vec::new() } else { answer.items() };
            let said = |node: &Reply, field: &str, value: &str| node.get(field).is_some_and(|said| said == value);
            let leads = |node: &Reply| said(node, "role", "master") && said(node, "node", &primary);
            let follows = |node: &&Reply| said(node, "role", "replica") && said(node, "state", "ok");
            nodes.iter().any(leads) && nodes.iter().filter(follows).count() == replicas
        });
    }

    /// Has a replica take the primary's place, and the old primary follow it. Nobody may be writing.
    pub fn fail_over(&mut self) {
        let Self::Sentinels(group) = self else {
            panic!("nobody who would do it")
        };
        let old = group.primary();
        group.fail_over(0);
        let new = wait_for("another primary", FOUND, || {
            Some(group.primary()).filter(|new| *new != old)
        });
        // As the sentinels would, eight seconds later.
        group.nodes.demote(old, new);
        group.nodes.wait_until_synced(new);
    }
}
