//! Quantiles and fractions of classic histograms: cumulative counts by upper bound.
//!
//! # Reference
//! Prometheus `promql/quantile.go` `BucketQuantile` and `BucketFraction`.

use crate::eval::{ABSENT, is_absent};

/// One bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bucket {
    /// Its upper bound, `le`.
    bound: f64,
    /// Observations up to it.
    count: f64,
}

/// A relative difference between counts that rounding explains.
const TOLERANCE: f64 = 1e-12;

/// How buckets were raised so that counts rise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Raised {
    pub(crate) min_bucket: f64,
    pub(crate) max_bucket: f64,
    pub(crate) max_diff: f64,
}

/// The buckets of a histogram at one step.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    all: Vec<Bucket>,
    /// Bounds rise strictly, for certain.
    rising: bool,
}

impl Buckets {
    /// Takes the values at a step of rows with their bounds. `rising`: the bounds of the rows do so strictly.
    pub(crate) fn fill(&mut self, rows: &[(f64, &[f64])], step: usize, rising: bool) {
        self.rising = rising;
        self.all.clear();
        self.all.extend(rows.iter().filter_map(|(bound, row)| {
            let count = row.get(step).copied().unwrap_or(ABSENT);
            let bound = *bound;
            (!is_absent(count)).then_some(Bucket { bound, count })
        }));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Sorts by bound and adds buckets of the same bound; false if the histogram lacks `+Inf`.
    fn order(&mut self) -> bool {
        let buckets = &mut self.all;
        if !self.rising {
            buckets.sort_by(|a, b| a.bound.total_cmp(&b.bound));
        }
        if buckets.last().is_none_or(|b| b.bound != f64::INFINITY) {
            return false;
        }
        if !self.rising {
            buckets.dedup_by(|next, kept| {
                let same = next.bound == kept.bound;
                if same {
                    kept.count += next.count;
                }
                same
            });
        }
        true
    }
}

/// Makes counts rise: small differences are rounding, falls are raised.
fn raise(buckets: &mut [Bucket]) -> Option<Raised> {
    let mut raised: Option<Raised> = None;
    let mut previous = buckets.first()?.count;
    for bucket in buckets.iter_mut().skip(1) {
        if bucket.count == previous {
            continue;
        }
        if nearly_equal(previous, bucket.count) {
            bucket.count = previous;
        } else if bucket.count < previous {
            let diff = previous - bucket.count;
            let r = raised.get_or_insert(Raised {
                min_bucket: bucket.bound,
                max_bucket: bucket.bound,
                max_diff: diff,
            });
            r.min_bucket = r.min_bucket.min(bucket.bound);
            r.max_bucket = r.max_bucket.max(bucket.bound);
            r.max_diff = r.max_diff.max(diff);
            bucket.count = previous;
        } else {
            previous = bucket.count;
        }
    }
    raised
}

/// Upstream's `almost.Equal` at [`TOLERANCE`].
fn nearly_equal(a: f64, b: f64) -> bool {
    if a == b || a.is_nan() && b.is_nan() {
        return true;
    }
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    // Nearly always they are far apart, which a product says without a division; not of numbers so small that it loses
    // digits.
    if diff > sum * (2.0 * TOLERANCE) && diff > 1e-280 {
        return false;
    }
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < TOLERANCE * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < TOLERANCE
}

/// The first bucket that reaches a rank. Counts that are no numbers break the order that a search relies on: what it finds
/// then depends on where it looks, so it looks where Go's `sort.Search` does.
fn first_reaching(rank: f64, buckets: &[Bucket]) -> usize {
    let (mut from, mut to) = (0, buckets.len());
    while from < to {
        let middle = from.midpoint(to);
        if buckets[middle].count >= rank {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    from
}

/// The q-quantile, and how the buckets had to be changed. Leaves the buckets in order.
pub(crate) fn quantile(q: f64, buckets: &mut Buckets) -> (f64, Option<Raised>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if !buckets.order() {
        return (f64::NAN, None);
    }
    let buckets = buckets.all.as_mut_slice();
    let raised = raise(buckets);
    let [.., next_to_last, last] = &*buckets else {
        return (f64::NAN, None);
    };
    if last.count == 0.0 {
        return (f64::NAN, None);
    }
    let mut rank = q * last.count;
    let but_last = &buckets[..buckets.len() - 1];
    let at = first_reaching(rank, but_last);
    let Some(bucket) = but_last.get(at) else {
        return (next_to_last.bound, raised);
    };
    let (mut start, mut count) = (0.0, bucket.count);
    match at.checked_sub(1).and_then(|i| but_last.get(i)) {
        Some(below) => {
            start = below.bound;
            count -= below.count;
            rank -= below.count;
        }
        None if bucket.bound <= 0.0 => return (bucket.bound, raised),
        None => {}
    }
    (start + (bucket.bound - start) * (rank / count), raised)
}

/// The share of observations above `lower` and up to `upper`. Leaves the buckets in order.
pub(crate) fn fraction(lower: f64, upper: f64, buckets: &mut Buckets) -> f64 {
    if !buckets.order() {
        return f64::NAN;
    }
    let buckets = &buckets.all;
    let count = buckets.last().map_or(0.0, |b| b.count);
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank = |bound: f64| rank_of(bound, buckets, count);
    (rank(upper) - rank(lower)) / count
}

/// How many observations lie below a bound.
fn rank_of(bound: f64, buckets: &[Bucket], count: f64) -> f64 {
    let mut below = 0.0;
    let mut start = f64::NEG_INFINITY;
    for (i, bucket) in buckets.iter().enumerate() {
        if i == 0 && bucket.bound > 0.0 {
            start = 0.0;
        }
        if start >= bound {
            return f64::min(below, count);
        }
        if bucket.bound > bound {
            let rank = if start == f64::NEG_INFINITY {
                bucket.count
            } else {
                below + (bucket.count - below) * (bound - start) / (bucket.bound - start)
            };
            return if rank > count { count } else { rank };
        }
        below = bucket.count;
        start = bucket.bound;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Buckets {
        let rows: Vec<(f64, &[f64])> = pairs
            .iter()
            .map(|(bound, count)| (*bound, std::slice::from_ref(count)))
            .collect();
        let mut buckets = Buckets::default();
        buckets.fill(&rows, 0, pairs.windows(2).all(|w| w[0].0 < w[1].0));
        buckets
    }

    #[test]
    fn what_is_nearly_equal_is_so_by_a_product_too() {
        for a in [0.0, 1.0, 1e12, 1e-300, 5e-324, 1e308, f64::INFINITY, f64::NAN] {
            for factor in [
                0.0,
                1.0 - 4e-12,
                1.0 - 1e-12,
                1.0,
                1.0 + 1.9e-12,
                1.0 + 2.1e-12,
                1.0 + 4e-12,
                1.5,
                f64::INFINITY,
            ] {
                let b: f64 = a * factor;
                let (sum, diff) = (a + b, (a - b).abs());
                let expect = a == b
                    || a.is_nan() && b.is_nan()
                    || if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
                        diff < TOLERANCE * f64::MIN_POSITIVE
                    } else {
                        diff / sum.min(f64::MAX) < TOLERANCE
                    };
                assert_eq!(nearly_equal(a, b), expect, "{a:e} {b:e}");
            }
        }
    }

    #[test]
    fn quantiles_of_classic_histograms() {
        let inf = f64::INFINITY;
        let plain = [(0.1, 1.0), (inf, 4.0), (0.2, 3.0)];
        for (q, pairs, expect) in [
            (0.5, plain.to_vec(), 0.15),
            (0.25, plain.to_vec(), 0.1),
            (0.99, plain.to_vec(), 0.2),
            (-0.1, plain.to_vec(), -inf),
            (1.1, plain.to_vec(), inf),
            (0.5, vec![(-1.0, 2.0), (inf, 2.0)], -1.0),
            (0.5, vec![(1.0, 1.0), (1.0, 1.0), (inf, 2.0)], 0.5),
        ] {
            let got = quantile(q, &mut buckets(&pairs)).0;
            assert!(nearly_equal(got, expect), "{q} {pairs:?}: {got}");
        }
        for pairs in [vec![(1.0, 1.0)], vec![(inf, 1.0)], vec![(1.0, 0.0), (inf, 0.0)]] {
            assert!(quantile(0.5, &mut buckets(&pairs)).0.is_nan());
        }
    }

    #[test]
    fn falling_counts_are_raised_and_told() {
        let (value, raised) = quantile(
            0.5,
            &mut buckets(&[(1.0, 2.0), (2.0, 1.0), (3.0, 4.0), (f64::INFINITY, 4.0)]),
        );
        assert_eq!(value, 1.0);
        assert_eq!(
            raised,
            Some(Raised {
                min_bucket: 2.0,
                max_bucket: 2.0,
                max_diff: 1.0
            })
        );
        let rounding = [(1.0, 2.0), (2.0, 2.0 - 1e-15), (f64::INFINITY, 2.0)];
        assert_eq!(quantile(0.5, &mut buckets(&rounding)).1, None);
    }

    #[test]
    fn fractions_interpolate() {
        let pairs = [(1.0, 2.0), (2.0, 6.0), (f64::INFINITY, 8.0)];
        for (lower, upper, expect) in [
            (f64::NEG_INFINITY, f64::INFINITY, 1.0),
            (0.0, 1.0, 0.25),
            (1.0, 1.5, 0.25),
            (2.0, 1.0, 0.0),
        ] {
            assert_eq!(fraction(lower, upper, &mut buckets(&pairs)), expect, "{lower} {upper}");
        }
    }
}
