//! How far the log has been read back, for those who wait for it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Segments of the log while it is read. Relaxed: each number stands for itself, and is shown to people.
#[derive(Debug, Default)]
pub struct Replay {
    first: AtomicU64,
    last: AtomicU64,
    current: AtomicU64,
}

impl Replay {
    /// Segments `first` to `last` are going to be read.
    pub fn reads(&self, first: u64, last: u64) {
        self.first.store(first, Ordering::Relaxed);
        self.current.store(first, Ordering::Relaxed);
        self.last.store(last, Ordering::Relaxed);
    }

    /// A segment is being read.
    pub fn at(&self, segment: u64) {
        self.current.store(segment, Ordering::Relaxed);
    }

    /// The first, the last and the current segment; zeros before there are any.
    pub fn segments(&self) -> (u64, u64, u64) {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (of(&self.first), of(&self.last), of(&self.current))
    }
}
