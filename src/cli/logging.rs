//! Log lines on stderr: text for people on a terminal, one JSON object a line otherwise.

use std::io::{self, IsTerminal};

use nearhit::config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Installs the process's logger. Only the binary does: the library installs nothing global.
pub(super) fn init(log: &Log) {
    // The level was checked when the settings were read; what the check lets through and the filter does not is "info".
    let filter = EnvFilter::try_new(&*log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = io::stderr().is_terminal();
    let text = is_text(log);
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr);
    let installed = if text {
        let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        lines.with_ansi(color).try_init()
    } else {
        lines.json().flatten_event(true).try_init()
    };
    // An error means a logger is installed already; then that one stays.
    drop(installed);
}

/// Whether what is written is for people.
pub(super) fn is_text(log: &Log) -> bool {
    match log.format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    }
}
