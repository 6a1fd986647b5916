//! What CLIENT LIST tells about a session, kept where every worker can read it.
//!
//! The session's own worker writes, once a turn; whoever lists clients reads. All loads and stores are Relaxed: each
//! value stands alone, and a list is a moment's picture anyway.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::metrics::OTHER;
use crate::time::Instant;

/// The letters of CLIENT LIST's `flags`, a bit each, in the order the server writes them.
pub(super) mod letter {
    pub(in super::super) const MONITOR: u16 = 1;
    pub(in super::super) const PUBSUB: u16 = 1 << 1;
    pub(in super::super) const MULTI: u16 = 1 << 2;
    pub(in super::super) const BLOCKED: u16 = 1 << 3;
    pub(in super::super) const TRACKING: u16 = 1 << 4;
    pub(in super::super) const BROKEN_REDIRECT: u16 = 1 << 5;
    pub(in super::super) const BROADCAST: u16 = 1 << 6;
    pub(in super::super) const UNIX: u16 = 1 << 7;
    pub(in super::super) const NO_EVICT: u16 = 1 << 8;
}

const LETTERS: &[(u16, char)] = &[
    (letter::MONITOR, 'O'),
    (letter::PUBSUB, 'P'),
    (letter::MULTI, 'x'),
    (letter::BLOCKED, 'b'),
    (letter::TRACKING, 't'),
    (letter::BROKEN_REDIRECT, 'R'),
    (letter::BROADCAST, 'B'),
    (letter::UNIX, 'U'),
    (letter::NO_EVICT, 'e'),
];

/// Where a session lives, so that others can have something done to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// The worker.
    pub worker: u16,
    /// The session's place in its worker.
    pub place: u32,
    /// Which session at that place.
    pub generation: u32,
}

/// What a session shows of itself.
#[derive(Debug)]
pub struct Live {
    pub(super) seat: Seat,
    /// CLIENT KILL named it: not one more of its requests is handled. Release and Acquire: whoever was told of the kill
    /// and then makes the killed client send something must find it dead.
    killed: AtomicBool,
    /// The last time something was read from it or written to it.
    seen: AtomicU64,
    /// The number of its last command.
    command: AtomicU16,
    letters: AtomicU16,
    /// Commands queued in its transaction; -1 without one.
    queued: AtomicI32,
    /// Channels, patterns and shard channels it is subscribed to.
    subscriptions: [AtomicU32; 3],
    /// Bytes received and not handled, and bytes not yet written.
    unread: AtomicU32,
    unsent: AtomicU32,
    /// Who gets its invalidations: -1 without tracking, 0 itself.
    redirect: AtomicI64,
}

impl Default for Live {
    fn default() -> Self {
        Self::new(Seat::default())
    }
}

/// One turn's picture of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) letters: u16,
    pub(super) queued: i32,
    pub(super) subscriptions: [u32; 3],
    pub(super) unread: u32,
    pub(super) unsent: u32,
    pub(super) redirect: i64,
}

impl Live {
    pub(super) fn new(seat: Seat) -> Self {
        Self {
            seat,
            killed: AtomicBool::new(false),
            seen: AtomicU64::new(0),
            command: AtomicU16::new(OTHER),
            letters: AtomicU16::new(0),
            queued: AtomicI32::new(-1),
            subscriptions: Default::default(),
            unread: AtomicU32::new(0),
            unsent: AtomicU32::new(0),
            redirect: AtomicI64::new(-1),
        }
    }

    pub(super) fn kill(&self) {
        self.killed.store(true, Ordering::Release);
    }

    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Something was read or written.
    pub(super) fn saw(&self, now: Instant) {
        self.seen.store(now.as_nanos(), Ordering::Relaxed);
    }

    pub(super) fn seen(&self) -> Instant {
        Instant::from_nanos(self.seen.load(Ordering::Relaxed))
    }

    /// The client sent this command.
    pub(super) fn sent(&self, command: u16) {
        self.command.store(command, Ordering::Relaxed);
    }

    pub(super) fn command(&self) -> u16 {
        self.command.load(Ordering::Relaxed)
    }

    pub(super) fn show(&self, shown: &Shown) {
        self.letters.store(shown.letters, Ordering::Relaxed);
        self.queued.store(shown.queued, Ordering::Relaxed);
        for (cell, count) in self.subscriptions.iter().zip(shown.subscriptions) {
            cell.store(count, Ordering::Relaxed);
        }
        self.unread.store(shown.unread, Ordering::Relaxed);
        self.unsent.store(shown.unsent, Ordering::Relaxed);
        self.redirect.store(shown.redirect, Ordering::Relaxed);
    }

    pub(super) fn shown(&self) -> Shown {
        Shown {
            letters: self.letters.load(Ordering::Relaxed),
            queued: self.queued.load(Ordering::Relaxed),
            subscriptions: self.subscriptions.each_ref().map(|cell| cell.load(Ordering::Relaxed)),
            unread: self.unread.load(Ordering::Relaxed),
            unsent: self.unsent.load(Ordering::Relaxed),
            redirect: self.redirect.load(Ordering::Relaxed),
        }
    }
}

impl Shown {
    /// The flags as the server writes them: `N` for a client that has none.
    pub(super) fn flags(&self) -> String {
        let text: String = LETTERS
            .iter()
            .filter(|(bit, _)| self.letters & bit != 0)
            .map(|&(_, letter)| letter)
            .collect();
        if text.is_empty() { "N".to_owned() } else { text }
    }

    pub(super) fn has(&self, letter: u16) -> bool {
        self.letters & letter != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_written_in_the_servers_order() {
        let live = Live::default();
        assert_eq!(live.shown().flags(), "N");
        let letters = letter::NO_EVICT | letter::TRACKING | letter::PUBSUB | letter::MULTI;
        live.show(&Shown {
            letters,
            ..live.shown()
        });
        assert_eq!(live.shown().flags(), "Pxte");
    }
}
