//! The protocol: finding where requests and replies end, writing both, and turning RESP3 replies into RESP2.

mod request;
mod shape;

pub use request::{Arg, Request};
pub use shape::Shape;

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Version {
    /// RESP2, what a connection speaks until it says `HELLO 3`.
    #[default]
    V2,
    /// RESP3.
    V3,
}
