//! The tracked connection as a state machine: fills go out whole, frames come in and are handled strictly in order.
//!
//! ```text
//! out:  [SELECT db] CLIENT CACHING YES · read · PTTL key      in one piece, so nothing comes between
//! in:   +OK          +OK                 reply  integer
//!                                        │      └ store, if the lease still stands
//!                                        └ answer who waited
//!       >invalidate [keys] · >invalidate NULL · other pushes  anywhere between replies
//! ```
//! There is exactly one reader of the stream, and it is the one that stores and kills: that is what makes "store on
//! reply, drop on push" free of races.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::flight::Lease;
use super::frames::{Frame, Frames};
use super::near_cache::{NearCache, Tally};
use super::stream::Stream;
use crate::resp::{Shape, Value, Version, encode};
use crate::time::Instant;

/// Frames smaller than this are always kept, however small the entries: invalidations must be read.
const MIN_FRAME_LIMIT: usize = 64 * 1024;

/// A fetch for the cache: the right to store, and the read's canonical bytes.
#[derive(Debug)]
pub struct Fill {
    /// The leader's right.
    pub lease: Lease,
    /// The read, as it goes upstream.
    pub frame: Box<[u8]>,
}

/// What a waiter gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The reply, in RESP3, and how it becomes RESP2.
    Reply(Bytes, Shape),
    /// The fetch did not work out: ask over the session's own connection.
    Home,
}

/// Takes what waiters get.
pub trait Deliver<W> {
    /// Hands `delivery` to `waiter`.
    fn deliver(&mut self, waiter: W, delivery: Delivery);
}

/// Why a tracked connection is given up, and with it all its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Bytes that are not RESP, or a reply nobody asked for.
    Protocol(String),
    /// `CLIENT CACHING YES` was refused: the connection does not track.
    CachingRefused,
    /// `SELECT` was refused: the read went to another database.
    SelectRefused,
    /// The server says that the redirect target is gone.
    RedirectBroken,
    /// The server announces that another one takes its place.
    HandOver,
    /// No answer for longer than the staleness bound allows twice over.
    Silent,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(what) => write!(f, "unexpected bytes: {what}"),
            Self::CachingRefused => f.write_str("CLIENT CACHING YES was refused"),
            Self::SelectRefused => f.write_str("SELECT was refused"),
            Self::RedirectBroken => f.write_str("the invalidation redirect is broken"),
            Self::HandOver => f.write_str("the server announced a hand-over"),
            Self::Silent => f.write_str("no answer"),
        }
    }
}

/// What the next reply answers.
enum Expected {
    Ping(Instant),
    Fill(Box<Progress>),
}

/// How far a fill has come. Select → Caching → Read → Pttl.
struct Progress {
    lease: Lease,
    stage: Stage,
    sent_at: Instant,
    /// The reply, once it is there; `None` behind `Read` when it was too large to keep.
    value: Option<Bytes>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Select,
    Caching,
    Read,
    Pttl,
}

/// One incarnation of a tracked connection.
pub struct Tracked<W> {
    frames: Frames,
    core: Core<W>,
}

struct Core<W> {
    cache: Arc<NearCache<W>>,
    stream: Arc<Stream>,
    expected: VecDeque<Expected>,
    /// The database the connection is in, once everything written was executed.
    db: u32,
    last_sent: Instant,
    /// Whether a reply on this connection proves that its invalidations were handled. Not so when they arrive on
    /// another connection (redirect).
    renews: bool,
}

impl<W> Tracked<W> {
    /// The state of a connection on which tracking was just switched on, in database `db`.
    pub fn new(cache: Arc<NearCache<W>>, stream: Arc<Stream>, db: u32, renews: bool) -> Self {
        let limit = cache
            .policies
            .largest_entry(cache.limits.max_entry)
            .max(MIN_FRAME_LIMIT);
        let core = Core {
            cache,
            stream,
            expected: VecDeque::new(),
            db,
            last_sent: Instant::ZERO,
            renews,
        };
        Self {
            frames: Frames::new(limit),
            core,
        }
    }

    /// Appends the fill's commands to `out`, which is to be written after `now` was read.
    ///
    /// # Errors
    /// Gives the fill back when its lease was given under another incarnation.
    pub fn fill(&mut self, fill: Fill, now: Instant, out: &mut Vec<u8>) -> Result<(), Fill> {
        let core = &mut self.core;
        if fill.lease.epoch() != core.stream.epoch() || !core.stream.is_live() {
            return Err(fill);
        }
        let mut stage = Stage::Caching;
        if fill.lease.db() != core.db {
            core.db = fill.lease.db();
            stage = Stage::Select;
            encode::request(out, [b"SELECT".as_slice(), core.db.to_string().as_bytes()]);
        }
        encode::request(out, [b"CLIENT".as_slice(), b"CACHING", b"YES"]);
        out.extend_from_slice(&fill.frame);
        encode::request(out, [b"PTTL".as_slice(), fill.lease.key()]);
        core.last_sent = now;
        core.expected.push_back(Expected::Fill(Box::new(Progress {
            lease: fill.lease,
            stage,
            sent_at: now,
            value: None,
        })));
        Ok(())
    }

    /// Appends a PING whose answer renews the lease.
    pub fn ping(&mut self, now: Instant, out: &mut Vec<u8>) {
        encode::request(out, [b"PING".as_slice()]);
        self.core.last_sent = now;
        self.core.expected.push_back(Expected::Ping(now));
    }

    /// Keeps the lease alive: sends a PING when nothing was sent for a third of the staleness bound.
    ///
    /// # Errors
    /// [`Fence::Silent`] when the oldest request was not answered within twice the bound.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), Fence> {
        let bound = self.core.cache.limits.max_staleness;
        let oldest = match self.core.expected.front() {
            Some(Expected::Ping(sent_at)) => Some(*sent_at),
            Some(Expected::Fill(progress)) => Some(progress.sent_at),
            None => None,
        };
        match oldest {
            Some(sent_at) if now.since(sent_at) > bound * 2 => return Err(Fence::Silent),
            Some(_) => {}
            None if now.since(self.core.last_sent) >= bound / 3 => self.ping(now, out),
            None => {}
        }
        Ok(())
    }

    /// Handles what was read, in order. `now` was read after the bytes were.
    ///
    /// # Errors
    /// Why the connection must be given up; call [`Tracked::abandon`] then.
    pub fn receive(&mut self, mut bytes: &[u8], now: Instant, deliver: &mut impl Deliver<W>) -> Result<(), Fence> {
        loop {
            let next = self
                .frames
                .next(bytes)
                .map_err(|error| Fence::Protocol(error.to_string()))?;
            let Some((kind, frame, taken)) = next else {
                return Ok(());
            };
            match kind {
                b'>' => self.core.push(&frame)?,
                _ => self.core.reply(kind, &frame, now, deliver)?,
            }
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Ends all fills of a connection that was given up; whoever waits asks over its own connection.
    pub fn abandon(self, deliver: &mut impl Deliver<W>) {
        for expected in self.core.expected {
            if let Expected::Fill(progress) = expected {
                for waiter in self.core.cache.abandon(progress.lease) {
                    deliver.deliver(waiter, Delivery::Home);
                }
            }
        }
    }
}

impl<W> Core<W> {
    fn push(&mut self, frame: &Frame<'_>) -> Result<(), Fence> {
        match frame {
            Frame::Whole(bytes) => apply_push(&self.cache, &self.stream, bytes),
            // Names too many or too long to read: everything could be meant.
            Frame::Oversize => {
                flush_by_server(&self.cache, &self.stream);
                Ok(())
            }
        }
    }

    fn reply(&mut self, kind: u8, frame: &Frame<'_>, now: Instant, deliver: &mut impl Deliver<W>) -> Result<(), Fence> {
        let sent_at = match self.expected.front_mut() {
            None => return Err(Fence::Protocol("a reply to no request".into())),
            Some(Expected::Ping(sent_at)) => {
                let sent_at = *sent_at;
                self.expected.pop_front();
                match frame {
                    Frame::Whole(b"+PONG\r\n") => sent_at,
                    // -LOADING, -NOAUTH and the like: whether the stream is a true one is not known.
                    _ if kind == b'-' => return Ok(()),
                    _ => return Err(slipped()),
                }
            }
            Some(Expected::Fill(progress)) => {
                let sent_at = progress.sent_at;
                if let Some(pttl) = progress.advance(&self.cache, kind, frame, now, deliver)? {
                    self.settle(pttl);
                }
                sent_at
            }
        };
        if self.renews {
            self.stream.renew(sent_at);
        }
        Ok(())
    }

    /// Ends the fill at the front.
    fn settle(&mut self, pttl: i64) {
        let Some(Expected::Fill(progress)) = self.expected.pop_front() else {
            return;
        };
        let Progress {
            lease, value, sent_at, ..
        } = *progress;
        match value {
            // Why a reply is not stored is counted where it is decided.
            Some(value) => drop(self.cache.settle(lease, value, pttl, sent_at)),
            None => drop(self.cache.abandon(lease)),
        }
    }
}

impl Progress {
    /// Select → Caching → Read → Pttl → done, one reply each; done gives the PTTL.
    fn advance<W>(
        &mut self,
        cache: &NearCache<W>,
        kind: u8,
        frame: &Frame<'_>,
        now: Instant,
        deliver: &mut impl Deliver<W>,
    ) -> Result<Option<i64>, Fence> {
        match self.stage {
            Stage::Select if *frame != Frame::Whole(b"+OK\r\n") => return Err(Fence::SelectRefused),
            Stage::Caching if *frame != Frame::Whole(b"+OK\r\n") => return Err(Fence::CachingRefused),
            Stage::Select => self.stage = Stage::Caching,
            Stage::Caching => self.stage = Stage::Read,
            Stage::Read => {
                self.stage = Stage::Pttl;
                self.read(cache, frame, now, deliver);
            }
            Stage::Pttl if !matches!(kind, b':' | b'-') => return Err(slipped()),
            Stage::Pttl => {
                // An error is as good as "it expires now": the reply is not stored.
                let pttl = match frame {
                    Frame::Whole([b':', digits @ .., b'\r', b'\n']) => {
                        std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok())
                    }
                    _ => None,
                };
                return Ok(Some(pttl.unwrap_or(0)));
            }
        }
        Ok(None)
    }

    fn read<W>(&mut self, cache: &NearCache<W>, frame: &Frame<'_>, now: Instant, deliver: &mut impl Deliver<W>) {
        let Frame::Whole(bytes) = frame else {
            for waiter in cache.outgrown(&self.lease, now) {
                deliver.deliver(waiter, Delivery::Home);
            }
            return;
        };
        // Its own allocation: a slice of the read buffer would keep the whole buffer alive.
        let reply = Bytes::copy_from_slice(bytes);
        for waiter in cache.arrived(&self.lease, &reply) {
            deliver.deliver(waiter, Delivery::Reply(reply.clone(), self.lease.shape()));
        }
        self.value = Some(reply);
    }
}

/// Replies and requests no longer match, so values would be stored under the wrong names.
fn slipped() -> Fence {
    Fence::Protocol("a reply to another request".into())
}

/// Pushes that announce that the connection, the node or some of its slots go elsewhere (maintenance notices of Redis
/// Enterprise and Cloud). None of them says what happens to invalidations.
const HAND_OVERS: [&[u8]; 7] = [
    b"MOVING",
    b"MIGRATING",
    b"MIGRATED",
    b"FAILING_OVER",
    b"FAILED_OVER",
    b"SMIGRATING",
    b"SMIGRATED",
];

/// Handles one push of a connection that tracks for itself.
fn apply_push<W>(cache: &NearCache<W>, stream: &Stream, bytes: &[u8]) -> Result<(), Fence> {
    let Ok(Value::Push(items)) = Value::decode(bytes, Version::V3) else {
        return Err(Fence::Protocol("a push that cannot be read".into()));
    };
    let mut items = items.into_iter();
    match items.next().as_ref().and_then(Value::as_bytes) {
        Some(b"invalidate") => apply_invalidation(cache, stream, items.next()),
        Some(b"tracking-redir-broken") => Err(Fence::RedirectBroken),
        Some(kind) if HAND_OVERS.contains(&kind) => Err(Fence::HandOver),
        // Pushes of other kinds are none of ours; they answer nobody.
        _ => Ok(()),
    }
}

/// Handles the payload of an invalidation: an array of key names, or NULL for "everything".
pub(super) fn apply_invalidation<W>(
    cache: &NearCache<W>,
    stream: &Stream,
    payload: Option<Value>,
) -> Result<(), Fence> {
    match payload {
        Some(Value::Null) => flush_by_server(cache, stream),
        Some(Value::Array(keys)) => {
            for key in &keys {
                let Some(key) = key.as_bytes() else {
                    return Err(Fence::Protocol("an invalidation of something that is no key".into()));
                };
                cache.invalidate(key);
            }
        }
        _ => return Err(Fence::Protocol("an invalidation without keys".into())),
    }
    Ok(())
}

pub(super) fn flush_by_server<W>(cache: &NearCache<W>, stream: &Stream) {
    stream.flush();
    Tally::add(&cache.tally.null_pushes, 1);
}
