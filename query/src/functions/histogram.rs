//! Quantiles and fractions of classic histograms: cumulative counts by upper bound.
//!
//! # Reference
//! Prometheus `promql/quantile.go` `BucketQuantile` and `BucketFraction`.

/// One bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    /// Its upper bound, `le`.
    pub(crate) bound: f64,
    /// Observations up to it.
    pub(crate) count: f64,
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

/// Sorts by bound and adds buckets of the same bound; false if the histogram lacks `+Inf`.
fn order(buckets: &mut Vec<Bucket>) -> bool {
    buckets.sort_by(|a, b| a.bound.total_cmp(&b.bound));
    if buckets.last().is_none_or(|b| b.bound != f64::INFINITY) {
        return false;
    }
    buckets.dedup_by(|next, kept| {
        let same = next.bound == kept.bound;
        if same {
            kept.count += next.count;
        }
        same
    });
    true
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
pub(crate) fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<Raised>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if !order(buckets) {
        return (f64::NAN, None);
    }
    let raised = raise(buckets);
    let [.., next_to_last, last] = buckets.as_slice() else {
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
pub(crate) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !order(buckets) {
        return f64::NAN;
    }
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

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs
            .iter()
            .map(|(bound, count)| Bucket {
                bound: *bound,
                count: *count,
            })
            .collect()
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
