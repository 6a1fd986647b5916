//! The `nearhit` binary.
fn main() {}
