//! What a client may not do, where it is nearhit that has to say so.
//!
//! Redis checks in this order: does the command exist, does it have the right number of arguments, is a password missing,
//! may the user run it. What is forwarded Redis checks itself.

use std::rc::Rc;
use std::sync::Arc;

use super::account::Since;
use super::accounts::Accounts;
use super::answers::with_peer;
use super::forward::{Forwarded, Op, Special};
use super::identity::read_hello;
use super::request::{Flow, Turn, not_permitted};
use super::session::{Core, Session};
use crate::command::{Command, Lookup, error_text, flag};
use crate::metrics::{Disconnect, OTHER, Outcome};
use crate::resp::{Request, UNAUTHENTICATED_ARGS, UNAUTHENTICATED_BULK, encode};
use crate::time::Instant;
use crate::upstream::{Connection, Loss, Outlet};

const NOAUTH: &str = "NOAUTH Authentication required.";
const NOAUTH_HELLO: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH \
                            <user> <pass> option can be used to authenticate the client and select the RESP protocol \
                            version at the same time";

/// Commands that nearhit answers, each with a request by which Redis tells, without anything being done, whether a user
/// may run it. A name in place of the empty word is the one that nearhit's connections have.
const HARMLESS: &[(&str, &[&str])] = &[
    ("client|capa", &["CLIENT", "CAPA", "none"]),
    ("client|getname", &["CLIENT", "GETNAME"]),
    ("client|id", &["CLIENT", "ID"]),
    ("client|info", &["CLIENT", "INFO"]),
    ("client|list", CLIENTS),
    ("client|no-evict", &["CLIENT", "NO-EVICT", "OFF"]),
    ("client|reply", &["CLIENT", "REPLY", "ON"]),
    ("client|setinfo", &["CLIENT", "SETINFO", "LIB-VER", ""]),
    ("client|setname", &["CLIENT", "SETNAME", ""]),
    ("client|unblock", &["CLIENT", "UNBLOCK", "0"]),
    ("monitor", MONITOR),
    // It tells of other clients and of keys, as CLIENT LIST and MONITOR do.
    ("proxy", CLIENTS),
];

/// What who may see the other clients may ask.
pub(super) const CLIENTS: &[&str] = &["CLIENT", "LIST", "ID", "0"];

/// Harmless only on a connection that is closed behind it.
const MONITOR: &[&str] = &["MONITOR"];

/// Redis is asked whether a user may run a command.
pub(super) struct Question {
    /// The command's place in [`HARMLESS`].
    place: u8,
    since: Since,
    /// Closed once Redis has answered.
    once: Option<Connection<Forwarded>>,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Question({})", self.place)
    }
}

/// Hears what nobody asked for.
struct Deaf;

impl Outlet for Deaf {
    fn may_finish(&self) -> bool {
        true
    }

    fn frame(&self, _frame: &[u8], _now: Instant) {}

    fn ended(&self, _loss: &Loss) {}
}

/// What Redis said to a question.
#[derive(Debug)]
pub(super) struct Verdict {
    place: u8,
    /// The error, when it may not.
    refusal: Option<Vec<u8>>,
}

impl Question {
    /// Redis has answered with `reply`.
    pub(super) fn answered(&self, core: &mut Core, reply: &[u8]) {
        // What the server does not know, nobody is refused: nearhit answers it all the same.
        let refused = reply.starts_with(b"-NOAUTH ") || reply.starts_with(b"-NOPERM ");
        if refused || !core.is_authenticated() {
            core.account.learn(reply);
        }
        if !refused {
            core.account.rights.remember(self.since, self.place);
        }
        self.close();
        core.verdict = Some(Verdict {
            place: self.place,
            refusal: refused.then(|| reply.to_vec()),
        });
    }

    /// Redis has not answered; `reply` is what the client is told.
    pub(super) fn unanswered(&self, core: &mut Core, reply: &[u8]) {
        self.close();
        core.verdict = Some(Verdict {
            place: self.place,
            refusal: Some(reply.to_vec()),
        });
    }

    fn close(&self) {
        if let Some(connection) = &self.once {
            connection.close();
        }
    }
}

impl Turn<'_> {
    /// Whether the client may run a command that nearhit answers; Redis is asked, once until rights change. `None`: it
    /// may.
    pub(super) fn permitted(&mut self, command: &Command) -> Option<Flow> {
        let proxy = command.name() == "proxy";
        if proxy && Arc::ptr_eq(&self.core.account, &self.context.shared.accounts.own()) {
            // Whom the operator lets in without a word, also while there is no server to ask.
            return None;
        }
        let place = HARMLESS.iter().position(|(name, _)| *name == command.name())?;
        let (_, words) = HARMLESS.get(place)?;
        let place = u8::try_from(place).ok()?;
        let verdict = self.core.verdict.take();
        if self.core.account.rights.allows(place) {
            return None;
        }
        match verdict.filter(|verdict| verdict.place == place) {
            None => Some(self.question(place, words)),
            Some(Verdict { refusal: None, .. }) => None,
            Some(Verdict {
                refusal: Some(error), ..
            }) => {
                match proxy && error.starts_with(b"-NOPERM ") {
                    true => self.refuse(command.id().number(), not_permitted(command)),
                    false => self.pass_error(command.id().number(), &error),
                }
                Some(Flow::Next)
            }
        }
    }

    fn question(&mut self, place: u8, words: &[&str]) -> Flow {
        let (identity, db, version) = (self.core.account.identity(), self.core.db, self.core.version);
        let once = words == MONITOR;
        let mut pool = self.context.pool.borrow_mut();
        let connection = match once {
            true => pool.pinned(identity, db, version),
            false => pool.shared(identity, db, version),
        };
        let mut frame = Vec::new();
        let word = |word: &&str| match *word {
            "" => pool.client_name().to_owned(),
            word => word.to_owned(),
        };
        let words: Vec<String> = words.iter().map(word).collect();
        encode::request(&mut frame, words.iter().map(String::as_bytes));
        drop(pool);
        let Some(connection) = self.connected(OTHER, connection) else {
            return Flow::Next;
        };
        if once {
            connection.set_outlet(Some(Rc::new(Deaf)));
        }
        let op = Op {
            special: Special::Question(Question {
                place,
                since: self.core.account.rights.since(),
                once: once.then(|| connection.clone()),
            }),
            outcome: Outcome::Local,
            ..Op::plain(OTHER, self.now)
        };
        self.core.switching = true;
        self.resend(op, None, &frame, &connection);
        Flow::Hold
    }

    /// Answers a client that has to say who it is first. A command nobody told us about is for the server to judge, but
    /// where it cannot: because nothing may be sent for the client, because it is in a database that no connection
    /// without a password gets to, or because its request is an inline one that is larger than what a stranger may write
    /// in RESP. (Redis accepts that one, but as RESP, which is what it would get from here, it would be the end of the
    /// connection that all strangers share.) All others are answered here while somebody watches whether strangers need
    /// a password: of the answers that Redis has for strangers it lets only some two kilobytes wait on a connection.
    /// `None`: go on.
    #[cold]
    pub(super) fn demand_auth(
        &mut self,
        known: Option<&Command>,
        lookup: &Lookup<'_>,
        request: &Request<'_>,
    ) -> Option<Flow> {
        let watched = self.context.shared.accounts.are_strangers_watched();
        let here =
            self.core.account.is_barred() || self.core.db != 0 || !is_small(request) || (watched && known.is_some());
        if self.is_admin(request) {
            self.refuse(OTHER, NOAUTH);
            return Some(Flow::Next);
        }
        if !here || self.core.pin.is_some() {
            return None;
        }
        match known {
            Some(command) => return self.demand_auth_for(command, request),
            // Somebody's browser: the connection is closed without a word.
            None if is_http(request) => return None,
            None => self.refuse(OTHER, error_text::unknown(lookup, request)),
        }
        Some(Flow::Next)
    }

    fn demand_auth_for(&mut self, command: &Command, request: &Request<'_>) -> Option<Flow> {
        let number = command.id().number();
        if !command.check_arity(request) {
            self.refuse(number, error_text::wrong_arity(command));
            return Some(Flow::Next);
        }
        if !command.flags.has(flag::NO_AUTH) {
            let text = match command.name() {
                // As of everything it is refused for.
                "exec" => format!("EXECABORT Transaction discarded because of: {NOAUTH}"),
                _ => NOAUTH.to_owned(),
            };
            self.refuse(number, &text);
            return Some(Flow::Next);
        }
        if command.name() == "hello"
            && let Ok(asked) = read_hello(request)
            && asked.auth.is_none()
            && asked.fault.is_none()
        {
            if let Some(name) = asked.name {
                with_peer(self.session, |peer| peer.name = name);
            }
            self.refuse(number, NOAUTH_HELLO);
            return Some(Flow::Next);
        }
        None
    }

    /// Whether the request is nearhit's own command, as it is configured.
    pub(super) fn is_admin(&self, request: &Request<'_>) -> bool {
        self.context.shared.settings.is_admin_command(request.name())
    }

    /// Answers with an error that is written already.
    pub(super) fn pass_error(&mut self, command: u16, reply: &[u8]) {
        self.core.pipeline.ready(self.muted, |out| out.extend_from_slice(reply));
        self.core.answer(command, Outcome::Error);
    }
}

/// Who may be able to do less, or more, once a command has run.
#[derive(Debug)]
pub(super) enum AclChange {
    /// These users.
    Users(Vec<Box<[u8]>>),
    /// These users, who are no more if the reply says so.
    Deleted(Vec<Box<[u8]>>),
    /// Anybody.
    All,
}

impl AclChange {
    /// What `request` may change.
    pub(super) fn of(command: &Command, request: &Request<'_>) -> Option<Self> {
        if !command.flags.has(flag::ADMIN) {
            return None;
        }
        let requirepass = |arg: &[u8]| arg.eq_ignore_ascii_case(b"requirepass");
        match command.name() {
            "acl|setuser" => Some(Self::Users(vec![request.arg(2).into()])),
            "acl|deluser" => Some(Self::Deleted(request.args_from(2).map(Into::into).collect())),
            "acl|load" => Some(Self::All),
            "config|set" if request.args_from(2).step_by(2).any(requirepass) => {
                Some(Self::Users(vec![(*b"default").into()]))
            }
            _ => None,
        }
    }

    /// The command has run, or may have; its reply is not passed on yet.
    pub(super) fn apply(&self, accounts: &Accounts) {
        match self {
            Self::Users(users) | Self::Deleted(users) => users.iter().for_each(|user| accounts.user_changed(user)),
            Self::All => accounts.all_changed(),
        }
    }

    /// The command was answered with `reply`: sessions of users that are no more end.
    pub(super) fn answered(&self, session: &Session, core: &mut Core, reply: &[u8]) {
        let Self::Deleted(users) = self else { return };
        if !reply.starts_with(b":") || reply.starts_with(b":0\r") {
            return;
        }
        let shared = &session.context.shared;
        for user in users {
            shared.accounts.user_deleted(user);
            if shared.close_user(user, Some(session.id)) {
                core.closing.get_or_insert(Disconnect::Kill);
            }
        }
    }
}

/// Whether a client that has not said who it is may send it.
pub(super) fn is_small(request: &Request<'_>) -> bool {
    request.len() <= UNAUTHENTICATED_ARGS && request.args_from(0).all(|arg| arg.len() <= UNAUTHENTICATED_BULK)
}

/// Somebody's browser was talked into speaking to us; Redis closes such connections without a word.
pub(super) fn is_http(request: &Request<'_>) -> bool {
    let name = request.name();
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}
