//! What is asked: operations by kind of key, their mix, and the phases a run goes through.

use super::cell::Kind;
use std::time::Duration;

/// An operation on keys, as it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Get,
    /// GET within a script that declares no key.
    EvalGet,
    /// The same within one that declares it, which a replica may run.
    EvalGetDeclared,
    Strlen,
    Exists,
    Type,
    Mget,
    Hget,
    Hgetall,
    Hlen,
    Lrange,
    Llen,
    Zrange,
    Zscore,
    Zcard,
    MgetPair,
    Set,
    SetPx,
    ExecSet,
    EvalSet,
    EvalSetUndeclared,
    Del,
    Pexpire,
    Persist,
    Rename,
    Copy,
    Hset,
    ExecHset,
    EvalList,
    ExecList,
    Blpop,
    Zadd,
    ExecZadd,
    Mset,
    ExecMset,
    EvalMset,
    DelPair,
    /// MSET and DEL of keys that nobody writes as a whole.
    MsetMany,
    DelMany,
    Incr,
    EvalIncr,
    EvalIncrUndeclared,
    ExecIncr,
    CasIncr,
    /// Everything was dropped or swapped by the checker itself.
    Fault,
}

impl Op {
    /// Reads of one key of this kind. What stands there twice is asked twice as often.
    pub(super) fn reads(kind: Kind) -> &'static [Self] {
        use Op::*;
        match kind {
            Kind::Text => &[Get, Get, Get, Get, Mget, Strlen, Exists, Type, EvalGet, EvalGetDeclared],
            Kind::Hash => &[Hgetall, Hgetall, Hget, Hlen, Exists, Type],
            Kind::List => &[Lrange, Lrange, Llen, Exists, Type],
            Kind::Zset => &[Zrange, Zrange, Zscore, Zcard, Exists, Type],
            Kind::Pair => &[MgetPair, MgetPair, Get],
            Kind::Counter => &[Get, Get, Get, Strlen, EvalGet, EvalGetDeclared],
            Kind::Cas => &[Get],
        }
    }

    /// Writes of this kind of key.
    pub(super) fn writes(kind: Kind) -> &'static [Self] {
        use Op::*;
        match kind {
            Kind::Text => &[
                Set,
                Set,
                Set,
                SetPx,
                SetPx,
                ExecSet,
                EvalSet,
                EvalSetUndeclared,
                Del,
                Pexpire,
                Persist,
                Rename,
                Copy,
            ],
            Kind::Hash => &[Hset, Hset, ExecHset, Del, Pexpire, Persist],
            Kind::List => &[EvalList, ExecList, Blpop, Blpop, Del],
            Kind::Zset => &[Zadd, Zadd, ExecZadd, Del, Pexpire],
            Kind::Pair => &[Mset, Mset, ExecMset, EvalMset, DelPair],
            Kind::Counter => &[Incr, Incr, EvalIncr, EvalIncrUndeclared, ExecIncr],
            Kind::Cas => &[],
        }
    }

    /// What is asked instead before a cluster: a node runs no script on keys that it is not told, and nearhit splits writes
    /// over the nodes.
    pub(super) fn before_a_cluster(self) -> Self {
        match self {
            Self::EvalGet => Self::Get,
            Self::EvalSetUndeclared => Self::MsetMany,
            Self::EvalIncrUndeclared => Self::EvalIncr,
            Self::Del => Self::DelMany,
            other => other,
        }
    }

    /// What a node of a cluster itself is asked instead.
    pub(super) fn at_a_node(self) -> Self {
        match self {
            Self::EvalGet | Self::Mget => Self::Get,
            Self::EvalSetUndeclared => Self::EvalSet,
            Self::EvalIncrUndeclared => Self::EvalIncr,
            other => other,
        }
    }

    /// Whether the server is told which keys a write is about.
    pub(super) fn is_declared(self) -> bool {
        !matches!(self, Self::EvalSetUndeclared | Self::EvalIncrUndeclared)
    }

    /// Whether what the write makes depends on what is there.
    pub(super) fn is_relative(self) -> bool {
        use Op::*;
        // HSET and ZADD keep the TTL of what is there.
        matches!(self, Pexpire | Persist | Rename | Copy | Blpop | Hset | Zadd)
    }

    /// Whether it is sent as MULTI, commands, EXEC.
    pub(super) fn is_transaction(self) -> bool {
        use Op::*;
        matches!(
            self,
            ExecSet | ExecHset | ExecList | ExecZadd | ExecMset | ExecIncr | CasIncr
        )
    }

    /// Whether some of its keys may be written although others are not.
    pub(super) fn is_scattered(self) -> bool {
        matches!(self, Self::MsetMany | Self::DelMany)
    }

    /// Whether it is a script: an error may come from its middle.
    pub(super) fn is_script(self) -> bool {
        use Op::*;
        matches!(
            self,
            EvalSet | EvalSetUndeclared | EvalList | EvalMset | EvalIncr | EvalIncrUndeclared
        )
    }
}

/// Which kinds the keys of a database have, again and again.
const KINDS: [Kind; 10] = [
    Kind::Text,
    Kind::Counter,
    Kind::Hash,
    Kind::Text,
    Kind::Pair,
    Kind::List,
    Kind::Text,
    Kind::Zset,
    Kind::Cas,
    Kind::Text,
];

/// The kind of the key with this index.
pub(super) fn kind_of(index: usize) -> Kind {
    KINDS.get(index % KINDS.len()).copied().unwrap_or(Kind::Text)
}

/// A part of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phase {
    /// Of 1,000 operations of clients of nearhit, how many read.
    pub(super) reads: u64,
    /// Whether foreign writers pause between their batches.
    pub(super) calm: bool,
}

/// How long a phase lasts.
const PHASE: Duration = Duration::from_secs(2);

const PHASES: [Phase; 5] = [
    Phase { reads: 990, calm: true },
    Phase { reads: 950, calm: true },
    Phase {
        reads: 500,
        calm: false,
    },
    Phase { reads: 990, calm: true },
    Phase {
        reads: 900,
        calm: false,
    },
];

impl Phase {
    /// The phase so long after the start.
    pub(super) fn at(elapsed: Duration) -> Self {
        let number = elapsed.as_millis() / PHASE.as_millis();
        let index = usize::try_from(number).unwrap_or(0) % PHASES.len();
        PHASES.get(index).copied().unwrap_or(PHASES[0])
    }
}

/// Small and seeded.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Different streams of one seed have nothing in common that matters here.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = seed ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self((mixed ^ (mixed >> 31)) | 1)
    }

    /// A number below `limit`; 0 when there is none.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11).checked_rem(limit).unwrap_or(0)
    }

    /// An index below `limit`.
    pub(super) fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap_or(0)
    }

    /// One of `all`, which is not empty.
    pub(super) fn pick<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(self.index(all.len())).copied()
    }

    /// Between `least` and `most` milliseconds.
    pub(super) fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least + 1))
    }

    /// In a random order.
    pub(super) fn shuffle<T>(&mut self, all: &mut [T]) {
        for index in (1..all.len()).rev() {
            let other = self.index(index + 1);
            all.swap(index, other);
        }
    }
}
