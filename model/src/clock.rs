//! Where time comes from. The real clock is the server's; tests set one by hand.

use crate::Timestamp;
use std::fmt::Debug;

/// Tells the time. Handed to whoever needs it, so that no code reads the system's clock by itself.
pub trait Clock: Send + Sync + Debug {
    /// The wall-clock time now. May jump; never use it to measure spans.
    fn now(&self) -> Timestamp;
}

/// A clock that stands until it is moved.
#[cfg(feature = "testing")]
#[derive(Debug, Default)]
pub struct HandClock(std::sync::atomic::AtomicI64);

#[cfg(feature = "testing")]
impl HandClock {
    /// A clock that stands at `t`.
    pub fn at(t: Timestamp) -> Self {
        Self(std::sync::atomic::AtomicI64::new(t.millis()))
    }

    /// Sets it.
    pub fn set(&self, t: Timestamp) {
        self.0.store(t.millis(), std::sync::atomic::Ordering::SeqCst);
    }

    /// Moves it on.
    pub fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(feature = "testing")]
impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}
