//! A client's replies: each is read as its request wants it, judged, and noted in the keys' histories.

use super::cell::{Content, Event, Kind, Outcome, Seen, Ttl, What};
use super::client::{Pending, Session};
use super::replies::{Token, Tokens, seen, seen_of_many};
use super::workload::Op;
use super::world::Part;
use nearhit::resp::Version;
use nearhit::time::Instant;
use std::sync::atomic::Ordering;

/// Errors after which a command certainly has not run.
const REFUSED: [&[u8]; 13] = [
    b"LOADING",
    b"OOM",
    b"NOPERM",
    b"MISCONF",
    b"READONLY",
    b"NOAUTH",
    b"EXECABORT",
    b"BUSY",
    b"MOVED",
    b"ASK",
    b"TRYAGAIN",
    b"CLUSTERDOWN",
    b"CROSSSLOT",
];

impl Session {
    /// One whole reply came. `None`: it does not belong there.
    pub(super) fn answered(&mut self, reply: &[u8], completed: Instant) -> Option<()> {
        let pending = *self.pending.front()?;
        let fine = match (reply.first(), pending) {
            (Some(b'>'), _) => false,
            (Some(b'-'), _) => self.refused(pending, reply, completed),
            (_, Pending::Ok) => {
                self.transaction_is_whole = true;
                reply == b"+OK\r\n"
            }
            (_, Pending::Select(place)) => {
                self.db = place;
                reply == b"+OK\r\n"
            }
            // Without MULTI they were carried out at once; EXEC then says so.
            (_, Pending::Queued) => reply == b"+QUEUED\r\n" || !self.transaction_is_whole,
            (_, Pending::Echo(number)) => {
                let wanted = number.to_string();
                Tokens::new(reply, self.seat.version).next() == Some(Token::Bulk(wanted.as_bytes()))
            }
            (_, Pending::Read { op, parts }) => self.was_read(op, parts, reply, completed),
            (_, Pending::Write { op, parts, ttl }) => self.was_written(op, parts, ttl, reply, completed),
        };
        if !fine {
            return self.odd(reply);
        }
        self.pending.pop_front();
        Some(())
    }

    /// An error. False when this one cannot be: every key has the type its operations want.
    fn refused(&mut self, pending: Pending, reply: &[u8], completed: Instant) -> bool {
        let text = reply.get(1..reply.len().saturating_sub(2)).unwrap_or_default();
        self.errors += 1;
        match pending {
            // RENAME of a key that has expired.
            Pending::Write {
                op: Op::Rename,
                parts,
                ttl,
            } if text == b"ERR no such key" => {
                self.errors -= 1;
                self.end_write(Op::Rename, parts, ttl, Outcome::Void, completed);
            }
            _ if text.starts_with(b"WRONGTYPE") => return false,
            // Clients of nearhit know of no nodes.
            _ if self.seat.via.is_some() && names_a_node(text) => return false,
            Pending::Write { op, parts, ttl } => {
                self.world.findings.error(text);
                let refused = REFUSED.iter().any(|code| text.starts_with(code));
                let whole = !op.is_transaction() || self.transaction_is_whole;
                let outcome = if refused && whole && !op.is_script() && !op.is_scattered() {
                    Outcome::Void
                } else {
                    Outcome::Unknown
                };
                self.end_write(op, parts, ttl, outcome, completed);
            }
            Pending::Read { parts, .. } => {
                self.world.findings.error(text);
                drop(self.parts.drain(..parts.min(self.parts.len())));
            }
            Pending::Ok | Pending::Queued | Pending::Echo(_) | Pending::Select(_) => {
                self.world.findings.error(text);
                // Redis aborts EXEC when a command could not be queued; when MULTI itself failed nothing is certain.
                self.transaction_is_whole &= matches!(pending, Pending::Queued);
            }
        }
        true
    }

    fn was_read(&mut self, op: Op, parts: usize, reply: &[u8], completed: Instant) -> bool {
        let kind = self
            .parts
            .front()
            .map_or(Kind::Text, |part| self.world.kind(part.index));
        let sights = match op {
            Op::Mget => seen_of_many(reply, self.seat.version, parts),
            _ => seen(op, kind, reply, self.seat.version).map(|seen| vec![seen]),
        };
        let Some(sights) = sights else { return false };
        let parts: Vec<Part> = self.parts.drain(..parts.min(self.parts.len())).collect();
        for (part, seen) in parts.iter().zip(sights) {
            self.judge(part, op, seen, completed);
        }
        true
    }

    fn judge(&mut self, part: &Part, op: Op, seen: Seen, completed: Instant) {
        let read = self.read_of(part, completed);
        let event = Event {
            what: What::Read(seen),
            ..self.event(op, completed, Content::Nothing, Outcome::Done)
        };
        if let Some(verdict) = self.world.judge(part, &read, &event, seen) {
            if self.world.orders_commands {
                self.raise(part, verdict.position, 0);
            }
            if self.world.kind(part.index) == Kind::Cas && op == Op::Get {
                self.watched = match seen {
                    Seen::Id(id) => Some(id),
                    _ => Some(0),
                };
            }
        }
    }

    fn was_written(&mut self, op: Op, parts: usize, ttl: Ttl, reply: &[u8], completed: Instant) -> bool {
        if self
            .parts
            .front()
            .is_some_and(|part| self.world.kind(part.index).counts())
        {
            return self.was_counted(op, parts, ttl, reply, completed);
        }
        match outcome(op, reply, self.seat.version) {
            Some(outcome) => {
                self.end_write(op, parts, ttl, outcome, completed);
                true
            }
            None => false,
        }
    }

    fn was_counted(&mut self, op: Op, parts: usize, ttl: Ttl, reply: &[u8], completed: Instant) -> bool {
        let (Some(part), Some(made)) = (self.parts.front().copied(), counted(op, reply, self.seat.version)) else {
            return false;
        };
        let made = match made {
            Counted::Made(value) => Some(value),
            Counted::AsRead => Some(part.number),
            Counted::Nothing => None,
            // An error inside of EXEC.
            Counted::Unknown => {
                self.end_write(op, parts, ttl, Outcome::Unknown, completed);
                return true;
            }
        };
        if let Some(value) = made {
            let content = Content::Held { id: value, items: 0 };
            let event = self.event(op, completed, content, Outcome::Done);
            let read = self.read_of(&Part { number: 0, ..part }, completed);
            if let Some(position) = self.world.claim(&part, op, value, &read, &event) {
                self.raise(&part, 0, position);
            }
        }
        self.parts.pop_front();
        self.world.findings.writes.fetch_add(1, Ordering::Relaxed);
        self.left();
        true
    }

    /// A write has come to its end.
    fn end_write(&mut self, op: Op, parts: usize, ttl: Ttl, outcome: Outcome, completed: Instant) {
        let parts: Vec<Part> = self.parts.drain(..parts.min(self.parts.len())).collect();
        for part in &parts {
            if self.world.kind(part.index).counts() {
                continue;
            }
            let content = self
                .world
                .cell(part.index)
                .and_then(|cell| cell.content_at(part.number));
            let event = self.event(op, completed, content.unwrap_or(Content::Nothing), outcome);
            self.world.settle(part, op, ttl, outcome, &event);
            if outcome == Outcome::Done {
                self.raise(part, 0, 2 * part.number);
            }
        }
        let findings = &self.world.findings;
        match outcome {
            Outcome::Unknown => findings.unknown_writes.fetch_add(1, Ordering::Relaxed),
            Outcome::Done | Outcome::Void => findings.writes.fetch_add(1, Ordering::Relaxed),
        };
        self.left();
    }

    /// The event of a write.
    pub(super) fn event(&self, op: Op, completed: Instant, content: Content, outcome: Outcome) -> Event {
        Event {
            invoked: self.invoked,
            completed,
            session: self.id,
            via: self.seat.via,
            op,
            what: What::Wrote(content, outcome),
        }
    }
}

/// Whether it is how a cluster's nodes send a client elsewhere.
fn names_a_node(text: &[u8]) -> bool {
    text.starts_with(b"MOVED ") || text.starts_with(b"ASK ")
}

/// What the reply to a write says; `None`: it is no such reply.
fn outcome(op: Op, reply: &[u8], version: Version) -> Option<Outcome> {
    let mut tokens = Tokens::new(reply, version);
    let first = tokens.next()?;
    let done = |done: bool| Some(if done { Outcome::Done } else { Outcome::Void });
    match (op, first) {
        (Op::Set | Op::SetPx | Op::Mset | Op::MsetMany | Op::Rename, Token::Simple(b"OK")) => done(true),
        (Op::DelMany, Token::Integer(0..)) => done(true),
        (Op::Del, Token::Integer(0..=1)) | (Op::DelPair, Token::Integer(0..=2)) => done(true),
        (Op::Pexpire | Op::Persist | Op::Copy, Token::Integer(changed @ 0..=1)) => done(changed == 1),
        (Op::Hset | Op::Zadd, Token::Integer(0..)) => done(true),
        (Op::EvalSet | Op::EvalSetUndeclared | Op::EvalList | Op::EvalMset, Token::Integer(1)) => done(true),
        (Op::Blpop, Token::Array(2)) => done(true),
        (Op::Blpop, Token::Null | Token::NullArray) => done(false),
        (Op::ExecSet, Token::Array(1)) | (_, Token::Array(2)) if op.is_transaction() => {
            let mut failed = false;
            while let Some(token) = tokens.next() {
                failed |= matches!(token, Token::Error(_));
            }
            Some(if failed { Outcome::Unknown } else { Outcome::Done })
        }
        _ => None,
    }
}

/// What an increment did.
enum Counted {
    Made(u64),
    /// The value it set itself.
    AsRead,
    Nothing,
    Unknown,
}

/// What the reply to an increment says; `None`: it is no such reply.
fn counted(op: Op, reply: &[u8], version: Version) -> Option<Counted> {
    let mut tokens = Tokens::new(reply, version);
    let first = tokens.next()?;
    let made = |value: i64| u64::try_from(value).ok().map(Counted::Made);
    match (op, first) {
        (Op::CasIncr, Token::Null | Token::NullArray) => Some(Counted::Nothing),
        (Op::CasIncr | Op::ExecIncr, Token::Array(1)) => match tokens.next()? {
            Token::Simple(b"OK") if op == Op::CasIncr => Some(Counted::AsRead),
            Token::Integer(value) if op == Op::ExecIncr => made(value),
            Token::Error(_) => Some(Counted::Unknown),
            _ => None,
        },
        (Op::Incr | Op::EvalIncr | Op::EvalIncrUndeclared, Token::Integer(value)) => made(value),
        _ => None,
    }
}
