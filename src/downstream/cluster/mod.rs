//! What is different in front of a cluster: which node has the key, what is several requests, and what follows when a node says
//! that the key is elsewhere.
//!
//! ```text
//! Request ┬ keys of one slot ─────── nodes ─→ the primary that has it ─┬ reply
//!         ├ keys of several slots ── split ──→ scatter → gather        ├ MOVED, ASK … → redirect → sent again
//!         ├ MGET from memory ─────── mget                              └ lost         → again
//!         ├ PFCOUNT ──────────────── sketches → hyperloglog
//!         ├ all nodes ────────────── scatter → gather;  apart, if it takes its time;  scan_cursor, one after another
//!         └ MULTI ────────────────── multi: waits for its first key
//! ```

mod apart;
mod gather;
mod hyperloglog;
mod mget;
pub(in crate::downstream) mod multi;
mod nodes;
pub(in crate::downstream) mod redirect;
mod scan_cursor;
pub(in crate::downstream) mod scatter;
mod sketches;
mod split;

pub use nodes::{Cluster, Nodes};
