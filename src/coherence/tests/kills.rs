//! What takes entries and leases away.

use super::*;

#[test]
fn an_invalidation_drops_every_database_and_every_command_of_the_name() {
    let mut bench = Bench::new();
    let reads = [
        Read::of("k"),
        Read::of("k").db(5),
        Read::of("k").command(STRLEN, Shape::Same),
    ];
    for read in reads {
        let select = if read.db == 5 { "+OK\r\n" } else { "" };
        assert!(matches!(bench.read(read), Seen::Lead(_)));
        let back = if read.command == STRLEN { "+OK\r\n" } else { "" };
        bench.server(format!("{select}{back}+OK\r\n:1\r\n:-1\r\n"));
    }
    assert_eq!(bench.entries(), 3);
    bench.server(INVALIDATE_K);
    assert_eq!((bench.entries(), bench.cache.totals().keys), (0, 0));
    bench.validate();
}

#[test]
fn an_invalidation_of_another_name_leaves_the_entry() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    bench.server(">2\r\n$10\r\ninvalidate\r\n*1\r\n$2\r\nkk\r\n");
    assert_eq!(bench.get("k"), hit("$1\r\nv\r\n"));
}

#[test]
fn an_invalidation_names_several_keys_and_keys_are_bytes() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    bench.fill_of(Read::of("l"), "$1\r\nv\r\n", -1);
    bench.server(b">2\r\n$10\r\ninvalidate\r\n*3\r\n$2\r\n\xff\x00\r\n$1\r\nk\r\n$1\r\nl\r\n");
    assert_eq!(bench.entries(), 0);
}

#[test]
fn an_invalidation_between_reply_and_pttl_revokes_the_lease() {
    let mut bench = Bench::new();
    bench.get("k");
    bench.get("k");
    bench.server("+OK\r\n$1\r\nv\r\n");
    bench.server(INVALIDATE_K);
    bench.server(":-1\r\n");
    assert_eq!(bench.answers().len(), 2);
    assert_eq!(bench.entries(), 0);
    assert_eq!(bench.get("k"), Seen::Lead(3));
}

#[test]
fn an_invalidation_before_the_reply_answers_the_waiters_and_stores_nothing() {
    let mut bench = Bench::new();
    bench.get("k");
    bench.server(INVALIDATE_K);
    bench.server("+OK\r\n$1\r\nv\r\n:-1\r\n");
    assert_eq!(bench.answers(), [(1, "$1\r\nv\r\n".into())]);
    assert_eq!((bench.entries(), bench.cache.totals().keys), (0, 0));
    bench.validate();
}

#[test]
fn a_local_write_revokes_the_lease_of_a_fetch_on_its_way() {
    let mut bench = Bench::new();
    bench.get("k");
    bench.cache.kill(bench.cache.hash(b"k"));
    bench.server("+OK\r\n$3\r\nold\r\n:-1\r\n");
    assert_eq!(bench.answers(), [(1, "$3\r\nold\r\n".into())]);
    assert_eq!(bench.entries(), 0);
}

#[test]
fn a_lookup_after_the_kill_starts_a_new_fetch_and_gets_its_reply() {
    let mut bench = Bench::new();
    assert_eq!(bench.get("k"), Seen::Lead(1));
    bench.cache.kill(bench.cache.hash(b"k"));
    assert_eq!(bench.get("k"), Seen::Lead(2));
    assert_eq!(bench.get("k"), Seen::Wait(3));
    bench.server("+OK\r\n$3\r\nold\r\n:-1\r\n+OK\r\n$3\r\nnew\r\n:-1\r\n");
    let (old, new) = ("$3\r\nold\r\n".to_string(), "$3\r\nnew\r\n".to_string());
    assert_eq!(bench.answers(), [(1, old), (2, new.clone()), (3, new)]);
    assert_eq!(bench.get("k"), hit("$3\r\nnew\r\n"));
    assert_eq!(bench.flights("k"), 0);
}

#[test]
fn the_value_of_a_killed_fetch_is_not_given_to_joiners() {
    let mut bench = Bench::new();
    bench.get("k");
    bench.server("+OK\r\n$3\r\nold\r\n");
    bench.cache.kill(bench.cache.hash(b"k"));
    assert_eq!(bench.get("k"), Seen::Lead(2));
}

#[test]
fn nobody_joins_a_fetch_begun_before_a_flush() {
    let mut bench = Bench::new();
    assert_eq!(bench.get("k"), Seen::Lead(1));
    bench.cache.flush_by_command();
    assert_eq!(bench.get("k"), Seen::Lead(2));
    bench.server("+OK\r\n$3\r\nold\r\n");
    bench.server(INVALIDATE_ALL);
    assert_eq!(bench.get("k"), Seen::Lead(3));
}

#[test]
fn a_null_push_drops_everything_and_fetches_on_their_way_are_not_stored() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    assert_eq!(bench.get("l"), Seen::Lead(2));
    bench.server(INVALIDATE_ALL);
    bench.server("+OK\r\n$1\r\nw\r\n:-1\r\n");
    assert_eq!(bench.answers().last(), Some(&(2, "$1\r\nw\r\n".into())));
    assert_eq!(bench.get("k"), Seen::Lead(3));
    assert_eq!(bench.get("l"), Seen::Lead(4));
}

#[test]
fn a_flush_by_command_drops_everything_and_fetches_begun_before_it() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    bench.get("l");
    let sight = bench.sight();
    bench.cache.flush_by_command();
    // A sight taken before the flush does not see past it.
    assert!(matches!(bench.look(Read::of("k"), &sight), (Seen::Lead(3), Some(_))));
    bench.server("+OK\r\n$1\r\nw\r\n:-1\r\n");
    assert_eq!(bench.get("l"), Seen::Lead(4));
}

#[test]
fn nothing_is_stored_while_a_command_that_changes_unnamed_keys_is_on_its_way() {
    // SWAPDB is never notified: what was fetched before it and stored while it was on its way used to be served to
    // sessions that had seen the swapped database.
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    let first = bench.cache.flushing();
    let second = bench.cache.flushing();
    bench.fill("$3\r\nold\r\n", -1);
    assert_eq!(bench.get("k"), Seen::Lead(3));
    drop(first);
    bench.server("+OK\r\n$3\r\nold\r\n:-1\r\n");
    assert_eq!(bench.get("k"), Seen::Lead(4));
    drop(second);
    bench.server("+OK\r\n$3\r\nold\r\n:-1\r\n");
    bench.fill("$3\r\nnew\r\n", -1);
    assert_eq!(bench.get("k"), hit("$3\r\nnew\r\n"));
}

#[test]
fn a_push_too_large_to_read_drops_everything() {
    let limits = Limits {
        max_entry: 64,
        ..eager()
    };
    let mut bench = Bench::with(limits, Policies::default());
    bench.fill("$1\r\nv\r\n", -1);
    let name = "n".repeat(70_000);
    bench.server(format!(">2\r\n$10\r\ninvalidate\r\n*1\r\n$70000\r\n{name}\r\n"));
    assert_eq!(bench.get("k"), Seen::Lead(2));
}

#[test]
fn pushes_of_other_kinds_answer_nobody_and_take_nothing_away() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    bench.get("l");
    bench.server("+OK\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nk\r\n$1\r\nw\r\n:-1\r\n");
    assert_eq!(bench.answers().last(), Some(&(2, "$1\r\nw\r\n".into())));
    assert_eq!(bench.get("k"), hit("$1\r\nv\r\n"));
}

#[test]
fn a_broken_redirect_and_an_announced_hand_over_fence() {
    let mut bench = Bench::new();
    let broken = bench.receive(b">2\r\n$21\r\ntracking-redir-broken\r\n:7\r\n");
    assert_eq!(broken, Err(Fence::RedirectBroken));
    for kind in ["MOVING", "MIGRATING", "FAILING_OVER", "FAILED_OVER", "SMIGRATED"] {
        let mut bench = Bench::new();
        let push = format!(">2\r\n${}\r\n{kind}\r\n:1\r\n", kind.len());
        assert_eq!(bench.receive(push.as_bytes()), Err(Fence::HandOver), "{kind}");
    }
}

#[test]
fn an_invalidation_that_cannot_be_read_fences() {
    let odd: [&[u8]; 3] = [
        b">1\r\n$10\r\ninvalidate\r\n",
        b">2\r\n$10\r\ninvalidate\r\n:1\r\n",
        b">2\r\n$10\r\ninvalidate\r\n*1\r\n:1\r\n",
    ];
    for push in odd {
        let mut bench = Bench::new();
        assert!(matches!(bench.receive(push), Err(Fence::Protocol(_))), "{}", text(push));
    }
}

#[test]
fn flush_matching_drops_what_matches_and_revokes_its_fetches() {
    let mut bench = Bench::new();
    bench.fill("$1\r\nv\r\n", -1);
    bench.fill_of(Read::of("other"), "$1\r\nv\r\n", -1);
    bench.get("kk");
    assert_eq!(bench.cache.flush_matching(|name| name.starts_with(b"k")), 1);
    bench.server("+OK\r\n$1\r\nw\r\n:-1\r\n");
    assert_eq!(bench.get("other"), hit("$1\r\nv\r\n"));
    assert_eq!(bench.entries(), 1);
    bench.validate();
}

#[test]
fn a_name_that_lost_its_slot_and_got_another_does_not_revive_an_old_lease() {
    let mut bench = Bench::new();
    let old = bench.lead(Read::of("k"));
    bench.cache.kill(bench.cache.hash(b"k"));
    assert_eq!(bench.get("k"), Seen::Lead(2));
    bench.server("+OK\r\n$3\r\nnew\r\n:-1\r\n");
    let reply = bytes::Bytes::from_static(b"$3\r\nold\r\n");
    assert_eq!(
        bench.cache.settle(old, reply, -1, bench.now).outcome,
        Err(super::super::Rejected::Race)
    );
    assert_eq!(bench.get("k"), hit("$3\r\nnew\r\n"));
    bench.validate();
}
