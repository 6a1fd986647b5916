//! Finding out which nodes there are, and watching them.

mod history;
mod monitor;

pub use monitor::Monitor;
