//! Globs: which keys `KEYS` finds.

use nearhit::resp::{Glob, Value, Version};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::server::Server;

#[test]
fn globs_match_the_keys_that_the_server_matches() {
    let server = Server::start();
    let mut connection = server.connect(Version::V2);
    let mut keys = Vec::new();
    all_texts(b"ab-]^", 3, &mut Vec::new(), &mut keys);
    keys.extend([
        b"\\".to_vec(),
        b"a\\b".to_vec(),
        b"[a".to_vec(),
        b"a\nb".to_vec(),
        b"a/b".to_vec(),
        b"\xff\x00".to_vec(),
    ]);
    for key in &keys {
        assert_eq!(connection.call_bytes(&[b"SET", key, b"1"]), b"+OK\r\n");
    }
    let pattern = prop::collection::vec(prop::sample::select(&b"ab-]^[*?\\"[..]), 0..9);
    let mut runner = TestRunner::deterministic();
    for _ in 0..3_000 {
        let pattern = pattern.new_tree(&mut runner).expect("a pattern").current();
        let reply = Value::decode(&connection.call_bytes(&[b"KEYS", &pattern]), Version::V2).expect("an array");
        let mut expected: Vec<&[u8]> = reply
            .as_values()
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_bytes)
            .collect();
        let glob = Glob::new(&pattern);
        let mut own: Vec<&[u8]> = keys.iter().map(Vec::as_slice).filter(|key| glob.matches(key)).collect();
        expected.sort_unstable();
        own.sort_unstable();
        assert!(
            own == expected,
            "{}: {own:?} is not {expected:?}",
            pattern.escape_ascii()
        );
        assert!(own.iter().all(|key| key.starts_with(glob.prefix())));
    }
}

/// Every text of at most `longest` bytes of `alphabet`.
fn all_texts(alphabet: &[u8], longest: usize, text: &mut Vec<u8>, out: &mut Vec<Vec<u8>>) {
    out.push(text.clone());
    if text.len() == longest {
        return;
    }
    for byte in alphabet {
        text.push(*byte);
        all_texts(alphabet, longest, text, out);
        text.pop();
    }
}
