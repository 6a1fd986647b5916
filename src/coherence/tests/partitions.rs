//! Several origins in one near-cache: one for each user.

use super::super::MAX_ORIGINS;
use super::*;

/// Two users who have both read `k`.
fn two() -> (Bench, Bench) {
    let mut alice = Bench::new();
    let mut bob = alice.beside();
    alice.fill("$1\r\na\r\n", -1);
    bob.fill("$1\r\nb\r\n", -1);
    (alice, bob)
}

#[test]
fn an_entry_of_one_origin_is_never_served_under_another() {
    let mut alice = Bench::new();
    let mut bob = alice.beside();
    alice.fill("$1\r\na\r\n", -1);
    assert_eq!(alice.get("k"), hit("$1\r\na\r\n"));
    assert_eq!(bob.get("k"), Seen::Lead(1));
    bob.server("+OK\r\n$1\r\nb\r\n:-1\r\n");
    assert_eq!(bob.get("k"), hit("$1\r\nb\r\n"));
    assert_eq!(alice.get("k"), hit("$1\r\na\r\n"));
    alice.validate();
}

#[test]
fn nobody_joins_a_fetch_of_another_origin() {
    let mut alice = Bench::new();
    let mut bob = alice.beside();
    assert_eq!(alice.get("k"), Seen::Lead(1));
    assert_eq!(bob.get("k"), Seen::Lead(1));
    alice.server("+OK\r\n$1\r\na\r\n");
    assert_eq!(alice.get("k"), Seen::Wait(2));
    assert_eq!(bob.get("k"), Seen::Wait(2));
}

#[test]
fn a_lost_stream_touches_its_own_entries_only() {
    let (mut alice, mut bob) = two();
    alice.reconnect();
    assert_eq!(alice.get("k"), Seen::Lead(2));
    assert_eq!(bob.get("k"), hit("$1\r\nb\r\n"));
    alice.cache.sweep(alice.now);
    assert_eq!(alice.entries(), 1);
    bob.server(INVALIDATE_ALL);
    alice.server("+OK\r\n$1\r\na\r\n:-1\r\n");
    assert_eq!(alice.get("k"), hit("$1\r\na\r\n"));
    assert_eq!(bob.get("k"), Seen::Lead(3));
}

#[test]
fn a_kill_takes_a_name_from_all_origins() {
    let kills: [fn(&mut Bench); 3] = [
        |alice| alice.cache.kill(alice.cache.hash(b"k")),
        |alice| alice.server(INVALIDATE_K),
        |alice| _ = alice.cache.flush_key(b"k"),
    ];
    for (index, kill) in kills.into_iter().enumerate() {
        let (mut alice, mut bob) = two();
        kill(&mut alice);
        assert_eq!(
            (alice.get("k"), bob.get("k")),
            (Seen::Lead(2), Seen::Lead(2)),
            "{index}"
        );
    }
}

#[test]
fn a_kill_revokes_the_leases_of_all_origins() {
    let mut alice = Bench::new();
    let mut bob = alice.beside();
    alice.get("k");
    bob.get("k");
    alice.cache.kill(alice.cache.hash(b"k"));
    for user in [&mut alice, &mut bob] {
        user.server("+OK\r\n$3\r\nold\r\n:-1\r\n");
        assert_eq!(user.get("k"), Seen::Lead(2));
    }
}

#[test]
fn a_flush_by_a_command_is_everybodys() {
    let (mut alice, mut bob) = two();
    let flushing = alice.cache.flushing();
    alice.fill("$1\r\na\r\n", -1);
    bob.fill("$1\r\nb\r\n", -1);
    drop(flushing);
    assert_eq!((alice.get("k"), bob.get("k")), (Seen::Lead(3), Seen::Lead(3)));
    let (mut alice, mut bob) = two();
    alice.origin.flush();
    assert_eq!((alice.get("k"), bob.get("k")), (Seen::Lead(2), hit("$1\r\nb\r\n")));
}

#[test]
fn what_one_has_seen_of_a_name_needs_a_newer_proof_from_all() {
    let (mut alice, mut bob) = two();
    alice.pass(millis(1));
    bob.pass(millis(1));
    alice.cache.saw(alice.cache.hash(b"k"), alice.now);
    assert_eq!((alice.get("k"), bob.get("k")), (Seen::Lead(2), Seen::Lead(2)));
    assert!(bob.ping_helps);
}

#[test]
fn an_origin_that_takes_the_number_of_one_that_is_gone_serves_none_of_its_entries() {
    let (mut alice, mut bob) = two();
    let late = alice.lead(Read::of("l"));
    alice.cache.close(&alice.origin);
    let mut carol = bob.beside();
    assert_eq!(carol.origin.number(), alice.origin.number());
    assert_eq!(carol.get("k"), Seen::Lead(1));
    // What was on its way for the one that is gone is not kept for the one that came.
    let reply = bytes::Bytes::from_static(b"$1\r\na\r\n");
    assert!(alice.cache.settle(late, reply, -1, alice.now).outcome.is_err());
    assert_eq!(carol.get("l"), Seen::Lead(2));
    carol.server("+OK\r\n$1\r\nc\r\n:-1\r\n");
    // Nor is it served to those who have not heard yet, who drop nothing of the new one either.
    assert_eq!(alice.get("k"), Seen::Bypass(Bypass::NotLive));
    assert_eq!(carol.get("k"), hit("$1\r\nc\r\n"));
    assert_eq!(bob.get("k"), hit("$1\r\nb\r\n"));
}

#[test]
fn entries_of_an_origin_that_is_gone_give_their_memory_back() {
    let (alice, mut bob) = two();
    alice.cache.close(&alice.origin);
    alice.cache.sweep(alice.now);
    assert_eq!(bob.entries(), 1);
    assert_eq!(bob.get("k"), hit("$1\r\nb\r\n"));
    bob.validate();
}

#[test]
fn there_are_so_many_origins_at_most() {
    let bench = Bench::new();
    let origins: Vec<_> = std::iter::from_fn(|| bench.cache.open()).collect();
    assert_eq!(origins.len(), MAX_ORIGINS - 1);
    bench.cache.close(&origins[7]);
    // Closing again what was closed does not end the one that has its number now.
    let next = bench.cache.open().unwrap();
    bench.cache.close(&origins[7]);
    assert!(bench.cache.open().is_none());
    next.stream().go_live();
    assert!(next.stream().is_live());
}
