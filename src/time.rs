//! Time as the core sees it: nanoseconds on one monotonic line shared by all threads.
//!
//! Only this module reads a clock. The core takes an [`Instant`] as an argument, so tests steer time with integers.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A point on the process's monotonic line, in nanoseconds.
///
/// Zero is "before anything happened" ([`Instant::ZERO`]): nothing that was measured is ever zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// Before everything that was measured.
    pub const ZERO: Self = Self(0);
    /// After everything that will be measured.
    pub const MAX: Self = Self(u64::MAX);

    /// The point `nanos` nanoseconds along the line.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds along the line.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero when it lies in the future (two threads may read the clock in either order).
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This point moved later by `by`, stopping at [`Instant::MAX`].
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Where [`Instant`]s come from.
#[derive(Debug, Default)]
pub enum Clock {
    /// The operating system's monotonic clock.
    #[default]
    System,
    /// A clock that stands still until a test moves it.
    Manual(AtomicU64),
}

impl Clock {
    /// A clock that reads `start` until it is advanced.
    pub fn manual(start: Instant) -> Self {
        Self::Manual(AtomicU64::new(start.0))
    }

    /// Reads the clock. All system clocks of a process share one line.
    pub fn now(&self) -> Instant {
        match self {
            Self::System => system_now(),
            // SeqCst: only tests use it, and they reason about one order.
            Self::Manual(nanos) => Instant(nanos.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock forward; a system clock moves by itself and ignores it.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(nanos) = self {
            nanos.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
        }
    }
}

/// Reads the operating system's monotonic clock.
pub fn now() -> Instant {
    system_now()
}

#[allow(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
fn system_now() -> Instant {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    let start = START.get_or_init(std::time::Instant::now);
    // +1: nothing that was measured is ever zero.
    Instant(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX - 1) + 1)
}

/// Microseconds since 1970, for what people read; never for timers.
#[allow(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the wall clock"
)]
pub fn unix_micros() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Seconds since 1970, for what people and Prometheus read; never for timers.
#[allow(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the wall clock"
)]
pub fn unix_seconds() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
