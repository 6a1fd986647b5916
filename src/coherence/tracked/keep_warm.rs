//! TOUCH on the tracked connection: keys that are read from memory, so that the server knows.
//!
//! It registers nothing and consumes no registration: OPTIN tracks what follows `CLIENT CACHING YES`, and nothing but a
//! fill's read does (checked on 7.0.15). Its answer stands behind every invalidation of what was written before, so it
//! renews the lease like any other.

use super::{Core, Expected, Fence, Tracked, slipped};
use crate::coherence::frames::Frame;
use crate::coherence::near_cache::Tally;
use crate::coherence::touch::Touch;
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
            if touch.db != core.db {
                core.db = touch.db;
                encode::request(out, [b"SELECT".as_slice(), core.db.to_string().as_bytes()]);
                core.expected.push_back(Expected::Select(now));
            }
            encode::request(out, [b"TOUCH".as_slice(), &touch.key]);
            let hash = core.cache.hash(&touch.key);
            core.expected.push_back(Expected::Touch(now, hash));
            core.touching += 1;
            core.last_sent = now;
        }
    }
}

impl<W> Core<W> {
    /// A TOUCH of the name with this hash was answered; true: by a server whose stream is a true one.
    pub(super) fn touched(&mut self, hash: u64, kind: u8, frame: &Frame<'_>) -> Result<bool, Fence> {
        self.touching = self.touching.saturating_sub(1);
        let tally = &self.cache.tally;
        match (kind, frame) {
            (b':', Frame::Whole(b":0\r\n")) => {
                // Its end was announced, or is about to be; until then nobody is served what is not there.
                Tally::add(&tally.touches_missing, 1);
                self.cache.kill(hash);
            }
            (b':', _) => Tally::add(&tally.touches_present, 1),
            (b'-', Frame::Whole(error)) => {
                Tally::add(&tally.touches_refused, 1);
                if is_about_the_command(error) {
                    self.untouchable = true;
                } else {
                    // The user may not read it any more, or it is elsewhere now.
                    self.cache.kill(hash);
                }
                return Ok(error.starts_with(b"-NOPERM "));
            }
            _ => return Err(slipped()),
        }
        Ok(true)
    }
}

/// Whether TOUCH is refused, whatever the key.
fn is_about_the_command(error: &[u8]) -> bool {
    let says = |words: &[u8]| error.windows(words.len()).any(|part| part == words);
    error.starts_with(b"-ERR unknown command") || (error.starts_with(b"-NOPERM ") && says(b" to run the "))
}
