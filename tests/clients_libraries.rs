//! Client libraries of other languages use nearhit as they would use Redis: pipelines, transactions, pub/sub, blocking
//! pops, scans, scripts, and their own caches. The programs are in `tests/clients/`; `make test-clients` installs what
//! they need and runs them, `make test` too where that can be installed.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::{Nearhit, RedisServer, child, root};

/// Runs one of the programs against an empty server, once for each protocol.
#[track_caller]
fn speaks(program: &Path, script: &str) {
    assert!(
        program.exists(),
        "{} is missing: run deploy/need-clients.sh",
        program.display()
    );
    for protocol in ["2", "3"] {
        let redis = RedisServer::start();
        let proxy = Nearhit::serve(&redis.url());
        let ports = [proxy.addr().port(), redis.port()].map(|port| port.to_string());
        let node = root().join("target/clients/node/node_modules");
        let mut command = if script.ends_with(".py") {
            Command::new(program)
        } else {
            Command::new("node")
        };
        command
            .arg(root().join("tests/clients").join(script))
            .args(ports)
            .arg(protocol)
            .env("NODE_PATH", node);
        let done = child::run(&mut command, Duration::from_secs(60));
        assert_eq!(done.code(), Some(0), "{script}, RESP{protocol}:\n{}", done.output());
        assert_eq!(done.stdout.trim(), "ok", "{script}, RESP{protocol}:\n{}", done.output());
        assert!(proxy.metric("nearhit_cache_requests_total", &["result=\"hit\""]) > 0.0);
    }
}

#[test]
#[ignore = "needs deploy/need-clients.sh; make test-clients runs it"]
fn redis_py_speaks_to_nearhit_as_to_redis() {
    speaks(&root().join("target/clients/python/bin/python"), "python.py");
}

#[test]
#[ignore = "needs deploy/need-clients.sh; make test-clients runs it"]
fn ioredis_speaks_to_nearhit_as_to_redis() {
    speaks(&root().join("target/clients/node/node_modules/ioredis"), "ioredis.cjs");
}

#[test]
#[ignore = "needs deploy/need-clients.sh; make test-clients runs it"]
fn node_redis_speaks_to_nearhit_as_to_redis() {
    speaks(&root().join("target/clients/node/node_modules/redis"), "node_redis.cjs");
}
