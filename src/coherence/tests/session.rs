//! The rules of one session: P, H, and what it must see.

use super::super::{Causality, Keys};
use super::*;

#[test]
fn a_session_with_a_command_on_a_key_on_its_way_does_not_look_the_key_up() {
    let mut session = Causality::default();
    session.forwarded(&Keys::One(1), false);
    session.forwarded(&Keys::from([1, 2].as_slice()), false);
    assert_eq!(session.may_look(1), Err(Bypass::Pipelined));
    session.answered(&Keys::One(1), false);
    assert_eq!(session.may_look(1), Err(Bypass::Pipelined));
    session.answered(&Keys::from([1, 2].as_slice()), false);
    assert_eq!((session.may_look(1), session.may_look(2)), (Ok(()), Ok(())));
}

#[test]
fn a_command_that_names_a_key_twice_is_on_its_way_once() {
    let mut session = Causality::default();
    let keys = Keys::from([1, 1].as_slice());
    session.forwarded(&keys, false);
    session.answered(&keys, false);
    assert_eq!(session.may_look(1), Ok(()));
}

#[test]
fn nothing_is_looked_up_while_unknown_effects_are_on_their_way() {
    let mut session = Causality::default();
    session.forwarded(&Keys::None, true);
    assert_eq!(session.may_look(1), Err(Bypass::UnknownEffects));
    session.answered(&Keys::None, true);
    assert_eq!(session.may_look(1), Ok(()));
}

#[test]
fn nothing_overtakes_a_read_that_is_being_fetched() {
    let mut session = Causality::default();
    session.fetching(1);
    session.fetching(1);
    assert!(!session.may_proceed(&[2, 1], false));
    assert!(session.may_proceed(&[2], false));
    assert!(!session.may_proceed(&[], true));
    session.fetched(1);
    assert!(!session.may_proceed(&[1], false) && !session.nothing_fetching());
    session.fetched(1);
    assert!(session.may_proceed(&[1], true) && session.nothing_fetching());
}

#[test]
fn what_a_session_has_seen_only_grows() {
    let mut session = Causality::default();
    session.saw(Instant::from_nanos(5));
    session.saw(Instant::from_nanos(3));
    assert_eq!(session.must_see(), Instant::from_nanos(5));
}
