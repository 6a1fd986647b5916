//! Replies in request order: one slot for every request whose reply is not there yet, and the bytes ready to be written.
//!
//! ```text
//! out ║ slot 41: pending · bytes that follow it │ slot 42: done · bytes that follow it │ …
//! ```
//! Replies that are ready at once need no slot: they follow the last pending one. What arrives for the slot in front
//! goes straight to `out`.

use std::collections::VecDeque;

use super::output::Output;

/// Room for more slots than this is given back when there are none.
const KEEP_SLOTS: usize = 1024;

/// One reply that is not complete, and what is ready behind it.
#[derive(Debug, Default)]
struct Slot {
    /// What arrived of the reply while other replies were in front of it.
    reply: Vec<u8>,
    done: bool,
    /// Part of it, but not all, is in `out`.
    begun: bool,
    /// The reply is thrown away (CLIENT REPLY OFF, SKIP).
    muted: bool,
    /// Replies to later requests that were ready at once.
    after: Vec<u8>,
}

/// A session's replies in request order.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    /// Ready to be written.
    out: Output,
    slots: VecDeque<Slot>,
    /// Number of the slot in front.
    front: u64,
    /// Bytes in slots.
    held: usize,
    /// Takes replies nobody wants.
    void: Vec<u8>,
}

impl Pipeline {
    /// Appends a reply that is ready now with `write`; `muted`: to nowhere.
    pub(super) fn ready<T>(&mut self, muted: bool, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if muted {
            self.void.clear();
            return write(&mut self.void);
        }
        let Some(last) = self.slots.back_mut() else {
            return self.out.append(write);
        };
        let before = last.after.len();
        let written = write(&mut last.after);
        self.held += last.after.len() - before;
        written
    }

    /// The number the next pending reply will have.
    pub(super) fn next(&self) -> u64 {
        self.front + self.slots.len() as u64
    }

    /// A reply will come later; gives its number.
    pub(super) fn pend(&mut self, muted: bool) -> u64 {
        let number = self.next();
        self.slots.push_back(Slot {
            muted,
            ..Slot::default()
        });
        number
    }

    /// Reply `number` is heard, whatever CLIENT REPLY said.
    pub(super) fn unmute(&mut self, number: u64) {
        if let Some(slot) = self.at(number).and_then(|at| self.slots.get_mut(at)) {
            slot.muted = false;
        }
    }

    /// Part of reply `number` arrived. A number whose reply was complete already is ignored: it was answered late.
    pub(super) fn append(&mut self, number: u64, part: &[u8]) {
        let Some(at) = self.at(number) else { return };
        let Some(slot) = self.slots.get_mut(at).filter(|slot| !slot.muted && !slot.done) else {
            return;
        };
        if at == 0 {
            slot.begun |= !part.is_empty();
            self.out.append(|out| out.extend_from_slice(part));
        } else {
            slot.reply.extend_from_slice(part);
            self.held += part.len();
        }
    }

    /// Reply `number` is complete.
    pub(super) fn finish(&mut self, number: u64) {
        let Some(at) = self.at(number) else { return };
        if let Some(slot) = self.slots.get_mut(at) {
            slot.done = true;
        }
        while self.slots.front().is_some_and(|slot| slot.done) {
            self.front += 1;
            let Some(slot) = self.slots.pop_front() else { break };
            self.held -= slot.after.len();
            self.out.take(slot.after);
            // What the new front gathered while it waited may leave now.
            if let Some(front) = self.slots.front_mut() {
                self.held -= front.reply.len();
                front.begun = !front.reply.is_empty();
                self.out.take(std::mem::take(&mut front.reply));
            }
        }
        if self.slots.is_empty() && self.slots.capacity() > KEEP_SLOTS {
            self.slots = VecDeque::new();
        }
    }

    /// A whole reply arrived.
    pub(super) fn complete(&mut self, number: u64, reply: &[u8]) {
        self.append(number, reply);
        self.finish(number);
    }

    /// A frame that answers nobody: it goes between replies, ahead of all of which nothing is written yet.
    pub(super) fn push(&mut self, frame: &[u8]) {
        match self.slots.front_mut().filter(|front| front.begun) {
            Some(front) => {
                self.held += frame.len();
                front.after.extend_from_slice(frame);
            }
            None => self.out.append(|out| out.extend_from_slice(frame)),
        }
    }

    /// The same with another type byte.
    pub(super) fn push_as(&mut self, kind: u8, frame: &[u8]) {
        let Some(rest) = frame.get(1..) else { return };
        self.push(&[kind]);
        self.push(rest);
    }

    /// Nobody will read any of it: what is there is dropped, and so is what arrives for requests made until now.
    pub(super) fn give_up(&mut self) {
        self.front = self.next();
        self.slots = VecDeque::new();
        self.out = Output::default();
        self.held = 0;
    }

    /// The number of the reply in front.
    pub(super) fn front(&self) -> u64 {
        self.front
    }

    /// What is to be written next; empty when nothing is ready.
    pub(super) fn unsent(&self) -> &[u8] {
        self.out.unsent()
    }

    /// So many bytes of that were written.
    pub(super) fn sent(&mut self, count: usize) {
        self.out.sent(count);
    }

    /// Replies that are not complete, and complete ones behind them.
    pub(super) fn pending(&self) -> usize {
        self.slots.len()
    }

    /// Bytes that wait to be written, ready or not.
    pub(super) fn bytes(&self) -> usize {
        self.out.len() + self.held
    }

    fn at(&self, number: u64) -> Option<usize> {
        let at = usize::try_from(number.checked_sub(self.front)?).ok()?;
        (at < self.slots.len()).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_leave_in_request_order_whatever_order_they_arrive_in() {
        let mut pipeline = Pipeline::default();
        pipeline.ready(false, |out| out.extend_from_slice(b"0"));
        let first = pipeline.pend(false);
        pipeline.ready(false, |out| out.extend_from_slice(b"2"));
        let third = pipeline.pend(false);
        let fourth = pipeline.pend(false);
        pipeline.ready(false, |out| out.extend_from_slice(b"5"));
        pipeline.complete(fourth, b"4");
        pipeline.append(third, b"3");
        assert_eq!(pipeline.unsent(), b"0");
        pipeline.append(first, b"1");
        assert_eq!(pipeline.unsent(), b"01");
        pipeline.append(first, b"1");
        pipeline.finish(first);
        assert_eq!(pipeline.unsent(), b"01123");
        pipeline.append(third, b"3");
        pipeline.finish(third);
        assert_eq!(pipeline.unsent(), b"01123345");
        assert_eq!((pipeline.pending(), pipeline.bytes()), (0, 8));
    }

    #[test]
    fn what_was_written_is_gone_and_the_rest_keeps_its_order() {
        let mut pipeline = Pipeline::default();
        pipeline.push(b"abcdef");
        for (count, rest) in [(1, &b"bcdef"[..]), (3, b"ef"), (1, b"f")] {
            pipeline.sent(count);
            assert_eq!((pipeline.unsent(), pipeline.bytes()), (rest, rest.len()));
        }
        pipeline.push(b"g");
        assert_eq!(pipeline.unsent(), b"fg");
        pipeline.sent(2);
        assert!(pipeline.unsent().is_empty());
    }

    #[test]
    fn a_muted_reply_takes_its_turn_and_says_nothing() {
        let mut pipeline = Pipeline::default();
        let muted = pipeline.pend(true);
        let heard = pipeline.pend(false);
        pipeline.ready(true, |out| out.extend_from_slice(b"nothing"));
        pipeline.complete(heard, b"b");
        pipeline.complete(muted, b"a");
        assert_eq!(pipeline.unsent(), b"b");
    }

    #[test]
    fn a_push_waits_for_the_end_of_a_reply_that_has_begun() {
        let mut pipeline = Pipeline::default();
        let (first, second) = (pipeline.pend(false), pipeline.pend(false));
        pipeline.push_as(b'>', b"*1");
        pipeline.append(first, b"a");
        pipeline.push(b"2");
        pipeline.append(first, b"b");
        pipeline.append(second, b"c");
        assert_eq!(pipeline.bytes(), 6);
        pipeline.finish(first);
        pipeline.push(b"3");
        pipeline.finish(second);
        pipeline.push(b"4");
        assert_eq!((pipeline.unsent(), pipeline.bytes()), (&b">1ab2c34"[..], 8));
    }

    #[test]
    fn what_nobody_will_read_holds_no_bytes() {
        let mut pipeline = Pipeline::default();
        let (first, second) = (pipeline.pend(false), pipeline.pend(false));
        pipeline.append(second, b"later");
        pipeline.append(first, b"now");
        pipeline.give_up();
        pipeline.append(first, b"more");
        pipeline.complete(second, b"much more");
        assert_eq!((pipeline.pending(), pipeline.bytes()), (0, 0));
        let third = pipeline.pend(false);
        pipeline.complete(third, b"c");
        assert_eq!(pipeline.unsent(), b"c");
    }

    #[test]
    fn a_reply_that_was_given_up_is_ignored_when_it_comes() {
        let mut pipeline = Pipeline::default();
        let late = pipeline.pend(false);
        pipeline.complete(late, b"-late");
        pipeline.complete(late, b"+OK");
        assert_eq!(pipeline.unsent(), b"-late");
    }
}
