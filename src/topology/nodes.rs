//! Which nodes there are and what each is for, as discovery found it: immutable, replaced as a whole.

use std::sync::Arc;

use super::shards::Shards;
use crate::config::Address;

/// Which nodes there are, at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The node that takes writes. `None`: none is known to, because discovery has not found one yet or has just learned
    /// that the last one is not it any more. In a cluster: the primary that is asked what names no key, the same one for as
    /// long as it is a primary and answers.
    pub primary: Option<Address>,
    /// The nodes that follow it, each once, in the order of their addresses' text.
    pub replicas: Vec<Address>,
    /// Which primary has which keys; `None`: `primary` has all.
    pub shards: Option<Arc<Shards>>,
}

impl Topology {
    /// One node that takes writes, and nobody who follows it.
    pub fn single(primary: Address) -> Self {
        Self {
            primary: Some(primary),
            ..Self::default()
        }
    }

    /// The nodes that follow `primary`, once each and in order.
    pub fn new(primary: Option<Address>, replicas: impl IntoIterator<Item = Address>) -> Self {
        let mut replicas: Vec<_> = replicas
            .into_iter()
            .filter(|replica| Some(replica) != primary.as_ref())
            .collect();
        replicas.sort_by_cached_key(ToString::to_string);
        replicas.dedup();
        Self {
            primary,
            replicas,
            shards: None,
        }
    }
}
