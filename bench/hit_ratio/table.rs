//! Ratios into Markdown and JSON.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use crate::caches::{NAMES, OWN};
use crate::{causes, panels};

/// One trace at one size.
pub(crate) struct Point {
    pub(crate) trace: String,
    /// In thousandths.
    pub(crate) share: usize,
    /// In per cent, a column for each of [`NAMES`].
    pub(crate) ratios: [f64; NAMES.len()],
}

impl Point {
    fn best(&self) -> f64 {
        self.ratios.iter().copied().fold(0.0, f64::max)
    }
}

pub(crate) struct Table {
    title: &'static str,
    pub(crate) points: Vec<Point>,
}

impl Table {
    pub(crate) fn new(title: &'static str) -> Self {
        let points = Vec::new();
        Self { title, points }
    }

    fn means(&self) -> [f64; NAMES.len()] {
        std::array::from_fn(|column| {
            let sum: f64 = self.points.iter().map(|point| point.ratios[column]).sum();
            sum / self.points.len().max(1) as f64
        })
    }

    fn markdown(&self) -> String {
        let mut out = format!("## {}\n\n| trace @ size | {} |\n|---|", self.title, NAMES.join(" | "));
        out.push_str(&"--:|".repeat(NAMES.len()));
        for point in &self.points {
            let cells = point.ratios.map(|ratio| {
                let bold = if ratio > point.best() - 0.05 { "**" } else { "" };
                format!("{bold}{ratio:.1}{bold}")
            });
            let _ = write!(
                out,
                "\n| {} @{} % | {} |",
                point.trace,
                point.share / 10,
                cells.join(" | ")
            );
        }
        let means = self.means();
        let _ = writeln!(
            out,
            "\n| mean | {} |\n",
            means.map(|mean| format!("{mean:.2}")).join(" | ")
        );
        let library = means[OWN..].iter().copied().fold(0.0, f64::max);
        let _ = writeln!(
            out,
            "Default against the better library, on average: {:+.2} points.\n",
            means[0] - library
        );
        let behind: Vec<_> = self
            .points
            .iter()
            .filter(|point| point.best() - point.ratios[0] > 1.0)
            .collect();
        let _ = writeln!(
            out,
            "The default is more than 1.0 points behind the best at {} points:\n",
            behind.len()
        );
        for point in behind {
            let best = point
                .ratios
                .iter()
                .position(|ratio| *ratio == point.best())
                .unwrap_or(0);
            let _ = writeln!(
                out,
                "- {} @{} %: {:.1} against {:.1} of {}: {}",
                point.trace,
                point.share / 10,
                point.ratios[0],
                point.best(),
                NAMES[best],
                causes::of(&point.trace).unwrap_or("**not looked into**")
            );
        }
        out
    }

    fn json(&self) -> serde_json::Value {
        let points: Vec<_> = self
            .points
            .iter()
            .map(|point| json!({ "trace": point.trace, "per_mille": point.share, "hit_percent": point.ratios }))
            .collect();
        json!({ "title": self.title, "columns": NAMES, "points": points, "means": self.means() })
    }
}

/// Prints the tables, and keeps them unless the run was only a part.
pub(crate) fn publish(tables: &[Table], partial: bool) -> Result<(), String> {
    let text: Vec<_> = tables
        .iter()
        .filter(|table| !table.points.is_empty())
        .map(Table::markdown)
        .collect();
    let text = format!(
        "# Hit ratio in per cent\n\nMade by `make bench-hit-ratio`.\n\n{}",
        text.join("\n")
    );
    println!("{text}");
    if partial {
        return Ok(());
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/results");
    let json: Vec<_> = tables.iter().map(Table::json).collect();
    let json = serde_json::to_string_pretty(&json).map_err(|error| format!("write JSON: {error}"))?;
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::create_dir_all(&directory)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| format!("write {}: {error}", path.display()))
    };
    if let Some(equal) = tables.first() {
        write(
            "hit_ratio.svg",
            &panels::draw(
                "Hit ratio in per cent, by the share of the keys that fit",
                &equal.points,
            ),
        )?;
    }
    write("hit_ratio.md", &text)?;
    write("hit_ratio.json", &json)
}
