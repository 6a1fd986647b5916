//! Key extraction, held against `COMMAND GETKEYS` with many valid and invalid argument lists.

mod command_support;

use command_support::{Connection, OwnedRequest, Reply, Server};
use nearhit::command::{Command, CommandTable, Keys, Origin, Place, flag};
use proptest::prelude::*;

/// Argument lists per command.
const LISTS: usize = 400;

/// A generator that gives the same numbers every time, so that a failure can be seen again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % u64::try_from(limit).expect("a limit")).expect("a number below the limit")
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

const NAMES: &[&str] = &["a", "b", "key1", "key2", "", "x y", "0", "1", "2", "{t}u"];
const COUNTS: &[&str] = &[
    "0",
    "1",
    "1",
    "2",
    "2",
    "3",
    "4",
    "7",
    "-1",
    "01",
    "1x",
    "x",
    "",
    " 1",
    "+1",
    "2147483647",
    "2147483648",
    "4294967297",
    "9223372036854775807",
    "99999999999999999999",
];

/// Option words that mean something to the command's key rule, and values that go with them.
fn options(keys: Keys) -> &'static [&'static str] {
    match keys {
        Keys::Sort => &[
            "STORE", "store", "BY", "GET", "LIMIT", "ASC", "ALPHA", "w_*", "#", "0", "5",
        ],
        Keys::GeoRadius { .. } => &[
            "STORE",
            "storedist",
            "STOREDIST",
            "COUNT",
            "ANY",
            "ASC",
            "WITHCOORD",
            "m",
            "1",
            "5",
        ],
        Keys::Migrate => &["COPY", "REPLACE", "AUTH", "AUTH2", "KEYS", "keys", "pass", "user"],
        Keys::Streams => &[
            "BLOCK", "COUNT", "GROUP", "NOACK", "STREAMS", "streams", "STREAMS", "0", "$", ">", "5",
        ],
        Keys::Counted { .. } => &["WEIGHTS", "AGGREGATE", "LIMIT", "LEFT", "COUNT", "1", "2"],
        _ => &["EX", "10", "DB", "REPLACE", "COUNT"],
    }
}

fn arguments(row: &Command, random: &mut Random) -> Vec<String> {
    let mut args: Vec<String> = row.name().split('|').map(Into::into).collect();
    let least = usize::from(row.arity.unsigned_abs());
    let len = if row.arity < 0 { least + random.below(8) } else { least };
    while args.len() < len {
        let index = args.len();
        let counts = matches!(row.keys, Keys::Counted { at, .. } if usize::from(at) == index);
        let word = match row.keys {
            _ if counts => random.pick(COUNTS),
            Keys::Migrate if index == 3 => random.pick(&["", "", "key"]),
            Keys::Streams if index == 1 => random.pick(&["STREAMS", "COUNT", "GROUP", "BLOCK", "NOACK", "a"]),
            _ if random.below(3) == 0 => random.pick(options(row.keys)),
            _ => random.pick(NAMES),
        };
        args.push(word.into());
    }
    args
}

/// The arguments nearhit takes for keys; nothing when it says that they cannot be told.
fn ours(row: &Command, args: &[String]) -> Option<Vec<String>> {
    let owned = OwnedRequest::new(args);
    let mut keys = Vec::new();
    row.for_each_key(&owned.request(), |index| keys.push(args[index].clone()))
        .ok()
        .map(|()| keys)
}

/// The arguments the server takes for keys; nothing when it answers with an error.
fn theirs(connection: &mut Connection, args: &[String]) -> Option<Vec<String>> {
    let mut request = vec!["COMMAND".to_owned(), "GETKEYS".to_owned()];
    request.extend_from_slice(args);
    match connection.call(&request) {
        Reply::Array(keys) => Some(keys.iter().map(Reply::text).collect()),
        Reply::Error(_) => None,
        other => panic!("{other:?}"),
    }
}

fn is_canonical(number: &str) -> bool {
    number.parse::<u32>().is_ok_and(|parsed| parsed.to_string() == number)
}

/// Whether GETKEYS is known to say something else than what the command itself does with these arguments.
fn getkeys_is_wrong(row: &Command, args: &[String]) -> bool {
    let words = |words: &'static [&str]| {
        args.iter()
            .skip(1)
            .filter(|arg| words.iter().any(|word| arg.eq_ignore_ascii_case(word)))
    };
    match row.keys {
        // It reads the count with atoi; the command refuses what is not a plain number.
        Keys::Counted { at, .. } => !is_canonical(&args[usize::from(at)]),
        // It takes the word behind STORE for an option, too; the command does not.
        Keys::Sort => words(&["store"]).count() > 0 && words(&["store", "by", "get", "limit"]).count() > 1,
        // It names the keys of STORE and of STOREDIST; the command writes the last.
        Keys::GeoRadius { .. } => words(&["store", "storedist"]).count() > 1,
        // It stops at the first STREAMS, be it the name of a group.
        Keys::Streams => words(&["streams"]).count() > 1,
        // It names the empty argument 3 where KEYS has no keys.
        Keys::Migrate => args.last().is_some_and(|last| last.eq_ignore_ascii_case("keys")),
        // It does not name channels, which nearhit needs for their slot.
        _ if row.flags.has(flag::PUBSUB) => true,
        // It wants sources, and the arity of later servers.
        _ => row.name() == "pfmerge" && args.len() == 2 || row.name().ends_with("rank") && args.len() > 3,
    }
}

#[test]
fn keys_are_the_arguments_that_the_server_takes_for_keys() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let mut random = Random(7);
    let (mut agreed, mut refused) = (0, 0);
    let mut wrong = Vec::new();
    let table = CommandTable::builtin();
    for row in table
        .iter()
        .filter(|row| row.keys != Keys::None && row.origin == Origin::Verified)
    {
        for _ in 0..LISTS {
            let args = arguments(row, &mut random);
            if getkeys_is_wrong(row, &args) {
                continue;
            }
            match (ours(row, &args), theirs(&mut connection, &args)) {
                (Some(ours), Some(theirs)) if ours == theirs => agreed += 1,
                (None, None) => refused += 1,
                (Some(ours), None) if ours.is_empty() => refused += 1,
                // Either may be the coarser one where the command itself refuses the request.
                (None, Some(_)) | (Some(_), None) if matches!(connection.call(&args), Reply::Error(_)) => refused += 1,
                (ours, theirs) => wrong.push(format!("{args:?}: {ours:?} here, {theirs:?} there")),
            }
        }
    }
    wrong.dedup_by_key(|text| text.split(',').next().map(ToOwned::to_owned));
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert!(agreed > 20_000 && refused > 1_000, "{agreed} agreed, {refused} refused");
}

#[test]
fn a_request_whose_keys_cannot_be_told_is_refused_by_the_server() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let mut random = Random(11);
    let mut refused = 0;
    let table = CommandTable::builtin();
    for row in table
        .iter()
        .filter(|row| row.keys != Keys::None && row.origin == Origin::Verified)
    {
        for _ in 0..LISTS {
            let args = arguments(row, &mut random);
            if ours(row, &args).is_none() {
                let reply = connection.call(&args);
                assert!(matches!(reply, Reply::Error(_)), "{args:?}: {reply:?}");
                refused += 1;
            }
        }
    }
    assert!(refused > 1_000, "{refused}");
}

/// Sends a request and gives the names of the streams in its reply.
fn streams_read(connection: &mut Connection, args: &[String]) -> Vec<String> {
    connection
        .call(args)
        .items()
        .iter()
        .map(|stream| stream.items()[0].text())
        .collect()
}

#[test]
fn streams_and_block_may_be_the_names_of_groups_consumers_and_streams() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let table = CommandTable::builtin();
    let names = ["STREAMS", "BLOCK", "plain"];
    for stream in names {
        for group in names {
            connection.call(&["XGROUP", "CREATE", stream, group, "$", "MKSTREAM"]);
        }
    }
    for (stream, other) in names.iter().zip(names.iter().rev()) {
        for (group, consumer) in names.iter().zip(names.iter().rev()) {
            for name in names {
                connection.call(&["XADD", name, "*", "field", "value"]);
            }
            let words = [
                "XREADGROUP",
                "NOACK",
                "GROUP",
                group,
                consumer,
                "STREAMS",
                stream,
                other,
                ">",
                ">",
            ];
            let args = words.map(ToOwned::to_owned);
            let row = table.by_name("xreadgroup").expect("a row");
            let mut keys = ours(row, &args).expect("keys");
            assert_eq!(
                row.place(&OwnedRequest::new(&args).request()),
                Place::Shared,
                "it does not block"
            );
            keys.dedup();
            let mut read = streams_read(&mut connection, &args);
            read.dedup();
            assert_eq!(keys, read, "{args:?}");
        }
    }
}

fn any_arguments() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let word = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..6),
        proptest::sample::select(COUNTS).prop_map(|count| count.as_bytes().to_vec()),
        proptest::sample::select(&["STREAMS", "GROUP", "STORE", "KEYS", "LIMIT", "BLOCK", "AUTH2"][..])
            .prop_map(|option| option.as_bytes().to_vec()),
    ];
    proptest::collection::vec(word, 1..12)
}

proptest! {
    #[test]
    fn no_arguments_make_any_row_point_outside_of_them(mut args in any_arguments()) {
        let table = CommandTable::builtin();
        for row in table.iter() {
            args[0] = row.name().as_bytes().to_vec();
            let owned = OwnedRequest::new(&args);
            let request = owned.request();
            let mut last = 0;
            let result = row.for_each_key(&request, |index| {
                assert!(index > last && index < args.len(), "{}: {index} behind {last}", row.name());
                last = index;
            });
            prop_assert!(result.is_ok() || last == 0, "{}: keys before an error", row.name());
            row.check_arity(&request);
            row.place(&request);
            row.cacheable(&request);
            row.shape(&request);
        }
    }
}
