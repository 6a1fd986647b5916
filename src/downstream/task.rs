//! A session's task: read once, handle every request that is whole, write once.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Task, Poll};

use tokio::io::{AsyncReadExt, AsyncWrite};

use super::context::{Context, Peer};
use super::request::{Flow, Turn};
use super::session::{Session, nanos};
use super::socket::Socket;
use crate::metrics::{Direction, Disconnect};
use crate::resp::{RequestLimits, RequestScan, RequestScanner, encode};
use crate::time::{self, Instant};
use crate::upstream::Waiter;

/// Room for one read; Redis reads 16 KiB, large pipelines gain from more.
const READ: usize = 64 * 1024;
/// Unhandled bytes up to which a session that holds its requests goes on reading, so that it notices a client that left.
const HELD: usize = 64 * 1024;

/// Serves one client until it leaves.
pub async fn serve(context: Rc<Context>, socket: Socket, peer: Peer) {
    let seat = Seat(Session::enroll(&context, peer));
    let limits = &context.shared.settings.limits;
    let scanner = RequestScanner::new(RequestLimits {
        max_args: limits.max_args,
        max_bulk: limits.max_bulk.as_usize(),
        max_inline: limits.max_inline.as_usize(),
    });
    let mut io = Io {
        socket,
        scanner,
        input: Vec::new(),
        start: 0,
        borrowed: false,
        state: State::Hungry,
        eof: false,
        arrived: time::now(),
        unhandled: None,
    };
    let why = poll_fn(|task| poll(&seat.0, &mut io, task)).await;
    context.shared.metrics.client_disconnects.inc(why);
}

/// A session's place among the worker's; given back even when the task panics.
struct Seat(Rc<Session>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// What the task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// More bytes.
    Hungry,
    /// What the session has on its way.
    Holding,
}

struct Io {
    socket: Socket,
    scanner: RequestScanner,
    /// Bytes that are not handled yet begin at `start`.
    input: Vec<u8>,
    start: usize,
    /// `input` is the worker's buffer, for as long as it takes to handle what was read into it.
    borrowed: bool,
    state: State,
    /// The client will send nothing more.
    eof: bool,
    /// When the newest bytes were read.
    arrived: Instant,
    /// The same, until these bytes were handled: one clock reading serves both.
    unhandled: Option<Instant>,
}

fn poll(session: &Rc<Session>, io: &mut Io, task: &mut Task<'_>) -> Poll<Disconnect> {
    session.task.set(Some(task.waker().clone()));
    loop {
        if let Err(why) = handle(session, io) {
            return Poll::Ready(why);
        }
        match write(session, io, task) {
            Poll::Ready(Err(why)) => return Poll::Ready(why),
            Poll::Ready(Ok(true)) if io.state == State::Holding => continue,
            Poll::Ready(Ok(_)) | Poll::Pending => {}
        }
        if let Some(why) = finished(session, io) {
            return Poll::Ready(why);
        }
        if io.eof || !may_read(session, io) {
            return Poll::Pending;
        }
        match read(session, io, task) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(why)) => return Poll::Ready(why),
            Poll::Pending => {
                if session.context.draining.get() && is_idle(session) {
                    return Poll::Ready(Disconnect::Drain);
                }
                return Poll::Pending;
            }
        }
    }
}

/// Whether the session is over.
fn finished(session: &Session, io: &Io) -> Option<Disconnect> {
    let core = session.core.borrow();
    if let Some(why) = core.dead {
        return Some(why);
    }
    let waiting = core.pin.as_ref().is_some_and(super::pinned::Pin::is_waiting);
    if (io.eof || session.context.draining.get()) && waiting {
        // Nothing may be taken from a list, and nothing be listened to, for a client that left.
        return Some(if io.eof { Disconnect::Eof } else { Disconnect::Drain });
    }
    let answered = core.pipeline.pending() == 0 && core.pipeline.unsent().is_empty();
    match core.closing {
        Some(why) if answered => Some(why),
        None if io.eof && answered && io.state == State::Hungry => Some(Disconnect::Eof),
        _ => None,
    }
}

fn is_idle(session: &Session) -> bool {
    let core = session.core.borrow();
    core.pipeline.pending() == 0 && core.pipeline.unsent().is_empty()
}

fn may_read(session: &Session, io: &Io) -> bool {
    let core = session.core.borrow();
    match io.state {
        // Nothing more is handled, but that the client left must be noticed.
        _ if core.closing.is_some() => true,
        State::Hungry => true,
        State::Holding => io.input.len() - io.start < HELD,
    }
}

fn read(session: &Session, io: &mut Io, task: &mut Task<'_>) -> Poll<Result<(), Disconnect>> {
    let mut scratch = session.context.scratch.borrow_mut();
    scratch.clear();
    scratch.reserve(READ);
    let count = match std::pin::pin!(io.socket.read_buf(&mut *scratch)).poll(task) {
        Poll::Pending => return Poll::Pending,
        Poll::Ready(Err(_)) => return Poll::Ready(Err(Disconnect::Io)),
        Poll::Ready(Ok(0)) => {
            io.eof = true;
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(Ok(count)) => count,
    };
    session.context.recorder.client_bytes.add(Direction::In, count as u64);
    io.arrived = time::now();
    io.unhandled = Some(io.arrived);
    if io.start == io.input.len() {
        // Nothing is left over: the requests are handled where they were read, and nothing is copied or allocated.
        std::mem::swap(&mut io.input, &mut scratch);
        (io.start, io.borrowed) = (0, true);
    } else {
        if io.start >= io.input.len() / 2 {
            io.input.drain(..io.start);
            io.start = 0;
        }
        io.input.extend_from_slice(&scratch);
    }
    if io.input.len() - io.start > session.context.shared.settings.limits.client_query_buffer.as_usize() {
        return Poll::Ready(Err(Disconnect::Limit));
    }
    Poll::Ready(Ok(()))
}

/// Handles every request that is whole, until one must wait.
fn handle(session: &Rc<Session>, io: &mut Io) -> Result<(), Disconnect> {
    let mut core = session.core.borrow_mut();
    let may_go_home = core.pin.as_ref().is_some_and(super::pinned::Pin::is_free);
    if io.start == io.input.len() && core.sent_home.is_empty() && !may_go_home {
        io.state = State::Hungry;
        return Ok(());
    }
    let table = session.context.shared.table.load();
    let now = io.unhandled.take().unwrap_or_else(time::now);
    let mut turn = Turn::new(session, &mut core, &table, now);
    // At once, not with the next request: a client may think for long, and others need connections.
    turn.go_home();
    turn.send_refused_fetches();
    let outcome = requests(&mut turn, io);
    if turn.core.closing.is_some() {
        io.start = io.input.len();
    }
    let (lost, now) = (std::mem::take(&mut turn.lost), turn.now);
    drop(core);
    for (waiter, loss) in lost {
        waiter.lost(&loss, false, now);
    }
    if io.borrowed || io.start == io.input.len() {
        // An idle session holds no buffer, and one with half a request a small one.
        let left = io.input.get(io.start..).unwrap_or_default().to_vec();
        let buffer = std::mem::replace(&mut io.input, left);
        io.start = 0;
        if std::mem::take(&mut io.borrowed) {
            *session.context.scratch.borrow_mut() = buffer;
        }
    }
    outcome
}

fn requests(turn: &mut Turn<'_>, io: &mut Io) -> Result<(), Disconnect> {
    let limits = &turn.context.shared.settings.limits;
    let (most_bytes, most_pending) = (limits.client_output_buffer.as_usize(), limits.pipeline_depth);
    io.state = State::Hungry;
    while turn.core.closing.is_none() {
        if turn.core.pipeline.bytes() >= most_bytes || turn.core.pipeline.pending() >= most_pending {
            io.state = State::Holding;
            return Ok(());
        }
        let bytes = io.input.get(io.start..).unwrap_or_default();
        let consumed = match io.scanner.scan(bytes) {
            Ok(RequestScan::Incomplete) => return Ok(()),
            Ok(RequestScan::Skip { consumed }) => consumed,
            Ok(RequestScan::Complete { consumed }) => match turn.handle(&io.scanner.request(bytes)) {
                Flow::Next => consumed,
                Flow::Hold => {
                    io.scanner.reset();
                    io.state = State::Holding;
                    return Ok(());
                }
                Flow::Close => return Err(Disconnect::Protocol),
            },
            Err(error) => {
                // What came before it is answered first, then the error, then nothing more.
                let mut text = b"ERR ".to_vec();
                text.extend_from_slice(&error.reply());
                turn.core.pipeline.ready(false, |out| encode::error(out, &text));
                turn.core.closing = Some(Disconnect::Protocol);
                return Ok(());
            }
        };
        io.start += consumed;
    }
    Ok(())
}

/// Writes what is ready; true: something was written, so that a session that held back may go on.
fn write(session: &Session, io: &mut Io, task: &mut Task<'_>) -> Poll<Result<bool, Disconnect>> {
    let mut core = session.core.borrow_mut();
    let core = &mut *core;
    let (mut written, mut blocked) = (0, false);
    while !core.pipeline.unsent().is_empty() {
        match Pin::new(&mut io.socket).poll_write(task, core.pipeline.unsent()) {
            Poll::Pending => {
                blocked = true;
                break;
            }
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Disconnect::Io)),
            Poll::Ready(Ok(count)) => {
                core.pipeline.sent(count);
                written += count;
            }
        }
    }
    if written > 0 {
        session
            .context
            .recorder
            .client_bytes
            .add(Direction::Out, written as u64);
    }
    if !core.answered.is_empty() {
        let took = nanos(time::now().since(io.arrived));
        for (command, outcome, count) in core.answered.drain(..) {
            session.context.recorder.record_n(command, outcome, took, count);
        }
    }
    if blocked {
        Poll::Pending
    } else {
        Poll::Ready(Ok(written > 0))
    }
}
