//! The README's Rust program is the one that the crate's documentation runs.

mod support;

/// The Rust block that starts a proxy.
fn program(text: &str) -> Vec<String> {
    let blocks = text.split("```").skip(1).step_by(2);
    let block = blocks
        .map(str::to_owned)
        .find(|block| block.contains("Proxy::builder()"));
    let block = block.expect("a program");
    block.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn the_readmes_program_is_the_one_that_is_run() {
    let docs: String = support::read("src/lib.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .collect();
    let hidden = |line: &String| line == "#" || line.starts_with("# ");
    let run: Vec<_> = program(&docs).into_iter().filter(|line| !hidden(line)).collect();
    let (addressed, shown): (Vec<_>, Vec<_>) = program(&support::read("README.md"))
        .into_iter()
        .partition(|line| line.trim_start().starts_with("let upstream = \"redis://"));
    assert_eq!(
        addressed.len(),
        1,
        "the server's address, which the run one does not know before"
    );
    assert_eq!(shown.join("\n"), run.join("\n"));
}
