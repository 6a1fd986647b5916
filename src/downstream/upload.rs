//! A request with an argument too large to gather: it is passed on as it comes, over a connection of the session's own.
//!
//! ```text
//! beginning and first bytes ─ key killed, pinned → Upload ─ last byte → an ordinary request that awaits its reply
//!                                                     └ client gone, broken framing → connection closed: it never runs
//! ```
//! Only requests of which everything that decides anything comes first: the command, and its one key in argument 1.

use super::forward::{Forwarded, Op};
use super::request::{Flow, Turn, may_write};
use super::session::Core;
use crate::coherence::Keys as Hashes;
use crate::command::{Command, Effect, Keys, Lookup, Place};
use crate::metrics::{Disconnect, Outcome};
use crate::resp::{ProtocolError, Request, RequestLimits, RequestRest, RestScan, Version, encode};

/// An argument of which more than this is missing is not gathered. Chosen: smaller ones are not worth a connection.
pub(super) const LARGE_ARGUMENT: usize = 1 << 20;
/// Bytes that wait to be written to the server before the client has to wait.
const AHEAD: usize = 1 << 20;

/// A request that is being passed on.
pub(super) struct Upload {
    rest: RequestRest,
    /// Its reply's slot.
    number: u64,
}

/// What became of the bytes given.
pub(super) enum Passed {
    /// So many were passed on; the request is not whole.
    Part(usize),
    /// So many were passed on, and the request is whole.
    Whole(usize),
    /// Nothing: the server must take what it has first.
    Wait,
}

impl Core {
    /// Whether the request that this reply will answer is not whole yet.
    pub(super) fn is_uploading(&self, number: Option<u64>) -> bool {
        self.upload.as_ref().is_some_and(|upload| Some(upload.number) == number)
    }

    /// Ends an upload that cannot become a whole request.
    fn break_off(&mut self, error: ProtocolError) {
        let Some(upload) = self.upload.take() else { return };
        let mut reply = Vec::new();
        encode::error(&mut reply, &[b"ERR ", &error.reply()[..]].concat());
        self.pipeline.unmute(upload.number);
        self.pipeline.complete(upload.number, &reply);
        self.closing.get_or_insert(Disconnect::Protocol);
        if let Some(pin) = &self.pin {
            pin.connection.close();
        }
    }
}

impl Turn<'_> {
    /// Begins to pass a request on of which `unfinished` arguments are not all here, and of the first of these `missing`
    /// bytes. `None`: it is to be gathered.
    pub(super) fn begin_upload(
        &mut self,
        request: &Request<'_>,
        unfinished: usize,
        missing: usize,
        limits: RequestLimits,
    ) -> Option<Flow> {
        self.go_home();
        let Lookup::Known(command) = self.table.lookup(request) else {
            return None;
        };
        if !self.may_be_passed_on(command, request.len(), unfinished) {
            return None;
        }
        if self.core.must_wait() {
            return Some(Flow::Hold);
        }
        self.note_slot(command, request);
        if self.is_pinned_elsewhere() {
            return None;
        }
        match self.try_pin() {
            Ok(()) => {}
            Err(None) => return Some(Flow::Hold),
            Err(Some(_)) => return None,
        }
        self.mute();
        self.session.live.sent(command.id().number());
        let mut op = Op {
            effect: command.effect,
            writes: may_write(command),
            pinned: true,
            special: self.special(command, request),
            ..Op::plain(command.id().number(), self.now)
        };
        if command.keys != Keys::None && self.context.shared.settings.caching {
            op.keys = Hashes::One(self.context.shared.cache.hash(request.arg(1)));
        }
        if op.writes {
            op.outcome = Outcome::Write;
        }
        self.before_sending(&mut op);
        let number = self.core.pipeline.pend(self.muted);
        let waiter = Forwarded::new(self.session, Some(number), op);
        let pin = self.core.pin.as_mut()?;
        pin.begin_upload();
        if let Err((waiter, loss)) = pin.connection.send(request.frame(), waiter, None, self.now) {
            self.lost.push((waiter, loss));
        }
        let rest = RequestRest::new(limits, unfinished, missing);
        self.core.upload = Some(Box::new(Upload { rest, number }));
        Some(Flow::Next)
    }

    /// Whether what such a request does is known from its first `complete` arguments.
    fn may_be_passed_on(&self, command: &Command, complete: usize, unfinished: usize) -> bool {
        let pin = self.core.pin.as_ref();
        // A key or a channel in argument 1, or nothing of the kind.
        let all_is_here = match command.keys {
            Keys::None | Keys::Range { first: 1, last: 1, .. } => complete >= 2,
            _ => false,
        };
        all_is_here
            && command.place == Place::Shared
            && !command.edited
            && matches!(command.effect, Effect::Write | Effect::Read | Effect::None)
            && command.takes(complete + unfinished)
            && !self.is_listening()
            // Whether it is queued is known with its node.
            && self.core.multi.is_none()
            // Who watches is shown all of a request.
            && !self.monitored
            && pin.is_none_or(|pin| {
                pin.transaction.is_none()
                    && (self.core.version == Version::V3 || !(pin.is_subscribing() || pin.is_subscribed()))
            })
    }

    /// Whether the server takes what the session sends over a connection of its own; if not, the session is woken once
    /// it does.
    pub(super) fn is_taken(&self) -> bool {
        let Some(pin) = &self.core.pin else { return true };
        let taken = pin.connection.unwritten() <= AHEAD;
        if !taken {
            pin.connection.when_written(self.session.waker());
        }
        taken
    }

    /// Passes more of the request on, unless it is broken: then the client is told, and the server never sees a whole
    /// request.
    pub(super) fn upload(&mut self, bytes: &[u8]) -> Passed {
        if !self.is_taken() {
            return Passed::Wait;
        }
        let (Some(upload), Some(pin)) = (&mut self.core.upload, &mut self.core.pin) else {
            return Passed::Whole(0);
        };
        let bytes = bytes.get(..AHEAD).unwrap_or(bytes);
        match upload.rest.scan(bytes) {
            Ok(RestScan::Incomplete) => {
                pin.connection.send_more(bytes);
                Passed::Part(bytes.len())
            }
            Ok(RestScan::Complete { consumed }) => {
                pin.connection.send_more(bytes.get(..consumed).unwrap_or_default());
                // From now on it may be late like any other.
                let limit = self.context.shared.settings.command_timeout;
                pin.connection.limit_last(limit, self.now);
                pin.end_upload();
                self.core.upload = None;
                Passed::Whole(consumed)
            }
            Err(error) => {
                self.core.break_off(error);
                Passed::Part(bytes.len())
            }
        }
    }
}
