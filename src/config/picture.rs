//! The picture of a problem's place: the line, and a caret below what is meant.
//!
//! Passwords in the line are hidden by as many stars as they have characters, so that the caret still points right.

use std::fmt;
use std::ops::Range;

use super::error::{ConfigError, Place};

/// Where a span of a file's text stands.
pub(super) fn place(name: &str, text: &str, span: Range<usize>) -> Place {
    let before = text.get(..span.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text
        .get(line_start..)
        .and_then(|rest| rest.lines().next())
        .unwrap_or_default();
    let meant = text
        .get(span)
        .and_then(|meant| meant.lines().next())
        .unwrap_or_default();
    Place::File {
        name: name.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        width: meant.chars().count().max(1),
        text: hide_secrets(line),
    }
}

/// Writes a problem with its place.
pub(super) fn draw(error: &ConfigError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "error[{}]: ", error.code())?;
    if !error.key.is_empty() {
        write!(f, "{}: ", error.key)?;
    }
    f.write_str(&error.invalid.message)?;
    let margin = match &error.place {
        Place::File { line, .. } => line.to_string().len(),
        _ => 1,
    };
    match &error.place {
        Place::File {
            name,
            line,
            column,
            width,
            text,
        } => {
            write!(
                f,
                "\n{:margin$}--> {name}:{line}:{column}\n{:margin$} |\n{line} | {}\n",
                "",
                "",
                text.replace('\t', " ")
            )?;
            write!(
                f,
                "{:margin$} | {:indent$}{} ",
                "",
                "",
                "^".repeat(*width),
                indent = column.saturating_sub(1)
            )?;
            write!(f, "expected {}", error.invalid.expected)?;
        }
        place => {
            match place {
                Place::WholeFile(name) => write!(f, "\n --> {name}")?,
                Place::Env(name) => write!(f, "\n --> environment variable {name}")?,
                Place::Flag(name) => write!(f, "\n --> flag {name}")?,
                Place::File { .. } | Place::Code => {}
            }
            write!(f, "\n{:margin$} = expected {}", "", error.invalid.expected)?;
        }
    }
    match &error.invalid.help {
        Some(help) => write!(f, "\n{:margin$} = help: {help}", ""),
        None => Ok(()),
    }
}

/// Replaces passwords by stars: what is assigned to a key `password`, and what stands before the `@` of a URL.
fn hide_secrets(line: &str) -> String {
    let mut hidden: Vec<Range<usize>> = Vec::new();
    for (at, word) in line.match_indices("password") {
        let rest = line.get(at + word.len()..).unwrap_or_default();
        let key_end = rest.trim_start_matches(['"', '\'', ' ', '\t']);
        if key_end.starts_with('=') {
            hidden.push(line.len() - key_end.len() + 1..line.len());
        }
    }
    for (at, colon) in line.match_indices("://") {
        let start = at + colon.len();
        let rest = line.get(start..).unwrap_or_default();
        if let Some(length) = rest.rfind('@') {
            hidden.push(start..start + length);
        }
    }
    let star = |(at, char): (usize, char)| match hidden.iter().any(|range| range.contains(&at)) {
        true if !char.is_whitespace() && !matches!(char, '"' | '\'') => '*',
        _ => char,
    };
    line.char_indices().map(star).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_not_bytes() {
        let text = "a = 1\nü = \"ö\"\n";
        let start = text.find("\"ö\"").unwrap();
        let Place::File {
            line, column, width, ..
        } = place("f", text, start..start + 4)
        else {
            panic!("a file")
        };
        assert_eq!((line, column, width), (2, 5, 3));
    }

    #[test]
    fn a_place_at_the_end_or_over_several_lines_stays_on_one_line() {
        let Place::File {
            line,
            column,
            width,
            text,
            ..
        } = place("f", "a =\r\n", 3..3)
        else {
            panic!("a file")
        };
        assert_eq!((line, column, width, text.as_str()), (1, 4, 1, "a ="));
        let Place::File { line, width, .. } = place("f", "a = [\n1,\n]", 4..10) else {
            panic!("a file")
        };
        assert_eq!((line, width), (1, 1));
        let Place::File { line, column, .. } = place("f", "a", 9..12) else {
            panic!("a file")
        };
        assert_eq!((line, column), (1, 2));
    }

    #[test]
    fn passwords_in_a_line_are_stars_of_the_same_length() {
        let cases = [
            ("password = \"s3cret\"", "password = \"******\""),
            ("\"password\"='a b'", "\"password\"='* *'"),
            ("password_file = \"/run/p\"", "password_file = \"/run/p\""),
            ("url = \"redis://me:s3cret@db/0\"", "url = \"redis://*********@db/0\""),
            ("url = \"redis://db/0\"", "url = \"redis://db/0\""),
        ];
        for (line, expected) in cases {
            assert_eq!(hide_secrets(line), expected);
        }
    }
}
