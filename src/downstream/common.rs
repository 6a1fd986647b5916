//! What concerns clients of all workers at once.

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use super::facade::LastInfo;
use super::live::Seat;
use super::monitor::Monitors;
use super::orders::{Courier, Order, What};
use super::pause::Pause;
use super::pubsub::Receivers;

/// What concerns clients of all workers at once.
#[derive(Default)]
pub struct Common {
    /// Brings orders to workers; set before the first client comes.
    pub courier: OnceLock<Box<dyn Courier>>,
    /// The server is known not to be one of a cluster.
    pub is_alone: AtomicBool,
    /// What INFO said last.
    pub last_info: LastInfo,
    /// Who watches what goes through this nearhit.
    pub monitors: Monitors,
    /// The server's pause.
    pub pause: Pause,
    /// Subscribers that the server does not count.
    pub receivers: Receivers,
}

impl Common {
    /// Has the session at `seat` do something.
    pub(super) fn order(&self, seat: Seat, what: What) {
        if let Some(courier) = self.courier.get() {
            courier.bring(Order { seat, what });
        }
    }
}
