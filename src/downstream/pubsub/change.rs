//! A request of the SUBSCRIBE family on its way on a hub's connection: which frames confirm it, and what then changes.

use std::rc::Rc;

use bytes::Bytes;

use super::hub::{self, Hub};
use super::kind::{Kind, Verb, confirmation, words};
use super::table::Channel;
use crate::config::OnLoss;
use crate::downstream::session::{Core, Session};
use crate::downstream::subscribe::Sorted;
use crate::metrics::Disconnect;
use crate::upstream::Loss;

/// What a request on a hub's connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// A client subscribes.
    Subscribe,
    /// A client unsubscribes.
    Unsubscribe,
    /// The hub finds out whether its connection comes up.
    Open,
    /// The hub unsubscribes from what nobody needs.
    Drop,
    /// The hub subscribes again on a new connection.
    Restore,
}

/// One such request.
pub(in crate::downstream) struct Change {
    hub: Rc<Hub>,
    kind: Kind,
    does: Does,
    /// What the client named, in its order; a client that unsubscribes from nothing is told so.
    names: Vec<Bytes>,
    /// What the server was sent: it confirms each of these, in this order, with nothing in between.
    sent: Vec<Bytes>,
    confirmed: usize,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change")
            .field("kind", &self.kind)
            .field("does", &self.does)
            .finish_non_exhaustive()
    }
}

impl Change {
    /// A client subscribes to `names`.
    pub(super) fn subscribe<'a>(hub: &Rc<Hub>, kind: Kind, names: impl Iterator<Item = &'a [u8]>) -> Self {
        let names: Vec<_> = names.map(|name| hub.claim(kind, name)).collect();
        Self {
            sent: names.clone(),
            names,
            ..Self::own(hub, kind, Does::Subscribe, Vec::new())
        }
    }

    /// A client unsubscribes from `names`.
    pub(super) fn unsubscribe(hub: &Rc<Hub>, kind: Kind, names: Vec<Bytes>, session: &Session) -> Self {
        let is_unneeded = |name: &&Bytes| {
            let leaving = hub.change(kind, name, |channel| channel.begin_leaving(session.id));
            leaving.flatten() == Some(true)
        };
        let mut sent: Vec<_> = names.iter().filter(is_unneeded).cloned().collect();
        if sent.is_empty() {
            // Others need all of it. Still the server is asked: it may refuse, and its confirmation is the place where
            // messages end.
            sent.push(hub.nobody(kind));
        }
        Self {
            names,
            ..Self::own(hub, kind, Does::Unsubscribe, sent)
        }
    }

    /// A request of the hub's own.
    pub(super) fn own(hub: &Rc<Hub>, kind: Kind, does: Does, sent: Vec<Bytes>) -> Self {
        Self {
            hub: Rc::clone(hub),
            kind,
            does,
            names: Vec::new(),
            sent,
            confirmed: 0,
        }
    }

    fn verb(&self) -> Verb {
        match self.does {
            Does::Subscribe | Does::Restore => Verb::Subscribe,
            Does::Unsubscribe | Does::Open | Does::Drop => Verb::Unsubscribe,
        }
    }

    /// Appends the request.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        hub::write(out, (self.kind, self.verb()), &self.sent);
    }

    /// Whether a client waits for it.
    pub(in crate::downstream) fn is_clients(&self) -> bool {
        matches!(self.does, Does::Subscribe | Does::Unsubscribe)
    }

    /// Whether a client is in doubt when it is told that this takes too long: it may hear more, or not.
    pub(in crate::downstream) fn leaves_doubt(&self) -> bool {
        self.does == Does::Unsubscribe
    }

    /// Tells what a frame is.
    pub(in crate::downstream) fn sort(&mut self, kind: u8, frame: &[u8]) -> Sorted {
        if kind != b'>' {
            return Sorted::Reply;
        }
        let expected = self.sent.get(self.confirmed);
        match words(frame) {
            Some((word, Some(name)))
                if word == self.kind.command(self.verb()) && expected.is_some_and(|expected| expected == name) =>
            {
                self.confirmed += 1;
                Sorted::Confirmation {
                    last: self.confirmed == self.sent.len(),
                }
            }
            _ => Sorted::Message,
        }
    }

    /// The server has done it. `number` is where the client's confirmations go; `late`: the client was told otherwise.
    pub(in crate::downstream) fn confirmed(&self, session: &Rc<Session>, number: Option<u64>, late: bool) {
        match self.does {
            Does::Subscribe if late || session.core.borrow().dead.is_some() => self.come_to_nothing(session),
            Does::Subscribe | Does::Unsubscribe => self.confirm(session, number),
            Does::Open => self.hub.opened(),
            Does::Restore => self.sent.iter().for_each(|name| self.hub.restored(self.kind, name)),
            Does::Drop => {}
        }
    }

    /// The server has refused it; the client is told by whoever calls this.
    pub(in crate::downstream) fn refused(&self, session: &Rc<Session>, number: Option<u64>) {
        match self.does {
            Does::Subscribe => self.come_to_nothing(session),
            // RESET asks for no permission.
            Does::Unsubscribe if number.is_none() => self.confirm(session, None),
            Does::Unsubscribe => {
                for name in &self.names {
                    self.hub.change(self.kind, name, |channel| channel.stay(session.id));
                }
            }
            Does::Open => self.hub.opened(),
            Does::Restore => self
                .sent
                .iter()
                .for_each(|name| self.hub.close_members(self.kind, name)),
            Does::Drop => {}
        }
    }

    /// The connection is gone. True: it is done nevertheless, and the client was told.
    pub(in crate::downstream) fn lost(&self, session: &Rc<Session>, number: Option<u64>, loss: &Loss) -> bool {
        match self.does {
            Does::Subscribe => self.come_to_nothing(session),
            Does::Unsubscribe if self.resubscribes(session) => {
                self.confirm(session, number);
                return true;
            }
            Does::Open => self.hub.not_opened(loss),
            Does::Unsubscribe | Does::Restore | Does::Drop => {}
        }
        false
    }

    fn resubscribes(&self, session: &Session) -> bool {
        session.context.shared.settings.pubsub.on_loss == OnLoss::Resubscribe
    }

    fn come_to_nothing(&self, session: &Rc<Session>) {
        for name in &self.names {
            self.hub.release(self.kind, name, session);
        }
    }

    /// Makes it true of the session, and says so in as many confirmations as there are names.
    fn confirm(&self, session: &Rc<Session>, number: Option<u64>) {
        let mut core = session.core.borrow_mut();
        let core = &mut *core;
        let mut reply = Vec::new();
        let said = (self.kind, self.verb());
        for name in &self.names {
            match self.does {
                Does::Subscribe => self.join(session, core, name),
                _ => {
                    self.hub.change(self.kind, name, |channel| channel.part(session.id));
                    // It may have come by the hub of whom the session was before.
                    let other = core.forget(self.kind, name).filter(|hub| !Rc::ptr_eq(hub, &self.hub));
                    if let Some(other) = other {
                        other.part(self.kind, name, session);
                    }
                }
            }
            confirmation(&mut reply, core.version, said, Some(name), core.count(self.kind));
        }
        if self.names.is_empty() {
            confirmation(&mut reply, core.version, said, None, core.count(self.kind));
        }
        if let Some(number) = number {
            // CLIENT REPLY does not silence confirmations.
            core.pipeline.unmute(number);
            core.pipeline.complete(number, &reply);
        }
    }

    fn join(&self, session: &Rc<Session>, core: &mut Core, name: &Bytes) {
        let listening = core.listening.get_or_insert_default();
        if listening.insert(self.kind, name, &self.hub) {
            let join = |channel: &mut Channel<_>| channel.join(session.id, Rc::clone(session));
            self.hub.change(self.kind, name, join);
        } else {
            self.hub.release(self.kind, name, session);
        }
    }
}

impl Core {
    /// What a confirmation counts.
    fn count(&self, kind: Kind) -> usize {
        self.listening.as_ref().map_or(0, |listening| listening.count(kind))
    }

    /// A subscription is over; gives the hub its messages came by.
    fn forget(&mut self, kind: Kind, name: &[u8]) -> Option<Rc<Hub>> {
        let listening = self.listening.as_mut()?;
        let hub = listening.remove(kind, name);
        if listening.is_empty() {
            self.listening = None;
        }
        hub
    }
}

impl Session {
    /// The server has ended a subscription by itself.
    pub(super) fn unsubscribed(&self, kind: Kind, name: &Bytes) {
        let mut core = self.core.borrow_mut();
        core.forget(kind, name);
        self.say(&mut core, (kind, Verb::Unsubscribe), name);
        drop(core);
        self.wake();
    }

    /// A subscription was lost for a while.
    pub(super) fn resubscribed(&self, kind: Kind, name: &Bytes) {
        self.say(&mut self.core.borrow_mut(), (kind, Verb::Subscribe), name);
        self.wake();
    }

    /// A confirmation nobody asked for.
    fn say(&self, core: &mut Core, what: (Kind, Verb), name: &Bytes) {
        let mut frame = Vec::new();
        confirmation(&mut frame, core.version, what, Some(name), core.count(what.0));
        core.pipeline.push(&frame);
        self.check_backlog(core, crate::time::now());
    }

    /// Messages come no more, and the client must know.
    pub(super) fn lost_subscription(&self) {
        let mut core = self.core.borrow_mut();
        if core.closing.is_none() && core.dead.is_none() {
            let metrics = &self.context.shared.metrics;
            metrics.pubsub_closed.inc(crate::metrics::SubscriberLoss::Upstream);
            core.closing = Some(Disconnect::Upstream);
        }
        drop(core);
        self.wake();
    }
}
