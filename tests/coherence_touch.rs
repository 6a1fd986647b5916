//! The server evicts what it believes nobody reads; TOUCH tells it what is read from memory.

mod coherence_support;
mod support;

use coherence_support::{Bench, Protocol, bytes, front, run};
use std::time::Duration;
use support::resp::encode;
use support::{Nearhit, RedisServer, Resp, wait_for};

/// Keys of one round of foreign writes, and the bytes of each value. The server has room for about four rounds.
const ROUND: usize = 400;
const VALUE: usize = 1000;

/// Writes `ROUND` new keys, and gives the server's clock of last uses, which counts seconds, time to see it.
fn write_round(writer: &mut Resp, round: usize) {
    let value = "x".repeat(VALUE);
    let writes = (0..ROUND).flat_map(|key| encode(&["SET", &format!("filler:{round}:{key}"), &value]));
    writer.send_raw(writes.collect::<Vec<_>>());
    (0..ROUND).for_each(|_| assert_eq!(writer.reply(), "OK"));
}

fn read_until_hit(nearhit: &Nearhit, client: &mut Resp, key: &str) {
    let hits = || nearhit.metric("nearhit_cache_requests_total", &["\"hit\""]);
    let before = hits();
    wait_for("a hit", support::SOON, || {
        bytes(client, &format!("GET {key}"));
        hits() > before
    });
}

#[test]
fn a_hot_key_outlives_thousands_of_foreign_writes_with_touch_and_not_without() {
    let redis = RedisServer::builder()
        .arg("--maxmemory", "3500kb")
        .arg("--maxmemory-policy", "allkeys-lru")
        .arg("--maxmemory-samples", "10")
        .start();
    let always = ["--cache.admission", "always", "--cache.touch-interval"];
    let warm = front(&redis, "tracking", &[always.as_slice(), &["200ms"]].concat());
    let cold = front(&redis, "tracking", &[always.as_slice(), &["0s"]].concat());
    let mut writer = redis.client();
    writer.cmd(&["MSET", "warm", "v", "cold", "v"]);
    let (mut reads_warm, mut reads_cold) = (warm.connect(), cold.connect());
    read_until_hit(&warm, &mut reads_warm, "warm");
    read_until_hit(&cold, &mut reads_cold, "cold");
    let mut round = 0;
    let mut more = |writer: &mut Resp| {
        round += 1;
        write_round(writer, round);
        // Reads of both, so that both are hot all the time.
        let end = nearhit::time::now().after(Duration::from_millis(250));
        while nearhit::time::now() < end {
            bytes(&mut reads_cold, "GET cold");
            assert_eq!(
                bytes(&mut reads_warm, "GET warm"),
                b"$1\r\nv\r\n",
                "evicted in round {round}"
            );
        }
        writer.cmd(&["EXISTS", "cold"]) == 0
    };
    wait_for("the key nobody touches to be evicted", Duration::from_secs(30), || {
        more(&mut writer)
    });
    (0..8).for_each(|_| _ = more(&mut writer));
    assert_eq!(writer.cmd(&["EXISTS", "warm"]), 1);
    assert!(warm.metric("nearhit_touch_total", &["present"]) >= 5.0);
    assert_eq!(cold.metric("nearhit_touch_total", &["present"]), 0.0);
}

/// TOUCH stands between fills; were it tracked, or did it use a registration up, the write would not be heard of.
#[test]
fn keys_that_are_touched_are_still_invalidated() {
    for mode in coherence_support::MODES {
        let args = ["--cache.admission", "always", "--cache.touch-interval", "20ms"];
        let bench = Bench::new(RedisServer::start(), mode, &args);
        let (mut client, mut direct) = (bench.client(Protocol::Resp3), bench.direct(Protocol::Resp3));
        for round in 0..20 {
            run(&mut direct, &format!("SET k {round}"));
            bench.converges(&mut client, &mut direct, "GET k");
            bench.read_from_memory(&mut client, "GET k");
            let touches = bench.calls("touch");
            wait_for("a touch", support::SOON, || {
                bytes(&mut client, "GET k");
                bench.calls("touch") > touches
            });
        }
    }
}

#[test]
fn a_user_who_may_not_touch_is_served_from_memory_all_the_same() {
    let redis = RedisServer::start();
    redis.cmd(&["ACL", "SETUSER", "plain", "on", ">pw", "~*", "&*", "+@all", "-touch"]);
    let args = ["--cache.admission", "always", "--cache.touch-interval", "20ms"];
    let bench = Bench::new(redis, "tracking", &args);
    let mut client = bench.client(Protocol::Resp3);
    run(&mut client, "AUTH plain pw");
    run(&mut client, "SET k v");
    wait_for("a refusal", support::SOON, || {
        bytes(&mut client, "GET k");
        bench.nearhit.metric("nearhit_touch_total", &["refused"]) > 0.0
    });
    let before = bench.calls("get");
    (0..50).for_each(|_| assert_eq!(bytes(&mut client, "GET k"), b"$1\r\nv\r\n"));
    assert!(bench.calls("get") <= before + 1, "answered from memory");
    assert_eq!(bench.nearhit.metric("nearhit_touch_total", &["refused"]), 1.0);
}
