//! CLIENT TRACKING: a client that caches by itself has a connection of its own, on which the server tracks it.
//!
//! ```text
//! CLIENT TRACKING on REDIRECT 7:   asker ─ Host ─→ session 7: keeps a connection of its own from now on
//!                                  asker ←─ Hosted ── its id at the server
//!                                  asker ─ CLIENT TRACKING on REDIRECT <that id> ─→ server
//! ```
//! Ids are nearhit's towards clients and the server's towards the server.

use std::rc::Rc;

use super::client_kill::NOBODY;
use super::context::Ticket;
use super::forward::{Op, Special};
use super::live::{Shown, letter};
use super::orders::What;
use super::request::{Flow, Turn};
use super::session::{Core, Session};
use crate::command::Command;
use crate::metrics::Outcome;
use crate::resp::{Request, Value, Version, canonical, encode};
use crate::time;

const BROKEN: &[u8] = b">2\r\n$21\r\ntracking-redir-broken\r\n:";

/// How the server tracks a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClientTracking {
    /// The client, as nearhit calls it, that gets its invalidations.
    redirect: Option<u64>,
    broadcast: bool,
    /// That client has left.
    broken: bool,
}

impl ClientTracking {
    /// What the session is when the server says OK; `None`: not tracked.
    pub(super) fn asked(request: &Request<'_>) -> Option<Self> {
        request.arg(2).eq_ignore_ascii_case(b"on").then(|| Self {
            redirect: None,
            broadcast: request.args_from(3).any(|arg| arg.eq_ignore_ascii_case(b"bcast")),
            broken: false,
        })
    }

    /// What CLIENT LIST tells about it.
    pub(super) fn show(self, shown: &mut Shown) {
        shown.letters |= letter::TRACKING;
        if self.broken {
            shown.letters |= letter::BROKEN_REDIRECT;
        }
        if self.broadcast {
            shown.letters |= letter::BROADCAST;
        }
        let redirect = self.redirect.unwrap_or(0);
        shown.redirect = i64::try_from(redirect).unwrap_or(i64::MAX);
    }
}

/// A CLIENT TRACKING that waits until its target has a connection of its own.
#[derive(Debug)]
pub(super) struct Redirecting {
    args: Vec<Box<[u8]>>,
    /// Which of them is the target's id.
    at: usize,
    target: u64,
    asked: Option<ClientTracking>,
    command: u16,
}

/// The place of the client's id behind REDIRECT.
pub(super) fn redirect_at(request: &Request<'_>) -> Option<usize> {
    let mut at = 3;
    while at < request.len() {
        let option = request.arg(at);
        if option.eq_ignore_ascii_case(b"redirect") && at + 1 < request.len() {
            return Some(at + 1);
        }
        at += if option.eq_ignore_ascii_case(b"prefix") { 2 } else { 1 };
    }
    None
}

impl Turn<'_> {
    /// In front of a cluster a client's reads go to several nodes, and none of them could tell it of all changes: what it kept
    /// would grow old unseen. `None`: it may be tracked, or asks for something else.
    pub(super) fn refuse_tracking(&mut self, command: &Command, request: &Request<'_>) -> Option<Flow> {
        if command.name() != "client|tracking" {
            return None;
        }
        if request.len() < 3 || request.arg(2).eq_ignore_ascii_case(b"off") {
            return None;
        }
        let text = "ERR nearhit: a client that reads from several nodes of a cluster cannot be tracked; nearhit's own cache needs no tracking of clients";
        match self.core.pin.as_ref().is_some_and(|pin| pin.transaction.is_some()) {
            true => self.refuse_queued(command, text),
            false if self.core.multi.is_some() => self.spoil_waiting(command.id().number(), text),
            false => self.refuse(command.id().number(), text),
        }
        Some(Flow::Next)
    }

    /// CLIENT TRACKING with a client to redirect to.
    pub(super) fn redirect(&mut self, command: &Command, request: &Request<'_>, at: usize) -> Flow {
        if let Err(flow) = self.pin(command.id().number()) {
            return flow;
        }
        let Some(id) = canonical(request.arg(at)) else {
            // The server says what is wrong with it.
            return self.send_pinned(command, request);
        };
        let mut redirecting = Redirecting {
            args: request.args_from(0).map(Box::from).collect(),
            at,
            target: u64::try_from(id).unwrap_or(0),
            asked: ClientTracking::asked(request),
            command: command.id().number(),
        };
        // A second target is a mistake that the server is left to find; it must not be one of its own clients.
        for (index, arg) in redirecting.args.iter_mut().enumerate().skip(at + 1) {
            if canonical(request.arg(index)).is_some() {
                *arg = NOBODY.into();
            }
        }
        let asker = self.ticket();
        self.core.pipeline.pend(self.muted);
        self.core.switching = true;
        // Nobody else gets it until it is known what to send over it.
        if let Some(pin) = &mut self.core.pin {
            pin.hold();
        }
        let target = redirecting.target;
        self.core.redirecting = Some(Box::new(redirecting));
        let seat = self.context.shared.peers.get(&target).map(|peer| peer.live.seat);
        let common = &self.context.shared.common;
        match seat {
            Some(seat) => common.order(seat, What::Host { asker }),
            None => self.context.hosted(asker, None),
        }
        Flow::Next
    }

    /// Takes a connection of its own for clients that redirect to this one, as soon as nothing is on its way.
    pub(super) fn host(&mut self) {
        if self.core.hosts.is_empty() {
            return;
        }
        match self.try_pin() {
            Ok(()) => {}
            Err(None) => return,
            Err(Some(_)) => {
                for asker in std::mem::take(&mut self.core.hosts) {
                    self.context.hosted(asker, None);
                }
                return;
            }
        }
        let Some(pin) = &mut self.core.pin else { return };
        pin.keep_as_target();
        let asked = std::mem::take(&mut self.core.hosts);
        let mut ping = Vec::new();
        encode::request(&mut ping, [b"PING".as_slice()]);
        let op = Op {
            pinned: true,
            special: Special::Host(asked),
            outcome: Outcome::Local,
            ..Op::plain(crate::metrics::OTHER, self.now)
        };
        // Once it is answered, the connection is up and its id is known.
        self.send_op_on_pin(None, op, &ping);
    }
}

impl Session {
    /// Another client wants its invalidations to come here.
    pub(super) fn host(&self, asker: Ticket) {
        let mut core = self.core.borrow_mut();
        if let Some(pin) = &mut core.pin
            && let Some(id) = pin.connection.peer_id()
        {
            pin.keep_as_target();
            return self.context.hosted(asker, Some(id));
        }
        core.hosts.push(asker);
        drop(core);
        self.wake();
    }

    /// The target has a connection of its own, whose id at the server is `id`; `None`: there is no such client.
    pub(super) fn hosted(self: &Rc<Self>, number: u64, id: Option<i64>) {
        let mut core = self.core.borrow_mut();
        core.switching = false;
        let Some(redirecting) = core.redirecting.take() else {
            return;
        };
        super::pinned::unhold(&mut core);
        let Redirecting {
            mut args,
            at,
            target,
            asked,
            command,
        } = *redirecting;
        if let Some(arg) = args.get_mut(at) {
            *arg = id.map_or(NOBODY.into(), |id| id.to_string().into_bytes().into());
        }
        let mut frame = Vec::new();
        encode::request(&mut frame, args.iter().map(|arg| &**arg));
        let now = time::now();
        let redirect = Some(target);
        let op = Op {
            pinned: true,
            special: Special::Tracking(asked.map(|asked| ClientTracking { redirect, ..asked })),
            ..Op::plain(command, now)
        };
        let lost = super::pinned::send_op(self, &mut core, Some(number), op, &frame, now);
        drop(core);
        if let Some((waiter, loss)) = lost {
            waiter.not_sent(&loss, now);
        }
        self.wake();
    }
}

/// CLIENT TRACKING succeeded.
pub(super) fn tracked(core: &mut Core, tracking: Option<ClientTracking>) {
    if let Some(pin) = &mut core.pin {
        pin.track(tracking);
    }
}

/// A push for a tracked client, in nearhit's words; `None`: as it came.
pub(super) fn own_push(core: &mut Core, frame: &[u8]) -> Option<Vec<u8>> {
    if !frame.starts_with(BROKEN) {
        return None;
    }
    let tracking = core.pin.as_mut()?.tracking()?;
    tracking.broken = true;
    let mut push = BROKEN.to_vec();
    push.extend_from_slice(tracking.redirect?.to_string().as_bytes());
    push.extend_from_slice(b"\r\n");
    Some(push)
}

fn redirect_of(core: &Core) -> Option<i64> {
    let redirect = core.pin.as_ref()?.tracked()?.redirect?;
    i64::try_from(redirect).ok()
}

/// The reply to CLIENT GETREDIR.
pub(super) fn own_redirect(core: &Core, frame: &[u8]) -> Option<Vec<u8>> {
    let Value::Integer(1..) = Value::decode(frame, Version::V2).ok()? else {
        return None;
    };
    let mut reply = Vec::new();
    encode::integer(&mut reply, redirect_of(core)?);
    Some(reply)
}

/// The reply to CLIENT TRACKINGINFO.
pub(super) fn own_info(core: &Core, frame: &[u8]) -> Option<Vec<u8>> {
    let redirect = redirect_of(core)?;
    let mut value = Value::decode(frame, core.version).ok()?;
    let pairs: Vec<(&Value, &mut Value)> = match &mut value {
        Value::Map(pairs) => pairs.iter_mut().map(|(name, value)| (&*name, value)).collect(),
        Value::Array(flat) => flat
            .chunks_exact_mut(2)
            .filter_map(|pair| match pair {
                [name, value] => Some((&*name, value)),
                _ => None,
            })
            .collect(),
        _ => return None,
    };
    for (name, value) in pairs {
        if name.as_bytes() == Some(b"redirect") && matches!(value, Value::Integer(1..)) {
            *value = Value::Integer(redirect);
        }
    }
    let mut reply = Vec::new();
    value.encode(core.version, &mut reply);
    Some(reply)
}
