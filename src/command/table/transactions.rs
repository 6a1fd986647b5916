//! Transactions.

use super::*;

#[rustfmt::skip] // A row is one line.
pub(super) const ROWS: &[Command] = &[
    row("discard", 1, NOSCRIPT | ANYTIME | FAST | ALLOW_BUSY, NO_KEYS).at(TRANSACTION),
    row("exec", 1, NOSCRIPT | ANYTIME | SKIP_SLOWLOG, NO_KEYS).at(TRANSACTION).effect(UNKNOWN),
    row("multi", 1, NOSCRIPT | ANYTIME | FAST | ALLOW_BUSY, NO_KEYS).at(TRANSACTION),
    row("unwatch", 1, NOSCRIPT | ANYTIME | FAST | ALLOW_BUSY, NO_KEYS).at(TRANSACTION),
    row("watch", -2, NOSCRIPT | ANYTIME | FAST | ALLOW_BUSY, keys(1, -1, 1)).at(TRANSACTION),
];
