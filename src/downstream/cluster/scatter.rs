//! One request of a client that is several in front of a cluster: cut by slot, or sent to every node that has keys.
//!
//! ```text
//! MGET a b ─ cut (split) ┬ MGET a → node of a ─reply─┐
//!                        └ MGET b → node of b ─reply─┴ gather → one reply, in the request's place
//! ```
//! Each part is a request of its own, which is sent again and sent on as any other. What the reply means to the session
//! counts once, when all parts are there.

use std::cell::RefCell;
use std::rc::Rc;

use super::gather::Gather;
use super::redirect::in_plain_words;
use super::scan_cursor::{self, Scan};
use super::sketches::Sketches;
use super::split::{self, split};
use crate::coherence::Keys;
use crate::command::{Command, CrossSlot, Effect, Merge, Slot, Spread};
use crate::downstream::forward::{Forwarded, Op, Special};
use crate::downstream::request::{Flow, Turn, may_write};
use crate::metrics::Outcome;
use crate::resp::Request;
use crate::topology::NodeId;

/// One of the requests that a client's was made into.
#[derive(Debug)]
pub(in crate::downstream) struct Share {
    whole: Rc<RefCell<Whole>>,
    /// Which of them.
    number: usize,
}

/// The client's request.
#[derive(Debug)]
pub(in crate::downstream) struct Whole {
    merge: Merging,
    /// What its reply means, once it is there.
    then: Special,
}

#[derive(Debug)]
pub(in crate::downstream) enum Merging {
    Gather(Gather),
    /// A page of a scan of the node at this place among so many.
    Page {
        place: usize,
        of: usize,
    },
    Sketches(Sketches),
}

/// What became of a reply.
pub(in crate::downstream) enum Gathered {
    /// It is the reply to all of a client's request.
    Alone,
    /// Others are missing.
    Waiting,
    /// It was the last one; this is the reply.
    Whole(Vec<u8>),
}

impl Merging {
    /// A request whose replies become one in this way, and what that reply means.
    pub(in crate::downstream) fn meaning(self, then: Special) -> Rc<RefCell<Whole>> {
        Rc::new(RefCell::new(Whole { merge: self, then }))
    }
}

impl Share {
    /// The part of this number.
    pub(in crate::downstream) fn new(whole: &Rc<RefCell<Whole>>, number: usize) -> Self {
        let whole = Rc::clone(whole);
        Self { whole, number }
    }

    fn take(&self, reply: &[u8]) -> Option<Vec<u8>> {
        match &mut self.whole.borrow_mut().merge {
            Merging::Gather(gather) => gather.take(self.number, reply.to_vec()),
            Merging::Sketches(sketches) => sketches.take(self.number, reply),
            Merging::Page { place, of } => Some(scan_cursor::answer(*place, *of, reply)),
        }
    }
}

impl Forwarded {
    /// Puts the reply to its others, if it is a part of one. With the last one the request becomes what the client asked.
    pub(in crate::downstream) fn gather(&mut self, reply: &[u8]) -> Gathered {
        let Special::Share(share) = &self.op.special else {
            return Gathered::Alone;
        };
        let reply = in_plain_words(reply).unwrap_or(reply);
        let Some(whole) = share.take(reply) else {
            return Gathered::Waiting;
        };
        let then = std::mem::take(&mut share.whole.borrow_mut().then);
        self.op.special = then;
        Gathered::Whole(whole)
    }
}

/// One request of those that a client's is made into.
pub(super) struct Piece {
    pub(super) slot: Option<Slot>,
    pub(super) node: Option<NodeId>,
    pub(super) frame: Vec<u8>,
    pub(super) keys: Keys,
}

impl Turn<'_> {
    /// Sends a request that several nodes of a cluster are to answer. `None`: one does, or nobody is known to have keys, which
    /// whoever is asked says.
    pub(in crate::downstream) fn scatter(
        &mut self,
        command: &Command,
        request: &Request<'_>,
        effect: Effect,
    ) -> Option<Flow> {
        let nodes = self.context.nodes.as_ref()?;
        match command.spread {
            Spread::Slot => None,
            Spread::Keys(_) | Spread::Sketches if !self.several => None,
            Spread::Sketches => Some(self.count_union(command, request)),
            Spread::Keys(_) if may_write(command) && !self.context.shared.settings.split_writes => {
                self.refuse(command.id().number(), CrossSlot::TEXT);
                Some(Flow::Next)
            }
            Spread::Keys(merge) => {
                let parts = match split(command, request) {
                    Ok(None) => return None,
                    Ok(Some(parts)) => parts,
                    Err(text) => {
                        self.refuse(command.id().number(), text);
                        return Some(Flow::Next);
                    }
                };
                let keys = parts.iter().map(|part| part.keys.clone()).collect();
                let merge = Merging::Gather(Gather::of_keys(merge, keys));
                let pieces = parts.into_iter().map(|part| self.piece(part)).collect();
                Some(self.send_pieces(command, request, effect, merge, pieces))
            }
            Spread::All(merge) => self.send_to_all(command, request, effect, merge, &nodes.primaries()),
            Spread::Scan => self.send_page(command, request, effect, &nodes.primaries()),
            Spread::Any => self.wait_for_all(command, effect),
        }
    }

    fn send_to_all(
        &mut self,
        command: &Command,
        request: &Request<'_>,
        effect: Effect,
        merge: Merge,
        nodes: &[NodeId],
    ) -> Option<Flow> {
        if nodes.is_empty() {
            return None;
        }
        let merge = Merging::Gather(Gather::new(merge, nodes.len()));
        let piece = |&node| Piece {
            slot: None,
            node: Some(node),
            frame: request.frame().to_vec(),
            keys: Keys::from(self.core.keys.as_slice()),
        };
        let pieces = nodes.iter().map(piece).collect();
        Some(self.send_pieces(command, request, effect, merge, pieces))
    }

    fn piece(&self, part: split::Part) -> Piece {
        let hashes = part.keys.iter().filter_map(|&key| self.core.keys.get(key).copied());
        Piece {
            slot: Some(part.slot),
            node: self.context.owner(Some(part.slot)),
            frame: part.frame,
            keys: Keys::from(hashes.collect::<Vec<_>>().as_slice()),
        }
    }

    fn send_page(
        &mut self,
        command: &Command,
        request: &Request<'_>,
        effect: Effect,
        nodes: &[NodeId],
    ) -> Option<Flow> {
        if nodes.is_empty() {
            return None;
        }
        let flow = match scan_cursor::ask(request, nodes.len()) {
            Scan::Over(reply) => {
                self.local_reply(command.id().number(), |out| out.extend_from_slice(&reply));
                Flow::Next
            }
            Scan::Ask { place, frame } => {
                let merge = Merging::Page { place, of: nodes.len() };
                let piece = Piece {
                    slot: None,
                    node: nodes.get(place).copied(),
                    frame,
                    keys: Keys::None,
                };
                self.send_pieces(command, request, effect, merge, vec![piece])
            }
        };
        Some(flow)
    }

    /// What may change anything and names no key goes to any node: what this session has on its way to others comes first.
    fn wait_for_all(&mut self, command: &Command, effect: Effect) -> Option<Flow> {
        let matters = may_write(command) || matches!(effect, Effect::Unknown | Effect::KeylessRead);
        (matters && !self.core.home.is_quiet()).then_some(Flow::Hold)
    }

    /// Sends them all; `effect` is that of each.
    pub(super) fn send_pieces(
        &mut self,
        command: &Command,
        request: &Request<'_>,
        effect: Effect,
        merge: Merging,
        pieces: Vec<Piece>,
    ) -> Flow {
        let then = self.special(command, request);
        self.core.switching = then.ends_user();
        let whole = merge.meaning(then);
        let writes = may_write(command) && effect != Effect::Read;
        let number = self.core.pipeline.pend(self.muted);
        let (identity, db, version) = (self.core.account.identity().clone(), self.core.db, self.core.version);
        for (place, piece) in pieces.into_iter().enumerate() {
            let mut op = Op {
                keys: piece.keys,
                effect,
                writes,
                special: Special::Share(Share::new(&whole, place)),
                outcome: if writes { Outcome::Write } else { Outcome::Bypass },
                slot: piece.slot,
                node: piece.node,
                words: self.words.take(),
                attribute: self.attribute.take(),
                ..Op::plain(command.id().number(), self.now)
            };
            match self.context.shared_connection(piece.node, &identity, db, version) {
                Ok(connection) => {
                    self.before_sending(&mut op);
                    self.resend(op, Some(number), &piece.frame, &connection);
                }
                Err(loss) => self.fail_unsent(number, op, &loss),
            }
        }
        Flow::Next
    }
}
