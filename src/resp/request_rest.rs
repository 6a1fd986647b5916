//! The rest of a request whose beginning was passed on already: checked as strictly as [`RequestScanner`] does, without
//! keeping its bytes.
//!
//! ```text
//! Body ─ bytes … CRLF → (arguments are left) Header ─ $length CRLF → Body
//!                     → (none are) End
//! ```
//! [`RequestScanner`]: super::RequestScanner

use super::RequestLimits;
use super::fault::ProtocolError;
use super::number;

/// The longest line that can be a length: `$`, twenty digits, CRLF.
const LINE: usize = 24;

/// What [`RequestRest::scan`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestScan {
    /// All bytes given belong to the request, and it goes on behind them.
    Incomplete,
    /// The request ends behind `consumed` of the bytes given.
    Complete {
        /// How many of the bytes given belong to the request.
        consumed: usize,
    },
}

/// Scans the rest of one request, which begins in the middle of an argument.
///
/// ```
/// use nearhit::resp::{RequestLimits, RequestRest, RestScan};
///
/// // "*3 $3 SET $1 k $5 he" came before.
/// let mut rest = RequestRest::new(RequestLimits::default(), 1, 5);
/// assert_eq!(rest.scan(b"ll"), Ok(RestScan::Incomplete));
/// assert_eq!(rest.scan(b"o\r\n*1\r\n"), Ok(RestScan::Complete { consumed: 3 }));
/// ```
#[derive(Debug)]
pub struct RequestRest {
    limits: RequestLimits,
    /// Arguments that are not all here, the current one included.
    arguments: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// In the `$` line, of which `len` bytes are in `line`.
    Header { line: [u8; LINE], len: usize },
    /// In an argument: so many bytes are left, its CRLF included.
    Body { left: usize },
}

impl RequestRest {
    /// `arguments` are not all here; of the first of them `missing` bytes are still to come, its CRLF included.
    pub fn new(limits: RequestLimits, arguments: usize, missing: usize) -> Self {
        Self {
            limits,
            arguments,
            state: State::Body { left: missing },
        }
    }

    /// Scans on. After `Complete` it is of no further use.
    ///
    /// # Errors
    ///
    /// When `bytes` are not the protocol: none of them may be passed on.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<RestScan, ProtocolError> {
        let mut at = 0;
        while let Some(rest @ [_, ..]) = bytes.get(at..) {
            at += match &mut self.state {
                State::Body { left } => body(left, rest)?,
                State::Header { .. } => self.header(rest)?,
            };
            if matches!(self.state, State::Body { left: 0 }) {
                self.arguments = self.arguments.saturating_sub(1);
                if self.arguments == 0 {
                    return Ok(RestScan::Complete { consumed: at });
                }
                self.state = State::Header {
                    line: [0; LINE],
                    len: 0,
                };
            }
        }
        Ok(RestScan::Incomplete)
    }

    /// Header → Header | Body.
    fn header(&mut self, rest: &[u8]) -> Result<usize, ProtocolError> {
        let State::Header { line, len } = &mut self.state else {
            return Ok(0);
        };
        for (index, byte) in rest.iter().enumerate() {
            let Some(place) = line.get_mut(*len) else {
                return Err(length(line).err().unwrap_or(ProtocolError::BulkLength));
            };
            *place = *byte;
            *len += 1;
            let line = line.get(..*len).unwrap_or_default();
            if let Some(text) = line.strip_suffix(b"\r\n") {
                let size = length(text)?;
                if size > self.limits.max_bulk {
                    return Err(ProtocolError::BulkLength);
                }
                self.state = State::Body {
                    left: size.saturating_add(2),
                };
                return Ok(index + 1);
            }
            if matches!(line, [.., b'\r', _]) {
                return Err(ProtocolError::BulkLength);
            }
        }
        Ok(rest.len())
    }
}

/// Body → Body: how many of the bytes belong to the argument.
fn body(left: &mut usize, rest: &[u8]) -> Result<usize, ProtocolError> {
    let mut taken = left.saturating_sub(2).min(rest.len());
    *left -= taken;
    while let (1..=2, Some(byte)) = (*left, rest.get(taken)) {
        let expected = if *left == 2 { b'\r' } else { b'\n' };
        if *byte != expected {
            return Err(ProtocolError::BulkLength);
        }
        taken += 1;
        *left -= 1;
    }
    Ok(taken)
}

/// The number of a `$` line without its CRLF.
fn length(line: &[u8]) -> Result<usize, ProtocolError> {
    match line {
        [b'$', digits @ ..] => number::canonical(digits)
            .and_then(|length| usize::try_from(length).ok())
            .ok_or(ProtocolError::BulkLength),
        [other, ..] => Err(ProtocolError::ExpectedBulk(*other)),
        [] => Err(ProtocolError::ExpectedBulk(b'\r')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{RequestScan, RequestScanner};

    fn limits() -> RequestLimits {
        RequestLimits {
            max_bulk: 1000,
            ..RequestLimits::default()
        }
    }

    /// What the scanner says about a whole request whose second argument begins at `$5`, after the bytes that it takes.
    fn scanned(rest: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let before = b"*4\r\n$3\r\nSET\r\n$5\r\n";
        let bytes = [before, rest].concat();
        match RequestScanner::new(limits()).scan(&bytes)? {
            RequestScan::Complete { consumed } => Ok(Some(consumed - before.len())),
            _ => Ok(None),
        }
    }

    const RESTS: &[&[u8]] = &[
        b"hello\r\n$1\r\na\r\n$0\r\n\r\n*1\r\n",
        b"hello\r\n$1\r\na\r\n$3\r\nabc\r\n",
        b"hello\r\n$1000\r\na",
        b"hello\r\n$1001\r\na",
        b"hellox\n$1\r\na\r\n$0\r\n\r\n",
        b"hello\rx$1\r\na\r\n$0\r\n\r\n",
        b"hello\r\n$1\r\nab\r\n$0\r\n\r\n",
        b"hello\r\n$01\r\na\r\n$0\r\n\r\n",
        b"hello\r\n$-1\r\n",
        b"hello\r\n$+1\r\n",
        b"hello\r\n$\r\n",
        b"hello\r\n\r\n",
        b"hello\r\n+OK\r\n",
        b"hello\r\n$1\rxa",
        b"hello\r\n$99999999999999999999\r\n",
        b"hello\r\n$1\r\na\r\n$3\r\nab",
        b"",
        b"hel",
    ];

    /// The same of the rest alone, given in pieces.
    fn scanned_in_pieces(rest: &[u8], step: usize) -> Result<Option<usize>, ProtocolError> {
        let mut scan = RequestRest::new(limits(), 3, 7);
        for (at, piece) in rest.chunks(step).enumerate() {
            if let RestScan::Complete { consumed } = scan.scan(piece)? {
                return Ok(Some(at * step + consumed));
            }
        }
        Ok(None)
    }

    #[test]
    fn it_says_what_the_scanner_says_wherever_the_bytes_are_split() {
        for rest in RESTS {
            let expected = scanned(rest);
            for step in 1..=rest.len().max(1) {
                let found = scanned_in_pieces(rest, step);
                assert_eq!(found, expected, "{} by {step}", rest.escape_ascii());
            }
        }
    }

    #[test]
    fn a_line_that_cannot_be_a_length_is_refused_before_it_ends() {
        let mut scan = RequestRest::new(limits(), 2, 2);
        let endless = [&b"\r\n$"[..], &[b'1'; 100]].concat();
        assert_eq!(scan.scan(&endless), Err(ProtocolError::BulkLength));
    }
}
