//! A Redis Cluster: its nodes say which of them has which slots.
//!
//! ```text
//! each second, and when a node has sent somebody to another one:
//! the node asked for what names no key, and others in turn ─ CLUSTER NODES, CLUSTER SLOTS → Answers → Topology
//! ```
//! Nobody is ever connected to but the seeds and what a node of the cluster has announced.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::cluster_merge::{Answers, Merged};
use super::cluster_view::{Addressing, View};
use super::{Discovery, Hurry, Publisher};
use crate::config::Address;
use crate::time::{self, Instant};
use crate::topology::Topology;
use crate::upstream::{Control, Loss};

/// How often the nodes are asked when nobody wishes it.
const PERIOD: Duration = Duration::from_secs(1);
/// How many are asked in one look: enough that one which is away or behind does not matter.
const AT_ONCE: usize = 3;
/// So long after a doubt nobody is asked for another one: ten looks a second at most.
const LULL: Duration = Duration::from_millis(50);
/// A node that is not asked about what names no key has not answered so many times.
const MISSED: u32 = 2;
/// An answer counts for so many periods at least, and for so many turns in which every node is asked once.
const PERIODS: u32 = 5;
const TURNS: u32 = 3;

/// Watches the cluster that `seeds` belong to; see [`Discovery::watch`].
pub(super) async fn watch(discovery: Arc<Discovery>, seeds: Vec<Address>, publisher: Publisher) {
    let doubt = Arc::clone(&discovery.doubt);
    let mut watcher = Watcher {
        discovery,
        nodes: seeds.clone(),
        seeds,
        answers: Answers::default(),
        idle: HashMap::new(),
        asked: HashSet::new(),
        asking: JoinSet::new(),
        missed: HashMap::new(),
        next: 0,
        is_lost: false,
    };
    let mut doubted = std::pin::pin!(doubted(&doubt));
    let mut looks = tokio::time::interval(PERIOD);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // Biased: what was answered comes before what is asked next.
        tokio::select! {
            biased;
            Some(answer) = watcher.asking.join_next() => {
                // A task that panicked has said nothing; its node is asked again after a restart only.
                let Ok(answer) = answer else { continue };
                if watcher.take(answer) {
                    let before = publisher.published();
                    publisher.publish(watcher.topology(&before));
                }
            }
            () = &mut doubted => {
                doubted.set(self::doubted(&doubt));
                watcher.look(publisher.published().primary.as_ref());
            }
            _ = looks.tick() => watcher.look(publisher.published().primary.as_ref()),
        }
    }
}

/// Waits for somebody to doubt what is published, and for a moment after that.
async fn doubted(doubt: &Hurry) {
    doubt.due().await;
    tokio::time::sleep(LULL).await;
}

struct Watcher {
    discovery: Arc<Discovery>,
    seeds: Vec<Address>,
    /// Who can be asked: primaries first, seeds last.
    nodes: Vec<Address>,
    answers: Answers,
    /// Connections that nobody uses now.
    idle: HashMap<Address, Control>,
    /// Who has not answered yet.
    asked: HashSet<Address>,
    asking: JoinSet<Answer>,
    /// How often in a row a node did not answer.
    missed: HashMap<Address, u32>,
    /// Whose turn it is.
    next: usize,
    /// Nobody could be asked the last time; that is said once.
    is_lost: bool,
}

struct Answer {
    node: Address,
    said: Result<(View, Control), Loss>,
}

impl Watcher {
    /// Asks the node of what names no key, and others in turn.
    fn look(&mut self, primary: Option<&Address>) {
        let count = self.nodes.len();
        let turn: Vec<_> = self.nodes.iter().cycle().skip(self.next).take(count).cloned().collect();
        let first = primary.filter(|primary| self.nodes.contains(primary)).cloned();
        // The node in front takes nobody's turn.
        let extra = usize::from(first.is_some());
        let mut begun = 0;
        for (place, node) in first.into_iter().chain(turn).enumerate() {
            if begun == AT_ONCE {
                self.next = (self.next + place.saturating_sub(extra)) % count.max(1);
                return;
            }
            begun += usize::from(self.ask(node));
        }
    }

    /// Asks a node; false: it has not answered the last time yet.
    fn ask(&mut self, node: Address) -> bool {
        if !self.asked.insert(node.clone()) {
            return false;
        }
        let (discovery, control) = (Arc::clone(&self.discovery), self.idle.remove(&node));
        self.asking.spawn(async move {
            let limit = discovery.timeout;
            let asking = ask(&discovery, &node, control);
            let said = tokio::time::timeout(limit, asking).await;
            let said = said.unwrap_or(Err(Loss::Timeout(limit)));
            Answer { node, said }
        });
        true
    }

    /// Takes an answer in; true: there may be news.
    fn take(&mut self, answer: Answer) -> bool {
        let now = time::now();
        self.asked.remove(&answer.node);
        let mut news = match answer.said {
            Ok((view, control)) => {
                self.missed.remove(&answer.node);
                if std::mem::take(&mut self.is_lost) {
                    tracing::info!(node = %answer.node, "nodes of the cluster can be asked again");
                }
                let news = self.believe(&answer.node, view, now);
                self.idle.insert(answer.node, control);
                news
            }
            Err(loss) => {
                tracing::debug!(node = %answer.node, why = %loss, "the node cannot be asked about its cluster");
                *self.missed.entry(answer.node.clone()).or_default() += 1;
                self.complain(&answer.node, &loss);
                // Somebody else may have to be asked what names no key.
                true
            }
        };
        news |= self.answers.forget(self.patience(), now);
        news && !self.answers.is_empty()
    }

    /// Takes in what a node says, unless it belongs to another cluster. True: it is news.
    fn believe(&mut self, node: &Address, view: View, now: Instant) -> bool {
        if !self.answers.is_of_this_cluster(&view) {
            if !self.answers.are_older(self.patience(), now) {
                tracing::debug!(%node, "a node of another cluster is at the address of one of this");
                return false;
            }
            tracing::warn!(%node, "none of the nodes that were known has answered for long; this is another cluster now");
            self.answers.clear();
        }
        self.answers.note(view, now)
    }

    /// Says once that nobody can be asked.
    fn complain(&mut self, node: &Address, loss: &Loss) {
        let all_missed = self.nodes.iter().all(|node| self.missed.contains_key(node));
        if all_missed && !std::mem::replace(&mut self.is_lost, true) {
            tracing::warn!(%node, why = %loss, "no node of the cluster can be asked; the topology stays as it is");
        }
    }

    /// How long an answer counts.
    fn patience(&self) -> Duration {
        let turn = u32::try_from(self.nodes.len().div_ceil(AT_ONCE - 1)).unwrap_or(u32::MAX);
        PERIOD.saturating_mul(turn.saturating_mul(TURNS).max(PERIODS))
    }

    fn topology(&mut self, before: &Topology) -> Topology {
        let Merged { shards, failing, nodes } = self.answers.merged();
        self.nodes = nodes;
        let unlisted = self.seeds.iter().filter(|seed| !self.nodes.contains(seed));
        let unlisted: Vec<_> = unlisted.cloned().collect();
        self.nodes.extend(unlisted);
        self.idle.retain(|node, _| self.nodes.contains(node));
        self.missed.retain(|node, _| self.nodes.contains(node));
        let answers = |node: &&Address| {
            let missed = self.missed.get(node).copied().unwrap_or_default();
            !failing.contains(node) && missed < MISSED
        };
        let primaries = || shards.all().iter().map(|shard| &shard.primary);
        let kept = before
            .primary
            .as_ref()
            .filter(|known| primaries().any(|primary| primary == *known));
        let primary = kept.filter(answers).or_else(|| primaries().find(answers)).or(kept);
        Topology {
            primary: primary.cloned(),
            replicas: Vec::new(),
            shards: Some(Arc::new(shards)),
        }
    }
}

async fn ask(discovery: &Discovery, node: &Address, control: Option<Control>) -> Result<(View, Control), Loss> {
    let questions: [&[&[u8]]; 2] = [&[b"CLUSTER", b"NODES"], &[b"CLUSTER", b"SLOTS"]];
    let connect = || async { Control::connect(&discovery.handshake(node, &discovery.identity)).await };
    let (mut control, kept) = match control {
        Some(control) => (control, true),
        None => (connect().await?, false),
    };
    let replies = match control.exchange_all(&questions).await {
        // The server may have closed what nobody used.
        Err(_) if kept => {
            control = connect().await?;
            control.exchange_all(&questions).await?
        }
        replies => replies?,
    };
    let [nodes, slots] = replies.as_slice() else {
        return Err(Loss::Protocol("CLUSTER NODES and SLOTS have two replies".into()));
    };
    let addressing = Addressing {
        asked: node,
        aliases: &discovery.addresses,
    };
    let view = View::read(nodes, slots, addressing).map_err(Loss::Refused)?;
    Ok((view, control))
}
