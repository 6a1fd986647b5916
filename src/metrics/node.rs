//! What is known of the invalidation streams of one node.

use parking_lot::Mutex;

use super::family::{Row, RowType};
use super::text::Text;

/// The rows of a node; each has the label `upstream`.
pub const NODE_ROWS: &[Row] = &[STALENESS, CONNECTED, SINCE, INCARNATIONS, RECONNECTS];

/// The rows of replicas; each has the label `upstream`.
pub const REPLICA_ROWS: &[Row] = &[READABLE, LAG, LAG_BYTES];

const READABLE: Row = Row {
    name: "nearhit_upstream_replica_up",
    kind: RowType::Gauge,
    help: "1 while the replica may be read from: it answers, its link to the master is up, and it is not too far behind.",
};
const LAG: Row = Row {
    name: "nearhit_upstream_replica_lag_seconds",
    kind: RowType::Gauge,
    help: "How long ago the master can have acknowledged what the replica lacks, at most.",
};
const LAG_BYTES: Row = Row {
    name: "nearhit_upstream_replica_lag_bytes",
    kind: RowType::Gauge,
    help: "Bytes of the master's replication stream that the replica lacked when it was asked last.",
};

/// The rows of every node that is connected to; each has the label `upstream`.
pub const LOAD_ROWS: &[Row] = &[CIRCUIT, IN_FLIGHT];

const CIRCUIT: Row = Row {
    name: "nearhit_upstream_circuit",
    kind: RowType::Gauge,
    help: "0 while the node can be reached; 1: it could not, and the next request tries it, or one does; 2: it could not a moment \
           ago, and requests fail at once. The worst that any worker knows.",
};
const IN_FLIGHT: Row = Row {
    name: "nearhit_upstream_in_flight_requests",
    kind: RowType::Gauge,
    help: "Requests of clients that wait for the node's replies now.",
};

/// What is known of a node that is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadFigures {
    /// Where it is.
    pub upstream: String,
    /// 0: closed, 1: half open, 2: open.
    pub circuit: u8,
    /// Requests that wait for replies.
    pub in_flight: u64,
}

/// What is known of a replica now.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaFigures {
    /// Where it is.
    pub upstream: String,
    /// It may be read from.
    pub readable: bool,
    /// Seconds it may be behind; `None`: not known.
    pub lag: Option<f64>,
    /// Bytes it lacks.
    pub lag_bytes: u64,
}

const STALENESS: Row = Row {
    name: "nearhit_staleness_bound_seconds",
    kind: RowType::Gauge,
    help: "How long ago an answer from memory that is given now can have been outdated, at most: the time since the newest \
           request was sent that the server has answered on the invalidation stream, for every change before that has been \
           invalidated. The largest of all users' streams over which answers are given; 0 while none are.",
};
const CONNECTED: Row = Row {
    name: "nearhit_tracking_connected",
    kind: RowType::Gauge,
    help: "1 while the invalidation stream is connected.",
};
const SINCE: Row = Row {
    name: "nearhit_tracking_since_timestamp_seconds",
    kind: RowType::Gauge,
    help: "Since when all invalidation streams that are connected now have been, in seconds since 1970; 0 while none is.",
};
const INCARNATIONS: Row = Row {
    name: "nearhit_tracking_incarnations_total",
    kind: RowType::Counter,
    help: "Times an invalidation stream was set up. What was cached over an earlier one of the same user is dead.",
};
const RECONNECTS: Row = Row {
    name: "nearhit_tracking_reconnects_total",
    kind: RowType::Counter,
    help: "Times an invalidation stream was set up again.",
};

/// What is known of a node now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NodeFigures {
    /// Seconds that an answer from memory can be late, at most; 0 while none are given.
    pub staleness_bound: f64,
    /// The invalidation stream is connected.
    pub connected: bool,
    /// Since when all streams have been, in seconds since 1970; 0 while none is.
    pub since: f64,
    /// Times a stream was set up.
    pub incarnations: u64,
    /// Of these: not for the first time.
    pub reconnects: u64,
}

/// The rows of one node.
#[derive(Debug)]
pub struct NodeMetrics {
    upstream: Box<str>,
    /// Guards plain numbers; taken when they are sampled and when they are rendered.
    figures: Mutex<NodeFigures>,
    /// The same for replicas.
    replicas: Mutex<Vec<ReplicaFigures>>,
    /// The same for all nodes.
    loads: Mutex<Vec<LoadFigures>>,
}

impl NodeMetrics {
    /// Rows of the node at `upstream`.
    pub(super) fn new(upstream: &str) -> Self {
        Self {
            upstream: upstream.into(),
            figures: Mutex::default(),
            replicas: Mutex::default(),
            loads: Mutex::default(),
        }
    }

    /// Sets what is known now.
    pub fn set(&self, figures: NodeFigures) {
        *self.figures.lock() = figures;
    }

    /// What was known last.
    pub fn get(&self) -> NodeFigures {
        *self.figures.lock()
    }

    /// Sets what is known of the replicas now.
    pub fn set_replicas(&self, replicas: Vec<ReplicaFigures>) {
        *self.replicas.lock() = replicas;
    }

    /// Sets what is known of all nodes now.
    pub fn set_loads(&self, loads: Vec<LoadFigures>) {
        *self.loads.lock() = loads;
    }

    fn write_loads(&self, text: &mut Text) {
        let loads = self.loads.lock();
        if loads.is_empty() {
            return;
        }
        let mut rows = |row: &Row, value: fn(&LoadFigures) -> u64| {
            text.family(row);
            for load in &*loads {
                text.sample(row.name, "", &[("upstream", &load.upstream)], value(load));
            }
        };
        rows(&CIRCUIT, |load| u64::from(load.circuit));
        rows(&IN_FLIGHT, |load| load.in_flight);
    }

    fn write_replicas(&self, text: &mut Text) {
        let replicas = self.replicas.lock();
        if replicas.is_empty() {
            return;
        }
        let mut rows = |row: &Row, value: fn(&ReplicaFigures) -> Option<f64>| {
            text.family(row);
            for replica in &*replicas {
                if let Some(value) = value(replica) {
                    text.sample(row.name, "", &[("upstream", &replica.upstream)], value);
                }
            }
        };
        rows(&READABLE, |replica| Some(f64::from(u8::from(replica.readable))));
        rows(&LAG, |replica| replica.lag);
        rows(&LAG_BYTES, |replica| Some(replica.lag_bytes as f64));
    }

    pub(super) fn write(&self, text: &mut Text) {
        let figures = self.get();
        let mut row = |row: &Row, value: f64| {
            text.family(row);
            text.sample(row.name, "", &[("upstream", &self.upstream)], value);
        };
        row(&STALENESS, figures.staleness_bound);
        row(&CONNECTED, f64::from(u8::from(figures.connected)));
        row(&SINCE, figures.since);
        row(&INCARNATIONS, figures.incarnations as f64);
        row(&RECONNECTS, figures.reconnects as f64);
        self.write_replicas(text);
        self.write_loads(text);
    }
}
