//! The command line: which command was asked for, and with which exit code it ends.

mod args;
mod bench;
mod check;
mod exit;
mod files;
mod logging;
mod sandbox;
mod selftest;
mod serve;
mod signals;
mod watchdog;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use nearhit::config::{Config, ConfigErrors};

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Invocation {
    /// `nearhit`, `nearhit URL`, `nearhit serve`.
    Serve(Settings),
    /// `nearhit check`.
    Check(Settings),
    /// `nearhit sandbox`.
    Sandbox(sandbox::SandboxFlags),
    /// `nearhit selftest`.
    Selftest(selftest::SelftestFlags),
    /// `nearhit bench`.
    Bench(bench::BenchFlags),
}

/// Where this invocation takes its settings from, beside the environment.
#[derive(Debug, Default, PartialEq, Eq)]
struct Settings {
    file: Option<PathBuf>,
    flags: Vec<(String, String)>,
}

impl Settings {
    fn load(&self) -> Result<Config, ConfigErrors> {
        // Bytes that are not UTF-8 become U+FFFD here, and the setting's own check refuses them.
        let env = std::env::vars_os().map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        });
        Config::load(self.file.as_deref(), env, &self.flags)
    }
}

/// Runs nearhit with these arguments, the program's own name first.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    #[cfg(feature = "mutants")]
    if let Err(why) = nearhit::mutants::check_environment() {
        eprintln!("nearhit: {why}");
        return ExitCode::from(exit::MUTANT);
    }
    match args::parse(args) {
        Ok(Invocation::Serve(settings)) => serve::run(&settings),
        Ok(Invocation::Check(settings)) => check::run(&settings),
        Ok(Invocation::Sandbox(flags)) => sandbox::run(flags),
        Ok(Invocation::Selftest(flags)) => selftest::run(flags),
        Ok(Invocation::Bench(flags)) => bench::run(flags),
        Err(error) => {
            // Help and version come here too, with exit code 0. A closed pipe is no reason to fail.
            drop(error.print());
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE))
        }
    }
}
