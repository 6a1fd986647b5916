//! The hash slots of a cluster, as far as entries depend on them: a node tells of every change to the keys it has, and of
//! nothing once it has them no more.
//!
//! ```text
//! owned ─ another node has it, or the node says MOVED, ASK, TRYAGAIN, CLUSTERDOWN → a new life: older entries are dead
//!    └ the tracked connection has answered for a key of it → proved, for as long as the staleness bound
//! ```
//! An entry belongs to the life of its slot in which it was asked for, so a slot's entries die in one step, whoever has them.
//! An entry is served only while its slot is proved: somebody who lost a slot and does not say so (a node that was cut off, one
//! that deletes what it lost without a word) is believed for no longer than a node that does not answer.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::command::{SLOT_COUNT, Slot};
use crate::time::Instant;

/// Names longer than this are not asked about. Chosen, not measured.
const LONGEST: usize = 4096;

/// What is known of one slot.
#[derive(Debug, Default)]
struct Cell {
    /// Which life it is. SeqCst: whoever has seen what another owner says finds nothing of the life before.
    life: AtomicU32,
    /// The lower half: milliseconds of the time at which the owner was asked what it then answered. The upper half: in which
    /// life. 0: never.
    proof: AtomicU64,
    /// An entry of it was served since it was asked about last. Relaxed: it only saves questions.
    used: AtomicBool,
    /// A key of it that was read lately, to ask about.
    key: Mutex<Option<Box<[u8]>>>,
}

/// All slots of a cluster.
#[derive(Debug)]
pub struct Slots {
    cells: Box<[Cell]>,
    /// How long a proof holds.
    bound: Duration,
}

/// A slot that is to be proved once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The slot.
    pub slot: Slot,
    /// Its life.
    pub life: u32,
    /// A key of it.
    pub key: Box<[u8]>,
}

impl Slots {
    /// Slots of which nothing is proved; a proof holds for `bound`.
    pub(super) fn new(bound: Duration) -> Self {
        Self {
            cells: std::iter::repeat_with(Cell::default).take(SLOT_COUNT).collect(),
            bound,
        }
    }

    /// Whether a node answers with this that it has not got the slot, or not all of it, or cannot say.
    pub fn says_elsewhere(reply: &[u8]) -> bool {
        let codes: [&[u8]; 4] = [b"-MOVED ", b"-ASK ", b"-TRYAGAIN ", b"-CLUSTERDOWN "];
        reply.first() == Some(&b'-') && codes.iter().any(|code| reply.starts_with(code))
    }

    fn cell(&self, slot: Slot) -> Option<&Cell> {
        self.cells.get(usize::from(slot.get()))
    }

    /// The slot's life: what entries are told apart by.
    pub fn life(&self, slot: Slot) -> u32 {
        self.cell(slot).map_or(0, |cell| cell.life.load(Ordering::SeqCst))
    }

    /// The life of a key's slot.
    pub fn life_of(&self, key: &[u8]) -> u32 {
        self.life(Slot::of(key))
    }

    /// All entries of the slot are dead: somebody else has it, or may have parts of it.
    pub fn renew(&self, slot: Slot) {
        if let Some(cell) = self.cell(slot) {
            cell.life.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether the owner has lately answered for a key of the slot, in this life of it. Says that entries are about to be
    /// served, so that it is asked again in time.
    pub fn is_proved(&self, slot: Slot, life: u32, now: Instant) -> bool {
        let Some(cell) = self.cell(slot) else { return false };
        if !cell.used.load(Ordering::Relaxed) {
            cell.used.store(true, Ordering::Relaxed);
        }
        holds(cell.proof.load(Ordering::Acquire), life, now, self.bound)
    }

    /// The owner answered for a key of the slot on its tracked connection what it was asked at `sent_at`, in this life of it.
    pub(super) fn prove(&self, slot: Slot, life: u32, sent_at: Instant) {
        if let Some(cell) = self.cell(slot) {
            // A proof of a life that is over proves nothing: it says which life it is of.
            cell.proof.store(proof(life, sent_at), Ordering::Release);
        }
    }

    /// `key` may be asked about, until it may not.
    pub(super) fn remember(&self, key: &[u8]) {
        if key.len() <= LONGEST
            && let Some(cell) = self.cell(Slot::of(key))
            && let Some(mut known) = cell.key.try_lock()
            && known.is_none()
        {
            *known = Some(key.into());
        }
    }

    /// The key of the slot that is known may not be asked about.
    pub(super) fn forget_key(&self, slot: Slot) {
        if let Some(cell) = self.cell(slot) {
            *cell.key.lock() = None;
        }
    }

    /// The slots whose entries were served since this was asked last and whose proof will soon be too old. Call it several
    /// times within the bound.
    pub fn doubts(&self, now: Instant) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        for (number, cell) in (0..).zip(&self.cells) {
            let Some(slot) = Slot::new(number) else { break };
            let (life, known) = (cell.life.load(Ordering::SeqCst), cell.proof.load(Ordering::Acquire));
            if known == 0 {
                continue;
            }
            if !holds(known, life, now, self.bound) {
                // What nobody reads is not asked about, and what is read again is proved by that. A number of milliseconds
                // that comes again, in fifty days, must not be taken for a proof.
                let _proved_meanwhile = cell
                    .proof
                    .compare_exchange(known, 0, Ordering::AcqRel, Ordering::Relaxed);
                continue;
            }
            if !holds(known, life, now, self.bound / 2) && cell.used.swap(false, Ordering::Relaxed) {
                let key = cell.key.lock().clone();
                doubts.extend(key.map(|key| Doubt { slot, life, key }));
            }
        }
        doubts
    }
}

fn millis(at: Instant) -> u32 {
    // What is cut off comes again after fifty days.
    u32::try_from(at.as_nanos() / 1_000_000 % (1 << 32)).unwrap_or_default()
}

fn proof(life: u32, sent_at: Instant) -> u64 {
    // Nothing is proved in the first millisecond of the process, so that 0 means never.
    u64::from(life) << 32 | u64::from(millis(sent_at))
}

fn holds(proof: u64, life: u32, now: Instant, bound: Duration) -> bool {
    let [at, of] = [proof & u64::from(u32::MAX), proof >> 32];
    let age = millis(now).wrapping_sub(u32::try_from(at).unwrap_or_default());
    proof != 0 && of == u64::from(life) && u128::from(age) < bound.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(1);

    fn ms(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_slot_is_proved_for_as_long_as_the_bound_and_within_one_life() {
        let (slots, slot) = (Slots::new(BOUND), Slot::of(b"k"));
        assert!(!slots.is_proved(slot, 0, ms(5)));
        slots.prove(slot, 0, ms(5000));
        assert!(slots.is_proved(slot, 0, ms(5999)) && !slots.is_proved(slot, 0, ms(6000)));
        slots.renew(slot);
        assert_eq!(slots.life(slot), 1);
        assert!(!slots.is_proved(slot, 1, ms(5001)));
        slots.prove(slot, 0, ms(5002));
        assert!(!slots.is_proved(slot, 1, ms(5003)), "it was asked before");
        slots.prove(slot, 1, ms(5004));
        assert!(slots.is_proved(slot, 1, ms(5005)));
        assert!(!slots.is_proved(Slot::of(b"other"), 0, ms(5005)));
    }

    #[test]
    fn what_is_served_is_asked_about_in_time() {
        let (slots, slot) = (Slots::new(BOUND), Slot::of(b"k"));
        slots.remember(b"k");
        slots.prove(slot, 0, ms(5000));
        assert_eq!(slots.doubts(ms(5600)), [], "nobody read it");
        assert!(slots.is_proved(slot, 0, ms(5601)));
        assert_eq!(slots.doubts(ms(5499)), [], "it is young");
        let doubt = Doubt {
            slot,
            life: 0,
            key: b"k"[..].into(),
        };
        assert_eq!(slots.doubts(ms(5602)), [doubt]);
        assert_eq!(slots.doubts(ms(5603)), [], "it was asked");
        slots.prove(slot, 0, ms(5602));
        assert!(slots.is_proved(slot, 0, ms(6500)));
        assert_eq!(slots.doubts(ms(6500)).len(), 1);
    }

    #[test]
    fn an_old_proof_does_not_come_to_life_when_milliseconds_come_again() {
        let (slots, slot) = (Slots::new(BOUND), Slot::of(b"k"));
        slots.prove(slot, 0, ms(5000));
        assert!(slots.doubts(ms(7000)).is_empty());
        assert!(!slots.is_proved(slot, 0, ms(5000 + (1 << 32))));
    }
}
