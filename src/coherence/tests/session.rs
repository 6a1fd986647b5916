//! The rules of one session: P, H, and what it must see.

use super::super::{Causality, Keys};
use super::*;
use crate::command::Effect;

#[test]
fn a_session_with_a_command_on_a_key_on_its_way_does_not_look_the_key_up() {
    let mut session = Causality::default();
    session.forwarded(&Keys::One(1), Effect::Write);
    session.forwarded(&Keys::from([1, 2].as_slice()), Effect::Write);
    assert_eq!(session.may_look(1), Err(Bypass::Pipelined));
    session.answered(&Keys::One(1), Effect::Write);
    assert_eq!(session.may_look(1), Err(Bypass::Pipelined));
    session.answered(&Keys::from([1, 2].as_slice()), Effect::Write);
    assert_eq!((session.may_look(1), session.may_look(2)), (Ok(()), Ok(())));
}

#[test]
fn a_command_that_names_a_key_twice_is_on_its_way_once() {
    let mut session = Causality::default();
    let keys = Keys::from([1, 1].as_slice());
    session.forwarded(&keys, Effect::Write);
    session.answered(&keys, Effect::Write);
    assert_eq!(session.may_look(1), Ok(()));
}

#[test]
fn nothing_is_looked_up_while_unknown_effects_are_on_their_way() {
    let mut session = Causality::default();
    session.forwarded(&Keys::None, Effect::Unknown);
    assert_eq!(session.may_look(1), Err(Bypass::UnknownEffects));
    session.answered(&Keys::None, Effect::Unknown);
    assert_eq!(session.may_look(1), Ok(()));
}

#[test]
fn nothing_overtakes_a_read_that_is_being_fetched() {
    let mut session = Causality::default();
    session.fetching(1);
    session.fetching(1);
    assert!(!session.may_proceed(&[2, 1], Effect::Read));
    assert!(session.may_proceed(&[2], Effect::Read));
    assert!(!session.may_proceed(&[], Effect::None));
    session.fetched(1);
    assert!(!session.may_proceed(&[1], Effect::Read) && !session.nothing_fetching());
    session.fetched(1);
    assert!(session.may_proceed(&[1], Effect::Unknown) && session.nothing_fetching());
}

#[test]
fn nothing_at_all_overtakes_a_read_elsewhere_of_keys_it_may_not_name() {
    let mut session = Causality::default();
    session.all_fetching(&Keys::One(1), Effect::KeylessRead);
    for (keys, effect) in [
        (&[2][..], Effect::Read),
        (&[2], Effect::Write),
        (&[], Effect::None),
        (&[1], Effect::Read),
    ] {
        assert!(!session.may_proceed(keys, effect), "{effect:?} of {keys:?}");
    }
    assert!(!session.nothing_fetching() && session.nothing_forwarded());
    session.all_fetched(&Keys::One(1), Effect::KeylessRead);
    assert!(session.may_proceed(&[1], Effect::Write) && session.nothing_fetching());
}

#[test]
fn a_session_knows_whether_anything_of_it_is_on_its_way() {
    for (keys, effect) in [(Keys::One(1), Effect::Write), (Keys::None, Effect::Unknown)] {
        let mut session = Causality::default();
        session.forwarded(&keys, effect);
        assert!(!session.nothing_forwarded());
        session.answered(&keys, effect);
        assert!(session.nothing_forwarded());
    }
}

#[test]
fn what_a_session_has_seen_only_grows() {
    let mut session = Causality::default();
    session.saw(Instant::from_nanos(5));
    session.saw(Instant::from_nanos(3));
    assert_eq!(session.must_see(), Instant::from_nanos(5));
}

#[test]
fn a_strict_session_looks_nothing_up_while_anything_of_it_is_on_its_way() {
    let mut session = Causality::strict();
    for (keys, effect) in [
        (Keys::One(1), Effect::Read),
        (Keys::One(1), Effect::Write),
        (Keys::None, Effect::KeylessRead),
        (Keys::None, Effect::Unknown),
    ] {
        session.forwarded(&keys, effect);
        assert!(session.may_look(2).is_err(), "{effect:?}");
        session.answered(&keys, effect);
        assert_eq!(session.may_look(2), Ok(()), "{effect:?}");
    }
    session.fetching(1);
    assert!(!session.may_proceed(&[2], Effect::Read));
    session.fetched(1);
    assert!(session.may_proceed(&[2], Effect::Read));
}

#[test]
fn a_strict_session_must_see_whatever_it_was_told_about_any_key() {
    let bench = Bench::new();
    for effect in [Effect::Read, Effect::Write, Effect::KeylessRead, Effect::None] {
        let (mut strict, mut lenient) = (Causality::strict(), Causality::default());
        for session in [&mut strict, &mut lenient] {
            bench.cache.returns(effect, &Keys::One(1), None, session, bench.now);
        }
        assert_eq!(strict.must_see() == bench.now, effect != Effect::None, "{effect:?}");
        assert_eq!(lenient.must_see() == bench.now, effect == Effect::KeylessRead);
    }
}
