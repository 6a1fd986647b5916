//! What is copied into metric rows, and the probes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::admin::http::{Check, Probe};
use crate::admin::{Prober, sample};
use crate::metrics::{
    ConnectResult, Evicted, FlushReason, InvalidationEffect as Effect, InvalidationKind as Kind, Label, Lost, Pool,
    Rejected, TouchResult,
};

fn second(n: u64) -> Instant {
    Instant::from_nanos(n * 1_000_000_000)
}

fn set_all(counters: &[&AtomicU64]) {
    for counter in counters {
        counter.store(9, Ordering::Relaxed);
    }
}

#[test]
fn every_tally_of_entries_reaches_its_row() {
    let mut bench = Bench::new();
    bench.fill("get", "k", None, "$1\r\nv\r\n", -1);
    let tally = bench.shared.cache.tally();
    set_all(&[&tally.inserts, &tally.rejected_race, &tally.rejected_too_large]);
    set_all(&[&tally.rejected_error, &tally.rejected_ttl, &tally.evicted_capacity]);
    set_all(&[&tally.evicted_ttl, &tally.evicted_invalidated]);
    set_all(&[&tally.compressed, &tally.compressed_from]);
    set_all(&[&tally.evicted_flush, &tally.evicted_tracking_lost]);
    let metrics = &bench.shared.metrics;
    sample(&bench.shared, &bench.gauges, metrics, time::now());

    assert_eq!(metrics.cache_inserts.get(), 9);
    assert_eq!(metrics.cache_compressed.get(), 9);
    assert_eq!(metrics.cache_compressed_saved_bytes.get(), 9);
    for reason in [Rejected::Race, Rejected::TooLarge, Rejected::Error, Rejected::Ttl] {
        assert_eq!(metrics.cache_rejected.get(reason), 9, "{reason:?}");
    }
    for reason in Evicted::ALL.iter().filter(|reason| **reason != Evicted::Policy) {
        assert_eq!(metrics.cache_evictions.get(*reason), 9, "{reason:?}");
    }
    let counts = [&metrics.cache_keys, &metrics.cache_entries, &metrics.cache_enabled];
    assert_eq!(counts.map(|gauge| gauge.get()), [1.0, 1.0, 1.0]);
    assert!(metrics.cache_bytes.get() > 0.0 && metrics.cache_max_bytes.get() > 0.0);
}

#[test]
fn every_invalidation_and_every_flush_reaches_its_row() {
    let bench = Bench::new();
    let tally = bench.shared.cache.tally();
    set_all(&[&tally.invalidated_removed, &tally.invalidated_raced, &tally.null_pushes]);
    set_all(&[&tally.flushed_by_application]);
    set_all(&[
        &tally.flushed_by_command,
        &tally.flushed_by_admin,
        &tally.flushed_by_rights,
    ]);
    set_all(&[&tally.fences, &tally.lapsed, &tally.outdated]);
    tally.invalidated_keys.store(20, Ordering::Relaxed);
    let metrics = &bench.shared.metrics;
    sample(&bench.shared, &bench.gauges, metrics, time::now());

    for reason in FlushReason::ALL {
        assert_eq!(metrics.cache_flushes.get(*reason), 9, "{reason:?}");
    }
    for (labels, total) in [
        ((Kind::Key, Effect::Removed), 9),
        ((Kind::Key, Effect::Raced), 9),
        ((Kind::Key, Effect::Absent), 2),
        ((Kind::Flush, Effect::Removed), 9),
    ] {
        assert_eq!(metrics.invalidations.get(labels), total, "{labels:?}");
    }
}

#[test]
fn every_touch_reaches_its_row() {
    let bench = Bench::new();
    let tally = bench.shared.cache.tally();
    set_all(&[&tally.touches_present, &tally.touches_missing]);
    set_all(&[&tally.touches_refused, &tally.touches_skipped]);
    let metrics = &bench.shared.metrics;
    sample(&bench.shared, &bench.gauges, metrics, time::now());
    for result in TouchResult::ALL {
        assert_eq!(metrics.touch.get(*result), 9, "{result:?}");
    }
}

#[test]
fn every_count_of_upstream_connections_reaches_its_row() {
    let bench = Bench::new();
    set_all(&[&bench.gauges.shared, &bench.gauges.pinned, &bench.gauges.failed]);
    set_all(&bench.gauges.lost.each_ref());
    bench.gauges.opened.store(20, Ordering::Relaxed);
    let metrics = &bench.shared.metrics;
    sample(&bench.shared, &bench.gauges, metrics, time::now());

    for reason in Lost::ALL {
        assert_eq!(metrics.upstream_lost.get(*reason), 9, "{reason:?}");
    }
    assert_eq!(metrics.upstream_connects.get(ConnectResult::Ok), 11);
    assert_eq!(metrics.upstream_connects.get(ConnectResult::Failed), 9);
    let open = [Pool::Shared, Pool::Pinned].map(|pool| metrics.upstream_connections.get(pool));
    assert_eq!(open, [9.0, 9.0]);
}

#[test]
fn the_staleness_bound_is_the_age_of_the_last_proof() {
    let bench = Bench::new();
    let stream = bench.origin().stream();
    let (metrics, proved) = (&bench.shared.metrics, time::now());
    stream.renew(proved);
    let at = |seconds| {
        sample(
            &bench.shared,
            &bench.gauges,
            metrics,
            proved.after(Duration::from_secs(seconds)),
        );
        metrics.node.get().staleness_bound
    };
    assert_eq!((at(0), at(3)), (0.0, 3.0));
    assert_eq!(at(3601), 0.0, "nothing is answered from memory any more");
    bench.shared.cache.fence(&bench.origin());
    assert_eq!(at(1), 0.0);
}

fn prober(bench: &Bench, heartbeats: Vec<Arc<AtomicU64>>, draining: &Arc<AtomicBool>) -> Prober {
    Prober::new(
        Arc::clone(&bench.shared),
        Arc::clone(&bench.gauges),
        heartbeats,
        Arc::clone(draining),
    )
}

fn failing(check: &Check) -> &str {
    match check {
        Check::Pass => "nothing",
        Check::Fail { check, .. } => check,
    }
}

#[test]
fn a_worker_that_stands_still_for_two_seconds_is_not_alive() {
    let bench = Bench::new();
    let beats: Vec<_> = [100, 99]
        .map(|at| Arc::new(AtomicU64::new(second(at).as_nanos())))
        .into();
    let prober = prober(&bench, beats, &Arc::default());
    assert_eq!(prober.live_at(second(101)), Check::Pass);
    let Check::Fail { check, detail } = prober.live_at(second(102)) else {
        panic!("worker 1 is silent for three seconds")
    };
    assert_eq!(
        (check.as_ref(), detail.as_str()),
        ("worker", "worker 1 did not turn for 3.0 s")
    );
}

#[test]
fn ready_means_that_the_server_answers_and_nobody_drains() {
    let bench = Bench::new();
    let draining = Arc::new(AtomicBool::new(false));
    let prober = prober(&bench, Vec::new(), &draining);
    assert_eq!(failing(&prober.ready_now()), "upstream", "it was not asked yet");
    bench.gauges.reachable.store(true, Ordering::Relaxed);
    assert_eq!(failing(&prober.ready_now()), "nothing");
    draining.store(true, Ordering::Relaxed);
    assert_eq!(failing(&prober.ready_now()), "draining");
}

#[test]
fn the_metrics_page_is_sampled_when_it_is_read() {
    let mut bench = Bench::new();
    bench.fill("get", "k", None, "$1\r\nv\r\n", -1);
    bench.gauges.reachable.store(true, Ordering::Relaxed);
    let page = prober(&bench, Vec::new(), &Arc::default()).render();
    for line in [
        "nearhit_cache_keys 1",
        "nearhit_cache_inserts_total 1",
        "nearhit_ready 1",
        "nearhit_draining 0",
        "nearhit_upstream_up 1",
        "nearhit_invalidation_source{mode=\"tracking\"} 1",
    ] {
        assert!(page.lines().any(|own| own == line), "{line} is not in\n{page}");
    }
}
