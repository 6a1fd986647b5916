//! What a run found: how many operations were checked, how stale reads were, what was violated.

use super::cell::{Broken, Tail};
use nearhit::metrics::{LatencyArray, LatencySnapshot};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Violations of each kind that are kept with their history; the others are counted.
const STORIES: u64 = 3;
/// Bytes of an error reply by which it is told from others.
const SHOWN: usize = 80;
/// Kinds of error replies that are told apart.
const MAX_ERRORS: usize = 100;

/// Counted by all clients. Counters are relaxed: nothing is decided by two of them together.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) reads: AtomicU64,
    pub(super) stale_reads: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) unknown_writes: AtomicU64,
    pub(super) lost_connections: AtomicU64,
    pub(super) stuck: AtomicU64,
    /// How late each write was seen. Guards the arrays, which want a single writer; held for a few stores.
    late: Mutex<Late>,
    /// Held for an insertion; violations are rare.
    violations: Mutex<Violations>,
    /// Error replies by how they begin. Held for an insertion.
    errors: Mutex<BTreeMap<String, u64>>,
}

/// How late writes were seen.
#[derive(Debug)]
struct Late {
    all: LatencyArray,
    calm: LatencyArray,
    by_fault: Vec<LatencyArray>,
}

#[derive(Debug, Default)]
struct Violations {
    counts: BTreeMap<Broken, u64>,
    stories: Vec<String>,
}

/// How late writes were seen through nearhit, in nanoseconds.
#[derive(Debug)]
pub(super) struct Lateness {
    pub(super) all: LatencySnapshot,
    /// Of writes whose stale reads saw no fault.
    pub(super) calm: LatencySnapshot,
    /// Of writes with a stale read while the fault was on, or just after it; in the order of the faults.
    pub(super) by_fault: Vec<LatencySnapshot>,
}

impl Findings {
    /// For a run with so many kinds of faults.
    pub(super) fn new(faults: usize) -> Self {
        let late = Late {
            all: LatencyArray::default(),
            calm: LatencyArray::default(),
            by_fault: (0..faults).map(|_| LatencyArray::default()).collect(),
        };
        Self {
            reads: AtomicU64::new(0),
            stale_reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            unknown_writes: AtomicU64::new(0),
            lost_connections: AtomicU64::new(0),
            stuck: AtomicU64::new(0),
            late: Mutex::new(late),
            violations: Mutex::default(),
            errors: Mutex::default(),
        }
    }

    /// Operations whose reply was checked.
    pub(super) fn checked(&self) -> u64 {
        self.reads.load(Ordering::Relaxed) + self.writes.load(Ordering::Relaxed)
    }

    /// A read was in order.
    pub(super) fn read(&self, staleness: Duration) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if staleness > Duration::ZERO {
            self.stale_reads.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// These versions will not be looked at again.
    pub(super) fn tails(&self, tails: &[Tail]) {
        if tails.is_empty() {
            return;
        }
        let late = self.late.lock();
        for (nanos, faults) in tails {
            late.all.record(*nanos);
            if *faults == 0 {
                late.calm.record(*nanos);
            }
            for (index, array) in late.by_fault.iter().enumerate() {
                if faults >> index & 1 == 1 {
                    array.record(*nanos);
                }
            }
        }
    }

    /// Something was violated; `story` is only told for the first ones.
    pub(super) fn violation(&self, broken: Broken, story: impl FnOnce() -> String, faults: u64) {
        let mut violations = self.violations.lock();
        let count = violations.counts.entry(broken).or_default();
        *count += 1;
        if *count <= STORIES {
            let faults = super::faults::names(faults);
            let story = format!("{}\n  faults: {faults}\n{}", broken.describe(), story());
            violations.stories.push(story);
        }
    }

    /// An error reply.
    pub(super) fn error(&self, text: &[u8]) {
        let shown = text.get(..text.len().min(SHOWN)).unwrap_or_default();
        // Numbers and quoted words differ each time.
        let name = String::from_utf8_lossy(shown).replace(|sign: char| sign.is_ascii_digit(), "");
        let mut name = name.split(['\'']).next().unwrap_or_default().trim_end().to_owned();
        let mut errors = self.errors.lock();
        if errors.len() >= MAX_ERRORS && !errors.contains_key(&name) {
            name = "other".to_owned();
        }
        *errors.entry(name).or_default() += 1;
    }

    pub(super) fn violations(&self) -> (BTreeMap<Broken, u64>, Vec<String>) {
        let violations = self.violations.lock();
        (violations.counts.clone(), violations.stories.clone())
    }

    pub(super) fn violation_count(&self) -> u64 {
        self.violations.lock().counts.values().sum()
    }

    pub(super) fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }

    pub(super) fn lateness(&self) -> Lateness {
        let late = self.late.lock();
        Lateness {
            all: late.all.snapshot(),
            calm: late.calm.snapshot(),
            by_fault: late.by_fault.iter().map(LatencyArray::snapshot).collect(),
        }
    }
}
