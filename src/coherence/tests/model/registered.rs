//! The invariant that only the inside shows: every entry that could be served, now or after the stream proves something,
//! is what the server has and is registered there; otherwise nearhit is about to be told, by a push on its way or by the
//! end of its connection.

use super::redis::{DBS, NAMES, Op};
use super::world::World;
use super::*;

impl World {
    /// Looks at the names to which something happened in the last step.
    pub(super) fn must_be_registered(&mut self) {
        let stored = self.cache.tally().inserts.load(Ordering::Relaxed);
        let touched = std::mem::take(&mut self.redis.touched);
        let names = if std::mem::replace(&mut self.stored, stored) == stored {
            touched
        } else {
            ALL
        };
        if names == 0 || !self.redis.is_whole() {
            return;
        }
        for name in (0..NAMES.len()).filter(|name| names & (1 << name) != 0) {
            if !self.redis.announces(name) {
                self.must_be_true(name);
            }
        }
    }

    fn must_be_true(&self, name: usize) {
        let (hash, key) = (self.hashes[name], NAMES[name].as_bytes());
        let shard = self.cache.lock(hash);
        let Some(slot) = shard.find(hash, key).and_then(|id| shard.slot(id)) else {
            return;
        };
        let sight = self.cache.sight(&self.origin, self.now);
        for entry in slot.entries() {
            let verdict = self.cache.judge(entry, Instant::ZERO, &sight, Instant::ZERO);
            if matches!(verdict, Verdict::Dead(_)) {
                continue;
            }
            assert!(
                self.redis.table[name],
                "I6 registered: nobody would say that {} changed",
                NAMES[name]
            );
            let db = usize::try_from(entry.db()).unwrap();
            let op = if entry.command() == STRLEN {
                Op::Strlen(name)
            } else {
                Op::Get(name)
            };
            let mut reply = Vec::new();
            assert!(entry.append(Version::V3, &mut reply).is_none());
            let (held, is) = (version_in(op, &reply, Version::V3), self.redis.value(db, name));
            assert!(
                db < DBS && held == is,
                "I6 registered: {op:?} holds {held:?}, not {is:?}"
            );
        }
    }
}
