//! The sandbox's Redis processes: one primary, two replicas, their directory, and their end.

use super::super::watchdog::Watchdog;
use super::guide::Line;
use super::{Failure, exit};
use nearhit::upstream::info_field;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

const MASTER_CONF: &str = include_str!("../../../redis-conf/master.conf");
const REPLICA_CONF: &str = include_str!("../../../redis-conf/replica.conf");

/// How long a server may take to answer, and a replica to follow. Chosen, not measured: a start takes 0.1 s.
const START: Duration = Duration::from_secs(10);
/// Between two looks at a starting server.
const POLL: Duration = Duration::from_millis(10);
/// After SIGTERM, before SIGKILL.
const PATIENCE: Duration = Duration::from_secs(5);
/// A free port may be taken by somebody else before the server binds it; then the next one is tried.
const TRIES: usize = 3;

/// One Redis process.
#[derive(Debug)]
pub(super) struct Server {
    name: &'static str,
    port: u16,
    pid: u32,
    child: Child,
    /// What it writes to stdout and stderr.
    log: PathBuf,
}

impl Server {
    /// How it appears in the guide.
    pub(super) fn line(&self) -> Line {
        Line {
            name: self.name,
            port: self.port,
            pid: self.pid,
        }
    }

    fn signal(&self, signal: Signal) {
        // `id` is none once the child was waited for, so the pid is still its own.
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        // An error means that it has just ended, which is what is wanted.
        let _: Option<Result<(), _>> = pid.map(|pid| kill_process(pid, signal));
    }
}

/// All servers of one sandbox. [`Servers::stop`] ends them in order; dropping kills them.
#[derive(Debug)]
pub(super) struct Servers {
    program: PathBuf,
    /// The primary first.
    running: Vec<Server>,
    /// None after `stop`.
    watchdog: Option<Watchdog>,
    /// Declared last, so that it is removed after everything that writes into it has been killed.
    dir: TempDir,
}

impl Servers {
    /// Makes the directory; nothing runs yet.
    pub(super) fn prepare(program: PathBuf) -> Result<Self, Failure> {
        let failed = |error| Failure::io("make a temporary directory", &error);
        let dir = tempfile::Builder::new()
            .prefix("nearhit-sandbox-")
            .tempdir()
            .map_err(failed)?;
        let conf = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).map_err(failed);
        conf("master.conf", MASTER_CONF)?;
        conf("replica.conf", REPLICA_CONF)?;
        let watchdog = Watchdog::start(dir.path()).map_err(|error| Failure::io("start a shell", &error))?;
        Ok(Self {
            program,
            running: Vec::new(),
            watchdog: Some(watchdog),
            dir,
        })
    }

    /// Starts all servers; done when both replicas follow.
    pub(super) async fn start(&mut self) -> Result<(), Failure> {
        let primary = self.launch("primary", "master.conf", &[]).await?.to_string();
        let follow = ["--replicaof", "127.0.0.1", primary.as_str()];
        for name in ["replica 1", "replica 2"] {
            self.launch(name, "replica.conf", &follow).await?;
        }
        for server in self.running.iter_mut().skip(1) {
            wait_until(server, |info| info_field(info, "master_link_status") == Some("up")).await?;
        }
        Ok(())
    }

    /// The servers, primary first.
    pub(super) fn running(&self) -> &[Server] {
        &self.running
    }

    /// Where the primary is.
    pub(super) fn primary_url(&self) -> String {
        format!(
            "redis://127.0.0.1:{}",
            self.running.first().map_or(0, |primary| primary.port)
        )
    }

    /// Waits until a server ends by itself, which it should not.
    pub(super) async fn first_to_end(&mut self) -> Failure {
        loop {
            for server in &mut self.running {
                if let Ok(Some(status)) = server.child.try_wait() {
                    return ended(server, status);
                }
            }
            // Polling three children is simpler than joining three futures, and nobody waits for this in a hurry.
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// SIGTERM to all at once, SIGKILL to those that stay, and the directory is removed.
    pub(super) async fn stop(mut self) {
        for server in &self.running {
            server.signal(Signal::TERM);
        }
        for server in &mut self.running {
            if timeout(PATIENCE, server.child.wait()).await.is_err() {
                drop(server.child.kill().await);
            }
        }
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss().await;
        }
        if let Err(error) = self.dir.close() {
            eprintln!("nearhit sandbox: remove the temporary directory: {error}");
        }
    }

    /// Starts one server and gives back its port once it answers.
    async fn launch(&mut self, name: &'static str, conf: &str, args: &[&str]) -> Result<u16, Failure> {
        let mut last = Failure::new(exit::FAILURE, format!("start the {name}"));
        for _ in 0..TRIES {
            let port = free_port().map_err(|error| Failure::io("find a free port", &error))?;
            let mut server = self.spawn(name, port, conf, args).await?;
            let pid = server.pid.to_string();
            // By its pid: whoever was faster on the port would answer as well.
            let ready = wait_until(&mut server, |info| info_field(info, "process_id") == Some(pid.as_str())).await;
            match ready {
                Ok(()) => {
                    self.running.push(server);
                    return Ok(port);
                }
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn spawn(&mut self, name: &'static str, port: u16, conf: &str, args: &[&str]) -> Result<Server, Failure> {
        let failed = |error| Failure::io(&format!("start {}", self.program.display()), &error);
        let log = self.dir.path().join(format!("{port}.log"));
        let output = File::create(&log).map_err(failed)?;
        let child = Command::new(&self.program)
            .arg(self.dir.path().join(conf))
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(self.dir.path())
            .args(args)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output)
            // Not in the terminal's group: Ctrl-C is for this process, which then stops everything in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pid = child.id().unwrap_or(0);
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.add(pid).await.map_err(failed)?;
        }
        Ok(Server {
            name,
            port,
            pid,
            child,
            log,
        })
    }
}

/// Asks a starting server for `INFO` until the answer is as wanted.
async fn wait_until(server: &mut Server, wanted: impl Fn(&str) -> bool) -> Result<(), Failure> {
    let late = format!(
        "the {} on port {} was not ready within {START:?}",
        server.name, server.port
    );
    let poll = async {
        loop {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(ended(server, status));
            }
            if info(server.port).await.is_ok_and(|info| wanted(&info)) {
                return Ok(());
            }
            sleep(POLL).await;
        }
    };
    timeout(START, poll)
        .await
        .unwrap_or_else(|_| Err(Failure::new(exit::FAILURE, late)))
}

/// How a server ended, with the last line it wrote.
fn ended(server: &Server, status: ExitStatus) -> Failure {
    let Server {
        name, port, pid, log, ..
    } = server;
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let last = log
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("it wrote nothing");
    Failure::new(
        exit::FAILURE,
        format!("the {name} on port {port} (pid {pid}) ended: {status}: {last}"),
    )
}

/// The text of `INFO`, on a connection of its own.
async fn info(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    // QUIT: the server closes after its answers, so reading ends without a parser.
    stream.write_all(b"INFO\r\nQUIT\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> PathBuf {
        super::super::find_server(None).unwrap()
    }

    #[tokio::test]
    async fn servers_start_follow_and_leave_nothing_behind() {
        let mut servers = Servers::prepare(program()).unwrap();
        servers.start().await.unwrap();
        let dir = servers.dir.path().to_owned();
        let ports: Vec<_> = servers.running().iter().map(|server| server.port).collect();
        let primary = info(ports[0]).await.unwrap();
        assert_eq!(info_field(&primary, "connected_slaves"), Some("2"));
        servers.stop().await;
        assert!(!dir.exists());
        for port in ports {
            assert!(
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err(),
                "{port} still answers"
            );
        }
    }

    #[tokio::test]
    async fn a_server_that_dies_is_named() {
        let mut servers = Servers::prepare(program()).unwrap();
        servers.launch("primary", "master.conf", &[]).await.unwrap();
        servers.running()[0].signal(Signal::KILL);
        let failure = servers.first_to_end().await;
        assert!(
            failure.message.starts_with("the primary on port "),
            "{}",
            failure.message
        );
        servers.stop().await;
    }

    #[tokio::test]
    async fn the_watchdog_cleans_up_when_nobody_stopped_the_servers() {
        let mut servers = Servers::prepare(program()).unwrap();
        let port = servers.launch("primary", "master.conf", &[]).await.unwrap();
        let dir = servers.dir.path().to_owned();
        // As if this process had died: the pipe closes, and nothing else happens here.
        drop(servers.watchdog.take());
        let gone = async {
            while dir.exists() || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
                sleep(POLL).await;
            }
        };
        timeout(START, gone).await.expect("the watchdog acts");
    }
}
