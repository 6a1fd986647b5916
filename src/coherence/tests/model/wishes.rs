//! What is asked for: by clients, and by others who write.

use super::clients::Watching;
use super::world::World;
use super::*;

impl World {
    pub(super) fn next_command(&mut self, client: usize) -> Option<Asked> {
        let key = self.some_key();
        let own = &self.clients[client];
        let (op, pinned) = match own.watching {
            // One thing after the other.
            Some(_) if !own.is_idle() => return None,
            Some(Watching { key, read: None, .. }) => (Op::Get(key), true),
            Some(Watching { key, .. }) => (Op::Cas(key), true),
            None => match self.random.below(if self.calm { 500 } else { 200 }) {
                0..8 => match self.some_write(key) {
                    Op::Both => (Op::Both, true),
                    op => (op, false),
                },
                8..12 => (Op::Script(key), false),
                12 if self.random.one_in(2) => (Op::SwapDb, false),
                13..16 => (Op::Watch(key), true),
                16 => {
                    self.client_selects(client);
                    return None;
                }
                17..33 => (Op::Mget, false),
                33..35 => (Op::Look, false),
                35..75 => (Op::Strlen(key), false),
                _ => (Op::Get(key), false),
            },
        };
        Some(self.asked(client, op, pinned))
    }

    /// The client asks for something.
    pub(super) fn asked(&mut self, client: usize, op: Op, pinned: bool) -> Asked {
        let batch = self.clients[client].batch.take();
        let (sight, acked, left) = match batch {
            Some(batch) => batch,
            None => (
                self.cache.sight(&self.origin, self.now),
                self.acked,
                self.random.below(3),
            ),
        };
        let invoked = sight.now();
        let own = &mut self.clients[client];
        if left > 0 {
            own.batch = Some((sight, acked, left - 1));
        }
        own.issued += 1;
        own.witness.asks(own.issued);
        Asked {
            op,
            client,
            issue: own.issued,
            invoked,
            acked,
            pinned,
        }
    }

    /// SELECT, for which the session waits until nothing of its own is on its way.
    fn client_selects(&mut self, client: usize) {
        let own = &mut self.clients[client];
        if own.is_idle() {
            own.db = (own.db + 1) % DBS;
            own.batch = None;
        }
    }

    pub(super) fn some_key(&mut self) -> usize {
        if self.hot && !self.random.one_in(8) {
            return 0;
        }
        self.random.below(NAMES.len())
    }

    pub(super) fn other_writes(&mut self) {
        let key = self.some_key();
        let op = self.some_write(key);
        let db = self.random.below(DBS);
        self.redis.execute(op, db, &mut None, self.now);
    }

    /// What other writers do: anything but SWAPDB, which Redis tells nobody.
    pub(super) fn some_write(&mut self, key: usize) -> Op {
        match self.random.below(30) {
            0 => Op::FlushAll,
            1..5 => Op::Del(key),
            5..12 => Op::Set(key, Some(self.some_ttl())),
            12..14 => Op::Expire(key, self.some_ttl()),
            14..16 => Op::Both,
            _ => Op::Set(key, None),
        }
    }

    /// In milliseconds, of which a run has some hundreds.
    fn some_ttl(&mut self) -> u64 {
        let most = if self.random.one_in(2) { 8 } else { 150 };
        1 + self.random.next() % most
    }
}
