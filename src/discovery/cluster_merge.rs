//! Whom to believe when the nodes of a cluster do not say the same.
//!
//! Of those that are said to have a slot, the one with the greatest epoch has it, as among the nodes themselves: whoever is given
//! one gets an epoch greater than all it knows of. But a node knows best what it has: what others say of it does not count if
//! it says something else itself and they know of no greater epoch of it. Only where nobody is left who is said to have the
//! slot, what others say counts all the same: they may have heard of its new owner before that was asked again.
//!
//! So a node that was cut off and still claims what others have taken is outdone, one that has given a slot away does not get
//! it back from somebody who has not heard of that, a replica has its primary's slots as soon as one node says so, and a
//! cluster that was made anew with smaller epochs is believed when the old answers are too old.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::cluster_view::{Member, View};
use crate::command::SLOT_COUNT;
use crate::config::Address;
use crate::time::Instant;
use crate::topology::{Shard, Shards};

/// The latest answers, by the id of the node that gave them.
#[derive(Debug, Default)]
pub(super) struct Answers(HashMap<String, (View, Instant)>);

/// So many are kept: of nodes that have not answered lately the others know enough.
const MOST_ANSWERS: usize = 16;

/// Somebody is said to have a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Claim<'a> {
    /// The claimant's epoch, and whether it says so itself; `None`: nobody is said to.
    strength: Option<(u64, bool)>,
    id: &'a str,
}

impl<'a> Claim<'a> {
    fn id(&self) -> Option<&'a str> {
        self.strength.map(|_| self.id)
    }
}

/// What is made of them.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) shards: Shards,
    /// Primaries that enough nodes think do not answer.
    pub(super) failing: Vec<Address>,
    /// Every node that can be connected to: primaries with slots first.
    pub(super) nodes: Vec<Address>,
}

/// By how many more say something of a node than do not.
#[derive(Clone, Copy, Debug, Default)]
struct Votes {
    fails: i32,
    is_away: i32,
}

impl Answers {
    /// A node has said this; false: it said the same the last time.
    pub(super) fn note(&mut self, view: View, now: Instant) -> bool {
        let Some(speaker) = view.speaker().map(|speaker| speaker.id.clone()) else {
            return false;
        };
        let same = self.0.get(&speaker).is_some_and(|(before, _)| *before == view);
        self.0.insert(speaker, (view, now));
        !same
    }

    /// What is older counts no more, unless there is nothing younger, and neither does the oldest when there are many. True:
    /// something counts no more.
    pub(super) fn forget(&mut self, age: Duration, now: Instant) -> bool {
        let count = self.0.len();
        let is_young = |at: &Instant| now.since(*at) <= age;
        if self.0.values().any(|(_, at)| is_young(at)) {
            self.0.retain(|_, (_, at)| is_young(at));
        }
        let mut ages: Vec<_> = self.0.values().map(|(_, at)| *at).collect();
        ages.sort_unstable_by_key(|at| std::cmp::Reverse(*at));
        if let Some(&oldest) = ages.get(MOST_ANSWERS - 1) {
            self.0.retain(|_, (_, at)| *at >= oldest);
        }
        self.0.len() < count
    }

    /// Whether it is the same cluster that says this: it names a node that is known.
    pub(super) fn is_of_this_cluster(&self, view: &View) -> bool {
        let known: HashSet<_> = self
            .0
            .values()
            .flat_map(|(view, _)| &view.nodes)
            .map(|node| &node.id)
            .collect();
        known.is_empty() || view.nodes.iter().any(|node| known.contains(&node.id))
    }

    /// Whether all that is known is older.
    pub(super) fn are_older(&self, age: Duration, now: Instant) -> bool {
        self.0.values().all(|(_, at)| now.since(*at) > age)
    }

    /// Nothing that was said before counts.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether nobody has said anything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each node as whoever is believed about it has it, by id.
    fn members(&self) -> BTreeMap<&str, &Member> {
        let mut members: BTreeMap<&str, &Member> = BTreeMap::new();
        let mut views: Vec<_> = self.0.values().collect();
        views.sort_by_key(|(_, at)| *at);
        for member in views.iter().flat_map(|(view, _)| &view.nodes) {
            let believed = members.get(member.id.as_str());
            // Of two answers of the same kind the later one.
            let better =
                believed.is_none_or(|known| (member.epoch, member.is_speaker) >= (known.epoch, known.is_speaker));
            if better {
                members.insert(&member.id, member);
            }
        }
        members
    }

    /// What the others say of each node, by id.
    fn votes(&self) -> HashMap<&str, Votes> {
        let mut votes: HashMap<&str, Votes> = HashMap::new();
        let all = self.0.values().flat_map(|(view, _)| &view.nodes);
        for member in all.filter(|member| !member.is_speaker) {
            let votes = votes.entry(&member.id).or_default();
            votes.fails += if member.fails { 1 } else { -1 };
            votes.is_away += if member.fails || member.is_doubtful { 1 } else { -1 };
        }
        votes
    }

    /// Who has what, as far as it can be known.
    pub(super) fn merged(&self) -> Merged {
        let (members, votes, owners) = (self.members(), self.votes(), self.owners());
        let mut shards: BTreeMap<&str, Shard> = BTreeMap::new();
        for (slot, owner) in (0..).zip(&owners) {
            let Some(owner) = owner.and_then(|owner| members.get(owner)) else {
                continue;
            };
            let shard = shards.entry(&owner.id).or_insert_with(|| Shard {
                primary: owner.address.clone(),
                replicas: replicas(&members, &votes, &owner.id),
                slots: Vec::new(),
            });
            match shard.slots.last_mut() {
                Some(last) if last.end().checked_add(1) == Some(slot) => *last = *last.start()..=slot,
                _ => shard.slots.push(slot..=slot),
            }
        }
        let fails = |id: &str| votes.get(id).is_some_and(|votes| votes.fails > 0);
        let failing = shards.iter().filter(|(id, _)| fails(id));
        let failing = failing.map(|(_, shard)| shard.primary.clone()).collect();
        let shards = Shards::new(shards.into_values().collect());
        let mut nodes: Vec<_> = shards.all().iter().map(|shard| shard.primary.clone()).collect();
        let mut listed: HashSet<_> = nodes.iter().cloned().collect();
        let others = members.values().map(|member| &member.address);
        nodes.extend(others.filter(|node| listed.insert((*node).clone())).cloned());
        Merged { shards, failing, nodes }
    }

    /// The id of the node that has each slot.
    fn owners(&self) -> Vec<Option<&str>> {
        let views = || self.0.values().flat_map(|(view, _)| &view.nodes);
        let own: HashMap<&str, &Member> = views()
            .filter(|member| member.is_speaker)
            .map(|member| (member.id.as_str(), member))
            .collect();
        let mut owners = vec![Claim::default(); SLOT_COUNT];
        let mut rumours = vec![Claim::default(); SLOT_COUNT];
        for member in views().filter(|member| member.owns()) {
            let claim = Claim {
                strength: Some((member.epoch, member.is_speaker)),
                id: &member.id,
            };
            // What it says of itself, where that is not older than this.
            let own = own.get(member.id.as_str()).filter(|own| own.epoch >= member.epoch);
            let denied = |slot: u16| {
                own.is_some_and(|own| own.follows.is_some() || !own.slots.iter().any(|range| range.contains(&slot)))
            };
            for slot in member.slots.iter().cloned().flatten() {
                let claims = if denied(slot) { &mut rumours } else { &mut owners };
                if let Some(known) = claims.get_mut(usize::from(slot)) {
                    *known = claim.max(*known);
                }
            }
        }
        let known = owners.into_iter().zip(rumours);
        known.map(|(owner, rumour)| owner.id().or(rumour.id())).collect()
    }
}

fn replicas(members: &BTreeMap<&str, &Member>, votes: &HashMap<&str, Votes>, primary: &str) -> Vec<Address> {
    let follows = |member: &&&Member| member.follows.as_deref() == Some(primary);
    let is_there = |member: &&&Member| votes.get(member.id.as_str()).is_none_or(|votes| votes.is_away <= 0);
    let replicas = members.values().filter(follows).filter(is_there);
    let mut replicas: Vec<_> = replicas.map(|member| member.address.clone()).collect();
    replicas.sort_by_cached_key(ToString::to_string);
    replicas
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::RangeInclusive;

    fn at(host: &str) -> Address {
        let host = host.to_owned();
        Address::Tcp { host, port: 1 }
    }

    fn ms(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// A node that is called as it is reached.
    fn node(name: &str, epoch: u64, slots: &[RangeInclusive<u16>]) -> Member {
        Member {
            id: name.to_owned(),
            address: at(name),
            is_speaker: false,
            follows: None,
            fails: false,
            is_doubtful: false,
            epoch,
            slots: slots.to_vec(),
        }
    }

    fn replica(name: &str, primary: &str) -> Member {
        Member {
            follows: Some(primary.to_owned()),
            ..node(name, 0, &[])
        }
    }

    fn failing(member: Member) -> Member {
        Member {
            fails: true,
            is_doubtful: true,
            ..member
        }
    }

    /// `speaker` says this.
    fn says(answers: &mut Answers, speaker: &str, now: u64, nodes: &[Member]) {
        let nodes = nodes.iter().cloned().map(|node| Member {
            is_speaker: node.id == speaker,
            ..node
        });
        answers.note(View { nodes: nodes.collect() }, ms(now));
    }

    fn shards(answers: &Answers) -> Vec<(String, Vec<RangeInclusive<u16>>)> {
        let merged = answers.merged();
        let all = merged.shards.all().iter();
        all.map(|shard| (shard.primary.to_string(), shard.slots.clone()))
            .collect()
    }

    fn have(parts: &[(&str, &[RangeInclusive<u16>])]) -> Vec<(String, Vec<RangeInclusive<u16>>)> {
        parts
            .iter()
            .map(|(name, slots)| (format!("{name}:1"), slots.to_vec()))
            .collect()
    }

    #[test]
    fn one_answer_is_enough() {
        let mut answers = Answers::default();
        let all = [
            node("a", 1, &[0..=9, 20..=29]),
            node("b", 2, &[10..=19]),
            replica("c", "a"),
            failing(replica("d", "a")),
        ];
        says(&mut answers, "b", 0, &all);
        assert_eq!(shards(&answers), have(&[("a", &[0..=9, 20..=29]), ("b", &[10..=19])]));
        let merged = answers.merged();
        assert_eq!(merged.shards.all()[0].replicas, [at("c")]);
        assert_eq!(merged.nodes, [at("a"), at("b"), at("c"), at("d")]);
    }

    #[test]
    fn the_greater_epoch_has_the_slot() {
        let mut answers = Answers::default();
        // Cut off, it has not heard that b took its place.
        says(&mut answers, "a", 5, &[node("a", 1, &[0..=9]), replica("b", "a")]);
        says(
            &mut answers,
            "c",
            0,
            &[
                failing(node("a", 1, &[])),
                node("b", 4, &[0..=9]),
                node("c", 2, &[10..=19]),
            ],
        );
        assert_eq!(shards(&answers), have(&[("b", &[0..=9]), ("c", &[10..=19])]));
    }

    #[test]
    fn what_a_node_says_of_its_own_slots_counts_more_than_what_others_say() {
        let mut answers = Answers::default();
        // a has given slot 9 to b, then got another one and with it a greater epoch; c has heard of the epoch only.
        says(
            &mut answers,
            "a",
            0,
            &[node("a", 6, &[0..=8, 30..=30]), node("b", 5, &[9..=19])],
        );
        says(
            &mut answers,
            "c",
            1,
            &[
                node("a", 6, &[0..=9, 30..=30]),
                node("b", 4, &[10..=19]),
                node("c", 2, &[20..=29]),
            ],
        );
        says(&mut answers, "b", 0, &[node("a", 5, &[0..=8]), node("b", 5, &[9..=19])]);
        let whole = have(&[("a", &[0..=8, 30..=30]), ("b", &[9..=19]), ("c", &[20..=29])]);
        assert_eq!(shards(&answers), whole);
    }

    #[test]
    fn a_slot_that_is_handed_over_is_never_nobody_s() {
        let mut answers = Answers::default();
        // b was asked before it was given slot 9, and its epoch was the greatest already; a was asked afterwards.
        says(
            &mut answers,
            "b",
            0,
            &[node("a", 1, &[0..=9]), node("b", 5, &[10..=19])],
        );
        says(&mut answers, "a", 1, &[node("a", 1, &[0..=8]), node("b", 5, &[9..=19])]);
        assert_eq!(shards(&answers), have(&[("a", &[0..=8]), ("b", &[9..=19])]));
    }

    #[test]
    fn a_replica_that_took_over_is_believed_in_when_one_node_has_heard_of_it() {
        let mut answers = Answers::default();
        says(&mut answers, "a", 0, &[node("a", 1, &[0..=9]), replica("b", "a")]);
        says(&mut answers, "b", 0, &[node("a", 1, &[0..=9]), replica("b", "a")]);
        let after = [failing(node("a", 1, &[])), node("b", 4, &[0..=9]), node("c", 2, &[])];
        says(&mut answers, "c", 1, &after);
        assert_eq!(shards(&answers), have(&[("b", &[0..=9])]));
    }

    #[test]
    fn another_cluster_at_a_known_address_is_not_listened_to() {
        let mut answers = Answers::default();
        says(&mut answers, "a", 0, &[node("a", 1, &[0..=9])]);
        let stranger = View {
            nodes: vec![node("x", 9, &[0..=9])],
        };
        assert!(!answers.is_of_this_cluster(&stranger));
        let grown = View {
            nodes: vec![node("x", 9, &[0..=9]), node("a", 1, &[])],
        };
        assert!(answers.is_of_this_cluster(&grown) && Answers::default().is_of_this_cluster(&stranger));
    }

    #[test]
    fn old_answers_count_no_more_once_there_are_younger_ones() {
        let mut answers = Answers::default();
        let age = Duration::from_secs(5);
        says(
            &mut answers,
            "a",
            0,
            &[node("a", 100, &[0..=9]), node("b", 200, &[10..=19])],
        );
        answers.forget(age, ms(60_000));
        assert_eq!(shards(&answers).len(), 2, "nothing better is known");
        // It was made anew.
        says(&mut answers, "b", 60_000, &[node("b", 1, &[0..=19])]);
        answers.forget(age, ms(60_000));
        assert_eq!(shards(&answers), have(&[("b", &[0..=19])]));
    }

    #[test]
    fn a_primary_fails_when_most_say_so_and_keeps_its_slots_until_another_has_them() {
        let mut answers = Answers::default();
        let nodes = [
            failing(node("a", 1, &[0..=9])),
            node("b", 2, &[10..=19]),
            node("c", 3, &[20..=29]),
        ];
        says(&mut answers, "b", 0, &nodes);
        says(
            &mut answers,
            "c",
            0,
            &[node("a", 1, &[0..=9]), nodes[1].clone(), nodes[2].clone()],
        );
        assert!(answers.merged().failing.is_empty());
        says(&mut answers, "c", 0, &nodes);
        let merged = answers.merged();
        assert_eq!((merged.failing, merged.shards.all().len()), (vec![at("a")], 3));
    }
}
