//! What is counted about connections over all workers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::census::Census;
use super::loss::Loss;

/// Connection counts over all workers, for metrics and the pinned limit.
#[derive(Debug, Default)]
pub struct Gauges {
    /// The server answers the control thread's PING.
    pub reachable: AtomicBool,
    /// Shared connections that are open or connecting.
    pub shared: AtomicU64,
    /// Pinned connections that are open or connecting.
    pub pinned: AtomicU64,
    /// Connections ever begun.
    pub opened: AtomicU64,
    /// Of these: never came up.
    pub failed: AtomicU64,
    /// Of these: did not get their turn in time.
    pub crowded: AtomicU64,
    /// Connections that waited for their turn: shared, and pinned ones.
    pub delayed: [AtomicU64; 2],
    /// Connections lost, by reason: eof, io, protocol, timeout, shutdown.
    pub lost: [AtomicU64; 5],
    /// What is known of each node.
    pub census: Census,
}

impl Gauges {
    /// The reasons [`Gauges::lost`] counts, in its order.
    pub const LOST: [&'static str; 5] = ["eof", "io", "protocol", "timeout", "shutdown"];

    pub(super) fn of(&self, pinned: bool) -> &AtomicU64 {
        if pinned { &self.pinned } else { &self.shared }
    }

    pub(super) fn count(&self, loss: &Loss) {
        if loss.never_connected() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        if matches!(loss, Loss::Crowded(_)) {
            self.crowded.fetch_add(1, Ordering::Relaxed);
        }
        let label = loss.label();
        if let Some(counter) = Self::LOST
            .iter()
            .position(|&name| name == label)
            .and_then(|at| self.lost.get(at))
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}
