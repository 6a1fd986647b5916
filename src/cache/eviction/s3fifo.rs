//! S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction", SOSP 2023).
//!
//! ```text
//! new ──────────────→ small (a tenth) ─ never hit ─→ gone, its hash stays in the ghost ─┐
//!                         └ hit ─→ main ⟲ while hit ─→ gone                              │
//! new, known to the ghost ───────→ main ←───────────────────────────────────────────────┘
//! ```

use std::sync::Arc;

use super::queues::Queues;
use super::{Eviction, Heat, Pulse, SlotId, Slots};

const SMALL: u8 = 0;
const MAIN: u8 = 1;

/// One in so many slots is in the small queue, as in the paper.
const SMALL_SHARE: usize = 10;

/// The policy of one shard.
pub(super) struct S3Fifo {
    queues: Queues<2>,
    ghost: Ghost,
    pulse: Arc<Pulse>,
}

impl S3Fifo {
    pub(super) fn new(pulse: Arc<Pulse>) -> Self {
        Self {
            queues: Queues::default(),
            ghost: Ghost::default(),
            pulse,
        }
    }

    /// Looks at the oldest slot of the queue that is over its share: it is the victim, or it moves on.
    fn step(&mut self, slots: &dyn Slots) -> Option<SlotId> {
        let small = self.queues.len(SMALL) * SMALL_SHARE >= self.len() || self.queues.len(MAIN) == 0;
        let slot = self.queues.oldest(if small { SMALL } else { MAIN })?;
        let count = slots
            .at(slot.index())
            .map_or(0, |(_, candidate)| candidate.heat.count());
        if count == 0 {
            return Some(slot);
        }
        if let Some((_, candidate)) = slots.at(slot.index()) {
            candidate.heat.set_count(if small { 0 } else { count - 1 });
        }
        self.queues.push(MAIN, slot);
        None
    }
}

impl Eviction for S3Fifo {
    fn inserted(&mut self, slot: SlotId, hash: u64, heat: &Heat) {
        self.pulse.begin(heat, 0);
        let held = self.len();
        let queue = if self.ghost.knows(hash, held) { MAIN } else { SMALL };
        self.queues.push(queue, slot);
    }

    fn renewed(&mut self, heat: &Heat) {
        self.pulse.touch(heat);
    }

    fn removed(&mut self, slot: SlotId, hash: u64, _heat: &Heat) {
        let held = self.len();
        if self.queues.remove(slot) == Some(SMALL) {
            self.ghost.note(hash, held);
        }
    }

    fn victim(&mut self, slots: &dyn Slots) -> Option<SlotId> {
        // A slot moves on at most four times before its count is zero, unless readers hit it meanwhile.
        let victim = (0..5 * self.len()).find_map(|_| self.step(slots));
        victim
            .or_else(|| self.queues.oldest(MAIN))
            .or_else(|| self.queues.oldest(SMALL))
    }

    fn len(&self) -> usize {
        self.queues.len(SMALL) + self.queues.len(MAIN)
    }
}

/// Hashes of slots that left the small queue, as many as there are slots: a table of four to a bucket, in which the one
/// that left first makes room.
#[derive(Default)]
struct Ghost {
    /// The upper half of the hash, and when it left in `left`'s count. Invariant: none, or a power of two.
    buckets: Vec<[(u32, u32); 4]>,
    left: u32,
}

impl Ghost {
    fn note(&mut self, hash: u64, held: usize) {
        self.left = self.left.wrapping_add(1).max(1);
        if self.buckets.len() * 2 < held.max(8) {
            // What it knew is forgotten, at a time when there is room.
            self.buckets = vec![[(0, 0); 4]; held.max(8).next_power_of_two()];
        }
        let left = self.left;
        let Some(bucket) = self.bucket(hash) else { return };
        if let Some(cell) = bucket.iter_mut().max_by_key(|(_, at)| left.wrapping_sub(*at)) {
            *cell = (tag(hash), left);
        }
    }

    fn knows(&mut self, hash: u64, held: usize) -> bool {
        let left = self.left;
        let Some(bucket) = self.bucket(hash) else { return false };
        let found = bucket
            .iter_mut()
            .find(|(held, at)| *at != 0 && *held == tag(hash))
            .filter(|(_, at)| left.wrapping_sub(*at) as usize <= held);
        found.map(|cell| *cell = (0, 0)).is_some()
    }

    fn bucket(&mut self, hash: u64) -> Option<&mut [(u32, u32); 4]> {
        let at = usize::try_from(hash & (self.buckets.len() as u64).checked_sub(1)?).ok()?;
        self.buckets.get_mut(at)
    }
}

fn tag(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or_default()
}
