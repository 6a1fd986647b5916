//! What is done with one request: the turn a session takes over the requests it has received.
//!
//! The order of checks follows Redis' `processCommand` as far as it applies: the HTTP guard, existence, then what only
//! Redis can know (it is asked), then where the command runs.

use std::rc::Rc;

use super::client_tracking::redirect_at;
use super::context::Context;
use super::edit::Edit;
use super::forward::{Forwarded, Op, Special};
use super::monitor;
use super::rights::{AclChange, is_http};
use super::session::{Core, Replies, Session};
use crate::coherence::{Keys, Sight};
use crate::command::{Cacheable, Command, CommandTable, Effect, Last, Lookup, Pin, Place, Slot, error_text, flag};
use crate::metrics::{OTHER, Outcome};
use crate::mutants::{Mutant, mutated};
use crate::resp::{Request, Version, encode};
use crate::time::{self, Instant};
use crate::topology::NodeId;
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

/// What lookups start from, for some requests.
pub(super) struct Sighted {
    /// Of which node, in a cluster.
    node: Option<NodeId>,
    pub(super) sight: Sight,
    /// For so many requests more.
    left: u32,
}

/// A session's turn.
pub(super) struct Turn<'a> {
    pub(super) session: &'a Rc<Session>,
    pub(super) core: &'a mut Core,
    pub(super) context: &'a Rc<Context>,
    pub(super) table: &'a CommandTable,
    /// Most clients ask the same over and over.
    last: Last<'a>,
    /// Read after the requests were.
    pub(super) now: Instant,
    pub(super) sight: Option<Sighted>,
    /// In a cluster, the slot of the request in hand, by its first key.
    pub(super) slot: Option<Slot>,
    /// In a cluster: others of its keys are of other slots.
    pub(super) several: bool,
    /// In a cluster, the node that has it.
    pub(super) node: Option<NodeId>,
    /// Nobody hears the reply of the current request (CLIENT REPLY).
    pub(super) muted: bool,
    /// The server answers nothing, so neither does the near-cache.
    paused: bool,
    /// Somebody watches.
    pub(super) monitored: bool,
    /// What is to be shown of the request in hand.
    pub(super) words: Option<Box<[u8]>>,
    /// What the session is told about the reply to the request in hand.
    pub(super) attribute: Option<Box<[u8]>>,
    /// Requests that met a connection which had just ended; their waiters are told when the session is not borrowed.
    pub(super) lost: Vec<(Forwarded, Loss)>,
}

/// Whether a command may change data, so that an unknown outcome must be called one.
pub(super) fn may_write(command: &Command) -> bool {
    command.flags.has(flag::WRITE)
        || command.flags.has(flag::MAY_REPLICATE)
        || matches!(command.effect, Effect::Write | Effect::Unknown | Effect::Admin)
}

/// Where a CLIENT TRACKING names another client.
fn redirects(command: &Command, request: &Request<'_>) -> Option<usize> {
    let tracking = command.name() == "client|tracking" && command.check_arity(request);
    tracking.then(|| redirect_at(request)).flatten()
}

pub(super) fn not_permitted(command: &Command) -> String {
    format!(
        "NOPERM this user has no permissions to run the '{}' command",
        command.name()
    )
}

impl<'a> Turn<'a> {
    pub(super) fn new(session: &'a Rc<Session>, core: &'a mut Core, table: &'a CommandTable, now: Instant) -> Self {
        let context = &session.context;
        Self {
            session,
            core,
            context,
            table,
            last: Last::default(),
            now,
            sight: None,
            slot: None,
            several: false,
            node: None,
            muted: false,
            monitored: context.shared.common.monitors.any(),
            words: None,
            attribute: None,
            paused: context.shared.common.pause.holds(now),
            lost: Vec::new(),
        }
    }

    /// Does what is to be done with `request`.
    pub(super) fn handle(&mut self, request: &Request<'_>) -> Flow {
        self.attribute = None;
        (self.slot, self.several, self.node) = (None, false, None);
        self.go_home();
        if self.core.must_wait() {
            return Flow::Hold;
        }
        let skipped = self.mute();
        let flow = self.decide(request);
        if skipped && flow == Flow::Hold {
            self.core.skip_next = true;
        }
        flow
    }

    /// Whether the reply of the current request is heard; gives whether it is for CLIENT REPLY SKIP that it is not.
    pub(super) fn mute(&mut self) -> bool {
        let skipped = std::mem::take(&mut self.core.skip_next);
        self.muted = skipped || self.core.replies == Replies::Off;
        skipped
    }

    fn decide(&mut self, request: &Request<'_>) -> Flow {
        let table = self.table;
        let lookup = table.lookup_after(&mut self.last, request);
        let known = match lookup {
            Lookup::Known(command)
                if command.name() != "proxy" || self.context.shared.settings.admin_command == "proxy" =>
            {
                Some(command)
            }
            _ => None,
        };
        self.session
            .live
            .sent(known.map_or(OTHER, |command| command.id().number()));
        if !self.core.is_authenticated()
            && let Some(flow) = self.demand_auth(known, &lookup, request)
        {
            return flow;
        }
        match known {
            Some(command) if self.monitored || self.core.watcher.is_some() => self.known_and_shown(command, request),
            Some(command) => self.known(command, request),
            None => self.unknown(request),
        }
    }

    /// A known command while somebody watches. What is sent to the server is shown when it is answered, as far as it
    /// does not wait there; all else is shown now.
    fn known_and_shown(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        if let Some(flow) = self.refuse_watcher(command, request) {
            return flow;
        }
        self.words = match command.check_arity(request) {
            true => monitor::words(command, request),
            false => None,
        };
        let flow = self.known(command, request);
        if let Some(words) = self.words.take().filter(|_| flow == Flow::Next) {
            self.session.show_line(self.core.db, &words);
        }
        flow
    }

    fn known(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        if self.context.nodes.is_some()
            && let Some(flow) = self.known_in_cluster(command, request)
        {
            return flow;
        }
        if (self.is_listening() || command.place == Place::Pinned(Pin::Subscribe))
            && let Some(flow) = self.listening(command, request)
        {
            return flow;
        }
        let past_watch = mutated(Mutant::WatchCached) && command.effect == Effect::Read;
        if let Some(pin) = &self.core.pin
            && !(past_watch && pin.only_watches())
        {
            let queued = pin.transaction.is_some();
            if self.begins_waiting(command, request) {
                return self.begin_waiting(command, request);
            }
            return match self.on_another_node(command, request) {
                Some(flow) => flow,
                None => self.while_pinned(command, request, queued),
            };
        }
        match command.place(request) {
            Place::Shared => self.shared(command, request),
            Place::Local => self.local(command, request),
            Place::Pinned(_) if !command.check_arity(request) => self.forward_plain(command, request),
            Place::Pinned(Pin::Transaction) if self.begins_waiting(command, request) => {
                self.begin_waiting(command, request)
            }
            Place::Pinned(Pin::Once) if let Some(flow) = self.ask_apart(command, request) => flow,
            Place::Pinned(Pin::Monitor) if let Some(flow) = self.monitor(command, request) => flow,
            Place::Pinned(Pin::Sticky) if let Some(at) = redirects(command, request) => {
                self.redirect(command, request, at)
            }
            Place::Pinned(Pin::Once) if command.flags.has(flag::ALLOW_BUSY) => self.past_a_script(command, request),
            Place::Pinned(why) => match self.pin_for(why, command.id().number()) {
                Ok(()) => {
                    if why == Pin::Once && command.flags.has(flag::BLOCKING) {
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
                self.refuse(command.id().number(), not_permitted(command));
                Flow::Next
            }
        }
    }

    /// What is different in front of a cluster about every known command; `None`: it is as any.
    fn known_in_cluster(&mut self, command: &Command, request: &Request<'_>) -> Option<Flow> {
        self.note_slot(command, request);
        if let Some(flow) = self.refuse_tracking(command, request) {
            return Some(flow);
        }
        self.core.multi.as_ref()?;
        self.while_waiting(command, request)
    }

    fn while_pinned(&mut self, command: &Command, request: &Request<'_>, queued: bool) -> Flow {
        if matches!(command.name(), "quit" | "reset") && command.check_arity(request) {
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
        if !queued
            && command.place == Place::Pinned(Pin::Monitor)
            && let Some(flow) = self.monitor(command, request)
        {
            return flow;
        }
        if !queued && let Some(at) = redirects(command, request) {
            return self.redirect(command, request, at);
        }
        self.send_pinned(command, request)
    }

    /// A command nobody told us about: it may do anything to data and connection.
    fn unknown(&mut self, request: &Request<'_>) -> Flow {
        if is_http(request) {
            return Flow::Close;
        }
        if let Some(flow) = self.unknown_while_listening(request) {
            return flow;
        }
        if self.is_admin(request) {
            return match self.table.by_name("proxy") {
                Some(command) => self.known(command, request),
                None => self.forward_unknown(request),
            };
        }
        self.forward_unknown(request)
    }

    fn forward_unknown(&mut self, request: &Request<'_>) -> Flow {
        if self.core.multi.is_some() {
            self.spoil_waiting(OTHER, error_text::unknown(&self.table.lookup(request), request));
            return Flow::Next;
        }
        if let Err(flow) = self.pin(OTHER) {
            return flow;
        }
        let queued = self.core.pin.as_ref().is_some_and(|pin| pin.transaction.is_some());
        if queued && self.core.pin.as_ref().is_some_and(|pin| !pin.is_quiet()) {
            // If MULTI turns out to be refused, it runs, and nobody else may get the connection afterwards.
            return Flow::Hold;
        }
        let mut op = Op {
            effect: Effect::Unknown,
            writes: true,
            pinned: true,
            special: if queued { Special::No } else { Special::Keep },
            outcome: Outcome::Write,
            ..Op::plain(OTHER, self.now)
        };
        self.before_sending(&mut op);
        if let Some(transaction) = self.core.pin.as_mut().and_then(|pin| pin.transaction.as_mut()) {
            transaction.queue_unknown();
        }
        self.send_on_pin(Some(op), request.frame());
        Flow::Next
    }

    /// A command that may share a connection.
    pub(super) fn shared(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        if !command.check_arity(request) {
            return self.forward_plain(command, request);
        }
        let effect = if self.collect_keys(command, request) {
            command.effect
        } else {
            Effect::Unknown
        };
        if !self.core.causality.may_proceed(&self.core.keys, effect) {
            return Flow::Hold;
        }
        let reads = effect == Effect::Read || (mutated(Mutant::PfcountCached) && command.name() == "pfcount");
        if reads && !self.paused {
            let shadow = self.context.shared.settings.shadow;
            match command.cacheable(request) {
                Cacheable::Yes if shadow => return self.shadow_one(command, request),
                Cacheable::Yes => return self.cached(command, request),
                Cacheable::Decomposed if self.several => return self.mget_over_nodes(command, request),
                Cacheable::Decomposed if shadow => return self.shadow_many(command, request),
                Cacheable::Decomposed => return self.mget(command, request),
                Cacheable::No => {}
            }
            if let Some(flow) = self.read_alone(command, request) {
                return flow;
            }
        }
        self.send_shared(command, request, effect)
    }

    /// The same, past the near-cache.
    pub(super) fn shared_uncached(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        if !command.check_arity(request) {
            return self.forward_plain(command, request);
        }
        let effect = match self.collect_keys(command, request) {
            true => command.effect,
            false => Effect::Unknown,
        };
        if !self.core.causality.may_proceed(&self.core.keys, effect) {
            return Flow::Hold;
        }
        self.send_shared(command, request, effect)
    }

    fn send_shared(&mut self, command: &Command, request: &Request<'_>, effect: Effect) -> Flow {
        if let Some(flow) = self.scatter(command, request, effect) {
            return flow;
        }
        let special = self.special(command, request);
        // Whoever deletes itself is not to have anything behind that done.
        self.core.switching = special.ends_user();
        let writes = may_write(command);
        let op = Op {
            keys: Keys::from(self.core.keys.as_slice()),
            effect,
            writes,
            special,
            outcome: if writes { Outcome::Write } else { Outcome::Bypass },
            ..Op::plain(command.id().number(), self.now)
        };
        if op.is_routed() {
            return self.send_read(op, command, request);
        }
        self.send_home(op, request.frame(), self.core.db, self.core.version);
        Flow::Next
    }

    /// What is special about the reply to a request that may share a connection.
    pub(super) fn special(&self, command: &Command, request: &Request<'_>) -> Special {
        if command.edited {
            Edit::of(command, request, &self.context.shared).map_or(Special::No, Special::from)
        } else {
            AclChange::of(command, request).map_or(Special::No, Special::from)
        }
    }

    /// Sends a read home that the cache does not answer.
    pub(super) fn forward_read(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        if let Some(flow) = self.scatter(command, request, Effect::Read) {
            return flow;
        }
        if let Some(flow) = self.read_alone(command, request) {
            return flow;
        }
        let op = Op {
            keys: Keys::from(self.core.keys.as_slice()),
            effect: Effect::Read,
            ..Op::plain(command.id().number(), self.now)
        };
        self.send_read(op, command, request)
    }

    /// Sends a request that Redis is going to refuse, so that Redis says so.
    pub(super) fn forward_plain(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let op = Op::plain(command.id().number(), self.now);
        self.send_home(op, request.frame(), self.core.db, self.core.version);
        Flow::Next
    }

    /// Puts the hashes of the request's keys into `core.keys`; false: they cannot be told.
    pub(super) fn collect_keys(&mut self, command: &Command, request: &Request<'_>) -> bool {
        let (keys, shared) = (&mut self.core.keys, &self.context.shared);
        keys.clear();
        if !shared.settings.caching && shared.routing.is_none() {
            return true;
        }
        command
            .for_each_key(request, |index| keys.push(shared.cache.hash(request.arg(index))))
            .is_ok()
    }

    /// The session is somebody else now: what it saw of the stream is not its own.
    pub(super) fn forget_sight(&mut self) {
        self.sight = None;
    }

    /// Has `self.sight` hold what lookups of the request in hand start from; it is read anew after so many requests.
    /// `None` there: nothing is cached for who the session is.
    pub(super) fn renew_sight(&mut self) {
        match &mut self.sight {
            Some(seen) if seen.left > 0 && seen.node == self.node => seen.left -= 1,
            _ => self.look_anew(),
        }
    }

    fn look_anew(&mut self) {
        let node = self.node;
        let left = match &self.sight {
            Some(seen) if seen.left > 0 => seen.left - 1,
            None => SIGHT_REQUESTS,
            Some(_) => {
                self.now = time::now();
                SIGHT_REQUESTS
            }
        };
        self.sight = self.core.account.partition(node).map(|partition| Sighted {
            node,
            sight: self.context.shared.cache.sight(&partition.origin, self.now),
            left,
        });
    }

    /// Calls `look` with what lookups start from. `None`: nothing is cached for who the session is.
    pub(super) fn with_sight<T>(&mut self, look: impl FnOnce(&mut Self, &Sight) -> T) -> Option<T> {
        self.renew_sight();
        let seen = self.sight.take()?;
        let looked = look(self, &seen.sight);
        self.sight = Some(seen);
        Some(looked)
    }
}
