//! One row of the command table: all that nearhit knows about a command.

use std::borrow::Cow;

use super::flags::{Flags, flag};
use super::keys::Keys;
use super::spread::Spread;
use crate::mutants::{Mutant, mutated};
use crate::resp::{Request, Shape};

/// A row's number: dense over all rows of a table, so it can index an array of counters.
///
/// A row keeps its number when the table learns more commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct CommandId(pub(super) u16);

impl CommandId {
    /// The number itself: the command's label in metrics and in cached entries.
    pub fn number(self) -> u16 {
        self.0
    }

    /// The number as an array index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a request of this command means to the proxy.
#[derive(Clone, Debug)]
pub struct Command {
    pub(super) name: Cow<'static, str>,
    pub(super) id: CommandId,
    /// How many arguments it takes, its name included; `-n` means at least `n`. Where servers differ, the row has what the
    /// newest one accepts: what is too much for an older server is refused there.
    pub arity: i16,
    /// The flags `COMMAND` reports.
    pub flags: Flags,
    /// Where its keys are.
    pub keys: Keys,
    /// Where it may run; [`Command::place`] looks at the request too.
    pub place: Place,
    /// What it does to the keyspace, as the coherence rules see it.
    pub effect: Effect,
    /// How it is spread over the primaries of a cluster.
    pub spread: Spread,
    /// Whether replies may be cached; [`Command::cacheable`] looks at the request too.
    pub cache: Cacheable,
    /// Whether cached replies need a bound of their own because single fields of a hash may expire, which is announced
    /// late or not at all.
    pub hash_field_ttl_cap: bool,
    /// How its RESP3 reply becomes RESP2, from `shape_from` arguments on; [`Command::shape`] looks at the request too.
    pub(super) shape: Shape,
    pub(super) shape_from: usize,
    /// Whether its first argument names a subcommand that has a row of its own.
    pub container: bool,
    /// Whether it is a subcommand: its own name alone is no request.
    pub(super) subcommand: bool,
    /// Where the row's data come from.
    pub origin: Origin,
    /// What the server replies is not passed on as it is.
    pub edited: bool,
    /// The arity by which the server's `COMMAND` named it; `None`: it did not. Servers before 7.0 do not name subcommands.
    pub reported: Option<i16>,
}

/// Where a command may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Answered, or at least handled, by nearhit's own session.
    Local,
    /// On any shared connection, between other sessions' requests.
    Shared,
    /// On a connection of the session's own.
    Pinned(Pin),
    /// Nowhere: it would turn the connection into a replication stream.
    Refused,
}

/// Why a command needs a connection of its own, and so for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// MULTI, EXEC, DISCARD, WATCH, UNWATCH: until the transaction is over and nothing is watched.
    Transaction,
    /// Until its reply: it may keep the connection waiting.
    Blocking,
    /// Until the last subscription ends.
    Subscribe,
    /// Until the client leaves or says RESET.
    Monitor,
    /// Until the client leaves or says RESET: it changes what later commands of the connection do.
    Sticky,
    /// Until its reply: it may stop or close the connection.
    Once,
}

/// How the coherence rules treat a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Reads its keys and nothing else.
    Read,
    /// Writes its keys and nothing else; reading some of them counts as writing.
    Write,
    /// May write anything: scripts, modules, what nobody knows. Its keys are treated as written, too.
    Unknown,
    /// Changes what tracking does not announce, or everything at once: the cache is flushed before and after.
    Admin,
    /// Neither reads nor writes the keyspace.
    None,
    /// Reads what its arguments do not name (SCAN, DBSIZE, EVAL_RO): no later cached read of the session may be older.
    /// If it has keys, they are only read.
    KeylessRead,
}

/// Whether a command's replies may be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cacheable {
    /// They may not.
    No,
    /// They may: the command reads exactly one key, argument 1, and tracking announces each change of the reply.
    Yes,
    /// Not as a whole: MGET is put together from the entries of GET.
    Decomposed,
}

/// Where a row's data come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Held against the `COMMAND` of redis-server 7.0 by `tests/command_table.rs`.
    Verified,
    /// Taken from a public source, never held against a server here.
    Unverified(&'static str),
    /// nearhit's own command.
    Own,
    /// Learned from an upstream's `COMMAND`.
    Learned,
}

impl Command {
    /// The name in lower case; a subcommand is `container|sub`. Errors call it this, too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The row's number.
    pub fn id(&self) -> CommandId {
        self.id
    }

    /// Whether the request has as many arguments as the command takes.
    pub fn check_arity(&self, request: &Request<'_>) -> bool {
        fits(self.arity, request.len())
    }

    /// Whether the command takes so many arguments, its name included.
    pub fn takes(&self, arguments: usize) -> bool {
        fits(self.arity, arguments)
    }

    /// The same, but by what the server itself has said, if it has: for requests it is not asked about.
    pub fn check_reported_arity(&self, request: &Request<'_>) -> bool {
        fits(self.reported.unwrap_or(self.arity), request.len())
    }

    /// Calls `f` with the index of every argument that is a key, in order, or not at all.
    ///
    /// # Errors
    ///
    /// [`BadKeys`] when the arguments do not say where the keys are. The server will refuse such a request; until it has,
    /// treat it as [`Effect::Unknown`].
    pub fn for_each_key(&self, request: &Request<'_>, f: impl FnMut(usize)) -> Result<(), BadKeys> {
        self.keys.for_each(request, f)
    }

    /// Whether this request may keep its connection waiting.
    pub fn is_blocking_call(&self, request: &Request<'_>) -> bool {
        self.flags.has(flag::BLOCKING) && (self.keys != Keys::Streams || Keys::streams_block(request))
    }

    /// Where this request may run.
    pub fn place(&self, request: &Request<'_>) -> Place {
        if self.keys == Keys::Streams && self.is_blocking_call(request) {
            Place::Pinned(Pin::Blocking)
        } else {
            self.place
        }
    }

    /// Whether the reply to this request may be cached.
    pub fn cacheable(&self, request: &Request<'_>) -> Cacheable {
        // EXISTS takes many keys; only with one does the reply depend on argument 1 alone.
        let several_keys = matches!(self.keys, Keys::Range { last: -1, .. }) && request.len() > 2;
        if (mutated(Mutant::PfcountCached) && self.name == "pfcount" && !several_keys)
            || (mutated(Mutant::XpendingCached) && self.name == "xpending")
        {
            return Cacheable::Yes;
        }
        if self.cache == Cacheable::Yes && several_keys {
            Cacheable::No
        } else {
            self.cache
        }
    }

    /// Whether it runs a script or function that only reads, which the request names in argument 1 and a node may not have.
    pub fn runs_by_name(&self) -> bool {
        self.effect == Effect::KeylessRead && matches!(self.name(), "evalsha_ro" | "fcall_ro")
    }

    /// Whether a replica answers this request with so many keys as the primary would, if it has what the primary has.
    pub fn suits_replicas(&self, keys: usize, in_cluster: bool) -> bool {
        // A replica does not know that keys are on their way to another node. Of a read of one key the reply shows whether the
        // key was there; of several, and of what a script made of them, it does not.
        let may_be_gone = in_cluster && (keys > 1 || self.effect != Effect::Read);
        keys > 0
            && matches!(self.effect, Effect::Read | Effect::KeylessRead)
            && self.flags.has(flag::READONLY)
            && !may_be_gone
            // It is there for what the primary thinks of a key.
            && self.name != "touch"
    }

    /// How the RESP3 reply to this request becomes RESP2. Exact for every READONLY command but XREAD.
    pub fn shape(&self, request: &Request<'_>) -> Shape {
        if request.len() >= self.shape_from {
            self.shape
        } else {
            Shape::Generic
        }
    }
}

fn fits(arity: i16, arguments: usize) -> bool {
    let least = usize::from(arity.unsigned_abs());
    arguments == least || (arity < 0 && arguments > least)
}

/// A request whose arguments do not say where its keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKeys;

impl std::fmt::Display for BadKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the arguments do not say where the keys are")
    }
}

impl std::error::Error for BadKeys {}
