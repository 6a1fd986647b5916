//! How a command is spread over the primaries of a cluster whose client knows of none, and what makes one reply of many.
//!
//! A row says it ([`Command::spread`]); unless it does, a command with keys goes where its keys are and one without to any
//! node. `tests/command_spread.rs` holds the rows against the tips that `COMMAND` gives to clients of a cluster.

use super::row::Command;
use super::slot::Slot;
use crate::resp::Request;

/// Which primaries of a cluster a command goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// To the one that has the slot of all its keys, of which there may be none: [`Command::slot`].
    Slot,
    /// To all that have some of its keys, one request for each slot: it does for each key what it does for that key alone.
    /// Only for [`Keys::Range`](super::Keys::Range), and only while the slots differ.
    Keys(Merge),
    /// To all that have some of its keys, which are HyperLogLogs: a GET for each of them, whose union is counted. Only while the
    /// slots differ, and as [`Spread::Keys`] only for keys from argument 1 on.
    Sketches,
    /// To all of them, unchanged.
    All(Merge),
    /// To one after another, as long as the client asks on.
    Scan,
    /// To any one.
    Any,
}

/// How the replies of several nodes become one. An error of any node is the whole reply, unless it says otherwise here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// They say the same: the first of them.
    Same,
    /// Arrays of values, one for each key: in the order of the keys.
    Values,
    /// Integers: their sum.
    Sum,
    /// Integers, or arrays of as many of them: the smallest, at each place.
    Least,
    /// Arrays: one behind the other.
    Joined,
    /// Arrays: what is in any of them, once.
    Union,
    /// Arrays of the same names, each followed by a number: the names with the sums.
    Counts,
    /// One that is no null, by chance; a node with few keys is as likely chosen as one with many.
    AnyValue,
    /// It is enough that one did it: the first that is no error, else an error that says more than NOTBUSY, else the first.
    AnyDone,
}

impl Command {
    /// The slot of all keys of a request. `None`: it has no keys, or does not say where they are, which any node will
    /// tell the client in the server's own words.
    ///
    /// # Errors
    ///
    /// [`CrossSlot`] when its keys are of several slots.
    pub fn slot(&self, request: &Request<'_>) -> Result<Option<Slot>, CrossSlot> {
        let (mut first, mut differ) = (None, false);
        let walked = self.for_each_key(request, |index| {
            let slot = Slot::of(request.arg(index));
            differ |= *first.get_or_insert(slot) != slot;
        });
        match walked {
            Ok(()) => match first {
                Some(first) if differ => Err(CrossSlot { first }),
                _ => Ok(first),
            },
            Err(_) => Ok(None),
        }
    }
}

/// The keys of a request are of several slots. As text it is [`CrossSlot::TEXT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossSlot {
    /// The slot of the first key.
    pub first: Slot,
}

impl CrossSlot {
    /// What a node of a cluster says to that.
    pub const TEXT: &str = "CROSSSLOT Keys in request don't hash to the same slot";
}

impl std::fmt::Display for CrossSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(Self::TEXT)
    }
}

impl std::error::Error for CrossSlot {}

#[cfg(test)]
#[path = "spread_tests.rs"]
mod tests;
