//! nearhit as a library: started, used without a socket, stopped.

mod support;

use nearhit::config::{Admission, Config, Listen};
use nearhit::proxy::Builder;
use nearhit::{Policy, Proxy};
use redis::AsyncTypedCommands;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo};
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;
use support::{RedisServer, Resp, SOON, eventually, free_addr, temp_dir, wait_for};

const LIMIT: Duration = Duration::from_secs(5);

/// Runs `work` on a runtime of its own; `threads` 0 is the current one only.
fn on(threads: usize, work: impl Future<Output = ()>) {
    let mut builder = match threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 0 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().expect("a runtime").block_on(work);
}

/// A proxy that caches what is read twice at once and listens nowhere.
fn builder(upstream: &str) -> Builder {
    let mut config = Config::default();
    config.server.listen.clear();
    config.metrics.listen = None;
    config.cache.admission = Admission::Always;
    Proxy::builder().config(config).upstream(upstream)
}

async fn connect(proxy: &Proxy, version: ProtocolVersion) -> MultiplexedConnection {
    let info = RedisConnectionInfo::default().set_protocol(version);
    let (redis, driver) =
        MultiplexedConnection::new_with_config(&info, proxy.connect(), AsyncConnectionConfig::default())
            .await
            .expect("a connection");
    tokio::spawn(driver);
    redis
}

async fn tracking(proxy: &Proxy) {
    let on = async {
        while !proxy.cache().stats().tracking {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, on).await.expect("tracking is on");
}

fn tcp(proxy: &Proxy) -> SocketAddr {
    match proxy.listening() {
        [Listen::Tcp(addr)] => *addr,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_redis_crate_talks_to_it_without_a_socket_on_any_runtime() {
    let server = RedisServer::start();
    for (threads, version) in [
        (0, ProtocolVersion::RESP2),
        (0, ProtocolVersion::RESP3),
        (2, ProtocolVersion::RESP3),
    ] {
        on(threads, async {
            let proxy = builder(&server.url()).start().await.expect("start");
            tracking(&proxy).await;
            let mut redis = connect(&proxy, version).await;
            redis.set("k", "v").await.expect("SET");
            for _ in 0..10 {
                assert_eq!(redis.get("k").await.expect("GET").as_deref(), Some("v"));
            }
            let stats = proxy.cache().stats();
            assert_eq!((stats.hits, stats.misses, stats.entries), (9, 1, 1), "{stats:?}");
            let (a, b): (String, i64) = redis::pipe()
                .atomic()
                .get("k")
                .incr("n", 1)
                .query_async(&mut redis)
                .await
                .expect("EXEC");
            assert_eq!((a.as_str(), b > 0), ("v", true));
            server.cmd(&["SET", "k", "w"]);
            let seen = async { while redis.get("k").await.expect("GET").as_deref() != Some("w") {} };
            tokio::time::timeout(SOON, seen)
                .await
                .expect("the foreign write is seen");
            assert!(proxy.cache().stats().invalidations >= 1);
            proxy.shutdown(LIMIT).await;
            assert!(redis.get("k").await.is_err(), "it goes on after its end");
        });
    }
}

#[test]
fn two_proxies_in_one_process_do_not_mix() {
    let servers = [RedisServer::start(), RedisServer::start()];
    on(2, async {
        let listening = |server: &RedisServer| {
            builder(&server.url())
                .listen(&free_addr().to_string())
                .metrics(SocketAddr::from(([127, 0, 0, 1], 0)))
        };
        let one = listening(&servers[0]).start().await.expect("start");
        let two = listening(&servers[1])
            .policy(Policy::new("none", "*").cache(false))
            .start()
            .await
            .expect("start");
        for (proxy, value) in [(&one, "1"), (&two, "2")] {
            tracking(proxy).await;
            assert_eq!(Resp::connect(tcp(proxy)).line(&format!("SET k {value}")), "OK");
        }
        for (proxy, value, hits) in [(&one, "1", 4), (&two, "2", 0)] {
            let mut client = Resp::connect(tcp(proxy));
            for _ in 0..5 {
                assert_eq!(client.line("GET k"), value);
            }
            assert_eq!(proxy.cache().stats().hits, hits);
            let page = support::http::get(proxy.metrics_addr().expect("metrics"), "/metrics").1;
            let shown = support::http::sample(&page, "nearhit_cache_requests_total", &["result=\"hit\""]);
            assert_eq!(shown, Some(f64::from(u32::try_from(hits).expect("few"))));
        }
        let addr = tcp(&one);
        one.shutdown(LIMIT).await;
        assert!(Resp::try_connect(addr).is_err());
        assert_eq!(Resp::connect(tcp(&two)).line("GET k"), "2");
    });
}

#[test]
fn a_stop_frees_the_ports_at_once_and_so_does_a_drop() {
    let server = RedisServer::start();
    on(0, async {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let proxy = builder(&server.url())
            .listen("127.0.0.1:0")
            .metrics(any)
            .start()
            .await
            .expect("start");
        let (addr, metrics) = (tcp(&proxy), proxy.metrics_addr().expect("metrics"));
        let again = || builder(&server.url()).listen(&addr.to_string()).metrics(metrics);
        let taken = again().start().await.expect_err("the port is taken");
        assert!(taken.to_string().starts_with(&format!("listen on {addr}: ")), "{taken}");
        let mut client = Resp::connect(addr);
        client.line("PING");
        proxy.shutdown(LIMIT).await;
        client.expect_closed();
        drop(again().start().await.expect("the ports are free after shutdown"));
        let proxy = again().start().await.expect("the ports are free after a drop");
        assert_eq!(Resp::connect(addr).line("PING"), "PONG");
        proxy.shutdown(LIMIT).await;
    });
}

#[test]
fn it_may_be_started_and_dropped_by_a_program_without_a_runtime_of_its_own() {
    let server = RedisServer::start();
    let proxy = std::sync::OnceLock::new();
    // No port that the kernel hands out: another test might be given it a moment after it is free.
    let addr = free_addr();
    on(0, async {
        let started = builder(&server.url())
            .listen(&addr.to_string())
            .start()
            .await
            .expect("start");
        proxy.set(started).expect("once");
    });
    // The runtime that started it is gone.
    assert_eq!(Resp::connect(addr).line("SET k v"), "OK");
    drop(proxy);
    assert!(Resp::try_connect(addr).is_err());
}

#[test]
fn a_unix_socket_has_its_mode_replaces_a_stale_one_and_is_removed() {
    let server = RedisServer::start();
    let dir = temp_dir();
    let path = dir.path().join("nearhit.sock");
    drop(UnixListener::bind(&path).expect("a stale socket"));
    on(0, async {
        let listen = format!("unix://{}?mode=0620", path.display());
        let proxy = builder(&server.url()).listen(&listen).start().await.expect("start");
        let mode = path.metadata().expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o620);
        let second = builder(&server.url())
            .listen(&listen)
            .start()
            .await
            .expect_err("it is in use");
        assert!(second.to_string().starts_with("listen on unix://"), "{second}");
        let mut stream = tokio::net::UnixStream::connect(&path).await.expect("connect");
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"ECHO hi\r\n")
            .await
            .expect("send");
        let mut reply = [0; 8];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut reply)
            .await
            .expect("a reply");
        assert_eq!(&reply, b"$2\r\nhi\r\n");
        proxy.shutdown(LIMIT).await;
        assert!(!path.exists());
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
    });
}

#[test]
fn redis_may_be_behind_a_unix_socket() {
    let dir = temp_dir();
    let path = dir.path().join("redis.sock");
    let server = RedisServer::builder()
        .arg("--unixsocket", &path.display().to_string())
        .start();
    wait_for("the server's socket", SOON, || UnixStream::connect(&path).is_ok());
    on(0, async {
        let proxy = builder(&format!("unix://{}?db=3", path.display()))
            .start()
            .await
            .expect("start");
        tracking(&proxy).await;
        let mut redis = connect(&proxy, ProtocolVersion::RESP3).await;
        redis.set("k", "v").await.expect("SET");
        for _ in 0..3 {
            assert_eq!(redis.get("k").await.expect("GET").as_deref(), Some("v"));
        }
        assert_eq!(proxy.cache().stats().hits, 2);
        proxy.shutdown(LIMIT).await;
    });
    let mut client = server.client();
    client.line("SELECT 3");
    assert_eq!(client.line("GET k"), "v");
}

#[test]
fn a_wrong_setting_is_said_at_the_start() {
    on(0, async {
        for (wrong, wanted) in [
            (Proxy::builder().upstream("http://x"), "unknown scheme 'http://'"),
            (Proxy::builder().listen("nonsense"), "'nonsense' is not an address"),
        ] {
            let error = wrong.start().await.expect_err("it is wrong");
            assert_eq!(error.side(), nearhit::error::Side::Config);
            assert!(error.to_string().contains(wanted), "{error}");
        }
    });
}

#[test]
fn a_stream_that_is_dropped_ends_its_session() {
    let server = RedisServer::start();
    on(0, async {
        let proxy = builder(&server.url()).start().await.expect("start");
        let mut redis = connect(&proxy, ProtocolVersion::RESP2).await;
        let pop = redis.blpop("l", 0.0);
        assert!(tokio::time::timeout(Duration::from_millis(100), pop).await.is_err());
        let (mut stream, mut seen) = (proxy.connect(), false);
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"BLPOP gone 0\r\n")
            .await
            .expect("send");
        while !seen {
            tokio::task::yield_now().await;
            seen = server.info("blocked_clients") == "2";
        }
        drop(stream);
        assert!(eventually(SOON, || server.info("blocked_clients") == "1"));
    });
}
