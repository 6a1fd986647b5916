//! SELECT and HELLO: what changes which connection is the session's home.
//!
//! Both are asked of Redis over the connection that would be the new home: its handshake has put it into that database
//! and protocol, so the command changes nothing there and its answer is Redis' own.

use bytes::Bytes;

use super::forward::{Op, Special};
use super::identity::{self, Asked};
use super::pinned;
use super::request::{Flow, Turn};
use super::session::{Core, Session};
use crate::command::Command;
use crate::metrics::Outcome;
use crate::resp::{Request, Value, Version, encode};

/// A HELLO on its way.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) version: Version,
    /// The name of SETNAME.
    pub(super) name: Option<String>,
    /// The client says who it is, and is not who nearhit is.
    pub(super) identified: bool,
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
            identified: asked.auth.is_some(),
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
    core.version = hello.version;
    if hello.identified {
        pinned::keep(core);
    }
    if on_pin {
        pinned::alter(core);
    }
    if let Some(mut peer) = session.context.shared.peers.get_mut(&session.id) {
        peer.resp = if hello.version == Version::V3 { 3 } else { 2 };
        if let Some(name) = &hello.name {
            peer.name.clone_from(name);
        }
    }
    let pairs = match Value::decode(frame, hello.version).ok()? {
        Value::Map(pairs) => pairs,
        Value::Array(flat) => pair_up(flat),
        _ => return None,
    };
    let patched = pairs.into_iter().map(|(key, value)| {
        let value = match key.as_bytes() {
            Some(b"id") => Value::Integer(i64::try_from(session.id).unwrap_or(i64::MAX)),
            Some(b"mode") => Value::bulk(Bytes::from_static(b"standalone")),
            Some(b"role") => Value::bulk(Bytes::from_static(b"master")),
            _ => value,
        };
        (key, value)
    });
    let mut reply = Vec::new();
    Value::Map(patched.collect()).encode(hello.version, &mut reply);
    Some(reply)
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
        match identity::read_hello(request, self.core.version) {
            Err(text) => {
                self.refuse(command.id().number(), &text);
                Flow::Next
            }
            Ok(asked) => {
                if let Some((user, password)) = asked.auth
                    && !self.is_own_identity(user, password)
                {
                    // Another user: a connection of its own, on which Redis checks the password.
                    return match self.pin(command.id().number()) {
                        Ok(()) => self.send_pinned(command, request),
                        Err(flow) => flow,
                    };
                }
                let number = if asked.version == Version::V3 { b"3" } else { b"2" };
                let mut frame = Vec::new();
                encode::request(&mut frame, [b"HELLO".as_slice(), number]);
                let special = Special::Hello(Hello {
                    version: asked.version,
                    name: asked.name,
                    identified: false,
                });
                self.switch(command, &frame, self.core.db, asked.version, special)
            }
        }
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
