//! What operators reach: the metrics and probe listener.
//!
//! Runs on the control thread, never on a worker. The listener of [`http`] is safe to expose: it changes nothing and
//! shows no key.

pub mod http;

mod wip;
pub use wip::*;
