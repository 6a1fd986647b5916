//! Who is subscribed to what through one hub, and when the hub itself must be.
//!
//! ```text
//! SUBSCRIBE sent: claim ─ confirmed → member with the claim ─ UNSUBSCRIBE sent → member without ─ confirmed → gone
//!                   └─ refused → released
//! the last claim goes → the hub unsubscribes
//! ```
//! Requests and what the server says about them are in the order of one connection. Claims follow what is sent, members
//! what is confirmed; so both are right, each at its end of the connection, whatever is on its way.

use std::collections::HashMap;

use bytes::Bytes;

use super::kind::Kind;

/// One channel, pattern or shard channel.
#[derive(Debug)]
pub(super) struct Channel<M> {
    /// Members that have not begun to leave, and SUBSCRIBEs on their way.
    claims: usize,
    /// The hub is subscribed, as soon as everything sent is done.
    live: bool,
    /// The hub is subscribed, as the server has confirmed.
    up: bool,
    /// Who gets its messages, by session id.
    members: HashMap<u64, Member<M>>,
}

#[derive(Debug)]
struct Member<M> {
    session: M,
    /// Not once its UNSUBSCRIBE is sent.
    claims: bool,
}

impl<M> Default for Channel<M> {
    fn default() -> Self {
        Self {
            claims: 0,
            live: false,
            up: false,
            members: HashMap::new(),
        }
    }
}

impl<M> Channel<M> {
    /// A SUBSCRIBE is sent.
    pub(super) fn claim(&mut self) {
        self.claims += 1;
        self.live = true;
    }

    /// A SUBSCRIBE came to nothing; true: the hub may be subscribed for nobody.
    pub(super) fn release(&mut self) -> bool {
        self.claims = self.claims.saturating_sub(1);
        self.claims == 0 && self.live
    }

    /// Whether the hub must unsubscribe; it is taken to.
    pub(super) fn drop_unclaimed(&mut self) -> bool {
        let unclaimed = self.claims == 0 && self.live;
        self.live &= !unclaimed;
        unclaimed
    }

    /// A SUBSCRIBE is confirmed: its claim is the member's now.
    pub(super) fn join(&mut self, id: u64, session: M) {
        self.up = true;
        let before = self.members.insert(id, Member { session, claims: true });
        if before.is_some_and(|before| before.claims) {
            self.claims = self.claims.saturating_sub(1);
        }
    }

    /// An UNSUBSCRIBE is to be sent. `None`: it changes nothing; true: the hub must unsubscribe, and is taken to.
    pub(super) fn begin_leaving(&mut self, id: u64) -> Option<bool> {
        let member = self.members.get_mut(&id).filter(|member| member.claims)?;
        member.claims = false;
        self.claims = self.claims.saturating_sub(1);
        Some(self.drop_unclaimed())
    }

    /// An UNSUBSCRIBE was refused.
    pub(super) fn stay(&mut self, id: u64) {
        if let Some(member) = self.members.get_mut(&id).filter(|member| !member.claims) {
            member.claims = true;
            self.claim();
        }
    }

    /// An UNSUBSCRIBE is confirmed, or the member has gone; true: the hub must unsubscribe, and is taken to.
    pub(super) fn part(&mut self, id: u64) -> bool {
        let leaving = self.begin_leaving(id);
        self.members.remove(&id);
        leaving == Some(true)
    }

    /// The hub cannot unsubscribe now, and is still subscribed.
    pub(super) fn keep(&mut self) {
        self.live = true;
    }

    /// The subscription is over, not by its members' will; gives them.
    pub(super) fn end(&mut self) -> Vec<M> {
        let members = std::mem::take(&mut self.members);
        let claims = members.values().filter(|member| member.claims).count();
        self.claims = self.claims.saturating_sub(claims);
        self.live = self.claims > 0;
        self.up = false;
        members.into_values().map(|member| member.session).collect()
    }

    /// The connection to the server is lost.
    pub(super) fn lost(&mut self) {
        (self.live, self.up) = (false, false);
    }

    /// Whether it must be subscribed to on a new connection; it is taken to be.
    pub(super) fn restore(&mut self) -> bool {
        let wanted = self.claims > 0 && !self.live;
        self.live |= wanted;
        wanted
    }

    /// It is subscribed to on a new connection.
    pub(super) fn restored(&mut self) {
        self.up = true;
    }

    /// Who gets its messages.
    pub(super) fn members(&self) -> impl ExactSizeIterator<Item = &M> {
        self.members.values().map(|member| &member.session)
    }

    /// Members the server does not count: it counts the hub.
    fn uncounted(&self) -> usize {
        if self.up {
            self.members.len().saturating_sub(1)
        } else {
            0
        }
    }

    fn is_over(&self) -> bool {
        self.claims == 0 && !self.live && self.members.is_empty()
    }

    fn numbers(&self) -> Numbers {
        Numbers {
            members: self.members.len(),
            uncounted: self.uncounted(),
            live: self.live,
        }
    }
}

/// What a change did to the numbers of one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) members: usize,
    pub(super) uncounted: usize,
    pub(super) live: bool,
}

/// All channels of a hub.
#[derive(Debug)]
pub(super) struct Table<M>([HashMap<Bytes, Channel<M>>; 3]);

impl<M> Default for Table<M> {
    fn default() -> Self {
        Self([HashMap::new(), HashMap::new(), HashMap::new()])
    }
}

impl<M> Table<M> {
    fn of(&self, kind: Kind) -> &HashMap<Bytes, Channel<M>> {
        let [channels, patterns, shards] = &self.0;
        match kind {
            Kind::Channel => channels,
            Kind::Pattern => patterns,
            Kind::Shard => shards,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut HashMap<Bytes, Channel<M>> {
        let [channels, patterns, shards] = &mut self.0;
        match kind {
            Kind::Channel => channels,
            Kind::Pattern => patterns,
            Kind::Shard => shards,
        }
    }

    pub(super) fn get(&self, kind: Kind, name: &[u8]) -> Option<&Channel<M>> {
        self.of(kind).get(name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(HashMap::is_empty)
    }

    /// The name of a channel as its other subscribers hold it, if there are any.
    pub(super) fn name(&self, kind: Kind, name: &[u8]) -> Bytes {
        let known = self.of(kind).get_key_value(name).map(|(name, _)| name.clone());
        known.unwrap_or_else(|| Bytes::copy_from_slice(name))
    }

    /// Anybody who is subscribed to anything.
    pub(super) fn any_member(&self) -> Option<&M> {
        let mut channels = self.0.iter().flat_map(HashMap::values);
        channels.find_map(|channel| channel.members().next())
    }

    /// Changes a channel, which is made when `create` says so, and forgotten when it is over. Gives what `change` gave
    /// and the numbers before and after; `None` when there is no such channel.
    pub(super) fn change<T>(
        &mut self,
        (kind, name): (Kind, &Bytes),
        create: bool,
        change: impl FnOnce(&mut Channel<M>) -> T,
    ) -> Option<(T, Numbers, Numbers)> {
        let channels = self.of_mut(kind);
        if create && !channels.contains_key(name) {
            channels.insert(name.clone(), Channel::default());
        }
        let channel = channels.get_mut(name)?;
        let before = channel.numbers();
        let done = change(channel);
        let after = channel.numbers();
        if channel.is_over() {
            channels.remove(name);
        }
        Some((done, before, after))
    }

    /// The names of all channels.
    pub(super) fn names(&self) -> Vec<(Kind, Bytes)> {
        let of_kind = |kind| self.of(kind).keys().map(move |name| (kind, name.clone()));
        Kind::ALL.into_iter().flat_map(of_kind).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Bytes = Bytes::from_static(b"a");

    fn with<T>(table: &mut Table<u64>, change: impl FnOnce(&mut Channel<u64>) -> T) -> T {
        let (done, ..) = table
            .change((Kind::Channel, &A), true, change)
            .expect("made if missing");
        done
    }

    /// A table where these are subscribed to `a`.
    fn joined(ids: &[u64]) -> Table<u64> {
        let mut table = Table::default();
        for &id in ids {
            with(&mut table, Channel::claim);
            with(&mut table, |channel| channel.join(id, id));
        }
        table
    }

    fn members(table: &Table<u64>) -> Vec<u64> {
        let channel = table.get(Kind::Channel, b"a");
        let mut members: Vec<_> = channel.into_iter().flat_map(Channel::members).copied().collect();
        members.sort_unstable();
        members
    }

    #[test]
    fn the_hub_unsubscribes_with_the_last_of_its_members() {
        let mut table = joined(&[1, 2]);
        assert_eq!(with(&mut table, |channel| channel.begin_leaving(1)), Some(false));
        assert_eq!(
            with(&mut table, |channel| channel.begin_leaving(1)),
            None,
            "it is leaving already"
        );
        assert_eq!(members(&table), [1, 2], "messages may come until it is confirmed");
        assert!(!with(&mut table, |channel| channel.part(1)));
        assert_eq!(with(&mut table, |channel| channel.begin_leaving(2)), Some(true));
        assert!(!with(&mut table, |channel| channel.part(2)), "it was said once");
        assert!(table.is_empty());
    }

    #[test]
    fn a_subscribe_on_its_way_keeps_the_hub_subscribed() {
        let mut table = joined(&[1]);
        with(&mut table, Channel::claim);
        assert!(!with(&mut table, |channel| channel.part(1)), "two is about to join");
        with(&mut table, |channel| channel.join(2, 2));
        assert_eq!(members(&table), [2]);
    }

    #[test]
    fn a_refused_subscribe_keeps_nothing() {
        let mut table = joined(&[1]);
        with(&mut table, Channel::claim);
        assert!(!with(&mut table, |channel| channel.part(1)));
        assert!(
            with(&mut table, Channel::release),
            "nobody is left to be subscribed for"
        );
        assert!(with(&mut table, Channel::drop_unclaimed));
        assert!(table.is_empty());
    }

    #[test]
    fn a_refused_unsubscribe_changes_nothing() {
        let mut table = joined(&[1]);
        assert_eq!(with(&mut table, |channel| channel.begin_leaving(1)), Some(true));
        with(&mut table, |channel| channel.stay(1));
        assert!(with(&mut table, |channel| channel.part(1)));
        assert!(table.is_empty());
    }

    #[test]
    fn whoever_subscribes_twice_is_a_member_once() {
        let mut table = joined(&[1, 1]);
        assert!(with(&mut table, |channel| channel.part(1)));
        assert!(table.is_empty());
    }

    #[test]
    fn whoever_comes_back_while_leaving_stays_subscribed() {
        let mut table = joined(&[1]);
        assert_eq!(with(&mut table, |channel| channel.begin_leaving(1)), Some(true));
        with(&mut table, Channel::claim);
        with(&mut table, |channel| channel.part(1));
        with(&mut table, |channel| channel.join(1, 1));
        assert_eq!(members(&table), [1]);
        assert!(with(&mut table, |channel| channel.part(1)));
    }

    #[test]
    fn what_ended_by_itself_is_over_for_all_but_those_on_their_way() {
        let mut table = joined(&[1, 2]);
        with(&mut table, Channel::claim);
        assert_eq!(with(&mut table, Channel::end).len(), 2);
        with(&mut table, |channel| channel.join(3, 3));
        assert!(with(&mut table, |channel| channel.part(3)));
        assert!(table.is_empty());
    }

    #[test]
    fn the_server_counts_one_of_all_members() {
        let mut table = joined(&[1, 2, 3]);
        let uncounted = |table: &Table<_>| table.get(Kind::Channel, b"a").map_or(0, Channel::uncounted);
        assert_eq!(uncounted(&table), 2);
        with(&mut table, Channel::lost);
        assert_eq!(uncounted(&table), 0);
        assert!(with(&mut table, Channel::restore));
        assert!(!with(&mut table, Channel::restore), "once is enough");
        with(&mut table, Channel::restored);
        assert_eq!(uncounted(&table), 2);
    }
}
