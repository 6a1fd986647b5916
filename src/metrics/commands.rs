//! What clients asked and how long it took: all workers' recorders, folded when somebody asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::hot_keys::{HotKey, HotKeys, hottest};
use super::label::{Label, Outcome};
use super::latency::LatencySnapshot;
use super::window::{Ring, Window};
use super::worker::{OTHER, WorkerRecorder};
use crate::time::Instant;

/// Values the `cmd` label may take, [`OTHER_NAME`] among them: chosen, so that a fleet of sidecars stays cheap to scrape.
pub const MAX_COMMAND_LABELS: usize = 64;

/// The label of every command that has none of its own.
pub const OTHER_NAME: &str = "other";

/// Latencies by command and outcome at one moment; only those that were ever recorded.
pub(super) type Fold = BTreeMap<(u16, Outcome), Arc<LatencySnapshot>>;

/// The recorders of all workers.
///
/// Workers write to their own recorder; this side only reads them, adds them up, and remembers the last minute.
#[derive(Debug)]
pub struct CommandMetrics {
    names: Box<[Box<str>]>,
    /// Guards the list, not the recorders: taken to add a worker and to fold, never by a request. A worker that ended
    /// stays in the list, for a total must not go down.
    workers: RwLock<Vec<Arc<WorkerRecorder>>>,
    /// Guards which commands have a label of their own. A label once given is kept, else its counters would jump.
    labelled: Mutex<BTreeSet<u16>>,
    /// Guards the last minute's snapshots; taken by upkeep and by whoever asks for a window.
    ring: Mutex<Ring>,
}

/// What was counted for one command since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandTotals {
    /// The command's number in the table, or [`OTHER`].
    pub command: u16,
    by_outcome: [u64; Outcome::ALL.len()],
}

impl CommandTotals {
    /// Requests that ended so.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.by_outcome.get(outcome.index()).copied().unwrap_or(0)
    }

    /// Requests, however they ended.
    pub fn all(&self) -> u64 {
        self.by_outcome.iter().sum()
    }
}

impl CommandMetrics {
    /// Metrics of the commands `names`, in the order of the command table; `now` is when they begin.
    pub fn new<N: Into<Box<str>>>(names: impl IntoIterator<Item = N>, now: Instant) -> Self {
        Self {
            names: names.into_iter().map(Into::into).take(usize::from(OTHER)).collect(),
            workers: RwLock::default(),
            labelled: Mutex::default(),
            ring: Mutex::new(Ring::starting(now)),
        }
    }

    /// A recorder for one more worker, which alone may write to it.
    pub fn add_worker(&self) -> Arc<WorkerRecorder> {
        let recorder = Arc::new(WorkerRecorder::new(self.names.len()));
        self.workers.write().push(Arc::clone(&recorder));
        recorder
    }

    /// The name of a command, [`OTHER_NAME`] for one beyond the table.
    pub fn name(&self, command: u16) -> &str {
        self.names.get(usize::from(command)).map_or(OTHER_NAME, |name| name)
    }

    /// Requests since the start, for every command that had one, in table order.
    pub fn totals(&self) -> Vec<CommandTotals> {
        let workers = self.workers.read();
        let totals = self.numbers().map(|command| {
            let mut by_outcome = [0; Outcome::ALL.len()];
            for (sum, outcome) in by_outcome.iter_mut().zip(Outcome::ALL) {
                *sum = workers.iter().map(|worker| worker.total(command, *outcome)).sum();
            }
            CommandTotals { command, by_outcome }
        });
        totals.filter(|totals| totals.all() > 0).collect()
    }

    /// Adds up one counter of every worker.
    pub fn sum(&self, of_worker: impl Fn(&WorkerRecorder) -> u64) -> u64 {
        self.workers.read().iter().map(|worker| of_worker(worker)).sum()
    }

    /// The `count` keys that were read most in the last minute, as far as a sample of one read in [`super::SAMPLED`] tells, and
    /// how long that sample is. Holds every worker up for as long as it takes to look at its counters.
    pub fn hottest(&self, count: usize, now: Instant) -> (Vec<HotKey>, Duration) {
        let workers = self.workers.read();
        let mut locked: Vec<_> = workers.iter().map(|worker| worker.hot_keys.lock()).collect();
        let mut summaries: Vec<&mut HotKeys> = locked.iter_mut().map(|locked| &mut **locked).collect();
        hottest(&mut summaries, count, now)
    }

    /// How long ago the answers of hits were fetched, of all workers.
    pub fn served_age(&self) -> LatencySnapshot {
        let mut sum = LatencySnapshot::default();
        let workers = self.workers.read();
        workers.iter().for_each(|worker| worker.served_age.add_to(&mut sum));
        sum
    }

    /// Remembers this moment, so that [`CommandMetrics::window`] can tell the last minute from the time before.
    /// Call it every five to ten seconds; calls that come sooner are ignored.
    pub fn tick(&self, now: Instant) {
        if self.ring.lock().is_due(now) {
            let fold = self.fold();
            self.ring.lock().push(now, fold);
        }
    }

    /// Latencies of the last 60 to 70 seconds; of the time since the start while that is shorter.
    pub fn window(&self, now: Instant) -> Window {
        let current = self.fold();
        self.ring.lock().window(now, &current)
    }

    /// Every worker's latencies, added up. Costs 10 KiB of reading per command, outcome and worker that was active.
    pub(super) fn fold(&self) -> Fold {
        let workers = self.workers.read();
        let mut fold = Fold::new();
        for command in self.numbers() {
            for outcome in Outcome::ALL {
                let mut sum = LatencySnapshot::default();
                workers
                    .iter()
                    .filter_map(|worker| worker.latency(command, *outcome))
                    .for_each(|l| l.add_to(&mut sum));
                if sum.count() > 0 {
                    fold.insert((command, *outcome), Arc::new(sum));
                }
            }
        }
        fold
    }

    /// The commands that have a label of their own. The first [`MAX_COMMAND_LABELS`]` - 1` to show activity get one, the
    /// busiest first where several show it at once; the rest share [`OTHER_NAME`].
    pub(super) fn labelled(&self, totals: &[CommandTotals]) -> BTreeSet<u16> {
        let mut labelled = self.labelled.lock();
        let mut waiting: Vec<_> = totals
            .iter()
            .filter(|new| new.command != OTHER && !labelled.contains(&new.command))
            .collect();
        waiting.sort_by_key(|new| std::cmp::Reverse(new.all()));
        let room = (MAX_COMMAND_LABELS - 1).saturating_sub(labelled.len());
        labelled.extend(waiting.iter().take(room).map(|new| new.command));
        labelled.clone()
    }

    /// Every command number there is.
    fn numbers(&self) -> impl Iterator<Item = u16> {
        (0..OTHER).take(self.names.len()).chain([OTHER])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: u16 = 0;
    const SET: u16 = 1;

    fn metrics() -> CommandMetrics {
        CommandMetrics::new(["get", "set"], Instant::ZERO)
    }

    #[test]
    fn totals_add_up_all_workers() {
        let metrics = metrics();
        let (first, second) = (metrics.add_worker(), metrics.add_worker());
        first.record(GET, Outcome::Hit, 10);
        second.record_n(GET, Outcome::Hit, 10, 2);
        second.record(OTHER, Outcome::Bypass, 10);
        let totals = metrics.totals();
        let seen: Vec<_> = totals
            .iter()
            .map(|row| (metrics.name(row.command), row.all()))
            .collect();
        assert_eq!(seen, [("get", 3), ("other", 1)]);
    }

    #[test]
    fn a_worker_that_ended_still_counts() {
        let metrics = metrics();
        metrics.add_worker().record(SET, Outcome::Write, 10);
        assert_eq!(metrics.totals().first().unwrap().of(Outcome::Write), 1);
    }

    #[test]
    fn two_threads_record_while_a_third_folds() {
        let metrics = metrics();
        let writers = [metrics.add_worker(), metrics.add_worker()];
        std::thread::scope(|scope| {
            for writer in &writers {
                scope.spawn(|| (0..20_000).for_each(|nanos| writer.record(GET, Outcome::Hit, nanos)));
            }
            let mut before = 0;
            while before < 40_000 {
                let now = metrics.fold().get(&(GET, Outcome::Hit)).map_or(0, |fold| fold.count());
                assert!(now >= before, "a count went back from {before} to {now}");
                before = now;
            }
        });
        assert_eq!(metrics.totals().first().unwrap().of(Outcome::Hit), 40_000);
    }

    #[test]
    fn the_busiest_commands_get_labels_first_and_keep_them() {
        let metrics = CommandMetrics::new((0..100).map(|n| format!("cmd{n}")), Instant::ZERO);
        let worker = metrics.add_worker();
        (0..100).for_each(|command| worker.count(command, Outcome::Write, u64::from(command) + 1));
        let first = metrics.labelled(&metrics.totals());
        assert_eq!(first, (100 - 63..100).collect());
        worker.count(0, Outcome::Write, 1_000_000);
        assert_eq!(metrics.labelled(&metrics.totals()), first);
    }
}
