//! The exposition text, read by a parser that forgives nothing, and the rules names must follow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nearhit::metrics::{
    Bypass, COMMAND_ROWS, CacheResult, Direction, Disconnect, ErrorKind, InvalidationSource, LOAD_ROWS, Label,
    LoadFigures, Metrics, NODE_ROWS, NodeFigures, Origin, Outcome, PROCESS_ROWS, REPLICA_ROWS, ROWS, ReplicaFigures,
    Row, RowType, SHADOW_ROWS,
};
use nearhit::time::Instant;

/// One family as a strict reader understands it.
#[derive(Debug, Default)]
struct Parsed {
    kind: String,
    /// Full sample line without its value → value.
    samples: BTreeMap<String, f64>,
}

/// Label names and values.
type Pairs = Vec<(String, String)>;

/// Reads text of version 0.0.4 and panics on everything a strict parser would refuse, and on what none should see:
/// a family twice or torn apart, a sample twice, a family without help, histograms that do not add up.
fn parse(text: &str) -> BTreeMap<String, Parsed> {
    assert!(text.ends_with('\n'), "the last line must end");
    let mut families: BTreeMap<String, Parsed> = BTreeMap::new();
    let mut helped = None;
    let mut current = String::new();
    for line in text.lines() {
        assert!(
            !line.is_empty() && line.trim() == line,
            "blank line or blanks around: {line:?}"
        );
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("help without text");
            assert!(is_name(name) && !help.is_empty(), "{line}");
            helped = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("type without word");
            assert_eq!(helped.take().as_deref(), Some(name), "TYPE must follow its HELP");
            assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
            current = name.to_owned();
            let family = Parsed {
                kind: kind.to_owned(),
                ..Parsed::default()
            };
            assert!(families.insert(current.clone(), family).is_none(), "{name} twice");
        } else {
            let family = families.get_mut(&current).expect("a sample before any family");
            read_sample(&current, family, line);
        }
    }
    families
        .iter()
        .filter(|(_, family)| family.kind == "histogram")
        .for_each(|(name, family)| add_up(name, family));
    families
}

fn read_sample(family_name: &str, family: &mut Parsed, line: &str) {
    let (series, value) = line.rsplit_once(' ').expect("a sample without value");
    let name = series.split('{').next().unwrap();
    let suffix = name
        .strip_prefix(family_name)
        .unwrap_or_else(|| panic!("{line} is not of {family_name}"));
    let allowed: &[&str] = match family.kind.as_str() {
        "histogram" => &["_bucket", "_sum", "_count"],
        "summary" => &["", "_sum", "_count"],
        _ => &[""],
    };
    assert!(is_name(name) && allowed.contains(&suffix), "{line}");
    let labels = labels(&series[name.len()..]);
    assert_eq!(
        labels.iter().map(|(key, _)| key).collect::<BTreeSet<_>>().len(),
        labels.len(),
        "a label twice: {line}"
    );
    assert!(
        suffix != "_bucket" || labels.iter().any(|(key, _)| key == "le"),
        "{line}"
    );
    let value: f64 = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
    assert!(
        family.kind != "counter" || (value >= 0.0 && value.is_finite()),
        "{line}"
    );
    assert!(
        family.samples.insert(series.to_owned(), value).is_none(),
        "a sample twice: {line}"
    );
}

/// Reads `{a="b",c="d"}` or nothing, with the three escapes and no other.
fn labels(text: &str) -> Pairs {
    let Some(mut rest) = text.strip_prefix('{') else {
        assert!(text.is_empty(), "{text}");
        return Vec::new();
    };
    let mut found = Vec::new();
    loop {
        let (key, behind) = rest.split_once("=\"").expect("a label without value");
        assert!(is_name(key) && !key.contains(':') && !key.starts_with("__"), "{key}");
        let mut value = String::new();
        let mut chars = behind.char_indices();
        let end = loop {
            match chars.next().expect("an open quote") {
                (at, '"') => break at,
                (_, '\\') => value.push(escaped(chars.next().expect("an open escape").1)),
                (_, other) => value.push(other),
            }
        };
        found.push((key.to_owned(), value));
        rest = &behind[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => break,
        }
    }
    assert_eq!(rest, "}", "{text}");
    found
}

fn escaped(letter: char) -> char {
    match letter {
        'n' => '\n',
        '\\' | '"' => letter,
        other => panic!("unknown escape {other}"),
    }
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_' || first == ':')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':')
}

/// Buckets must not decrease, and the last one must be the count.
fn add_up(name: &str, family: &Parsed) {
    let mut by_series: BTreeMap<Pairs, Vec<(f64, f64)>> = BTreeMap::new();
    for (series, value) in &family.samples {
        let Some(text) = series.strip_prefix(&format!("{name}_bucket")) else {
            continue;
        };
        let (le, rest): (Vec<_>, Vec<_>) = labels(text).into_iter().partition(|(key, _)| key == "le");
        by_series
            .entry(rest)
            .or_default()
            .push((le[0].1.parse().unwrap(), *value));
    }
    for (labels, mut buckets) in by_series {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(
            buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1),
            "{name} {labels:?} {buckets:?}"
        );
        let rest: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let rest = if rest.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", rest.join(","))
        };
        let count = family.samples[&format!("{name}_count{rest}")];
        assert_eq!(buckets.last().unwrap(), &(f64::INFINITY, count), "{name} {labels:?}");
        assert!(family.samples.contains_key(&format!("{name}_sum{rest}")));
    }
}

fn all_rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter()
        .chain(COMMAND_ROWS)
        .chain(NODE_ROWS)
        .chain(REPLICA_ROWS)
        .chain(LOAD_ROWS)
        .chain(SHADOW_ROWS)
        .chain(PROCESS_ROWS)
}

/// Metrics that saw a bit of everything a worker counts.
fn used() -> Metrics {
    let metrics = Metrics::new(["get", "set"], Instant::ZERO)
        .with_process(true)
        .with_upstream("10.0.0.1:6379");
    let worker = metrics.add_worker();
    worker.record_n(0, Outcome::Hit, 12_000, 3);
    worker.record(0, Outcome::Miss, 300_000);
    worker.record(1, Outcome::Write, 20_000_000_000);
    worker.cache.add(CacheResult::Hit, 3);
    worker.bypass.inc(Bypass::Cold);
    worker.client_bytes.add(Direction::In, 512);
    metrics.node.set_loads(vec![LoadFigures {
        upstream: "10.0.0.1:6379".to_owned(),
        circuit: 2,
        in_flight: 3,
    }]);
    metrics.node.set_replicas(vec![ReplicaFigures {
        upstream: "10.0.0.2:6379".to_owned(),
        readable: true,
        lag: Some(0.05),
        lag_bytes: 0,
    }]);
    metrics
}

#[test]
fn a_strict_parser_reads_the_text_before_and_after_traffic() {
    let before = parse(&Metrics::new(["get"], Instant::ZERO).render(Instant::ZERO));
    let after = parse(&used().render(Instant::ZERO.after(Duration::from_secs(1))));
    for row in ROWS.iter().chain(COMMAND_ROWS) {
        assert_eq!(before[row.name].kind, row.kind.as_str(), "{}", row.name);
    }
    for row in all_rows() {
        assert_eq!(after[row.name].kind, row.kind.as_str(), "{}", row.name);
        assert!(!after[row.name].samples.is_empty(), "{} has no samples", row.name);
    }
    assert_eq!(after.len(), all_rows().count());
}

#[test]
fn no_row_is_written_twice() {
    let names: BTreeSet<_> = all_rows().map(|row| row.name).collect();
    assert_eq!(names.len(), all_rows().count());
}

#[test]
fn every_name_has_prefix_and_base_unit() {
    // What a gauge's last word may be: a base unit, or the thing that is counted or that holds.
    const GAUGES: [&str; 22] = [
        "seconds",
        "bytes",
        "info",
        "ready",
        "draining",
        "insecure",
        "connected",
        "max",
        "pinned",
        "keys",
        "entries",
        "enabled",
        "source",
        "up",
        "connections",
        "fds",
        "subscriptions",
        "mode",
        "held",
        "refused",
        "circuit",
        "requests",
    ];
    const NOT_BASE: [&str; 12] = [
        "ms",
        "us",
        "ns",
        "milliseconds",
        "microseconds",
        "nanoseconds",
        "minutes",
        "kb",
        "mb",
        "kilobytes",
        "percent",
        "count",
    ];
    for row in all_rows() {
        let words: Vec<_> = row.name.split('_').collect();
        let last = *words.last().unwrap();
        assert!(["nearhit", "process"].contains(&words[0]), "{}", row.name);
        assert!(words.iter().all(|word| !NOT_BASE.contains(word)), "{}", row.name);
        assert_eq!(last == "total", row.kind == RowType::Counter, "{}", row.name);
        match row.kind {
            RowType::Counter => {}
            RowType::Gauge => assert!(GAUGES.contains(&last), "{}", row.name),
            RowType::Histogram | RowType::Summary => assert_eq!(last, "seconds", "{}", row.name),
        }
        assert!(row.help.ends_with('.') && row.help.len() > 8, "{} needs help", row.name);
    }
}

#[test]
fn every_label_combination_is_there_before_the_first_event() {
    let text = Metrics::new(["get"], Instant::ZERO).render(Instant::ZERO);
    let families = parse(&text);
    let zeros = |name: &str| families[name].samples.values().filter(|value| **value == 0.0).count();
    assert_eq!(zeros("nearhit_client_disconnects_total"), Disconnect::ALL.len());
    assert_eq!(
        zeros("nearhit_command_errors_total"),
        Origin::ALL.len() * ErrorKind::ALL.len()
    );
    assert_eq!(zeros("nearhit_cache_bypass_total"), Bypass::ALL.len());
    assert!(
        text.contains("nearhit_command_errors_total{origin=\"proxy\",kind=\"timeout\"} 0\n"),
        "{text}"
    );
}

#[test]
fn what_workers_and_others_count_is_in_the_text() {
    let metrics = used();
    metrics.client_disconnects.inc(Disconnect::SlowReader);
    metrics.command_errors.inc((Origin::Proxy, ErrorKind::Overload));
    metrics.invalidation_source.set_only(InvalidationSource::Tracking);
    metrics.node.set(NodeFigures {
        staleness_bound: 0.25,
        ..NodeFigures::default()
    });
    metrics.commands.add_worker().served_age.record(2_000_000);
    metrics.clients_connected.inc();
    let text = metrics.render(Instant::ZERO);
    for line in [
        "nearhit_client_disconnects_total{reason=\"slow_reader\"} 1",
        "nearhit_command_errors_total{origin=\"proxy\",kind=\"overload\"} 1",
        "nearhit_invalidation_source{mode=\"off\"} 0",
        "nearhit_invalidation_source{mode=\"tracking\"} 1",
        "nearhit_staleness_bound_seconds{upstream=\"10.0.0.1:6379\"} 0.25",
        "nearhit_served_age_seconds_bucket{le=\"0.001\"} 0",
        "nearhit_served_age_seconds_bucket{le=\"0.01\"} 1",
        "nearhit_clients_connected 1",
        "nearhit_cache_requests_total{result=\"hit\"} 3",
        "nearhit_cache_bypass_total{reason=\"cold\"} 1",
        "nearhit_client_bytes_total{direction=\"in\"} 512",
        "nearhit_commands_total{cmd=\"get\",outcome=\"hit\"} 3",
        "nearhit_command_duration_seconds_bucket{cmd=\"get\",outcome=\"hit\",le=\"0.00001\"} 0",
        "nearhit_command_duration_seconds_bucket{cmd=\"get\",outcome=\"hit\",le=\"0.000025\"} 3",
        "nearhit_command_duration_seconds_bucket{cmd=\"set\",outcome=\"write\",le=\"10\"} 0",
        "nearhit_command_duration_seconds_bucket{cmd=\"set\",outcome=\"write\",le=\"+Inf\"} 1",
        "nearhit_command_duration_seconds_sum{cmd=\"get\",outcome=\"hit\"} 0.000036",
        "nearhit_command_latency_seconds{cmd=\"get\",quantile=\"0.5\"} 0.000012031",
        "nearhit_command_latency_seconds_count{cmd=\"get\"} 4",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn process_figures_are_the_hosts_unless_asked_for() {
    let library = Metrics::new(["get"], Instant::ZERO).render(Instant::ZERO);
    assert!(!library.contains("process_"));
}

#[test]
fn two_proxies_in_one_process_do_not_mix() {
    let (one, other) = (
        Metrics::new(["get"], Instant::ZERO),
        Metrics::new(["get"], Instant::ZERO),
    );
    one.panics.inc();
    assert!(one.render(Instant::ZERO).contains("nearhit_panics_total 1\n"));
    assert!(other.render(Instant::ZERO).contains("nearhit_panics_total 0\n"));
}

#[test]
fn commands_beyond_the_label_cap_share_the_label_other() {
    let metrics = Metrics::new((0..100).map(|n| format!("cmd{n}")), Instant::ZERO);
    let worker = metrics.add_worker();
    (0..100).for_each(|command| worker.record(command, Outcome::Bypass, 1_000));
    let families = parse(&metrics.render(Instant::ZERO));
    let totals = &families["nearhit_commands_total"].samples;
    let names: BTreeSet<_> = totals
        .keys()
        .map(|series| labels(series.split_at("nearhit_commands_total".len()).1))
        .collect();
    let names: BTreeSet<_> = names.into_iter().map(|labels| labels[0].1.clone()).collect();
    assert_eq!(names.len(), 64);
    assert_eq!(totals["nearhit_commands_total{cmd=\"other\",outcome=\"bypass\"}"], 37.0);
}

#[test]
fn quantiles_of_an_idle_minute_are_not_numbers_and_the_count_stays() {
    let metrics = used();
    let second = |n| Instant::ZERO.after(Duration::from_secs(n));
    (1..20).for_each(|n| metrics.tick(second(n * 5)));
    let text = metrics.render(second(96));
    assert!(
        text.contains("nearhit_command_latency_seconds{cmd=\"get\",quantile=\"0.99\"} NaN\n"),
        "{text}"
    );
    assert!(
        text.contains("nearhit_command_latency_seconds_count{cmd=\"get\"} 4\n"),
        "{text}"
    );
    parse(&text);
}
