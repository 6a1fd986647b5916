//! One key as the checker knows it: every version it had lately, who wrote it, when that began and when it was known.
//!
//! ```text
//! number     41            42            43
//! content  ─ held 907 ──┬─ nothing ────┬─ held 915 ─→
//! position   82      83 │  84          │  86      87        odd: the version has vanished (its TTL, an eviction)
//!                 invoked … acked      └ a version is the newest from somewhere between these two
//! ```
//! Most kinds of keys have one writer at a time, which lets any command write them: the state after each of its commands
//! is known. Counters have any number of writers at a time; there the server assigns the version, which is the value.

mod judge;

pub(super) use judge::{Broken, Read, Seen, Verdict};

use super::workload::Op;
use nearhit::time::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// Most nearhit instances of one run.
pub(super) const MAX_INSTANCES: usize = 8;
/// How long a version is kept after it was overwritten: longer than any read is waited for.
const KEEP: Duration = Duration::from_secs(20);
/// How many operations of a key are kept to be printed with a violation.
const EVENTS: usize = 96;
/// Fields of every hash, and members of every sorted set.
pub(super) const FIELDS: usize = 4;
/// Elements of a list when it is written.
pub(super) const ELEMENTS: u8 = 3;

/// What a key is used for; it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Hash,
    List,
    Zset,
    /// Two strings that are only written together.
    Pair,
    /// A number that any number of clients increment at once.
    Counter,
    /// A number that clients increment with WATCH, MULTI and EXEC.
    Cas,
}

impl Kind {
    /// Begins the names of such keys.
    pub(super) fn letter(self) -> &'static str {
        match self {
            Self::Text => "t",
            Self::Hash => "h",
            Self::List => "l",
            Self::Zset => "z",
            Self::Pair => "p",
            Self::Counter => "c",
            Self::Cas => "w",
        }
    }

    /// As TYPE says it.
    pub(super) fn type_name(self) -> &'static [u8] {
        match self {
            Self::Text | Self::Pair | Self::Counter | Self::Cas => b"string",
            Self::Hash => b"hash",
            Self::List => b"list",
            Self::Zset => b"zset",
        }
    }

    /// Whether the value is the version.
    pub(super) fn counts(self) -> bool {
        matches!(self, Self::Counter | Self::Cas)
    }

    /// What STRLEN, HLEN, LLEN or ZCARD say of this content.
    fn length(self, content: Content) -> u64 {
        match (self, content) {
            (_, Content::Nothing) => 0,
            (Self::Text | Self::Pair, Content::Held { id, .. }) => text_length(id),
            (Self::Counter | Self::Cas, Content::Held { id, .. }) => digits(id),
            (Self::Hash | Self::Zset, Content::Held { .. }) => FIELDS as u64,
            (Self::List, Content::Held { items, .. }) => u64::from(items),
        }
    }
}

fn digits(number: u64) -> u64 {
    u64::from(number.checked_ilog10().unwrap_or(0)) + 1
}

/// Strings are `id:xxx`, so that their length says something too.
pub(super) fn padding(id: u64) -> usize {
    usize::try_from(id % 61).unwrap_or(0)
}

fn text_length(id: u64) -> u64 {
    digits(id) + 1 + padding(id) as u64
}

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Nothing,
    /// A value that says `id`, everywhere in it; a list has so many items.
    Held {
        id: u64,
        items: u8,
    },
}

/// One state of a key.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) content: Content,
    /// The same content stood under an earlier version too (COPY, EXPIRE, …).
    moved: bool,
    /// The write had no effect after all.
    void: bool,
    /// An increment was told that it made this version.
    claimed: bool,
    writer: u32,
    invoked: Instant,
    /// `MAX` until somebody knows.
    acked: Instant,
    /// When its TTL ends, at the earliest and at the latest.
    expires: Option<(Instant, Instant)>,
    /// From when on the server may have dropped it; `MAX` = never.
    vanishes: Instant,
    /// The latest read of an older version, after this one was acknowledged, in nanoseconds; and under which faults.
    tail: u64,
    faults: u64,
}

impl Version {
    fn new(content: Content, writer: u32, invoked: Instant) -> Self {
        Self {
            content,
            moved: false,
            void: false,
            claimed: false,
            writer,
            invoked,
            acked: Instant::MAX,
            expires: None,
            vanishes: Instant::MAX,
            tail: 0,
            faults: 0,
        }
    }

    fn vanished(&self, by: Instant) -> bool {
        let expired = self
            .expires
            .is_some_and(|(earliest, _)| earliest <= by.after(EXPIRY_SLACK));
        self.content != Content::Nothing && (expired || self.vanishes <= by)
    }
}

/// The server counts milliseconds, and a read may come this late after an expiry.
pub(super) const EXPIRY_SLACK: Duration = Duration::from_millis(2);

/// A write as it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    pub(super) writer: u32,
    pub(super) content: Content,
    pub(super) ttl: Ttl,
    /// The content is that of an earlier version.
    pub(super) moved: bool,
    /// What the write makes depends on what was there: nothing else may be under way.
    pub(super) exclusive: bool,
    pub(super) invoked: Instant,
}

/// What a write does to the time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ttl {
    None,
    Set(Duration),
    /// That of the version before, or of the key it was copied from.
    Kept(Option<(Instant, Instant)>),
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// It certainly had no effect.
    Void,
    /// Nobody knows, and it may still happen.
    Unknown,
}

/// One operation on a key, to be printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) invoked: Instant,
    pub(super) completed: Instant,
    pub(super) session: u32,
    /// The instance it went through; `None`: directly at the server.
    pub(super) via: Option<usize>,
    pub(super) op: Op,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Read(Seen),
    Wrote(Content, Outcome),
}

/// What is known about one key.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) kind: Kind,
    /// Grows when nothing is known about the key any more; part of the name, so a late write hits another key.
    pub(super) generation: u32,
    /// Number of the first version kept.
    first: u64,
    /// Invariant: not empty; `acked` ascends.
    versions: VecDeque<Version>,
    /// Who writes now; meaningless while nothing is outstanding.
    owner: u32,
    outstanding: u32,
    exclusive: bool,
    /// The key may be sent to another node, which counts its time to live from then on.
    moving: bool,
    /// Newest position acknowledged through each instance.
    through: [u64; MAX_INSTANCES],
    pub(super) events: VecDeque<Event>,
}

/// A version that will not be looked at again: how late it was seen, and under which faults.
pub(super) type Tail = (u64, u64);

impl Cell {
    /// A key that does not exist.
    pub(super) fn new(kind: Kind) -> Self {
        let mut cell = Self {
            kind,
            generation: 0,
            first: 0,
            versions: VecDeque::new(),
            owner: 0,
            outstanding: 0,
            exclusive: false,
            moving: false,
            through: [0; MAX_INSTANCES],
            events: VecDeque::new(),
        };
        cell.forget();
        cell
    }

    /// A new name, under which nothing was ever written. Gives back the tails of what is forgotten.
    pub(super) fn retire(&mut self) -> Vec<Tail> {
        let tails = self.tails();
        self.generation += 1;
        self.forget();
        tails
    }

    fn forget(&mut self) {
        let mut nothing = Version::new(Content::Nothing, 0, Instant::ZERO);
        nothing.acked = Instant::ZERO;
        self.versions.clear();
        self.versions.push_back(nothing);
        (self.first, self.outstanding, self.exclusive) = (0, 0, false);
        self.through = [0; MAX_INSTANCES];
        self.events.clear();
    }

    /// The tails of all acknowledged versions that are still here.
    pub(super) fn tails(&self) -> Vec<Tail> {
        let known = self.versions.iter().skip(1).filter(|version| version.is_known());
        known.map(|version| (version.tail, version.faults)).collect()
    }

    /// Number of the newest version.
    pub(super) fn newest(&self) -> u64 {
        self.first + self.versions.len() as u64 - 1
    }

    /// What a COPY or an EXPIRE carries over.
    pub(super) fn carried(&self) -> (Content, Ttl) {
        let last = self.versions.iter().rev().find(|version| !version.void);
        last.map_or((Content::Nothing, Ttl::None), |version| {
            (version.content, Ttl::Kept(version.expires))
        })
    }

    /// What version `number` held, if it is still kept.
    pub(super) fn content_at(&self, number: u64) -> Option<Content> {
        self.get(number).map(|version| version.content)
    }

    /// From when on the server may have dropped what is there; `MAX` = never.
    pub(super) fn vanishes(&self) -> Instant {
        let last = self.versions.iter().rev().find(|version| !version.void);
        last.map_or(Instant::MAX, |version| version.vanishes)
    }

    fn get(&self, number: u64) -> Option<&Version> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.versions.get(index)
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Version> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.versions.get_mut(index)
    }

    /// The newest position acknowledged through `instance`.
    pub(super) fn through(&self, instance: Option<usize>) -> u64 {
        instance
            .and_then(|instance| self.through.get(instance))
            .copied()
            .unwrap_or(0)
    }

    /// Whether `session` may send a write now. A write that is `exclusive` waits until nothing else is under way.
    pub(super) fn may_write(&self, session: u32, exclusive: bool) -> bool {
        let mine = self.owner == session && !self.exclusive && !exclusive;
        self.kind.counts() || self.outstanding == 0 || mine
    }

    /// Notes a write that is about to be sent and gives its number. Old versions make room: their tails are appended.
    pub(super) fn issue(&mut self, write: &Write, tails: &mut Vec<Tail>) -> u64 {
        self.drop_old(write.invoked, tails);
        let mut version = Version::new(write.content, write.writer, write.invoked);
        version.moved = write.moved;
        version.expires = match write.ttl {
            Ttl::None => None,
            Ttl::Kept(expires) => expires,
            Ttl::Set(ttl) => Some((write.invoked.after(ttl), Instant::MAX)),
        };
        self.versions.push_back(version);
        self.owner = write.writer;
        self.outstanding += 1;
        self.exclusive = write.exclusive;
        self.newest()
    }

    /// Notes an increment that is about to be sent: one more value becomes possible.
    pub(super) fn issue_increment(&mut self, invoked: Instant, tails: &mut Vec<Tail>) {
        self.drop_old(invoked, tails);
        let id = self.newest() + 1;
        self.versions
            .push_back(Version::new(Content::Held { id, items: 0 }, 0, invoked));
    }

    /// As [`Cell::issue_increment`], for the increment that sets `value`.
    pub(super) fn issue_value(&mut self, value: u64, invoked: Instant, tails: &mut Vec<Tail>) {
        if self.newest() < value {
            self.issue_increment(invoked, tails);
        }
    }

    /// From `since` on the server may drop the key by itself.
    pub(super) fn may_vanish(&mut self, since: Instant) {
        for version in &mut self.versions {
            version.vanishes = version.vanishes.min(since);
        }
    }

    /// From `since` on the server's clock is not to be trusted: what has a TTL may live shorter or longer.
    pub(super) fn may_expire(&mut self, since: Instant) {
        for version in &mut self.versions {
            if let Some((earliest, latest)) = &mut version.expires {
                (*earliest, *latest) = (since.min(*earliest), Instant::MAX);
            }
        }
    }

    /// The key may be sent to another node from now on, or not any more: what it takes is added to a time to live.
    pub(super) fn set_moving(&mut self, moving: bool) {
        self.moving = moving;
        for version in &mut self.versions {
            if let Some((_, latest)) = &mut version.expires {
                *latest = Instant::MAX;
            }
        }
    }

    /// The reply to write `number` came.
    pub(super) fn settle(&mut self, number: u64, outcome: Outcome, ttl: Ttl, at: Instant, through: Option<usize>) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.exclusive &= self.outstanding > 0;
        let moving = self.moving;
        let Some(version) = self.get_mut(number) else { return };
        version.acked = at;
        version.void = outcome != Outcome::Done;
        if let (Ttl::Set(ttl), Some((_, latest)), false) = (ttl, &mut version.expires, moving) {
            *latest = at.after(ttl);
        }
        if outcome == Outcome::Done {
            self.passed_through(through, number);
        }
    }

    fn passed_through(&mut self, through: Option<usize>, number: u64) {
        if let Some(newest) = through.and_then(|instance| self.through.get_mut(instance)) {
            *newest = (*newest).max(2 * number);
        }
    }

    /// An increment was told that it made `value`.
    pub(super) fn claim(&mut self, value: u64, at: Instant, through: Option<usize>) -> Result<(), Broken> {
        if self.newest() < value {
            return Err(Broken::Validity);
        }
        self.known(value, at);
        self.passed_through(through, value);
        match self.get_mut(value) {
            Some(version) if version.claimed => Err(Broken::LostUpdate),
            Some(version) => {
                version.claimed = true;
                Ok(())
            }
            None => Err(Broken::LostUpdate),
        }
    }

    /// Value `number` of a counter was seen: all up to it have been made.
    fn known(&mut self, number: u64, at: Instant) {
        let count = usize::try_from((number + 1).saturating_sub(self.first)).unwrap_or(0);
        let count = count.min(self.versions.len());
        for version in self.versions.range_mut(..count).rev() {
            if version.acked < Instant::MAX {
                break;
            }
            version.acked = at;
        }
    }

    fn drop_old(&mut self, now: Instant, tails: &mut Vec<Tail>) {
        // What a void write was to follow is still the key's state.
        while let Some(next) = self.versions.iter().skip(1).find(|version| !version.void)
            && next.acked < Instant::MAX
            && now.since(next.acked) > KEEP
        {
            if let Some(old) = self.versions.pop_front() {
                tails.extend(old.is_known().then_some((old.tail, old.faults)));
                self.first += 1;
            }
        }
    }

    /// Keeps an operation to be printed.
    pub(super) fn note(&mut self, event: Event) {
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

impl Version {
    fn is_known(&self) -> bool {
        !self.void && self.acked < Instant::MAX && self.invoked > Instant::ZERO
    }
}

#[cfg(test)]
mod tests;
