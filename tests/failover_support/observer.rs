//! A client that knows how to follow a master itself, and does so without nearhit: what it meets is what Redis costs.

use super::super::support::{Reply, Resp};
use super::stop::Stop;
use nearhit::time::{self, Instant};
use std::net::SocketAddr;
use std::time::Duration;

/// How long it waits for an answer: as long as nearhit, which is told so.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a node may take to say what it is.
const LOOK: Duration = Duration::from_millis(200);

/// Who is asked where the master is.
#[derive(Clone, Debug)]
pub enum Place {
    /// The nodes themselves.
    Nodes(Vec<SocketAddr>),
    /// Sentinels that watch `mymaster`.
    Sentinels(Vec<SocketAddr>),
}

impl Place {
    /// The master, unless nobody knows one now; who is `known` is preferred among several.
    pub fn master(&self, known: Option<SocketAddr>) -> Option<SocketAddr> {
        match self {
            Self::Nodes(nodes) => known
                .into_iter()
                .chain(nodes.iter().copied())
                .find(|node| is_master(*node)),
            Self::Sentinels(sentinels) => {
                let named = sentinels.iter().find_map(|sentinel| named_by(*sentinel))?;
                (known == Some(named) || is_master(named)).then_some(named)
            }
        }
    }
}

fn ask(addr: SocketAddr, args: &[&str]) -> Option<Reply> {
    let mut client = Resp::try_connect(addr).ok()?;
    client.patience(LOOK);
    client.try_send_raw(super::super::support::resp::encode(args)).ok()?;
    client.try_reply()
}

fn is_master(node: SocketAddr) -> bool {
    ask(node, &["ROLE"]).is_some_and(|role| !role.is_error() && role.items()[0] == "master")
}

fn named_by(sentinel: SocketAddr) -> Option<SocketAddr> {
    let reply = ask(sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"])?;
    match reply {
        Reply::Array(parts) => format!("{}:{}", parts[0].text(), parts[1].text()).parse().ok(),
        _ => None,
    }
}

/// Appends elements to the list `observer` until it is told to stop: which, and when that was acknowledged.
pub fn observe(place: &Place, stop: &Stop) -> Vec<(String, Instant)> {
    let (mut acknowledged, mut known, mut client) = (Vec::new(), None, None);
    let by_role = matches!(place, Place::Nodes(_));
    for number in 0_u64.. {
        if stop.rest() {
            break;
        }
        // Sentinels tell before the node itself knows that it is replaced; a node says so when it is written to.
        if client.is_none() || !by_role {
            let master = place.master(known);
            if master != known || client.is_none() {
                known = master;
                client = known.and_then(|addr| Resp::try_connect(addr).ok());
            }
        }
        let Some(connection) = &mut client else { continue };
        connection.patience(PATIENCE);
        let element = format!("observer-{number}");
        let sent = connection.try_send_raw(super::super::support::resp::encode(&["RPUSH", "observer", &element]));
        match sent.ok().and_then(|()| connection.try_reply()) {
            Some(Reply::Int(_)) => acknowledged.push((element, time::now())),
            _ => client = None,
        }
    }
    acknowledged
}
