//! The rows of the table: which requests, which way, against which baseline.

use std::fmt;

/// Which keys a workload touches, and how it chooses among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// A thousand keys at random, each as likely as the other: all of them hot.
    Hot,
    /// Fifty thousand keys, one after the other: the second read of a key comes tens of milliseconds after the first.
    InTurn,
}

/// The command that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Set,
}

/// Which way the requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// Straight to a redis-server that has no nearhit in front.
    Direct,
    /// Through nearhit as it comes.
    Cached,
    /// Through nearhit without a near-cache.
    CacheOff,
    /// Through nearhit with its near-cache, where no key is ever read twice within the admission window.
    NeverAdmitted,
}

/// What the redis-server must have seen of a workload's requests, for the workload to be what its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerSees {
    All,
    None,
}

/// One kind of work, one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    DirectGet,
    Hit,
    CacheOff,
    DirectGetInTurn,
    Miss,
    DirectSet,
    Set,
}

impl Workload {
    /// All of them, in the order in which a round measures them: a baseline stands next to what is compared with it.
    pub(crate) const ALL: [Self; 7] = [
        Self::DirectGet,
        Self::Hit,
        Self::CacheOff,
        Self::DirectGetInTurn,
        Self::Miss,
        Self::DirectSet,
        Self::Set,
    ];

    /// Those whose latency is measured on one connection.
    pub(crate) const LATENCY: [Self; 3] = [Self::DirectGet, Self::Hit, Self::CacheOff];

    /// What the table calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DirectGet => "GET direct",
            Self::Hit => "GET, hit",
            Self::CacheOff => "GET, near-cache off",
            Self::DirectGetInTurn => "GET of keys in turn direct",
            Self::Miss => "GET, miss",
            Self::DirectSet => "SET direct",
            Self::Set => "SET",
        }
    }

    /// The same requests without nearhit; `None` for a baseline itself.
    pub(crate) fn baseline(self) -> Option<Self> {
        match self {
            Self::Hit | Self::CacheOff => Some(Self::DirectGet),
            Self::Miss => Some(Self::DirectGetInTurn),
            Self::Set => Some(Self::DirectSet),
            Self::DirectGet | Self::DirectGetInTurn | Self::DirectSet => None,
        }
    }

    pub(crate) fn verb(self) -> Verb {
        match self {
            Self::DirectSet | Self::Set => Verb::Set,
            _ => Verb::Get,
        }
    }

    pub(crate) fn keys(self) -> Keys {
        match self {
            Self::DirectGetInTurn | Self::Miss => Keys::InTurn,
            _ => Keys::Hot,
        }
    }

    pub(crate) fn via(self) -> Via {
        match self {
            Self::DirectGet | Self::DirectGetInTurn | Self::DirectSet => Via::Direct,
            Self::Hit | Self::Set => Via::Cached,
            Self::CacheOff => Via::CacheOff,
            Self::Miss => Via::NeverAdmitted,
        }
    }

    pub(crate) fn server_sees(self) -> ServerSees {
        match self {
            Self::Hit => ServerSees::None,
            _ => ServerSees::All,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
