//! What MULTI has queued, as far as nearhit must know it, and what becomes of that when EXEC is answered.
//!
//! Redis queues and runs all of it. Commands about the client's own connection are queued there, too, and their parts of
//! EXEC's reply are noted: what they say is made true of the session, or put in nearhit's words.

use super::forward::Op;
use super::identity::{client_name, read_hello};
use super::pinned;
use super::request::Turn;
use super::session::{Core, Replies, Session};
use super::switch::{self, Hello};
use crate::coherence::Keys;
use crate::command::{Command, Effect, Pin as Why, Place};
use crate::resp::{ReplyLimits, ReplyScan, ReplyScanner, Request, Version, encode};

/// What MULTI has queued.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// Hashes of all keys that may be written.
    pub(super) keys: Vec<u64>,
    /// A command is queued that flushes.
    pub(super) admin: bool,
    /// A command is queued that changes what the connection is, in a way that only the server knows.
    pub(super) alters: bool,
    /// How many commands are queued.
    count: usize,
    /// Parts of EXEC's reply that mean something here, by their place in it, in order.
    noted: Vec<(usize, Noted)>,
}

/// What a part of EXEC's reply means, unless it is an error.
#[derive(Debug)]
enum Noted {
    Select(u32),
    Hello(Hello),
    SetName(String),
    GetName,
    Id,
    /// CLIENT REPLY. It is never sent: a server that says less than it announced cannot be understood.
    Replies(Mute),
}

#[derive(Clone, Copy, Debug)]
enum Mute {
    On,
    Off,
    Skip,
}

/// How a request is queued.
pub(super) enum Queued {
    AsItIs,
    /// In place of the request.
    As(Vec<u8>),
    /// Not at all: its reply would not be one frame, or it is about nearhit's clients, which Redis does not know.
    Refused,
}

impl Transaction {
    /// Queues a request whose arity fits.
    pub(super) fn queue(&mut self, command: &Command, request: &Request<'_>, version: Version, keys: &[u64]) -> Queued {
        match command.effect {
            Effect::Write | Effect::Unknown => self.keys.extend_from_slice(keys),
            Effect::Admin => self.admin = true,
            Effect::Read | Effect::None | Effect::KeylessRead => {}
        }
        let noted = match command.name() {
            "select" => switch::database(request).map(Noted::Select),
            "hello" => match read_hello(request, version) {
                Ok(asked) if asked.auth.is_some() => {
                    self.alters = true;
                    None
                }
                Ok(asked) if request.len() > 1 => Some(Noted::Hello(asked.into())),
                _ => None,
            },
            "auth" => {
                self.alters = true;
                None
            }
            "client|setname" => client_name(request.arg(2)).ok().map(Noted::SetName),
            "client|getname" => Some(Noted::GetName),
            "client|id" => Some(Noted::Id),
            "client|reply" => mute(request.arg(2)).map(Noted::Replies),
            _ => match command.place {
                Place::Local | Place::Pinned(Why::Subscribe | Why::Monitor) => return Queued::Refused,
                Place::Pinned(Why::Sticky | Why::Once) => {
                    self.alters = true;
                    None
                }
                _ => None,
            },
        };
        let queued = match noted {
            Some(Noted::Replies(_)) => {
                let mut on = Vec::new();
                encode::request(&mut on, [b"CLIENT".as_slice(), b"REPLY", b"ON"]);
                Queued::As(on)
            }
            _ => Queued::AsItIs,
        };
        self.noted.extend(noted.map(|noted| (self.count, noted)));
        self.count += 1;
        queued
    }

    /// Queues a command nobody told us about: EXEC may do anything.
    pub(super) fn queue_unknown(&mut self) {
        self.admin = true;
        self.alters = true;
        self.count += 1;
    }

    /// Whether what follows EXEC must wait for its reply.
    pub(super) fn mutes(&self) -> bool {
        self.noted.iter().any(|(_, noted)| matches!(noted, Noted::Replies(_)))
    }
}

fn mute(mode: &[u8]) -> Option<Mute> {
    [(&b"on"[..], Mute::On), (b"off", Mute::Off), (b"skip", Mute::Skip)]
        .into_iter()
        .find_map(|(name, mute)| mode.eq_ignore_ascii_case(name).then_some(mute))
}

/// EXEC was answered with `frame`; gives the reply as the client is to read it, if that is another one.
pub(super) fn executed(session: &Session, core: &mut Core, transaction: &Transaction, frame: &[u8]) -> Option<Vec<u8>> {
    if transaction.alters {
        // Which database and protocol the connection has now is known to the server only; all stays there.
        pinned::keep_altered(core);
    }
    if transaction.noted.is_empty() {
        return None;
    }
    let (header, parts) = parts(frame)?;
    let mut reply = header.to_vec();
    let mut noted = transaction.noted.iter().peekable();
    for (at, part) in parts.into_iter().enumerate() {
        let note = noted.next_if(|(place, _)| *place == at).map(|(_, noted)| noted);
        match note.filter(|_| !matches!(part.first(), Some(b'-' | b'!'))) {
            Some(noted) => noted.came_true(session, core, part, &mut reply),
            None => reply.extend_from_slice(part),
        }
    }
    Some(reply)
}

impl Noted {
    fn came_true(&self, session: &Session, core: &mut Core, part: &[u8], reply: &mut Vec<u8>) {
        let mut peer = session.context.shared.peers.get_mut(&session.id);
        match self {
            Self::Id => return encode::integer(reply, i64::try_from(session.id).unwrap_or(i64::MAX)),
            Self::GetName => {
                return match peer.as_deref().map(|peer| peer.name.as_str()) {
                    None | Some("") => encode::null(reply, core.version),
                    Some(name) => encode::bulk(reply, name.as_bytes()),
                };
            }
            Self::SetName(name) => {
                pinned::alter(core);
                if let Some(peer) = &mut peer {
                    peer.name.clone_from(name);
                }
            }
            Self::Select(db) => {
                drop(peer);
                switch::selected(session, core, *db, true);
            }
            Self::Hello(hello) => {
                drop(peer);
                if let Some(greeting) = switch::greeted(session, core, hello, part, true) {
                    return reply.extend_from_slice(&greeting);
                }
            }
            Self::Replies(Mute::On) => core.replies = Replies::On,
            Self::Replies(Mute::Off) => core.replies = Replies::Off,
            Self::Replies(Mute::Skip) => core.skip_next = true,
        }
        reply.extend_from_slice(part);
    }
}

/// The header of an array and its elements, each as its own bytes; `None` when it is no array.
fn parts(frame: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    if frame.first() != Some(&b'*') || frame.get(1) == Some(&b'-') {
        return None;
    }
    let (header, mut rest) = frame.split_at_checked(memchr::memchr(b'\n', frame)? + 1)?;
    let mut scanner = ReplyScanner::new(ReplyLimits::default());
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let Ok(ReplyScan::Complete { consumed }) = scanner.scan(rest) else {
            return None;
        };
        let (part, left) = rest.split_at_checked(consumed)?;
        parts.push(part);
        rest = left;
    }
    Some((header, parts))
}

impl Turn<'_> {
    /// Refuses a command within MULTI, in Redis' words, and lets Redis know that the transaction has failed.
    pub(super) fn refuse_queued(&mut self, command: &Command, text: &str) {
        let mut wrong_arity = Vec::new();
        encode::request(&mut wrong_arity, [b"GET".as_slice()]);
        self.send_on_pin(None, &wrong_arity);
        self.refuse(command.id().number(), text);
    }

    /// Queues a request in the session's transaction. Nothing is known to be queued until MULTI is answered: if Redis
    /// refused it, the request runs now, so what it writes is killed now and at EXEC.
    pub(super) fn queue(&mut self, command: &Command, request: &Request<'_>, mut op: Op) {
        let version = self.core.version;
        let Some(transaction) = self.core.pin.as_mut().and_then(|pin| pin.transaction.as_mut()) else {
            return;
        };
        let queued = match command.check_arity(request) {
            true => transaction.queue(command, request, version, &self.core.keys),
            false => Queued::AsItIs,
        };
        if matches!(command.effect, Effect::Write | Effect::Unknown | Effect::Admin) {
            op.keys = Keys::from(self.core.keys.as_slice());
            op.effect = command.effect;
        }
        match queued {
            Queued::Refused => self.refuse_queued(command, "ERR Command not allowed inside a transaction"),
            Queued::AsItIs => {
                self.before_sending(&op);
                self.send_on_pin(Some(op), request.frame());
            }
            Queued::As(frame) => self.send_on_pin(Some(op), &frame),
        }
    }
}
