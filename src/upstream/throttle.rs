//! How many connections are opened to one node, by all workers together: so many at once, and then so many a second.
//!
//! ```text
//! pinned ─┐ burst: pinned_max                 ┌ at once
//! shared ─┴ burst: that and a reserve → bucket┼ a little later, for as long as connecting may take
//!                                             └ never: the client is told
//! ```
//! The reserve is what pinned connections can use up by waiting for their turn, so that those on which everybody depends never
//! wait behind them. Connections that invalidations come over and those that watch a node are not counted: they are few, and
//! open one at a time.

use std::time::Duration;

use parking_lot::Mutex;

use super::loss::Loss;
use crate::config::Address;
use crate::time::Instant;

/// Shared connections that may be opened at once at least, beyond the pinned ones: those of some users and databases, by each
/// of some workers. Chosen, not measured.
const SHARED: u64 = 64;

/// How fast connections to a node may be opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Connections a second; 0: no limit.
    pub(super) per_second: u64,
    /// Pinned connections that may be opened at once.
    pub(super) burst: u64,
    /// How long one may wait for its turn.
    pub(super) patience: Duration,
}

impl Rate {
    fn every(&self) -> u64 {
        1_000_000_000_u64.checked_div(self.per_second).unwrap_or(0)
    }

    /// How far ahead of its rate the bucket may be.
    fn tolerance(&self, pinned: bool) -> u64 {
        let waiting = (self.per_second as f64 * self.patience.as_secs_f64()).ceil();
        // At most a hundred thousand a second for an hour.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is small and positive"
        )]
        let reserve = if pinned { 0 } else { (waiting as u64).max(SHARED) };
        self.every().saturating_mul(self.burst.saturating_add(reserve))
    }
}

/// When a connection may be opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Now,
    After(Duration),
    /// It would wait for longer than it may.
    Never(Duration, Loss),
}

impl Admission {
    /// Waits for it.
    pub(super) async fn wait(self) -> Result<(), Loss> {
        match self {
            Self::Now => Ok(()),
            Self::After(delay) => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
            Self::Never(delay, loss) => {
                // Who comes back at once would come back for nothing.
                tokio::time::sleep(delay).await;
                Err(loss)
            }
        }
    }
}

/// The bucket of one node.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// When as many connections as were opened would have been opened at the rate. Guards a plain number; taken once for a
    /// connection.
    paid: Mutex<Instant>,
}

impl Throttle {
    /// Takes what one connection costs.
    pub(super) fn take(&self, rate: &Rate, pinned: bool, address: &Address, now: Instant) -> Admission {
        if rate.per_second == 0 {
            return Admission::Now;
        }
        let every = Duration::from_nanos(rate.every());
        let mut paid = self.paid.lock();
        let next = (*paid).max(now).after(every);
        let ahead = u64::try_from(next.since(now).as_nanos()).unwrap_or(u64::MAX);
        let delay = Duration::from_nanos(ahead.saturating_sub(rate.tolerance(pinned)));
        if delay > rate.patience {
            let (per_second, patience) = (rate.per_second, rate.patience);
            return Admission::Never(
                patience,
                Loss::Crowded(format!(
                    "connect to {address}: {per_second} connections are opened there a second at most \
                     (upstream.connect_rate), and none was to be had within {patience:?}"
                )),
            );
        }
        *paid = next;
        if delay.is_zero() {
            Admission::Now
        } else {
            Admission::After(delay)
        }
    }

    /// There was no connection after all that the node would have had to do with.
    pub(super) fn give_back(&self, rate: &Rate) {
        let mut paid = self.paid.lock();
        *paid = Instant::from_nanos(paid.as_nanos().saturating_sub(rate.every()));
    }

    /// Whether pinned connections that are closed now may not be had again so soon.
    pub(super) fn is_scarce(&self, rate: &Rate, now: Instant) -> bool {
        let ahead = self.paid.lock().since(now).as_nanos();
        rate.per_second > 0 && ahead > u128::from(rate.tolerance(true) / 2)
    }

    /// Whether it would admit less than a new one.
    pub(super) fn is_in_use(&self, now: Instant) -> bool {
        *self.paid.lock() > now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 20,
        burst: 10,
        patience: Duration::from_millis(100),
    };

    fn ms(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn take(throttle: &Throttle, pinned: bool, now: u64) -> Admission {
        throttle.take(&RATE, pinned, &Address::nowhere(), ms(now))
    }

    #[test]
    fn as_many_as_the_burst_are_opened_at_once_and_then_one_each_interval() {
        let throttle = Throttle::default();
        assert!((0..10).all(|_| take(&throttle, true, 1000) == Admission::Now));
        assert!(throttle.is_scarce(&RATE, ms(1000)));
        for delay in [50, 100] {
            assert_eq!(
                take(&throttle, true, 1000),
                Admission::After(Duration::from_millis(delay))
            );
        }
        assert!(matches!(take(&throttle, true, 1000), Admission::Never(..)));
        assert_eq!(
            take(&throttle, true, 1050),
            Admission::After(Duration::from_millis(100))
        );
        assert_eq!(take(&throttle, true, 1200), Admission::Now);
        throttle.give_back(&RATE);
        assert_eq!(take(&throttle, true, 1200), Admission::Now);
        assert!(throttle.is_in_use(ms(1200)) && !throttle.is_in_use(ms(2000)));
        assert!(!throttle.is_scarce(&RATE, ms(2000)));
    }

    #[test]
    fn what_everybody_shares_does_not_wait_behind_what_one_client_wants() {
        let throttle = Throttle::default();
        while !matches!(take(&throttle, true, 1000), Admission::Never(..)) {}
        assert_eq!(take(&throttle, false, 1000), Admission::Now);
        let more = (0..).take_while(|_| take(&throttle, false, 1000) == Admission::Now);
        assert_eq!(
            more.count(),
            61,
            "64 and the burst of the others, which had two to come"
        );
    }

    #[test]
    fn without_a_rate_nothing_is_counted() {
        let (throttle, rate) = (Throttle::default(), Rate { per_second: 0, ..RATE });
        let admitted = |_| throttle.take(&rate, true, &Address::nowhere(), ms(1)) == Admission::Now;
        assert!((0..1000).all(admitted));
        assert!(!throttle.is_scarce(&rate, ms(1)));
    }
}
