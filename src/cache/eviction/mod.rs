//! Which slot leaves when memory is short: one trait, one file a policy.

mod lru;

pub use lru::Lru;

use super::SlotId;

/// An eviction policy over the slots of one shard. It only orders; the shard owns the slots.
///
/// Contract: `inserted` once per slot before anything else, `removed` once when it goes; `victim` names a slot that was
/// inserted and not removed, without removing it, and `None` only when there is none.
pub trait Eviction: Send {
    /// A slot got its first entry.
    fn inserted(&mut self, slot: SlotId);
    /// An entry of the slot was served.
    fn touched(&mut self, slot: SlotId);
    /// The slot lost its last entry.
    fn removed(&mut self, slot: SlotId);
    /// The slot that should leave next.
    fn victim(&self) -> Option<SlotId>;
}

/// The policies there are; the conformance tests run over [`EvictionKind::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EvictionKind {
    /// The slot that was not served for the longest time leaves first.
    #[default]
    Lru,
}

impl EvictionKind {
    /// Every policy.
    pub const ALL: &'static [Self] = &[Self::Lru];

    /// A new, empty instance of the policy.
    pub fn build(self) -> Box<dyn Eviction> {
        match self {
            Self::Lru => Box::new(Lru::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_policy_names_only_slots_it_holds_and_empties_completely() {
        for kind in EvictionKind::ALL {
            let mut policy = kind.build();
            let mut held = HashSet::new();
            let mut state = 1_u64;
            for _ in 0..10_000 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let slot = SlotId::new(u32::try_from((state >> 33) % 64).unwrap());
                match (state >> 20) % 3 {
                    0 if held.insert(slot) => policy.inserted(slot),
                    1 if held.contains(&slot) => policy.touched(slot),
                    2 if held.remove(&slot) => policy.removed(slot),
                    _ => {}
                }
                assert_eq!(policy.victim().is_none(), held.is_empty(), "{kind:?}");
                assert!(policy.victim().is_none_or(|victim| held.contains(&victim)), "{kind:?}");
            }
            while let Some(victim) = policy.victim() {
                assert!(held.remove(&victim), "{kind:?}");
                policy.removed(victim);
            }
            assert!(held.is_empty(), "{kind:?}");
        }
    }
}
