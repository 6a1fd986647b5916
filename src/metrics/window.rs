//! The last minute: a ring of snapshots, and the difference between now and the one that is a minute old.
//!
//! ```text
//!   age  70 s    60 s                                  now
//!         │ drop  │←───────────── window ──────────────→│     newest snapshot between 60 and 70 s old,
//!         ▼       ▼                                     ▼     else the oldest one that is younger
//!   ──────┴──s──s─┴──s──s──s──s──s──s──s──s──s──s──s──s─┘
//! ```
//!
//! Nothing older than 70 seconds is ever part of an answer: when upkeep stalls, the window shrinks or is empty, and
//! [`Window::span`] says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::commands::Fold;
use super::label::Outcome;
use super::latency::LatencySnapshot;
use crate::time::Instant;

/// How far a window reaches back.
const WINDOW: Duration = Duration::from_secs(60);
/// How far it may reach back when no snapshot is exactly a minute old: one upkeep interval more.
const OLDEST: Duration = Duration::from_secs(70);
/// Snapshots closer than this are not worth their memory; chosen, so that a ring holds at most 18.
const SPACING: Duration = Duration::from_secs(4);

/// Snapshots of the last minute.
///
/// Invariant: oldest first. An unchanged distribution is shared with the snapshot before, so idle commands cost nothing.
#[derive(Debug)]
pub(super) struct Ring {
    snapshots: VecDeque<(Instant, Fold)>,
}

impl Ring {
    /// A ring that begins, with nothing recorded, at `now`.
    pub(super) fn starting(now: Instant) -> Self {
        Self {
            snapshots: VecDeque::from([(now, Fold::new())]),
        }
    }

    /// Whether the last snapshot is old enough for another.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.snapshots
            .back()
            .is_none_or(|(taken, _)| now.since(*taken) >= SPACING)
    }

    pub(super) fn push(&mut self, now: Instant, mut fold: Fold) {
        if let Some((_, last)) = self.snapshots.back() {
            for (series, latency) in &mut fold {
                if let Some(unchanged) = last.get(series).filter(|before| *before == latency) {
                    *latency = Arc::clone(unchanged);
                }
            }
        }
        self.snapshots.push_back((now, fold));
        while self
            .snapshots
            .front()
            .is_some_and(|(taken, _)| now.since(*taken) > OLDEST)
        {
            self.snapshots.pop_front();
        }
    }

    /// What lies between the snapshot a minute ago and `current`.
    pub(super) fn window(&self, now: Instant, current: &Fold) -> Window {
        let recent = || self.snapshots.iter().filter(|(taken, _)| now.since(*taken) <= OLDEST);
        let minute_old = recent().rfind(|(taken, _)| now.since(*taken) >= WINDOW);
        let Some((taken, base)) = minute_old.or_else(|| recent().next()) else {
            return Window::default();
        };
        let since = |(series, latency): (&(u16, Outcome), &Arc<LatencySnapshot>)| {
            let difference = match base.get(series) {
                Some(before) if Arc::ptr_eq(before, latency) => return None,
                Some(before) => latency.minus(before),
                None => LatencySnapshot::clone(latency),
            };
            (difference.count() > 0).then_some((*series, difference))
        };
        Window {
            span: now.since(*taken),
            series: current.iter().filter_map(since).collect(),
        }
    }
}

/// Latencies of the last minute, by command and outcome.
#[derive(Clone, Debug, Default)]
pub struct Window {
    span: Duration,
    series: BTreeMap<(u16, Outcome), LatencySnapshot>,
}

impl Window {
    /// How long the window is: 60 to 70 seconds, less shortly after the start.
    pub fn span(&self) -> Duration {
        self.span
    }

    /// The commands that ended in this window, in table order.
    pub fn commands(&self) -> Vec<u16> {
        let mut commands: Vec<_> = self.series.keys().map(|(command, _)| *command).collect();
        commands.dedup();
        commands
    }

    /// Requests of `command` that ended so.
    pub fn of(&self, command: u16, outcome: Outcome) -> LatencySnapshot {
        self.merged(|series| series == (command, outcome))
    }

    /// Requests of `command`, however they ended.
    pub fn of_command(&self, command: u16) -> LatencySnapshot {
        self.merged(|series| series.0 == command)
    }

    /// Requests of all commands that ended so.
    pub fn of_outcome(&self, outcome: Outcome) -> LatencySnapshot {
        self.merged(|series| series.1 == outcome)
    }

    /// All requests.
    pub fn all(&self) -> LatencySnapshot {
        self.merged(|_| true)
    }

    /// Requests of the series that `belongs` accepts.
    pub(super) fn merged(&self, belongs: impl Fn((u16, Outcome)) -> bool) -> LatencySnapshot {
        let mut merged = LatencySnapshot::default();
        self.series
            .iter()
            .filter(|(series, _)| belongs(**series))
            .for_each(|(_, latency)| merged.merge(latency));
        merged
    }
}

/// The figures people ask for, each at most 3.2 % above the exact one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// How many requests.
    pub count: u64,
    /// The mean, exact.
    pub mean: Duration,
    /// Half were not slower.
    pub p50: Duration,
    /// 95 % were not slower.
    pub p95: Duration,
    /// 99 % were not slower.
    pub p99: Duration,
    /// 99.9 % were not slower.
    pub p999: Duration,
}

impl LatencySnapshot {
    /// The figures people ask for; `None` when there were no requests.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let at = |q| self.quantile(q).map(Duration::from_nanos);
        Some(Percentiles {
            count: self.count(),
            mean: Duration::from_nanos(self.sum().checked_div(self.count())?),
            p50: at(0.5)?,
            p95: at(0.95)?,
            p99: at(0.99)?,
            p999: at(0.999)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::commands::CommandMetrics;
    use super::*;

    const GET: u16 = 0;

    fn second(n: u64) -> Instant {
        Instant::ZERO.after(Duration::from_secs(n))
    }

    fn window_count(metrics: &CommandMetrics, at: u64) -> (u64, u64) {
        let window = metrics.window(second(at));
        (window.all().count(), window.span().as_secs())
    }

    #[test]
    fn before_a_minute_has_passed_the_window_is_since_the_start() {
        let metrics = CommandMetrics::new(["get"], second(100));
        metrics.add_worker().record(GET, Outcome::Hit, 1_000);
        metrics.tick(second(110));
        assert_eq!(window_count(&metrics, 130), (1, 30));
    }

    #[test]
    fn what_is_older_than_seventy_seconds_is_gone() {
        let metrics = CommandMetrics::new(["get"], second(0));
        let worker = metrics.add_worker();
        for at in 0..40 {
            metrics.tick(second(at * 10));
            worker.record(GET, Outcome::Hit, 1_000);
            let (count, span) = window_count(&metrics, at * 10 + 9);
            assert!(
                span <= 70 && (at < 6 || span >= 60),
                "at tick {at} the window spans {span} s"
            );
            assert_eq!(count, (at + 1).min(7));
        }
    }

    #[test]
    fn an_idle_minute_leaves_an_empty_window() {
        let metrics = CommandMetrics::new(["get"], second(0));
        metrics.add_worker().record(GET, Outcome::Hit, 1_000);
        (1..20).for_each(|at| metrics.tick(second(at * 5)));
        assert_eq!(window_count(&metrics, 95), (0, 60));
        assert_eq!(metrics.window(second(95)).all().percentiles(), None);
    }

    #[test]
    fn when_upkeep_stalls_the_window_is_empty_rather_than_old() {
        let metrics = CommandMetrics::new(["get"], second(0));
        metrics.add_worker().record(GET, Outcome::Hit, 1_000);
        metrics.tick(second(5));
        assert_eq!(window_count(&metrics, 75), (0, 70));
        assert_eq!(window_count(&metrics, 300), (0, 0));
    }

    #[test]
    fn a_window_tells_commands_and_outcomes_apart() {
        let metrics = CommandMetrics::new(["get", "set"], second(0));
        let worker = metrics.add_worker();
        worker.record_n(0, Outcome::Hit, 1_000, 98);
        worker.record_n(0, Outcome::Miss, 300_000, 2);
        worker.record(1, Outcome::Write, 400_000);
        let window = metrics.window(second(1));
        let get = window.of_command(0).percentiles().unwrap();
        assert_eq!(
            (get.count, get.p50.as_nanos(), get.p99.as_nanos() / 10_000),
            (100, 1_007, 30)
        );
        assert_eq!(window.of(0, Outcome::Hit).count(), 98);
        assert_eq!(window.of_outcome(Outcome::Write).count(), 1);
        assert_eq!(window.commands(), [0, 1]);
    }

    #[test]
    fn ticks_that_come_too_soon_are_ignored() {
        let metrics = CommandMetrics::new(["get"], second(0));
        metrics.tick(second(3));
        assert_eq!(window_count(&metrics, 64).1, 64);
    }
}
