//! TOUCH on the tracked connection: keys that are read from memory, so that the server knows.
//!
//! It registers nothing and consumes no registration: OPTIN tracks what follows `CLIENT CACHING YES`, and nothing but a
//! fill's read does (checked on 7.0.15). Its answer stands behind every invalidation of what was written before, so it
//! renews the lease like any other.

use super::{Core, Expected, Fence, Touched, Tracked, slipped};
use crate::coherence::frames::Frame;
use crate::coherence::near_cache::Tally;
use crate::coherence::slots::Slots;
use crate::coherence::touch::Touch;
use crate::command::Slot;
use crate::resp::encode;
use crate::time::Instant;

impl<W> Tracked<W> {
    /// Appends a TOUCH for each key to `out`, which is to be written after `now` was read; nothing while the last ones were
    /// not answered, so that a slow server is not given more of what can wait.
    pub fn touch(&mut self, touches: &[Touch], now: Instant, out: &mut Vec<u8>) {
        let core = &mut self.core;
        if core.touching > 0 || core.untouchable {
            Tally::add(&core.cache.tally.touches_skipped, touches.len());
            return;
        }
        for touch in touches {
            let db = core.cache.database(touch.db);
            if db != core.db {
                core.db = db;
                encode::request(out, [b"SELECT".as_slice(), core.db.to_string().as_bytes()]);
                core.expected.push_back(Expected::Select(now));
            }
            encode::request(out, [b"TOUCH".as_slice(), &touch.key]);
            let slots = core.cache.slots();
            core.expected.push_back(Expected::Touch(Box::new(Touched {
                sent_at: now,
                hash: core.cache.hash(&touch.key),
                slot: slots.map(|_| (Slot::of(&touch.key), touch.db)),
            })));
            core.touching += 1;
            core.last_sent = now;
        }
    }
}

impl<W> Core<W> {
    /// The TOUCH in front was answered. `Some`: when it was sent, if by a server whose stream is a true one.
    pub(super) fn touched(&mut self, kind: u8, frame: &Frame<'_>) -> Result<Option<Instant>, Fence> {
        let Some(Expected::Touch(touched)) = self.expected.pop_front() else {
            return Err(slipped());
        };
        self.touching = self.touching.saturating_sub(1);
        let tally = &self.cache.tally;
        match (kind, frame) {
            (b':', Frame::Whole(b":0\r\n")) => {
                // Its end was announced, or is about to be; until then nobody is served what is not there.
                Tally::add(&tally.touches_missing, 1);
                self.cache.kill(touched.hash);
            }
            (b':', _) => Tally::add(&tally.touches_present, 1),
            (b'-', Frame::Whole(error)) => {
                Tally::add(&tally.touches_refused, 1);
                if is_about_the_command(error) {
                    self.untouchable = true;
                } else {
                    // The user may not read it any more, or it is elsewhere now.
                    self.cache.kill(touched.hash);
                    self.untouched(&touched, error);
                }
                return Ok(error.starts_with(b"-NOPERM ").then_some(touched.sent_at));
            }
            _ => return Err(slipped()),
        }
        if let (Some(slots), Some((slot, life))) = (self.cache.slots(), touched.slot) {
            slots.prove(slot, life, touched.sent_at);
        }
        Ok(Some(touched.sent_at))
    }

    /// What an error about one key means to the key's slot.
    fn untouched(&self, touched: &Touched, error: &[u8]) {
        let (Some(slots), Some((slot, _))) = (self.cache.slots(), touched.slot) else {
            return;
        };
        if Slots::says_elsewhere(error) {
            slots.renew(slot);
        } else {
            slots.forget_key(slot);
        }
    }
}

/// Whether TOUCH is refused, whatever the key.
fn is_about_the_command(error: &[u8]) -> bool {
    let says = |words: &[u8]| error.windows(words.len()).any(|part| part == words);
    error.starts_with(b"-ERR unknown command") || (error.starts_with(b"-NOPERM ") && says(b" to run the "))
}
