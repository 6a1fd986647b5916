//! CLIENT LIST and CLIENT INFO: the server's fields, in its order, about nearhit's clients.
//!
//! Fields about buffers tell what nearhit holds for the client: `qbuf` what it sent and nearhit has not handled, `obl`
//! what is ready to be written. What nearhit does not have (`argv-mem`, `oll`) is 0.

use std::fmt::Write as _;

use super::context::{Peer, Shared};
use super::live::{Shown, letter};
use super::session::Session;
use crate::command::CommandTable;
use crate::metrics::OTHER;
use crate::resp::{Request, canonical};
use crate::time::{self, Instant};

/// What a client is to CLIENT LIST TYPE and CLIENT KILL TYPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientType {
    Normal,
    PubSub,
    /// A master or a replica: nearhit has none among its clients.
    Replication,
}

impl ClientType {
    /// Reads the name as the server does: it knows `slave`, too.
    pub(super) fn read(name: &[u8]) -> Result<Self, String> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match () {
            () if is("normal") => Ok(Self::Normal),
            () if is("pubsub") => Ok(Self::PubSub),
            () if is("master") || is("replica") || is("slave") => Ok(Self::Replication),
            () => Err(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(name))),
        }
    }

    /// What a client is now. A client of MONITOR is a normal one.
    pub(super) fn of(shown: &Shown) -> Self {
        if shown.has(letter::PUBSUB) {
            Self::PubSub
        } else {
            Self::Normal
        }
    }
}

/// The text CLIENT LIST answers with; `Err` is an error's.
pub(super) fn list(shared: &Shared, request: &Request<'_>) -> Result<String, String> {
    let lister = Lister::new(shared);
    let option = request.arg(2);
    let mut text = String::new();
    if request.len() == 4 && option.eq_ignore_ascii_case(b"type") {
        let wanted = ClientType::read(request.arg(3))?;
        lister.all(&mut text, |peer| ClientType::of(&peer.live.shown()) == wanted);
    } else if request.len() > 3 && option.eq_ignore_ascii_case(b"id") {
        for arg in request.args_from(3) {
            let id = canonical(arg).ok_or("ERR Invalid client ID")?;
            u64::try_from(id).into_iter().for_each(|id| lister.one(&mut text, id));
        }
    } else if request.len() == 2 {
        lister.all(&mut text, |_| true);
    } else {
        return Err("ERR syntax error".to_owned());
    }
    Ok(text)
}

/// The line of CLIENT INFO.
pub(super) fn info(session: &Session) -> String {
    let mut line = String::new();
    Lister::new(&session.context.shared).one(&mut line, session.id);
    line
}

struct Lister<'s> {
    shared: &'s Shared,
    table: arc_swap::Guard<std::sync::Arc<CommandTable>>,
    now: Instant,
}

impl<'s> Lister<'s> {
    fn new(shared: &'s Shared) -> Self {
        Self {
            shared,
            table: shared.table.load(),
            now: time::now(),
        }
    }

    /// Every client that is `wanted`, oldest first.
    fn all(&self, text: &mut String, wanted: impl Fn(&Peer) -> bool) {
        let peers = self.shared.peers.iter();
        let mut ids: Vec<u64> = peers.filter(|peer| wanted(peer)).map(|peer| *peer.key()).collect();
        ids.sort_unstable();
        for id in ids {
            self.one(text, id);
        }
    }

    /// One client's line, if it is there.
    fn one(&self, text: &mut String, id: u64) {
        if let Some(peer) = self.shared.peers.get(&id) {
            self.line(text, id, &peer);
        }
    }

    fn line(&self, text: &mut String, id: u64, peer: &Peer) {
        let mut shown = peer.live.shown();
        if peer.addr.starts_with('/') {
            shown.letters |= letter::UNIX;
        }
        let [sub, psub, ssub] = shown.subscriptions;
        let age = self.now.since(peer.since).as_secs();
        let idle = self.now.since(peer.live.seen().max(peer.since)).as_secs();
        let (addr, laddr, fd, name) = (&peer.addr, &peer.laddr, peer.fd, &peer.name);
        let (unread, unsent) = (shown.unread, shown.unsent);
        let memory = std::mem::size_of::<Session>() + unread as usize + unsent as usize;
        let events = if unsent > 0 { "rw" } else { "r" };
        let (lib, version) = &peer.library;
        let _infallible = writeln!(
            text,
            "id={id} addr={addr} laddr={laddr} fd={fd} name={name} age={age} idle={idle} flags={flags} db={db} \
             sub={sub} psub={psub} ssub={ssub} multi={multi} qbuf={unread} qbuf-free=0 argv-mem=0 multi-mem=0 \
             rbs={unsent} rbp={unsent} obl={unsent} oll=0 omem=0 tot-mem={memory} events={events} cmd={command} \
             user={user} redir={redirect} resp={resp} lib-name={lib} lib-ver={version}",
            flags = shown.flags(),
            db = peer.db,
            multi = shown.queued,
            command = self.command(peer.live.command()),
            user = peer.user,
            redirect = shown.redirect,
            resp = peer.resp,
        );
    }

    /// As the server calls a client's last command; what it does not know is `NULL`.
    fn command(&self, number: u16) -> &str {
        match self.table.by_number(number) {
            Some(command) if number != OTHER => command.name(),
            _ => "NULL",
        }
    }
}
