//! What sentinels and the node they name say, brought together. No sockets here, and no clock.
//!
//! ```text
//! Unproven ─ the node that the sentinels name says it is the primary → Proven: published
//! Proven   ─ it says otherwise, or the sentinels name another → Unproven: nobody is published
//!          ─ a failover is announced, a sentinel changes its mind → Fenced: nobody is published
//! Fenced   ─ the sentinels name another → Unproven
//!          ─ it was aborted, or nobody changed their mind for two seconds and no sentinel is at it → as before
//! ```
//! Sentinels are divided while they hear of a failover: those of the newest epoch count, as they do among themselves, for most
//! sentinels have elected the one that led it. Of one epoch, most count.
//!
//! The fence is there because sentinels change their minds one after the other, while the node that is being replaced goes
//! on saying that it is the primary, for up to ten seconds.

use std::net::IpAddr;
use std::time::Duration;

use super::node::Role;
use crate::config::Address;
use crate::time::Instant;
use crate::topology::Topology;

/// How long sentinels must have said the same for a failover that was announced to be none. Chosen, not measured: the
/// others hear from the one that leads it within the second.
const SETTLED: Duration = Duration::from_secs(2);
/// How long a failover may be under way before the node that is being replaced counts again. Chosen, not measured: a
/// replica is asked every second whether it is promoted yet, and one that hangs must not take its primary with it for the
/// three minutes after which sentinels give up.
const UNDER_WAY: Duration = Duration::from_secs(10);

/// What a sentinel announced about the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The primary is another node now.
    Switched(Address),
    /// A replica is told to be the primary.
    Promoting,
    /// A failover ended without another primary.
    Aborted,
    /// Something else: worth asking what it means.
    Other,
}

/// What a sentinel answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Which sentinel it is; `None`: too old to tell.
    pub(super) id: Option<String>,
    /// Who the primary is; `None`: it does not know the group.
    pub(super) primary: Option<Address>,
    /// Who follows it and can be reached.
    pub(super) replicas: Vec<Replica>,
    /// It is about to replace the primary.
    pub(super) fails_over: bool,
    /// Which failover made the primary what it is; 0: none, or it is too old to tell.
    pub(super) epoch: u64,
}

/// A replica that a sentinel knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replica {
    /// Where it is.
    pub(super) address: Address,
    /// It heard from the primary when the sentinel asked it last: up to ten seconds ago.
    pub(super) was_connected: bool,
}

/// What is known about the group.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// What reachable sentinels answered last, in the order in which they were reached.
    answers: Vec<(Address, Answer)>,
    /// Who they say is the primary; stays while none can be reached.
    named: Option<Address>,
    /// Whether that node said so the last time it said anything.
    proven: bool,
    /// Who is up to date with it, as it said itself the last time.
    followers: Vec<Address>,
    /// Who follows it, as a sentinel said that names it; stays while none can be reached.
    replicas: Vec<Replica>,
    /// The last switch that was announced: it decides when sentinels are divided.
    switched: Option<Address>,
    /// A failover may be under way.
    fenced: Option<Fence>,
}

/// While it stands nobody is published.
#[derive(Debug)]
struct Fence {
    /// Until then everybody must have said the same for the failover to be none.
    settled: Instant,
    /// From then on sentinels that are still at it do not count.
    limit: Instant,
}

impl Group {
    /// Who is said to be the primary.
    pub(super) fn named(&self) -> Option<&Address> {
        self.named.as_ref()
    }

    /// Whether any sentinel can be reached.
    pub(super) fn is_heard(&self) -> bool {
        !self.answers.is_empty()
    }

    /// A sentinel answered.
    pub(super) fn answered(&mut self, sentinel: &Address, answer: Answer, now: Instant) {
        let now_names = answer.primary.clone();
        let changed = match self.answers.iter_mut().find(|(own, _)| own == sentinel) {
            Some((_, own)) => {
                let changed = own.primary != answer.primary;
                *own = answer;
                changed
            }
            None => {
                self.answers.push((sentinel.clone(), answer));
                false
            }
        };
        let elected = self.count();
        self.hear_of_replicas();
        if elected {
            return;
        }
        // Who comes round to what the others say announces nothing.
        let dissents = now_names.is_some() && now_names != self.named;
        let fails_over = self.answers.iter().any(|(_, answer)| answer.fails_over);
        match &self.fenced {
            _ if changed && dissents => self.fence(now),
            Some(fence) if now >= fence.limit || (now >= fence.settled && !fails_over) => self.fenced = None,
            _ => {}
        }
    }

    /// A sentinel cannot be reached any more: it has no vote.
    pub(super) fn lost(&mut self, sentinel: &Address) {
        self.answers.retain(|(own, _)| own != sentinel);
        self.count();
        self.hear_of_replicas();
    }

    /// A sentinel announced something.
    pub(super) fn announced(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Switched(to) => {
                self.switched = Some(to.clone());
                if self.named.as_ref() != Some(to) && !self.count() {
                    self.fence(now);
                }
            }
            Event::Promoting => self.fence(now),
            Event::Aborted => self.fenced = None,
            Event::Other => {}
        }
    }

    /// A node said what it is.
    pub(super) fn node_says(&mut self, address: &Address, role: &Role) {
        if self.named.as_ref() != Some(address) {
            return;
        }
        self.proven = matches!(role, Role::Primary { .. });
        if let Role::Primary { replicas } = role {
            self.followers.clone_from(replicas);
        }
    }

    /// What is to be published.
    pub(super) fn topology(&self) -> Topology {
        match &self.named {
            Some(named) if self.proven && self.fenced.is_none() => {
                let replicas = self.replicas.iter().filter(|replica| self.follows(replica));
                Topology::new(Some(named.clone()), replicas.map(|replica| replica.address.clone()))
            }
            _ => Topology::default(),
        }
    }

    /// Whether a replica is up to date. The primary says so every second, sentinels every ten; but it may call replicas by
    /// names where sentinels have numbers, and then only sentinels can say it.
    fn follows(&self, replica: &Replica) -> bool {
        let is_number =
            |address: &Address| matches!(address, Address::Tcp { host, .. } if host.parse::<IpAddr>().is_ok());
        let by_name = !self.followers.iter().all(is_number);
        self.followers.contains(&replica.address) || (by_name && replica.was_connected)
    }

    /// Nobody is published from now on, until it is clear whether there is another primary.
    fn fence(&mut self, now: Instant) {
        self.fenced = Some(Fence {
            settled: now.after(SETTLED),
            limit: now.after(UNDER_WAY),
        });
    }

    /// Takes the replicas from one sentinel, for they find out one after the other: the first that names the primary.
    fn hear_of_replicas(&mut self) {
        let mut answers = self.answers.iter().map(|(_, answer)| answer);
        if let Some(answer) = answers.find(|answer| answer.primary.is_some() && answer.primary == self.named) {
            self.replicas.clone_from(&answer.replicas);
        }
    }

    /// Counts the votes anew; whether they are for another node than before.
    fn count(&mut self) -> bool {
        let winner = self.winner();
        if winner.is_none() || winner == self.named {
            return false;
        }
        self.named = winner;
        self.proven = false;
        self.replicas.clear();
        self.followers.clear();
        self.fenced = None;
        true
    }

    /// Whom most sentinels of the newest epoch name: when they are divided, the last that was switched to, else whom they
    /// named before.
    fn winner(&self) -> Option<Address> {
        let votes = self.votes();
        let support = |address: &Address| votes.iter().filter(|vote| **vote == address).count();
        let most = votes.iter().map(|vote| support(vote)).max()?;
        let leads = |address: &&Address| support(address) == most;
        let preferred = [self.switched.as_ref(), self.named.as_ref()].into_iter().flatten();
        preferred.chain(votes.iter().copied()).find(leads).cloned()
    }

    /// One vote for each sentinel of the newest epoch that knows the group, even if it is reached in two ways.
    fn votes(&self) -> Vec<&Address> {
        let answers = || self.answers.iter().map(|(_, answer)| answer);
        let knowing = || answers().filter(|answer| answer.primary.is_some());
        let newest = knowing().map(|answer| answer.epoch).max();
        let voters: Vec<_> = knowing().filter(|answer| Some(answer.epoch) == newest).collect();
        let first_of_its_id = |at: usize, id: Option<&String>| {
            let mut earlier = voters.iter().take(at).map(|answer| answer.id.as_ref());
            id.is_none() || !earlier.any(|other| other == id)
        };
        let voters = voters.iter().enumerate();
        voters
            .filter(|(at, answer)| first_of_its_id(*at, answer.id.as_ref()))
            .filter_map(|(_, answer)| answer.primary.as_ref())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> Address {
        Address::Tcp {
            host: "10.0.0.1".to_owned(),
            port,
        }
    }

    fn sentinel(number: u16) -> Address {
        node(26_379 + number)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000 + 1)
    }

    fn primary() -> Role {
        Role::Primary {
            replicas: vec![node(2)],
        }
    }

    /// A replica at this port; one that was connected.
    fn known(port: u16) -> Replica {
        Replica {
            address: node(port),
            was_connected: true,
        }
    }

    fn replica() -> Role {
        Role::Replica {
            of: None,
            connected: true,
        }
    }

    impl Group {
        /// Sentinel `number` names the node with this port.
        fn vote(&mut self, number: u16, port: u16, millis: u64) {
            let answer = Answer {
                id: Some(number.to_string()),
                primary: Some(node(port)),
                ..Answer::default()
            };
            self.answered(&sentinel(number), answer, at(millis));
        }

        /// Sentinel `number` still names node 1, and is about to replace it.
        fn fail_over(&mut self, number: u16, millis: u64) {
            let answer = Answer {
                id: Some(number.to_string()),
                primary: Some(node(1)),
                fails_over: true,
                ..Answer::default()
            };
            self.answered(&sentinel(number), answer, at(millis));
        }

        fn published(&self) -> Option<Address> {
            self.topology().primary
        }
    }

    /// Three sentinels name node 1, which says it is the primary.
    fn settled() -> Group {
        let mut group = Group::default();
        (0..3).for_each(|number| group.vote(number, 1, 0));
        group.node_says(&node(1), &primary());
        group
    }

    #[test]
    fn a_node_is_published_once_it_says_that_it_is_the_primary() {
        let mut group = Group::default();
        assert_eq!(group.published(), None);
        group.vote(0, 1, 0);
        assert_eq!((group.named(), group.published()), (Some(&node(1)), None));
        group.node_says(&node(1), &replica());
        assert_eq!(group.published(), None);
        group.node_says(&node(2), &primary());
        assert_eq!(group.published(), None, "nobody asked for that node");
        group.node_says(&node(1), &primary());
        assert_eq!(group.published(), Some(node(1)));
        group.node_says(&node(1), &replica());
        assert_eq!(group.published(), None);
    }

    #[test]
    fn nobody_is_published_from_the_announcement_of_a_failover_to_its_end() {
        let mut group = settled();
        group.announced(&Event::Promoting, at(100));
        assert_eq!(group.published(), None);
        // The old primary still says it is one, and two sentinels do not know better.
        group.node_says(&node(1), &primary());
        group.vote(0, 2, 1_000);
        group.announced(&Event::Switched(node(2)), at(1_010));
        group.vote(1, 1, 1_900);
        group.vote(2, 1, 2_900);
        assert_eq!((group.named(), group.published()), (Some(&node(1)), None));
        group.vote(1, 2, 2_950);
        assert_eq!((group.named(), group.published()), (Some(&node(2)), None));
        group.node_says(&node(2), &replica());
        assert_eq!(group.published(), None);
        group.node_says(&node(2), &primary());
        assert_eq!(group.published(), Some(node(2)));
        group.vote(2, 2, 3_000);
        group.announced(&Event::Switched(node(2)), at(3_000));
        assert_eq!(group.published(), Some(node(2)), "the last one only caught up");
    }

    #[test]
    fn a_failover_that_comes_to_nothing_gives_the_primary_back() {
        let mut group = settled();
        group.announced(&Event::Promoting, at(100));
        group.announced(&Event::Aborted, at(200));
        assert_eq!(group.published(), Some(node(1)));
        group.announced(&Event::Promoting, at(300));
        group.vote(0, 1, 2_299);
        assert_eq!(group.published(), None);
        group.vote(0, 1, 2_300);
        assert_eq!(group.published(), Some(node(1)));
    }

    #[test]
    fn a_sentinel_that_changes_its_mind_fences_and_does_not_outvote_the_others() {
        let mut group = settled();
        group.vote(0, 2, 100);
        assert_eq!((group.named(), group.published()), (Some(&node(1)), None));
        group.vote(1, 1, 2_200);
        assert_eq!(group.published(), Some(node(1)));
    }

    /// The one that leads takes its time to see that the replica was promoted; the old primary was published meanwhile.
    #[test]
    fn a_failover_that_takes_its_time_stays_one_but_not_for_ever() {
        let mut group = settled();
        group.announced(&Event::Promoting, at(100));
        (0..3).for_each(|number| group.vote(number, 1, 2_200 - 200 * u64::from(number)));
        assert_eq!(group.published(), Some(node(1)), "no sentinel is at it");
        group.announced(&Event::Promoting, at(3_000));
        group.fail_over(0, 3_010);
        group.vote(1, 1, 12_900);
        assert_eq!(group.published(), None);
        group.vote(1, 1, 13_000);
        assert_eq!(group.published(), Some(node(1)));
    }

    /// The others hung, and were waited for until they counted as lost.
    #[test]
    fn a_sentinel_of_a_newer_epoch_outvotes_those_that_did_not_hear_of_it() {
        let mut group = settled();
        group.announced(&Event::Promoting, at(100));
        let answer = Answer {
            id: Some("0".to_owned()),
            primary: Some(node(2)),
            epoch: 1,
            ..Answer::default()
        };
        group.answered(&sentinel(0), answer, at(200));
        assert_eq!((group.named(), group.published()), (Some(&node(2)), None));
        group.node_says(&node(2), &primary());
        assert_eq!(group.published(), Some(node(2)));
        (1..3).for_each(|number| group.vote(number, 1, 300));
        assert_eq!(group.published(), Some(node(2)));
    }

    #[test]
    fn divided_sentinels_follow_the_last_switch() {
        let mut group = settled();
        group.lost(&sentinel(2));
        group.vote(0, 2, 100);
        assert_eq!(group.named(), Some(&node(1)), "whom they named before");
        group.announced(&Event::Switched(node(2)), at(110));
        assert_eq!(group.named(), Some(&node(2)));
    }

    #[test]
    fn a_sentinel_that_is_reached_in_two_ways_has_one_vote() {
        let mut group = Group::default();
        group.vote(0, 1, 0);
        group.vote(1, 2, 0);
        group.vote(2, 2, 0);
        assert_eq!(group.named(), Some(&node(2)));
        let again = Answer {
            id: Some("0".to_owned()),
            primary: Some(node(1)),
            ..Answer::default()
        };
        group.answered(&sentinel(7), again.clone(), at(0));
        group.answered(&sentinel(8), again, at(0));
        assert_eq!(group.named(), Some(&node(2)));
    }

    #[test]
    fn replicas_are_those_of_the_sentinels_that_are_up_to_date() {
        let mut group = settled();
        let answer = Answer {
            id: Some("0".to_owned()),
            primary: Some(node(1)),
            replicas: vec![
                Replica {
                    was_connected: false,
                    ..known(2)
                },
                known(3),
            ],
            ..Answer::default()
        };
        group.answered(&sentinel(0), answer, at(50));
        assert_eq!(group.topology().replicas, [node(2)], "who the primary says");
        let name = Address::Tcp {
            host: "replica".to_owned(),
            port: 3,
        };
        group.node_says(&node(1), &Role::Primary { replicas: vec![name] });
        assert_eq!(group.topology().replicas, [node(3)], "by names it says nothing");
        group.node_says(&node(1), &Role::Primary { replicas: vec![] });
        assert_eq!(group.topology().replicas, []);
    }

    #[test]
    fn without_sentinels_everything_stays() {
        let mut group = settled();
        let answer = Answer {
            id: Some("0".to_owned()),
            primary: Some(node(1)),
            replicas: vec![known(2)],
            ..Answer::default()
        };
        group.answered(&sentinel(0), answer, at(50));
        let before = group.topology();
        assert_eq!(before, Topology::new(Some(node(1)), [node(2)]));
        (0..3).for_each(|number| group.lost(&sentinel(2 - number)));
        assert!(!group.is_heard());
        assert_eq!(group.topology(), before);
        group.announced(&Event::Promoting, at(200));
        assert_eq!(group.published(), None, "what was announced holds, too");
    }
}
