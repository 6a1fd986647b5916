//! The second source of invalidations: a RESP2 connection subscribed to `__redis__:invalidate`, to which the filling
//! connection redirects its tracking.
//!
//! The two sockets have no common order. That is safe because a flight's lease is revoked by name: an invalidation that
//! arrives before the reply it belongs to revokes the lease, one that arrives after it kills the entry. What the filling
//! connection answers proves nothing about invalidations, so only this connection's PONGs renew the staleness lease.
//!
//! For the same reason a fetched reply waits here for the PONG to a PING sent after it was read: in front of that PONG is
//! every invalidation of what was written before the reply. Without that a client could be told of a new state and then
//! be served older entries, of the same key's other commands or of keys written together with it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::frames::{Frame, Frames};
use super::near_cache::NearCache;
use super::stream::Stream;
use super::tracked::{Fence, apply_invalidation, flush_by_server};
use crate::resp::{Value, Version, encode};
use crate::time::Instant;

/// The channel Redis publishes redirected invalidations on.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// Messages larger than this are taken as "everything changed".
const FRAME_LIMIT: usize = 1 << 20;

/// One incarnation of a subscribed connection.
pub struct Subscriber<W> {
    cache: Arc<NearCache<W>>,
    stream: Arc<Stream>,
    frames: Frames,
    pings: VecDeque<Instant>,
    last_sent: Instant,
    /// What was read from the filling connection, and when, until this connection has caught up.
    held: VecDeque<(Instant, Vec<u8>)>,
}

impl<W> Subscriber<W> {
    /// The state of a connection whose subscription was confirmed.
    pub fn new(cache: Arc<NearCache<W>>, stream: Arc<Stream>) -> Self {
        Self {
            cache,
            stream,
            frames: Frames::new(FRAME_LIMIT),
            pings: VecDeque::new(),
            last_sent: Instant::ZERO,
            held: VecDeque::new(),
        }
    }

    /// Holds `bytes` of the filling connection back, and asks for the proof they wait for. `now` was read after them.
    pub fn hold(&mut self, bytes: &[u8], now: Instant, out: &mut Vec<u8>) {
        self.held.push_back((now, bytes.to_vec()));
        self.ping(now, out);
    }

    /// The next bytes of the filling connection whose invalidations have all been handled.
    pub fn release(&mut self) -> Option<Vec<u8>> {
        let proved = self.stream.fresh();
        self.held
            .pop_front_if(|(read_at, _)| *read_at <= proved)
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
            Some(&sent_at) if now.since(sent_at) > bound * 2 => return Err(Fence::Silent),
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
    pub fn receive(&mut self, mut bytes: &[u8]) -> Result<(), Fence> {
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
            // The connection speaks RESP2, but the null of a flush is spelled in the protocol of the connection that
            // fills (`_` on 7.0.15), so both are read.
            let Ok(Value::Array(items)) = Value::decode(frame, Version::V3) else {
                return Err(Fence::Protocol("a message that cannot be read".into()));
            };
            let mut items = items.into_iter();
            match items.next().as_ref().and_then(Value::as_bytes) {
                Some(b"message") if items.next().as_ref().and_then(Value::as_bytes) == Some(CHANNEL) => {
                    apply_invalidation(&self.cache, &self.stream, items.next())?;
                }
                Some(b"pong") => match self.pings.pop_front() {
                    Some(sent_at) => self.stream.renew(sent_at),
                    None => return Err(Fence::Protocol("a PONG to no PING".into())),
                },
                _ => return Err(Fence::Protocol("a message of another kind".into())),
            }
        }
    }
}
