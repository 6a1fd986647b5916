//! The replies of several nodes to one request, and the one reply that is made of them.
//!
//! ```text
//! part 1 ─reply─┐
//! part 0 ─reply─┼→ Gather ─ all are there ─→ merged reply
//! part 2 ─error─┘
//! ```
//! Parts answer in any order. All speak the version the client speaks, so that what they say is copied byte for byte.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};

use crate::command::Merge;
use crate::resp::{Version, canonical, encode, members};

/// Replies on their way to be one.
///
/// It keeps every part's reply until the last has come. While they are merged the reply they become lies beside them, and
/// sixteen bytes for each of its elements: about twice what a client is sent in the end, and no more than that for long.
#[derive(Debug)]
pub(in crate::downstream) struct Gather {
    merge: Merge,
    /// Which keys of the request each part has, for [`Merge::Values`].
    keys: Vec<Vec<usize>>,
    replies: Vec<Option<Vec<u8>>>,
    /// How many replies are not there yet.
    missing: usize,
}

impl Gather {
    /// For a request that went to so many nodes unchanged; at least one, or there will never be a reply.
    pub(in crate::downstream) fn new(merge: Merge, parts: usize) -> Self {
        debug_assert!(parts > 0, "somebody was asked");
        Self {
            merge,
            keys: Vec::new(),
            replies: vec![None; parts],
            missing: parts,
        }
    }

    /// For a request that was cut into parts with these keys, counted from 0.
    pub(in crate::downstream) fn of_keys(merge: Merge, keys: Vec<Vec<usize>>) -> Self {
        let parts = keys.len();
        Self {
            keys,
            ..Self::new(merge, parts)
        }
    }

    /// Takes the reply of a part, one whole frame; gives the merged reply if it was the last. A part that is lost replies
    /// with the error that the client is to read. Who replies twice, or was never asked, is not heard.
    pub(in crate::downstream) fn take(&mut self, part: usize, reply: Vec<u8>) -> Option<Vec<u8>> {
        let place = self.replies.get_mut(part).filter(|place| place.is_none())?;
        *place = Some(reply);
        self.missing -= 1;
        if self.missing > 0 {
            return None;
        }
        // The places stay taken, by nothing: a late reply finds none of its own.
        let replies: Vec<Vec<u8>> = self
            .replies
            .iter_mut()
            .filter_map(|place| place.replace(Vec::new()))
            .collect();
        Some(merged(self.merge, &self.keys, &replies))
    }
}

fn merged(merge: Merge, keys: &[Vec<usize>], replies: &[Vec<u8>]) -> Vec<u8> {
    if merge != Merge::AnyDone
        && let Some(error) = replies.iter().find(|reply| is_error(reply))
    {
        return error.clone();
    }
    let mut out = Vec::with_capacity(replies.iter().map(Vec::len).sum());
    let done = match merge {
        Merge::Same => same(replies, &mut out),
        Merge::Values => values(keys, replies, &mut out),
        Merge::Sum => sum(replies, &mut out),
        Merge::Least => least(replies, &mut out),
        Merge::Joined => joined(replies, &mut out),
        Merge::Union => union(replies, &mut out),
        Merge::Counts => counts(replies, &mut out),
        Merge::AnyValue => any_value(replies, &mut out),
        Merge::AnyDone => any_done(replies, &mut out),
    };
    if done.is_none() {
        out.clear();
        encode::error(
            &mut out,
            b"ERR nearhit: the nodes of the cluster gave replies that do not make one",
        );
    }
    out
}

// Each of these appends the one reply; `None`: the replies are not of the shape they should have.

fn same(replies: &[Vec<u8>], out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(replies.first()?);
    Some(())
}

fn values(keys: &[Vec<usize>], replies: &[Vec<u8>], out: &mut Vec<u8>) -> Option<()> {
    let mut values: Vec<&[u8]> = vec![&[]; keys.iter().map(Vec::len).sum()];
    for (keys, reply) in keys.iter().zip(replies) {
        let (_, elements) = elements(reply)?;
        if elements.len() != keys.len() {
            return None;
        }
        for (key, element) in keys.iter().zip(elements) {
            *values.get_mut(*key)? = element;
        }
    }
    if values.iter().any(|value| value.is_empty()) {
        return None;
    }
    encode::array_header(out, values.len());
    values.iter().for_each(|value| out.extend_from_slice(value));
    Some(())
}

fn sum(replies: &[Vec<u8>], out: &mut Vec<u8>) -> Option<()> {
    let add = |sum: i64, reply: &Vec<u8>| sum.checked_add(integer(reply)?);
    encode::integer(out, replies.iter().try_fold(0, add)?);
    Some(())
}

fn least(replies: &[Vec<u8>], out: &mut Vec<u8>) -> Option<()> {
    if replies.first()?.starts_with(b":") {
        let numbers: Option<Vec<i64>> = replies.iter().map(|reply| integer(reply)).collect();
        encode::integer(out, numbers?.into_iter().min()?);
        return Some(());
    }
    let mut least: Option<Vec<i64>> = None;
    for reply in replies {
        let numbers = elements(reply)?.1.into_iter().map(integer);
        let numbers: Vec<i64> = numbers.collect::<Option<_>>()?;
        match &mut least {
            None => least = Some(numbers),
            Some(least) if least.len() == numbers.len() => {
                let pairs = least.iter_mut().zip(numbers);
                pairs.for_each(|(least, number)| *least = number.min(*least));
            }
            Some(_) => return None,
        }
    }
    let least = least?;
    encode::array_header(out, least.len());
    least.into_iter().for_each(|number| encode::integer(out, number));
    Some(())
}

/// Only the headers are read: KEYS may name millions.
fn joined(replies: &[Vec<u8>], out: &mut Vec<u8>) -> Option<()> {
    let headers: Option<Vec<Header<'_>>> = replies.iter().map(|reply| Header::of(reply)).collect();
    let headers = headers?;
    let kind = headers.first()?.kind;
    if headers.iter().any(|header| header.kind != kind) {
        return None;
    }
    let count = headers
        .iter()
        .try_fold(0usize, |count, header| count.checked_add(header.count))?;
    open(kind, count, out);
    headers.iter().for_each(|header| out.extend_from_slice(header.body));
    Some(())
}

fn union(replies: &[Vec<u8>], out: &mut Vec<u8>) -> Option<()> {
    let (mut seen, mut all) = (HashSet::new(), Vec::new());
    let kind = Header::of(replies.first()?)?.kind;
    for reply in replies {
        let (other, elements) = elements(reply)?;
        if other != kind {
            return None;
        }
        all.extend(elements.into_iter().filter(|element| seen.insert(*element)));
    }
    open(kind, all.len(), out);
    all.iter().for_each(|element| out.extend_from_slice(element));
    Some(())
}

/// Names come in the order in which the client named them, so every reply has the same at each place.
fn counts(replies: &[Vec<u8>], out: &mut Vec<u8>) -> Option<()> {
    let (first, others) = replies.split_first()?;
    let (_, names) = elements(first)?;
    if !names.len().is_multiple_of(2) {
        return None;
    }
    let mut sums = vec![0i64; names.len() / 2];
    for reply in std::iter::once(first).chain(others) {
        let (_, pairs) = elements(reply)?;
        if pairs.len() != names.len() {
            return None;
        }
        let pairs = pairs.chunks(2).zip(names.chunks(2)).zip(&mut sums);
        for ((pair, named), sum) in pairs {
            let ([name, number], [same, _]) = (pair, named) else {
                return None;
            };
            *sum = sum.checked_add(integer(number)?).filter(|_| name == same)?;
        }
    }
    encode::array_header(out, sums.len() * 2);
    for (named, sum) in names.chunks(2).zip(sums) {
        out.extend_from_slice(named.first()?);
        encode::integer(out, sum);
    }
    Some(())
}

fn any_value(replies: &[Vec<u8>], out: &mut Vec<u8>) -> Option<()> {
    let values: Vec<&Vec<u8>> = replies.iter().filter(|reply| !is_null(reply)).collect();
    // A new state has another key each time. Nobody's safety hangs on which key is chosen.
    let chance = usize::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap_or_default();
    let chosen = values
        .get(chance.checked_rem(values.len()).unwrap_or_default())
        .copied();
    // No value at all: the server's own null, in the client's version.
    out.extend_from_slice(chosen.or(replies.first())?);
    Some(())
}

fn any_done(replies: &[Vec<u8>], out: &mut Vec<u8>) -> Option<()> {
    let done = || replies.iter().find(|reply| !is_error(reply));
    let telling = || replies.iter().find(|reply| !reply.starts_with(b"-NOTBUSY "));
    out.extend_from_slice(done().or_else(telling).or(replies.first())?);
    Some(())
}

/// The beginning of an array or a set.
struct Header<'a> {
    kind: u8,
    count: usize,
    /// What follows.
    body: &'a [u8],
}

impl<'a> Header<'a> {
    /// `None`: it is neither, or null.
    fn of(reply: &'a [u8]) -> Option<Self> {
        let (line, body) = reply.split_at_checked(memchr::memchr(b'\n', reply)? + 1)?;
        let (&kind, count) = line.strip_suffix(b"\r\n")?.split_first()?;
        let count = usize::try_from(canonical(count)?).ok()?;
        matches!(kind, b'*' | b'~').then_some(Self { kind, count, body })
    }
}

/// The elements of an array or a set, each as its own bytes, and which of both it is.
fn elements(reply: &[u8]) -> Option<(u8, Vec<&[u8]>)> {
    let header = Header::of(reply)?;
    let elements = members(reply)?;
    (elements.len() == header.count).then_some((header.kind, elements))
}

fn open(kind: u8, count: usize, out: &mut Vec<u8>) {
    match kind {
        // Only RESP3 has sets, so this came in RESP3.
        b'~' => encode::set_header(out, Version::V3, count),
        _ => encode::array_header(out, count),
    }
}

fn integer(reply: &[u8]) -> Option<i64> {
    canonical(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
}

pub(super) fn is_error(reply: &[u8]) -> bool {
    matches!(reply.first(), Some(b'-' | b'!'))
}

pub(super) fn is_null(reply: &[u8]) -> bool {
    matches!(reply, b"$-1\r\n" | b"_\r\n" | b"*-1\r\n")
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
