//! nearhit: a RESP proxy with a coherent near-cache.
//!
//! It stands where the Redis address stood. Hot keys are answered from memory, and the cache stays true because Redis
//! itself says what changed. Everything else passes through byte for byte.
//!
//! Modules are floors: each imports from lower floors only (`tests/architecture.rs` holds the list and checks it).
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)
)]

pub mod admin;
pub mod cache;
pub mod coherence;
pub mod command;
pub mod config;
pub mod downstream;
pub mod error;
pub mod metrics;
pub mod proxy;
pub mod resp;
pub mod time;
pub mod tracking;
pub mod upstream;

pub use config::Policy;
pub use proxy::Proxy;
