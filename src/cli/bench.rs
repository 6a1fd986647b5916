//! `nearhit bench`: what a server does directly and through nearhit, side by side.
//!
//! ```text
//! round 1   load ──────────────→ --target          the same requests, one way after the other, every reply checked;
//!           load ──→ nearhit ──→ --target          a neighbour that takes the machine for a while slows both ways
//! round 2   …
//! ```
//! | file | what it owns |
//! | --- | --- |
//! | `flags`, `options` | what was typed; what that comes to |
//! | `keys` | the keys of a run: written before it, with an end of their own, removed behind it |
//! | `run` | the ways, the rounds, the progress bar, signals |
//! | `report` | what was found, for people and as JSON |
//!
//! The load itself is the library's, `nearhit::load`.
//!
//! Exit status: 0 measured, 1 it broke off (a wrong reply, a lost connection), 2 wrong usage or nobody to measure, 130
//! stopped by a signal. The keys are removed in any case.

mod flags;
mod keys;
mod options;
mod report;
mod run;

pub(super) use flags::{BenchFlags, command};

use super::exit;
use options::Options;
use std::process::ExitCode;

/// Why there is no report, and the exit status that says so.
#[derive(Debug)]
struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    /// It could not begin.
    fn usage(message: impl Into<String>) -> Self {
        Self {
            status: exit::USAGE,
            message: message.into(),
        }
    }

    /// It broke off.
    fn broke(message: impl Into<String>) -> Self {
        Self {
            status: exit::FAILURE,
            message: message.into(),
        }
    }
}

/// Runs the command.
pub(super) fn run(flags: BenchFlags) -> ExitCode {
    match Options::read(flags).and_then(|options| run::blocking(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("nearhit bench: {}", failure.message);
            ExitCode::from(failure.status)
        }
    }
}
