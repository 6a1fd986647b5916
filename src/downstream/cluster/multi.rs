//! MULTI in front of a cluster: which node the transaction runs on is known with its first key, so until then nothing is sent.
//!
//! ```text
//! MULTI → waiting ─ a command without keys that any node may run → kept, QUEUED
//!            ├ MULTI, what is no command, what has too few words → an error; EXEC will fail
//!            ├ DISCARD, RESET, QUIT → over
//!            └ anything else → MULTI and what was kept go to the node of its key (no key: to any) → a transaction as ever
//! ```
//! After WATCH the node is known, and MULTI is sent as it comes. A command on keys of another node is refused as a cluster
//! refuses keys of several slots, and the transaction with it.

use std::collections::VecDeque;

use crate::command::{Command, CrossSlot, Lookup, Pin as Why, Place, Spread, error_text};
use crate::downstream::facade::is_about_cluster;
use crate::downstream::live::{Shown, letter};
use crate::downstream::pin::Pin;
use crate::downstream::request::{Flow, Turn};
use crate::downstream::transaction::refused_everywhere;
use crate::resp::{Request, RequestLimits, RequestScan, RequestScanner, Version};

/// A transaction that no node knows of.
#[derive(Debug, Default)]
pub(in crate::downstream) struct Waiting {
    /// Its requests so far, as far as they are not sent.
    kept: VecDeque<Box<[u8]>>,
    /// How many of them the client takes for queued.
    queued: i32,
    /// The first of them are sent.
    leaving: bool,
}

impl Waiting {
    /// What CLIENT LIST tells about it.
    pub(in crate::downstream) fn show(&self, shown: &mut Shown) {
        shown.letters |= letter::MULTI;
        shown.queued = self.queued;
    }
}

/// Commands that may be kept at most; with more it does not matter much which node they go to.
const MOST: usize = 1024;

/// What is about the client itself, that the server queues, and that is the same at every node.
const ABOUT_THE_CLIENT: &[&str] = &[
    "auth",
    "client|getname",
    "client|id",
    "client|info",
    "client|kill",
    "client|list",
    "client|no-evict",
    "client|reply",
    "client|setinfo",
    "client|setname",
    "hello",
    "select",
    "unwatch",
];

impl Turn<'_> {
    /// Whether `command` begins a transaction whose node is not known: nothing is watched.
    pub(in crate::downstream) fn begins_waiting(&self, command: &Command, request: &Request<'_>) -> bool {
        self.context.nodes.is_some()
            && self.core.pin.as_ref().is_none_or(Pin::will_be_free)
            && command.name() == "multi"
            && command.check_arity(request)
    }

    /// MULTI was said.
    pub(in crate::downstream) fn begin_waiting(&mut self, command: &Command, request: &Request<'_>) -> Flow {
        if !self.core.is_quiet() || self.core.pin.is_some() {
            // Its connection must not overtake what is on its way, and need not be the one the session has for now.
            return Flow::Hold;
        }
        self.core.multi = Some(Waiting {
            kept: [request.frame().into()].into(),
            queued: 0,
            leaving: false,
        });
        self.local_reply(command.id().number(), |out| out.extend_from_slice(b"+OK\r\n"));
        Flow::Next
    }

    /// A known command while a transaction waits for its node. `None`: it has one now, or is over, and the command is as any.
    pub(in crate::downstream) fn while_waiting(&mut self, command: &Command, request: &Request<'_>) -> Option<Flow> {
        let waiting = self.core.multi.as_mut()?;
        if waiting.leaving {
            return self.end_waiting(command.id().number());
        }
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
            // As Redis says it; the transaction goes on.
            "multi" if fits => {
                self.refuse(command.id().number(), "ERR MULTI calls can not be nested");
                return Some(Flow::Next);
            }
            _ => {}
        }
        if !fits {
            self.spoil_waiting(command.id().number(), error_text::wrong_arity(command));
            if command.name() == "exec" {
                self.core.multi = None;
            }
            return Some(Flow::Next);
        }
        if self.is_for_several_nodes(command, request) {
            self.spoil_waiting(command.id().number(), not_in_a_transaction(command));
            return Some(Flow::Next);
        }
        let Some(waiting) = &mut self.core.multi else {
            return None;
        };
        let anywhere = command.place(request) == Place::Shared
            || ABOUT_THE_CLIENT.contains(&command.name())
            || is_about_cluster(command.name());
        let keeps = anywhere && self.slot.is_none() && waiting.kept.len() < MOST;
        if keeps && command.name() != "exec" {
            waiting.kept.push_back(request.frame().into());
            waiting.queued += 1;
            self.local_reply(command.id().number(), |out| out.extend_from_slice(b"+QUEUED\r\n"));
            return Some(Flow::Next);
        }
        self.end_waiting(command.id().number())
    }

    /// A request while a transaction waits for its node that no server queues: the client hears why, and EXEC will fail.
    pub(in crate::downstream) fn spoil_waiting(&mut self, command: u16, text: impl AsRef<[u8]>) {
        if let Some(waiting) = &mut self.core.multi
            && waiting.kept.len() <= MOST
        {
            waiting.kept.push_back(refused_everywhere().into());
        }
        self.refuse(command, text);
    }

    /// Sends what was kept to the node of the request in hand. `Some`: it could not be.
    pub(in crate::downstream) fn end_waiting(&mut self, command: u16) -> Option<Flow> {
        if let Err(flow) = self.pin_for(Why::Transaction, command) {
            return Some(flow);
        }
        // The client has its answers.
        let muted = std::mem::replace(&mut self.muted, true);
        let words = self.words.take();
        let left = self.send_waiting();
        self.muted = muted;
        self.words = words;
        if !left {
            return Some(Flow::Hold);
        }
        self.core.multi = None;
        None
    }

    /// Sends what was kept over the session's own connection; false: what is on its way must be answered first.
    fn send_waiting(&mut self) -> bool {
        let Some(waiting) = &mut self.core.multi else {
            return true;
        };
        waiting.leaving = true;
        let mut kept = std::mem::take(&mut waiting.kept);
        while let Some(frame) = kept.front() {
            let mut scanner = RequestScanner::new(RequestLimits::default());
            if let Ok(RequestScan::Complete { .. }) = scanner.scan(frame) {
                let request = scanner.request(frame);
                if let Lookup::Known(command) = self.table.lookup(&request)
                    && self.send_pinned(command, &request) == Flow::Hold
                {
                    break;
                }
            }
            kept.pop_front();
        }
        let left = kept.is_empty();
        if let Some(waiting) = &mut self.core.multi {
            waiting.kept = kept;
        }
        left
    }

    /// Whether the session has a connection of its own to a node that has not got the keys of the request in hand.
    pub(in crate::downstream) fn is_pinned_elsewhere(&self) -> bool {
        let (Some(nodes), Some(pin), Some(node)) = (&self.context.nodes, &self.core.pin, self.node) else {
            return false;
        };
        nodes.or_any(Some(node)) != nodes.or_any(pin.node)
    }

    /// Whether a request is several, to several nodes.
    fn is_for_several_nodes(&self, command: &Command, request: &Request<'_>) -> bool {
        match command.spread {
            _ if self.context.nodes.is_none() => false,
            Spread::Keys(_) | Spread::Sketches => self.several,
            Spread::All(_) | Spread::Scan => command.place(request) == Place::Shared,
            Spread::Slot | Spread::Any => false,
        }
    }

    /// A command while the session has a connection of its own to a node that is not, or not alone, to run it. `None`: it
    /// is, or there is no cluster.
    pub(in crate::downstream) fn on_another_node(&mut self, command: &Command, request: &Request<'_>) -> Option<Flow> {
        let pin = self.core.pin.as_ref()?;
        if !self.is_pinned_elsewhere() && !self.is_for_several_nodes(command, request) {
            return None;
        }
        let (queued, quiet) = (pin.transaction.is_some(), pin.is_quiet());
        let listens = pin.is_subscribing() || pin.is_subscribed();
        let subscribes = command.place == Place::Pinned(Why::Subscribe);
        if listens && !subscribes && self.core.version == Version::V2 {
            // The server says that it may not.
            return None;
        }
        if queued {
            self.refuse_queued(command, &not_in_a_transaction(command));
            return Some(Flow::Next);
        }
        if !quiet {
            return Some(Flow::Hold);
        }
        if command.place(request) != Place::Shared {
            self.refuse(command.id().number(), CrossSlot::TEXT);
            return Some(Flow::Next);
        }
        Some(self.shared_uncached(command, request))
    }
}

/// Why a command for several nodes is not queued. What is about keys a cluster refuses in these words; but it would let
/// FLUSHALL empty one node, and DBSIZE count the keys of one.
fn not_in_a_transaction(command: &Command) -> String {
    match command.spread {
        Spread::All(_) | Spread::Scan => format!(
            "ERR nearhit: '{}' is for all nodes of the cluster, and a transaction runs on one",
            command.name()
        ),
        _ => CrossSlot::TEXT.to_owned(),
    }
}
