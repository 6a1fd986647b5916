//! What MULTI has queued, as far as nearhit must know it, and what becomes of that when EXEC is answered.
//!
//! Redis queues and runs all of it. Commands about the client's own connection are queued there, too, and their parts of
//! EXEC's reply are noted: what they say is made true of the session, or put in nearhit's words.

use super::answers::answer_kept;
use super::client_kill::Kill;
use super::client_tracking::redirect_at;
use super::context::Shared;
use super::edit::Edit;
use super::facade::{cluster_question, is_about_cluster};
use super::forward::Op;
use super::identity::{logged_in, read_auth, read_hello};
use super::pause::Asked;
use super::pinned;
use super::request::Turn;
use super::rights::CLIENTS;
use super::session::{Core, Replies, Session};
use super::switch::{self, Hello};
use crate::coherence::Keys;
use crate::command::{Command, Effect, Pin as Why, Place};
use crate::config::{Credentials, PresentAs};
use crate::resp::{ReplyScan, ReplyScanner, Request, encode};
use crate::time;

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
    /// What those who watch are shown of it.
    words: Vec<Box<[u8]>>,
    /// EXEC's reply, when it comes in parts.
    passing: Passing,
}

/// What a part of EXEC's reply means, unless it is an error.
#[derive(Debug)]
enum Noted {
    Select(u32),
    Hello(Hello),
    /// nearhit answers the request, which is kept, when its turn has come. `alters`: the server did as it was told, too.
    Here {
        frame: Box<[u8]>,
        alters: bool,
    },
    Kill(Kill),
    Pause(Asked),
    Edit(Edit),
    Auth(Credentials),
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
    /// Not at all: its reply would not be one frame, or would need another client's.
    Refused,
}

impl Transaction {
    /// Queues a request whose arity fits.
    fn queue(&mut self, command: &Command, request: &Request<'_>, keys: &[u64], shared: &Shared) -> Queued {
        match command.effect {
            Effect::Write | Effect::Unknown => self.keys.extend_from_slice(keys),
            Effect::Admin => self.admin = true,
            Effect::Read | Effect::None | Effect::KeylessRead => {}
        }
        let Ok((noted, stand_in)) = self.note(command, request, shared) else {
            return Queued::Refused;
        };
        self.noted.extend(noted.map(|noted| (self.count, noted)));
        self.count += 1;
        stand_in.map_or(Queued::AsItIs, Queued::As)
    }

    /// What the request's part of EXEC's reply will mean, and what is sent in its place. `Err`: it cannot be queued.
    fn note(
        &mut self,
        command: &Command,
        request: &Request<'_>,
        shared: &Shared,
    ) -> Result<(Option<Noted>, Option<Vec<u8>>), ()> {
        let noted = match command.name() {
            "client|reply" => {
                let mut on = Vec::new();
                encode::request(&mut on, [b"CLIENT".as_slice(), b"REPLY", b"ON"]);
                let mute = mute(request.arg(2)).map(Noted::Replies);
                return Ok(mute.map_or((None, None), |mute| (Some(mute), Some(on))));
            }
            "client|kill" => {
                let (kill, judged) = Kill::read(request);
                return Ok((Some(Noted::Kill(kill)), Some(judged)));
            }
            // The server may not know them.
            "client|setinfo" => return Ok((Some(Noted::here(request, false)), Some(harmless()))),
            "proxy" => {
                let mut judged = Vec::new();
                encode::request(&mut judged, CLIENTS.iter().map(|word| word.as_bytes()));
                return Ok((Some(Noted::here(request, false)), Some(judged)));
            }
            name if is_about_cluster(name) && shared.settings.present_as == PresentAs::Standalone => {
                let question = cluster_question(shared, request);
                return Ok((Some(Noted::Edit(Edit::NoCluster)), Some(question)));
            }
            _ => self.note_as_it_is(command, request, shared)?,
        };
        Ok((noted, None))
    }

    /// The same for a request that is sent as it is.
    fn note_as_it_is(
        &mut self,
        command: &Command,
        request: &Request<'_>,
        shared: &Shared,
    ) -> Result<Option<Noted>, ()> {
        let noted = match command.name() {
            "select" => switch::database(request).map(Noted::Select),
            "hello" => self.note_hello(request),
            "auth" => read_auth(request).map(Noted::Auth),
            "client|id" | "client|getname" | "client|info" | "client|list" | "client|setname" | "client|no-evict" => {
                Some(Noted::here(
                    request,
                    matches!(command.name(), "client|setname" | "client|no-evict"),
                ))
            }
            // Whom it names has no connection of its own yet, and the server would take the id for one of its own.
            "client|tracking" if redirect_at(request).is_some() => return Err(()),
            "client|pause" | "client|unpause" => Asked::read(command.name(), request).map(Noted::Pause),
            name if is_about_cluster(name) => {
                self.alters = true;
                None
            }
            "client|capa" | "monitor" => None,
            _ if command.edited => Edit::queued(command, request, shared).map(Noted::Edit),
            _ => match command.place {
                Place::Local | Place::Pinned(Why::Subscribe) => return Err(()),
                Place::Pinned(Why::Sticky | Why::Once) => {
                    self.alters = true;
                    None
                }
                _ => None,
            },
        };
        Ok(noted)
    }

    /// What those who watch are shown when it has run.
    pub(super) fn words(&self) -> impl Iterator<Item = &[u8]> {
        self.words.iter().map(|words| &**words)
    }

    /// How many commands are queued.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    fn note_hello(&mut self, request: &Request<'_>) -> Option<Noted> {
        let asked = read_hello(request).ok()?;
        if asked.fault.is_some() {
            // Whether its AUTH held is known to the server only.
            self.alters |= asked.auth.is_some();
            return None;
        }
        Some(Noted::Hello(asked.into()))
    }

    /// Queues a command nobody told us about: after EXEC nothing is known about the connection. What it does to keys is
    /// covered: all effects of EXEC count as unknown.
    pub(super) fn queue_unknown(&mut self) {
        self.alters = true;
        self.count += 1;
    }

    /// Whether EXEC's reply is passed on whatever it says.
    pub(super) fn is_plain(&self) -> bool {
        self.noted.is_empty() && !self.alters
    }

    /// Whether what follows EXEC must wait for its reply, which decides if it is heard, or done at all, or what a
    /// subscriber may ask.
    pub(super) fn decides(&self) -> bool {
        let decides = |noted: &Noted| matches!(noted, Noted::Replies(_) | Noted::Kill(_) | Noted::Hello(_));
        self.noted.iter().any(|(_, noted)| decides(noted))
    }
}

/// What every server refuses, whoever asks: a transaction with it fails.
pub(super) fn refused_everywhere() -> Vec<u8> {
    let mut wrong_arity = Vec::new();
    encode::request(&mut wrong_arity, [b"GET".as_slice()]);
    wrong_arity
}

/// What stands in the queue for a command that only nearhit knows: everybody may ask for it, and nothing comes of it.
fn harmless() -> Vec<u8> {
    let mut frame = Vec::new();
    encode::request(&mut frame, [b"CLIENT".as_slice(), b"GETNAME"]);
    frame
}

fn mute(mode: &[u8]) -> Option<Mute> {
    [(&b"on"[..], Mute::On), (b"off", Mute::Off), (b"skip", Mute::Skip)]
        .into_iter()
        .find_map(|(name, mute)| mode.eq_ignore_ascii_case(name).then_some(mute))
}

/// EXEC was answered with `frame`; gives the reply as the client is to read it, if that is another one.
pub(super) fn executed(session: &Session, core: &mut Core, transaction: &Transaction, frame: &[u8]) -> Option<Vec<u8>> {
    let ran = frame.first() == Some(&b'*') && frame.get(1) != Some(&b'-');
    if !ran || transaction.noted.is_empty() {
        transaction.altered(core);
        return None;
    }
    Some(transaction.pass(&mut Passing::default(), session, core, frame))
}

/// How far EXEC's reply has been passed on.
#[derive(Debug, Default)]
struct Passing {
    /// Its header has been.
    begun: bool,
    scanner: ReplyScanner,
    /// The place of the element that comes next, or has come in part.
    at: usize,
    /// How many notes were looked at.
    noted: usize,
    /// What has come of an element that means something here.
    held: Vec<u8>,
    /// The client has killed itself. As the server does: nothing more is said.
    killed: bool,
}

impl Transaction {
    /// More of EXEC's reply came; gives what the client is to read of it now.
    pub(super) fn pass_part(&mut self, session: &Session, core: &mut Core, part: &[u8]) -> Vec<u8> {
        let mut passing = std::mem::take(&mut self.passing);
        let passed = self.pass(&mut passing, session, core, part);
        self.passing = passing;
        passed
    }

    fn pass(&self, passing: &mut Passing, session: &Session, core: &mut Core, part: &[u8]) -> Vec<u8> {
        let mut reply = Vec::with_capacity(part.len());
        let mut rest = part;
        if !std::mem::replace(&mut passing.begun, true) {
            self.altered(core);
            // The header is always in the first part.
            let header = memchr::memchr(b'\n', part).map_or(part.len(), |end| end + 1);
            let (header, elements) = part.split_at(header);
            reply.extend_from_slice(header);
            rest = elements;
        }
        while !rest.is_empty() && !passing.killed {
            // The connection's own scanner has found nothing wrong with it.
            let (count, whole) = match passing.scanner.scan(rest) {
                Ok(ReplyScan::Complete { consumed }) => (consumed, true),
                Ok(ReplyScan::Incomplete) | Err(_) => (rest.len(), false),
            };
            let (element, behind) = rest.split_at(count);
            self.pass_element(passing, session, core, (element, whole), &mut reply);
            rest = behind;
        }
        reply
    }

    fn pass_element(
        &self,
        passing: &mut Passing,
        session: &Session,
        core: &mut Core,
        (element, whole): (&[u8], bool),
        reply: &mut Vec<u8>,
    ) {
        let note = self.noted.get(passing.noted).filter(|(place, _)| *place == passing.at);
        match note {
            None => reply.extend_from_slice(element),
            Some(_) if !whole => passing.held.extend_from_slice(element),
            Some((_, noted)) => {
                passing.noted += 1;
                let mut held = std::mem::take(&mut passing.held);
                held.extend_from_slice(element);
                let failed = matches!(held.first(), Some(b'-' | b'!'));
                if failed && !matches!(noted, Noted::Kill(_)) {
                    reply.extend_from_slice(&held);
                } else {
                    let before = core.closing;
                    noted.came_true(session, core, &held, reply);
                    passing.killed = core.closing != before;
                }
            }
        }
        passing.at += usize::from(whole);
    }

    fn altered(&self, core: &mut Core) {
        if self.alters {
            // Which database and protocol the connection has now is known to the server only; all stays there.
            pinned::keep_altered(core);
        }
    }
}

impl Noted {
    fn here(request: &Request<'_>, alters: bool) -> Self {
        Self::Here {
            frame: request.frame().into(),
            alters,
        }
    }

    fn came_true(&self, session: &Session, core: &mut Core, part: &[u8], reply: &mut Vec<u8>) {
        match self {
            Self::Here { frame, alters } => {
                if *alters {
                    pinned::alter(core);
                }
                if let Some(answer) = answer_kept(session, core, frame) {
                    return reply.extend_from_slice(&answer);
                }
            }
            Self::Kill(kill) => {
                if let Some(answer) = kill.judged(session, core, part) {
                    return reply.extend_from_slice(&answer);
                }
            }
            Self::Edit(edit) => {
                let kind = part.first().copied().unwrap_or_default();
                if let Some(edited) = edit.apply(&session.context.shared, core, kind, part) {
                    return reply.extend_from_slice(&edited);
                }
            }
            Self::Pause(asked) => session.context.shared.common.pause.done(*asked, time::now()),
            Self::Select(db) => switch::selected(session, core, *db, true),
            Self::Hello(hello) => {
                if let Some(greeting) = switch::greeted(session, core, hello, part, true) {
                    return reply.extend_from_slice(&greeting);
                }
            }
            Self::Auth(credentials) => logged_in(session, core, credentials, true),
            Self::Replies(Mute::On) => core.replies = Replies::On,
            Self::Replies(Mute::Off) => core.replies = Replies::Off,
            Self::Replies(Mute::Skip) => core.skip_next = true,
        }
        reply.extend_from_slice(part);
    }
}

impl Turn<'_> {
    /// Refuses a command within MULTI, in Redis' words, and lets Redis know that the transaction has failed.
    pub(super) fn refuse_queued(&mut self, command: &Command, text: &str) {
        self.send_on_pin(None, &refused_everywhere());
        self.refuse(command.id().number(), text);
    }

    /// Queues a request in the session's transaction. Nothing is known to be queued until MULTI is answered: if Redis
    /// refused it, the request runs now, so what it writes is killed now and at EXEC.
    pub(super) fn queue(&mut self, command: &Command, request: &Request<'_>, mut op: Op) {
        let Some(transaction) = self.core.pin.as_mut().and_then(|pin| pin.transaction.as_mut()) else {
            return;
        };
        transaction.words.extend(self.words.take());
        let queued = match command.check_arity(request) {
            true => transaction.queue(command, request, &self.core.keys, &self.context.shared),
            false => Queued::AsItIs,
        };
        if matches!(command.effect, Effect::Write | Effect::Unknown | Effect::Admin) {
            op.keys = Keys::from(self.core.keys.as_slice());
            op.effect = command.effect;
        }
        match queued {
            Queued::Refused => self.refuse_queued(command, "ERR Command not allowed inside a transaction"),
            Queued::AsItIs => {
                self.before_sending(&mut op);
                self.send_on_pin(Some(op), request.frame());
            }
            Queued::As(frame) => self.send_on_pin(Some(op), &frame),
        }
    }
}
