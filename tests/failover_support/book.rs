//! What one client was told, and what it may be told therefore. No sockets here.
//!
//! A write is *acknowledged*, *uncertain* (it may take effect at any later time, or never) or *refused* (it must never take
//! effect). What was acknowledged may go away only with the server that acknowledged it: each server's life is a generation.

/// What a reply means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is what it has to be.
    Right,
    /// Something acknowledged is gone: right only if another server than that of this generation answered.
    Lost { since: usize },
    /// Something took effect twice.
    Doubled(String),
    /// No failover explains it.
    Wrong(String),
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// By the server of this generation.
    Acknowledged(usize),
    Uncertain,
    Refused,
}

/// A counter that one client increments.
#[derive(Debug, Default)]
pub struct Counter {
    /// What it was when it was heard of last, and of which generation that is at least.
    pub last: i64,
    generation: usize,
    /// Increments that may still come.
    pub open: i64,
    pub acknowledged: i64,
    pub uncertain: i64,
}

impl Counter {
    pub fn uncertain(&mut self) {
        self.open += 1;
        self.uncertain += 1;
    }

    pub fn answered(&mut self, value: i64, generation: usize) -> Verdict {
        let (before, since) = (self.last, self.generation);
        let more = value - before - 1;
        self.acknowledged += 1;
        (self.last, self.generation) = (value, generation);
        if more < 0 {
            return Verdict::Lost { since };
        }
        if more > self.open {
            return Verdict::Doubled(format!("INCR: {value} after {before} with {} uncertain", self.open));
        }
        self.open -= more;
        Verdict::Right
    }
}

/// A key that one client sets, each time to a larger number.
#[derive(Debug, Default)]
pub struct Register {
    /// What it may have been, oldest first. Invariant: the last acknowledged one is what it is, unless an uncertain one took
    /// effect since.
    history: Vec<(u64, Told)>,
}

impl Register {
    pub fn set(&mut self, value: u64, told: Told) {
        if told != Told::Refused {
            self.history.push((value, told));
        }
    }

    pub fn read(&mut self, value: Option<u64>, generation: usize) -> Verdict {
        let newest = self
            .history
            .iter()
            .rposition(|(_, told)| matches!(told, Told::Acknowledged(_)));
        let since = match newest.map(|at| self.history[at].1) {
            Some(Told::Acknowledged(since)) => since,
            _ => 0,
        };
        let Some(value) = value else {
            self.history.retain(|(_, told)| *told == Told::Uncertain);
            return newest.map_or(Verdict::Right, |_| Verdict::Lost { since });
        };
        let Some(at) = self.history.iter().rposition(|(known, _)| *known == value) else {
            let latest: Vec<_> = self.history.iter().rev().take(3).collect();
            return Verdict::Wrong(format!("GET: {value}, which it cannot be; the latest are {latest:?}"));
        };
        let is_newest = newest == Some(at);
        let took_effect = self.history[at].1 == Told::Uncertain;
        if !is_newest {
            // From now on it is what was read. What was acknowledged later is gone, what is uncertain may still come.
            let later = self.history.split_off(at + 1);
            let lost = self.history.pop();
            let open = later
                .into_iter()
                .filter(|(_, told)| took_effect || *told == Told::Uncertain);
            self.history.extend(open);
            self.history
                .extend(lost.map(|(value, _)| (value, Told::Acknowledged(generation))));
        }
        match is_newest || took_effect {
            true => Verdict::Right,
            false => Verdict::Lost { since },
        }
    }
}

/// Elements that one client appends to a list, each once.
#[derive(Debug, Default)]
pub struct Appended {
    pub told: Vec<Told>,
}

impl Appended {
    /// What is to be said of the list as it is in the end, by the numbers of the elements; and how many acknowledged ones are
    /// not in it.
    pub fn check(&self, list: &[usize]) -> (Vec<Verdict>, usize) {
        let mut times = vec![0; self.told.len()];
        let mut verdicts = Vec::new();
        for element in list {
            match times.get_mut(*element) {
                Some(times) => *times += 1,
                None => verdicts.push(Verdict::Wrong(format!("element {element} that nobody appended"))),
            }
        }
        let acknowledged = |element: &&usize| matches!(self.told.get(**element), Some(Told::Acknowledged(_)));
        if !list.iter().filter(acknowledged).is_sorted() {
            verdicts.push(Verdict::Wrong("acknowledged elements are out of order".to_owned()));
        }
        // Of the acknowledged ones behind the one that is looked at, the first that is there.
        let (mut follower, mut lost) = (None, 0);
        for (element, (told, times)) in self.told.iter().zip(&times).enumerate().rev() {
            match (told, times) {
                (_, 2..) => verdicts.push(Verdict::Doubled(format!("element {element} is there {times} times"))),
                (Told::Refused, 1) => {
                    verdicts.push(Verdict::Wrong(format!("element {element} was refused and is there")));
                }
                (Told::Acknowledged(generation), 1) => follower = Some(*generation),
                (Told::Acknowledged(generation), 0) => {
                    lost += 1;
                    if follower.is_none_or(|follower| follower <= *generation) {
                        verdicts.push(Verdict::Wrong(format!("element {element} was lost without a failover")));
                    }
                }
                _ => {}
            }
        }
        (verdicts, lost)
    }
}
