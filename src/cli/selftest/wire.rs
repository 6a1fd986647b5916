//! A client's way to whom it asks: a connection, or connections to the nodes of a cluster, whose redirections it follows.

use nearhit::command::Slot;
use nearhit::resp::{ReplyLimits, ReplyScan, ReplyScanner};
use nearhit::time::{self, Instant};
use std::collections::HashMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than nearhit makes anybody wait for a server (`upstream.command_timeout`), frozen processes included.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// How often a request is sent on.
const MOST_HOPS: usize = 5;
const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

/// The socket and what was read from it.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    pub(super) read: Vec<u8>,
    /// Bytes of `read` that were answers already.
    pub(super) used: usize,
}

/// What a client says first, and how many replies that has.
#[derive(Clone, Debug, Default)]
pub(super) struct Greeting {
    pub(super) bytes: Vec<u8>,
    pub(super) replies: usize,
}

impl Wire {
    /// Connects and greets.
    pub(super) async fn open(addr: &str, greeting: &Greeting) -> Option<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(addr)).await.ok()?.ok()?;
        stream.set_nodelay(true).ok()?;
        let mut wire = Self {
            stream,
            read: Vec::with_capacity(16 * 1024),
            used: 0,
        };
        let replies = wire.ask(&greeting.bytes, greeting.replies).await?;
        let refused = replies.iter().any(|reply| reply.first() == Some(&b'-'));
        (!refused).then_some(wire)
    }

    /// Writes this and reads so many replies. `None`: lost.
    async fn ask(&mut self, out: &[u8], count: usize) -> Option<Vec<Vec<u8>>> {
        self.stream.write_all(out).await.ok()?;
        let mut replies = Vec::with_capacity(count);
        while replies.len() < count {
            match self.next().ok()? {
                Some(reply) => replies.push(self.read.get(reply)?.to_vec()),
                None => self.fill().await?,
            }
        }
        Some(replies)
    }

    /// Reads once more. `None`: lost.
    pub(super) async fn fill(&mut self) -> Option<()> {
        if self.used == self.read.len() {
            self.read.clear();
            self.used = 0;
        }
        let count = timeout(PATIENCE, self.stream.read_buf(&mut self.read))
            .await
            .ok()?
            .ok()?;
        (count > 0).then_some(())
    }

    /// Finds the next whole reply.
    pub(super) fn next(&mut self) -> Result<Option<std::ops::Range<usize>>, ()> {
        let rest = self.read.get(self.used..).unwrap_or_default();
        match ReplyScanner::new(ReplyLimits::default()).scan(rest) {
            Ok(ReplyScan::Complete { consumed }) => {
                let reply = self.used..self.used + consumed;
                self.used = reply.end;
                Ok(Some(reply))
            }
            Ok(ReplyScan::Incomplete) => Ok(None),
            Err(_) => Err(()),
        }
    }
}

/// Connections to the nodes of a cluster.
#[derive(Debug)]
pub(super) struct Wires {
    greeting: Greeting,
    by_node: HashMap<String, Wire>,
    /// Who has which slot, as far as a node has said so.
    owners: HashMap<Slot, String>,
    /// Who was asked last.
    last: String,
}

/// Which node is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    Owner(Slot),
    /// The same one as before, although it may say that the keys are elsewhere.
    Last,
}

/// Where a node says the keys are.
#[derive(Debug, PartialEq, Eq)]
enum Elsewhere {
    Moved(String),
    Ask(String),
}

impl Elsewhere {
    fn read(replies: &[Vec<u8>]) -> Option<Self> {
        replies.iter().find_map(|reply| {
            let text = std::str::from_utf8(reply).ok()?.trim_end();
            let mut words = text.strip_prefix('-')?.split(' ');
            let (code, node) = (words.next()?, words.nth(1)?.to_owned());
            match code {
                "MOVED" => Some(Self::Moved(node)),
                "ASK" => Some(Self::Ask(node)),
                _ => None,
            }
        })
    }
}

impl Wires {
    /// Connects to one node, which will say where the others are.
    pub(super) async fn open(addr: &str, greeting: Greeting) -> Option<Self> {
        let wire = Wire::open(addr, &greeting).await?;
        Some(Self {
            greeting,
            by_node: HashMap::from([(addr.to_owned(), wire)]),
            owners: HashMap::new(),
            last: addr.to_owned(),
        })
    }

    /// Sends one operation and reads its replies, which are so many: where a node says that the keys are elsewhere, all of it
    /// is sent there, for it was not run. Says when the replies were complete. `None`: a connection is lost.
    pub(super) async fn ask(&mut self, out: &[u8], count: usize, whom: Whom) -> Option<(Vec<Vec<u8>>, Instant)> {
        let owner = match whom {
            Whom::Owner(slot) => self.owners.get(&slot),
            Whom::Last => None,
        };
        let mut node = owner.unwrap_or(&self.last).clone();
        let mut asking = false;
        for hop in 0.. {
            let wire = match self.by_node.get_mut(&node) {
                Some(wire) => wire,
                None => {
                    let wire = Wire::open(&node, &self.greeting).await?;
                    self.by_node.entry(node.clone()).or_insert(wire)
                }
            };
            let (before, more): (&[u8], usize) = if asking { (ASKING, 1) } else { (&[], 0) };
            let mut replies = wire.ask(&[before, out].concat(), more + count).await?.split_off(more);
            let completed = time::now();
            self.last.clone_from(&node);
            let elsewhere = match whom {
                Whom::Owner(slot) if hop < MOST_HOPS => Elsewhere::read(&replies).map(|elsewhere| (slot, elsewhere)),
                _ => None,
            };
            match elsewhere {
                Some((slot, Elsewhere::Moved(there))) => {
                    self.owners.insert(slot, there.clone());
                    (node, asking) = (there, false);
                }
                Some((_, Elsewhere::Ask(there))) => (node, asking) = (there, true),
                None => return Some((std::mem::take(&mut replies), completed)),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_is_found_among_the_replies_of_a_transaction() {
        let read = |replies: &[&str]| {
            let replies: Vec<_> = replies.iter().map(|reply| reply.as_bytes().to_vec()).collect();
            Elsewhere::read(&replies)
        };
        assert_eq!(
            read(&["+OK\r\n", "-MOVED 12 127.0.0.1:7001\r\n", "-EXECABORT x\r\n"]),
            Some(Elsewhere::Moved("127.0.0.1:7001".to_owned()))
        );
        assert_eq!(
            read(&["-ASK 12 127.0.0.1:7001\r\n"]),
            Some(Elsewhere::Ask("127.0.0.1:7001".to_owned()))
        );
        assert_eq!(read(&["$5\r\nMOVED\r\n", "-ERR x\r\n"]), None);
    }
}
