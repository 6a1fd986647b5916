//! One connection to the server for all subscribers of a worker that are the same user.
//!
//! ```text
//! SUBSCRIBE a ┐                                             ┌→ pipeline of every session subscribed to a
//! SUBSCRIBE a ┼→ hub ─ one RESP3 connection ─→ server ─ message a ┤
//! SUBSCRIBE b ┘                                             └→ (no other)
//!
//! Down ─ first SUBSCRIBE, or something to restore → Opening ─ the server answers → Up ─ lost, or idle → Down
//!   ↑                                                  └─ refused → Pinned ─ a while → Down
//! ```
//! Every SUBSCRIBE goes to the server as it is, so that Redis checks what the user may hear and the confirmation is
//! Redis' own; an UNSUBSCRIBE names what nobody else needs, and if there is no such thing, something nobody has. A session
//! joins and parts when the server's confirmation comes by, which is exactly where it would have on a connection of its
//! own. A session that does not read never stalls the hub: messages are appended to its pipeline until its limit is
//! reached, and then it is closed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;

use super::change::{Change, Does};
use super::kind::{Kind, Verb, words};
use super::table::{Channel, Numbers, Table};
use crate::config::OnLoss;
use crate::downstream::account::Account;
use crate::downstream::context::{Context, Shared};
use crate::downstream::forward::{Forwarded, Op, Special};
use crate::downstream::holdings::Holdings;
use crate::downstream::session::Session;
use crate::metrics::{OTHER, Subscriber};
use crate::resp::{Version, encode};
use crate::time::{self, Instant};
use crate::upstream::{Connection, Identity, Loss, Outlet};

/// A connection without subscriptions is closed after this; so long is a server without RESP3 not asked again. Chosen,
/// not measured.
const IDLE: Duration = Duration::from_secs(60);
/// A server that refused the connection is not asked for another one for so long. Chosen, not measured.
const REFUSED: Duration = Duration::from_secs(1);

/// A name for an UNSUBSCRIBE that must change nothing. It is made longer while somebody is subscribed to it.
const NOBODY: &[u8] = b"nearhit:nobody";

enum Link {
    Down,
    /// Not known yet whether it comes up; these sessions wait for that.
    Opening(Connection<Forwarded>, HashMap<u64, Rc<Session>>),
    /// `Some`: nobody has been subscribed since.
    Up(Connection<Forwarded>, Option<Instant>),
    /// The server refused it, or does not speak RESP3: until then subscribers get connections of their own.
    Pinned(Instant),
}

/// How a session gets at the hub's connection.
pub(super) enum Access {
    Ready(Connection<Forwarded>),
    /// The session is woken when it is known.
    Wait,
    /// Not at all: subscribe on a connection of the session's own.
    Pinned,
    Failed(Loss),
}

/// One worker's subscriptions as one user.
pub(in crate::downstream) struct Hub {
    identity: Identity,
    /// Messages wait until these parts of the near-cache know what changed before them.
    ahead: Holdings,
    shared: Arc<Shared>,
    table: RefCell<Table<Rc<Session>>>,
    link: RefCell<Link>,
    /// What the hub may be subscribed to for nobody, found out while the connection was in use.
    orphans: RefCell<Vec<(Kind, Bytes, Rc<Session>)>>,
}

impl Hub {
    pub(in crate::downstream) fn new(account: &Account, shared: Arc<Shared>) -> Rc<Self> {
        let causal = shared.settings.pubsub.causal;
        Rc::new(Self {
            identity: account.identity().clone(),
            ahead: if causal {
                account.holdings().clone()
            } else {
                Holdings::Nothing
            },
            shared,
            table: RefCell::default(),
            link: RefCell::new(Link::Down),
            orphans: RefCell::default(),
        })
    }

    /// The connection, which is opened if need be.
    pub(super) fn access(self: &Rc<Self>, context: &Context, session: &Rc<Session>) -> Access {
        if let Link::Opening(_, waiting) = &mut *self.link.borrow_mut() {
            waiting.insert(session.id, Rc::clone(session));
            return Access::Wait;
        }
        match &*self.link.borrow() {
            // It is about to end; until then there is no other.
            Link::Up(connection, _) if connection.is_closed() => return Access::Failed(Loss::Closed),
            Link::Up(connection, _) => return Access::Ready(connection.clone()),
            Link::Pinned(_) => return Access::Pinned,
            _ => {}
        }
        match self.open(context, session, HashMap::from([(session.id, Rc::clone(session))])) {
            Ok(()) => Access::Wait,
            Err(Loss::Refused(_)) => Access::Pinned,
            Err(loss) => Access::Failed(loss),
        }
    }

    /// The connection, if it is up.
    pub(super) fn up(&self) -> Option<Connection<Forwarded>> {
        match &*self.link.borrow() {
            Link::Up(connection, _) if !connection.is_closed() => Some(connection.clone()),
            _ => None,
        }
    }

    /// Opens a connection and subscribes to what members miss. Requests of the hub's own need a session to belong to.
    fn open(
        self: &Rc<Self>,
        context: &Context,
        session: &Rc<Session>,
        waiting: HashMap<u64, Rc<Session>>,
    ) -> Result<(), Loss> {
        let db = self.shared.settings.db;
        let connection = context.pool.borrow_mut().dedicated(&self.identity, db, Version::V3)?;
        connection.set_outlet(Some(Rc::new(Ear(Rc::downgrade(self)))));
        *self.link.borrow_mut() = Link::Opening(connection.clone(), waiting);
        let nobody = self.nobody(Kind::Channel);
        self.send(
            &connection,
            session,
            Change::own(self, Kind::Channel, Does::Open, vec![nobody]),
        );
        let names = self.table.borrow().names();
        for (kind, name) in names {
            if self.change(kind, &name, Channel::restore) == Some(true) {
                let change = Change::own(self, kind, Does::Restore, vec![name]);
                self.send(&connection, session, change);
            }
        }
        Ok(())
    }

    /// Sends a request of the hub's own.
    fn send(&self, connection: &Connection<Forwarded>, session: &Rc<Session>, change: Change) {
        let now = time::now();
        let mut frame = Vec::new();
        change.write(&mut frame);
        let op = Op {
            special: Special::Change(Box::new(change)),
            ..Op::plain(OTHER, now)
        };
        let limit = self.shared.settings.command_timeout;
        // A connection that has just ended is unsubscribed from everything.
        drop(connection.send(&frame, Forwarded::new(session, None, op), limit, now));
    }

    /// A name nobody is subscribed to.
    pub(super) fn nobody(&self, kind: Kind) -> Bytes {
        let (mut name, table) = (NOBODY.to_vec(), self.table.borrow());
        while table.get(kind, &name).is_some() {
            name.push(b'.');
        }
        name.into()
    }

    /// The server answers: who waited may go on. (The connection is in use by whoever calls this.)
    pub(super) fn opened(&self) {
        let mut link = self.link.borrow_mut();
        if let Link::Opening(connection, waiting) = &mut *link {
            let (connection, waiting) = (connection.clone(), std::mem::take(waiting));
            *link = Link::Up(connection, None);
            drop(link);
            waiting.values().for_each(|session| session.wake());
        }
    }

    /// The connection did not come up: who waited finds out why when it tries again.
    pub(super) fn not_opened(&self, loss: &Loss) {
        let mut link = self.link.borrow_mut();
        let Link::Opening(_, waiting) = &mut *link else { return };
        let waiting = std::mem::take(waiting);
        let denied = is_denied(loss);
        *link = match loss {
            Loss::Refused(_) if speaks_no_resp3(loss) => Link::Pinned(time::now().after(IDLE)),
            // On a connection of its own a session hears what Redis has against it.
            Loss::Refused(_) => Link::Pinned(time::now().after(REFUSED)),
            _ => Link::Down,
        };
        drop(link);
        waiting.values().for_each(|session| session.wake());
        if denied {
            // There is nothing to wait for.
            let names = self.table.borrow().names();
            names.iter().for_each(|(kind, name)| self.close_members(*kind, name));
        }
    }

    /// Changes an existing channel and keeps the numbers that depend on it.
    pub(super) fn change<T>(
        &self,
        kind: Kind,
        name: &Bytes,
        change: impl FnOnce(&mut Channel<Rc<Session>>) -> T,
    ) -> Option<T> {
        let (done, before, after) = self.table.borrow_mut().change((kind, name), false, change)?;
        self.account(kind, name, before, after);
        Some(done)
    }

    /// A SUBSCRIBE of `name` is about to be sent; gives the name as everybody holds it.
    pub(super) fn claim(&self, kind: Kind, name: &[u8]) -> Bytes {
        let mut table = self.table.borrow_mut();
        let name = table.name(kind, name);
        if let Some(((), before, after)) = table.change((kind, &name), true, Channel::claim) {
            self.account(kind, &name, before, after);
        }
        name
    }

    /// A SUBSCRIBE of `name` came to nothing.
    pub(super) fn release(&self, kind: Kind, name: &Bytes, session: &Rc<Session>) {
        if self.change(kind, name, Channel::release) == Some(true) {
            let orphan = (kind, name.clone(), Rc::clone(session));
            self.orphans.borrow_mut().push(orphan);
        }
    }

    fn account(&self, kind: Kind, name: &Bytes, before: Numbers, after: Numbers) {
        let metrics = &self.shared.metrics.pubsub_subscriptions;
        let difference = |before: usize, after: usize| after as f64 - before as f64;
        if before.members != after.members {
            metrics.add(Subscriber::Client, difference(before.members, after.members));
        }
        if before.live != after.live {
            metrics.add(Subscriber::Shared, difference(before.live.into(), after.live.into()));
        }
        self.shared
            .common
            .receivers
            .update(kind, name, before.uncounted, after.uncounted);
    }

    /// A session has ended, or begins anew: its subscriptions end at once.
    pub(super) fn leave<'n>(self: &Rc<Self>, session: &Rc<Session>, names: impl Iterator<Item = (Kind, &'n Bytes)>) {
        let Some(connection) = self.up() else {
            return names.for_each(|(kind, name)| self.part(kind, name, session));
        };
        let mut unneeded: [Vec<Bytes>; 3] = Default::default();
        for (kind, name) in names {
            if self.change(kind, name, |channel| channel.part(session.id)) == Some(true)
                && let Some(names) = unneeded.get_mut(kind as usize)
            {
                names.push(name.clone());
            }
        }
        for (kind, names) in Kind::ALL.into_iter().zip(unneeded) {
            if !names.is_empty() {
                self.send(&connection, session, Change::own(self, kind, Does::Drop, names));
            }
        }
    }

    /// A session parts while nothing can be sent.
    pub(super) fn part(&self, kind: Kind, name: &Bytes, session: &Rc<Session>) {
        let part = |channel: &mut Channel<_>| {
            let last = channel.part(session.id);
            if last {
                channel.keep();
            }
            last
        };
        if self.change(kind, name, part) == Some(true) {
            let orphan = (kind, name.clone(), Rc::clone(session));
            self.orphans.borrow_mut().push(orphan);
        }
    }

    /// Whether nothing depends on it.
    pub(in crate::downstream) fn is_over(&self) -> bool {
        matches!(*self.link.borrow(), Link::Down) && self.table.borrow().is_empty()
    }

    /// Unsubscribes from what nobody needs, tries again to come up for those who need it, and closes what is idle. Call
    /// it about ten times a second.
    pub(in crate::downstream) fn tend(self: &Rc<Self>, context: &Context, now: Instant) {
        if let Some(connection) = self.up() {
            for (kind, name, session) in self.orphans.take() {
                if self.change(kind, &name, Channel::drop_unclaimed) == Some(true) {
                    self.send(&connection, &session, Change::own(self, kind, Does::Drop, vec![name]));
                }
            }
        }
        let empty = self.table.borrow().is_empty();
        let mut link = self.link.borrow_mut();
        match &mut *link {
            Link::Up(_, idle) if !empty => *idle = None,
            Link::Up(connection, idle) => {
                let since = *idle.get_or_insert(now);
                let unwanted = self.identity.is_retired() || now.since(since) >= IDLE;
                if unwanted && connection.in_flight() == 0 {
                    // Nobody is to hear of its end.
                    connection.set_outlet(None);
                    connection.close();
                    *link = Link::Down;
                }
            }
            Link::Pinned(until) if *until <= now => *link = Link::Down,
            Link::Down if !empty => {
                drop(link);
                let member = self.table.borrow().any_member().cloned();
                if let Some(member) = member {
                    // Until the server is back this fails, at most some twenty times a second.
                    drop(self.open(context, &member, HashMap::new()));
                }
            }
            _ => {}
        }
    }

    /// A frame that answers nobody.
    fn heard(&self, frame: &[u8], now: Instant) {
        let Some((word, Some(name))) = words(frame) else { return };
        if let Some(kind) = Kind::of_message(word) {
            self.shared.metrics.pubsub_received.inc();
            let table = self.table.borrow();
            let Some(channel) = table.get(kind, name) else { return };
            for member in channel.members() {
                member.message(frame, now);
            }
            self.shared.metrics.pubsub_delivered.add(channel.members().len() as u64);
        } else if let Some((kind, Verb::Unsubscribe)) = Kind::of_command(word) {
            self.ended_by_server(kind, name);
        }
    }

    /// The server has ended a subscription by itself (a slot has moved away), which it tells every subscriber.
    fn ended_by_server(&self, kind: Kind, name: &[u8]) {
        let name = Bytes::copy_from_slice(name);
        let Some(members) = self.change(kind, &name, Channel::end) else {
            return;
        };
        for member in members {
            member.unsubscribed(kind, &name);
        }
    }

    /// The connection is gone; every request on it knows.
    fn lost(&self) {
        let mut link = self.link.borrow_mut();
        if !matches!(*link, Link::Pinned(_)) {
            *link = Link::Down;
        }
        drop(link);
        self.orphans.take();
        let resubscribe = self.shared.settings.pubsub.on_loss == OnLoss::Resubscribe;
        let names = self.table.borrow().names();
        for (kind, name) in names {
            if resubscribe {
                self.change(kind, &name, Channel::lost);
            } else {
                self.close_members(kind, &name);
            }
        }
    }

    /// Ends a subscription whose messages come no more, and the connections of those who believe in it.
    pub(super) fn close_members(&self, kind: Kind, name: &Bytes) {
        for member in self.change(kind, name, Channel::end).into_iter().flatten() {
            member.lost_subscription();
        }
    }

    /// A subscription is back on a new connection: whoever has it is told, and so learns that messages may be lost.
    pub(super) fn restored(&self, kind: Kind, name: &Bytes) {
        self.change(kind, name, Channel::restored);
        if let Some(channel) = self.table.borrow().get(kind, name) {
            for member in channel.members() {
                member.resubscribed(kind, name);
            }
        }
    }
}

/// Whether the handshake failed because the server has no HELLO, or no version 3 of it.
fn speaks_no_resp3(loss: &Loss) -> bool {
    matches!(loss, Loss::Refused(text) if text.starts_with("ERR unknown command") || text.starts_with("NOPROTO"))
}

/// Whether the handshake failed in a way that will not pass.
fn is_denied(loss: &Loss) -> bool {
    let denials = ["WRONGPASS", "NOAUTH", "NOPERM"];
    speaks_no_resp3(loss) || matches!(loss, Loss::Refused(text) if denials.iter().any(|code| text.starts_with(code)))
}

/// Hears what comes on a hub's connection and answers nobody.
struct Ear(Weak<Hub>);

impl Outlet for Ear {
    fn may_hear(&self, read_at: Instant, task: &Waker) -> bool {
        let hub = self.0.upgrade();
        hub.is_none_or(|hub| hub.ahead.know_all_before(read_at, task))
    }

    fn frame(&self, frame: &[u8], now: Instant) {
        if let Some(hub) = self.0.upgrade() {
            hub.heard(frame, now);
        }
    }

    fn ended(&self, _loss: &Loss) {
        if let Some(hub) = self.0.upgrade() {
            hub.lost();
        }
    }
}

/// A request of the SUBSCRIBE family for these names.
pub(super) fn write(out: &mut Vec<u8>, (kind, verb): (Kind, Verb), names: &[Bytes]) {
    encode::array_header(out, names.len() + 1);
    encode::bulk(out, kind.command(verb));
    names.iter().for_each(|name| encode::bulk(out, name));
}
