//! What every node of a cluster is asked over a connection that nobody else uses, because the answer may be long in coming,
//! or nothing else is answered before: WAIT, and what ends a script.

use super::gather::Gather;
use super::scatter::{Merging, Share};
use crate::coherence::Keys;
use crate::command::{Command, Merge, Pin, Place, Spread, flag};
use crate::downstream::forward::{Forwarded, Op, Special, loss_text};
use crate::downstream::request::{Flow, Turn, may_write};
use crate::resp::{Request, encode};
use crate::topology::NodeId;
use crate::upstream::{Connection, Loss};

impl Turn<'_> {
    /// Asks every node over a connection of its own. `None`: one node is enough, or it is queued.
    pub(in crate::downstream) fn ask_apart(&mut self, command: &Command, request: &Request<'_>) -> Option<Flow> {
        let (Spread::All(merge), Place::Pinned(Pin::Once)) = (command.spread, command.place) else {
            return None;
        };
        let nodes = self.context.nodes.as_ref()?.primaries();
        if nodes.is_empty() || self.core.pin.is_some() || !command.check_arity(request) {
            return None;
        }
        if !self.core.is_quiet() {
            return Some(Flow::Hold);
        }
        let connections = match self.connections_apart(command, &nodes) {
            Ok(connections) => connections,
            Err(loss) => {
                self.refuse(command.id().number(), loss_text(&loss, false, false));
                return Some(Flow::Next);
            }
        };
        self.send_apart(command, request, merge, nodes, connections);
        Some(Flow::Next)
    }

    fn connections_apart(&self, command: &Command, nodes: &[NodeId]) -> Result<Vec<Connection<Forwarded>>, Loss> {
        let (identity, version) = (self.core.account.identity(), self.core.version);
        // While a script runs a server lets nobody change the database; in a cluster there is but one.
        let db = if command.flags.has(flag::ALLOW_BUSY) {
            0
        } else {
            self.core.db
        };
        let connect = |&node: &NodeId| {
            self.context
                .with_pool(Some(node), |pool| pool.pinned(identity, db, version))
        };
        nodes.iter().map(connect).collect()
    }

    fn send_apart(
        &mut self,
        command: &Command,
        request: &Request<'_>,
        merge: Merge,
        nodes: Vec<NodeId>,
        connections: Vec<Connection<Forwarded>>,
    ) {
        let whole = Merging::Gather(Gather::new(merge, nodes.len())).meaning(Special::Apart);
        let number = self.core.pipeline.pend(self.muted);
        let blocks = command.is_blocking_call(request);
        let limit = self.context.shared.settings.command_timeout.filter(|_| !blocks);
        let mut ping = Vec::new();
        encode::request(&mut ping, [b"PING".as_slice()]);
        for (place, (node, connection)) in nodes.into_iter().zip(connections).enumerate() {
            if blocks {
                // WAIT counts from the last write that its connection knows of: any command brings that up to date.
                self.send_over(Op::unheard(self.now), None, &ping, &connection, limit);
            }
            let op = Op {
                keys: Keys::None,
                writes: may_write(command),
                special: Special::Share(Share::new(&whole, place)),
                node: Some(node),
                words: self.words.take(),
                ..Op::plain(command.id().number(), self.now)
            };
            self.send_over(op, Some(number), request.frame(), &connection, limit);
            self.core.apart.push(connection);
        }
        // What follows may depend on it.
        self.core.switching = true;
    }
}
