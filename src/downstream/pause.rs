//! CLIENT PAUSE, as far as nearhit must keep it: while the server answers nothing, the near-cache answers nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::resp::{Request, canonical};
use crate::time::Instant;

/// What a CLIENT PAUSE or UNPAUSE asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Pause { length: Duration, all: bool },
    Unpause,
}

impl Asked {
    /// Reads a request; `None` when the server will refuse it.
    pub(super) fn read(name: &str, request: &Request<'_>) -> Option<Self> {
        if name == "client|unpause" {
            return Some(Self::Unpause);
        }
        let millis = canonical(request.arg(2)).and_then(|millis| u64::try_from(millis).ok())?;
        Some(Self::Pause {
            length: Duration::from_millis(millis),
            all: !request.arg(3).eq_ignore_ascii_case(b"write"),
        })
    }
}

/// The server's pause, as it was asked for through nearhit. Asked for elsewhere, it is not known here: hits go on until
/// the invalidation stream shows no life.
#[derive(Debug, Default)]
pub struct Pause {
    /// Guards the two that change together; never held while anything else is.
    state: Mutex<State>,
    /// Until when nothing is answered from memory, in nanoseconds. Relaxed: it is only compared with the clock.
    all_until: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    until: Instant,
    all: bool,
}

impl Pause {
    /// The server has done as it was asked.
    pub(super) fn done(&self, asked: Asked, now: Instant) {
        let mut state = self.state.lock();
        match asked {
            Asked::Unpause => *state = State::default(),
            // As the server does: what is paused already is only ever paused for longer, and more of it.
            Asked::Pause { length, all } if state.until > now => {
                state.until = state.until.max(now.after(length));
                state.all |= all;
            }
            Asked::Pause { length, all } => {
                state.until = now.after(length);
                state.all = all;
            }
        }
        let all_until = if state.all { state.until } else { Instant::ZERO };
        self.all_until.store(all_until.as_nanos(), Ordering::Relaxed);
    }

    /// Whether nothing may be answered from memory now.
    pub(super) fn holds(&self, now: Instant) -> bool {
        self.all_until.load(Ordering::Relaxed) > now.as_nanos()
    }

    /// Whether the server may still be late because of it, when it may take `limit` to answer.
    pub(super) fn excuses(&self, limit: Duration, now: Instant) -> bool {
        let until = self.state.lock().until;
        until > Instant::ZERO && now < until.after(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(millis: u64, all: bool) -> Asked {
        Asked::Pause {
            length: Duration::from_millis(millis),
            all,
        }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(1 + millis * 1_000_000)
    }

    #[test]
    fn a_pause_is_only_ever_made_longer_and_wider_until_it_ends() {
        let state = Pause::default();
        state.done(pause(100, false), at(0));
        assert!(!state.holds(at(1)), "writes only");
        state.done(pause(10, true), at(0));
        assert!(state.holds(at(99)) && !state.holds(at(100)));
        state.done(pause(50, false), at(200));
        assert!(!state.holds(at(201)), "the one before was over");
        state.done(pause(50, true), at(200));
        state.done(Asked::Unpause, at(201));
        assert!(!state.holds(at(202)));
    }

    #[test]
    fn nobody_is_late_while_the_server_is_paused_and_shortly_after() {
        let state = Pause::default();
        let limit = Duration::from_millis(5);
        assert!(!state.excuses(limit, at(0)));
        state.done(pause(100, false), at(0));
        assert!(state.excuses(limit, at(104)) && !state.excuses(limit, at(105)));
    }
}
