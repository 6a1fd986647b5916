//! Runs this program under valgrind's callgrind and reads how many instructions a thread executed.

use std::path::Path;
use std::process::{Command, Stdio};

use super::ops::{Op, Thread};

/// Whether valgrind is installed.
pub(crate) fn is_here() -> bool {
    let mut command = Command::new("valgrind");
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Instructions for each time an operation is done: many times less few times, so that starting does not count.
pub(crate) fn per_operation(op: Op, upstream: &str) -> Result<f64, String> {
    let (few, many) = op.counts();
    let less = instructions(op, few, upstream)?;
    let more = instructions(op, many, upstream)?;
    Ok((more as f64 - less as f64) / (many - few) as f64)
}

fn instructions(op: Op, count: u64, upstream: &str) -> Result<u64, String> {
    let failed = |what: &str| format!("count {} {count} times: {what}", op.name());
    let dir = crate::harness::temp_dir();
    let out = dir.path().join("out");
    let program = std::env::current_exe().map_err(|error| failed(&error.to_string()))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(["--op", op.name(), "--count", &count.to_string(), "--upstream", upstream])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(&format!("start valgrind: {error}")))?;
    if !output.status.success() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr)));
    }
    let number = number(op.thread(), &String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| failed("the process named no such thread"))?;
    let file = format!("{}-{number:02}", out.display());
    total(Path::new(&file)).ok_or_else(|| failed(&format!("{file} has no total")))
}

/// The number that valgrind gave a thread: the first is 1.
fn number(thread: Thread, said: &str) -> Option<usize> {
    let wanted = match thread {
        Thread::Main => return Some(1),
        Thread::Worker => "nearhit-worker",
        Thread::Tracking => "nearhit-trackin",
    };
    let names = said.lines().filter_map(|line| line.strip_prefix("thread "));
    Some(names.into_iter().position(|name| name.starts_with(wanted))? + 1)
}

/// All that a thread executed; one part of the file for each time that it was written.
fn total(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let totals = text.lines().filter_map(|line| line.strip_prefix("totals:"));
    let totals: Vec<u64> = totals.filter_map(|total| total.trim().parse().ok()).collect();
    (!totals.is_empty()).then(|| totals.iter().sum())
}
