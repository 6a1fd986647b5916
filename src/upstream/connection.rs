//! One pipelined connection: requests go out in one write per turn, replies come back in order.
//!
//! ```text
//! Connecting ─ handshake ok → Ready ─ peer closes, error, odd bytes, close() → Closed
//!      └──────── handshake failed ────────────────────────────────────────────┘
//! send(): bytes to `out`, a waiter to `waiters`.   reply: to the waiter in front, which stays until its reply is whole.
//! ```
//! Invariants: one reply, one waiter, first in, first out. A waiter leaves only by its reply or with the connection;
//! losing interest (time-out, client gone) does not take it out. Waiters are called while the connection is borrowed, so
//! they must not use it; they note what happened and wake their session.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite};

use super::handshake::{self, Handshake};
use super::loss::Loss;
use super::socket::Socket;
use crate::resp::{ReplyLimits, ReplyScan, ReplyScanner};
use crate::time::{self, Instant};

/// A reply larger than this is handed on in parts while it arrives. Chosen so that a part is worth a write of its own.
const PART: usize = 256 * 1024;
/// Room for one read. A larger one would only help replies that are handed on in parts anyway.
const READ: usize = 64 * 1024;
/// Reads in a row before other tasks get their turn.
const READS_PER_TURN: usize = 8;
/// Buffers that grew beyond this are given back when they are empty.
const KEEP: usize = 128 * 1024;

/// What a waiter did with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was its reply; the waiter is done.
    Done,
    /// It was part of what it waits for, and more frames follow (SUBSCRIBE a b).
    More,
    /// It answers nobody (a push, a message, a MONITOR line); the waiter goes on waiting.
    NotMine,
}

/// Who waits for a reply.
pub trait Waiter {
    /// A whole frame arrived; `kind` is its type byte. `now` was read after the bytes were.
    fn frame(&mut self, kind: u8, frame: &[u8], now: Instant) -> Taken;
    /// Part of a reply too large to gather arrived; `first` and `last` tell where it stands.
    fn part(&mut self, kind: u8, part: &[u8], first: bool, last: bool, now: Instant);
    /// No reply came within `after`. One may still come, and will be handed to this waiter.
    fn late(&mut self, after: Duration, now: Instant);
    /// The connection is gone. `sent`: bytes of the request may have reached the server.
    fn lost(self, loss: &Loss, sent: bool, now: Instant);
}

/// Who owns a connection alone and hears what comes on it unasked.
pub trait Outlet {
    /// A frame that answers nobody.
    fn frame(&self, frame: &[u8]);
    /// The connection ended, and not because somebody here closed it.
    fn ended(&self);
}

struct Waiting<W> {
    waiter: W,
    /// How many bytes had been queued on the connection before this request.
    offset: u64,
    since: Instant,
    /// `None`: it may take as long as it likes (BLPOP).
    limit: Option<Duration>,
    /// It was told that its reply is late.
    told: bool,
}

struct State<W> {
    out: Vec<u8>,
    /// Bytes of `out` that were written.
    written: usize,
    /// Bytes ever queued and ever written.
    queued_total: u64,
    written_total: u64,
    waiters: VecDeque<Waiting<W>>,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Ready,
    Closed(Loss),
}

struct Inner<W> {
    state: RefCell<State<W>>,
    /// The connection's task, woken when there is something to write or it is to close.
    task: Cell<Option<Waker>>,
    closing: Cell<bool>,
    /// Takes frames that answer nobody; without it they close the connection, unless they are RESP3 pushes.
    outlet: RefCell<Option<Rc<dyn Outlet>>>,
    /// Called once when the connection ends.
    ended: RefCell<Option<Box<dyn FnOnce(&Loss)>>>,
}

/// A handle on one connection; clones are the same connection. Only usable on the thread that made it.
pub struct Connection<W>(Rc<Inner<W>>);

impl<W> Clone for Connection<W> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<W: Waiter + 'static> Connection<W> {
    /// Begins to connect; requests may be sent at once and wait for the handshake. `ended` is called once, at the end.
    ///
    /// # Panics
    /// Outside a tokio `LocalSet`.
    pub fn open(handshake: Handshake, ended: impl FnOnce(&Loss) + 'static) -> Self {
        let state = State {
            out: Vec::new(),
            written: 0,
            queued_total: 0,
            written_total: 0,
            waiters: VecDeque::new(),
            phase: Phase::Connecting,
        };
        let inner = Rc::new(Inner {
            state: RefCell::new(state),
            task: Cell::new(None),
            closing: Cell::new(false),
            outlet: RefCell::new(None),
            ended: RefCell::new(Some(Box::new(ended))),
        });
        let connection = Self(Rc::clone(&inner));
        tokio::task::spawn_local(async move { inner.run(handshake).await });
        connection
    }

    /// Queues a request and who waits for its reply; it is written when the task gets its turn, together with everything
    /// queued until then. `limit` is how long the reply may take before the waiter is told.
    ///
    /// # Errors
    /// Gives the waiter back, and why, when the connection has ended.
    pub fn send(&self, frame: &[u8], waiter: W, limit: Option<Duration>, now: Instant) -> Result<(), (W, Loss)> {
        let mut state = self.0.state.borrow_mut();
        if let Phase::Closed(loss) = &state.phase {
            let loss = loss.clone();
            return Err((waiter, loss));
        }
        let idle = state.out.is_empty();
        let offset = state.queued_total;
        state.out.extend_from_slice(frame);
        state.queued_total += frame.len() as u64;
        state.waiters.push_back(Waiting {
            waiter,
            offset,
            since: now,
            limit,
            told: false,
        });
        drop(state);
        if idle {
            self.0.wake();
        }
        Ok(())
    }

    /// Sets who takes frames that answer nobody.
    pub fn set_outlet(&self, outlet: Option<Rc<dyn Outlet>>) {
        *self.0.outlet.borrow_mut() = outlet;
    }

    /// Closes the socket; requests on their way are lost.
    pub fn close(&self) {
        self.set_outlet(None);
        self.0.closing.set(true);
        self.0.wake();
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.0.closing.get() || matches!(self.0.state.borrow().phase, Phase::Closed(_))
    }

    /// Requests that wait for their replies.
    pub fn in_flight(&self) -> usize {
        self.0.state.borrow().waiters.len()
    }

    /// Tells waiters whose replies are late, and closes a connection whose oldest reply is five times too late: behind
    /// it nothing can be answered. Call it about ten times a second.
    pub fn check_late(&self, now: Instant) {
        let mut state = self.0.state.borrow_mut();
        let mut hopeless = false;
        for (index, waiting) in state.waiters.iter_mut().enumerate() {
            let Some(limit) = waiting.limit else { continue };
            let waited = now.since(waiting.since);
            if waited <= limit {
                // Younger ones behind it may have a shorter limit, but all limits of a connection are the same setting.
                break;
            }
            hopeless |= index == 0 && waited > limit * 5;
            if !std::mem::replace(&mut waiting.told, true) {
                waiting.waiter.late(limit, now);
            }
        }
        drop(state);
        if hopeless {
            self.close();
        }
    }
}

impl<W: Waiter> Inner<W> {
    fn wake(&self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    async fn run(self: Rc<Self>, handshake: Handshake) {
        let loss = match self.connected(&handshake).await {
            Ok(socket) => {
                self.state.borrow_mut().phase = Phase::Ready;
                let mut io = Io {
                    socket,
                    scanner: ReplyScanner::new(ReplyLimits::default()),
                    input: Vec::new(),
                    parts: 0,
                    kind: 0,
                };
                poll_fn(|cx| self.poll(cx, &mut io)).await
            }
            Err(loss) => loss,
        };
        self.end(&loss);
    }

    /// The handshake, unless the connection is closed first.
    async fn connected(&self, handshake: &Handshake) -> Result<Socket, Loss> {
        let mut connecting = Box::pin(handshake::connect(handshake));
        poll_fn(|cx| {
            self.task.set(Some(cx.waker().clone()));
            if self.closing.get() {
                return Poll::Ready(Err(Loss::Shutdown));
            }
            connecting.as_mut().poll(cx)
        })
        .await
        .map(|greeted| greeted.socket)
    }

    fn end(&self, loss: &Loss) {
        let now = time::now();
        let mut state = self.state.borrow_mut();
        state.phase = Phase::Closed(loss.clone());
        let written = state.written_total;
        let waiters = std::mem::take(&mut state.waiters);
        state.out = Vec::new();
        drop(state);
        if let Some(ended) = self.ended.take() {
            ended(loss);
        }
        for waiting in waiters {
            waiting.waiter.lost(loss, waiting.offset < written, now);
        }
        let outlet = self.outlet.take();
        if let Some(outlet) = outlet {
            outlet.ended();
        }
    }

    fn poll(&self, cx: &mut Context<'_>, io: &mut Io) -> Poll<Loss> {
        self.task.set(Some(cx.waker().clone()));
        if self.closing.get() {
            return Poll::Ready(Loss::Shutdown);
        }
        if let Err(loss) = self.write(cx, io) {
            return Poll::Ready(loss);
        }
        for _ in 0..READS_PER_TURN {
            match io.read(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(loss)) => return Poll::Ready(loss),
                Poll::Ready(Ok(fresh)) => {
                    let now = time::now();
                    if let Err(loss) = self.dispatch(io, fresh, now) {
                        return Poll::Ready(loss);
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn write(&self, cx: &mut Context<'_>, io: &mut Io) -> Result<(), Loss> {
        let mut state = self.state.borrow_mut();
        while let Some(rest @ [_, ..]) = state.out.get(state.written..) {
            match Pin::new(&mut io.socket).poll_write(cx, rest) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(Loss::Closed),
                Poll::Ready(Ok(count)) => {
                    state.written += count;
                    state.written_total += count as u64;
                }
                Poll::Ready(Err(error)) => return Err(Loss::Io(error.to_string())),
            }
        }
        state.written = 0;
        if state.out.capacity() > KEEP {
            state.out = Vec::new();
        } else {
            state.out.clear();
        }
        Ok(())
    }

    /// Hands every frame that is now whole to its waiter. `fresh` is where the unscanned bytes begin.
    fn dispatch(&self, io: &mut Io, fresh: usize, now: Instant) -> Result<(), Loss> {
        let Io {
            scanner,
            input,
            parts,
            kind,
            ..
        } = io;
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
        // Large replies of shared connections go on while they arrive. Where frames may come that answer nobody, only a
        // whole frame tells whether it is one.
        if input.len() - begin > PART && *kind != b'>' && self.outlet.borrow().is_none() {
            let mut state = self.state.borrow_mut();
            let Some(front) = state.waiters.front_mut() else {
                return Err(odd());
            };
            front
                .waiter
                .part(*kind, input.get(begin..).unwrap_or_default(), *parts == 0, false, now);
            *parts += 1;
            begin = input.len();
        }
        input.drain(..begin);
        if input.is_empty() && input.capacity() > KEEP {
            *input = Vec::new();
        }
        Ok(())
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
            Taken::Done => drop(state.waiters.pop_front()),
            Taken::More => {}
            Taken::NotMine => {
                drop(state);
                let outlet = self.outlet.borrow().clone();
                match outlet {
                    Some(outlet) => outlet.frame(frame),
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
struct Io {
    socket: Socket,
    scanner: ReplyScanner,
    /// Bytes of the frame that is not whole yet. Invariant: the scanner has seen all of them.
    input: Vec<u8>,
    /// How many parts of the current reply were handed on.
    parts: usize,
    /// Type byte of the current reply.
    kind: u8,
}

impl Io {
    /// Reads once; gives the place where the new bytes begin.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Loss>> {
        let fresh = self.input.len();
        self.input.reserve(READ);
        let read = std::pin::pin!(self.socket.read_buf(&mut self.input)).poll(cx);
        match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(Loss::Io(error.to_string()))),
            Poll::Ready(Ok(0)) => Poll::Ready(Err(Loss::Closed)),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(fresh)),
        }
    }
}
