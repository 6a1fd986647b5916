//! Keys that are written about as often as they are read are passed on for a while.

use super::*;
use crate::coherence::TOUCH_PARTS;

const VALUE: &str = "$1\r\nv\r\n";

/// Keys are fetched from their second read on; the first was just now.
fn bench() -> Bench {
    let limits = Limits {
        admit_always: false,
        ..eager()
    };
    let mut bench = Bench::with(limits, Policies::default());
    assert_eq!(bench.get("k"), Seen::Bypass(Bypass::Cold));
    bench
}

#[test]
fn a_key_whose_fetches_served_nobody_before_it_changed_is_passed_on() {
    let mut bench = bench();
    for _ in 0..3 {
        bench.fill(VALUE, -1);
        bench.server(INVALIDATE_K);
    }
    assert_eq!(bench.get("k"), Seen::Bypass(Bypass::WriteHot));
    bench.pass(millis(100));
    bench.fill(VALUE, -1);
    assert_eq!(bench.get("k"), hit(VALUE));
    bench.server(INVALIDATE_K);
    bench.fill(VALUE, -1);
}

#[test]
fn who_was_served_long_ago_was_served() {
    let mut bench = bench();
    for _ in 0..10 {
        bench.fill(VALUE, -1);
        assert_eq!(bench.get("k"), hit(VALUE));
        // The server is told of the hit, so that it is not one since the key was touched.
        for part in 0..TOUCH_PARTS {
            drop(bench.cache.gather_touches(part, bench.now));
        }
        bench.server(INVALIDATE_K);
    }
    bench.fill(VALUE, -1);
}

#[test]
fn a_fetch_that_answered_others_too_was_worth_it() {
    let mut bench = bench();
    for _ in 0..10 {
        assert!(matches!(bench.get("k"), Seen::Lead(_)));
        assert!(matches!(bench.get("k"), Seen::Wait(_)));
        bench.server(format!("+OK\r\n{VALUE}:-1\r\n"));
        bench.server(INVALIDATE_K);
    }
    assert!(matches!(bench.get("k"), Seen::Lead(_)));
    assert!(matches!(bench.get("k"), Seen::Wait(_)));
    // Revoked while it travels: it answers those who wait all the same.
    bench.server(INVALIDATE_K);
    assert!(matches!(bench.get("k"), Seen::Lead(_)));
}
