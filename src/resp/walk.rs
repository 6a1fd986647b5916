//! Walking through one whole reply, value by value, without recursion. Attributes are stepped over.

use super::fault::ReplyError;
use super::nesting::Nesting;
use super::number;
use super::reply_scan::line_end;

/// A value, or the header of an aggregate whose values follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// What stands on one line: `+ - : , ( # _`, without its type byte and CRLF.
    Line { kind: u8, text: &'a [u8] },
    /// A bulk: `$ = !`.
    Bulk { kind: u8, bytes: &'a [u8] },
    /// RESP2's `$-1` (`kind` is `$`) and `*-1` (`*`).
    Null { kind: u8 },
    /// `* % ~ >`; a map of `n` pairs has `2n` values.
    Aggregate { kind: u8, values: u64 },
}

/// What [`Walk::next`] found, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    pub(super) token: Token<'a>,
    /// In how many aggregates it lies.
    pub(super) depth: usize,
    /// Its bytes: all of a value, the header of an aggregate.
    pub(super) raw: &'a [u8],
}

/// A position in a reply.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    rest: &'a [u8],
    nesting: Nesting,
    finished: bool,
}

impl<'a> Walk<'a> {
    /// Stands before `reply`, which must be one whole reply.
    pub(super) fn new(reply: &'a [u8], max_depth: usize) -> Self {
        Self {
            rest: reply,
            nesting: Nesting::new(max_depth),
            finished: false,
        }
    }

    /// Steps to the next value or header; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Item<'a>>, ReplyError> {
        while !self.finished {
            let (kind, token, taken) = token(self.rest)?;
            let Some((raw, rest)) = self.rest.split_at_checked(taken) else {
                return Err(ReplyError::Incomplete);
            };
            self.rest = rest;
            let (depth, skipped) = (self.nesting.depth(), kind == b'|' || self.nesting.in_attribute());
            let value_ends = match token {
                Token::Aggregate { values, .. } => self.nesting.open(values, kind == b'|')?,
                _ => true,
            };
            self.finished = value_ends && self.nesting.value_ends();
            if !skipped {
                return Ok(Some(Item { token, depth, raw }));
            }
        }
        if self.rest.is_empty() {
            Ok(None)
        } else {
            Err(ReplyError::Trailing)
        }
    }
}

/// The token at the start of `bytes`, its type byte, and how many bytes it took.
fn token(bytes: &[u8]) -> Result<(u8, Token<'_>, usize), ReplyError> {
    let Some((&kind, rest)) = bytes.split_first() else {
        return Err(ReplyError::Incomplete);
    };
    match kind {
        b'+' | b'-' | b':' | b',' | b'(' | b'#' | b'_' => {
            let lf = line_end(rest).ok_or(ReplyError::Incomplete)?;
            let text = rest.get(..lf - 1).unwrap_or_default();
            Ok((kind, Token::Line { kind, text }, lf + 2))
        }
        b'$' | b'=' | b'!' | b'*' | b'%' | b'~' | b'>' | b'|' => sized(kind, rest),
        b';' | b'.' => Err(ReplyError::Streamed),
        other => Err(ReplyError::Type(other)),
    }
}

/// A token with a length or a count; `rest` is what stands behind its type byte.
fn sized(kind: u8, rest: &[u8]) -> Result<(u8, Token<'_>, usize), ReplyError> {
    let (number, taken) = match number::short_length(rest) {
        Some((number, taken)) => (number as u64, taken),
        None => {
            let lf = line_end(rest).ok_or(ReplyError::Incomplete)?;
            let text = rest.get(..lf - 1).unwrap_or_default();
            match text {
                b"-1" if matches!(kind, b'$' | b'*') => return Ok((kind, Token::Null { kind }, lf + 2)),
                b"?" => return Err(ReplyError::Streamed),
                _ => {}
            }
            let number = number::canonical(text).and_then(|number| u64::try_from(number).ok());
            (number.ok_or(ReplyError::Length)?, lf + 1)
        }
    };
    match kind {
        b'$' | b'=' | b'!' => {
            let len = usize::try_from(number).map_err(|_| ReplyError::BulkTooBig)?;
            let end = taken.checked_add(len).ok_or(ReplyError::BulkTooBig)?;
            let body = rest.get(taken..end).ok_or(ReplyError::Incomplete)?;
            match rest.get(end..end.saturating_add(2)) {
                Some(b"\r\n") => Ok((kind, Token::Bulk { kind, bytes: body }, end + 3)),
                Some(_) => Err(ReplyError::Terminator),
                None => Err(ReplyError::Incomplete),
            }
        }
        b'%' | b'|' => {
            let values = number.checked_mul(2).ok_or(ReplyError::Length)?;
            Ok((kind, Token::Aggregate { kind, values }, taken + 1))
        }
        _ => Ok((kind, Token::Aggregate { kind, values: number }, taken + 1)),
    }
}
