//! What a summary metric tells: how many values there were, their sum, and quantiles of the newest ones.

use std::time::{Duration, Instant};

/// Quantiles are of the values of the last five to ten minutes; upstream's are of the last ten.
const WINDOW: Duration = Duration::from_secs(300);
/// A bucket is a sixteenth of an octave, so that a quantile is off by a thirty-second at most.
const STEPS_PER_OCTAVE: usize = 16;
/// Bits of a float below those that tell its octave and its sixteenth.
const SHIFT: u32 = 52 - STEPS_PER_OCTAVE.ilog2();
/// 2^-30, about a nanosecond in seconds: what is less counts as this.
const SMALLEST: f64 = 1.0 / (1u64 << 30) as f64;
/// Up to 2^20, some twelve days in seconds: what is more counts as the last bucket.
const BUCKETS: usize = 50 * STEPS_PER_OCTAVE;

/// Samples as a crate lists them for `/metrics`: labels, of which one without a name holds the end of the metric's
/// name, and a value.
pub type SummarySamples = Vec<(Vec<(&'static str, String)>, f64)>;

/// Counts values that are not negative, seconds mostly. Some kilobytes at most, and nothing until there is a value.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    count: u64,
    sum: f64,
    /// The window that is filled, and the one before.
    windows: [Window; 2],
    /// When the first of them began.
    turned: Option<Instant>,
}

#[derive(Debug, Clone, Default)]
struct Window {
    counts: Vec<u32>,
    total: u64,
    smallest: f64,
    largest: f64,
}

impl Summary {
    /// Takes a value at a time, which does not go back.
    pub fn observe(&mut self, at: Instant, value: f64) {
        self.turn(at);
        self.count += 1;
        self.sum += value;
        self.windows[0].take(value);
    }

    /// [`Summary::observe`] of a time in seconds.
    pub fn observe_time(&mut self, at: Instant, took: Duration) {
        self.observe(at, took.as_secs_f64());
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The value that a share `q` of the newest values does not pass; not a number if there are none.
    pub fn quantile(&mut self, at: Instant, q: f64) -> f64 {
        self.turn(at);
        let [new, old] = &self.windows;
        let total = new.total + old.total;
        if total == 0 {
            return f64::NAN;
        }
        let rank = ((q * total as f64).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        let smallest = new.smallest_or(f64::INFINITY).min(old.smallest_or(f64::INFINITY));
        let largest = new.largest.max(old.largest);
        for bucket in 0..BUCKETS {
            seen += new.in_bucket(bucket) + old.in_bucket(bucket);
            if seen >= rank && bucket + 1 < BUCKETS {
                return middle(bucket).clamp(smallest, largest);
            }
        }
        largest
    }

    /// The samples for `/metrics`, with these labels and for these quantiles.
    pub fn samples(&mut self, at: Instant, labels: &[(&'static str, String)], quantiles: &[f64]) -> SummarySamples {
        let with = |name: &'static str, value: String| {
            let mut labels = labels.to_vec();
            labels.push((name, value));
            labels
        };
        let mut samples = SummarySamples::new();
        for q in quantiles {
            samples.push((with("quantile", q.to_string()), self.quantile(at, *q)));
        }
        samples.push((with("", "_sum".to_owned()), self.sum));
        samples.push((with("", "_count".to_owned()), self.count as f64));
        samples
    }

    /// Begins another window if it is time.
    fn turn(&mut self, at: Instant) {
        let begun = *self.turned.get_or_insert(at);
        let age = at.saturating_duration_since(begun);
        if age < WINDOW {
            return;
        }
        self.windows.swap(0, 1);
        self.windows[0].clear();
        if age >= 2 * WINDOW {
            self.windows[1].clear();
        }
        self.turned = Some(at);
    }
}

impl Window {
    fn take(&mut self, value: f64) {
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        if let Some(count) = self.counts.get_mut(bucket_of(value)) {
            *count = count.saturating_add(1);
        }
        let first = self.total == 0;
        self.smallest = if first { value } else { self.smallest.min(value) };
        self.largest = if first { value } else { self.largest.max(value) };
        self.total += 1;
    }

    fn in_bucket(&self, bucket: usize) -> u64 {
        self.counts.get(bucket).copied().map_or(0, u64::from)
    }

    fn smallest_or(&self, none: f64) -> f64 {
        if self.total == 0 { none } else { self.smallest }
    }

    fn clear(&mut self) {
        self.counts.fill(0);
        (self.total, self.smallest, self.largest) = (0, 0.0, 0.0);
    }
}

/// Octaves are what the exponent of a float tells, and the first bits behind it divide them evenly.
fn bucket_of(value: f64) -> usize {
    let bits = value.max(SMALLEST).to_bits() >> SHIFT;
    let bucket = usize::try_from(bits - (SMALLEST.to_bits() >> SHIFT)).unwrap_or(BUCKETS);
    bucket.min(BUCKETS - 1)
}

fn middle(bucket: usize) -> f64 {
    let bits = (SMALLEST.to_bits() >> SHIFT) + bucket as u64;
    f64::midpoint(f64::from_bits(bits << SHIFT), f64::from_bits((bits + 1) << SHIFT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_and_sums_exact() {
        let (begun, mut summary) = (Instant::now(), Summary::default());
        assert!(summary.quantile(begun, 0.5).is_nan());
        for i in 1..=1000 {
            summary.observe(begun, f64::from(i) / 1000.0);
        }
        for (q, exact) in [(0.01, 0.01), (0.5, 0.5), (0.9, 0.9), (0.99, 0.99), (1.0, 1.0)] {
            let found = summary.quantile(begun, q);
            assert!((found / exact - 1.0).abs() <= 1.0 / 32.0, "{q}: {found}");
        }
        assert_eq!((summary.count(), summary.sum), (1000, 500.5));
    }

    #[test]
    fn the_smallest_and_the_largest_bound_what_is_told() {
        let (begun, mut summary) = (Instant::now(), Summary::default());
        for value in [0.0, 1e-12, 15.0, 1e9] {
            let mut one = Summary::default();
            one.observe(begun, value);
            assert_eq!(one.quantile(begun, 0.5), value);
            summary.observe(begun, value);
        }
        assert_eq!(summary.quantile(begun, 1.0), 1e9);
    }

    #[test]
    fn old_values_are_forgotten_by_quantiles_alone() {
        let (begun, mut summary) = (Instant::now(), Summary::default());
        let after = |windows: u32| begun + WINDOW * windows;
        summary.observe(begun, 1.0);
        summary.observe(after(1), 4.0);
        assert!((1.0..1.1).contains(&summary.quantile(after(1), 0.5)));
        assert_eq!(summary.quantile(after(2), 0.5), 4.0);
        assert!(summary.quantile(after(4), 0.5).is_nan());
        assert_eq!(summary.count(), 2);
        let mut idle = Summary::default();
        idle.observe(begun, 1.0);
        assert!(idle.quantile(after(3), 0.5).is_nan());
    }

    #[test]
    fn samples_carry_labels_and_ends_of_names() {
        let (begun, mut summary) = (Instant::now(), Summary::default());
        summary.observe_time(begun, Duration::from_millis(1500));
        let labels = [("slice", "a".to_owned())];
        let named = |name, value: &str| vec![("slice", "a".to_owned()), (name, value.to_owned())];
        assert_eq!(
            summary.samples(begun, &labels, &[0.9]),
            [
                (named("quantile", "0.9"), 1.5),
                (named("", "_sum"), 1.5),
                (named("", "_count"), 1.0)
            ]
        );
    }
}
