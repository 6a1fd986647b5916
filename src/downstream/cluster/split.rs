//! A request of several keys, cut into one request for each of their slots.
//!
//! ```text
//! MSET a 1 b 2 {a}c 3 ─→ slot of a: MSET a 1 {a}c 3   keys 0, 2
//!                        slot of b: MSET b 2          keys 1
//! ```
//! A node would refuse a part with keys of two slots even if it has both, so there is a part for each slot and not for
//! each node. Keys of one slot stay together in their order: the last value of a key that is set twice wins as ever.

use std::collections::HashMap;

use crate::command::{Command, Keys, Slot, error_text};
use crate::resp::{Request, encode};

/// What one slot gets of a request.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::downstream) struct Part {
    /// The slot of all its keys.
    pub(in crate::downstream) slot: Slot,
    /// The request to send, in its canonical bytes.
    pub(in crate::downstream) frame: Vec<u8>,
    /// Which of the keys of the whole request it has, counted from 0, in order.
    pub(in crate::downstream) keys: Vec<usize>,
}

/// The parts of a request whose row says [`Spread::Keys`](crate::command::Spread::Keys), in the order in which their slots
/// come first; `None`: it has one slot only, and goes there as it is. Costs O(n) for n arguments, and copies all of them.
///
/// `Err` is what the client is told instead: a key without its value. Nothing was sent then, as the server sets nothing.
pub(in crate::downstream) fn split(command: &Command, request: &Request<'_>) -> Result<Option<Vec<Part>>, Vec<u8>> {
    let Keys::Range { first, step, .. } = command.keys else {
        return Ok(None);
    };
    let (first, step) = (usize::from(first), usize::from(step.max(1)));
    let groups = by_slot((first..request.len()).step_by(step).map(|at| request.arg(at)));
    if groups.len() < 2 {
        return Ok(None);
    }
    if !request.len().saturating_sub(first).is_multiple_of(step) {
        return Err(error_text::wrong_arity(command));
    }
    let part = |(slot, keys): (Slot, Vec<usize>)| {
        let mut frame = Vec::new();
        encode::array_header(&mut frame, first + keys.len() * step);
        let head = request.args_from(0).take(first);
        let rest = keys
            .iter()
            .flat_map(|key| request.args_from(first + key * step).take(step));
        head.chain(rest).for_each(|arg| encode::bulk(&mut frame, arg));
        Part { slot, frame, keys }
    };
    Ok(Some(groups.into_iter().map(part).collect()))
}

/// Which keys each slot has; slots in the order of their first keys.
fn by_slot<'a>(keys: impl Iterator<Item = &'a [u8]>) -> Vec<(Slot, Vec<usize>)> {
    let mut groups: Vec<(Slot, Vec<usize>)> = Vec::new();
    // There are 16384 slots, so no client can make this slow by its choice of keys.
    let mut places = HashMap::new();
    for (number, key) in keys.enumerate() {
        let slot = Slot::of(key);
        let place = *places.entry(slot).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, keys)) => keys.push(number),
            None => groups.push((slot, vec![number])),
        }
    }
    groups
}

#[cfg(test)]
pub(in crate::downstream) mod tests {
    use super::*;
    use crate::command::{CommandTable, Lookup};
    use crate::resp::{RequestLimits, RequestScanner};

    /// The arguments of a request in its canonical bytes.
    pub(in crate::downstream) fn words(frame: &[u8]) -> Vec<Vec<u8>> {
        let mut scanner = RequestScanner::new(RequestLimits::default());
        scanner.scan(frame).unwrap();
        let request = scanner.request(frame);
        assert_eq!(request.frame(), frame, "canonical");
        request.args_from(0).map(<[u8]>::to_vec).collect()
    }

    /// What becomes of the request with these arguments.
    pub(in crate::downstream) fn split_words<A: AsRef<[u8]>>(args: &[A]) -> Result<Option<Vec<Part>>, Vec<u8>> {
        let mut frame = Vec::new();
        encode::request(&mut frame, args.iter().map(AsRef::as_ref));
        let mut scanner = RequestScanner::new(RequestLimits::default());
        scanner.scan(&frame).unwrap();
        let request = scanner.request(&frame);
        let table = CommandTable::builtin();
        let Lookup::Known(command) = table.lookup(&request) else {
            panic!("a known command")
        };
        split(command, &request)
    }

    /// Parts as text: slot, request, keys.
    fn told(args: &str) -> Vec<(u16, String, Vec<usize>)> {
        let args: Vec<_> = args.split(' ').collect();
        let parts = split_words(&args).unwrap().unwrap_or_default();
        let text = |part: Part| {
            let words = words(&part.frame).join(&b' ');
            (part.slot.get(), String::from_utf8(words).unwrap(), part.keys)
        };
        parts.into_iter().map(text).collect()
    }

    #[test]
    fn each_slot_gets_its_keys_in_their_order() {
        assert_eq!(
            told("mget foo bar {foo}x bar hello"),
            [
                (12182, "mget foo {foo}x".into(), vec![0, 2]),
                (5061, "mget bar bar".into(), vec![1, 3]),
                (866, "mget hello".into(), vec![4]),
            ]
        );
    }

    #[test]
    fn a_value_goes_with_its_key() {
        assert_eq!(
            told("MSET foo 1 bar 2 foo bar"),
            [
                (12182, "MSET foo 1 foo bar".into(), vec![0, 2]),
                (5061, "MSET bar 2".into(), vec![1]),
            ]
        );
    }

    #[test]
    fn what_has_one_slot_stays_whole() {
        for whole in [
            "DEL foo",
            "DEL foo {foo}x foo",
            "MSET foo bar foo hello",
            "MSET foo 1 foo",
        ] {
            assert_eq!(told(whole), [], "{whole}");
        }
    }

    #[test]
    fn a_key_without_its_value_is_refused_before_anything_is_set() {
        let error = b"ERR wrong number of arguments for 'mset' command".to_vec();
        assert_eq!(split_words(&["MSET", "foo", "1", "bar"]), Err(error));
    }

    #[test]
    fn many_keys_are_split_in_one_pass() {
        let keys: Vec<String> = (0..100_000).map(|number| format!("key:{number}")).collect();
        let args: Vec<&str> = std::iter::once("UNLINK")
            .chain(keys.iter().map(String::as_str))
            .collect();
        let parts = split_words(&args).unwrap().unwrap();
        assert!(parts.len() > 16_000 && parts.len() <= 16_384, "{}", parts.len());
        assert_eq!(parts.iter().map(|part| part.keys.len()).sum::<usize>(), keys.len());
        for part in &parts[..100] {
            for (word, key) in words(&part.frame).iter().skip(1).zip(&part.keys) {
                assert_eq!((word.as_slice(), Slot::of(word)), (keys[*key].as_bytes(), part.slot));
            }
        }
    }
}
