//! redis-rs does the same through nearhit as without it: its blocking connection, its multiplexed one on tokio, its
//! connection manager, and its own cache.

mod clients_support;
mod support;

use clients_support::{Stage, assert_equal, entry};
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::caching::CacheConfig;
use redis::streams::{StreamAutoClaimOptions, StreamAutoClaimReply, StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, AsyncConnectionConfig, Client, Commands, Connection, Script};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;
use support::{SOON, eventually, wait_for};

const LIMIT: Duration = Duration::from_secs(20);
const DOUBLE: &str = "local v = redis.call('GET', KEYS[1]) redis.call('SET', KEYS[1], v * 2) return v * 2";

/// A program in the middle of a stage, and what it printed so far.
struct Program<'a> {
    stage: &'a mut Stage,
    protocol: u8,
    lines: Vec<String>,
}

impl Program<'_> {
    fn say(&mut self, what: &str, value: impl Debug) {
        let line = format!("{what}: {value:?}").replace(&format!(":{}", self.stage.port()), ":PORT");
        self.lines.push(line);
    }

    fn url(&self, credentials: &str, db: &str) -> Client {
        let (port, protocol) = (self.stage.port(), self.protocol);
        let url = format!("redis://{credentials}127.0.0.1:{port}/{db}?protocol=resp{protocol}");
        Client::open(url).expect("a URL")
    }

    fn near(&self) -> Connection {
        let connection = self.url("", "").get_connection().expect("connect");
        connection.set_read_timeout(Some(LIMIT)).expect("set a limit");
        connection
    }

    fn behind(&self) -> Connection {
        let url = format!("redis://127.0.0.1:{}", self.stage.behind());
        Client::open(url).expect("a URL").get_connection().expect("connect")
    }

    async fn multiplexed(&self, config: AsyncConnectionConfig) -> MultiplexedConnection {
        let config = config.set_response_timeout(Some(LIMIT));
        let client = self.url("", "");
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .expect("connect")
    }
}

fn blocked(behind: &mut Connection) -> bool {
    let info: String = redis::cmd("INFO").arg("clients").query(behind).expect("INFO");
    info.contains("blocked_clients:1")
}

fn options(program: &mut Program<'_>) {
    let mut third = program.url("", "3").get_connection().expect("connect");
    let _: () = third.set("where", "three").expect("SET");
    let reads: (Option<String>, Option<String>) = (
        third.get("where").expect("GET"),
        program.near().get("where").expect("GET"),
    );
    program.say("database of its own", reads);
    let user = ["SETUSER", "app", "on", ">secret", "~app:*", "+@all"];
    let _: () = redis::cmd("ACL").arg(&user).query(&mut program.behind()).expect("ACL");
    let mut app = program.url("app:secret@", "").get_connection().expect("connect");
    let own: (String, String, String) = redis::pipe()
        .set("app:1", "a")
        .get("app:1")
        .cmd("ACL")
        .arg("WHOAMI")
        .query(&mut app)
        .expect("allowed");
    program.say("allowed", own);
    program.say("forbidden", app.get::<_, String>("s"));
    program.say("wrong password", program.url("app:wrong@", "").get_connection().err());
    program.say("no such database", program.url("", "99").get_connection().err());
}

fn values(program: &mut Program<'_>) {
    let mut near = program.near();
    let every: Vec<u8> = (0..=255).collect();
    let big = every.repeat(40_000);
    let _: () = near.mset(&[("s", every.as_slice()), ("big", &big)]).expect("MSET");
    let equal = |got: Vec<u8>, wanted: &[u8]| got == wanted;
    let small: Vec<bool> = (0..2).map(|_| equal(near.get("s").expect("GET"), &every)).collect();
    let large: Vec<bool> = (0..2).map(|_| equal(near.get("big").expect("GET"), &big)).collect();
    program.say("binary, and 10 MB", (small, large));
    let _: () = near.hset_multiple("h", &[("a", 1), ("b", 2)]).expect("HSET");
    let maps: [BTreeMap<String, i64>; 2] = [near.hgetall("h").expect("HGETALL"), near.hgetall("h").expect("HGETALL")];
    program.say("hash", maps);
    let _: () = near
        .zadd_multiple("z", &[(1.5, "x"), (f64::INFINITY, "w")])
        .expect("ZADD");
    let scores: (Vec<(String, f64)>, Option<f64>) = (
        near.zrange_withscores("z", 0, -1).expect("ZRANGE"),
        near.zscore("z", "no").expect("ZSCORE"),
    );
    program.say("scores", scores);
    program.say("raw", redis::cmd("HGETALL").arg("h").query::<redis::Value>(&mut near));
    program.say("wrong type", near.get::<_, String>("h"));
    program.say("unknown", redis::cmd("NOSUCH").arg("a").query::<()>(&mut near));
    program.say("not a number", near.incr::<_, _, i64>("h", 1));
    let error = near.get::<_, String>("h").expect_err("a wrong type");
    program.say("as it says itself", (error.kind(), error.code().map(str::to_owned)));
}

fn pipelines(program: &mut Program<'_>) {
    let (mut near, mut behind) = (program.near(), program.behind());
    let mut pipe = redis::pipe();
    for number in 0..1000 {
        pipe.set(number % 10, number).ignore().get(number % 10);
    }
    program.say("pipeline", pipe.query::<Vec<i64>>(&mut near));
    let _: () = near.set("t", 1).expect("SET");
    program.say(
        "transaction",
        redis::pipe()
            .atomic()
            .incr("t", 1)
            .get("t")
            .query::<(i64, i64)>(&mut near),
    );
    for foreign in [true, false] {
        let mut other = program.near();
        let mut tries = 0;
        let done = redis::transaction(&mut near, &["t"], |near, pipe| {
            let value: i64 = near.get("t")?;
            tries += 1;
            if tries == 1 {
                let _: () = if foreign {
                    behind.set("t", 10)
                } else {
                    other.set("t", 10)
                }?;
            }
            pipe.set("t", value + 1).get("t").query::<Option<(String, i64)>>(near)
        });
        program.say("after a conflict", (foreign, tries, done));
    }
    let mut bad = redis::pipe();
    program.say(
        "refused while queueing",
        bad.atomic().cmd("NOSUCH").get("t").query::<()>(&mut near),
    );
}

fn channels(program: &mut Program<'_>) {
    let (mut near, mut listening, mut behind) = (program.near(), program.near(), program.behind());
    let mut listener = listening.as_pubsub();
    listener.set_read_timeout(Some(LIMIT)).expect("set a limit");
    listener.subscribe(&["news", "more"]).expect("SUBSCRIBE");
    listener.psubscribe("new*").expect("PSUBSCRIBE");
    // The library does not await what confirms them.
    wait_for("subscriptions", SOON, || {
        let pattern: i64 = redis::cmd("PUBSUB").arg("NUMPAT").query(&mut behind).expect("NUMPAT");
        let channels: Vec<String> = redis::cmd("PUBSUB")
            .arg("CHANNELS")
            .query(&mut behind)
            .expect("CHANNELS");
        (pattern, channels.len()) == (1, 2)
    });
    let receivers: [i64; 2] = [
        near.publish("news", "one").expect("PUBLISH"),
        near.publish("more", "two").expect("PUBLISH"),
    ];
    program.say("receivers", receivers);
    for _ in 0..3 {
        let message = listener.get_message().expect("a message");
        let pattern: Option<String> = message.get_pattern().expect("a pattern");
        let text: String = message.get_payload().expect("a text");
        program.say("message", (pattern, message.get_channel_name().to_owned(), text));
    }
    listener.unsubscribe(&["news", "more"]).expect("UNSUBSCRIBE");
    listener.punsubscribe("new*").expect("PUNSUBSCRIBE");
    drop(listener);
    program.say("usable again", listening.get::<_, Option<i64>>("t"));
}

fn blocking(program: &mut Program<'_>) {
    let (mut near, mut behind) = (program.near(), program.behind());
    let mut waiter = program.near();
    let popped = std::thread::spawn(move || {
        let job: Option<(String, String)> = waiter.blpop(&["q1", "q2"], 15.0).expect("BLPOP");
        (job, waiter.blpop::<_, Option<(String, String)>>("q1", 0.05))
    });
    wait_for("a blocked client", SOON, || blocked(&mut behind));
    let _: () = near.rpush("q2", "job").expect("RPUSH");
    program.say("popped", popped.join().expect("a thread"));
}

fn streams(program: &mut Program<'_>) {
    let (mut near, mut behind) = (program.near(), program.behind());
    let _: () = near.xgroup_create_mkstream("x", "workers", "0").expect("XGROUP");
    program.say("group exists", near.xgroup_create::<_, _, _, ()>("x", "workers", "0"));
    for number in 1..=5 {
        let _: () = near.xadd("x", format!("{number}-1"), &[("n", number)]).expect("XADD");
    }
    let options = |name: &str| StreamReadOptions::default().group("workers", name).count(3).block(50);
    for consumer in ["one", "two", "two"] {
        let read: Option<StreamReadReply> = near
            .xread_options(&["x"], &[">"], &options(consumer))
            .expect("XREADGROUP");
        program.say("read by group", read);
    }
    program.say(
        "acknowledged",
        near.xack::<_, _, _, i64>("x", "workers", &["1-1", "2-1"]),
    );
    let claim = StreamAutoClaimOptions::default().count(2);
    let claimed: StreamAutoClaimReply = near
        .xautoclaim_options("x", "workers", "three", 0, "0-0", claim)
        .expect("XAUTOCLAIM");
    program.say("claimed", claimed);
    let mut waiter = program.near();
    let read = std::thread::spawn(move || {
        let options = StreamReadOptions::default().block(15_000);
        waiter.xread_options::<_, _, Option<StreamReadReply>>(&["x"], &["$"], &options)
    });
    wait_for("a blocked reader", SOON, || blocked(&mut behind));
    let _: () = near.xadd("x", "6-1", &[("n", 6)]).expect("XADD");
    program.say("awaited", read.join().expect("a thread"));
}

fn scripts(program: &mut Program<'_>) {
    let mut near = program.near();
    let double = Script::new(DOUBLE);
    let _: () = near.set("script", 5).expect("SET");
    let mut seen: Vec<i64> = vec![near.get("script").expect("GET")];
    for _ in 0..2 {
        seen.push(double.key("script").invoke(&mut near).expect("a script"));
        seen.push(near.get("script").expect("GET"));
        let _: () = redis::cmd("SCRIPT")
            .arg("FLUSH")
            .query(&mut near)
            .expect("SCRIPT FLUSH");
    }
    program.say("script", seen);
    let pairs: Vec<(String, i64)> = (0..5000).map(|number| (format!("scan:{number}"), number)).collect();
    let _: () = near.mset(&pairs).expect("MSET");
    let found: Result<std::collections::BTreeSet<String>, _> = near.scan_match("scan:*").expect("SCAN").collect();
    program.say("scanned", found.map(|keys| keys.len()));
}

/// A thousand tasks on one connection.
async fn tasks(program: &mut Program<'_>) {
    let near = program.multiplexed(AsyncConnectionConfig::new()).await;
    let mut all = tokio::task::JoinSet::new();
    for name in 0..1000_i64 {
        let mut near = near.clone();
        all.spawn(async move {
            let mut wrong = 0;
            for number in 0..3 {
                let value = name * 10 + number;
                let _: () = near.set(format!("task:{name}"), value).await.expect("SET");
                wrong += usize::from(near.get::<_, i64>(format!("task:{name}")).await.expect("GET") != value);
                let _: i64 = near.incr("counter", 1).await.expect("INCR");
            }
            wrong
        });
    }
    let wrong: usize = all.join_all().await.into_iter().sum();
    let count: i64 = near.clone().get("counter").await.expect("GET");
    program.say("1,000 tasks", (wrong, count));
}

/// The cache that redis-rs has itself, which tracks through nearhit.
async fn own_cache(program: &mut Program<'_>) {
    let cached = AsyncConnectionConfig::new().set_cache_config(CacheConfig::new());
    let mut near = program.multiplexed(cached).await;
    let mut behind = program.behind();
    let _: () = behind.set("own", "one").expect("SET");
    let twice: [String; 2] = [near.get("own").await.expect("GET"), near.get("own").await.expect("GET")];
    let hits = near.get_cache_statistics().map(|statistics| statistics.hit);
    program.say("own cache", (twice, hits));
    let _: () = behind.set("own", "two").expect("SET");
    let deadline = nearhit::time::now().after(SOON);
    while near.get::<_, String>("own").await.expect("GET") != "two" {
        assert!(nearhit::time::now() < deadline, "no invalidation");
        // Answers from its own cache never wait, and the invalidation must be read.
        tokio::task::yield_now().await;
    }
}

async fn restarts(program: &mut Program<'_>) {
    let config = ConnectionManagerConfig::new().set_response_timeout(Some(LIMIT));
    let mut manager = ConnectionManager::new_with_config(program.url("", ""), config)
        .await
        .expect("connect");
    let _: () = manager.set("before", 1).await.expect("SET");
    program.stage.restart();
    let deadline = nearhit::time::now().after(LIMIT);
    while manager.set::<_, _, ()>("again", 1).await.is_err() {
        assert!(nearhit::time::now() < deadline, "it does not reconnect");
    }
    let twice: [i64; 2] = [
        manager.get("again").await.expect("GET"),
        manager.get("again").await.expect("GET"),
    ];
    program.say("after a restart", twice);
}

/// All of it on one stage.
fn run(mut stage: Stage, protocol: u8, served: bool) -> Vec<String> {
    let mut program = Program {
        stage: &mut stage,
        protocol,
        lines: Vec::new(),
    };
    for scenario in [options, values, pipelines, channels, blocking, streams, scripts] {
        scenario(&mut program);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        tasks(&mut program).await;
        if protocol == 3 {
            own_cache(&mut program).await;
        }
        restarts(&mut program).await;
    });
    let lines = program.lines;
    assert!(
        !served || eventually(SOON, || stage.hits() > 0.0),
        "nothing was answered from memory"
    );
    lines
}

#[test]
fn redis_rs_cannot_tell_nearhit_from_redis() {
    for (protocol, variant) in [(2, "RESP2"), (3, "RESP3")] {
        entry("redis-rs", variant, |row| {
            let direct = run(Stage::direct(), protocol, false);
            assert_equal(row, &direct, &run(Stage::proxied(), protocol, true));
            assert!(direct.len() > 30, "{}", direct.join("\n"));
            row.version.to_owned()
        });
    }
}
