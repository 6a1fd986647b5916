//! The parts of the count of instructions: `ops` is what is counted, `callgrind` counts, `baseline` remembers.

pub(crate) mod baseline;
pub(crate) mod callgrind;
pub(crate) mod ops;
