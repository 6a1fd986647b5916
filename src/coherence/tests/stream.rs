//! The byte stream and reads of several keys.

use super::*;

/// Everything a tracked connection may say, and the state it leaves behind.
fn outcome(pieces: &[&[u8]]) -> (Vec<(u32, String)>, Vec<Seen>, Instant) {
    let limits = Limits {
        max_entry: 20,
        ..eager()
    };
    let mut bench = Bench::with(limits, Policies::default());
    for key in ["a", "b", "c", "d", "k"] {
        bench.get(key);
    }
    bench.ping();
    for piece in pieces {
        bench.server(piece);
    }
    let fresh = bench.origin.stream().fresh();
    let answers = bench.answers();
    bench.validate();
    (
        answers,
        ["a", "b", "c", "d", "k"].map(|key| bench.get(key)).into(),
        fresh,
    )
}

#[test]
fn the_stream_means_the_same_wherever_it_is_cut() {
    let mut stream = b"+OK\r\n$1\r\nv\r\n:100\r\n".to_vec();
    stream.extend_from_slice(
        b"+OK\r\n%1\r\n$1\r\nf\r\n,1.5\r\n>2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\nb\r\n$1\r\nz\r\n:-1\r\n",
    );
    stream.extend_from_slice(b"+OK\r\n_\r\n:-2\r\n+OK\r\n$30\r\n012345678901234567890123456789\r\n:-1\r\n");
    stream.extend_from_slice(b">2\r\n+other\r\n:1\r\n+OK\r\n-ERR no\r\n:-1\r\n+PONG\r\n");
    let whole = outcome(&[&stream]);
    assert_eq!(whole.0.len(), 5);
    assert_eq!(whole.1[0], hit("$1\r\nv\r\n"));
    for at in 1..stream.len() {
        let (left, right) = stream.split_at(at);
        assert_eq!(outcome(&[left, right]), whole, "cut at {at}");
    }
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(outcome(&single), whole);
}

#[test]
fn frames_around_the_limit_come_whole_or_not_at_all_wherever_they_are_cut() {
    for (size, cut) in [
        (65_528, 70),
        (65_529, 70),
        (65_528, 65_537),
        (65_529, 65_537),
        (65_529, 65_536),
    ] {
        let reply = format!("${size}\r\n{}\r\n", "x".repeat(size));
        assert_eq!(reply.len(), size + 10 - usize::from(size < 10_000));
        let limits = Limits {
            max_entry: 65_538,
            ..eager()
        };
        let mut bench = Bench::with(limits, Policies::default());
        bench.get("k");
        bench.server("+OK\r\n");
        let (left, right) = reply.as_bytes().split_at(cut);
        bench.server(left);
        bench.server(right);
        let (_, answer) = bench.answers().remove(0);
        assert_eq!(answer == "home", size == 65_529, "{size} cut at {cut}");
        bench.server(":-1\r\n");
        assert_eq!(bench.entries(), usize::from(size == 65_528));
    }
}

#[test]
fn bytes_that_are_no_protocol_fence() {
    for garbage in [b"hello".as_slice(), b"$x\r\n", b">2\r\n>1\r\n+x\r\n", b"*1\r\n?"] {
        let mut bench = Bench::new();
        bench.get("k");
        assert!(
            matches!(bench.receive(garbage), Err(Fence::Protocol(_))),
            "{}",
            text(garbage)
        );
    }
}

fn peek(bench: &mut Bench, key: &'static str) -> Option<(u64, String)> {
    let mut out = Vec::new();
    let (query, sight, must_see) = (bench.query(&Read::of(key)), bench.sight(), bench.must_see);
    let serial = bench
        .cache
        .peek(&mut bench.copies, &query, sight.reader(must_see, Version::V3), &mut out)?;
    Some((serial, text(&out)))
}

fn unchanged(bench: &mut Bench, key: &'static str, serial: u64) -> bool {
    let (query, sight, must_see) = (bench.query(&Read::of(key)), bench.sight(), bench.must_see);
    bench
        .cache
        .is_unchanged(&mut bench.copies, &query, sight.reader(must_see, Version::V3), serial)
}

#[test]
fn a_second_look_succeeds_while_nothing_changed() {
    let mut bench = Bench::new();
    assert_eq!(peek(&mut bench, "k"), None);
    bench.fill("$1\r\nv\r\n", -1);
    let (serial, reply) = peek(&mut bench, "k").unwrap();
    assert_eq!(reply, "$1\r\nv\r\n");
    assert!(unchanged(&mut bench, "k", serial));
    assert!(!unchanged(&mut bench, "l", serial));
}

#[test]
fn a_second_look_fails_after_any_change() {
    let changes: [fn(&mut Bench); 6] = [
        |bench| bench.server(INVALIDATE_K),
        |bench| bench.server(INVALIDATE_ALL),
        |bench| bench.cache.kill(bench.cache.hash(b"k")),
        |bench| bench.cache.flush_by_command(),
        |bench| bench.reconnect(),
        |bench| {
            bench.server(INVALIDATE_K);
            bench.fill("$1\r\nv\r\n", -1);
        },
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut bench = Bench::new();
        bench.fill("$1\r\nv\r\n", -1);
        let (serial, _) = peek(&mut bench, "k").unwrap();
        change(&mut bench);
        assert!(!unchanged(&mut bench, "k", serial), "change {index}");
    }
}

#[test]
fn a_look_at_several_keys_keeps_the_lease_and_what_the_session_has_seen() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    let (serial, _) = peek(&mut bench, "k").unwrap();
    bench.pass(millis(1));
    bench.must_see = bench.now;
    assert_eq!(
        (peek(&mut bench, "k"), unchanged(&mut bench, "k", serial)),
        (None, false)
    );
    bench.must_see = Instant::ZERO;
    bench.pass(millis(1000));
    assert_eq!(
        (peek(&mut bench, "k"), unchanged(&mut bench, "k", serial)),
        (None, false)
    );
}
