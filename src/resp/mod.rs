//! The protocol: finding where requests and replies end, writing both, and turning RESP3 replies into RESP2.
//!
//! ```text
//! client ─bytes→ request_scan (inline) ─→ Request ─→ upstream, byte for byte
//! client ←bytes─ convert ←─ reply_scan ←─ upstream, byte for byte
//! ```
//! | file | what it owns |
//! | --- | --- |
//! | `request_scan`, `inline` | where a request ends, what its arguments are, its canonical bytes |
//! | `reply_scan`, `nesting` | where a reply ends, without keeping it and without recursion |
//! | `convert`, `shape`, `walk` | a RESP3 reply as RESP2 has it, value by value |
//! | `value` | structured values for cold paths, read and written with `redis-protocol` |
//! | `glob` | Redis' patterns |
//! | `parts` | an array's elements, each as its own bytes |
//! | `fault` | what can be wrong with either, in Redis' words |
//! | `number` | counts and lengths, in their one accepted spelling |
//! | `encode` | small writers for the hot path |

mod convert;
pub mod encode;
mod fault;
mod glob;
mod inline;
mod nesting;
mod number;
mod parts;
mod reply_scan;
mod request;
mod request_rest;
mod request_scan;
mod shape;
mod value;
mod walk;

pub use convert::to_resp2;
pub use fault::{ProtocolError, ReplyError};
pub use glob::Glob;
pub(crate) use number::canonical;
pub use parts::{members, parts};
pub use reply_scan::{ReplyLimits, ReplyScan, ReplyScanner};
pub use request::{Arg, Request};
pub use request_rest::{RequestRest, RestScan};
pub use request_scan::{RequestLimits, RequestScan, RequestScanner, UNAUTHENTICATED_ARGS, UNAUTHENTICATED_BULK};
pub use shape::Shape;
pub use value::Value;

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Version {
    /// RESP2, what a connection speaks until it says `HELLO 3`.
    #[default]
    V2,
    /// RESP3.
    V3,
}
