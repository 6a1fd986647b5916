//! A worker's view of the nodes behind it: of a cluster, which of them has which slot; and the connections to each.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::command::{Command, CrossSlot, Slot};
use crate::downstream::context::Context;
use crate::downstream::forward::Forwarded;
use crate::downstream::request::Turn;
use crate::resp::{Request, Version};
use crate::time::{self, Instant};
use crate::topology::{NodeId, Owners, Roster};
use crate::upstream::{Connection, Identity, Loss, Pool};

/// How long what is on its way to a node may take that is no primary of the cluster any more. Chosen, not measured: a node that
/// is there says within that who has the key now.
const GRACE: Duration = Duration::from_secs(1);
/// The same for a node that is silent: whoever waits has waited for as long already. And so long a node may be silent before
/// discovery is to look whether another one has taken its place. Chosen, not measured: ten times what a busy node takes.
const SILENCE: Duration = Duration::from_millis(200);

/// A cluster, as discovery found it. Clones hear the same news.
#[derive(Clone)]
pub struct Cluster {
    /// The nodes by number.
    pub roster: Arc<Roster>,
    /// Which of them has what.
    pub owners: watch::Receiver<Arc<Owners>>,
}

impl Cluster {
    /// The node that has the slot of `key`.
    pub fn owner(&self, key: &[u8]) -> Option<NodeId> {
        self.owners.borrow().of(Slot::of(key))
    }
}

/// A worker's view of a cluster.
pub struct Nodes {
    roster: Arc<Roster>,
    /// Whoever has what, as discovery and the nodes' own replies say.
    owners: RefCell<Owners>,
    /// Connections by the node's number; those to the node that is asked what names no key are the context's.
    pools: RefCell<Vec<Option<Peer>>>,
    /// The node that is asked what names no key.
    any: Cell<Option<NodeId>>,
}

/// Connections to one node.
struct Peer {
    pool: Pool<Forwarded>,
    /// Since when it is no primary any more.
    gone: Option<Instant>,
}

impl Nodes {
    /// Nodes of which nothing is known.
    pub(in crate::downstream) fn new(cluster: &Cluster) -> Self {
        Self {
            roster: Arc::clone(&cluster.roster),
            owners: RefCell::default(),
            pools: RefCell::default(),
            any: Cell::new(None),
        }
    }

    /// The nodes by number.
    pub(in crate::downstream) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The node that has `slot`; `None`: nobody is known to.
    pub(in crate::downstream) fn owner(&self, slot: Slot) -> Option<NodeId> {
        self.owners.borrow().of(slot)
    }

    /// The node, or the one that is asked what names no key.
    pub(in crate::downstream) fn or_any(&self, node: Option<NodeId>) -> Option<NodeId> {
        node.or(self.any.get())
    }

    /// The nodes that have slots, in the order of their lowest.
    pub(in crate::downstream) fn primaries(&self) -> Vec<NodeId> {
        self.owners.borrow().primaries().to_vec()
    }
}

impl Context {
    /// In a cluster, the node that has `slot`.
    pub(in crate::downstream) fn owner(&self, slot: Option<Slot>) -> Option<NodeId> {
        self.nodes.as_ref()?.owner(slot?)
    }

    /// Calls `with` with the connections to `node`; without one, or without a cluster, with those to the node that is asked what
    /// names no key.
    pub(in crate::downstream) fn with_pool<T>(
        &self,
        node: Option<NodeId>,
        with: impl FnOnce(&mut Pool<Forwarded>) -> T,
    ) -> T {
        let other = self.nodes.as_ref().zip(node);
        let Some((nodes, node)) = other.filter(|(nodes, node)| nodes.any.get() != Some(*node)) else {
            return with(&mut self.pool.borrow_mut());
        };
        let mut pools = nodes.pools.borrow_mut();
        if pools.len() <= node.index() {
            pools.resize_with(node.index() + 1, || None);
        }
        let made = || {
            let address = nodes.roster.address(node)?;
            let pool = self.pool.borrow().sibling(address);
            Some(Peer { pool, gone: None })
        };
        if let Some(peer @ None) = pools.get_mut(node.index()) {
            *peer = made();
        }
        match pools.get_mut(node.index()) {
            Some(Some(peer)) => with(&mut peer.pool),
            // Not reached: a node with a number has an address.
            _ => with(&mut self.pool.borrow_mut()),
        }
    }

    /// The shared connection to `node`; see [`Context::with_pool`].
    ///
    /// # Errors
    /// Why the node cannot be reached, when it was tried a moment ago.
    pub(in crate::downstream) fn shared_connection(
        &self,
        node: Option<NodeId>,
        identity: &Identity,
        db: u32,
        version: Version,
    ) -> Result<Connection<Forwarded>, Loss> {
        self.with_pool(node, |pool| pool.shared(identity, db, version))
    }

    /// The node that is asked what names no key may be elsewhere now.
    pub fn follow_primary(&self) {
        let address = self.shared.master.now();
        if let Some(nodes) = &self.nodes {
            let any = address.as_ref().and_then(|address| nodes.roster.find(address));
            if nodes.any.replace(any) != any {
                // What goes to that node goes over other connections now.
                self.pool.borrow().begin_era();
            }
        }
        self.gate.open();
        let mut pool = self.pool.borrow_mut();
        pool.move_to(address);
        let turn = self.shared.master.turn();
        if self.turn.replace(turn) != turn {
            pool.renew();
        }
    }

    /// Discovery says who has which slot.
    pub fn follow_owners(&self, owners: &Owners) {
        let Some(nodes) = &self.nodes else { return };
        let before = nodes.owners.replace(owners.clone());
        let mut changed = false;
        for slot in owners.differing(&before) {
            changed = true;
            self.slot_moved(slot);
        }
        if changed {
            self.keys_were_copied();
            self.pool.borrow().begin_era();
        }
        for (place, peer) in nodes.pools.borrow_mut().iter_mut().enumerate() {
            if let Some(peer) = peer {
                let stays = owners.primaries().iter().any(|node| node.index() == place);
                peer.gone = (!stays).then(|| peer.gone.unwrap_or_else(time::now));
            }
        }
    }

    /// A node says that `node` has `slot`.
    pub(in crate::downstream) fn give(&self, slot: Slot, node: NodeId) {
        let Some(nodes) = &self.nodes else { return };
        if nodes.owners.borrow_mut().give(slot, node) {
            self.slot_moved(slot);
            self.keys_were_copied();
            self.pool.borrow().begin_era();
        }
    }

    /// Whoever has a slot now got its keys by copying: a replica is read from once it is known to have them, too.
    fn keys_were_copied(&self) {
        if let Some(routing) = &self.shared.routing {
            routing.written().note(&[], time::now());
        }
    }

    /// What is cached of the slot is dead.
    pub(in crate::downstream) fn slot_moved(&self, slot: Slot) {
        if let Some(slots) = self.shared.cache.slots() {
            slots.renew(slot);
        }
    }

    /// Tells waiters at the nodes of a cluster whose replies are late.
    pub(in crate::downstream) fn check_late_at_nodes(&self, now: Instant) {
        let Some(nodes) = &self.nodes else { return };
        let pools = nodes.pools.borrow();
        pools.iter().flatten().for_each(|peer| peer.pool.check_late(now));
    }

    /// Looks after connections to the nodes of a cluster, and gives up those to nodes that are none any more. Call it about ten
    /// times a second.
    pub fn tidy_nodes(&self, now: Instant) {
        let Some(nodes) = &self.nodes else { return };
        let is_suspect = |pool: &Pool<Forwarded>| pool.is_suspect() || pool.is_silent(SILENCE, now);
        let mut suspect = is_suspect(&self.pool.borrow());
        for place in nodes.pools.borrow_mut().iter_mut() {
            let Some(peer) = place else { continue };
            peer.pool.tidy(now);
            let Some(since) = peer.gone else {
                suspect |= is_suspect(&peer.pool);
                continue;
            };
            if !peer.pool.is_awaited() {
                peer.pool.close();
                *place = None;
            } else if now.since(since) > GRACE || (now.since(since) > SILENCE && peer.pool.is_silent(SILENCE, now)) {
                peer.pool.leave("the node is no primary of the cluster any more");
            }
        }
        if suspect {
            // Somebody may have taken its place: nobody can be asked there, and so nobody would say so.
            self.shared.doubt.wish();
        }
    }

    /// Closes every connection to the nodes of a cluster.
    pub fn close_nodes(&self) {
        if let Some(nodes) = &self.nodes {
            let mut pools = nodes.pools.borrow_mut();
            pools.iter_mut().flatten().for_each(|peer| peer.pool.close());
        }
    }
}

impl Turn<'_> {
    /// In a cluster, notes which slot the request is about, by its first key, whether other keys are of others, and who has
    /// that of the first.
    pub(in crate::downstream) fn note_slot(&mut self, command: &Command, request: &Request<'_>) {
        if self.context.nodes.is_none() {
            return;
        }
        (self.slot, self.several) = match command.slot(request) {
            Ok(slot) => (slot, false),
            Err(CrossSlot { first }) => (Some(first), true),
        };
        self.node = self.context.owner(self.slot);
    }
}
