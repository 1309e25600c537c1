//! `rate_limit`: a bucket of tokens that fills at a steady pace.

use std::time::{Duration, Instant};

/// How many requests may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    /// One request each.
    pub(super) interval: Duration,
    /// This many at once.
    pub(super) burst: u32,
}

/// What is left of a rate.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    of: Option<Rate>,
    tokens: f64,
    at: Option<Instant>,
}

impl Bucket {
    /// Whether one more request may come now. A rate that has changed begins with its whole burst.
    pub(super) fn admits(&mut self, rate: Rate, now: Instant) -> bool {
        let full = f64::from(rate.burst);
        if self.of != Some(rate) {
            (self.of, self.tokens, self.at) = (Some(rate), full, Some(now));
        }
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.tokens = full.min(self.tokens + passed.as_secs_f64() / rate.interval.as_secs_f64());
        self.at = Some(now);
        let admits = self.tokens >= 1.0;
        if admits {
            self.tokens -= 1.0;
        }
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_let_through_then_one_each_interval() {
        let rate = Rate {
            interval: Duration::from_millis(100),
            burst: 2,
        };
        let (mut bucket, begun) = (Bucket::default(), Instant::now());
        let mut at = |ms: u64| bucket.admits(rate, begun + Duration::from_millis(ms));
        assert_eq!(
            [at(0), at(0), at(0), at(50), at(110), at(120)],
            [true, true, false, false, true, false]
        );
        // Rest fills the burst and no more.
        assert_eq!([at(5000), at(5000), at(5000)], [true, true, false]);
        let none = Rate { burst: 0, ..rate };
        assert!(!bucket.admits(none, begun + Duration::from_secs(60)));
    }
}
