//! The same program against redis-server directly and, through nearhit with every read admitted, against a second one:
//! what it prints must be equal. What a library does oddly, it does oddly in both.
//!
//! A program gets two ports, the one it talks to and the one of the server behind (directly: the same), and prints a
//! transcript: `version X` first, `done` last. When it prints `@restart`, what it talks to is restarted and a line is
//! written to its standard input.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary compiles this module and uses its own part of it"
)]

pub mod rows;

use crate::support::{Nearhit, RedisServer, child, free_port, root};
use nearhit::time::{self, Instant};
use rows::{Needs, Row};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a program may take, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Does everything in scripts, which are never answered from memory.
const SCRIPTED: &[&str] = &["BullMQ"];

/// What a program talks to: a redis-server, or nearhit in front of one.
pub struct Stage {
    /// Dropped before the server, which it would miss.
    proxy: Option<Nearhit>,
    redis: RedisServer,
    /// Where clients connect.
    port: u16,
    /// Reads answered from memory by proxies that were restarted since.
    hits: f64,
}

impl Stage {
    #[track_caller]
    pub fn direct() -> Self {
        let redis = RedisServer::builder().arg("--unixsocket", "redis.sock").start();
        Self {
            proxy: None,
            port: redis.port(),
            redis,
            hits: 0.0,
        }
    }

    #[track_caller]
    pub fn proxied() -> Self {
        let redis = RedisServer::builder().arg("--unixsocket", "redis.sock").start();
        let port = free_port();
        Self {
            proxy: Some(serve(&redis, port)),
            port,
            redis,
            hits: 0.0,
        }
    }

    /// The Unix socket clients use.
    pub fn socket(&self) -> PathBuf {
        let name = if self.proxy.is_some() {
            "nearhit.sock"
        } else {
            "redis.sock"
        };
        self.redis.dir().join(name)
    }

    /// The port of the server itself.
    pub fn behind(&self) -> u16 {
        self.redis.port()
    }

    /// The port clients use.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills what clients talk to and starts it again on the same port.
    pub fn restart(&mut self) {
        self.hits = self.hits();
        if self.proxy.take().is_some() {
            self.proxy = Some(serve(&self.redis, self.port));
        } else {
            self.redis.restart();
        }
    }

    /// How many reads were answered from memory.
    pub fn hits(&self) -> f64 {
        let hits = |proxy: &Nearhit| proxy.metric("nearhit_cache_requests_total", &["result=\"hit\""]);
        self.hits + self.proxy.as_ref().map_or(0.0, hits)
    }
}

fn serve(redis: &RedisServer, port: u16) -> Nearhit {
    let mut command = Nearhit::command();
    command
        .args([
            "serve",
            "--upstream",
            &redis.url(),
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--listen",
            &format!("unix://{}/nearhit.sock", redis.dir().display()),
        ])
        .args(["--metrics.listen", "127.0.0.1:0", "--log.format", "text"])
        .args(["--cache.admission", "always"]);
    let nearhit = Nearhit::start(command);
    nearhit.wait_for_stderr("tracking is on");
    nearhit
}

/// What `word` needs and lacks, as `deploy/need-clients.sh` wrote it down.
fn missing(needs: Needs) -> Option<String> {
    if needs == Needs::Nothing {
        return None;
    }
    let state = root().join("target/clients/state").join(needs.word());
    let state = std::fs::read_to_string(&state).unwrap_or_else(|_| panic!("run deploy/need-clients.sh all"));
    state.trim().strip_prefix("missing: ").map(str::to_owned)
}

/// Runs `test` as one line of the summary of `make test-clients`; without what the row needs it only says so there.
/// `test` gives back the version it ran with.
#[track_caller]
pub fn entry(name: &str, variant: &str, test: impl FnOnce(&Row) -> String) {
    let row = rows::named(name);
    let folder = root().join("target/clients/results");
    std::fs::create_dir_all(&folder).expect("make a folder");
    let file = folder.join(format!("{name} {variant}").trim_end().replace([' ', '/'], "-"));
    let note = |version: &str, outcome: &str| {
        let variant = if variant.is_empty() { "-" } else { variant };
        let line = format!("{name}\t{version}\t{variant}\t{outcome}\n");
        std::fs::write(&file, line).expect("write a result");
    };
    if let Some(why) = missing(row.needs) {
        eprintln!("{name} did not run: {why}");
        return note("-", &format!("not installed ({why})"));
    }
    // Stays when the test panics.
    note(row.version, "FAILED");
    let start = time::now();
    let version = test(row);
    let seconds = time::now().since(start).as_secs_f64();
    note(&version, &format!("passed in {seconds:.1} s"));
}

/// Runs the program that `command` makes on both stages; what it prints must be equal. Gives back the version it names.
#[track_caller]
pub fn same_transcript(row: &Row, command: &(dyn Fn() -> Command + Sync)) -> String {
    let (direct, proxied) = std::thread::scope(|scope| {
        let direct = scope.spawn(|| transcript(&mut Stage::direct(), command()));
        let proxied = scope.spawn(|| {
            let mut stage = Stage::proxied();
            let lines = transcript(&mut stage, command());
            let reads = !SCRIPTED.contains(&row.name);
            assert!(
                !reads || stage.hits() > 0.0,
                "nothing was answered from memory:\n{}",
                lines.join("\n")
            );
            lines
        });
        let join = |handle: std::thread::ScopedJoinHandle<'_, Vec<String>>| {
            handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        (join(direct), join(proxied))
    });
    assert_equal(row, &direct, &proxied);
    let version = direct.first().and_then(|line| line.strip_prefix("version "));
    // Packages of the system are what the system has.
    if matches!(row.needs, Needs::Python | Needs::Node) {
        assert_eq!(version, Some(row.version), "{}", row.name);
    }
    version.expect("a version").to_owned()
}

/// Fails with the lines that differ; one line more or less makes all behind it differ.
#[track_caller]
pub fn assert_equal(row: &Row, direct: &[String], proxied: &[String]) {
    let mut different = String::new();
    for at in 0..direct.len().max(proxied.len()) {
        let [direct, proxied] = [direct, proxied].map(|lines| lines.get(at).map_or("(nothing)", String::as_str));
        if direct != proxied {
            let _infallible = writeln!(different, "{at}: directly: {direct}\n{at}: proxied:  {proxied}");
        }
    }
    assert!(
        different.is_empty(),
        "{} tells nearhit from Redis:\n{different}",
        row.name
    );
}

/// The lines a program prints until it ends well.
#[track_caller]
pub fn transcript(stage: &mut Stage, mut command: Command) -> Vec<String> {
    command.args([stage.port().to_string(), stage.behind().to_string()]);
    let mut running = Running::start(command);
    let deadline = time::now().after(LIMIT);
    let mut lines = Vec::new();
    while let Some(line) = running.line(deadline, &lines) {
        if line == "@restart" {
            stage.restart();
            running.answer();
        } else {
            lines.push(line);
        }
    }
    running.end(deadline, &lines);
    assert_eq!(lines.last().map(String::as_str), Some("done"), "{}", lines.join("\n"));
    lines
}

/// A program whose output is read line by line. Dropping it kills it.
struct Running {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
    name: String,
}

impl Running {
    #[track_caller]
    fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut errors = child.stderr.take().expect("a pipe");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            drop(errors.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self {
            stdin: child.stdin.take().expect("a pipe"),
            child,
            lines,
            stderr: Some(stderr),
            name: format!("{command:?}"),
        }
    }

    /// The next line; `None` at the end of the output.
    #[track_caller]
    fn line(&mut self, deadline: Instant, so_far: &[String]) -> Option<String> {
        match self.lines.recv_timeout(deadline.since(time::now())) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => self.fail("was not done in time", so_far),
        }
    }

    fn answer(&mut self) {
        // A program that has ended says so by its exit status.
        drop(self.stdin.write_all(b"\n"));
    }

    #[track_caller]
    fn end(&mut self, deadline: Instant, lines: &[String]) {
        match child::wait(&mut self.child, deadline.since(time::now())) {
            Some(status) if status.success() => {}
            Some(status) => self.fail(&format!("ended with {status}"), lines),
            None => self.fail("closed its output and did not end", lines),
        }
    }

    #[track_caller]
    fn fail(&mut self, how: &str, lines: &[String]) -> ! {
        child::kill_now(&mut self.child);
        let mut message = format!("{} {how}:\n{}\n", self.name, lines.join("\n"));
        if let Some(stderr) = self.stderr.take() {
            let _infallible = message.write_str(&stderr.join().unwrap_or_default());
        }
        panic!("{message}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        child::kill_now(&mut self.child);
    }
}

/// Runs a program in each of its variants at the same time; the variant is its first argument unless it is "".
#[track_caller]
pub fn speaks(name: &str, variants: &[&str], command: &(dyn Fn() -> Command + Sync)) {
    let one = |variant: &str| {
        entry(name, variant, |row| {
            let with_variant = || {
                let mut command = command();
                command.args(Some(variant.trim_start_matches("RESP")).filter(|word| !word.is_empty()));
                command
            };
            same_transcript(row, &with_variant)
        });
    };
    std::thread::scope(|scope| {
        for variant in variants {
            scope.spawn(|| one(variant));
        }
    });
}

/// A program of `tests/clients/python`, with the modules of `requirements.txt`.
pub fn python(script: &str) -> Command {
    let mut command = Command::new(root().join("target/clients/python/bin/python"));
    command.arg(program(script)).env("PYTHONDONTWRITEBYTECODE", "1");
    // Sets are printed in the same order in every process.
    command.env("PYTHONHASHSEED", "0");
    command
}

/// A program of `tests/clients/node`, with the packages of `package-lock.json`.
pub fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command
        .arg(program(script))
        .env("NODE_PATH", root().join("target/clients/node/node_modules"));
    command
}

/// A file below `tests/clients`.
pub fn program(script: &str) -> PathBuf {
    root().join("tests/clients").join(script)
}
