//! A client's next operations: which, on which keys, and what the keys' histories note before they are sent.

use super::cell::{Content, ELEMENTS, Kind, Ttl, Write};
use super::client::{Pending, Session};
use super::keys::Region;
use super::requests;
use super::workload::Op;
use super::world::Part;
use std::time::Duration;

/// Of 1,000 operations: how many are an ECHO, and how many another database.
const ECHO_SHARE: u64 = 10;
const SELECT_SHARE: u64 = 5;
/// Of 1,000 operations of those who work directly at the server, how many read.
const FOREIGN_READS: u64 = 400;
/// Of 100 operations: how many of foreign writers are about quiet keys, and from where on all are about cold ones.
const QUIET_SHARE: u64 = 15;
const COLD_FROM: u64 = 87;
/// How long a quiet client stays with one key.
const FAVOURITE: Duration = Duration::from_secs(2);
/// Keys of one MGET.
const MGET_KEYS: usize = 3;

impl Session {
    /// Adds one operation to the batch.
    pub(super) fn add_operation(&mut self) {
        if self.seat.quiet {
            return self.add_favourite();
        }
        let dice = self.random.below(1000);
        if dice < ECHO_SHARE {
            let number = self.random.below(u64::MAX);
            requests::request(&mut self.out, &[b"ECHO", number.to_string().as_bytes()]);
            return self.pending.push_back(Pending::Echo(number));
        }
        if dice < ECHO_SHARE + SELECT_SHARE && self.world.dbs.len() > 1 {
            let place = (self.db + 1) % self.world.dbs.len();
            let db = self.world.dbs.get(place).copied().unwrap_or(0).to_string();
            requests::request(&mut self.out, &[b"SELECT", db.as_bytes()]);
            return self.pending.push_back(Pending::Select(place));
        }
        let index = self.random_key();
        let reads = match self.seat.via {
            Some(_) => self.world.phase(self.invoked).reads,
            None => FOREIGN_READS,
        };
        if self.random.below(1000) < reads || !self.add_write(index) {
            self.add_read(index);
        }
    }

    /// Reads one key again and again: whoever reads another one waits for its fetch, and a fetch waits for a connection
    /// that is stalled, so that nobody would read anything old.
    fn add_favourite(&mut self) {
        let (op, index) = match self.favourite {
            Some((op, index, until)) if self.invoked < until => (op, index),
            _ => {
                let dice = self.random.below(1 << 20);
                let index = self.world.choose(self.db, Region::Quiet, dice);
                // Of one key, all of them.
                let ops = Op::reads(self.world.kind(index));
                let alone = |op: &Op| !matches!(op, Op::Mget | Op::EvalGet | Op::EvalGetDeclared);
                let op = self.random.pick(ops).filter(alone).unwrap_or(Op::Get);
                let until = self.invoked.after(FAVOURITE);
                self.favourite = Some((op, index, until));
                (op, index)
            }
        };
        self.add_read_of(op, &[index]);
    }

    /// A key for the next operation; quiet ones are written behind nearhit's back.
    fn random_key(&mut self) -> usize {
        let (dice, which) = (self.random.below(100), self.random.below(1 << 20));
        let quiet = self.seat.via.map_or(QUIET_SHARE, |_| 0);
        let region = match dice {
            dice if dice < quiet => Region::Quiet,
            dice if dice < COLD_FROM => Region::Hot,
            _ => Region::Cold,
        };
        self.world.choose(self.db, region, which)
    }

    pub(super) fn add_ok(&mut self, args: &[&[u8]]) {
        requests::request(&mut self.out, args);
        self.pending.push_back(Pending::Ok);
    }

    fn add_read(&mut self, index: usize) {
        let Some(op) = self.random.pick(Op::reads(self.world.kind(index))) else {
            return;
        };
        let op = self.allowed(op);
        let mut keys = vec![index];
        while op == Op::Mget && keys.len() < MGET_KEYS {
            let dice = self.random.below(1 << 20);
            keys.push(self.world.sibling(index, dice));
        }
        self.add_read_of(op, &keys);
        if matches!(op, Op::EvalGet | Op::EvalGetDeclared) {
            // What it tells, the next read must know.
            self.add_read_of(Op::Get, &keys);
        }
    }

    fn add_read_of(&mut self, op: Op, keys: &[usize]) {
        let mut names = Vec::new();
        for index in keys {
            let Some(part) = self.world.meet(*index, self.seat.via) else {
                continue;
            };
            names.extend(self.world.names(*index, part.generation, op));
            self.parts.push_back(part);
        }
        requests::operation(&mut self.out, op, &names, Content::Nothing, Duration::ZERO);
        let parts = keys.len();
        self.pending.push_back(Pending::Read { op, parts });
    }

    /// WATCH and GET.
    pub(super) fn add_watched_read(&mut self, index: usize) {
        let Some(part) = self.world.meet(index, self.seat.via) else {
            return;
        };
        let names = self.world.names(index, part.generation, Op::Get);
        let name = names.first().map_or(&b""[..], Vec::as_slice);
        self.add_ok(&[b"WATCH", name]);
        self.add_read_of(Op::Get, &[index]);
    }

    /// MULTI, SET and EXEC of the number after the one that was read.
    pub(super) fn add_increment_of(&mut self, index: usize, value: u64) {
        let content = Content::Held {
            id: value + 1,
            items: 0,
        };
        let write = self.write_of(content, Ttl::None, false);
        match self
            .world
            .issue(index, Op::CasIncr, &write, |_| Some((content, Ttl::None)))
        {
            Some((part, content, ttl)) => self.send_write(Op::CasIncr, &[part], content, ttl),
            None => self.left(),
        }
    }

    /// Adds a write, if the key is free and writes are welcome now.
    fn add_write(&mut self, index: usize) -> bool {
        let kind = self.world.kind(index);
        let Some(op) = self.random.pick(Op::writes(kind)) else {
            return false;
        };
        let op = self.allowed(op);
        if !self.world.enter() {
            return false;
        }
        self.entered += 1;
        let sent = match op {
            Op::Rename | Op::Copy => self.add_move(op, index),
            Op::MsetMany | Op::DelMany => self.add_scattered_write(op, kind, index),
            _ => self.add_single_write(op, kind, index),
        };
        if sent.is_none() {
            self.left();
        }
        sent.is_some()
    }

    fn add_single_write(&mut self, op: Op, kind: Kind, index: usize) -> Option<()> {
        let (id, ttl) = (self.world.new_id(), self.random_ttl());
        let moved = matches!(op, Op::Pexpire | Op::Persist | Op::Blpop);
        let write = Write {
            moved,
            ..self.write_of(Content::Nothing, Ttl::None, op.is_relative())
        };
        let effect = |before| effect(op, kind, before, id, ttl);
        let (part, content, ttl) = self.world.issue(index, op, &write, effect)?;
        self.send_write(op, &[part], content, ttl);
        Some(())
    }

    /// A write of several keys, of those that are free now; each is as if it were written alone.
    fn add_scattered_write(&mut self, op: Op, kind: Kind, index: usize) -> Option<()> {
        let id = self.world.new_id();
        let write = self.write_of(Content::Nothing, Ttl::None, false);
        let mut keys = vec![index];
        for _ in 1..MGET_KEYS {
            let dice = self.random.below(1 << 20);
            keys.push(self.world.sibling(index, dice));
        }
        keys.sort_unstable();
        keys.dedup();
        let effect = |before| effect(op, kind, before, id, Duration::ZERO);
        let issued = keys.iter().filter_map(|key| self.world.issue(*key, op, &write, effect));
        let (parts, contents): (Vec<_>, Vec<_>) = issued.map(|(part, content, _)| (part, content)).unzip();
        let content = contents.first().copied()?;
        self.send_write(op, &parts, content, Ttl::None);
        Some(())
    }

    /// The operation, or what stands for it where there is a cluster: who asks that directly, asks for one slot.
    fn allowed(&self, op: Op) -> Op {
        match (self.world.tagged, self.seat.via) {
            (false, _) => op,
            (true, Some(_)) => op.before_a_cluster(),
            (true, None) => op.at_a_node(),
        }
    }

    fn add_move(&mut self, op: Op, from: usize) -> Option<()> {
        let dice = self.random.below(1 << 20);
        let to = self.world.twin(from, dice);
        if from == to {
            return None;
        }
        let write = Write {
            moved: true,
            ..self.write_of(Content::Nothing, Ttl::None, true)
        };
        let parts = self.world.issue_move(from, to, op, &write)?;
        self.send_write(op, &parts, Content::Nothing, Ttl::None);
        Some(())
    }

    /// 5 ms to 5 s, short ones more often.
    fn random_ttl(&mut self) -> Duration {
        let most = self.random.pick(&[20, 100, 1000, 5000]).unwrap_or(100);
        self.random.millis(5, most)
    }

    fn write_of(&self, content: Content, ttl: Ttl, exclusive: bool) -> Write {
        Write {
            writer: self.id,
            content,
            ttl,
            moved: false,
            exclusive,
            invoked: self.invoked,
        }
    }

    fn send_write(&mut self, op: Op, parts: &[Part], content: Content, ttl: Ttl) {
        let names: Vec<_> = parts
            .iter()
            .flat_map(|part| self.world.names(part.index, part.generation, op))
            .collect();
        let time = match ttl {
            Ttl::Set(ttl) => ttl,
            _ => Duration::ZERO,
        };
        requests::operation(&mut self.out, op, &names, content, time);
        if op.is_transaction() {
            self.pending.push_back(Pending::Ok);
            let queued = std::iter::repeat_n(Pending::Queued, requests::queued(op));
            self.pending.extend(queued);
        }
        self.parts.extend(parts);
        let parts = parts.len();
        self.pending.push_back(Pending::Write { op, parts, ttl });
    }
}

/// What an operation makes of what is there; `None`: it would do nothing worth sending.
fn effect(op: Op, kind: Kind, before: (Content, Ttl), id: u64, ttl: Duration) -> Option<(Content, Ttl)> {
    let new = |items| Content::Held { id, items };
    Some(match (op, before) {
        (Op::Del | Op::DelPair | Op::DelMany, _) => (Content::Nothing, Ttl::None),
        (Op::Pexpire, (Content::Held { .. }, _)) => (before.0, Ttl::Set(ttl)),
        (Op::Persist, (Content::Held { .. }, Ttl::Kept(Some(_)))) => (before.0, Ttl::None),
        (Op::Blpop, (Content::Held { id, items }, kept)) if items > 1 => {
            let items = items - 1;
            (Content::Held { id, items }, kept)
        }
        (Op::Blpop, (Content::Held { .. }, _)) => (Content::Nothing, Ttl::None),
        (Op::Pexpire | Op::Persist | Op::Blpop, _) => return None,
        // They keep a TTL, and whether the key is there when they come decides whether there is one.
        (Op::Hset | Op::Zadd, (Content::Held { .. }, Ttl::Kept(Some(_)))) => return None,
        (Op::SetPx, _) => (new(0), Ttl::Set(ttl)),
        _ if kind == Kind::List => (new(ELEMENTS), Ttl::None),
        _ => (new(0), Ttl::None),
    })
}
