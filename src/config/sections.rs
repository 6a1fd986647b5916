//! The settings, one row each: name, type, default, range, help.
//!
//! A row's doc comment is also its text in `--help` and in the README's table. Ranges marked "chosen" keep typing
//! errors out; they are not measured limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::row::section;
use super::{
    AdminCommand, Admission, ByteSize, ClientName, HttpPath, InvalidationMode, Listen, LogFormat, LogLevel, Secret,
    UpstreamUrl,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86400);

section! {
    /// The clients' side: where nearhit listens and how many it serves.
    Server "server" (config => config.server) {
        /// Addresses clients connect to: `ip:port`, `[::1]:6380` or `unix:///run/nearhit.sock?mode=0660`.
        listen: Vec<Listen> = vec![Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 6380)))];
        /// Worker threads; `0` = one per core this process may use.
        threads: usize = 0, in 0..=1024;
        /// Clients served at once; the next one gets Redis' "max number of clients reached".
        max_clients: usize = 10_000, in 1..=1_000_000;
        /// Idle time after which the kernel probes a client's connection; `0s` = never. Redis' default.
        tcp_keepalive: Duration = Duration::from_secs(300), in Duration::ZERO..=DAY;
        /// Connections the kernel may queue before they are accepted; `net.core.somaxconn` limits it further.
        tcp_backlog: u32 = 511, in 1..=65535;
        /// On SIGTERM, how long clients may finish what they started before they are cut off.
        drain_timeout: Duration = Duration::from_secs(30), in Duration::ZERO..=DAY;
    }
    with {
        /// `[server.limits]`: protects the process from one bad client.
        limits: Limits,
    }
}

section! {
    /// Limits that protect the process from one bad client.
    Limits "server.limits" (config => config.server.limits) {
        /// Largest single argument of a request; Redis' `proto-max-bulk-len`.
        max_bulk: ByteSize = ByteSize::mib(512), in ByteSize::kib(1)..=ByteSize::gib(4);
        /// Most arguments in one request.
        max_args: usize = 2_147_483_647, in 1..=2_147_483_647;
        /// Longest inline request, the kind people type into telnet.
        max_inline: ByteSize = ByteSize::kib(64), in ByteSize::new(64)..=ByteSize::mib(64);
        /// Deepest nesting accepted in a reply from the server; scripts can return almost 8,000 levels.
        max_reply_depth: usize = 16_384, in 8..=1_000_000;
        /// Bytes of one unfinished request before its client is closed; Redis' `client-query-buffer-limit`.
        client_query_buffer: ByteSize = ByteSize::gib(1), in ByteSize::kib(64)..=ByteSize::gib(64);
        /// Unread reply bytes of one client before nearhit stops reading its requests.
        client_output_buffer: ByteSize = ByteSize::mib(64), in ByteSize::kib(16)..=ByteSize::gib(64);
        /// Unanswered requests of one client before nearhit stops reading more of them.
        pipeline_depth: usize = 100_000, in 1..=10_000_000;
    }
}

section! {
    /// The Redis side.
    Upstream "upstream" (config => config.upstream) {
        /// The server: `redis://[user[:password]@]host[:port][/db]` or `unix:///path[?db=n]`.
        url: UpstreamUrl = UpstreamUrl::default();
        /// User to authenticate as; `""` = the default user.
        username: String = String::new();
        /// Password of that user. `password_file` keeps it out of files, process lists and shell histories.
        password: Secret = Secret::default();
        /// File that holds the password; `""` = none. A line end at its end is ignored.
        password_file: Option<PathBuf> = None;
        /// Name of nearhit's connections in the server's `CLIENT LIST`; `""` = none.
        client_name: ClientName = ClientName::default();
        /// Most connections held for one client each (`MULTI`, blocking commands, `SUBSCRIBE`).
        pinned_max: usize = 1000, in 1..=1_000_000;
        /// How long one connection attempt may take, name resolution and handshake included.
        connect_timeout: Duration = Duration::from_secs(2), in Duration::from_millis(1)..=HOUR;
        /// How long the server may take to answer; `0s` = forever. Blocking commands add their own timeout.
        command_timeout: Duration = Duration::from_secs(5), in Duration::ZERO..=DAY;
    }
}

section! {
    /// What clients may learn about the proxy between them and the server.
    Facade "facade" (config => config.facade) {
        /// Append a `# Proxy` section to the replies of `INFO`.
        info_section: bool = true;
        /// Name of nearhit's own command; `""` = none. Rename it when a server module owns the word.
        admin_command: AdminCommand = AdminCommand::default();
    }
}

section! {
    /// The near-cache.
    Cache "cache" (config => config.cache) {
        /// Answer hot keys from memory; `false` = everything goes to the server.
        enabled: bool = true;
        /// Memory for cached replies, keys and bookkeeping included.
        max_memory: ByteSize = ByteSize::mib(256), in ByteSize::kib(64)..=ByteSize::new(ByteSize::gib(1).bytes() * 16384);
        /// Larger replies are not cached.
        max_entry: ByteSize = ByteSize::mib(1), in ByteSize::new(64)..=ByteSize::gib(4);
        /// Longest life of an entry, even while invalidation works; `0s` = no bound.
        max_entry_ttl: Duration = MINUTE, in Duration::ZERO..=Duration::from_secs(365 * 86400);
        /// Which replies are stored: `second-read` (keys read twice within `admission_window`) or `always`.
        admission: Admission = Admission::SecondRead;
        /// How long a first read is remembered, waiting for the second one.
        admission_window: Duration = MINUTE, in Duration::from_millis(1)..=DAY;
        /// How long "no such key" is remembered; `0s` = not at all.
        negative_ttl: Duration = SECOND, in Duration::ZERO..=DAY;
    }
}

section! {
    /// How the near-cache learns that a key changed.
    Invalidation "invalidation" (config => config.invalidation) {
        /// `auto` (= `tracking`), `tracking` (RESP3 push), `redirect` (to a RESP2 connection) or `off` (nothing is cached).
        mode: InvalidationMode = InvalidationMode::Auto;
        /// Hits stop when the server has given no sign of life for this long.
        max_staleness: Duration = SECOND, in Duration::from_millis(10)..=HOUR;
    }
}

section! {
    /// What Prometheus reads.
    Metrics "metrics" (config => config.metrics) {
        /// Address of the metrics page, `ip:port`; `""` = off.
        listen: Option<SocketAddr> = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9381)));
        /// Path of the metrics page.
        path: HttpPath = HttpPath::default();
    }
}

section! {
    /// What is written to stderr.
    Log "log" (config => config.log) {
        /// `error`, `warn`, `info`, `debug`, `trace` or `off`; also per module, as in `nearhit=debug,tokio=warn`.
        level: LogLevel = LogLevel::default();
        /// `text`, `json`, or `auto`: text on a terminal, JSON otherwise.
        format: LogFormat = LogFormat::Auto;
    }
}

impl Server {
    /// How many workers `threads` means on this machine; at least 1.
    pub fn worker_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}
