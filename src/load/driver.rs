//! What open connections are kept busy with, and for how long.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::caller::PATIENCE;
use super::crowd::Crowd;
use super::keys::Picker;
use super::record::{Done, Record};
use super::script::Script;
use super::socket::Server;
use crate::error::{Error, Kind, Result, Side};
use crate::time::{Instant, now};

const SECOND: u64 = 1_000_000_000;
/// Requests that are sent, where so many are due, before replies are looked at again: a rate beyond what can be sent
/// must not keep replies waiting. Chosen.
const BURST: usize = 32;

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Each connection sends so many, waits for all replies, sends the next ones.
    Closed {
        /// Requests sent at once.
        pipeline: usize,
    },
    /// So many a second, over all connections in turn, whether replies come or not.
    Open {
        /// Requests per second.
        rate: NonZeroU64,
    },
}

/// How long requests are sent; their replies are waited for in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// For so long.
    Elapsed(Duration),
    /// Until so many were sent.
    Requests(u64),
}

/// Open connections to one address, all playing one script.
pub struct Load<'a> {
    crowd: Crowd<'a>,
    picker: Picker,
    stop: Option<&'a AtomicBool>,
}

impl<'a> Load<'a> {
    /// Connects; nothing is sent yet.
    ///
    /// # Errors
    /// A connection cannot be made, or its user or database is refused.
    pub fn open<'s>(
        server: impl Into<Server<'s>>,
        script: &'a Script,
        picker: Picker,
        connections: usize,
    ) -> Result<Self> {
        Ok(Self {
            crowd: Crowd::connect(server.into(), script, connections)?,
            picker,
            stop: None,
        })
    }

    /// Ends every stretch early once `stop` is set.
    #[must_use]
    pub fn stopped_by(mut self, stop: &'a AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Keeps the connections busy, then waits for the last replies. `timed` costs a reading of the clock for each batch
    /// of replies; an open loop needs it anyhow.
    ///
    /// # Errors
    /// A connection broke, a reply was wrong, or none came for ten seconds.
    pub fn run(&mut self, pace: Pace, until: Until, timed: bool) -> Result<Done> {
        // Timers that are rounded up by 50 µs would be lateness of ours. Where the kernel refuses, `late` tells.
        let _may_be_refused = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let start = now();
        let mut record = Record::new(timed || matches!(pace, Pace::Open { .. }))?;
        match pace {
            Pace::Closed { pipeline } => self.closed(start, pipeline.max(1), until, &mut record)?,
            Pace::Open { rate } => self.at_rate(start, rate.get(), until, &mut record)?,
        }
        record.done.elapsed = now().since(start);
        Ok(record.done)
    }

    fn closed(&mut self, start: Instant, pipeline: usize, until: Until, record: &mut Record) -> Result<()> {
        let (deadline, mut left) = match until {
            Until::Elapsed(duration) => (start.after(duration), u64::MAX),
            Until::Requests(count) => (Instant::MAX, count),
        };
        let mut busy = 0;
        for index in 0..self.crowd.len() {
            busy += usize::from(self.send_batch(index, pipeline, &mut left, record)?);
        }
        while busy > 0 {
            if !self.crowd.wait(PATIENCE)? {
                return Err(silence());
            }
            let over = now() >= deadline || self.is_stopped();
            for event in 0..self.crowd.events() {
                let Some(index) = self.crowd.serve(event, record)? else {
                    continue;
                };
                if over || !self.send_batch(index, pipeline, &mut left, record)? {
                    busy -= 1;
                }
            }
        }
        Ok(())
    }

    /// Sends the next requests in one write; false when none is left to send.
    fn send_batch(&mut self, index: usize, pipeline: usize, left: &mut u64, record: &mut Record) -> Result<bool> {
        let due = if record.timed { now() } else { Instant::ZERO };
        let count = (pipeline as u64).min(*left);
        for _ in 0..count {
            self.ask(index, due, record);
        }
        *left -= count;
        self.crowd.push(index)?;
        Ok(count > 0)
    }

    fn at_rate(&mut self, start: Instant, rate: u64, until: Until, record: &mut Record) -> Result<()> {
        let mut count = match until {
            Until::Elapsed(duration) => {
                u64::try_from(duration.as_nanos() * u128::from(rate) / u128::from(SECOND)).unwrap_or(u64::MAX)
            }
            Until::Requests(count) => count,
        };
        let due = |number: u64| {
            let nanos = u128::from(number) * u128::from(SECOND) / u128::from(rate);
            start.after(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
        };
        let (mut sent, mut last_sign) = (0, start);
        loop {
            if self.is_stopped() {
                count = sent;
            }
            let mut at = now();
            for _ in 0..BURST {
                if sent >= count || due(sent) > at {
                    break;
                }
                self.send_due(sent, due(sent), record)?;
                sent += 1;
                at = now();
            }
            if sent >= count && self.crowd.is_idle() {
                return Ok(());
            }
            let pause = if sent < count { due(sent).since(at) } else { PATIENCE };
            if self.crowd.wait(pause)? || self.crowd.is_idle() {
                last_sign = at;
            } else if at.since(last_sign) > PATIENCE {
                return Err(silence());
            }
            for event in 0..self.crowd.events() {
                self.crowd.serve(event, record)?;
            }
        }
    }

    /// Sends the request that is due, on the next connection in turn.
    fn send_due(&mut self, number: u64, due: Instant, record: &mut Record) -> Result<()> {
        let connections = self.crowd.len().max(1) as u64;
        let index = usize::try_from(number % connections).unwrap_or(0);
        self.ask(index, due, record);
        self.crowd.push(index)?;
        record.done.late = record.done.late.max(now().since(due));
        Ok(())
    }

    fn ask(&mut self, index: usize, due: Instant, record: &mut Record) {
        let exchange = self.picker.pick();
        record.sent(exchange.verb);
        self.crowd.ask(index, exchange, due);
    }

    /// Relaxed: nothing else is read because of it.
    fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }
}

fn silence() -> Error {
    let text = format!("wait for replies: none within {PATIENCE:?}");
    Error::new(Side::Upstream, Kind::Timeout, text)
}
