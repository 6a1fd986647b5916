//! What one session is subscribed to through a hub, as the server has confirmed it.
//!
//! A session that becomes another user keeps its subscriptions where they are, as it would with Redis; what it subscribes
//! to from then on goes by the other user's hub.

use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;

use super::hub::Hub;
use super::kind::Kind;
use crate::downstream::session::Session;
use crate::resp::Glob;

/// A session's subscriptions.
#[derive(Default)]
pub(in crate::downstream) struct Listening {
    kinds: [HashMap<Bytes, Name>; 3],
    /// Subscriptions so far: Redis ends those to patterns in the order in which they began.
    count: u64,
}

struct Name {
    order: u64,
    /// Its messages come by this.
    hub: Rc<Hub>,
    /// Of a pattern: what it matches.
    glob: Option<Glob>,
}

impl Listening {
    fn of(&self, kind: Kind) -> &HashMap<Bytes, Name> {
        let [channels, patterns, shards] = &self.kinds;
        match kind {
            Kind::Channel => channels,
            Kind::Pattern => patterns,
            Kind::Shard => shards,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut HashMap<Bytes, Name> {
        let [channels, patterns, shards] = &mut self.kinds;
        match kind {
            Kind::Channel => channels,
            Kind::Pattern => patterns,
            Kind::Shard => shards,
        }
    }

    pub(in crate::downstream) fn is_empty(&self) -> bool {
        self.kinds.iter().all(HashMap::is_empty)
    }

    /// What confirmations count: channels and patterns together, shard channels alone.
    pub(super) fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel | Kind::Pattern => self.of(Kind::Channel).len() + self.of(Kind::Pattern).len(),
            Kind::Shard => self.of(Kind::Shard).len(),
        }
    }

    /// Channels, patterns, shard channels.
    pub(in crate::downstream) fn counts(&self) -> [usize; 3] {
        Kind::ALL.map(|kind| self.of(kind).len())
    }

    /// A subscription is confirmed; false: there is one already, by another hub, and that is enough.
    pub(super) fn insert(&mut self, kind: Kind, name: &Bytes, hub: &Rc<Hub>) -> bool {
        self.count += 1;
        let order = self.count;
        let name = self.of_mut(kind).entry(name.clone()).or_insert_with(|| Name {
            order,
            hub: Rc::clone(hub),
            glob: (kind == Kind::Pattern).then(|| Glob::new(name)),
        });
        Rc::ptr_eq(&name.hub, hub)
    }

    /// A subscription is over; gives the hub its messages came by.
    pub(super) fn remove(&mut self, kind: Kind, name: &[u8]) -> Option<Rc<Hub>> {
        self.of_mut(kind).remove(name).map(|name| name.hub)
    }

    /// The names of a kind, in the order in which they were subscribed to.
    pub(super) fn names(&self, kind: Kind) -> Vec<Bytes> {
        let mut names: Vec<_> = self.of(kind).iter().map(|(name, of)| (of.order, name)).collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name.clone()).collect()
    }

    /// The hubs messages come by: one, but for sessions that have been several users.
    pub(super) fn hubs(&self) -> Vec<Rc<Hub>> {
        let mut hubs: Vec<Rc<Hub>> = Vec::new();
        for name in self.kinds.iter().flat_map(HashMap::values) {
            if !hubs.iter().any(|hub| Rc::ptr_eq(hub, &name.hub)) {
                hubs.push(Rc::clone(&name.hub));
            }
        }
        hubs
    }

    /// What comes by `hub`.
    pub(super) fn by(&self, hub: &Rc<Hub>) -> impl Iterator<Item = (Kind, &Bytes)> {
        let of_kind = |kind| self.of(kind).iter().map(move |(name, of)| (kind, name, of));
        let all = Kind::ALL.into_iter().flat_map(of_kind);
        all.filter(move |(.., of)| Rc::ptr_eq(&of.hub, hub))
            .map(|(kind, name, _)| (kind, name))
    }

    /// The session has ended.
    pub(in crate::downstream) fn leave(&self, session: &Rc<Session>) {
        for hub in self.hubs() {
            hub.leave(session, self.by(&hub));
        }
    }

    /// Whether a message published on `channel` comes to this session by `hub`.
    pub(super) fn hears(&self, hub: &Rc<Hub>, shard: bool, channel: &[u8]) -> bool {
        let comes = |name: &Name| Rc::ptr_eq(&name.hub, hub);
        let kind = if shard { Kind::Shard } else { Kind::Channel };
        if self.of(kind).get(channel).is_some_and(comes) {
            return true;
        }
        let matches = |name: &Name| name.glob.as_ref().is_some_and(|glob| glob.matches(channel));
        let mut patterns = self.of(Kind::Pattern).values().filter(|name| comes(name));
        !shard && patterns.any(matches)
    }
}
