//! What threads share here: the real thing, or, in a build for loom, what loom can follow through every order of events
//! that the memory model allows. Counters for metrics are not part of it: nothing is decided by them.

#[cfg(not(feature = "loom"))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicU8, AtomicU64};

    pub(crate) use arc_swap::ArcSwap as Shared;
    pub(crate) use parking_lot::{Mutex, MutexGuard};
}

#[cfg(feature = "loom")]
mod modelled {
    use std::sync::Arc;

    pub(crate) use loom::sync::MutexGuard;
    pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU64};

    /// Loom's lock with the real one's face.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            match self.0.lock() {
                Ok(guard) => guard,
                Err(poisoned) => poisoned.into_inner(),
            }
        }
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    /// A lock in the place of `ArcSwap`, whose inside loom cannot see. It is no weaker than what callers rely on: a load
    /// sees what was swapped in before it.
    #[derive(Debug)]
    pub(crate) struct Shared<T>(Mutex<Arc<T>>);

    impl<T> Shared<T> {
        pub(crate) fn from_pointee(value: T) -> Self {
            Self(Mutex::new(Arc::new(value)))
        }

        pub(crate) fn load(&self) -> Arc<T> {
            Arc::clone(&self.0.lock())
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            self.load()
        }

        pub(crate) fn swap(&self, next: Arc<T>) -> Arc<T> {
            std::mem::replace(&mut self.0.lock(), next)
        }
    }
}

#[cfg(feature = "loom")]
pub(crate) use modelled::*;
#[cfg(not(feature = "loom"))]
pub(crate) use real::*;
