//! Finding where a reply ends, a read at a time, without keeping its bytes: the first thing that happens to every byte
//! of an upstream connection.
//!
//! ```text
//! Start ─ + - , ( ───────→ Text … CRLF ─┐
//!   ↑  ├─ : _ # ─────────→ Short … CRLF ┤
//!   │  ├─ $ = ! ─→ Short ─→ Body … CRLF ┼─→ value ends ─→ aggregates it was the last of end ─→ Complete
//!   │  └─ * % ~ > | ─→ Short ─→ open ───┘        │
//!   └────────────────────────────────────────────┘ values are left
//! ```
//! An attribute (`|`) opens a level like a map does, but its end completes no value: the value follows.
//! Redis never sends RESP3's streamed types (`$?`, `*?`, `;`, `.`); they are refused.

use super::fault::ReplyError;
use super::nesting::Nesting;
use super::number;

/// The longest line whose number matters here: twenty characters, CRLF, and room for zeros in front.
const SHORT_LINE: usize = 32;

/// What a reply may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Bytes of one bulk. A string has at most 512 MiB by default, what `DUMP` makes of a large key may have more.
    pub max_bulk: usize,
    /// Bytes of one simple string, error, double or big number. A script may answer with any text.
    pub max_line: usize,
    /// Aggregates in aggregates. Redis' own replies have less than ten, a script's as many as its author likes.
    pub max_depth: usize,
}

impl Default for ReplyLimits {
    fn default() -> Self {
        Self {
            max_bulk: i32::MAX as usize,
            max_line: 512 << 20,
            max_depth: 16_384,
        }
    }
}

/// What [`ReplyScanner::scan`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyScan {
    /// The reply goes on behind the bytes given; all of them belong to it.
    Incomplete,
    /// The reply ends behind `consumed` of the bytes given.
    Complete {
        /// How many of the bytes given with this call belong to the reply.
        consumed: usize,
    },
}

/// Scans the replies of one connection, one after the other. Allocates only for nesting.
///
/// ```
/// use nearhit::resp::{ReplyLimits, ReplyScan, ReplyScanner};
///
/// let mut scanner = ReplyScanner::new(ReplyLimits::default());
/// assert_eq!(scanner.scan(b"*2\r\n$1\r\nx\r\n:"), Ok(ReplyScan::Incomplete));
/// assert_eq!(scanner.scan(b"7\r\n+OK\r\n"), Ok(ReplyScan::Complete { consumed: 3 }));
/// assert_eq!(scanner.kind(), Some(b'*'));
/// ```
#[derive(Debug)]
pub struct ReplyScanner {
    limits: ReplyLimits,
    state: State,
    nesting: Nesting,
    kind: Option<u8>,
    /// The line of `State::Short` so far.
    line: [u8; SHORT_LINE],
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// A type byte is next.
    Start,
    /// In the line of a number, a length or a count, of which `len` bytes are in `line`.
    Short { kind: u8, len: usize },
    /// In a line of text, of which `len` bytes are past; `cr` says whether the last of them was a CR.
    Text { kind: u8, len: usize, cr: bool },
    /// In a bulk: so many bytes are left, its CRLF included.
    Body { left: usize },
    /// Between replies: the next byte begins one.
    Idle,
}

/// How far one step went.
struct Step {
    taken: usize,
    value_ends: bool,
}

impl Default for ReplyScanner {
    fn default() -> Self {
        Self::new(ReplyLimits::default())
    }
}

impl ReplyScanner {
    /// A scanner at the start of a connection.
    pub fn new(limits: ReplyLimits) -> Self {
        let nesting = Nesting::new(limits.max_depth);
        Self {
            limits,
            state: State::Idle,
            nesting,
            kind: None,
            line: [0; SHORT_LINE],
        }
    }

    /// Scans on. `bytes` are those behind the ones given before; after `Complete`, those behind the reply.
    ///
    /// # Errors
    ///
    /// When `bytes` are not the protocol or exceed a limit. The scanner is then of no further use, and neither is the
    /// connection: nobody knows where its next reply begins.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<ReplyScan, ReplyError> {
        if matches!(self.state, State::Idle) && !bytes.is_empty() {
            self.state = State::Start;
            self.kind = None;
            self.nesting.clear();
        }
        let mut at = 0;
        while let Some(rest @ [first, ..]) = bytes.get(at..) {
            let step = match self.state {
                State::Start | State::Idle => self.start(*first, rest)?,
                State::Short { kind, len } => self.short(kind, len, rest)?,
                State::Text { kind, len, cr } => self.text(kind, len, cr, rest)?,
                State::Body { left } => self.body(left, rest)?,
            };
            at += step.taken;
            if !step.value_ends {
                continue;
            }
            self.state = State::Start;
            if self.nesting.value_ends() {
                self.state = State::Idle;
                return Ok(ReplyScan::Complete { consumed: at });
            }
        }
        Ok(ReplyScan::Incomplete)
    }

    /// The type byte of the reply being scanned or just completed (`-` an error, `>` a push); attributes before it do
    /// not count. `None` until it is known.
    pub fn kind(&self) -> Option<u8> {
        self.kind
    }

    /// Whether the scanner stands between two replies.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Start → Text | Short | Body, or a value at once when it is all here.
    #[inline]
    fn start(&mut self, kind: u8, rest: &[u8]) -> Result<Step, ReplyError> {
        if self.nesting.depth() == 0 && kind != b'|' {
            self.kind = Some(kind);
        }
        match kind {
            b'+' | b'-' | b',' | b'(' => {
                self.state = State::Text {
                    kind,
                    len: 0,
                    cr: false,
                }
            }
            b':' | b'_' | b'#' => self.state = State::Short { kind, len: 0 },
            b'$' | b'=' | b'!' | b'*' | b'%' | b'~' | b'>' | b'|' => {
                // Almost always the whole header is here.
                if let Some((number, taken)) = rest.get(1..).and_then(number::short_length) {
                    return self.sized(kind, number as u64, 1 + taken, rest);
                }
                self.state = State::Short { kind, len: 0 };
            }
            b';' | b'.' => return Err(ReplyError::Streamed),
            other => return Err(ReplyError::Type(other)),
        }
        Ok(Step {
            taken: 1,
            value_ends: false,
        })
    }

    /// A length or a count is known; `rest` begins with its header of `taken` bytes, or with what is left of it.
    #[inline]
    fn sized(&mut self, kind: u8, number: u64, taken: usize, rest: &[u8]) -> Result<Step, ReplyError> {
        if matches!(kind, b'$' | b'=' | b'!') {
            return self.bulk(kind, number, taken, rest);
        }
        if kind == b'>' && self.nesting.depth() > 0 {
            return Err(ReplyError::NestedPush);
        }
        let values = match kind {
            b'%' | b'|' => number.checked_mul(2).ok_or(ReplyError::Length)?,
            _ => number,
        };
        self.state = State::Start;
        Ok(Step {
            taken,
            value_ends: self.nesting.open(values, kind == b'|')?,
        })
    }

    #[inline]
    fn bulk(&mut self, kind: u8, len: u64, taken: usize, rest: &[u8]) -> Result<Step, ReplyError> {
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= self.limits.max_bulk)
            .ok_or(ReplyError::BulkTooBig)?;
        // A verbatim string begins with its format and a colon.
        if kind == b'=' && len < 4 {
            return Err(ReplyError::Length);
        }
        let left = len.checked_add(2).ok_or(ReplyError::BulkTooBig)?;
        let end = taken.saturating_add(len);
        match rest.get(end..end.saturating_add(2)) {
            Some(b"\r\n") => Ok(Step {
                taken: end + 2,
                value_ends: true,
            }),
            Some(_) => Err(ReplyError::Terminator),
            None => {
                self.state = State::Body { left };
                Ok(Step {
                    taken,
                    value_ends: false,
                })
            }
        }
    }

    /// Short → Start (a value ended or an aggregate opened) | Body | Short.
    fn short(&mut self, kind: u8, mut len: usize, rest: &[u8]) -> Result<Step, ReplyError> {
        for (index, byte) in rest.iter().enumerate() {
            if *byte == b'\n' {
                let line = self.line;
                let line = line.get(..len).unwrap_or_default();
                let text = line.strip_suffix(b"\r").ok_or(ReplyError::Length)?;
                return self.short_ends(kind, text, index + 1, rest);
            }
            *self.line.get_mut(len).ok_or(ReplyError::Length)? = *byte;
            len += 1;
        }
        self.state = State::Short { kind, len };
        Ok(Step {
            taken: rest.len(),
            value_ends: false,
        })
    }

    fn short_ends(&mut self, kind: u8, text: &[u8], taken: usize, rest: &[u8]) -> Result<Step, ReplyError> {
        let value = Ok(Step {
            taken,
            value_ends: true,
        });
        match (kind, text) {
            (b':', text) if is_integer(text) => value,
            (b'_', b"") | (b'#', b"t" | b"f") => value,
            (b':' | b'_' | b'#', _) => Err(ReplyError::Number),
            (b'$' | b'*', b"-1") => value,
            (_, b"?") => Err(ReplyError::Streamed),
            _ => {
                let number = number::canonical(text).and_then(|number| u64::try_from(number).ok());
                self.sized(kind, number.ok_or(ReplyError::Length)?, taken, rest)
            }
        }
    }

    /// Text → Text | value ends. The line ends at the first CRLF; a CR or LF alone is part of it, as for every client.
    fn text(&mut self, kind: u8, len: usize, cr: bool, rest: &[u8]) -> Result<Step, ReplyError> {
        let end = if cr && rest.first() == Some(&b'\n') {
            Some(0)
        } else {
            line_end(rest)
        };
        let part = match end {
            // The LF of a CR that came before.
            Some(0) if cr => &[],
            Some(lf) => rest.get(..lf.saturating_sub(1)).unwrap_or_default(),
            None => rest.strip_suffix(b"\r").unwrap_or(rest),
        };
        let dangling = cr && end != Some(0);
        let whole = len.saturating_add(usize::from(dangling)).saturating_add(part.len());
        let numeric = matches!(kind, b',' | b'(');
        if numeric
            && (dangling || !part.iter().all(|byte| is_number_byte(kind, *byte)) || (end.is_some() && whole == 0))
        {
            return Err(ReplyError::Number);
        }
        if whole > self.limits.max_line {
            return Err(ReplyError::LineTooLong);
        }
        if let Some(lf) = end {
            return Ok(Step {
                taken: lf + 1,
                value_ends: true,
            });
        }
        self.state = State::Text {
            kind,
            len: whole,
            cr: rest.last() == Some(&b'\r'),
        };
        Ok(Step {
            taken: rest.len(),
            value_ends: false,
        })
    }

    /// Body → Body | value ends.
    fn body(&mut self, left: usize, rest: &[u8]) -> Result<Step, ReplyError> {
        let mut taken = left.saturating_sub(2).min(rest.len());
        let mut left = left - taken;
        while left <= 2 && left > 0 {
            let Some(byte) = rest.get(taken) else { break };
            let expected = if left == 2 { b'\r' } else { b'\n' };
            if *byte != expected {
                return Err(ReplyError::Terminator);
            }
            taken += 1;
            left -= 1;
        }
        self.state = State::Body { left };
        Ok(Step {
            taken,
            value_ends: left == 0,
        })
    }
}

/// The offset of the LF of the first CRLF.
pub(super) fn line_end(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\r', bytes)
        .map(|cr| cr + 1)
        .find(|lf| bytes.get(*lf) == Some(&b'\n'))
}

/// An optional sign and digits that fit 64 bits.
fn is_integer(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<i64>().is_ok())
}

/// What a double (`inf` and `nan` included) and a big number are spelled with; whether they are well spelled does not
/// move the end of a reply.
fn is_number_byte(kind: u8, byte: u8) -> bool {
    match byte {
        b'0'..=b'9' | b'+' | b'-' => true,
        b'.' | b'e' | b'E' | b'i' | b'n' | b'f' | b'a' => kind == b',',
        _ => false,
    }
}

#[cfg(test)]
#[path = "reply_scan_tests.rs"]
mod tests;
