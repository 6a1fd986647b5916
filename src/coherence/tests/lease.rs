//! The lease on the whole cache: what the tracked connection has proved, for whom it is enough, and its end.

use super::*;

#[test]
fn hits_stop_when_nothing_was_answered_for_the_staleness_bound() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    bench.pass(millis(1000));
    assert_eq!(bench.get("k"), hit("$1\r\nv\r\n"));
    bench.pass(millis(1));
    assert_eq!(bench.get("k"), Seen::Lead(3));
    assert!(bench.ping_helps);
}

#[test]
fn a_pong_of_the_same_connection_makes_entries_servable_again() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    bench.pass(millis(5000));
    bench.ping();
    bench.server("+PONG\r\n");
    assert_eq!(bench.get("k"), hit("$1\r\nv\r\n"));
}

#[test]
fn what_is_proved_is_the_time_of_sending_not_of_the_answer() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    bench.ping();
    bench.pass(millis(900));
    bench.server("+PONG\r\n");
    bench.pass(millis(101));
    assert_eq!(bench.get("k"), Seen::Lead(2));
}

#[test]
fn answers_out_of_time_never_take_a_proof_back() {
    let mut bench = Bench::new();
    let stream = bench.origin.stream();
    stream.renew(Instant::from_nanos(20));
    stream.renew(Instant::from_nanos(10));
    assert_eq!(stream.fresh(), Instant::from_nanos(20));
    bench.ping();
    bench.server("-LOADING Redis is loading the dataset in memory\r\n");
    assert_eq!(stream.fresh(), Instant::from_nanos(20));
}

#[test]
fn a_user_who_may_not_ping_has_a_proof_all_the_same() {
    let mut bench = Bench::new();
    bench.ping();
    bench.server("-NOPERM this user has no permissions to run the 'ping' command\r\n");
    assert_eq!(bench.origin.stream().fresh(), bench.now);
}

#[test]
fn nothing_is_served_while_rights_may_have_changed() {
    let mut bench = Bench::new();
    bench.cache.prove_rights(bench.now.after(millis(100)));
    bench.fill("$1\r\nv\r\n", -1);
    assert_eq!(bench.get("k"), hit("$1\r\nv\r\n"));
    bench.pass(millis(100));
    assert_eq!(bench.get("k"), Seen::Lead(3));
    bench.cache.prove_rights(bench.now.after(millis(100)));
    assert_eq!(bench.get("k"), hit("$1\r\nv\r\n"));
}

#[test]
fn while_nobody_can_watch_rights_no_entry_lives_longer_than_a_second() {
    let mut bench = Bench::new();
    assert!(bench.cache.set_rights_unwatched(true));
    assert!(!bench.cache.set_rights_unwatched(true), "it was so before");
    bench.fill("$1\r\nv\r\n", -1);
    bench.pass(millis(999));
    bench.ping();
    bench.server("+PONG\r\n");
    assert_eq!(bench.get("k"), hit("$1\r\nv\r\n"));
    bench.pass(millis(1));
    assert_eq!(bench.get("k"), Seen::Lead(3));
    assert!(!bench.cache.set_rights_unwatched(false));
}

#[test]
fn an_entry_older_than_what_was_seen_of_its_name_needs_a_newer_proof() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    bench.pass(millis(1));
    bench.cache.saw(bench.cache.hash(b"k"), bench.now);
    bench.ping();
    bench.pass(millis(1));
    assert_eq!(bench.get("k"), Seen::Lead(2));
    assert!(bench.ping_helps);
    // Sent at the very time of the sight: it left after that clock was read, so it proves enough.
    bench.server("+PONG\r\n");
    assert_eq!(bench.get("k"), hit("$1\r\nv\r\n"));
}

#[test]
fn a_session_that_saw_more_than_is_proved_is_not_served_while_others_are() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    bench.pass(millis(2));
    bench.must_see = bench.now;
    assert_eq!(bench.get("k"), Seen::Lead(2));
    bench.must_see = Instant::ZERO;
    assert_eq!(bench.get("k"), hit("$1\r\nv\r\n"));
    bench.must_see = bench.now;
    bench.server("+OK\r\n$1\r\nv\r\n:-1\r\n");
    assert_eq!(bench.get("k"), hit("$1\r\nv\r\n"));
}

#[test]
fn a_sight_taken_before_a_proof_claims_less_not_more() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    bench.pass(millis(2000));
    let early = bench.sight();
    bench.ping();
    bench.server("+PONG\r\n");
    assert!(matches!(bench.look(Read::of("k"), &early).0, Seen::Lead(_)));
}

#[test]
fn a_lost_connection_ends_its_entries_and_fetches_and_sends_waiters_home() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    bench.get("l");
    bench.get("l");
    bench.answers();
    bench.reconnect();
    assert_eq!(bench.answers(), [(2, "home".into()), (3, "home".into())]);
    assert_eq!(bench.get("k"), Seen::Lead(4));
    assert_eq!(bench.flights("l"), 0);
    bench.validate();
}

#[test]
fn a_fill_of_a_lost_connection_is_not_stored_under_the_next_one() {
    let mut bench = Bench::new();
    let lease = bench.lead(Read::of("k"));
    let reply = bytes::Bytes::from_static(b"$1\r\nv\r\n");
    bench.reconnect();
    assert_eq!(bench.cache.arrived(&lease, true), Some(1));
    let settled = bench.cache.settle(lease, reply, -1, bench.now);
    assert_eq!(settled.outcome, Err(super::super::Rejected::Race));
    assert_eq!(bench.get("k"), Seen::Lead(2));
}

#[test]
fn the_proof_of_a_lost_connection_is_no_proof_for_the_next_one() {
    let mut bench = Bench::new();
    let before = bench.origin.stream();
    bench.reconnect();
    bench.fill("$1\r\nv\r\n", -1);
    bench.pass(millis(2000));
    before.renew(bench.now);
    assert_eq!(bench.get("k"), Seen::Lead(2));
}

#[test]
fn a_connection_that_was_given_up_never_goes_live_again() {
    let bench = Bench::new();
    let lost = bench.origin.fence();
    let next = bench.origin.fence();
    lost.go_live();
    assert!(!lost.is_live());
    next.go_live();
    assert!(next.is_live() && bench.origin.is_current(&next));
}

#[test]
fn a_sight_of_the_lost_connection_serves_nothing_and_drops_nothing_of_the_next_one() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    let early = bench.sight();
    bench.reconnect();
    assert_eq!(bench.look(Read::of("k"), &early).0, Seen::Bypass(Bypass::NotLive));
    bench.fill("$1\r\nw\r\n", -1);
    assert_eq!(bench.look(Read::of("k"), &early).0, Seen::Bypass(Bypass::NotLive));
    assert_eq!(bench.get("k"), hit("$1\r\nw\r\n"));
}

#[test]
fn nothing_is_fetched_or_served_before_tracking_is_on() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    bench.origin.fence();
    assert_eq!(bench.get("k"), Seen::Bypass(Bypass::NotLive));
}

#[test]
fn an_idle_connection_is_pinged_after_a_third_of_the_bound() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    bench.sent.clear();
    bench.pass(millis(333));
    bench.tracked.tick(bench.now, &mut bench.sent).unwrap();
    assert_eq!(text(&bench.sent), "");
    bench.pass(millis(1));
    bench.tracked.tick(bench.now, &mut bench.sent).unwrap();
    bench.tracked.tick(bench.now, &mut bench.sent).unwrap();
    assert_eq!(text(&bench.sent), "*1\r\n$4\r\nPING\r\n");
}

#[test]
fn a_connection_silent_for_twice_the_bound_is_given_up() {
    let mut bench = Bench::new();
    bench.get("k");
    bench.pass(millis(2000));
    assert_eq!(bench.tracked.tick(bench.now, &mut bench.sent), Ok(()));
    bench.pass(millis(1));
    assert_eq!(bench.tracked.tick(bench.now, &mut bench.sent), Err(Fence::Silent));
}
