//! Generated sequences of commands, said to a redis-server and, through nearhit, to a second one.
//!
//! ```text
//! seed ─sequence (grammar, gaps)→ steps ─driver→ direct ──→ redis-server                what each connection heard
//!                                              └ proxied ─→ nearhit ─→ redis-server  ─→ ═ wanted ═→ the same, or a failure
//! failure ─shrink→ the fewest steps that still fail, with both transcripts side by side
//! ```
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary compiles this module and uses its own part of it"
)]

pub mod clustered;
pub mod driver;
pub mod gaps;
pub mod grammar;
pub mod runs;
pub mod sequence;
pub mod shrink;
pub mod side;
pub mod stage;
pub mod steps;
pub mod wanted;

/// What nearhit stands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    Server,
    /// A server with two replicas.
    Replicas,
    /// The same, known to three sentinels.
    Sentinels,
    /// A cluster of three primaries.
    Cluster,
}

/// How connections of a sequence begin and what nearhit stands before.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    pub name: &'static str,
    pub behind: Behind,
    /// Arguments of nearhit.
    pub nearhit: &'static [&'static str],
    /// User and password before the address in nearhit's upstream, as in a URL.
    pub login: &'static str,
    /// Whether the near-cache works at all.
    pub cached: bool,
    /// Percent of the connections that say HELLO 3 first.
    pub resp3: usize,
    /// The most commands that are sent at once.
    pub depth: usize,
    /// What the servers want to hear first.
    pub password: Option<&'static str>,
}
