//! What one session has done to another, which may live on another worker: orders go by the workers' inboxes, so that a
//! session is only ever touched by its own thread.
//!
//! ```text
//! CLIENT UNBLOCK 7:   asker ─ Unblock ─→ session 7 ─ CLIENT UNBLOCK <its upstream id> ─→ server
//!                     asker ←─ Answer ── session 7 ←──────────── :1 ──────────────────────┘
//! ```
//! While the server is asked, session 7 sends nothing more over its own connection and does not give it back: what is
//! unblocked is what it was waiting in, and never somebody else's command.

use std::rc::Rc;

use super::context::{Context, Ticket};
use super::forward::{Forwarded, Op, Special, loss_text};
use super::live::Seat;
use super::request::{Flow, Turn};
use super::session::Session;
use crate::metrics::{Disconnect, Outcome};
use crate::resp::{Request, canonical, encode};
use crate::time;
use crate::upstream::Identity;

/// What a session is told.
#[derive(Debug)]
pub enum What {
    /// Look again.
    Wake,
    /// Have the server end what it waits in, and answer whoever asked.
    Unblock {
        /// As CLIENT UNBLOCK's last argument says: the blocked client gets an error.
        error: bool,
        /// Where the answer goes.
        asker: Ticket,
        /// Who asks: the server decides whether it may.
        identity: Identity,
    },
    /// Have a connection of its own from now on, because another client redirects to this one, and tell its id.
    Host {
        /// Where the id goes.
        asker: Ticket,
    },
    /// The id of the connection that was asked for.
    Hosted {
        /// The reply's slot of the CLIENT TRACKING that waits for it.
        number: u64,
        /// What the server calls it; `None` when there is none.
        id: Option<i64>,
    },
    /// The reply to one of its requests.
    Answer {
        /// The reply's slot.
        number: u64,
        /// The reply.
        reply: Box<[u8]>,
    },
}

/// One order.
#[derive(Debug)]
pub struct Order {
    /// Who is to follow it.
    pub seat: Seat,
    /// What is to be done.
    pub what: What,
}

/// Brings orders to workers.
pub trait Courier: Send + Sync {
    /// Brings `order` to the worker of its seat; it is followed after this call.
    fn bring(&self, order: Order);
}

impl Context {
    /// Has a session follow an order, if it is still there.
    pub fn follow(&self, order: Order) {
        let Some(session) = self.session(order.seat.place, order.seat.generation) else {
            return self.follow_none(&order.what);
        };
        match order.what {
            What::Wake => session.wake(),
            What::Unblock { error, asker, identity } => session.unblock(error, asker, &identity),
            What::Host { asker } => session.host(asker),
            What::Hosted { number, id } => session.hosted(number, id),
            What::Answer { number, reply } => session.answered(number, &reply),
        }
    }

    /// The session has left; whoever waits for it hears so.
    fn follow_none(&self, what: &What) {
        match *what {
            What::Unblock { asker, .. } => self.answer(asker, b":0\r\n"),
            What::Host { asker } => self.hosted(asker, None),
            What::Wake | What::Hosted { .. } | What::Answer { .. } => {}
        }
    }

    /// Answers a request of any session.
    pub(super) fn answer(&self, asker: Ticket, reply: &[u8]) {
        let number = asker.number;
        let what = What::Answer {
            number,
            reply: reply.into(),
        };
        self.shared.common.order(asker.seat(), what);
    }

    /// Tells who redirects to a client which connection that client has.
    pub(super) fn hosted(&self, asker: Ticket, id: Option<i64>) {
        let number = asker.number;
        self.shared.common.order(asker.seat(), What::Hosted { number, id });
    }
}

impl Ticket {
    fn seat(self) -> Seat {
        Seat {
            worker: self.worker,
            place: self.place,
            generation: self.generation,
        }
    }
}

impl Session {
    /// CLIENT KILL named it.
    pub(super) fn is_killed(&self) -> bool {
        let killed = self.live.is_killed();
        if killed {
            self.core.borrow_mut().dead.get_or_insert(Disconnect::Kill);
        }
        killed
    }

    /// An order's answer came.
    fn answered(&self, number: u64, reply: &[u8]) {
        self.core.borrow_mut().pipeline.complete(number, reply);
        self.wake();
    }

    /// Has the server end what this session waits in.
    fn unblock(self: &Rc<Self>, error: bool, asker: Ticket, identity: &Identity) {
        let mut core = self.core.borrow_mut();
        let (db, version) = (core.db, core.version);
        let blocked = core.pin.as_mut().filter(|pin| pin.is_blocked());
        let Some((pin, id)) = blocked.and_then(|pin| pin.connection.peer_id().map(|id| (pin, id))) else {
            return self.context.answer(asker, b":0\r\n");
        };
        let home = self.context.pool.borrow_mut().shared(identity, db, version);
        let home = match home {
            Ok(home) => home,
            Err(loss) => {
                let mut reply = Vec::new();
                encode::error(&mut reply, loss_text(&loss, false, false).as_bytes());
                return self.context.answer(asker, &reply);
            }
        };
        pin.hold();
        let era = self.context.pool.borrow().era();
        core.home.sent(0, era);
        drop(core);
        let how: &[u8] = if error { b"ERROR" } else { b"TIMEOUT" };
        let mut frame = Vec::new();
        encode::request(
            &mut frame,
            [b"CLIENT".as_slice(), b"UNBLOCK", id.to_string().as_bytes(), how],
        );
        let now = time::now();
        let op = Op {
            special: Special::Unblock(asker),
            outcome: Outcome::Local,
            ..Op::plain(crate::metrics::OTHER, now)
        };
        let waiter = Forwarded::new(self, None, op);
        let limit = self.context.shared.settings.command_timeout;
        if let Err((waiter, loss)) = home.send(&frame, waiter, limit, now) {
            waiter.not_sent(&loss, now);
        }
    }
}

impl Turn<'_> {
    /// CLIENT UNBLOCK: the blocked session has it done.
    pub(super) fn unblock(&mut self, number: u16, request: &Request<'_>) -> Flow {
        let (id, error) = match read_unblock(request) {
            Ok(asked) => asked,
            Err(text) => {
                self.refuse(number, text);
                return Flow::Next;
            }
        };
        let peers = &self.context.shared.peers;
        // Who asks is not blocked. Its order would find what it says next, which may block.
        let id = u64::try_from(id).ok().filter(|&id| id != self.session.id);
        let Some(seat) = id.and_then(|id| peers.get(&id).map(|peer| peer.live.seat)) else {
            self.local_reply(number, |out| encode::integer(out, 0));
            return Flow::Next;
        };
        let asker = self.ticket();
        self.core.pipeline.pend(self.muted);
        let identity = self.core.account.identity().clone();
        let what = What::Unblock { error, asker, identity };
        self.context.shared.common.order(seat, what);
        self.core.answer(number, Outcome::Local);
        Flow::Next
    }

    /// Where an answer to the request in hand goes.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket {
            worker: self.context.worker,
            place: self.session.place,
            generation: self.session.generation,
            number: self.core.pipeline.next(),
        }
    }
}

/// Whom CLIENT UNBLOCK names, and whether with an error; otherwise what is wrong with it, in the server's words.
fn read_unblock(request: &Request<'_>) -> Result<(i64, bool), &'static str> {
    let reason = request.arg(3);
    let error = reason.eq_ignore_ascii_case(b"error");
    if request.len() > 4 {
        return Err("ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.");
    }
    if request.len() == 4 && !error && !reason.eq_ignore_ascii_case(b"timeout") {
        return Err("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
    }
    let id = canonical(request.arg(2)).ok_or("ERR value is not an integer or out of range")?;
    Ok((id, error))
}
