//! The house rules that a compiler does not check: floors, no sockets below floor four, no `unsafe`, short files.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The floors of the library, lowest first. A module imports from lower floors only.
const FLOORS: [&[&str]; 9] = [
    &["error", "time", "metrics", "mutants", "sync", "tls"],
    &["resp", "config"],
    &["command"],
    &["coherence", "cache", "topology"],
    &["upstream", "load"],
    &["tracking", "channel", "fill", "discovery"],
    &["downstream"],
    &["admin"],
    &["proxy"],
];

/// Who may see a neighbour on the same floor: (from, to).
const NEIGHBOURS: [(&str, &str); 3] = [("metrics", "error"), ("metrics", "time"), ("coherence", "cache")];

/// The highest floor without sockets and without a runtime.
const LAST_DRY_FLOOR: usize = 3;

/// What brings a socket or a runtime. (Addresses are data: `std::net::SocketAddr` is fine anywhere.)
const WET: [&str; 11] = [
    "tokio",
    "socket2",
    "axum",
    "hyper",
    "mio",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "ToSocketAddrs",
];

/// Files that may say `unsafe`, each measured and with a written safety argument.
const UNSAFE: [&str; 0] = [];

const MAX_LINES: usize = 500;

#[test]
fn every_module_has_a_floor() {
    let homeless: Vec<_> = library_modules()
        .into_iter()
        .filter(|module| floor(module).is_none())
        .collect();
    assert!(
        homeless.is_empty(),
        "give these a floor in tests/architecture.rs: {homeless:?}"
    );
}

#[test]
fn modules_import_from_lower_floors_only() {
    let mut wrong = Vec::new();
    for (module, file) in library_files() {
        let text = support::read(&file);
        for import in imports(&module_path(&file), &text) {
            if !may_see(&module, &import) {
                wrong.push(format!("{}: {module} imports {import}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "not from a lower floor:\n{}", wrong.join("\n"));
}

#[test]
fn the_lower_floors_own_no_socket_and_no_runtime() {
    let mut wrong = Vec::new();
    for (module, file) in library_files() {
        if floor(&module).is_none_or(|floor| floor > LAST_DRY_FLOOR) || is_test_file(&file) {
            continue;
        }
        let tokens = without_tests(&tokens(&support::read(&file)));
        wrong.extend(
            WET.iter()
                .filter(|wet| tokens.iter().any(|token| token == *wet))
                .map(|wet| format!("{}: {wet}", file.display())),
        );
    }
    assert!(
        wrong.is_empty(),
        "floors 0 to {LAST_DRY_FLOOR} are synchronous:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn nothing_is_unsafe() {
    for file in rust_files("src") {
        let allowed = UNSAFE.iter().any(|path| file == Path::new(path));
        let says = tokens(&support::read(&file)).iter().any(|token| token == "unsafe");
        assert!(allowed || !says, "{} says unsafe", file.display());
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    let long: Vec<_> = ["src", "tests", "bench"]
        .into_iter()
        .flat_map(rust_files)
        .map(|file| (support::read(&file).lines().count(), file))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "over {MAX_LINES} lines: {long:?}");
}

#[test]
fn the_check_sees_imports_in_every_form() {
    let text = r##"
        use crate::{cache::{Entry, self}, time::Instant, upstream};
        use crate::resp::{self, shape};
        // use crate::ignored;
        const S: &str = "crate::ignored"; const R: &str = r#"crate::ignored"#; const C: char = '"';
        const B: &[u8] = br"\"; const D: &[u8] = br#"crate::ignored"#; const E: char = '\'';
        fn f<'a>(x: &'a crate::config::Settings) -> crate::error::Result<()> { super::super::topology::f(x) }
        mod tests { use super::super::super::admin; use super::*; use super::super::neighbour; }
    "##;
    let path = ["command".to_owned(), "table".to_owned()];
    let seen: Vec<_> = imports(&path, text).into_iter().collect();
    assert_eq!(
        seen,
        [
            "admin", "cache", "config", "error", "resp", "time", "topology", "upstream"
        ]
    );
}

#[test]
fn the_check_tells_floors_apart() {
    assert!(may_see("cache", "command"));
    assert!(may_see("coherence", "cache"));
    assert!(may_see("cache", "cache"));
    assert!(!may_see("cache", "coherence"));
    assert!(!may_see("resp", "config"));
    assert!(!may_see("downstream", "admin"));
    assert!(!may_see("downstream", "cli"));
    assert!(
        !may_see("downstream", "Error"),
        "a re-export of the crate's root hides where a thing lives"
    );
}

#[test]
fn the_check_looks_past_test_modules() {
    let text = "use a::b; #[cfg(test)] #[allow(x)] mod tests { use std::net::TcpStream; fn f() {} } use tokio::x;";
    let left = without_tests(&tokens(text));
    assert!(!left.contains(&"TcpStream".to_owned()) && left.contains(&"tokio".to_owned()));
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

fn may_see(from: &str, to: &str) -> bool {
    match (floor(from), floor(to)) {
        _ if from == to => true,
        (Some(here), Some(there)) => there < here || NEIGHBOURS.contains(&(from, to)),
        _ => false,
    }
}

/// The crate's modules that a file with the given module path names, by `crate::` or by climbing with `super::`.
fn imports(path: &[String], text: &str) -> BTreeSet<String> {
    let tokens = tokens(text);
    let mut found = BTreeSet::new();
    // One entry per open brace: does it belong to an inline module?
    let mut braces = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => braces.push(at >= 2 && tokens[at - 2] == "mod"),
            "}" => drop(braces.pop()),
            "crate" if is_path(&tokens, at) => found.extend(first_names(&tokens[at + 3..])),
            "super" => {
                let mut climbed = 1;
                while is_path(&tokens, at) && tokens[at + 3] == "super" {
                    climbed += 1;
                    at += 3;
                }
                let depth = path.len() + braces.iter().filter(|module| **module).count();
                if climbed == depth && is_path(&tokens, at) {
                    found.extend(first_names(&tokens[at + 3..]));
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Whether the word at `at` is followed by `::` and something.
fn is_path(tokens: &[String], at: usize) -> bool {
    tokens.len() > at + 3 && tokens[at + 1] == ":" && tokens[at + 2] == ":"
}

/// The first name of a path, or the first name of every branch of `{a::b, c}`.
fn first_names(tokens: &[String]) -> Vec<String> {
    if tokens[0] != "{" {
        return vec![tokens[0].clone()];
    }
    let mut names = Vec::new();
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            name if depth == 1 && matches!(tokens[at - 1].as_str(), "{" | ",") => names.push(name.to_owned()),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// Drops every item that stands behind `#[cfg(test)]`.
fn without_tests(tokens: &[String]) -> Vec<String> {
    let mark = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut left = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..]
            .iter()
            .zip(mark)
            .filter(|(token, word)| token == word)
            .count()
            < mark.len()
        {
            left.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0;
        while at < tokens.len() {
            depth += match tokens[at].as_str() {
                "{" | "(" | "[" => 1,
                "}" | ")" | "]" => -1,
                _ => 0,
            };
            let ended = tokens[at] == ";" || tokens[at] == "}";
            at += 1;
            if depth == 0 && ended {
                break;
            }
        }
    }
    left
}

/// Words and signs of Rust text, without comments, strings and characters.
fn tokens(text: &str) -> Vec<String> {
    let text: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&sign) = text.get(at) {
        let next = text.get(at + 1).copied().unwrap_or(' ');
        match sign {
            '/' if next == '/' => at = find(&text, at, "\n"),
            '/' if next == '*' => at = find(&text, at + 2, "*/"),
            '"' => at = end_of_string(&text, at + 1),
            'r' if next == '"' || next == '#' => match raw_string(&text, at + 1) {
                Some(end) => at = end,
                None => at += 1,
            },
            '\'' if next == '\\' => at = find(&text, at + 3, "'"),
            '\'' if text.get(at + 2) == Some(&'\'') => at += 3,
            _ if is_word(sign) => {
                let end = (at..text.len()).find(|&at| !is_word(text[at])).unwrap_or(text.len());
                let word: String = text[at..end].iter().collect();
                // `br"…"`: the `b` is no word of the program, and what follows is a raw string.
                let raw_bytes = word == "br" && matches!(text.get(end), Some('"' | '#'));
                at = if raw_bytes { end - 1 } else { end };
                tokens.extend((!raw_bytes).then_some(word));
            }
            _ => {
                tokens.extend((!sign.is_whitespace()).then(|| sign.to_string()));
                at += 1;
            }
        }
    }
    tokens
}

fn is_word(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

fn find(text: &[char], from: usize, end: &str) -> usize {
    let end: Vec<char> = end.chars().collect();
    (from..text.len())
        .find(|&at| text[at..].starts_with(&end))
        .map_or(text.len(), |at| at + end.len())
}

fn end_of_string(text: &[char], mut at: usize) -> usize {
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Where `#"…"#` ends, if that is what stands at `at`.
fn raw_string(text: &[char], at: usize) -> Option<usize> {
    let hashes = text[at..].iter().take_while(|sign| **sign == '#').count();
    let close = format!("\"{}", "#".repeat(hashes));
    (text.get(at + hashes) == Some(&'"')).then(|| find(text, at + hashes + 1, &close))
}

/// All library files with the module they belong to: not the crate's root, not the binary.
fn library_files() -> Vec<(String, PathBuf)> {
    let files = rust_files("src").into_iter().map(|file| (module_path(&file), file));
    let is_library = |module: &str| !["lib", "main", "cli"].contains(&module);
    files
        .map(|(path, file)| (path[0].clone(), file))
        .filter(|(module, _)| is_library(module))
        .collect()
}

fn library_modules() -> BTreeSet<String> {
    library_files().into_iter().map(|(module, _)| module).collect()
}

/// `src/a/b.rs` is `a::b`, and `src/a/mod.rs` is `a`.
fn module_path(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix("src").expect("a file under src").with_extension("");
    let mut path: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if path.last().is_some_and(|name| name == "mod") {
        path.pop();
    }
    path
}

fn is_test_file(file: &Path) -> bool {
    file.with_extension("")
        .iter()
        .any(|part| part == "tests" || part.to_string_lossy().ends_with("_tests"))
}

/// All `.rs` files below a folder of the repository, as paths relative to its root.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(support::root().join(&folder)) else {
            continue;
        };
        for entry in entries {
            let path = folder.join(entry.expect("a folder entry").file_name());
            if support::root().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
