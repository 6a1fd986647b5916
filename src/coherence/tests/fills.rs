//! Flights: who leads, who shares, who is answered and when.

use super::*;

#[test]
fn a_read_after_a_fill_is_a_hit_in_both_protocols() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    assert_eq!(bench.get("k"), hit("$1\r\nv\r\n"));
    assert_eq!(bench.read(Read::of("k").resp2()), hit("$1\r\nv\r\n"));
}

#[test]
fn resp2_readers_get_the_shape_their_protocol_has() {
    let cases = [
        (Shape::Generic, "%1\r\n+f\r\n,1.5\r\n", "*2\r\n+f\r\n$3\r\n1.5\r\n"),
        (Shape::Generic, "_\r\n", "$-1\r\n"),
        (Shape::NilArray, "_\r\n", "*-1\r\n"),
        (Shape::NilArrayElements, "*1\r\n_\r\n", "*1\r\n*-1\r\n"),
        (
            Shape::Pairs,
            "*1\r\n*2\r\n$1\r\nm\r\n,1\r\n",
            "*2\r\n$1\r\nm\r\n$1\r\n1\r\n",
        ),
    ];
    for (shape, resp3, resp2) in cases {
        let mut bench = Bench::new();
        let read = Read::of("k").command(GET, shape);
        bench.fill_of(read, resp3, -1);
        assert_eq!(bench.read(read), hit(resp3), "{shape:?}");
        assert_eq!(bench.read(read.resp2()), hit(resp2), "{shape:?}");
    }
}

#[test]
fn a_fill_goes_out_in_one_piece_with_a_select_only_when_the_database_differs() {
    let mut bench = Bench::new();
    bench.get("k");
    let fill = "*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$3\r\nYES\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*2\r\n$4\r\nPTTL\r\n$1\r\nk\r\n";
    assert_eq!(text(&std::mem::take(&mut bench.sent)), fill);
    let select = "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n";
    bench.read(Read::of("k").db(3));
    assert_eq!(text(&std::mem::take(&mut bench.sent)), format!("{select}{fill}"));
    bench.read(Read::of("k").db(3).command(STRLEN, Shape::Same));
    assert_eq!(text(&bench.sent), fill);
}

#[test]
fn one_read_leads_the_others_wait_and_all_get_the_reply() {
    let mut bench = Bench::new();
    assert_eq!(bench.get("k"), Seen::Lead(1));
    assert_eq!(bench.get("k"), Seen::Wait(2));
    assert_eq!(bench.get("k"), Seen::Wait(3));
    bench.server("+OK\r\n$1\r\nv\r\n:-1\r\n");
    let expected = [1, 2, 3].map(|waiter| (waiter, "$1\r\nv\r\n".to_string()));
    assert_eq!(bench.answers(), expected);
    assert_eq!(bench.get("k"), hit("$1\r\nv\r\n"));
}

#[test]
fn reads_that_differ_in_anything_do_not_share_a_fetch() {
    let mut bench = Bench::new();
    let read = Read::of("k");
    assert_eq!(bench.read(read), Seen::Lead(1));
    assert_eq!(bench.read(read.db(1)), Seen::Lead(2));
    assert_eq!(bench.read(read.command(STRLEN, Shape::Same)), Seen::Lead(3));
    assert_eq!(bench.read(Read { rest: "f", ..read }), Seen::Lead(4));
    assert_eq!(bench.read(Read { rest: "f", ..read }), Seen::Wait(5));
    assert_eq!(bench.read(Read::of("l")), Seen::Lead(6));
}

#[test]
fn who_began_a_fetch_is_answered_by_its_reply_and_who_joined_it_by_its_pttl() {
    let mut bench = Bench::new();
    bench.get("k");
    bench.get("k");
    bench.server("+OK\r\n$1\r\nv\r\n");
    assert_eq!(bench.answers(), [(1, "$1\r\nv\r\n".into())]);
    assert_eq!(bench.get("k"), Seen::Wait(3));
    bench.server(":-1\r\n");
    assert_eq!(bench.answers(), [(2, "$1\r\nv\r\n".into()), (3, "$1\r\nv\r\n".into())]);
    assert_eq!(bench.get("k"), hit("$1\r\nv\r\n"));
}

/// They used to get the reply although the key had expired when they asked.
#[test]
fn who_joined_a_fetch_when_its_reply_may_have_expired_asks_again() {
    for (pttl, passed, answer) in [
        ("11", 10, "$1\r\nv\r\n"),
        ("10", 10, "home"),
        ("-1", 900, "$1\r\nv\r\n"),
        // It expired, or was deleted, before PTTL was executed.
        ("-2", 0, "home"),
        ("0", 0, "home"),
    ] {
        let mut bench = Bench::new();
        bench.get("k");
        bench.pass(millis(passed));
        assert_eq!(bench.get("k"), Seen::Wait(2));
        bench.server(format!("+OK\r\n$1\r\nv\r\n:{pttl}\r\n"));
        assert_eq!(
            bench.answers(),
            [(1, "$1\r\nv\r\n".into()), (2, answer.into())],
            "{pttl} after {passed}"
        );
    }
}

#[test]
fn who_joined_a_fetch_before_its_key_was_killed_and_then_read_is_answered() {
    let mut bench = Bench::new();
    bench.get("k");
    bench.get("k");
    bench.server(INVALIDATE_K);
    bench.server("+OK\r\n$1\r\nw\r\n:-1\r\n");
    assert_eq!(bench.answers(), [1, 2].map(|waiter| (waiter, "$1\r\nw\r\n".into())));
    assert_eq!(bench.entries(), 0);
}

#[test]
fn who_joined_a_fetch_of_a_key_that_changed_behind_its_reply_asks_again() {
    let mut bench = Bench::new();
    bench.get("k");
    bench.get("k");
    bench.server("+OK\r\n$1\r\nv\r\n");
    bench.server(INVALIDATE_K);
    // The new value's.
    bench.server(":5000\r\n");
    assert_eq!(bench.answers(), [(1, "$1\r\nv\r\n".into()), (2, "home".into())]);
}

#[test]
fn nobody_joins_a_fetch_older_than_the_staleness_bound() {
    let mut bench = Bench::new();
    bench.get("k");
    bench.pass(millis(1000));
    assert_eq!(bench.get("k"), Seen::Wait(2));
    bench.pass(millis(1));
    assert_eq!(bench.get("k"), Seen::Bypass(Bypass::FlightStale));
    bench.server("+OK\r\n$1\r\nv\r\n");
    assert_eq!(bench.get("k"), Seen::Bypass(Bypass::FlightStale));
}

#[test]
fn nobody_joins_a_fetch_older_than_what_the_session_or_the_name_has_seen() {
    let mut bench = Bench::new();
    bench.get("k");
    bench.pass(millis(1));
    bench.must_see = bench.now;
    assert_eq!(bench.get("k"), Seen::Bypass(Bypass::FlightStale));
    bench.must_see = Instant::ZERO;
    assert_eq!(bench.get("k"), Seen::Wait(3));
    bench.cache.saw(bench.cache.hash(b"k"), bench.now);
    assert_eq!(bench.get("k"), Seen::Bypass(Bypass::FlightStale));
}

#[test]
fn a_fetch_of_an_earlier_connection_is_refused_and_its_waiters_go_home() {
    let mut bench = Bench::new();
    let lease = bench.lead(Read::of("k"));
    bench.reconnect();
    bench.send(lease);
    assert_eq!(bench.answers(), [(1, "home".into())]);
    assert_eq!((bench.sent.len(), bench.flights("k")), (0, 0));
    bench.validate();
}

#[test]
fn a_refused_caching_fences_and_delivers_nothing() {
    let mut bench = Bench::new();
    bench.get("k");
    let fence = bench.receive(b"-ERR CLIENT CACHING can be called only when tracking is enabled\r\n$1\r\nv\r\n:-1\r\n");
    assert_eq!(fence, Err(Fence::CachingRefused));
    assert_eq!(bench.answers(), []);
    bench.reconnect();
    assert_eq!(bench.answers(), [(1, "home".into())]);
}

#[test]
fn a_refused_select_fences_and_delivers_nothing() {
    let mut bench = Bench::new();
    bench.read(Read::of("k").db(7));
    let fence = bench.receive(b"-ERR DB index is out of range\r\n+OK\r\n$1\r\nv\r\n:-1\r\n");
    assert_eq!(fence, Err(Fence::SelectRefused));
    bench.reconnect();
    assert_eq!(bench.answers(), [(1, "home".into())]);
}

#[test]
fn a_prefetch_is_not_started_twice_and_its_joiners_are_answered() {
    let mut bench = Bench::new();
    let (query, sight) = (bench.query(&Read::of("k")), bench.sight());
    let lease = bench.cache.prefetch(&query, &sight, Instant::ZERO).unwrap();
    assert!(bench.cache.prefetch(&query, &sight, Instant::ZERO).is_none());
    bench.send(lease);
    assert_eq!(bench.get("k"), Seen::Wait(1));
    bench.server("+OK\r\n$1\r\nv\r\n:-1\r\n");
    assert_eq!(bench.answers(), [(1, "$1\r\nv\r\n".into())]);
    assert!(bench.cache.prefetch(&query, &bench.sight(), Instant::ZERO).is_none());
}

#[test]
fn a_reply_nobody_asked_for_fences() {
    for surplus in ["+OK\r\n", ":1\r\n", "$1\r\nv\r\n"] {
        let mut bench = Bench::new();
        assert!(matches!(bench.receive(surplus.as_bytes()), Err(Fence::Protocol(_))));
    }
}

#[test]
fn a_stream_that_slipped_is_noticed_where_a_reply_cannot_be_what_was_asked_for() {
    // A PING answered by a string, a PTTL by one: replies and requests no longer match, and values would be stored
    // under the wrong names.
    let mut bench = Bench::new();
    bench.ping();
    assert!(matches!(bench.receive(b"$1\r\nv\r\n"), Err(Fence::Protocol(_))));
    let mut bench = Bench::new();
    bench.get("k");
    bench.server("+OK\r\n$1\r\nv\r\n");
    assert!(matches!(bench.receive(b"+OK\r\n"), Err(Fence::Protocol(_))));
}

#[test]
fn hits_larger_than_a_copy_are_shared_whole() {
    let mut bench = Bench::new();
    let large = format!("$20000\r\n{}\r\n", "x".repeat(20_000));
    bench.fill(&large, -1);
    assert_eq!(bench.get("k"), hit(&large));
    assert_eq!(bench.read(Read::of("k").resp2()), hit(&large));
}
