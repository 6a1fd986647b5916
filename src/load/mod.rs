//! A load generator that checks every reply: behind `nearhit bench`, and behind the project's own benchmarks.
//!
//! ```text
//! Script  what each key's requests and replies are ──┐
//! Picker  which key comes next, read or written ─────┼─→ Load ── one epoll ──→ one connection each ──→ Done
//! Pace    closed (as fast as replies come), or open ─┘            every reply compared, byte for byte
//! ```
//! **Closed**: a connection sends its next requests when it has the replies to the last ones. What is found is how much
//! can be done; its latencies leave out whoever would have come while the server was slow.
//!
//! **Open**: requests are due at a fixed rate, whether replies come or not, and latency counts from when a request was
//! due, not from when it could at last be sent: no coordinated omission ("How NOT to Measure Latency", Gil Tene, 2015).
//!
//! One thread does all of it. [`Player`] does the same over one stream that is there already, of whatever kind. It is meant for benchmarks: nothing here is part of serving clients.

mod caller;
mod crowd;
mod driver;
mod keys;
mod lane;
mod player;
mod record;
mod replies;
mod script;
mod socket;
mod zipf;

pub use caller::Caller;
pub use driver::{Load, Pace, Until};
pub use keys::{Order, Picker, Trace};
pub use player::Player;
pub use record::Done;
pub use replies::Replies;
pub use script::{Exchange, MIN_VALUE_BYTES, Script, Verb};
pub use socket::Server;
pub use zipf::Zipf;
