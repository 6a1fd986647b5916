use super::*;
use crate::command::{CommandTable, Keys, Lookup};
use crate::resp::{RequestLimits, RequestScanner};

/// All rows that are not spread as their keys suggest.
#[rustfmt::skip] // One line a merge.
const SPREAD: [(Spread, &[&str]); 13] = [
    (Spread::Scan, &["scan"]),
    (Spread::Sketches, &["pfcount"]),
    (Spread::Keys(Merge::Values), &["mget"]),
    (Spread::Keys(Merge::Same), &["mset"]),
    (Spread::Keys(Merge::Sum), &["del", "exists", "touch", "unlink"]),
    (Spread::All(Merge::Sum), &["dbsize", "latency|reset", "pubsub|numpat"]),
    (Spread::All(Merge::Least), &["script|exists", "wait", "waitaof"]),
    (Spread::All(Merge::Joined), &["keys"]),
    (Spread::All(Merge::Union), &["pubsub|channels", "pubsub|shardchannels"]),
    (Spread::All(Merge::Counts), &["pubsub|numsub", "pubsub|shardnumsub"]),
    (Spread::All(Merge::AnyValue), &["randomkey"]),
    (Spread::All(Merge::AnyDone), &["function|kill", "script|kill"]),
    (Spread::All(Merge::Same), &[
        "acl|deluser", "acl|load", "acl|save", "acl|setuser",
        "backup|abort", "backup|cleanup", "backup|seal", "backup|start", "bgrewriteaof", "bgsave", "save",
        "commandlog|reset", "config|resetstat", "config|rewrite", "config|set", "memory|purge", "slowlog|reset",
        "flushall", "flushdb",
        "function|delete", "function|flush", "function|load", "function|restore", "script|flush", "script|load",
        "module|load", "module|loadex", "module|unload",
    ]),
];

fn slot(args: &[&str]) -> Result<Option<u16>, CrossSlot> {
    let line = args.join(" ") + "\r\n";
    let mut scanner = RequestScanner::new(RequestLimits::default());
    scanner.scan(line.as_bytes()).unwrap();
    let request = scanner.request(line.as_bytes());
    let table = CommandTable::builtin();
    let Lookup::Known(command) = table.lookup(&request) else {
        panic!("{args:?}")
    };
    command.slot(&request).map(|slot| slot.map(Slot::get))
}

#[test]
fn a_row_is_spread_by_its_keys_unless_it_is_listed_here() {
    let listed = |name: &str| SPREAD.iter().find(|(_, names)| names.contains(&name));
    for row in CommandTable::builtin().iter() {
        let suggested = match row.keys {
            Keys::None => Spread::Any,
            _ => Spread::Slot,
        };
        let expected = listed(row.name()).map_or(suggested, |(spread, _)| *spread);
        assert_eq!(row.spread, expected, "{}", row.name());
    }
    for name in SPREAD.iter().flat_map(|(_, names)| *names) {
        assert!(CommandTable::builtin().by_name(name).is_some(), "{name}");
    }
}

#[test]
fn what_is_split_by_its_keys_says_plainly_where_they_are() {
    for row in CommandTable::builtin().iter() {
        if matches!(row.spread, Spread::Keys(_) | Spread::Sketches) {
            assert!(matches!(row.keys, Keys::Range { last: -1, .. }), "{}", row.name());
        }
    }
}

#[test]
fn a_request_has_a_slot_when_all_its_keys_have_the_same() {
    let foo = Ok(Some(12182));
    let first = Slot::new(12182).unwrap();
    assert_eq!(slot(&["GET", "foo"]), foo);
    assert_eq!(slot(&["MGET", "foo", "{foo}bar", "foo"]), foo);
    assert_eq!(slot(&["RENAME", "foo", "{foo}bar"]), foo);
    assert_eq!(
        slot(&["MSET", "foo", "bar", "foo", "hello"]),
        foo,
        "values have no slot"
    );
    assert_eq!(slot(&["OBJECT", "FREQ", "foo"]), foo);
    assert_eq!(slot(&["SORT", "foo", "STORE", "{foo}x"]), foo);
    assert_eq!(
        slot(&["SPUBLISH", "foo", "bar"]),
        foo,
        "a channel is hashed as a key is"
    );
    assert_eq!(slot(&["XREAD", "STREAMS", "foo", "{foo}b", "0", "0"]), foo);
    for apart in [
        &["MGET", "foo", "bar"][..],
        &["MGET", "foo", "foo", "bar", "foo"],
        &["RENAME", "foo", "bar"],
        &["SORT", "foo", "STORE", "bar"],
        &["EVAL", "return", "2", "foo", "bar"],
        &["SSUBSCRIBE", "foo", "bar"],
        &["XREAD", "STREAMS", "foo", "bar", "0", "0"],
    ] {
        assert_eq!(slot(apart), Err(CrossSlot { first }), "{apart:?}");
    }
}

#[test]
fn a_request_without_keys_or_with_bad_ones_has_no_slot() {
    for keyless in [
        &["PING"][..],
        &["EVAL", "return", "0", "foo"],
        &["EVAL", "return", "9", "foo"],
        &["XREAD", "STREAMS", "foo"],
        &["SUNSUBSCRIBE"],
    ] {
        assert_eq!(slot(keyless), Ok(None), "{keyless:?}");
    }
}
