//! Requests that are asked again: fetches and reads of replicas that came to nothing, and what was lost with a connection
//! and cannot have been executed twice.
//!
//! ```text
//! lost ─ not sent, or only read → waits ─ pause over → sent over a new connection ─ lost → … at most twice
//!      ├ sent, and may have changed data → UNCERTAIN: nobody knows
//!      └ sent, only read, and something on its keys was sent behind it → an error: it could see what came later
//! ```
//! While it waits no later command of the session leaves, so that nothing overtakes it.

use std::cell::Cell;
use std::rc::Rc;

use super::attribute::Source;
use super::forward::{Forwarded, Op, Special};
use super::pin::Pin;
use super::request::Turn;
use super::session::{Core, Fetching, Session};
use super::unready::{Refusal, Verdict};
use crate::coherence::Keys;
use crate::command::Effect;
use crate::metrics::Retry;
use crate::time::{self, Instant};
use crate::upstream::{Connection, Ended, Loss, jittered_pause};

/// How often a request is sent again because its connection was lost.
const MOST: u8 = 2;
/// How often it waits in between for a connection, each time 20 to 80 ms. Chosen, not measured: a server that is started again
/// is there within that.
const MOST_WAITS: u8 = 4;

const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

/// A request that is to be sent home.
pub(super) struct Again {
    /// Its reply's place.
    pub(super) number: u64,
    pub(super) op: Op,
    pub(super) frame: Box<[u8]>,
    /// Not before this.
    after: Instant,
    /// What a server said that would not run it.
    pub(super) refusal: Option<Refusal>,
    /// It was on its way over the home connection.
    was_home: bool,
}

impl Again {
    /// A request that is not to be sent before `after`.
    pub(super) fn at(number: u64, op: Op, frame: Box<[u8]>, after: Instant) -> Self {
        Self {
            number,
            op,
            frame,
            after,
            refusal: None,
            was_home: false,
        }
    }

    /// A read whose fetch did not work out.
    pub(super) fn fetch(core: &Core, number: u64, fetching: Fetching, node: &str) -> Self {
        let op = Op {
            keys: Keys::One(fetching.key),
            effect: Effect::Read,
            attribute: core.attribute(Source::Upstream(None), node),
            slot: fetching.slot,
            ..Op::plain(fetching.command, fetching.started)
        };
        Self::at(number, op, fetching.frame, Instant::ZERO)
    }
}

/// How many requests may be sent again: a tenth of those of the last ten seconds, and ten a second. A server that loses
/// connections under load is not asked twice as much for it.
#[derive(Debug)]
pub(super) struct Budget {
    sent: Cell<u64>,
    left: Cell<f64>,
}

/// By this part the budget shrinks with each tick, a tenth of a second.
const SHRINK: f64 = 0.01;

impl Default for Budget {
    fn default() -> Self {
        Self {
            sent: Cell::new(0),
            left: Cell::new(100.0),
        }
    }
}

impl Budget {
    /// A request was sent.
    pub(super) fn sent(&self) {
        self.sent.set(self.sent.get() + 1);
    }

    /// Call it ten times a second.
    pub(super) fn tick(&self) {
        let more = self.sent.take() as f64 / 10.0 + 1.0;
        self.left.set(self.left.get() * (1.0 - SHRINK) + more);
    }

    pub(super) fn take(&self) -> bool {
        let left = self.left.get();
        self.left.set((left - 1.0).max(0.0));
        left >= 1.0
    }
}

impl Forwarded {
    /// Whether the session may send the request once more that a node has not run: for what it is, and as far as its reply has
    /// come.
    pub(super) fn may_be_put_back(&self) -> bool {
        let may_move = match self.op.special {
            // What waited for an element is sent away when its slot is, and what began to wait a moment too late.
            Special::Blocking => self.session.core.borrow().pin.as_ref().is_some_and(Pin::is_for_one),
            _ => self.op.may_move(),
        };
        may_move && self.number.is_some() && !self.late && !self.partly && !self.is_over()
    }

    /// Whether the request may be sent again, now that its connection is lost.
    pub(super) fn may_ask_again(&self, ended: &Ended<'_>) -> bool {
        let op = &self.op;
        // What a replica runs cannot write, whatever it is.
        let reads = (op.effect == Effect::Read && !op.writes) || op.replica.is_some();
        let unsent = !ended.sent && matches!(op.effect, Effect::Read | Effect::Write) && op.flushing.is_none();
        // What was sent behind it may have been executed, and a read must not see what its client wrote later. Behind a read
        // of a replica nothing was sent that it could see.
        let alone = || {
            let core = self.session.core.borrow();
            // Without a near-cache nobody asks for the keys, so they are not told.
            let keyless = op.keys == Keys::None;
            op.replica.is_some() || core.home.is_one() || (!keyless && core.causality.is_alone(&op.keys))
        };
        let harmless = unsent || (reads && alone());
        let unheard = !self.applied && !self.late && !self.partly && self.number.is_some();
        let may = harmless
            && op.may_move()
            && unheard
            && ended.frame.is_some()
            && !matches!(ended.loss, Loss::Shutdown | Loss::Refused(_) | Loss::Crowded(_))
            && !self.is_over();
        if !may {
            return false;
        }
        let retries = &self.session.context.shared.metrics.retries;
        let why = match () {
            () if op.tries >= MOST => Retry::Exhausted,
            () if !self.session.context.budget.take() => Retry::Budget,
            () if op.replica.is_some() => Retry::Replica,
            () if ended.sent => Retry::Read,
            () => Retry::Unsent,
        };
        retries.inc(why);
        !matches!(why, Retry::Exhausted | Retry::Budget)
    }

    pub(super) fn is_over(&self) -> bool {
        let core = self.session.core.borrow();
        core.dead.is_some() || core.closing.is_some() || core.is_uploading(self.number)
    }

    /// Has the session send it again.
    pub(super) fn ask_again(mut self, ended: &Ended<'_>) {
        self.op.tries += 1;
        if let Some(frame) = ended.frame {
            self.put_back(frame, Instant::ZERO);
        }
    }

    /// Has the session ask the primary, because the replica will not say.
    pub(super) fn ask_primary(self, request: &[u8]) {
        self.session.context.shared.metrics.retries.inc(Retry::Replica);
        self.put_back(request, Instant::ZERO);
    }

    /// Has the session send the request again, not before `after`.
    pub(super) fn put_back(self, frame: &[u8], after: Instant) {
        let Some(number) = self.number else { return };
        let session = Rc::clone(&self.session);
        let op = self.given_back();
        session.put_back(Again::at(number, op, frame.into(), after));
    }

    /// Has the session send the request again, which a server would not run, once it may.
    pub(super) fn put_back_refused(self, frame: &[u8], refusal: Refusal) {
        let Some(number) = self.number else { return };
        let session = Rc::clone(&self.session);
        let op = self.given_back();
        let mut again = Again::at(number, op, frame.into(), Instant::ZERO);
        again.refusal = Some(refusal);
        session.put_back(again);
    }

    /// The request, which is to be sent again. Until it is, no later one on its keys is answered from memory.
    fn given_back(self) -> Op {
        let (session, mut op) = (self.session, self.op);
        if op.pinned {
            if let Some(pin) = &mut session.core.borrow_mut().pin {
                pin.returned(&op.special);
            }
            return op;
        }
        // The keys of what a replica is asked count as being fetched already.
        if op.replica.take().is_none() {
            let causality = &mut session.core.borrow_mut().causality;
            causality.answered(&op.keys, op.effect);
            causality.all_fetching(&op.keys, op.effect);
        }
        op
    }
}

impl Session {
    fn put_back(&self, mut again: Again) {
        let mut core = self.core.borrow_mut();
        if !again.op.pinned {
            core.home.answered(again.op.bytes, 0);
            again.was_home = true;
        }
        core.bring_back(again);
        drop(core);
        self.wake();
    }

    /// Wakes the session at that time.
    pub(super) fn wake_at(self: &Rc<Self>, when: Instant) {
        let session = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(when.since(time::now())).await;
            if let Some(session) = session.upgrade() {
                session.wake();
            }
        });
    }
}

impl Turn<'_> {
    /// Sends home what came to nothing elsewhere. It keeps its place among the replies.
    pub(super) fn ask_again(&mut self) {
        let all = std::mem::take(&mut self.core.sent_home);
        let mut behind = all.iter().filter(|again| again.was_home).count();
        for mut again in all {
            behind -= usize::from(again.was_home);
            // What waits is not overtaken by what was lost behind it.
            if again.after > self.now || !self.core.sent_home.is_empty() {
                self.core.sent_home.push(again);
                continue;
            }
            match self.judge_refused(&mut again, behind) {
                Verdict::Goes => {}
                Verdict::Waits(until) => {
                    self.wait_until(again, until);
                    continue;
                }
                Verdict::Fails(why) => {
                    self.context.shared.metrics.retries.inc(why);
                    self.core.causality.all_fetched(&again.op.keys, again.op.effect);
                    self.fail_refused(again);
                    continue;
                }
            }
            let ask = again.op.ask.take();
            again.op.node = ask.or_else(|| self.context.owner(again.op.slot));
            if again.op.pinned {
                self.wait_elsewhere(again, ask.is_some());
                continue;
            }
            let (identity, db, version) = (self.core.account.identity(), self.core.db, self.core.version);
            let connection = self.context.shared_connection(again.op.node, identity, db, version);
            match connection {
                Ok(_) if !self.may_spend(&again) => {
                    self.core.causality.all_fetched(&again.op.keys, again.op.effect);
                    self.fail_refused(again);
                }
                Ok(connection) => {
                    self.core.causality.all_fetched(&again.op.keys, again.op.effect);
                    self.before_sending(&mut again.op);
                    if ask.is_some() {
                        self.say_asking(&connection);
                    }
                    self.resend(again.op, Some(again.number), &again.frame, &connection);
                }
                Err(loss) => self.wait_or_fail(again, &loss),
            }
        }
    }

    /// Has what waits for an element wait at another node.
    fn wait_elsewhere(&mut self, mut again: Again, asking: bool) {
        self.go_home();
        self.node = again.op.node;
        match self.try_pin() {
            Ok(()) if !self.may_spend(&again) => self.fail_refused(again),
            Ok(()) => {
                if asking {
                    self.send_on_pin(None, ASKING);
                }
                self.before_sending(&mut again.op);
                self.send_op_on_pin(Some(again.number), again.op, &again.frame);
            }
            Err(None) => self.core.sent_home.push(again),
            Err(Some(loss)) => self.wait_or_fail(again, &loss),
        }
        self.node = None;
    }

    /// Has the node answer the next request although it has not got the slot yet.
    fn say_asking(&mut self, connection: &Connection<Forwarded>) {
        self.resend(Op::unheard(self.now), None, ASKING, connection);
    }

    /// There is no connection now. What was lost before waits once more; a fetch has waited already.
    fn wait_or_fail(&mut self, mut again: Again, loss: &Loss) {
        if again.refusal.is_some() && !matches!(loss, Loss::Refused(_)) {
            // For as long as it is waited for at all.
            return self.wait_until(again, self.now.after(jittered_pause()));
        }
        let was_lost = again.op.tries > 0 || again.op.hops > 0;
        let patient = was_lost && again.op.waits < MOST_WAITS;
        if patient && !matches!(loss, Loss::Refused(_)) {
            again.op.waits += 1;
            // A server that is away is tried every 20 to 80 ms.
            return self.wait_until(again, time::now().after(jittered_pause()));
        }
        self.core.causality.all_fetched(&again.op.keys, again.op.effect);
        self.fail_unsent(again.number, again.op, loss);
    }

    fn wait_until(&mut self, mut again: Again, until: Instant) {
        again.after = until;
        self.session.wake_at(until);
        self.core.sent_home.push(again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_requests_and_ten_a_second_may_be_sent_again() {
        let budget = Budget::default();
        let spend = || (0..).take_while(|_| budget.take()).count();
        assert_eq!(spend(), 100);
        (0..10).for_each(|_| budget.tick());
        assert_eq!(spend(), 9, "what is left over shrinks");
        for _ in 0..1000 {
            (0..1000).for_each(|_| budget.sent());
            budget.tick();
        }
        let most = spend();
        assert!((10_000..10_200).contains(&most), "{most}");
    }
}
