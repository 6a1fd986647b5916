//! Other proxies, where they are installed: twemproxy and HAProxy, each with one thread before one redis-server.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::{child, eventually, free_addr, temp_dir};

/// A running proxy of somebody else. Dropping it kills it by its pid.
pub(crate) struct Peer {
    child: Child,
    addr: SocketAddr,
    version: String,
    /// Its configuration and log.
    _dir: tempfile::TempDir,
}

impl Peer {
    /// twemproxy, whose program is called nutcracker; `None` where it is not installed.
    pub(crate) fn twemproxy(server: SocketAddr) -> Result<Option<Self>, String> {
        let Some(program) = find("nutcracker") else {
            return Ok(None);
        };
        let (dir, addr, stats) = (temp_dir(), free_addr(), free_addr());
        let config = format!(
            "bench:\n  listen: {addr}\n  redis: true\n  hash: fnv1a_64\n  distribution: ketama\n  \
             auto_eject_hosts: false\n  timeout: 10000\n  server_connections: 1\n  servers:\n   - {server}:1\n"
        );
        write(dir.path(), &config)?;
        let mut command = Command::new(&program);
        command
            .arg("--conf-file")
            .arg(dir.path().join("conf"))
            .arg("--pid-file")
            .arg(dir.path().join("pid"))
            .args(["--stats-addr", "127.0.0.1", "--stats-port", &stats.port().to_string()]);
        let version = version_of(Command::new(&program).arg("--version"));
        Self::start(command, addr, version, dir).map(Some)
    }

    /// HAProxy as a relay of bytes; `None` where it is not installed.
    pub(crate) fn haproxy(server: SocketAddr) -> Result<Option<Self>, String> {
        let Some(program) = find("haproxy") else {
            return Ok(None);
        };
        let (dir, addr) = (temp_dir(), free_addr());
        let config = format!(
            "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  \
             timeout server 1m\nlisten redis\n  bind {addr}\n  server redis {server}\n"
        );
        write(dir.path(), &config)?;
        let mut command = Command::new(&program);
        command.arg("-db").arg("-f").arg(dir.path().join("conf"));
        let version = version_of(Command::new(&program).arg("-v"));
        Self::start(command, addr, version, dir).map(Some)
    }

    fn start(mut command: Command, addr: SocketAddr, version: String, dir: tempfile::TempDir) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("start {command:?}: {error}");
        let log = File::create(dir.path().join("log")).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command.spawn().map_err(|error| format!("start {command:?}: {error}"))?;
        let peer = Self {
            child,
            addr,
            version,
            _dir: dir,
        };
        if eventually(Duration::from_secs(10), || TcpStream::connect(addr).is_ok()) {
            return Ok(peer);
        }
        let log = std::fs::read_to_string(peer._dir.path().join("log")).unwrap_or_default();
        Err(format!("{command:?} does not listen on {addr}: {log}"))
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        child::kill_now(&mut self.child);
    }
}

/// Debian keeps haproxy and nutcracker in `/usr/sbin`, which is not on everybody's PATH.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

fn write(dir: &Path, config: &str) -> Result<(), String> {
    std::fs::write(dir.join("conf"), config).map_err(|error| format!("write a configuration: {error}"))
}

/// The first line of what a program says about itself, on whichever stream.
fn version_of(command: &mut Command) -> String {
    let Ok(output) = command.stdin(Stdio::null()).output() else {
        return "unknown".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let line = String::from_utf8_lossy(&text)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    line.split(" - ").next().unwrap_or_default().trim().to_owned()
}
