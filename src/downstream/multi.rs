//! MULTI in front of a cluster: which node the transaction runs on is known with its first key, so until then nothing is sent.
//!
//! ```text
//! MULTI → waiting ─ a command without keys that may be on any connection → kept, QUEUED
//!            ├ DISCARD, RESET, QUIT → over
//!            └ anything else → MULTI and what was kept go to the node of its key (no key: to any) → a transaction as ever
//! ```
//! After WATCH the node is known, and MULTI is sent as it comes. A command on keys of another node is refused as a cluster
//! refuses keys of several slots, and the transaction with it.

use super::request::{Flow, Turn};
use crate::command::{Command, Lookup, Pin, Place, Spread};
use crate::resp::{Request, RequestLimits, RequestScan, RequestScanner, Version};
use crate::topology::NodeId;

/// What Redis says of keys of several slots.
pub(super) const CROSSSLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

/// A transaction that no node knows of.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Its requests so far.
    kept: Vec<Box<[u8]>>,
}

/// Commands that may be kept at most; with more it does not matter much which node they go to.
const MOST: usize = 1024;

impl Turn<'_> {
    /// Whether `command` begins a transaction whose node is not known.
    pub(super) fn begins_waiting(&self, command: &Command, request: &Request<'_>) -> bool {
        self.context.nodes.is_some()
            && self.core.pin.is_none()
            && command.name() == "multi"
            && command.check_arity(request)
    }

    /// MULTI was said.
    pub(super) fn begin_waiting(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        if !self.core.is_quiet() {
            // Its connection must not overtake what is on its way.
            return Flow::Hold;
        }
        self.core.multi = Some(Waiting {
            kept: vec![request.frame().into()],
        });
        self.local_reply(command.id().number(), |out| out.extend_from_slice(b"+OK\r\n"));
        Flow::Next
    }

    /// A known command while a transaction waits for its node. `None`: it has one now, or is over, and the command is as any.
    pub(super) fn while_waiting(&mut self, command: &Command, request: &Request<'_>) -> Option<Flow> {
        let waiting = self.core.multi.as_mut()?;
        let fits = command.check_arity(request);
        match command.name() {
            "discard" if fits => {
                self.core.multi = None;
                self.local_reply(command.id().number(), |out| out.extend_from_slice(b"+OK\r\n"));
                return Some(Flow::Next);
            }
            "quit" | "reset" if fits => {
                self.core.multi = None;
                return None;
            }
            _ => {}
        }
        let keeps = fits && self.slot.is_none() && command.place(request) == Place::Shared && waiting.kept.len() < MOST;
        if keeps && !matches!(command.place, Place::Pinned(Pin::Transaction)) {
            waiting.kept.push(request.frame().into());
            self.local_reply(command.id().number(), |out| out.extend_from_slice(b"+QUEUED\r\n"));
            return Some(Flow::Next);
        }
        self.end_waiting(command.id().number())
    }

    /// Sends what was kept to the node of the request in hand. `Some`: it could not be.
    pub(super) fn end_waiting(&mut self, command: u16) -> Option<Flow> {
        if let Err(flow) = self.pin_for(Pin::Transaction, command) {
            return Some(flow);
        }
        let waiting = self.core.multi.take()?;
        // The client has its answers.
        let muted = std::mem::replace(&mut self.muted, true);
        let words = self.words.take();
        for frame in waiting.kept {
            let mut scanner = RequestScanner::new(RequestLimits::default());
            if let Ok(RequestScan::Complete { .. }) = scanner.scan(&frame) {
                let request = scanner.request(&frame);
                if let Lookup::Known(command) = self.table.lookup(&request) {
                    self.send_pinned(command, &request);
                }
            }
        }
        self.muted = muted;
        self.words = words;
        None
    }

    /// A command while the session has a connection of its own to a node that is not, or not alone, to answer it. `None`: it
    /// is, or there is no cluster.
    pub(super) fn on_another_node(&mut self, command: &Command, request: &Request<'_>) -> Option<Flow> {
        let pin = self.core.pin.as_ref()?;
        let (queued, quiet) = (pin.transaction.is_some(), pin.is_quiet());
        let listens = pin.is_subscribing() || pin.is_subscribed();
        let subscribes = command.place == Place::Pinned(Pin::Subscribe);
        let nodes = self.context.nodes.as_ref()?;
        let on = |node: Option<NodeId>| node.is_none() || nodes.or_any(node) == nodes.or_any(pin.node);
        // A transaction whose node is not known yet need not be on that of what the session is only waiting for.
        let begins = !queued && !quiet && !pin.is_kept() && command.name() == "multi";
        let alone = queued || !asks_several(command, request);
        if on(self.node) && alone && !begins {
            return None;
        }
        if listens && !subscribes && self.core.version == Version::V2 {
            // The server says that it may not.
            return None;
        }
        if queued {
            self.refuse_queued(command, CROSSSLOT);
            return Some(Flow::Next);
        }
        if !quiet {
            return Some(Flow::Hold);
        }
        if command.place(request) != Place::Shared {
            self.refuse(command.id().number(), CROSSSLOT);
            return Some(Flow::Next);
        }
        Some(self.shared_uncached(command, request))
    }
}

/// Whether more than one node is asked.
fn asks_several(command: &Command, request: &Request<'_>) -> bool {
    match command.spread {
        Spread::Keys(_) => command.check_arity(request) && command.slot(request).is_err(),
        Spread::All(_) | Spread::Scan => command.check_arity(request) && command.place(request) == Place::Shared,
        Spread::Slot | Spread::Any => false,
    }
}
