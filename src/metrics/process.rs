//! `process_*`: what the kernel says about this process, under the names every Prometheus dashboard knows.
//!
//! Read from `/proc` when rendered. A figure that cannot be read is left out, never reported as zero.

use std::fs;

use super::family::{Row, RowType};
use super::text::Text;

/// Clock ticks a second in `/proc/*/stat`: part of Linux's interface to programs, whatever the kernel itself uses.
const TICKS: f64 = 100.0;

const CPU: Row = row(
    "process_cpu_seconds_total",
    RowType::Counter,
    "User and system CPU time spent, in seconds.",
);
const MEMORY: Row = row(
    "process_resident_memory_bytes",
    RowType::Gauge,
    "Memory in RAM, in bytes.",
);
const VIRTUAL: Row = row(
    "process_virtual_memory_bytes",
    RowType::Gauge,
    "Address space, in bytes.",
);
const START: Row = row(
    "process_start_time_seconds",
    RowType::Gauge,
    "When it started, in seconds since 1970.",
);
const OPEN_FDS: Row = row("process_open_fds", RowType::Gauge, "Open file descriptors.");
const MAX_FDS: Row = row(
    "process_max_fds",
    RowType::Gauge,
    "File descriptors that may be open at once.",
);

/// The rows of this file.
pub const PROCESS_ROWS: &[Row] = &[CPU, MEMORY, VIRTUAL, START, OPEN_FDS, MAX_FDS];

const fn row(name: &'static str, kind: RowType, help: &'static str) -> Row {
    Row { name, kind, help }
}

/// Appends what can be read.
pub(super) fn write(text: &mut Text) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut put = |row: &Row, value: Option<f64>| {
        if let Some(value) = value {
            text.family(row);
            text.sample(row.name, "", &[], value);
        }
    };
    put(&CPU, cpu_seconds(&stat));
    put(&MEMORY, kilobytes(&status, "VmRSS:"));
    put(&VIRTUAL, kilobytes(&status, "VmSize:"));
    put(
        &START,
        start_seconds(&stat, &fs::read_to_string("/proc/stat").unwrap_or_default()),
    );
    put(&OPEN_FDS, open_fds());
    put(
        &MAX_FDS,
        max_fds(&fs::read_to_string("/proc/self/limits").unwrap_or_default()),
    );
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS)
}

fn start_seconds(stat: &str, kernel: &str) -> Option<f64> {
    Some(number_after(kernel, "btime ")? + field(stat, 22)? / TICKS)
}

fn kilobytes(status: &str, name: &str) -> Option<f64> {
    Some(number_after(status, name)? * 1024.0)
}

#[allow(clippy::cast_precision_loss, reason = "a count of files")]
fn open_fds() -> Option<f64> {
    // Reading the folder opens one more, which is gone when the answer is read.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

fn max_fds(limits: &str) -> Option<f64> {
    number_after(limits, "Max open files")
}

/// Field `n` of `/proc/self/stat`, counted from one as in proc(5). The name in field 2 may hold blanks and brackets, so
/// counting starts behind its last bracket.
fn field(stat: &str, n: usize) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split_whitespace().nth(n.checked_sub(3)?)?.parse().ok()
}

/// The first word behind `name`, where that is a number.
fn number_after(text: &str, name: &str) -> Option<f64> {
    let (_, rest) = text
        .lines()
        .find_map(|line| line.split_once(name).filter(|(before, _)| before.is_empty()))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) (b c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 12300 1 2";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(start_seconds(stat, "cpu 1 2\nbtime 1000\n"), Some(1123.0));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(cpu_seconds(""), None);
        assert_eq!(
            max_fds("Max open files            unlimited            unlimited            files"),
            None
        );
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let mut text = Text::default();
        write(&mut text);
        let text = text.finish();
        assert!(PROCESS_ROWS.iter().all(|row| text.contains(row.name)), "{text}");
    }
}
