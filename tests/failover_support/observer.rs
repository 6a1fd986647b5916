//! A client that knows how to follow a master itself, and does so without nearhit: what it meets is what Redis costs.

use super::super::support::resp::encode;
use super::super::support::{Reply, Resp};
use super::stop::Stop;
use nearhit::time::{self, Instant};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How long it waits for an answer: as long as nearhit, which is told so.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a node may take to say what it is.
const LOOK: Duration = Duration::from_millis(200);

/// How often a request is sent on.
const HOPS: usize = 5;

/// Who is asked where the master is.
#[derive(Clone, Debug)]
pub enum Place {
    /// The nodes themselves.
    Nodes(Vec<SocketAddr>),
    /// Sentinels that watch `mymaster`.
    Sentinels(Vec<SocketAddr>),
    /// The nodes of a cluster, and the hash tags of the keys that are asked for. All of them have one owner before and after.
    Cluster {
        /// As many replicas as primaries.
        nodes: Vec<SocketAddr>,
        tags: Vec<String>,
        /// The keys come back to nodes that had them before.
        returns: bool,
    },
}

impl Place {
    /// How many replicas may be read from.
    pub fn replicas(&self) -> usize {
        match self {
            Self::Cluster { nodes, .. } => nodes.len() / 2,
            Self::Nodes(_) | Self::Sentinels(_) => 2,
        }
    }

    /// Whether who was the master once may be it again.
    pub fn returns(&self) -> bool {
        matches!(self, Self::Cluster { returns: true, .. })
    }

    /// The name of a key of the client with this number.
    pub fn tagged(&self, name: &str, client: usize) -> String {
        match self {
            Self::Cluster { tags, .. } => format!("{name}:{{{}}}", tags[client % tags.len()]),
            Self::Nodes(_) | Self::Sentinels(_) => name.to_owned(),
        }
    }

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
            Self::Cluster { nodes, .. } => {
                let owns = |node: &SocketAddr| ask(*node, &["TYPE", &self.tagged("observer", 0)]);
                nodes
                    .iter()
                    .copied()
                    .find(|node| owns(node).is_some_and(|reply| !reply.is_error()))
            }
        }
    }
}

fn ask(addr: SocketAddr, args: &[&str]) -> Option<Reply> {
    let mut client = Resp::try_connect(addr).ok()?;
    client.patience(LOOK);
    client.try_send_raw(encode(args)).ok()?;
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
    match place {
        Place::Cluster { nodes, .. } => observe_cluster(nodes, &place.tagged("observer", 0), stop),
        Place::Nodes(_) | Place::Sentinels(_) => observe_master(place, stop),
    }
}

/// Goes where MOVED and ASK say; when nobody can say, or does not answer, to the next node.
fn observe_cluster(nodes: &[SocketAddr], key: &str, stop: &Stop) -> Vec<(String, Instant)> {
    let (mut acknowledged, mut clients) = (Vec::new(), HashMap::new());
    let (mut node, mut next) = (nodes[0], nodes.iter().cycle());
    for number in 0_u64.. {
        if stop.rest() {
            break;
        }
        let element = format!("observer-{number}");
        let append = encode(&["RPUSH", key, &element]);
        let mut reply = asked(&mut clients, node, &append, false);
        for _ in 0..HOPS {
            let Some(Reply::Error(text)) = &reply else { break };
            let Some((asks, there)) = elsewhere(text) else { break };
            if !asks {
                node = there;
            }
            reply = asked(&mut clients, there, &append, asks);
        }
        match reply {
            Some(Reply::Int(_)) => acknowledged.push((element, time::now())),
            Some(Reply::Error(text)) if text.starts_with("TRYAGAIN") => {}
            _ => node = *next.next().expect("a cycle"),
        }
    }
    acknowledged
}

/// Where a node says the key is, and whether it is to be asked there only once.
fn elsewhere(error: &str) -> Option<(bool, SocketAddr)> {
    let mut words = error.split(' ');
    let asks = match words.next()? {
        "MOVED" => false,
        "ASK" => true,
        _ => return None,
    };
    Some((asks, words.nth(1)?.parse().ok()?))
}

fn asked(clients: &mut HashMap<SocketAddr, Resp>, node: SocketAddr, request: &[u8], asks: bool) -> Option<Reply> {
    let mut client = match clients.remove(&node) {
        Some(client) => client,
        None => Resp::try_connect(node).ok()?,
    };
    client.patience(PATIENCE);
    let before = if asks { encode(&["ASKING"]) } else { Vec::new() };
    client.try_send_raw([&before, request].concat()).ok()?;
    if asks {
        client.try_reply()?;
    }
    let reply = client.try_reply()?;
    clients.insert(node, client);
    Some(reply)
}

fn observe_master(place: &Place, stop: &Stop) -> Vec<(String, Instant)> {
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
        let sent = connection.try_send_raw(encode(&["RPUSH", "observer", &element]));
        match sent.ok().and_then(|()| connection.try_reply()) {
            Some(Reply::Int(_)) => acknowledged.push((element, time::now())),
            _ => client = None,
        }
    }
    acknowledged
}
