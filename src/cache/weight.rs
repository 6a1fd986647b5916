//! What things take of memory.

/// What an allocation of `len` bytes takes of the system's allocator (glibc): a header of 8 bytes, in steps of 16, and
/// 32 at least. `tests/cache_memory.rs` compares the sums with what a process takes.
pub(super) fn allocated(len: usize) -> u64 {
    match len {
        0 => 0,
        _ => ((len as u64 + 8).next_multiple_of(16)).max(32),
    }
}

#[cfg(test)]
mod tests {
    use super::allocated;

    #[test]
    fn allocations_are_rounded_as_glibc_does() {
        for (len, expected) in [(0, 0), (1, 32), (24, 32), (25, 48), (40, 48), (41, 64), (1000, 1008)] {
            assert_eq!(allocated(len), expected, "{len}");
        }
    }
}
