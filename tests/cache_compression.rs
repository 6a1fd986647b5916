//! `cache.compress_above`: long replies are kept compressed, take less memory, and read as they were, in both protocols.

mod coherence_support;
mod support;

use coherence_support::{Bench, PROTOCOLS, bytes, server_for};
use support::{SOON, wait_for};

const KEYS: usize = 50;

fn bench(above: &str) -> Bench {
    let args = [
        "--cache.admission",
        "always",
        "--cache.compress_above",
        above,
        "--invalidation.max_staleness",
        "20s",
    ];
    Bench::new(server_for("tracking"), "tracking", &args)
}

/// Text that compresses, another one for every number.
fn text(number: usize, len: usize) -> String {
    let line = format!("{{\"id\":{number},\"name\":\"customer {number}\",\"orders\":[]}},");
    line.chars().cycle().take(len).collect()
}

#[test]
fn what_is_compressed_reads_as_it_was() {
    let bench = bench("1kb");
    let long = [900, 1100, 16_000, 20_000, 300_000];
    for (number, len) in long.into_iter().enumerate() {
        let (key, field) = (format!("s{number}"), text(number, len / 2));
        bench.redis.cmd(&["SET", &key, &text(number, len)]);
        bench
            .redis
            .cmd(&["HSET", &format!("h{number}"), "a", &field, "b", &field]);
        bench.redis.cmd(&[
            "ZADD",
            &format!("z{number}"),
            "1.5",
            &field,
            "2",
            &text(number + 50, len / 2),
        ]);
    }
    for protocol in PROTOCOLS {
        let (mut client, mut direct) = (bench.client(protocol), bench.direct(protocol));
        for number in 0..long.len() {
            for read in [
                format!("GET s{number}"),
                format!("HGETALL h{number}"),
                format!("HGET h{number} b"),
                format!("ZRANGE z{number} 0 -1 WITHSCORES"),
            ] {
                let from_memory = bench.read_from_memory(&mut client, &read);
                assert_eq!(from_memory, bytes(&mut direct, &read), "{protocol:?}: {read}");
            }
        }
        // Of several at once, and of one that changed.
        let several = "MGET s0 s1 s2 s3 s4";
        let from_memory = bench.read_from_memory(&mut client, several);
        assert_eq!(from_memory, bytes(&mut direct, several), "{protocol:?}");
        bench.redis.cmd(&["SET", "s3", &text(7, 9000)]);
        bench.converges(&mut client, &mut direct, "GET s3");
        assert_eq!(
            bench.read_from_memory(&mut client, several),
            bytes(&mut direct, several)
        );
    }
    let compressed = bench.nearhit.metric("nearhit_cache_compressed_total", &[]);
    let saved = bench.nearhit.metric("nearhit_cache_compressed_saved_bytes_total", &[]);
    assert!(compressed >= 15.0 && saved > 1_000_000.0, "{compressed} saved {saved}");
}

/// Bytes that the near-cache says it takes once all keys are in it.
fn bytes_of(bench: &Bench, value: impl Fn(usize) -> String) -> f64 {
    for number in 0..KEYS {
        bench.redis.cmd(&["SET", &format!("k{number}"), &value(number)]);
    }
    let mut client = bench.client(PROTOCOLS[0]);
    wait_for("all to be in memory", SOON, || {
        for number in 0..KEYS {
            bytes(&mut client, &format!("GET k{number}"));
        }
        bench.nearhit.metric("nearhit_cache_entries", &[]) == KEYS as f64
    });
    bench.nearhit.metric("nearhit_cache_bytes", &[])
}

#[test]
fn more_fits_into_memory_where_that_is_wanted_and_worth_it() {
    let value = |number| text(number, 10_000);
    let whole = bytes_of(&bench("0"), value);
    let above = bench("4kb");
    let compressed = bytes_of(&above, value);
    assert!(whole > 10_000.0 * KEYS as f64, "{whole}");
    assert!(compressed < whole / 10.0, "{compressed} of {whole}");
    // Shorter ones are left as they are.
    let short = bench("4kb");
    bytes_of(&short, |number| text(number, 3000));
    assert_eq!(short.nearhit.metric("nearhit_cache_compressed_total", &[]), 0.0);
}
