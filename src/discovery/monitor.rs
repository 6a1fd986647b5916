//! Watching the nodes that reads are routed to: what each replica has, whether its link is up, how fast it answers.
//!
//! ```text
//! master   ─ INFO replication, every few milliseconds → History: (asked at, offset)
//! replica  ─ INFO replication, as often              → offset → History → caught up with that time → Node
//! ```
//! Somebody who may not read of a replica because of what it may lack wishes for a look at once ([`Hurry`]).
//!
//! Nothing is read from a replica that has not said so within `routing.replica_max_lag`: one that hangs, or whose master does, is out
//! of use by itself.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::history::{History, Offset};
use crate::config::Address;
use crate::resp::Value;
use crate::time;
use crate::topology::{Groups, Look, Node, NodeId, Objection, Roster, Routes, Routing, Shard, Topology};
use crate::upstream::{Control, Handshake, Loss, info_field, jittered_pause};

/// Looks within `routing.replica_max_lag`. Chosen, not measured: one may be late.
const LOOKS: u32 = 10;
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(100);
/// A node that takes longer to say how far it is does not answer. Chosen, not measured.
const SILENT: Duration = Duration::from_secs(1);

/// Looks in a row at least, when somebody waits for a replica to have something. Chosen, not measured: a look costs the server
/// some ten microseconds, and there may be many nearhits.
const HURRY: Duration = Duration::from_millis(10);

/// Watches nodes for as long as the proxy runs, and publishes what reads are routed by.
pub struct Monitor {
    /// What is published to.
    pub routing: Arc<Routing>,
    /// What its connections say; their addresses are the nodes'.
    pub handshake: Handshake,
    /// The zones of nodes that the configuration tells.
    pub zones: HashMap<Address, String>,
    /// Somebody waits for a replica to have what the master has.
    pub hurry: Arc<Hurry>,
    /// In a cluster: the nodes by number.
    pub roster: Option<Arc<Roster>>,
}

/// A wish for another look, soon.
#[derive(Debug, Default)]
pub struct Hurry {
    wished: AtomicBool,
    wake: Notify,
}

impl Hurry {
    /// Wishes for one. It costs next to nothing while an earlier wish waits.
    pub fn wish(&self) {
        // Relaxed: it only saves wake-ups.
        if !self.wished.swap(true, Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }

    /// Waits for a wish and grants it a moment later: whoever repeats a wish costs no more than a broken connection that is
    /// made again. It must be kept until it is done.
    pub(super) async fn due(&self) {
        self.wished().await;
        tokio::time::sleep(jittered_pause()).await;
        self.granted();
    }

    async fn wished(&self) {
        self.wake.notified().await;
    }

    fn granted(&self) {
        self.wished.store(false, Ordering::Relaxed);
    }
}

impl Monitor {
    /// Watches the nodes of each topology until there are others.
    pub async fn watch(self, mut found: watch::Receiver<Arc<Topology>>) {
        let monitor = Arc::new(self);
        loop {
            let wanted = monitor.wanted(&found.borrow_and_update());
            // The tasks end when the set is dropped.
            let _watching = monitor.watch_all(&wanted);
            // Which of them has what is not of interest here.
            let differs = |topology: &Arc<Topology>| monitor.wanted(topology) != wanted;
            if found.wait_for(differs).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The nodes that belong together.
    fn wanted(&self, topology: &Topology) -> Vec<Wanted> {
        let Some(roster) = &self.roster else {
            return vec![Wanted {
                owner: None,
                primary: topology.primary.clone(),
                replicas: topology.replicas.clone(),
            }];
        };
        let shards = topology.shards.iter().flat_map(|shards| shards.all());
        let wanted = |shard: &Shard| Wanted {
            // It may be the first to hear of it.
            owner: roster.enter_node(&shard.primary),
            primary: Some(shard.primary.clone()),
            replicas: shard.replicas.clone(),
        };
        shards.map(wanted).filter(|wanted| wanted.owner.is_some()).collect()
    }

    fn watch_all(self: &Arc<Self>, wanted: &[Wanted]) -> JoinSet<Infallible> {
        let (before, mut watching) = (self.routing.groups(), JoinSet::new());
        let mut groups = Groups::default();
        for group in wanted {
            let routes = self.routes(group, before.get(&group.owner));
            self.watch_group(&routes, &mut watching);
            tracing::info!(master = ?routes.primary.as_ref().map(|node| node.address().to_string()), replicas = routes.replicas.len(), "reads are routed");
            groups.insert(group.owner, routes);
        }
        self.routing.publish(groups);
        watching
    }

    /// The nodes of a group, with what is known of them.
    fn routes(&self, group: &Wanted, before: Option<&Routes>) -> Routes {
        let known_primary = before.and_then(|before| before.primary.as_ref());
        let same_master = known_primary.map(|node| node.address()) == group.primary.as_ref();
        let node = |address: &Address| {
            let known = before.into_iter().flat_map(|before| &before.replicas);
            // Behind another master offsets mean something else.
            let known = known.filter(|_| same_master).find(|node| node.address() == address);
            known.cloned().unwrap_or_else(|| self.node(address))
        };
        Routes {
            primary: match known_primary {
                Some(primary) if same_master => Some(Arc::clone(primary)),
                _ => group.primary.as_ref().map(|address| self.node(address)),
            },
            replicas: group.replicas.iter().map(node).collect(),
        }
    }

    fn watch_group(self: &Arc<Self>, routes: &Routes, watching: &mut JoinSet<Infallible>) {
        let history = Arc::new(History::default());
        // What a replica has is told by the last look at the master, so it is asked behind each.
        let looked = watch::Sender::new(());
        for node in &routes.replicas {
            let (monitor, node, history) = (Arc::clone(self), Arc::clone(node), Arc::clone(&history));
            let turn = Turn::BehindMaster(looked.subscribe());
            watching.spawn(async move {
                let see = |info: &Info| monitor.replica(&node, &history, info);
                monitor.keep_looking(&node, turn, see).await
            });
        }
        if let Some(node) = &routes.primary {
            let (monitor, node) = (Arc::clone(self), Arc::clone(node));
            watching.spawn(async move {
                let see = |info: &Info| {
                    monitor.master(&node, &history, info);
                    looked.send_replace(());
                };
                monitor.keep_looking(&node, Turn::Master, see).await
            });
        }
    }

    fn node(&self, address: &Address) -> Arc<Node> {
        let zone = self.zones.get(address).cloned().unwrap_or_default();
        Arc::new(Node::new(address.clone(), zone))
    }

    fn pause(&self) -> Duration {
        (self.routing.rules().max_lag / LOOKS).clamp(SHORTEST, LONGEST)
    }

    /// Asks a node for ever how it does; `see` judges what it says.
    async fn keep_looking(&self, node: &Node, mut turn: Turn, see: impl Fn(&Info)) -> Infallible {
        let mut said = false;
        loop {
            let Err(loss) = self.look_until_lost(node, &mut turn, &see, &mut said).await;
            // Whoever is there when it answers again may have been started anew.
            node.renew(Objection::Unreachable);
            if !std::mem::replace(&mut said, true) {
                tracing::warn!(node = %node.address(), why = %loss, "the node does not answer; nothing is read from it");
            }
            tokio::time::sleep(jittered_pause()).await;
        }
    }

    async fn look_until_lost(
        &self,
        node: &Node,
        turn: &mut Turn,
        see: &impl Fn(&Info),
        said: &mut bool,
    ) -> Result<Infallible, Loss> {
        let handshake = Handshake {
            address: node.address().clone(),
            ..self.handshake.clone()
        };
        let mut control = Control::connect(&handshake).await?;
        let server = ask(&mut control, b"SERVER").await?;
        node.in_zone(server.field("availability_zone").unwrap_or_default());
        loop {
            let info = ask(&mut control, b"REPLICATION").await?;
            see(&info);
            if std::mem::take(said) {
                tracing::info!(node = %node.address(), "the node answers again");
            }
            self.rest(turn).await;
        }
    }

    /// Waits for the time to look again.
    async fn rest(&self, turn: &mut Turn) {
        match turn {
            Turn::Master => {
                self.hurry.granted();
                tokio::time::sleep(HURRY.min(self.pause())).await;
                let rest = self.pause().saturating_sub(HURRY);
                drop(tokio::time::timeout(rest, self.hurry.wished()).await);
            }
            Turn::BehindMaster(looked) => {
                // Without a master, too, it is to be known whether the replica answers.
                if let Ok(Err(_)) = tokio::time::timeout(LONGEST, looked.changed()).await {
                    tokio::time::sleep(LONGEST).await;
                }
            }
        }
    }

    fn master(&self, node: &Node, history: &History, info: &Info) {
        let offset = info.offset("master_repl_offset");
        match offset.filter(|_| info.field("role") == Some("master")) {
            Some(offset) => {
                history.note(info.asked_at, offset);
                let look = Look {
                    asked_at: info.asked_at,
                    caught_up: info.asked_at,
                    lag_bytes: 0,
                    took: info.took,
                };
                node.looked(&look, u64::MAX);
            }
            None => node.object(Objection::Stranger),
        }
    }

    fn replica(&self, node: &Node, history: &History, info: &Info) {
        let rules = self.routing.rules();
        let linked =
            info.field("master_link_status") == Some("up") && info.field("master_sync_in_progress") == Some("0");
        if info.field("role") != Some("slave") {
            return node.object(Objection::Stranger);
        }
        if !linked {
            return node.object(Objection::Link);
        }
        let Some(has) = info.offset("slave_repl_offset").and_then(|offset| history.has(&offset)) else {
            return node.object(Objection::Stranger);
        };
        let look = Look {
            asked_at: info.asked_at,
            caught_up: has.caught_up,
            lag_bytes: has.lacks,
            took: info.took,
        };
        node.looked(&look, rules.max_lag_bytes);
    }
}

/// Nodes that are to be watched: a primary and those that follow it.
#[derive(PartialEq, Eq)]
struct Wanted {
    /// In a cluster, the primary's number.
    owner: Option<NodeId>,
    primary: Option<Address>,
    replicas: Vec<Address>,
}

/// When a node is asked.
enum Turn {
    /// Every now and then, and when somebody wishes it.
    Master,
    /// After the master was.
    BehindMaster(watch::Receiver<()>),
}

/// What a node has said.
struct Info {
    text: String,
    asked_at: time::Instant,
    took: Duration,
}

impl Info {
    fn field(&self, name: &str) -> Option<&str> {
        info_field(&self.text, name)
    }

    fn offset(&self, name: &str) -> Option<Offset> {
        Some(Offset {
            history: self.field("master_replid")?.to_owned(),
            bytes: self.field(name)?.parse().ok()?,
        })
    }
}

async fn ask(control: &mut Control, section: &[u8]) -> Result<Info, Loss> {
    let asked_at = time::now();
    let reply = tokio::time::timeout(SILENT, control.demand(&[b"INFO", section])).await;
    match reply.map_err(|_| Loss::Timeout(SILENT))?? {
        Value::Bulk(text) | Value::Verbatim { text, .. } => Ok(Info {
            text: String::from_utf8_lossy(&text).into_owned(),
            took: time::now().since(asked_at),
            asked_at,
        }),
        _ => Err(Loss::Protocol("INFO did not answer with text".into())),
    }
}
