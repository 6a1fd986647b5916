//! The clients' side: sessions, what is done with each request, and replies in request order.
//!
//! ```text
//! socket ─read→ scanner ─Request→ Turn ┬ local    HELLO, SELECT, CLIENT …, PROXY          (local, switch, identity)
//!                                      ├ cached   near-cache: hit, wait, lead, bypass     (cached)
//!                                      ├ forward  shared connection of the session's home (forward)
//!                                      └ pinned   MULTI, blocking, SUBSCRIBE …            (pinned, transaction, subscribe)
//! socket ←write─ pipeline ←──────────────── replies, in request order
//! ```
//! `task` reads and writes, `request` decides, `session` is the state. Everything here lives on one worker's thread. A session is one task; replies that arrive meanwhile are put into its
//! pipeline and wake it, so that all of a turn leave in one write.

mod cached;
mod context;
mod forward;
mod identity;
mod local;
mod pinned;
mod pipeline;
mod request;
mod session;
mod socket;
mod splice;
mod subscribe;
mod switch;
mod task;
mod transaction;

pub use context::{AdminCommand, Context, Peer, Settings, Shared, Ticket};
pub use forward::Forwarded;
pub use session::Session;
pub use socket::Socket;
pub use task::serve;
