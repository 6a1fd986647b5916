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
use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::handshake::{self, Handshake, Peer};
use super::inbound::Io;
use super::loss::Loss;
use super::outbound::Outbound;
use super::socket::Socket;
use super::throttle::Admission;
use super::waiter::{Ended, Outlet, Room, Waiter, Watcher};
use crate::metrics::{Direction, WorkerRecorder};
use crate::resp::ReplyLimits;
use crate::time::{self, Instant};

/// Reads in a row before other tasks get their turn.
const READS_PER_TURN: usize = 8;

pub(super) struct Waiting<W> {
    pub(super) waiter: W,
    /// How many bytes had been queued on the connection before this request.
    pub(super) offset: u64,
    since: Instant,
    /// `None`: it may take as long as it likes (BLPOP).
    pub(super) limit: Option<Duration>,
    /// It was told that its reply is late.
    told: bool,
}

pub(super) struct State<W> {
    out: Outbound,
    pub(super) waiters: VecDeque<Waiting<W>>,
    /// Since when nothing is read, because the waiter in front has no room.
    stalled: Option<Instant>,
    /// When part of a reply was handed on, or a stall ended: until then nobody's reply was late.
    pub(super) progress: Instant,
    /// It has answered a request.
    pub(super) useful: bool,
    pub(super) phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Ready,
    Closed(Loss),
}

pub(super) struct Inner<W> {
    pub(super) state: RefCell<State<W>>,
    /// Counts bytes.
    pub(super) recorder: Arc<WorkerRecorder>,
    /// Nobody new shares it; a shared one closes once all are answered.
    pub(super) retired: Cell<bool>,
    /// It goes to where the node is no more; who has it may use it to the end.
    pub(super) outdated: Cell<bool>,
    /// The connection's task, woken when there is something to write or it is to close.
    task: Cell<Option<Waker>>,
    /// Woken when everything is written.
    writer: Cell<Option<Waker>>,
    /// It is to close, and why.
    pub(super) closing: RefCell<Option<Loss>>,
    /// Who it is to the server, once that is known.
    peer: Cell<Option<Peer>>,
    /// When the handshake had succeeded.
    up_since: Cell<Option<Instant>>,
    /// Takes frames that answer nobody; without it they close the connection, unless they are RESP3 pushes.
    pub(super) outlet: RefCell<Option<Rc<dyn Outlet>>>,
    pub(super) watcher: Box<dyn Watcher>,
}

/// A handle on one connection; clones are the same connection. Only usable on the thread that made it.
pub struct Connection<W>(pub(super) Rc<Inner<W>>);

impl<W> Clone for Connection<W> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<W: Waiter + 'static> Connection<W> {
    /// Begins to connect; requests may be sent at once and wait for the handshake.
    ///
    /// # Panics
    /// Outside a tokio `LocalSet`.
    pub fn open(handshake: Handshake, recorder: Arc<WorkerRecorder>, watcher: impl Watcher + 'static) -> Self {
        Self::open_when(Admission::Now, handshake, recorder, watcher)
    }

    /// The same, and begins when it is admitted.
    pub(super) fn open_when(
        admission: Admission,
        handshake: Handshake,
        recorder: Arc<WorkerRecorder>,
        watcher: impl Watcher + 'static,
    ) -> Self {
        let state = State {
            out: Outbound::default(),
            waiters: VecDeque::new(),
            stalled: None,
            progress: Instant::ZERO,
            useful: false,
            phase: Phase::Connecting,
        };
        let inner = Rc::new(Inner {
            state: RefCell::new(state),
            recorder,
            retired: Cell::new(false),
            outdated: Cell::new(false),
            task: Cell::new(None),
            writer: Cell::new(None),
            closing: RefCell::new(None),
            peer: Cell::new(None),
            up_since: Cell::new(None),
            outlet: RefCell::new(None),
            watcher: Box::new(watcher),
        });
        let connection = Self(Rc::clone(&inner));
        let unwinding = EndsOnPanic(Rc::clone(&inner));
        tokio::task::spawn_local(async move {
            inner.run(admission, handshake).await;
            drop(unwinding);
        });
        connection
    }

    /// Keeps every request until it is answered, so that its waiter may refuse the answer ([`super::Taken::Refused`]).
    pub fn keep_requests(&self) {
        self.0.state.borrow_mut().out.keep_all();
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
        let idle = state.out.unwritten().is_empty();
        let offset = state.out.end();
        state.out.push(frame);
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

    /// Queues more bytes of the request that was sent last; nothing when the connection has ended.
    pub fn send_more(&self, bytes: &[u8]) {
        let mut state = self.0.state.borrow_mut();
        if matches!(state.phase, Phase::Closed(_)) {
            return;
        }
        let idle = state.out.unwritten().is_empty();
        state.out.push(bytes);
        drop(state);
        if idle {
            self.0.wake();
        }
    }

    /// From `now` on, the reply to the request that was sent last may take as long as `limit`.
    pub fn limit_last(&self, limit: Option<Duration>, now: Instant) {
        if let Some(last) = self.0.state.borrow_mut().waiters.back_mut() {
            (last.limit, last.since) = (limit, now);
        }
    }

    /// Bytes that wait to be written.
    pub fn unwritten(&self) -> usize {
        self.0.state.borrow().out.unwritten().len()
    }

    /// Wakes `task` once all is written, or the connection has ended.
    pub fn when_written(&self, task: Option<Waker>) {
        self.0.writer.set(task);
    }

    /// Sets who takes frames that answer nobody and hears of the end.
    pub fn set_outlet(&self, outlet: Option<Rc<dyn Outlet>>) {
        *self.0.outlet.borrow_mut() = outlet;
    }

    /// Which client it is to the server; `None` until it is connected, or when the server does not tell.
    pub fn peer_id(&self) -> Option<i64> {
        self.0.peer.get().map(|peer| peer.id)
    }

    /// Since when it is connected; `None`: it is not yet.
    pub fn up_since(&self) -> Option<Instant> {
        self.0.up_since.get()
    }

    /// Bytes of requests so far.
    pub fn asked(&self) -> u64 {
        self.0.state.borrow().out.end()
    }

    /// Requests that wait for their replies.
    pub fn in_flight(&self) -> usize {
        self.0.state.borrow().waiters.len()
    }

    /// Whether nothing has come for so long that is waited for, and that need not take its time.
    pub fn is_silent(&self, limit: Duration, now: Instant) -> bool {
        let state = self.0.state.borrow();
        let first = state.waiters.front().filter(|waiting| waiting.limit.is_some());
        first.is_some_and(|waiting| now.since(waiting.since.max(state.progress)) > limit)
    }

    /// Tells waiters whose replies are late, or for whom nothing is read, and closes a connection whose oldest reply is
    /// five times too late: behind it nothing can be answered. Call it about ten times a second.
    pub fn check_late(&self, now: Instant) {
        let mut state = self.0.state.borrow_mut();
        if let Some(since) = state.stalled {
            return state.tell_stalled(now.since(since));
        }
        let progress = state.progress;
        let mut hopeless = None;
        for (index, waiting) in state.waiters.iter_mut().enumerate() {
            let Some(limit) = waiting.limit else { continue };
            let waited = now.since(waiting.since.max(progress));
            if waited <= limit {
                // Younger ones behind it may have a shorter limit, but all limits of a connection are the same setting.
                break;
            }
            if index == 0 && waited > limit * 5 {
                hopeless = Some(Loss::Timeout(limit * 5));
            }
            if !std::mem::replace(&mut waiting.told, true) {
                waiting.waiter.late(limit, now);
            }
        }
        drop(state);
        if let Some(loss) = hopeless {
            self.close_because(loss);
        }
    }
}

/// Tells everybody who waits on a connection that nobody will read from it any more, when its task panics.
struct EndsOnPanic<W: Waiter>(Rc<Inner<W>>);

impl<W: Waiter> Drop for EndsOnPanic<W> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a connection's task panicked; the connection was closed");
            self.0.end(&Loss::Protocol("nearhit made a mistake".into()));
        }
    }
}

impl<W: Waiter> State<W> {
    /// The bytes of the request that was in front, which begins at `offset`, if they are still here.
    pub(super) fn request(&self, offset: u64) -> Option<&[u8]> {
        let end = self.waiters.front().map_or(self.out.end(), |next| next.offset);
        self.out.between(offset, end)
    }

    /// What is answered need not be asked again.
    fn forget_answered(&mut self) {
        let oldest = self.waiters.front().map_or(self.out.end(), |front| front.offset);
        self.out.answered(oldest);
    }

    /// Whether somebody waits behind the one in front.
    fn others_wait(&self) -> bool {
        let mut waiters = self.waiters.iter();
        waiters
            .next()
            .is_some_and(|front| waiters.any(|behind| !behind.waiter.is_same(&front.waiter)))
    }

    fn tell_stalled(&mut self, silence: Duration) {
        let others = self.others_wait();
        if let Some(front) = self.waiters.front_mut() {
            front.waiter.stalled(silence, others);
        }
    }
}

impl<W: Waiter> Inner<W> {
    pub(super) fn wake(&self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    async fn run(self: Rc<Self>, admission: Admission, handshake: Handshake) {
        let loss = match self.connected(admission, &handshake).await {
            Ok(socket) => {
                self.state.borrow_mut().phase = Phase::Ready;
                self.up_since.set(Some(time::now()));
                self.watcher.ready();
                let limits = ReplyLimits {
                    max_depth: handshake.max_reply_depth,
                    ..ReplyLimits::default()
                };
                let mut io = Io::new(socket, limits);
                poll_fn(|cx| self.poll(cx, &mut io)).await
            }
            Err(loss) => loss,
        };
        self.end(&loss);
    }

    /// The handshake, unless the connection is closed first.
    async fn connected(&self, admission: Admission, handshake: &Handshake) -> Result<Socket, Loss> {
        let mut connecting = Box::pin(async {
            admission.wait().await?;
            handshake::connect(handshake).await
        });
        poll_fn(|cx| {
            self.task.set(Some(cx.waker().clone()));
            if let Some(loss) = self.closing.borrow().clone() {
                return Poll::Ready(Err(loss));
            }
            connecting.as_mut().poll(cx)
        })
        .await
        .map(|greeted| {
            self.peer.set(greeted.peer);
            greeted.socket
        })
    }

    fn end(&self, loss: &Loss) {
        let now = time::now();
        let mut state = self.state.borrow_mut();
        state.phase = Phase::Closed(loss.clone());
        let (out, useful) = (std::mem::take(&mut state.out), state.useful);
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        self.watcher.ended(loss, useful);
        let ends: Vec<_> = waiters
            .iter()
            .skip(1)
            .map(|next| next.offset)
            .chain([out.end()])
            .collect();
        for (waiting, end) in waiters.into_iter().zip(ends) {
            waiting.waiter.lost(&Ended {
                loss,
                sent: waiting.offset < out.written(),
                peer: self.peer.get(),
                frame: out.between(waiting.offset, end),
                now,
            });
        }
        let outlet = self.outlet.take();
        if let Some(outlet) = outlet {
            outlet.ended(loss);
        }
    }

    fn poll(&self, cx: &mut Context<'_>, io: &mut Io) -> Poll<Loss> {
        self.task.set(Some(cx.waker().clone()));
        if let Some(loss) = self.closing.borrow().clone() {
            return Poll::Ready(loss);
        }
        if io.hung_up.is_none()
            && let Err(loss) = self.write(cx, io)
        {
            return Poll::Ready(loss);
        }
        for _ in 0..READS_PER_TURN {
            if self.is_stalled(cx.waker()) {
                return Poll::Pending;
            }
            let (fresh, read_at) = match io.withheld.take() {
                Some(withheld) => withheld,
                None => match io.read(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(loss)) => return Poll::Ready(io.hung_up.take().unwrap_or(loss)),
                    Poll::Ready(Ok(fresh)) => (fresh, time::now()),
                },
            };
            if !self.may_hear(read_at, cx.waker()) {
                io.withheld = Some((fresh, read_at));
                return Poll::Pending;
            }
            if let Err(loss) = self.dispatch(io, fresh, read_at) {
                return Poll::Ready(loss);
            }
            self.state.borrow_mut().forget_answered();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn may_hear(&self, read_at: Instant, task: &Waker) -> bool {
        let outlet = self.outlet.borrow();
        outlet.as_ref().is_none_or(|outlet| outlet.may_hear(read_at, task))
    }

    /// Whether nothing may be read, because the waiter in front has no room.
    fn is_stalled(&self, task: &Waker) -> bool {
        let mut state = self.state.borrow_mut();
        let room = state
            .waiters
            .front_mut()
            .map_or(Room::Open, |front| front.waiter.room(task));
        if matches!(room, Room::Scarce | Room::Full) && !self.retired.replace(true) {
            self.watcher.retired();
        }
        let stalled = match room {
            Room::Open => false,
            Room::Scarce => !state.others_wait(),
            Room::None | Room::Full => true,
        };
        match (stalled, state.stalled) {
            (true, None) => state.stalled = Some(time::now()),
            (false, Some(_)) => {
                state.stalled = None;
                state.progress = time::now();
            }
            _ => {}
        }
        stalled
    }

    fn write(&self, cx: &mut Context<'_>, io: &mut Io) -> Result<(), Loss> {
        let mut state = self.state.borrow_mut();
        while let rest @ [_, ..] = state.out.unwritten() {
            match Pin::new(&mut io.socket).poll_write(cx, rest) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(Loss::Closed),
                Poll::Ready(Ok(count)) => {
                    state.out.wrote(count);
                    self.recorder.upstream_bytes.add(Direction::Out, count as u64);
                }
                // A server that refuses a request in the middle says why and closes; that is still read.
                Poll::Ready(Err(error)) if matches!(error.kind(), ConnectionReset | BrokenPipe) => {
                    io.hung_up = Some(Loss::Io(error.to_string()));
                    return Ok(());
                }
                Poll::Ready(Err(error)) => return Err(Loss::Io(error.to_string())),
            }
        }
        // Where the socket did not take all of what TLS made of it, it is not written yet; reading would go on with it, but
        // nothing is read while the waiter in front has no room.
        if Pin::new(&mut io.socket).poll_flush(cx).is_pending() {
            return Ok(());
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        Ok(())
    }
}
