//! Vector sets (Redis 8.0).

use super::*;

#[rustfmt::skip] // A row is one line.
pub(super) const ROWS: &[Command] = &[
    row("vadd", -5, WRITE | DENYOOM | MODULE, KEY).unverified(REDIS_8_0),
    row("vcard", 2, READONLY | FAST | MODULE, KEY).unverified(REDIS_8_0),
    row("vdim", 2, READONLY | FAST | MODULE, KEY).unverified(REDIS_8_0),
    row("vemb", -3, READONLY | FAST | MODULE, KEY).unverified(REDIS_8_0),
    row("vgetattr", 3, READONLY | FAST | MODULE, KEY).unverified(REDIS_8_0),
    row("vinfo", 2, READONLY | FAST | MODULE, KEY).unverified(REDIS_8_0),
    row("vismember", 3, READONLY | MODULE, KEY).unverified(REDIS_8_2),
    row("vlinks", -3, READONLY | FAST | MODULE, KEY).unverified(REDIS_8_0),
    row("vrandmember", -2, READONLY | MODULE, KEY).unverified(REDIS_8_0),
    row("vrange", -4, READONLY | MODULE, KEY).unverified(REDIS_8_4),
    row("vrem", 3, WRITE | MODULE, KEY).unverified(REDIS_8_0),
    row("vsetattr", 4, WRITE | FAST | MODULE, KEY).unverified(REDIS_8_0),
    row("vsim", -4, READONLY | MODULE, KEY).unverified(REDIS_8_0),
];
