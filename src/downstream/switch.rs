//! SELECT and HELLO: what changes which connection is the session's home.
//!
//! A HELLO that says who the client is goes to the doorman (`identity`). The others are asked of Redis over the
//! connection that would be the new home: its handshake has put it into that database
//! and protocol, so the command changes nothing there and its answer is Redis' own.

use bytes::Bytes;

use super::forward::{Op, Special};
use super::identity::{Asked, credentials, logged_in, read_hello};
use super::pinned;
use super::request::{Flow, Turn};
use super::session::{Core, Session};
use crate::command::Command;
use crate::config::Credentials;
use crate::config::PresentAs;
use crate::metrics::Outcome;
use crate::resp::{Request, Value, Version, encode};

/// A HELLO on its way.
#[derive(Debug)]
pub(super) struct Hello {
    /// `None`: the one the session speaks already.
    pub(super) version: Option<Version>,
    /// The name of SETNAME.
    pub(super) name: Option<String>,
    /// Who the client says it is.
    pub(super) login: Option<Credentials>,
    /// SETNAME stands in front of AUTH.
    pub(super) named_first: bool,
    /// What is wrong with it, behind what holds already.
    pub(super) fault: Option<String>,
}

/// The database SELECT asks for, if it could be one.
pub(super) fn database(request: &Request<'_>) -> Option<u32> {
    std::str::from_utf8(request.arg(1))
        .ok()?
        .parse()
        .ok()
        .filter(|&db: &u32| i32::try_from(db).is_ok())
}

impl From<Asked<'_>> for Hello {
    fn from(asked: Asked<'_>) -> Self {
        Self {
            version: asked.version,
            name: asked.name,
            login: asked.auth.map(|(user, password)| credentials(user, password)),
            named_first: asked.named_first,
            fault: asked.fault.map(|(text, _)| text),
        }
    }
}

/// SELECT succeeded.
pub(super) fn selected(session: &Session, core: &mut Core, db: u32, on_pin: bool) {
    core.db = db;
    if on_pin {
        pinned::alter(core);
    }
    if let Some(mut peer) = session.context.shared.peers.get_mut(&session.id) {
        peer.db = db;
    }
}

/// HELLO succeeded; gives the reply with the client's own id in it, and a standalone primary for what is behind us.
pub(super) fn greeted(
    session: &Session,
    core: &mut Core,
    hello: &Hello,
    frame: &[u8],
    on_pin: bool,
) -> Option<Vec<u8>> {
    if let Some(fault) = &hello.fault {
        // Only what stands in front of the fault was sent.
        if let Some(login) = &hello.login {
            logged_in(session, core, login, on_pin);
        }
        named(session, hello);
        let mut reply = Vec::new();
        encode::error(&mut reply, fault.as_bytes());
        return Some(reply);
    }
    let version = hello.version.unwrap_or(core.version);
    core.version = version;
    if version == Version::V2 {
        // There are none in this protocol, and a later HELLO 3 begins anew.
        core.attributes.set(false);
    }
    if let Some(login) = &hello.login {
        logged_in(session, core, login, on_pin);
    }
    if on_pin {
        pinned::alter(core);
    }
    if let Some(mut peer) = session.context.shared.peers.get_mut(&session.id) {
        peer.resp = if version == Version::V3 { 3 } else { 2 };
    }
    named(session, hello);
    let pairs = match Value::decode(frame, version).ok()? {
        Value::Map(pairs) => pairs,
        Value::Array(flat) => pair_up(flat),
        _ => return None,
    };
    let alone = session.context.shared.settings.present_as == PresentAs::Standalone;
    let patched = pairs.into_iter().map(|(key, value)| {
        let value = match key.as_bytes() {
            Some(b"id") => Value::Integer(i64::try_from(session.id).unwrap_or(i64::MAX)),
            Some(b"mode" | b"role") if !alone => value,
            Some(b"mode") => Value::bulk(Bytes::from_static(b"standalone")),
            Some(b"role") => Value::bulk(Bytes::from_static(b"master")),
            _ => value,
        };
        (key, value)
    });
    let mut reply = Vec::new();
    Value::Map(patched.collect()).encode(version, &mut reply);
    Some(reply)
}

/// HELLO failed with `reply`; what stands in front of what was wrong may hold all the same.
pub(super) fn refused(session: &Session, core: &mut Core, hello: &Hello, reply: &[u8], on_pin: bool) {
    if hello.login.is_none() || hello.named_first {
        named(session, hello);
    }
    if on_pin && hello.fault.is_some() && hello.login.is_some() && !reply.starts_with(b"-WRONGPASS ") {
        // Older servers have let the client in by then, newer ones have not looked. What it is now is known to the
        // server only, so all stays there.
        pinned::keep_altered(core);
    }
}

/// The server refused the handshake of the connection that a request needed, with `reply`.
pub(super) fn refused_at_the_door(session: &Session, core: &mut Core, special: &Special, reply: &[u8]) {
    if !special.is_login() {
        core.account.learn(reply);
    }
    if let Special::Hello(hello) = special {
        refused(session, core, hello, reply, false);
    }
}

/// What HELLO's SETNAME said holds.
pub(super) fn named(session: &Session, hello: &Hello) {
    if let Some(name) = &hello.name
        && let Some(mut peer) = session.context.shared.peers.get_mut(&session.id)
    {
        peer.name.clone_from(name);
    }
}

fn pair_up(flat: Vec<Value>) -> Vec<(Value, Value)> {
    let mut pairs = Vec::with_capacity(flat.len() / 2);
    let mut flat = flat.into_iter();
    while let (Some(key), Some(value)) = (flat.next(), flat.next()) {
        pairs.push((key, value));
    }
    pairs
}

impl Turn<'_> {
    /// SELECT, at home.
    pub(super) fn select(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        match database(request) {
            Some(db) if command.check_arity(request) => {
                self.switch(command, request.frame(), db, self.core.version, Special::Select(db))
            }
            // Redis says what is wrong with it.
            _ => self.forward_plain(command, request),
        }
    }

    /// HELLO, at home.
    pub(super) fn hello(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        match read_hello(request) {
            Err(text) => self.refuse(command.id().number(), &text),
            Ok(asked) if asked.auth.is_some() => {
                let right = asked.fault.as_ref().map_or(request.len(), |(_, right)| *right);
                return self.ask_doorman(command, request, right, &Special::from(Hello::from(asked)));
            }
            Ok(asked) if asked.fault.is_some() => {
                let hello = Hello::from(asked);
                named(self.session, &hello);
                self.refuse(command.id().number(), hello.fault.unwrap_or_default());
            }
            Ok(asked) => {
                let version = asked.version.unwrap_or(self.core.version);
                let number = if version == Version::V3 { b"3" } else { b"2" };
                let mut frame = Vec::new();
                encode::request(&mut frame, [b"HELLO".as_slice(), number]);
                return self.switch(
                    command,
                    &frame,
                    self.core.db,
                    version,
                    Special::from(Hello::from(asked)),
                );
            }
        }
        Flow::Next
    }

    fn switch(&mut self, command: &Command, frame: &[u8], db: u32, version: Version, special: Special) -> Flow {
        if !self.core.is_quiet() {
            return Flow::Hold;
        }
        let op = Op {
            special,
            outcome: Outcome::Local,
            ..Op::plain(command.id().number(), self.now)
        };
        self.core.switching = true;
        self.send_home(op, frame, db, version);
        Flow::Next
    }
}
