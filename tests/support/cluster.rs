//! A Redis Cluster of real processes, from `redis-conf/cluster.conf`.

use std::ops::RangeInclusive;
use std::time::Duration;

use ::nearhit::command::{SLOT_COUNT, Slot};
use ::nearhit::config::Address;

use super::Reply;
use super::redis::{Builder, RedisServer};
use super::replicated::address;
use super::wait::wait_for;

/// How long a failover may take that nobody asks for: the node's timeout, an election, and another one.
pub const CLUSTER_FAILOVER: Duration = Duration::from_secs(20);

/// Primaries, each with as many replicas. Dropping it kills them all.
#[derive(Debug)]
pub struct RedisCluster {
    /// The primaries of the start, then their replicas: node `primaries * r + p` follows `p` at the start.
    nodes: Vec<RedisServer>,
    primaries: usize,
    ids: Vec<String>,
}

impl RedisCluster {
    /// Starts a cluster and waits until every node knows all of it.
    #[track_caller]
    pub fn start(primaries: usize, replicas: usize) -> Self {
        Self::start_with(primaries, replicas, &[])
    }

    /// The same, with more settings of all nodes.
    #[track_caller]
    pub fn start_with(primaries: usize, replicas: usize, args: &[(&str, &str)]) -> Self {
        let with = |builder: Builder| {
            args.iter()
                .fold(builder, |builder, (name, value)| builder.arg(name, value))
        };
        Self::of(primaries, replicas, with, RedisServer::port)
    }

    /// The same, with nodes that speak TLS to each other, and to clients on other ports.
    #[track_caller]
    pub fn start_tls(primaries: usize, replicas: usize, tls: impl Fn(Builder) -> Builder) -> Self {
        let with = |builder| tls(builder).arg("--tls-cluster", "yes").arg("--tls-replication", "yes");
        Self::of(primaries, replicas, with, RedisServer::tls_port)
    }

    /// The nodes meet at `port`.
    #[track_caller]
    fn of(primaries: usize, replicas: usize, with: impl Fn(Builder) -> Builder, port: fn(&RedisServer) -> u16) -> Self {
        let builder = || {
            let builder = RedisServer::builder().conf(super::root().join("redis-conf/cluster.conf"));
            with(builder.in_memory())
        };
        let nodes: Vec<_> = (0..primaries * (1 + replicas)).map(|_| builder().start()).collect();
        let ids = nodes.iter().map(|node| node.cmd(&["CLUSTER", "MYID"]).text()).collect();
        let cluster = Self { nodes, primaries, ids };
        cluster.join(port(&cluster.nodes[0]));
        cluster
    }

    fn join(&self, port: u16) {
        let port = port.to_string();
        for (index, node) in self.nodes.iter().enumerate() {
            let epoch = (index + 1).to_string();
            assert_eq!(node.cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]), "OK");
            if index < self.primaries {
                let slots = self.first_slots(index);
                let (from, to) = (slots.start().to_string(), slots.end().to_string());
                assert_eq!(node.cmd(&["CLUSTER", "ADDSLOTSRANGE", &from, &to]), "OK");
            }
            assert_eq!(node.cmd(&["CLUSTER", "MEET", "127.0.0.1", &port]), "OK");
        }
        let count = self.nodes.len().to_string();
        self.wait_for_all("the nodes to know each other", |node| {
            info(node, "cluster_known_nodes") == count && !node.cmd(&["CLUSTER", "NODES"]).text().contains("handshake")
        });
        for (index, node) in self.nodes.iter().enumerate().skip(self.primaries) {
            let primary = &self.ids[index % self.primaries];
            wait_for("the primary to be known", Duration::from_secs(10), || {
                node.cmd(&["CLUSTER", "REPLICATE", primary]) == "OK"
            });
        }
        self.wait_until_whole();
    }

    /// The slots a primary has at the start.
    pub fn first_slots(&self, primary: usize) -> RangeInclusive<u16> {
        let from = |place: usize| u16::try_from(SLOT_COUNT * place / self.primaries).expect("a slot");
        from(primary)..=from(primary + 1) - 1
    }

    /// Waits until all running nodes say that all slots are served, and replicas have what their primaries have.
    #[track_caller]
    pub fn wait_until_whole(&self) {
        self.wait_for_all("the cluster to be whole", |node| {
            info(node, "cluster_state") == "ok" && info(node, "cluster_slots_ok") == SLOT_COUNT.to_string()
        });
        self.wait_for_all("the replicas to follow", |node| {
            node.info("role") == "master" || node.info("master_link_status") == "up"
        });
        let replicas = self.nodes.len() - self.primaries;
        self.wait_for_all("everybody to know the replicas", |node| {
            let nodes = node.cmd(&["CLUSTER", "NODES"]).text();
            nodes.lines().filter(|line| line.contains("slave")).count() >= replicas
        });
    }

    #[track_caller]
    fn wait_for_all(&self, what: &str, holds: impl Fn(&RedisServer) -> bool) {
        for node in self.nodes.iter().filter(|node| node.has_process()) {
            wait_for(what, CLUSTER_FAILOVER, || holds(node));
        }
    }

    /// All nodes: the primaries of the start first.
    pub fn nodes(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }

    /// A node.
    pub fn node(&self, index: usize) -> &RedisServer {
        &self.nodes[index]
    }

    /// Where a node is.
    pub fn at(&self, index: usize) -> Address {
        address(self.nodes[index].port())
    }

    /// The first replica of a primary of the start.
    pub fn replica_of(&self, primary: usize) -> usize {
        assert!(self.nodes.len() > self.primaries, "there are replicas");
        self.primaries + primary
    }

    /// All of them as `redis+cluster://127.0.0.1:1,127.0.0.1:2`.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(|node| node.addr().to_string()).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// The node that says it has the slot.
    #[track_caller]
    pub fn owner_of(&self, slot: u16) -> usize {
        let owner = self.nodes.iter().position(|node| node.has_process() && has(node, slot));
        owner.unwrap_or_else(|| panic!("nobody has slot {slot}"))
    }

    /// A key that begins with `prefix` and belongs to a slot that this primary had at the start.
    pub fn key_at(&self, primary: usize, prefix: &str) -> String {
        let slots = self.first_slots(primary);
        self.keys_at(primary, prefix)
            .find(|key| slots.contains(&slot_of(key)))
            .expect("a key")
    }

    /// Keys that begin with `prefix` and belong to slots that this primary had at the start.
    pub fn keys_at(&self, primary: usize, prefix: &str) -> impl Iterator<Item = String> + use<> {
        let (slots, prefix) = (self.first_slots(primary), prefix.to_owned());
        let keys = (0..).map(move |number| format!("{prefix}{number}"));
        keys.filter(move |key| slots.contains(&slot_of(key)))
    }

    /// Moves a slot with its keys from one node to another, as an operator's tool does, and waits until all agree: a node
    /// that did not hear of the last move would not outbid it with the next.
    #[track_caller]
    pub fn move_slot(&self, slot: u16, from: usize, to: usize) {
        self.begin_move(slot, from, to);
        self.move_keys(slot, from, to);
        self.end_move(slot, from, to);
        self.wait_until_agreed(slot, to);
    }

    /// Waits until all running nodes say that `owner` has the slot, and know in which epoch.
    #[track_caller]
    pub fn wait_until_agreed(&self, slot: u16, owner: usize) {
        let told = |node: &RedisServer| {
            let nodes = node.cmd(&["CLUSTER", "NODES"]).text();
            let line = nodes.lines().find(|line| line.starts_with(&self.ids[owner]))?;
            let epoch = line.split_ascii_whitespace().nth(6)?.to_owned();
            Some((epoch, ranges(line).any(|range| range.contains(&slot))))
        };
        let own = || told(&self.nodes[owner]).filter(|(_, has)| *has);
        self.wait_for_all("the nodes to agree", |node| own().is_some() && told(node) == own());
    }

    /// From here on `from` sends those whose key it has not got to `to`.
    #[track_caller]
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let number = slot.to_string();
        let importing = ["CLUSTER", "SETSLOT", &number, "IMPORTING", &self.ids[from]];
        assert_eq!(self.nodes[to].cmd(&importing), "OK");
        let migrating = ["CLUSTER", "SETSLOT", &number, "MIGRATING", &self.ids[to]];
        assert_eq!(self.nodes[from].cmd(&migrating), "OK");
    }

    /// Moves the keys of a slot that is on the move.
    #[track_caller]
    pub fn move_keys(&self, slot: u16, from: usize, to: usize) {
        loop {
            let keys = self.nodes[from]
                .cmd(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "100"])
                .items();
            if keys.is_empty() {
                return;
            }
            let keys: Vec<String> = keys.iter().map(Reply::text).collect();
            let port = self.nodes[to].port().to_string();
            let mut migrate: Vec<&str> = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            let moved = self.nodes[from].cmd(&migrate);
            assert!(moved == "OK" || moved == "NOKEY", "{moved:?}");
        }
    }

    /// The slot is `to`'s from here on; other nodes hear of it soon.
    #[track_caller]
    pub fn end_move(&self, slot: u16, from: usize, to: usize) {
        let number = slot.to_string();
        let done = ["CLUSTER", "SETSLOT", &number, "NODE", &self.ids[to]];
        assert_eq!(self.nodes[to].cmd(&done), "OK");
        assert_eq!(self.nodes[from].cmd(&done), "OK");
    }

    /// `node` takes the slot by a newer epoch, and whoever has it keeps the keys until it hears of that.
    #[track_caller]
    pub fn take_slot(&self, slot: u16, node: usize) {
        let number = slot.to_string();
        let taker = &self.nodes[node];
        let _says_that_it_has_it_not = taker.cmd(&["CLUSTER", "DELSLOTS", &number]);
        assert_eq!(taker.cmd(&["CLUSTER", "ADDSLOTS", &number]), "OK");
        let _bumped = taker.cmd(&["CLUSTER", "BUMPEPOCH"]);
    }

    /// Has the replica of a primary of the start take over, and waits until it has.
    #[track_caller]
    pub fn fail_over(&self, primary: usize) {
        let replica = self.replica_of(primary);
        assert_eq!(self.nodes[replica].cmd(&["CLUSTER", "FAILOVER"]), "OK");
        wait_for("the replica to take over", CLUSTER_FAILOVER, || {
            self.nodes[replica].info("role") == "master"
        });
    }
}

/// The slot of a key.
pub fn slot_of(key: &str) -> u16 {
    Slot::of(key.as_bytes()).get()
}

fn info(node: &RedisServer, field: &str) -> String {
    let info = node.cmd(&["CLUSTER", "INFO"]).text();
    super::redis::info_field(&info, field).unwrap_or_default()
}

/// Whether the node itself says that the slot is its own.
fn has(node: &RedisServer, slot: u16) -> bool {
    let nodes = node.cmd(&["CLUSTER", "NODES"]).text();
    let own = nodes.lines().find(|line| line.contains("myself"));
    own.into_iter().flat_map(ranges).any(|range| range.contains(&slot))
}

/// The slots in a line of `CLUSTER NODES`.
fn ranges(line: &str) -> impl Iterator<Item = RangeInclusive<u16>> {
    line.split_ascii_whitespace().skip(8).filter_map(|range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        Some(from.parse().ok()?..=to.parse().ok()?)
    })
}
