//! What a key's requests are, and the exact bytes that must answer them.

use std::time::Duration;

use crate::resp::encode;

/// Digits by which a request and a value name their key.
const DIGITS: usize = 8;
/// The shortest value: it must have room for its key's number.
pub const MIN_VALUE_BYTES: usize = DIGITS;

/// What is done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `GET`.
    Get,
    /// `SET`, to the value that the key has anyhow: it changes no answer.
    Set,
}

/// One request and the reply to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// What is asked.
    pub verb: Verb,
    /// The key's number as it stands in the request and in the value.
    digits: [u8; DIGITS],
}

impl Exchange {
    /// Does this to the key of that number.
    pub fn new(verb: Verb, key: u32) -> Self {
        let (mut digits, mut left) = ([b'0'; DIGITS], key);
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + u8::try_from(left % 10).unwrap_or(0);
            left /= 10;
        }
        Self { verb, digits }
    }
}

/// Requests and replies for a number of keys. Every value names its key, so an answer to somebody else's question is
/// noticed.
///
/// ```
/// use nearhit::load::{Exchange, Script, Verb};
/// let script = Script::new("k:", 100, 16);
/// let mut request = Vec::new();
/// script.append_request(Exchange::new(Verb::Get, 42), &mut request);
/// assert_eq!(request, b"*2\r\n$3\r\nGET\r\n$10\r\nk:00000042\r\n");
/// ```
#[derive(Clone, Debug)]
pub struct Script {
    prefix: String,
    keys: u32,
    value_bytes: usize,
    get: Template,
    set: Template,
    value: Template,
    ok: Template,
}

impl Script {
    /// Keys of `prefix` and a number below `keys`, each with a value of `value_bytes`, at least [`MIN_VALUE_BYTES`].
    pub fn new(prefix: &str, keys: u32, value_bytes: usize) -> Self {
        let key = key(prefix);
        let value = value(value_bytes);
        let mut reply = Vec::new();
        encode::bulk(&mut reply, &value);
        Self {
            prefix: prefix.to_owned(),
            keys: keys.max(1),
            value_bytes: value.len(),
            get: Template::request(&[b"GET", &key]),
            set: Template::request(&[b"SET", &key, &value]),
            value: Template::new(reply),
            ok: Template::new(b"+OK\r\n".to_vec()),
        }
    }

    /// Written keys end after `life`: whatever goes wrong, nothing stays at the server.
    #[must_use]
    pub fn with_life(mut self, life: Duration) -> Self {
        let (key, value) = (key(&self.prefix), value(self.value_bytes));
        let millis = life.as_millis().max(1).to_string();
        self.set = Template::request(&[b"SET", &key, &value, b"PX", millis.as_bytes()]);
        self
    }

    /// How many keys there are.
    pub fn keys(&self) -> u32 {
        self.keys
    }

    /// Bytes of each value.
    pub fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// The name of a key.
    pub fn key_name(&self, key: u32) -> Vec<u8> {
        let exchange = Exchange::new(Verb::Get, key);
        [self.prefix.as_bytes(), &exchange.digits].concat()
    }

    /// Appends what is sent.
    pub fn append_request(&self, exchange: Exchange, out: &mut Vec<u8>) {
        let request = match exchange.verb {
            Verb::Get => &self.get,
            Verb::Set => &self.set,
        };
        request.append(&exchange.digits, out);
    }

    /// How long the reply must be.
    pub(super) fn reply_len(&self, exchange: Exchange) -> usize {
        self.reply(exchange).bytes.len()
    }

    /// Whether `got` is what stands in the reply from byte `at` on.
    pub(super) fn agrees(&self, exchange: Exchange, at: usize, got: &[u8]) -> bool {
        self.reply(exchange).agrees(&exchange.digits, at, got)
    }

    /// The reply from byte `at` on, for a message.
    pub(super) fn rest_of_reply(&self, exchange: Exchange, at: usize) -> Vec<u8> {
        let mut whole = Vec::new();
        self.reply(exchange).append(&exchange.digits, &mut whole);
        whole.split_off(at.min(whole.len()))
    }

    fn reply(&self, exchange: Exchange) -> &Template {
        match exchange.verb {
            Verb::Get => &self.value,
            Verb::Set => &self.ok,
        }
    }
}

/// A byte that stands where a digit will: it is in no prefix (those are text) and in no value.
const HOLE: u8 = 0xff;

fn key(prefix: &str) -> Vec<u8> {
    [prefix.as_bytes(), &[HOLE; DIGITS]].concat()
}

/// The key's number, then filler.
fn value(bytes: usize) -> Vec<u8> {
    let mut value = vec![HOLE; DIGITS];
    value.resize(bytes.max(MIN_VALUE_BYTES), b'.');
    value
}

/// Bytes with holes for a key's number, so that a million keys need no more memory than one.
#[derive(Clone, Debug)]
struct Template {
    bytes: Vec<u8>,
    /// Where the holes begin. Invariant: ascending, [`DIGITS`] or more apart, each whole within `bytes`.
    holes: Vec<usize>,
}

impl Template {
    fn new(bytes: Vec<u8>) -> Self {
        let (mut holes, mut at) = (Vec::new(), 0);
        while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr(HOLE, rest)) {
            holes.push(at + found);
            at += found + DIGITS;
        }
        debug_assert!(holes.iter().all(|hole| hole + DIGITS <= bytes.len()));
        Self { bytes, holes }
    }

    fn request(args: &[&[u8]]) -> Self {
        let mut bytes = Vec::new();
        encode::request(&mut bytes, args.iter().copied());
        Self::new(bytes)
    }

    fn append(&self, digits: &[u8; DIGITS], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        for hole in &self.holes {
            let at = start + hole;
            if let Some(hole) = out.get_mut(at..at + DIGITS) {
                hole.copy_from_slice(digits);
            }
        }
    }

    /// Compares piece by piece: the bytes before a hole, the digits, and so on. Nothing is copied.
    fn agrees(&self, digits: &[u8; DIGITS], at: usize, got: &[u8]) -> bool {
        let mut from = 0;
        for hole in &self.holes {
            let before = self.bytes.get(from..*hole).unwrap_or_default();
            if !overlap_agrees(before, from, at, got) || !overlap_agrees(digits, *hole, at, got) {
                return false;
            }
            from = hole + DIGITS;
        }
        let rest = self.bytes.get(from..).unwrap_or_default();
        at + got.len() <= self.bytes.len() && overlap_agrees(rest, from, at, got)
    }
}

/// Whether `piece`, which stands at `from`, and `got`, which stands at `at`, are the same where they overlap.
fn overlap_agrees(piece: &[u8], from: usize, at: usize, got: &[u8]) -> bool {
    let (start, end) = (from.max(at), (from + piece.len()).min(at + got.len()));
    start >= end || piece.get(start - from..end - from) == got.get(start - at..end - at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(script: &Script, verb: Verb, key: u32) -> String {
        let mut out = Vec::new();
        script.append_request(Exchange::new(verb, key), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn requests_name_their_key_and_values_too() {
        let script = Script::new("p:", 10, 12);
        assert_eq!(
            request(&script, Verb::Get, 7),
            "*2\r\n$3\r\nGET\r\n$10\r\np:00000007\r\n"
        );
        assert_eq!(
            request(&script, Verb::Set, 7),
            "*3\r\n$3\r\nSET\r\n$10\r\np:00000007\r\n$12\r\n00000007....\r\n"
        );
        assert_eq!(script.key_name(7), b"p:00000007");
    }

    #[test]
    fn written_keys_may_end_by_themselves() {
        let script = Script::new("p:", 10, 8).with_life(Duration::from_secs(2));
        assert!(request(&script, Verb::Set, 1).ends_with("$2\r\nPX\r\n$4\r\n2000\r\n"));
    }

    #[test]
    fn a_reply_is_compared_in_whatever_pieces_it_comes() {
        let script = Script::new("p:", 10, 12);
        let exchange = Exchange::new(Verb::Get, 7);
        let reply = b"$12\r\n00000007....\r\n";
        assert_eq!(script.reply_len(exchange), reply.len());
        for from in 0..reply.len() {
            for to in from..=reply.len() {
                assert!(script.agrees(exchange, from, &reply[from..to]), "{from}..{to}");
                for wrong in from..to {
                    let mut piece = reply[from..to].to_vec();
                    piece[wrong - from] ^= 1;
                    assert!(!script.agrees(exchange, from, &piece), "{from}..{to}, wrong at {wrong}");
                }
            }
        }
        assert!(!script.agrees(exchange, 0, b"$12\r\n00000007....\r\n$"));
    }
}
