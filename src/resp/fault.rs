//! What can be wrong with the bytes of either side, in Redis' own words where Redis has words for it.

use std::fmt;

/// A request that is not the protocol. The client gets `-ERR` and [`ProtocolError::reply`], then the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The number behind `*` is not a canonical integer, is too large, or is not ended by CRLF.
    MultibulkLength,
    /// The number behind `$` is not a canonical integer, is negative or too large, or the bulk is not ended by CRLF.
    BulkLength,
    /// No line end within the limit behind `*`.
    MultibulkHeaderTooBig,
    /// No line end within the limit behind `$`.
    BulkHeaderTooBig,
    /// No line end within the limit in an inline request.
    InlineTooBig,
    /// An inline request whose quotes do not close, or close in the middle of a word.
    UnbalancedQuotes,
    /// Something else than `$` where an argument should begin.
    ExpectedBulk(u8),
    /// More than ten arguments before authentication.
    UnauthenticatedMultibulk,
    /// An argument of more than 16,384 bytes before authentication.
    UnauthenticatedBulk,
}

impl ProtocolError {
    /// Exactly the text that Redis sends behind `-ERR `, without the line end.
    ///
    /// Bytes and not a string, because the byte that stood in place of a `$` is part of it.
    pub fn reply(&self) -> Vec<u8> {
        let mut text = b"Protocol error: ".to_vec();
        text.extend_from_slice(self.what().as_bytes());
        if let Self::ExpectedBulk(got) = self {
            // As Redis does: a line end inside an error would end it.
            let got = if matches!(got, b'\r' | b'\n') { b' ' } else { *got };
            text.extend_from_slice(&[got, b'\'']);
        }
        text
    }

    fn what(self) -> &'static str {
        match self {
            Self::MultibulkLength => "invalid multibulk length",
            Self::BulkLength => "invalid bulk length",
            Self::MultibulkHeaderTooBig => "too big mbulk count string",
            Self::BulkHeaderTooBig => "too big bulk count string",
            Self::InlineTooBig => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::ExpectedBulk(_) => "expected '$', got '",
            Self::UnauthenticatedMultibulk => "unauthenticated multibulk length",
            Self::UnauthenticatedBulk => "unauthenticated bulk length",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protocol error: {}", self.what())?;
        match self {
            Self::ExpectedBulk(got) => write!(f, "{}'", got.escape_ascii()),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// A reply that is not the protocol, or more of it than the limits allow. The connection it came from is lost: nobody
/// knows where the next reply begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// A byte that begins no reply.
    Type(u8),
    /// A length or count that is not a number, negative where there is no null, or too large to count.
    Length,
    /// An integer, double, boolean or null whose text is none.
    Number,
    /// A bulk that is not followed by CRLF.
    Terminator,
    /// RESP3's streamed strings and aggregates (`$?`, `*?`, `;`, `.`), which no Redis sends.
    Streamed,
    /// A push inside another reply.
    NestedPush,
    /// A bulk longer than [`ReplyLimits::max_bulk`](super::ReplyLimits::max_bulk).
    BulkTooBig,
    /// A line longer than [`ReplyLimits::max_line`](super::ReplyLimits::max_line).
    LineTooLong,
    /// More levels than [`ReplyLimits::max_depth`](super::ReplyLimits::max_depth).
    TooDeep,
    /// Bytes that should have been one whole reply end before it does.
    Incomplete,
    /// Bytes that should have been one whole reply go on after it.
    Trailing,
    /// One whole reply, whose contents `redis-protocol` could not make a value of.
    Contents,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Type(byte) => return write!(f, "no reply begins with '{}'", byte.escape_ascii()),
            Self::Length => "invalid length in a reply",
            Self::Number => "invalid number, boolean or null in a reply",
            Self::Terminator => "bulk in a reply not followed by CRLF",
            Self::Streamed => "streamed reply, which is not supported",
            Self::NestedPush => "push inside a reply",
            Self::BulkTooBig => "bulk in a reply over the limit",
            Self::LineTooLong => "line in a reply over the limit",
            Self::TooDeep => "reply nested over the limit",
            Self::Incomplete => "reply ends too early",
            Self::Trailing => "bytes behind a reply",
            Self::Contents => "reply whose contents cannot be decoded",
        })
    }
}

impl std::error::Error for ReplyError {}
