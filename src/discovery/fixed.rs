//! Nodes that are listed: who of them is the primary, they are asked themselves.
//!
//! ```text
//! none ─ a node says it is the primary → that one
//! that one ─ says it follows another → none, and all are asked at once
//!          ─ cannot be reached → stays, until another node says it is the primary
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::node::{Heard, Report, Role, Watched, is_at};
use super::{Discovery, Publisher};
use crate::config::Address;
use crate::topology::Topology;

/// Reports that may wait: a few of each node.
const REPORTS: usize = 64;

/// Watches `nodes`; see [`Discovery::watch`].
pub(super) async fn watch(discovery: Arc<Discovery>, nodes: Vec<Address>, publisher: Publisher) {
    if let [only] = nodes.as_slice() {
        // What the operator chose, whatever it says.
        publisher.publish(Topology::single(only.clone()));
        if !discovery.find_replicas {
            return;
        }
    }
    let (sender, mut reports) = mpsc::channel(REPORTS);
    let without_primary = Arc::new(AtomicBool::new(publisher.published().primary.is_none()));
    let start = |address: &Address| {
        let eager = Arc::clone(&without_primary);
        Watched::start(Arc::clone(&discovery), address.clone(), eager, sender.clone())
    };
    let watched: Vec<_> = nodes.iter().map(start).collect();
    let mut listed = Listed::new(nodes, discovery.find_replicas);
    let mut doubted = std::pin::pin!(discovery.doubt.due());
    loop {
        let report = tokio::select! {
            // `sender` is held here, so this goes on for ever.
            report = reports.recv() => report,
            () = &mut doubted => {
                doubted.set(discovery.doubt.due());
                watched.iter().for_each(Watched::nudge);
                continue;
            }
        };
        let Some(report) = report else { return };
        listed.take(report);
        let before = publisher.published();
        let topology = listed.topology(&before);
        // Relaxed: the nudge is what has them look.
        without_primary.store(topology.primary.is_none(), Ordering::Relaxed);
        let lost_primary = before.primary.is_some() && topology.primary.is_none();
        publisher.publish(topology);
        if lost_primary {
            watched.iter().for_each(Watched::nudge);
        }
    }
}

/// The listed nodes and what is known of them.
struct Listed {
    nodes: Vec<Node>,
    find_replicas: bool,
    /// Several nodes say they are the primary, and that was logged.
    is_split: bool,
}

/// What is known of one node.
struct Node {
    address: Address,
    state: State,
    led_to: Option<SocketAddr>,
}

enum State {
    /// It was not asked yet.
    Unknown,
    /// It answered the last time.
    Says(Role),
    /// It could not be asked the last time.
    Lost,
}

impl Node {
    fn says_primary(&self) -> bool {
        matches!(self.state, State::Says(Role::Primary { .. }))
    }
}

impl Listed {
    fn new(nodes: Vec<Address>, find_replicas: bool) -> Self {
        let node = |address| Node {
            address,
            state: State::Unknown,
            led_to: None,
        };
        Self {
            nodes: nodes.into_iter().map(node).collect(),
            find_replicas,
            is_split: false,
        }
    }

    fn take(&mut self, report: Report) {
        let Some(node) = self.nodes.iter_mut().find(|node| node.address == report.address) else {
            return;
        };
        match report.heard {
            Heard::Says(role, led_to) => {
                if matches!(node.state, State::Lost) {
                    tracing::info!(node = %node.address, "the node says again what it is");
                }
                node.led_to = led_to;
                node.state = State::Says(role);
            }
            Heard::Lost(loss) => {
                if !matches!(node.state, State::Lost) {
                    tracing::warn!(node = %node.address, why = %loss, "the node cannot be asked for its ROLE");
                }
                node.state = State::Lost;
            }
        }
    }

    /// What is to be published, where `before` is.
    fn topology(&mut self, before: &Topology) -> Topology {
        let was_split = self.is_split;
        self.is_split = self.nodes.iter().filter(|node| node.says_primary()).count() > 1;
        if self.is_split && !was_split {
            let before = before.primary.as_ref().map(ToString::to_string);
            tracing::warn!(before, "several of the listed nodes say that they are the primary");
        }
        let Some(chosen) = self.choose(before.primary.as_ref()) else {
            return Topology::default();
        };
        match &chosen.state {
            State::Says(role) => Topology::new(Some(chosen.address.clone()), self.replicas(chosen, role)),
            // Nobody knows better than what was published before, and connections fail on their own.
            State::Lost | State::Unknown => Topology {
                primary: Some(chosen.address.clone()),
                ..before.clone()
            },
        }
    }

    /// Who is the primary when `before` was.
    fn choose(&self, before: Option<&Address>) -> Option<&Node> {
        if let [only] = self.nodes.as_slice() {
            return Some(only);
        }
        let before = before.and_then(|before| self.nodes.iter().find(|node| node.address == *before));
        if let Some(before) = before.filter(|before| before.says_primary()) {
            return Some(before);
        }
        match before.map(|before| &before.state) {
            // The first that is listed counts: who was not asked yet may be it.
            None => self
                .nodes
                .iter()
                .take_while(|node| !matches!(node.state, State::Unknown))
                .find(|node| node.says_primary()),
            Some(State::Says(_)) => self.nodes.iter().find(|node| node.says_primary()),
            Some(State::Lost | State::Unknown) => self.nodes.iter().find(|node| node.says_primary()).or(before),
        }
    }

    /// Who follows `primary`, which says `role`.
    fn replicas(&self, primary: &Node, role: &Role) -> Vec<Address> {
        let announced: &[Address] = match role {
            Role::Primary { replicas } => replicas,
            Role::Replica { .. } => return Vec::new(),
        };
        let is = |node: &Node, said: &Address| is_at(&node.address, node.led_to, said);
        let follows = |node: &Node| match &node.state {
            State::Says(Role::Replica { of, connected: true }) => {
                of.as_ref().is_some_and(|of| is(primary, of)) || announced.iter().any(|said| is(node, said))
            }
            _ => false,
        };
        let listed = self.nodes.iter().filter(|node| follows(node));
        let mut replicas: Vec<_> = listed.map(|node| node.address.clone()).collect();
        if self.find_replicas {
            let others = announced
                .iter()
                .filter(|said| !self.nodes.iter().any(|node| is(node, said)));
            replicas.extend(others.cloned());
        }
        replicas
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Loss;

    fn at(port: u16) -> Address {
        Address::Tcp {
            host: "db".to_owned(),
            port,
        }
    }

    /// Nodes 1 to `count`, and what is published of them.
    struct Nodes {
        listed: Listed,
        published: Topology,
    }

    impl Nodes {
        fn new(count: u16, find_replicas: bool) -> Self {
            Self {
                listed: Listed::new((1..=count).map(at).collect(), find_replicas),
                published: Topology::default(),
            }
        }

        fn hear(&mut self, port: u16, heard: Heard) {
            let address = at(port);
            self.listed.take(Report { address, heard });
            self.published = self.listed.topology(&self.published);
        }

        fn is_primary(&mut self, port: u16, announced: &[Address]) {
            let replicas = announced.to_vec();
            // Node 1 lives at 10.0.0.1:1.
            let led_to = SocketAddr::from(([10, 0, 0, 1], port));
            self.hear(port, Heard::Says(Role::Primary { replicas }, Some(led_to)));
        }

        fn follows(&mut self, port: u16, of: Address) {
            let role = Role::Replica {
                of: Some(of),
                connected: true,
            };
            let led_to = SocketAddr::from(([10, 0, 0, 1], port));
            self.hear(port, Heard::Says(role, Some(led_to)));
        }

        fn is_lost(&mut self, port: u16) {
            self.hear(port, Heard::Lost(Loss::Closed));
        }
    }

    fn ip(port: u16) -> Address {
        Address::Tcp {
            host: "10.0.0.1".to_owned(),
            port,
        }
    }

    #[test]
    fn the_node_that_says_so_is_the_primary() {
        let mut nodes = Nodes::new(3, false);
        nodes.follows(2, at(3));
        nodes.is_lost(1);
        assert_eq!(nodes.published, Topology::default());
        nodes.is_primary(3, &[]);
        assert_eq!(nodes.published, Topology::new(Some(at(3)), [at(2)]));
        nodes.follows(3, at(1));
        assert_eq!(nodes.published, Topology::default());
        nodes.is_primary(1, &[]);
        assert_eq!(nodes.published, Topology::new(Some(at(1)), [at(3)]));
    }

    #[test]
    fn of_several_primaries_the_published_one_stays_and_else_the_first_counts() {
        let mut nodes = Nodes::new(2, false);
        nodes.is_primary(2, &[]);
        assert_eq!(nodes.published.primary, None, "node 1 may be it");
        nodes.is_primary(1, &[]);
        assert_eq!(nodes.published.primary, Some(at(1)));
        let mut nodes = Nodes::new(2, false);
        nodes.is_lost(1);
        nodes.is_primary(2, &[]);
        nodes.is_primary(1, &[]);
        assert_eq!(nodes.published.primary, Some(at(2)));
        assert!(nodes.listed.is_split);
        nodes.follows(2, at(1));
        assert_eq!(nodes.published, Topology::new(Some(at(1)), [at(2)]));
    }

    #[test]
    fn a_primary_that_cannot_be_reached_stays_until_another_node_is_one() {
        let mut nodes = Nodes::new(2, false);
        nodes.is_primary(1, &[]);
        nodes.follows(2, at(1));
        let before = nodes.published.clone();
        nodes.is_lost(1);
        nodes.is_lost(2);
        assert_eq!(nodes.published, before);
        nodes.is_primary(2, &[]);
        assert_eq!(nodes.published, Topology::single(at(2)));
    }

    #[test]
    fn replicas_are_known_by_name_and_by_address_and_others_only_if_they_are_wanted() {
        for find_replicas in [false, true] {
            let mut nodes = Nodes::new(3, find_replicas);
            nodes.is_primary(1, &[ip(2), ip(9)]);
            nodes.follows(2, Address::Unix("elsewhere".into()));
            nodes.follows(3, ip(1));
            let mut replicas = vec![at(2), at(3)];
            replicas.extend(find_replicas.then(|| ip(9)));
            assert_eq!(nodes.published, Topology::new(Some(at(1)), replicas));
        }
    }

    #[test]
    fn a_replica_that_does_not_hear_from_the_primary_is_none() {
        let mut nodes = Nodes::new(2, false);
        nodes.is_primary(1, &[]);
        nodes.follows(2, at(1));
        let role = Role::Replica {
            of: Some(at(1)),
            connected: false,
        };
        nodes.hear(2, Heard::Says(role, None));
        assert_eq!(nodes.published, Topology::single(at(1)));
    }

    #[test]
    fn the_only_node_is_what_the_operator_chose() {
        let mut nodes = Nodes::new(1, true);
        nodes.follows(1, at(7));
        assert_eq!(nodes.published, Topology::single(at(1)));
        nodes.is_primary(1, &[at(9)]);
        assert_eq!(nodes.published, Topology::new(Some(at(1)), [at(9)]));
    }
}
