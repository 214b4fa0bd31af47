//! What tests share (feature `testing`).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::{Clock, Timestamp};

/// A clock that a test turns by hand.
#[derive(Debug)]
pub struct SimClock(AtomicU64);

impl SimClock {
    /// A clock that stands at `ms` since 1970.
    pub fn at(ms: u64) -> SimClock {
        SimClock(AtomicU64::new(ms))
    }

    /// Sets it, also back.
    pub fn set_ms(&self, ms: u64) {
        self.0.store(ms, Ordering::SeqCst);
    }

    /// Lets time pass.
    pub fn advance_ms(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}
