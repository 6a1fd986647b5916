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
}

/// All of them and their names.
const ALL: [(Topology, &str); 3] = [
    (Topology::Single, "single"),
    (Topology::Replicas, "replicas"),
    (Topology::Sentinel, "sentinel"),
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

    pub(super) fn replicates(self) -> bool {
        self != Self::Single
    }

    /// Why a fault cannot be made here.
    pub(super) fn forbids(self, fault: Fault) -> Option<&'static str> {
        match fault.reach() {
            // Sentinels tell where the nodes themselves are.
            Reach::Path if self == Self::Sentinel => Some("there are no relays before nodes that sentinels name"),
            Reach::Replica if !self.replicates() => Some("there are no replicas (--topology replicas)"),
            Reach::Sentinel if self != Self::Sentinel => Some("there are no sentinels (--topology sentinel)"),
            // Replicas judge by their own clocks what has expired: who reads from both sees time go back.
            Reach::Process if fault == Fault::ClockJump && self.replicates() => {
                Some("the clocks of a primary and its replicas agree")
            }
            _ => None,
        }
    }

    /// How much later than its memory an instance may show a write.
    pub(super) fn lag(self) -> Duration {
        match self.replicates() {
            true => Config::default().routing.replica_max_lag,
            false => Duration::ZERO,
        }
    }

    /// Settings of an instance.
    pub(super) fn instance_args(self, number: usize) -> &'static [&'static str] {
        match self {
            Self::Single => &[],
            // One instance follows the primary only.
            Self::Sentinel if number.is_multiple_of(2) => &[],
            Self::Replicas | Self::Sentinel => &["--routing.reads", "prefer-replica"],
        }
    }
}
