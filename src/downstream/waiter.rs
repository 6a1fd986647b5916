//! What a session's requests hear from their connections: the reply, whole or in parts, that it is late, or that it will
//! not come.

use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use super::cluster::scatter::Gathered;
use super::door::Knocked;
use super::forward::{Forwarded, Special, loss_text};
use super::home::Fill;
use super::large::LARGE;
use super::{fence, pinned, subscribe, switch};
use crate::coherence::Slots;
use crate::command::Effect;
use crate::metrics::{Disconnect, ErrorKind, Origin};
use crate::resp::encode;
use crate::time::Instant;
use crate::upstream::{Ended, Loss, Room, Taken, Waiter};

impl Waiter for Forwarded {
    fn frame(&mut self, kind: u8, frame: &[u8], now: Instant) -> Taken {
        let sorted = match &mut self.op.special {
            Special::Change(change) => change.sort(kind, frame),
            special if self.op.pinned => subscribe::sort(&self.session, special, self.number, kind, frame),
            _ if kind == b'>' => subscribe::Sorted::Message,
            _ => subscribe::Sorted::Reply,
        };
        match sorted {
            subscribe::Sorted::Message => return Taken::NotMine,
            subscribe::Sorted::Confirmation { last: false } => {
                self.session.wake();
                return Taken::More;
            }
            subscribe::Sorted::Confirmation { last: true } => {
                self.apply(now);
                if let Special::Change(change) = &self.op.special {
                    change.confirmed(&self.session, self.number, self.late);
                }
                self.show(kind, frame);
                return self.done(kind, now);
            }
            subscribe::Sorted::Reply => {}
        }
        if self.is_refused_by_replica(frame, now)
            || (kind == b'-' && (self.is_elsewhere(frame, now) || self.is_unready(frame, now)))
        {
            return Taken::Refused;
        }
        self.answered(kind, frame, now)
    }

    fn part(&mut self, kind: u8, part: &[u8], first: bool, last: bool, now: Instant) {
        self.apply(now);
        self.note_size(part.len(), now);
        self.compare(kind, part, last, now);
        if first {
            self.begin_parts(kind);
        }
        if let Some(number) = self.number {
            let core = &mut *self.session.core.borrow_mut();
            match &mut self.op.special {
                Special::Exec(transaction) if !transaction.is_plain() => {
                    let passed = transaction.pass_part(&self.session, core, part);
                    core.pipeline.append(number, &passed);
                }
                _ => core.pipeline.append(number, part),
            }
        }
        if last {
            if let Some(number) = self.number {
                self.session.core.borrow_mut().pipeline.finish(number);
            }
            self.show(kind, &[kind]);
            self.record(kind, now);
            self.release();
        }
        self.session.wake();
    }

    fn takes_parts(&self, kind: u8) -> bool {
        match &self.op.special {
            Special::No | Special::Try | Special::Blocking | Special::Discard | Special::Keep => {
                !self.op.pinned || subscribe::is_reply(&self.session.core.borrow(), kind)
            }
            Special::Exec(_) => kind == b'*',
            // They are read before they are passed on, and not long.
            _ => false,
        }
    }

    fn room(&mut self, task: &Waker) -> Room {
        let session = &self.session;
        let most = session.context.shared.settings.limits.client_output_buffer.as_usize();
        let mut core = session.core.borrow_mut();
        // Subscribers never wait for each other: who does not read is closed.
        let fill = if self.number.is_some() && !self.op.hub {
            core.fill(most)
        } else {
            Fill::Low
        };
        if fill == Fill::Low {
            return Room::Open;
        }
        if !core.stalled.iter().any(|stalled| stalled.will_wake(task)) {
            core.stalled.push(task.clone());
        }
        match fill {
            _ if self.op.pinned => Room::None,
            Fill::Full => Room::Full,
            _ => Room::Scarce,
        }
    }

    fn stalled(&mut self, silence: Duration, others: bool) {
        if others {
            self.session.hurry(silence);
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.session, &other.session)
    }

    fn late(&mut self, after: Duration, _now: Instant) {
        if self.partly {
            // The client has half of the reply: an error would become part of it. If the rest does not come either, the
            // connection is given up, and the client's with it.
            return;
        }
        self.late = true;
        self.doubt_owner();
        self.fail(&self.session.context.late_text(after, self.op.writes));
        self.count_error(ErrorKind::Timeout);
        let mut core = self.session.core.borrow_mut();
        if !self.op.pinned {
            core.switching = false;
        }
        if matches!(&self.op.special, Special::Change(change) if change.leaves_doubt())
            || self.op.special.must_be_known()
        {
            core.closing.get_or_insert(Disconnect::Upstream);
        }
        drop(core);
        self.session.wake();
    }

    fn refused(self, reply: &[u8], request: Option<&[u8]>, now: Instant) {
        match request {
            Some(request) if self.op.replica.is_some() && !Slots::says_elsewhere(reply) => self.ask_primary(request),
            Some(request) if Slots::says_elsewhere(reply) => self.follow(reply, request, now),
            Some(request) => self.wait_until_ready(reply, request, now),
            None => {
                // In front of a single server not everything is kept that it may refuse.
                let mut whole = self;
                whole.answered(b'-', reply, now);
            }
        }
    }

    fn lost(mut self, ended: &Ended<'_>) {
        let Ended {
            loss, sent, peer, now, ..
        } = *ended;
        if !matches!(loss, Loss::Shutdown) {
            self.doubt_owner();
        }
        if self.may_ask_again(ended) {
            return self.ask_again(ended);
        }
        // What a node that is the master no more may still do is not seen through this nearhit.
        let may_be_seen = sent && !matches!(loss, Loss::Left(_));
        if let Some(flushing) = self.op.flushing.take().filter(|_| may_be_seen) {
            let identity = self.session.core.borrow().account.identity().clone();
            fence::hold(&self.session.context, flushing, &identity, self.op.node, peer);
        }
        self.apply(now);
        self.not_compared();
        // Of a request that never was whole nothing has run.
        let sent = sent && !self.session.core.borrow().is_uploading(self.number);
        if let Loss::Refused(text) = loss {
            // The server's own answer: SELECT's, to a connection that was to be in that database.
            let reply = format!("-{text}").into_bytes();
            self.show(b'-', &reply);
            let core = &mut self.session.core.borrow_mut();
            switch::refused_at_the_door(&self.session, core, &self.op.special, &reply);
        }
        if let Special::Change(change) = &self.op.special
            && change.lost(&self.session, self.number, loss)
        {
            // The connection's end has done it.
            self.late = true;
        }
        let text = loss_text(loss, sent, self.op.writes);
        if self.partly {
            // Half a reply was passed on; nothing can follow it.
            self.session.core.borrow_mut().dead.get_or_insert(Disconnect::Upstream);
        } else if !self.late && matches!(self.op.special, Special::Knock { again: true }) && !loss.never_connected() {
            self.session.core.borrow_mut().knocked = Some(Knocked::Lost);
        } else if !self.late {
            self.fail(&text);
            if !self.given_up() {
                self.count_error(if sent { ErrorKind::Other } else { ErrorKind::Connect });
            }
        }
        self.release();
        let unknown = self.op.special.must_be_known() && !matches!(loss, Loss::Refused(_));
        if self.op.pinned || unknown {
            // Whatever state the connection had, or would have had, is gone; the client must know.
            self.session
                .core
                .borrow_mut()
                .closing
                .get_or_insert(Disconnect::Upstream);
        }
        self.session.wake();
    }
}

impl Forwarded {
    /// What a whole reply means that is to be passed on.
    fn answered(&mut self, kind: u8, frame: &[u8], now: Instant) -> Taken {
        if let Special::Change(change) = &self.op.special {
            change.refused(&self.session, self.number);
        }
        let whole;
        let (kind, frame) = match self.gather(frame) {
            Gathered::Alone => (kind, frame),
            Gathered::Waiting => {
                self.apply(now);
                return self.part_done();
            }
            Gathered::Whole(reply) => {
                whole = reply;
                (whole.first().copied().unwrap_or(kind), whole.as_slice())
            }
        };
        self.apply(now);
        self.size = frame.len();
        self.compare(kind, frame, true, now);
        self.pass_on(kind, frame, now);
        self.show(kind, frame);
        self.done(kind, now)
    }

    /// What a reply that comes in parts means, beyond its bytes.
    fn begin_parts(&mut self, kind: u8) {
        self.partly = true;
        if let (Some(number), Some(attribute)) = (self.number, &self.op.attribute) {
            self.session.core.borrow_mut().pipeline.append(number, attribute);
        }
        if matches!(self.op.special, Special::Keep) && kind != b'-' {
            pinned::keep(&mut self.session.core.borrow_mut());
        }
    }

    /// A part of a reply whose others are missing.
    fn part_done(&mut self) -> Taken {
        self.release();
        self.session.wake();
        Taken::Done
    }

    /// Counts bytes of the reply, and remembers whose are many.
    fn note_size(&mut self, bytes: usize, now: Instant) {
        let before = self.size;
        self.size += bytes;
        let keys = self.op.keys.as_slice();
        if before <= LARGE
            && self.size > LARGE
            && self.op.effect == Effect::Read
            && let Some(&key) = keys.first()
        {
            let context = &self.session.context;
            context.large.note(key, self.op.command, now);
            context.shared.cache.note_too_large(key, self.op.command, now);
        }
    }

    fn fail(&mut self, text: &str) {
        let mut reply = Vec::new();
        encode::error(&mut reply, text.as_bytes());
        match self.gather(&reply) {
            Gathered::Alone => {}
            Gathered::Waiting => return,
            Gathered::Whole(whole) => reply = whole,
        }
        match &self.op.special {
            Special::Unblock(asker) => return self.session.context.answer(*asker, &reply),
            Special::Question(question) => return question.unanswered(&mut self.session.core.borrow_mut(), &reply),
            Special::Knock { .. } => {
                self.session.core.borrow_mut().knocked = Some(Knocked::Failed(reply));
                return;
            }
            _ => {}
        }
        let Some(number) = self.number else { return };
        let mut core = self.session.core.borrow_mut();
        if let Special::Edit(edit) = &self.op.special
            && let Some(known) = edit.without_server(&self.session.context.shared, &core)
        {
            reply = known;
        }
        core.pipeline.complete(number, &reply);
    }

    /// Nobody waits for the reply: the client has left, or was told that the request was never whole.
    fn given_up(&self) -> bool {
        let core = self.session.core.borrow();
        core.dead.is_some() || core.closing == Some(Disconnect::Protocol)
    }

    fn count_error(&self, kind: ErrorKind) {
        let metrics = &self.session.context.shared.metrics;
        metrics.command_errors.inc((Origin::Proxy, kind));
        if self.op.writes && kind != ErrorKind::Connect {
            metrics.uncertain_replies.inc();
        }
    }
}
