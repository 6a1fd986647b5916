//! What is done with one request: the turn a session takes over the requests it has received.
//!
//! The order of checks follows Redis' `processCommand` as far as it applies: the HTTP guard, existence, then what only
//! Redis can know (it is asked), then where the command runs.

use std::rc::Rc;

use super::context::Context;
use super::forward::{Forwarded, Op, Special, loss_text};
use super::session::{Core, Replies, Session};
use crate::coherence::{Keys, Sight};
use crate::command::{Cacheable, Command, CommandTable, Effect, Lookup, Pin, Place, flag};
use crate::metrics::{OTHER, Outcome};
use crate::resp::{Request, Version, encode};
use crate::time::{self, Instant};
use crate::upstream::Loss;

/// Requests after which the clock and the stream's proof are read again within one turn.
const SIGHT_REQUESTS: u32 = 64;

/// How to go on after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It is taken care of; on to the next one.
    Next,
    /// It must wait for what the session has on its way; nothing was done.
    Hold,
    /// Close the connection at once.
    Close,
}

/// A session's turn.
pub(super) struct Turn<'a> {
    pub(super) session: &'a Rc<Session>,
    pub(super) core: &'a mut Core,
    pub(super) context: &'a Rc<Context>,
    pub(super) table: &'a CommandTable,
    /// Read after the requests were.
    pub(super) now: Instant,
    sight: Option<(Sight, u32)>,
    /// Nobody hears the reply of the current request (CLIENT REPLY).
    pub(super) muted: bool,
    /// Requests that met a connection which had just ended; their waiters are told when the session is not borrowed.
    pub(super) lost: Vec<(Forwarded, Loss)>,
}

/// Whether a command may change data, so that an unknown outcome must be called one.
pub(super) fn may_write(command: &Command) -> bool {
    command.flags.has(flag::WRITE)
        || command.flags.has(flag::MAY_REPLICATE)
        || matches!(command.effect, Effect::Write | Effect::Unknown | Effect::Admin)
}

fn not_permitted(command: &Command) -> String {
    format!(
        "NOPERM this user has no permissions to run the '{}' command",
        command.name()
    )
}

impl<'a> Turn<'a> {
    pub(super) fn new(session: &'a Rc<Session>, core: &'a mut Core, table: &'a CommandTable) -> Self {
        let context = &session.context;
        Self {
            session,
            core,
            context,
            table,
            now: time::now(),
            sight: None,
            muted: false,
            lost: Vec::new(),
        }
    }

    /// Does what is to be done with `request`.
    pub(super) fn handle(&mut self, request: &Request<'_>) -> Flow {
        self.go_home();
        if self.core.switching {
            return Flow::Hold;
        }
        let skipped = std::mem::take(&mut self.core.skip_next);
        self.muted = skipped || self.core.replies == Replies::Off;
        let flow = match self.table.lookup(request) {
            Lookup::Known(command)
                if command.name() != "proxy" || self.context.shared.settings.admin_command == "proxy" =>
            {
                self.known(command, request)
            }
            Lookup::Known(_) | Lookup::UnknownCommand | Lookup::UnknownSubcommand(_) => self.unknown(request),
        };
        if skipped && flow == Flow::Hold {
            self.core.skip_next = true;
        }
        flow
    }

    fn known(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        if let Some(pin) = &self.core.pin {
            let queued = pin.transaction.is_some();
            return self.while_pinned(command, request, queued);
        }
        match command.place(request) {
            Place::Shared => self.shared(command, request),
            Place::Local => self.local(command, request),
            Place::Pinned(_) if !command.check_arity(request) => self.forward_plain(command, request),
            Place::Pinned(why) => match self.pin(command.id().number()) {
                Ok(()) => {
                    if why == Pin::Once {
                        // WAIT counts from the last write offset its connection has seen; any command brings it up to
                        // date, and everything this session wrote was answered before.
                        let mut ping = Vec::new();
                        encode::request(&mut ping, [b"PING".as_slice()]);
                        self.send_on_pin(None, &ping);
                    }
                    self.send_pinned(command, request)
                }
                Err(flow) => flow,
            },
            Place::Refused => {
                self.refuse(command.id().number(), &not_permitted(command));
                Flow::Next
            }
        }
    }

    fn while_pinned(&mut self, command: &Command, request: &Request<'_>, queued: bool) -> Flow {
        if matches!(command.name(), "quit" | "reset") {
            return self.local(command, request);
        }
        if let Some(pin) = self.core.pin.as_ref().filter(|_| self.core.version == Version::V2)
            && command.place(request) != Place::Pinned(Pin::Subscribe)
            && command.name() != "ping"
        {
            // In RESP2 a subscriber may ask for nothing else, and Redis says so.
            if pin.is_subscribing() {
                return Flow::Hold;
            }
            if pin.is_subscribed() {
                return self.send_pinned_plain(command, request);
            }
        }
        let answered_here = match command.name() {
            "hello" | "auth" | "select" => false,
            _ => command.place(request) == Place::Local && !queued,
        };
        if answered_here {
            // In which protocol, is known when everything before it is answered.
            return match &self.core.pin {
                Some(pin) if !pin.is_quiet() => Flow::Hold,
                _ => self.local(command, request),
            };
        }
        if command.place(request) == Place::Refused {
            let text = not_permitted(command);
            match queued {
                true => self.refuse_queued(command, &text),
                false => self.refuse(command.id().number(), &text),
            }
            return Flow::Next;
        }
        self.send_pinned(command, request)
    }

    /// A command nobody told us about: it may do anything to data and connection.
    fn unknown(&mut self, request: &Request<'_>) -> Flow {
        let name = request.name();
        if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
            // Somebody's browser was talked into speaking to us; Redis closes such connections without a word.
            return Flow::Close;
        }
        if !self.context.shared.settings.admin_command.is_empty()
            && name.eq_ignore_ascii_case(self.context.shared.settings.admin_command.as_bytes())
        {
            return self.admin(request);
        }
        if let Err(flow) = self.pin(OTHER) {
            return flow;
        }
        let queued = self.core.pin.as_ref().is_some_and(|pin| pin.transaction.is_some());
        let op = Op {
            command: OTHER,
            keys: Keys::None,
            // Within MULTI nothing is known of it either, until EXEC.
            effect: Effect::Admin,
            writes: true,
            pinned: true,
            special: if queued { Special::No } else { Special::Keep },
            started: self.now,
            outcome: Outcome::Write,
        };
        self.before_sending(&op);
        if let Some(transaction) = self.core.pin.as_mut().and_then(|pin| pin.transaction.as_mut()) {
            transaction.queue_unknown();
        }
        self.send_on_pin(Some(op), request.frame());
        Flow::Next
    }

    /// A command that may share a connection.
    fn shared(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        if !command.check_arity(request) {
            return self.forward_plain(command, request);
        }
        let effect = if self.collect_keys(command, request) {
            command.effect
        } else {
            Effect::Unknown
        };
        let keyless =
            self.core.keys.is_empty() || matches!(effect, Effect::Unknown | Effect::Admin | Effect::KeylessRead);
        if !self.core.causality.may_proceed(&self.core.keys, keyless) {
            return Flow::Hold;
        }
        if effect == Effect::Read {
            match command.cacheable(request) {
                Cacheable::Yes => return self.cached(command, request),
                Cacheable::Decomposed => return self.mget(command, request),
                Cacheable::No => {}
            }
        }
        let special = match command.name() {
            "info" => match self.info(request) {
                Some(special) => special,
                None => return Flow::Next,
            },
            _ => Special::No,
        };
        let writes = may_write(command);
        let op = Op {
            command: command.id().number(),
            keys: Keys::from(self.core.keys.as_slice()),
            effect,
            writes,
            pinned: false,
            special,
            started: self.now,
            outcome: if writes { Outcome::Write } else { Outcome::Bypass },
        };
        self.send_home(op, request.frame(), self.core.db, self.core.version);
        Flow::Next
    }

    /// Sends a read home that the cache does not answer.
    pub(super) fn forward_read(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let op = Op {
            command: command.id().number(),
            keys: Keys::from(self.core.keys.as_slice()),
            effect: Effect::Read,
            writes: false,
            pinned: false,
            special: Special::No,
            started: self.now,
            outcome: Outcome::Bypass,
        };
        self.send_home(op, request.frame(), self.core.db, self.core.version);
        Flow::Next
    }

    /// Sends a request that Redis is going to refuse, so that Redis says so.
    pub(super) fn forward_plain(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let op = Op {
            command: command.id().number(),
            keys: Keys::None,
            effect: Effect::None,
            writes: false,
            pinned: false,
            special: Special::No,
            started: self.now,
            outcome: Outcome::Bypass,
        };
        self.send_home(op, request.frame(), self.core.db, self.core.version);
        Flow::Next
    }

    /// Sends a request over the shared connection of this database and protocol.
    pub(super) fn send_home(&mut self, op: Op, frame: &[u8], db: u32, version: Version) {
        let connection = self.context.pool.borrow_mut().shared(db, version);
        let connection = match connection {
            Ok(connection) => connection,
            Err(loss) => {
                if matches!(op.special, Special::Select(_) | Special::Hello(_)) {
                    self.core.switching = false;
                }
                self.context
                    .shared
                    .metrics
                    .command_errors
                    .inc((crate::metrics::Origin::Proxy, crate::metrics::ErrorKind::Connect));
                return self.refuse(op.command, &loss_text(&loss, false, false));
            }
        };
        self.before_sending(&op);
        let number = self.core.pipeline.pend(self.muted);
        self.resend(op, number, frame, &connection);
    }

    fn resend(&mut self, op: Op, number: u64, frame: &[u8], connection: &crate::upstream::Connection<Forwarded>) {
        self.core.at_home += 1;
        self.core.causality.forwarded(&op.keys, op.may_touch_any_key());
        let limit = self.context.shared.settings.command_timeout;
        let waiter = Forwarded::new(self.session, Some(number), op);
        if let Err(lost) = connection.send(frame, waiter, limit, self.now) {
            self.lost.push(lost);
        }
    }

    /// Sends reads home whose fetch did not work out. They keep their place among the replies.
    pub(super) fn send_refused_fetches(&mut self) {
        for (number, fetching) in std::mem::take(&mut self.core.sent_home) {
            let op = Op {
                command: fetching.command,
                keys: Keys::One(fetching.key),
                effect: Effect::Read,
                writes: false,
                pinned: false,
                special: Special::No,
                started: fetching.started,
                outcome: Outcome::Bypass,
            };
            let connection = self.context.pool.borrow_mut().shared(self.core.db, self.core.version);
            match connection {
                Ok(connection) => self.resend(op, number, &fetching.frame, &connection),
                Err(loss) => {
                    let mut reply = Vec::new();
                    encode::error(&mut reply, loss_text(&loss, false, false).as_bytes());
                    self.core.pipeline.complete(number, &reply);
                    self.core.answer(fetching.command, Outcome::Error);
                }
            }
            self.core.causality.fetched(fetching.key);
        }
    }

    /// The first kill: from here on nobody is served what this request is about to change.
    pub(super) fn before_sending(&mut self, op: &Op) {
        let shared = &self.context.shared;
        if !shared.settings.caching {
            return;
        }
        match op.effect {
            Effect::Write | Effect::Unknown => op.keys.as_slice().iter().for_each(|&key| shared.cache.kill(key)),
            Effect::Admin => shared.cache.flush_by_command(),
            Effect::Read | Effect::None | Effect::KeylessRead => {}
        }
    }

    /// Puts the hashes of the request's keys into `core.keys`; false: they cannot be told.
    pub(super) fn collect_keys(&mut self, command: &Command, request: &Request<'_>) -> bool {
        let (keys, cache) = (&mut self.core.keys, &self.context.shared.cache);
        keys.clear();
        if !self.context.shared.settings.caching {
            return true;
        }
        command
            .for_each_key(request, |index| keys.push(cache.hash(request.arg(index))))
            .is_ok()
    }

    /// What lookups start from; read anew after so many requests.
    pub(super) fn sight(&mut self) -> Sight {
        let fresh = match self.sight.take() {
            Some((sight, left)) if left > 0 => (sight, left - 1),
            used_up => {
                if used_up.is_some() {
                    self.now = time::now();
                }
                (self.context.shared.cache.sight(self.now), SIGHT_REQUESTS)
            }
        };
        let sight = fresh.0.clone();
        self.sight = Some(fresh);
        sight
    }
}
