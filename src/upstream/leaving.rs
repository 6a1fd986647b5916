//! The ways in which nearhit lets go of a connection: at once, once what is on its way is answered, or once whoever has it is
//! done.

use super::connection::{Connection, Phase, State};
use super::loss::Loss;
use super::waiter::Waiter;

impl<W: Waiter + 'static> Connection<W> {
    /// Closes the socket; requests on their way are lost.
    pub fn close(&self) {
        self.close_because(Loss::Shutdown);
    }

    /// The same, and says why.
    pub fn leave(&self, why: &str) {
        self.close_because(Loss::Left(why.to_owned()));
    }

    /// Nobody new shares it; it is closed once what is on its way is answered.
    pub(super) fn retire(&self) {
        if self.in_flight() == 0 {
            self.close();
        } else if !self.0.retired.replace(true) {
            self.0.watcher.retired();
        }
    }

    /// The same for one that somebody has alone, who may finish; unless that is to listen, or to wait for something that will
    /// not happen there any more.
    pub(super) fn outdate(&self, why: &str) {
        let listens = self
            .0
            .outlet
            .borrow()
            .as_ref()
            .is_some_and(|outlet| !outlet.may_finish());
        let waits = |state: &State<W>| state.waiters.front().is_some_and(|front| front.limit.is_none());
        if listens || waits(&self.0.state.borrow()) {
            self.leave(why);
        } else {
            self.0.outdated.set(true);
        }
    }

    pub(super) fn close_because(&self, loss: Loss) {
        self.0.closing.borrow_mut().get_or_insert(loss);
        self.0.wake();
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.0.closing.borrow().is_some() || matches!(self.0.state.borrow().phase, Phase::Closed(_))
    }

    /// Whether it is not for new requests of anybody: it has ended, waits for a reader, or goes to where the node is no more.
    pub fn is_retired(&self) -> bool {
        self.0.retired.get() || self.0.outdated.get() || self.is_closed()
    }
}
