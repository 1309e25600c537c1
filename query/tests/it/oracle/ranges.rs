//! Functions of one range vector.

use super::numbers::{Sum, mean, quantile};
use super::walk::{METADATA, Walk, only_once};
use super::{Answer, Failure, Item, Outcome, Ranged, extent, refused};
use tidegauge_query::parser::{Call, Function};

type Sample = (i64, f64);

impl Walk<'_> {
    /// A call of which one argument is a range vector.
    pub(super) fn range_call(&self, call: &Call, range: usize, at: i64) -> Outcome<Answer> {
        let function = call.function.function;
        let mut params = Vec::new();
        for (index, arg) in call.args.iter().enumerate() {
            if index != range {
                params.push(self.scalar(arg, at)?);
            }
        }
        let all = self.ranges(&call.args[range], at)?;
        let mut items = Vec::new();
        for one in all {
            let value = match one.extent {
                Some(extent) => extent::function(function, &one, extent)?,
                None => over_samples(function, &one, &params, at)?,
            };
            if let Some(value) = value {
                items.push(self.ranged_item(function, one, value));
            }
        }
        if function == Function::AbsentOverTime {
            return Ok(Answer::Vector(self.absence(&call.args[range], items.is_empty())));
        }
        if !self.oracle.delayed_names {
            only_once(items.iter().map(|i| &i.labels))?;
        }
        Ok(Answer::Vector(items))
    }

    /// `last_over_time` and `first_over_time` act like an offset and keep the name, the others do not.
    fn ranged_item(&self, function: Function, one: Ranged, value: f64) -> Item {
        let keeps = matches!(function, Function::LastOverTime | Function::FirstOverTime);
        let now = !keeps && !self.oracle.delayed_names;
        Item {
            labels: if now { one.labels.without(&METADATA) } else { one.labels },
            value,
            drop_name: one.drop_name || !keeps && self.oracle.delayed_names,
        }
    }
}

/// What a function makes of the samples of a series, of which there is at least one; `None` if nothing.
fn over_samples(function: Function, one: &Ranged, params: &[f64], at: i64) -> Outcome<Option<f64>> {
    use Function as F;
    let samples = one.samples.as_slice();
    let values: Vec<f64> = samples.iter().map(|s| s.1).collect();
    let first = samples[0];
    let last = samples[samples.len() - 1];
    Ok(Some(match function {
        F::Rate => return Ok(difference(one, true).map(|(d, factor)| d * (factor / seconds(one.right - one.left)))),
        F::Increase => return Ok(difference(one, true).map(|(d, factor)| d * factor)),
        F::Delta => return Ok(difference(one, false).map(|(d, factor)| d * factor)),
        F::Irate | F::Idelta => {
            let [.., (t0, v0), (t1, v1)] = samples else {
                return Ok(None);
            };
            match function {
                F::Idelta => v1 - v0,
                // A counter that fell started again from zero.
                _ if v1 < v0 => v1 / seconds(t1 - t0),
                _ => (v1 - v0) / seconds(t1 - t0),
            }
        }
        F::SumOverTime => Sum::of(&values).infinite_or_total(),
        F::AvgOverTime => mean(&values),
        F::CountOverTime => values.len() as f64,
        F::MinOverTime => chosen(samples, |new, best| new < best).1,
        F::MaxOverTime => chosen(samples, |new, best| new > best).1,
        F::TsOfMinOverTime => seconds(chosen(samples, |new, best| new <= best).0),
        F::TsOfMaxOverTime => seconds(chosen(samples, |new, best| new >= best).0),
        F::FirstOverTime => first.1,
        F::LastOverTime => last.1,
        F::TsOfFirstOverTime => seconds(first.0),
        F::TsOfLastOverTime => seconds(last.0),
        F::PresentOverTime | F::AbsentOverTime => 1.0,
        F::StdvarOverTime => variance(&values),
        F::StddevOverTime => variance(&values).sqrt(),
        F::QuantileOverTime => quantile(params[0], &values),
        F::MadOverTime => {
            if values.iter().any(|v| v.is_nan()) {
                return Ok(Some(f64::NAN));
            }
            let median = quantile(0.5, &values);
            let distances: Vec<f64> = values.iter().map(|v| (v - median).abs()).collect();
            quantile(0.5, &distances)
        }
        F::Changes => changes(&values),
        F::Resets => resets(&values),
        F::Deriv | F::PredictLinear if samples.len() < 2 => return Ok(None),
        F::Deriv => line(samples, first.0).0,
        F::PredictLinear => {
            let (slope, now) = line(samples, at);
            slope * params[0] + now
        }
        F::DoubleExponentialSmoothing => return smoothing(&values, params[0], params[1]),
        _ => return Err(Failure::Unsupported("a function of a range vector")),
    }))
}

pub(super) fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// How often the value changes; from NaN to NaN is no change.
pub(super) fn changes(values: &[f64]) -> f64 {
    let differ = |a: f64, b: f64| a != b && !(a.is_nan() && b.is_nan());
    values.windows(2).filter(|w| differ(w[0], w[1])).count() as f64
}

/// How often the value falls.
pub(super) fn resets(values: &[f64]) -> f64 {
    values.windows(2).filter(|w| w[1] < w[0]).count() as f64
}

/// The difference between the first and the last sample, and what it is multiplied with to make it that of the range.
fn difference(one: &Ranged, counter: bool) -> Option<(f64, f64)> {
    let samples = &one.samples;
    if samples.len() < 2 {
        return None;
    }
    let (first, last) = (samples[0], samples[samples.len() - 1]);
    let mut rise = last.1 - first.1;
    if counter {
        // What was counted before a reset counts too.
        for pair in samples.windows(2) {
            if pair[1].1 < pair[0].1 {
                rise += pair[0].1;
            }
        }
    }
    let interval = seconds(last.0 - first.0);
    let usual = interval / (samples.len() - 1) as f64;
    let near = usual * 1.1;
    let mut before = seconds(first.0 - one.left);
    if before >= near {
        before = usual / 2.0;
    }
    if counter && rise > 0.0 && first.1 >= 0.0 {
        // A counter is not below zero: where the line meets zero it began.
        before = before.min(interval * (first.1 / rise));
    }
    let mut after = seconds(one.right - last.0);
    if after >= near {
        after = usual / 2.0;
    }
    Some((rise, (interval + before + after) / interval))
}

/// The sample that is better than all before it; any is better than NaN.
fn chosen(samples: &[Sample], better: impl Fn(f64, f64) -> bool) -> Sample {
    let mut best = samples[0];
    for sample in samples {
        if better(sample.1, best.1) || best.1.is_nan() {
            best = *sample;
        }
    }
    best
}

/// The population variance: the mean of squared distances from the mean, both as they grow.
fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut squares) = (Sum::default(), Sum::default());
    for (i, value) in values.iter().enumerate() {
        let count = (i + 1) as f64;
        let distance = value - mean.total();
        mean.add(distance / count);
        squares.add(distance * (value - mean.total()));
    }
    squares.total() / values.len() as f64
}

/// Slope per second, and value at a time, of the line with the least squared distances.
fn line(samples: &[Sample], at: i64) -> (f64, f64) {
    let first = samples[0].1;
    if samples[1..].iter().all(|s| s.1 == first) {
        return if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        };
    }
    let sum = |f: &dyn Fn(f64, f64) -> f64| {
        let terms: Vec<f64> = samples.iter().map(|(t, y)| f(seconds(t - at), *y)).collect();
        Sum::of(&terms).total()
    };
    let n = samples.len() as f64;
    let (x, y) = (sum(&|x, _| x), sum(&|_, y| y));
    let (xy, xx) = (sum(&|x, y| x * y), sum(&|x, _| x * x));
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// Holt's linear method.
fn smoothing(values: &[f64], sf: f64, tf: f64) -> Outcome<Option<f64>> {
    if sf <= 0.0 || sf >= 1.0 || tf <= 0.0 || tf >= 1.0 {
        return refused("invalid smoothing or trend factor");
    }
    if values.len() < 2 {
        return Ok(None);
    }
    let mut level = values[0];
    let mut trend = values[1] - values[0];
    for (i, value) in values.iter().enumerate().skip(1) {
        let next = sf * value + (1.0 - sf) * (level + trend);
        let moved = next - level;
        level = next;
        if i + 1 < values.len() {
            trend = tf * moved + (1.0 - tf) * trend;
        }
    }
    Ok(Some(level))
}
