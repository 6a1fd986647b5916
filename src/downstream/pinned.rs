//! A connection of the session's own: while it has one, every request goes there, in order, past the near-cache.
//!
//! ```text
//! home ─ MULTI, WATCH, BLPOP, SUBSCRIBE, CLIENT TRACKING … (nothing on its way) → pinned
//! pinned ─ nothing on its way, no transaction, nothing watched, subscribed or kept → home
//! ```
//! The session waits for its own requests before it changes connection in either direction, so that effects keep their
//! order.

use std::rc::{Rc, Weak};

use super::forward::{Forwarded, Op, Special, loss_text};
use super::identity::read_hello;
use super::request::{Flow, Turn};
use super::session::{Core, Session};
use super::subscribe::{self, Subscriptions};
use super::switch;
use super::transaction::Transaction;
use crate::coherence::Keys;
use crate::command::{Command, Effect, Pin as Why};
use crate::metrics::{Disconnect, Outcome};
use crate::resp::{Request, Version, encode};
use crate::upstream::{Connection, Outlet};

/// The session's own connection and what keeps it.
pub(super) struct Pin {
    pub(super) connection: Connection<Forwarded>,
    /// As which it was handed out, and to which it may go back.
    db: u32,
    version: Version,
    /// Requests on their way on it.
    outstanding: usize,
    /// Of these: may wait for as long as they like.
    blocking: usize,
    /// Of these: begin or end subscriptions.
    subscribing: usize,
    pub(super) transaction: Option<Transaction>,
    watching: bool,
    pub(super) subscriptions: Subscriptions,
    pub(super) monitoring: bool,
    /// The session keeps it until it leaves or says RESET.
    sticky: bool,
    /// It is not in the state it was handed out in: nobody else may have it.
    altered: bool,
}

impl Pin {
    /// Whether the session may go home.
    pub(super) fn is_free(&self) -> bool {
        self.outstanding == 0
            && self.transaction.is_none()
            && !self.watching
            && !self.sticky
            && !self.monitoring
            && self.subscriptions.is_empty()
    }

    /// Whether nothing is on its way.
    pub(super) fn is_quiet(&self) -> bool {
        self.outstanding == 0
    }

    /// Whether it is not known yet if messages may come.
    pub(super) fn is_subscribing(&self) -> bool {
        self.subscribing > 0
    }

    /// Whether messages may come.
    pub(super) fn is_subscribed(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// Whether it waits for something that may never come, or only listens: nobody needs to wait for it.
    pub(super) fn is_waiting(&self) -> bool {
        self.blocking > 0 || self.monitoring || !self.subscriptions.is_empty()
    }

    /// A request is over.
    pub(super) fn returned(&mut self, special: &Special) {
        self.outstanding = self.outstanding.saturating_sub(1);
        match special {
            Special::Blocking => self.blocking = self.blocking.saturating_sub(1),
            Special::Subscribe(_) => self.subscribing = self.subscribing.saturating_sub(1),
            _ => {}
        }
    }

    /// It is in another database, or speaks another protocol, than it was handed out with.
    pub(super) fn alter(&mut self) {
        self.altered = true;
    }
}

/// EXEC ran commands that changed what the connection is.
pub(super) fn keep_altered(core: &mut Core) {
    keep(core);
    alter(core);
}

/// The connection is not what it was handed out as.
pub(super) fn alter(core: &mut Core) {
    if let Some(pin) = &mut core.pin {
        pin.alter();
    }
}

/// MULTI was refused: what follows is not queued.
pub(super) fn refused_multi(core: &mut Core) {
    if let Some(pin) = &mut core.pin {
        pin.transaction = None;
    }
}

/// A command succeeded that changes what the connection is.
pub(super) fn keep(core: &mut Core) {
    if let Some(pin) = &mut core.pin {
        pin.sticky = true;
    }
}

/// MONITOR succeeded.
pub(super) fn monitoring(core: &mut Core) {
    if let Some(pin) = &mut core.pin {
        pin.monitoring = true;
        pin.altered = true;
    }
}

impl Turn<'_> {
    /// Lets a connection of its own go that the session does not need any more.
    pub(super) fn go_home(&mut self) {
        if self.core.pin.as_ref().is_some_and(Pin::is_free)
            && let Some(pin) = self.core.pin.take()
        {
            if pin.altered {
                pin.connection.close();
            } else {
                self.context
                    .pool
                    .borrow_mut()
                    .release(pin.connection, pin.db, pin.version);
            }
            self.context.shared.metrics.clients_pinned.dec();
        }
    }

    /// Gives the session a connection of its own. `Err`: the flow to go on with instead.
    pub(super) fn pin(&mut self, command: u16) -> Result<(), Flow> {
        if self.core.pin.is_some() {
            return Ok(());
        }
        if !self.core.is_quiet() {
            return Err(Flow::Hold);
        }
        let (db, version) = (self.core.db, self.core.version);
        let connection = self.context.pool.borrow_mut().pinned(db, version);
        let connection = match connection {
            Ok(connection) => connection,
            Err(loss) => {
                self.refuse(command, &loss_text(&loss, false, false));
                return Err(Flow::Next);
            }
        };
        let session = Rc::downgrade(self.session);
        connection.set_outlet(Some(Rc::new(Listener(session))));
        self.core.pin = Some(Pin {
            connection,
            db,
            version,
            outstanding: 0,
            blocking: 0,
            subscribing: 0,
            transaction: None,
            watching: false,
            subscriptions: Subscriptions::default(),
            monitoring: false,
            sticky: false,
            altered: false,
        });
        self.context.shared.metrics.clients_pinned.inc();
        Ok(())
    }

    /// Sends a request over the session's own connection. The caller has made sure that there is one.
    pub(super) fn send_pinned(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let arity_fits = command.check_arity(request);
        self.collect_keys(command, request);
        let Some(pin) = &mut self.core.pin else {
            return Flow::Next;
        };
        let name = command.name();
        let queued =
            pin.transaction.is_some() && !matches!(name, "exec" | "discard" | "multi" | "watch" | "reset" | "quit");
        let mut op = Op {
            command: command.id().number(),
            keys: Keys::None,
            effect: Effect::None,
            writes: false,
            pinned: true,
            special: Special::No,
            started: self.now,
            outcome: Outcome::Bypass,
        };
        if queued {
            self.queue(command, request, op);
            return Flow::Next;
        }
        if arity_fits {
            op.keys = Keys::from(self.core.keys.as_slice());
            op.effect = command.effect;
            op.writes = super::request::may_write(command);
            op.special = pin.begin(command, request, self.core.version, &mut op.keys, &mut op.effect);
            op.writes |= matches!(op.special, Special::Exec(_));
            self.core.switching = matches!(&op.special, Special::Exec(transaction) if transaction.mutes());
        } else if name == "exec" {
            // Redis discards the transaction.
            pin.transaction = None;
            pin.watching = false;
        }
        if op.writes {
            op.outcome = Outcome::Write;
        }
        self.before_sending(&op);
        self.send_on_pin(Some(op), request.frame());
        Flow::Next
    }

    /// Sends a request over the session's own connection that Redis is going to refuse, so that Redis says so.
    pub(super) fn send_pinned_plain(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let op = Op {
            command: command.id().number(),
            keys: Keys::None,
            effect: Effect::None,
            writes: false,
            pinned: true,
            special: Special::No,
            started: self.now,
            outcome: Outcome::Bypass,
        };
        self.send_on_pin(Some(op), request.frame());
        Flow::Next
    }

    /// Sends a frame over the session's own connection; `None`: nobody hears the reply.
    pub(super) fn send_on_pin(&mut self, op: Option<Op>, frame: &[u8]) {
        let muted = self.muted;
        let Some(pin) = &mut self.core.pin else { return };
        let number = op.is_some().then(|| self.core.pipeline.pend(muted));
        let op = op.unwrap_or(Op {
            command: crate::metrics::OTHER,
            keys: Keys::None,
            effect: Effect::None,
            writes: false,
            pinned: true,
            special: Special::Discard,
            started: self.now,
            outcome: Outcome::Local,
        });
        pin.outstanding += 1;
        pin.blocking += usize::from(matches!(op.special, Special::Blocking));
        pin.subscribing += usize::from(matches!(op.special, Special::Subscribe(_)));
        // A connection that waits for an element may wait for ever, and so may what stands behind it.
        let limit = self
            .context
            .shared
            .settings
            .command_timeout
            .filter(|_| pin.blocking == 0);
        let connection = pin.connection.clone();
        let waiter = Forwarded::new(self.session, number, op);
        if let Err((waiter, loss)) = connection.send(frame, waiter, limit, self.now) {
            self.lost.push((waiter, loss));
        }
    }
}

impl Pin {
    /// What this command does to the connection, and so what its reply means.
    fn begin(
        &mut self,
        command: &Command,
        request: &Request<'_>,
        version: Version,
        keys: &mut Keys,
        effect: &mut Effect,
    ) -> Special {
        match command.name() {
            "multi" => {
                self.transaction.get_or_insert_default();
                Special::Multi
            }
            "exec" | "discard" => {
                let Some(transaction) = self.transaction.take() else {
                    return Special::No;
                };
                self.watching = false;
                if command.name() == "discard" {
                    return Special::No;
                }
                *keys = Keys::from(transaction.keys.as_slice());
                *effect = if transaction.admin {
                    Effect::Admin
                } else {
                    Effect::Unknown
                };
                Special::Exec(transaction)
            }
            "watch" => {
                self.watching = true;
                Special::No
            }
            "unwatch" => {
                self.watching = false;
                Special::No
            }
            "select" => switch::database(request).map_or(Special::No, Special::Select),
            "hello" => read_hello(request, version).map_or(Special::No, |asked| Special::Hello(asked.into())),
            "auth" => {
                self.altered = true;
                Special::Auth
            }
            "monitor" => Special::Monitor,
            _ if command.is_blocking_call(request) => Special::Blocking,
            _ => match command.place(request) {
                crate::command::Place::Pinned(Why::Subscribe) => {
                    Special::Subscribe(subscribe::Expected::of(command, request))
                }
                crate::command::Place::Pinned(Why::Sticky) => {
                    self.altered = true;
                    Special::Keep
                }
                _ => Special::No,
            },
        }
    }
}

/// Hears what comes on a session's own connection and answers nobody.
struct Listener(Weak<Session>);

impl Outlet for Listener {
    fn frame(&self, frame: &[u8]) {
        if let Some(session) = self.0.upgrade() {
            session.pushed(frame);
        }
    }

    fn ended(&self) {
        if let Some(session) = self.0.upgrade() {
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
        core.pipeline.push(frame);
        if core.pipeline.bytes() > self.context.shared.settings.limits.client_output_buffer.as_usize() {
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

impl Turn<'_> {
    /// Answers with an error of our own.
    pub(super) fn refuse(&mut self, command: u16, text: &str) {
        let muted = self.muted;
        self.core
            .pipeline
            .ready(muted, |out| encode::error(out, text.as_bytes()));
        self.core.answer(command, Outcome::Error);
    }
}
