//! Who hears of what happens on a connection.

use std::task::Waker;
use std::time::Duration;

use super::handshake::Peer;
use super::loss::Loss;
use crate::time::Instant;

/// What a waiter did with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was its reply; the waiter is done.
    Done,
    /// It was part of what it waits for, and more frames follow (SUBSCRIBE a b).
    More,
    /// It answers nobody (a push, a message, a MONITOR line); the waiter goes on waiting.
    NotMine,
    /// It says that the server has not run the request, which is to be sent elsewhere: the waiter gets it back
    /// ([`Waiter::refused`]).
    Refused,
}

/// Whether a waiter can take more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It can.
    Open,
    /// It cannot, and nobody else uses the connection.
    None,
    /// It should not have more, but can, if others wait behind it. Nobody new should wait there.
    Scarce,
    /// It cannot. Nobody new should wait behind it.
    Full,
}

/// Who waits for a reply.
pub trait Waiter {
    /// A whole frame arrived; `kind` is its type byte. `now` was read after the bytes were.
    fn frame(&mut self, kind: u8, frame: &[u8], now: Instant) -> Taken;
    /// Whether a reply of this kind may come in parts if it is too large to gather; not when only the whole frame tells
    /// what it is.
    fn takes_parts(&self, kind: u8) -> bool;
    /// Part of a reply too large to gather arrived; `first` and `last` tell where it stands.
    fn part(&mut self, kind: u8, part: &[u8], first: bool, last: bool, now: Instant);
    /// Whether it can take more bytes. If not, nothing is read until it wakes `task`.
    fn room(&mut self, task: &Waker) -> Room;
    /// It has had no room for `silence`. `others`: somebody else waits behind it.
    fn stalled(&mut self, silence: Duration, others: bool);
    /// Whether both would be held up by the same reader.
    fn is_same(&self, other: &Self) -> bool;
    /// No reply came within `after`. One may still come, and will be handed to this waiter.
    fn late(&mut self, after: Duration, now: Instant);
    /// The waiter called the reply [`Taken::Refused`]. `request`: what it answers, if that is still known; it is where
    /// [`super::Connection::keep_requests`] was said.
    fn refused(self, reply: &[u8], request: Option<&[u8]>, now: Instant);
    /// The connection is gone.
    fn lost(self, ended: &Ended<'_>);
}

/// What became of a request whose connection is gone.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// Why.
    pub loss: &'a Loss,
    /// Bytes of the request may have reached the server.
    pub sent: bool,
    /// Which client the connection was to the server, if it told.
    pub peer: Option<Peer>,
    /// The request, if it is still known.
    pub frame: Option<&'a [u8]>,
    /// When.
    pub now: Instant,
}

/// Who keeps an eye on a connection. Each is called once at most.
pub trait Watcher {
    /// The handshake has succeeded.
    fn ready(&self);
    /// The first request was answered.
    fn useful(&self);
    /// It waits for a reader, and nobody new shares it.
    fn retired(&self);
    /// The connection has ended; `useful` tells whether it ever answered a request.
    fn ended(&self, loss: &Loss, useful: bool);
}

/// Who takes what answers nobody, on a connection where such frames may come.
pub trait Outlet {
    /// Whether what was read at `read_at` may be handled yet. If not, nothing more is read until it wakes `task`.
    fn may_hear(&self, _read_at: Instant, _task: &Waker) -> bool {
        true
    }
    /// Whether who has the connection may go on with it to the end, although the node is elsewhere: they do not listen for
    /// something that will not be said there any more.
    fn may_finish(&self) -> bool {
        false
    }
    /// A frame that answers nobody. `now` was read after it was.
    fn frame(&self, frame: &[u8], now: Instant);
    /// The connection has ended, and every waiter was told.
    fn ended(&self, loss: &Loss);
}
