//! What comes in on a connection: read, scanned, and handed to the waiter in front.

use std::task::{Context, Poll};

use super::connection::Inner;
use super::loss::Loss;
use super::socket::Socket;
use super::waiter::{Taken, Waiter};
use crate::metrics::Direction;
use crate::resp::{ReplyLimits, ReplyScan, ReplyScanner};
use crate::time::Instant;

/// A reply larger than this is handed on in parts while it arrives. Chosen so that a part is worth a write of its own.
const PART: usize = 256 * 1024;
/// Room for one read. A larger one would only help replies that are handed on in parts anyway.
const READ: usize = 64 * 1024;
/// Buffers that grew beyond this are given back when they are empty.
const KEEP: usize = 128 * 1024;

impl<W: Waiter> Inner<W> {
    /// Hands every frame that is now whole to its waiter. `fresh` is where the unscanned bytes begin.
    pub(super) fn dispatch(&self, io: &mut Io, fresh: usize, now: Instant) -> Result<(), Loss> {
        let Io {
            scanner,
            input,
            parts,
            kind,
            ..
        } = io;
        self.recorder
            .upstream_bytes
            .add(Direction::In, (input.len() - fresh) as u64);
        let (mut begin, mut at) = (0, fresh);
        loop {
            let scanned = scanner
                .scan(input.get(at..).unwrap_or_default())
                .map_err(|error| Loss::Protocol(error.to_string()))?;
            *kind = scanner.kind().unwrap_or_default();
            let ReplyScan::Complete { consumed } = scanned else {
                break;
            };
            at += consumed;
            let frame = input.get(begin..at).unwrap_or_default();
            self.whole(*kind, frame, std::mem::take(parts) > 0, now)?;
            begin = at;
        }
        if input.len() - begin > PART && self.part(*kind, input.get(begin..).unwrap_or_default(), *parts, now)? {
            *parts += 1;
            begin = input.len();
        }
        input.drain(..begin);
        // In the middle of a large reply there will be more of it.
        if input.is_empty() && input.capacity() > KEEP && *parts == 0 {
            *input = Vec::new();
        }
        Ok(())
    }

    /// Large replies go on while they arrive; false: this one must be gathered.
    fn part(&self, kind: u8, part: &[u8], parts: usize, now: Instant) -> Result<bool, Loss> {
        let mut state = self.state.borrow_mut();
        state.progress = now;
        match state.waiters.front_mut() {
            // A push answers nobody, and so may anything else where somebody listens.
            _ if kind == b'>' => Ok(false),
            None if self.outlet.borrow().is_some() => Ok(false),
            None => Err(odd()),
            Some(front) if parts > 0 || front.waiter.takes_parts(kind) => {
                front.waiter.part(kind, part, parts == 0, false, now);
                Ok(true)
            }
            Some(_) => Ok(false),
        }
    }

    fn whole(&self, kind: u8, frame: &[u8], partly: bool, now: Instant) -> Result<(), Loss> {
        let mut state = self.state.borrow_mut();
        let taken = match state.waiters.front_mut() {
            Some(front) if partly => {
                front.waiter.part(kind, frame, false, true, now);
                Taken::Done
            }
            Some(front) => front.waiter.frame(kind, frame, now),
            None => Taken::NotMine,
        };
        match taken {
            Taken::Done | Taken::Refused => {
                let answered = state.waiters.pop_front();
                if !std::mem::replace(&mut state.useful, true) {
                    self.watcher.useful();
                }
                let last = self.retired.get() && state.waiters.is_empty();
                if taken == Taken::Refused
                    && let Some(refused) = answered
                {
                    let request = state.request(refused.offset).map(<[u8]>::to_vec);
                    drop(state);
                    refused.waiter.refused(frame, request.as_deref(), now);
                }
                if last {
                    return Err(Loss::Shutdown);
                }
            }
            Taken::More => {}
            Taken::NotMine => {
                drop(state);
                let outlet = self.outlet.borrow().clone();
                match outlet {
                    Some(outlet) => outlet.frame(frame, now),
                    // A push to a connection that asked for none (maintenance notices) answers nobody and harms nobody.
                    None if kind == b'>' => {}
                    None => return Err(odd()),
                }
            }
        }
        Ok(())
    }
}

fn odd() -> Loss {
    Loss::Protocol("a reply to no request".into())
}

/// The socket and what was read from it.
pub(super) struct Io {
    pub(super) socket: Socket,
    /// The peer takes nothing any more, and how that was found; what it had sent is read to the end.
    pub(super) hung_up: Option<Loss>,
    /// Where bytes begin that were read, and when, but may not be handled yet.
    pub(super) withheld: Option<(usize, Instant)>,
    scanner: ReplyScanner,
    /// Bytes of the frame that is not whole yet. Invariant: the scanner has seen all of them but what is withheld.
    input: Vec<u8>,
    /// How many parts of the current reply were handed on.
    parts: usize,
    /// Type byte of the current reply.
    kind: u8,
}

impl Io {
    /// A connected socket between two replies.
    pub(super) fn new(socket: Socket, limits: ReplyLimits) -> Self {
        Self {
            socket,
            hung_up: None,
            withheld: None,
            scanner: ReplyScanner::new(limits),
            input: Vec::new(),
            parts: 0,
            kind: 0,
        }
    }

    /// Reads once; gives the place where the new bytes begin.
    pub(super) fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Loss>> {
        let fresh = self.input.len();
        self.input.reserve(READ);
        let read = self.socket.poll_recv(cx, &mut self.input);
        match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(Loss::Io(error.to_string()))),
            Poll::Ready(Ok(0)) => Poll::Ready(Err(Loss::Closed)),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(fresh)),
        }
    }
}
