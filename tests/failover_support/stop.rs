//! Telling threads to end.

use parking_lot::{Condvar, Mutex};
use std::time::Duration;

/// Between two rounds of a client: enough load to have something under way at any time, and time for the servers.
const REST: Duration = Duration::from_millis(1);

/// Whether the threads are to end.
#[derive(Debug, Default)]
pub struct Stop {
    /// Guards the answer between the test and its threads; held for a look.
    told: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits until the next round is due; whether there is none.
    pub fn rest(&self) -> bool {
        let mut told = self.told.lock();
        if !*told {
            self.changed.wait_for(&mut told, REST);
        }
        *told
    }
}

/// Tells them when it is dropped, so that they end as well when an assertion fails.
#[derive(Debug)]
pub struct StopOnDrop<'a>(pub &'a Stop);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        *self.0.told.lock() = true;
        self.0.changed.notify_all();
    }
}
