//! Sending a request over a shared connection.

use super::forward::{Forwarded, Op, Special, loss_text};
use super::request::Turn;
use super::switch;
use crate::metrics::{Disconnect, ErrorKind, Origin};
use crate::resp::Version;
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
    pub(super) fn resend(&mut self, mut op: Op, number: Option<u64>, frame: &[u8], connection: &Connection<Forwarded>) {
        let era = self.context.pool.borrow().era();
        self.context.budget.sent();
        self.core.home.sent(frame.len(), era);
        if op.replica.is_some() {
            self.core.causality.all_fetching(&op.keys);
        } else if op.shadow.is_none() {
            self.core.causality.forwarded(&op.keys, op.effect);
        }
        op.bytes = frame.len();
        let limit = self.context.shared.settings.command_timeout;
        // Not `now`: a read whose fetch did not work out has waited already.
        let started = op.started;
        let waiter = Forwarded::new(self.session, number, op);
        if let Err(lost) = connection.send(frame, waiter, limit, started) {
            self.lost.push(lost);
        }
    }

    /// The first kill: from here on nobody is served what this request is about to change.
    pub(super) fn before_sending(&mut self, op: &mut Op) {
        let shared = &self.context.shared;
        if shared.settings.caching {
            op.flushing = shared.cache.leaves(op.effect, &op.keys);
        }
    }
}
