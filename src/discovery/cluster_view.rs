//! What one node of a cluster says about all of them: `CLUSTER NODES`, and the addresses of `CLUSTER SLOTS`.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use crate::command::SLOT_COUNT;
use crate::config::Address;
use crate::resp::Value;

/// Nodes of one cluster at most. Redis recommends no more than a thousand.
const MOST_NODES: usize = 4000;

/// What a node says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Every node it can name, itself among them.
    pub(super) nodes: Vec<Member>,
}

/// A node, as another one or it itself sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: String,
    /// Where clients reach it.
    pub(super) address: Address,
    /// It is the one that says this.
    pub(super) is_speaker: bool,
    /// The id of the primary it follows; `None`: it follows nobody.
    pub(super) follows: Option<String>,
    /// Enough nodes agree that it does not answer.
    pub(super) fails: bool,
    /// It may not answer, or the one that says this has no link to it.
    pub(super) is_doubtful: bool,
    /// The greater one's claim to a slot counts.
    pub(super) epoch: u64,
    pub(super) slots: Vec<RangeInclusive<u16>>,
}

/// How addresses are told: who was asked, for nodes that do not know their own, and what to make of those that are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addressing<'a> {
    pub(super) asked: &'a Address,
    /// Where nodes are reached, by where they announce themselves, if that is elsewhere.
    pub(super) aliases: &'a HashMap<Address, Address>,
}

impl Addressing<'_> {
    /// The node that is announced at this host and port; an empty host is the one that was asked. `?` is nobody's: nodes that
    /// have no name where names are to be used are called that.
    fn address(&self, host: &str, port: u16) -> Option<Address> {
        let host = match (host, self.asked) {
            ("?", _) | ("", Address::Unix(_)) => return None,
            ("", Address::Tcp { host, .. }) => host,
            (host, _) => host,
        };
        let announced = Address::Tcp {
            host: host.to_owned(),
            port,
        };
        let reached = self.aliases.get(&announced).cloned();
        Some(reached.unwrap_or(announced)).filter(|_| port > 0)
    }
}

fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host, port.parse().ok()?))
}

impl View {
    /// Reads both replies.
    ///
    /// # Errors
    /// What cannot be understood of them.
    pub(super) fn read(nodes: &Value, slots: &Value, addressing: Addressing<'_>) -> Result<Self, String> {
        if let Value::Error(text) = nodes {
            return Err(String::from_utf8_lossy(text).into_owned());
        }
        let text = nodes.as_bytes().ok_or("CLUSTER NODES did not answer with text")?;
        let text = String::from_utf8_lossy(text);
        let preferred = endpoints(slots, addressing);
        let mut view = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if view.nodes.len() == MOST_NODES {
                return Err(format!("CLUSTER NODES names more than {MOST_NODES} nodes"));
            }
            let member = Member::read(line, addressing).ok_or_else(|| {
                let start: String = line.chars().take(120).collect();
                format!("CLUSTER NODES has a line that cannot be understood: {start}")
            })?;
            view.nodes.extend(member);
        }
        for node in &mut view.nodes {
            match preferred.get(&node.id) {
                Some(Some(address)) => node.address.clone_from(address),
                Some(None) => {}
                // One that is not named there has not got all of its primary's data yet.
                None => node.is_doubtful |= node.follows.is_some() && !preferred.is_empty(),
            }
        }
        // As one node sees it a slot is one node's.
        let slots = view.nodes.iter().flat_map(|node| &node.slots);
        if slots.map(ExactSizeIterator::len).sum::<usize>() > SLOT_COUNT {
            return Err(format!("CLUSTER NODES gives away more than {SLOT_COUNT} slots"));
        }
        match view.speaker() {
            Some(_) => Ok(view),
            None => Err("CLUSTER NODES does not say which node answers".to_owned()),
        }
    }

    /// The node that says this.
    pub(super) fn speaker(&self) -> Option<&Member> {
        self.nodes.iter().find(|node| node.is_speaker)
    }
}

impl Member {
    /// Reads a line: `id ip:port@bus[,hostname[,…]] flags primary ping pong epoch link slot …`. `None`: it is no such line;
    /// `Some(None)`: of a node that nobody can connect to.
    fn read(line: &str, addressing: Addressing<'_>) -> Option<Option<Self>> {
        let mut words = line.split_ascii_whitespace();
        let (id, place, flags, primary) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let (_ping, _pong, epoch, link) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let flags: Vec<_> = flags.split(',').collect();
        let has = |flag: &str| flags.contains(&flag);
        let mut slots = Vec::new();
        for word in words {
            // Slots on the move: [93-<-id] and [77->-id].
            if !word.starts_with('[') {
                slots.push(range(word)?);
            }
        }
        let announced = place.split(',').next()?.split('@').next()?;
        let (host, port) = host_and_port(announced)?;
        if has("noaddr") || has("handshake") {
            return Some(None);
        }
        let Some(address) = addressing.address(host, port) else {
            return Some(None);
        };
        Some(Some(Self {
            id: id.to_owned(),
            address,
            is_speaker: has("myself"),
            follows: (primary != "-").then(|| primary.to_owned()),
            fails: has("fail"),
            is_doubtful: has("fail?") || (link != "connected" && !has("myself")),
            epoch: epoch.parse().ok()?,
            slots,
        }))
    }

    /// Whether it has slots of its own.
    pub(super) fn owns(&self) -> bool {
        self.follows.is_none() && !self.slots.is_empty()
    }
}

/// `7` or `0-5460`.
fn range(word: &str) -> Option<RangeInclusive<u16>> {
    let (from, to) = word.split_once('-').unwrap_or((word, word));
    let (from, to) = (from.parse::<u16>().ok()?, to.parse::<u16>().ok()?);
    (from <= to && usize::from(to) < SLOT_COUNT).then_some(from..=to)
}

/// Where clients should reach nodes, by their ids: that may be a host name, or not be said. Nodes that have nothing are not in
/// it; where it may not be asked, nobody is.
fn endpoints(slots: &Value, addressing: Addressing<'_>) -> HashMap<String, Option<Address>> {
    let mut known = HashMap::new();
    let ranges = slots.as_values().unwrap_or_default().iter().take(SLOT_COUNT);
    for node in ranges.flat_map(|range| range.as_values().unwrap_or_default().iter().skip(2)) {
        let Some([host, port, id, ..]) = node.as_values() else {
            continue;
        };
        let (Some(port), Some(id)) = (port.as_integer(), id.as_bytes()) else {
            continue;
        };
        let host = String::from_utf8_lossy(host.as_bytes().unwrap_or_default());
        let address = u16::try_from(port)
            .ok()
            .and_then(|port| addressing.address(&host, port));
        known.insert(String::from_utf8_lossy(id).into_owned(), address);
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        let host = host.to_owned();
        Address::Tcp { host, port }
    }

    fn text(text: &str) -> Value {
        Value::Bulk(text.as_bytes().to_vec().into())
    }

    fn read(nodes: &str) -> Result<View, String> {
        let (asked, aliases) = (at("asked", 1), HashMap::new());
        let addressing = Addressing {
            asked: &asked,
            aliases: &aliases,
        };
        View::read(&text(nodes), &Value::Array(Vec::new()), addressing)
    }

    /// Of redis-server 7.0.15, with slot 93 on its way here and 5461 away.
    const REAL: &str = "\
7a2bf1e3ff2d1f1a0cd3d2b2c8a0b9b1e0f6a7b1 127.0.0.1:7102@17102 master - 0 1764592825000 2 connected 5462-10922\n\
c5c3f0e8b7a6958473625140392817065544332a 127.0.0.1:7101@17101 myself,master - 0 1764592824000 1 connected 0-92 94-5461 [93-<-7a2bf1e3ff2d1f1a0cd3d2b2c8a0b9b1e0f6a7b1] [5461->-7a2bf1e3ff2d1f1a0cd3d2b2c8a0b9b1e0f6a7b1]\n\
aa11bb22cc33dd44ee55ff660718293a4b5c6d7e 127.0.0.1:7105@17105 slave c5c3f0e8b7a6958473625140392817065544332a 0 1764592825500 1 connected\n\
ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00 127.0.0.1:7103@17103 master,fail - 1764592820000 1764592818000 3 disconnected 10923\n\
1234567890123456789012345678901234567890 :0@0 master,noaddr - 0 0 0 disconnected\n";

    #[test]
    fn a_node_tells_who_has_what() {
        let view = read(REAL).unwrap();
        assert_eq!(view.nodes.len(), 4);
        let speaker = view.speaker().unwrap();
        assert_eq!((&speaker.address, speaker.epoch), (&at("127.0.0.1", 7101), 1));
        assert_eq!(speaker.slots, [0..=92, 94..=5461]);
        let [replica, dead] = [&view.nodes[2], &view.nodes[3]];
        assert_eq!(replica.follows.as_deref(), Some(speaker.id.as_str()));
        assert!(!replica.is_doubtful && !replica.owns());
        assert!(dead.fails && dead.is_doubtful && dead.owns());
    }

    #[test]
    fn addresses_are_those_that_clients_should_use() {
        let line = |place: &str| format!("id {place} myself,master - 0 0 1 connected 0-16383\n");
        let address = |place: &str| read(&line(place)).unwrap().nodes[0].address.clone();
        assert_eq!(address("10.0.0.1:7@17,db.example"), at("10.0.0.1", 7));
        assert_eq!(address("::1:7@17"), at("::1", 7));
        assert_eq!(address(":7@17"), at("asked", 7), "it does not know its own address");
        let slots = Value::Array(vec![Value::Array(vec![
            Value::Integer(0),
            Value::Integer(16383),
            Value::Array(vec![text("db.example"), Value::Integer(7), text("id")]),
        ])]);
        let aliases = HashMap::from([(at("db.example", 7), at("nat", 9))]);
        let unnamed = Value::Array(vec![Value::Array(vec![
            Value::Integer(0),
            Value::Integer(16383),
            Value::Array(vec![text("?"), Value::Integer(7), text("id")]),
        ])]);
        let addressing = Addressing {
            asked: &at("asked", 1),
            aliases: &HashMap::new(),
        };
        let view = View::read(&text(&line("10.0.0.1:7@17")), &unnamed, addressing).unwrap();
        assert_eq!(view.nodes[0].address, at("10.0.0.1", 7));
        for (aliases, wanted) in [(HashMap::new(), at("db.example", 7)), (aliases, at("nat", 9))] {
            let addressing = Addressing {
                asked: &at("asked", 1),
                aliases: &aliases,
            };
            let view = View::read(&text(&line("10.0.0.1:7@17")), &slots, addressing).unwrap();
            assert_eq!(view.nodes[0].address, wanted);
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused_by_name() {
        for (text, what) in [
            ("", "which node answers"),
            ("id 1.1.1.1:1@2 master - 0 0 1 connected\n", "which node answers"),
            ("id 1.1.1.1:1@2 myself,master - 0 0 1\n", "cannot be understood"),
            (
                "id 1.1.1.1:1@2 myself,master - 0 0 x connected\n",
                "cannot be understood",
            ),
            (
                "id 1.1.1.1:1@2 myself,master - 0 0 1 connected 5-4\n",
                "cannot be understood",
            ),
            (
                "id 1.1.1.1:1@2 myself,master - 0 0 1 connected 16384\n",
                "cannot be understood",
            ),
            (
                "id 1.1.1.1:1@2 myself,master - 0 0 1 connected 0-16383 0\n",
                "more than 16384 slots",
            ),
            ("id nowhere myself,master - 0 0 1 connected\n", "cannot be understood"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
        let (asked, aliases) = (at("asked", 1), HashMap::new());
        let addressing = Addressing {
            asked: &asked,
            aliases: &aliases,
        };
        let refused = Value::Error(b"ERR This instance has cluster support disabled".to_vec().into());
        let error = View::read(&refused, &Value::Null, addressing).unwrap_err();
        assert_eq!(error, "ERR This instance has cluster support disabled");
    }
}
