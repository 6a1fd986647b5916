//! Commands the table does not know, learned from what the upstream's `COMMAND` reports: newer servers, modules.

use std::borrow::Cow;

use super::builder::row;
use super::flags::{Flags, flag};
use super::keys::Keys;
use super::lookup::{CommandTable, MAX_NAME};
use super::row::{Command, Effect, Origin, Pin, Place};

/// How many rows a table may learn; chosen, not measured. A server with every Redis module loaded reports some 250 more.
const MAX_LEARNED: usize = 4096;

/// One entry of a `COMMAND` reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LearnedCommand {
    /// The name; a subcommand is `container|sub`.
    pub name: String,
    /// Number of arguments, negative for at least so many.
    pub arity: i64,
    /// Names of flags.
    pub flags: Vec<String>,
    /// Index of the first key, 0 for none.
    pub first: i64,
    /// Index of the last key, from the end when negative.
    pub last: i64,
    /// Distance between keys.
    pub step: i64,
    /// The subcommands, named `container|sub`.
    pub subcommands: Vec<LearnedCommand>,
}

impl CommandTable {
    /// This table with what an upstream reports added. Rows that are there already keep number, keys and meaning; only
    /// their arity grows, so that options of newer servers are not refused here. Nothing that is learned is cached.
    #[must_use]
    pub fn learn(&self, reported: &[LearnedCommand]) -> Self {
        let mut table = self.clone();
        table.forget_reports();
        for command in reported {
            table.learn_one(command);
            for subcommand in &command.subcommands {
                table.learn_one(subcommand);
            }
        }
        table
    }

    fn learn_one(&mut self, reported: &LearnedCommand) {
        let name = reported.name.to_ascii_lowercase();
        let arity = i16::try_from(reported.arity)
            .ok()
            .filter(|arity| !matches!(arity, 0 | &i16::MIN));
        let Some(arity) = arity else { return };
        if let Some(known) = self.row_mut(&name) {
            known.arity = wider(known.arity, arity);
            known.reported = Some(arity);
            // A container that has got its first subcommands.
            known.container |= !reported.subcommands.is_empty();
            return;
        }
        let learned = self.iter().filter(|row| row.origin == Origin::Learned).count();
        if !name.is_empty() && name.len() <= MAX_NAME && learned < MAX_LEARNED {
            self.push(learned_row(name, arity, reported));
        }
    }
}

/// An arity that accepts whatever either of the two accepts.
fn wider(ours: i16, theirs: i16) -> i16 {
    if ours == theirs {
        ours
    } else {
        -ours.unsigned_abs().min(theirs.unsigned_abs()).cast_signed()
    }
}

fn learned_row(name: String, arity: i16, reported: &LearnedCommand) -> Command {
    let flags = reported
        .flags
        .iter()
        .filter_map(|name| Flags::from_name(name))
        .fold(0, |all, flag| all | flag.bits());
    let keys = learned_keys(reported);
    let mut learned = row("", arity, flags, keys.unwrap_or(Keys::None));
    learned.name = Cow::Owned(name);
    learned.origin = Origin::Learned;
    learned.reported = Some(arity);
    learned.container = !reported.subcommands.is_empty();
    learned.place = Place::Pinned(Pin::Sticky);
    learned.effect = Effect::Unknown;
    if learned.name().starts_with("cluster|") {
        // Whether clients are to know of a cluster is not the server's to say.
        learned.place = Place::Local;
        return learned;
    }
    let flags = learned.flags;
    if keys.is_none() || !is_plain(flags) {
        return learned;
    }
    learned.place = Place::Shared;
    learned.effect = match (
        flags.has(flag::MODULE),
        flags.has(flag::READONLY),
        keys == Some(Keys::None),
    ) {
        (true, _, _) | (false, false, false) => Effect::Unknown,
        // The server's own writes without keys may go unannounced, as SWAPDB does.
        (false, false, true) => Effect::Admin,
        (false, true, false) => Effect::Read,
        (false, true, true) => Effect::KeylessRead,
    };
    learned
}

/// Whether a command with these flags leaves its connection as it found it: it reads or writes, its keys stand where it
/// says, and nothing hints at state.
fn is_plain(flags: Flags) -> bool {
    let odd = [
        flag::BLOCKING,
        flag::PUBSUB,
        flag::MOVABLEKEYS,
        flag::NOSCRIPT,
        flag::ADMIN,
    ];
    (flags.has(flag::READONLY) || flags.has(flag::WRITE)) && !odd.iter().any(|bit| flags.has(*bit))
}

/// The keys as reported; nothing when the numbers make no sense.
fn learned_keys(reported: &LearnedCommand) -> Option<Keys> {
    if reported.first == 0 {
        return Some(Keys::None);
    }
    let first = u16::try_from(reported.first).ok()?;
    let last = i16::try_from(reported.last).ok().filter(|last| *last != i16::MIN)?;
    let step = u16::try_from(reported.step).ok().filter(|step| *step > 0)?;
    Some(Keys::Range { first, last, step })
}
