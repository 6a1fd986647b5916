//! Redis' side: connecting, the handshake, pipelined connections and the pools that hold them.
//!
//! One connection is a FIFO of waiters: every request that is written puts one in, every reply takes one out, and a
//! waiter that lost interest still eats its reply. Anything odd on a connection closes it. Connections live on one
//! worker's thread and are never shared between threads.

mod census;
mod connection;
#[cfg(test)]
mod connection_tests;
mod control;
mod gauges;
mod handshake;
mod health;
mod identity;
mod inbound;
mod leaving;
mod link;
mod loss;
mod outbound;
mod pool;
mod resolve;
mod socket;
mod throttle;
mod tls;
#[cfg(test)]
mod tls_tests;
mod unix;
mod waiter;
mod whereabouts;

pub use census::{Census, Circuit, NodeLoad};
pub use connection::Connection;
pub use control::{Control, ServerFacts, info_field};
pub use gauges::Gauges;
pub use handshake::{Handshake, Peer, connect};
pub(crate) use health::jittered_pause;
pub use identity::Identity;
pub use link::Link;
pub use loss::Loss;
pub use pool::{Pool, PoolSettings};
pub use resolve::{Resolve, Resolver, Resolving};
pub use socket::Socket;
pub use unix::UnixSocket;
pub use waiter::{Ended, Outlet, Room, Taken, Waiter, Watcher};
pub use whereabouts::{Here, Teller, Whereabouts};
