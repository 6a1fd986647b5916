//! What comes on a session's own connection without having been asked for: messages, pushes, and its end.

use std::rc::Weak;
use std::task::Waker;

use super::client_tracking;
use super::pin::Pin;
use super::session::Session;
use crate::metrics::Disconnect;
use crate::time::Instant;
use crate::upstream::{Loss, Outlet};

/// Hears what comes on a session's own connection and answers nobody.
pub(super) struct Listener(pub(super) Weak<Session>);

impl Outlet for Listener {
    fn may_hear(&self, read_at: Instant, task: &Waker) -> bool {
        let Some(session) = self
            .0
            .upgrade()
            .filter(|session| session.context.shared.settings.pubsub.causal)
        else {
            return true;
        };
        let core = session.core.borrow();
        // Only messages are worth the wait, and where they come, replies must keep their places between them.
        let listens = core.pin.as_ref().is_some_and(Pin::is_subscribed);
        !listens || core.account.holdings().know_all_before(read_at, task)
    }

    fn may_finish(&self) -> bool {
        let Some(session) = self.0.upgrade() else { return false };
        let core = session.core.borrow();
        core.pin
            .as_ref()
            .is_some_and(|pin| !pin.is_waiting() && !pin.is_tracked())
    }

    fn frame(&self, frame: &[u8], _now: Instant) {
        if let Some(session) = self.0.upgrade() {
            session.pushed(frame);
        }
    }

    fn ended(&self, loss: &Loss) {
        // Closed from this side: by the session, or because everything ends.
        if let Some(session) = self.0.upgrade().filter(|_| *loss != Loss::Shutdown) {
            session.unpinned();
        }
    }
}

impl Session {
    /// A frame came that answers nobody.
    ///
    /// Who sends it cannot be held back for this client's sake, so a client that does not read is closed.
    fn pushed(&self, frame: &[u8]) {
        let mut core = self.core.borrow_mut();
        match client_tracking::own_push(&mut core, frame) {
            Some(own) => core.pipeline.push(&own),
            None => core.pipeline.push(frame),
        }
        if core.pin.as_ref().is_some_and(Pin::is_subscribed) {
            self.heard(&mut core);
        } else if core.pipeline.bytes() > self.context.shared.settings.limits.client_output_buffer.as_usize() {
            core.dead.get_or_insert(Disconnect::SlowReader);
        }
        drop(core);
        self.wake();
    }

    /// The session's own connection is gone, and with it what the client had there, which it must know.
    fn unpinned(&self) {
        let mut core = self.core.borrow_mut();
        if core.pin.as_ref().is_some_and(Pin::is_free) {
            core.pin = None;
            self.context.shared.metrics.clients_pinned.dec();
            return;
        }
        core.closing.get_or_insert(Disconnect::Upstream);
        drop(core);
        self.wake();
    }
}
