//! Reads whose replies are known to be large: they come over a connection of the session's own, which can wait for the
//! client to read, and where nobody waits behind them.

use std::cell::Cell;
use std::time::Duration;

use super::forward::loss_text;
use super::request::{Flow, Turn};
use crate::cache::RecentKeys;
use crate::command::Command;
use crate::resp::Request;
use crate::time::Instant;
use crate::upstream::Loss;

/// What other sessions' replies may have to wait behind on a shared connection, in bytes: a larger reply is large, and
/// of smaller ones no session has more than this on its way. Enough to keep a network with 10 Gbit/s and a round trip
/// of 3 ms busy.
pub(super) const LARGE: usize = 4 << 20;
/// How long that is remembered. Chosen, not measured: being wrong costs a connection that is not shared.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How many reads are remembered.
const READS: usize = 1024;

/// Reads whose replies were large lately, as hashes of key and command.
pub(super) struct LargeReplies {
    reads: RecentKeys,
    /// When the last of them is forgotten: most of the time there are none.
    until: Cell<Instant>,
}

impl Default for LargeReplies {
    fn default() -> Self {
        Self {
            reads: RecentKeys::new(READS, REMEMBERED),
            until: Cell::default(),
        }
    }
}

impl LargeReplies {
    /// A read of the key with this hash was answered with a large reply.
    pub(super) fn note(&self, key: u64, command: u16, now: Instant) {
        self.reads.see(RecentKeys::of_read(key, command), now);
        self.until.set(now.after(REMEMBERED));
    }

    /// Whether that was so lately.
    fn knows(&self, key: u64, command: u16, now: Instant) -> bool {
        now < self.until.get() && self.reads.knows(RecentKeys::of_read(key, command), now)
    }
}

impl Turn<'_> {
    /// Sends a read over a connection of the session's own if its reply will be large. `None`: it will not, or there is
    /// no such connection to be had; then it goes where all others go.
    pub(super) fn read_alone(&mut self, command: &Command, request: &Request<'_>) -> Option<Flow> {
        let number = command.id().number();
        let &key = self.core.keys.first()?;
        if !self.context.large.knows(key, number, self.now) {
            return None;
        }
        match self.try_pin() {
            Ok(()) => Some(self.send_pinned(command, request)),
            Err(None) => Some(Flow::Hold),
            Err(Some(Loss::Refused(_))) => None,
            Err(Some(loss)) => {
                self.refuse(number, loss_text(&loss, false, false));
                Some(Flow::Next)
            }
        }
    }
}
