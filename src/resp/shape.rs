//! How a command's RESP3 reply becomes the reply a RESP2 client expects (`to_resp2`).

/// What is special about turning a command's RESP3 reply into RESP2, beyond the generic rules (maps and sets become
/// arrays, doubles become bulk strings, `_` becomes `$-1`, booleans become integers).
///
/// Measured on redis-server 7.0.15, an 8.0 pre-release and Valkey 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Shape {
    /// The bytes are the same in both protocols.
    Same,
    /// The generic rules are enough.
    #[default]
    Generic,
    /// `*N` of `*2 member score` becomes flat `*2N`: ZRANGE … WITHSCORES and its relatives. A reply that is not an array
    /// of two-element arrays follows the generic rules.
    Pairs,
    /// A top-level `_` becomes `*-1`: ZRANK … WITHSCORE on a missing member.
    NilArray,
    /// A `_` that is an element of the top-level array becomes `*-1`: missing members of GEOPOS.
    NilArrayElements,
}
