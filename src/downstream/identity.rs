//! Who the client is: HELLO's options, and whether its credentials are nearhit's own.

use crate::command::Command;
use crate::metrics::Outcome;
use crate::resp::{Request, Version, canonical, encode};

use super::forward::{Op, Special};
use super::request::{Flow, Turn};

/// What a HELLO asks for.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) version: Version,
    pub(super) auth: Option<(&'a [u8], &'a [u8])>,
    pub(super) name: Option<String>,
}

/// Reads HELLO's arguments, in the words and the order of Redis' `helloCommand`.
pub(super) fn read_hello<'a>(request: &Request<'a>, current: Version) -> Result<Asked<'a>, String> {
    let mut asked = Asked {
        version: current,
        auth: None,
        name: None,
    };
    if request.len() > 1 {
        asked.version = match canonical(request.arg(1)) {
            None => return Err("ERR Protocol version is not an integer or out of range".into()),
            Some(2) => Version::V2,
            Some(3) => Version::V3,
            Some(_) => return Err("NOPROTO unsupported protocol version".into()),
        };
    }
    let mut at = 2;
    while at < request.len() {
        let option = request.arg(at);
        let left = request.len() - at - 1;
        if option.eq_ignore_ascii_case(b"AUTH") && left >= 2 {
            asked.auth = Some((request.arg(at + 1), request.arg(at + 2)));
            at += 3;
        } else if option.eq_ignore_ascii_case(b"SETNAME") && left >= 1 {
            asked.name = Some(client_name(request.arg(at + 1))?);
            at += 2;
        } else {
            return Err(format!(
                "ERR Syntax error in HELLO option '{}'",
                String::from_utf8_lossy(option)
            ));
        }
    }
    Ok(asked)
}

/// A client's name, as Redis allows it.
pub(super) fn client_name(name: &[u8]) -> Result<String, String> {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(String::from_utf8_lossy(name).into_owned());
    }
    Err("ERR Client names cannot contain spaces, newlines or special characters.".into())
}

impl Turn<'_> {
    /// Whether these are the credentials nearhit itself uses, so that the client may share its connections.
    pub(super) fn is_own_identity(&self, user: &[u8], password: &[u8]) -> bool {
        let Some(own) = &self.context.shared.settings.credentials else {
            return false;
        };
        let name = if own.username.is_empty() {
            b"default"
        } else {
            own.username.as_bytes()
        };
        // Every byte is compared whatever the first ones were: the time taken tells nothing about the password.
        let own = own.password.reveal().as_bytes();
        let differs = own
            .iter()
            .zip(password)
            .fold(own.len() ^ password.len(), |differs, (a, b)| {
                differs | usize::from(a ^ b)
            });
        name == user && differs == 0
    }

    /// AUTH, at home. Redis judges every password: nearhit's own by the handshake of a shared connection, another one on
    /// a connection that is then the session's own.
    pub(super) fn auth(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let own = match request.len() {
            2 => self.is_own_identity(b"default", request.arg(1)),
            3 => self.is_own_identity(request.arg(1), request.arg(2)),
            _ => false,
        };
        if !own {
            return match self.pin(command.id().number()) {
                Ok(()) => self.send_pinned(command, request),
                Err(flow) => flow,
            };
        }
        let mut frame = Vec::new();
        encode::request(&mut frame, [b"PING".as_slice()]);
        let op = Op {
            special: Special::Auth,
            outcome: Outcome::Local,
            ..Op::plain(command.id().number(), self.now)
        };
        self.send_home(op, &frame, self.core.db, self.core.version);
        Flow::Next
    }
}
