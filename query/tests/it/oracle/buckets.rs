//! Functions of classic histograms.

use super::labels::{text, with};
use super::numbers::{open_metrics, read};
use super::walk::{METADATA, Walk};
use super::{Failure, Item, Outcome};
use tidegauge_model::Labels;
use tidegauge_query::parser::{Call, Function};

/// Differences between counts up to this share are rounding.
const ROUNDING: f64 = 1e-12;

/// Upper bound and cumulative count.
type Bucket = (f64, f64);

impl Walk<'_> {
    pub(super) fn histograms(&self, call: &Call, at: i64) -> Outcome<Vec<Item>> {
        let number = |index: usize| self.scalar(&call.args[index], at);
        let mut out = Vec::new();
        match call.function.function {
            Function::HistogramQuantile => {
                let q = number(0)?;
                for (item, buckets) in self.by_histogram(&call.args[1], at)? {
                    let value = quantile(q, buckets)?;
                    out.push(Item { value, ..item });
                }
            }
            Function::HistogramFraction => {
                let (lower, upper) = (number(0)?, number(1)?);
                for (item, buckets) in self.by_histogram(&call.args[2], at)? {
                    let value = fraction(lower, upper, buckets)?;
                    out.push(Item { value, ..item });
                }
            }
            _ => {
                let name = text(call.args.get(1));
                for index in 2..call.args.len() {
                    let q = number(index)?;
                    for (item, buckets) in self.by_histogram(&call.args[0], at)? {
                        out.push(Item {
                            value: quantile(q, buckets)?,
                            labels: with(&item.labels, name, &open_metrics(q)),
                            ..item
                        });
                    }
                }
            }
        }
        self.distinct(out)
    }

    /// The buckets of each histogram: of all series that differ in `le` alone.
    fn by_histogram(&self, arg: &tidegauge_query::parser::Expr, at: i64) -> Outcome<Vec<(Item, Vec<Bucket>)>> {
        let mut all: Vec<(Labels, bool, Vec<Bucket>)> = Vec::new();
        for item in self.vector(arg, at)? {
            let Some(bound) = read(item.labels.value("le")) else {
                continue;
            };
            let labels = item.labels.without(&["le"]);
            match all.iter_mut().find(|h| h.0 == labels) {
                Some(histogram) => histogram.2.push((bound, item.value)),
                None => all.push((labels, item.drop_name, vec![(bound, item.value)])),
            }
        }
        let named = all.into_iter().map(|(labels, _, buckets)| {
            let delayed = self.oracle.delayed_names;
            let item = Item {
                labels: if delayed { labels } else { labels.without(&METADATA) },
                value: f64::NAN,
                drop_name: delayed,
            };
            (item, buckets)
        });
        Ok(named.collect())
    }
}

/// Buckets by bound, those of one bound added; `None` without one up to infinity.
fn in_order(mut buckets: Vec<Bucket>) -> Outcome<Option<Vec<Bucket>>> {
    if buckets.iter().any(|b| b.0.is_nan() || b.1.is_nan()) {
        // How they sort, and what a search finds among them, is left open.
        return Err(Failure::Unsupported("NaN among buckets"));
    }
    buckets.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap());
    let mut merged: Vec<Bucket> = Vec::new();
    for (bound, count) in buckets {
        match merged.last_mut() {
            Some(last) if last.0 == bound => last.1 += count,
            _ => merged.push((bound, count)),
        }
    }
    let complete = merged.last().is_some_and(|b| b.0 == f64::INFINITY);
    Ok(complete.then_some(merged))
}

/// Whether counts differ by no more than rounding.
fn nearly(a: f64, b: f64) -> bool {
    if a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < ROUNDING * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < ROUNDING
}

fn quantile(q: f64, buckets: Vec<Bucket>) -> Outcome<f64> {
    if q.is_nan() {
        return Ok(f64::NAN);
    }
    if q < 0.0 {
        return Ok(f64::NEG_INFINITY);
    }
    if q > 1.0 {
        return Ok(f64::INFINITY);
    }
    let Some(mut buckets) = in_order(buckets)? else {
        return Ok(f64::NAN);
    };
    // A bucket holds what those before it hold.
    for i in 1..buckets.len() {
        let before = buckets[i - 1].1;
        if buckets[i].1 < before || nearly(buckets[i].1, before) {
            buckets[i].1 = before;
        }
    }
    let all = buckets[buckets.len() - 1].1;
    if buckets.len() < 2 || all == 0.0 {
        return Ok(f64::NAN);
    }
    let finite = &buckets[..buckets.len() - 1];
    let rank = q * all;
    let Some(i) = finite.iter().position(|b| b.1 >= rank) else {
        return Ok(finite[finite.len() - 1].0);
    };
    let (end, count) = finite[i];
    let (start, below) = match i {
        0 if end <= 0.0 => return Ok(end),
        0 => (0.0, 0.0),
        _ => finite[i - 1],
    };
    Ok(start + (end - start) * ((rank - below) / (count - below)))
}

fn fraction(lower: f64, upper: f64, buckets: Vec<Bucket>) -> Outcome<f64> {
    let Some(buckets) = in_order(buckets)? else {
        return Ok(f64::NAN);
    };
    let all = buckets[buckets.len() - 1].1;
    if all == 0.0 || lower.is_nan() || upper.is_nan() {
        return Ok(f64::NAN);
    }
    if lower >= upper {
        return Ok(0.0);
    }
    if buckets.windows(2).any(|w| w[1].1 < w[0].1) {
        return Err(Failure::Unsupported("a fraction of buckets that fall"));
    }
    Ok((below(upper, &buckets) - below(lower, &buckets)) / all)
}

/// How many observations lie below a value: on the line within a bucket.
fn below(value: f64, buckets: &[Bucket]) -> f64 {
    let mut start = if buckets[0].0 > 0.0 { 0.0 } else { f64::NEG_INFINITY };
    let mut count = 0.0;
    for (end, total) in buckets {
        if value <= start {
            return count;
        }
        if value < *end {
            return if start == f64::NEG_INFINITY {
                *total
            } else {
                count + (total - count) * (value - start) / (end - start)
            };
        }
        (start, count) = (*end, *total);
    }
    count
}
