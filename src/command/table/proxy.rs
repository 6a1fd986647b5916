//! nearhit's own command.

use super::*;

#[rustfmt::skip] // A row is one line.
pub(super) const ROWS: &[Command] = &[
    row("proxy", -1, ADMIN | NOSCRIPT | ANYTIME, NO_KEYS).at(LOCAL).own(),
];
