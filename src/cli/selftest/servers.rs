//! The processes of a run: a Redis server and instances of nearhit, their directory, and their end.

use super::Failure;
use crate::cli::watchdog::Watchdog;
use nearhit::resp::{Value, Version};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// How long a process may take to answer. Chosen, not measured.
const START: Duration = Duration::from_secs(20);
/// Between two looks.
const POLL: Duration = Duration::from_millis(10);
/// After SIGTERM, before SIGKILL.
const STOP: Duration = Duration::from_secs(5);
/// How long one question may take; servers sleep and pause here.
const ANSWER: Duration = Duration::from_secs(10);

/// A port nobody listens on now.
pub(super) fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A child process, while there is one: it may be started again. Dropping it kills it; when this process dies, its
/// watchdog does.
#[derive(Debug, Default)]
pub(super) struct Process(Option<Running>);

#[derive(Debug)]
struct Running {
    child: Child,
    watchdog: Watchdog,
}

impl Process {
    pub(super) async fn start(&mut self, mut command: Command, dir: &Path) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::new(format!("start a process in {}: {error}", dir.display()));
        std::fs::create_dir_all(dir).map_err(failed)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .map_err(failed)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            // Not in the terminal's group: Ctrl-C is for this process, which then stops everything in order.
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().map_err(failed)?;
        let mut watchdog = Watchdog::start(dir).map_err(failed)?;
        watchdog.add(child.id().unwrap_or(0)).await.map_err(failed)?;
        self.0 = Some(Running { child, watchdog });
        Ok(())
    }

    /// Whether it runs no more, or never did.
    fn has_ended(&mut self) -> bool {
        let running = self.0.as_mut();
        running.is_none_or(|running| !matches!(running.child.try_wait(), Ok(None)))
    }

    pub(super) fn signal(&self, signal: Signal) {
        // `id` is none once the child was waited for, so the pid is still its own.
        let id = self.0.as_ref().and_then(|running| running.child.id());
        let pid = id.and_then(|id| i32::try_from(id).ok());
        // An error means that it has just ended.
        let _: Option<Result<(), _>> = pid.and_then(Pid::from_raw).map(|pid| kill_process(pid, signal));
    }

    /// SIGKILL, and it is gone; what a server had not written is lost.
    pub(super) async fn kill(&mut self) {
        if let Some(mut running) = self.0.take() {
            drop(running.child.kill().await);
            running.watchdog.dismiss().await;
        }
    }

    /// SIGTERM, and SIGKILL to whoever stays.
    pub(super) async fn stop(&mut self) {
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        if let Some(running) = &mut self.0 {
            drop(timeout(STOP, running.child.wait()).await);
        }
        self.kill().await;
    }
}

/// `host:port` of a server that may move: all copies of it move with it.
#[derive(Clone, Debug)]
pub(super) struct Place(Arc<Mutex<String>>);

impl Place {
    pub(super) fn at(addr: String) -> Self {
        Self(Arc::new(Mutex::new(addr)))
    }

    pub(super) fn now(&self) -> String {
        self.0.lock().clone()
    }

    pub(super) fn set(&self, addr: String) {
        *self.0.lock() = addr;
    }
}

/// Where a server is, and who to be there.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) addr: Place,
    pub(super) credentials: Option<(String, Vec<u8>)>,
}

impl Target {
    /// Asks one question on a connection of its own.
    pub(super) async fn ask(&self, args: &[&[u8]]) -> std::io::Result<Value> {
        let answers = self.ask_all(&[args]).await?;
        answers
            .into_iter()
            .next()
            .ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }

    /// Asks in words that are separated by spaces; an error reply is an error.
    pub(super) async fn command(&self, line: &str) -> std::io::Result<Value> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        match self.ask(&args).await? {
            Value::Error(text) => Err(std::io::Error::other(String::from_utf8_lossy(&text).into_owned())),
            value => Ok(value),
        }
    }

    /// Asks several questions, in one write, on a connection of its own.
    pub(super) async fn ask_all(&self, questions: &[&[&[u8]]]) -> std::io::Result<Vec<Value>> {
        let ask = async {
            let mut stream = TcpStream::connect(self.addr.now()).await?;
            let (mut out, mut greetings) = (Vec::new(), 0);
            if let Some((user, password)) = &self.credentials {
                super::requests::request(&mut out, &[b"AUTH", super::server_faults::user_name(user), password]);
                greetings = 1;
            }
            for args in questions {
                super::requests::request(&mut out, args);
            }
            stream.write_all(&out).await?;
            let mut wire = super::exchange::Raw::new(stream, Version::V2);
            let mut answers = Vec::new();
            for _ in 0..greetings + questions.len() {
                answers.push(wire.value().await?);
            }
            Ok(answers.split_off(greetings))
        };
        timeout(ANSWER, ask)
            .await
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
    }
}

/// The checker's own Redis server.
#[derive(Debug)]
pub(super) struct Redis {
    program: PathBuf,
    dir: PathBuf,
    /// What every start of it is told.
    args: &'static [&'static str],
    pub(super) port: u16,
    /// libfaketime, where clock jumps are wanted and it is installed.
    pub(super) faketime: Option<PathBuf>,
    pub(super) process: Process,
}

impl Redis {
    pub(super) fn new(
        program: PathBuf,
        dir: PathBuf,
        args: &'static [&'static str],
        faketime: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let port = free_port().map_err(|error| Failure::new(format!("find a free port: {error}")))?;
        Ok(Self {
            program,
            dir,
            args,
            port,
            faketime,
            process: Process::default(),
        })
    }

    pub(super) fn target(&self) -> Target {
        Target {
            addr: Place::at(format!("127.0.0.1:{}", self.port)),
            credentials: None,
        }
    }

    /// Starts it and waits until it answers.
    pub(super) async fn start(&mut self, args: &[&str]) -> Result<(), Failure> {
        let mut command = Command::new(&self.program);
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0"])
            .args(self.args)
            .args(args)
            .arg("--dir")
            .arg(&self.dir);
        if let Some(library) = &self.faketime {
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", self.clock_file())
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("FAKETIME_CACHE_DURATION", "1");
            self.set_clock("+0")?;
        }
        self.process.start(command, &self.dir).await?;
        let target = self.target();
        let ready = async {
            while target.command("PING").await.is_err() {
                sleep(POLL).await;
            }
        };
        let late = || Failure::new(format!("the redis-server on port {} did not answer", self.port));
        timeout(START, ready).await.map_err(|_| late())
    }

    /// Starts it as a replica.
    pub(super) async fn follow(&mut self, primary: &Self) -> Result<(), Failure> {
        let port = primary.port.to_string();
        self.start(&["--replicaof", "127.0.0.1", &port]).await
    }

    /// Moves the wall clock this server sees.
    pub(super) fn set_clock(&self, offset: &str) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.dir)
            .and_then(|()| std::fs::write(self.clock_file(), offset))
            .map_err(|error| Failure::new(format!("write the server's clock: {error}")))
    }

    /// Removes what it would load at its next start.
    pub(super) fn forget_data(&self) {
        // What is not there need not be removed.
        drop(std::fs::remove_file(self.dir.join("dump.rdb")));
        drop(std::fs::remove_dir_all(self.dir.join("appendonlydir")));
    }

    fn clock_file(&self) -> PathBuf {
        self.dir.join("clock")
    }
}

/// One instance of nearhit, a child of the same program.
#[derive(Debug)]
pub(super) struct Instance {
    dir: PathBuf,
    args: Vec<String>,
    pub(super) port: u16,
    metrics_port: u16,
    pub(super) process: Process,
}

impl Instance {
    /// An instance before `upstream`, with these further settings.
    pub(super) fn new(dir: PathBuf, upstream: &str, settings: &[String]) -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("find a free port: {error}"));
        let (port, metrics_port) = (free_port().map_err(failed)?, free_port().map_err(failed)?);
        let flags = [
            ("--server.listen", format!("127.0.0.1:{port}")),
            ("--metrics.listen", format!("127.0.0.1:{metrics_port}")),
            ("--upstream.url", upstream.to_owned()),
            ("--log.format", "text".to_owned()),
        ];
        let mut args = vec!["serve".to_owned()];
        args.extend(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
        args.extend_from_slice(settings);
        Ok(Self {
            dir,
            args,
            port,
            metrics_port,
            process: Process::default(),
        })
    }

    /// Starts it and waits until its clients are answered.
    pub(super) async fn start(&mut self) -> Result<(), Failure> {
        let program = std::env::current_exe().map_err(|error| Failure::new(format!("find this program: {error}")))?;
        let mut command = Command::new(program);
        command.args(&self.args);
        self.process.start(command, &self.dir).await?;
        let ready = async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                if self.process.has_ended() {
                    return false;
                }
                sleep(POLL).await;
            }
            true
        };
        match timeout(START, ready).await {
            Ok(true) => Ok(()),
            _ => Err(Failure::new(format!("nearhit did not start: {}", self.last_line()))),
        }
    }

    fn last_line(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        log.lines().last().unwrap_or("it wrote nothing").to_owned()
    }

    /// Its page of metrics.
    pub(super) async fn metrics(&self) -> std::io::Result<String> {
        let read = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.metrics_port)).await?;
            let request = b"GET /metrics HTTP/1.1\r\nHost: nearhit\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await?;
            let mut page = String::new();
            stream.read_to_string(&mut page).await?;
            Ok(page)
        };
        timeout(ANSWER, read)
            .await
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
    }
}
