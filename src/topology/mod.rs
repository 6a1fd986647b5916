//! Which nodes there are, what each is for, and which of them a read is sent to. No I/O: `discovery/` finds out.

mod cluster;
mod node;
mod nodes;
mod routing;
#[cfg(test)]
mod routing_tests;
mod seen;
mod shards;
mod written;

pub use cluster::{NodeId, Owners, Roster};
pub use node::{Look, Node, Objection, Source};
pub use nodes::Topology;
pub use routing::{Asked, Choice, Groups, Route, Routes, Routing, Rules};
pub use seen::Seen;
pub use shards::{Shard, Shards};
pub use written::Written;
