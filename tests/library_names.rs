//! Host names of servers: who says where they lead, and that nearhit follows when they lead elsewhere.

mod support;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nearhit::Proxy;
use nearhit::config::{Admission, Config, Listen};
use nearhit::upstream::{Resolve, Resolving};
use parking_lot::Mutex;
use support::{RedisServer, Resp, SOON, http, wait_for};

/// Where the one name there is leads; `None`: nobody can say.
#[derive(Clone, Default)]
struct Dns {
    leads_to: Arc<Mutex<Option<Vec<SocketAddr>>>>,
    asked: Arc<AtomicU64>,
}

impl Dns {
    fn lead_to(&self, servers: &[&RedisServer]) {
        *self.leads_to.lock() = Some(servers.iter().map(|server| server.addr()).collect());
    }

    /// Waits until it was asked so many times from now on.
    fn is_asked(&self, times: u64) {
        let before = self.asked.load(Ordering::SeqCst);
        wait_for("the name to be looked up", SOON, || {
            self.asked.load(Ordering::SeqCst) >= before + times
        });
    }
}

impl Resolve for Dns {
    fn resolve<'a>(&'a self, host: &'a str, _port: u16) -> Resolving<'a> {
        assert_eq!(host, "cache.internal");
        let leads_to = self.leads_to.lock().clone();
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { leads_to.ok_or_else(|| io::Error::other("SERVFAIL")) })
    }
}

struct Running {
    proxy: Proxy,
    dns: Dns,
}

impl Running {
    /// nearhit in front of `cache.internal`, which leads to `server`. It looks where ten times a second and more.
    fn at(server: &RedisServer) -> Self {
        let dns = Dns::default();
        dns.lead_to(&[server]);
        let mut config = Config::default();
        config.server.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        config.metrics.listen = Some("127.0.0.1:0".parse().expect("an address"));
        config.cache.admission = Admission::Always;
        config.upstream.resolve_interval = Duration::from_millis(50);
        let builder = Proxy::builder().config(config).upstream("redis://cache.internal");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let proxy = runtime
            .block_on(builder.resolver(dns.clone()).start())
            .expect("a proxy");
        Self { proxy, dns }
    }

    fn connect(&self) -> Resp {
        match self.proxy.listening() {
            [Listen::Tcp(address)] => Resp::connect(*address),
            other => panic!("{other:?}"),
        }
    }

    fn moved(&self) -> f64 {
        let (status, page) = http::get(self.proxy.metrics_addr().expect("an address"), "/metrics");
        assert_eq!(status, 200, "{page}");
        http::sample(&page, "nearhit_upstream_names_moved_total", &[]).unwrap_or(0.0)
    }

    /// Has the name lead to `server`, and waits until that is known.
    fn move_to(&self, server: &RedisServer) {
        let before = self.moved();
        self.dns.lead_to(&[server]);
        wait_for("the move to be noticed", SOON, || self.moved() > before);
    }
}

/// Two servers that tell themselves apart.
fn servers() -> (RedisServer, RedisServer) {
    let servers = (RedisServer::start(), RedisServer::start());
    servers.0.cmd(&["SET", "k", "first"]);
    servers.1.cmd(&["SET", "k", "second"]);
    servers
}

#[test]
fn nearhit_follows_a_name_that_leads_to_another_server_and_forgets_what_the_first_one_said() {
    let (first, second) = servers();
    let running = Running::at(&first);
    let mut client = running.connect();
    let hits = || running.proxy.cache().stats().hits;
    wait_for("hits", SOON, || client.cmd(&["GET", "k"]) == "first" && hits() > 10);
    running.move_to(&second);
    wait_for("the second server's word", SOON, || {
        client.cmd(&["GET", "k"]) == "second"
    });
    let before = hits();
    wait_for("hits", SOON, || {
        assert_eq!(client.cmd(&["GET", "k"]), "second");
        hits() > before + 10
    });
    assert_eq!(client.cmd(&["SET", "other", "v"]), "OK");
    assert!(first.cmd(&["GET", "other"]).is_nil());
    wait_for("nobody to be left at the first server", SOON, || {
        !first.cmd(&["CLIENT", "LIST"]).text().contains("name=nearhit")
    });
    assert_eq!(running.moved(), 1.0);
}

#[test]
fn what_is_on_its_way_when_the_name_moves_is_answered() {
    let (first, second) = servers();
    let running = Running::at(&first);
    let mut waiting: Vec<_> = (0..4).map(|_| running.connect()).collect();
    for client in &mut waiting {
        assert_eq!(client.cmd(&["PING"]), "PONG");
    }
    first.pause();
    for client in &mut waiting {
        client.send(&["INCR", "count"]);
    }
    running.move_to(&second);
    wait_for("the second server to be asked", SOON, || {
        // Whoever comes before the worker knows of the move waits at the first server.
        let mut other = running.connect();
        other.patience(Duration::from_millis(300)).send(&["INCR", "new"]);
        other.try_reply().is_some_and(|reply| !reply.is_error())
    });
    assert!(second.cmd(&["GET", "new"]).text().parse::<u64>().is_ok());
    first.resume();
    let mut counts: Vec<_> = waiting.iter_mut().map(|client| client.reply().int()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 2, 3, 4], "each once, and none lost");
    for client in &mut waiting {
        assert_eq!(client.cmd(&["GET", "k"]), "second");
    }
}

#[test]
fn a_transaction_goes_on_where_it_began_and_who_would_wait_in_vain_is_told() {
    let (first, second) = servers();
    let running = Running::at(&first);
    let (mut transaction, mut blocked) = (running.connect(), running.connect());
    transaction.lines_ok(&["WATCH k", "MULTI", "INCR count"]);
    blocked.send(&["BLPOP", "list", "0"]);
    wait_for("a client that waits", SOON, || first.info("blocked_clients") == "1");
    running.move_to(&second);
    let told = blocked.try_reply();
    assert!(
        told.as_ref().is_none_or(|reply| reply.is_error_with("UNCERTAIN")),
        "{told:?}"
    );
    assert_eq!(transaction.cmd(&["EXEC"]).items()[0], 1);
    assert_eq!(first.cmd(&["GET", "count"]), "1");
    wait_for("the second server's word", SOON, || {
        transaction.cmd(&["GET", "k"]) == "second"
    });
    transaction.lines_ok(&["MULTI", "INCR count", "EXEC"]);
    assert_eq!(second.cmd(&["GET", "count"]), "1", "the next one");
}

#[test]
fn a_resolver_that_fails_or_finds_more_changes_nothing() {
    let (first, second) = servers();
    let running = Running::at(&first);
    let mut client = running.connect();
    assert_eq!(client.cmd(&["GET", "k"]), "first");
    *running.dns.leads_to.lock() = None;
    running.dns.is_asked(3);
    assert_eq!(client.cmd(&["INCR", "count"]), 1);
    running.dns.lead_to(&[&second, &first]);
    running.dns.is_asked(3);
    assert_eq!(client.cmd(&["INCR", "count"]), 2);
    assert_eq!(running.moved(), 0.0);
    assert_eq!(first.cmd(&["GET", "count"]), "2");
}
