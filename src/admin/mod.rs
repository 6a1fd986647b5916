//! What operators reach: nearhit's own command, the `# Proxy` section of INFO, and the metrics and probe listener.
//!
//! ```text
//! client ─ PROXY … ─→ Console ─ one row a verb ─→ answers from shared state      (on the client's worker)
//! client ─ INFO ────→ Console::info_section
//! scraper, kubelet ─→ http ─→ Prober ─ sample, then render                       (on the control thread)
//! ```
//! The listener of [`http`] is safe to expose: it changes nothing and shows no key. [`Console`] shows keys, never
//! values, and changes the local cache only.

mod console;
mod explain;
mod figures;
mod hot_keys;
pub mod http;
mod info;
mod keys;
mod probe;
mod reply;
mod sample;
mod shadow;
mod stats;
#[cfg(test)]
mod tests;
mod topology;

pub use console::{Console, Facts};
pub use probe::Prober;
pub use sample::sample;
