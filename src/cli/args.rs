//! What the command line may say. The flags of the settings come from their rows.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use nearhit::config::{Row, Section, Shape, find_row, flag_name, rows, sections};

use super::bench::{self, BenchFlags};
use super::sandbox::{self, SandboxFlags};
use super::selftest::{self, SelftestFlags};
use super::{Invocation, Settings};

const URL: &str = "url";
const FILE: &str = "config";
const LISTEN: &str = "listen";
const METRICS: &str = "metrics";
const REDIS_SERVER: &str = "redis-server";

/// Reads the command line, the program's own name first.
pub(super) fn parse(args: Vec<OsString>) -> Result<Invocation, clap::Error> {
    let (args, unknown) = settle_flags(args);
    let mut command = command();
    let matches = command.try_get_matches_from_mut(args)?;
    match matches.subcommand() {
        Some(("check", matches)) => Ok(Invocation::Check(settings(&mut command, matches, unknown)?)),
        Some(("sandbox", matches)) => Ok(Invocation::Sandbox(sandbox_flags(matches))),
        Some(("selftest", matches)) => Ok(Invocation::Selftest(selftest_flags(matches))),
        Some(("bench", matches)) => Ok(Invocation::Bench(BenchFlags::read(matches))),
        Some((_, matches)) => Ok(Invocation::Serve(settings(&mut command, matches, unknown)?)),
        None => Ok(Invocation::Serve(settings(&mut command, &matches, unknown)?)),
    }
}

/// Writes the flags of settings as clap knows them (`--cache.max_memory` becomes `--cache.max-memory`), and takes out
/// those with a dot that are none: they are reported as wrong settings, together with all others.
fn settle_flags(args: Vec<OsString>) -> (Vec<OsString>, Vec<(String, String)>) {
    let (mut settled, mut unknown) = (Vec::new(), Vec::new());
    let mut args = args.into_iter().peekable();
    // These have flags of their own, and behind "--" there are none.
    while let Some(arg) = args.next_if(|arg| !["--", "sandbox", "selftest", "bench"].iter().any(|word| arg == word)) {
        let text = arg.to_string_lossy();
        let (name, value) = text
            .split_once('=')
            .map_or((&*text, None), |(name, value)| (name, Some(value.to_owned())));
        let Some(key) = name.strip_prefix("--") else {
            settled.push(arg);
            continue;
        };
        match find_row(key) {
            Some(row) => {
                let name = flag_name(row);
                settled.push(value.map_or(name.clone(), |value| format!("{name}={value}")).into());
            }
            None if key.contains('.') => {
                let next = value.or_else(|| {
                    let next = args.next_if(|next| !next.to_string_lossy().starts_with('-'));
                    next.map(|next| next.to_string_lossy().into_owned())
                });
                unknown.push((key.to_owned(), next.unwrap_or_default()));
            }
            None => settled.push(arg),
        }
    }
    settled.extend(args);
    (settled, unknown)
}

fn settings(
    command: &mut Command,
    matches: &ArgMatches,
    unknown: Vec<(String, String)>,
) -> Result<Settings, clap::Error> {
    let mut flags = Vec::new();
    if let Ok(Some(url)) = matches.try_get_one::<String>(URL) {
        if !url.contains("://") {
            return Err(not_a_url(command, url));
        }
        flags.push(("upstream.url".to_owned(), url.clone()));
    }
    for row in rows() {
        flags.extend(
            strings(matches, row.key)
                .into_iter()
                .map(|value| (row.key.to_owned(), value)),
        );
    }
    flags.extend(unknown);
    Ok(Settings {
        file: matches.get_one::<PathBuf>(FILE).cloned(),
        flags,
    })
}

fn sandbox_flags(matches: &ArgMatches) -> SandboxFlags {
    let text = |id: &str| matches.get_one::<String>(id).cloned();
    SandboxFlags {
        listen: text(LISTEN),
        metrics: text(METRICS),
        redis_server: matches.get_one::<PathBuf>(REDIS_SERVER).cloned(),
    }
}

fn selftest_flags(matches: &ArgMatches) -> SelftestFlags {
    let text = |id: &str| matches.get_one::<String>(id).cloned();
    let number = |id: &str| matches.get_one::<u64>(id).copied();
    let count = |id: &str| matches.get_one::<usize>(id).copied();
    let path = |id: &str| matches.get_one::<PathBuf>(id).cloned();
    SelftestFlags {
        upstream: text("upstream"),
        topology: text("topology"),
        seconds: number("seconds"),
        operations: number("operations"),
        seed: number("seed"),
        clients: count("clients"),
        instances: count("instances"),
        faults: text("faults"),
        mode: text("mode"),
        bound: number("bound"),
        violations: number("violations"),
        json: path("json"),
        redis_server: path(REDIS_SERVER),
        allow_destructive: matches.get_flag("allow-destructive"),
    }
}

/// What was typed is not quoted: it may be `user:password@host`.
fn not_a_url(command: &mut Command, text: &str) -> clap::Error {
    let commands: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    let message = match commands.iter().find(|name| **name == text) {
        Some(name) => format!("a command comes first: nearhit {name} ..."),
        None => {
            let commands = commands.join(", ");
            format!("this is neither a command ({commands}) nor a URL such as redis://127.0.0.1:6379")
        }
    };
    command.error(ErrorKind::InvalidSubcommand, message)
}

fn strings(matches: &ArgMatches, id: &str) -> Vec<String> {
    matches.get_many::<String>(id).into_iter().flatten().cloned().collect()
}

fn command() -> Command {
    let serve = "Serve clients; also what happens without a command";
    let check = "Read the settings as serve would, say every problem, and exit: 0 when there is none, 78 otherwise";
    with_settings(Command::new("nearhit"))
        .version(env!("CARGO_PKG_VERSION"))
        .about("A RESP proxy with a coherent near-cache: put it where your Redis address stood")
        .after_help("Try: nearhit redis://127.0.0.1:6379, then connect your clients to 127.0.0.1:6380.\nAll settings: nearhit --help")
        .after_long_help(AFTER)
        .args_conflicts_with_subcommands(true)
        .subcommand(with_settings(Command::new("serve").about(serve)))
        .subcommand(with_flags(Command::new("check").about(check)))
        .subcommand(sandbox_command())
        .subcommand(selftest_command())
        .subcommand(bench::command())
}

fn selftest_command() -> Command {
    let about = "Look for stale answers: clients, foreign writers and faults against instances of this nearhit, every reply checked";
    let arg = |id: &'static str, value: &'static str, help: String| Arg::new(id).long(id).value_name(value).help(help);
    let number = |id: &'static str, help: String| arg(id, "NUMBER", help).value_parser(value_parser!(u64));
    let count = |id: &'static str, help: String| arg(id, "NUMBER", help).value_parser(value_parser!(usize));
    let path = |id: &'static str, help: &str| arg(id, "PATH", help.to_owned()).value_parser(value_parser!(PathBuf));
    let upstream =
        "A server to share, redis://…; keys begin with __nearhit_selftest: and are removed [default: one of its own]";
    Command::new("selftest")
        .about(about)
        .arg(arg("upstream", "URL", upstream.to_owned()))
        .arg(arg("topology", "NAME", "Servers of its own: single, replicas (nearhit reads from them), sentinel or cluster [default: single]".to_owned()))
        .arg(number("seconds", format!("How long clients work [default: {}]", selftest::SECONDS)))
        .arg(number("operations", "Stop after so many checked operations; fewer are a failure".to_owned()))
        .arg(number("seed", "Begins all random choices [default: another one each time]".to_owned()))
        .arg(count("clients", format!("Clients of nearhit [default: {}]", selftest::CLIENTS)))
        .arg(count("instances", format!("Instances of nearhit [default: {}]", selftest::INSTANCES)))
        .arg(arg("faults", "LIST", "all, none, or names with commas between them [default: all]".to_owned()))
        .arg(arg("mode", "MODE", "invalidation.mode of the instances [default: theirs]".to_owned()))
        .arg(number("bound", format!("Staleness that is a violation, in milliseconds [default: {}]", selftest::BOUND)))
        .arg(number("violations", format!("Violations that end the run [default: {}]", selftest::VIOLATIONS)))
        .arg(path("json", "Also write the report there"))
        .arg(path(REDIS_SERVER, "The server to start [default: $REDIS_SERVER, else redis-server, else valkey-server]"))
        .arg(
            Arg::new("allow-destructive")
                .long("allow-destructive")
                .action(ArgAction::SetTrue)
                .help("Also make faults at --upstream that others feel: FLUSHDB, CLIENT KILL, CONFIG SET, DEBUG SLEEP"),
        )
        .after_help("Exit codes: 0 nothing was violated, 1 something was, 2 wrong usage, no run, or a run that tested too little.")
}

fn sandbox_command() -> Command {
    let about = "Try nearhit: a Redis primary, two replicas and nearhit, until Ctrl-C; nothing is kept";
    let address = |id: &'static str, help: String| Arg::new(id).long(id).value_name("IP:PORT").help(help);
    let listen = format!(
        "Where nearhit listens; port 0 is a free one [default: {}]",
        sandbox::LISTEN
    );
    let metrics = format!(
        "Where the metrics page is; a free port if this one is taken [default: {}]",
        sandbox::METRICS
    );
    let server = "The server to start [default: $REDIS_SERVER, else redis-server, else valkey-server]";
    Command::new("sandbox")
        .about(about)
        .arg(address(LISTEN, listen).visible_alias("server.listen"))
        .arg(address(METRICS, metrics).visible_alias("metrics.listen"))
        .arg(
            Arg::new(REDIS_SERVER)
                .long(REDIS_SERVER)
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help(server),
        )
        .after_help("Exit codes: 0 stopped by a signal, 1 something failed, 2 wrong usage, 69 no Redis server here, 73 the address is taken, 78 an address is none.")
}

const AFTER: &str = "\
Every setting is also a key of the file and an environment variable: --cache.max-memory is max_memory in [cache], and
NEARHIT_CACHE__MAX_MEMORY. Flags win over the environment, the environment over the file. Lists are written as in TOML.

Exit codes: 0 done, 1 failed while running, 2 wrong usage, 73 an address could not be bound, 78 a setting is wrong,
130 and 143 ended by a second SIGINT or SIGTERM.";

fn with_settings(command: Command) -> Command {
    let url = Arg::new(URL).value_name("URL").conflicts_with("upstream.url");
    with_flags(command).arg(url.help("The server, as for --upstream: redis://[user[:password]@]host[:port][/db]"))
}

fn with_flags(command: Command) -> Command {
    let file = Arg::new(FILE)
        .short('c')
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf));
    let flags = sections()
        .iter()
        .flat_map(|section| section.rows().iter().map(|row| flag(section, row)));
    command
        .arg(file.help("File to read settings from, in TOML"))
        .args(flags)
}

fn flag(section: &Section, row: &'static Row) -> Arg {
    let heading = if section.name.is_empty() {
        "The file".to_owned()
    } else {
        format!("[{}] {}", section.name, section.about().trim_end_matches('.'))
    };
    let value = match row.shape {
        Shape::Text => "TEXT",
        Shape::Number => "NUMBER",
        Shape::Bool => "BOOL",
        Shape::List => "LIST",
        Shape::Tables => "TABLES",
    };
    let flag = Arg::new(row.key)
        .long(flag_name(row).trim_start_matches('-').to_owned())
        .value_name(value)
        .help(help(row))
        .help_heading(heading)
        .action(ArgAction::Append)
        // So that "-1" is told what the setting may be, instead of being taken for a flag.
        .allow_negative_numbers(true);
    match row.key {
        "server.listen" => flag.visible_alias("listen"),
        "upstream.url" => flag.visible_alias("upstream"),
        _ => flag.hide_short_help(true),
    }
}

/// What a setting does, with its default and range; Markdown is for the README.
fn help(row: &Row) -> String {
    format!("{} {}", row.help().replace('`', ""), notes(row))
}

/// Default and range, without the quotes a file needs.
fn notes(row: &Row) -> String {
    let plain = |toml: &str| match toml.trim_matches('"') {
        "" => "\"\"".to_owned(),
        text => text.to_owned(),
    };
    let default = match row.shape {
        Shape::Text => plain(&row.default_toml()),
        _ => row.default_toml(),
    };
    match row.range_toml() {
        Some((low, high)) => format!("[default: {default}] [{} to {}]", plain(&low), plain(&high)),
        None => format!("[default: {default}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Invocation {
        let words = std::iter::once("nearhit").chain(line.split_whitespace());
        parse(words.map(OsString::from).collect()).unwrap()
    }

    fn refused(line: &str) -> (ErrorKind, String) {
        let words = std::iter::once("nearhit").chain(line.split_whitespace());
        let error = parse(words.map(OsString::from).collect()).unwrap_err();
        (error.kind(), error.to_string())
    }

    fn flags(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_command_line_is_one_clap_accepts() {
        command().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves() {
        assert_eq!(parsed(""), Invocation::Serve(Settings::default()));
        let expected = flags(&[("upstream.url", "redis://db:1")]);
        for line in [
            "redis://db:1",
            "serve redis://db:1",
            "--upstream redis://db:1",
            "serve --upstream.url=redis://db:1",
        ] {
            assert_serves(line, &expected);
        }
    }

    #[track_caller]
    fn assert_serves(line: &str, expected: &[(String, String)]) {
        let settings = Settings {
            file: None,
            flags: expected.to_vec(),
        };
        assert_eq!(parsed(line), Invocation::Serve(settings), "{line}");
    }

    #[test]
    fn a_flag_may_be_written_with_dashes_or_underscores() {
        let expected = flags(&[("cache.max_memory", "5mb")]);
        for line in [
            "--cache.max-memory 5mb",
            "--cache.max_memory 5mb",
            "--cache.max_memory=5mb",
        ] {
            assert_serves(line, &expected);
        }
    }

    #[test]
    fn listen_may_be_repeated_under_both_names() {
        let expected = flags(&[("server.listen", "127.0.0.1:1"), ("server.listen", "127.0.0.1:2")]);
        let settings = Settings {
            file: Some("f".into()),
            flags: expected,
        };
        assert_eq!(
            parsed("check -c f --listen 127.0.0.1:1 --server.listen 127.0.0.1:2"),
            Invocation::Check(settings)
        );
    }

    #[test]
    fn unknown_settings_are_kept_to_be_reported_with_all_others() {
        let expected = flags(&[
            ("cache.mode", "off"),
            ("no.such", "1"),
            ("none.at-all", ""),
            ("x.y", "z"),
        ]);
        let settings = Settings {
            file: None,
            flags: expected,
        };
        let line = "--no.such 1 --none.at-all --cache.mode off --x.y=z";
        assert_eq!(parsed(line), Invocation::Serve(settings));
    }

    #[test]
    fn the_sandbox_has_flags_of_its_own() {
        assert_eq!(parsed("sandbox"), Invocation::Sandbox(SandboxFlags::default()));
        let wanted = SandboxFlags {
            listen: Some("127.0.0.1:1".into()),
            metrics: Some("127.0.0.1:2".into()),
            redis_server: Some("/r".into()),
        };
        for line in [
            "sandbox --listen 127.0.0.1:1 --metrics 127.0.0.1:2 --redis-server /r",
            "sandbox --redis-server=/r --metrics.listen=127.0.0.1:2 --server.listen 127.0.0.1:1",
        ] {
            assert_eq!(parsed(line), Invocation::Sandbox(wanted.clone()), "{line}");
        }
        assert_eq!(refused("sandbox --help").0, ErrorKind::DisplayHelp);
        for line in [
            "sandbox --cache.max-memory 1mb",
            "sandbox redis://db",
            "sandbox --listen",
        ] {
            let kind = refused(line).0;
            assert!(
                matches!(kind, ErrorKind::UnknownArgument | ErrorKind::InvalidValue),
                "{line}: {kind}"
            );
        }
    }

    #[test]
    fn wrong_usage_is_explained_and_no_password_is_quoted() {
        let (kind, text) = refused("chek");
        assert_eq!(kind, ErrorKind::InvalidSubcommand);
        assert!(text.contains("serve, check, sandbox"), "{text}");
        assert!(refused("-c f check").1.contains("nearhit check ..."));
        assert!(!refused("me:s3cret@db").1.contains("s3cret"));
        assert_eq!(refused("redis://a --upstream redis://b").0, ErrorKind::ArgumentConflict);
        assert_eq!(refused("--cache.mode").0, ErrorKind::InvalidValue);
        assert_eq!(refused("--bogus").0, ErrorKind::UnknownArgument);
    }

    #[test]
    fn help_shows_every_setting_with_its_default() {
        let help = command().render_long_help().to_string();
        for row in rows() {
            assert!(help.contains(&format!("{} ", flag_name(row))), "{}", row.key);
            assert!(help.contains(&super::help(row)), "{}", row.key);
        }
    }
}
