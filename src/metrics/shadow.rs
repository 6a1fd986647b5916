//! What shadow mode counts, by policy: what the near-cache would have done, and how its answers compare.

use std::sync::atomic::{AtomicU64, Ordering};

use super::family::{Row, RowType};
use super::label::{Label, label};
use super::text::Text;

label! {
    /// What the near-cache would have done with a read in shadow mode.
    ShadowLookup = "result" {
        /// Answered it from memory.
        Hit = "hit",
        /// Fetched it.
        Miss = "miss",
        /// Answered it by a fetch that another request had started.
        Coalesced = "coalesced",
        /// Passed it on.
        Bypass = "bypass",
    }
}

label! {
    /// How what memory would have answered compares with what the server said.
    ShadowVerdict = "verdict" {
        /// They are the same.
        Equal = "equal",
        /// They differ, and memory had dropped its answer by the time the server's arrived: the key changed meanwhile.
        Raced = "raced",
        /// They differ, and memory dropped its answer later, before the invalidation stream had proved that nothing was
        /// missing: a reader of memory would have been late, within the staleness bound.
        Late = "late",
        /// They differ, and memory still had its answer once the invalidation stream had proved that nothing was
        /// missing: the server did not tell.
        Stale = "stale",
        /// The server answered with an error, or not at all.
        Uncompared = "uncompared",
    }
}

/// Values the `policy` label may take. Chosen, as for commands.
const MAX_POLICIES: usize = 64;

/// The label of keys that no policy matches.
const DEFAULT: &str = "default";
/// The label of policies that have none of their own.
const OTHER: &str = "other";

/// The rows of shadow mode.
pub const SHADOW_ROWS: &[Row] = &[LOOKUPS, VERDICTS];

const LOOKUPS: Row = Row {
    name: "nearhit_shadow_requests_total",
    kind: RowType::Counter,
    help: "Cacheable requests in shadow mode, by policy and by what the near-cache would have done.",
};
const VERDICTS: Row = Row {
    name: "nearhit_shadow_comparisons_total",
    kind: RowType::Counter,
    help: "Answers of memory compared with the server's in shadow mode, by policy: equal; raced: it differs, and memory \
           had dropped it by the time the server's came; late: memory dropped it after that, before the invalidation \
           stream had proved that nothing was missing; stale: memory held it even then; uncompared: the server answered \
           with an error, or not at all.",
};

/// The counts of shadow mode. Every request in that mode waits for the server, so shared counters are cheap enough.
#[derive(Debug)]
pub struct ShadowMetrics {
    /// Invariant: not empty; the first one is that of keys no policy matches.
    series: Vec<Series>,
    /// Which series a policy has, by its number; the first is that of keys no policy matches.
    places: Vec<usize>,
}

#[derive(Debug)]
struct Series {
    policy: Box<str>,
    /// Relaxed: each only grows, and a reader needs no order between them.
    looked: [AtomicU64; ShadowLookup::ALL.len()],
    compared: [AtomicU64; ShadowVerdict::ALL.len()],
}

/// What was counted for one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowTotals {
    /// Its name; `default` for keys no policy matches.
    pub policy: Box<str>,
    looked: [u64; ShadowLookup::ALL.len()],
    compared: [u64; ShadowVerdict::ALL.len()],
}

impl ShadowTotals {
    /// Requests with which the near-cache would have done this.
    pub fn looked(&self, result: ShadowLookup) -> u64 {
        self.looked.get(result.index()).copied().unwrap_or_default()
    }

    /// Answers with this verdict.
    pub fn compared(&self, verdict: ShadowVerdict) -> u64 {
        self.compared.get(verdict.index()).copied().unwrap_or_default()
    }

    /// The share of all cacheable requests that memory would have answered; 0 before there were any.
    pub fn hit_ratio(&self) -> f64 {
        ratio(self.looked(ShadowLookup::Hit), self.looked.iter().sum())
    }

    /// The share of compared answers that were outdated when the server's answer arrived, and that memory would have
    /// gone on giving, for a moment (late) or longer (stale); 0 before there were any.
    pub fn stale_ratio(&self) -> f64 {
        let uncompared = self.compared(ShadowVerdict::Uncompared);
        let outdated = self.compared(ShadowVerdict::Late) + self.compared(ShadowVerdict::Stale);
        ratio(outdated, self.compared.iter().sum::<u64>() - uncompared)
    }

    /// Adds the counts of another policy.
    pub fn add(&mut self, other: &Self) {
        let counts = self.looked.iter_mut().chain(&mut self.compared);
        for (count, more) in counts.zip(other.looked.iter().chain(&other.compared)) {
            *count += more;
        }
    }
}

fn ratio(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

impl Series {
    fn new(policy: &str) -> Self {
        Self {
            policy: policy.into(),
            looked: Default::default(),
            compared: Default::default(),
        }
    }
}

impl ShadowMetrics {
    /// Counters for the policies `names`, in the order of the configuration, and for keys that none matches.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut metrics = Self {
            series: vec![Series::new(DEFAULT)],
            places: vec![0],
        };
        for name in names {
            let name = if metrics.series.len() < MAX_POLICIES - 1 {
                name
            } else {
                OTHER
            };
            let known = metrics.series.iter().position(|series| *series.policy == *name);
            metrics.places.push(known.unwrap_or(metrics.series.len()));
            if known.is_none() {
                metrics.series.push(Series::new(name));
            }
        }
        metrics
    }

    /// Counts a request of the policy with this number; 0: none matches its key.
    pub fn looked(&self, policy: usize, result: ShadowLookup) {
        if let Some(count) = self.at(policy).and_then(|series| series.looked.get(result.index())) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts `reads` compared answers.
    pub fn compared(&self, policy: usize, verdict: ShadowVerdict, reads: u64) {
        if let Some(count) = self.at(policy).and_then(|series| series.compared.get(verdict.index())) {
            count.fetch_add(reads, Ordering::Relaxed);
        }
    }

    /// The counts until now, by policy; first those of keys that no policy matches.
    pub fn totals(&self) -> Vec<ShadowTotals> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let totals = self.series.iter().map(|series| ShadowTotals {
            policy: series.policy.clone(),
            looked: series.looked.each_ref().map(read),
            compared: series.compared.each_ref().map(read),
        });
        totals.collect()
    }

    fn at(&self, policy: usize) -> Option<&Series> {
        self.series.get(*self.places.get(policy)?)
    }

    pub(super) fn write(&self, text: &mut Text) {
        let totals = self.totals();
        text.family(&LOOKUPS);
        for of in &totals {
            for &result in ShadowLookup::ALL {
                let labels = [("policy", &*of.policy), (ShadowLookup::NAME, result.value())];
                text.sample(LOOKUPS.name, "", &labels, of.looked(result));
            }
        }
        text.family(&VERDICTS);
        for of in &totals {
            for &verdict in ShadowVerdict::ALL {
                let labels = [("policy", &*of.policy), (ShadowVerdict::NAME, verdict.value())];
                text.sample(VERDICTS.name, "", &labels, of.compared(verdict));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_by_policy_and_named_by_it() {
        let metrics = ShadowMetrics::new(["sessions", "default"]);
        metrics.looked(0, ShadowLookup::Hit);
        metrics.looked(1, ShadowLookup::Miss);
        metrics.looked(2, ShadowLookup::Hit);
        metrics.compared(1, ShadowVerdict::Late, 3);
        let totals = metrics.totals();
        let names: Vec<_> = totals.iter().map(|of| &*of.policy).collect();
        assert_eq!(
            names,
            ["default", "sessions"],
            "a policy called default is the default's series"
        );
        assert_eq!(totals[0].looked(ShadowLookup::Hit), 2);
        assert_eq!((totals[1].hit_ratio(), totals[1].stale_ratio()), (0.0, 1.0));
    }

    #[test]
    fn policies_beyond_the_label_cap_share_the_label_other() {
        let names: Vec<_> = (0..100).map(|n| format!("policy{n}")).collect();
        let metrics = ShadowMetrics::new(names.iter().map(String::as_str));
        (0..=100).for_each(|policy| metrics.looked(policy, ShadowLookup::Bypass));
        let totals = metrics.totals();
        assert_eq!(totals.len(), 64);
        let last = totals.last().unwrap();
        assert_eq!((&*last.policy, last.looked(ShadowLookup::Bypass)), ("other", 38));
    }

    #[test]
    fn ratios_leave_out_what_was_not_compared() {
        let metrics = ShadowMetrics::new([]);
        for (verdict, reads) in [
            (ShadowVerdict::Equal, 6),
            (ShadowVerdict::Raced, 1),
            (ShadowVerdict::Uncompared, 5),
        ] {
            metrics.compared(0, verdict, reads);
        }
        metrics.compared(0, ShadowVerdict::Late, 2);
        metrics.compared(0, ShadowVerdict::Stale, 1);
        assert_eq!(metrics.totals()[0].stale_ratio(), 0.3);
    }
}
