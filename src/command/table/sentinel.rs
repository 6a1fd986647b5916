//! Redis Sentinel: what it answers instead of a data node.

use super::*;

#[rustfmt::skip] // A row is one line.
pub(super) const ROWS: &[Command] = &[
    container("sentinel", -2, ADMIN),
    row("sentinel|ckquorum", 3, ADMIN, NO_KEYS),
    row("sentinel|config", -3, ADMIN, NO_KEYS),
    row("sentinel|debug", -2, ADMIN, NO_KEYS),
    row("sentinel|failover", 3, ADMIN, NO_KEYS),
    row("sentinel|flushconfig", 2, ADMIN, NO_KEYS),
    row("sentinel|get-master-addr-by-name", 3, ADMIN, NO_KEYS),
    row("sentinel|get-primary-addr-by-name", 3, ADMIN, NO_KEYS).unverified(VALKEY_8_0),
    row("sentinel|help", 2, ANYTIME, NO_KEYS),
    row("sentinel|info-cache", -3, ADMIN, NO_KEYS),
    row("sentinel|is-master-down-by-addr", 6, ADMIN, NO_KEYS),
    row("sentinel|is-primary-down-by-addr", 6, ADMIN, NO_KEYS).unverified(VALKEY_8_0),
    row("sentinel|master", 3, ADMIN, NO_KEYS),
    row("sentinel|masters", 2, ADMIN, NO_KEYS),
    row("sentinel|monitor", 6, ADMIN, NO_KEYS),
    row("sentinel|myid", 2, ADMIN, NO_KEYS),
    row("sentinel|pending-scripts", 2, ADMIN, NO_KEYS),
    row("sentinel|primaries", 2, ADMIN, NO_KEYS).unverified(VALKEY_8_0),
    row("sentinel|primary", 3, ADMIN, NO_KEYS).unverified(VALKEY_8_0),
    row("sentinel|remove", 3, ADMIN, NO_KEYS),
    row("sentinel|replicas", 3, ADMIN, NO_KEYS),
    row("sentinel|reset", 3, ADMIN, NO_KEYS),
    row("sentinel|sentinels", 3, ADMIN, NO_KEYS),
    row("sentinel|set", -5, ADMIN, NO_KEYS),
    row("sentinel|simulate-failure", -3, ADMIN, NO_KEYS),
    row("sentinel|slaves", 3, ADMIN, NO_KEYS),
];
