//! The library installs nothing global and leaves no thread behind. A process of its own, because that is about one.

mod support;

use nearhit::Proxy;
use std::collections::BTreeMap;
use std::time::Duration;
use support::{RedisServer, Resp, SOON, wait_for};

/// nearhit's threads by name.
fn threads() -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").expect("list threads").flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with("nearhit-") {
            *names.entry(name.trim().to_owned()).or_default() += 1;
        }
    }
    names
}

#[test]
fn nothing_global_is_installed_and_no_thread_stays() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    for ordered in [true, false] {
        let start = Proxy::builder().upstream(&server.url()).listen("127.0.0.1:0").start();
        let proxy = runtime.block_on(start).expect("start");
        let nearhit::config::Listen::Tcp(addr) = proxy.listening()[0].clone() else {
            panic!("no address");
        };
        assert_eq!(Resp::connect(addr).line("SET k v"), "OK");
        wait_for("threads of three kinds", SOON, || threads().len() >= 3);
        if ordered {
            runtime.block_on(proxy.shutdown(Duration::from_secs(5)));
        } else {
            drop(proxy);
        }
        wait_for("the end of all threads", SOON, || threads().is_empty());
        wait_for("nobody at Redis", SOON, || server.info("connected_clients") == "1");
    }
    assert!(!tracing::dispatcher::has_been_set());
    assert!(metrics::set_global_recorder(metrics::NoopRecorder).is_ok());
}
