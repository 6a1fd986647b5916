//! The Prometheus text format, version 0.0.4: writing families the exporter crate does not know.

use std::fmt::{Display, Write};

use super::family::Row;

/// Exposition text in the making. Writing to a string cannot fail, so the results of `write!` are dropped.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// Begins a family; its samples follow.
    pub(super) fn family(&mut self, row: &Row) {
        let (name, kind) = (row.name, row.kind.as_str());
        let _ = writeln!(self.0, "# HELP {name} {}\n# TYPE {name} {kind}", escape_help(row.help));
    }

    /// One sample: the family's name with `suffix`, its labels, its value.
    pub(super) fn sample(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        self.0.push_str(suffix);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", escape_label(text));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    /// The text, ending in a newline unless empty.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Nanoseconds as seconds, for the wire only.
#[allow(
    clippy::cast_precision_loss,
    reason = "beyond 2^53 ns, 104 days of waiting, the last digits do not matter"
)]
pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// The families of `text`, sorted by name and their samples by labels: the exporter keeps them in hash maps, and text
/// that changes its order with every scrape cannot be compared by people or tools.
pub(super) fn sorted(text: &str) -> String {
    let mut families: Vec<Vec<&str>> = text.split("\n\n").map(|family| family.lines().collect()).collect();
    families.retain(|family| !family.is_empty());
    for family in &mut families {
        // The first two lines are `# HELP` and `# TYPE`; a stable sort keeps them first and in that order.
        family.sort_by_key(|line| if line.starts_with('#') { "" } else { line });
    }
    families.sort();
    families.concat().into_iter().flat_map(|line| [line, "\n"]).collect()
}

fn escape_label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn escape_help(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut text = Text::default();
        text.sample("a", "_total", &[("b", "c\"d\\e\nf"), ("g", "h")], 1);
        assert_eq!(text.finish(), "a_total{b=\"c\\\"d\\\\e\\nf\",g=\"h\"} 1\n");
    }

    #[test]
    fn families_and_samples_are_sorted_and_their_comments_stay_in_front() {
        let text = "# HELP b x\n# TYPE b gauge\nb{l=\"2\"} 0\nb{l=\"1\"} 0\n\n# HELP a x\n# TYPE a gauge\na 0\n\n";
        assert_eq!(
            sorted(text),
            "# HELP a x\n# TYPE a gauge\na 0\n# HELP b x\n# TYPE b gauge\nb{l=\"1\"} 0\nb{l=\"2\"} 0\n"
        );
    }
}
