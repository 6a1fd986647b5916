//! What every command means: the table of rows, and all that is derived from a row and a request.
//!
//! ```text
//! Request ─lookup→ Command ─┬ check_arity   may it be sent at all
//!  (CommandTable)  (a row)  ├ place         where it may run
//!                           ├ spread        over which nodes of a cluster
//!                           ├ for_each_key  which arguments are keys ─→ Slot
//!                           ├ effect        what coherence must do about it
//!                           └ cacheable, shape
//! ```
//!
//! A command is one row in `table/`; everything else follows from the rows. Commands that are newer than the table are
//! learned from the upstream's `COMMAND` ([`CommandTable::learn`]).

mod builder;
pub mod error_text;
mod flags;
mod keys;
mod learn;
mod lookup;
mod row;
mod slot;
mod spread;
mod table;

pub use flags::{Flags, flag};
pub use keys::Keys;
pub use learn::LearnedCommand;
pub use lookup::{CommandTable, Last, Lookup};
pub use row::{BadKeys, Cacheable, Command, CommandId, Effect, Origin, Pin, Place};
pub use slot::{SLOT_COUNT, Slot};
pub use spread::{CrossSlot, Merge, Spread};
