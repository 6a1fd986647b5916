//! Lists.

use super::*;

#[rustfmt::skip] // A row is one line.
pub(super) const ROWS: &[Command] = &[
    row("blmove", 6, WRITE | DENYOOM | NOSCRIPT | BLOCKING, keys(1, 2, 1)).at(BLOCKING_CALL),
    row("blmovem", -6, WRITE | DENYOOM | BLOCKING, keys(1, 2, 1)).at(BLOCKING_CALL).unverified(REDIS_8_10),
    row("blmpop", -5, WRITE | BLOCKING | MOVABLEKEYS, counted(2)).at(BLOCKING_CALL),
    row("blpop", -3, WRITE | NOSCRIPT | BLOCKING, keys(1, -2, 1)).at(BLOCKING_CALL),
    row("brpop", -3, WRITE | NOSCRIPT | BLOCKING, keys(1, -2, 1)).at(BLOCKING_CALL),
    row("brpoplpush", 4, WRITE | DENYOOM | NOSCRIPT | BLOCKING, keys(1, 2, 1)).at(BLOCKING_CALL),
    row("lindex", 3, READONLY, KEY).cached(Generic),
    row("linsert", 5, WRITE | DENYOOM, KEY),
    row("llen", 2, READONLY | FAST, KEY).cached(Same),
    row("lmove", 5, WRITE | DENYOOM, keys(1, 2, 1)),
    row("lmovem", -5, WRITE | DENYOOM, keys(1, 2, 1)).unverified(REDIS_8_10),
    row("lmpop", -4, WRITE | MOVABLEKEYS, counted(1)),
    row("lpop", -2, WRITE | FAST, KEY),
    row("lpos", -3, READONLY, KEY).cached(Generic),
    row("lpush", -3, WRITE | DENYOOM | FAST, KEY),
    row("lpushx", -3, WRITE | DENYOOM | FAST, KEY),
    row("lrange", 4, READONLY, KEY).cached(Same),
    row("lrem", 4, WRITE, KEY),
    row("lset", 4, WRITE | DENYOOM, KEY),
    row("ltrim", 4, WRITE, KEY),
    row("rpop", -2, WRITE | FAST, KEY),
    row("rpoplpush", 3, WRITE | DENYOOM, keys(1, 2, 1)),
    row("rpush", -3, WRITE | DENYOOM | FAST, KEY),
    row("rpushx", -3, WRITE | DENYOOM | FAST, KEY),
];
