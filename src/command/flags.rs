//! The flags of a command, named and set as `COMMAND` reports them.

/// A set of flags; the single flags are the constants of [`flag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags(u32);

impl Flags {
    /// The flags whose bits are set in `bits`.
    pub const fn new(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits, as in [`flag`].
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `bits` are set.
    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }

    /// The flag that `COMMAND` calls `name`; nothing for a name nearhit does not carry.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|&(_, bit)| Self(bit))
    }

    /// The names of the flags that are set, as `COMMAND` writes them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .iter()
            .filter(move |(_, bit)| self.has(*bit))
            .map(|&(name, _)| name)
    }
}

/// One bit a flag. They are plain integers so that a row of the table can join them with `|` in a constant.
pub mod flag {
    /// Modifies the keyspace.
    pub const WRITE: u32 = 1;
    /// Only reads; the server tracks its keys.
    pub const READONLY: u32 = 1 << 1;
    /// Refused when the server is out of memory.
    pub const DENYOOM: u32 = 1 << 2;
    /// An administrator's command.
    pub const ADMIN: u32 = 1 << 3;
    /// About channels.
    pub const PUBSUB: u32 = 1 << 4;
    /// Not allowed in scripts.
    pub const NOSCRIPT: u32 = 1 << 5;
    /// May keep its connection waiting.
    pub const BLOCKING: u32 = 1 << 6;
    /// Allowed while the server loads its data.
    pub const LOADING: u32 = 1 << 7;
    /// Allowed on a replica with stale data.
    pub const STALE: u32 = 1 << 8;
    /// Not shown to MONITOR.
    pub const SKIP_MONITOR: u32 = 1 << 9;
    /// Not written to the slow log.
    pub const SKIP_SLOWLOG: u32 = 1 << 10;
    /// Takes a slot that is being imported.
    pub const ASKING: u32 = 1 << 11;
    /// O(1) or O(log n).
    pub const FAST: u32 = 1 << 12;
    /// Allowed before AUTH.
    pub const NO_AUTH: u32 = 1 << 13;
    /// Not a write, but may be sent to replicas. Redis keeps this one to itself: `COMMAND` does not report it.
    pub const MAY_REPLICATE: u32 = 1 << 14;
    /// Its keys may be absent.
    pub const NO_MANDATORY_KEYS: u32 = 1 << 15;
    /// Not allowed while data are loaded in the background.
    pub const NO_ASYNC_LOADING: u32 = 1 << 16;
    /// Not allowed in a transaction.
    pub const NO_MULTI: u32 = 1 << 17;
    /// Allowed while a script runs.
    pub const ALLOW_BUSY: u32 = 1 << 18;
    /// Where its keys are depends on its arguments.
    pub const MOVABLEKEYS: u32 = 1 << 19;
    /// Added by a module.
    pub const MODULE: u32 = 1 << 20;
}

const NAMES: &[(&str, u32)] = &[
    ("write", flag::WRITE),
    ("readonly", flag::READONLY),
    ("denyoom", flag::DENYOOM),
    ("admin", flag::ADMIN),
    ("pubsub", flag::PUBSUB),
    ("noscript", flag::NOSCRIPT),
    ("blocking", flag::BLOCKING),
    ("loading", flag::LOADING),
    ("stale", flag::STALE),
    ("skip_monitor", flag::SKIP_MONITOR),
    ("skip_slowlog", flag::SKIP_SLOWLOG),
    ("asking", flag::ASKING),
    ("fast", flag::FAST),
    ("no_auth", flag::NO_AUTH),
    ("may_replicate", flag::MAY_REPLICATE),
    ("no_mandatory_keys", flag::NO_MANDATORY_KEYS),
    ("no_async_loading", flag::NO_ASYNC_LOADING),
    ("no_multi", flag::NO_MULTI),
    ("allow_busy", flag::ALLOW_BUSY),
    ("movablekeys", flag::MOVABLEKEYS),
    ("module", flag::MODULE),
];
