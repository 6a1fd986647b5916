//! Requests: inline quoting and protocol errors, compared with what the server makes of the same bytes.

use nearhit::resp::{RequestLimits, RequestScan, RequestScanner, Version, encode};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::server::Server;

/// What our scanner answers to bytes that it refuses.
fn own_error(sent: &[u8]) -> Vec<u8> {
    let mut scanner = RequestScanner::new(RequestLimits::default());
    let error = scanner.scan(sent).expect_err("not the protocol");
    [b"-ERR ".to_vec(), error.reply(), b"\r\n".to_vec()].concat()
}

#[test]
fn protocol_errors_have_the_servers_text() {
    let server = Server::start();
    for sent in [
        &b"*a\r\n"[..],
        b"*+1\r\n",
        b"*01\r\n",
        b"*2147483648\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$a\r\n",
        b"*1\r\n$536870913\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n\r\n",
        b"*1\r\n\xff\r\n",
        b"\"a\r\n",
        b"'a'b\r\n",
        &b"a".repeat(65_537),
        &[&b"*"[..], &b"1".repeat(65_536)].concat(),
        &[&b"*1\r\n$"[..], &b"1".repeat(65_536)].concat(),
    ] {
        let expected = server.connect(Version::V2).until_closed(sent);
        let shown = sent.get(..20).unwrap_or(sent).escape_ascii();
        assert_eq!(
            own_error(sent).escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "{shown}"
        );
    }
}

#[test]
fn the_unauthenticated_are_refused_with_the_servers_text() {
    let server = Server::start();
    server
        .connect(Version::V2)
        .call(&["CONFIG", "SET", "requirepass", "secret"]);
    for sent in [&b"*11\r\n"[..], b"*1\r\n$16385\r\n"] {
        let mut scanner = RequestScanner::new(RequestLimits::default());
        scanner.set_authenticated(false);
        let error = scanner.scan(sent).expect_err("too much");
        let own = [b"-ERR ".to_vec(), error.reply(), b"\r\n".to_vec()].concat();
        assert_eq!(own, server.connect(Version::V2).until_closed(sent));
    }
    for sent in [&b"*10\r\n"[..], b"*1\r\n$16384\r\n"] {
        let mut scanner = RequestScanner::new(RequestLimits::default());
        scanner.set_authenticated(false);
        assert_eq!(scanner.scan(sent), Ok(RequestScan::Incomplete));
    }
}

/// Lines of words, quotes and escapes.
fn inline_line() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&[u8]] = &[
        b" ",
        b"\"",
        b"'",
        b"\\",
        b"\\x4",
        b"1",
        b"n",
        b"\t",
        b"\x0b",
        b"\r",
        b"a",
        b"\xff",
        b"\"a b\" ",
        b"'a b' ",
    ];
    let piece = prop::sample::select(PIECES);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

#[test]
fn inline_requests_have_the_words_that_the_server_finds() {
    let server = Server::start();
    let mut runner = TestRunner::deterministic();
    let mut connection = server.connect(Version::V2);
    let (mut refused, mut accepted) = (0, 0);
    for _ in 0..3_000 {
        let words = inline_line().new_tree(&mut runner).expect("a line").current();
        // The script answers its arguments, the words.
        let line = [b"EVAL \"return ARGV\" 0 ".to_vec(), words, b"\n".to_vec()].concat();
        let mut scanner = RequestScanner::new(RequestLimits::default());
        match scanner.scan(&line) {
            Ok(RequestScan::Complete { consumed }) => {
                assert_eq!(consumed, line.len());
                let args: Vec<_> = scanner.request(&line).args_from(3).map(<[u8]>::to_vec).collect();
                let mut expected = Vec::new();
                encode::array_header(&mut expected, args.len());
                args.iter().for_each(|arg| encode::bulk(&mut expected, arg));
                connection.send(&line);
                let reply = connection.reply();
                assert_eq!(
                    expected.escape_ascii().to_string(),
                    reply.escape_ascii().to_string(),
                    "{}",
                    line.escape_ascii()
                );
                accepted += 1;
            }
            other => {
                let error = other.expect_err("a line is whole");
                let reply = server.connect(Version::V2).until_closed(&line);
                let own = [b"-ERR ".to_vec(), error.reply(), b"\r\n".to_vec()].concat();
                assert_eq!(
                    own.escape_ascii().to_string(),
                    reply.escape_ascii().to_string(),
                    "{}",
                    line.escape_ascii()
                );
                refused += 1;
            }
        }
    }
    assert!(
        refused > 300 && accepted > 300,
        "{refused} refused, {accepted} accepted"
    );
}
