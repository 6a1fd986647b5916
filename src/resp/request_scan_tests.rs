//! Tests of the request scanner, one rule each; `tests/resp_properties.rs` has the general ones.

use super::*;

fn scan(bytes: &[u8]) -> Result<RequestScan, ProtocolError> {
    RequestScanner::new(RequestLimits::default()).scan(bytes)
}

fn refused(bytes: &[u8], error: ProtocolError) {
    assert_eq!(scan(bytes), Err(error), "{}", bytes.escape_ascii());
}

#[test]
fn a_request_is_found_and_its_arguments_are_where_they_say() {
    let bytes = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n*1\r\n";
    let mut scanner = RequestScanner::new(RequestLimits::default());
    assert_eq!(scanner.scan(bytes), Ok(RequestScan::Complete { consumed: 30 }));
    let request = scanner.request(bytes);
    assert_eq!(request.frame(), &bytes[..30]);
    assert_eq!(request.args_from(0).collect::<Vec<_>>(), [&b"SET"[..], b"k", b"a\r\nb"]);
    assert_eq!(request.tail(1), b"$1\r\nk\r\n$4\r\na\r\nb\r\n");
}

#[test]
fn an_inline_request_becomes_canonical() {
    let mut scanner = RequestScanner::new(RequestLimits::default());
    let bytes = b"set k \"a b\"\r\nPING\r\n";
    assert_eq!(scanner.scan(bytes), Ok(RequestScan::Complete { consumed: 13 }));
    assert_eq!(
        scanner.request(bytes).frame(),
        b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$3\r\na b\r\n"
    );
    assert_eq!(scanner.scan(&bytes[13..]), Ok(RequestScan::Complete { consumed: 6 }));
    assert_eq!(scanner.request(&bytes[13..]).name(), b"PING");
}

#[test]
fn requests_without_arguments_are_skipped() {
    for bytes in [
        &b"\r\n"[..],
        b"\n",
        b"  \r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*-9223372036854775808\r\n",
    ] {
        assert_eq!(
            scan(bytes),
            Ok(RequestScan::Skip { consumed: bytes.len() }),
            "{}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn counts_and_lengths_must_be_canonical() {
    for count in [
        "",
        "+1",
        "01",
        "-0",
        " 1",
        "1 ",
        "a",
        "2147483648",
        "99999999999999999999",
    ] {
        refused(format!("*{count}\r\n").as_bytes(), ProtocolError::MultibulkLength);
    }
    for len in ["", "+1", "01", "-0", "-1", " 1", "1 ", "a", "536870913"] {
        refused(format!("*1\r\n${len}\r\n").as_bytes(), ProtocolError::BulkLength);
    }
    assert_eq!(scan(b"*2147483647\r\n$536870912\r\n"), Ok(RequestScan::Incomplete));
}

#[test]
fn line_ends_are_strict() {
    refused(b"*1\rx", ProtocolError::MultibulkLength);
    refused(b"*1\r\n$1\rx", ProtocolError::BulkLength);
    refused(b"*1\r\n$1\r\naX", ProtocolError::BulkLength);
    refused(b"*1\r\n$1\r\na\rX", ProtocolError::BulkLength);
}

#[test]
fn another_type_in_place_of_an_argument_is_named() {
    refused(b"*1\r\n:1\r\n", ProtocolError::ExpectedBulk(b':'));
    refused(b"*1\r\n\r\n", ProtocolError::ExpectedBulk(b'\r'));
    assert_eq!(
        ProtocolError::ExpectedBulk(b':').reply(),
        b"Protocol error: expected '$', got ':'"
    );
    assert_eq!(
        ProtocolError::ExpectedBulk(b'\r').reply(),
        b"Protocol error: expected '$', got ' '"
    );
    assert_eq!(
        ProtocolError::ExpectedBulk(b':').to_string(),
        "Protocol error: expected '$', got ':'"
    );
}

#[test]
fn lines_of_65536_bytes_wait_and_longer_ones_are_refused() {
    for (prefix, error) in [
        (&b""[..], ProtocolError::InlineTooBig),
        (b"*", ProtocolError::MultibulkHeaderTooBig),
        (b"*1\r\n$", ProtocolError::BulkHeaderTooBig),
    ] {
        let before_line = if prefix.len() > 1 { 4 } else { 0 };
        let mut bytes = prefix.to_vec();
        bytes.resize(before_line + 65_536, b'1');
        assert_eq!(scan(&bytes), Ok(RequestScan::Incomplete), "{error}");
        bytes.push(b'1');
        refused(&bytes, error);
        bytes.extend_from_slice(b"\r\n");
        refused(&bytes, error);
    }
}

#[test]
fn the_unauthenticated_send_small_requests_only() {
    let mut scanner = RequestScanner::new(RequestLimits::default());
    scanner.set_authenticated(false);
    assert_eq!(scanner.scan(b"*10\r\n$16384\r\n"), Ok(RequestScan::Incomplete));
    scanner.reset();
    assert_eq!(scanner.scan(b"*11\r\n"), Err(ProtocolError::UnauthenticatedMultibulk));
    scanner.reset();
    assert_eq!(
        scanner.scan(b"*1\r\n$16385\r\n"),
        Err(ProtocolError::UnauthenticatedBulk)
    );
}

#[test]
fn what_is_missing_of_an_argument_is_known_once_its_header_is_read() {
    let mut scanner = RequestScanner::new(RequestLimits::default());
    assert_eq!(scanner.scan(b"*1\r\n$1000"), Ok(RequestScan::Incomplete));
    assert_eq!(scanner.wanted(), 0);
    assert_eq!(scanner.scan(b"*1\r\n$1000\r\nabc"), Ok(RequestScan::Incomplete));
    assert_eq!(scanner.wanted(), 999);
}

#[test]
fn a_declared_count_reserves_nothing() {
    let mut scanner = RequestScanner::new(RequestLimits::default());
    assert_eq!(
        scanner.scan(b"*2147483647\r\n$3\r\nDEL\r\n"),
        Ok(RequestScan::Incomplete)
    );
    assert_eq!(scanner.args.capacity(), FIRST_ARGS);
}

#[test]
fn a_partial_bulk_is_not_scanned_again() {
    // The header's bytes are overwritten: were they read again, the scan would fail.
    let mut scanner = RequestScanner::new(RequestLimits::default());
    let mut bytes = b"*1\r\n$100\r\n".to_vec();
    bytes.resize(50, b'x');
    assert_eq!(scanner.scan(&bytes), Ok(RequestScan::Incomplete));
    bytes[..8].fill(b'!');
    bytes.resize(110, b'x');
    bytes.extend_from_slice(b"\r\n");
    assert_eq!(scanner.scan(&bytes), Ok(RequestScan::Complete { consumed: 112 }));
}
