//! Points in time and values.

use std::fmt;
use std::ops::{Add, Sub};

/// A point in time: milliseconds since the Unix epoch, negative before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest time.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest time.
    pub const MAX: Self = Self(i64::MAX);

    /// From milliseconds since the epoch.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Seconds since the epoch, as PromQL sees time.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The time `ms` later (earlier if negative), kept within the range of the type.
    pub const fn saturating_add(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The time `ms` earlier (later if negative), kept within the range of the type.
    pub const fn saturating_sub(self, ms: i64) -> Self {
        Self(self.0.saturating_sub(ms))
    }
}

/// Milliseconds between two times, wrapping at the ends of the type.
impl Sub for Timestamp {
    type Output = i64;
    fn sub(self, earlier: Self) -> i64 {
        self.0.wrapping_sub(earlier.0)
    }
}

/// The time that many milliseconds later, wrapping at the ends of the type.
impl Add<i64> for Timestamp {
    type Output = Self;
    fn add(self, ms: i64) -> Self {
        Self(self.0.wrapping_add(ms))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// A float at a time.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// What. A stale marker is a value: see [`is_stale`].
    pub value: f64,
}

/// A span of time with both ends included; empty if `start > end`. Ordered by start, then end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeRange {
    /// First instant.
    pub start: Timestamp,
    /// Last instant.
    pub end: Timestamp,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self {
        start: Timestamp::MIN,
        end: Timestamp::MAX,
    };

    /// From `start` to `end`, both included.
    pub const fn new(start: Timestamp, end: Timestamp) -> Self {
        Self { start, end }
    }

    /// Whether `t` lies in it.
    pub fn contains(&self, t: Timestamp) -> bool {
        self.start <= t && t <= self.end
    }

    /// Whether the two share an instant.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end && !self.is_empty() && !other.is_empty()
    }

    /// Whether no instant lies in it.
    pub fn is_empty(&self) -> bool {
        self.start > self.end
    }
}

/// The bits of the NaN that says "this series ended here" (upstream's `value.StaleNaN`).
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The stale marker. Arithmetic on it gives some other NaN: test with [`is_stale`] first.
pub fn stale_marker() -> f64 {
    f64::from_bits(STALE_BITS)
}

/// Whether a value is the stale marker, by its bits.
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_is_told_from_other_nans() {
        assert!(is_stale(stale_marker()));
        assert!(!is_stale(f64::NAN) && !is_stale(0.0));
    }

    #[test]
    fn ranges_include_both_ends() {
        let r = |a, b| TimeRange::new(Timestamp::from_millis(a), Timestamp::from_millis(b));
        assert!(r(1, 2).overlaps(&r(2, 3)) && !r(1, 2).overlaps(&r(3, 4)));
        assert!(r(2, 1).is_empty() && !r(2, 1).overlaps(&r(0, 9)));
    }
}
