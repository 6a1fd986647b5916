//! Publish and subscribe: many subscribers, one subscription.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `turn` | what a subscribed session may ask, and where it goes |
//! | `change` | a SUBSCRIBE or UNSUBSCRIBE on its way, and its confirmations |
//! | `hub` | a worker's connection for all of them |
//! | `table` | who is subscribed to what, and when the hub must be |
//! | `listening` | what one session is subscribed to |
//! | `backlog` | messages into a session's pipeline, and subscribers that do not read |
//! | `receivers` | how many more clients hear a message than the server counts |
//! | `kind` | channels, patterns, shard channels, and the protocol's words for them |

mod backlog;
mod change;
mod hub;
mod kind;
mod listening;
mod receivers;
mod table;
mod turn;

pub(super) use change::Change;
pub(super) use hub::Hub;
pub(super) use kind::words;
pub(super) use listening::Listening;
pub use receivers::Receivers;
