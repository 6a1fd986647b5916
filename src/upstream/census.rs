//! What the pools of all workers know of each node together: whether it could be reached lately, and how much is on its way
//! there.
//!
//! Each pool has a seat at its node, on which it writes down about ten times a second what it counts anyway. Nothing is shared
//! request by request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::throttle::Throttle;
use crate::config::Address;
use crate::time::{self, Instant};

/// Whether a node could be reached lately; the last is the worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Circuit {
    /// It could, or nobody has tried yet.
    #[default]
    Closed,
    /// It could not: the next request tries it, or one does.
    HalfOpen,
    /// It could not a moment ago: requests fail at once.
    Open,
}

impl Circuit {
    const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// The state in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }

    /// 0: closed, 1: half open, 2: open.
    pub fn number(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }

    fn of(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }
}

/// What one pool knew of its node when it looked last, less than a second ago. All relaxed: these are figures to look at.
#[derive(Debug, Default)]
pub(super) struct Seat {
    in_flight: AtomicU64,
    circuit: AtomicU8,
    since: AtomicU64,
    /// How fast connections to the node are opened.
    throttle: Arc<Throttle>,
}

impl Seat {
    /// What all pools of the node have in common that opens connections.
    pub(super) fn throttle(&self) -> &Arc<Throttle> {
        &self.throttle
    }

    /// Writes down how many requests wait for replies, and since when the node could not be reached, if that is so.
    pub(super) fn write(&self, in_flight: u64, circuit: Circuit, since: Instant) {
        self.in_flight.store(in_flight, Ordering::Relaxed);
        self.circuit.store(circuit.number(), Ordering::Relaxed);
        self.since.store(since.as_nanos(), Ordering::Relaxed);
    }
}

/// What is known of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeLoad {
    /// Requests that wait for replies.
    pub in_flight: u64,
    /// The worst that any worker knows.
    pub circuit: Circuit,
    /// Since when some worker could not reach it; `None`: all can.
    pub since: Option<Instant>,
}

impl NodeLoad {
    fn add(&mut self, seat: &Seat) {
        self.in_flight += seat.in_flight.load(Ordering::Relaxed);
        let circuit = Circuit::of(seat.circuit.load(Ordering::Relaxed));
        if circuit != Circuit::Closed {
            let since = Instant::from_nanos(seat.since.load(Ordering::Relaxed));
            self.since = Some(self.since.map_or(since, |before| before.min(since)));
        }
        self.circuit = self.circuit.max(circuit);
    }
}

/// All nodes that pools connect to.
#[derive(Debug, Default)]
pub struct Census {
    /// Guards the lists of seats: taken when a pool comes, goes or moves, and when somebody looks.
    nodes: Mutex<HashMap<Address, Node>>,
}

#[derive(Debug, Default)]
struct Node {
    seats: Vec<Weak<Seat>>,
    throttle: Arc<Throttle>,
}

impl Census {
    /// A seat at `address`; it is given up by dropping it.
    pub(super) fn seat(&self, address: &Address) -> Arc<Seat> {
        let (mut nodes, now) = (self.nodes.lock(), time::now());
        // Nodes come and go; only those are kept that somebody has a pool for, or to which much was connected lately.
        nodes.retain(|_, node| {
            node.seats.retain(|seat| seat.strong_count() > 0);
            !node.seats.is_empty() || node.throttle.is_in_use(now)
        });
        let node = nodes.entry(address.clone()).or_default();
        let seat = Arc::new(Seat {
            throttle: Arc::clone(&node.throttle),
            ..Seat::default()
        });
        node.seats.push(Arc::downgrade(&seat));
        seat
    }

    /// What is known of the node at `address`.
    pub fn load(&self, address: &Address) -> NodeLoad {
        let nodes = self.nodes.lock();
        nodes.get(address).and_then(Node::sum).unwrap_or_default()
    }

    /// What is known of all nodes.
    pub fn loads(&self) -> Vec<(Address, NodeLoad)> {
        let nodes = self.nodes.lock();
        let known = nodes
            .iter()
            .filter_map(|(address, node)| Some((address.clone(), node.sum()?)));
        known.collect()
    }
}

impl Node {
    /// `None`: nobody has a pool for it any more.
    fn sum(&self) -> Option<NodeLoad> {
        let mut load = None;
        for seat in self.seats.iter().filter_map(Weak::upgrade) {
            load.get_or_insert_with(NodeLoad::default).add(&seat);
        }
        load
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Address {
        let host = "node".to_owned();
        Address::Tcp { host, port }
    }

    #[test]
    fn what_workers_know_of_a_node_is_added_up_and_the_worst_of_it_counts() {
        let census = Census::default();
        let (one, other) = (census.seat(&at(1)), census.seat(&at(1)));
        let _elsewhere = census.seat(&at(2));
        assert_eq!(census.load(&at(1)), NodeLoad::default());
        let second = Instant::from_nanos(1_000_000_000);
        one.write(3, Circuit::Closed, Instant::ZERO);
        other.write(4, Circuit::HalfOpen, second);
        let expected = NodeLoad {
            in_flight: 7,
            circuit: Circuit::HalfOpen,
            since: Some(second),
        };
        assert_eq!(census.load(&at(1)), expected);
        assert_eq!(census.load(&at(2)), NodeLoad::default());
        assert_eq!(census.loads().len(), 2);
        drop((one, other));
        assert_eq!(census.loads().len(), 1, "nobody asks there any more");
    }
}
