//! What a session with shared subscriptions does with its requests.
//!
//! ```text
//! in RESP2, subscribed:  SUBSCRIBE … → hub   PING, QUIT, RESET → answered here   anything else → refused, as Redis does
//! in RESP3:              SUBSCRIBE … → hub   PUBLISH to itself → hub             anything else → as ever
//! ```
//! Requests on the hub's connection and all others of the session wait for each other, so that effects keep their order.

use bytes::Bytes;

use super::change::Change;
use super::hub::Access;
use super::kind::{Kind, Verb};
use crate::command::{Command, error_text};
use crate::downstream::edit::Edit;
use crate::downstream::forward::{Forwarded, Op, Special, loss_text};
use crate::downstream::pin::Pin;
use crate::downstream::request::{Flow, Turn};
use crate::metrics::{OTHER, Outcome};
use crate::resp::{Request, Version, encode};

/// Where Redis tells RESP2 connections with REDIRECT what to invalidate. A connection is what is redirected to, so whoever
/// listens there needs one of its own.
const INVALIDATIONS: &[u8] = b"__redis__:invalidate";

impl Turn<'_> {
    /// Whether the session has anything to do with the hub.
    pub(in crate::downstream) fn is_listening(&self) -> bool {
        self.core.listening.is_some() || self.core.at_hub > 0
    }

    /// What subscriptions have to say about a request before anything else is done with it; `None`: nothing.
    pub(in crate::downstream) fn listening(&mut self, command: &Command, request: &Request<'_>) -> Option<Flow> {
        if let Some(change) = Kind::of_command(command.name().as_bytes()) {
            if change.0 == Kind::Shard && self.context.nodes.is_some() {
                return self.at_the_shards_node(command);
            }
            return self.may_share(request).then(|| self.change(command, request, change))?;
        }
        if !self.is_listening() {
            return None;
        }
        if self.core.version == Version::V2 {
            return Some(self.restricted(command, request));
        }
        if let Some(flow) = self.publish_to_itself(command, request) {
            return Some(flow);
        }
        (self.core.at_hub > 0).then_some(Flow::Hold)
    }

    /// The same for a request that names no command.
    pub(in crate::downstream) fn unknown_while_listening(&mut self, request: &Request<'_>) -> Option<Flow> {
        if !self.is_listening() {
            return None;
        }
        if self.core.at_hub > 0 {
            return Some(Flow::Hold);
        }
        if self.core.version == Version::V3 {
            return None;
        }
        self.refuse(OTHER, error_text::unknown(&self.table.lookup(request), request));
        Some(Flow::Next)
    }

    /// Whether a subscription may go to the hub rather than to a connection of the session's own.
    fn may_share(&self, request: &Request<'_>) -> bool {
        if self.core.pin.as_ref().is_some_and(|pin| pin.transaction.is_some()) {
            return false;
        }
        if self.is_listening() {
            return true;
        }
        let pin_listens = self.core.pin.as_ref().is_some_and(Pin::keeps_subscriptions);
        !pin_listens && !request.args_from(1).any(|name| name == INVALIDATIONS)
    }

    /// In a cluster shard channels are where their slot is: a session hears them over a connection of its own to that node.
    /// `None`: over that.
    fn at_the_shards_node(&mut self, command: &Command) -> Option<Flow> {
        if self.core.at_hub > 0 {
            return Some(Flow::Hold);
        }
        self.core.listening.as_ref()?;
        self.refuse(
            command.id().number(),
            "ERR nearhit: in front of a cluster a connection has either channels or shard channels; use another connection",
        );
        Some(Flow::Next)
    }

    /// SUBSCRIBE, UNSUBSCRIBE and the like. `None`: over a connection of the session's own.
    fn change(&mut self, command: &Command, request: &Request<'_>, (kind, verb): (Kind, Verb)) -> Option<Flow> {
        if !self.is_quiet_elsewhere() || (verb == Verb::Unsubscribe && self.core.at_hub > 0) {
            return Some(Flow::Hold);
        }
        if !command.check_arity(request) {
            self.refuse(command.id().number(), error_text::wrong_arity(command));
            return Some(Flow::Next);
        }
        let hub = self.context.hub(&self.core.account);
        let connection = match hub.access(self.context, self.session) {
            Access::Ready(connection) => connection,
            Access::Wait => return Some(Flow::Hold),
            Access::Pinned if self.is_listening() => {
                self.refuse(
                    command.id().number(),
                    "ERR nearhit: the server speaks RESP2 only now; connect again",
                );
                return Some(Flow::Next);
            }
            Access::Pinned => return None,
            Access::Failed(loss) => {
                self.refuse(command.id().number(), loss_text(&loss, false, false));
                return Some(Flow::Next);
            }
        };
        let names = request.args_from(1);
        let change = match verb {
            Verb::Subscribe => Change::subscribe(&hub, kind, names),
            Verb::Unsubscribe if request.len() == 1 => {
                let listening = self.core.listening.as_ref();
                let all = listening.map(|listening| listening.names(kind)).unwrap_or_default();
                Change::unsubscribe(&hub, kind, all, self.session)
            }
            Verb::Unsubscribe => {
                let names = names.map(Bytes::copy_from_slice).collect();
                Change::unsubscribe(&hub, kind, names, self.session)
            }
        };
        let number = self.core.pipeline.pend(self.muted);
        self.send_change(change, command.id().number(), Some(number), &connection);
        Some(Flow::Next)
    }

    fn send_change(
        &mut self,
        change: Change,
        command: u16,
        number: Option<u64>,
        connection: &crate::upstream::Connection<Forwarded>,
    ) {
        let mut frame = Vec::new();
        change.write(&mut frame);
        let op = Op {
            hub: true,
            special: Special::Change(Box::new(change)),
            outcome: Outcome::Local,
            ..Op::plain(command, self.now)
        };
        self.send_beside(op, number, &frame, connection);
    }

    /// Sends a request over the hub's connection.
    fn send_beside(
        &mut self,
        mut op: Op,
        number: Option<u64>,
        frame: &[u8],
        connection: &crate::upstream::Connection<Forwarded>,
    ) {
        self.core.at_hub += 1;
        op.words = self.words.take();
        let limit = self.context.shared.settings.command_timeout;
        let waiter = Forwarded::new(self.session, number, op);
        if let Err(lost) = connection.send(frame, waiter, limit, self.now) {
            self.lost.push(lost);
        }
    }

    /// Nothing of the session's is on its way anywhere but on the hub's connection.
    fn is_quiet_elsewhere(&self) -> bool {
        self.core.is_quiet() && self.core.pin.as_ref().is_none_or(Pin::is_quiet)
    }

    /// In RESP2 a subscriber may ask for little, and Redis says so behind existence and arity.
    fn restricted(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        if self.core.at_hub > 0 {
            // Whether it is a subscriber, is known when that is answered.
            return Flow::Hold;
        }
        let number = command.id().number();
        match command.name() {
            "quit" | "reset" => return self.local(command, request),
            "ping" if request.len() <= 2 => {
                self.core.pipeline.ready(self.muted, |out| {
                    encode::array_header(out, 2);
                    encode::bulk(out, b"pong");
                    encode::bulk(out, if request.len() == 2 { request.arg(1) } else { b"" });
                });
                self.core.answer(number, Outcome::Local);
            }
            "ping" => self.refuse(number, error_text::wrong_arity(command)),
            _ if !command.check_reported_arity(request) => self.refuse(number, error_text::wrong_arity(command)),
            _ => self.refuse(number, error_text::not_while_subscribed(command)),
        }
        Flow::Next
    }

    /// What a session publishes to itself goes over the connection its messages come by: so reply and message are in the
    /// server's order.
    fn publish_to_itself(&mut self, command: &Command, request: &Request<'_>) -> Option<Flow> {
        let shard = match command.name() {
            "publish" => false,
            "spublish" => true,
            _ => return None,
        };
        let hub = self.context.hub(&self.core.account);
        let hears = |listening: &super::Listening| listening.hears(&hub, shard, request.arg(1));
        let queued = self.core.pin.as_ref().is_some_and(|pin| pin.transaction.is_some());
        if queued || request.len() != 3 || !self.core.listening.as_deref().is_some_and(hears) {
            return None;
        }
        let connection = hub.up()?;
        if !self.is_quiet_elsewhere() {
            return Some(Flow::Hold);
        }
        let op = Op {
            hub: true,
            writes: true,
            // Counted when it is answered: subscriptions may be on their way in front of it.
            special: Special::from(Edit::Publish {
                shard,
                channel: request.arg(1).into(),
            }),
            outcome: Outcome::Write,
            ..Op::plain(command.id().number(), self.now)
        };
        let number = self.core.pipeline.pend(self.muted);
        self.send_beside(op, Some(number), request.frame(), &connection);
        Some(Flow::Next)
    }

    /// Ends all subscriptions, as RESET does: nothing is said, and messages that were published before still come. False:
    /// it is on its way.
    pub(in crate::downstream) fn end_listening(&mut self) -> bool {
        if self.core.at_hub > 0 {
            return false;
        }
        let Some(listening) = self.core.listening.take() else {
            return true;
        };
        for hub in listening.hubs() {
            let Some(connection) = hub.up() else {
                hub.leave(self.session, listening.by(&hub));
                continue;
            };
            for kind in Kind::ALL {
                let of_kind = listening.by(&hub).filter(|(its, _)| *its == kind);
                let names: Vec<_> = of_kind.map(|(_, name)| name.clone()).collect();
                if !names.is_empty() {
                    let change = Change::unsubscribe(&hub, kind, names, self.session);
                    self.send_change(change, OTHER, None, &connection);
                }
            }
        }
        self.core.listening = (self.core.at_hub > 0).then_some(listening);
        self.core.at_hub == 0
    }
}
