//! `nearhit sandbox`, which `make run` starts: it works, it says what runs where, and it leaves nothing behind however
//! it ends.

mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;
use support::{Nearhit, Resp, SOON, child, eventually, wait_for};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);

/// A running sandbox, with a directory of its own for temporary files.
struct Sandbox {
    child: Child,
    temp: TempDir,
    /// What it printed until it was ready.
    guide: String,
}

impl Sandbox {
    fn start() -> Self {
        let temp = support::temp_dir();
        let mut command = Nearhit::command();
        command.args(["sandbox", "--listen", "127.0.0.1:0", "--metrics.listen", "127.0.0.1:0"]);
        command
            .env("TMPDIR", temp.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("start the sandbox");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"))
            .lines()
            .map_while(Result::ok);
        let guide = lines
            .by_ref()
            .take_while(|line| !line.contains("PROXY STATS"))
            .collect::<Vec<_>>()
            .join("\n");
        // Read on, so that its last words do not meet a closed pipe.
        std::thread::spawn(move || lines.count());
        Self { child, temp, guide }
    }

    /// The address in the guide's line that starts with `name`.
    fn addr(&self, name: &str) -> SocketAddr {
        let on_line = |line: &str| {
            line.trim()
                .strip_prefix(name)?
                .split_ascii_whitespace()
                .next()?
                .parse()
                .ok()
        };
        let addr = self.guide.lines().find_map(on_line);
        addr.unwrap_or_else(|| panic!("no address of {name} in:\n{}", self.guide))
    }

    fn servers(&self) -> [SocketAddr; 3] {
        ["primary", "replica 1", "replica 2"].map(|name| self.addr(name))
    }

    /// Nothing listens, and the directory for temporary files is empty.
    fn left_nothing(&self) -> bool {
        let files = std::fs::read_dir(self.temp.path()).expect("list a folder").count();
        files == 0 && self.servers().iter().all(|addr| TcpStream::connect(addr).is_err())
    }

    fn stderr(&mut self) -> String {
        std::io::read_to_string(self.child.stderr.take().expect("a pipe")).expect("read stderr")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        child::kill_now(&mut self.child);
        // Its watchdog cleans up; the directory must not go away before.
        eventually(SOON, || {
            std::fs::read_dir(self.temp.path()).is_ok_and(|files| files.count() == 0)
        });
    }
}

#[test]
fn it_puts_nearhit_in_front_of_a_primary_and_two_replicas() {
    let sandbox = Sandbox::start();
    let [primary, replicas @ ..] = sandbox.servers();
    let mut client = Resp::connect(sandbox.addr("nearhit"));
    assert_eq!(client.cmd(&["SET", "greeting", "hello"]), "OK");
    assert_eq!(Resp::connect(primary).cmd(&["GET", "greeting"]), "hello");
    for replica in replicas {
        wait_for("a replica", SOON, || {
            Resp::connect(replica).cmd(&["GET", "greeting"]) == "hello"
        });
    }
    Resp::connect(primary).cmd(&["SET", "greeting", "changed"]);
    wait_for("the foreign write", SOON, || {
        client.cmd(&["GET", "greeting"]) == "changed"
    });
}

#[test]
fn an_interrupt_or_a_stop_ends_it_in_order() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut sandbox = Sandbox::start();
        child::signal(&sandbox.child, signal);
        let status = child::wait(&mut sandbox.child, LIMIT).expect("it ends");
        assert_eq!(status.code(), Some(0), "{signal:?}: {}", sandbox.stderr());
        assert!(sandbox.left_nothing(), "{signal:?} left something behind");
    }
}

#[test]
fn killed_without_a_chance_it_still_leaves_nothing() {
    let mut sandbox = Sandbox::start();
    child::kill_now(&mut sandbox.child);
    assert!(eventually(LIMIT, || sandbox.left_nothing()));
}

#[test]
fn a_server_that_dies_ends_it_with_a_message() {
    let mut sandbox = Sandbox::start();
    let pid: i32 = Resp::connect(sandbox.addr("replica 1"))
        .cmd(&["INFO", "server"])
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("process_id:")?.trim().parse().ok())
        .expect("a pid");
    kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("kill the replica");
    let status = child::wait(&mut sandbox.child, LIMIT).expect("it ends");
    assert_eq!(status.code(), Some(1));
    let stderr = sandbox.stderr();
    assert!(
        stderr.contains("the replica 1 on port ") && stderr.contains(&pid.to_string()),
        "{stderr}"
    );
    assert!(sandbox.left_nothing());
}

#[test]
fn a_taken_address_is_one_line_and_nothing_is_started() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("an address").to_string();
    let temp = support::temp_dir();
    let mut command = Nearhit::command();
    command.args(["sandbox", "--listen", &addr]).env("TMPDIR", temp.path());
    let done = child::run(&mut command, LIMIT);
    assert_eq!(done.code(), Some(73));
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    assert!(
        done.stderr.contains(&format!("{addr} is already in use")),
        "{}",
        done.stderr
    );
    assert_eq!(std::fs::read_dir(temp.path()).expect("list a folder").count(), 0);
}

#[test]
fn without_a_server_it_says_how_to_install_one() {
    let mut command = Nearhit::command();
    let empty = support::temp_dir();
    command
        .args(["sandbox", "--listen", "127.0.0.1:0"])
        .env("PATH", empty.path())
        .env_remove("REDIS_SERVER");
    let done = child::run(&mut command, LIMIT);
    assert_eq!(done.code(), Some(69));
    assert!(done.stderr.contains("apt-get install redis-server"), "{}", done.stderr);
    command.args(["--redis-server", "/nowhere/redis-server"]);
    let done = child::run(&mut command, LIMIT);
    assert_eq!(done.code(), Some(69));
    assert!(done.stderr.contains("/nowhere/redis-server"), "{}", done.stderr);
}

#[test]
fn what_it_was_told_wrong_is_one_clear_message_and_nothing_is_started() {
    for (flags, status, wanted) in [
        (
            ["--listen", "nonsense"],
            78,
            "--listen: 'nonsense' is not an address to listen on",
        ),
        (
            ["--metrics", "9381"],
            78,
            "--metrics: '9381' is not an address to listen on",
        ),
        (
            ["--cache.max-memory", "1mb"],
            2,
            "unexpected argument '--cache.max-memory'",
        ),
    ] {
        let done = child::run(Nearhit::command().arg("sandbox").args(flags), LIMIT);
        assert_eq!(done.code(), Some(status), "{flags:?}: {}", done.output());
        assert!(done.stderr.contains(wanted), "{flags:?}: {}", done.stderr);
        assert_eq!(done.stdout, "", "{flags:?}");
    }
}
