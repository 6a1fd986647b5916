//! Numbers that change with what is cached: whoever copied an entry asks whether it is still what is cached.

use std::sync::atomic::Ordering;

use crate::sync::AtomicU64;

/// One number for all names whose hashes share a cell. It only grows, so one that is the same has not changed.
///
/// It is raised (Release) under the shard's lock, before the lock is let go, whenever an entry of such a name leaves, is
/// replaced, or must not be served any more for what its name has seen. It is read (Acquire) by whoever copied the entry,
/// after the stream's proof was and before the copy is served: whoever sees a proof of life that was published behind
/// an invalidation sees the number that the invalidation raised.
#[derive(Debug)]
pub struct Versions {
    /// Invariant: at least one.
    cells: Box<[AtomicU64]>,
}

impl Versions {
    /// `cells` numbers, at least one; 8 bytes each. With more of them fewer copies are given up for another name's sake.
    pub fn new(cells: usize) -> Self {
        Self {
            cells: std::iter::repeat_with(|| AtomicU64::new(0))
                .take(cells.max(1))
                .collect(),
        }
    }

    /// The number of names with this hash.
    pub fn of(&self, hash: u64) -> u64 {
        self.cell(hash).load(Ordering::Acquire)
    }

    pub(super) fn raise(&self, hash: u64) {
        self.cell(hash).fetch_add(1, Ordering::Release);
    }

    #[allow(
        clippy::indexing_slicing,
        reason = "index is reduced modulo the fixed, non-zero number of cells"
    )]
    fn cell(&self, hash: u64) -> &AtomicU64 {
        // The table inside a shard uses the low and the top bits, and the shard is chosen by bits between.
        let index = usize::try_from((hash >> 16) % self.cells.len() as u64).unwrap_or_default();
        &self.cells[index]
    }
}
