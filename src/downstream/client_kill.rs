//! CLIENT KILL: which clients are meant, and their end.
//!
//! The server judges the request first: it is sent a version of it that cannot name any client there, so its words for
//! what is wrong (an unknown type, an unknown user, no permission) are its own. Only when it has nothing against it,
//! clients are killed here.

use super::client_list::ClientType;
use super::context::{Peer, Shared};
use super::session::{Core, Session};
use crate::metrics::Disconnect;
use crate::resp::{Request, canonical, encode};
use crate::time::{self, Instant};

/// No client of a server comes from or has connected to this address.
const NOWHERE: &[u8] = b"0.0.0.0:0";
/// No server has ever given this id to a client.
pub(super) const NOBODY: &[u8] = b"9223372036854775807";

/// Whom CLIENT KILL names: a client must pass all filters.
#[derive(Debug, Default)]
pub(super) struct Filters {
    id: Option<u64>,
    kind: Option<ClientType>,
    addr: Option<Vec<u8>>,
    laddr: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    /// Only clients that are connected for at least so many seconds; 0 means any.
    max_age: Option<u64>,
    with_me: bool,
    /// `CLIENT KILL addr`, which is answered in other words.
    old_form: bool,
}

impl Filters {
    /// Reads a request that the server finds nothing wrong with; `Err` when it understands more than nearhit does.
    fn read(request: &Request<'_>) -> Result<Self, ()> {
        if request.len() == 3 {
            return Ok(Self {
                addr: Some(request.arg(2).to_vec()),
                with_me: true,
                old_form: true,
                ..Self::default()
            });
        }
        let mut filters = Self::default();
        for at in (2..request.len()).step_by(2) {
            let (option, value) = (request.arg(at), request.arg(at + 1));
            let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
            let number = || canonical(value).and_then(|number| u64::try_from(number).ok()).ok_or(());
            match () {
                () if is("id") => filters.id = Some(number()?),
                () if is("type") => filters.kind = Some(ClientType::read(value).map_err(drop)?),
                () if is("addr") => filters.addr = Some(value.to_vec()),
                () if is("laddr") => filters.laddr = Some(value.to_vec()),
                () if is("user") => filters.user = Some(value.to_vec()),
                () if is("skipme") => filters.with_me = value.eq_ignore_ascii_case(b"no"),
                () if is("maxage") => filters.max_age = Some(number()?),
                () => return Err(()),
            }
        }
        Ok(filters)
    }

    fn mean(&self, id: u64, peer: &Peer, now: Instant) -> bool {
        let is =
            |filter: &Option<Vec<u8>>, value: &str| filter.as_ref().is_none_or(|wanted| wanted == value.as_bytes());
        self.id.is_none_or(|wanted| wanted == id)
            && is(&self.addr, &peer.addr)
            && is(&self.laddr, &peer.laddr)
            && is(&self.user, &peer.user)
            && self.kind.is_none_or(|kind| kind == ClientType::of(&peer.live.shown()))
            && self.max_age.is_none_or(|age| now.since(peer.since).as_secs() >= age)
    }
}

/// What is to be done once the server has nothing against a CLIENT KILL.
#[derive(Debug)]
pub(super) struct Kill(Result<Filters, ()>);

impl Kill {
    /// What `request` asks for, and the request to have judged in its place.
    pub(super) fn read(request: &Request<'_>) -> (Self, Vec<u8>) {
        let mut judged = Vec::new();
        if request.len() == 3 {
            encode::request(&mut judged, [request.name(), request.arg(1), NOWHERE]);
            return (Self(Filters::read(request)), judged);
        }
        let mut args = vec![request.name(), request.arg(1), b"LADDR", NOWHERE];
        for (at, arg) in (2..).zip(request.args_from(2)) {
            let option = request.arg(at - 1);
            let is_value = at % 2 == 1;
            let valid = canonical(arg).is_some_and(|id| id > 0);
            args.push(match is_value {
                true if option.eq_ignore_ascii_case(b"id") && valid => NOBODY,
                true if option.eq_ignore_ascii_case(b"addr") || option.eq_ignore_ascii_case(b"laddr") => NOWHERE,
                _ => arg,
            });
        }
        encode::request(&mut judged, args);
        (Self(Filters::read(request)), judged)
    }

    /// The server's verdict is in: kills, and gives the reply; `None`: the verdict is the reply.
    pub(super) fn judged(&self, session: &Session, core: &mut Core, verdict: &[u8]) -> Option<Vec<u8>> {
        let harmless = verdict.starts_with(b":") || verdict.starts_with(b"-ERR No such client");
        if !harmless {
            return None;
        }
        let mut reply = Vec::new();
        match &self.0 {
            Ok(filters) => match (kill(session, core, filters), filters.old_form) {
                (0, true) => return None,
                (_, true) => encode::simple(&mut reply, b"OK"),
                (count, false) => encode::integer(&mut reply, count),
            },
            Err(()) => encode::error(&mut reply, b"ERR nearhit does not know all of these filters"),
        }
        Some(reply)
    }
}

impl Shared {
    /// Ends all clients that are `user`, but for the one with the id `but`; tells whether that one is.
    pub fn close_user(&self, user: &[u8], but: Option<u64>) -> bool {
        let user = String::from_utf8_lossy(user);
        let theirs = self.peers.iter().filter(|peer| peer.user == user);
        let theirs: Vec<u64> = theirs.map(|peer| *peer.key()).collect();
        theirs
            .iter()
            .filter(|id| Some(**id) != but)
            .for_each(|id| _ = self.close_client(*id));
        but.is_some_and(|but| theirs.contains(&but))
    }

    /// Ends a client; false: somebody else has, or it left.
    fn close_client(&self, id: u64) -> bool {
        // Whoever takes it out of the registry has killed it; nobody counts it twice.
        let Some((_, peer)) = self.peers.remove(&id) else {
            return false;
        };
        peer.live.kill();
        self.common.order(peer.live.seat, super::orders::What::Wake);
        true
    }
}

/// Ends the clients that are meant; gives how many. The asker itself ends when it has its answer.
fn kill(session: &Session, core: &mut Core, filters: &Filters) -> i64 {
    let shared = &session.context.shared;
    let now = time::now();
    let meant = shared.peers.iter().filter(|peer| filters.mean(*peer.key(), peer, now));
    let meant: Vec<u64> = meant.map(|peer| *peer.key()).collect();
    let mut killed = 0;
    for id in meant {
        if id == session.id {
            if filters.with_me {
                core.closing.get_or_insert(Disconnect::Kill);
                killed += 1;
            }
            continue;
        }
        killed += i64::from(shared.close_client(id));
    }
    killed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{RequestLimits, RequestScanner};

    fn judged(line: &str) -> String {
        let mut frame = Vec::new();
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        encode::request(&mut frame, words);
        let mut scanner = RequestScanner::new(RequestLimits::default());
        assert!(scanner.scan(&frame).is_ok());
        let (_, judged) = Kill::read(&scanner.request(&frame));
        assert!(scanner.scan(&judged).is_ok());
        let request = scanner.request(&judged);
        let words: Vec<_> = request.args_from(0).map(String::from_utf8_lossy).collect();
        words.join(" ")
    }

    #[test]
    fn the_server_never_hears_of_a_client_it_could_have() {
        for (asked, sent) in [
            ("CLIENT KILL 10.0.0.1:5", "CLIENT KILL 0.0.0.0:0"),
            ("client kill id 7", "client kill LADDR 0.0.0.0:0 id 9223372036854775807"),
            ("CLIENT KILL ID 0", "CLIENT KILL LADDR 0.0.0.0:0 ID 0"),
            (
                "CLIENT KILL LADDR 1.2.3.4:6379 TYPE normal ADDR x SKIPME no",
                "CLIENT KILL LADDR 0.0.0.0:0 LADDR 0.0.0.0:0 TYPE normal ADDR 0.0.0.0:0 SKIPME no",
            ),
            ("CLIENT KILL TYPE id 7", "CLIENT KILL LADDR 0.0.0.0:0 TYPE id 7"),
        ] {
            assert_eq!(judged(asked), sent);
        }
    }
}
