//! `nearhit check`: reads the settings as `serve` would, and says every problem.

use std::process::ExitCode;

use super::{Settings, exit};

/// Runs the command.
pub(super) fn run(settings: &Settings) -> ExitCode {
    match settings.load() {
        Ok(_) => {
            let name = settings
                .file
                .as_deref()
                .map_or("settings".into(), |file| file.display().to_string());
            println!("{name}: ok");
            ExitCode::SUCCESS
        }
        Err(errors) => {
            eprintln!("{errors}");
            ExitCode::from(exit::CONFIG)
        }
    }
}
