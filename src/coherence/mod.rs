//! What makes the near-cache coherent: who may be served what, and what an invalidation, a write or a lost connection
//! takes away. State machines without I/O and clock; `downstream/` and `tracking/` drive them.
//!
//! ```text
//! session rules (Causality) ─ may this session look? ─→ NearCache::lookup ┬ hit
//!   out, off, unknown, must_see                                           ├ wait, value   (a flight of another session)
//!                                                                         ├ lead(lease) ──→ Tracked ─ fill, kill, flush
//!                                                                         └ bypass(why)        (one reader, stream order)
//! ```
//! The rules are those of "design D": one tracked connection per node, fills as `CLIENT CACHING YES; read; PTTL`,
//! inserted and killed in stream order by that connection's one reader; a name is killed before a write to it is
//! forwarded and again before the write is acknowledged; a lease bounds staleness by the send time of answered requests.

mod copies;
mod effects;
mod fence;
mod fields;
mod flight;
mod frames;
mod inspect;
mod kill;
mod lookup;
mod near_cache;
mod origins;
mod push;
mod reach;
mod recent;
mod session;
mod settle;
mod sight;
mod slots;
mod stream;
mod subscriber;
#[cfg(test)]
mod tests;
mod touch;
mod tracked;

pub use copies::Copies;
pub use fence::Fence;
pub use fields::Ttls;
pub use flight::{Lease, Query};
pub use inspect::{Conditions, Dropped, EntryReport, Flushed, KeyReport, Past, Totals};
pub use kill::Flushing;
pub use lookup::Lookup;
pub use near_cache::{Limits, NearCache, Tally};
pub use origins::MAX_ORIGINS;
pub use reach::{Asked, Canary, Reach};
pub use session::{Causality, Keys};
pub use settle::{Rejected, Settled};
pub use sight::{Reader, Sight};
pub use slots::{Doubt, Slots};
pub use stream::{Origin, Stream};
pub use subscriber::{Dialect, Subscriber};
pub use touch::{TOUCH_PARTS, Touch, Touches};
pub use tracked::{Deliver, Delivery, Fill, Tracked};
