//! How a row of the table is written: `row(…)` and then what is special about the command.

use std::borrow::Cow;

use super::flags::{Flags, flag};
use super::keys::Keys;
use super::row::{Cacheable, Command, CommandId, Effect, Origin, Place};
use super::spread::Spread;
use crate::resp::Shape;

/// Starts a row. Unless the row says otherwise, the command runs on shared connections, is not cached, its reply follows
/// the generic rules, its effect is what flags and keys suggest ([`suggested_effect`]), and in a cluster it goes where its
/// keys are.
pub(super) const fn row(name: &'static str, arity: i16, flags: u32, keys: Keys) -> Command {
    Command {
        name: Cow::Borrowed(name),
        id: CommandId(0),
        arity,
        flags: Flags::new(flags),
        keys,
        place: Place::Shared,
        effect: suggested_effect(flags, keys),
        spread: match keys {
            Keys::None => Spread::Any,
            _ => Spread::Slot,
        },
        cache: Cacheable::No,
        hash_field_ttl_cap: false,
        shape: Shape::Generic,
        shape_from: 0,
        container: false,
        subcommand: false,
        origin: Origin::Verified,
        edited: false,
        reported: None,
    }
}

/// Starts the row of a command whose first argument is a subcommand.
pub(super) const fn container(name: &'static str, arity: i16, flags: u32) -> Command {
    let mut command = row(name, arity, flags, Keys::None);
    command.container = true;
    command
}

/// A writing command without keys must be assumed to touch everything.
const fn suggested_effect(flags: u32, keys: Keys) -> Effect {
    let flags = Flags::new(flags);
    match (
        flags.has(flag::WRITE),
        flags.has(flag::READONLY),
        matches!(keys, Keys::None),
    ) {
        (true, _, false) => Effect::Write,
        (true, _, true) => Effect::Admin,
        (false, true, false) => Effect::Read,
        (false, true, true) => Effect::KeylessRead,
        (false, false, _) => Effect::None,
    }
}

impl Command {
    pub(super) const fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    pub(super) const fn effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    pub(super) const fn spread(mut self, spread: Spread) -> Self {
        self.spread = spread;
        self
    }

    /// Its replies may be cached, and this is their shape.
    pub(super) const fn cached(mut self, shape: Shape) -> Self {
        self.cache = Cacheable::Yes;
        self.shape = shape;
        self
    }

    /// As [`Command::cached`], for a command that reads fields of a hash.
    pub(super) const fn cached_hash(mut self, shape: Shape) -> Self {
        self.hash_field_ttl_cap = true;
        self.cached(shape)
    }

    /// Its replies are put together from other commands' entries.
    pub(super) const fn decomposed(mut self) -> Self {
        self.cache = Cacheable::Decomposed;
        self
    }

    pub(super) const fn shaped(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    /// The shape holds from this many arguments on: an option that changes the reply needs them.
    pub(super) const fn when_args(mut self, count: usize) -> Self {
        self.shape_from = count;
        self
    }

    pub(super) const fn unverified(mut self, source: &'static str) -> Self {
        self.origin = Origin::Unverified(source);
        self
    }

    /// Clients read its replies with something of nearhit's in them.
    pub(super) const fn edited(mut self) -> Self {
        self.edited = true;
        self
    }

    pub(super) const fn own(mut self) -> Self {
        self.origin = Origin::Own;
        self
    }
}
