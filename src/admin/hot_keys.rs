//! HOTKEYS: the keys that are read most.

use super::console::Call;
use super::keys::count;
use super::reply::{Answer, Map, millis};
use crate::metrics::SAMPLED;
use crate::resp::Value;

/// Keys that HOTKEYS returns when nobody says how many, and at most.
const DEFAULT_COUNT: usize = 16;
const MAX_COUNT: usize = 128;

/// The keys that were read most in the last half minute to minute. Of each `reads` is an estimate from a sample; of the
/// sample's count up to `error` may have been other keys' reads, never fewer.
pub(super) fn hot_keys(call: &Call<'_>) -> Result<Value, String> {
    let request = call.request;
    let wanted = match request.len() {
        2 => DEFAULT_COUNT,
        4 if request.arg(2).eq_ignore_ascii_case(b"count") => count(request.arg(3))?.min(MAX_COUNT),
        _ => return Err("ERR syntax error".to_owned()),
    };
    let (hottest, watched) = call.shared.metrics.commands.hottest(wanted, call.now);
    let keys: Vec<Map> = hottest
        .iter()
        .map(|hot| {
            let terms = call.shared.cache.terms(&hot.key);
            Map::default()
                .with("key", &*hot.key)
                .with("reads", hot.reads * SAMPLED)
                .with("error", hot.error * SAMPLED)
                // Of the reads that are its own for certain.
                .with("hit_ratio", hot.hits as f64 / (hot.reads - hot.error).max(1) as f64)
                .with("policy", terms.policy.as_deref())
        })
        .collect();
    Ok(Map::default()
        .with("watched_ms", millis(watched))
        .with("sampled", SAMPLED)
        .with("keys", keys)
        .into_value())
}
