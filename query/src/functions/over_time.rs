//! `*_over_time`, `changes`, `resets`, `deriv`, `predict_linear`, `double_exponential_smoothing`.

use super::math::{Kahan, Mean, quantile};
use super::{Windows, sliding};
use crate::error::QueryError;
use crate::eval::ABSENT;
use crate::parser::Function;
use tidegauge_model::Timestamp;

/// Evaluates a function at each step. `overlap`: windows share most of their samples.
///
/// # Errors
/// A parameter that the function refuses.
pub(crate) fn evaluate(
    function: Function,
    windows: &Windows<'_>,
    params: &[Vec<f64>],
    overlap: bool,
    out: &mut [f64],
) -> Result<(), QueryError> {
    use Function as F;
    let param = |n: usize, step: usize| params.get(n).and_then(|p| p.get(step)).copied().unwrap_or(f64::NAN);
    match function {
        F::SumOverTime => sliding::sums(windows, overlap, out, |sum, _| sum.total_of_range()),
        F::AvgOverTime => sliding::sums(windows, overlap, out, |sum, v| {
            if sum.sum.is_finite() {
                Mean::from_parts(sum, v.len() as f64, false).value()
            } else {
                mean(v)
            }
        }),
        F::CountOverTime => windows.each(out, |_, v, _| v.len() as f64),
        F::MinOverTime if overlap => sliding::extremes(windows, out, |new, best| new < best),
        F::MaxOverTime if overlap => sliding::extremes(windows, out, |new, best| new > best),
        F::MinOverTime => windows.each(out, |_, v, _| extreme(v, |new, best| new < best)),
        F::MaxOverTime => windows.each(out, |_, v, _| extreme(v, |new, best| new > best)),
        F::FirstOverTime => windows.each(out, |_, v, _| v[0]),
        F::LastOverTime => windows.each(out, |_, v, _| v[v.len() - 1]),
        F::PresentOverTime | F::AbsentOverTime => windows.each(out, |_, _, _| 1.0),
        F::StdvarOverTime => windows.each(out, |_, v, _| variance(v)),
        F::StddevOverTime => windows.each(out, |_, v, _| variance(v).sqrt()),
        F::QuantileOverTime => {
            let mut sorted = Vec::new();
            windows.each(out, |_, v, step| {
                sorted.clear();
                sorted.extend_from_slice(v);
                quantile(param(0, step), &mut sorted)
            });
        }
        F::MadOverTime => {
            let mut sorted = Vec::new();
            windows.each(out, |_, v, _| {
                if v.iter().any(|x| x.is_nan()) {
                    return f64::NAN;
                }
                sorted.clear();
                sorted.extend_from_slice(v);
                let median = quantile(0.5, &mut sorted);
                sorted.clear();
                sorted.extend(v.iter().map(|x| (x - median).abs()));
                quantile(0.5, &mut sorted)
            });
        }
        F::Changes if overlap => sliding::pairs(windows, out, changed),
        F::Resets if overlap => sliding::pairs(windows, out, fell),
        F::Changes => windows.each(out, |_, v, _| changes(v)),
        F::Resets => windows.each(out, |_, v, _| resets(v)),
        F::TsOfFirstOverTime => windows.each(out, |t, _, _| t[0].seconds()),
        F::TsOfLastOverTime => windows.each(out, |t, _, _| t[t.len() - 1].seconds()),
        F::TsOfMinOverTime => windows.each(out, |t, v, _| time_of(t, v, |new, best| new <= best)),
        F::TsOfMaxOverTime => windows.each(out, |t, v, _| time_of(t, v, |new, best| new >= best)),
        F::Deriv => windows.each(out, |t, v, _| {
            if v.len() < 2 {
                ABSENT
            } else {
                regression(t, v, t[0].millis()).0
            }
        }),
        F::PredictLinear => windows.each(out, |t, v, step| {
            if v.len() < 2 {
                return ABSENT;
            }
            let (slope, intercept) = regression(t, v, windows.frame.grid.at(step));
            slope * param(0, step) + intercept
        }),
        F::DoubleExponentialSmoothing => {
            for step in 0..out.len() {
                if !windows.at(step).1.is_empty() {
                    check_factor("smoothing", "sf", param(0, step))?;
                    check_factor("trend", "tf", param(1, step))?;
                }
            }
            windows.each(out, |_, v, step| smoothing(v, param(0, step), param(1, step)));
        }
        other => {
            let name = other.signature().name;
            return Err(QueryError::execution(format!("{name} does not take a range vector")));
        }
    }
    Ok(())
}

fn check_factor(what: &str, short: &str, factor: f64) -> Result<(), QueryError> {
    if factor <= 0.0 || factor >= 1.0 {
        return Err(QueryError::execution(format!(
            "invalid {what} factor. Expected: 0 < {short} < 1, got: {factor:.6}"
        )));
    }
    Ok(())
}

fn mean(values: &[f64]) -> f64 {
    let mut mean = Mean::new(values[0]);
    for value in &values[1..] {
        mean.add(*value);
    }
    mean.value()
}

/// The least or greatest; NaN only if all are.
fn extreme(values: &[f64], better: impl Fn(f64, f64) -> bool) -> f64 {
    let mut best = values[0];
    for value in values {
        if better(*value, best) || best.is_nan() {
            best = *value;
        }
    }
    best
}

fn time_of(times: &[Timestamp], values: &[f64], at_least: impl Fn(f64, f64) -> bool) -> f64 {
    let (mut best, mut when) = (values[0], times[0]);
    for (value, time) in values.iter().zip(times) {
        if at_least(*value, best) || best.is_nan() {
            (best, when) = (*value, *time);
        }
    }
    when.seconds()
}

fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut aux) = (Kahan::default(), Kahan::default());
    let mut count = 0.0;
    for value in values {
        count += 1.0;
        let delta = value - mean.total();
        mean.add(delta / count);
        aux.add(delta * (value - mean.total()));
    }
    aux.total() / count
}

/// How often the value changes; NaN after NaN is no change.
pub(super) fn changes(values: &[f64]) -> f64 {
    values
        .windows(2)
        .filter(|w| matches!(w, [a, b] if changed(*a, *b)))
        .count() as f64
}

fn changed(before: f64, after: f64) -> bool {
    (before != after) & !(before.is_nan() & after.is_nan())
}

/// How often the value falls.
pub(super) fn resets(values: &[f64]) -> f64 {
    values
        .windows(2)
        .filter(|w| matches!(w, [a, b] if fell(*a, *b)))
        .count() as f64
}

fn fell(before: f64, after: f64) -> bool {
    after < before
}

/// Slope per second, and value at `at`, of the least-squares line.
fn regression(times: &[Timestamp], values: &[f64], at: i64) -> (f64, f64) {
    let [mut x_sum, mut y_sum, mut xy_sum, mut xx_sum] = [Kahan::default(); 4];
    let first = values[0];
    let mut constant = true;
    for (time, y) in times.iter().zip(values) {
        constant &= *y == first;
        let x = (time.millis() - at) as f64 / 1e3;
        x_sum.add(x);
        y_sum.add(*y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    // A single NaN is not equal to itself, yet upstream's first value is never compared.
    if constant || (values.len() == 1) {
        return if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        };
    }
    let n = values.len() as f64;
    let [x, y, xy, xx] = [x_sum, y_sum, xy_sum, xx_sum].map(Kahan::total);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

/// Holt's linear method.
fn smoothing(values: &[f64], sf: f64, tf: f64) -> f64 {
    let [first, second, ..] = values else {
        return ABSENT;
    };
    let (mut before, mut smoothed, mut trend) = (0.0, *first, second - first);
    for (i, value) in values.iter().enumerate().skip(1) {
        if i > 1 {
            trend = tf * (smoothed - before) + (1.0 - tf) * trend;
        }
        let next = sf * value + (1.0 - sf) * (smoothed + trend);
        (before, smoothed) = (smoothed, next);
    }
    smoothed
}
