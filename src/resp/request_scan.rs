//! Finding where a request ends, a read at a time: the first thing that happens to every byte of a client.
//!
//! ```text
//! Start ─ '*' ─→ count ─→ Args: header → bulk → header → bulk … ─→ Complete
//!   │              └─ *0, *-1 … ─────────────────────────────────→ Skip
//!   └─ else ─→ line ─ words ─→ Complete     blank line ──────────→ Skip
//! ```
//! Lengths are canonical integers and every CRLF is checked, so the bytes of a complete array request *are* its
//! canonical encoding and go upstream as they came. Redis checks neither the byte behind a `\r` nor the two behind a
//! bulk; here they are the same protocol errors as a wrong length.

use super::fault::ProtocolError;
use super::inline::Inline;
use super::number;
use super::request::{Arg, Request};

/// Room for the arguments of almost every request.
const FIRST_ARGS: usize = 16;
/// More room than this is given back after a request, so that one big request does not cost its client forever.
const KEPT_ARGS: usize = 4096;
/// Most arguments of a request before its client has authenticated: Redis' limit (CVE-2021-32675).
pub const UNAUTHENTICATED_ARGS: usize = 10;
/// The same, for the bytes of one argument.
pub const UNAUTHENTICATED_BULK: usize = 16_384;

/// What a request may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Arguments of one request, its name included. Redis 7 accepts up to 2,147,483,647.
    pub max_args: usize,
    /// Bytes of one argument. Redis' `proto-max-bulk-len` is 512 MiB.
    pub max_bulk: usize,
    /// Bytes of an inline request, and of a `*` or `$` line, before its line end. Redis has 65,536.
    pub max_inline: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            max_args: i32::MAX as usize,
            max_bulk: 512 << 20,
            max_inline: 64 << 10,
        }
    }
}

/// What [`RequestScanner::scan`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestScan {
    /// More bytes are needed.
    Incomplete,
    /// A request that ends behind `consumed` bytes.
    Complete {
        /// Bytes of the request.
        consumed: usize,
    },
    /// Nothing to answer (an empty line, `*0`, `*-1`): drop `consumed` bytes.
    Skip {
        /// Bytes to drop.
        consumed: usize,
    },
}

/// Scans the requests of one connection, one after the other. Allocates nothing once its buffers have grown.
///
/// ```
/// use nearhit::resp::{RequestLimits, RequestScan, RequestScanner};
///
/// let mut scanner = RequestScanner::new(RequestLimits::default());
/// let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
/// assert_eq!(scanner.scan(&bytes[..9]), Ok(RequestScan::Incomplete));
/// assert_eq!(scanner.scan(bytes), Ok(RequestScan::Complete { consumed: bytes.len() }));
/// assert_eq!(scanner.request(bytes).arg(1), b"k");
/// ```
#[derive(Debug)]
pub struct RequestScanner {
    limits: RequestLimits,
    authenticated: bool,
    state: State,
    /// Invariant: in `Args`, the arguments that are all here.
    args: Vec<Arg>,
    /// Everything before it is scanned. In `Args`, the next argument's `$`.
    at: usize,
    /// The line that begins at `at` has no line end before this offset.
    searched: usize,
    /// Where the bytes of the argument at `at` lie, once its header is read.
    bulk: Option<(usize, usize)>,
    missing: usize,
    inline: Inline,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Start,
    Args { left: usize },
    Complete { inline: bool },
    Skipped,
}

impl RequestScanner {
    /// A scanner at the start of a connection that need not authenticate.
    pub fn new(limits: RequestLimits) -> Self {
        Self {
            limits,
            authenticated: true,
            state: State::Start,
            args: Vec::with_capacity(FIRST_ARGS),
            at: 0,
            searched: 0,
            bulk: None,
            missing: 0,
            inline: Inline::default(),
        }
    }

    /// Says whether the client has authenticated (or need not); before that Redis accepts small requests only.
    pub fn set_authenticated(&mut self, authenticated: bool) {
        self.authenticated = authenticated;
    }

    /// Scans on. `bytes` begins at the first byte of the request being scanned and holds all that was given before;
    /// what was scanned is not looked at again.
    ///
    /// After `Complete` and `Skip` the next call starts a new request by itself.
    ///
    /// # Errors
    ///
    /// When `bytes` are not the protocol: the client gets the error's text and its connection must be closed.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<RequestScan, ProtocolError> {
        if matches!(self.state, State::Complete { .. } | State::Skipped) {
            self.reset();
        }
        self.missing = 0;
        let mut left = match (self.state, bytes.first()) {
            (State::Args { left }, _) => left,
            (_, None) => return Ok(RequestScan::Incomplete),
            (_, Some(b'*')) => match self.count(bytes)? {
                None => return Ok(RequestScan::Incomplete),
                Some(0) => return Ok(self.skip()),
                Some(count) => count,
            },
            (_, Some(_)) => return self.inline(bytes),
        };
        while left > 0 {
            if !self.argument(bytes)? {
                self.state = State::Args { left };
                return Ok(RequestScan::Incomplete);
            }
            left -= 1;
        }
        self.state = State::Complete { inline: false };
        Ok(RequestScan::Complete { consumed: self.at })
    }

    /// The request that was found; `bytes` as given to the [`RequestScanner::scan`] that said `Complete`.
    pub fn request<'a>(&'a self, bytes: &'a [u8]) -> Request<'a> {
        debug_assert!(
            matches!(self.state, State::Complete { .. }),
            "asked for a request before it was complete"
        );
        let frame = match self.state {
            State::Complete { inline: true } => self.inline.frame(),
            _ => bytes.get(..self.at).unwrap_or_default(),
        };
        Request::new(frame, &self.args)
    }

    /// A request of which everything but large arguments at its end is here: the arguments that are complete, with all
    /// `bytes` as the frame, how many are not complete, and how many bytes of the first of these are missing.
    pub fn begun<'a>(&'a self, bytes: &'a [u8]) -> Option<(Request<'a>, usize, usize)> {
        match self.state {
            State::Args { left } if self.missing > 0 && !self.args.is_empty() => {
                Some((Request::new(bytes, &self.args), left, self.missing))
            }
            _ => None,
        }
    }

    /// Forgets what was scanned: the next bytes begin a request.
    pub fn reset(&mut self) {
        self.state = State::Start;
        self.at = 0;
        self.searched = 0;
        self.bulk = None;
        self.missing = 0;
        self.args.clear();
        if self.args.capacity() > KEPT_ARGS {
            self.args.shrink_to(KEPT_ARGS);
        }
        self.inline.shrink();
    }

    /// How many bytes of the current argument are known to be missing; 0 when its length is not known yet.
    ///
    /// A client declares what it likes: reserve for this in steps, never at once.
    pub fn wanted(&self) -> usize {
        self.missing
    }

    /// Reads the `*` line: how many arguments follow (0 for a request without any), or `None` when it is not all here.
    fn count(&mut self, bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let short = number::short_length(bytes.get(1..).unwrap_or_default());
        let (count, end) = match short {
            Some((count, taken)) => (count, 1 + taken),
            None => {
                let error = ProtocolError::MultibulkLength;
                let Some((line, end)) = self.line(bytes, error, ProtocolError::MultibulkHeaderTooBig)? else {
                    return Ok(None);
                };
                let count = line.get(1..).and_then(number::canonical).ok_or(error)?;
                // Negative counts are no arguments, and no error.
                (usize::try_from(count.max(0)).unwrap_or(usize::MAX), end)
            }
        };
        if count > self.limits.max_args {
            return Err(ProtocolError::MultibulkLength);
        }
        if count > UNAUTHENTICATED_ARGS && !self.authenticated {
            return Err(ProtocolError::UnauthenticatedMultibulk);
        }
        self.at = end;
        Ok(Some(count))
    }

    /// Reads the argument at `at`; false when it is not all here.
    #[inline]
    fn argument(&mut self, bytes: &[u8]) -> Result<bool, ProtocolError> {
        let (start, end) = match self.bulk {
            Some(place) => place,
            None => match self.bulk_header(bytes)? {
                Some(place) => place,
                None => return Ok(false),
            },
        };
        // `end` comes from a limited length: it cannot be near the largest number.
        let behind = end.saturating_add(2);
        match bytes.get(end..behind) {
            Some(b"\r\n") => {
                self.args.push(Arg {
                    header: self.at,
                    start,
                    end,
                });
                self.at = behind;
                self.bulk = None;
                Ok(true)
            }
            Some(_) => Err(ProtocolError::BulkLength),
            None if bytes.get(end).is_some_and(|byte| *byte != b'\r') => Err(ProtocolError::BulkLength),
            None => {
                self.bulk = Some((start, end));
                self.missing = behind - bytes.len();
                Ok(false)
            }
        }
    }

    /// Reads the `$` line at `at`: where the argument's bytes will lie, or `None` when the line is not all here.
    #[inline]
    fn bulk_header(&mut self, bytes: &[u8]) -> Result<Option<(usize, usize)>, ProtocolError> {
        let short = match bytes.get(self.at..) {
            Some([b'$', rest @ ..]) => number::short_length(rest),
            _ => None,
        };
        let (len, start) = match short {
            Some((len, taken)) => (len, self.at + 1 + taken),
            None => match self.long_bulk_header(bytes)? {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        if len > self.limits.max_bulk {
            return Err(ProtocolError::BulkLength);
        }
        if len > UNAUTHENTICATED_BULK && !self.authenticated {
            return Err(ProtocolError::UnauthenticatedBulk);
        }
        Ok(Some((start, start.saturating_add(len))))
    }

    #[cold]
    fn long_bulk_header(&mut self, bytes: &[u8]) -> Result<Option<(usize, usize)>, ProtocolError> {
        let error = ProtocolError::BulkLength;
        let Some((line, end)) = self.line(bytes, error, ProtocolError::BulkHeaderTooBig)? else {
            return Ok(None);
        };
        let len = match line {
            [b'$', number @ ..] => number::canonical(number).ok_or(error)?,
            [other, ..] => return Err(ProtocolError::ExpectedBulk(*other)),
            // Redis looks at the byte where `$` should be, which is the line end.
            [] => return Err(ProtocolError::ExpectedBulk(b'\r')),
        };
        Ok(Some((usize::try_from(len).map_err(|_| error)?, end)))
    }

    /// The line at `at` without its CRLF, and the offset behind it. `None` when it is not all here, which is an error
    /// `too_big` once it must be longer than the limit; a CR without LF is `broken`.
    fn line<'b>(
        &mut self,
        bytes: &'b [u8],
        broken: ProtocolError,
        too_big: ProtocolError,
    ) -> Result<Option<(&'b [u8], usize)>, ProtocolError> {
        let Some(end) = self.find(bytes, b'\r', too_big)? else {
            return Ok(None);
        };
        match bytes.get(end + 1) {
            None => Ok(None),
            Some(b'\n') => Ok(bytes.get(self.at..end).map(|line| (line, end + 2))),
            Some(_) => Err(broken),
        }
    }

    /// The offset of the first `byte` behind `at`, searching only what was not searched before.
    fn find(&mut self, bytes: &[u8], byte: u8, too_big: ProtocolError) -> Result<Option<usize>, ProtocolError> {
        // Redis waits while there are no more bytes than the limit: one more may still be the line end.
        let limit = self.at.saturating_add(self.limits.max_inline).saturating_add(1);
        let from = self.searched.max(self.at);
        let until = bytes.len().min(limit);
        match bytes.get(from..until).and_then(|rest| memchr::memchr(byte, rest)) {
            Some(found) => {
                self.searched = from + found;
                Ok(Some(from + found))
            }
            None if bytes.len() >= limit => Err(too_big),
            None => {
                self.searched = until;
                Ok(None)
            }
        }
    }

    /// Reads an inline request: a line that ends in LF, with or without a CR before it.
    #[cold]
    fn inline(&mut self, bytes: &[u8]) -> Result<RequestScan, ProtocolError> {
        let Some(end) = self.find(bytes, b'\n', ProtocolError::InlineTooBig)? else {
            return Ok(RequestScan::Incomplete);
        };
        let line = bytes.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.inline.parse(line, &mut self.args)?;
        self.at = end + 1;
        if self.args.is_empty() {
            return Ok(self.skip());
        }
        self.state = State::Complete { inline: true };
        Ok(RequestScan::Complete { consumed: self.at })
    }

    fn skip(&mut self) -> RequestScan {
        self.state = State::Skipped;
        RequestScan::Skip { consumed: self.at }
    }
}

#[cfg(test)]
#[path = "request_scan_tests.rs"]
mod tests;
