//! What the library takes from its surroundings: time and randomness.
//!
//! Both come in from outside, so that a simulator can own them.

use std::sync::{Arc, Mutex, PoisonError};

use crate::time::Clock;

/// Time and randomness.
#[derive(Debug, Clone)]
pub struct Env {
    /// The clock.
    pub clock: Clock,
    random: Arc<Mutex<fastrand::Rng>>,
}

impl Env {
    /// The real clock, and randomness from the operating system.
    #[must_use]
    pub fn system() -> Self {
        // A random UUID draws from the system's generator, and afresh in a forked process.
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        Self::seeded(Clock::system(), high ^ low.rotate_left(32))
    }

    /// Everything random follows from `seed`.
    #[must_use]
    pub fn seeded(clock: Clock, seed: u64) -> Self {
        Self { clock, random: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))) }
    }

    /// A random number that is not 0.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).u64(1..)
    }

    /// A random number below `end`; 0 if `end` is 0.
    #[must_use]
    pub fn random_below(&self, end: u64) -> u64 {
        if end == 0 {
            return 0;
        }
        self.random.lock().unwrap_or_else(PoisonError::into_inner).u64(..end)
    }
}
