//! The checker's own cluster: three primaries, a replica each, and who has which slot.

use super::Failure;
use super::nodes::text;
use super::server_faults::add_guest;
use super::servers::{Place, Redis, Target, free_port};
use nearhit::command::{SLOT_COUNT, Slot};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;
use tokio::time::{sleep, timeout};

const PRIMARIES: usize = 3;
/// The primaries and a replica of each.
const NODES: usize = 2 * PRIMARIES;
/// A node that is silent for so long is taken for dead, in milliseconds.
const NODE_TIMEOUT: &str = "2000";
/// From the port of a node to that of the cluster's own bus.
const BUS: u16 = 10_000;
/// How long nodes may take until they agree. A failover that nobody asks for takes the node's timeout, an election, and perhaps
/// another one.
const AGREED: Duration = Duration::from_secs(30);
/// Between two looks.
const POLL: Duration = Duration::from_millis(10);

/// What every start of a node is told.
const ARGS: [&str; 12] = [
    "--cluster-enabled",
    "yes",
    "--cluster-node-timeout",
    NODE_TIMEOUT,
    // Slots that are there are served although others are not.
    "--cluster-require-full-coverage",
    "no",
    "--cluster-allow-replica-migration",
    "no",
    "--repl-ping-replica-period",
    "1",
    "--repl-diskless-sync",
    "yes",
];

/// All its nodes.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) nodes: Vec<Redis>,
    ids: Vec<String>,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Says {
    pub(super) is_primary: bool,
    /// Whom it follows.
    primary: String,
    slots: Vec<RangeInclusive<u16>>,
}

impl Says {
    /// Reads CLUSTER NODES.
    fn read(nodes: &str) -> Option<Self> {
        let own = nodes.lines().find(|line| line.contains("myself"))?;
        let words: Vec<_> = own.split_ascii_whitespace().collect();
        let slots = words.iter().skip(8).filter_map(|word| {
            let (from, to) = word.split_once('-').unwrap_or((word, word));
            Some(from.parse().ok()?..=to.parse().ok()?)
        });
        Some(Self {
            is_primary: words.get(2)?.contains("master"),
            primary: (*words.get(3)?).to_owned(),
            slots: slots.collect(),
        })
    }

    pub(super) fn has(&self, slot: Slot) -> bool {
        self.slots.iter().any(|range| range.contains(&slot.get()))
    }

    fn count(&self) -> usize {
        self.slots.iter().map(ExactSizeIterator::len).sum()
    }
}

impl Cluster {
    /// Starts one and waits until every node knows all of it.
    pub(super) async fn start(program: &Path, dir: &Path, args: &'static [&'static str]) -> Result<Self, Failure> {
        let mut nodes = Vec::new();
        for number in 0..NODES {
            let mut node = Redis::new(program.to_owned(), dir.join(format!("node-{number}")), args, None)?;
            node.port = node_port().map_err(|error| Failure::new(format!("find free ports: {error}")))?;
            node.start(&ARGS).await?;
            nodes.push(node);
        }
        let mut cluster = Self { nodes, ids: Vec::new() };
        cluster.join().await.map_err(Failure::new)?;
        for node in cluster.all() {
            add_guest(&node).await.map_err(Failure::new)?;
        }
        Ok(cluster)
    }

    async fn join(&mut self) -> Result<(), String> {
        for node in &self.nodes {
            self.ids.push(text(node.target().command("CLUSTER MYID").await));
        }
        let first = self.port(0);
        for number in 0..NODES {
            self.say(number, &format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1))
                .await?;
            if number < PRIMARIES {
                let from = |place: usize| SLOT_COUNT * place / PRIMARIES;
                let (from, to) = (from(number), from(number + 1) - 1);
                self.say(number, &format!("CLUSTER ADDSLOTSRANGE {from} {to}")).await?;
            }
            self.say(number, &format!("CLUSTER MEET 127.0.0.1 {first}")).await?;
        }
        for number in PRIMARIES..NODES {
            let primary = self.id(number - PRIMARIES).to_owned();
            let line = format!("CLUSTER REPLICATE {primary}");
            within(&line, async || self.say(number, &line).await.is_ok()).await?;
        }
        self.wait_until_whole().await
    }

    fn port(&self, number: usize) -> u16 {
        self.nodes.get(number).map_or(0, |node| node.port)
    }

    pub(super) fn id(&self, number: usize) -> &str {
        self.ids.get(number).map_or("", String::as_str)
    }

    pub(super) fn target(&self, number: usize) -> Option<Target> {
        self.nodes.get(number).map(Redis::target)
    }

    /// One of them.
    pub(super) fn any(&self) -> Target {
        Target {
            addr: Place::at(format!("127.0.0.1:{}", self.port(0))),
            credentials: None,
        }
    }

    /// All nodes.
    pub(super) fn all(&self) -> Vec<Target> {
        self.nodes.iter().map(Redis::target).collect()
    }

    /// Where they all are.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect()
    }

    /// What an instance is told.
    pub(super) fn url(&self) -> String {
        format!("redis+cluster://{}", self.addresses().join(","))
    }

    /// Tells a node something.
    pub(super) async fn say(&self, number: usize, line: &str) -> Result<(), String> {
        let target = self.target(number).ok_or("no such node")?;
        let answer = target.command(line).await;
        answer.map(drop).map_err(|error| format!("{line}: {error}"))
    }

    /// What a node says of itself; `None`: it does not answer.
    pub(super) async fn says(&self, number: usize) -> Option<Says> {
        let nodes = self.target(number)?.command("CLUSTER NODES").await;
        Says::read(&text(nodes))
    }

    /// The nodes that say that they are primaries with slots.
    pub(super) async fn primaries(&self) -> Vec<usize> {
        let mut primaries = Vec::new();
        for number in 0..NODES {
            let says = self.says(number).await.unwrap_or_default();
            if says.is_primary && says.count() > 0 {
                primaries.push(number);
            }
        }
        primaries
    }

    pub(super) async fn is_primary(&self, number: usize) -> bool {
        self.says(number).await.is_some_and(|says| says.is_primary)
    }

    /// The node that says it has the slot.
    pub(super) async fn owner(&self, slot: Slot) -> Result<usize, String> {
        for number in 0..NODES {
            let says = self.says(number).await.unwrap_or_default();
            if says.is_primary && says.has(slot) {
                return Ok(number);
            }
        }
        Err(format!("nobody has slot {}", slot.get()))
    }

    /// The node that follows this one.
    pub(super) async fn replica_of(&self, primary: usize) -> Result<usize, String> {
        for number in 0..NODES {
            let says = self.says(number).await.unwrap_or_default();
            if !says.is_primary && says.primary == self.id(primary) {
                return Ok(number);
            }
        }
        Err("nobody follows the node".to_owned())
    }

    /// Where the keys of a slot are to be asked for.
    pub(super) async fn owner_address(&self, slot: Slot) -> Result<String, String> {
        let owner = self.owner(slot).await?;
        Ok(format!("127.0.0.1:{}", self.port(owner)))
    }

    /// Waits until all nodes say the same of all slots, and every replica has what its primary has.
    pub(super) async fn wait_until_whole(&self) -> Result<(), String> {
        within("the nodes to agree", async || self.is_whole().await).await
    }

    async fn is_whole(&self) -> bool {
        let (mut slots, mut primaries) = (0, 0);
        let mut views = Vec::new();
        for node in self.all() {
            let nodes = text(node.command("CLUSTER NODES").await);
            let own = Says::read(&nodes).unwrap_or_default();
            slots += own.count();
            primaries += usize::from(own.is_primary);
            let info = text(node.command("INFO replication").await);
            let info = |line: &str| info.lines().any(|said| said.trim_end() == line);
            let follows = own.is_primary || info("master_link_status:up");
            let state = text(node.command("CLUSTER INFO").await);
            let healthy = !["fail", "handshake", "noaddr"].iter().any(|word| nodes.contains(word));
            if !follows || !healthy || !state.contains("cluster_state:ok") {
                return false;
            }
            views.push(view(&nodes));
        }
        slots == SLOT_COUNT
            && primaries == PRIMARIES
            && views
                .iter()
                .all(|view| view.len() == NODES && Some(view) == views.first())
    }

    /// Waits until this replica has everything that its primary has. Nobody may be writing.
    pub(super) async fn wait_until_synced(&self, primary: usize, replica: usize) -> Result<(), String> {
        let offset = async |number: usize, field: &str| -> Option<String> {
            let info = text(self.target(number)?.command("INFO replication").await);
            let value = info.lines().find_map(|line| line.strip_prefix(field));
            value.map(|value| value.trim_end().to_owned())
        };
        within("the replica to have everything", async || {
            let (has, wanted) = (
                offset(replica, "slave_repl_offset:").await,
                offset(primary, "master_repl_offset:").await,
            );
            let up = offset(replica, "master_link_status:").await;
            has.is_some() && has == wanted && up.as_deref() == Some("up")
        })
        .await
    }

    /// Starts a node again that is to find its place by itself.
    pub(super) async fn restart(&mut self, number: usize) -> Result<(), String> {
        let node = self.nodes.get_mut(number).ok_or("no such node")?;
        node.forget_data();
        node.start(&ARGS).await.map_err(|failure| failure.message)?;
        add_guest(&node.target()).await
    }

    /// Stops them all.
    pub(super) async fn stop(&mut self) {
        for node in &mut self.nodes {
            node.process.stop().await;
        }
    }
}

/// Moves of slots, as an operator's tool makes them.
impl Cluster {
    /// From here on `from` sends those whose key it has not got to `to`.
    pub(super) async fn begin_move(&self, slot: Slot, from: usize, to: usize) -> Result<(), String> {
        let slot = slot.get();
        let importing = format!("CLUSTER SETSLOT {slot} IMPORTING {}", self.id(from));
        self.say(to, &importing).await?;
        let migrating = format!("CLUSTER SETSLOT {slot} MIGRATING {}", self.id(to));
        self.say(from, &migrating).await
    }

    /// Moves keys of a slot that is on the move: so many, or all of them.
    pub(super) async fn move_keys(&self, slot: Slot, from: usize, to: usize, most: usize) -> Result<(), String> {
        let target = self.target(from).ok_or("no such node")?;
        let mut moved = 0;
        while moved < most {
            let some = (most - moved).min(100);
            let list = target
                .command(&format!("CLUSTER GETKEYSINSLOT {} {some}", slot.get()))
                .await;
            let keys = super::nodes::words(list);
            if keys.is_empty() {
                break;
            }
            moved += keys.len();
            let (port, keys) = (self.port(to), keys.join(" "));
            self.say(from, &format!("MIGRATE 127.0.0.1 {port}  0 5000 KEYS {keys}"))
                .await?;
        }
        Ok(())
    }

    /// The slot is `to`'s from here on.
    pub(super) async fn end_move(&self, slot: Slot, from: usize, to: usize) -> Result<(), String> {
        let line = format!("CLUSTER SETSLOT {} NODE {}", slot.get(), self.id(to));
        self.say(to, &line).await?;
        self.say(from, &line).await?;
        self.wait_until_whole().await
    }

    /// `node` takes the slot by a newer epoch; whoever had it drops the keys when it hears of that.
    pub(super) async fn take(&self, slot: Slot, node: usize) -> Result<(), String> {
        // Unless it says that it has not got it.
        drop(self.say(node, &format!("CLUSTER DELSLOTS {}", slot.get())).await);
        self.say(node, &format!("CLUSTER ADDSLOTS {}", slot.get())).await?;
        self.say(node, "CLUSTER BUMPEPOCH").await?;
        self.wait_until_whole().await
    }
}

/// Who is what and has what, without what each node sees differently.
fn view(nodes: &str) -> Vec<String> {
    let line = |line: &str| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let role = if words.get(2).is_some_and(|flags| flags.contains("master")) {
            "primary"
        } else {
            "replica"
        };
        // What is on the move only the two nodes say.
        let slots = words.iter().skip(8).filter(|word| !word.starts_with('['));
        let slots: Vec<_> = slots.copied().collect();
        format!("{} {role} {}", words.first().unwrap_or(&""), slots.join(" "))
    };
    let mut view: Vec<_> = nodes.lines().map(line).collect();
    view.sort_unstable();
    view
}

/// Waits until something holds.
pub(super) async fn within(what: &str, holds: impl AsyncFn() -> bool) -> Result<(), String> {
    let wait = async {
        while !holds().await {
            sleep(POLL).await;
        }
    };
    timeout(AGREED, wait)
        .await
        .map_err(|_| format!("waited in vain: {what}"))
}

/// A port nobody listens on now, and nobody on that of the bus.
fn node_port() -> std::io::Result<u16> {
    loop {
        let port = free_port()?;
        let bus = port.checked_add(BUS);
        if bus.is_some_and(|bus| TcpListener::bind((Ipv4Addr::LOCALHOST, bus)).is_ok()) {
            return Ok(port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_what_it_is_and_which_slots_it_has() {
        let nodes = "aa 127.0.0.1:1@10001 master - 0 0 2 connected 5-9\n\
            bb 127.0.0.1:2@10002 myself,master - 0 0 1 connected 0-4 12 [5-<-aa]\n";
        let says = Says::read(nodes).unwrap();
        let has = |slot| says.has(Slot::new(slot).unwrap());
        assert!(says.is_primary && has(4) && has(12) && !has(5));
        assert_eq!(says.count(), 6);
        assert_eq!(view(nodes), ["aa primary 5-9", "bb primary 0-4 12"]);
        let replica = Says::read("cc 127.0.0.1:3@10003 myself,slave aa 0 0 2 connected\n").unwrap();
        assert_eq!((replica.is_primary, replica.primary.as_str()), (false, "aa"));
    }
}
