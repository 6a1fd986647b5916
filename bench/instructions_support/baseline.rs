//! The counts that were good, and how far a new one may be from them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ops::Op;

/// How far a count may be from the baseline, in either direction: less is fine for users, but a baseline that is not
/// kept would hide the next step back. Chosen; counts of one binary differ by less than a hundredth.
pub(crate) const SLACK: f64 = 0.03;

/// `bench/instructions.toml`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Baseline {
    instructions: BTreeMap<String, f64>,
}

/// Where a count stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Same,
    /// Fewer: bless it.
    Fewer,
    More,
    /// Nothing to compare with.
    New,
}

impl Baseline {
    pub(crate) fn path() -> PathBuf {
        crate::harness::root().join("bench/instructions.toml")
    }

    /// What is written there; nothing where there is no file yet.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| format!("read {}: {error}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("read {}: {error}", path.display())),
        }
    }

    pub(crate) fn of(&self, op: Op) -> Option<f64> {
        self.instructions.get(op.name()).copied()
    }

    pub(crate) fn judge(&self, op: Op, count: f64) -> Verdict {
        match self.of(op) {
            None => Verdict::New,
            Some(baseline) if count > baseline * (1.0 + SLACK) => Verdict::More,
            Some(baseline) if count < baseline * (1.0 - SLACK) => Verdict::Fewer,
            Some(_) => Verdict::Same,
        }
    }
}

/// Writes these counts as the baseline; those of operations that were not counted stay.
pub(crate) fn bless(path: &Path, before: &Baseline, counts: &[(Op, f64)], with: &str) -> Result<(), String> {
    let mut text = format!(
        "# Instructions for each time a hot path is run, counted by `make bench-instructions` and written by\n\
         # `make bench-instructions BLESS=1` with {with} on {}.\n\n[instructions]\n",
        std::env::consts::ARCH
    );
    for op in Op::ALL {
        let counted = counts.iter().find(|(counted, _)| *counted == op);
        if let Some(count) = counted.map(|(_, count)| *count).or_else(|| before.of(op)) {
            // Writing to a String cannot fail.
            writeln!(text, "{} = {count:.1}", op.name()).unwrap_or_default();
        }
    }
    std::fs::write(path, text).map_err(|error| format!("write {}: {error}", path.display()))
}
