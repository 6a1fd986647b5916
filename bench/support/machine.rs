//! Which machine the figures come from, and which versions ran.

use std::fs;
use std::process::Command;

use serde::Serialize;

/// What a figure means nothing without.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    /// Those that this process may use.
    pub(crate) cores: usize,
    kernel: String,
    redis_version: String,
    /// Of the nearhit that was measured; `+` after it when the work tree had changes.
    commit: String,
    /// How many processes wanted a core in the minute before the run. Above zero, figures are worse than they need be.
    load_before: f64,
}

impl Machine {
    /// Looks around, before the run makes its own load.
    pub(crate) fn look() -> Self {
        Self {
            cpu: cpu_model().unwrap_or_else(|| "unknown CPU".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
            redis_version: "unknown".to_owned(),
            commit: commit().unwrap_or_else(|| "unknown".to_owned()),
            load_before: load().unwrap_or(f64::NAN),
        }
    }

    /// Adds what only a running server knows.
    #[allow(dead_code, reason = "not every bench has a server")]
    pub(crate) fn with_redis(mut self, version: String) -> Self {
        self.redis_version = version;
        self
    }

    /// One line for the head of a table of what needs no server.
    #[allow(dead_code, reason = "not every bench is one of these")]
    pub(crate) fn place(&self) -> String {
        format!(
            "{}, {} cores, Linux {}, nearhit {}, load {:.2} before the run",
            self.cpu, self.cores, self.kernel, self.commit, self.load_before
        )
    }

    /// One line for the head of a table.
    #[allow(dead_code, reason = "not every bench has a server")]
    pub(crate) fn line(&self) -> String {
        format!(
            "{}, {} cores, Linux {}, redis-server {}, nearhit {}, load {:.2} before the run",
            self.cpu, self.cores, self.kernel, self.redis_version, self.commit, self.load_before
        )
    }
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn cpu_model() -> Option<String> {
    let info = read("/proc/cpuinfo")?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn load() -> Option<f64> {
    read("/proc/loadavg")?.split(' ').next()?.parse().ok()
}

fn commit() -> Option<String> {
    let hash = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { hash } else { hash + "+" })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(crate::harness::root())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
