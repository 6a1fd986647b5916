//! Streams.

use super::*;

#[rustfmt::skip] // A row is one line.
pub(super) const ROWS: &[Command] = &[
    row("xack", -4, WRITE | FAST, KEY),
    row("xackdel", -6, WRITE | FAST, KEY).unverified(REDIS_8_2),
    row("xadd", -5, WRITE | DENYOOM | FAST, KEY),
    row("xautoclaim", -6, WRITE | FAST, KEY),
    row("xcfgset", -2, WRITE | FAST, KEY).unverified(REDIS_8_6),
    row("xclaim", -6, WRITE | FAST, KEY),
    row("xdel", -3, WRITE | FAST, KEY),
    row("xdelex", -5, WRITE | FAST, KEY).unverified(REDIS_8_2),
    container("xgroup", -2, 0),
    row("xgroup|create", -5, WRITE | DENYOOM, key(2)),
    row("xgroup|createconsumer", 5, WRITE | DENYOOM, key(2)),
    row("xgroup|delconsumer", 5, WRITE, key(2)),
    row("xgroup|destroy", 4, WRITE, key(2)),
    row("xgroup|help", 2, ANYTIME, NO_KEYS),
    row("xgroup|setid", -5, WRITE, key(2)),
    row("xidmprecord", 5, WRITE | DENYOOM | FAST, KEY).unverified(REDIS_8_6),
    container("xinfo", -2, 0),
    row("xinfo|consumers", 4, READONLY, key(2)),
    row("xinfo|groups", 3, READONLY, key(2)),
    row("xinfo|help", 2, ANYTIME, NO_KEYS),
    row("xinfo|stream", -3, READONLY, key(2)),
    row("xlen", 2, READONLY | FAST, KEY).cached(Same),
    row("xnack", -7, WRITE | FAST, KEY).unverified(REDIS_8_8),
    row("xpending", -3, READONLY, KEY),
    row("xrange", -4, READONLY, KEY).cached(Same),
    row("xread", -4, READONLY | BLOCKING | MOVABLEKEYS, Keys::Streams),
    row("xreadgroup", -7, WRITE | BLOCKING | MOVABLEKEYS, Keys::Streams),
    row("xrevrange", -4, READONLY, KEY).cached(Same),
    row("xsetid", -3, WRITE | DENYOOM | FAST, KEY),
    row("xtrim", -4, WRITE, KEY),
];
