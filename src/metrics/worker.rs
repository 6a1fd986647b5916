//! The write side: one recorder per worker, so that counting a request touches no memory another core writes.

use std::marker::PhantomData;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::hot_keys::{HotKeys, Sampler};
use super::label::{Bypass, CacheResult, Direction, Label, Outcome};
use super::latency::{LatencyArray, add_single_writer};

/// Values of [`Outcome`].
const OUTCOMES: usize = Outcome::ALL.len();

/// The command number of everything that has no row in the command table. Any number beyond the table means the same.
pub const OTHER: u16 = u16::MAX;

/// What one worker counts.
///
/// Invariant: only its worker writes (see [`LatencyArray`]); everyone may read. A request costs two counters and one
/// bucket: three loads and three stores to lines that stay in the worker's own cache.
#[derive(Debug)]
pub struct WorkerRecorder {
    /// One slot per command, and a last one for [`OTHER`].
    slots: Box<[Slot]>,
    /// What the near-cache said.
    pub cache: Cells<CacheResult>,
    /// Why it was not asked.
    pub bypass: Cells<Bypass>,
    /// How long ago the answers of hits were fetched.
    pub served_age: Box<LatencyArray>,
    /// Bytes read from and written to clients.
    pub client_bytes: Cells<Direction>,
    /// Bytes read from and written to servers.
    pub upstream_bytes: Cells<Direction>,
    /// Which reads are counted by key.
    pub sampler: Sampler,
    /// Which keys these were. The lock is the worker's own but for when somebody asks.
    pub hot_keys: Mutex<HotKeys>,
}

/// What is counted for one command.
#[derive(Debug, Default)]
struct Slot {
    counts: Cells<Outcome>,
    /// 10 KiB each, made when the first request of that outcome ends: most commands of the table are never sent.
    latencies: [OnceLock<Box<LatencyArray>>; OUTCOMES],
}

impl WorkerRecorder {
    /// A recorder for a command table of `commands` rows.
    pub fn new(commands: usize) -> Self {
        Self {
            slots: std::iter::repeat_with(Slot::default).take(commands + 1).collect(),
            cache: Cells::default(),
            bypass: Cells::default(),
            served_age: Box::default(),
            client_bytes: Cells::default(),
            upstream_bytes: Cells::default(),
            sampler: Sampler::default(),
            hot_keys: Mutex::default(),
        }
    }

    /// Counts one request that took `nanos`.
    #[inline]
    pub fn record(&self, command: u16, outcome: Outcome, nanos: u64) {
        self.record_n(command, outcome, nanos, 1);
    }

    /// Counts `n` requests that took `nanos` each: requests of one batch share one latency.
    #[inline]
    pub fn record_n(&self, command: u16, outcome: Outcome, nanos: u64, n: u64) {
        let Some(slot) = self.slot(command) else { return };
        slot.counts.add(outcome, n);
        if let Some(latency) = slot.latencies.get(outcome.index()) {
            latency.get_or_init(Box::default).record_n(nanos, n);
        }
    }

    /// Counts `n` requests whose duration was not measured.
    #[inline]
    pub fn count(&self, command: u16, outcome: Outcome, n: u64) {
        if let Some(slot) = self.slot(command) {
            slot.counts.add(outcome, n);
        }
    }

    /// How many requests of `command` ended so.
    pub fn total(&self, command: u16, outcome: Outcome) -> u64 {
        self.slot(command).map_or(0, |slot| slot.counts.get(outcome))
    }

    /// How long requests of `command` that ended so took; `None` until there was one.
    pub fn latency(&self, command: u16, outcome: Outcome) -> Option<&LatencyArray> {
        self.slot(command)?
            .latencies
            .get(outcome.index())?
            .get()
            .map(AsRef::as_ref)
    }

    #[inline]
    fn slot(&self, command: u16) -> Option<&Slot> {
        // Numbers beyond the table share the last slot.
        self.slots.get(usize::from(command).min(self.slots.len() - 1))
    }
}

/// One counter per label value, written by one thread and read by any.
#[derive(Debug)]
pub struct Cells<L> {
    /// Relaxed: each cell only grows, and a reader needs no order between cells.
    cells: [AtomicU64; MAX_VALUES],
    label: PhantomData<L>,
}

/// Room for the values of any label counted by workers, inline: a pointer less on the way of every request.
const MAX_VALUES: usize = 16;

impl<L> Default for Cells<L> {
    fn default() -> Self {
        Self {
            cells: [const { AtomicU64::new(0) }; MAX_VALUES],
            label: PhantomData,
        }
    }
}

impl<L: Label> Cells<L> {
    /// Adds `n`; only the worker that owns the recorder may.
    #[inline]
    pub fn add(&self, label: L, n: u64) {
        const {
            assert!(
                L::ALL.len() <= MAX_VALUES,
                "a label has more values than a recorder has cells"
            )
        }
        if let Some(cell) = self.cells.get(label.index()) {
            add_single_writer(cell, n);
        }
    }

    /// Adds one; only the worker that owns the recorder may.
    #[inline]
    pub fn inc(&self, label: L) {
        self.add(label, 1);
    }

    /// The count until now.
    pub fn get(&self, label: L) -> u64 {
        self.cells
            .get(label.index())
            .map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_request_is_counted_and_timed() {
        let recorder = WorkerRecorder::new(3);
        recorder.record_n(2, Outcome::Hit, 1_000, 4);
        recorder.count(2, Outcome::Hit, 1);
        assert_eq!(recorder.total(2, Outcome::Hit), 5);
        assert_eq!(recorder.latency(2, Outcome::Hit).unwrap().snapshot().count(), 4);
        assert!(recorder.latency(2, Outcome::Miss).is_none());
    }

    #[test]
    fn a_command_beyond_the_table_is_counted_as_other() {
        let recorder = WorkerRecorder::new(3);
        recorder.record(3, Outcome::Write, 1);
        recorder.record(OTHER, Outcome::Write, 1);
        assert_eq!(recorder.total(OTHER, Outcome::Write), 2);
        assert_eq!(recorder.total(2, Outcome::Write), 0);
    }
}
