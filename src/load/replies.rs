//! The replies that must come on one connection, in order, and how much of them has come.

use std::collections::VecDeque;

use super::script::{Exchange, Script};
use crate::error::{Error, Kind, Result, Side};
use crate::time::Instant;

/// What one connection waits for.
#[derive(Debug, Default)]
pub struct Replies {
    /// Unanswered requests, each with the time at which it was due.
    waiting: VecDeque<(Exchange, Instant)>,
    /// Bytes of the first one's reply that have come.
    matched: usize,
}

impl Replies {
    /// A request was sent, or is about to be.
    pub fn expect(&mut self, exchange: Exchange, due: Instant) {
        self.waiting.push_back((exchange, due));
    }

    /// Requests without a whole reply.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Compares what came with what had to come. `answered` is told when each request was due whose reply is whole now.
    ///
    /// # Errors
    /// Other bytes than those that had to come: an error reply, another key's value, a reply nobody waits for.
    pub fn take(&mut self, script: &Script, mut bytes: &[u8], mut answered: impl FnMut(Instant)) -> Result<()> {
        while !bytes.is_empty() {
            let Some((exchange, due)) = self.waiting.front().copied() else {
                return Err(wrong(b"nothing", bytes));
            };
            let left = script.reply_len(exchange) - self.matched;
            let (piece, later) = bytes.split_at(left.min(bytes.len()));
            if !script.agrees(exchange, self.matched, piece) {
                return Err(wrong(&script.rest_of_reply(exchange, self.matched), bytes));
            }
            self.matched += piece.len();
            if piece.len() == left {
                self.matched = 0;
                self.waiting.pop_front();
                answered(due);
            }
            bytes = later;
        }
        Ok(())
    }
}

/// Says what came instead of what had to come.
fn wrong(expected: &[u8], got: &[u8]) -> Error {
    /// Enough to read an error reply.
    const SHOWN: usize = 120;
    let show = |bytes: &[u8]| {
        let shown = bytes.get(..bytes.len().min(SHOWN)).unwrap_or_default();
        shown.escape_ascii().to_string()
    };
    let text = format!("check a reply: expected \"{}\", got \"{}\"", show(expected), show(got));
    Error::new(Side::Upstream, Kind::Protocol, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Verb;

    fn two() -> (Script, Replies) {
        let mut replies = Replies::default();
        for (verb, key) in [(Verb::Get, 1), (Verb::Set, 2)] {
            replies.expect(Exchange::new(verb, key), Instant::from_nanos(u64::from(key)));
        }
        (Script::new("k", 10, 8), replies)
    }

    #[test]
    fn replies_are_taken_byte_by_byte_or_at_once() {
        let bytes = b"$8\r\n00000001\r\n+OK\r\n";
        for size in [1, 3, bytes.len()] {
            let (script, mut replies) = two();
            let mut due = Vec::new();
            for piece in bytes.chunks(size) {
                replies.take(&script, piece, |at| due.push(at.as_nanos())).unwrap();
            }
            assert_eq!((due, replies.waiting()), (vec![1, 2], 0));
        }
    }

    #[test]
    fn anything_else_is_told_with_what_had_to_come() {
        for wrong in [&b"$8\r\n00000002\r\n"[..], b"-ERR no\r\n", b"$8\r\n00000001\r\n$8"] {
            let (script, mut replies) = two();
            let error = replies.take(&script, wrong, |_| ()).unwrap_err().to_string();
            assert!(error.contains("expected") && error.contains("got"), "{error}");
        }
        let (script, mut replies) = (Script::new("k", 1, 8), Replies::default());
        assert!(replies.take(&script, b"+OK\r\n", |_| ()).is_err());
    }
}
