//! A real Redis (or Valkey) server from a temporary copy of `redis-conf/`, on a free port.
//!
//! The binary is `redis-server`, or what the environment says in `REDIS_SERVER`.

use super::resp::Resp;
use super::wait::{eventually, wait_for};
use super::{child, ports};
use rustix::process::Signal;
use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long a server may take to answer its first PING.
const START: Duration = Duration::from_secs(10);
/// How often another port is tried when somebody else was faster.
const TRIES: usize = 5;

/// One running server. Dropping it kills the process by its pid and removes its directory.
#[derive(Debug)]
pub struct RedisServer {
    /// Its configuration copy, log and working directory.
    dir: TempDir,
    port: u16,
    /// Where it speaks TLS, if it does.
    tls_port: Option<u16>,
    args: Vec<String>,
    /// `None` after [`RedisServer::stop`] or [`RedisServer::kill9`].
    child: Option<Child>,
}

/// How to start a server.
#[derive(Clone, Debug)]
pub struct Builder {
    conf: PathBuf,
    edits: Vec<(String, String)>,
    args: Vec<String>,
    port: Option<u16>,
    in_memory: bool,
    tls: bool,
}

impl Builder {
    /// Has it speak TLS too, on another port, with this certificate and key; clients' certificates and other nodes' must be
    /// issued by `authority`.
    #[must_use]
    pub fn tls(self, certificate: &Path, key: &Path, authority: &Path) -> Self {
        let text = |path: &Path| path.to_str().expect("a path without odd bytes").to_owned();
        let mut builder = self
            .arg("--tls-cert-file", &text(certificate))
            .arg("--tls-key-file", &text(key))
            .arg("--tls-ca-cert-file", &text(authority));
        builder.tls = true;
        builder
    }

    /// Adds one setting: `.arg("--maxmemory", "1mb")`. A value with spaces becomes several words, as on a command line.
    #[must_use]
    pub fn arg(mut self, name: &str, value: &str) -> Self {
        self.args.push(name.to_owned());
        if value.is_empty() {
            self.args.push(String::new());
        }
        self.args.extend(value.split_ascii_whitespace().map(str::to_owned));
        self
    }

    /// Adds a word without a value: `.flag("--sentinel")`.
    #[must_use]
    pub fn flag(mut self, name: &str) -> Self {
        self.args.push(name.to_owned());
        self
    }

    /// Takes another file of `redis-conf/`, or any path.
    #[must_use]
    pub fn conf(mut self, path: impl Into<PathBuf>) -> Self {
        self.conf = path.into();
        self
    }

    /// Replaces text in the copied file.
    #[must_use]
    pub fn edit(mut self, from: &str, to: &str) -> Self {
        self.edits.push((from.to_owned(), to.to_owned()));
        self
    }

    /// Wants exactly this port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Keeps its directory in memory where the system has a place for that: a server that waits for the disk before it goes
    /// on hangs for seconds where the disk is busy.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.in_memory = true;
        self
    }

    /// Follows another server from the start.
    #[must_use]
    pub fn replica_of(self, primary: &RedisServer) -> Self {
        self.arg("--replicaof", &format!("127.0.0.1 {}", primary.port()))
    }

    /// Starts it and waits until it answers PING.
    #[track_caller]
    pub fn start(self) -> RedisServer {
        let mut last = String::new();
        for _ in 0..TRIES {
            let port = self.port.unwrap_or_else(ports::free_port);
            let dir = match self.in_memory {
                true => super::temp_dir_in_memory(),
                false => super::temp_dir(),
            };
            copy_conf(&self.conf, &dir.path().join("redis.conf"), &self.edits);
            let mut server = RedisServer {
                dir,
                port,
                tls_port: self.tls.then(ports::free_port),
                args: self.args.clone(),
                child: None,
            };
            match server.launch() {
                Ok(()) => return server,
                Err(reason) => last = reason,
            }
        }
        let says_no_tls = last.contains("Bad directive") && last.contains("tls-");
        assert!(
            !(self.tls && says_no_tls),
            "this redis-server was built WITHOUT TLS, so nothing here can be tested with it: install one that was built with \
             BUILD_TLS=yes, as Debian's is (deploy/need-redis.sh), or name one in REDIS_SERVER\n{last}"
        );
        panic!("redis-server did not start: {last}");
    }
}

impl RedisServer {
    /// Starts a primary from `redis-conf/master.conf`.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A primary from `redis-conf/master.conf`, with more settings.
    pub fn builder() -> Builder {
        Builder {
            conf: super::root().join("redis-conf/master.conf"),
            edits: Vec::new(),
            args: Vec::new(),
            port: None,
            in_memory: false,
            tls: false,
        }
    }

    /// Starts a replica from `redis-conf/replica.conf` and waits until its link to `primary` is up.
    #[track_caller]
    pub fn replica_of(primary: &RedisServer) -> Self {
        let conf = super::root().join("redis-conf/replica.conf");
        let replica = Self::builder().conf(conf).replica_of(primary).start();
        replica.wait_for_link();
        replica
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it speaks TLS; panics when it does not.
    #[track_caller]
    pub fn tls_port(&self) -> u16 {
        self.tls_port.expect("a server that speaks TLS")
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Its address as `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr())
    }

    /// A new connection to it, RESP2.
    #[track_caller]
    pub fn client(&self) -> Resp {
        Resp::connect(self.addr())
    }

    /// Sends one command on a connection of its own: a foreign write, seen from a proxy.
    #[track_caller]
    pub fn cmd<A: AsRef<[u8]>>(&self, args: &[A]) -> super::Reply {
        self.client().cmd(args)
    }

    /// One line of `INFO`: `server.info("connected_clients")`.
    #[track_caller]
    pub fn info(&self, field: &str) -> String {
        info_field(&self.cmd(&["INFO", "everything"]).text(), field)
            .unwrap_or_else(|| panic!("INFO has no field {field}"))
    }

    /// Its process id; panics when it is stopped.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running server").id()
    }

    /// Its directory: configuration, log, and whatever it writes.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it logged so far, and what it said before it had a log.
    pub fn log(&self) -> String {
        let text = |name| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        text("output.txt") + &text("redis.log")
    }

    /// Waits until a replica's link to its primary is up.
    #[track_caller]
    pub fn wait_for_link(&self) {
        wait_for("master_link_status:up", Duration::from_secs(15), || {
            self.info("master_link_status") == "up"
        });
    }

    /// SIGKILL: sockets are reset, nothing is said.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child::kill_now(&mut child);
        }
    }

    /// SIGTERM, as an operator would stop it; SIGKILL after five seconds.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child::end(&mut child, Duration::from_secs(5));
        }
    }

    /// Stops it if it runs, and starts it again on the same port. Data is gone unless persistence was asked for.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        if let Err(reason) = self.launch() {
            panic!("redis-server did not come back on port {}: {reason}", self.port);
        }
    }

    /// SIGSTOP: connections stay open and nobody answers, like a machine that hangs.
    #[track_caller]
    pub fn pause(&self) {
        child::signal(self.child.as_ref().expect("a running server"), Signal::STOP);
    }

    /// SIGCONT: ends [`RedisServer::pause`].
    #[track_caller]
    pub fn resume(&self) {
        child::signal(self.child.as_ref().expect("a running server"), Signal::CONT);
    }

    /// Whether it was started and neither stopped nor killed since.
    pub fn has_process(&self) -> bool {
        self.child.is_some()
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn launch(&mut self) -> Result<(), String> {
        let mut command = server_command();
        command
            .arg(self.dir.path().join("redis.conf"))
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .arg("--dir")
            .arg(self.dir.path())
            .arg("--logfile")
            .arg(self.dir.path().join("redis.log"))
            .args(&self.args);
        if let Some(port) = self.tls_port {
            command.args(["--tls-port", &port.to_string()]);
        }
        let output = File::create(self.dir.path().join("output.txt")).expect("make a file");
        command.stdout(output.try_clone().expect("share a file")).stderr(output);
        self.child = Some(spawn(&mut command));
        self.wait_for_pong()
    }

    /// PONG from this very process: another one may have been faster on the port, and answers PING as well.
    fn wait_for_pong(&mut self) -> Result<(), String> {
        let pid = self.pid();
        let mut ended = None;
        let ready = eventually(START, || {
            ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            ended.is_some() || process_id(self.addr()) == Some(pid)
        });
        match (ready, ended) {
            (true, None) => Ok(()),
            (true, Some(status)) => Err(format!("ended with {status}: {}", self.log())),
            (false, _) => Err(format!("no PONG within {START:?}: {}", self.log())),
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// The server's command, without arguments. Stdin is closed, so that nothing waits for a terminal.
pub fn server_command() -> Command {
    let binary = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| OsString::from("redis-server"));
    let mut command = Command::new(binary);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Starts a server process, or says what is missing.
pub fn spawn(command: &mut Command) -> Child {
    command
        .spawn()
        .unwrap_or_else(|error| panic!("start {command:?}: {error} (run deploy/need-redis.sh, or set REDIS_SERVER)"))
}

/// The pid of the server that answers at `addr`, once it is past loading.
pub fn process_id(addr: SocketAddr) -> Option<u32> {
    let mut client = Resp::try_connect(addr).ok()?;
    client.try_send_raw("PING\r\nINFO server\r\n").ok()?;
    let pong = client.try_reply()?;
    let info = client.try_reply()?;
    if pong != "PONG" {
        return None;
    }
    info_field(&info.text(), "process_id")?.parse().ok()
}

/// One field of an `INFO` reply.
pub fn info_field(info: &str, field: &str) -> Option<String> {
    info.lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .map(|value| value.trim().to_owned())
}

fn copy_conf(from: &Path, to: &Path, edits: &[(String, String)]) {
    let mut text = std::fs::read_to_string(from).unwrap_or_else(|error| panic!("read {}: {error}", from.display()));
    for (old, new) in edits {
        assert!(text.contains(old), "{} does not contain {old:?}", from.display());
        text = text.replace(old, new);
    }
    std::fs::write(to, text).unwrap_or_else(|error| panic!("write {}: {error}", to.display()));
}
