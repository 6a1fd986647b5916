//! What a command that is passed on does to the cache and to its session: before it leaves, and once it was executed.
//!
//! ```text
//! leaves ─ on its way ─ executed, or nobody knows: returns ─ its reply may be read
//! first kill            second kill, seen_at, must_see
//! ```

use std::sync::Arc;

use super::kill::Flushing;
use super::near_cache::NearCache;
use super::session::{Causality, Keys};
use crate::command::Effect;
use crate::mutants::{Mutant, mutated};
use crate::time::Instant;

impl<W> NearCache<W> {
    /// A command is about to be forwarded: from here on nobody is served what it is about to change. What is given back
    /// keeps fetches from being stored, and goes to [`NearCache::returns`].
    pub fn leaves(self: &Arc<Self>, effect: Effect, keys: &Keys) -> Option<Flushing<W>> {
        match effect {
            Effect::Write | Effect::Unknown if !mutated(Mutant::NoKillBefore) => {
                keys.as_slice().iter().for_each(|&key| self.kill(key));
                None
            }
            Effect::Admin if !mutated(Mutant::SwapdbNoflush) => Some(self.flushing()),
            Effect::Write | Effect::Unknown | Effect::Admin | Effect::Read | Effect::None | Effect::KeylessRead => None,
        }
    }

    /// A command was executed, or may have been; to be called before anybody can read a byte of its reply. `now` was read
    /// after the reply was. True: entries that the session may want are not served until the stream proves something newer.
    pub fn returns(
        &self,
        effect: Effect,
        keys: &Keys,
        flushing: Option<Flushing<W>>,
        session: &mut Causality,
        now: Instant,
    ) -> bool {
        drop(flushing);
        let mut waiting = false;
        match effect {
            Effect::Read if !mutated(Mutant::NoSeenKey) => {
                for &key in keys.as_slice() {
                    waiting |= self.saw(key, now);
                }
            }
            Effect::Write | Effect::Unknown if !mutated(Mutant::NoKillAfter) && !mutated(Mutant::AckFirst) => {
                keys.as_slice().iter().for_each(|&key| self.kill(key));
            }
            _ => {}
        }
        let all = session.is_strict() && effect != Effect::None;
        let hidden = matches!(effect, Effect::Unknown | Effect::Admin | Effect::KeylessRead);
        if all || (hidden && !mutated(Mutant::NoMustSee)) {
            session.saw(now);
        }
        waiting || all
    }
}
