//! What servers say that nobody asked for: keys that changed, everything changed, the connection is of no use any more.

use super::fence::Fence;
use super::inspect::Flushed;
use super::near_cache::{NearCache, Tally};
use super::stream::Stream;
use crate::mutants::{Mutant, mutated};
use crate::resp::Value;

/// Pushes that announce that the connection, the node or some of its slots go elsewhere (maintenance notices of Redis
/// Enterprise and Cloud). None of them says what happens to invalidations.
const HAND_OVERS: [&[u8]; 7] = [
    b"MOVING",
    b"MIGRATING",
    b"MIGRATED",
    b"FAILING_OVER",
    b"FAILED_OVER",
    b"SMIGRATING",
    b"SMIGRATED",
];

/// Handles one push of a connection that tracks for itself.
pub(super) fn apply_push<W>(cache: &NearCache<W>, stream: &Stream, items: Vec<Value>) -> Result<(), Fence> {
    let mut items = items.into_iter();
    match items.next().as_ref().and_then(Value::as_bytes) {
        Some(b"invalidate") => apply_invalidation(cache, stream, items.next()),
        Some(b"tracking-redir-broken") => Err(Fence::RedirectBroken),
        Some(kind) if HAND_OVERS.contains(&kind) => Err(Fence::HandOver),
        // Pushes of other kinds are none of ours; they answer nobody.
        _ => Ok(()),
    }
}

/// Handles the payload of an invalidation: an array of key names, or NULL for "everything".
pub(super) fn apply_invalidation<W>(
    cache: &NearCache<W>,
    stream: &Stream,
    payload: Option<Value>,
) -> Result<(), Fence> {
    match payload {
        Some(Value::Null) if mutated(Mutant::IgnoreNull) => {}
        Some(Value::Null) => flush_by_server(cache, stream),
        Some(Value::Array(keys)) => {
            for key in &keys {
                let Some(key) = key.as_bytes() else {
                    return Err(Fence::Protocol("an invalidation of something that is no key".into()));
                };
                invalidate(cache, stream, key);
                if mutated(Mutant::FirstKeyOnly) {
                    break;
                }
            }
        }
        _ => return Err(Fence::Protocol("an invalidation without keys".into())),
    }
    Ok(())
}

/// The stream says that `key` changed.
pub(super) fn invalidate<W>(cache: &NearCache<W>, stream: &Stream, key: &[u8]) {
    match stream.canary().filter(|canary| canary.key() == key) {
        // It is no client's news, but should a client use the key, it must be true for it as well.
        Some(canary) => {
            canary.hear();
            cache.kill(cache.hash(key));
        }
        None => cache.invalidate(key),
    }
}

pub(super) fn flush_by_server<W>(cache: &NearCache<W>, stream: &Stream) {
    stream.flush();
    cache.note_flush(Flushed::NullPush);
    Tally::add(&cache.tally.null_pushes, 1);
}
