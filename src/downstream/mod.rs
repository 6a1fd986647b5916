//! The clients' side: sessions, what is done with each request, and replies in request order.
//!
//! ```text
//! socket ─read→ scanner ─Request→ Turn ┬ local    HELLO, SELECT, CLIENT …, PROXY          (local, switch, identity)
//!                                      ├ cached   near-cache: hit, wait, lead, bypass     (cached)
//!                                      ├ forward  shared connection of the session's home (forward)
//!                                      ├ replica  reads that a replica may answer        (replicas)
//!                                      ├ hub      SUBSCRIBE …: shared by subscribers     (pubsub)
//!                                      └ pinned   MULTI, blocking, CLIENT TRACKING …     (pinned, transaction, subscribe)
//! socket ←write─ pipeline ←──────────────── replies, in request order
//! ```
//! Who a session is at the server is its `account`: its connections log in as that user, and its cached replies are that
//! user's. Redis judges who may be whom (`door`), and what may be run that is answered here (`rights`).
//!
//! `task` reads and writes, `request` decides, `session` is the state. Everything here lives on one worker's thread. A session is one task; replies that arrive meanwhile are put into its
//! pipeline and wake it, so that all of a turn leave in one write.

mod account;
mod accounts;
mod again;
mod answers;
mod attribute;
mod cached;
mod client_kill;
mod client_list;
mod client_tracking;
mod cluster;
mod command_list;
mod common;
mod context;
mod door;
mod edit;
mod facade;
mod fence;
mod forward;
mod holdings;
mod home;
mod identity;
mod large;
mod listener;
mod live;
mod local;
mod monitor;
mod orders;
mod output;
mod pause;
mod pin;
mod pinned;
mod pipeline;
mod pubsub;
mod replica_refusals;
mod replicas;
mod request;
mod rights;
mod send;
mod session;
mod shadow;
mod socket;
mod subscribe;
mod switch;
mod task;
mod transaction;
mod unready;
mod upload;
mod waiter;

pub use account::{Account, Partition};
pub use accounts::{AccountSettings, Accounts, Partitions};
pub use cluster::{Cluster, Nodes};
pub use common::Common;
pub use context::{AdminCommand, AdminVerb, Asker, Context, Peer, Settings, Shared, Ticket};
pub use facade::LastInfo;
pub use forward::Forwarded;
pub use live::{Live, Seat};
pub use monitor::Monitors;
pub use orders::{Courier, Order, What};
pub use pause::Pause;
pub use pubsub::Receivers;
pub use replicas::Replicas;
pub use session::Session;
pub use socket::Socket;
pub use task::serve;
