use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::downstream::cluster::split::tests::{split_words, words};

const UNFIT: &str = "-ERR nearhit: the nodes of the cluster gave replies that do not make one\r\n";

/// The one reply of parts that answer from the last to the first.
fn gathered(merge: Merge, replies: &[&str]) -> String {
    told(Gather::new(merge, replies.len()), replies)
}

fn told(mut gather: Gather, replies: &[&str]) -> String {
    let mut whole = None;
    for (part, reply) in replies.iter().enumerate().rev() {
        assert_eq!(whole, None, "not before the last");
        whole = gather.take(part, reply.as_bytes().to_vec());
    }
    String::from_utf8(whole.unwrap()).unwrap()
}

#[test]
fn values_come_in_the_order_of_the_keys() {
    let keys = || vec![vec![0, 3], vec![1], vec![2, 4]];
    let reply = |replies: &[&str]| told(Gather::of_keys(Merge::Values, keys()), replies);
    let parts = ["*2\r\n$1\r\na\r\n$1\r\nd\r\n", "*1\r\n$-1\r\n", "*2\r\n_\r\n$0\r\n\r\n"];
    assert_eq!(reply(&parts), "*5\r\n$1\r\na\r\n$-1\r\n_\r\n$1\r\nd\r\n$0\r\n\r\n");
    for unfit in ["*2\r\n:1\r\n:2\r\n", "*0\r\n", "*-1\r\n", "+OK\r\n", "_\r\n", ""] {
        assert_eq!(reply(&[parts[0], unfit, parts[2]]), UNFIT, "{unfit:?}");
    }
}

#[test]
fn numbers_are_added_or_the_least_of_them_counts() {
    assert_eq!(gathered(Merge::Sum, &[":1\r\n", ":0\r\n", ":41\r\n"]), ":42\r\n");
    assert_eq!(gathered(Merge::Sum, &[":9223372036854775807\r\n", ":1\r\n"]), UNFIT);
    assert_eq!(gathered(Merge::Sum, &[":1\r\n", "$1\r\n1\r\n"]), UNFIT);
    assert_eq!(gathered(Merge::Least, &[":2\r\n", ":1\r\n", ":3\r\n"]), ":1\r\n");
    let exist = ["*3\r\n:1\r\n:0\r\n:1\r\n", "*3\r\n:1\r\n:1\r\n:0\r\n"];
    assert_eq!(gathered(Merge::Least, &exist), "*3\r\n:1\r\n:0\r\n:0\r\n");
    assert_eq!(gathered(Merge::Least, &["*0\r\n", "*0\r\n"]), "*0\r\n");
    assert_eq!(gathered(Merge::Least, &[exist[0], "*1\r\n:1\r\n"]), UNFIT);
    assert_eq!(gathered(Merge::Least, &[exist[0], ":1\r\n"]), UNFIT);
    assert_eq!(gathered(Merge::Least, &[":1\r\n", exist[0]]), UNFIT);
}

#[test]
fn arrays_are_joined_whatever_they_hold() {
    let nested = "*2\r\n*2\r\n:1\r\n*0\r\n%1\r\n+a\r\n(12345678901234567890\r\n";
    assert_eq!(
        gathered(Merge::Joined, &["*0\r\n", nested, "*1\r\n$3\r\n\r\n*\r\n"]),
        "*3\r\n*2\r\n:1\r\n*0\r\n%1\r\n+a\r\n(12345678901234567890\r\n$3\r\n\r\n*\r\n"
    );
    assert_eq!(gathered(Merge::Joined, &["*0\r\n", "*0\r\n"]), "*0\r\n");
    assert_eq!(
        gathered(Merge::Joined, &["~1\r\n:1\r\n", "~1\r\n:1\r\n"]),
        "~2\r\n:1\r\n:1\r\n"
    );
    for unfit in ["~0\r\n", "*-1\r\n", "_\r\n", "%0\r\n", ":1\r\n", "*x\r\n", "*1", ""] {
        assert_eq!(gathered(Merge::Joined, &["*0\r\n", unfit]), UNFIT, "{unfit:?}");
    }
}

#[test]
fn a_union_has_each_element_once() {
    let reply = gathered(
        Merge::Union,
        &["*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*0\r\n", "*2\r\n$1\r\nb\r\n$1\r\nc\r\n"],
    );
    assert_eq!(reply, "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n");
    assert_eq!(gathered(Merge::Union, &["*0\r\n", "~0\r\n"]), UNFIT);
    assert_eq!(gathered(Merge::Union, &["*2\r\n:1\r\n", "*0\r\n"]), UNFIT);
}

#[test]
fn subscribers_are_added_by_channel() {
    let one = "*6\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n:0\r\n$1\r\na\r\n:1\r\n";
    let two = "*6\r\n$1\r\na\r\n:2\r\n$1\r\nb\r\n:5\r\n$1\r\na\r\n:2\r\n";
    assert_eq!(
        gathered(Merge::Counts, &[one, two]),
        "*6\r\n$1\r\na\r\n:3\r\n$1\r\nb\r\n:5\r\n$1\r\na\r\n:3\r\n"
    );
    assert_eq!(gathered(Merge::Counts, &["*0\r\n", "*0\r\n"]), "*0\r\n");
    let other = "*6\r\n$1\r\na\r\n:2\r\n$1\r\nx\r\n:5\r\n$1\r\na\r\n:2\r\n";
    for unfit in [other, "*0\r\n", "*1\r\n$1\r\na\r\n", ":1\r\n"] {
        assert_eq!(gathered(Merge::Counts, &[one, unfit]), UNFIT, "{unfit:?}");
    }
    assert_eq!(gathered(Merge::Counts, &["*1\r\n:1\r\n", "*1\r\n:1\r\n"]), UNFIT);
}

#[test]
fn the_error_of_the_first_part_is_the_whole_reply() {
    for merge in [Merge::Same, Merge::Sum, Merge::Least, Merge::Joined, Merge::AnyValue] {
        assert_eq!(
            gathered(merge, &["*0\r\n", "-OOM no\r\n", "!5\r\nERR x\r\n", ":1\r\n"]),
            "-OOM no\r\n",
            "{merge:?}"
        );
    }
    assert_eq!(gathered(Merge::Same, &["+OK\r\n", "+OK\r\n"]), "+OK\r\n");
}

#[test]
fn one_that_has_ended_a_script_is_enough() {
    let idle = "-NOTBUSY No scripts in execution right now.\r\n";
    let stuck = "-UNKILLABLE Sorry\r\n";
    assert_eq!(gathered(Merge::AnyDone, &[idle, "+OK\r\n", stuck]), "+OK\r\n");
    assert_eq!(gathered(Merge::AnyDone, &[idle, idle]), idle);
    assert_eq!(gathered(Merge::AnyDone, &[idle, stuck]), stuck);
}

#[test]
fn a_key_by_chance_is_one_that_some_node_has() {
    for _ in 0..50 {
        let reply = gathered(Merge::AnyValue, &["_\r\n", "$1\r\na\r\n", "$-1\r\n", "$1\r\nb\r\n"]);
        assert!(reply == "$1\r\na\r\n" || reply == "$1\r\nb\r\n", "{reply:?}");
    }
    assert_eq!(gathered(Merge::AnyValue, &["$-1\r\n", "$-1\r\n"]), "$-1\r\n");
    assert_eq!(gathered(Merge::AnyValue, &["_\r\n", "_\r\n"]), "_\r\n");
}

#[test]
fn who_replies_twice_or_was_not_asked_is_not_heard() {
    let mut gather = Gather::new(Merge::Sum, 2);
    assert_eq!(gather.take(0, b":1\r\n".to_vec()), None);
    assert_eq!(gather.take(0, b":5\r\n".to_vec()), None);
    assert_eq!(gather.take(2, b":5\r\n".to_vec()), None);
    assert_eq!(gather.take(1, b":2\r\n".to_vec()), Some(b":3\r\n".to_vec()));
    assert_eq!(gather.take(1, b":2\r\n".to_vec()), None);
}

/// What one Redis with these values says to MGET, MSET, DEL or EXISTS.
fn answer(data: &mut HashMap<Vec<u8>, Vec<u8>>, request: &[Vec<u8>]) -> Vec<u8> {
    let (name, args) = request.split_first().unwrap();
    let mut out = Vec::new();
    match name.as_slice() {
        b"MGET" => {
            encode::array_header(&mut out, args.len());
            for key in args {
                match data.get(key) {
                    Some(value) => encode::bulk(&mut out, value),
                    None => encode::null(&mut out, Version::V2),
                }
            }
        }
        b"MSET" => {
            for pair in args.chunks(2) {
                data.insert(pair[0].clone(), pair[1].clone());
            }
            encode::simple(&mut out, b"OK");
        }
        b"DEL" => {
            let gone = args.iter().filter(|key| data.remove(*key).is_some()).count();
            encode::integer(&mut out, i64::try_from(gone).unwrap());
        }
        _ => {
            let there = args.iter().filter(|key| data.contains_key(*key)).count();
            encode::integer(&mut out, i64::try_from(there).unwrap());
        }
    }
    out
}

/// The same, asked part by part.
fn answer_in_parts(data: &mut HashMap<Vec<u8>, Vec<u8>>, merge: Merge, request: &[Vec<u8>]) -> Vec<u8> {
    let Some(parts) = split_words(request).unwrap() else {
        return answer(data, request);
    };
    let mut gather = Gather::of_keys(merge, parts.iter().map(|part| part.keys.clone()).collect());
    let mut whole = None;
    for (number, part) in parts.iter().enumerate().rev() {
        whole = gather.take(number, answer(data, &words(&part.frame)));
    }
    whole.unwrap()
}

proptest! {
    #[test]
    fn a_request_in_parts_does_and_says_what_the_whole_one_does(
        requests in vec((0..4usize, vec(("[a-f]|\\{[ab]\\}[a-c]", "[\\r\\n]{0,2}[a-z]{0,3}"), 1..12)), 1..12),
    ) {
        let (mut one, mut many) = (HashMap::new(), HashMap::new());
        for (which, pairs) in requests {
            let (name, merge) = [
                ("MGET", Merge::Values), ("MSET", Merge::Same), ("DEL", Merge::Sum), ("EXISTS", Merge::Sum),
            ][which];
            let mut request = vec![name.as_bytes().to_vec()];
            for (key, value) in pairs {
                request.push(key.into_bytes());
                if name == "MSET" {
                    request.push(value.into_bytes());
                }
            }
            prop_assert_eq!(answer_in_parts(&mut many, merge, &request), answer(&mut one, &request));
            prop_assert_eq!(&many, &one);
        }
    }

    #[test]
    fn no_replies_make_it_panic(
        merge in proptest::sample::select(vec![
            Merge::Same, Merge::Values, Merge::Sum, Merge::Least, Merge::Joined,
            Merge::Union, Merge::Counts, Merge::AnyValue, Merge::AnyDone,
        ]),
        replies in vec("[-+:$*~%_!|0-3a\\r\\n]{0,16}", 1..4),
    ) {
        let keys = (0..replies.len()).map(|part| vec![part]).collect();
        let mut gather = Gather::of_keys(merge, keys);
        let mut whole = None;
        for (part, reply) in replies.iter().enumerate() {
            whole = gather.take(part, reply.clone().into_bytes());
        }
        prop_assert!(whole.is_some());
    }
}
