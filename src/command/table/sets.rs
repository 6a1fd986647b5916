//! Sets.

use super::*;

#[rustfmt::skip] // A row is one line.
pub(super) const ROWS: &[Command] = &[
    row("sadd", -3, WRITE | DENYOOM | FAST, KEY),
    row("scard", 2, READONLY | FAST, KEY).cached(Same),
    row("sdiff", -2, READONLY, keys(1, -1, 1)),
    row("sdiffcard", -3, READONLY | MOVABLEKEYS, counted(1)).unverified(REDIS_8_10),
    row("sdiffstore", -3, WRITE | DENYOOM, keys(1, -1, 1)),
    row("sinter", -2, READONLY, keys(1, -1, 1)),
    row("sintercard", -3, READONLY | MOVABLEKEYS, counted(1)),
    row("sinterstore", -3, WRITE | DENYOOM, keys(1, -1, 1)),
    row("sismember", 3, READONLY | FAST, KEY).cached(Same),
    row("smembers", 2, READONLY, KEY).cached(Generic),
    row("smismember", -3, READONLY | FAST, KEY).cached(Same),
    row("smove", 4, WRITE | FAST, keys(1, 2, 1)),
    row("spop", -2, WRITE | FAST, KEY),
    row("srandmember", -2, READONLY, KEY),
    row("srem", -3, WRITE | FAST, KEY),
    row("sscan", -3, READONLY, KEY),
    row("sunion", -2, READONLY, keys(1, -1, 1)),
    row("sunioncard", -3, READONLY | MOVABLEKEYS, counted(1)).unverified(REDIS_8_10),
    row("sunionstore", -3, WRITE | DENYOOM, keys(1, -1, 1)),
];
