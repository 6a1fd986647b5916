//! What a session has on its way over shared connections, and how much that may be.
//!
//! A shared connection cannot wait for one client, so a client that does not read must not have much on its way there.
//! How large replies will be is not known before they come; those of the recent past are the best guess. The number of
//! requests on their way begins small and grows with every reply, so it doubles with every round trip.

use super::large::LARGE;
use super::session::Core;

/// Requests on their way at most, at first: as many replies of a megabyte fit half the default buffer.
const FIRST_WINDOW: usize = 32;
/// Requests on their way at most, ever. More would only wait longer: it keeps a million requests a second busy over a
/// round trip of 8 ms, and none of them waits for so long that it is called late.
const MOST_ON_THEIR_WAY: usize = 8192;
/// How fast large replies are forgotten: by this part with every smaller one.
const FORGET: usize = 64;

/// What a session has on its way over shared connections.
#[derive(Debug)]
pub(super) struct Home {
    /// Requests without a reply on the shared connection.
    on_their_way: usize,
    /// How many there may be, reads that wait for a fetch included.
    window: usize,
    /// Bytes of these requests.
    asked: usize,
    /// Bytes of the largest reply of late.
    largest: usize,
    /// How often shared connections had been left when the first of the requests on their way was sent.
    era: u64,
}

impl Default for Home {
    fn default() -> Self {
        Self {
            on_their_way: 0,
            window: FIRST_WINDOW,
            asked: 0,
            largest: 0,
            era: 0,
        }
    }
}

impl Home {
    /// Nothing is on its way.
    pub(super) fn is_quiet(&self) -> bool {
        self.on_their_way == 0
    }

    /// So many requests are on their way.
    pub(super) fn on_their_way(&self) -> usize {
        self.on_their_way
    }

    /// One request is on its way.
    pub(super) fn is_one(&self) -> bool {
        self.on_their_way == 1
    }

    /// A request of so many bytes was sent; `era` is how often shared connections were left so far.
    pub(super) fn sent(&mut self, bytes: usize, era: u64) {
        if self.on_their_way == 0 {
            self.era = era;
        }
        self.on_their_way += 1;
        self.asked += bytes;
    }

    /// A request of `asked` bytes was answered with so many, or its connection is gone.
    pub(super) fn answered(&mut self, asked: usize, bytes: usize) {
        self.on_their_way = self.on_their_way.saturating_sub(1);
        self.asked = self.asked.saturating_sub(asked);
        self.learn(bytes);
        if self.on_their_way == 0 {
            // What was learned is forgotten, but not between two pipelines of the same length.
            self.window = (self.window - self.window / 4).max(FIRST_WINDOW);
        }
    }

    /// The first guess: what others were answered.
    pub(super) fn expect(&mut self, bytes: usize) {
        self.largest = bytes;
    }

    /// A reply of so many bytes came for a request of the window.
    pub(super) fn learn(&mut self, bytes: usize) {
        self.window = (self.window + 1).min(MOST_ON_THEIR_WAY);
        self.largest = bytes.max(self.largest - self.largest / FORGET);
    }
}

/// How much of a client's buffer is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// Less than half.
    Low,
    /// Half of it.
    Half,
    /// All of it.
    Full,
}

impl Core {
    /// Whether another request may be handled: there is room for its reply, and it would leave over the connection that
    /// those before it left over, so that it cannot overtake them.
    pub(super) fn may_go_on(&self, most_bytes: usize, era: u64) -> bool {
        let (home, waiting, most_bytes) = (&self.home, self.pipeline.bytes(), most_bytes / 2);
        let on_their_way = home.on_their_way + self.fetching.len();
        if on_their_way == 0 {
            return waiting < most_bytes;
        }
        // A server that does not read must not make the requests pile up here.
        on_their_way < home.window
            && home.asked < LARGE
            && on_their_way.saturating_mul(home.largest) < LARGE.min(most_bytes.saturating_sub(waiting))
            && (home.on_their_way == 0 || home.era == era)
    }

    /// How full the client's buffer is. If there is nothing it could read, because the reply in front is still to come
    /// over a connection that would wait for this, the buffer has to take everything.
    pub(super) fn fill(&self, most_bytes: usize) -> Fill {
        let held = self.pipeline.bytes();
        if held < most_bytes / 2 || self.dead.is_some() {
            return Fill::Low;
        }
        let unreadable = self.pipeline.unsent().is_empty() && !self.fetching.contains_key(&self.pipeline.front());
        match held < most_bytes {
            _ if unreadable => Fill::Low,
            true => Fill::Half,
            false => Fill::Full,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::downstream::account::Account;

    const BUFFER: usize = 64 << 20;

    fn nobody() -> Core {
        Core::new(Arc::new(Account::barred()), 0)
    }

    /// How many requests leave before the session waits.
    fn burst(core: &mut Core, buffer: usize) -> usize {
        let before = core.home.on_their_way;
        while core.may_go_on(buffer, 0) {
            core.home.sent(10, 0);
        }
        core.home.on_their_way - before
    }

    #[test]
    fn the_window_doubles_with_every_round_trip_of_small_replies() {
        let mut core = nobody();
        let mut bursts = vec![burst(&mut core, BUFFER)];
        for _ in 0..12 {
            // All but one, so that it goes on without a pause.
            (1..bursts[bursts.len() - 1]).for_each(|_| core.home.answered(10, 5));
            bursts.push(burst(&mut core, BUFFER));
        }
        assert_eq!(bursts[..3], [32, 62, 122]);
        assert!(
            (MOST_ON_THEIR_WAY - 20..MOST_ON_THEIR_WAY).contains(&bursts[12]),
            "{bursts:?}"
        );
    }

    #[test]
    fn the_window_is_kept_between_pipelines_and_lost_by_single_requests() {
        let mut core = nobody();
        let pipeline = |core: &mut Core, count: usize| {
            let at_once = burst(core, BUFFER).min(count);
            core.home.on_their_way = count;
            (0..count).for_each(|_| core.home.answered(10, 5));
            at_once
        };
        assert_eq!([0; 4].map(|_| pipeline(&mut core, 100)), [32, 99, 100, 100]);
        (0..100).for_each(|_| _ = pipeline(&mut core, 1));
        assert_eq!(pipeline(&mut core, 100), 32);
    }

    #[test]
    fn large_replies_shrink_what_may_be_on_its_way_and_are_forgotten() {
        let mut core = nobody();
        let count = burst(&mut core, BUFFER);
        (0..count).for_each(|_| core.home.answered(10, 1 << 20));
        assert_eq!(burst(&mut core, BUFFER), 4);
        (0..4).for_each(|_| core.home.answered(10, 1 << 20));
        assert_eq!(
            burst(&mut core, 4 << 20),
            2,
            "half of the client's buffer counts as well"
        );
        (0..2).for_each(|_| core.home.answered(10, 5));
        (0..1000).for_each(|_| core.home.learn(5));
        assert!(burst(&mut core, BUFFER) > 1000);
    }

    #[test]
    fn large_requests_that_are_not_answered_are_few() {
        let mut core = nobody();
        let mut count = 0;
        while core.may_go_on(BUFFER, 0) {
            core.home.sent(1 << 20, 0);
            count += 1;
        }
        assert_eq!(count, 4);
        core.home.answered(1 << 20, 5);
        assert!(core.may_go_on(BUFFER, 0));
    }

    #[test]
    fn one_request_may_always_leave_when_nothing_is_to_be_read() {
        let mut core = nobody();
        core.home.learn(1 << 30);
        assert_eq!(burst(&mut core, 4), 1);
        core.home.answered(10, 1 << 30);
        core.pipeline.push(b"xx");
        assert_eq!(burst(&mut core, 4), 0);
    }

    #[test]
    fn a_buffer_is_full_only_as_far_as_the_client_could_read_it() {
        let mut core = nobody();
        let (first, second) = (core.pipeline.pend(false), core.pipeline.pend(false));
        core.pipeline.append(second, b"123456");
        assert_eq!(core.fill(6), Fill::Low, "the first reply may come behind the second");
        core.pipeline.append(first, b"0");
        assert_eq!(
            [8, 7, 14, 16].map(|most| core.fill(most)),
            [Fill::Half, Fill::Full, Fill::Half, Fill::Low]
        );
    }

    #[test]
    fn nothing_follows_over_another_connection_before_all_is_answered() {
        let mut core = nobody();
        core.home.sent(10, 0);
        core.home.sent(10, 0);
        core.home.answered(10, 5);
        assert!(core.may_go_on(BUFFER, 0) && !core.may_go_on(BUFFER, 1));
        core.home.answered(10, 5);
        assert!(core.may_go_on(BUFFER, 1));
        core.home.sent(10, 1);
        assert!(core.may_go_on(BUFFER, 1));
    }
}
