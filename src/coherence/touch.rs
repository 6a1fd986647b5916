//! Keeping keys warm: the server does not see reads that are answered from memory, so its LRU or LFU evicts the hottest
//! keys first. Now and then it is told which they are, by a TOUCH for each.
//!
//! ```text
//! hit ─ the entry's flag is set, once ─→ gather (a part of the shards at a time) ─ TOUCH k on T ─ :1 ─→ proof of life
//!                                        flag taken                                             └ :0, error ─→ kill(k)
//! ```

use super::flight::State;
use super::near_cache::{NearCache, Tally};
use super::origins::Sights;
use super::sight::Sight;
use super::slots::Doubt;
use crate::cache::{Entry, Shard, Slot};
use crate::time::Instant;

/// In how many parts the near-cache is looked through in one interval, so that what is to be touched leaves evenly. It
/// divides the number of shards.
pub const TOUCH_PARTS: usize = 16;

/// Keys that are touched for one shard and part at most: 4096 in an interval. If more are hot, each has its turn less
/// often. Chosen, not measured: it costs the server about a millisecond.
const MOST: usize = 64;

/// Names longer than this are not told: they would make up for thousands of others. Chosen, not measured.
const LONGEST: usize = 4096;

/// One key that was read from memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Its entry's: the database, or in a cluster the life of its slot.
    pub(super) db: u32,
    pub(super) key: Box<[u8]>,
}

impl From<Doubt> for Touch {
    fn from(doubt: Doubt) -> Self {
        Self {
            db: doubt.life,
            key: doubt.key,
        }
    }
}

/// What is to be touched on the tracked connection of one origin.
#[derive(Debug)]
pub struct Touches {
    /// The origin's number.
    pub origin: u16,
    /// The keys, each once per database.
    pub keys: Vec<Touch>,
}

impl<W> NearCache<W> {
    /// The keys that were read from memory since they were touched last, of the `part`th of [`TOUCH_PARTS`].
    pub fn gather_touches(&self, part: usize, now: Instant) -> Vec<Touches> {
        let mut gathering = Gathering {
            sights: self.sights(now),
            touches: Vec::new(),
            left: 0,
            skipped: 0,
        };
        for index in (part % TOUCH_PARTS..self.shard_count()).step_by(TOUCH_PARTS) {
            gathering.left = MOST;
            // From anywhere on, so that with more hot keys than are touched at once each has its turn.
            let places = self.lock_at(index).places();
            let begin = usize::try_from(now.as_nanos()).unwrap_or_default() % places.max(1);
            let mut visit = |shard: &mut Shard<State<W>>, id| {
                if gathering.visit(shard.slot(id)) {
                    // Hits on copies would not set the flag again.
                    shard.outdate(id);
                }
            };
            self.for_each_slot_in(index, begin..places, &mut visit);
            self.for_each_slot_in(index, 0..begin, &mut visit);
        }
        Tally::add(&self.tally.touches_skipped, gathering.skipped);
        for touches in &mut gathering.touches {
            // Few databases, so few SELECTs.
            touches.keys.sort_by_key(|touch| touch.db);
        }
        gathering.touches
    }
}

struct Gathering {
    sights: Sights,
    touches: Vec<Touches>,
    /// How many more keys of this shard are touched.
    left: usize,
    skipped: usize,
}

impl Gathering {
    /// True: a flag was taken.
    fn visit<S>(&mut self, slot: Option<&Slot<S>>) -> bool {
        let Some(slot) = slot.filter(|slot| slot.name().len() <= LONGEST) else {
            return false;
        };
        let mut told = None;
        for entry in slot.entries().iter().filter(|entry| entry.was_hit()) {
            let place = Some((entry.origin(), entry.db()));
            if entry.negative || !self.is_live(entry) {
                continue;
            }
            if told == place {
                entry.forget_hit();
            } else if self.left == 0 {
                self.skipped += 1;
            } else {
                entry.forget_hit();
                told = place;
                self.left -= 1;
                self.tell(entry, slot.name());
            }
        }
        told.is_some()
    }

    fn is_live(&self, entry: &Entry) -> bool {
        let stream = self.sights.of(entry.origin()).map(Sight::stream);
        stream.is_some_and(|stream| stream.is_live() && stream.stamp() == entry.stamp())
    }

    fn tell(&mut self, entry: &Entry, key: &[u8]) {
        let touch = Touch {
            db: entry.db(),
            key: key.into(),
        };
        let known = self.touches.iter_mut().find(|touches| touches.origin == entry.origin());
        match known {
            Some(touches) => touches.keys.push(touch),
            None => self.touches.push(Touches {
                origin: entry.origin(),
                keys: vec![touch],
            }),
        }
    }
}
