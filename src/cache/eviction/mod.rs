//! Which slot leaves when memory is short: one trait, one file a policy.

mod heat;
mod queues;
mod s3fifo;
mod sampled;
mod sketch;

use std::sync::Arc;

pub use crate::config::EvictionKind;
pub use heat::{Heat, Mark, Pulse};

use super::SlotId;
use s3fifo::S3Fifo;
use sampled::Sampled;

/// An eviction policy over the slots of one shard. It only chooses; the shard owns the slots, and whoever serves an entry
/// tells the policy's [`Pulse`], without the shard's lock.
///
/// Contract: `inserted` once per slot before anything else, `removed` once when it goes; `victim` names a slot that was
/// inserted and not removed, without removing it, and `None` only when there is none.
pub trait Eviction: Send {
    /// A slot got its first entry: its heat begins.
    fn inserted(&mut self, slot: SlotId, hash: u64, heat: &Heat);
    /// An entry of a slot it holds was fetched again, because somebody asked for it.
    fn renewed(&mut self, heat: &Heat);
    /// The slot lost its last entry.
    fn removed(&mut self, slot: SlotId, hash: u64, heat: &Heat);
    /// The slot that should leave next.
    fn victim(&mut self, slots: &dyn Slots) -> Option<SlotId>;
    /// How many slots it holds.
    fn len(&self) -> usize;
    /// Whether it holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The slots a policy chooses from.
pub trait Slots {
    /// How many places there are, taken or free.
    fn places(&self) -> usize;
    /// The slot at a place; `None` where there is none, or one without entries.
    fn at(&self, place: usize) -> Option<(SlotId, Candidate<'_>)>;
}

/// What a policy may know about a slot.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// How often and how lately it was served.
    pub heat: &'a Heat,
    /// Bytes of memory that its leaving gives back.
    pub weight: u64,
}

/// A new, empty instance of a policy, and what those who serve tell it by.
pub fn build(kind: EvictionKind) -> (Box<dyn Eviction>, Arc<Pulse>) {
    let pulse = Pulse::new(kind);
    let policy: Box<dyn Eviction> = match kind {
        EvictionKind::S3Fifo => Box::new(S3Fifo::new(Arc::clone(&pulse))),
        _ => Box::new(Sampled::new(kind, Arc::clone(&pulse))),
    };
    (policy, pulse)
}

#[cfg(test)]
mod tests;
