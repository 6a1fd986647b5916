//! `nearhit sandbox`. A placeholder: the command is recognised and not there yet.

use std::process::ExitCode;

use super::exit;

/// Runs the command with what follows its name.
pub(super) fn run(_args: &[String]) -> ExitCode {
    eprintln!("nearhit sandbox: not part of this build");
    ExitCode::from(exit::FAILURE)
}
