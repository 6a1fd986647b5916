//! `nearhit sandbox`: a primary, two replicas and the proxy on this machine, until Ctrl-C, and nothing left behind.
//!
//! ```text
//! temporary directory ─ redis-conf/*.conf (carried in the binary)
//!   ├ redis-server  primary     free port
//!   ├ redis-server  replica 1   free port     ←─ 127.0.0.1:6380, this process
//!   └ redis-server  replica 2   free port
//! ```
//!
//! `make run` is this command. Exit status: 0 stopped by a signal, 1 something failed while it ran, 69 no Redis server
//! here, 73 the address is taken, 78 an address is none.

mod guide;
mod servers;

use super::exit;
use super::signals::Signals;
use nearhit::error::{Error, Kind};
use servers::Servers;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

/// Where the proxy listens, unless told otherwise.
pub(super) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6380);
/// Where `/metrics` is, unless told otherwise.
pub(super) const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9381);

/// What `nearhit sandbox` was told, as it was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SandboxFlags {
    pub(super) listen: Option<String>,
    pub(super) metrics: Option<String>,
    pub(super) redis_server: Option<PathBuf>,
}

/// What the sandbox is to be.
#[derive(Clone, Debug)]
struct SandboxOptions {
    /// Taken: exit status 73.
    listen: SocketAddr,
    /// Taken: a free port of the same address.
    metrics: SocketAddr,
    /// The server's program. None: `REDIS_SERVER` of the environment, else `redis-server`, else `valkey-server`.
    redis_server: Option<PathBuf>,
}

impl SandboxOptions {
    fn read(flags: SandboxFlags) -> Result<Self, Failure> {
        Ok(Self {
            listen: address("listen", flags.listen, LISTEN)?,
            metrics: address("metrics", flags.metrics, METRICS)?,
            redis_server: flags.redis_server,
        })
    }
}

fn address(flag: &str, typed: Option<String>, default: SocketAddr) -> Result<SocketAddr, Failure> {
    let Some(typed) = typed else { return Ok(default) };
    typed.parse().map_err(|_| {
        let text = format!("--{flag}: '{typed}' is not an address to listen on; expected ip:port or [ipv6]:port");
        Failure::new(exit::CONFIG, text)
    })
}

/// Why the sandbox ended other than by a signal: what to print, and the exit status from `sysexits.h`.
#[derive(Debug)]
pub(super) struct Failure {
    status: u8,
    pub(super) message: String,
}

/// `EX_UNAVAILABLE`: no Redis server on this machine.
const NO_SERVER: u8 = 69;

impl Failure {
    fn new(status: u8, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    fn io(what: &str, error: &std::io::Error) -> Self {
        Self::new(exit::FAILURE, format!("{what}: {error}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = if error.kind() == Kind::Bind {
            exit::CANNOT_BIND
        } else {
            exit::FAILURE
        };
        Self::new(status, error.to_string())
    }
}

/// How long clients may finish what they started when the sandbox ends.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs the sandbox until a signal comes or something fails.
pub(super) fn run(flags: SandboxFlags) -> ExitCode {
    match SandboxOptions::read(flags).and_then(prepare_and_run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("nearhit sandbox: {}", failure.message);
            ExitCode::from(failure.status)
        }
    }
}

fn prepare_and_run(mut args: SandboxOptions) -> Result<(), Failure> {
    // Before any server is started: these are the usual mistakes, and they deserve one line at once.
    must_be_free(args.listen)?;
    if TcpListener::bind(args.metrics).is_err() {
        args.metrics.set_port(0);
    }
    let program = find_server(args.redis_server.take())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("start a runtime", &error))?;
    runtime.block_on(until_stopped(&args, program))
}

async fn until_stopped(args: &SandboxOptions, program: PathBuf) -> Result<(), Failure> {
    // Before the first child: an early Ctrl-C must find somebody who cleans up.
    let mut signals = Signals::new().map_err(|error| Failure::io("listen for signals", &error))?;
    let mut servers = Servers::prepare(program)?;
    let outcome = run_in(&mut servers, args, &mut signals).await;
    servers.stop().await;
    outcome
}

async fn run_in(servers: &mut Servers, args: &SandboxOptions, signals: &mut Signals) -> Result<(), Failure> {
    let start = async {
        servers.start().await?;
        Ok::<_, Failure>(start_proxy(&servers.primary_url(), args.listen, args.metrics).await?)
    };
    let proxy = tokio::select! {
        () = signals.next() => return Ok(()),
        proxy = start => proxy?,
    };
    guide::print(&proxy, servers);
    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        failure = servers.first_to_end() => Err(failure),
    };
    guide::say("stopping");
    proxy.stop.await;
    outcome
}

/// The proxy in this process, until `stop` is awaited.
struct RunningProxy {
    /// Where it listens (the real port, where 0 was asked for).
    listen: SocketAddr,
    /// Where `/metrics` is.
    metrics: SocketAddr,
    /// Drains and stops it.
    stop: Pin<Box<dyn Future<Output = ()>>>,
}

/// Starts the proxy in front of `upstream`.
async fn start_proxy(upstream: &str, listen: SocketAddr, metrics: SocketAddr) -> nearhit::error::Result<RunningProxy> {
    let proxy = nearhit::Proxy::builder()
        .upstream(upstream)
        .reads(nearhit::config::Reads::PreferReplica)
        .listen(&listen.to_string())
        .metrics(metrics)
        .process_metrics(true)
        .start()
        .await?;
    let bound = proxy.listening().iter().find_map(|listen| match listen {
        nearhit::config::Listen::Tcp(addr) => Some(*addr),
        nearhit::config::Listen::Unix { .. } => None,
    });
    Ok(RunningProxy {
        listen: bound.unwrap_or(listen),
        metrics: proxy.metrics_addr().unwrap_or(metrics),
        stop: Box::pin(proxy.shutdown(DRAIN)),
    })
}

fn must_be_free(addr: SocketAddr) -> Result<(), Failure> {
    match TcpListener::bind(addr) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(Failure::new(
            exit::CANNOT_BIND,
            format!("{addr} is already in use: stop what listens there, or choose another address with --listen"),
        )),
        Err(error) => Err(Failure::new(exit::CANNOT_BIND, format!("listen on {addr}: {error}"))),
    }
}

/// The named server, or the first of the usual ones that runs.
pub(super) fn find_server(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let named = named.or_else(|| {
        std::env::var_os("REDIS_SERVER")
            .filter(|name| !name.is_empty())
            .map(PathBuf::from)
    });
    if let Some(named) = named {
        let message = format!("{} is no Redis server that runs here", named.display());
        return runs(&named)
            .then_some(named)
            .ok_or_else(|| Failure::new(NO_SERVER, message));
    }
    let usual = ["redis-server", "valkey-server"].map(PathBuf::from);
    usual
        .into_iter()
        .find(|program| runs(program))
        .ok_or_else(|| Failure::new(NO_SERVER, guide::HOW_TO_INSTALL))
}

fn runs(program: &Path) -> bool {
    let output = std::process::Command::new(program)
        .arg("--version")
        .stdin(std::process::Stdio::null())
        .output();
    output.is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearhit::error::Side;

    #[test]
    fn a_taken_address_is_one_clear_line_and_status_73() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        let failure = must_be_free(addr).unwrap_err();
        assert_eq!(failure.status, 73);
        assert!(
            failure.message.starts_with(&format!("{addr} is already in use")),
            "{}",
            failure.message
        );
        assert_eq!(failure.message.lines().count(), 1);
    }

    #[test]
    fn a_server_that_is_not_there_is_status_69_and_names_it() {
        let failure = find_server(Some("/nowhere/redis-server".into())).unwrap_err();
        assert_eq!(failure.status, 69);
        assert!(failure.message.contains("/nowhere/redis-server"));
    }

    #[test]
    fn a_bind_error_of_the_proxy_keeps_its_status() {
        let error = Error::new(Side::Config, Kind::Bind, "listen on 127.0.0.1:1: taken");
        assert_eq!(Failure::from(error).status, 73);
    }
}
