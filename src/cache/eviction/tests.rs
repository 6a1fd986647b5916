//! What every policy keeps, and what tells them apart.

use super::*;

/// Slots without a shard.
#[derive(Default)]
struct Field(Vec<Option<(Heat, u64)>>);

impl Slots for Field {
    fn places(&self) -> usize {
        self.0.len()
    }

    fn at(&self, place: usize) -> Option<(SlotId, Candidate<'_>)> {
        let (heat, weight) = self.0.get(place)?.as_ref()?;
        let weight = *weight;
        Some((SlotId::new(u32::try_from(place).ok()?), Candidate { heat, weight }))
    }
}

struct Bench {
    policy: Box<dyn Eviction>,
    pulse: Arc<Pulse>,
    field: Field,
}

impl Bench {
    fn new(kind: EvictionKind) -> Self {
        let (policy, pulse) = build(kind);
        let field = Field::default();
        Self { policy, pulse, field }
    }

    /// A number as even as the hashes of names are.
    fn hash(slot: usize) -> u64 {
        (slot as u64 + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(29)
    }

    fn insert(&mut self, slot: usize, weight: u64) {
        if self.field.0.len() <= slot {
            self.field.0.resize_with(slot + 1, || None);
        }
        let place = &mut self.field.0[slot];
        if place.is_some() {
            return;
        }
        let (heat, _) = place.insert((Heat::default(), weight));
        self.policy
            .inserted(SlotId::new(slot.try_into().unwrap()), Self::hash(slot), heat);
    }

    fn touch(&self, slot: usize) {
        if let Some(Some((heat, _))) = self.field.0.get(slot) {
            self.pulse.touch(heat);
        }
    }

    fn remove(&mut self, slot: usize) {
        let Some((heat, _)) = self.field.0.get_mut(slot).and_then(Option::take) else {
            return;
        };
        self.policy
            .removed(SlotId::new(slot.try_into().unwrap()), Self::hash(slot), &heat);
    }

    fn victim(&mut self) -> Option<usize> {
        self.policy.victim(&self.field).map(SlotId::index)
    }

    /// Makes room as a shard does, and says who left.
    fn evict(&mut self) -> usize {
        let victim = self.victim().expect("a victim");
        assert!(self.field.0[victim].is_some(), "{victim} is not held");
        self.remove(victim);
        victim
    }

    fn held(&self) -> usize {
        self.field.0.iter().flatten().count()
    }
}

#[test]
fn every_policy_names_only_slots_it_holds_and_empties_completely() {
    for &kind in EvictionKind::ALL {
        for slots in [4, 64, 600] {
            let mut bench = Bench::new(kind);
            let mut state = 1_u64;
            for _ in 0..20_000 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let slot = usize::try_from((state >> 33) % slots).unwrap();
                match (state >> 20) % 3 {
                    0 => bench.insert(slot, state % 1000),
                    1 => bench.touch(slot),
                    _ => bench.remove(slot),
                }
                assert_eq!(bench.policy.len(), bench.held(), "{kind}");
                let victim = bench.victim();
                assert_eq!(victim.is_none(), bench.held() == 0, "{kind}");
                assert!(victim.is_none_or(|victim| bench.field.0[victim].is_some()), "{kind}");
            }
            while bench.held() > 0 {
                bench.evict();
            }
            assert!(bench.policy.is_empty() && bench.victim().is_none(), "{kind}");
        }
    }
}

#[test]
fn every_policy_finds_the_last_slot_among_many_empty_places() {
    for &kind in EvictionKind::ALL {
        let mut bench = Bench::new(kind);
        (0..10_000).for_each(|slot| bench.insert(slot, 1));
        (0..10_000)
            .filter(|&slot| slot != 4321)
            .for_each(|slot| bench.remove(slot));
        assert_eq!(bench.victim(), Some(4321), "{kind}");
    }
}

/// A hundred slots of which ten are read all the time; another hundred pass through once.
fn survivors(kind: EvictionKind) -> usize {
    let mut bench = Bench::new(kind);
    (0..100).for_each(|slot| bench.insert(slot, 100));
    for stranger in 1000..1100 {
        (0..10).for_each(|slot| bench.touch(slot));
        bench.evict();
        bench.insert(stranger, 100);
    }
    (0..10).filter(|&slot| bench.field.0[slot].is_some()).count()
}

#[test]
fn what_is_read_stays_unless_the_policy_asks_only_who_came_first() {
    for &kind in EvictionKind::ALL {
        let survivors = survivors(kind);
        if kind == EvictionKind::Fifo {
            assert!(survivors < 4, "{survivors} of the first ten survived in {kind}");
        } else {
            assert_eq!(survivors, 10, "{kind}");
        }
    }
}

#[test]
fn the_slot_served_longest_ago_leaves_first_in_lru() {
    let mut bench = Bench::new(EvictionKind::Lru);
    (0..3).for_each(|slot| bench.insert(slot, 1));
    bench.touch(0);
    assert_eq!((bench.evict(), bench.evict(), bench.evict()), (1, 0, 2));
}

#[test]
fn the_slot_that_came_first_leaves_first_in_fifo() {
    let mut bench = Bench::new(EvictionKind::Fifo);
    (0..3).for_each(|slot| bench.insert(slot, 1));
    bench.touch(0);
    assert_eq!((bench.evict(), bench.evict(), bench.evict()), (0, 1, 2));
}

#[test]
fn the_slot_served_most_rarely_leaves_first_in_lfu() {
    let mut bench = Bench::new(EvictionKind::Lfu);
    (0..3).for_each(|slot| bench.insert(slot, 1));
    (0..1000).for_each(|_| bench.touch(0));
    bench.touch(1);
    bench.touch(1);
    assert_eq!((bench.evict(), bench.evict(), bench.evict()), (2, 1, 0));
}

#[test]
fn of_two_that_are_served_alike_the_larger_leaves_first() {
    let mut bench = Bench::new(EvictionKind::Worth);
    bench.insert(0, 1000);
    bench.insert(1, 100);
    assert_eq!(bench.evict(), 0);
}

#[test]
fn a_name_that_comes_back_is_not_a_stranger() {
    let mut bench = Bench::new(EvictionKind::Worth);
    (0..20).for_each(|slot| bench.insert(slot, 100));
    (0..10).for_each(|_| bench.touch(5));
    bench.remove(5);
    (100..110).for_each(|slot| bench.insert(slot, 100));
    bench.insert(5, 100);
    for _ in 0..25 {
        assert_ne!(bench.evict(), 5);
    }
}

#[test]
fn a_scan_passes_through_the_small_queue_of_s3fifo() {
    let mut bench = Bench::new(EvictionKind::S3Fifo);
    for slot in 0..100 {
        bench.insert(slot, 1);
        bench.touch(slot);
    }
    for stranger in 1000..1200 {
        bench.insert(stranger, 1);
        while bench.held() > 110 {
            bench.evict();
        }
    }
    assert!((0..100).filter(|&slot| bench.field.0[slot].is_some()).count() > 90);
}
