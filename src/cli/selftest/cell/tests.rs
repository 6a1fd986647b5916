//! The rules on small histories made by hand: for each, one that keeps it and one that does not.

use super::*;

const ME: u32 = 1;
const OTHER: u32 = 2;
const BOUND: Duration = Duration::from_millis(1050);

fn at(millis: u64) -> Instant {
    Instant::from_nanos(1 + millis * 1_000_000)
}

fn held(id: u64) -> Content {
    Content::Held { id, items: 0 }
}

/// A write that is sent at `invoked` and, unless `acked` is 0, acknowledged then.
fn wrote(cell: &mut Cell, writer: u32, content: Content, ttl: Ttl, invoked: u64, acked: u64) -> u64 {
    let write = Write {
        writer,
        content,
        ttl,
        moved: false,
        exclusive: false,
        invoked: at(invoked),
    };
    let number = cell.issue(&write, &mut Vec::new());
    if acked > 0 {
        cell.settle(number, Outcome::Done, ttl, at(acked), None);
    }
    number
}

/// Versions 1, 2, … with these contents, written at 10, 20, … ms and acknowledged 2 ms later.
fn history(contents: &[Content]) -> Cell {
    let mut cell = Cell::new(Kind::Text);
    for (content, number) in contents.iter().zip(1..) {
        wrote(&mut cell, OTHER, *content, Ttl::None, 10 * number, 10 * number + 2);
    }
    cell
}

fn read(invoked: u64) -> Read {
    Read {
        session: ME,
        invoked: at(invoked),
        completed: at(invoked + 1),
        bound: BOUND,
        read: 0,
        wrote: 0,
        through: 0,
        faults: 0,
    }
}

fn judged(cell: &mut Cell, read: Read, seen: Seen) -> Result<u64, Broken> {
    cell.judge(&read, seen).map(|verdict| verdict.position)
}

#[test]
fn i1_a_value_was_written_before_the_read_ended() {
    let mut cell = history(&[held(7)]);
    assert_eq!(judged(&mut cell, read(30), Seen::Id(7)), Ok(2));
    assert_eq!(judged(&mut cell, read(5), Seen::Id(7)), Err(Broken::Validity));
    assert_eq!(judged(&mut cell, read(30), Seen::Id(8)), Err(Broken::Validity));
    assert_eq!(judged(&mut cell, read(30), Seen::Torn), Err(Broken::Torn));
    assert_eq!(judged(&mut cell, read(30), Seen::Half(7)), Err(Broken::Torn));
}

#[test]
fn i1_a_write_without_effect_leaves_no_value() {
    let mut cell = history(&[held(7)]);
    let number = wrote(&mut cell, OTHER, held(8), Ttl::None, 20, 0);
    assert_eq!(judged(&mut cell, read(21), Seen::Id(8)), Ok(4));
    cell.settle(number, Outcome::Void, Ttl::None, at(25), None);
    assert_eq!(judged(&mut cell, read(30), Seen::Id(8)), Err(Broken::Validity));
    // However long ago that was, what was there before is there now.
    assert_eq!(judged(&mut cell, read(90_000), Seen::Id(7)), Ok(2));
}

#[test]
fn i2_an_old_value_may_be_read_for_the_bound_and_no_longer() {
    let mut cell = history(&[held(7), held(8)]);
    let acked = 22;
    assert_eq!(judged(&mut cell, read(acked + 1049), Seen::Id(7)), Ok(2));
    assert_eq!(
        judged(&mut cell, read(acked + 1051), Seen::Id(7)),
        Err(Broken::Staleness)
    );
    assert_eq!(
        judged(&mut cell, read(acked + 1051), Seen::Nothing),
        Err(Broken::Staleness)
    );
    assert_eq!(judged(&mut cell, read(acked + 1051), Seen::Id(8)), Ok(4));
}

#[test]
fn i2_staleness_is_counted_from_the_acknowledgement() {
    let mut cell = history(&[held(7), held(8)]);
    let late = |cell: &mut Cell, at| cell.judge(&read(at), Seen::Id(7)).map(|verdict| verdict.staleness);
    assert_eq!(late(&mut cell, 21), Ok(Duration::ZERO));
    assert_eq!(late(&mut cell, 122), Ok(Duration::from_millis(100)));
    assert_eq!(cell.tails(), [(0, 0), (100_000_000, 0)]);
}

#[test]
fn i2_a_write_of_unknown_outcome_never_becomes_due() {
    let mut cell = history(&[held(7)]);
    wrote(&mut cell, OTHER, held(8), Ttl::None, 20, 0);
    assert_eq!(judged(&mut cell, read(90_000), Seen::Id(7)), Ok(2));
    assert_eq!(judged(&mut cell, read(90_000), Seen::Id(8)), Ok(4));
}

#[test]
fn i2_an_expired_value_is_gone_two_milliseconds_later() {
    let mut cell = Cell::new(Kind::Text);
    let ttl = Ttl::Set(Duration::from_millis(100));
    wrote(&mut cell, OTHER, held(7), ttl, 10, 12);
    // Who has seen it knows that what there was before is over.
    let later = |at| Read { read: 2, ..read(at) };
    assert_eq!(judged(&mut cell, later(50), Seen::Nothing), Err(Broken::Monotonic));
    assert_eq!(judged(&mut cell, later(113), Seen::Nothing), Ok(3));
    assert_eq!(judged(&mut cell, read(114), Seen::Id(7)), Ok(2));
    assert_eq!(judged(&mut cell, read(115), Seen::Id(7)), Err(Broken::Expiry));
    // Whatever happens meanwhile.
    let delayed = |at| Read { faults: 1, ..read(at) };
    assert_eq!(judged(&mut cell, delayed(114), Seen::Id(7)), Ok(2));
    assert_eq!(judged(&mut cell, delayed(115), Seen::Id(7)), Err(Broken::Expiry));
}

#[test]
fn i3_a_session_reads_what_it_wrote_or_later() {
    let mut cell = history(&[held(7), held(8), held(9)]);
    let after_own = Read { wrote: 4, ..read(33) };
    assert_eq!(judged(&mut cell, after_own, Seen::Id(8)), Ok(4));
    assert_eq!(judged(&mut cell, after_own, Seen::Id(9)), Ok(6));
    assert_eq!(judged(&mut cell, after_own, Seen::Id(7)), Err(Broken::OwnWrites));
}

#[test]
fn i3_a_read_does_not_see_what_its_session_sends_behind_it() {
    let mut cell = history(&[held(7)]);
    wrote(&mut cell, ME, held(8), Ttl::None, 20, 0);
    assert_eq!(judged(&mut cell, read(20), Seen::Id(8)), Err(Broken::OwnWrites));
    let other = Read {
        session: OTHER + 1,
        ..read(20)
    };
    assert_eq!(judged(&mut cell, other, Seen::Id(8)), Ok(4));
}

#[test]
fn i4_a_session_does_not_read_backwards() {
    let mut cell = history(&[held(7), held(8)]);
    let seen = judged(&mut cell, read(23), Seen::Id(8)).unwrap();
    let next = Read { read: seen, ..read(24) };
    assert_eq!(judged(&mut cell, next, Seen::Id(8)), Ok(4));
    assert_eq!(judged(&mut cell, next, Seen::Id(7)), Err(Broken::Monotonic));
    assert_eq!(judged(&mut cell, read(24), Seen::Id(7)), Ok(2));
}

#[test]
fn i4_what_has_expired_does_not_come_back() {
    let mut cell = Cell::new(Kind::Text);
    wrote(&mut cell, OTHER, held(7), Ttl::Set(Duration::from_millis(100)), 10, 50);
    let gone = judged(&mut cell, Read { read: 2, ..read(120) }, Seen::Nothing).unwrap();
    let next = Read {
        read: gone,
        ..read(121)
    };
    assert_eq!(judged(&mut cell, next, Seen::Id(7)), Err(Broken::Monotonic));
    assert_eq!(judged(&mut cell, read(121), Seen::Id(7)), Ok(2));
}

#[test]
fn i4_a_weak_sight_raises_nothing_it_does_not_prove() {
    let mut cell = history(&[held(7), Content::Nothing, held(8), Content::Nothing]);
    // It may have been the first or the second time that there was nothing.
    assert_eq!(judged(&mut cell, Read { read: 2, ..read(50) }, Seen::Nothing), Ok(4));
    assert_eq!(
        judged(&mut cell, Read { read: 2, ..read(50) }, Seen::Exists(true)),
        Ok(2)
    );
    assert_eq!(judged(&mut cell, Read { read: 6, ..read(50) }, Seen::Nothing), Ok(8));
}

#[test]
fn i5_what_was_acknowledged_through_an_instance_is_seen_through_it() {
    let mut cell = history(&[held(7)]);
    let number = wrote(&mut cell, OTHER, held(8), Ttl::None, 20, 0);
    cell.settle(number, Outcome::Done, Ttl::None, at(22), Some(1));
    for (instance, fits) in [(Some(0), true), (Some(1), false), (None, true)] {
        let read = Read {
            through: cell.through(instance),
            ..read(23)
        };
        let expected = if fits { Ok(2) } else { Err(Broken::Visibility) };
        assert_eq!(judged(&mut cell, read, Seen::Id(7)), expected, "{instance:?}");
        assert_eq!(judged(&mut cell, read, Seen::Id(8)), Ok(4));
    }
}

#[test]
fn i7_two_increments_do_not_make_the_same_value() {
    let mut counter = Cell::new(Kind::Counter);
    (0..2).for_each(|_| counter.issue_increment(at(10), &mut Vec::new()));
    assert_eq!(counter.claim(1, at(12), None), Ok(()));
    assert_eq!(counter.claim(1, at(13), None), Err(Broken::LostUpdate));
    assert_eq!(counter.claim(2, at(13), None), Ok(()));
    assert_eq!(counter.claim(3, at(13), None), Err(Broken::Validity));
}

#[test]
fn a_counter_that_was_seen_had_all_values_below() {
    let mut counter = Cell::new(Kind::Counter);
    (0..3).for_each(|_| counter.issue_increment(at(10), &mut Vec::new()));
    assert_eq!(judged(&mut counter, read(20), Seen::Id(2)), Ok(4));
    assert_eq!(
        judged(&mut counter, read(21 + 1051), Seen::Id(1)),
        Err(Broken::Staleness)
    );
    assert_eq!(judged(&mut counter, read(21 + 1051), Seen::Id(2)), Ok(4));
    assert_eq!(judged(&mut counter, read(20), Seen::Id(4)), Err(Broken::Validity));
}

#[test]
fn who_asks_the_server_itself_sees_what_it_acknowledged() {
    let mut cell = history(&[held(7), held(8)]);
    let direct = Read {
        bound: Duration::ZERO,
        ..read(22)
    };
    assert_eq!(judged(&mut cell, direct, Seen::Id(7)), Err(Broken::Staleness));
    assert_eq!(
        judged(
            &mut cell,
            Read {
                invoked: at(21),
                ..direct
            },
            Seen::Id(7)
        ),
        Ok(2)
    );
}

#[test]
fn what_the_server_may_drop_may_be_missing_and_stays_so() {
    let mut cell = history(&[held(7)]);
    let later = |at| Read { read: 2, ..read(at) };
    assert_eq!(judged(&mut cell, later(40), Seen::Nothing), Err(Broken::Monotonic));
    cell.may_vanish(at(45));
    assert_eq!(judged(&mut cell, later(43), Seen::Nothing), Err(Broken::Monotonic));
    assert_eq!(judged(&mut cell, later(50), Seen::Nothing), Ok(3));
    assert_eq!(judged(&mut cell, later(50), Seen::Half(7)), Ok(2));
    let gone = Read { read: 3, ..read(51) };
    assert_eq!(judged(&mut cell, gone, Seen::Id(7)), Err(Broken::Monotonic));
    // Whoever asked for one of a pair has seen that it is gone; the other may still be there.
    assert_eq!(judged(&mut cell, gone, Seen::Half(7)), Ok(3));
}

#[test]
fn one_session_writes_a_key_at_a_time() {
    let mut cell = Cell::new(Kind::Text);
    assert!(cell.may_write(ME, true));
    let number = wrote(&mut cell, ME, held(7), Ttl::None, 10, 0);
    assert!(cell.may_write(ME, false) && !cell.may_write(ME, true) && !cell.may_write(OTHER, false));
    cell.settle(number, Outcome::Done, Ttl::None, at(12), None);
    assert!(cell.may_write(OTHER, true));
}

#[test]
fn old_versions_are_dropped_but_never_the_one_that_holds() {
    let mut cell = history(&[held(7), held(8)]);
    let mut tails = Vec::new();
    let void = wrote(&mut cell, OTHER, held(9), Ttl::None, 30, 0);
    cell.settle(void, Outcome::Void, Ttl::None, at(32), None);
    cell.drop_old(at(60_000), &mut tails);
    assert_eq!(judged(&mut cell, read(60_000), Seen::Id(8)), Ok(4));
    assert_eq!(judged(&mut cell, read(60_000), Seen::Id(7)), Err(Broken::Validity));
    assert_eq!(tails, [(0, 0)]);
}

/// A write without effect hid that what is there may have vanished; SWAPDB then carried it over as certain.
#[test]
fn what_may_have_vanished_is_carried_past_a_write_without_effect() {
    let mut cell = history(&[held(7)]);
    cell.may_vanish(at(15));
    let void = wrote(&mut cell, OTHER, held(7), Ttl::None, 20, 0);
    cell.settle(void, Outcome::Void, Ttl::None, at(22), None);
    assert_eq!(cell.vanishes(), at(15));
}

#[test]
fn i4_a_value_that_is_being_moved_back_may_have_been_read_before_it_was_overwritten() {
    let mut cell = history(&[held(7), held(8)]);
    let back = Write {
        writer: OTHER,
        content: held(7),
        ttl: Ttl::None,
        moved: true,
        exclusive: true,
        invoked: at(30),
    };
    cell.issue(&back, &mut Vec::new());
    // Sent when it was the newest, answered when a COPY that brings it back was on its way.
    let early = Read {
        completed: at(31),
        ..read(11)
    };
    assert_eq!(judged(&mut cell, early, Seen::Id(7)), Ok(2));
}
