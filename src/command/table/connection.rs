//! The connection and its client.

use super::*;

#[rustfmt::skip] // A row is one line.
pub(super) const ROWS: &[Command] = &[
    row("auth", -2, NOSCRIPT | ANYTIME | FAST | NO_AUTH | ALLOW_BUSY, NO_KEYS).at(LOCAL),
    container("client", -2, 0),
    row("client|caching", 3, NOSCRIPT | ANYTIME, NO_KEYS).at(STICKY),
    row("client|capa", -3, NOSCRIPT | ANYTIME, NO_KEYS).at(LOCAL).unverified(VALKEY_8_0),
    row("client|getname", 2, NOSCRIPT | ANYTIME, NO_KEYS).at(LOCAL),
    row("client|getredir", 2, NOSCRIPT | ANYTIME, NO_KEYS).edited(),
    row("client|help", 2, ANYTIME, NO_KEYS),
    row("client|id", 2, NOSCRIPT | ANYTIME, NO_KEYS).at(LOCAL),
    row("client|import-source", 3, NOSCRIPT | ANYTIME, NO_KEYS).at(STICKY).unverified(VALKEY_8_1),
    row("client|info", 2, NOSCRIPT | ANYTIME, NO_KEYS).at(LOCAL),
    row("client|kill", -3, ADMIN | NOSCRIPT | ANYTIME, NO_KEYS).at(LOCAL),
    row("client|list", -2, ADMIN | NOSCRIPT | ANYTIME, NO_KEYS).at(LOCAL),
    row("client|no-evict", 3, ADMIN | NOSCRIPT | ANYTIME, NO_KEYS).at(LOCAL),
    row("client|no-touch", 3, NOSCRIPT | ANYTIME, NO_KEYS).at(STICKY).unverified(REDIS_7_2),
    row("client|pause", -3, ADMIN | NOSCRIPT | ANYTIME, NO_KEYS).at(ONCE),
    row("client|reply", 3, NOSCRIPT | ANYTIME, NO_KEYS).at(LOCAL),
    row("client|setinfo", 4, NOSCRIPT | ANYTIME, NO_KEYS).at(LOCAL).unverified(REDIS_7_2),
    row("client|setname", 3, NOSCRIPT | ANYTIME, NO_KEYS).at(LOCAL),
    row("client|tracking", -3, NOSCRIPT | ANYTIME, NO_KEYS).at(STICKY),
    row("client|trackinginfo", 2, NOSCRIPT | ANYTIME, NO_KEYS).edited(),
    row("client|unblock", -3, ADMIN | NOSCRIPT | ANYTIME, NO_KEYS).at(LOCAL),
    row("client|unpause", 2, ADMIN | NOSCRIPT | ANYTIME, NO_KEYS).at(ONCE),
    row("echo", 2, ANYTIME | FAST, NO_KEYS),
    row("hello", -1, NOSCRIPT | ANYTIME | FAST | NO_AUTH | ALLOW_BUSY, NO_KEYS).at(LOCAL),
    row("ping", -1, FAST, NO_KEYS),
    row("quit", -1, NOSCRIPT | ANYTIME | FAST | NO_AUTH | ALLOW_BUSY, NO_KEYS).at(LOCAL),
    row("reset", 1, NOSCRIPT | ANYTIME | FAST | NO_AUTH | ALLOW_BUSY, NO_KEYS).at(LOCAL),
    row("select", 2, ANYTIME | FAST, NO_KEYS).at(LOCAL),
];
