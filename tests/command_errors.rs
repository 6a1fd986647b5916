//! Error texts, held against the server's own with odd inputs.

mod command_support;

use command_support::{Connection, OwnedRequest, Reply, Server};
use nearhit::command::{CommandTable, Lookup, error_text};

/// What nearhit says to a request that names no command or has the wrong number of arguments.
fn ours(table: &CommandTable, args: &[Vec<u8>]) -> Option<Vec<u8>> {
    let owned = OwnedRequest::new(args);
    let request = owned.request();
    match table.lookup(&request) {
        Lookup::UnknownCommand => Some(error_text::unknown_command(&request)),
        Lookup::UnknownSubcommand(_) => Some(error_text::unknown_subcommand(&request)),
        Lookup::Known(command) if !command.check_arity(&request) => Some(error_text::wrong_arity(command)),
        Lookup::Known(_) => None,
    }
}

fn assert_same(connection: &mut Connection, table: &CommandTable, args: &[Vec<u8>]) {
    let text = ours(table, args).unwrap_or_else(|| panic!("{args:?} is no error here"));
    let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let Reply::Error(theirs) = connection.call(args) else {
        panic!("{args:?} is no error there")
    };
    assert_eq!(
        shown(&text),
        shown(&theirs),
        "{:?}",
        args.iter().map(|arg| shown(arg)).collect::<Vec<_>>()
    );
}

fn args(words: &[&[u8]]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.to_vec()).collect()
}

#[test]
fn an_unknown_command_is_refused_in_the_servers_words() {
    let server = Server::start(&[]);
    let (mut connection, table) = (server.connect(), CommandTable::builtin());
    let long = [b'x'; 200];
    let cases: &[&[&[u8]]] = &[
        &[b"nosuch"],
        &[b"NoSuch", b"a", b"b"],
        &[b"", b""],
        &[b"", b"", b"", b"x"],
        &[b"a\r\nb", b"c\nd", b"\r"],
        &[b"nul\0behind", b"nul\0behind", b"\0", b"after"],
        &[b"\xff\xfe\x80", b"\xc3\x28"],
        &[b"quo'te", b"\"", b"'"],
        &[b"percent%s%n", b"%s", b"%d%%"],
        &[&long],
        &[b"x", &long],
        &[&long, &long, &long],
        &[b"x", &long[..127], b"yy"],
        &[b"x", &long[..128], b"y"],
        &[b"x", &long[..124], b"abcdef", b"y"],
        &[b"x", &long[..125], b"abcdef", b"y"],
        &[b"x", &long[..126], b"abcdef"],
        &[b"client|kill", b"id", b"1"],
        &[b"client|", b"kill"],
        &[b"get|x"],
        &[b" get", b"k"],
    ];
    for case in cases {
        assert_same(&mut connection, &table, &args(case));
    }
    for length in 0..140 {
        assert_same(
            &mut connection,
            &table,
            &args(&[b"x", &long[..length], b"ab", &long[..length / 2], b"c"]),
        );
    }
}

#[test]
fn an_unknown_subcommand_is_refused_in_the_servers_words() {
    let server = Server::start(&[]);
    let (mut connection, table) = (server.connect(), CommandTable::builtin());
    let long = [b'y'; 300];
    let subcommands: &[&[u8]] = &[b"nosuch", b"", b"a\r\nb", b"x\0y", b"\xff", &long, b"get|x", b"%s"];
    for container in table.iter().filter(|row| row.container) {
        // What the server does not have it calls an unknown command.
        if ["sentinel", "commandlog", "hotkeys", "backup", "himport"].contains(&container.name()) {
            continue;
        }
        for subcommand in subcommands {
            let upper = container.name().to_ascii_uppercase();
            assert_same(
                &mut connection,
                &table,
                &args(&[container.name().as_bytes(), subcommand]),
            );
            assert_same(
                &mut connection,
                &table,
                &args(&[upper.as_bytes(), subcommand, b"more", b"arguments"]),
            );
        }
    }
}

#[test]
fn a_wrong_number_of_arguments_is_refused_in_the_servers_words() {
    let server = Server::start(&[]);
    let (mut connection, table) = (server.connect(), CommandTable::builtin());
    let mut checked = 0;
    for command in connection.commands().into_iter().flat_map(|mut command| {
        let subcommands = std::mem::take(&mut command.subcommands);
        std::iter::once(command).chain(subcommands)
    }) {
        for count in 1..12 {
            let mut words: Vec<Vec<u8>> = command.name.to_ascii_uppercase().split('|').map(Into::into).collect();
            if words.len() > count {
                continue;
            }
            words.resize(count, b"1".to_vec());
            let refused = if command.arity < 0 {
                (count as i64) < -command.arity
            } else {
                count as i64 != command.arity
            };
            // A few rows accept what only later servers do; those the server refuses, in its words.
            if refused && ours(&table, &words).is_some() {
                assert_same(&mut connection, &table, &words);
                checked += 1;
            }
        }
    }
    assert!(checked > 1_000, "{checked}");
}
