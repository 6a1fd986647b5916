//! Tests of reading and writing values.

use super::*;

fn encoded(value: &Value, version: Version) -> String {
    let mut out = Vec::new();
    value.encode(version, &mut out);
    String::from_utf8(out).expect("tests write text")
}

fn simple(text: &'static str) -> Value {
    Value::Simple(text.into())
}

#[test]
fn one_value_is_written_in_both_protocols() {
    for (value, resp2, resp3) in [
        (simple("OK"), "+OK\r\n", "+OK\r\n"),
        (Value::error("ERR a\r\n:1"), "-ERR a  :1\r\n", "-ERR a  :1\r\n"),
        (Value::Integer(-7), ":-7\r\n", ":-7\r\n"),
        (Value::bulk("a\r\n"), "$3\r\na\r\n\r\n", "$3\r\na\r\n\r\n"),
        (Value::bulk(""), "$0\r\n\r\n", "$0\r\n\r\n"),
        (Value::Null, "$-1\r\n", "_\r\n"),
        (Value::Boolean(true), ":1\r\n", "#t\r\n"),
        (Value::Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
        (Value::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
        (Value::Double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n"),
        (Value::Double(f64::NAN), "$3\r\nnan\r\n", ",nan\r\n"),
        (Value::BigNumber("123".into()), "$3\r\n123\r\n", "(123\r\n"),
        (
            Value::Verbatim {
                format: *b"txt",
                text: "hi".into(),
            },
            "$2\r\nhi\r\n",
            "=6\r\ntxt:hi\r\n",
        ),
        (Value::Array(vec![]), "*0\r\n", "*0\r\n"),
        (Value::Set(vec![Value::Integer(1)]), "*1\r\n:1\r\n", "~1\r\n:1\r\n"),
        (Value::Push(vec![Value::Null]), "*1\r\n$-1\r\n", ">1\r\n_\r\n"),
        (
            Value::Map(vec![
                (simple("b"), Value::Array(vec![Value::Null])),
                (simple("a"), Value::Integer(1)),
            ]),
            "*4\r\n+b\r\n*1\r\n$-1\r\n+a\r\n:1\r\n",
            "%2\r\n+b\r\n*1\r\n_\r\n+a\r\n:1\r\n",
        ),
    ] {
        assert_eq!(encoded(&value, Version::V2), resp2);
        assert_eq!(encoded(&value, Version::V3), resp3);
    }
}

#[test]
fn a_map_keeps_its_order_and_its_repeated_keys() {
    let bytes = b"%3\r\n+b\r\n:1\r\n+a\r\n:2\r\n+b\r\n:3\r\n";
    let value = Value::decode(bytes, Version::V3).expect("a map");
    let pairs = vec![
        (simple("b"), Value::Integer(1)),
        (simple("a"), Value::Integer(2)),
        (simple("b"), Value::Integer(3)),
    ];
    assert_eq!(value, Value::Map(pairs));
    assert_eq!(value.get(b"a").and_then(Value::as_integer), Some(2));
    assert_eq!(encoded(&value, Version::V3).as_bytes(), bytes);
}

#[test]
fn what_the_crate_refuses_is_read_all_the_same() {
    let decode = |bytes: &[u8]| Value::decode(bytes, Version::V3);
    assert_eq!(
        decode(b"*2\r\n$-1\r\n*-1\r\n"),
        Ok(Value::Array(vec![Value::Null, Value::Null]))
    );
    assert_eq!(
        decode(b"=7\r\nabc:xyz\r\n"),
        Ok(Value::Verbatim {
            format: *b"abc",
            text: "xyz".into()
        })
    );
    assert_eq!(
        decode(b"-ERR \xff\r\n"),
        Ok(Value::Error(Bytes::from_static(b"ERR \xff")))
    );
    assert_eq!(
        decode(b"%1\r\n*1\r\n:1\r\n_\r\n"),
        Ok(Value::Map(vec![(Value::Array(vec![Value::Integer(1)]), Value::Null)]))
    );
    assert_eq!(
        decode(b"~2\r\n:1\r\n:1\r\n"),
        Ok(Value::Set(vec![Value::Integer(1), Value::Integer(1)]))
    );
    assert_eq!(decode(b"|1\r\n+a\r\n:1\r\n_\r\n"), Ok(Value::Null));
}

#[test]
fn values_of_resp2_are_read() {
    let value = Value::decode(b"*4\r\n$1\r\na\r\n$-1\r\n+b\r\n$1\r\n7\r\n", Version::V2).expect("an array");
    assert_eq!(value.get(b"a"), Some(&Value::Null));
    assert_eq!(value.get(b"b").and_then(Value::as_integer), Some(7));
    assert_eq!(Value::decode(b"*-1\r\n", Version::V2), Ok(Value::Null));
    assert_eq!(Value::decode(b"_\r\n", Version::V2), Err(ReplyError::Contents));
}

#[test]
fn only_one_whole_reply_of_bounded_depth_is_read() {
    assert_eq!(Value::decode(b"$1\r\n", Version::V3), Err(ReplyError::Incomplete));
    assert_eq!(Value::decode(b"_\r\n_\r\n", Version::V3), Err(ReplyError::Trailing));
    assert_eq!(Value::decode(b",1.2.3\r\n", Version::V3), Err(ReplyError::Contents));
    assert_eq!(
        Value::decode(&b"*1\r\n".repeat(1_000_000), Version::V3),
        Err(ReplyError::TooDeep)
    );
    let deep = [b"*1\r\n".repeat(64), b":1\r\n".to_vec()].concat();
    assert!(Value::decode(&deep, Version::V3).is_ok());
}
