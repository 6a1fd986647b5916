//! A session's task: read once, handle every request that is whole, write once.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Task, Poll};

use tokio::io::AsyncWrite;

use super::context::{Context, Peer};
use super::request::{Flow, Turn};
use super::session::{Session, nanos};
use super::socket::Socket;
use super::upload::{LARGE_ARGUMENT, Passed};
use crate::metrics::{Direction, Disconnect};
use crate::resp::{ProtocolError, RequestLimits, RequestScan, RequestScanner, encode};
use crate::time::{self, Instant};

/// Room for one read; Redis reads 16 KiB, large pipelines gain from more.
const READ: usize = 64 * 1024;
/// Unhandled bytes up to which a session that holds its requests goes on reading, so that it notices a client that left.
const HELD: usize = 64 * 1024;

/// Turns of the event loop that ready replies wait for others of their batch, and how many bytes of them do.
const MOST_TURNS: u8 = 4;
const HELD_BACK: usize = 16 * 1024;

/// Serves one client until it leaves.
pub async fn serve(context: Rc<Context>, socket: Socket, peer: Peer) {
    let seat = Seat(Session::enroll(
        &context,
        Peer {
            fd: socket.fd(),
            ..peer
        },
    ));
    let scanner = RequestScanner::new(request_limits(&context));
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
        turns: 0,
    };
    let why = poll_fn(|task| poll(&seat.0, &mut io, task)).await;
    context.shared.metrics.client_disconnects.inc(why);
}

fn request_limits(context: &Context) -> RequestLimits {
    let limits = &context.shared.settings.limits;
    RequestLimits {
        max_args: limits.max_args,
        max_bulk: limits.max_bulk.as_usize(),
        max_inline: limits.max_inline.as_usize(),
    }
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
    /// How many turns of the event loop what is ready has waited for what is not.
    turns: u8,
}

fn poll(session: &Rc<Session>, io: &mut Io, task: &mut Task<'_>) -> Poll<Disconnect> {
    session.task.set(Some(task.waker().clone()));
    if session.is_killed() {
        return Poll::Ready(Disconnect::Kill);
    }
    loop {
        if let Err(why) = handle(session, io) {
            return Poll::Ready(why);
        }
        match write_batch(session, io, task) {
            Poll::Ready(Err(why)) => return Poll::Ready(why),
            Poll::Ready(Ok(true)) if io.state == State::Holding || session.has_lines() => continue,
            Poll::Ready(Ok(_)) | Poll::Pending => {}
        }
        session.resume_upstream();
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
    if io.eof && core.upload.is_some() && io.state == State::Hungry {
        // The rest will not come, so it never was a request.
        return Some(Disconnect::Eof);
    }
    if (io.eof || session.context.draining.get()) && core.is_waiting() {
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
        // Who waits for an element must not get one once it has left, whatever it sent before; how much that may be,
        // `client_query_buffer` says.
        State::Holding => io.input.len() - io.start < HELD || core.is_waiting(),
    }
}

fn read(session: &Session, io: &mut Io, task: &mut Task<'_>) -> Poll<Result<(), Disconnect>> {
    let mut scratch = session.context.scratch.borrow_mut();
    scratch.clear();
    scratch.reserve(READ);
    let count = match io.socket.poll_recv(task, &mut scratch) {
        Poll::Pending => return Poll::Pending,
        Poll::Ready(Err(_)) => return Poll::Ready(Err(Disconnect::Io)),
        Poll::Ready(Ok(0)) => {
            io.eof = true;
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(Ok(count)) => count,
    };
    session.context.recorder.client_bytes.add(Direction::In, count as u64);
    session.active.set(true);
    io.arrived = time::now();
    session.live.saw(io.arrived);
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
    session.take_lines(&mut core);
    let may_go_home = core.pin.as_ref().is_some_and(super::pin::Pin::is_free);
    if io.start == io.input.len() && core.sent_home.is_empty() && core.hosts.is_empty() && !may_go_home {
        io.state = State::Hungry;
        session.show(&core, 0, 0);
        return Ok(());
    }
    let table = session.context.shared.table.load();
    let now = io.unhandled.take().unwrap_or_else(time::now);
    let mut turn = Turn::new(session, &mut core, &table, now);
    // At once, not with the next request: a client may think for long, and others need connections.
    turn.go_home();
    turn.ask_again();
    turn.host();
    let outcome = requests(&mut turn, io);
    if turn.core.closing.is_some() {
        io.start = io.input.len();
    }
    let (lost, now) = (std::mem::take(&mut turn.lost), turn.now);
    session.show(&core, io.input.len() - io.start, 0);
    drop(core);
    for (waiter, loss) in lost {
        waiter.not_sent(&loss, now);
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

/// What a look at the input came to.
enum Step {
    /// On to what follows.
    On,
    /// There is nothing whole.
    Starve,
    /// What is there must wait.
    Hold,
}

fn requests(turn: &mut Turn<'_>, io: &mut Io) -> Result<(), Disconnect> {
    let limits = &turn.context.shared.settings.limits;
    let (most_bytes, most_pending) = (limits.client_output_buffer.as_usize(), limits.pipeline_depth);
    let era = turn.context.pool.borrow().era();
    io.state = State::Hungry;
    while turn.core.closing.is_none() {
        let step = if turn.core.upload.is_some() {
            upload(turn, io)
        } else if turn.core.may_go_on(most_bytes, era) && turn.core.pipeline.pending() < most_pending && turn.is_taken()
        {
            request(turn, io)?
        } else {
            Step::Hold
        };
        match step {
            Step::On => {}
            Step::Starve => break,
            Step::Hold => {
                io.state = State::Holding;
                break;
            }
        }
    }
    Ok(())
}

fn request(turn: &mut Turn<'_>, io: &mut Io) -> Result<Step, Disconnect> {
    let bytes = io.input.get(io.start..).unwrap_or_default();
    io.scanner.set_authenticated(turn.core.is_authenticated());
    let consumed = match io.scanner.scan(bytes) {
        Ok(RequestScan::Skip { consumed }) => consumed,
        Ok(RequestScan::Complete { consumed }) => match turn.handle(&io.scanner.request(bytes)) {
            Flow::Next => consumed,
            Flow::Hold => {
                io.scanner.reset();
                return Ok(Step::Hold);
            }
            Flow::Close => return Err(Disconnect::Protocol),
        },
        Ok(RequestScan::Incomplete) => match begin_upload(turn, &io.scanner, bytes) {
            Some(Flow::Next) => {
                io.scanner.reset();
                bytes.len()
            }
            Some(_) => return Ok(Step::Hold),
            None => return Ok(Step::Starve),
        },
        Err(ProtocolError::UnauthenticatedMultibulk | ProtocolError::UnauthenticatedBulk)
            if turn.core.pipeline.pending() > 0 =>
        {
            // The client may have said who it is, and it is not answered yet.
            io.scanner.reset();
            return Ok(Step::Hold);
        }
        Err(error) => {
            // What came before it is answered first, then the error, then nothing more.
            let mut text = b"ERR ".to_vec();
            text.extend_from_slice(&error.reply());
            turn.core.pipeline.ready(false, |out| encode::error(out, &text));
            turn.core.closing = Some(Disconnect::Protocol);
            0
        }
    };
    io.start += consumed;
    Ok(Step::On)
}

/// Passes on what came of a request that is not gathered.
fn upload(turn: &mut Turn<'_>, io: &mut Io) -> Step {
    match turn.upload(io.input.get(io.start..).unwrap_or_default()) {
        Passed::Part(0) => Step::Starve,
        Passed::Whole(count) | Passed::Part(count) => {
            io.start += count;
            Step::On
        }
        Passed::Wait => Step::Hold,
    }
}

/// Begins to pass a request on that is not all here; `None`: it is gathered.
fn begin_upload(turn: &mut Turn<'_>, scanner: &RequestScanner, bytes: &[u8]) -> Option<Flow> {
    if scanner.wanted() < LARGE_ARGUMENT {
        return None;
    }
    let (request, unfinished, missing) = scanner.begun(bytes)?;
    turn.begin_upload(&request, unfinished, missing, request_limits(turn.context))
}

/// Writes what is ready, or waits a few turns of the event loop for what else was asked with it: a batch that is partly
/// answered from memory leaves in one write then, not in three. A turn of a worker that has nothing else to do takes
/// about a microsecond, so a server that is slow or far away holds nothing back. With four turns a worker under full
/// load answered 14 % more requests of a mixed batch of sixteen, and with one connection nothing changed.
fn write_batch(session: &Session, io: &mut Io, task: &mut Task<'_>) -> Poll<Result<bool, Disconnect>> {
    let (ready, pending) = {
        let core = session.core.borrow();
        (core.pipeline.unsent().len(), core.pipeline.pending())
    };
    if 0 < ready && ready <= HELD_BACK && pending > 0 && io.turns < MOST_TURNS {
        io.turns += 1;
        // Wakes this task when the event loop has been around once.
        if std::pin::pin!(tokio::task::yield_now()).poll(task).is_pending() {
            return Poll::Pending;
        }
    }
    io.turns = 0;
    write(session, io, task)
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
        session.active.set(true);
        session.live.saw(session.context.tick.get().max(io.arrived));
        core.written += written as u64;
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
        session.show(core, io.input.len() - io.start, core.pipeline.bytes());
        Poll::Pending
    } else {
        Poll::Ready(Ok(written > 0))
    }
}
