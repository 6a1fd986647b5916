//! Why a tracked connection is given up.

use std::fmt;

use super::near_cache::NearCache;
use crate::metrics::FenceReason;

/// Why a tracked connection is given up, and with it all its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Bytes that are not RESP, or a reply nobody asked for.
    Protocol(String),
    /// `CLIENT CACHING YES` was refused: the connection does not track.
    CachingRefused,
    /// `SELECT` was refused: the read went to another database.
    SelectRefused,
    /// The server says that the redirect target is gone.
    RedirectBroken,
    /// The server announces that another one takes its place.
    HandOver,
    /// No answer for longer than the staleness bound allows twice over.
    Silent,
}

impl Fence {
    fn reason(&self) -> FenceReason {
        match self {
            Self::Protocol(_) => FenceReason::Protocol,
            Self::CachingRefused => FenceReason::CachingRefused,
            Self::SelectRefused => FenceReason::SelectRefused,
            Self::RedirectBroken => FenceReason::RedirectBroken,
            Self::HandOver => FenceReason::HandOver,
            Self::Silent => FenceReason::Silent,
        }
    }

    /// Counts it; whoever is given it gives the connection up.
    pub(super) fn counted<W>(self, cache: &NearCache<W>) -> Self {
        cache.tally.fenced.inc(self.reason());
        self
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(what) => write!(f, "unexpected bytes: {what}"),
            Self::CachingRefused => f.write_str("CLIENT CACHING YES was refused"),
            Self::SelectRefused => f.write_str("SELECT was refused"),
            Self::RedirectBroken => f.write_str("the invalidation redirect is broken"),
            Self::HandOver => f.write_str("the server announced a hand-over"),
            Self::Silent => f.write_str("no answer"),
        }
    }
}
