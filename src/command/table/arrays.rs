//! Arrays (Redis 8.8).

use super::*;

#[rustfmt::skip] // A row is one line.
pub(super) const ROWS: &[Command] = &[
    row("arcount", 2, READONLY | FAST, KEY).unverified(REDIS_8_8),
    row("ardel", -3, WRITE | FAST, KEY).unverified(REDIS_8_8),
    row("ardelrange", -4, WRITE, KEY).unverified(REDIS_8_8),
    row("arget", 3, READONLY | FAST, KEY).unverified(REDIS_8_8),
    row("argetrange", 4, READONLY, KEY).unverified(REDIS_8_8),
    row("argrep", -6, READONLY, KEY).unverified(REDIS_8_8),
    row("arinfo", -2, READONLY, KEY).unverified(REDIS_8_8),
    row("arinsert", -3, WRITE | DENYOOM | FAST, KEY).unverified(REDIS_8_8),
    row("arlastitems", -3, READONLY, KEY).unverified(REDIS_8_8),
    row("arlen", 2, READONLY | FAST, KEY).unverified(REDIS_8_8),
    row("armget", -3, READONLY | FAST, KEY).unverified(REDIS_8_8),
    row("armset", -4, WRITE | DENYOOM | FAST, KEY).unverified(REDIS_8_8),
    row("arnext", 2, READONLY | FAST, KEY).unverified(REDIS_8_8),
    row("arop", -5, READONLY, KEY).unverified(REDIS_8_8),
    row("arring", -4, WRITE | DENYOOM, KEY).unverified(REDIS_8_8),
    row("arscan", -4, READONLY, KEY).unverified(REDIS_8_8),
    row("arseek", 3, WRITE | FAST, KEY).unverified(REDIS_8_8),
    row("arset", -4, WRITE | DENYOOM | FAST, KEY).unverified(REDIS_8_8),
];
