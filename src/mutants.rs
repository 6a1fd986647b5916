//! Mistakes to be made on purpose: each mutant changes one decision of the rules of coherence, so that it can be shown that
//! the checkers would see that mistake.
//!
//! Without the cargo feature `mutants` (the default) [`mutated`] is the constant `false` and nothing is left of them. With
//! it, a process makes the mistake that the environment variable `NEARHIT_MUTANT` names; `docs/mutants.md` says which
//! checker catches which. Never serve anybody with such a build.

/// One row a mutant: its variant, and what is done wrong, as documentation and as text.
macro_rules! mutants {
    ($($variant:ident $name:literal $what:literal,)*) => {
        /// A mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Mutant {
            $(#[doc = $what] $variant,)*
        }

        impl Mutant {
            /// All of them, in the order of the table in `docs/mutants.md`.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// What it is called.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What it does wrong, in a sentence's worth of words.
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$variant => $what,)*
                }
            }
        }
    };
}

mutants! {
    NoToken "no_token" "a reply is stored although its name was killed while it travelled",
    TaskInsert "task_insert" "a reply is stored by whoever asked, after the pushes behind it: not in stream order",
    AbaMarker "aba_marker" "a lease is any fetch of the same read in progress, not one fetch's identity",
    NoFlushOnDeath "no_flush_on_death" "entries outlive the tracked connection that filled them",
    IgnoreNull "ignore_null" "the NULL push (everything changed) is ignored",
    FirstKeyOnly "first_key_only" "of a push with several names only the first is handled",
    Noloop "noloop" "tracking is switched on with NOLOOP",
    NoKillBefore "no_kill_before" "a name is not killed before a write to it is forwarded",
    NoKillAfter "no_kill_after" "a name is not killed when a write to it was executed",
    AckFirst "ack_first" "a write is acknowledged before its second kill",
    JoinDead "join_dead" "a killed fetch is joined",
    JoinOld "join_old" "a fetch is joined however old it is",
    JoinExpired "join_expired" "who joins a fetch gets its reply although that had expired by then",
    DbOnlyInval "db_only_inval" "an invalidation drops the entries of one database only",
    NoPttl "no_pttl" "the server's time to live is ignored",
    NoLease "no_lease" "entries are served however long nothing was heard",
    LeaseRecvTime "lease_recv_time" "an answer renews the lease from when it came, not from when it was asked for",
    NoSeenKey "no_seen_key" "a reply of the session's own connection does not bar older entries of its key",
    NoMustSee "no_must_see" "a command with unknown effects does not bar older entries",
    NoPipelineRule "no_pipeline_rule" "a read is answered from the cache while the session's own commands are on their way",
    KeylessOvertaken "keyless_overtaken" "a read is answered from the cache while one that names no keys is on its way",
    CopyKept "copy_kept" "a worker's copy of an entry is served after the entry was dropped",
    CopyUnseen "copy_unseen" "a worker's copy is served although something newer was seen of its key",
    NoHold "no_hold" "a command leaves while a read of its key is being fetched",
    NoHoldWrite "no_hold_write" "a write leaves while a read of its key is being fetched",
    Interleave "interleave" "a command stands between CLIENT CACHING YES and the read",
    SwapdbNoflush "swapdb_noflush" "SWAPDB, FLUSHALL and their like pass without a flush",
    FlushingIgnored "flushing_ignored" "replies are stored while a SWAPDB is on its way",
    StampCurrent "stamp_current" "a reply fetched before a flush is stored as if it had been fetched behind it",
    NoFenceKill "no_fence_kill" "a SWAPDB that may still be executed is forgotten with its connection",
    WatchCached "watch_cached" "a read between WATCH and EXEC is answered from the cache",
    MgetSingleCollect "mget_single_collect" "a read of several keys does not look twice",
    EpochAtLeast "epoch_at_least" "an entry of an older incarnation is as good as one of the current one",
    RedirectUnheld "redirect_unheld" "a redirected fetch's reply is handled before the invalidations in front of it",
    RedirectOneProof "redirect_one_proof" "the subscribed connection alone renews the lease of redirected tracking",
    RedirectDeathIgnored "redirect_death_ignored" "the filling connection dies and entries stay, for the subscribed one lives",
    ErrorCached "error_cached" "an error is stored like any reply",
    PfcountCached "pfcount_cached" "PFCOUNT, which writes, is cached",
    XpendingCached "xpending_cached" "XPENDING, which changes unannounced, is cached",
    NilKind "nil_kind" "a missing member of GEOPOS is the wrong null in RESP2",
    PairsNested "pairs_nested" "members and scores stay pairs in RESP2",
    SelectLeaks "select_leaks" "cached reads go to the database the session began in, whatever it selected",
    ResetLeaksUser "reset_leaks_user" "after RESET the session is still the user it was before",
}

impl Mutant {
    /// The mutant with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mutant| mutant.name() == name)
    }
}

#[cfg(feature = "mutants")]
pub use chosen::check_environment;
#[cfg(all(test, feature = "mutants"))]
pub(crate) use chosen::choose;
pub use chosen::mutated;

#[cfg(not(feature = "mutants"))]
mod chosen {
    use super::Mutant;

    /// Whether this process makes the mistake.
    #[inline(always)]
    pub const fn mutated(_: Mutant) -> bool {
        false
    }
}

#[cfg(feature = "mutants")]
mod chosen {
    use super::Mutant;

    const NONE: u8 = u8::MAX;

    /// The mistake of this process. A program that begins in `cli` has asked for it and refused what is none; a test that
    /// uses the library finds it here.
    #[cfg(not(test))]
    static CHOSEN: std::sync::LazyLock<u8> = std::sync::LazyLock::new(|| {
        let name = std::env::var("NEARHIT_MUTANT").unwrap_or_default();
        Mutant::by_name(&name).map_or(NONE, |mutant| mutant as u8)
    });

    // Unit tests run side by side, and each is of one thread.
    #[cfg(test)]
    thread_local! {
        static CHOSEN: std::cell::Cell<u8> = const { std::cell::Cell::new(NONE) };
    }

    #[cfg(not(test))]
    fn chosen() -> u8 {
        *CHOSEN
    }

    #[cfg(test)]
    fn chosen() -> u8 {
        CHOSEN.get()
    }

    /// Whether this process makes the mistake.
    #[inline]
    pub fn mutated(mutant: Mutant) -> bool {
        chosen() == mutant as u8
    }

    /// From here on this thread makes the mistake; `None`: none.
    #[cfg(test)]
    pub fn choose(mutant: Option<Mutant>) {
        CHOSEN.set(mutant.map_or(NONE, |mutant| mutant as u8));
    }

    /// Whether `NEARHIT_MUTANT` names a mutant, or nothing.
    ///
    /// # Errors
    /// What to tell whoever set it, when there is no such mutant.
    pub fn check_environment() -> Result<(), String> {
        let name = std::env::var_os("NEARHIT_MUTANT").unwrap_or_default();
        if name.is_empty() {
            return Ok(());
        }
        let name = name.to_string_lossy();
        if Mutant::by_name(&name).is_some() {
            return Ok(());
        }
        let names: Vec<_> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        Err(format!(
            "NEARHIT_MUTANT={name}: no such mutant; there are {}",
            names.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::Mutant;

    #[test]
    fn every_mutant_is_found_by_its_name_and_no_two_share_one() {
        for (at, &mutant) in Mutant::ALL.iter().enumerate() {
            assert_eq!(Mutant::by_name(mutant.name()), Some(mutant));
            assert_eq!(mutant as usize, at, "{}", mutant.name());
        }
        assert_eq!(Mutant::by_name("none"), None);
    }
}
