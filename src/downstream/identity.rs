//! Who the client is: AUTH, and HELLO's options.
//!
//! Redis itself judges every password (`door`). From its success on the session is that user, and its requests go over
//! connections that log in as that user.

use crate::command::Command;
use crate::config::{Credentials, Secret};
use crate::resp::{Request, Version, canonical};
use crate::time;

use super::forward::Special;
use super::pinned;
use super::request::{Flow, Turn};
use super::session::{Core, Session};

/// What a HELLO asks for.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// `None`: the one it speaks already.
    pub(super) version: Option<Version>,
    pub(super) auth: Option<(&'a [u8], &'a [u8])>,
    pub(super) name: Option<String>,
    /// SETNAME stands in front of AUTH, so it holds even when AUTH fails.
    pub(super) named_first: bool,
    /// What is wrong with it, and how many arguments are right: Redis has heeded those before it sees the next.
    pub(super) fault: Option<(String, usize)>,
}

/// Reads HELLO's arguments, in the words and the order of Redis' `helloCommand`.
///
/// # Errors
/// What is wrong with its version; then nothing of it holds.
pub(super) fn read_hello<'a>(request: &Request<'a>) -> Result<Asked<'a>, String> {
    let mut asked = Asked {
        version: None,
        auth: None,
        name: None,
        named_first: true,
        fault: None,
    };
    if request.len() > 1 {
        asked.version = match canonical(request.arg(1)) {
            None => return Err("ERR Protocol version is not an integer or out of range".into()),
            Some(2) => Some(Version::V2),
            Some(3) => Some(Version::V3),
            Some(_) => return Err("NOPROTO unsupported protocol version".into()),
        };
    }
    let mut at = 2;
    while at < request.len() && asked.fault.is_none() {
        at += asked.read_option(request, at);
    }
    Ok(asked)
}

impl<'a> Asked<'a> {
    /// Reads the option at `at`; gives how many arguments it takes.
    fn read_option(&mut self, request: &Request<'a>, at: usize) -> usize {
        let option = request.arg(at);
        let left = request.len() - at - 1;
        if option.eq_ignore_ascii_case(b"AUTH") && left >= 2 {
            self.auth = Some((request.arg(at + 1), request.arg(at + 2)));
            self.named_first = self.name.is_some();
            return 3;
        }
        if option.eq_ignore_ascii_case(b"SETNAME") && left >= 1 {
            match client_name(request.arg(at + 1)) {
                Ok(name) => self.name = Some(name),
                Err(text) => self.fault = Some((text, at)),
            }
            return 2;
        }
        // As Redis prints it: up to the first NUL.
        let option = String::from_utf8_lossy(option.split(|&byte| byte == 0).next().unwrap_or_default());
        self.fault = Some((format!("ERR Syntax error in HELLO option '{option}'"), at));
        1
    }
}

/// A client's name, as Redis allows it.
pub(super) fn client_name(name: &[u8]) -> Result<String, String> {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(String::from_utf8_lossy(name).into_owned());
    }
    Err("ERR Client names cannot contain spaces, newlines or special characters.".into())
}

/// Who AUTH says that the client is; `None`: its syntax is wrong.
pub(super) fn read_auth(request: &Request<'_>) -> Option<Credentials> {
    match request.len() {
        2 => Some(credentials(b"", request.arg(1))),
        3 => Some(credentials(request.arg(1), request.arg(2))),
        _ => None,
    }
}

pub(super) fn credentials(user: &[u8], password: &[u8]) -> Credentials {
    Credentials {
        username: user.into(),
        password: Secret::new(password),
    }
}

/// Redis has accepted who the client is. A connection of the session's own is that user now, too.
pub(super) fn logged_in(session: &Session, core: &mut Core, credentials: &Credentials, on_pin: bool) {
    core.account = session.context.shared.accounts.login(credentials);
    // What the session has seen as somebody else, other replies may be older than.
    core.causality.saw(time::now());
    if on_pin {
        pinned::alter(core);
    }
    if let Some(mut peer) = session.context.shared.peers.get_mut(&session.id) {
        peer.user = core.account.user_name();
    }
}

impl Turn<'_> {
    /// AUTH, at home.
    pub(super) fn auth(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let Some(credentials) = read_auth(request) else {
            self.refuse(command.id().number(), "ERR syntax error");
            return Flow::Next;
        };
        self.ask_doorman(command, request, request.len(), &Special::from(credentials))
    }
}
