//! Replies by which a server that is in front of nothing else says that it has not run a request, because it is no master or
//! not ready to be one.
//!
//! ```text
//! READONLY, MASTERDOWN → discovery looks ┐
//! LOADING ───────────────────────────────┴→ waits ─ 20 to 80 ms later → one request of the worker tries the master there is
//!                                                   └ answered → all others are sent, in their order
//! for longer than a second, or something behind it has run, or it cannot be sent again → the server's own words
//! ```
//! Such a reply is proof that the request has not run only where nobody but the server can have said it: a script may have
//! written before it came to what was refused, and passes the server's words on.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::again::Again;
use super::cluster::redirect::PATIENCE;
use super::context::Context;
use super::forward::{Forwarded, Special, error_kind};
use super::request::Turn;
use super::session::{Core, Fetching};
use crate::metrics::{Origin, Retry};
use crate::time::Instant;
use crate::upstream::jittered_pause;

/// Why a server has not run a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    ReadOnly,
    Loading,
    MasterDown,
}

impl Why {
    fn of(reply: &[u8]) -> Option<Self> {
        match reply {
            _ if reply.starts_with(b"-READONLY ") => Some(Self::ReadOnly),
            _ if reply.starts_with(b"-LOADING ") => Some(Self::Loading),
            _ if reply.starts_with(b"-MASTERDOWN ") => Some(Self::MasterDown),
            _ => None,
        }
    }

    /// The reason under which a request counts that is sent once more.
    fn retry(self) -> Retry {
        match self {
            Self::ReadOnly => Retry::ReadOnly,
            Self::Loading => Retry::Loading,
            Self::MasterDown => Retry::MasterDown,
        }
    }
}

/// What a server said to a request that it has not run.
pub(super) struct Refusal {
    why: Why,
    reply: Box<[u8]>,
    /// Requests of the session that were on their way behind it. Unless all of them come back, one has run that must not be
    /// followed by what was before it.
    behind: usize,
}

/// Keeps the requests of a worker from asking all at once whether the master is ready now.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Some: the master has refused requests; until then nobody tries it again.
    closed: Cell<Option<Instant>>,
}

/// Who may go through the gate.
#[derive(Debug, PartialEq, Eq)]
enum Passage {
    Free,
    /// This one alone, to see whether the server is ready.
    Alone,
    /// Nobody before that.
    Closed(Instant),
}

impl Gate {
    /// The server has refused a request.
    fn refused(&self, now: Instant) {
        let until = self.closed.get().filter(|until| now < *until);
        self.closed.set(until.or_else(|| Some(now.after(jittered_pause()))));
    }

    fn passage(&self, now: Instant) -> Passage {
        match self.closed.get() {
            None => Passage::Free,
            Some(until) if now < until => Passage::Closed(until),
            Some(_) => {
                self.closed.set(Some(now.after(jittered_pause())));
                Passage::Alone
            }
        }
    }

    /// The server has run a request, or is another one.
    pub(super) fn open(&self) {
        self.closed.set(None);
    }
}

impl Context {
    /// How long a refused request is sent again for all together: nobody waits for it longer than for an answer.
    fn patience(&self) -> Duration {
        let timeout = self.shared.settings.command_timeout;
        timeout.map_or(PATIENCE, |timeout| timeout.min(PATIENCE))
    }

    /// The server has refused something with `why`.
    fn hear_refusal(&self, why: Why, now: Instant) {
        self.gate.refused(now);
        if why != Why::Loading {
            self.shared.doubt.wish();
        }
    }
}

impl Forwarded {
    /// Whether the server has answered that it has not run the request because it is no master or not ready, and the request
    /// is to be sent again.
    pub(super) fn is_unready(&self, reply: &[u8], now: Instant) -> bool {
        let context = &self.session.context;
        if Why::of(reply).is_none() || context.nodes.is_some() {
            return false;
        }
        let op = &self.op;
        let may = self.may_be_put_back() && op.is_servers_word() && !self.applied;
        let in_time = now.since(op.started) < context.patience();
        if may && !in_time {
            context.shared.metrics.retries.inc(Retry::Exhausted);
        }
        may && in_time
    }

    /// Has the session send the request again once the master is ready, or another one is.
    pub(super) fn wait_until_ready(mut self, reply: &[u8], request: &[u8], now: Instant) {
        let Some(why) = Why::of(reply) else { return };
        let context = Rc::clone(&self.session.context);
        context.hear_refusal(why, now);
        self.op.hops = self.op.hops.saturating_add(1);
        if matches!(self.op.special, Special::Try) {
            self.op.special = Special::No;
        }
        let others = self.session.core.borrow().home.on_their_way();
        let refusal = Refusal {
            why,
            reply: reply.into(),
            behind: if self.op.pinned { 0 } else { others.saturating_sub(1) },
        };
        self.put_back_refused(request, refusal);
    }
}

/// A read that was refused where memory is filled, which is to be asked over the home connection; `None`: it was not refused.
pub(super) fn refused_fetch(
    context: &Context,
    core: &Core,
    number: u64,
    fetching: Fetching,
    reply: &[u8],
    now: Instant,
) -> Result<Again, Fetching> {
    let why = Why::of(reply).filter(|_| context.nodes.is_none());
    let Some(why) = why.filter(|_| now.since(fetching.started) < context.patience()) else {
        return Err(fetching);
    };
    context.hear_refusal(why, now);
    let reply = reply.into();
    let mut again = Again::fetch(core, number, fetching, &context.shared.settings.upstream);
    again.refusal = Some(Refusal { why, reply, behind: 0 });
    again.op.hops = 1;
    Ok(again)
}

/// What is to become of a refused request now.
pub(super) enum Verdict {
    /// It is sent again.
    Goes,
    /// It waits until then.
    Waits(Instant),
    /// The client is told what the server said.
    Fails(Retry),
}

impl Turn<'_> {
    /// What is to become of a request that may have been refused. `behind`: so many that were on their way behind it have come
    /// back.
    pub(super) fn judge_refused(&self, again: &mut Again, behind: usize) -> Verdict {
        let Some(refusal) = &again.refusal else {
            return Verdict::Goes;
        };
        let later = || Verdict::Waits(self.now.after(jittered_pause()));
        let quiet = self.core.home.is_quiet();
        let gate = &self.context.gate;
        match () {
            () if self.now.since(again.op.started) >= self.context.patience() => Verdict::Fails(Retry::Exhausted),
            () if behind < refusal.behind && quiet => Verdict::Fails(Retry::Overtaken),
            () if behind < refusal.behind => later(),
            // Discovery looks for the master.
            () if self.context.pool.borrow().address().is_none() => later(),
            () => match gate.passage(self.now) {
                Passage::Closed(until) => Verdict::Waits(until),
                Passage::Alone if matches!(again.op.special, Special::No) => {
                    again.op.special = Special::Try;
                    Verdict::Goes
                }
                Passage::Alone | Passage::Free => Verdict::Goes,
            },
        }
    }

    /// Whether a refused request may be sent again, which counts.
    pub(super) fn may_spend(&self, again: &Again) -> bool {
        let Some(refusal) = &again.refusal else { return true };
        let may = self.context.budget.take();
        let why = if may { refusal.why.retry() } else { Retry::Budget };
        self.context.shared.metrics.retries.inc(why);
        may
    }

    /// The client is told what the server has said.
    pub(super) fn fail_refused(&mut self, again: Again) {
        let Again {
            number, op, refusal, ..
        } = again;
        let Some(refusal) = refusal else { return };
        let error = (Origin::Upstream, error_kind(&refusal.reply));
        self.context.shared.metrics.command_errors.inc(error);
        self.answer_unsent(number, op, refusal.reply.into_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_is_no_master_or_not_ready_is_waited_for() {
        let why = |reply: &str| Why::of(reply.as_bytes());
        assert_eq!(
            why("-READONLY You can't write against a read only replica.\r\n"),
            Some(Why::ReadOnly)
        );
        assert_eq!(
            why("-LOADING Redis is loading the dataset in memory\r\n"),
            Some(Why::Loading)
        );
        assert_eq!(why("-MASTERDOWN Link with MASTER is down\r\n"), Some(Why::MasterDown));
        for other in [
            "-OOM x\r\n",
            "-MISCONF x\r\n",
            "-BUSY x\r\n",
            "-LOADINGS x\r\n",
            "+LOADING x\r\n",
            "",
        ] {
            assert_eq!(why(other), None, "{other}");
        }
    }

    #[test]
    fn one_request_tries_a_server_that_was_not_ready_and_all_follow_once_it_is() {
        let gate = Gate::default();
        let ms = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        assert_eq!(gate.passage(ms(0)), Passage::Free);
        gate.refused(ms(0));
        let Passage::Closed(until) = gate.passage(ms(1)) else {
            panic!("nobody tries at once");
        };
        gate.refused(ms(10));
        assert_eq!(
            gate.passage(ms(11)),
            Passage::Closed(until),
            "later refusals change nothing"
        );
        assert_eq!(gate.passage(until), Passage::Alone);
        assert!(
            matches!(gate.passage(until), Passage::Closed(_)),
            "the others wait for it"
        );
        gate.open();
        assert_eq!(gate.passage(until), Passage::Free);
    }
}
