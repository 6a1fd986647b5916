//! Tests of the reply scanner, one rule each; `tests/resp_properties.rs` has the general ones.

use super::*;

fn scan(bytes: &[u8]) -> Result<ReplyScan, ReplyError> {
    ReplyScanner::new(ReplyLimits::default()).scan(bytes)
}

fn whole(bytes: &[u8]) {
    let complete = Ok(ReplyScan::Complete { consumed: bytes.len() });
    assert_eq!(scan(bytes), complete, "{}", bytes.escape_ascii());
    let followed = [bytes, b"+next\r\n"].concat();
    assert_eq!(scan(&followed), complete, "{}", bytes.escape_ascii());
    // A byte at a time.
    let mut scanner = ReplyScanner::new(ReplyLimits::default());
    for (index, byte) in bytes.iter().enumerate() {
        let last = index + 1 == bytes.len();
        let expected = if last {
            ReplyScan::Complete { consumed: 1 }
        } else {
            ReplyScan::Incomplete
        };
        assert_eq!(
            scanner.scan(&[*byte]),
            Ok(expected),
            "byte {index} of {}",
            bytes.escape_ascii()
        );
        assert_eq!(scanner.is_idle(), last);
    }
}

fn refused(bytes: &[u8], error: ReplyError) {
    assert_eq!(scan(bytes), Err(error), "{}", bytes.escape_ascii());
    let mut scanner = ReplyScanner::new(ReplyLimits::default());
    let slow = bytes.iter().find_map(|byte| scanner.scan(&[*byte]).err());
    assert_eq!(slow, Some(error), "a byte at a time: {}", bytes.escape_ascii());
}

#[test]
fn every_type_of_both_protocols_is_found() {
    for reply in [
        &b"+OK\r\n"[..],
        b"+\r\n",
        b"-ERR no\r\n",
        b":0\r\n",
        b":-9223372036854775808\r\n",
        b":+5\r\n",
        b"$0\r\n\r\n",
        b"$4\r\n\r\n\r\n\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
        b"_\r\n",
        b"#t\r\n",
        b"#f\r\n",
        b",1.5e-10\r\n",
        b",-inf\r\n",
        b",nan\r\n",
        b"(3492890328409238509324850943850943825024385\r\n",
        b"!5\r\nERR x\r\n",
        b"=6\r\ntxt:hi\r\n",
        b"%2\r\n+a\r\n:1\r\n*1\r\n+b\r\n~0\r\n",
        b"~2\r\n:1\r\n:1\r\n",
        b">2\r\n+invalidate\r\n_\r\n",
        b"%0\r\n",
    ] {
        whole(reply);
    }
}

#[test]
fn attributes_belong_to_the_value_behind_them_and_are_not_counted() {
    whole(b"|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n");
    whole(b"|0\r\n|0\r\n:1\r\n");
    whole(b"*2\r\n|1\r\n+a\r\n|1\r\n+b\r\n+c\r\n+d\r\n:1\r\n:2\r\n");
    assert_eq!(scan(b"|1\r\n+ttl\r\n:3\r\n"), Ok(ReplyScan::Incomplete));
}

#[test]
fn the_kind_is_the_outermost_one_behind_attributes() {
    for (bytes, kind) in [
        (&b"|1\r\n+a\r\n:1\r\n*1\r\n$1\r\nx\r\n"[..], Some(b'*')),
        (b"*2\r\n+a\r\n", Some(b'*')),
        (b"-ERR", Some(b'-')),
        (b"|1\r\n", None),
        (b"", None),
    ] {
        let mut scanner = ReplyScanner::new(ReplyLimits::default());
        assert!(scanner.scan(bytes).is_ok());
        assert_eq!(scanner.kind(), kind, "{}", bytes.escape_ascii());
    }
}

#[test]
fn the_kind_of_a_reply_outlives_its_end_but_not_the_next_one() {
    let mut scanner = ReplyScanner::new(ReplyLimits::default());
    assert_eq!(scanner.scan(b"-ERR\r\n:1\r\n"), Ok(ReplyScan::Complete { consumed: 6 }));
    assert_eq!(scanner.scan(b""), Ok(ReplyScan::Incomplete));
    assert_eq!(scanner.kind(), Some(b'-'));
    assert_eq!(scanner.scan(b":1\r\n"), Ok(ReplyScan::Complete { consumed: 4 }));
    assert_eq!(scanner.kind(), Some(b':'));
}

#[test]
fn a_line_of_text_ends_at_crlf_only() {
    whole(b"+a\rb\nc\r\r\n");
    whole(b"-\r\r\r\n");
}

#[test]
fn what_no_redis_sends_is_refused() {
    refused(b"$?\r\n", ReplyError::Streamed);
    refused(b"*?\r\n", ReplyError::Streamed);
    refused(b"%?\r\n", ReplyError::Streamed);
    refused(b";4\r\n", ReplyError::Streamed);
    refused(b".\r\n", ReplyError::Streamed);
    refused(b"*1\r\n>1\r\n+a\r\n", ReplyError::NestedPush);
    refused(b"hello", ReplyError::Type(b'h'));
    refused(b"\r\n", ReplyError::Type(b'\r'));
}

#[test]
fn malformed_numbers_and_ends_are_refused() {
    for bytes in [
        &b"$-2\r\n"[..],
        b"%-1\r\n",
        b"~-1\r\n",
        b"=-1\r\n",
        b"*1 \r\n",
        b"$01\r\n",
        b"$1\n",
        b"*\r\n",
        b"=3\r\n",
    ] {
        refused(bytes, ReplyError::Length);
    }
    for bytes in [
        &b":\r\n"[..],
        b":a\r\n",
        b":1.0\r\n",
        b":9223372036854775808\r\n",
        b"_x\r\n",
        b"#y\r\n",
        b",\r\n",
        b",x\r\n",
        b"(1.0\r\n",
        b",1\r1\r\n",
    ] {
        refused(bytes, ReplyError::Number);
    }
    refused(b"$1\r\nab", ReplyError::Terminator);
    refused(b"$1\r\na\rb", ReplyError::Terminator);
}

#[test]
fn limits_are_kept() {
    let limits = ReplyLimits {
        max_bulk: 3,
        max_line: 3,
        max_depth: 2,
    };
    let scan = |bytes: &[u8]| ReplyScanner::new(limits).scan(bytes);
    assert_eq!(scan(b"$3\r\nabc\r\n"), Ok(ReplyScan::Complete { consumed: 9 }));
    assert_eq!(scan(b"$4\r\n"), Err(ReplyError::BulkTooBig));
    assert_eq!(scan(b"+abc\r\n"), Ok(ReplyScan::Complete { consumed: 6 }));
    assert_eq!(scan(b"+abcd"), Err(ReplyError::LineTooLong));
    assert_eq!(scan(b"*1\r\n*1\r\n*0\r\n"), Ok(ReplyScan::Complete { consumed: 12 }));
    assert_eq!(scan(b"*1\r\n*1\r\n*1\r\n"), Err(ReplyError::TooDeep));
    assert_eq!(scan(b"*1\r\n|1\r\n|1\r\n"), Err(ReplyError::TooDeep));
}

#[test]
fn a_million_levels_are_an_error_and_nothing_worse() {
    refused_deep(b"*1\r\n");
    refused_deep(b"|1\r\n");
    refused_deep(b"%1\r\n");
}

fn refused_deep(level: &[u8]) {
    assert_eq!(scan(&level.repeat(1_000_000)), Err(ReplyError::TooDeep));
}

#[test]
fn declared_counts_and_lengths_cost_nothing() {
    let mut scanner = ReplyScanner::new(ReplyLimits::default());
    let huge = format!("*{}\r\n*{}\r\n${}\r\n", i64::MAX, i64::MAX, i32::MAX);
    assert_eq!(scanner.scan(huge.as_bytes()), Ok(ReplyScan::Incomplete));
    assert!(scanner.nesting.capacity() <= 8);
}
