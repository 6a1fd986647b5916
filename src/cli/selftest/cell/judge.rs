//! What a read must keep: it is compared with every version the key may have had for whoever reads.

use super::{Cell, Content, EXPIRY_SLACK, Kind, Version};
use nearhit::time::Instant;
use std::time::Duration;

/// What a reply says about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::selftest) enum Seen {
    Nothing,
    Id(u64),
    Items {
        id: u64,
        items: u8,
    },
    Exists(bool),
    Length(u64),
    /// Half of a pair.
    Half(u64),
    /// Elements of several versions in one value.
    Torn,
}

impl Seen {
    fn fits(self, kind: Kind, version: &Version, completed: Instant) -> bool {
        match (self, version.content) {
            (Self::Nothing, content) => content == Content::Nothing,
            (Self::Id(seen), Content::Held { id, .. }) => seen == id,
            (Self::Items { id: seen, items: count }, Content::Held { id, items }) => seen == id && count == items,
            (Self::Exists(exists), content) => exists == (content != Content::Nothing),
            (Self::Length(length), content) => length == kind.length(content),
            // The server may evict one of two keys that are written together.
            (Self::Half(seen), Content::Held { id, .. }) => seen == id && version.vanishes <= completed,
            _ => false,
        }
    }

    fn fits_nothing(self) -> bool {
        matches!(self, Self::Nothing | Self::Exists(false) | Self::Length(0))
    }

    /// Whether at most one version can fit.
    fn names_one(self, version: &Version) -> bool {
        matches!(self, Self::Id(_) | Self::Items { .. }) && !version.moved
    }
}

/// A read, and what its session must see at least.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli::selftest) struct Read {
    pub(in crate::cli::selftest) session: u32,
    pub(in crate::cli::selftest) invoked: Instant,
    pub(in crate::cli::selftest) completed: Instant,
    /// Versions acknowledged so long before the read must be seen.
    pub(in crate::cli::selftest) bound: Duration,
    /// Positions: what the session read, what it wrote, what was acknowledged through the same instance.
    pub(in crate::cli::selftest) read: u64,
    pub(in crate::cli::selftest) wrote: u64,
    pub(in crate::cli::selftest) through: u64,
    pub(in crate::cli::selftest) faults: u64,
}

/// What a read that is in order says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::selftest) struct Verdict {
    /// The lowest position it may have seen.
    pub(in crate::cli::selftest) position: u64,
    /// How long before the read a newer version had been acknowledged.
    pub(in crate::cli::selftest) staleness: Duration,
}

/// What a read, or a write's reply, broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli::selftest) enum Broken {
    Validity,
    Torn,
    Staleness,
    Expiry,
    OwnWrites,
    Monotonic,
    Visibility,
    LostUpdate,
    Convergence,
    Protocol,
}

impl Broken {
    pub(in crate::cli::selftest) fn describe(self) -> &'static str {
        match self {
            Self::Validity => "I1 validity: a value that the key never had",
            Self::Torn => "I1 validity: parts of different versions in one reply",
            Self::Staleness => "I2 staleness: overwritten longer ago than the bound",
            Self::Expiry => "I2 staleness: an expired value",
            Self::OwnWrites => "I3 read-your-writes: older than the session's own write, or newer than the request",
            Self::Monotonic => "I4 monotonic reads: older than what the session has read",
            Self::Visibility => "I5 visibility: older than a write acknowledged through the same instance",
            Self::LostUpdate => "I7 lost update: two increments made the same value",
            Self::Convergence => "I8 convergence: not what the server says, although nothing has changed",
            Self::Protocol => "I9 protocol: a reply that does not belong there",
        }
    }
}

impl Cell {
    /// Judges what a read saw.
    pub(in crate::cli::selftest) fn judge(&mut self, read: &Read, seen: Seen) -> Result<Verdict, Broken> {
        let floor = read.read.max(read.wrote).max(read.through).max(self.settled(read));
        let Some((highest, lowest)) = self.candidates(read, seen, floor) else {
            return Err(self.why(read, seen));
        };
        if self.kind.counts() {
            self.known(lowest / 2, read.completed);
        }
        Ok(Verdict {
            position: lowest,
            staleness: self.staleness(read, highest / 2),
        })
    }

    /// The position that everybody must see who reads now: of the newest version acknowledged longer ago than the bound.
    fn settled(&self, read: &Read) -> u64 {
        let settled = self
            .versions
            .partition_point(|version| version.acked.after(read.bound) <= read.invoked && version.acked < Instant::MAX);
        let kept = self.versions.range(..settled).rposition(|version| !version.void);
        kept.map_or(0, |index| 2 * (self.first + index as u64))
    }

    /// The highest and the lowest position from `floor` on at which the key looked as seen.
    fn candidates(&self, read: &Read, seen: Seen, floor: u64) -> Option<(u64, u64)> {
        let mut found: Option<(u64, u64)> = None;
        let lowest = (floor / 2).max(self.first);
        for number in (lowest..=self.newest()).rev() {
            let Some(version) = self.get(number) else { break };
            // What the session itself has sent later cannot be in the reply to what it sent earlier.
            let later = version.writer == read.session && version.acked == Instant::MAX;
            if version.void || later || version.invoked > read.completed {
                continue;
            }
            let fits = seen.fits(self.kind, version, read.completed);
            // Where one of a pair is gone, whoever asked for it alone has seen that.
            let gone = seen.fits_nothing() || (fits && matches!(seen, Seen::Half(_)));
            let vanished = gone && version.vanished(read.completed);
            let held = 2 * number >= floor && fits && !expired(version, read);
            for position in [vanished.then_some(2 * number + 1), held.then_some(2 * number)] {
                let Some(position) = position else { continue };
                found = Some((found.map_or(position, |(highest, _)| highest), position));
            }
            // Not one that does not fit: below it may be the version whose content was moved back here.
            if held && seen.names_one(version) {
                break;
            }
        }
        found
    }

    /// Which promise a read broke that fits nothing.
    fn why(&self, read: &Read, seen: Seen) -> Broken {
        if seen == Seen::Torn || matches!(seen, Seen::Half(_)) {
            return Broken::Torn;
        }
        let anything = Read {
            session: u32::MAX,
            ..*read
        };
        let Some((highest, _)) = self.candidates(&anything, seen, 0) else {
            let ever = |version: &Version| !version.void && seen.fits(self.kind, version, read.completed);
            let late = self
                .versions
                .iter()
                .any(|version| ever(version) && expired(version, read));
            return if late { Broken::Expiry } else { Broken::Validity };
        };
        if highest < self.settled(read) {
            Broken::Staleness
        } else if highest < read.wrote {
            Broken::OwnWrites
        } else if highest < read.through {
            Broken::Visibility
        } else if highest < read.read {
            Broken::Monotonic
        } else {
            Broken::OwnWrites
        }
    }

    /// How long before the read the version after `number` was acknowledged; the versions it missed are told.
    fn staleness(&mut self, read: &Read, number: u64) -> Duration {
        let mut most = Duration::ZERO;
        let from = usize::try_from((number + 1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        for version in self.versions.iter_mut().skip(from) {
            if version.acked >= read.invoked {
                break;
            }
            if !version.void {
                let late = read.invoked.since(version.acked);
                let nanos = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
                if nanos > version.tail {
                    version.tail = nanos;
                    version.faults |= read.faults;
                }
                most = most.max(late);
            }
        }
        most
    }
}

/// Whether the version's time was over when the read was invoked.
fn expired(version: &Version, read: &Read) -> bool {
    let Some((_, latest)) = version.expires else {
        return false;
    };
    version.content != Content::Nothing && latest.after(EXPIRY_SLACK) < read.invoked
}
