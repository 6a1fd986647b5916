//! Where in a nested reply one stands: an explicit stack, so that no input can overflow the thread's.

use super::fault::ReplyError;

/// Levels kept allocated between replies; Redis' own replies nest less than ten deep.
const KEPT_LEVELS: usize = 64;

/// The aggregates that are open, outermost first.
///
/// Invariant: every level has values left. The stack grows by one level for each header received, whatever that
/// header declares.
#[derive(Debug)]
pub(super) struct Nesting {
    levels: Vec<Level>,
    max_depth: usize,
    /// How many of the levels are attributes.
    attributes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    left: u64,
    /// An attribute precedes a value and is none: its end completes nothing.
    attribute: bool,
}

impl Nesting {
    pub(super) fn new(max_depth: usize) -> Self {
        Self {
            levels: Vec::new(),
            max_depth,
            attributes: 0,
        }
    }

    /// How many aggregates are open.
    pub(super) fn depth(&self) -> usize {
        self.levels.len()
    }

    /// Whether the value at hand belongs to an attribute.
    pub(super) fn in_attribute(&self) -> bool {
        self.attributes > 0
    }

    /// Opens an aggregate of `count` values. True when it has none and is therefore a complete value.
    pub(super) fn open(&mut self, count: u64, attribute: bool) -> Result<bool, ReplyError> {
        if count == 0 {
            return Ok(!attribute);
        }
        if self.levels.len() >= self.max_depth {
            return Err(ReplyError::TooDeep);
        }
        self.levels.push(Level { left: count, attribute });
        self.attributes += usize::from(attribute);
        Ok(false)
    }

    /// A value is complete, and with it the aggregates it was the last of. True when that was the whole reply.
    #[inline]
    pub(super) fn value_ends(&mut self) -> bool {
        while let Some(level) = self.levels.last_mut() {
            level.left -= 1;
            if level.left > 0 {
                return false;
            }
            let attribute = level.attribute;
            self.levels.pop();
            if attribute {
                self.attributes -= 1;
                return false;
            }
        }
        true
    }

    /// Levels allocated.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.levels.capacity()
    }

    /// Closes everything and gives back what an unusually deep reply needed.
    pub(super) fn clear(&mut self) {
        self.levels.clear();
        self.levels.shrink_to(KEPT_LEVELS);
        self.attributes = 0;
    }
}
