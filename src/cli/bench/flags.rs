//! What `nearhit bench` may be told.

use clap::{Arg, ArgMatches, Command, value_parser};
use std::path::PathBuf;

use super::options;
use nearhit::config::{Row, flag_name, rows};

/// As it was typed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::cli) struct BenchFlags {
    pub(super) target: Option<String>,
    pub(super) through: Option<String>,
    pub(super) connections: Option<usize>,
    pub(super) pipeline: Option<usize>,
    pub(super) keys: Option<u32>,
    pub(super) size: Option<String>,
    pub(super) zipf: Option<f64>,
    pub(super) trace: Option<PathBuf>,
    pub(super) writes: Option<u32>,
    pub(super) rate: Option<u64>,
    pub(super) seconds: Option<u64>,
    pub(super) rounds: Option<u32>,
    pub(super) json: Option<PathBuf>,
    /// Settings of `[upstream.tls]`, by their full names.
    pub(super) tls: Vec<(String, String)>,
}

impl Eq for BenchFlags {}

impl BenchFlags {
    pub(in crate::cli) fn read(matches: &ArgMatches) -> Self {
        let text = |id: &str| matches.get_one::<String>(id).cloned();
        let count = |id: &str| matches.get_one::<usize>(id).copied();
        let small = |id: &str| matches.get_one::<u32>(id).copied();
        let large = |id: &str| matches.get_one::<u64>(id).copied();
        let path = |id: &str| matches.get_one::<PathBuf>(id).cloned();
        Self {
            target: text("target"),
            through: text("through"),
            connections: count("connections"),
            pipeline: count("pipeline"),
            keys: small("keys"),
            size: text("size"),
            zipf: matches.get_one::<f64>("zipf").copied(),
            trace: path("trace"),
            writes: small("writes"),
            rate: large("rate"),
            seconds: large("seconds"),
            rounds: small("rounds"),
            json: path("json"),
            tls: tls_rows()
                .filter_map(|row| Some((row.key.to_owned(), text(row.key)?)))
                .collect(),
        }
    }
}

/// Whom to believe, and what to show, are settings as for `nearhit serve`.
fn tls_rows() -> impl Iterator<Item = &'static Row> {
    rows().filter(|row| row.section() == "upstream.tls")
}

/// For the command line's table of commands.
pub(in crate::cli) fn command() -> Command {
    let about =
        "Measure a server directly and through nearhit, in turn, with the same requests; every reply is checked";
    let arg = |id: &'static str, value: &'static str, help: String| Arg::new(id).long(id).value_name(value).help(help);
    let count = |id: &'static str, help: String| arg(id, "NUMBER", help).value_parser(value_parser!(usize));
    let small = |id: &'static str, help: String| arg(id, "NUMBER", help).value_parser(value_parser!(u32));
    let large = |id: &'static str, help: String| arg(id, "NUMBER", help).value_parser(value_parser!(u64));
    let path = |id: &'static str, help: &str| arg(id, "PATH", help.to_owned()).value_parser(value_parser!(PathBuf));
    let through = "A nearhit before that server, or none [default: one of its own, in this process]";
    let rate = "Requests a second, whether replies come or not; latency counts from when each was due [default: as fast as replies come]";
    let trace = "Keys in the order of this file: one a line, or, if it ends in .u64, 8 little-endian bytes each";
    Command::new("bench")
        .about(about)
        .arg(arg("target", "URL", format!("The server, redis://…, rediss://… or unix://…; keys begin with {} and are removed [default: redis://127.0.0.1:6379]", options::PREFIX)))
        .arg(arg("through", "URL", through.to_owned()))
        .arg(count("connections", format!("Connections [default: {}]", options::CONNECTIONS)))
        .arg(count("pipeline", "Requests a connection sends before it waits for replies [default: 1]".to_owned()).conflicts_with("rate"))
        .arg(small("keys", format!("Keys [default: {}]", options::KEYS)))
        .arg(arg("size", "SIZE", format!("Bytes of a value, as in 16kb [default: {}]", options::SIZE)))
        .arg(arg("zipf", "EXPONENT", "Some keys are hotter, by Zipf's law, as in 0.99 [default: all alike]".to_owned()).value_parser(value_parser!(f64)))
        .arg(path("trace", trace).conflicts_with_all(["keys", "zipf"]))
        .arg(small("writes", "Of 100 requests, how many are SETs [default: 0]".to_owned()))
        .arg(large("rate", rate.to_owned()))
        .arg(large("seconds", format!("How long each way is measured in each round [default: {}]", options::SECONDS)))
        .arg(small("rounds", format!("Rounds; ratios are taken within one [default: {}]", options::ROUNDS)))
        .arg(path("json", "Also write the report there"))
        .args(tls_rows().map(|row| {
            let help = row.help().replace('`', "");
            arg(row.key, "TEXT", help).long(flag_name(row).trim_start_matches('-').to_owned()).hide_short_help(true)
        }))
        .after_help("Exit codes: 0 measured, 1 it broke off, 2 wrong usage or nobody to measure, 130 stopped by a signal.")
}
