//! What a reply says about a key, read strictly: the type the command answers with in the client's protocol, or nothing.

use super::cell::{FIELDS, Kind, Seen, padding};
use super::workload::Op;
use nearhit::resp::Version;

/// One value of a reply; aggregates are followed by their elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Simple(&'a [u8]),
    Error(&'a [u8]),
    Integer(i64),
    Bulk(&'a [u8]),
    Double(&'a [u8]),
    Null,
    /// RESP2's other way to say nothing, of BLPOP and EXEC.
    NullArray,
    Array(usize),
    Map(usize),
    Other,
}

/// The values of one whole reply, in the order of the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens<'a> {
    rest: &'a [u8],
    version: Version,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(reply: &'a [u8], version: Version) -> Self {
        Self { rest: reply, version }
    }

    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        let end = self.rest.windows(2).position(|pair| pair == b"\r\n")?;
        let (line, rest) = (self.rest.get(..end)?, self.rest.get(end + 2..)?);
        let (kind, text) = line.split_first()?;
        self.rest = rest;
        let resp3 = self.version == Version::V3;
        Some(match kind {
            b'+' => Token::Simple(text),
            b'-' => Token::Error(text),
            b':' => Token::Integer(number(text)?),
            b'_' if resp3 => Token::Null,
            b'$' if text == b"-1" && !resp3 => Token::Null,
            b'*' if text == b"-1" && !resp3 => Token::NullArray,
            b'$' => Token::Bulk(self.body(text)?),
            b',' if resp3 => Token::Double(text),
            b'*' => Token::Array(usize::try_from(number(text)?).ok()?),
            b'%' if resp3 => Token::Map(usize::try_from(number(text)?).ok()?),
            _ => Token::Other,
        })
    }

    fn body(&mut self, length: &[u8]) -> Option<&'a [u8]> {
        let length = usize::try_from(number(length)?).ok()?;
        let body = self.rest.get(..length)?;
        self.rest = self.rest.get(length + 2..)?;
        Some(body)
    }

    fn bulk(&mut self) -> Option<&'a [u8]> {
        match self.next()? {
            Token::Bulk(text) => Some(text),
            _ => None,
        }
    }

    /// A score: a double, which RESP2 writes as a string.
    fn score(&mut self) -> Option<u64> {
        match (self.next()?, self.version) {
            (Token::Double(text), Version::V3) | (Token::Bulk(text), Version::V2) => id(text),
            _ => None,
        }
    }
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn id(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The id of a string `id:xxx`, if every byte of it is as it was written.
fn text_id(text: &[u8]) -> Option<u64> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    let id = id(text.get(..colon)?)?;
    let rest = text.get(colon + 1..)?;
    (rest.len() == padding(id) && rest.iter().all(|byte| *byte == b'x')).then_some(id)
}

/// What the reply to a read of one key says; `None`: it is no such reply.
pub(super) fn seen(op: Op, kind: Kind, reply: &[u8], version: Version) -> Option<Seen> {
    let mut tokens = Tokens::new(reply, version);
    let seen = match op {
        Op::Get | Op::EvalGet | Op::EvalGetDeclared => string(&mut tokens, kind),
        Op::Hget => match tokens.next()? {
            Token::Null => Some(Seen::Nothing),
            Token::Bulk(text) => id(text).map(Seen::Id),
            _ => None,
        },
        Op::Zscore if version == Version::V3 => match tokens.next()? {
            Token::Null => Some(Seen::Nothing),
            Token::Double(text) => id(text).map(Seen::Id),
            _ => None,
        },
        Op::Zscore => match tokens.next()? {
            Token::Null => Some(Seen::Nothing),
            Token::Bulk(text) => id(text).map(Seen::Id),
            _ => None,
        },
        Op::Strlen | Op::Hlen | Op::Llen | Op::Zcard => length(&mut tokens),
        Op::Exists => match tokens.next()? {
            Token::Integer(count @ 0..=1) => Some(Seen::Exists(count == 1)),
            _ => None,
        },
        Op::Type => match tokens.next()? {
            Token::Simple(b"none") => Some(Seen::Exists(false)),
            Token::Simple(name) if name == kind.type_name() => Some(Seen::Exists(true)),
            _ => None,
        },
        Op::Hgetall => hash(&mut tokens),
        Op::Lrange => list(&mut tokens),
        Op::Zrange => zset(&mut tokens),
        Op::MgetPair => pair(&mut tokens),
        _ => None,
    };
    seen.filter(|_| tokens.rest.is_empty())
}

/// What the reply to MGET says of its keys, all strings.
pub(super) fn seen_of_many(reply: &[u8], version: Version, count: usize) -> Option<Vec<Seen>> {
    let mut tokens = Tokens::new(reply, version);
    if tokens.next()? != Token::Array(count) {
        return None;
    }
    let seen: Option<Vec<_>> = (0..count).map(|_| string(&mut tokens, Kind::Text)).collect();
    seen.filter(|_| tokens.rest.is_empty())
}

fn string(tokens: &mut Tokens<'_>, kind: Kind) -> Option<Seen> {
    match tokens.next()? {
        Token::Null => Some(Seen::Nothing),
        Token::Bulk(text) if kind.counts() => id(text).map(Seen::Id),
        Token::Bulk(text) => text_id(text).map(Seen::Id),
        _ => None,
    }
}

fn length(tokens: &mut Tokens<'_>) -> Option<Seen> {
    match tokens.next()? {
        Token::Integer(length) => u64::try_from(length).ok().map(Seen::Length),
        _ => None,
    }
}

fn hash(tokens: &mut Tokens<'_>) -> Option<Seen> {
    let count = match (tokens.next()?, tokens.version) {
        (Token::Map(count), Version::V3) => count,
        (Token::Array(count), Version::V2) if count.is_multiple_of(2) => count / 2,
        _ => return None,
    };
    if count == 0 {
        return Some(Seen::Nothing);
    }
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        tokens.bulk()?.strip_prefix(b"f")?;
        ids.push(id(tokens.bulk()?)?);
    }
    Some(whole(&ids, FIELDS))
}

fn list(tokens: &mut Tokens<'_>) -> Option<Seen> {
    let Token::Array(count) = tokens.next()? else {
        return None;
    };
    let ids: Option<Vec<_>> = (0..count).map(|_| id(tokens.bulk()?)).collect();
    let ids = ids?;
    let Some(first) = ids.first() else {
        return Some(Seen::Nothing);
    };
    match ids.iter().all(|id| id == first) {
        true => Some(Seen::Items {
            id: *first,
            items: u8::try_from(count).ok()?,
        }),
        false => Some(Seen::Torn),
    }
}

/// ZRANGE WITHSCORES: pairs in RESP3, flat in RESP2.
fn zset(tokens: &mut Tokens<'_>) -> Option<Seen> {
    let Token::Array(count) = tokens.next()? else {
        return None;
    };
    let members = match tokens.version {
        Version::V3 => count,
        Version::V2 if count.is_multiple_of(2) => count / 2,
        Version::V2 => return None,
    };
    if members == 0 {
        return Some(Seen::Nothing);
    }
    let mut ids = Vec::with_capacity(members);
    for _ in 0..members {
        if tokens.version == Version::V3 && tokens.next()? != Token::Array(2) {
            return None;
        }
        tokens.bulk()?.strip_prefix(b"f")?;
        ids.push(tokens.score()?);
    }
    Some(whole(&ids, FIELDS))
}

fn pair(tokens: &mut Tokens<'_>) -> Option<Seen> {
    if tokens.next()? != Token::Array(2) {
        return None;
    }
    Some(match (string(tokens, Kind::Text)?, string(tokens, Kind::Text)?) {
        (a, b) if a == b => a,
        (Seen::Nothing, Seen::Id(id)) | (Seen::Id(id), Seen::Nothing) => Seen::Half(id),
        _ => Seen::Torn,
    })
}

/// All elements say the same, and there are as many as were written.
fn whole(ids: &[u64], wanted: usize) -> Seen {
    match ids.first() {
        Some(first) if ids.len() == wanted && ids.iter().all(|id| id == first) => Seen::Id(*first),
        _ => Seen::Torn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_read_in_its_own_protocol_only() {
        let hash = "$2\r\nf0\r\n$1\r\n7\r\n$2\r\nf1\r\n$1\r\n7\r\n$2\r\nf2\r\n$1\r\n7\r\n$2\r\nf3\r\n$1\r\n7\r\n";
        let cases = [
            (Op::Get, Kind::Text, "$9\r\n7:xxxxxxx\r\n".into(), [true, true]),
            (Op::Get, Kind::Counter, "$1\r\n7\r\n".into(), [true, true]),
            (Op::Hgetall, Kind::Hash, format!("*8\r\n{hash}"), [true, false]),
            (Op::Hgetall, Kind::Hash, format!("%4\r\n{hash}"), [false, true]),
            (Op::Zscore, Kind::Zset, "$1\r\n7\r\n".into(), [true, false]),
            (Op::Zscore, Kind::Zset, ",7\r\n".into(), [false, true]),
        ];
        for (op, kind, reply, fits) in cases {
            for (version, fits) in [Version::V2, Version::V3].into_iter().zip(fits) {
                let expected = fits.then_some(Seen::Id(7));
                assert_eq!(
                    seen(op, kind, reply.as_bytes(), version),
                    expected,
                    "{op:?} {version:?} {reply}"
                );
            }
        }
    }

    #[test]
    fn nothing_is_said_in_one_way_in_each_protocol() {
        for (reply, fits) in [
            ("$-1\r\n", [true, false]),
            ("_\r\n", [false, true]),
            ("*-1\r\n", [false, false]),
        ] {
            for (version, fits) in [Version::V2, Version::V3].into_iter().zip(fits) {
                let expected = fits.then_some(Seen::Nothing);
                assert_eq!(
                    seen(Op::Get, Kind::Text, reply.as_bytes(), version),
                    expected,
                    "{version:?} {reply}"
                );
            }
        }
    }

    #[test]
    fn parts_of_two_versions_are_torn() {
        let list = b"*2\r\n$1\r\n7\r\n$1\r\n8\r\n";
        assert_eq!(seen(Op::Lrange, Kind::List, list, Version::V2), Some(Seen::Torn));
        let pair = b"*2\r\n$3\r\n1:x\r\n$4\r\n2:xx\r\n";
        assert_eq!(seen(Op::MgetPair, Kind::Pair, pair, Version::V3), Some(Seen::Torn));
        let half = b"*2\r\n$3\r\n1:x\r\n$-1\r\n";
        assert_eq!(seen(Op::MgetPair, Kind::Pair, half, Version::V2), Some(Seen::Half(1)));
        let missing = b"*2\r\n$2\r\nf0\r\n$1\r\n7\r\n";
        assert_eq!(seen(Op::Hgetall, Kind::Hash, missing, Version::V2), Some(Seen::Torn));
    }

    #[test]
    fn a_string_with_other_bytes_than_were_written_is_no_value() {
        for reply in [
            "$3\r\n1:y\r\n",
            "$4\r\n1:xx\r\n",
            "$1\r\n1\r\n",
            "+1:x\r\n",
            "$3\r\n1:x\r\n:1\r\n",
        ] {
            assert_eq!(
                seen(Op::Get, Kind::Text, reply.as_bytes(), Version::V2),
                None,
                "{reply}"
            );
        }
    }
}
