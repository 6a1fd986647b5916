//! CPU time of the calling thread, to the nanosecond, and the rates that come of it.

/// CPU time of the calling thread in nanoseconds. What waits or is preempted does not count.
pub(crate) fn cpu_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// What a thread did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) operations: u64,
    pub(crate) cpu_nanos: u64,
}

impl Rate {
    /// Does `work`, which says how many operations it did, until `nanos` of CPU time are used.
    pub(crate) fn of(nanos: u64, mut work: impl FnMut() -> u64) -> Self {
        let (begin, mut operations) = (cpu_nanos(), 0);
        loop {
            operations += work();
            let cpu_nanos = cpu_nanos() - begin;
            if cpu_nanos >= nanos {
                return Self { operations, cpu_nanos };
            }
        }
    }

    /// Millions a second of CPU time.
    pub(crate) fn mops(self) -> f64 {
        self.operations as f64 * 1e3 / self.cpu_nanos as f64
    }
}
