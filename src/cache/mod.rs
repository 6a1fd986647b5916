//! The store under the near-cache: entries by key name, bounded in bytes, evicted by a policy. No I/O, no clock.
//!
//! ```text
//! Shard (one lock's part) ── name → Slot ── entries: one per (origin, db, command, arguments)
//!                                        └─ state: what coherence/ keeps per name (generation, flights)
//! ```
//! What may be served is decided by `coherence/`; this module only keeps, weighs, finds and drops.

mod admission;
mod apart;
mod buckets;
mod entry;
pub mod eviction;
mod packed;
mod pages;
mod policy;
mod shard;
mod slot;
mod versions;
mod weight;
mod write_hot;

pub use admission::RecentKeys;
pub use apart::COPY_LIMIT;
pub use entry::{Entry, EntryId, Stamp};
pub use packed::{Packed, SharedReply};
pub use policy::{Policies, Terms};
pub use shard::{HashName, Shard, SlotId};
pub use slot::{Slot, SlotState};
pub use versions::Versions;
pub use write_hot::WriteHot;
