//! The table's rows, held against what a server's `COMMAND` reports.
//!
//! redis-server 7.0 must agree with every row exactly, but for the differences listed here. Any other server, chosen with
//! `REDIS_SERVER`, must agree in what nearhit acts on.

mod command_support;

use std::collections::{HashMap, HashSet};

use command_support::{OwnedRequest, Server};
use nearhit::command::{Cacheable, Command, CommandTable, Effect, Flags, Keys, LearnedCommand, Lookup, Origin, flag};

/// Rows that accept more than 7.0 does, because later servers do.
const WIDER_THAN_7_0: &[(&str, i64)] = &[
    ("zrank", 3),
    ("zrevrank", 3),
    ("command|getkeys", -4),
    ("command|getkeysandflags", -4),
];

/// Rows with flags that later servers report and that are true of 7.0, too.
const FLAGS_SINCE_7_2: &[(&str, u32)] = &[("wait", flag::BLOCKING)];

/// Flags that decide what nearhit does with a command.
const ACTED_ON: u32 = flag::WRITE | flag::READONLY | flag::BLOCKING | flag::PUBSUB | flag::MOVABLEKEYS;

fn flatten(commands: Vec<LearnedCommand>) -> HashMap<String, LearnedCommand> {
    let all = commands.into_iter().flat_map(|command| {
        let subcommands = command.subcommands.clone();
        std::iter::once(command).chain(subcommands)
    });
    all.map(|command| (command.name.clone(), command)).collect()
}

fn is_7_0(server: &Server) -> bool {
    server
        .connect()
        .call(&["INFO", "server"])
        .text()
        .contains("redis_version:7.0.")
}

/// The first key, last key and step that a server reports for such keys.
fn reported(keys: Keys) -> (i64, i64, i64) {
    match keys {
        Keys::None | Keys::Streams | Keys::Counted { stored: false, .. } => (0, 0, 0),
        Keys::Range { first, last, step } => (first.into(), last.into(), step.into()),
        Keys::Counted { stored: true, .. } | Keys::Sort | Keys::GeoRadius { .. } => (1, 1, 1),
        Keys::Migrate => (3, 3, 1),
    }
}

fn accepts(arity: i64, count: i64) -> bool {
    if arity < 0 { count >= -arity } else { count == arity }
}

fn differences(row: &Command, theirs: &LearnedCommand, exact: bool) -> Vec<String> {
    let mut found = Vec::new();
    let name = row.name();
    let arity = WIDER_THAN_7_0
        .iter()
        .find(|(wider, _)| *wider == name)
        .map_or(i64::from(row.arity), |(_, arity)| *arity);
    let wide_enough = (1..40).all(|count| accepts(row.arity.into(), count) || !accepts(theirs.arity, count));
    if (exact && arity != theirs.arity) || !wide_enough {
        found.push(format!("{name}: arity {} here, {} there", row.arity, theirs.arity));
    }
    let bits = theirs
        .flags
        .iter()
        .filter_map(|name| Flags::from_name(name))
        .fold(0, |all, flag| all | flag.bits());
    let added = FLAGS_SINCE_7_2
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(0, |(_, bits)| *bits);
    let compared = if exact {
        !(flag::MAY_REPLICATE | added)
    } else {
        ACTED_ON & !added
    };
    let (ours, there) = (Flags::new(row.flags.bits() & compared), Flags::new(bits & compared));
    if ours != there {
        let [ours, there] = [ours, there].map(|flags| flags.names().collect::<Vec<_>>().join(" "));
        found.push(format!("{name}: flags [{ours}] here, [{there}] there"));
    }
    if exact && theirs.flags.iter().any(|name| Flags::from_name(name).is_none()) {
        found.push(format!("{name}: a flag without a name here among {:?}", theirs.flags));
    }
    if reported(row.keys) != (theirs.first, theirs.last, theirs.step) {
        let there = (theirs.first, theirs.last, theirs.step);
        found.push(format!("{name}: keys {:?} here, {there:?} there", reported(row.keys)));
    }
    if row.container == theirs.subcommands.is_empty() {
        found.push(format!(
            "{name}: container {} here, {} subcommands there",
            row.container,
            theirs.subcommands.len()
        ));
    }
    found
}

#[test]
fn every_command_of_the_server_has_a_row_that_agrees() {
    let server = Server::start(&[]);
    let exact = is_7_0(&server);
    let table = CommandTable::builtin();
    let mut wrong = Vec::new();
    for (name, theirs) in flatten(server.connect().commands()) {
        match table.by_name(&name) {
            Some(row) => wrong.extend(differences(row, &theirs, exact)),
            None => wrong.push(format!("{name}: no row")),
        }
    }
    wrong.sort();
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_command_of_a_sentinel_has_a_row_that_agrees() {
    let server = Server::start_sentinel();
    let table = CommandTable::builtin();
    let mut wrong = Vec::new();
    for (name, theirs) in flatten(server.connect().commands()) {
        match table.by_name(&name) {
            Some(row) => wrong.extend(differences(row, &theirs, is_7_0(&server))),
            None => wrong.push(format!("{name}: no row")),
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_row_is_verified_exactly_when_7_0_knows_it() {
    let server = Server::start(&[]);
    if !is_7_0(&server) {
        return;
    }
    let mut known: HashSet<String> = flatten(server.connect().commands()).into_keys().collect();
    known.extend(flatten(Server::start_sentinel().connect().commands()).into_keys());
    for row in CommandTable::builtin().iter().filter(|row| row.origin != Origin::Own) {
        let verified = row.origin == Origin::Verified;
        assert_eq!(verified, known.contains(row.name()), "{}: {:?}", row.name(), row.origin);
    }
}

#[test]
fn what_is_cached_is_readonly_on_the_server_with_argument_1_as_its_key() {
    let server = Server::start(&[]);
    let theirs = flatten(server.connect().commands());
    let table = CommandTable::builtin();
    let cached: Vec<_> = table.iter().filter(|row| row.cache != Cacheable::No).collect();
    assert!(cached.len() > 40, "the list is not empty by accident");
    for row in cached {
        let reported = theirs
            .get(row.name())
            .unwrap_or_else(|| panic!("{} is not verified", row.name()));
        assert!(reported.flags.iter().any(|flag| flag == "readonly"), "{}", row.name());
        assert_eq!((reported.first, reported.step), (1, 1), "{}", row.name());
        assert_eq!(row.effect, Effect::Read, "{}", row.name());
        assert!(row.origin == Origin::Verified, "{}", row.name());
    }
}

#[test]
fn learning_what_7_0_reports_adds_no_row() {
    let server = Server::start(&[]);
    let table = CommandTable::builtin();
    let learned = table.learn(&server.connect().commands());
    let new: Vec<_> = learned.iter().skip(table.len()).map(Command::name).collect();
    assert!(new.is_empty() || !is_7_0(&server), "{new:?}");
    for (before, after) in table.iter().zip(learned.iter()) {
        assert_eq!(
            (before.name(), before.id(), before.arity),
            (after.name(), after.id(), after.arity)
        );
    }
}

#[test]
fn every_row_is_found_by_its_name_in_any_case() {
    let table = CommandTable::builtin();
    let names: HashSet<&str> = table.iter().map(Command::name).collect();
    assert_eq!(names.len(), table.len(), "names are unique");
    for row in table.iter() {
        assert_eq!(row.name(), row.name().to_ascii_lowercase());
        for name in [
            row.name().to_owned(),
            row.name().to_ascii_uppercase(),
            alternating(row.name()),
        ] {
            let request = OwnedRequest::new(&name.split('|').collect::<Vec<_>>());
            let Lookup::Known(found) = table.lookup(&request.request()) else {
                panic!("{name} is not found")
            };
            assert_eq!(found.id(), row.id(), "{name}");
        }
    }
}

fn alternating(name: &str) -> String {
    let upper = |(index, letter): (usize, char)| {
        if index % 2 == 0 {
            letter.to_ascii_uppercase()
        } else {
            letter
        }
    };
    name.chars().enumerate().map(upper).collect()
}

#[test]
fn what_is_not_in_the_table_is_told_apart() {
    let table = CommandTable::builtin();
    let unknown = |args: &[&str]| matches!(table.lookup(&OwnedRequest::new(args).request()), Lookup::UnknownCommand);
    let no_such_sub = |args: &[&str]| {
        matches!(
            table.lookup(&OwnedRequest::new(args).request()),
            Lookup::UnknownSubcommand(_)
        )
    };
    assert!(unknown(&["nosuch"]));
    assert!(unknown(&[""]));
    assert!(unknown(&["get "]));
    assert!(unknown(&["client|kill"]), "a subcommand's full name is not a command");
    assert!(unknown(&["client|kill", "id", "1"]));
    assert!(unknown(&[&"x".repeat(100_000)]));
    assert!(no_such_sub(&["client", "nosuch"]));
    assert!(no_such_sub(&["CLIENT", ""]));
    assert!(no_such_sub(&["config", &"x".repeat(100_000)]));
    assert!(!no_such_sub(&["get", "nosuch"]));
}

#[test]
fn a_lookup_after_another_finds_what_a_lookup_alone_finds() {
    let table = CommandTable::builtin();
    let mut last = nearhit::command::Last::default();
    let told = |found: Lookup<'_>| match found {
        Lookup::Known(command) => command.name().to_owned(),
        Lookup::UnknownCommand => "no such command".to_owned(),
        Lookup::UnknownSubcommand(command) => format!("no such subcommand of {}", command.name()),
    };
    let requests: [&[&str]; 16] = [
        &["GET", "k"],
        &["GET", "k"],
        &["get", "k"],
        &["GETEX", "k"],
        &["GET", "k"],
        &["CLIENT", "ID"],
        &["CLIENT", "INFO"],
        &["CLIENT", "NOSUCH"],
        &["CLIENT"],
        &["GE", "k"],
        &["GET", "k"],
        &["NOSUCH", "k"],
        &["NOSUCH", "k"],
        &["client|id"],
        &["A-NAME-LONGER-THAN-IS-REMEMBERED", "k"],
        &["GET", "k"],
    ];
    for args in requests {
        let request = OwnedRequest::new(args);
        let alone = told(table.lookup(&request.request()));
        assert_eq!(
            told(table.lookup_after(&mut last, &request.request())),
            alone,
            "{args:?}"
        );
    }
}
