//! The binary's commands, from outside: exit codes, stdout, stderr.

use std::process::{Command, Output};

/// Runs `nearhit` with these arguments and no settings from the environment.
fn nearhit(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearhit"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NEARHIT_")) {
        command.env_remove(name);
    }
    command.args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn check_says_ok_on_stdout() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("nearhit.toml"), "[cache]\nmode = \"shadow\"\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_nearhit"))
        .args(["check", "-c", "nearhit.toml"])
        .current_dir(&directory)
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "nearhit.toml: ok\n");
}

#[test]
fn check_says_every_problem_on_stderr_and_exits_with_78() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "[cache]\nmode = 1\nbogus = 2\n").unwrap();
    let output = nearhit(&["check", "-c", file.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(stdout(&output), "");
    let text = stderr(&output);
    assert!(
        text.contains("error[E103]: cache.mode") && text.contains("error[E102]: cache.bogus"),
        "{text}"
    );
}

#[test]
fn wrong_and_unknown_settings_on_the_command_line_are_told_together() {
    let output = nearhit(&["--cache.max-memory", "5 parsecs", "--cache.max-memroy", "1gb"]);
    assert_eq!(output.status.code(), Some(78));
    let text = stderr(&output);
    assert!(
        text.contains("--> flag --cache.max-memory\n") && text.contains("did you mean --cache.max-memory?"),
        "{text}"
    );
}

#[test]
fn a_variable_is_read_and_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearhit"));
    let output = command
        .env("NEARHIT_UPSTREAM__URL", "rediss://db:port")
        .arg("check")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let text = stderr(&output);
    assert!(text.contains("environment variable NEARHIT_UPSTREAM__URL"), "{text}");
    assert!(text.contains("what follows the host is not a port"), "{text}");
}

#[test]
fn wrong_usage_exits_with_2() {
    for args in [
        &["chek"][..],
        &["--bogus"],
        &["--cache.mode"],
        &["serve", "redis://a", "--upstream", "redis://b"],
    ] {
        let output = nearhit(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn help_and_version_are_asked_for_and_succeed() {
    let output = nearhit(&["--version"]);
    assert_eq!(
        (output.status.code(), stdout(&output)),
        (Some(0), format!("nearhit {}\n", env!("CARGO_PKG_VERSION")))
    );
    let output = nearhit(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for row in nearhit::config::rows() {
        assert!(
            stdout(&output).contains(&nearhit::config::flag_name(row)),
            "{}",
            row.key
        );
    }
}
