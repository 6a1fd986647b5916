//! A fixed table of words about hashes, a cache line a bucket, without a lock: what remembers names approximately.

use std::sync::atomic::AtomicU64;

/// Cells of a bucket: one cache line.
const WAYS: usize = 8;

/// Cells in buckets. The lower bits of a hash choose the bucket, the upper ones are the cells' to keep. Updates race without
/// harm where a name may stand there twice or be forgotten.
pub(super) struct Buckets {
    /// Invariant: a power of two of them, at least one.
    buckets: Box<[[AtomicU64; WAYS]]>,
}

impl Buckets {
    /// `cells` of 8 bytes (rounded up to a power of two of buckets, at least one), all zero.
    pub(super) fn new(cells: usize) -> Self {
        let buckets = cells.div_ceil(WAYS).max(1).next_power_of_two();
        let empty = || std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            buckets: std::iter::repeat_with(empty).take(buckets).collect(),
        }
    }

    /// The cells in which something about this hash may stand.
    pub(super) fn of(&self, hash: u64) -> Option<&[AtomicU64; WAYS]> {
        let mask = self.buckets.len() as u64 - 1;
        let index = usize::try_from(hash & mask).ok()?;
        self.buckets.get(index)
    }
}
