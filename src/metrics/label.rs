//! Label values as closed enums: a label can only take the values written here, so series cannot grow without bound.

/// A label of a metric: its name and every value it can take.
///
/// Invariant: `ALL` is in index order and `index()` is below `ALL.len()`.
pub trait Label: Copy + 'static {
    /// The label's name, such as `reason`.
    const NAME: &'static str;
    /// Every value, in index order.
    const ALL: &'static [Self];
    /// The value as it is written, such as `slow_reader`.
    fn value(self) -> &'static str;
    /// The value's place in `ALL`.
    fn index(self) -> usize;
}

/// The labels of one row: none, one, or two.
pub trait Labels: Copy + 'static {
    /// How many combinations there are.
    const COUNT: usize;
    /// Every combination, in index order.
    fn all() -> Vec<Self>;
    /// The combination's place among all.
    fn index(self) -> usize;
    /// Names and values, as they are written.
    fn pairs(self) -> Vec<(&'static str, &'static str)>;
}

impl<L: Label> Labels for L {
    const COUNT: usize = L::ALL.len();

    fn all() -> Vec<Self> {
        L::ALL.to_vec()
    }

    fn index(self) -> usize {
        Label::index(self)
    }

    fn pairs(self) -> Vec<(&'static str, &'static str)> {
        vec![(L::NAME, self.value())]
    }
}

impl<A: Label, B: Label> Labels for (A, B) {
    const COUNT: usize = A::ALL.len() * B::ALL.len();

    fn all() -> Vec<Self> {
        A::ALL.iter().flat_map(|a| B::ALL.iter().map(|b| (*a, *b))).collect()
    }

    fn index(self) -> usize {
        Label::index(self.0) * B::ALL.len() + Label::index(self.1)
    }

    fn pairs(self) -> Vec<(&'static str, &'static str)> {
        vec![(A::NAME, self.0.value()), (B::NAME, self.1.value())]
    }
}

/// Writes an enum and its [`Label`] from one list: value, spelling, meaning.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident = $key:literal { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl Label for $name {
            const NAME: &'static str = $key;
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn value(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)+
                }
            }

            #[inline]
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(super) use label;

mod upstream;

pub use upstream::{ChannelOp, ChannelOutcome, ConnectResult, FenceResult, Lost, Pool, Retry, RouteReason, RouteTo};

label! {
    /// How a command ended, from the client's point of view.
    Outcome = "outcome" {
        /// Answered from memory.
        Hit = "hit",
        /// Asked the near-cache, was fetched upstream.
        Miss = "miss",
        /// Passed on without asking the near-cache.
        Bypass = "bypass",
        /// Passed on, and may have changed data.
        Write = "write",
        /// Answered by nearhit itself: PING, HELLO, SELECT.
        Local = "local",
        /// Answered with an error, whoever made it.
        Error = "error",
    }
}

label! {
    /// Who made the error a client was given.
    Origin = "origin" {
        /// nearhit: this is what a service level objective counts.
        Proxy = "proxy",
        /// The server; it was passed on unchanged.
        Upstream = "upstream",
    }
}

label! {
    /// Why a client was given an error.
    ErrorKind = "kind" {
        /// No answer in time.
        Timeout = "timeout",
        /// No connection to the server.
        Connect = "connect",
        /// Bytes that are not the protocol.
        Protocol = "protocol",
        /// A limit or a full queue.
        Overload = "overload",
        /// Not allowed: NOAUTH, NOPERM, a refused command.
        Denied = "denied",
        /// MOVED, ASK or CLUSTERDOWN.
        Moved = "moved",
        /// The server is out of memory.
        Oom = "oom",
        /// Everything else, such as WRONGTYPE.
        Other = "other",
    }
}

label! {
    /// Which way bytes went, seen from nearhit.
    Direction = "direction" {
        /// Read by nearhit.
        In = "in",
        /// Written by nearhit.
        Out = "out",
    }
}

label! {
    /// Why a client's connection ended.
    Disconnect = "reason" {
        /// The client closed it.
        Eof = "eof",
        /// A limit of this client or of all clients was reached.
        Limit = "limit",
        /// The client sent what is not RESP.
        Protocol = "protocol",
        /// The client did not read its replies.
        SlowReader = "slow_reader",
        /// The upstream connection this client was pinned to was lost.
        Upstream = "upstream",
        /// The client was silent for longer than it may be.
        Idle = "idle",
        /// nearhit stops.
        Drain = "drain",
        /// An operator or CLIENT KILL closed it.
        Kill = "kill",
        /// The socket failed.
        Io = "io",
    }
}

label! {
    /// Whose subscriptions are counted.
    Subscriber = "subscriber" {
        /// Clients', to nearhit.
        Client = "client",
        /// nearhit's own on clients' behalf, to the server.
        Shared = "shared",
    }
}

label! {
    /// Why a subscriber was closed.
    SubscriberLoss = "reason" {
        /// It did not read its messages.
        Slow = "slow",
        /// The connection its messages came by was lost.
        Upstream = "upstream",
    }
}

label! {
    /// What the near-cache said to a request it was asked about, or why it was not.
    CacheResult = "result" {
        /// Answered from memory.
        Hit = "hit",
        /// Fetched upstream by this request.
        Miss = "miss",
        /// Answered from memory: the key does not exist.
        NegativeHit = "negative_hit",
        /// Answered by a fetch that another request had started.
        Coalesced = "coalesced",
        /// Passed on; see [`Bypass`] for the reason.
        Bypass = "bypass",
    }
}

label! {
    /// Why a cacheable request passed the near-cache by.
    Bypass = "reason" {
        /// Earlier requests of the same client are still under way.
        Pipelined = "pipelined",
        /// Nothing is cached for the client's user: there are too many users at once.
        SessionState = "session_state",
        /// The key's first read: not worth a slot yet.
        Cold = "cold",
        /// The key is written about as often as it is read: its last fetches served nobody before it changed.
        WriteHot = "write_hot",
        /// The invalidation stream has not proved to be alive.
        NotLive = "not_live",
        /// The fetch under way began before something this session must see.
        FlightStale = "flight_stale",
        /// The policy of the key says so.
        Policy = "policy",
        /// No invalidation would come for the key: it has none of `invalidation.prefixes`.
        NotCovered = "not_covered",
        /// The near-cache is switched off.
        Disabled = "disabled",
        /// The near-cache only says what it would have answered (`cache.mode = "shadow"`).
        Shadow = "shadow",
        /// The reply is larger than an entry may be.
        TooLarge = "too_large",
        /// Not all keys of a command with several keys were in memory.
        MultiKeyMiss = "multi_key_miss",
        /// A command whose effects are unknown is under way in this session.
        UnknownEffects = "unknown_effects",
    }
}

label! {
    /// What the near-cache does with reads (`cache.mode`).
    ServingMode = "mode" {
        /// It answers those it can.
        Serve = "serve",
        /// It answers none, and is compared with the server.
        Shadow = "shadow",
        /// There is none.
        Off = "off",
    }
}

label! {
    /// Why an entry that was found was not served, although nothing says that it is not true any more.
    Unproved = "reason" {
        /// The staleness lease ran out: the server has given no sign of life for too long.
        Lease = "lease",
        /// The session has seen something newer, or somebody was told something newer about this key.
        Older = "older",
    }
}

label! {
    /// Why an invalidation stream was given up.
    FenceReason = "reason" {
        /// The connection was lost.
        Connection = "connection",
        /// Bytes that are not RESP, or a reply nobody asked for.
        Protocol = "protocol",
        /// The server refused to track.
        CachingRefused = "caching_refused",
        /// The server refused the database.
        SelectRefused = "select_refused",
        /// The connection that invalidations were redirected to is gone.
        RedirectBroken = "redirect_broken",
        /// The server announced that another one takes its place.
        HandOver = "hand_over",
        /// No answer for twice the staleness bound.
        Silent = "silent",
        /// It said nothing of a key that was changed to see whether it speaks.
        Canary = "canary",
        /// Another node is the master now, or none is known to be.
        Moved = "moved",
    }
}

label! {
    /// Why a fetched reply was not stored.
    Rejected = "reason" {
        /// Larger than an entry may be.
        TooLarge = "too_large",
        /// The key changed while the reply was under way.
        Race = "race",
        /// The admission filter kept what is there.
        Admission = "admission",
        /// The policy of the key says so.
        Policy = "policy",
        /// The reply is an error.
        Error = "error",
        /// It would expire at once.
        Ttl = "ttl",
    }
}

label! {
    /// What the server said to a TOUCH of a key that is read from memory.
    TouchResult = "result" {
        /// The key is there.
        Present = "present",
        /// It is not.
        Missing = "missing",
        /// An error.
        Refused = "refused",
        /// It was not asked: too many keys were hot at once, or it had not answered yet.
        Skipped = "skipped",
    }
}

label! {
    /// Why an entry left the near-cache.
    Evicted = "reason" {
        /// Room was needed.
        Capacity = "capacity",
        /// Its time was over.
        Ttl = "ttl",
        /// Its key changed.
        Invalidated = "invalidated",
        /// Everything was dropped on purpose.
        Flush = "flush",
        /// Everything was dropped because the invalidation stream was lost.
        TrackingLost = "tracking_lost",
        /// A new policy does not allow it.
        Policy = "policy",
    }
}

label! {
    /// Why the whole near-cache was dropped.
    FlushReason = "reason" {
        /// An operator asked.
        Admin = "admin",
        /// The application channel said so, or was not heard for a while.
        Application = "application",
        /// A command passed through that changes keys without naming them: FLUSHALL, SWAPDB, an unknown one.
        Command = "command",
        /// What a user may do may have changed; only that user's part was dropped.
        Rights = "rights",
        /// The invalidation stream was lost.
        TrackingLost = "tracking_lost",
        /// The server said that everything changed.
        NullPush = "null_push",
    }
}

label! {
    /// What an invalidation names.
    InvalidationKind = "kind" {
        /// One key.
        Key = "key",
        /// Everything.
        Flush = "flush",
    }
}

label! {
    /// What an invalidation did.
    InvalidationEffect = "effect" {
        /// An entry was dropped.
        Removed = "removed",
        /// There was nothing to drop.
        Absent = "absent",
        /// A fetch under way was forbidden to store its reply.
        Raced = "raced",
    }
}

label! {
    /// Where invalidations come from.
    InvalidationSource = "mode" {
        /// Nowhere: the near-cache is off.
        Off = "off",
        /// Client tracking on the connection that fills (RESP3).
        Tracking = "tracking",
        /// Client tracking, sent to a second connection.
        Redirect = "redirect",
        /// Client tracking by prefixes.
        Broadcast = "broadcast",
        /// Keyspace notifications.
        Keyspace = "keyspace",
        /// A pub/sub channel of the application.
        Channel = "channel",
        /// Nowhere: entries only expire.
        TtlOnly = "ttl-only",
    }
}

label! {
    /// Why invalidations do not come by a mode.
    Refusal = "reason" {
        /// The server does not speak RESP3.
        Resp3 = "resp3",
        /// The user may not do what it takes.
        Denied = "denied",
        /// The server does not know what it takes.
        Unsupported = "unsupported",
        /// The server's version has known holes.
        Version = "version",
        /// `notify-keyspace-events` lacks what it takes.
        Notifications = "notifications",
        /// It was set up, and yet the canary was written and nobody spoke of it.
        Silent = "silent",
    }
}

label! {
    /// Why the canary's invalidation was not timed.
    CanaryFailure = "reason" {
        /// It did not come.
        Silent = "silent",
        /// The user may not write or read the key, or the server is a read-only replica.
        Denied = "denied",
        /// The server refuses writes: no memory, no disk, not enough replicas.
        Refused = "refused",
        /// The write was not answered in time, or there was no connection for it.
        Unanswered = "unanswered",
    }
}
