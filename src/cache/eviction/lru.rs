//! Least recently used: a doubly linked list threaded through an array indexed by slot.

use super::{Eviction, SlotId};

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    newer: u32,
    older: u32,
}

/// The slot that was not served for the longest time leaves first.
pub struct Lru {
    links: Vec<Link>,
    newest: u32,
    oldest: u32,
}

impl Default for Lru {
    fn default() -> Self {
        Self {
            links: Vec::new(),
            newest: NONE,
            oldest: NONE,
        }
    }
}

impl Lru {
    fn link(&mut self, at: u32) -> Option<&mut Link> {
        self.links.get_mut(at as usize)
    }

    fn unlink(&mut self, at: u32) {
        let Some(&Link { newer, older }) = self.links.get(at as usize) else {
            return;
        };
        match self.link(newer) {
            Some(link) => link.older = older,
            None => self.newest = older,
        }
        match self.link(older) {
            Some(link) => link.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn push_newest(&mut self, at: u32) {
        let older = self.newest;
        if let Some(link) = self.link(at) {
            *link = Link { newer: NONE, older };
        }
        match self.link(older) {
            Some(link) => link.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }
}

impl Eviction for Lru {
    fn inserted(&mut self, slot: SlotId) {
        let at = slot.index();
        if self.links.len() <= at {
            self.links.resize(
                at + 1,
                Link {
                    newer: NONE,
                    older: NONE,
                },
            );
        }
        self.push_newest(slot.raw());
    }

    fn touched(&mut self, slot: SlotId) {
        if self.newest != slot.raw() {
            self.unlink(slot.raw());
            self.push_newest(slot.raw());
        }
    }

    fn removed(&mut self, slot: SlotId) {
        self.unlink(slot.raw());
    }

    fn victim(&self) -> Option<SlotId> {
        (self.oldest != NONE).then(|| SlotId::new(self.oldest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_served_longest_ago_is_the_victim() {
        let mut lru = Lru::default();
        for slot in 0..3 {
            lru.inserted(SlotId::new(slot));
        }
        lru.touched(SlotId::new(0));
        assert_eq!(lru.victim(), Some(SlotId::new(1)));
        lru.removed(SlotId::new(1));
        assert_eq!(lru.victim(), Some(SlotId::new(2)));
    }
}
