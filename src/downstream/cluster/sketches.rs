//! PFCOUNT of keys in several slots: each key is read where it is, and what they hold is counted here.
//!
//! The replies are merged as they come, so that however many keys are named, one union is all that is kept. Whoever may not
//! `GET` the keys is told so: the nodes cannot count for one another.

use std::collections::HashSet;

use super::gather::{is_error, is_null};
use super::hyperloglog::Union;
use super::scatter::{Merging, Piece};
use crate::coherence::Keys;
use crate::command::{Command, Effect, Slot};
use crate::downstream::request::{Flow, Turn};
use crate::resp::{Request, encode};

/// Values on their way to be counted together.
#[derive(Debug)]
pub(in crate::downstream) struct Sketches {
    union: Union,
    /// Which of them are not there yet.
    missing: HashSet<usize>,
    /// The first that was no HyperLogLog, or was not told, by its place.
    error: Option<(usize, Vec<u8>)>,
}

impl Sketches {
    fn new(count: usize) -> Self {
        Self {
            union: Union::default(),
            missing: (0..count).collect(),
            error: None,
        }
    }

    /// Takes the reply to the GET at this place; gives PFCOUNT's if it was the last.
    pub(in crate::downstream) fn take(&mut self, place: usize, reply: &[u8]) -> Option<Vec<u8>> {
        if !self.missing.remove(&place) {
            return None;
        }
        if let Err(error) = self.add(reply)
            && self.error.as_ref().is_none_or(|(before, _)| place < *before)
        {
            self.error = Some((place, error));
        }
        if !self.missing.is_empty() {
            return None;
        }
        let mut out = Vec::new();
        match self.error.take() {
            Some((_, error)) => return Some(error),
            None => encode::integer(&mut out, self.union.count()),
        }
        Some(out)
    }

    fn add(&mut self, reply: &[u8]) -> Result<(), Vec<u8>> {
        match () {
            () if is_error(reply) => Err(reply.to_vec()),
            () if is_null(reply) => Ok(()),
            () => self.union.add(body(reply).unwrap_or_default()).map_err(|what| {
                let mut error = Vec::new();
                encode::error(&mut error, what.as_bytes());
                error
            }),
        }
    }
}

/// What a bulk string holds.
fn body(reply: &[u8]) -> Option<&[u8]> {
    let (_, body) = reply.split_at_checked(memchr::memchr(b'\n', reply)? + 1)?;
    body.strip_suffix(b"\r\n")
}

impl Turn<'_> {
    /// Reads all keys, each once.
    pub(super) fn count_union(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        let (mut seen, mut pieces) = (HashSet::new(), Vec::new());
        for (number, key) in request.args_from(1).enumerate() {
            if !seen.insert(key) {
                continue;
            }
            let mut frame = Vec::new();
            encode::request(&mut frame, [b"GET".as_slice(), key]);
            let slot = Some(Slot::of(key));
            pieces.push(Piece {
                slot,
                node: self.context.owner(slot),
                frame,
                // There are none where nothing depends on them.
                keys: self.core.keys.get(number).map_or(Keys::None, |&hash| Keys::One(hash)),
            });
        }
        let merge = Merging::Sketches(Sketches::new(pieces.len()));
        self.send_pieces(command, request, Effect::Read, merge, pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_the_reply_and_a_key_without_a_value_counts_nothing() {
        let mut sketches = Sketches::new(4);
        assert_eq!(sketches.take(3, b"$3\r\nabc\r\n"), None);
        assert_eq!(sketches.take(1, b"-NOPERM no\r\n"), None);
        assert_eq!(sketches.take(1, b"$-1\r\n"), None, "it has replied");
        assert_eq!(sketches.take(0, b"_\r\n"), None);
        assert_eq!(sketches.take(2, b"$-1\r\n").as_deref(), Some(&b"-NOPERM no\r\n"[..]));
        let mut nothing = Sketches::new(1);
        assert_eq!(nothing.take(0, b"$-1\r\n").as_deref(), Some(&b":0\r\n"[..]));
        let mut other = Sketches::new(1);
        let refused = b"-WRONGTYPE Key is not a valid HyperLogLog string value.\r\n";
        assert_eq!(other.take(0, b"$3\r\nabc\r\n").as_deref(), Some(&refused[..]));
    }
}
