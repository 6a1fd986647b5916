//! The table itself: from a request to its row.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::row::{Command, CommandId};
use super::table;
use crate::resp::Request;

/// Longest name a row may have, `container|sub` in all. The longest known one has 34 bytes; a learned command with a longer
/// name stays unknown.
pub(super) const MAX_NAME: usize = 64;

/// All commands nearhit knows, by name.
#[derive(Clone, Debug)]
pub struct CommandTable {
    /// Invariant: `rows[i].id` is `i`.
    rows: Vec<Command>,
    /// Row numbers by the hash of the row's name. The hash has a fixed seed: only rows are stored here, and no client can
    /// add one.
    names: HashTable<CommandId>,
}

/// What a request names.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'t> {
    /// This command. A container without a subcommand is found as itself; its arity refuses it.
    Known(&'t Command),
    /// Nothing in the table.
    UnknownCommand,
    /// A command with subcommands, but none with the name of argument 1.
    UnknownSubcommand(&'t Command),
}

/// The command that was looked up last, as it was spelled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Last<'t> {
    name: [u8; 16],
    len: usize,
    command: Option<&'t Command>,
}

impl CommandTable {
    /// The commands of Redis 7.0 to 8 and Valkey 8 and 9, and nearhit's own.
    pub fn builtin() -> Self {
        let mut table = Self {
            rows: Vec::new(),
            names: HashTable::new(),
        };
        for row in table::GROUPS.iter().copied().flatten() {
            table.push(row.clone());
        }
        table
    }

    /// The row of a request, found without regard to case. Costs one hash of the name, two for a subcommand, and never
    /// allocates.
    pub fn lookup(&self, request: &Request<'_>) -> Lookup<'_> {
        let mut name = Name::default();
        let Some(command) = name
            .push(request.name())
            .and_then(|name| self.find(name))
            .filter(|row| !row.subcommand)
        else {
            return Lookup::UnknownCommand;
        };
        if !command.container || request.len() == 1 {
            return Lookup::Known(command);
        }
        match name
            .push(b"|")
            .is_some()
            .then(|| name.push(request.arg(1)))
            .flatten()
            .and_then(|name| self.find(name))
        {
            Some(subcommand) => Lookup::Known(subcommand),
            None => Lookup::UnknownSubcommand(command),
        }
    }

    /// The same, for somebody whose requests are alike: the row that `last` remembers is found without a search.
    pub fn lookup_after<'t>(&'t self, last: &mut Last<'t>, request: &Request<'_>) -> Lookup<'t> {
        let name = request.name();
        if let Some(command) = last.command
            && last.name.get(..last.len) == Some(name)
        {
            return Lookup::Known(command);
        }
        let found = self.lookup(request);
        if let Lookup::Known(command) = found
            && !command.container
            && !command.subcommand
            && let Some(place) = last.name.get_mut(..name.len())
        {
            place.copy_from_slice(name);
            (last.len, last.command) = (name.len(), Some(command));
        }
        found
    }

    /// The row with this name (lower case, `container|sub`).
    pub fn by_name(&self, name: &str) -> Option<&Command> {
        self.find(name.as_bytes())
    }

    /// The row with this number.
    pub fn get(&self, id: CommandId) -> Option<&Command> {
        self.rows.get(id.index())
    }

    /// The row with this number, as metrics and entries call it.
    pub fn by_number(&self, number: u16) -> Option<&Command> {
        self.get(CommandId(number))
    }

    /// How many rows there are; every [`CommandId`] is below.
    #[allow(clippy::len_without_is_empty, reason = "a table is never empty")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// All rows, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Command> {
        self.rows.iter()
    }

    fn find(&self, name: &[u8]) -> Option<&Command> {
        let id = self.names.find(hash(name), |id| self.is_named(*id, name))?;
        self.get(*id)
    }

    fn is_named(&self, id: CommandId, name: &[u8]) -> bool {
        self.get(id).is_some_and(|row| row.name().as_bytes() == name)
    }

    pub(super) fn row_mut(&mut self, name: &str) -> Option<&mut Command> {
        let id = self.by_name(name)?.id();
        self.rows.get_mut(id.index())
    }

    /// Another server may have other commands.
    pub(super) fn forget_reports(&mut self) {
        self.rows.iter_mut().for_each(|row| row.reported = None);
    }

    /// Adds a row; it takes the next number. A table holds at most as many rows as there are numbers.
    pub(super) fn push(&mut self, mut row: Command) {
        let Ok(number) = u16::try_from(self.rows.len()) else {
            return;
        };
        row.id = CommandId(number);
        row.subcommand = row.name().contains('|');
        let rows = &self.rows;
        let rehash = |id: &CommandId| hash(rows.get(id.index()).map_or(b"", |row| row.name().as_bytes()));
        self.names.insert_unique(hash(row.name().as_bytes()), row.id, rehash);
        self.rows.push(row);
    }
}

/// Any seed will do.
const HASHER: FixedState = FixedState::with_seed(0);

fn hash(name: &[u8]) -> u64 {
    HASHER.hash_one(name)
}

/// A name in lower case on the stack.
struct Name {
    bytes: [u8; MAX_NAME],
    len: usize,
}

impl Default for Name {
    fn default() -> Self {
        Self {
            bytes: [0; MAX_NAME],
            len: 0,
        }
    }
}

impl Name {
    /// Adds `part` and gives the whole; nothing when it is longer than any row's.
    fn push(&mut self, part: &[u8]) -> Option<&[u8]> {
        let end = self.len.checked_add(part.len())?;
        let room = self.bytes.get_mut(self.len..end)?;
        room.copy_from_slice(part);
        room.make_ascii_lowercase();
        self.len = end;
        self.bytes.get(..end)
    }
}
