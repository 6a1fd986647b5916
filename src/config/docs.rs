//! The README's table of settings, from the rows.

use std::fmt::Write as _;

use super::row::{Row, env_name, flag_name, sections};

/// All settings as Markdown: a heading and a table for each section, and how the other names are derived.
pub fn settings_markdown() -> String {
    let mut page = String::new();
    if let Some(example) = super::find_row("cache.max_memory") {
        let (flag, env) = (flag_name(example), env_name(example));
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "Every setting is a key of the file, an environment variable and a flag: `{}` is `{env}` and `{flag}`. \
             Flags win over the environment, the environment over the file, the file over the default.\n",
            example.key
        );
    }
    page.push_str(
        "Sizes are written as in `redis.conf` (`1k` = 1000, `1kb` = 1024), durations as `250us`, `5ms`, `1s`, `2m`, \
         `1h`, `1d`.\n",
    );
    for section in sections() {
        if !section.name.is_empty() {
            let brackets = if section.name == "policy" {
                ("[[", "]]")
            } else {
                ("[", "]")
            };
            let _ = write!(
                page,
                "\n### `{}{}{}`\n\n{}\n",
                brackets.0,
                section.name,
                brackets.1,
                section.about()
            );
        }
        page.push_str("\n| setting | default | range | what it does |\n| --- | --- | --- | --- |\n");
        for row in section.rows() {
            page.push_str(&line(row));
        }
    }
    page
}

fn line(row: &Row) -> String {
    let range = row
        .range_toml()
        .map(|(low, high)| format!("`{low}` to `{high}`"))
        .unwrap_or_default();
    // A bar would end the cell.
    let help = row.help().replace('|', "\\|");
    format!("| `{}` | `{}` | {range} | {help} |\n", row.name(), row.default_toml())
}
