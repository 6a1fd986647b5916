//! Waiting for a condition, never for time.

use std::time::Duration;

/// Long enough for anything that should happen promptly, on a busy machine with two cores.
pub const SOON: Duration = Duration::from_secs(5);

/// Between two looks at a condition. Short: an invalidation arrives in well under a millisecond.
const POLL: Duration = Duration::from_millis(2);

/// What a condition may answer: `bool`, or an `Option` that carries what was found.
pub trait Condition {
    /// What `wait_for` gives back.
    type Found;
    /// The finding, if the condition holds.
    fn found(self) -> Option<Self::Found>;
}

impl Condition for bool {
    type Found = ();
    fn found(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Condition for Option<T> {
    type Found = T;
    fn found(self) -> Option<T> {
        self
    }
}

/// Asks `condition` until it holds or `limit` has passed; says whether it held. It is asked at least once.
pub fn eventually<C: Condition>(limit: Duration, condition: impl FnMut() -> C) -> bool {
    poll(limit, condition).is_some()
}

/// Like [`eventually`], gives back what was found and panics with `what` if nothing was.
#[track_caller]
pub fn wait_for<C: Condition>(what: &str, limit: Duration, condition: impl FnMut() -> C) -> C::Found {
    match poll(limit, condition) {
        Some(found) => found,
        None => panic!("waited {limit:?} in vain for {what}"),
    }
}

fn poll<C: Condition>(limit: Duration, mut condition: impl FnMut() -> C) -> Option<C::Found> {
    let deadline = ::nearhit::time::now().after(limit);
    loop {
        if let Some(found) = condition().found() {
            return Some(found);
        }
        if ::nearhit::time::now() >= deadline {
            return None;
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one sleep of the test suite: between two looks at a condition"
)]
fn pause() {
    std::thread::sleep(POLL);
}
