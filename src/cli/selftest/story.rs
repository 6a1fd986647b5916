//! A violation in words: what was read, and the operations around it on the same key.

use super::cell::{Cell, Content, Event, Outcome, Read, Seen, What};
use nearhit::time::Instant;

/// Operations printed: those that ended last before the read did.
const SHOWN: usize = 40;

impl Cell {
    /// The read `event` and what happened around it, a line each.
    pub(super) fn story(&self, name: &str, db: u32, read: &Read, event: &Event) -> String {
        let mut text = format!("  key {name} in database {db}\n");
        let floors = [
            ("had read", read.read),
            ("had written", read.wrote),
            ("acknowledged through the instance", read.through),
        ];
        for (what, position) in floors.into_iter().filter(|(_, position)| *position > 0) {
            line(&mut text, &format!("  {what}: {}", self.position(position)));
        }
        let newest = 2 * self.newest();
        line(&mut text, &format!("  newest known: {}", self.position(newest)));
        line(
            &mut text,
            "  time (ms, from the request in question) · took · who · what",
        );
        let skip = self.events.len().saturating_sub(SHOWN);
        for shown in self.events.iter().skip(skip) {
            line(&mut text, &described(shown, event.invoked));
        }
        line(&mut text, &format!("{} ← this", described(event, event.invoked)));
        text
    }

    fn position(&self, position: u64) -> String {
        let vanished = if position.is_multiple_of(2) { "" } else { ", vanished" };
        match self.content_at(position / 2) {
            Some(content) => format!("version {} ({}{vanished})", position / 2, contents(content)),
            None => format!("version {}{vanished}", position / 2),
        }
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn described(event: &Event, origin: Instant) -> String {
    let Event {
        session, via, op, what, ..
    } = event;
    let at = millis(event.invoked) - millis(origin);
    let took = millis(event.completed) - millis(event.invoked);
    let via = via.map_or("directly".to_owned(), |instance| format!("through instance {instance}"));
    let who = if *session == 0 {
        format!("the checker {via}")
    } else {
        format!("session {session} {via}")
    };
    let what = match what {
        What::Read(seen) => format!("read {}", sight(*seen)),
        What::Wrote(content, outcome) => format!("wrote {}{}", contents(*content), ended(*outcome)),
    };
    format!("    {at:>10.3}  {took:>8.3}  {who}: {op:?} {what}")
}

#[allow(clippy::cast_precision_loss, reason = "to be printed")]
fn millis(at: Instant) -> f64 {
    at.as_nanos() as f64 / 1e6
}

fn contents(content: Content) -> String {
    match content {
        Content::Nothing => "nothing".to_owned(),
        Content::Held { id, items: 0 } => format!("{id}"),
        Content::Held { id, items } => format!("{id} × {items}"),
    }
}

fn sight(seen: Seen) -> String {
    match seen {
        Seen::Nothing => "nothing".to_owned(),
        Seen::Id(id) => format!("{id}"),
        Seen::Items { id, items } => format!("{id} × {items}"),
        Seen::Exists(exists) => format!("exists: {exists}"),
        Seen::Length(length) => format!("length {length}"),
        Seen::Half(id) => format!("{id} and nothing"),
        Seen::Torn => "parts of different versions".to_owned(),
    }
}

fn ended(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "",
        Outcome::Void => " (without effect)",
        Outcome::Unknown => " (outcome unknown)",
    }
}
