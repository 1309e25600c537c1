//! Which reads are short: those that were when they were asked for last.
//!
//! ```text
//!   likeness of a read ──> slot:   rest of the likeness, 32 bits │ how long it took, microseconds, 32 bits
//! ```
//!
//! Dashboards and scripts ask the same again and again, with other times. To have another thread take over what a
//! thread has beside a read costs as much as a short read does, so it is done for those that are long, or not known.

use super::params::Params;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Up to this, a read may keep its thread from other work.
const SHORT_US: u64 = 2000;
/// How many reads are known at most; each in a slot of its own if no other has the same.
const SLOTS: usize = 1024;

/// What is known of reads. Relaxed throughout: a slot stands for itself, and says no more than what is likely.
#[derive(Debug)]
pub(super) struct Pace {
    slots: Vec<AtomicU64>,
    /// So that nobody can have a long read taken for a short one.
    state: RandomState,
}

/// Equal for reads that are likely to take equally long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Likeness(u64);

impl Default for Pace {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            state: RandomState::new(),
        }
    }
}

impl Pace {
    /// What a read is like: all that is asked for but the times, of which the span between them counts.
    pub(super) fn likeness(&self, params: &Params) -> Likeness {
        let mut hasher = self.state.build_hasher();
        params.hash_without_times(&mut hasher);
        Likeness(hasher.finish())
    }

    fn slot(&self, read: Likeness) -> Option<&AtomicU64> {
        self.slots.get(read.0 as usize % SLOTS)
    }

    /// Whether the last read like this was short.
    pub(super) fn is_short(&self, read: Likeness) -> bool {
        let known = self.slot(read).map_or(0, |slot| slot.load(Ordering::Relaxed));
        known >> 32 == read.0 >> 32 && known & 0xffff_ffff <= SHORT_US && known != 0
    }

    /// Takes down how long a read took.
    pub(super) fn took(&self, read: Likeness, time: Duration) {
        let us = u64::try_from(time.as_micros())
            .unwrap_or(u64::MAX)
            .clamp(1, 0xffff_ffff);
        if let Some(slot) = self.slot(read) {
            slot.store(read.0 >> 32 << 32 | us, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Request;

    async fn params(uri: &str) -> Params {
        let request = Request::get(uri).body(Body::empty()).unwrap();
        Params::read(request, 1000, &tidegauge_model::Meter::unlimited("tests"))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_read_is_like_another_with_other_times_but_not_with_another_span() {
        let pace = Pace::default();
        let like = async |a: &str, b: &str| {
            let (a, b) = (params(a).await, params(b).await);
            pace.likeness(&a).0 == pace.likeness(&b).0
        };
        assert!(like("/q?query=x&start=10&end=20&step=1", "/q?query=x&start=30&end=40&step=1").await);
        assert!(like("/q?query=x&time=10", "/q?query=x&time=2026-01-02T03:04:05Z").await);
        for other in [
            "/q?query=x&start=10&end=21&step=1",
            "/q?query=x&start=10&end=20&step=2",
            "/q?query=y&start=10&end=20&step=1",
            "/r?query=x&start=10&end=20&step=1",
            "/q?query=x&start=10&step=1",
        ] {
            assert!(!like("/q?query=x&start=10&end=20&step=1", other).await, "{other}");
        }
        // A name does not run into its value.
        assert!(!like("/q?ab=c", "/q?a=bc").await);
    }

    #[test]
    fn a_read_is_as_short_as_it_last_was() {
        let pace = Pace::default();
        let read = Likeness(7 << 32 | 5);
        assert!(!pace.is_short(read) && !pace.is_short(Likeness(0)), "not known");
        pace.took(read, Duration::from_micros(50));
        assert!(pace.is_short(read) && !pace.is_short(Likeness(8 << 32 | 5)));
        pace.took(read, Duration::from_millis(50));
        assert!(!pace.is_short(read));
        pace.took(read, Duration::ZERO);
        assert!(pace.is_short(read));
        pace.took(Likeness(8 << 32 | 5), Duration::from_micros(50));
        assert!(!pace.is_short(read), "the slot went to another");
    }
}
