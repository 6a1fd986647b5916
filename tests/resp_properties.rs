//! Properties of the protocol code that hold for all input: how bytes are split into reads changes nothing, nothing
//! panics, what is written is read back, and `redis-protocol` agrees on where a reply ends.

use nearhit::resp::{
    Glob, ProtocolError, ReplyError, ReplyLimits, ReplyScan, ReplyScanner, RequestLimits, RequestScan, RequestScanner,
    Shape, Value, Version, encode, to_resp2,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

// Low, so that random input meets them.
const REQUEST_LIMITS: RequestLimits = RequestLimits {
    max_args: 6,
    max_bulk: 24,
    max_inline: 32,
};
const REPLY_LIMITS: ReplyLimits = ReplyLimits {
    max_bulk: 24,
    max_line: 24,
    max_depth: 4,
};

#[derive(Debug, PartialEq)]
enum Event {
    Request { args: Vec<Vec<u8>>, frame: Vec<u8> },
    Skip,
    Error(ProtocolError),
}

/// What a connection makes of `bytes` that arrive in reads which end at `cuts`, and how many bytes it consumes.
fn requests(bytes: &[u8], cuts: &[Index]) -> (Vec<Event>, usize) {
    let mut scanner = RequestScanner::new(REQUEST_LIMITS);
    let (mut events, mut start) = (Vec::new(), 0);
    for end in ends(bytes, cuts) {
        loop {
            let buffer = &bytes[start..end];
            match scanner.scan(buffer) {
                Ok(RequestScan::Incomplete) => break,
                Ok(RequestScan::Skip { consumed }) => {
                    events.push(Event::Skip);
                    start += consumed;
                }
                Ok(RequestScan::Complete { consumed }) => {
                    let request = scanner.request(buffer);
                    let args = request.args_from(0).map(<[u8]>::to_vec).collect();
                    if buffer.starts_with(b"*") {
                        assert_eq!(
                            request.frame(),
                            &buffer[..consumed],
                            "array requests go on as they came"
                        );
                    }
                    events.push(Event::Request {
                        args,
                        frame: request.frame().to_vec(),
                    });
                    start += consumed;
                }
                Err(error) => {
                    events.push(Event::Error(error));
                    return (events, start);
                }
            }
        }
    }
    (events, start)
}

#[derive(Debug, PartialEq)]
enum Found {
    Reply {
        end: usize,
        kind: Option<u8>,
    },
    /// Which error depends on the reads when there are two of them: a line that is too long and no number either.
    Error,
}

fn replies(bytes: &[u8], cuts: &[Index]) -> Vec<Found> {
    let mut scanner = ReplyScanner::new(REPLY_LIMITS);
    let (mut found, mut start) = (Vec::new(), 0);
    for end in ends(bytes, cuts) {
        while start < end {
            match scanner.scan(&bytes[start..end]) {
                Ok(ReplyScan::Incomplete) => start = end,
                Ok(ReplyScan::Complete { consumed }) => {
                    assert!(consumed > 0 && scanner.is_idle());
                    start += consumed;
                    found.push(Found::Reply {
                        end: start,
                        kind: scanner.kind(),
                    });
                }
                Err(_) => {
                    found.push(Found::Error);
                    return found;
                }
            }
        }
    }
    found
}

/// Ascending offsets of `bytes`, its end the last.
fn ends(bytes: &[u8], cuts: &[Index]) -> Vec<usize> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    ends
}

fn cuts() -> impl Strategy<Value = Vec<Index>> {
    vec(any::<Index>(), 0..12)
}

const PIECES: &[&[u8]] = &[
    b"*1\r\n",
    b"*2\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"*?\r\n",
    b"$0\r\n",
    b"$1\r\n",
    b"$2\r\n",
    b"$-1\r\n",
    b"$24\r\n",
    b"$25\r\n",
    b"$?\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b"a",
    b"ab",
    b"aaaaaaaa",
    b"bbbbbbbbbbbbbbbb",
    b"1",
    b"0",
    b"-",
    b"+",
    b"+OK\r\n",
    b"-ERR x\r\n",
    b":1\r\n",
    b":",
    b"_\r\n",
    b"#t\r\n",
    b"#f\r\n",
    b",1.5\r\n",
    b",",
    b"(12\r\n",
    b"!1\r\n",
    b"=5\r\ntxt:x\r\n",
    b"=1\r\n",
    b"%1\r\n",
    b"%0\r\n",
    b"~1\r\n",
    b">1\r\n",
    b"|1\r\n",
    b"|0\r\n",
    b";1\r\n",
    b".\r\n",
    b"*",
    b"$",
    b"%",
    b"\"",
    b"'",
    b"\\",
    b" ",
    b"\0",
    b"\xff",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
    b"GET k\r\n",
    b"*9999999999\r\n",
    b"$9999999999\r\n",
    b"*9223372036854775807\r\n",
    b"%9223372036854775807\r\n",
];

/// Pieces of the protocol in any order, which reach more than random bytes do.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    vec(select(PIECES), 0..24).prop_map(|pieces| pieces.concat())
}

fn bytes_of_any_kind() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => soup(), 1 => vec(any::<u8>(), 0..200)]
}

fn line_text() -> impl Strategy<Value = Vec<u8>> {
    vec(
        any::<u8>().prop_filter("a line end ends it", |byte| !matches!(byte, b'\r' | b'\n')),
        0..12,
    )
}

fn single() -> impl Strategy<Value = Value> {
    prop_oneof![
        line_text().prop_map(|text| Value::Simple(text.into())),
        "[A-Z]{3} [a-z ]{0,9}".prop_map(|text| Value::Error(text.into())),
        any::<i64>().prop_map(Value::Integer),
        vec(any::<u8>(), 0..20).prop_map(|bytes| Value::Bulk(bytes.into())),
        Just(Value::Null),
        any::<bool>().prop_map(Value::Boolean),
        prop_oneof![
            -1e9..1e9,
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(1e300),
            Just(1e-7)
        ]
        .prop_map(Value::Double),
        "-?[1-9][0-9]{0,40}".prop_map(|text| Value::BigNumber(text.into())),
        (select(vec![*b"txt", *b"mkd"]), vec(any::<u8>(), 0..12)).prop_map(|(format, text)| Value::Verbatim {
            format,
            text: text.into()
        }),
    ]
}

/// Values of every type. Keys and members are single values: `redis-protocol`, the judge, accepts no others.
fn value() -> impl Strategy<Value = Value> {
    single().prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::Array),
            vec(single(), 0..6).prop_map(Value::Set),
            vec((single(), inner), 0..4).prop_map(Value::Map),
        ]
    })
}

fn reply() -> impl Strategy<Value = Value> {
    prop_oneof![5 => value(), 1 => vec(value(), 0..4).prop_map(Value::Push)]
}

fn encoded(value: &Value, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(version, &mut out);
    out
}

fn scanned(bytes: &[u8]) -> Result<ReplyScan, ReplyError> {
    ReplyScanner::new(ReplyLimits::default()).scan(bytes)
}

/// How many bytes `redis-protocol` says the first frame has; `None` when it waits for more.
fn judged(bytes: &[u8], version: Version) -> Option<usize> {
    match version {
        Version::V2 => redis_protocol::resp2::decode::decode_range(bytes)
            .expect("valid RESP2")
            .map(|(_, taken)| taken),
        Version::V3 => redis_protocol::resp3::decode::complete::decode_range(bytes)
            .expect("valid RESP3")
            .map(|(_, taken)| taken),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn reads_do_not_change_the_requests_in_them(bytes in bytes_of_any_kind(), cuts in cuts()) {
        prop_assert_eq!(requests(&bytes, &[]), requests(&bytes, &cuts));
    }

    #[test]
    fn reads_do_not_change_the_replies_in_them(bytes in bytes_of_any_kind(), cuts in cuts()) {
        prop_assert_eq!(replies(&bytes, &[]), replies(&bytes, &cuts));
    }

    #[test]
    fn a_frame_is_the_canonical_encoding_of_its_arguments(bytes in bytes_of_any_kind()) {
        for event in requests(&bytes, &[]).0 {
            if let Event::Request { args, frame } = event {
                let mut again = Vec::new();
                encode::request(&mut again, args.iter().map(Vec::as_slice));
                prop_assert_eq!(again, frame);
            }
        }
    }

    #[test]
    fn what_is_written_as_a_request_is_read_back(args in vec(vec(any::<u8>(), 0..24), 1..6), cuts in cuts()) {
        let mut frame = Vec::new();
        encode::request(&mut frame, args.iter().map(Vec::as_slice));
        let len = frame.len();
        let read = requests(&frame, &cuts);
        prop_assert_eq!(read, (vec![Event::Request { args, frame }], len));
    }

    #[test]
    fn the_two_parsers_agree_on_where_a_reply_ends(value in reply(), behind in bytes_of_any_kind(), cut in any::<Index>()) {
        for version in [Version::V2, Version::V3] {
            let mut bytes = encoded(&value, version);
            let len = bytes.len();
            let cut = cut.index(len);
            prop_assert_eq!(judged(&bytes[..cut], version), None);
            prop_assert_eq!(scanned(&bytes[..cut]), Ok(ReplyScan::Incomplete));
            bytes.extend_from_slice(&behind);
            prop_assert_eq!(judged(&bytes, version), Some(len));
            prop_assert_eq!(scanned(&bytes), Ok(ReplyScan::Complete { consumed: len }));
        }
    }

    #[test]
    fn a_value_is_read_back_as_it_was_written(value in reply()) {
        prop_assert_eq!(Value::decode(&encoded(&value, Version::V3), Version::V3), Ok(value));
    }

    #[test]
    fn a_converted_reply_is_the_value_written_in_resp2(value in reply()) {
        let mut converted = Vec::new();
        prop_assert_eq!(to_resp2(Shape::Generic, &encoded(&value, Version::V3), &mut converted), Ok(()));
        prop_assert_eq!(&converted, &encoded(&value, Version::V2));
        // And what RESP2 lacks is gone: converting again changes nothing.
        let mut again = Vec::new();
        prop_assert_eq!(to_resp2(Shape::Generic, &converted, &mut again), Ok(()));
        prop_assert_eq!(again, converted);
    }

    #[test]
    fn attributes_change_nothing_in_resp2(value in value(), attribute in value(), around in 1_usize..4) {
        let plain = encoded(&Value::Array(vec![value.clone(); around]), Version::V3);
        let mut attributed = format!("|0\r\n*{around}\r\n").into_bytes();
        for _ in 0..around {
            attributed.extend_from_slice(b"|1\r\n+a\r\n");
            attributed.extend(encoded(&attribute, Version::V3));
            attributed.extend(encoded(&value, Version::V3));
        }
        prop_assert_eq!(scanned(&attributed), Ok(ReplyScan::Complete { consumed: attributed.len() }));
        let (mut with, mut without) = (Vec::new(), Vec::new());
        prop_assert_eq!(to_resp2(Shape::Generic, &attributed, &mut with), Ok(()));
        prop_assert_eq!(to_resp2(Shape::Generic, &plain, &mut without), Ok(()));
        prop_assert_eq!(with, without);
    }

    #[test]
    fn one_whole_reply_is_what_converts(bytes in bytes_of_any_kind(), shape in select(SHAPES)) {
        let whole = scanned(&bytes) == Ok(ReplyScan::Complete { consumed: bytes.len() });
        let mut out = b"before".to_vec();
        let converted = to_resp2(shape, &bytes, &mut out);
        if whole {
            prop_assert_eq!(converted, Ok(()));
            prop_assert_eq!(scanned(&out[6..]), Ok(ReplyScan::Complete { consumed: out.len() - 6 }));
        } else if converted.is_err() {
            prop_assert_eq!(out, b"before");
        }
    }

    #[test]
    fn nothing_panics(bytes in bytes_of_any_kind(), text in vec(any::<u8>(), 0..40), cuts in cuts()) {
        requests(&bytes, &cuts);
        replies(&bytes, &cuts);
        for version in [Version::V2, Version::V3] {
            let decoded = Value::decode(&bytes, version);
            prop_assert!(decoded.is_err() || scanned(&bytes).is_ok());
        }
        Glob::new(&bytes).matches(&text);
    }
}

const SHAPES: &[Shape] = &[Shape::Generic, Shape::Pairs, Shape::NilArray, Shape::NilArrayElements];
