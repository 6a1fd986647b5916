//! The door: how AUTH and HELLO AUTH get Redis' own answer.
//!
//! One connection of the worker, the doorman, says nothing about itself; AUTH of all sessions goes there, and what comes
//! back is Redis' answer. The request waits in its session until then, so what follows it does not overtake it.
//!
//! ```text
//! AUTH ─ hold ─→ queue ─ few at once → doorman ─ reply, lost, late → the session's turn → let in, or told why not
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::forward::{Op, Special};
use super::identity::logged_in;
use super::request::{Flow, Turn};
use super::rights::is_small;
use super::session::Session;
use super::switch;
use crate::command::Command;
use crate::metrics::{Disconnect, OTHER, Outcome};
use crate::resp::{Request, encode};
use crate::time::Instant;

/// How many may be at the doorman at once. While he is a stranger to Redis, it closes him when more than about two
/// kilobytes of answers wait to be sent (CVE-2025-21605), and a refusal has 67 bytes.
const AT_ONCE: usize = 8;

/// Who is at a worker's doorman, and who waits for that.
#[derive(Default)]
pub(super) struct Door {
    inside: Cell<usize>,
    /// With when they came.
    queue: RefCell<VecDeque<(Weak<Session>, Instant)>>,
}

impl Door {
    /// Whether `session` may go to the doorman now; otherwise it is woken when it may.
    fn enter(&self, session: &Rc<Session>, now: Instant) -> bool {
        if self.inside.get() < AT_ONCE {
            self.inside.set(self.inside.get() + 1);
            return true;
        }
        if !session.at_door.replace(true) {
            self.queue.borrow_mut().push_back((Rc::downgrade(session), now));
        }
        false
    }

    /// One has his answer.
    pub(super) fn leave(&self) {
        self.inside.set(self.inside.get().saturating_sub(1));
        self.wake_next();
    }

    /// Wakes those for whom there is room, in case somebody who was woken had left; who waits for longer than `limit` is
    /// told `text` instead. Call it about ten times a second.
    pub(super) fn tend(&self, now: Instant, limit: Option<Duration>, text: impl Fn() -> String) {
        let is_late = |since: Instant| limit.is_some_and(|limit| now.since(since) > limit);
        let next_late = || self.queue.borrow_mut().pop_front_if(|(_, since)| is_late(*since));
        while let Some((session, _)) = next_late() {
            if let Some(session) = session.upgrade() {
                let mut reply = Vec::new();
                encode::error(&mut reply, text().as_bytes());
                session.core.borrow_mut().knocked = Some(Knocked::Failed(reply));
                session.at_door.set(false);
                session.wake();
            }
        }
        for _ in self.inside.get()..AT_ONCE {
            self.wake_next();
        }
    }

    fn wake_next(&self) {
        let next = || self.queue.borrow_mut().pop_front();
        if let Some(session) = std::iter::from_fn(next).find_map(|(session, _)| session.upgrade()) {
            session.at_door.set(false);
            session.wake();
        }
    }
}

/// What became of a session's question to the doorman.
#[derive(Debug)]
pub(super) enum Knocked {
    /// Redis' answer.
    Answered(Vec<u8>),
    /// There is none, and this is what the client is told.
    Failed(Vec<u8>),
    /// The doorman was lost before he answered. Asking again does no harm.
    Lost,
}

impl Turn<'_> {
    /// Has Redis judge the password in the first `count` arguments of `request`; `special` says what its success means.
    pub(super) fn ask_doorman(
        &mut self,
        command: &Command,
        request: &Request<'_>,
        count: usize,
        special: &Special,
    ) -> Flow {
        let number = command.id().number();
        if !is_small(request) {
            // Redis would close the doorman. What it takes from this client, its own connection will tell.
            return match self.pin(number) {
                Ok(()) => self.send_pinned(command, request),
                Err(flow) => flow,
            };
        }
        if !self.core.is_quiet() {
            return Flow::Hold;
        }
        match self.core.knocked.take() {
            None => self.knock(number, request, count, true),
            Some(Knocked::Lost) => self.knock(number, request, count, false),
            Some(Knocked::Failed(reply)) => {
                self.pass_error(number, &reply);
                // What is behind it would run as somebody else.
                self.core.closing.get_or_insert(Disconnect::Upstream);
                Flow::Next
            }
            Some(Knocked::Answered(reply)) => {
                self.let_in(number, special, &reply);
                Flow::Next
            }
        }
    }

    fn knock(&mut self, command: u16, request: &Request<'_>, count: usize, again: bool) -> Flow {
        if !self.context.door.enter(self.session, self.now) {
            self.core.knocked = (!again).then_some(Knocked::Lost);
            return Flow::Hold;
        }
        let doorman = self.context.pool.borrow_mut().doorman();
        let Some(doorman) = self.connected(command, doorman) else {
            self.context.door.leave();
            self.core.closing.get_or_insert(Disconnect::Upstream);
            return Flow::Next;
        };
        let mut frame = Vec::new();
        encode::request(&mut frame, request.args_from(0).take(count).collect::<Vec<_>>());
        let op = Op {
            special: Special::Knock { again },
            outcome: Outcome::Local,
            ..Op::plain(OTHER, self.now)
        };
        self.core.switching = true;
        self.resend(op, None, &frame, &doorman);
        Flow::Hold
    }

    fn let_in(&mut self, command: u16, special: &Special, reply: &[u8]) {
        let failed = reply.starts_with(b"-");
        let (session, core) = (self.session, &mut *self.core);
        let other = match special {
            Special::Hello(hello) if failed => {
                switch::refused(session, core, hello, reply, false);
                None
            }
            Special::Hello(hello) => switch::greeted(session, core, hello, reply, false),
            Special::Auth(credentials) if !failed => {
                logged_in(session, core, credentials, false);
                None
            }
            _ => None,
        };
        self.forget_sight();
        let reply = other.as_deref().unwrap_or(reply);
        match reply.starts_with(b"-") {
            true => self.pass_error(command, reply),
            false => self.local_reply(command, |out| out.extend_from_slice(reply)),
        }
    }
}
