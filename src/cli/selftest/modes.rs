//! What the modes of `invalidation.mode` need for a run, and what their promises leave out (`docs/promises.md`).

use std::time::Duration;

/// Settings of the run's own server.
pub(super) fn server_args(mode: Option<&str>) -> &'static [&'static str] {
    match mode {
        Some("keyspace") => &["--notify-keyspace-events", "KA"],
        _ => &[],
    }
}

/// Settings of the instances, beyond the mode: with them nothing may be later than the bound.
pub(super) fn instance_args(mode: Option<&str>, bound: Duration) -> Vec<String> {
    let within = format!("{}ms", bound.as_millis() * 9 / 10);
    let (setting, value) = match mode {
        // Every key.
        Some("broadcast") => ("--invalidation.prefixes", "[\"\"]".to_owned()),
        Some("keyspace") => ("--invalidation.keyspace-ttl", within),
        Some("ttl") => ("--invalidation.fallback-ttl", within),
        _ => return Vec::new(),
    };
    vec![setting.to_owned(), value]
}

/// Whether anything is answered from memory.
pub(super) fn caches(mode: Option<&str>) -> bool {
    mode != Some("off")
}

/// Whether anybody tells the instances of changes.
pub(super) fn tells(mode: Option<&str>) -> bool {
    mode != Some("ttl")
}

/// Whether answers of different commands about one key are in order. Where nobody tells of changes they are not: after
/// STRLEN has shown a new value, GET may show the one before it.
pub(super) fn orders_commands(mode: Option<&str>) -> bool {
    tells(mode)
}
