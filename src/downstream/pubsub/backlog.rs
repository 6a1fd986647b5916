//! Messages into a session's pipeline, and Redis' rule for subscribers that do not read them.
//!
//! Who publishes cannot be held back for one subscriber's sake. A subscriber with more unread bytes than the hard limit,
//! or with more than the soft limit for too long, is closed without a word, as Redis does it.

use crate::downstream::session::{Core, Session};
use crate::metrics::{Disconnect, SubscriberLoss};
use crate::resp::Version;
use crate::time::{self, Instant};

impl Session {
    /// A message, as RESP3 has it: one push. In RESP2 it is an array, which is another first byte.
    pub(in crate::downstream) fn message(&self, frame: &[u8], now: Instant) {
        let mut core = self.core.borrow_mut();
        let core = &mut *core;
        if core.dead.is_some() || core.closing.is_some() {
            return;
        }
        let kind = if core.version == Version::V3 { b'>' } else { b'*' };
        core.pipeline.push_as(kind, frame);
        // What was written before it was published must be seen by what the client reads next.
        core.causality.saw(now);
        self.check_backlog(core, now);
        self.wake();
    }

    /// The same for what came on a connection of the session's own, and is in its pipeline already.
    pub(in crate::downstream) fn heard(&self, core: &mut Core) {
        let now = time::now();
        core.causality.saw(now);
        self.check_backlog(core, now);
    }

    /// Closes a session that has not read its messages.
    pub(in crate::downstream) fn check_backlog(&self, core: &mut Core, now: Instant) {
        let settings = &self.context.shared.settings.pubsub;
        let unread = core.pipeline.bytes() as u64;
        let (hard, soft) = (settings.output_buffer_hard.bytes(), settings.output_buffer_soft.bytes());
        if soft == 0 || unread < soft {
            core.behind_since = None;
        }
        let too_long = soft > 0
            && unread >= soft
            && now.since(*core.behind_since.get_or_insert(now)) > settings.output_buffer_soft_time;
        if ((hard > 0 && unread >= hard) || too_long) && core.dead.is_none() {
            core.dead = Some(Disconnect::SlowReader);
            self.context.shared.metrics.pubsub_closed.inc(SubscriberLoss::Slow);
        }
    }

    /// The same for a session that gets no more messages. Call it about ten times a second.
    pub(in crate::downstream) fn check_behind(&self, now: Instant) {
        let mut core = self.core.borrow_mut();
        if core.behind_since.is_some() {
            self.check_backlog(&mut core, now);
            if core.dead.is_some() {
                drop(core);
                self.wake();
            }
        }
    }
}
