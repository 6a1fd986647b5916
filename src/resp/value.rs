//! Values for the cold paths: replies that nearhit writes itself, and structured replies that it reads.
//!
//! `redis-protocol` reads and writes the single values. The aggregates are walked here, for it keeps maps and sets in
//! hash tables (order and repeated members are lost), refuses `$-1` and `*-1` in RESP3, and recurses as deep as its
//! input says. Nothing reaches it that [`ReplyScanner`] has not accepted.

use bytes::Bytes;
use redis_protocol::error::RedisProtocolError;
use redis_protocol::resp2::types::Resp2Frame as _;
use redis_protocol::resp3::types::Resp3Frame as _;
use redis_protocol::{resp2, resp3};

use super::fault::ReplyError;
use super::reply_scan::{ReplyLimits, ReplyScan, ReplyScanner};
use super::walk::{Token, Walk};
use super::{Version, encode};

/// How deep a reply may nest to be read into a [`Value`]: chosen, Redis' own stay below ten. Reading recurses, so this
/// also bounds the stack.
const MAX_DEPTH: usize = 64;

/// A value of either protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A simple string, `+`.
    Simple(Bytes),
    /// An error, `-` or `!`; begins with its code.
    Error(Bytes),
    /// An integer, `:`.
    Integer(i64),
    /// A bulk string, `$`.
    Bulk(Bytes),
    /// `_`, `$-1` or `*-1`.
    Null,
    /// An array, `*`.
    Array(Vec<Value>),
    /// A map, `%`: pairs in the order of the wire, repeated keys kept. A flat array in RESP2.
    Map(Vec<(Value, Value)>),
    /// A set, `~`: members in the order of the wire. An array in RESP2.
    Set(Vec<Value>),
    /// A double, `,`. A bulk string in RESP2.
    Double(f64),
    /// A boolean, `#`. An integer in RESP2.
    Boolean(bool),
    /// A number of any size, `(`, as text. A bulk string in RESP2.
    BigNumber(Bytes),
    /// A verbatim string, `=`. A bulk string in RESP2.
    Verbatim {
        /// Three letters: `txt`, `mkd`.
        format: [u8; 3],
        /// What follows the colon.
        text: Bytes,
    },
    /// A push, `>`. An array in RESP2.
    Push(Vec<Value>),
}

impl Value {
    /// A bulk string.
    pub fn bulk(bytes: impl Into<Bytes>) -> Self {
        Self::Bulk(bytes.into())
    }

    /// An error; `text` begins with its code (`ERR …`).
    pub fn error(text: impl Into<Bytes>) -> Self {
        Self::Error(text.into())
    }

    /// Appends the value as `version` has it.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            // Not by the crate: it would let a line end through, and with it a second reply.
            Self::Simple(text) => encode::simple(out, text),
            Self::Error(text) => encode::error(out, text),
            Self::Array(values) => {
                encode::array_header(out, values.len());
                encode_all(values, version, out);
            }
            Self::Set(values) => {
                encode::set_header(out, version, values.len());
                encode_all(values, version, out);
            }
            Self::Push(values) => {
                encode::push_header(out, version, values.len());
                encode_all(values, version, out);
            }
            Self::Map(pairs) => {
                encode::map_header(out, version, pairs.len());
                for (key, value) in pairs {
                    key.encode(version, out);
                    value.encode(version, out);
                }
            }
            // The crate knows two formats only.
            Self::Verbatim { format, text } => encode::verbatim(out, version, *format, text),
            single => single.encode_single(version, out),
        }
    }

    fn encode_single(&self, version: Version, out: &mut Vec<u8>) {
        let start = out.len();
        let written = match version {
            Version::V2 => {
                let frame = self.as_resp2();
                out.resize(start + frame.encode_len(false), 0);
                resp2::encode::encode_bytes(out.get_mut(start..).unwrap_or_default(), &frame, false)
            }
            Version::V3 => {
                let frame = self.as_resp3();
                out.resize(start + frame.encode_len(false), 0);
                resp3::encode::complete::encode_bytes(out.get_mut(start..).unwrap_or_default(), &frame, false)
            }
        };
        debug_assert!(written.is_ok(), "the buffer has the size the crate asked for");
        out.truncate(start + written.unwrap_or(0));
    }

    /// The value as the crate has it; aggregates and texts do not come here.
    fn as_resp2(&self) -> resp2::types::BytesFrame {
        use resp2::types::BytesFrame as Frame;
        match self {
            Self::Integer(value) => Frame::Integer(*value),
            Self::Boolean(value) => Frame::Integer(i64::from(*value)),
            Self::Bulk(bytes) | Self::BigNumber(bytes) => Frame::BulkString(bytes.clone()),
            Self::Double(value) => Frame::BulkString(double_text(*value).into()),
            _ => Frame::Null,
        }
    }

    /// The value as the crate has it; aggregates and texts do not come here.
    fn as_resp3(&self) -> resp3::types::BytesFrame {
        use resp3::types::BytesFrame as Frame;
        match self {
            Self::Integer(data) => Frame::Number {
                data: *data,
                attributes: None,
            },
            Self::Boolean(data) => Frame::Boolean {
                data: *data,
                attributes: None,
            },
            Self::Bulk(data) => Frame::BlobString {
                data: data.clone(),
                attributes: None,
            },
            Self::BigNumber(data) => Frame::BigNumber {
                data: data.clone(),
                attributes: None,
            },
            Self::Double(data) => Frame::Double {
                data: *data,
                attributes: None,
            },
            _ => Frame::Null,
        }
    }

    /// Reads one whole reply of a connection that speaks `version`. Attributes are dropped.
    ///
    /// Costs an allocation for each aggregate, and one for the bytes, which all strings share.
    ///
    /// # Errors
    ///
    /// When `bytes` are not exactly one reply, nest deeper than 64 levels, or hold a type `version` lacks.
    pub fn decode(bytes: &[u8], version: Version) -> Result<Self, ReplyError> {
        let limits = ReplyLimits {
            max_depth: MAX_DEPTH,
            ..ReplyLimits::default()
        };
        match ReplyScanner::new(limits).scan(bytes)? {
            ReplyScan::Incomplete => return Err(ReplyError::Incomplete),
            ReplyScan::Complete { consumed } if consumed < bytes.len() => return Err(ReplyError::Trailing),
            ReplyScan::Complete { .. } => {}
        }
        let shared = Bytes::copy_from_slice(bytes);
        let mut walk = Walk::new(&shared, MAX_DEPTH);
        Decoder {
            shared: &shared,
            version,
        }
        .value(&mut walk)
    }

    /// The bytes of a simple string, bulk string, verbatim string, big number or error.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Simple(bytes) | Self::Error(bytes) | Self::Bulk(bytes) | Self::BigNumber(bytes) => Some(bytes),
            Self::Verbatim { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The number of an integer, or of a string that spells one.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            Self::Simple(text) | Self::Bulk(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// The values of an array, a set or a push.
    pub fn as_values(&self) -> Option<&[Value]> {
        match self {
            Self::Array(values) | Self::Set(values) | Self::Push(values) => Some(values),
            _ => None,
        }
    }

    /// The value behind `key` in a map, or in the flat array that RESP2 has in its place.
    pub fn get(&self, key: &[u8]) -> Option<&Value> {
        match self {
            Self::Map(pairs) => pairs
                .iter()
                .find(|(own, _)| own.as_bytes() == Some(key))
                .map(|(_, value)| value),
            Self::Array(values) => values.chunks_exact(2).find_map(|pair| match pair {
                [own, value] if own.as_bytes() == Some(key) => Some(value),
                _ => None,
            }),
            _ => None,
        }
    }
}

fn encode_all(values: &[Value], version: Version, out: &mut Vec<u8>) {
    for value in values {
        value.encode(version, out);
    }
}

/// As the crate writes doubles in RESP3, so that both versions have one text.
fn double_text(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    if value.is_nan() {
        "nan".into()
    } else {
        value.to_string()
    }
}

struct Decoder<'a> {
    /// The reply, of which every string is a part.
    shared: &'a Bytes,
    version: Version,
}

impl Decoder<'_> {
    /// Reads a value; recurses at most `MAX_DEPTH` deep, which the walk checks.
    fn value(&self, walk: &mut Walk<'_>) -> Result<Value, ReplyError> {
        let item = walk.next()?.ok_or(ReplyError::Incomplete)?;
        if self.version == Version::V2 && !matches!(item.raw.first(), Some(b'+' | b'-' | b':' | b'$' | b'*')) {
            return Err(ReplyError::Contents);
        }
        match item.token {
            Token::Aggregate { kind: b'%', values } => Ok(Value::Map(self.pairs(walk, values / 2)?)),
            Token::Aggregate { kind: b'~', values } => Ok(Value::Set(self.values(walk, values)?)),
            Token::Aggregate { kind: b'>', values } => Ok(Value::Push(self.values(walk, values)?)),
            Token::Aggregate { values, .. } => Ok(Value::Array(self.values(walk, values)?)),
            Token::Null { .. } => Ok(Value::Null),
            // Not by the crate: it wants UTF-8 in errors, where Redis repeats what the client sent, and knows two
            // formats of verbatim strings only.
            Token::Line { kind: b'-', text }
            | Token::Bulk {
                kind: b'!',
                bytes: text,
            } => Ok(Value::Error(self.shared.slice_ref(text))),
            Token::Bulk { kind: b'=', bytes } => match bytes {
                [a, b, c, b':', text @ ..] => Ok(Value::Verbatim {
                    format: [*a, *b, *c],
                    text: self.shared.slice_ref(text),
                }),
                _ => Err(ReplyError::Contents),
            },
            Token::Line { .. } | Token::Bulk { .. } => self.single(&self.shared.slice_ref(item.raw)),
        }
    }

    fn values(&self, walk: &mut Walk<'_>, count: u64) -> Result<Vec<Value>, ReplyError> {
        (0..count).map(|_| self.value(walk)).collect()
    }

    fn pairs(&self, walk: &mut Walk<'_>, count: u64) -> Result<Vec<(Value, Value)>, ReplyError> {
        (0..count).map(|_| Ok((self.value(walk)?, self.value(walk)?))).collect()
    }

    fn single(&self, raw: &Bytes) -> Result<Value, ReplyError> {
        let value = match self.version {
            Version::V2 => resp2::decode::decode_bytes(raw).map(|frame| frame.and_then(|(frame, _)| of_resp2(frame))),
            Version::V3 => {
                resp3::decode::complete::decode_bytes(raw).map(|frame| frame.and_then(|(frame, _)| of_resp3(frame)))
            }
        };
        value
            .map_err(|_: RedisProtocolError| ReplyError::Contents)?
            .ok_or(ReplyError::Contents)
    }
}

fn of_resp2(frame: resp2::types::BytesFrame) -> Option<Value> {
    use resp2::types::BytesFrame as Frame;
    match frame {
        Frame::SimpleString(text) => Some(Value::Simple(text)),
        Frame::Integer(value) => Some(Value::Integer(value)),
        Frame::BulkString(bytes) => Some(Value::Bulk(bytes)),
        Frame::Null => Some(Value::Null),
        Frame::Error(_) | Frame::Array(_) => None,
    }
}

fn of_resp3(frame: resp3::types::BytesFrame) -> Option<Value> {
    use resp3::types::BytesFrame as Frame;
    match frame {
        Frame::SimpleString { data, .. } => Some(Value::Simple(data)),
        Frame::Number { data, .. } => Some(Value::Integer(data)),
        Frame::BlobString { data, .. } => Some(Value::Bulk(data)),
        Frame::Boolean { data, .. } => Some(Value::Boolean(data)),
        Frame::Double { data, .. } => Some(Value::Double(data)),
        Frame::BigNumber { data, .. } => Some(Value::BigNumber(data)),
        Frame::Null => Some(Value::Null),
        _ => None,
    }
}

#[cfg(test)]
#[path = "value_tests.rs"]
mod tests;
