//! From a sequence that fails to the smallest part of it that does, and to words.

use super::driver::{Driver, Failure};
use super::steps::{Request, Step};
use nearhit::time::{Instant, now};
use std::fmt::Write as _;
use std::time::Duration;

/// How long shrinking may take.
const BUDGET: Duration = Duration::from_secs(20);
/// How long a step may take while shrinking: what never comes need not be awaited for long.
const PATIENCE: Duration = Duration::from_millis(700);

/// Drops steps and requests as long as the rest still fails, and says what is left of it.
pub fn shrink(driver: &mut Driver, steps: &[Step], failure: &Failure) -> String {
    driver.patience = PATIENCE;
    let deadline = now().after(BUDGET);
    // Nothing behind the step that failed is needed.
    let mut best = steps[..steps.len().min(failure.step + 1)].to_vec();
    let Some(mut seen) = fails(driver, &best, failure) else {
        return "it did not fail a second time: a matter of timing\n".to_owned();
    };
    // Large parts first, then what they consist of.
    let mut size = best.len().next_power_of_two();
    while size > 0 && now() < deadline {
        for at in (0..best.len()).step_by(size).rev() {
            let less = [&best[..at], &best[best.len().min(at + size)..]].concat();
            try_less(driver, less, &mut best, &mut seen, deadline);
        }
        size /= 2;
    }
    for (step, request) in requests(&best).into_iter().rev() {
        if let Some(less) = without(&best, step, request) {
            try_less(driver, less, &mut best, &mut seen, deadline);
        }
    }
    // Once more, so that the transcript is this one's.
    let failure = fails(driver, &best, &seen).unwrap_or(seen);
    format!("shrunk to:\n{}", picture(driver, &best, &failure))
}

/// Takes the smaller sequence if it fails, too.
fn try_less(driver: &mut Driver, less: Vec<Step>, best: &mut Vec<Step>, seen: &mut Failure, deadline: Instant) {
    if now() < deadline
        && let Some(failure) = fails(driver, &less, seen)
    {
        (*best, *seen) = (less, failure);
    }
}

/// How it fails, if it does in the same way: without one of its steps a sequence may wait for what never comes.
fn fails(driver: &mut Driver, steps: &[Step], like: &Failure) -> Option<Failure> {
    let failure = driver.run(steps).err()?;
    (failure.is_vain() == like.is_vain()).then_some(failure)
}

/// Every request of every step that has several, by their places.
fn requests(steps: &[Step]) -> Vec<(usize, usize)> {
    let count = |step: &Step| match step {
        Step::Send(send) => send.requests.len(),
        Step::Foreign { requests } => requests.len(),
        Step::Leave { .. } => 0,
    };
    let of_step = |(at, step)| (0..count(step)).map(move |request| (at, request));
    steps.iter().enumerate().flat_map(of_step).collect()
}

/// The steps without one request; `None` when it is the last one of its step.
fn without(steps: &[Step], at: usize, request: usize) -> Option<Vec<Step>> {
    let mut steps = steps.to_vec();
    match steps.get_mut(at)? {
        Step::Send(send) if send.requests.len() > 1 => drop(send.requests.remove(request)),
        Step::Foreign { requests } if requests.len() > 1 => drop(requests.remove(request)),
        _ => return None,
    }
    Some(steps)
}

/// The steps, what was said at each, and what was heard on either side where it differs.
pub fn picture(driver: &Driver, steps: &[Step], failure: &Failure) -> String {
    let mut text = String::new();
    for (at, step) in steps.iter().enumerate().take(failure.step + 1) {
        say(&mut text, at, step);
        hear(&mut text, driver, at, at == failure.step);
    }
    if failure.step >= steps.len() {
        text.push_str("  at the end, RESET and QUIT\n");
        hear(&mut text, driver, failure.step, true);
    }
    let _infallible = writeln!(text, "  ── {}", failure.reason);
    text
}

fn say(text: &mut String, at: usize, step: &Step) {
    let line = match step {
        Step::Send(send) => {
            let requests: Vec<_> = send.requests.iter().map(Request::text).collect();
            let piece = match send.piece {
                ..=1000 => format!(" in pieces of up to {}", send.piece),
                _ => String::new(),
            };
            format!("connection {}{piece}: {}", send.connection, requests.join(" | "))
        }
        Step::Leave { connection } => format!("connection {connection} leaves"),
        Step::Foreign { requests } => {
            let requests: Vec<_> = requests
                .iter()
                .map(|words| Request::Words(words.clone()).text())
                .collect();
            format!("past nearhit: {}", requests.join(" | "))
        }
    };
    let _infallible = writeln!(text, "  {at}. {line}");
}

fn hear(text: &mut String, driver: &Driver, at: usize, failed: bool) {
    for heard in driver.heard.iter().filter(|heard| heard.step == at) {
        if heard.direct == heard.proxied {
            if !heard.direct.is_empty() {
                let _infallible = writeln!(text, "       {} ═ {}", heard.connection, short(&heard.direct, 300));
            }
            continue;
        }
        let limit = if failed { 2000 } else { 300 };
        let from = match failed {
            true => alike(&heard.direct, &heard.proxied).saturating_sub(200),
            false => 0,
        };
        let _infallible = writeln!(
            text,
            "       {connection} direct:  {direct}\n       {connection} proxied: {proxied}",
            connection = heard.connection,
            direct = short(&heard.direct[from..], limit),
            proxied = short(&heard.proxied[from..], limit)
        );
    }
}

/// How many bytes are equal from the start.
fn alike(one: &[u8], two: &[u8]) -> usize {
    one.iter().zip(two).take_while(|(a, b)| a == b).count()
}

fn short(bytes: &[u8], limit: usize) -> String {
    let text = bytes.escape_ascii().to_string();
    match text.char_indices().nth(limit) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], bytes.len()),
        None => text,
    }
}
