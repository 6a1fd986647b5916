//! A request on its way to the server: what its reply does to the cache, to the session and to the client.
//!
//! ```text
//! on its way ─ first bytes of the reply, or connection lost → applied ─ whole reply → released
//!      └ late → answered with an error, still on its way
//! ```
//! "Applied" comes before the client can read a byte of the reply: the second kill of a write precedes its
//! acknowledgement. "Released" ends what rules P and H wait for.

use std::rc::Rc;
use std::time::Duration;

use super::context::Ticket;
use super::session::{Session, nanos};
use super::transaction::{self, Transaction};
use super::{pinned, splice, subscribe, switch};
use crate::coherence::{Flushing, Keys};
use crate::command::Effect;
use crate::metrics::{Disconnect, ErrorKind, Origin, Outcome};
use crate::resp::encode;
use crate::time::Instant;
use crate::upstream::{Loss, Taken, Waiter};

/// What is special about a reply, beyond passing it on.
#[derive(Debug, Default)]
pub(super) enum Special {
    /// Nothing.
    #[default]
    No,
    /// Nobody hears it.
    Discard,
    /// SELECT: the session is in this database once it says OK.
    Select(u32),
    /// HELLO: the session speaks another protocol once it succeeds.
    Hello(switch::Hello),
    /// INFO: the `# Proxy` section is appended.
    Info,
    /// AUTH: a PING in its place for nearhit's own credentials, else from its success on the session keeps its connection.
    Auth,
    /// MULTI.
    Multi,
    /// EXEC of this transaction.
    Exec(Transaction),
    /// A command of the SUBSCRIBE family.
    Subscribe(subscribe::Expected),
    /// From its success on the session keeps its connection.
    Keep,
    /// From its success on lines of MONITOR come.
    Monitor,
    /// It may wait for as long as it likes.
    Blocking,
}

/// A request on its way.
pub(super) struct Op {
    pub(super) command: u16,
    /// Hashes of its keys.
    pub(super) keys: Keys,
    pub(super) effect: Effect,
    /// It may change data, so an unknown outcome must be called one.
    pub(super) writes: bool,
    /// On the session's own connection.
    pub(super) pinned: bool,
    pub(super) special: Special,
    pub(super) started: Instant,
    pub(super) outcome: Outcome,
    /// Keeps fetches from being stored while a command that flushes is on its way; letting it go flushes once more.
    pub(super) flushing: Option<Flushing<Ticket>>,
}

impl Op {
    /// A request that touches no key and is passed on as it is, at home.
    pub(super) fn plain(command: u16, started: Instant) -> Self {
        Self {
            command,
            keys: Keys::None,
            effect: Effect::None,
            writes: false,
            pinned: false,
            special: Special::No,
            started,
            outcome: Outcome::Bypass,
            flushing: None,
        }
    }

    /// Until it is answered nothing may be read from the cache: its effects are not told by its keys.
    pub(super) fn hides_effects(&self) -> bool {
        matches!(self.effect, Effect::Unknown | Effect::Admin)
    }
}

/// Who waits for one reply: a session, and the slot in its pipeline.
pub struct Forwarded {
    session: Rc<Session>,
    number: Option<u64>,
    op: Op,
    applied: bool,
    /// The client was told that the reply is late.
    late: bool,
    /// Parts of the reply were passed on.
    partly: bool,
}

impl Forwarded {
    /// `number` is the reply's slot; `None` when nobody hears it.
    pub(super) fn new(session: &Rc<Session>, number: Option<u64>, op: Op) -> Self {
        Self {
            session: Rc::clone(session),
            number,
            op,
            applied: false,
            late: false,
            partly: false,
        }
    }

    /// The effects of the request, once it was executed or may have been.
    fn apply(&mut self, now: Instant) {
        if std::mem::replace(&mut self.applied, true) {
            return;
        }
        let shared = &self.session.context.shared;
        if !shared.settings.caching {
            return;
        }
        let keys = self.op.keys.as_slice();
        let cache = &shared.cache;
        match self.op.effect {
            Effect::Read => {
                let waiting = keys.iter().fold(false, |waiting, &key| cache.saw(key, now) | waiting);
                // Only a proof asked for after the reply counts. What a later read would ask for comes before its own
                // reply, so without this a client that goes on reading would never see a hit again.
                if waiting && let Some(tracking) = &shared.tracking {
                    tracking.kick();
                }
            }
            Effect::Write | Effect::Unknown => keys.iter().for_each(|&key| cache.kill(key)),
            Effect::Admin => drop(self.op.flushing.take()),
            Effect::None | Effect::KeylessRead => {}
        }
        if matches!(self.op.effect, Effect::Unknown | Effect::Admin | Effect::KeylessRead) {
            self.session.core.borrow_mut().causality.saw(now);
        }
    }

    /// The request is over: what waited for it may go on.
    fn release(&mut self) {
        let mut core = self.session.core.borrow_mut();
        if self.op.pinned {
            if let Some(pin) = &mut core.pin {
                pin.returned(&self.op.special);
            }
        } else {
            core.at_home -= 1;
            core.causality.answered(&self.op.keys, self.op.hides_effects());
        }
        match self.op.special {
            Special::Select(_) | Special::Hello(_) if !self.op.pinned => core.switching = false,
            Special::Exec(_) => core.switching = false,
            _ => {}
        }
    }

    fn record(&self, kind: u8, now: Instant) {
        let outcome = if matches!(kind, b'-' | b'!') {
            Outcome::Error
        } else {
            self.op.outcome
        };
        self.session
            .context
            .recorder
            .record(self.op.command, outcome, nanos(now.since(self.op.started)));
    }

    /// The reply as the client is to read it.
    fn pass_on(&mut self, kind: u8, frame: &[u8]) {
        let failed = matches!(kind, b'-' | b'!');
        if failed {
            self.session
                .context
                .shared
                .metrics
                .command_errors
                .inc((Origin::Upstream, error_kind(frame)));
        }
        let Some(number) = self.number else { return };
        let mut core = self.session.core.borrow_mut();
        let core = &mut *core;
        match &self.op.special {
            Special::Select(db) if !failed && !self.late => switch::selected(&self.session, core, *db, self.op.pinned),
            Special::Hello(hello) if !failed && !self.late => {
                if let Some(reply) = switch::greeted(&self.session, core, hello, frame, self.op.pinned) {
                    return core.pipeline.complete(number, &reply);
                }
            }
            Special::Info if !failed => {
                if let Some(reply) = splice::info(&self.session.context.shared, frame, kind) {
                    return core.pipeline.complete(number, &reply);
                }
            }
            Special::Auth if !failed && !self.op.pinned => return core.pipeline.complete(number, b"+OK\r\n"),
            Special::Auth if !failed => pinned::keep(core),
            Special::Multi if failed && !frame.starts_with(b"-ERR MULTI calls") => pinned::refused_multi(core),
            Special::Exec(transaction) => {
                if let Some(reply) = transaction::executed(&self.session, core, transaction, frame) {
                    return core.pipeline.complete(number, &reply);
                }
            }
            Special::Keep if !(failed && frame.starts_with(b"-ERR unknown ")) => pinned::keep(core),
            Special::Monitor if !failed => pinned::monitoring(core),
            _ => {}
        }
        core.pipeline.complete(number, frame);
    }

    fn fail(&self, text: &str) {
        let Some(number) = self.number else { return };
        let mut reply = Vec::new();
        encode::error(&mut reply, text.as_bytes());
        self.session.core.borrow_mut().pipeline.complete(number, &reply);
    }

    fn count_error(&self, kind: ErrorKind) {
        let metrics = &self.session.context.shared.metrics;
        metrics.command_errors.inc((Origin::Proxy, kind));
        if self.op.writes && kind != ErrorKind::Connect {
            metrics.uncertain_replies.inc();
        }
    }
}

impl Waiter for Forwarded {
    fn frame(&mut self, kind: u8, frame: &[u8], now: Instant) -> Taken {
        if self.op.pinned {
            match subscribe::sort(&self.session, &mut self.op.special, self.number, kind, frame) {
                subscribe::Sorted::Reply => {}
                subscribe::Sorted::Message => return Taken::NotMine,
                subscribe::Sorted::Confirmation { last: false } => {
                    self.session.wake();
                    return Taken::More;
                }
                subscribe::Sorted::Confirmation { last: true } => {
                    self.apply(now);
                    self.record(kind, now);
                    self.release();
                    self.session.wake();
                    return Taken::Done;
                }
            }
        } else if kind == b'>' {
            return Taken::NotMine;
        }
        self.apply(now);
        self.pass_on(kind, frame);
        self.record(kind, now);
        self.release();
        self.session.wake();
        Taken::Done
    }

    fn part(&mut self, kind: u8, part: &[u8], _first: bool, last: bool, now: Instant) {
        self.apply(now);
        self.partly = true;
        if let Some(number) = self.number {
            self.session.core.borrow_mut().pipeline.append(number, part);
        }
        if last {
            if let Some(number) = self.number {
                self.session.core.borrow_mut().pipeline.finish(number);
            }
            self.record(kind, now);
            self.release();
        }
        self.session.wake();
    }

    fn late(&mut self, after: Duration, _now: Instant) {
        if self.partly {
            // The client has half of the reply: an error would become part of it. If the rest does not come either, the
            // connection is given up, and the client's with it.
            return;
        }
        self.late = true;
        self.fail(&self.session.context.late_text(after, self.op.writes));
        self.count_error(ErrorKind::Timeout);
        let mut core = self.session.core.borrow_mut();
        if !self.op.pinned {
            core.switching = false;
        }
        drop(core);
        self.session.wake();
    }

    fn lost(mut self, loss: &Loss, sent: bool, now: Instant) {
        self.apply(now);
        let text = loss_text(loss, sent, self.op.writes);
        if self.partly {
            // Half a reply was passed on; nothing can follow it.
            self.session.core.borrow_mut().dead.get_or_insert(Disconnect::Upstream);
        } else if !self.late {
            self.fail(&text);
            self.count_error(if sent { ErrorKind::Other } else { ErrorKind::Connect });
        }
        self.release();
        if self.op.pinned {
            // Whatever state the connection had is gone; the client must know.
            self.session
                .core
                .borrow_mut()
                .closing
                .get_or_insert(Disconnect::Upstream);
        }
        self.session.wake();
    }
}

/// What a client is told about a request that will not be answered. What may have changed data says so with a code of its
/// own, because client libraries repeat requests that failed with the usual ones.
pub(super) fn loss_text(loss: &Loss, sent: bool, writes: bool) -> String {
    match loss {
        Loss::Refused(text) => text.clone(),
        Loss::Connect(why) => format!("ERR nearhit: {why}; the command was not sent"),
        _ if !sent => format!("ERR nearhit: upstream connection lost before the command was sent: {loss}"),
        _ if writes => {
            format!("UNCERTAIN upstream connection lost after the command was sent; it may or may not have run: {loss}")
        }
        _ => format!("ERR nearhit: upstream connection lost before the reply came: {loss}"),
    }
}

fn error_kind(frame: &[u8]) -> ErrorKind {
    let code = frame
        .get(1..)
        .unwrap_or_default()
        .split(|&byte| byte == b' ' || byte == b'\r')
        .next()
        .unwrap_or_default();
    match code {
        b"NOAUTH" | b"NOPERM" | b"WRONGPASS" | b"DENIED" => ErrorKind::Denied,
        b"MOVED" | b"ASK" | b"CLUSTERDOWN" => ErrorKind::Moved,
        b"OOM" => ErrorKind::Oom,
        _ => ErrorKind::Other,
    }
}
