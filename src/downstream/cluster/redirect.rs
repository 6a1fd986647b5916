//! Replies by which a node of a cluster says that the key is elsewhere, or cannot be had now: it has not run the request.
//!
//! ```text
//! MOVED        → the slot's entries are dead, the slot is that node's from here on, discovery looks ┐
//! ASK          → the slot's entries are dead, this request goes to that node, behind ASKING         ├→ sent again
//! TRYAGAIN, CLUSTERDOWN, a node that nobody announced → discovery looks, 20 to 80 ms later          ┘
//! for longer than a second, or something that cannot be sent again → the client is told
//! ```

use std::rc::Rc;
use std::time::Duration;

use crate::coherence::Slots;
use crate::command::Slot;
use crate::config::Address;
use crate::downstream::context::Context;
use crate::downstream::forward::{Forwarded, Special};
use crate::metrics::Retry;
use crate::time::Instant;
use crate::topology::NodeId;
use crate::upstream::jittered_pause;

/// How often a request is sent on at once. Redis' own clients follow five and more.
const MOST_HOPS: u8 = 5;
/// How long a request is sent again for all together. As long as replies of a failover take on small clusters is too long for
/// most clients; they are told what the cluster says.
pub(in crate::downstream) const PATIENCE: Duration = Duration::from_secs(1);

/// Where a node says the key is.
#[derive(Debug, PartialEq, Eq)]
enum Elsewhere {
    Moved(Slot, Address),
    Ask(Slot, Address),
    /// Nowhere that it could say, for now.
    Unknown,
}

impl Elsewhere {
    /// Reads an error reply; `asked`: the node that gave it, where the reply names no host.
    fn read(reply: &[u8], asked: Option<&Address>) -> Self {
        let known = || {
            let text = std::str::from_utf8(reply).ok()?.trim_end();
            let mut words = text.strip_prefix('-')?.split(' ');
            let (code, slot, place) = (words.next()?, words.next()?, words.next()?);
            let slot = Slot::new(slot.parse().ok()?)?;
            let (host, port) = place.rsplit_once(':')?;
            let host = match (host.trim_start_matches('[').trim_end_matches(']'), asked) {
                ("", Some(Address::Tcp { host, .. })) => host,
                // A node without a name, where names are to be used.
                ("" | "?", _) => return None,
                (host, _) => host,
            };
            let address = Address::Tcp {
                host: host.to_owned(),
                port: port.parse().ok()?,
            };
            match code {
                "MOVED" => Some(Self::Moved(slot, address)),
                "ASK" => Some(Self::Ask(slot, address)),
                _ => None,
            }
        };
        known().unwrap_or(Self::Unknown)
    }
}

/// What a client that knows nothing of clusters is told in place of a redirection that could not be followed.
pub(in crate::downstream) fn in_plain_words(reply: &[u8]) -> Option<&'static [u8]> {
    let names_a_node = reply.starts_with(b"-MOVED ") || reply.starts_with(b"-ASK ");
    names_a_node.then_some(
        b"-TRYAGAIN nearhit: the keys are on their way to another node of the cluster; the command was not run\r\n",
    )
}

impl Context {
    /// A node has answered that the keys of `slot` are elsewhere. What is cached of the slot is dead.
    fn learn(&self, slot: Option<Slot>, elsewhere: &Elsewhere) -> Option<NodeId> {
        if let Some(slot) = slot {
            self.slot_moved(slot);
        }
        self.shared.doubt.wish();
        let roster = self.nodes.as_ref()?.roster();
        match elsewhere {
            Elsewhere::Moved(slot, address) => {
                let node = roster.find(address)?;
                self.give(*slot, node);
                Some(node)
            }
            Elsewhere::Ask(_, address) => roster.find(address),
            Elsewhere::Unknown => None,
        }
    }
}

impl Forwarded {
    /// In a cluster, another node may have taken the place of the one that was asked.
    pub(in crate::downstream) fn doubt_owner(&self) {
        let context = &self.session.context;
        if context.nodes.is_some() {
            context.shared.doubt.wish();
        }
    }

    fn elsewhere(&self, reply: &[u8]) -> Elsewhere {
        let asked = self.op.node.and_then(|node| {
            let nodes = self.session.context.nodes.as_ref()?;
            nodes.roster().address(node)
        });
        Elsewhere::read(reply, asked.as_ref())
    }

    /// Whether a node of a cluster has answered that it has not run the request because the key is elsewhere, and the request is
    /// to be sent there.
    pub(in crate::downstream) fn is_elsewhere(&self, reply: &[u8], now: Instant) -> bool {
        if self.session.context.nodes.is_none() || !Slots::says_elsewhere(reply) {
            return false;
        }
        let op = &self.op;
        // Something behind it on several keys may have run where it did not.
        let in_order = !reply.starts_with(b"-TRYAGAIN ") || {
            let core = self.session.core.borrow();
            core.home.is_one() || core.causality.is_alone(&op.keys)
        };
        // Keys that only a node can tell: `LMPOP ' 1' k LEFT`, which it refuses where they are.
        let told = op.slot.is_some()
            || (reply.starts_with(b"-MOVED ")
                && matches!(op.special, Special::No)
                && self.session.core.borrow().home.is_one());
        let follows = self.may_be_put_back()
            && in_order
            && told
            && (now.since(op.started) < PATIENCE || (matches!(op.special, Special::Blocking) && op.hops == 0));
        if !follows {
            let _known_all_the_same = self.session.context.learn(op.slot, &self.elsewhere(reply));
            self.session.context.shared.metrics.retries.inc(Retry::Exhausted);
        }
        follows
    }

    /// Has the session send the request to where a node says the key is.
    pub(in crate::downstream) fn follow(mut self, reply: &[u8], request: &[u8], now: Instant) {
        let context = Rc::clone(&self.session.context);
        let elsewhere = self.elsewhere(reply);
        if let Elsewhere::Moved(slot, _) = &elsewhere {
            self.op.slot = Some(*slot);
        }
        let node = context.learn(self.op.slot, &elsewhere);
        self.op.hops = self.op.hops.saturating_add(1);
        let (why, after) = match (&elsewhere, node) {
            (Elsewhere::Moved(..), Some(_)) if self.op.hops <= MOST_HOPS => (Retry::Moved, Instant::ZERO),
            (Elsewhere::Ask(..), Some(node)) if self.op.hops <= MOST_HOPS => {
                self.op.ask = Some(node);
                (Retry::Ask, Instant::ZERO)
            }
            _ => (Retry::Unsettled, now.after(jittered_pause())),
        };
        context.shared.metrics.retries.inc(why);
        if after > now {
            self.session.wake_at(after);
        }
        self.put_back(request, after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        let host = host.to_owned();
        Address::Tcp { host, port }
    }

    #[test]
    fn a_redirection_names_a_slot_and_a_node() {
        let slot = Slot::new(3999).unwrap();
        let read = |reply: &str| Elsewhere::read(reply.as_bytes(), Some(&at("asked", 1)));
        assert_eq!(
            read("-MOVED 3999 10.0.0.1:6381\r\n"),
            Elsewhere::Moved(slot, at("10.0.0.1", 6381))
        );
        assert_eq!(read("-ASK 3999 ::1:6381\r\n"), Elsewhere::Ask(slot, at("::1", 6381)));
        assert_eq!(read("-ASK 3999 [::1]:6381\r\n"), Elsewhere::Ask(slot, at("::1", 6381)));
        assert_eq!(read("-MOVED 3999 :6381\r\n"), Elsewhere::Moved(slot, at("asked", 6381)));
        for odd in [
            "-MOVED 3999 ?:6381\r\n",
            "-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
            "-MOVED 16384 a:1\r\n",
            "-MOVED 3999 a:70000\r\n",
            "-MOVED 3999 a\r\n",
            "-MOVED\r\n",
            "-MOVED x a:1\r\n",
            "",
        ] {
            assert_eq!(read(odd), Elsewhere::Unknown, "{odd}");
        }
        assert_eq!(Elsewhere::read(b"-MOVED 3999 :6381\r\n", None), Elsewhere::Unknown);
    }
}
