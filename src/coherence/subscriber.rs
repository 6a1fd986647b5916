//! Invalidations that come on another connection than the one that fills: redirected tracking, tracking by prefixes,
//! keyspace notifications.
//!
//! The two sockets have no common order. That is safe because a flight's lease is revoked by name: an invalidation that
//! arrives before the reply it belongs to revokes the lease, one that arrives after it kills the entry. What the filling
//! connection answers proves nothing about invalidations; this connection's PONGs do. Where the filling connection is the
//! one that tracks, they prove nothing about what it is not told any more: a server that has closed that connection has
//! forgotten its keys and says so to nobody. Then the lease reaches only as far as both have answered.
//!
//! For the same reason a fetched reply waits here for the PONG to a PING sent after it was read: in front of that PONG is
//! every invalidation of what was written before the reply. Without that a client could be told of a new state and then
//! be served older entries, of the same key's other commands or of keys written together with it.
//!
//! Tracking by prefixes has this form too, although one connection could do both: Redis sends its invalidations at the end
//! of an event loop's turn, so on one connection they would come behind replies, and PONGs, of the same turn. What was
//! acknowledged to anybody before a PING was sent is in front of its PONG all the same.

use std::collections::VecDeque;
use std::sync::Arc;

use super::fence::Fence;
use super::frames::{Frame, Frames};
use super::near_cache::NearCache;
use super::push::{apply_invalidation, apply_push, flush_by_server, invalidate};
use super::stream::Stream;
use crate::mutants::{Mutant, mutated};
use crate::resp::{Value, Version, encode};
use crate::time::Instant;

/// The channel Redis publishes redirected invalidations on.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// How a subscribed connection is told of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// RESP2, subscribed to `__redis__:invalidate`: the filling connection tracks.
    Redirect,
    /// RESP3 pushes: this connection tracks prefixes.
    Broadcast,
    /// RESP2, subscribed to `__keyspace@*__:*`.
    Keyspace,
}

/// Messages larger than this are taken as "everything changed".
const FRAME_LIMIT: usize = 1 << 20;

/// One incarnation of a subscribed connection.
pub struct Subscriber<W> {
    cache: Arc<NearCache<W>>,
    stream: Arc<Stream>,
    dialect: Dialect,
    frames: Frames,
    pings: VecDeque<Instant>,
    last_sent: Instant,
    /// What was read from the filling connection, and when, until this connection has caught up.
    held: VecDeque<(Instant, Vec<u8>)>,
    /// Send time of the newest PING answered here.
    proved: Instant,
}

impl<W> Subscriber<W> {
    /// The state of a connection whose subscription was confirmed.
    pub fn new(cache: Arc<NearCache<W>>, stream: Arc<Stream>) -> Self {
        Self::speaking(Dialect::Redirect, cache, stream)
    }

    /// The same in another dialect.
    pub fn speaking(dialect: Dialect, cache: Arc<NearCache<W>>, stream: Arc<Stream>) -> Self {
        Self {
            cache,
            stream,
            dialect,
            frames: Frames::new(FRAME_LIMIT),
            pings: VecDeque::new(),
            last_sent: Instant::ZERO,
            held: VecDeque::new(),
            proved: Instant::ZERO,
        }
    }

    /// Holds `bytes` of the filling connection back, and asks for the proof they wait for. `now` was read after them.
    pub fn hold(&mut self, bytes: &[u8], now: Instant, out: &mut Vec<u8>) {
        self.held.push_back((now, bytes.to_vec()));
        self.ping(now, out);
    }

    /// The next bytes of the filling connection whose invalidations have all been handled.
    pub fn release(&mut self) -> Option<Vec<u8>> {
        let proved = self.proved;
        self.held
            .pop_front_if(|(read_at, _)| *read_at <= proved || mutated(Mutant::RedirectUnheld))
            .map(|(_, bytes)| bytes)
    }

    /// Appends a PING whose answer renews the lease.
    pub fn ping(&mut self, now: Instant, out: &mut Vec<u8>) {
        encode::request(out, [b"PING".as_slice()]);
        self.pings.push_back(now);
        self.last_sent = now;
    }

    /// Keeps the lease alive: sends a PING when nothing was sent for a third of the staleness bound.
    ///
    /// # Errors
    /// [`Fence::Silent`] when the oldest PING was not answered within twice the bound.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), Fence> {
        let bound = self.cache.limits.max_staleness;
        match self.pings.front() {
            Some(&sent_at) if now.since(sent_at) > bound * 2 => return Err(Fence::Silent.counted(&self.cache)),
            Some(_) => {}
            None if now.since(self.last_sent) >= bound / 3 => self.ping(now, out),
            None => {}
        }
        Ok(())
    }

    /// Handles what was read, in order.
    ///
    /// # Errors
    /// Why the connection, and the filling one with it, must be given up.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), Fence> {
        self.handle(bytes).map_err(|fence| fence.counted(&self.cache))
    }

    fn handle(&mut self, mut bytes: &[u8]) -> Result<(), Fence> {
        loop {
            let next = self
                .frames
                .next(bytes)
                .map_err(|error| Fence::Protocol(error.to_string()))?;
            let Some((_, frame, taken)) = next else { return Ok(()) };
            bytes = bytes.get(taken..).unwrap_or_default();
            let Frame::Whole(frame) = frame else {
                flush_by_server(&self.cache, &self.stream);
                continue;
            };
            // Some speak RESP2, but the null of a flush is spelled in the protocol of the connection that fills (`_` on
            // 7.0.15), so both are read.
            let Ok(value) = Value::decode(frame, Version::V3) else {
                return Err(Fence::Protocol("a message that cannot be read".into()));
            };
            match (self.dialect, value) {
                (Dialect::Broadcast, Value::Push(items)) => apply_push(&self.cache, &self.stream, items)?,
                (Dialect::Broadcast, Value::Simple(pong)) if *pong == *b"PONG" => self.pong()?,
                // A user who may not PING: the answer stands behind every invalidation just the same.
                (Dialect::Broadcast, Value::Error(text)) if text.starts_with(b"NOPERM ") => self.pong()?,
                (Dialect::Redirect | Dialect::Keyspace, Value::Array(items)) => self.message(items)?,
                _ => return Err(Fence::Protocol("a message of another kind".into())),
            }
        }
    }

    fn message(&mut self, items: Vec<Value>) -> Result<(), Fence> {
        let mut items = items.into_iter();
        let mut next = || items.next();
        let kind = next();
        match (self.dialect, kind.as_ref().and_then(Value::as_bytes)) {
            (Dialect::Redirect, Some(b"message")) if next().as_ref().and_then(Value::as_bytes) == Some(CHANNEL) => {
                apply_invalidation(&self.cache, &self.stream, next())
            }
            // pmessage, pattern, channel, event: whatever the event is, it is about the key.
            (Dialect::Keyspace, Some(b"pmessage")) => {
                match items.nth(1).as_ref().and_then(Value::as_bytes).and_then(key_of) {
                    Some(key) => {
                        invalidate(&self.cache, &self.stream, key);
                        Ok(())
                    }
                    None => Err(Fence::Protocol("a message about no key".into())),
                }
            }
            (_, Some(b"pong")) => self.pong(),
            _ => Err(Fence::Protocol("a message of another kind".into())),
        }
    }

    fn pong(&mut self) -> Result<(), Fence> {
        match self.pings.pop_front() {
            Some(sent_at) => {
                self.proved = self.proved.max(sent_at);
                match self.dialect {
                    Dialect::Redirect if !mutated(Mutant::RedirectOneProof) => self.stream.renew_subscribed(sent_at),
                    _ => self.stream.renew(sent_at),
                }
                Ok(())
            }
            None => Err(Fence::Protocol("a PONG to no PING".into())),
        }
    }
}

/// The key a channel is about: what stands behind `__keyspace@<db>__:`.
fn key_of(channel: &[u8]) -> Option<&[u8]> {
    let rest = channel.strip_prefix(b"__keyspace@")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    rest.get(digits..)?.strip_prefix(b"__:")
}
