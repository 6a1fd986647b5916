//! Where the keys of a request are.
//!
//! Each rule follows what the server itself does with such a request; `tests/command_keys.rs` holds them against
//! `COMMAND GETKEYS`. Nothing here trusts a number in a request: counts are parsed strictly and compared with what is there.

use super::row::BadKeys;
use crate::resp::Request;

/// How to find a command's keys among its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// It has none.
    None,
    /// Every `step`th argument from `first` to `last`; a negative `last` counts from the end, -1 being the last argument.
    Range {
        /// Index of the first key.
        first: u16,
        /// Index of the last key.
        last: i16,
        /// Distance between keys.
        step: u16,
    },
    /// Argument `at` says how many keys follow it, `step` arguments apart.
    Counted {
        /// Index of the count.
        at: u16,
        /// Distance between keys.
        step: u16,
        /// Whether a key in argument 1 is written, too.
        stored: bool,
        /// Whether the count may be zero.
        optional: bool,
    },
    /// Half of the arguments behind the option STREAMS.
    Streams,
    /// Argument 1, and what follows the last STORE.
    Sort,
    /// Argument 1, and what follows the last STORE or STOREDIST.
    GeoRadius {
        /// Index of the first option.
        options: u16,
    },
    /// Argument 3, or if that is empty all arguments behind KEYS.
    Migrate,
}

/// One key, in argument 1.
pub(super) const KEY: Keys = key(1);
/// No keys.
pub(super) const NO_KEYS: Keys = Keys::None;

/// One key, in argument `index`.
pub(super) const fn key(index: u16) -> Keys {
    Keys::Range {
        first: index,
        last: index.cast_signed(),
        step: 1,
    }
}

/// Keys from `first` to `last`, which counts from the end when negative.
pub(super) const fn keys(first: u16, last: i16, step: u16) -> Keys {
    Keys::Range { first, last, step }
}

/// Argument `at` is the number of keys behind it.
pub(super) const fn counted(at: u16) -> Keys {
    Keys::Counted {
        at,
        step: 1,
        stored: false,
        optional: false,
    }
}

/// As [`counted`], and argument 1 is written.
pub(super) const fn stored_counted(at: u16) -> Keys {
    Keys::Counted {
        at,
        step: 1,
        stored: true,
        optional: false,
    }
}

/// As [`counted`], with values between the keys.
pub(super) const fn counted_pairs(at: u16) -> Keys {
    Keys::Counted {
        at,
        step: 2,
        stored: false,
        optional: false,
    }
}

/// As [`counted`], and there may be none: scripts.
pub(super) const fn counted_or_none(at: u16) -> Keys {
    Keys::Counted {
        at,
        step: 1,
        stored: false,
        optional: true,
    }
}

impl Keys {
    /// Calls `f` with the index of every key, in order, or not at all.
    pub(super) fn for_each(self, request: &Request<'_>, f: impl FnMut(usize)) -> Result<(), BadKeys> {
        let count = request.len();
        match self {
            Self::None => Ok(()),
            // The usual case, in fewer steps: one key.
            Self::Range { first, last, .. } if last == first.cast_signed() => {
                let first = usize::from(first);
                (first < count).then_some(first).into_iter().for_each(f);
                Ok(())
            }
            Self::Range { first, last, step } => range(count, first, last, step).map(|keys| keys.for_each(f)),
            Self::Counted {
                at,
                step,
                stored,
                optional,
            } => {
                let keys = counted_range(request, usize::from(at), usize::from(step), optional)?;
                stored.then_some(1).into_iter().chain(keys).for_each(f);
                Ok(())
            }
            Self::Streams => streams(request).map(|keys| keys.for_each(f)),
            Self::Sort => first_and(count, sort_store(request), f),
            Self::GeoRadius { options } => first_and(count, geo_store(request, usize::from(options)), f),
            Self::Migrate => migrate(request).map(|keys| keys.for_each(f)),
        }
    }

    /// Whether XREAD or XREADGROUP was given BLOCK.
    pub(super) fn streams_block(request: &Request<'_>) -> bool {
        stream_options(request).1
    }
}

/// The last key is where the row says; one that lies before the first is a request the server refuses. Where the arity
/// allows the keys to be left out (SUNSUBSCRIBE), there are none.
fn range(count: usize, first: u16, last: i16, step: u16) -> Result<impl Iterator<Item = usize>, BadKeys> {
    let first = usize::from(first);
    if first >= count {
        return Ok((0..=0).step_by(1).take(0));
    }
    let back = usize::from(last.unsigned_abs());
    let last = if last < 0 {
        count.checked_sub(back).ok_or(BadKeys)?
    } else {
        back
    };
    if last >= count || last < first {
        return Err(BadKeys);
    }
    Ok((first..=last).step_by(usize::from(step.max(1))).take(usize::MAX))
}

fn counted_range(
    request: &Request<'_>,
    at: usize,
    step: usize,
    optional: bool,
) -> Result<impl Iterator<Item = usize> + use<>, BadKeys> {
    let step = step.max(1);
    let wanted = canonical_count(request.arg(at)).ok_or(BadKeys)?;
    let first = at.checked_add(1).ok_or(BadKeys)?;
    let there = request.len().saturating_sub(first) / step;
    if wanted > there || (wanted == 0 && !optional) {
        return Err(BadKeys);
    }
    Ok((first..).step_by(step).take(wanted))
}

/// A count as the server reads one: decimal digits without sign, blanks or leading zeros.
fn canonical_count(digits: &[u8]) -> Option<usize> {
    if digits.len() > 1 && digits.first() == Some(&b'0') {
        return None;
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    digits.iter().try_fold(0usize, |number, digit| {
        number.checked_mul(10)?.checked_add(usize::from(digit - b'0'))
    })
}

/// The index of STREAMS, if the options before it are well-formed, and whether BLOCK is among them. STREAMS may also be
/// the name of a group or a stream, so options are read in order.
fn stream_options(request: &Request<'_>) -> (Option<usize>, bool) {
    let mut blocks = false;
    let mut index = 1;
    while index < request.len() {
        let option = request.arg(index);
        let values = match option {
            _ if is(option, b"streams") => return (Some(index), blocks),
            _ if is(option, b"noack") => 0,
            _ if is(option, b"count") || is(option, b"claim") => 1,
            _ if is(option, b"group") => 2,
            _ if is(option, b"block") => {
                blocks = true;
                1
            }
            _ => break,
        };
        index += 1 + values;
    }
    (None, blocks)
}

fn streams(request: &Request<'_>) -> Result<std::ops::Range<usize>, BadKeys> {
    let first = stream_options(request).0.ok_or(BadKeys)? + 1;
    let rest = request.len().saturating_sub(first);
    if rest == 0 || rest % 2 != 0 {
        return Err(BadKeys);
    }
    Ok(first..first + rest / 2)
}

fn first_and(count: usize, store: Option<usize>, f: impl FnMut(usize)) -> Result<(), BadKeys> {
    if count < 2 {
        return Err(BadKeys);
    }
    [Some(1), store].into_iter().flatten().for_each(f);
    Ok(())
}

/// The last STORE counts, and options are skipped with their values, as the server's parser does.
fn sort_store(request: &Request<'_>) -> Option<usize> {
    let mut store = None;
    let mut index = 2;
    while index < request.len() {
        let option = request.arg(index);
        let left = request.len() - index - 1;
        let values = match option {
            _ if is(option, b"limit") && left >= 2 => 2,
            _ if is(option, b"store") && left >= 1 => {
                store = Some(index + 1);
                1
            }
            _ if (is(option, b"by") || is(option, b"get")) && left >= 1 => 1,
            _ => 0,
        };
        index += 1 + values;
    }
    store
}

/// The last of STORE and STOREDIST counts.
fn geo_store(request: &Request<'_>, options: usize) -> Option<usize> {
    let mut store = None;
    let mut index = options;
    while index + 1 < request.len() {
        let option = request.arg(index);
        let stores = is(option, b"store") || is(option, b"storedist");
        if stores {
            store = Some(index + 1);
        }
        index += 1 + usize::from(stores);
    }
    store
}

fn migrate(request: &Request<'_>) -> Result<std::ops::Range<usize>, BadKeys> {
    let count = request.len();
    if count < 4 {
        return Err(BadKeys);
    }
    let mut index = 6;
    while index < count {
        let option = request.arg(index);
        if is(option, b"keys") {
            // Both a key and KEYS: the server refuses it. KEYS without any does nothing.
            let empty = request.arg(3).is_empty();
            return if empty { Ok(index + 1..count) } else { Err(BadKeys) };
        }
        index += match option {
            _ if is(option, b"auth") => 2,
            _ if is(option, b"auth2") => 3,
            _ => 1,
        };
    }
    Ok(3..4)
}

fn is(argument: &[u8], option: &[u8]) -> bool {
    argument.eq_ignore_ascii_case(option)
}
