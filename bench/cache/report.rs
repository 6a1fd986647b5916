//! What was measured, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use serde::Serialize;

use super::contenders::{Contender, Moka, Near, Quick};
use super::machine::Machine;
use super::statistics::Spread;

/// How much faster than quick_cache and moka pure hits are to be.
const AIMS: [f64; 2] = [1.5, 5.0];

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mix {
    /// Keys that are there, in this order.
    Hits(&'static str),
    /// Of twenty, one key that is stored.
    New,
}

/// One key, in millions a second: by one thread, and by two together; by CPU time, and by the clock on the wall.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Hot {
    pub(crate) one: f64,
    pub(crate) two: f64,
    pub(crate) one_wall: f64,
    pub(crate) two_wall: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    /// Millions a second of nearhit, quick_cache and moka, by round.
    mixes: BTreeMap<String, Vec<[f64; 3]>>,
    hot: BTreeMap<&'static str, Vec<Hot>>,
    /// Nanoseconds by round, and the aim.
    parts: Vec<(&'static str, Vec<f64>, Option<f64>)>,
}

impl Report {
    pub(crate) fn new(machine: Machine) -> Self {
        Self {
            machine,
            mixes: BTreeMap::new(),
            hot: BTreeMap::new(),
            parts: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, mix: Mix, mops: [f64; 3]) {
        let name = match mix {
            Mix::Hits(order) => format!("hits, {order}"),
            Mix::New => "of twenty one that is new, Zipf 0.99".to_owned(),
        };
        self.mixes.entry(name).or_default().push(mops);
    }

    pub(crate) fn hot(&mut self, name: &'static str, hot: Hot) {
        self.hot.entry(name).or_default().push(hot);
    }

    pub(crate) fn part(&mut self, name: &'static str, nanos: f64, aim: Option<f64>) {
        match self.parts.last_mut().filter(|(last, ..)| *last == name) {
            Some((_, all, _)) => all.push(nanos),
            None => self.parts.push((name, vec![nanos], aim)),
        }
    }

    fn markdown(&self) -> String {
        let mut text = format!("{}\n\nMade by `make bench-cache`.\n\n", self.machine.place());
        text += "100,000 keys of 32 bytes, values of 64 bytes copied out, all hashed by foldhash, one thread: millions of \
                 operations per second of CPU time, medians; ratios within a round (lowest–highest).\n\n";
        let _ = writeln!(
            text,
            "| | {} | {} | {} | × {} | × {} | aim | |\n| --- | --: | --: | --: | --: | --: | --- | --- |",
            Near::NAME,
            Quick::NAME,
            Moka::NAME,
            Quick::NAME,
            Moka::NAME
        );
        for (name, rounds) in &self.mixes {
            let column = |at: usize| Spread::of(rounds.iter().map(|row| row[at])).median;
            let ratio = |at: usize| Spread::of(rounds.iter().map(|row| row[0] / row[at]));
            let (quick, moka) = (ratio(1), ratio(2));
            let (aim, verdict) = if name.starts_with("hits") {
                let met = quick.median >= AIMS[0] && moka.median >= AIMS[1];
                (format!("≥ {} and ≥ {}", AIMS[0], AIMS[1]), said(met))
            } else {
                (String::new(), "")
            };
            let _ = writeln!(
                text,
                "| {name} | {:.1} | {:.1} | {:.1} | {} | {} | {aim} | {verdict} |",
                column(0),
                column(1),
                column(2),
                spread(quick),
                spread(moka)
            );
        }
        text += &self.hot_table();
        text += &self.parts_table();
        text
    }

    fn hot_table(&self) -> String {
        let mut text = String::new();
        text += "\nOne key, by one thread and by two at once: millions a second of both together.\n\n\
                 | | one thread | two threads, by CPU time | two threads, by the wall | two × one, by CPU time | aim | |\n\
                 | --- | --: | --: | --: | --: | --- | --- |\n";
        for (name, rounds) in &self.hot {
            let of = |value: fn(&Hot) -> f64| Spread::of(rounds.iter().map(value));
            let ratio = of(|hot| hot.two / hot.one);
            let (aim, verdict) = match *name {
                Near::NAME => ("≥ 1", said(ratio.median >= 1.0)),
                _ => ("", ""),
            };
            let _ = writeln!(
                text,
                "| {name} | {:.1} | {:.1} | {:.1} | {} | {aim} | {verdict} |",
                of(|hot| hot.one).median,
                of(|hot| hot.two).median,
                of(|hot| hot.two_wall).median,
                spread(ratio)
            );
        }
        text += "\nA hit on a worker's copy writes nothing that another thread reads, so nothing of it is passed from core to \
                 core: with 64 threads the same is to be expected, as far as memory bandwidth goes. A read lock and a count \
                 of owners are two writes each to one cache line for every hit, which serve one core at a time however many \
                 there are. Two threads are what this machine could show.\n\n";
        text
    }

    fn parts_table(&self) -> String {
        let mut text = "| part | ns | aim | |\n| --- | --: | --- | --- |\n".to_owned();
        for (name, rounds, aim) in &self.parts {
            let nanos = Spread::of(rounds.iter().copied());
            let verdict = aim.map_or("", |aim| said(nanos.median <= aim));
            let aim = aim.map_or(String::new(), |aim| format!("≤ {aim}"));
            let _ = writeln!(text, "| {name} | {} | {aim} | {verdict} |", spread(nanos));
        }
        text
    }
}

fn said(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}

fn spread(of: Spread) -> String {
    let Spread { median, min, max } = of;
    format!("{median:.2} ({min:.2}–{max:.2})")
}

/// Prints the table, and writes it and the numbers where the others are if all of it was measured.
pub(crate) fn publish(report: &Report, whole: bool) -> Result<(), String> {
    let markdown = report.markdown();
    println!("{markdown}");
    if !whole {
        return Ok(());
    }
    let json = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
    for (name, text) in [("cache.md", markdown), ("cache.json", json + "\n")] {
        let path = crate::harness::root().join("bench/results").join(name);
        fs::write(&path, text).map_err(|error| format!("write {}: {error}", path.display()))?;
    }
    Ok(())
}
