//! Sessions by the hundred: those that check every byte they hear, and those that come and go as rudely as they can.
#![allow(unreachable_pub, reason = "the module is private to its test")]

pub mod checker;
pub mod rude;
pub mod scene;
