//! The built binary as a child process.

use super::resp::Resp;
use super::wait::{eventually, wait_for};
use super::{child, http};
use parking_lot::Mutex;
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// How the line starts by which the binary says that its listeners are bound.
const READY: &str = "nearhit ready: ";

/// A running `nearhit serve`. Dropping it kills the process by its pid.
#[derive(Debug)]
pub struct Nearhit {
    child: Child,
    addr: SocketAddr,
    metrics: Option<SocketAddr>,
    /// Everything it wrote to stderr. Guards a plain string between the reading thread and the test; never held long.
    stderr: Arc<Mutex<String>>,
}

impl Nearhit {
    /// `nearhit serve` in front of `upstream`, on free ports.
    #[track_caller]
    pub fn serve(upstream: &str) -> Self {
        Self::serve_with(upstream, &[])
    }

    /// The same with more arguments: `&["--cache.max-memory", "1mb"]`.
    #[track_caller]
    pub fn serve_with(upstream: &str, args: &[&str]) -> Self {
        let mut command = Self::command();
        command
            .args([
                "serve",
                "--upstream",
                upstream,
                "--listen",
                "127.0.0.1:0",
                "--metrics.listen",
                "127.0.0.1:0",
                "--log.format",
                "text",
            ])
            .args(args);
        Self::start(command)
    }

    /// The binary's command without arguments, in an environment without its own variables.
    pub fn command() -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearhit"));
        for (name, _) in std::env::vars_os() {
            // But for the mistake that all of a test run is to be made with (docs/mutants.md).
            if name.to_string_lossy().starts_with("NEARHIT_") && name != "NEARHIT_MUTANT" {
                command.env_remove(name);
            }
        }
        command
    }

    /// Starts any command of the binary that will say it is ready.
    #[track_caller]
    pub fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let stderr = Arc::new(Mutex::new(String::new()));
        collect(child.stderr.take().expect("a pipe"), Arc::clone(&stderr));
        let mut ended = None;
        let ready = eventually(Duration::from_secs(10), || {
            ended = child.try_wait().expect("ask for a child's status");
            ended.is_some() || ready_line(&stderr.lock()).is_some()
        });
        let line = ready_line(&stderr.lock());
        let Some(line) = line.filter(|_| ready) else {
            child::kill_now(&mut child);
            panic!("{command:?} did not get ready ({ended:?}):\n{}", stderr.lock());
        };
        let addr = address_after(&line, "listen ").unwrap_or_else(|| panic!("no listen address in {line:?}"));
        let metrics = address_after(&line, "metrics ");
        Self {
            child,
            addr,
            metrics,
            stderr,
        }
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A new client connection, RESP2.
    #[track_caller]
    pub fn connect(&self) -> Resp {
        Resp::connect(self.addr)
    }

    /// A new client connection, RESP3.
    #[track_caller]
    pub fn connect3(&self) -> Resp {
        let mut client = self.connect();
        client.hello3();
        client
    }

    /// Where `/metrics` and the probes are.
    #[track_caller]
    pub fn metrics_addr(&self) -> SocketAddr {
        self.metrics.expect("a metrics listener")
    }

    /// The sum of a metric's samples whose labels contain all of `labels`; zero when there is none yet.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (status, page) = http::get(self.metrics_addr(), "/metrics");
        assert_eq!(status, 200, "{page}");
        http::sample(&page, name, labels).unwrap_or(0.0)
    }

    /// Everything it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().clone()
    }

    /// Waits until its stderr contains `text`.
    #[track_caller]
    pub fn wait_for_stderr(&self, text: &str) {
        wait_for(&format!("{text:?} on stderr"), Duration::from_secs(10), || {
            self.stderr.lock().contains(text)
        });
    }

    /// Bytes of memory it has now (`VmRSS`).
    #[track_caller]
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("kilobytes") * 1024
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        child::signal(&self.child, signal);
    }

    /// How it ended; panics when it runs longer than `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        match child::wait(&mut self.child, limit) {
            Some(status) => status,
            None => panic!("nearhit still runs after {limit:?}:\n{}", self.stderr()),
        }
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Nearhit {
    fn drop(&mut self) {
        child::kill_now(&mut self.child);
        if std::thread::panicking() {
            eprintln!("--- stderr of nearhit ---\n{}", self.stderr());
        }
    }
}

/// Reads a pipe to its end, so that the child never blocks on it; the thread ends with the child.
fn collect(pipe: impl Read + Send + 'static, into: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(pipe.read_until(b'\n', &mut line), Ok(count) if count > 0) {
            into.lock().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
}

/// The whole ready line (it ends with a line end, so no half address is read).
fn ready_line(stderr: &str) -> Option<String> {
    let whole = &stderr[..stderr.rfind('\n')?];
    whole.lines().find(|line| line.contains(READY)).map(str::to_owned)
}

fn address_after(line: &str, word: &str) -> Option<SocketAddr> {
    let rest = &line[line.find(word)? + word.len()..];
    rest.split([',', ' ']).next()?.parse().ok()
}
