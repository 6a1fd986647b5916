//! The pieces a request is made of, one by one: nanoseconds each.

use std::hint::black_box;

use bytes::Bytes;
use nearhit::load::{Order, Picker, Script};
use nearhit::metrics::LatencyArray;
use nearhit::resp::{ReplyLimits, ReplyScan, ReplyScanner, RequestLimits, RequestScan, RequestScanner};

use super::contenders::{Contender, Key, Near, key};
use super::timing::cpu_nanos;

/// One row: what it is, nanoseconds, and at most how many are aimed at.
pub(crate) type Part = (&'static str, fn(u32) -> f64, Option<f64>);

pub(crate) const ALL: [Part; 5] = [
    ("scan a GET, 16 in a buffer", scan_requests, None),
    ("scan a reply of 64 bytes, 16 in a buffer", scan_replies, None),
    ("begin a fetch and store its reply", fill, None),
    ("invalidate a cached key", invalidate, Some(1000.0)),
    ("record a latency", record, Some(10.0)),
];

fn per_one(count: u32, work: impl FnOnce()) -> f64 {
    let before = cpu_nanos();
    work();
    (cpu_nanos() - before) as f64 / f64::from(count)
}

fn scan_requests(count: u32) -> f64 {
    let script = Script::new("key:", 1000, 64);
    let (mut picker, mut buffer) = (Picker::new(&Order::Uniform, 1000, 0, 1), Vec::new());
    (0..16).for_each(|_| {
        script.append_request(picker.pick(), &mut buffer);
    });
    let mut scanner = RequestScanner::new(RequestLimits::default());
    per_one(count, || {
        for _ in 0..count / 16 {
            let mut rest = black_box(buffer.as_slice());
            while !rest.is_empty() {
                let Ok(RequestScan::Complete { consumed }) = scanner.scan(rest) else {
                    panic!("a request is not whole");
                };
                black_box(scanner.request(&rest[..consumed]).name());
                rest = &rest[consumed..];
            }
        }
    })
}

fn scan_replies(count: u32) -> f64 {
    let buffer = format!("$64\r\n{:0>64}\r\n", 1).repeat(16).into_bytes();
    let mut scanner = ReplyScanner::new(ReplyLimits::default());
    per_one(count, || {
        for _ in 0..count / 16 {
            let mut rest = black_box(buffer.as_slice());
            while !rest.is_empty() {
                let Ok(ReplyScan::Complete { consumed }) = scanner.scan(rest) else {
                    panic!("a reply is not whole");
                };
                rest = &rest[consumed..];
            }
        }
    })
}

fn keys(count: u32) -> Vec<Key> {
    (0..count).map(key).collect()
}

fn reply() -> Bytes {
    Bytes::from(format!("$64\r\n{:0>64}\r\n", 1))
}

fn fill(count: u32) -> f64 {
    let (near, keys, reply) = (Near::empty(), keys(count / 10), reply());
    per_one(count / 10, || keys.iter().for_each(|key| near.store(key, &reply)))
}

fn invalidate(count: u32) -> f64 {
    let (near, keys, reply) = (Near::empty(), keys(count / 10), reply());
    keys.iter().for_each(|key| near.store(key, &reply));
    let nanos = per_one(count / 10, || keys.iter().for_each(|key| near.cache.invalidate(key)));
    assert_eq!(near.cache.totals().entries, 0);
    nanos
}

fn record(count: u32) -> f64 {
    let latencies = LatencyArray::default();
    let nanos = per_one(count, || {
        for number in 0..u64::from(count) {
            latencies.record(black_box(1_000 + number % 65_536));
        }
    });
    black_box(&latencies);
    nanos
}
