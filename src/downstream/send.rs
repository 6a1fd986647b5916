//! Sending a request over a shared connection.

use std::time::Duration;

use super::cluster::scatter::Gathered;
use super::forward::{Forwarded, Op, Special, loss_text};
use super::request::Turn;
use super::switch;
use crate::metrics::{Disconnect, ErrorKind, Origin, Outcome};
use crate::resp::{Version, encode};
use crate::upstream::{Connection, Loss};

impl Turn<'_> {
    /// Sends a request over the shared connection of this database and protocol.
    pub(super) fn send_home(&mut self, mut op: Op, frame: &[u8], db: u32, version: Version) {
        (op.slot, op.node) = (self.slot, self.node);
        let identity = self.core.account.identity();
        let connection = self.context.shared_connection(op.node, identity, db, version);
        if connection.is_err()
            && let Special::Edit(edit) = &op.special
            && let Some(known) = edit.without_server(&self.context.shared, self.core)
        {
            return self.local_reply(op.command, |out| out.extend_from_slice(&known));
        }
        if let Err(Loss::Refused(text)) = &connection {
            let reply = format!("-{text}").into_bytes();
            switch::refused_at_the_door(self.session, self.core, &op.special, &reply);
        }
        let unknown = op.special.must_be_known() && !matches!(connection, Err(Loss::Refused(_)));
        let Some(connection) = self.connected(op.command, connection) else {
            if matches!(
                op.special,
                Special::Select(_) | Special::Hello(_) | Special::Kill(_) | Special::Acl(_)
            ) {
                self.core.switching = false;
            }
            if unknown {
                self.core.closing.get_or_insert(Disconnect::Upstream);
            }
            return;
        };
        self.before_sending(&mut op);
        op.words = self.words.take();
        op.attribute = self.attribute.take();
        let number = self.core.pipeline.pend(self.muted);
        self.resend(op, Some(number), frame, &connection);
    }

    /// The connection that the pool gave; if it gave none, the client is told why.
    pub(super) fn connected(
        &mut self,
        command: u16,
        connection: Result<Connection<Forwarded>, Loss>,
    ) -> Option<Connection<Forwarded>> {
        let loss = match connection {
            Ok(connection) => return Some(connection),
            Err(loss) => loss,
        };
        let error = (Origin::Proxy, ErrorKind::Connect);
        self.context.shared.metrics.command_errors.inc(error);
        self.refuse(command, loss_text(&loss, false, false));
        None
    }

    /// Sends a request over a shared connection; `number` is its reply's place, `None`: nobody hears the reply.
    pub(super) fn resend(&mut self, op: Op, number: Option<u64>, frame: &[u8], connection: &Connection<Forwarded>) {
        let limit = self.context.shared.settings.command_timeout;
        self.context.budget.sent();
        self.send_over(op, number, frame, connection, limit);
    }

    /// The same for a reply that may take so long as `limit`, and does not count for how much may be sent again.
    pub(super) fn send_over(
        &mut self,
        mut op: Op,
        number: Option<u64>,
        frame: &[u8],
        connection: &Connection<Forwarded>,
        limit: Option<Duration>,
    ) {
        let era = self.context.pool.borrow().era();
        self.core.home.sent(frame.len(), era);
        if op.replica.is_some() {
            self.core.causality.all_fetching(&op.keys, op.effect);
        } else if op.shadow.is_none() {
            self.core.causality.forwarded(&op.keys, op.effect);
        }
        op.bytes = frame.len();
        // Not `now`: a read whose fetch did not work out has waited already.
        let started = op.started;
        let waiter = Forwarded::new(self.session, number, op);
        if let Err(lost) = connection.send(frame, waiter, limit, started) {
            self.lost.push(lost);
        }
    }

    /// A request that is not going to be sent: the client is told why, in its reply's place.
    pub(super) fn fail_unsent(&mut self, number: u64, op: Op, loss: &Loss) {
        let mut reply = Vec::new();
        encode::error(&mut reply, loss_text(loss, false, op.writes).as_bytes());
        self.answer_unsent(number, op, reply);
    }

    /// A request that is not going to be sent: this goes into its reply's place.
    pub(super) fn answer_unsent(&mut self, number: u64, op: Op, mut reply: Vec<u8>) {
        let command = op.command;
        let mut unsent = Forwarded::new(self.session, Some(number), op);
        match unsent.gather(&reply) {
            Gathered::Alone => {}
            Gathered::Waiting => return,
            Gathered::Whole(whole) => reply = whole,
        }
        if unsent.op.special.ends_user() {
            self.core.switching = false;
        }
        self.core.pipeline.complete(number, &reply);
        self.core.answer(command, Outcome::Error);
    }

    /// The first kill: from here on nobody is served what this request is about to change.
    pub(super) fn before_sending(&mut self, op: &mut Op) {
        let shared = &self.context.shared;
        if shared.settings.caching {
            op.flushing = shared.cache.leaves(op.effect, &op.keys);
        }
    }
}
