//! Geospatial indexes.

use super::*;

#[rustfmt::skip] // A row is one line.
pub(super) const ROWS: &[Command] = &[
    row("geoadd", -5, WRITE | DENYOOM, KEY),
    row("geodist", -4, READONLY, KEY).cached(Generic),
    row("geohash", -2, READONLY, KEY).cached(Generic),
    row("geopos", -2, READONLY, KEY).cached(NilArrayElements),
    row("georadius", -6, WRITE | DENYOOM | MOVABLEKEYS, Keys::GeoRadius { options: 6 }),
    row("georadius_ro", -6, READONLY, KEY).cached(Generic),
    row("georadiusbymember", -5, WRITE | DENYOOM | MOVABLEKEYS, Keys::GeoRadius { options: 5 }),
    row("georadiusbymember_ro", -5, READONLY, KEY).cached(Generic),
    row("geosearch", -7, READONLY, KEY).cached(Generic),
    row("geosearchstore", -8, WRITE | DENYOOM, keys(1, 2, 1)),
];
