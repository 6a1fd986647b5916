//! The policies that need no order: a few slots are looked at, and the one of the lowest rank leaves.
//!
//! A sample of [`SAMPLE`] finds one of the worst tenth four times out of five, costs nothing while nothing leaves, needs
//! no memory per slot, and readers only write [`Heat`]. What tells the policies apart is the rank:
//!
//! | policy | rank |
//! | --- | --- |
//! | worth | ((hits + 1) / bytes)² / idle: a slot twice as large must be hit twice as often to stay as long |
//! | lru | served last |
//! | lfu | decayed logarithmic count, then served last |
//! | fifo | came last |
//!
//! In `worth` a name starts with what a sketch remembers of it, so that it does not begin as a stranger after it had to
//! leave or was invalidated. `make bench-hit-ratio` shows what each gives.

use std::sync::Arc;

use super::heat::{TURNOVER, decayed};
use super::sketch::Sketch;
use super::{Candidate, Eviction, EvictionKind, Heat, Pulse, SlotId, Slots};

/// Slots looked at for one that leaves. 16 and 32 differ by less than a tenth of a point of hit ratio.
const SAMPLE: usize = 16;

/// Places probed for a sample, before a search of all: after a flush most may be empty.
const PROBES: usize = 8 * SAMPLE;

/// A slot's standing: whoever has the lowest leaves.
type Rank = fn(&Candidate<'_>, u32) -> (f32, f32);

/// Evicts the lowest of a sample.
pub(super) struct Sampled {
    rank: Rank,
    pulse: Arc<Pulse>,
    /// What left lately, for the policy that asks.
    history: Option<Sketch>,
    held: usize,
    /// Stored since the clock's last tick.
    stored: usize,
    random: u64,
}

impl Sampled {
    pub(super) fn new(kind: EvictionKind, pulse: Arc<Pulse>) -> Self {
        let rank: Rank = match kind {
            EvictionKind::Worth => worth,
            EvictionKind::Lfu => frequency,
            EvictionKind::Lru | EvictionKind::Fifo | EvictionKind::S3Fifo => recency,
        };
        Self {
            rank,
            pulse,
            history: (kind == EvictionKind::Worth).then(Sketch::default),
            held: 0,
            stored: 0,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Time passes with what is stored.
    fn pass(&mut self) {
        self.stored += 1;
        if self.stored * TURNOVER as usize >= self.held {
            self.stored = 0;
            self.pulse.advance();
        }
    }

    /// A place below `places`: Knuth's generator, its better bits scaled.
    fn pick(&mut self, places: usize) -> usize {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(((self.random >> 32) * places as u64) >> 32).unwrap_or_default()
    }
}

impl Eviction for Sampled {
    fn inserted(&mut self, _slot: SlotId, hash: u64, heat: &Heat) {
        self.held += 1;
        self.pass();
        let known = match &mut self.history {
            Some(history) => {
                // A word for two, to keep what is not the entries small.
                history.fit(self.held / 2);
                history.add(hash)
            }
            None => 0,
        };
        self.pulse.begin(heat, known);
    }

    fn renewed(&mut self, heat: &Heat) {
        self.pass();
        self.pulse.touch(heat);
    }

    fn removed(&mut self, _slot: SlotId, hash: u64, heat: &Heat) {
        self.held -= 1;
        if let Some(history) = &mut self.history {
            history.raise(hash, heat.count());
        }
    }

    fn victim(&mut self, slots: &dyn Slots) -> Option<SlotId> {
        if self.held == 0 {
            return None;
        }
        let (places, tick) = (slots.places(), self.pulse.tick());
        let mut worst: Option<((f32, f32), SlotId)> = None;
        let mut seen = 0;
        let mut look = |at: usize, rank: Rank| {
            let Some((slot, candidate)) = slots.at(at) else {
                return false;
            };
            let rank = rank(&candidate, tick);
            if worst.is_none_or(|(lowest, _)| rank < lowest) {
                worst = Some((rank, slot));
            }
            true
        };
        if places > 2 * SAMPLE {
            for _ in 0..PROBES {
                seen += usize::from(look(self.pick(places), self.rank));
                if seen == SAMPLE {
                    break;
                }
            }
        }
        if seen == 0 {
            // A small shard is looked through as a whole, and so is one that is almost empty.
            for at in 0..places {
                look(at, self.rank);
            }
        }
        worst.map(|(_, slot)| slot)
    }

    fn len(&self) -> usize {
        self.held
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rank, not an account")]
fn worth(candidate: &Candidate<'_>, tick: u32) -> (f32, f32) {
    let density = (f32::from(candidate.heat.count()) + 1.0) / candidate.weight as f32;
    let idle = (candidate.heat.idle(tick) + 1) as f32;
    (density * density / idle, 0.0)
}

fn frequency(candidate: &Candidate<'_>, tick: u32) -> (f32, f32) {
    let idle = candidate.heat.idle(tick);
    (
        f32::from(decayed(candidate.heat.count(), idle)),
        recency(candidate, tick).0,
    )
}

#[allow(clippy::cast_precision_loss, reason = "24 bits fit")]
fn recency(candidate: &Candidate<'_>, tick: u32) -> (f32, f32) {
    (-(candidate.heat.idle(tick) as f32), 0.0)
}
