//! The settings, one row each: name, type, default, range, help.
//!
//! A row's doc comment is also its text in `--help` and in the README's table. Ranges marked "chosen" keep typing
//! errors out; they are not measured limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::row::section;
use super::{
    AdminCommand, Admission, ByteSize, CacheMode, ClientName, EvictionKind, HttpPath, InvalidationMode, Listen,
    LogFormat, LogLevel, MonitorMode, OnLoss, PartitionBy, PresentAs, Reads, Secret, UpstreamUrl,
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
        /// Listen on addresses other machines reach although nobody is asked who they are; without it such an address is refused.
        allow_unprotected: bool = false;
        /// Clients must AUTH before anything else, even where nearhit has credentials of its own or the server wants none.
        require_auth: bool = false;
        /// Worker threads; `0` = one per core this process may use.
        threads: usize = 0, in 0..=1024;
        /// Clients served at once; the next one gets Redis' "max number of clients reached".
        max_clients: usize = 10_000, in 1..=1_000_000;
        /// Clients that send nothing and read nothing for so long are closed, unless they wait for an element or listen;
        /// `0s` = never. Redis' `timeout`.
        idle_timeout: Duration = Duration::ZERO, in Duration::ZERO..=DAY;
        /// The same for clients that have not authenticated although they must; `0s` = never. Redis has no such limit.
        auth_timeout: Duration = MINUTE, in Duration::ZERO..=DAY;
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
        /// Unread reply bytes held for one client at most. From half of it on no more of its requests are handled, and the
        /// server's side waits.
        client_output_buffer: ByteSize = ByteSize::mib(64), in ByteSize::kib(16)..=ByteSize::gib(64);
        /// Unanswered requests of one client before nearhit stops reading more of them.
        pipeline_depth: usize = 100_000, in 1..=10_000_000;
    }
}

section! {
    /// The Redis side.
    Upstream "upstream" (config => config.upstream) {
        /// The server: `redis://[user[:password]@]host[:port][/db]` or `unix:///path[?db=n]`. Of several nodes,
        /// `redis://host[:port],host[:port]/db`, the one that says it is the primary; or whoever sentinels say it is:
        /// `redis+sentinel://[user[:password]@]host[:port][,host[:port]...]/group[/db]`, user and password being the server's.
        /// Before a cluster, some of its nodes: `redis+cluster://[user[:password]@]host[:port][,host[:port]...]`. With `rediss` in
        /// place of `redis`, all nodes and sentinels are spoken to in TLS.
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
        /// Most connections opened a second to each node, by all clients together, once `pinned_max` and some more were opened at
        /// once; others wait for up to `connect_timeout`, then clients are told. Shared connections come before those held for
        /// one client. `0` = no limit.
        connect_rate: usize = 20, in 0..=100_000;
        /// How long one connection attempt may take, name resolution and handshake included.
        connect_timeout: Duration = Duration::from_secs(2), in Duration::from_millis(1)..=HOUR;
        /// How often the host names of `url` are looked up again. When one leads no more to where nearhit is connected, nearhit
        /// follows: as to another master, but what is on its way is answered first. `0s` = only when connecting.
        resolve_interval: Duration = Duration::from_secs(5), in Duration::ZERO..=HOUR;
        /// How long the server may take to answer; `0s` = forever. Blocking commands add their own timeout.
        command_timeout: Duration = Duration::from_secs(5), in Duration::ZERO..=DAY;
        /// How long the connections and cached replies of a user outlive the user's last client, and unused connections in databases other than 0 their last request. Chosen, not measured.
        idle_identity_timeout: Duration = MINUTE, in Duration::ZERO..=DAY;
    }
    with {
        /// `[upstream.tls]`: whom to believe, and what to show, where the URL says TLS.
        tls: UpstreamTls,
    }
}

section! {
    /// TLS to the server, where `upstream.url` begins with `rediss`.
    UpstreamTls "upstream.tls" (config => config.upstream.tls) {
        /// File with the certificates of the authorities that are believed, in PEM; `""` = those of the system.
        ca_file: Option<PathBuf> = None;
        /// File with the certificate for servers that want one of their clients (`tls-auth-clients`), in PEM, followed by those
        /// that lead to its authority; `""` = none.
        cert_file: Option<PathBuf> = None;
        /// File with its key, in PEM and without a passphrase; `""` = none.
        key_file: Option<PathBuf> = None;
        /// Whom the certificates of all nodes must be for; `""` = the host or address that is connected to, as the URL, the
        /// sentinels or the cluster say it.
        server_name: String = String::new();
        /// Believe any certificate. Whoever can get between nearhit and the server can then read and change everything.
        insecure_skip_verify: bool = false;
    }
}

section! {
    /// The sentinels of a `redis+sentinel://` URL: to authenticate at them.
    Sentinel "sentinel" (config => config.sentinel) {
        /// User to authenticate as at the sentinels; `""` = the default user.
        username: String = String::new();
        /// Password of that user; `""` = the sentinels want none.
        password: Secret = Secret::default();
        /// File that holds the password; `""` = none. A line end at its end is ignored.
        password_file: Option<PathBuf> = None;
    }
}

section! {
    /// Which node is asked what memory does not answer.
    Routing "routing" (config => config.routing) {
        /// `master`, `prefer-replica`, `replica` (never the master, but for what was just written here) or `nearest`; replicas
        /// are found by asking the master. `READONLY` and `READWRITE` change it for one connection, policies for some keys.
        reads: Reads = Reads::Master;
        /// A replica that lacks what the master acknowledged longer ago is not read from.
        replica_max_lag: Duration = SECOND, in Duration::from_millis(20)..=HOUR;
        /// Nor is one that lacks more bytes of the replication stream.
        replica_max_lag_bytes: ByteSize = ByteSize::mib(16), in ByteSize::kib(1)..=ByteSize::gib(64);
        /// Read from replicas whatever they lack while the master cannot be reached. What was written through this nearhit may
        /// then be missing from what is read.
        stale_reads: bool = false;
        /// The availability zone nearhit is in; `nearest` asks nodes of the same zone first. `""` = none.
        zone: String = String::new();
        /// The zones of nodes that do not tell theirs (Valkey's `availability-zone`), as in `["10.0.0.2:6379=eu-1a"]`.
        zones: Vec<String> = Vec::new();
        /// Where nodes of a cluster are reached that announce themselves elsewhere (behind NAT, in containers), as in
        /// `["172.17.0.2:6379=10.0.0.2:7001"]`: what they announce, and what nearhit connects to.
        addresses: Vec<String> = Vec::new();
        /// Before a cluster, cut `MSET`, `DEL` and `UNLINK` of keys in several slots by slot. `false`: they are refused as the
        /// cluster itself refuses them, because what is cut does not happen all at once.
        split_writes: bool = true;
    }
}

section! {
    /// What clients may learn about the proxy between them and the server.
    Facade "facade" (config => config.facade) {
        /// Append a `# Proxy` section to the replies of `INFO`.
        info_section: bool = true;
        /// What clients see of the server: `standalone` (no replicas, no cluster) or `transparent` (what it says itself).
        present_as: PresentAs = PresentAs::Standalone;
        /// What `MONITOR` shows: `local` (what goes through this nearhit), `upstream` (what the server shows) or `deny`.
        monitor: MonitorMode = MonitorMode::Local;
        /// Name of nearhit's own command; `""` = none. Rename it when a server module owns the word.
        admin_command: AdminCommand = AdminCommand::default();
    }
}

section! {
    /// Subscribers. All of a worker share one subscription a channel, on one connection to the server.
    PubSub "pubsub" (config => config.pubsub) {
        /// When that connection is lost, messages are: `close` closes the subscribers, whose libraries reconnect and know it;
        /// `resubscribe` confirms each subscription once more when it is back, for clients that take that as the news it is.
        on_loss: OnLoss = OnLoss::Close;
        /// A message is passed on once nearhit knows what changed before it was published, so that whoever of the same user
        /// hears it reads nothing older through this nearhit. Costs a round trip to the server.
        causal: bool = false;
        /// Unread bytes at which a subscriber is closed; `0` = no limit. Redis' hard limit for `pubsub` clients.
        output_buffer_hard: ByteSize = ByteSize::mib(32), in ByteSize::new(0)..=ByteSize::gib(64);
        /// Unread bytes at which a subscriber is closed if it stays there for `output_buffer_soft_time`; `0` = no limit.
        output_buffer_soft: ByteSize = ByteSize::mib(8), in ByteSize::new(0)..=ByteSize::gib(64);
        /// How long a subscriber may stay at or above `output_buffer_soft`.
        output_buffer_soft_time: Duration = MINUTE, in Duration::ZERO..=DAY;
    }
}

section! {
    /// The near-cache.
    Cache "cache" (config => config.cache) {
        /// `serve` (answer hot keys from memory), `shadow` (answer nothing, but count what memory would have answered, and
        /// whether that is what the server says: `PROXY SHADOW`) or `off` (everything goes to the server).
        mode: CacheMode = CacheMode::Serve;
        /// Memory for cached replies, keys and bookkeeping included.
        max_memory: ByteSize = ByteSize::mib(256), in ByteSize::kib(64)..=ByteSize::new(ByteSize::gib(1).bytes() * 16384);
        /// Larger replies are not cached, nor are those larger than an eighth of `max_memory`.
        max_entry: ByteSize = ByteSize::mib(1), in ByteSize::new(64)..=ByteSize::gib(4);
        /// Replies longer than this are kept compressed (LZ4), if that saves an eighth: more of them fit, and each hit takes
        /// the time to unpack it; `"0"` = none are.
        compress_above: ByteSize = ByteSize::default(), in ByteSize::default()..=ByteSize::gib(4);
        /// Longest life of an entry, even while invalidation works; `0s` = no bound.
        max_entry_ttl: Duration = MINUTE, in Duration::ZERO..=Duration::from_secs(365 * 86400);
        /// Which replies are stored: `second-read` (keys read twice within `admission_window`, and not written about as often
        /// as they are read) or `always`.
        admission: Admission = Admission::SecondRead;
        /// How long a first read is remembered, waiting for the second one.
        admission_window: Duration = MINUTE, in Duration::from_millis(1)..=DAY;
        /// Who leaves when memory is short: `worth` (few hits for its bytes, and long ago), `lru`, `lfu`, `fifo` or `s3fifo`.
        eviction: EvictionKind = EvictionKind::Worth;
        /// How long "no such key" is remembered; `0s` = not at all.
        negative_ttl: Duration = SECOND, in Duration::ZERO..=DAY;
        /// The same for reads of whole hashes on servers where single fields expire (Redis 7.4, Valkey 9), which announce it
        /// late; policies with `hash_field_ttl = false` are free of it.
        hash_max_ttl: Duration = SECOND, in Duration::ZERO..=DAY;
        /// How often the server is told which keys were read from memory (`TOUCH`), so that it does not evict them for want
        /// of readers; `0s` = never.
        touch_interval: Duration = Duration::from_secs(5), in Duration::ZERO..=HOUR;
        /// Who shares cached replies: `user` (each user reads what Redis let that user read) or `none` (all share; say so
        /// only if all users may read the same keys).
        partition_by: PartitionBy = PartitionBy::User;
        /// Each client sees keys change in the order in which they changed: who read a new value of one key reads no older
        /// state of another. Costs hits while anything of the client is on its way to the server, and a moment after.
        strict_sessions: bool = false;
    }
}

section! {
    /// How the near-cache learns that a key changed.
    Invalidation "invalidation" (config => config.invalidation) {
        /// `tracking` (RESP3 push), `redirect` (to a RESP2 connection), `broadcast` (tracking by `prefixes`), `keyspace`
        /// (notifications), `ttl` (by age only), `off` (nothing is cached), or `auto`: the first of these that works. What
        /// each promises: `docs/promises.md`.
        mode: InvalidationMode = InvalidationMode::Auto;
        /// Hits stop when the server has given no sign of life for this long.
        max_staleness: Duration = SECOND, in Duration::from_millis(10)..=HOUR;
        /// A pub/sub channel on which applications say what they changed, as in `{"op":"SET","key":"k"}`; `""` = none.
        channel: String = String::new();
        /// How long nothing is cached after the connection of a `SWAPDB`, `FLUSHALL` or their like was lost, where nearhit may not
        /// `CLIENT KILL` it to be sure that the command does not run later. Redis' default `tcp-keepalive`.
        fence_hold: Duration = Duration::from_secs(300), in Duration::ZERO..=DAY;
        /// Beginnings of the keys that `broadcast` caches; `auto` uses that mode only if there are some. Every write is
        /// compared with each of them, so they should be few.
        prefixes: Vec<String> = Vec::new();
        /// Longest life of an entry in mode `keyspace`: no notification tells of FLUSHALL, FLUSHDB and SWAPDB.
        keyspace_ttl: Duration = Duration::from_secs(5), in Duration::from_millis(10)..=HOUR;
        /// Longest life of an entry in mode `ttl`; `auto` uses that mode only if this is more than `0s`.
        fallback_ttl: Duration = Duration::ZERO, in Duration::ZERO..=MINUTE;
        /// How often a key is written and deleted at the server to see that its invalidation comes; `0s` = never.
        canary_interval: Duration = Duration::from_secs(5), in Duration::ZERO..=DAY;
        /// That key, which nobody may use for anything else; `{id}` is a number of this process.
        canary_key: String = "__nearhit:canary:{id}".to_owned();
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
