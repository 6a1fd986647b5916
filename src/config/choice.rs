//! Settings that are one word out of a few.

use std::fmt;
use std::str::FromStr;

use super::error::Invalid;

/// Writes an enum whose variants have names, and how to read and show them.
macro_rules! choice {
    ($(#[doc = $about:literal])+ $name:ident, $wanted:literal {
        $( $(#[$meta:meta])+ $variant:ident = $text:literal, )+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[$meta])+ $variant, )+
        }

        impl $name {
            /// Every choice, in the order of the documentation.
            pub const ALL: &[Self] = &[$( Self::$variant, )+];
            pub(super) const WANTED: &str = $wanted;

            /// The word for it in a file.
            pub fn name(self) -> &'static str {
                match self { $( Self::$variant => $text, )+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let found = Self::ALL.iter().find(|choice| choice.name() == text);
                found.copied().ok_or_else(|| Invalid::value(format!("unknown choice '{text}'"), $wanted))
            }
        }
    };
}

choice! {
    /// Which replies the near-cache stores.
    Admission, "second-read or always" {
        /// Those of keys that are read a second time within `cache.admission_window`, and are not written about as often as
        /// they are read.
        SecondRead = "second-read",
        /// All that are cacheable.
        Always = "always",
    }
}

choice! {
    /// Which of the names that have cached replies loses them first when memory is short.
    EvictionKind, "worth, lru, lfu, fifo or s3fifo" {
        /// Few hits for its bytes, and long ago.
        Worth = "worth",
        /// Served longest ago.
        Lru = "lru",
        /// Served most rarely.
        Lfu = "lfu",
        /// Came first.
        Fifo = "fifo",
        /// S3-FIFO: what is never hit in a small first queue does not reach the main one.
        S3Fifo = "s3fifo",
    }
}

choice! {
    /// What the near-cache does with reads.
    CacheMode, "serve, shadow or off" {
        /// It answers those it can.
        Serve = "serve",
        /// It answers none: what it would have said is compared with what the server says.
        Shadow = "shadow",
        /// There is none.
        Off = "off",
    }
}

choice! {
    /// How the near-cache learns that a key changed. What each promises is in `docs/promises.md`.
    InvalidationMode, "auto, tracking, redirect, broadcast, keyspace, ttl or off" {
        /// The first of the others, in this order, that the server offers and the settings allow.
        Auto = "auto",
        /// Client tracking with RESP3 push messages.
        Tracking = "tracking",
        /// Client tracking redirected to a subscribed RESP2 connection.
        Redirect = "redirect",
        /// Client tracking of all keys that begin with one of `invalidation.prefixes`; no others are cached.
        Broadcast = "broadcast",
        /// Keyspace notifications. Nobody is told of FLUSHALL, FLUSHDB and SWAPDB, so entries live
        /// `invalidation.keyspace_ttl` at most.
        Keyspace = "keyspace",
        /// Nobody tells of foreign writes: entries live `invalidation.fallback_ttl` at most.
        Ttl = "ttl",
        /// Not at all, so nothing is cached.
        Off = "off",
    }
}

choice! {
    /// What subscribers are told when the connection is lost that their messages came by.
    OnLoss, "close or resubscribe" {
        /// Their connections are closed, so that their libraries reconnect and know.
        Close = "close",
        /// They are subscribed again, and each subscription is confirmed once more.
        Resubscribe = "resubscribe",
    }
}

choice! {
    /// Who shares cached replies.
    PartitionBy, "user or none" {
        /// Those who log in as the same user: Redis has judged each cached reply for that very user.
        User = "user",
        /// Everybody: the operator says that all users may read the same keys.
        None = "none",
    }
}

choice! {
    /// Which node is asked what memory does not answer.
    Reads, "master, prefer-replica, replica or nearest" {
        /// The node that takes writes.
        Master = "master",
        /// A replica; the master when there is none that may be read.
        PreferReplica = "prefer-replica",
        /// A replica; an error when there is none. What was just written through this nearhit is still read from the master.
        Replica = "replica",
        /// Whichever is nearest: in the same zone first, then by how fast it answers.
        Nearest = "nearest",
    }
}

choice! {
    /// How log lines look.
    LogFormat, "auto, text or json" {
        /// Text on a terminal, JSON otherwise.
        Auto = "auto",
        /// Lines for people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

choice! {
    /// What MONITOR shows.
    MonitorMode, "local, upstream or deny" {
        /// What goes through this nearhit, answers from memory included.
        Local = "local",
        /// What the server shows: everything that reaches it, from nearhit's addresses.
        Upstream = "upstream",
        /// Nothing: it is refused.
        Deny = "deny",
    }
}

choice! {
    /// What clients see of the server behind nearhit.
    PresentAs, "standalone or transparent" {
        /// One server without replicas and without a cluster, so that no client looks for others.
        Standalone = "standalone",
        /// Whatever the server says about itself.
        Transparent = "transparent",
    }
}
