//! When keys were written last through this nearhit, so that they are read from where that is known to be.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::Instant;

/// Cells of the table. Keys share them: a key may be taken for written because another one was. 512 KiB.
const CELLS: usize = 1 << 16;

/// When keys were written last. All threads write and read it.
#[derive(Debug)]
pub struct Written {
    cells: Box<[AtomicU64]>,
    /// When something was written of which nobody knows what.
    all: AtomicU64,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            cells: std::iter::repeat_with(|| AtomicU64::new(0)).take(CELLS).collect(),
            all: AtomicU64::new(0),
        }
    }
}

impl Written {
    /// Keys with these hashes were written, and that was acknowledged, or is not known, at `now`; no keys: any may have been.
    /// Call it before the client can know.
    pub fn note(&self, keys: &[u64], now: Instant) {
        if keys.is_empty() {
            self.all.fetch_max(now.as_nanos(), Ordering::Release);
        }
        for cell in keys.iter().filter_map(|&key| self.cell(key)) {
            cell.fetch_max(now.as_nanos(), Ordering::Release);
        }
    }

    /// When the key with this hash was written last, as far as is known; not earlier.
    pub fn last(&self, key: u64) -> Instant {
        let cell = self.cell(key).map_or(0, |cell| cell.load(Ordering::Acquire));
        Instant::from_nanos(cell.max(self.all.load(Ordering::Acquire)))
    }

    fn cell(&self, key: u64) -> Option<&AtomicU64> {
        self.cells.get(usize::try_from(key >> 8).unwrap_or_default() % CELLS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_was_written_when_it_was_or_when_anything_may_have_been() {
        let (written, at) = (Written::default(), Instant::from_nanos);
        let [one, other] = [0x1111_2222_3333_4444, 0x5555_6666_7777_8888];
        assert_eq!(written.last(one), Instant::ZERO);
        written.note(&[one], at(5));
        written.note(&[one], at(3));
        assert_eq!((written.last(one), written.last(other)), (at(5), Instant::ZERO));
        written.note(&[], at(4));
        assert_eq!((written.last(one), written.last(other)), (at(5), at(4)));
    }
}
