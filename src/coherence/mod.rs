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

mod flight;
mod frames;
mod inspect;
mod kill;
mod lookup;
mod near_cache;
mod redirect;
mod session;
mod settle;
mod stream;
#[cfg(test)]
mod tests;
mod tracked;

pub use flight::{Lease, Query};
pub use inspect::{EntryReport, KeyReport, Totals};
pub use kill::Flushing;
pub use lookup::{Lookup, Sight};
pub use near_cache::{Limits, NearCache, Tally};
pub use redirect::Subscriber;
pub use session::{Causality, Keys};
pub use settle::Rejected;
pub use stream::{Origin, Stream};
pub use tracked::{Deliver, Delivery, Fence, Fill, Tracked};
