//! Which requests a cell sends, and which way they go.

use std::sync::Arc;

use nearhit::load::{Order, Picker, Script, Trace};

/// Which keys, how large, in which order, read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// GET of a thousand keys of 64 bytes at random, each as likely as the other: all of them hot.
    Hot,
    /// GET of fifty thousand keys, one after the other: the second read of a key comes tens of milliseconds after the
    /// first.
    InTurn,
    /// SET of the thousand keys.
    Set,
    /// GET and SET, ten to one, of a million keys of 128 bytes by Zipf's law with exponent 0.99.
    Zipf,
    /// GET of a thousand keys of 16 KiB.
    Kib16,
    /// GET of fifty keys of 1 MiB.
    Mib1,
    /// GET of keys of 128 bytes in the order of a recording.
    Trace,
}

impl Work {
    pub(crate) const ALL: [Self; 7] = [
        Self::Hot,
        Self::InTurn,
        Self::Set,
        Self::Zipf,
        Self::Kib16,
        Self::Mib1,
        Self::Trace,
    ];

    /// What tables and plots call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hot => "GET 64 B",
            Self::InTurn => "GET in turn 64 B",
            Self::Set => "SET 64 B",
            Self::Zipf => "Zipf 10:1 128 B",
            Self::Kib16 => "GET 16 KiB",
            Self::Mib1 => "GET 1 MiB",
            Self::Trace => "GET trace 128 B",
        }
    }

    /// SETs of every 1,000 requests.
    fn sets(self) -> u32 {
        match self {
            Self::Set => 1000,
            Self::Zipf => 91,
            _ => 0,
        }
    }
}

/// Which way the requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// Straight to a redis-server that has no nearhit in front.
    Direct,
    /// The same server over its Unix socket.
    DirectUnix,
    /// Through nearhit as it comes.
    Cached,
    /// The same over its Unix socket.
    CachedUnix,
    /// The same through a stream inside this process, to so many workers.
    InProcess(usize),
    /// Through nearhit without a near-cache.
    CacheOff,
    /// Through nearhit with its near-cache, where no key is ever read twice within the admission window.
    NeverAdmitted,
    /// Through nearhit with a near-cache of 64 MiB.
    SmallCache,
    Twemproxy,
    Haproxy,
}

impl Via {
    /// What tables and plots call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::DirectUnix => "direct, unix socket",
            Self::Cached => "hit",
            Self::CachedUnix => "hit, unix socket",
            Self::InProcess(1) => "hit, in-process, one thread",
            Self::InProcess(_) => "hit, in-process, two threads",
            Self::CacheOff => "near-cache off",
            Self::NeverAdmitted => "miss",
            Self::SmallCache => "near-cache 64 MiB",
            Self::Twemproxy => "twemproxy",
            Self::Haproxy => "HAProxy",
        }
    }
}

/// What the redis-server must have seen of a cell's requests, for the cell to be what its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerSees {
    All,
    /// Every SET and some of the GETs.
    Some,
    /// No GET.
    None,
}

/// What the redis-server must see.
pub(crate) fn server_sees(work: Work, via: Via) -> ServerSees {
    match (work, via) {
        (Work::Set, _) => ServerSees::All,
        (_, Via::Cached | Via::CachedUnix | Via::InProcess(_)) => ServerSees::None,
        (_, Via::SmallCache) => ServerSees::Some,
        _ => ServerSees::All,
    }
}

/// The scripts and orders of all works.
pub(crate) struct Works {
    hot: Script,
    in_turn: Script,
    zipf: Script,
    kib16: Script,
    mib1: Script,
    trace: Option<(Script, Arc<Trace>)>,
}

impl Works {
    pub(crate) fn new(trace: Option<Trace>) -> Self {
        let trace = trace.map(|trace| (Script::new("bench:trace:", trace.unique(), 128), Arc::new(trace)));
        Self {
            hot: Script::new("bench:hot:", 1_000, 64),
            // At two million reads a second a key comes round every 25 ms.
            in_turn: Script::new("bench:turn:", 50_000, 64),
            zipf: Script::new("bench:zipf:", 1_000_000, 128),
            kib16: Script::new("bench:16k:", 1_000, 16 << 10),
            mib1: Script::new("bench:1m:", 50, 1 << 20),
            trace,
        }
    }

    /// Whether there is anything to do for this work.
    pub(crate) fn has(&self, work: Work) -> bool {
        work != Work::Trace || self.trace.is_some()
    }

    pub(crate) fn script(&self, work: Work) -> &Script {
        match work {
            Work::Hot | Work::Set => &self.hot,
            Work::InTurn => &self.in_turn,
            Work::Zipf => &self.zipf,
            Work::Kib16 => &self.kib16,
            Work::Mib1 => &self.mib1,
            Work::Trace => self.trace.as_ref().map_or(&self.hot, |(script, _)| script),
        }
    }

    /// The same sequence for all cells of a round: both sides of a ratio get the same one.
    pub(crate) fn picker(&self, work: Work, round: u32) -> Picker {
        let order = match (work, &self.trace) {
            (Work::InTurn, _) => Order::InTurn,
            (Work::Zipf, _) => Order::Zipf(0.99),
            (Work::Trace, Some((_, trace))) => Order::Trace(Arc::clone(trace)),
            _ => Order::Uniform,
        };
        Picker::new(&order, self.script(work).keys(), work.sets(), u64::from(round))
    }

    /// Every key once, read or written.
    pub(crate) fn every_key(&self, work: Work, write: bool) -> Picker {
        let sets = if write { 1000 } else { 0 };
        Picker::new(&Order::InTurn, self.script(work).keys(), sets, 1)
    }
}
