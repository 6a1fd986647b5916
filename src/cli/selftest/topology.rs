//! What servers a run is before, and what that changes about it.

use super::faults::{Fault, Reach};
use nearhit::config::Config;
use std::time::Duration;

/// The servers of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Topology {
    /// One.
    #[default]
    Single,
    /// A primary, whose address nearhit is told, and replicas that it reads from.
    Replicas,
    /// The same, found by sentinels, who replace the primary now and then.
    Sentinel,
    /// A cluster of three primaries with a replica each.
    Cluster,
}

/// All of them and their names.
const ALL: [(Topology, &str); 4] = [
    (Topology::Single, "single"),
    (Topology::Replicas, "replicas"),
    (Topology::Sentinel, "sentinel"),
    (Topology::Cluster, "cluster"),
];

impl Topology {
    pub(super) fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    pub(super) fn name(self) -> &'static str {
        ALL.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    /// All names, with commas between them.
    pub(super) fn names() -> String {
        ALL.map(|row| row.1).join(", ")
    }

    /// Whether instances read from replicas.
    pub(super) fn reads_replicas(self) -> bool {
        self != Self::Single
    }

    /// How many databases are in use.
    pub(super) fn databases(self) -> usize {
        if self == Self::Cluster { 1 } else { 2 }
    }

    /// How late whoever asks the servers themselves may be told of a write. An old primary of a cluster goes on answering
    /// reads until it hears that it is none any more.
    pub(super) fn direct_bound(self) -> Duration {
        match self {
            Self::Cluster => Duration::from_millis(500),
            _ => Duration::ZERO,
        }
    }

    /// Why a fault cannot be made here.
    pub(super) fn forbids(self, fault: Fault) -> Option<&'static str> {
        match fault.reach() {
            // Sentinels and clusters tell where the nodes themselves are.
            Reach::Path if matches!(self, Self::Sentinel | Self::Cluster) => {
                Some("there are no relays before nodes that others name")
            }
            Reach::Cluster if self != Self::Cluster => Some("there is no cluster (--topology cluster)"),
            Reach::Process if self == Self::Cluster => Some("a cluster replaces a primary that is away"),
            // It has one database, and FLUSHALL reaches all nodes.
            Reach::Replica if self == Self::Cluster && fault != Fault::ReplicaLink && fault != Fault::ReplicaResync => {
                Some("a cluster's replicas have faults of their own (follower-kill)")
            }
            _ if self == Self::Cluster && matches!(fault, Fault::SwapDb | Fault::FlushDb) => {
                Some("a cluster has one database only")
            }
            Reach::Replica if !self.reads_replicas() => Some("there are no replicas (--topology replicas)"),
            Reach::Sentinel if self != Self::Sentinel => Some("there are no sentinels (--topology sentinel)"),
            // Replicas judge by their own clocks what has expired: who reads from both sees time go back.
            Reach::Process if fault == Fault::ClockJump && self.reads_replicas() => {
                Some("the clocks of a primary and its replicas agree")
            }
            _ => None,
        }
    }

    /// How much later than its memory an instance may show a write.
    pub(super) fn lag(self) -> Duration {
        match self.reads_replicas() {
            true => Config::default().routing.replica_max_lag,
            false => Duration::ZERO,
        }
    }

    /// Settings of an instance.
    pub(super) fn instance_args(self, number: usize) -> &'static [&'static str] {
        match self {
            Self::Single => &[],
            // One instance asks primaries only.
            Self::Sentinel | Self::Cluster if number.is_multiple_of(2) => &[],
            Self::Replicas | Self::Sentinel | Self::Cluster => &["--routing.reads", "prefer-replica"],
        }
    }
}
