//! What was counted and how long it took: STATS and LATENCY.

use std::sync::atomic::{AtomicU64, Ordering};

use super::console::Call;
use super::figures::{Answers, fences, source, staleness, tracking_connections, tracking_since, tracking_state};
use super::reply::{Answer, Map, millis};
use super::shadow;
use crate::metrics::{CommandTotals, Label, OTHER, OTHER_NAME, Outcome, Window};
use crate::resp::Value;

/// Everything, or one command.
pub(super) fn stats(call: &Call<'_>) -> Result<Value, String> {
    let commands = &call.shared.metrics.commands;
    let (totals, window) = (commands.totals(), commands.window(call.now));
    if call.request.len() > 2 {
        let number = command_number(call, call.request.arg(2))?;
        let of_command = totals.iter().find(|totals| totals.command == number);
        return Ok(command_map(number, of_command, &window).into_value());
    }
    let by_command = totals.iter().fold(Map::default(), |map, totals| {
        let of_command = command_map(totals.command, Some(totals), &window);
        map.with(commands.name(totals.command), of_command)
    });
    Ok(overall(call).with("commands", by_command).into_value())
}

/// The number under which a command is counted. Those learned from the server after the start share one.
fn command_number(call: &Call<'_>, name: &[u8]) -> Result<u16, String> {
    let name = String::from_utf8_lossy(name).to_lowercase();
    if name == OTHER_NAME {
        return Ok(OTHER);
    }
    let table = call.shared.table.load();
    let number = table.by_name(&name).map(|row| row.id().number());
    let number = number.ok_or_else(|| format!("ERR unknown command '{name}'"))?;
    let counted_alone = call.shared.metrics.commands.name(number) == name;
    Ok(if counted_alone { number } else { OTHER })
}

fn command_map(number: u16, totals: Option<&CommandTotals>, window: &Window) -> Map {
    let of = |outcome| totals.map_or(0, |totals| totals.of(outcome));
    Map::default()
        .with("calls", totals.map_or(0, CommandTotals::all))
        .with("hits", of(Outcome::Hit))
        .with("misses", of(Outcome::Miss))
        .with("bypass", of(Outcome::Bypass))
        .with("writes", of(Outcome::Write))
        .with("local", of(Outcome::Local))
        .with("errors", of(Outcome::Error))
        .with_percentiles(window.of_command(number).percentiles())
}

fn overall(call: &Call<'_>) -> Map {
    let (shared, console) = (call.shared, call.console);
    let answers = Answers::read(&shared.metrics);
    let totals = shared.cache.totals();
    let tally = shared.cache.tally();
    let uptime = call.now.since(console.facts.started).as_secs();
    Map::default()
        .with("uptime_seconds", uptime)
        .with("cache_enabled", shared.settings.serves())
        .with("cache_mode", shared.settings.cache_mode().name())
        .with("hits", answers.hits)
        .with("negative_hits", answers.negative_hits)
        .with("misses", answers.misses)
        .with("coalesced", answers.coalesced)
        .with("bypassed", answers.bypassed)
        .with("hit_ratio", answers.hit_ratio())
        .with(
            "bypass_reasons",
            Map::of_labels(|reason| shared.metrics.cache_bypass(reason)),
        )
        .with(
            "unproved",
            Map::default()
                .with("lease", read(&tally.lapsed))
                .with("older", read(&tally.outdated)),
        )
        .with("keys", totals.keys)
        .with("entries", totals.entries)
        .with("bytes", totals.bytes)
        .with("max_bytes", shared.cache.limits().max_bytes)
        .with("inserts", read(&tally.inserts))
        .with(
            "compressed",
            Map::default()
                .with("replies", read(&tally.compressed))
                .with("from_bytes", read(&tally.compressed_from))
                .with("to_bytes", read(&tally.compressed_to)),
        )
        .with(
            "rejected",
            Map::default()
                .with("race", read(&tally.rejected_race))
                .with("too_large", read(&tally.rejected_too_large))
                .with("error", read(&tally.rejected_error))
                .with("ttl", read(&tally.rejected_ttl)),
        )
        .with(
            "removed",
            Map::default()
                .with("capacity", read(&tally.evicted_capacity))
                .with("ttl", read(&tally.evicted_ttl))
                .with("invalidated", read(&tally.evicted_invalidated))
                .with("flush", read(&tally.evicted_flush))
                .with("tracking_lost", read(&tally.evicted_tracking_lost)),
        )
        .with("invalidations", invalidations(call))
        .with("tracking", tracking(call))
        .with("shadow", shadow::totals(shared))
        .with("clients", shared.peers.len())
        .with("upstream", upstream(call))
}

/// What the server announced, and what flushed everything.
fn invalidations(call: &Call<'_>) -> Map {
    let tally = call.shared.cache.tally();
    Map::default()
        .with("received", read(&tally.invalidated_keys))
        .with("removed", read(&tally.invalidated_removed))
        .with("raced", read(&tally.invalidated_raced))
        .with("null_pushes", read(&tally.null_pushes))
        .with("flushes_by_command", read(&tally.flushed_by_command))
        .with("flushes_by_admin", read(&tally.flushed_by_admin))
        .with("flushes_by_rights", read(&tally.flushed_by_rights))
}

fn tracking(call: &Call<'_>) -> Map {
    let shared = call.shared;
    let totals = shared.accounts.tracking_totals();
    let fence_reasons =
        fences(shared.cache.tally()).fold(Map::default(), |map, (reason, total)| map.with(reason.value(), total));
    Map::default()
        .with("source", source(&call.shared.metrics).value())
        .with("state", tracking_state(shared))
        .with("reconnects", totals.reconnects)
        .with("incarnations", totals.connects)
        .with("fences", read(&shared.cache.tally().fences))
        .with("fence_reasons", fence_reasons)
        .with("staleness_ms", staleness(shared, call.now).map(millis))
        .with("staleness_limit_ms", millis(shared.cache.limits().max_staleness))
        .with(
            "connected_ms",
            tracking_since(shared).map(|since| millis(call.now.since(since))),
        )
}

fn upstream(call: &Call<'_>) -> Map {
    let console = call.console;
    let up = super::figures::is_reachable(&console.gauges);
    Map::default()
        .with("address", console.facts.upstream.as_str())
        .with("state", if up { "up" } else { "down" })
        .with("shared", read(&console.gauges.shared))
        .with("pinned", read(&console.gauges.pinned))
        .with("tracking", tracking_connections(call.shared))
        .with("opened", read(&console.gauges.opened))
        .with("failed", read(&console.gauges.failed))
}

/// Latencies of the last minute by command and outcome; of the commands that are named, or of all.
pub(super) fn latency(call: &Call<'_>) -> Result<Value, String> {
    let commands = &call.shared.metrics.commands;
    let window = commands.window(call.now);
    let wanted = call
        .request
        .args_from(2)
        .map(|name| command_number(call, name))
        .collect::<Result<Vec<_>, _>>()?;
    let shown = window
        .commands()
        .into_iter()
        .filter(|number| wanted.is_empty() || wanted.contains(number));
    let by_command = shown.fold(Map::default(), |map, number| {
        map.with(commands.name(number), by_outcome(number, &window))
    });
    Ok(Map::default()
        .with("window_seconds", window.span().as_secs_f64())
        .with("commands", by_command)
        .into_value())
}

fn by_outcome(number: u16, window: &Window) -> Map {
    Outcome::ALL.iter().fold(Map::default(), |map, &outcome| {
        match window.of(number, outcome).percentiles() {
            Some(of) => map.with(
                outcome.value(),
                Map::default().with("count", of.count).with_percentiles(Some(of)),
            ),
            None => map,
        }
    })
}

/// Counters order nothing.
pub(super) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
