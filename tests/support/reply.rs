//! One reply of either protocol version, comparable and printable. Decoded here and not by the crate: this is the oracle.

use std::fmt;

/// Everything a server can answer. Equality is exact: `Nil`, `NilArray` and `Null` differ, as their bytes do.
#[derive(Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`
    Status(String),
    /// `-ERR …`, and RESP3 `!`.
    Error(String),
    /// `:7`
    Int(i64),
    /// `$3 abc`
    Bulk(Vec<u8>),
    /// `$-1`
    Nil,
    /// `*-1`
    NilArray,
    /// RESP3 `_`
    Null,
    /// `*…`
    Array(Vec<Reply>),
    /// RESP3 `%…`, in the order of the wire, repeated keys kept.
    Map(Vec<(Reply, Reply)>),
    /// RESP3 `~…`, in the order of the wire.
    Set(Vec<Reply>),
    /// RESP3 `>…`
    Push(Vec<Reply>),
    /// RESP3 `,…`, as written.
    Double(String),
    /// RESP3 `#t`
    Bool(bool),
    /// RESP3 `(…`
    BigNumber(String),
    /// RESP3 `=15 txt:…`
    Verbatim { format: String, text: Vec<u8> },
    /// RESP3 `|…` and the reply it stands before.
    Attributed(Vec<(Reply, Reply)>, Box<Reply>),
}

impl Reply {
    /// The reply's bytes, for the types that are one piece of text.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Status(text) | Self::Error(text) | Self::Double(text) | Self::BigNumber(text) => {
                Some(text.as_bytes())
            }
            Self::Bulk(bytes) | Self::Verbatim { text: bytes, .. } => Some(bytes),
            Self::Attributed(_, reply) => reply.bytes(),
            _ => None,
        }
    }

    /// The reply as text; panics when it is something else.
    #[track_caller]
    pub fn text(&self) -> String {
        match self.bytes() {
            Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            None => panic!("not a text: {self:?}"),
        }
    }

    /// The number; panics when it is something else.
    #[track_caller]
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(number) => *number,
            other => panic!("not an integer: {other:?}"),
        }
    }

    /// The elements of an array, set or push, or keys and values of a map in turn; panics when it is something else.
    #[track_caller]
    pub fn items(&self) -> Vec<Reply> {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => items.clone(),
            Self::Map(pairs) => pairs
                .iter()
                .flat_map(|(key, value)| [key.clone(), value.clone()])
                .collect(),
            Self::Attributed(_, reply) => reply.items(),
            other => panic!("not an aggregate: {other:?}"),
        }
    }

    /// The value under a text key of a map, or of an array of keys and values in turn (how RESP2 writes maps).
    pub fn get(&self, key: &str) -> Option<Reply> {
        let items = self.items();
        items
            .chunks_exact(2)
            .find(|pair| pair[0] == key)
            .map(|pair| pair[1].clone())
    }

    /// Nothing, in any of the three spellings.
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil | Self::NilArray | Self::Null)
    }

    /// An error reply.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// An error whose text starts with `prefix`.
    pub fn is_error_with(&self, prefix: &str) -> bool {
        matches!(self, Self::Error(text) if text.starts_with(prefix))
    }
}

impl PartialEq<str> for Reply {
    fn eq(&self, text: &str) -> bool {
        self.bytes() == Some(text.as_bytes())
    }
}

impl PartialEq<&str> for Reply {
    fn eq(&self, text: &&str) -> bool {
        *self == **text
    }
}

impl PartialEq<String> for Reply {
    fn eq(&self, text: &String) -> bool {
        *self == **text
    }
}

impl PartialEq<i64> for Reply {
    fn eq(&self, number: &i64) -> bool {
        *self == Self::Int(*number)
    }
}

impl<T> PartialEq<Vec<T>> for Reply
where
    Reply: PartialEq<T>,
{
    fn eq(&self, wanted: &Vec<T>) -> bool {
        same_items(self, wanted)
    }
}

impl<T> PartialEq<[T]> for Reply
where
    Reply: PartialEq<T>,
{
    fn eq(&self, wanted: &[T]) -> bool {
        same_items(self, wanted)
    }
}

impl<T, const N: usize> PartialEq<[T; N]> for Reply
where
    Reply: PartialEq<T>,
{
    fn eq(&self, wanted: &[T; N]) -> bool {
        same_items(self, wanted)
    }
}

fn same_items<T>(reply: &Reply, wanted: &[T]) -> bool
where
    Reply: PartialEq<T>,
{
    match reply {
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            items.len() == wanted.len() && items.iter().zip(wanted).all(|(item, wanted)| item == wanted)
        }
        _ => false,
    }
}

/// Written as `redis-cli` would, on one line: `(error) ERR …`, `"bulk"`, `[1, "a"]`.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(text) => write!(f, "+{text}"),
            Self::Error(text) => write!(f, "(error) {text}"),
            Self::Int(number) => write!(f, "(integer) {number}"),
            Self::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::Nil => f.write_str("(nil)"),
            Self::NilArray => f.write_str("(nil array)"),
            Self::Null => f.write_str("(null)"),
            Self::Array(items) => f.debug_list().entries(items).finish(),
            Self::Map(pairs) => f
                .debug_map()
                .entries(pairs.iter().map(|(key, value)| (key, value)))
                .finish(),
            Self::Set(items) => f.debug_set().entries(items).finish(),
            Self::Push(items) => {
                f.write_str("(push) ")?;
                f.debug_list().entries(items).finish()
            }
            Self::Double(text) => write!(f, "(double) {text}"),
            Self::Bool(value) => write!(f, "({value})"),
            Self::BigNumber(text) => write!(f, "(big number) {text}"),
            Self::Verbatim { format, text } => write!(f, "({format}) \"{}\"", text.escape_ascii()),
            Self::Attributed(_, reply) => write!(f, "(attributed) {reply:?}"),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
