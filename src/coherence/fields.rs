//! Fields of hashes that expire on their own (Redis 7.4, Valkey 9). Their end is announced late, so it is asked for:
//! behind a read of named fields and its PTTL goes `HPTTL key FIELDS n field…`. What changes after the read is announced in
//! front of the answer, so an answer that stores anything is about what was read.

use crate::resp::{ReplyLimits, ReplyScan, ReplyScanner, Value, Version, encode};

/// A read of more fields is kept like one of the whole hash: asking would cost the server as much as the read. Chosen, not
/// measured.
const MOST_FIELDS: usize = 128;

/// How long a reply may live, as far as the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttls {
    /// What PTTL said of the key: milliseconds, -1 for no end, -2 for no key.
    pub key: i64,
    /// Milliseconds until the first of the fields that were read expires, -1 for never; `None`: nobody said.
    pub fields: Option<i64>,
}

impl From<i64> for Ttls {
    fn from(key: i64) -> Self {
        Self { key, fields: None }
    }
}

/// Appends the question; `fields` are their names as a request has them. False: there are none, or too many.
pub(super) fn ask(out: &mut Vec<u8>, key: &[u8], fields: &[u8]) -> bool {
    let Some(count) = count(fields).filter(|count| (1..=MOST_FIELDS).contains(count)) else {
        return false;
    };
    encode::array_header(out, count + 4);
    for word in [b"HPTTL".as_slice(), key, b"FIELDS", count.to_string().as_bytes()] {
        encode::bulk(out, word);
    }
    out.extend_from_slice(fields);
    true
}

/// How many bulk strings stand one behind the other.
fn count(mut fields: &[u8]) -> Option<usize> {
    let mut scanner = ReplyScanner::new(ReplyLimits::default());
    let mut count = 0;
    while !fields.is_empty() {
        let Ok(ReplyScan::Complete { consumed }) = scanner.scan(fields) else {
            return None;
        };
        fields = fields.get(consumed..)?;
        count += 1;
    }
    Some(count)
}

/// What the answer says of the fields whose values are in `reply`: see [`Ttls::fields`].
pub(super) fn first_end(answer: &[u8], reply: &[u8]) -> Option<i64> {
    let ttls = match Value::decode(answer, Version::V3).ok()? {
        Value::Array(ttls) => ttls,
        // No such key, in the words of Redis' documentation.
        Value::Null => Vec::new(),
        _ => return None,
    };
    let reply = Value::decode(reply, Version::V3).ok()?;
    let values = match &reply {
        Value::Array(values) => values.as_slice(),
        single => std::slice::from_ref(single),
    };
    let mut first = -1;
    for (at, value) in values.iter().enumerate() {
        match ttls.get(at).map_or(Some(-2), Value::as_integer)? {
            -1 => {}
            -2 if matches!(value, Value::Null | Value::Integer(0)) => {}
            millis @ 0.. if first < 0 => first = millis,
            millis @ 0.. => first = first.min(millis),
            // It was there and is not any more.
            _ => return Some(0),
        }
    }
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_as_they_are_written() {
        for (fields, expected) in [
            ("$1\r\nf\r\n", Some(1)),
            ("$4\r\n\r\n\r\n\r\n$0\r\n\r\n", Some(2)),
            ("", Some(0)),
            ("$9\r\nf\r\n", None),
        ] {
            assert_eq!(count(fields.as_bytes()), expected, "{fields:?}");
        }
        assert!(!ask(&mut Vec::new(), b"k", "$1\r\nf\r\n".repeat(129).as_bytes()));
    }

    #[test]
    fn the_first_field_to_expire_says_how_long_a_reply_lives() {
        for (reply, answer, expected) in [
            ("$1\r\nv\r\n", "*1\r\n:-1\r\n", Some(-1)),
            ("$1\r\nv\r\n", "*1\r\n:70\r\n", Some(70)),
            (
                "*3\r\n$1\r\na\r\n$1\r\nb\r\n_\r\n",
                "*3\r\n:90\r\n:80\r\n:-2\r\n",
                Some(80),
            ),
            ("*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*2\r\n:-1\r\n:0\r\n", Some(0)),
            // HEXISTS and HSTRLEN.
            (":0\r\n", "*1\r\n:-2\r\n", Some(-1)),
            (":1\r\n", "*1\r\n:60\r\n", Some(60)),
            // It expired between the read and the question.
            ("$1\r\nv\r\n", "*1\r\n:-2\r\n", Some(0)),
            ("$1\r\nv\r\n", "_\r\n", Some(0)),
            ("$1\r\nv\r\n", "*1\r\n:-3\r\n", Some(0)),
            ("*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*1\r\n:-1\r\n", Some(0)),
            // No such key.
            ("*2\r\n_\r\n_\r\n", "_\r\n", Some(-1)),
            ("_\r\n", "*1\r\n:-2\r\n", Some(-1)),
            // No answer.
            ("$1\r\nv\r\n", "-NOPERM no\r\n", None),
            ("$1\r\nv\r\n", "*1\r\n$1\r\nx\r\n", None),
        ] {
            assert_eq!(
                first_end(answer.as_bytes(), reply.as_bytes()),
                expected,
                "{reply:?} {answer:?}"
            );
        }
    }
}
