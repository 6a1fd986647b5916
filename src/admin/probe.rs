//! What the metrics listener is told: whether the workers turn, whether clients are welcome, and the metrics page.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::figures::is_reachable;
use super::http::{Check, Probe};
use super::sample::sample;
use crate::downstream::Shared;
use crate::time::{self, Instant};
use crate::upstream::Gauges;

/// How long a worker may be silent. Workers tick about ten times a second, so this is twenty ticks missed: a loaded
/// machine is not taken for a dead one. Chosen, not measured.
const SILENT: Duration = Duration::from_secs(2);

/// Answers the probes and renders the metrics.
pub struct Prober {
    shared: Arc<Shared>,
    gauges: Arc<Gauges>,
    /// When each worker ticked last, in nanoseconds of [`Instant`]. Relaxed: a late sight only makes a worker look older.
    heartbeats: Vec<Arc<AtomicU64>>,
    /// nearhit is about to stop. Relaxed: nothing else is read because of it.
    draining: Arc<AtomicBool>,
}

impl Prober {
    /// A prober of the workers that write to `heartbeats`.
    pub fn new(
        shared: Arc<Shared>,
        gauges: Arc<Gauges>,
        heartbeats: Vec<Arc<AtomicU64>>,
        draining: Arc<AtomicBool>,
    ) -> Self {
        Self {
            shared,
            gauges,
            heartbeats,
            draining,
        }
    }

    pub(super) fn live_at(&self, now: Instant) -> Check {
        let ages = self
            .heartbeats
            .iter()
            .map(|beat| now.since(Instant::from_nanos(beat.load(Ordering::Relaxed))));
        match ages.enumerate().max_by_key(|(_, age)| *age) {
            Some((worker, age)) if age > SILENT => Check::fail(
                "worker",
                format!("worker {worker} did not turn for {:.1} s", age.as_secs_f64()),
            ),
            _ => Check::Pass,
        }
    }

    pub(super) fn ready_now(&self) -> Check {
        if self.draining.load(Ordering::Relaxed) {
            return Check::fail("draining", "nearhit is about to stop");
        }
        if !is_reachable(&self.gauges) {
            return Check::fail("upstream", "the server cannot be reached");
        }
        Check::Pass
    }

    fn render_at(&self, now: Instant) -> String {
        let metrics = &self.shared.metrics;
        sample(&self.shared, &self.gauges, metrics, now);
        metrics.draining.set_bool(self.draining.load(Ordering::Relaxed));
        metrics.upstream_up.set_bool(is_reachable(&self.gauges));
        metrics.ready.set_bool(self.ready_now() == Check::Pass);
        metrics.render(now)
    }
}

impl Probe for Prober {
    fn live(&self) -> Check {
        self.live_at(time::now())
    }

    fn ready(&self) -> Check {
        self.ready_now()
    }

    fn render(&self) -> String {
        self.render_at(time::now())
    }
}
