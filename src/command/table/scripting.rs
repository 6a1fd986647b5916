//! Scripts and functions.
//!
//! EVAL, EVALSHA and FCALL may write, although a script can say in its first line that it does not (`flags=no-writes`): of the
//! latter two nobody here knows the text, and whether the server heeds that line of the first is not known either. Whoever
//! means EVAL_RO can say so.

use super::*;

const SCRIPT: u32 = NOSCRIPT | STALE | SKIP_MONITOR | NO_MANDATORY_KEYS | MOVABLEKEYS;

#[rustfmt::skip] // A row is one line.
pub(super) const ROWS: &[Command] = &[
    row("eval", -3, SCRIPT | MAY_REPLICATE, counted_or_none(2)).effect(UNKNOWN),
    row("eval_ro", -3, READONLY | SCRIPT, counted_or_none(2)).effect(KEYLESS),
    row("evalsha", -3, SCRIPT | MAY_REPLICATE, counted_or_none(2)).effect(UNKNOWN),
    row("evalsha_ro", -3, READONLY | SCRIPT, counted_or_none(2)).effect(KEYLESS),
    row("fcall", -3, SCRIPT | MAY_REPLICATE, counted_or_none(2)).effect(UNKNOWN),
    row("fcall_ro", -3, READONLY | SCRIPT, counted_or_none(2)).effect(KEYLESS),
    container("function", -2, 0),
    row("function|delete", 3, WRITE | NOSCRIPT, NO_KEYS).spread(ALL_SAME),
    row("function|dump", 2, NOSCRIPT, NO_KEYS),
    row("function|flush", -2, WRITE | NOSCRIPT, NO_KEYS).spread(ALL_SAME),
    row("function|help", 2, ANYTIME, NO_KEYS),
    row("function|kill", 2, NOSCRIPT | ALLOW_BUSY, NO_KEYS).at(ONCE).spread(ANY_DONE),
    row("function|list", -2, NOSCRIPT, NO_KEYS),
    row("function|load", -3, WRITE | DENYOOM | NOSCRIPT, NO_KEYS).spread(ALL_SAME),
    row("function|restore", -3, WRITE | DENYOOM | NOSCRIPT, NO_KEYS).spread(ALL_SAME),
    row("function|stats", 2, NOSCRIPT | ALLOW_BUSY, NO_KEYS),
    container("script", -2, 0),
    row("script|debug", 3, NOSCRIPT, NO_KEYS).at(STICKY),
    row("script|exists", -3, NOSCRIPT, NO_KEYS).spread(ALL_LEAST),
    row("script|flush", -2, NOSCRIPT, NO_KEYS).spread(ALL_SAME),
    row("script|help", 2, ANYTIME, NO_KEYS),
    row("script|kill", 2, NOSCRIPT | ALLOW_BUSY, NO_KEYS).at(ONCE).spread(ANY_DONE),
    row("script|load", 3, NOSCRIPT | STALE, NO_KEYS).spread(ALL_SAME),
    row("script|show", 3, NOSCRIPT, NO_KEYS).unverified(VALKEY_8_0),
];
