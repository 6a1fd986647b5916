//! CPU time of another process, user and system together, as the kernel counts it.

use std::collections::HashMap;
use std::fs;

/// What one process has run so far.
#[derive(Debug)]
pub(crate) enum CpuTime {
    /// Nanoseconds of each thread by its id: `/proc/PID/task/*/schedstat`.
    Threads(HashMap<String, u64>),
    /// Nanoseconds of the process in steps of 10 ms: `/proc/PID/stat`, on a kernel without `CONFIG_SCHED_INFO`.
    Ticks(u64),
}

impl CpuTime {
    /// Reads it now; nothing for no process.
    pub(crate) fn of(pid: Option<u32>) -> Result<Self, String> {
        let Some(pid) = pid else {
            return Ok(Self::Threads(HashMap::new()));
        };
        threads(pid, "")
            .map(Self::Threads)
            .or_else(|| ticks(pid).map(Self::Ticks))
            .ok_or_else(|| format!("read the CPU time of process {pid}: it has ended, or /proc is not readable"))
    }

    /// Of those threads of a process whose names begin so.
    pub(crate) fn of_threads(pid: u32, name: &str) -> Result<Self, String> {
        threads(pid, name)
            .map(Self::Threads)
            .ok_or_else(|| format!("read the CPU time of the threads {name}*: /proc is not readable, or tells none"))
    }

    /// Nanoseconds that the process has run since `earlier`.
    ///
    /// A thread that began in between counts whole. One that ended in between is lost: those are idle helpers, whose
    /// runtime sends them home.
    pub(crate) fn since(&self, earlier: &Self) -> u64 {
        match (self, earlier) {
            (Self::Threads(now), Self::Threads(before)) => now
                .iter()
                .map(|(thread, nanos)| nanos.saturating_sub(before.get(thread).copied().unwrap_or(0)))
                .sum(),
            (Self::Ticks(now), Self::Ticks(before)) => now.saturating_sub(*before),
            // One kernel answers both times in the same way, unless the process is gone: then the load fails first.
            _ => 0,
        }
    }
}

fn threads(pid: u32, name: &str) -> Option<HashMap<String, u64>> {
    let mut threads = HashMap::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // A thread may end between the listing and the look.
        let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else {
            continue;
        };
        let comm = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        if !comm.starts_with(name) {
            continue;
        }
        let ran = text.split_ascii_whitespace().next()?.parse().ok()?;
        threads.insert(thread.file_name().to_string_lossy().into_owned(), ran);
    }
    (!threads.is_empty()).then_some(threads)
}

fn ticks(pid: u32) -> Option<u64> {
    /// Linux tells user space about 100 ticks a second, whatever it uses inside.
    const NANOS_PER_TICK: u64 = 10_000_000;
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may contain anything; fields are counted from behind it: utime is the 12th, stime the 13th.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * NANOS_PER_TICK)
}
