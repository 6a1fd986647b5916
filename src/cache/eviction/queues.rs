//! Queues of slots: doubly linked lists threaded through one array indexed by slot.

use super::SlotId;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    newer: u32,
    older: u32,
    queue: u8,
}

const UNLINKED: Link = Link {
    newer: NONE,
    older: NONE,
    queue: u8::MAX,
};

#[derive(Clone, Copy, Debug)]
struct Ends {
    newest: u32,
    oldest: u32,
    len: usize,
}

/// `N` queues; a slot is in one of them or in none.
#[derive(Debug)]
pub(super) struct Queues<const N: usize> {
    links: Vec<Link>,
    ends: [Ends; N],
}

impl<const N: usize> Default for Queues<N> {
    fn default() -> Self {
        let empty = Ends {
            newest: NONE,
            oldest: NONE,
            len: 0,
        };
        Self {
            links: Vec::new(),
            ends: [empty; N],
        }
    }
}

impl<const N: usize> Queues<N> {
    pub(super) fn len(&self, queue: u8) -> usize {
        self.ends.get(usize::from(queue)).map_or(0, |ends| ends.len)
    }

    pub(super) fn oldest(&self, queue: u8) -> Option<SlotId> {
        let oldest = self.ends.get(usize::from(queue))?.oldest;
        (oldest != NONE).then(|| SlotId::new(oldest))
    }

    /// Puts the slot at the end of a queue, and takes it out of the one it was in.
    pub(super) fn push(&mut self, queue: u8, slot: SlotId) {
        self.remove(slot);
        if self.links.len() <= slot.index() {
            self.links.resize(slot.index() + 1, UNLINKED);
        }
        let at = slot.raw();
        let Some(ends) = self.ends.get_mut(usize::from(queue)) else {
            return;
        };
        let older = std::mem::replace(&mut ends.newest, at);
        ends.len += 1;
        if older == NONE {
            ends.oldest = at;
        }
        if let Some(link) = self.link(older) {
            link.newer = at;
        }
        if let Some(link) = self.link(at) {
            *link = Link {
                newer: NONE,
                older,
                queue,
            };
        }
    }

    /// Takes the slot out, and says which queue it was in.
    pub(super) fn remove(&mut self, slot: SlotId) -> Option<u8> {
        let link = self.link(slot.raw())?;
        let Link { newer, older, queue } = std::mem::replace(link, UNLINKED);
        let ends = self.ends.get_mut(usize::from(queue))?;
        ends.len -= 1;
        if newer == NONE {
            ends.newest = older;
        }
        if older == NONE {
            ends.oldest = newer;
        }
        if let Some(link) = self.link(newer) {
            link.older = older;
        }
        if let Some(link) = self.link(older) {
            link.newer = newer;
        }
        Some(queue)
    }

    fn link(&mut self, at: u32) -> Option<&mut Link> {
        self.links.get_mut(at as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_leave_in_the_order_in_which_they_came() {
        let mut queues = Queues::<2>::default();
        for slot in 0..4 {
            queues.push(0, SlotId::new(slot));
        }
        queues.push(0, SlotId::new(0));
        queues.push(1, SlotId::new(2));
        assert_eq!((queues.len(0), queues.len(1)), (3, 1));
        assert_eq!(queues.oldest(1), Some(SlotId::new(2)));
        for expected in [1, 3, 0] {
            let oldest = queues.oldest(0).unwrap();
            assert_eq!((oldest, queues.remove(oldest)), (SlotId::new(expected), Some(0)));
        }
        assert_eq!((queues.oldest(0), queues.remove(SlotId::new(9))), (None, None));
    }
}
