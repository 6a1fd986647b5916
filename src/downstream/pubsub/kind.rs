//! The three kinds of subscriptions, and the words of the protocol for them.

use bytes::Bytes;

use crate::resp::{Version, encode};

/// What can be subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::downstream) enum Kind {
    Channel,
    Pattern,
    Shard,
}

/// What a command does to subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::downstream) enum Verb {
    Subscribe,
    Unsubscribe,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Channel, Self::Pattern, Self::Shard];

    /// The command that does this, which its confirmations repeat.
    pub(super) fn command(self, verb: Verb) -> &'static [u8] {
        match (self, verb) {
            (Self::Channel, Verb::Subscribe) => b"subscribe",
            (Self::Channel, Verb::Unsubscribe) => b"unsubscribe",
            (Self::Pattern, Verb::Subscribe) => b"psubscribe",
            (Self::Pattern, Verb::Unsubscribe) => b"punsubscribe",
            (Self::Shard, Verb::Subscribe) => b"ssubscribe",
            (Self::Shard, Verb::Unsubscribe) => b"sunsubscribe",
        }
    }

    /// What a command, or the first word of a confirmation, means.
    pub(super) fn of_command(name: &[u8]) -> Option<(Self, Verb)> {
        Self::ALL
            .into_iter()
            .flat_map(|kind| [(kind, Verb::Subscribe), (kind, Verb::Unsubscribe)])
            .find(|(kind, verb)| kind.command(*verb) == name)
    }

    /// The kind of subscription a message with this first word is for.
    pub(super) fn of_message(word: &[u8]) -> Option<Self> {
        match word {
            b"message" => Some(Self::Channel),
            b"pmessage" => Some(Self::Pattern),
            b"smessage" => Some(Self::Shard),
            _ => None,
        }
    }
}

/// A confirmation as Redis writes it; no name: there was nothing to unsubscribe from.
pub(super) fn confirmation(
    out: &mut Vec<u8>,
    version: Version,
    (kind, verb): (Kind, Verb),
    name: Option<&Bytes>,
    count: usize,
) {
    encode::push_header(out, version, 3);
    encode::bulk(out, kind.command(verb));
    match name {
        Some(name) => encode::bulk(out, name),
        None => encode::null(out, version),
    }
    encode::integer(out, i64::try_from(count).unwrap_or(i64::MAX));
}

/// The first word of a push (or of an array that stands for one in RESP2) and the word behind it, which names a channel
/// or a pattern. Nothing is copied: what follows may be long.
pub(in crate::downstream) fn words(frame: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let rest = frame
        .strip_prefix(b">")
        .or_else(|| frame.strip_prefix(b"*"))
        .and_then(after_line)?;
    let (first, rest) = bulk(rest)?;
    Some((first, bulk(rest).map(|(second, _)| second)))
}

/// A bulk string or a simple one, and what stands behind it.
fn bulk(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\r', bytes)?;
    let (line, rest) = (bytes.get(1..end)?, bytes.get(end + 2..)?);
    match bytes.first()? {
        b'+' => Some((line, rest)),
        b'$' => {
            let length: usize = std::str::from_utf8(line).ok()?.parse().ok()?;
            Some((rest.get(..length)?, rest.get(length.checked_add(2)?..)?))
        }
        _ => None,
    }
}

fn after_line(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(memchr::memchr(b'\n', bytes)? + 1..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_two_words_of_a_push_are_found() {
        for (frame, found) in [
            (
                &b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n"[..],
                Some((&b"message"[..], Some(&b"a"[..]))),
            ),
            (
                b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n",
                Some((b"unsubscribe", None)),
            ),
            (b">3\r\n+unsubscribe\r\n_\r\n:0\r\n", Some((b"unsubscribe", None))),
            (
                b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n",
                Some((b"invalidate", None)),
            ),
            (
                b">3\r\n$7\r\nmessage\r\n$4\r\n\r\n\r\n\r\n$0\r\n\r\n",
                Some((b"message", Some(b"\r\n\r\n"))),
            ),
            (b">0\r\n", None),
            (b"+OK\r\n", None),
            (b">1\r\n$99\r\nx", None),
            (b">1\r\n$18446744073709551615\r\nx", None),
        ] {
            assert_eq!(words(frame), found, "{}", frame.escape_ascii());
        }
    }

    #[test]
    fn every_command_of_the_family_is_known_by_its_name() {
        for kind in Kind::ALL {
            for verb in [Verb::Subscribe, Verb::Unsubscribe] {
                assert_eq!(Kind::of_command(kind.command(verb)), Some((kind, verb)));
            }
        }
        assert_eq!(Kind::of_command(b"publish"), None);
    }
}
