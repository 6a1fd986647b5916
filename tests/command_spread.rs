//! How commands are spread over a cluster, held against the tips that `COMMAND` gives to clients of one.

mod command_support;

use command_support::{Reply, Server};
use nearhit::command::{CommandTable, Merge, Spread};

/// Where a row does something else than the server's tips say, and why.
const OTHERWISE: &[(&str, &str)] = &[
    ("function|stats", "one server's script"),
    ("info", "one server's account"),
    ("latency|doctor", "one server's account"),
    ("latency|graph", "one server's account"),
    ("latency|histogram", "one server's account"),
    ("latency|history", "one server's account"),
    ("latency|latest", "one server's account"),
    ("latency|reset", "its reply counts"),
    ("memory|doctor", "one server's account"),
    ("memory|malloc-stats", "one server's account"),
    ("memory|stats", "one server's account"),
    ("msetnx", "all or nothing"),
    ("ping", "asks for nearhit, not for the health of a cluster"),
    ("slowlog|get", "one server's list"),
    ("slowlog|len", "the length of that list"),
];

/// Names with their tips, subcommands included.
fn tips(entry: &Reply, found: &mut Vec<(String, Vec<String>)>) {
    let [name, _, _, _, _, _, _, tips_, _, subcommands] = entry.items() else {
        panic!("no tips before 7.0: {entry:?}")
    };
    found.push((name.text(), tips_.items().iter().map(Reply::text).collect()));
    subcommands
        .items()
        .iter()
        .for_each(|subcommand| tips(subcommand, found));
}

/// What the tips say, as far as they say it.
fn suggests(tips: &[String], spread: Spread) -> bool {
    let policy = |kind: &str| tips.iter().find_map(|tip| tip.strip_prefix(kind)?.strip_prefix(':'));
    let merge = match (policy("request_policy"), spread) {
        (None, _) => return true,
        (Some("special"), Spread::Scan) => return true,
        (Some("all_shards" | "all_nodes"), Spread::All(merge)) => merge,
        (Some("multi_shard"), Spread::Keys(merge)) => merge,
        _ => return false,
    };
    match policy("response_policy") {
        None => matches!(merge, Merge::Joined | Merge::Values | Merge::AnyValue),
        Some("all_succeeded") => merge == Merge::Same,
        Some("agg_sum") => merge == Merge::Sum,
        Some("agg_min" | "agg_logical_and") => merge == Merge::Least,
        Some("one_succeeded") => merge == Merge::AnyDone,
        Some(_) => false,
    }
}

#[test]
fn rows_are_spread_as_the_server_tips_its_clients_or_say_why_not() {
    let server = Server::start(&[]);
    let mut found = Vec::new();
    let reply = server.connect().call(&["COMMAND"]);
    reply.items().iter().for_each(|entry| tips(entry, &mut found));
    assert!(
        found.iter().filter(|(_, tips)| !tips.is_empty()).count() > 40,
        "the server gives tips"
    );
    let table = CommandTable::builtin();
    let mut differ: Vec<&str> = Vec::new();
    for (name, tips) in &found {
        let row = table.by_name(name).unwrap_or_else(|| panic!("{name} has no row"));
        if !suggests(tips, row.spread) {
            differ.push(name);
        }
    }
    let unlisted: Vec<_> = differ
        .iter()
        .filter(|name| !OTHERWISE.iter().any(|(listed, _)| listed == *name))
        .collect();
    assert!(unlisted.is_empty(), "{unlisted:?}");
}
