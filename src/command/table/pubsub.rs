//! Publish and subscribe.

use super::*;

#[rustfmt::skip] // A row is one line.
pub(super) const ROWS: &[Command] = &[
    row("psubscribe", -2, PUBSUB | NOSCRIPT | ANYTIME, NO_KEYS).at(SUBSCRIBE),
    row("publish", 3, PUBSUB | ANYTIME | FAST | MAY_REPLICATE, NO_KEYS).edited(),
    container("pubsub", -2, 0),
    row("pubsub|channels", -2, PUBSUB | ANYTIME, NO_KEYS).spread(ALL_UNION),
    row("pubsub|help", 2, ANYTIME, NO_KEYS),
    row("pubsub|numpat", 2, PUBSUB | ANYTIME, NO_KEYS).spread(ALL_SUM),
    row("pubsub|numsub", -2, PUBSUB | ANYTIME, NO_KEYS).edited().spread(ALL_COUNTS),
    row("pubsub|shardchannels", -2, PUBSUB | ANYTIME, NO_KEYS).spread(ALL_UNION),
    row("pubsub|shardnumsub", -2, PUBSUB | ANYTIME, NO_KEYS).edited().spread(ALL_COUNTS),
    row("punsubscribe", -1, PUBSUB | NOSCRIPT | ANYTIME, NO_KEYS).at(SUBSCRIBE),
    row("spublish", 3, PUBSUB | ANYTIME | FAST | MAY_REPLICATE, KEY).edited(),
    row("ssubscribe", -2, PUBSUB | NOSCRIPT | ANYTIME, keys(1, -1, 1)).at(SUBSCRIBE),
    row("subscribe", -2, PUBSUB | NOSCRIPT | ANYTIME, NO_KEYS).at(SUBSCRIBE),
    row("sunsubscribe", -1, PUBSUB | NOSCRIPT | ANYTIME, keys(1, -1, 1)).at(SUBSCRIBE),
    row("unsubscribe", -1, PUBSUB | NOSCRIPT | ANYTIME, NO_KEYS).at(SUBSCRIBE),
];
