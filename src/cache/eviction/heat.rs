//! How often and how lately a slot was served: one word a slot, written by readers without a lock.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::EvictionKind;

/// Ticks in which a shard's content is replaced once, if it is replaced at all. Finer ones would not choose better
/// victims (cache-wide, 16 was as good in replays), and a hot slot is written at most once a tick.
pub(super) const TURNOVER: u32 = 64;

/// Hits beyond this many are not counted: 15 was as good as 31 in replays, and whoever has them is not written again.
const MOST_HITS: u8 = 15;
/// S3-FIFO's own bound.
const MOST_HITS_S3: u8 = 3;

/// What Redis starts its logarithmic counters with, and how much rarer each step up is (`lfu-log-factor`).
const LFU_START: u8 = 5;
const LFU_FACTOR: u32 = 10;

/// The count in the low 8 bits, the tick of the last service in the others. All accesses are relaxed: an update that is
/// lost to another reader's changes who leaves, never what is served.
#[derive(Debug, Default)]
pub struct Heat(AtomicU32);

impl Heat {
    fn pack(count: u8, tick: u32) -> u32 {
        tick << 8 | u32::from(count)
    }

    /// Hits, as the policy counts them.
    pub fn count(&self) -> u8 {
        self.0.load(Ordering::Relaxed).to_le_bytes()[0]
    }

    /// The same heat, for an entry that takes the place of another.
    pub(in crate::cache) fn copied(&self) -> Self {
        Self(AtomicU32::new(self.0.load(Ordering::Relaxed)))
    }

    pub(super) fn set_count(&self, count: u8) {
        let held = self.0.load(Ordering::Relaxed);
        self.0.store(held & !0xff | u32::from(count), Ordering::Relaxed);
    }

    /// Ticks since it was served, or for FIFO since it came.
    pub(super) fn idle(&self, tick: u32) -> u32 {
        (tick << 8).wrapping_sub(self.0.load(Ordering::Relaxed) & !0xff) >> 8
    }
}

/// A moment in a policy's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(u32);

/// A policy's clock, and how it counts. Its time is what was stored in the shard: while nothing has to leave,
/// nothing grows old, and readers have nothing to write.
#[derive(Debug)]
pub struct Pulse {
    kind: EvictionKind,
    tick: AtomicU32,
}

impl Pulse {
    pub(super) fn new(kind: EvictionKind) -> Arc<Self> {
        Arc::new(Self {
            kind,
            tick: AtomicU32::new(0),
        })
    }

    pub(super) fn tick(&self) -> u32 {
        self.tick.load(Ordering::Relaxed)
    }

    pub(super) fn advance(&self) {
        self.tick.fetch_add(1, Ordering::Relaxed);
    }

    /// An entry of the slot was served. A slot that is hot already is not written: until the mark changes, the policy
    /// need not be told of further hits.
    pub fn touch(&self, heat: &Heat) -> Option<Mark> {
        let held = heat.0.load(Ordering::Relaxed);
        let (count, tick) = (heat.count(), self.tick());
        let next = match self.kind {
            EvictionKind::Fifo => held,
            EvictionKind::Worth => Heat::pack((count + 1).min(MOST_HITS), tick),
            EvictionKind::S3Fifo => held & !0xff | u32::from((count + 1).min(MOST_HITS_S3)),
            EvictionKind::Lru => Heat::pack(0, tick),
            EvictionKind::Lfu => Heat::pack(log_count(decayed(count, heat.idle(tick))), tick),
        };
        if next == held && self.kind != EvictionKind::Lfu {
            return Some(self.mark());
        }
        heat.0.store(next, Ordering::Relaxed);
        None
    }

    /// The moment in the policy's time, as far as hits are concerned.
    pub fn mark(&self) -> Mark {
        match self.kind {
            EvictionKind::Worth | EvictionKind::Lru => Mark(self.tick()),
            // Logarithmic counters never have enough, and the others never want more.
            EvictionKind::Lfu | EvictionKind::Fifo | EvictionKind::S3Fifo => Mark(0),
        }
    }

    /// The slot got its first entry; `known` is how often the policy remembers its name.
    pub(super) fn begin(&self, heat: &Heat, known: u8) {
        let count = match self.kind {
            EvictionKind::Worth => known.min(MOST_HITS),
            EvictionKind::Lfu => LFU_START,
            EvictionKind::Lru | EvictionKind::Fifo | EvictionKind::S3Fifo => 0,
        };
        heat.0.store(Heat::pack(count, self.tick()), Ordering::Relaxed);
    }
}

/// A logarithmic count after `idle` ticks: it loses one a turnover, as Redis' loses one a minute.
pub(super) fn decayed(count: u8, idle: u32) -> u8 {
    u8::try_from(u32::from(count).saturating_sub(idle / TURNOVER)).unwrap_or_default()
}

/// One hit more on a logarithmic scale: 255 stand for about a million.
fn log_count(count: u8) -> u8 {
    let above = u32::from(count.saturating_sub(LFU_START));
    let rare = above * LFU_FACTOR + 1;
    if count < u8::MAX && random().is_multiple_of(rare) {
        count + 1
    } else {
        count
    }
}

/// Marsaglia's xorshift, one state a thread: nothing shared is written for a number.
fn random() -> u32 {
    thread_local! {
        static STATE: Cell<u32> = const { Cell::new(0x9e37_79b9) };
    }
    let mut x = STATE.get();
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    STATE.set(x);
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_hot_already_is_not_written() {
        for &kind in EvictionKind::ALL {
            let (pulse, heat) = (Pulse::new(kind), Heat::default());
            pulse.begin(&heat, 0);
            for _ in 0..100_000 {
                pulse.touch(&heat);
            }
            let hot = heat.0.load(Ordering::Relaxed);
            let mut written = 0;
            for _ in 0..1000 {
                pulse.touch(&heat);
                written += u32::from(heat.0.load(Ordering::Relaxed) != hot);
                heat.0.store(hot, Ordering::Relaxed);
            }
            // Logarithmic counters never quite stop.
            let most = if kind == EvictionKind::Lfu { 20 } else { 0 };
            assert!(written <= most, "{kind:?} wrote {written} times in 1000 hits");
        }
    }

    #[test]
    fn idle_time_is_right_when_the_clock_wraps() {
        let pulse = Pulse::new(EvictionKind::Lru);
        pulse.tick.store(0x00ff_ffff, Ordering::Relaxed);
        let heat = Heat::default();
        pulse.touch(&heat);
        (0..3).for_each(|_| pulse.advance());
        assert_eq!(heat.idle(pulse.tick()), 3);
    }
}
