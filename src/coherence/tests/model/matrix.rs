//! Every mutant against the model: which are caught, how fast, and by what. The outcome is `docs/mutants.md`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::directed;
use super::*;
use crate::mutants::{Mutant, choose};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/mutants.md");
const BEGIN: &str = "<!-- made by `make mutants-table` -->";
const END: &str = "<!-- end of what was made -->";
const HEADER: &str = "| mutant | what it does wrong | inside and outside | outside only | schedules | remark |\n\
                      | --- | --- | --- | --- | --- | --- |";

/// What is said about a mutant beyond what the runs say.
fn remark(mutant: Mutant) -> &'static str {
    match mutant {
        Mutant::NoKillBefore => {
            "harmless: the second kill, rules P and H and the bound keep every promise; the first one only ends sooner what \
             is about to be old"
        }
        Mutant::PfcountCached => {
            "harmless: PFCOUNT announces its own change behind its reply, which revokes the lease of its fetch"
        }
        Mutant::FirstKeyOnly => {
            "OPTIN names one key a push; the schedules have the server name two, as it does for prefixes"
        }
        Mutant::XpendingCached => "no streams in the model: `tests/command_rules.rs` says that it is not cached",
        Mutant::NilKind | Mutant::PairsNested => {
            "no such replies in the model: `tests/resp_live` compares each shape with a server's own"
        }
        Mutant::ResetLeaksUser => "one user in the model: `tests/identity_judgement.rs`",
        _ => "",
    }
}

/// What came of the runs of one mutant.
#[derive(Debug, Default)]
struct Outcome {
    caught: u64,
    first: Option<Catch>,
}

/// The first run that failed.
#[derive(Debug)]
struct Catch {
    seed: u64,
    /// In all runs up to there.
    steps: u64,
    millis: u128,
    /// The invariant that was broken.
    broken: String,
}

/// Calls `test`; gives what it panicked with, which is not shown.
fn failure(test: impl FnOnce()) -> Option<String> {
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    QUIET.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(test));
    QUIET.set(false);
    let payload = outcome.err()?;
    let text = payload.downcast_ref::<String>().cloned();
    Some(
        text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).into()))
            .unwrap_or_default(),
    )
}

/// The name of the invariant in front of a failure's text.
fn invariant(text: &str) -> String {
    let text = text.strip_prefix("assertion `left == right` failed: ").unwrap_or(text);
    let name = text.split(':').next().unwrap_or_default();
    if name.starts_with('I') && name.len() < 30 {
        name.into()
    } else {
        "a panic".into()
    }
}

fn is_invariant(text: &str) -> bool {
    invariant(text) != "a panic"
}

/// Runs of a mutant; `all`: not only up to the first one that fails.
fn hunt(mutant: Mutant, white: bool, seeds: u64, all: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let (began, mut steps) = (crate::time::now(), 0);
    for seed in 0..seeds {
        let setup = Setup {
            seed,
            steps: 6000,
            redirect: mutant.name().starts_with("redirect"),
            white,
        };
        choose(Some(mutant));
        let failed = failure(|| {
            run(setup, &mut Deeds::default());
        });
        choose(None);
        let Some(text) = failed else {
            steps += 6000;
            continue;
        };
        outcome.caught += 1;
        steps += STEP.get() as u64;
        outcome.first.get_or_insert_with(|| Catch {
            seed,
            steps,
            millis: crate::time::now().since(began).as_millis(),
            broken: invariant(&text),
        });
        if !all {
            break;
        }
    }
    outcome
}

/// The directed schedules that fail with this mutant.
fn failing(mutant: Mutant) -> Vec<&'static str> {
    let fails = |schedule: &fn()| {
        choose(Some(mutant));
        let failed = failure(schedule);
        choose(None);
        // A mutant may also keep a schedule from being set up; that is no promise broken.
        failed.is_some_and(|text| is_invariant(&text))
    };
    let all = directed::ALL.iter();
    all.filter(|(_, schedule)| fails(schedule))
        .map(|(name, _)| *name)
        .collect()
}

fn cell(outcome: &Outcome, seeds: u64) -> String {
    match &outcome.first {
        None => format!("0/{seeds}"),
        Some(first) => format!(
            "{}/{seeds}, first seed {}: {} steps, {} ms, {}",
            outcome.caught, first.seed, first.steps, first.millis, first.broken
        ),
    }
}

fn row(mutant: Mutant, seeds: u64) -> String {
    let [white, black] = [true, false].map(|white| cell(&hunt(mutant, white, seeds, true), seeds));
    let schedules = failing(mutant);
    // Two names say enough.
    let (some, more) = schedules.split_at(schedules.len().min(2));
    let more = if more.is_empty() {
        String::new()
    } else {
        format!(" and {} more", more.len())
    };
    format!(
        "| `{}` | {} | {white} | {black} | {}{more} | {} |",
        mutant.name(),
        mutant.what(),
        some.join(", "),
        remark(mutant)
    )
}

/// The file in front of its table, the table, and the file behind it.
fn parts(file: &str) -> (&str, &str, &str) {
    let (head, rest) = file.split_once(BEGIN).expect("the table's beginning");
    let (table, tail) = rest.split_once(END).expect("the table's end");
    (head, table, tail)
}

/// Whether the table says that the mutant was caught by a seed or a schedule.
fn is_caught(table: &str, mutant: Mutant) -> bool {
    let name = format!("| `{}` |", mutant.name());
    let row = table.lines().find(|line| line.starts_with(&name));
    let row = row.unwrap_or_else(|| panic!("{} is not in the table; make mutants-table", mutant.name()));
    let cells: Vec<_> = row.split('|').map(str::trim).collect();
    !cells[3].starts_with("0/") || !cells[4].starts_with("0/") || !cells[5].is_empty()
}

/// With `NEARHIT_MUTANTS_TABLE` set to a number of seeds, writes the table.
#[test]
fn every_mutant_is_caught_as_the_table_says() {
    let file = std::fs::read_to_string(FILE).expect("docs/mutants.md");
    let (head, table, tail) = parts(&file);
    let seeds = number("NEARHIT_MUTANTS_TABLE", 0);
    if seeds > 0 {
        let rows: Vec<_> = Mutant::ALL.iter().map(|&mutant| row(mutant, seeds)).collect();
        let text = format!("{head}{BEGIN}\n{HEADER}\n{}\n{END}{tail}", rows.join("\n"));
        std::fs::write(FILE, text).expect("docs/mutants.md written");
        return;
    }
    let missed = |mutant: &&Mutant| {
        let caught = !failing(**mutant).is_empty() || hunt(**mutant, true, 40, false).caught > 0;
        is_caught(table, **mutant) && !caught
    };
    let missed: Vec<_> = Mutant::ALL.iter().filter(missed).map(|mutant| mutant.name()).collect();
    assert!(missed.is_empty(), "not caught any more: {missed:?}");
}

#[test]
fn what_is_neither_caught_nor_explained_is_a_hole() {
    let file = std::fs::read_to_string(FILE).expect("docs/mutants.md");
    let (_, table, _) = parts(&file);
    let holes = Mutant::ALL
        .iter()
        .filter(|mutant| !is_caught(table, **mutant) && remark(**mutant).is_empty());
    assert_eq!(holes.count(), 0);
}
