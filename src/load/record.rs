//! What a stretch of load did, and how it is written down meanwhile.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::script::Verb;
use crate::error::{Error, Kind, Result, Side};
use crate::time::{Instant, now};

/// The longest latency told apart from longer ones, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;
/// Latencies are kept to three digits.
const DIGITS: u8 = 3;

/// What a stretch of load did.
#[derive(Clone, Debug)]
pub struct Done {
    /// Reads that were answered, correctly.
    pub gets: u64,
    /// Writes that were.
    pub sets: u64,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// Nanoseconds from when each request was due to the end of its reply; empty unless they were asked for.
    pub latency: Histogram<u64>,
    /// The latest that a request was sent after it was due: beyond a few microseconds the generator was short of CPU
    /// itself, or connections were full. Zero in a closed loop.
    pub late: Duration,
}

impl Done {
    /// Answered requests.
    pub fn requests(&self) -> u64 {
        self.gets + self.sets
    }
}

/// An empty record of latencies.
fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_max(LONGEST, DIGITS)
        .map_err(|error| Error::new(Side::Internal, Kind::Invalid, "make a histogram").with_source(error.to_string()))
}

/// What is found while a load runs.
pub(super) struct Record {
    pub(super) done: Done,
    /// Whether somebody wants latencies.
    pub(super) timed: bool,
}

impl Record {
    pub(super) fn new(timed: bool) -> Result<Self> {
        let done = Done {
            gets: 0,
            sets: 0,
            elapsed: Duration::ZERO,
            latency: histogram()?,
            late: Duration::ZERO,
        };
        Ok(Self { done, timed })
    }

    /// Counted when it is sent: a stretch ends only when everything is answered.
    pub(super) fn sent(&mut self, verb: Verb) {
        match verb {
            Verb::Get => self.done.gets += 1,
            Verb::Set => self.done.sets += 1,
        }
    }
}

/// What one reading of a socket brought; its clock is read once, and only for who wants latencies.
#[derive(Default)]
pub(super) struct Came {
    pub(super) any: bool,
    at: Option<Instant>,
}

impl Came {
    pub(super) fn answered(&mut self, due: Instant, record: &mut Record) {
        self.any = true;
        if record.timed {
            let at = *self.at.get_or_insert_with(now);
            let nanos = at.as_nanos().saturating_sub(due.as_nanos());
            record.done.latency.saturating_record(nanos.max(1));
        }
    }
}
