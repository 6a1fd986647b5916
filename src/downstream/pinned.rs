//! A connection of the session's own: while it has one, every request goes there, in order, past the near-cache.
//!
//! ```text
//! home ─ MULTI, WATCH, BLPOP, SUBSCRIBE, CLIENT TRACKING … (nothing on its way) → pinned
//! pinned ─ nothing on its way, no transaction, nothing watched, subscribed or kept → home
//! ```
//! The session waits for its own requests before it changes connection in either direction, so that effects keep their
//! order.

use std::rc::Rc;

use super::client_tracking::ClientTracking;
use super::edit::Edit;
use super::forward::{Forwarded, Op, Special, loss_text};
use super::identity::{read_auth, read_hello};
use super::listener::Listener;
use super::pause::Asked;
use super::pin::Pin;
use super::request::{Flow, Turn};
use super::rights::AclChange;
use super::session::{Core, Session};
use super::subscribe::{self, Subscriptions};
use super::switch;
use crate::coherence::Keys;
use crate::command::{Command, Effect, Origin, Pin as Why, Place, flag};
use crate::metrics::{Disconnect, Outcome};
use crate::resp::Request;
use crate::time::Instant;
use crate::upstream::Loss;

/// What the connection waited in is over, or was not to be ended.
pub(super) fn unhold(core: &mut Core) {
    if let Some(pin) = &mut core.pin {
        pin.held = pin.held.saturating_sub(1);
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
                self.context.with_pool(pin.node, |pool| {
                    pool.release(pin.connection, &pin.identity, pin.db, pin.version);
                });
            }
            self.context.shared.metrics.clients_pinned.dec();
        }
    }

    /// Gives the session a connection of its own. `Err`: the flow to go on with instead.
    pub(super) fn pin(&mut self, command: u16) -> Result<(), Flow> {
        self.pin_in(self.core.db, command)
    }

    /// The same for a command that needs one for this reason.
    pub(super) fn pin_for(&mut self, why: Why, command: u16) -> Result<(), Flow> {
        let pinned = self.pin(command);
        if pinned == Err(Flow::Next) && why == Why::Transaction {
            // What is behind it in the pipeline would run one by one.
            self.core.closing.get_or_insert(Disconnect::Upstream);
        }
        pinned
    }

    /// The same with a connection that is in database `db`.
    pub(super) fn pin_in(&mut self, db: u32, command: u16) -> Result<(), Flow> {
        self.try_pin_in(db).map_err(|why| match why {
            None => Flow::Hold,
            Some(loss) => {
                self.refuse(command, loss_text(&loss, false, false));
                Flow::Next
            }
        })
    }

    /// Gives the session a connection of its own. `Err`: why there is none; nothing: it must wait for what is on its way.
    pub(super) fn try_pin(&mut self) -> Result<(), Option<Loss>> {
        self.try_pin_in(self.core.db)
    }

    fn try_pin_in(&mut self, db: u32) -> Result<(), Option<Loss>> {
        if self.core.pin.is_some() {
            return Ok(());
        }
        if !self.core.is_quiet() {
            return Err(None);
        }
        let version = self.core.version;
        let identity = self.core.account.identity().clone();
        let node = self.node;
        let connection = self.context.with_pool(node, |pool| pool.pinned(&identity, db, version));
        let connection = connection.map_err(Some)?;
        let session = Rc::downgrade(self.session);
        connection.set_outlet(Some(Rc::new(Listener(session))));
        self.core.pin = Some(Pin {
            connection,
            node,
            identity,
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
            uploading: false,
            altered: false,
            held: 0,
            tracking: None,
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
        let (name, node) = (command.name(), pin.node);
        let queued =
            pin.transaction.is_some() && !matches!(name, "exec" | "discard" | "multi" | "watch" | "reset" | "quit");
        let mut op = Op {
            pinned: true,
            slot: self.slot,
            node,
            ..Op::plain(command.id().number(), self.now)
        };
        if queued {
            if command.place(request) != Place::Shared && !pin.is_quiet() {
                // If MULTI turns out to be refused, it would change a connection that others get to be something else.
                return Flow::Hold;
            }
            self.queue(command, request, op);
            return Flow::Next;
        }
        if arity_fits {
            op.keys = Keys::from(self.core.keys.as_slice());
            op.effect = command.effect;
            op.writes = super::request::may_write(command);
            op.special = pin.begin(command, request, &mut op.keys, &mut op.effect);
            op.writes |= matches!(op.special, Special::Exec(_));
            if command.edited {
                let edit = Edit::of(command, request, &self.context.shared);
                op.special = edit.map_or(Special::No, Special::from);
            }
            self.core.switching = match &op.special {
                Special::Exec(transaction) => transaction.decides(),
                Special::Hello(_) => true,
                special => special.ends_user(),
            };
        } else if name == "exec" {
            // Redis discards the transaction.
            pin.transaction = None;
            pin.watching = false;
        }
        if op.writes {
            op.outcome = Outcome::Write;
        }
        self.before_sending(&mut op);
        self.send_on_pin(Some(op), request.frame());
        Flow::Next
    }

    /// Sends a request over the session's own connection that Redis is going to refuse, so that Redis says so.
    pub(super) fn send_pinned_plain(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let op = Op {
            pinned: true,
            ..Op::plain(command.id().number(), self.now)
        };
        self.send_on_pin(Some(op), request.frame());
        Flow::Next
    }

    /// Sends a frame over the session's own connection; `None`: nobody hears the reply.
    pub(super) fn send_on_pin(&mut self, op: Option<Op>, frame: &[u8]) {
        if self.core.pin.is_none() {
            return;
        }
        let muted = self.muted;
        let number = op.is_some().then(|| self.core.pipeline.pend(muted));
        let op = op.map(|mut op| {
            if !matches!(op.special, Special::Blocking | Special::Subscribe(_)) {
                op.words = self.words.take();
            }
            op
        });
        let op = op.unwrap_or(Op {
            pinned: true,
            ..Op::unheard(self.now)
        });
        self.send_op_on_pin(number, op, frame);
    }

    /// Sends a frame over the session's own connection; `number` is its reply's slot.
    pub(super) fn send_op_on_pin(&mut self, number: Option<u64>, op: Op, frame: &[u8]) {
        let lost = send_op(self.session, self.core, number, op, frame, self.now);
        self.lost.extend(lost);
    }
}

/// Sends a frame over the session's own connection; `number` is its reply's slot. Gives back what was not sent, to be
/// told so when the session is not borrowed.
pub(super) fn send_op(
    session: &Rc<Session>,
    core: &mut Core,
    number: Option<u64>,
    op: Op,
    frame: &[u8],
    now: Instant,
) -> Option<(Forwarded, Loss)> {
    let pin = core.pin.as_mut()?;
    pin.outstanding += 1;
    pin.blocking += usize::from(matches!(op.special, Special::Blocking));
    pin.subscribing += usize::from(matches!(op.special, Special::Subscribe(_)));
    // A connection that waits for an element may wait for ever, and so may what stands behind it.
    let limit = session.context.shared.settings.command_timeout;
    let limit = limit.filter(|_| pin.blocking == 0);
    let waiter = Forwarded::new(session, number, op);
    pin.connection.send(frame, waiter, limit, now).err()
}

impl Pin {
    /// What this command does to the connection, and so what its reply means.
    fn begin(&mut self, command: &Command, request: &Request<'_>, keys: &mut Keys, effect: &mut Effect) -> Special {
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
                Special::Exec(Box::new(transaction))
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
            "hello" => read_hello(request).map_or(Special::No, |asked| Special::from(switch::Hello::from(asked))),
            "client|tracking" => Special::Tracking(ClientTracking::asked(request)),
            "client|pause" | "client|unpause" => {
                Asked::read(command.name(), request).map_or(Special::No, Special::Pause)
            }
            // Only where the server is shown as it is; otherwise they end here.
            "readonly" | "readwrite" | "asking" => {
                self.altered = true;
                Special::KeepIfDone
            }
            "auth" => read_auth(request).map_or(Special::No, Special::from),
            "monitor" => Special::Monitor,
            "acl|setuser" | "acl|deluser" | "acl|load" | "config|set" => {
                AclChange::of(command, request).map_or(Special::No, Special::from)
            }
            _ if command.is_blocking_call(request) => Special::Blocking,
            _ => match command.place(request) {
                Place::Pinned(Why::Subscribe) => {
                    Special::Subscribe(Box::new(subscribe::Expected::of(command, request)))
                }
                Place::Pinned(Why::Once) if command.flags.has(flag::ALLOW_BUSY) => Special::Apart,
                Place::Pinned(Why::Sticky) => {
                    self.altered = true;
                    match command.origin {
                        Origin::Learned => Special::Keep,
                        _ => Special::KeepIfDone,
                    }
                }
                _ => Special::No,
            },
        }
    }
}
