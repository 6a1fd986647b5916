//! The tracked connection as a state machine: fills go out whole, frames come in and are handled strictly in order.
//!
//! ```text
//! out:  [SELECT db] CLIENT CACHING YES · read · PTTL key [HPTTL key FIELDS n f…]   in one piece, so nothing comes between
//! in:   +OK          +OK                 reply  integer  array
//!                                        │      └────────┴ store, if the lease still stands
//!                                        └ answer who waited
//!       >invalidate [keys] · >invalidate NULL · other pushes  anywhere between replies
//! ```
//! There is exactly one reader of the stream, and it is the one that stores and kills: that is what makes "store on
//! reply, drop on push" free of races.

mod keep_warm;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::fence::Fence;
use super::fields::{self, Ttls};
use super::flight::Lease;
use super::frames::{Frame, Frames};
use super::near_cache::NearCache;
use super::push::{apply_push, flush_by_server};
use super::reach::Asked;
use super::stream::Stream;
use crate::command::Slot;
use crate::mutants::{Mutant, mutated};
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

/// What the next reply answers.
enum Expected {
    Ping(Instant),
    /// A SELECT before TOUCHes.
    Select(Instant),
    /// A TOUCH.
    Touch(Box<Touched>),
    Fill(Box<Progress>),
    /// The replies to asking for the canary: CACHING, then EXISTS.
    Canary(Instant, Stage),
}

/// A TOUCH that was not answered.
struct Touched {
    sent_at: Instant,
    /// The key's hash.
    hash: u64,
    /// In a cluster, the key's slot and its life.
    slot: Option<(Slot, u32)>,
}

/// How far a fill has come. Select → Caching → Read → Pttl → FieldTtls; without Caching where nothing is registered.
struct Progress {
    lease: Lease,
    stage: Stage,
    registers: bool,
    /// Invalidations come on the same connection.
    in_order: bool,
    sent_at: Instant,
    /// The reply, once it is there; `None` behind `Read` when it was too large to keep.
    value: Option<Bytes>,
    /// It was asked when the fields expire.
    asks_fields: bool,
    ttls: Ttls,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Select,
    Caching,
    Read,
    Pttl,
    FieldTtls,
}

/// The next read is tracked.
const CACHING_YES: &[u8] = b"*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$3\r\nYES\r\n";

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
    /// TOUCHes that were not answered.
    touching: usize,
    /// The user may not TOUCH.
    untouchable: bool,
    /// For [`Mutant::TaskInsert`]: fills whose replies are stored with the next bytes that come.
    late: Vec<Progress>,
    /// Keys are registered by the fills themselves, after `CLIENT CACHING YES`.
    registers: bool,
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
            touching: 0,
            untouchable: false,
            late: Vec::new(),
            registers: true,
        };
        Self {
            frames: Frames::new(limit),
            core,
        }
    }

    /// The state of a connection that only fills: another one is told of all changes, or nobody is.
    pub fn filling_only(cache: Arc<NearCache<W>>, stream: Arc<Stream>, db: u32) -> Self {
        let mut tracked = Self::new(cache, stream, db, false);
        tracked.core.registers = false;
        tracked
    }

    /// Has the stream speak of its canary once, if keys have to be registered for that.
    pub fn ask_for_canary(&mut self, now: Instant, out: &mut Vec<u8>) {
        let Some(canary) = self.core.stream.canary() else {
            return;
        };
        if !self.core.registers {
            canary.answer(Asked::Granted);
            return;
        }
        out.extend_from_slice(CACHING_YES);
        // A read that costs nothing and that no statistics of hot keys are made from.
        encode::request(out, [b"EXISTS".as_slice(), canary.key()]);
        self.core.last_sent = now;
        self.core.expected.push_back(Expected::Canary(now, Stage::Caching));
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
        let mut stage = if core.registers { Stage::Caching } else { Stage::Read };
        let db = core.cache.database(fill.lease.db());
        if db != core.db {
            core.db = db;
            stage = Stage::Select;
            if mutated(Mutant::Interleave) {
                out.extend_from_slice(CACHING_YES);
            }
            encode::request(out, [b"SELECT".as_slice(), core.db.to_string().as_bytes()]);
        }
        if core.registers && (stage != Stage::Select || !mutated(Mutant::Interleave)) {
            out.extend_from_slice(CACHING_YES);
        }
        out.extend_from_slice(&fill.frame);
        encode::request(out, [b"PTTL".as_slice(), fill.lease.key()]);
        let asks_fields = core.cache.asks_fields(&fill.lease) && fields::ask(out, fill.lease.key(), fill.lease.rest());
        core.last_sent = now;
        core.expected.push_back(Expected::Fill(Box::new(Progress {
            lease: fill.lease,
            stage,
            registers: core.registers,
            in_order: core.renews,
            sent_at: now,
            value: None,
            asks_fields,
            // Until it is there: as if it expired now.
            ttls: Ttls::from(0),
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
            Some(Expected::Ping(sent_at) | Expected::Canary(sent_at, _) | Expected::Select(sent_at)) => Some(*sent_at),
            Some(Expected::Touch(touched)) => Some(touched.sent_at),
            Some(Expected::Fill(progress)) => Some(progress.sent_at),
            None => None,
        };
        match oldest {
            Some(sent_at) if now.since(sent_at) > bound * 2 => return Err(Fence::Silent.counted(&self.core.cache)),
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
    pub fn receive(&mut self, bytes: &[u8], now: Instant, deliver: &mut impl Deliver<W>) -> Result<(), Fence> {
        self.core.cache.note_time(now);
        self.handle(bytes, now, deliver)
            .map_err(|fence| fence.counted(&self.core.cache))
    }

    fn handle(&mut self, mut bytes: &[u8], now: Instant, deliver: &mut impl Deliver<W>) -> Result<(), Fence> {
        let late = self.core.late.len();
        loop {
            let next = self
                .frames
                .next(bytes)
                .map_err(|error| Fence::Protocol(error.to_string()))?;
            let Some((kind, frame, taken)) = next else {
                // Empty unless that mistake is made.
                for progress in self.core.late.drain(..late).collect::<Vec<_>>() {
                    self.core.finish(progress, deliver);
                }
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
        for progress in self.core.late {
            drop(self.core.cache.abandon(progress.lease));
        }
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
            Frame::Whole(bytes) => match Value::decode(bytes, Version::V3) {
                Ok(Value::Push(items)) => apply_push(&self.cache, &self.stream, items),
                _ => Err(Fence::Protocol("a push that cannot be read".into())),
            },
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
                    // A user who may not PING: the answer stands behind every invalidation just the same.
                    Frame::Whole(denied) if denied.starts_with(b"-NOPERM ") => sent_at,
                    // -LOADING, -NOAUTH and the like: whether the stream is a true one is not known.
                    _ if kind == b'-' => return Ok(()),
                    _ => return Err(slipped()),
                }
            }
            Some(&mut Expected::Select(sent_at)) => {
                self.expected.pop_front();
                if *frame != Frame::Whole(b"+OK\r\n") {
                    return Err(Fence::SelectRefused);
                }
                sent_at
            }
            Some(Expected::Canary(sent_at, stage)) => {
                let sent_at = *sent_at;
                if std::mem::replace(stage, Stage::Read) == Stage::Read {
                    self.expected.pop_front();
                    if let Some(canary) = self.stream.canary() {
                        canary.answer(asked(kind, frame));
                    }
                } else if *frame != Frame::Whole(b"+OK\r\n") {
                    return Err(Fence::CachingRefused);
                }
                sent_at
            }
            Some(Expected::Touch(_)) => match self.touched(kind, frame)? {
                Some(sent_at) => sent_at,
                None => return Ok(()),
            },
            Some(Expected::Fill(progress)) => {
                let sent_at = progress.sent_at;
                if progress.advance(&self.cache, kind, frame, now, deliver)? {
                    self.settle(deliver);
                }
                sent_at
            }
        };
        let sent_at = if mutated(Mutant::LeaseRecvTime) { now } else { sent_at };
        if self.renews {
            self.stream.renew(sent_at);
        } else if self.registers {
            self.stream.renew_filling(sent_at);
        }
        Ok(())
    }

    /// Ends the fill at the front.
    fn settle(&mut self, deliver: &mut impl Deliver<W>) {
        let Some(Expected::Fill(progress)) = self.expected.pop_front() else {
            return;
        };
        if mutated(Mutant::TaskInsert) {
            self.late.push(*progress);
            return;
        }
        self.finish(*progress, deliver);
    }

    fn finish(&self, progress: Progress, deliver: &mut impl Deliver<W>) {
        let Progress {
            lease,
            value,
            ttls,
            sent_at,
            ..
        } = progress;
        let Some(value) = value else {
            // It was too large, and ended then.
            return drop(self.cache.abandon(lease));
        };
        let shape = lease.shape();
        // Why a reply is not stored is counted where it is decided.
        let settled = self.cache.settle(lease, value.clone(), ttls, sent_at);
        for waiter in settled.answered {
            deliver.deliver(waiter, Delivery::Reply(value.clone(), shape));
        }
        for waiter in settled.sent_home {
            deliver.deliver(waiter, Delivery::Home);
        }
    }
}

impl Progress {
    /// Select → Caching → Read → Pttl → FieldTtls → done, one reply each; true: it is done.
    fn advance<W>(
        &mut self,
        cache: &NearCache<W>,
        kind: u8,
        frame: &Frame<'_>,
        now: Instant,
        deliver: &mut impl Deliver<W>,
    ) -> Result<bool, Fence> {
        match self.stage {
            Stage::Select if *frame != Frame::Whole(b"+OK\r\n") => return Err(Fence::SelectRefused),
            Stage::Caching if *frame != Frame::Whole(b"+OK\r\n") => return Err(Fence::CachingRefused),
            Stage::Select if self.registers => self.stage = Stage::Caching,
            Stage::Select => self.stage = Stage::Read,
            Stage::Caching => self.stage = Stage::Read,
            Stage::Read => {
                self.stage = Stage::Pttl;
                self.read(cache, frame, now, deliver);
            }
            Stage::Pttl if !matches!(kind, b':' | b'-') => return Err(slipped()),
            Stage::Pttl => {
                // An error is as good as "it expires now": the reply is not stored.
                if let Frame::Whole([b':', digits @ .., b'\r', b'\n']) = frame {
                    let pttl = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
                    self.ttls.key = pttl.unwrap_or(0);
                }
                self.stage = Stage::FieldTtls;
                return Ok(!self.asks_fields);
            }
            Stage::FieldTtls if !matches!(kind, b'*' | b'_' | b'-') => return Err(slipped()),
            Stage::FieldTtls => {
                if let (Frame::Whole(answer), Some(reply)) = (frame, &self.value) {
                    self.ttls.fields = fields::first_end(answer, reply);
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read<W>(&mut self, cache: &NearCache<W>, frame: &Frame<'_>, now: Instant, deliver: &mut impl Deliver<W>) {
        let Frame::Whole(bytes) = frame else {
            for waiter in cache.outgrown(&self.lease, now) {
                deliver.deliver(waiter, Delivery::Home);
            }
            return;
        };
        if cache.is_elsewhere(&self.lease, bytes) {
            for waiter in cache.end_flight(&self.lease) {
                deliver.deliver(waiter, Delivery::Home);
            }
            return;
        }
        // Most errors are given before it is looked whose the key is.
        if bytes.first() != Some(&b'-') {
            cache.is_owned(&self.lease, self.sent_at);
        }
        // Its own allocation: a slice of the read buffer would keep the whole buffer alive.
        let reply = Bytes::copy_from_slice(bytes);
        if let Some(waiter) = cache.arrived(&self.lease, self.in_order) {
            deliver.deliver(waiter, Delivery::Reply(reply.clone(), self.lease.shape()));
        }
        self.value = Some(reply);
    }
}

/// What a reply says to being asked to speak of a key.
fn asked(kind: u8, frame: &Frame<'_>) -> Asked {
    match frame {
        Frame::Whole(text) if text.starts_with(b"-NOPERM ") => Asked::Denied,
        _ if kind == b'-' => Asked::Refused,
        _ => Asked::Granted,
    }
}

/// Replies and requests no longer match, so values would be stored under the wrong names.
fn slipped() -> Fence {
    Fence::Protocol("a reply to another request".into())
}
