//! Client libraries do the same through nearhit as without it: connect options, every kind of value, errors, pipelines,
//! transactions, WATCH, pub/sub, blocking pops, streams, scripts, scans, many tasks at once, and a restart.
//! The programs are in `tests/clients/`; `make test-clients` installs what they need and runs them, `make test` too
//! where that can be installed.

mod clients_support;
mod support;

use clients_support::{node, python, speaks};

const BOTH: &[&str] = &["RESP2", "RESP3"];

#[test]
#[ignore = "needs deploy/need-clients.sh; make test-clients runs it"]
fn redis_py_cannot_tell_nearhit_from_redis() {
    speaks("redis-py", BOTH, &|| python("python/redis_py.py"));
}

#[test]
#[ignore = "needs deploy/need-clients.sh; make test-clients runs it"]
fn redis_py_asyncio_cannot_tell_nearhit_from_redis() {
    speaks("redis-py asyncio", BOTH, &|| python("python/redis_py_async.py"));
}

#[test]
#[ignore = "needs deploy/need-clients.sh; make test-clients runs it"]
fn ioredis_cannot_tell_nearhit_from_redis() {
    speaks("ioredis", BOTH, &|| node("node/ioredis.cjs"));
}

#[test]
#[ignore = "needs deploy/need-clients.sh; make test-clients runs it"]
fn node_redis_cannot_tell_nearhit_from_redis() {
    speaks("node-redis", BOTH, &|| node("node/node_redis.cjs"));
}
