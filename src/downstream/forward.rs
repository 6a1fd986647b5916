//! A request on its way to the server: what its reply does to the cache, to the session and to the client.
//!
//! ```text
//! on its way ─ first bytes of the reply, or connection lost → applied ─ whole reply → released
//!      └ late → answered with an error, still on its way
//! ```
//! "Applied" comes before the client can read a byte of the reply: the second kill of a write precedes its
//! acknowledgement. "Released" ends what rules P and H wait for.

use std::rc::Rc;

use super::client_kill::Kill;
use super::client_tracking::{self, ClientTracking};
use super::cluster::redirect::in_plain_words;
use super::cluster::scatter::Share;
use super::context::Ticket;
use super::door::Knocked;
use super::edit::Edit;
use super::pause::Asked;
use super::pubsub::Change;
use super::replicas::AtReplica;
use super::rights::{AclChange, Question};
use super::session::{Core, Session, nanos};
use super::shadow::Shadowed;
use super::transaction::{self, Transaction};
use super::{identity, pinned, subscribe, switch};
use crate::coherence::{Flushing, Keys};
use crate::command::{Effect, Slot};
use crate::config::Credentials;
use crate::metrics::{Disconnect, ErrorKind, OTHER, Origin, Outcome};
use crate::mutants::{Mutant, mutated};
use crate::time::Instant;
use crate::topology::NodeId;
use crate::upstream::{Ended, Loss, Taken, Waiter};

/// What is special about a reply, beyond passing it on. What is larger than a few words is boxed: nearly every request has
/// none of it, and each moves from hand to hand on its way.
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
    Hello(Box<switch::Hello>),
    /// The client reads it with something of nearhit's in it.
    Edit(Box<Edit>),
    /// A password is judged at the door; `again`: by another doorman, if this one is lost.
    Knock { again: bool },
    /// AUTH: from its success on the session is who it says.
    Auth(Box<Credentials>),
    /// MULTI.
    Multi,
    /// EXEC of this transaction.
    Exec(Box<Transaction>),
    /// A command of the SUBSCRIBE family, on a connection of the session's own.
    Subscribe(Box<subscribe::Expected>),
    /// The same on the connection subscribers share.
    Change(Box<Change>),
    /// The session keeps its connection, unless the server does not know the command: nobody else knows what it does.
    Keep,
    /// From its success on the session keeps its connection.
    KeepIfDone,
    /// CLIENT TRACKING: from its success on the session is tracked like this.
    Tracking(Option<ClientTracking>),
    /// PING, to learn the id of the connection that others redirect to.
    Host(Vec<Ticket>),
    /// CLIENT PAUSE or UNPAUSE.
    Pause(Asked),
    /// From its success on lines of MONITOR come.
    Monitor,
    /// It may wait for as long as it likes.
    Blocking,
    /// Whether the session may run a command that nearhit answers.
    Question(Question),
    /// Rights change once it has run.
    Acl(Box<AclChange>),
    /// It runs over connections that nobody else uses, which may be in another database than the session. What follows waits.
    Apart,
    /// CLIENT KILL, which the server judges first.
    Kill(Box<Kill>),
    /// CLIENT UNBLOCK of this session; the reply goes to whoever asked.
    Unblock(Ticket),
    /// One of several requests that a client's was made of.
    Share(Share),
    /// It was refused by a server that was not ready, and is sent to see whether it is now.
    Try,
}

const _: () = assert!(std::mem::size_of::<Special>() <= 32, "box what is large");

impl Special {
    /// Whether what stands behind it in the pipeline means something else without it: a write would go to another
    /// database, or as another user. When nobody knows what the server would have said, the session must end.
    pub(super) fn must_be_known(&self) -> bool {
        matches!(self, Self::Select(_)) || self.is_login()
    }

    /// Whether the client gives itself up: nothing behind it is to be done.
    pub(super) fn ends_user(&self) -> bool {
        matches!(self, Self::Acl(change) if matches!(**change, AclChange::Deleted(_)))
    }

    /// Whether it says who the client is.
    pub(super) fn is_login(&self) -> bool {
        match self {
            Self::Auth(_) => true,
            Self::Hello(hello) => hello.login.is_some(),
            _ => false,
        }
    }
}

impl From<Edit> for Special {
    fn from(edit: Edit) -> Self {
        Self::Edit(Box::new(edit))
    }
}

impl From<AclChange> for Special {
    fn from(change: AclChange) -> Self {
        Self::Acl(Box::new(change))
    }
}

impl From<Credentials> for Special {
    fn from(credentials: Credentials) -> Self {
        Self::Auth(Box::new(credentials))
    }
}

impl From<switch::Hello> for Special {
    fn from(hello: switch::Hello) -> Self {
        Self::Hello(Box::new(hello))
    }
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
    /// On the connection subscribers share.
    pub(super) hub: bool,
    pub(super) special: Special,
    pub(super) started: Instant,
    pub(super) outcome: Outcome,
    /// Keeps fetches from being stored while a command that flushes is on its way; letting it go flushes once more.
    pub(super) flushing: Option<Flushing<Ticket>>,
    /// Bytes of the request.
    pub(super) bytes: usize,
    /// What those who watch are shown once it is answered.
    pub(super) words: Option<Box<[u8]>>,
    /// What the client is told about the reply, in front of it.
    pub(super) attribute: Option<Box<[u8]>>,
    /// Shadow mode: what the near-cache would have done with it, if that is not to pass it on.
    pub(super) shadow: Option<Box<Shadowed>>,
    /// How often it was sent again.
    pub(super) tries: u8,
    /// How often it waited for that.
    pub(super) waits: u8,
    /// It is asked at a replica.
    pub(super) replica: Option<Box<AtReplica>>,
    /// In a cluster, the slot of its keys.
    pub(super) slot: Option<Slot>,
    /// In a cluster, the node it was sent to.
    pub(super) node: Option<NodeId>,
    /// The node that it is to be sent to next, although that has not got the slot yet.
    pub(super) ask: Option<NodeId>,
    /// How often a node sent it to another one.
    pub(super) hops: u8,
}

impl Op {
    /// Whether nobody but the server can have chosen the words of an error: not a script, and not a command that nobody
    /// told us about. What the doorman says is about whom it let in.
    pub(super) fn is_servers_word(&self) -> bool {
        !matches!(self.effect, Effect::Unknown | Effect::KeylessRead) && !self.special.is_login()
    }

    /// A request that touches no key and is passed on as it is, at home.
    pub(super) fn plain(command: u16, started: Instant) -> Self {
        Self {
            command,
            keys: Keys::None,
            effect: Effect::None,
            writes: false,
            pinned: false,
            hub: false,
            special: Special::No,
            started,
            outcome: Outcome::Bypass,
            flushing: None,
            bytes: 0,
            words: None,
            attribute: None,
            shadow: None,
            tries: 0,
            waits: 0,
            replica: None,
            slot: None,
            node: None,
            ask: None,
            hops: 0,
        }
    }

    /// A request of nearhit's own, whose reply nobody hears.
    pub(super) fn unheard(started: Instant) -> Self {
        Self {
            special: Special::Discard,
            outcome: Outcome::Local,
            ..Self::plain(OTHER, started)
        }
    }

    /// Whether a node is chosen for it: it reads keys that it names, and nothing about its reply is special.
    pub(super) fn is_routed(&self) -> bool {
        let reads = match self.effect {
            Effect::Read => !self.writes,
            Effect::KeylessRead => self.keys != Keys::None,
            _ => false,
        };
        reads && matches!(self.special, Special::No)
    }

    /// Whether it may go over another connection: it was sent over one that all share, nobody else waits for its reply, and
    /// the reply means nothing to the session.
    pub(super) fn may_move(&self) -> bool {
        let plain = matches!(self.special, Special::No | Special::Share(_) | Special::Try);
        plain && !self.pinned && !self.hub && self.shadow.is_none()
    }
}

/// Who waits for one reply: a session, and the slot in its pipeline.
pub struct Forwarded {
    pub(super) session: Rc<Session>,
    pub(super) number: Option<u64>,
    pub(super) op: Op,
    pub(super) applied: bool,
    /// The client was told that the reply is late.
    pub(super) late: bool,
    /// Bytes of the reply, as far as they came.
    pub(super) size: usize,
    /// Parts of the reply were passed on.
    pub(super) partly: bool,
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
            size: 0,
            partly: false,
        }
    }

    /// Its connection had ended already.
    pub(super) fn not_sent(self, loss: &Loss, now: Instant) {
        self.lost(&Ended {
            loss,
            sent: false,
            peer: None,
            frame: None,
            now,
        });
    }

    /// The effects of the request, once it was executed or may have been.
    pub(super) fn apply(&mut self, now: Instant) {
        if std::mem::replace(&mut self.applied, true) {
            return;
        }
        let shared = &self.session.context.shared;
        match &self.op.special {
            Special::Acl(change) => change.apply(&shared.accounts),
            Special::Exec(transaction) if transaction.admin => shared.accounts.forget_rights(),
            _ => {}
        }
        self.note_effects(now);
        if !shared.settings.caching || self.op.shadow.is_some() {
            // What the near-cache would have answered has no effect when it does answer, either.
            return;
        }
        let mut core = self.session.core.borrow_mut();
        let flushing = self.op.flushing.take();
        let op = &self.op;
        let waiting = shared
            .cache
            .returns(op.effect, &op.keys, flushing, &mut core.causality, now);
        if mutated(Mutant::AckFirst) && matches!(op.effect, Effect::Write | Effect::Unknown) {
            let (shared, keys) = (std::sync::Arc::clone(shared), op.keys.clone());
            tokio::task::spawn_local(async move {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                keys.as_slice().iter().for_each(|&key| shared.cache.kill(key));
            });
        }
        // Only a proof asked for after the reply counts. What a later read would ask for comes before its own reply, so
        // without this a client that goes on reading would never see a hit again.
        if waiting && let Some(partition) = core.account.partition(op.node) {
            partition.tracking.kick();
        }
    }

    /// The request is over: what waited for it may go on.
    pub(super) fn release(&mut self) {
        let mut core = self.session.core.borrow_mut();
        if self.op.pinned {
            if let Some(pin) = &mut core.pin {
                pin.returned(&self.op.special);
            }
            if core.is_uploading(self.number) {
                // It was refused before it was whole, and the rest of it would be taken for something else.
                core.closing.get_or_insert(Disconnect::Upstream);
            }
        } else if self.op.hub {
            core.at_hub -= 1;
        } else if !matches!(self.op.special, Special::Change(_)) {
            core.home.answered(self.op.bytes, self.size);
            let largest = &self.session.context.largest;
            largest.set(largest.get().max(self.size));
            if self.op.replica.is_some() {
                core.causality.all_fetched(&self.op.keys, self.op.effect);
            } else if self.op.shadow.is_none() {
                core.causality.answered(&self.op.keys, self.op.effect);
            }
        }
        match self.op.special {
            Special::Select(_) if !self.op.pinned => core.switching = false,
            Special::Knock { .. } => {
                core.switching = false;
                self.session.context.door.leave();
            }
            Special::Apart => {
                core.switching = false;
                core.apart.drain(..).for_each(|connection| connection.close());
            }
            Special::Exec(_) | Special::Kill(_) | Special::Question(_) | Special::Hello(_) | Special::Acl(_) => {
                core.switching = false;
            }
            Special::Unblock(_) => pinned::unhold(&mut core),
            Special::Try => self.session.context.gate.open(),
            Special::Host(ref askers) => {
                let id = core.pin.as_ref().and_then(|pin| pin.connection.peer_id());
                askers.iter().for_each(|&asker| self.session.context.hosted(asker, id));
            }
            _ => {}
        }
    }

    /// Shows it to those who watch, and before it what ran with it.
    pub(super) fn show(&mut self, kind: u8, frame: &[u8]) {
        let Some(words) = self.op.words.take() else { return };
        if let Special::Exec(transaction) = &self.op.special
            && kind == b'*'
            && !frame.starts_with(b"*-1")
        {
            for words in transaction.words() {
                self.session.show_answered(words, kind, frame);
            }
        }
        self.session.show_answered(&words, kind, frame);
    }

    pub(super) fn record(&self, kind: u8, now: Instant) {
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

    pub(super) fn done(&mut self, kind: u8, now: Instant) -> Taken {
        if !matches!(&self.op.special, Special::Change(change) if !change.is_clients()) {
            self.record(kind, now);
        }
        self.release();
        self.session.wake();
        Taken::Done
    }

    /// The reply as the client is to read it.
    pub(super) fn pass_on(&mut self, kind: u8, frame: &[u8], now: Instant) {
        let failed = matches!(kind, b'-' | b'!');
        if failed {
            self.session
                .context
                .shared
                .metrics
                .command_errors
                .inc((Origin::Upstream, error_kind(frame)));
            // A master that was demoted goes on with its connections; only writers are told.
            if frame.starts_with(b"-READONLY ") {
                self.session.context.shared.doubt.wish();
            }
        }
        match &self.op.special {
            Special::Unblock(asker) => return self.session.context.answer(*asker, frame),
            Special::Question(_) | Special::Knock { .. } if self.late => return,
            Special::Knock { .. } => {
                self.session.core.borrow_mut().knocked = Some(Knocked::Answered(frame.to_vec()));
                return;
            }
            Special::Question(question) => return question.answered(&mut self.session.core.borrow_mut(), frame),
            _ => {}
        }
        let Some(number) = self.number else { return };
        let plain = self.session.context.nodes.as_ref().filter(|_| failed);
        let frame = plain.and_then(|_| in_plain_words(frame)).unwrap_or(frame);
        let mut core = self.session.core.borrow_mut();
        let core = &mut *core;
        if (failed || !core.is_authenticated()) && self.op.is_servers_word() {
            core.account.learn(frame);
        }
        let other = self.heed(core, kind, frame, now);
        if let Some(attribute) = &self.op.attribute {
            core.pipeline.append(number, attribute);
        }
        core.pipeline.complete(number, other.as_deref().unwrap_or(frame));
    }

    /// What the reply means to the session; gives the reply in other words, where the client is to read it in those.
    fn heed(&self, core: &mut Core, kind: u8, frame: &[u8], now: Instant) -> Option<Vec<u8>> {
        let (session, pinned) = (&self.session, self.op.pinned);
        let shared = &session.context.shared;
        let failed = matches!(kind, b'-' | b'!');
        match &self.op.special {
            Special::Hello(hello) if !failed && !self.late => {
                return switch::greeted(session, core, hello, frame, pinned);
            }
            Special::Edit(edit) => return edit.apply(shared, core, kind, frame),
            Special::Exec(transaction) => return transaction::executed(session, core, transaction, frame),
            Special::Kill(kill) if !self.late => return kill.judged(session, core, frame),
            Special::Select(db) if !failed && !self.late => switch::selected(session, core, *db, pinned),
            Special::Hello(hello) if failed => switch::refused(session, core, hello, frame, pinned),
            Special::Auth(credentials) if !failed && !self.late => {
                identity::logged_in(session, core, credentials, pinned);
            }
            Special::Acl(change) => change.answered(session, core, frame),
            Special::Tracking(tracking) if !failed => client_tracking::tracked(core, *tracking),
            Special::Pause(asked) if !failed => shared.common.pause.done(*asked, now),
            Special::Multi if failed && !frame.starts_with(b"-ERR MULTI calls") => pinned::refused_multi(core),
            Special::Keep if !(failed && frame.starts_with(b"-ERR unknown ")) => pinned::keep(core),
            Special::KeepIfDone if !failed => pinned::keep(core),
            Special::Monitor if !failed => pinned::monitoring(core),
            _ => {}
        }
        None
    }
}

/// What a client is told about a request that will not be answered. What may have changed data says so with a code of its
/// own, because client libraries repeat requests that failed with the usual ones.
pub(super) fn loss_text(loss: &Loss, sent: bool, writes: bool) -> String {
    match loss {
        Loss::Refused(text) => text.clone(),
        Loss::Connect(why) | Loss::Crowded(why) => format!("ERR nearhit: {why}; the command was not sent"),
        _ if !sent => format!("ERR nearhit: upstream connection lost before the command was sent: {loss}"),
        _ if writes => {
            format!("UNCERTAIN upstream connection lost after the command was sent; it may or may not have run: {loss}")
        }
        _ => format!("ERR nearhit: upstream connection lost before the reply came: {loss}"),
    }
}

pub(super) fn error_kind(frame: &[u8]) -> ErrorKind {
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
