//! Lost connections of clients, and what the server goes on doing with them.

use std::collections::VecDeque;

use super::super::super::Flushing;
use super::redis::Watched;
use super::world::World;
use super::*;
use crate::mutants::{Mutant, mutated};

/// A connection that nearhit has lost. The server has its commands and will execute them, unless it closes it first.
pub(super) struct Zombie {
    pub(super) ops: VecDeque<(Op, usize)>,
    pub(super) watched: Option<Watched>,
    /// Held for as long as a command may be executed of which the server tells nobody.
    pub(super) flushing: Vec<Flushing<u32>>,
}

impl World {
    /// The client's own connection is lost. The server has a part of what was sent, and will execute it; that it will
    /// never execute a SWAPDB any more is known only when the server has closed the connection.
    pub(super) fn client_loses_its_connection(&mut self, client: usize) {
        if self.clients[client].looking.is_some() {
            return;
        }
        let received = self.random.below(self.clients[client].requests.len() + 1);
        self.client_is_cut_off(client, received);
    }

    /// The same when the server has received so many of the requests.
    pub(super) fn client_is_cut_off(&mut self, client: usize, received: usize) {
        let own = &mut self.clients[client];
        let replies = std::mem::take(&mut own.replies);
        let requests = std::mem::take(&mut own.requests);
        own.watching = None;
        let mut zombie = Zombie {
            ops: requests.iter().take(received).map(|asked| (asked.op, own.db)).collect(),
            watched: own.watched.take(),
            flushing: Vec::new(),
        };
        for asked in replies.into_iter().map(|(asked, ..)| asked).chain(requests) {
            let may_come = matches!(asked.op, Op::FlushAll | Op::SwapDb);
            if may_come && !mutated(Mutant::NoFenceKill) {
                zombie.flushing.push(self.cache.flushing());
            }
            self.ends(&asked);
            self.clients[client].witness.is_answered(asked.issue);
        }
        if !zombie.ops.is_empty() || !zombie.flushing.is_empty() {
            self.deeds.zombies += 1;
            self.zombies.push(zombie);
        }
    }

    /// The server executes a command of a connection that nearhit has lost.
    pub(super) fn zombie_acts(&mut self) {
        if self.zombies.is_empty() {
            return;
        }
        let which = self.random.below(self.zombies.len());
        let zombie = &mut self.zombies[which];
        if let Some((op, db)) = zombie.ops.pop_front() {
            self.redis.execute(op, db, &mut zombie.watched, self.now);
        }
        // While something is held back, only that the server has closed it ends it.
        if zombie.ops.is_empty() && zombie.flushing.is_empty() {
            self.zombies.swap_remove(which);
        }
    }

    /// CLIENT KILL of a lost connection is answered: nothing of it will be executed any more.
    pub(super) fn server_kills_a_zombie(&mut self) {
        let held = self.zombies.iter().position(|zombie| !zombie.flushing.is_empty());
        if let Some(which) = held {
            self.zombies.swap_remove(which);
        }
    }
}
