//! `rate`, `increase`, `delta`, `resets` and `changes` over `anchored` and `smoothed` ranges: values at the edges are
//! taken from the sample before, or interpolated, instead of extrapolated.
//!
//! # Reference
//! Prometheus `promql/functions.go` `extendedRate`, `promql/engine.go` `smoothSeries` and `extendFloats`.

use super::Windows;
use super::over_time::{changes, resets};
use crate::error::QueryError;
use crate::eval::ABSENT;
use crate::parser::{Extent, Function};
use tidegauge_model::{Sample, Timestamp};

/// Checks that a function can be used with a selector's extent.
///
/// # Errors
/// It cannot.
pub(crate) fn check(function: Function, extent: Extent) -> Result<(), QueryError> {
    use Function as F;
    let (fits, names) = match extent {
        Extent::Anchored => (
            matches!(function, F::Rate | F::Increase | F::Delta | F::Resets | F::Changes),
            "changes, delta, increase, rate, resets",
        ),
        Extent::Smoothed => (
            matches!(function, F::Rate | F::Increase | F::Delta),
            "delta, increase, rate",
        ),
    };
    if fits {
        return Ok(());
    }
    let (extent, name) = (extent.as_str(), function.signature().name);
    Err(QueryError::execution(format!(
        "{extent} modifier can only be used with: {names} - not with {name}"
    )))
}

/// Evaluates a function over windows that reach beyond the range.
pub(crate) fn evaluate(function: Function, windows: &Windows<'_>, out: &mut [f64]) -> Result<(), QueryError> {
    let Some(extent) = windows.extent else {
        return Ok(());
    };
    check(function, extent)?;
    windows.each(out, |times, values, step| {
        let right = windows.frame.right(step);
        let left = right.saturating_sub(windows.range_ms);
        match function {
            Function::Resets => anchored(times, values, left).map_or(ABSENT, resets),
            Function::Changes => anchored(times, values, left).map_or(ABSENT, changes),
            _ => {
                let counter = function != Function::Delta;
                let Some(edges) = Edges::find(times, values, left, right, extent, counter) else {
                    return ABSENT;
                };
                let mut result = edges.right - edges.left;
                if counter {
                    result += correction(edges.left, edges.right, edges.between);
                }
                if function == Function::Rate {
                    result /= windows.range_ms as f64 / 1000.0;
                }
                result
            }
        }
    });
    Ok(())
}

/// The values from the last sample at or before `left` on; `None` if no sample is after it.
fn anchored<'a>(times: &[Timestamp], values: &'a [f64], left: i64) -> Option<&'a [f64]> {
    if times.last()?.millis() <= left {
        return None;
    }
    values.get(first_index(times, left)..)
}

/// The last sample at or before `left`, else the first.
fn first_index(times: &[Timestamp], left: i64) -> usize {
    let but_last = times.len().saturating_sub(1);
    times[..but_last]
        .partition_point(|t| t.millis() <= left)
        .saturating_sub(1)
}

/// The values at a range's edges and those between.
struct Edges<'a> {
    left: f64,
    right: f64,
    between: &'a [f64],
    /// Indices of `between`.
    range: std::ops::Range<usize>,
}

impl<'a> Edges<'a> {
    fn find(
        times: &[Timestamp],
        values: &'a [f64],
        left: i64,
        right: i64,
        extent: Extent,
        counter: bool,
    ) -> Option<Self> {
        let mut last = times.len().checked_sub(1)?;
        let mut first = first_index(times, left);
        let smoothed = extent == Extent::Smoothed;
        if smoothed {
            last = times[..last].partition_point(|t| t.millis() < right);
        }
        if times[last].millis() <= left || times[first].millis() > right {
            return None;
        }
        let point = |i: usize| (times[i].millis(), values[i]);
        let at_left = if smoothed && times[first].millis() < left {
            interpolate(point(first), point(first + 1), left, counter)
        } else {
            values[first]
        };
        let at_right = if smoothed && last > 0 && times[last].millis() > right {
            interpolate(point(last - 1), point(last), right, counter)
        } else {
            values[last]
        };
        if times[first].millis() <= left {
            first += 1;
        }
        let end = if times[last].millis() >= right { last } else { last + 1 };
        let range = first..end.max(first);
        Some(Self {
            left: at_left,
            right: at_right,
            between: values.get(range.clone()).unwrap_or_default(),
            range,
        })
    }
}

/// The value on the line between two samples; a counter that fell started from zero.
fn interpolate((t1, v1): (i64, f64), (t2, v2): (i64, f64), t: i64, counter: bool) -> f64 {
    let v1 = if counter && v2 < v1 { 0.0 } else { v1 };
    v1 + (v2 - v1) * (t - t1) as f64 / (t2 - t1) as f64
}

/// What resets took away.
fn correction(left: f64, right: f64, between: &[f64]) -> f64 {
    let (mut sum, mut previous) = (0.0, left);
    for value in between.iter().chain([&right]) {
        if *value < previous {
            sum += previous;
        }
        previous = *value;
    }
    sum
}

/// A `smoothed` instant selector: the value at `at` on the line through the samples around it.
pub(crate) fn smoothed_value(times: &[Timestamp], values: &[f64], at: i64) -> f64 {
    let i = times.partition_point(|t| t.millis() < at);
    match (i.checked_sub(1), times.get(i)) {
        (_, Some(t)) if t.millis() == at => values[i],
        (Some(before), Some(t)) => interpolate(
            (times[before].millis(), values[before]),
            (t.millis(), values[i]),
            at,
            false,
        ),
        (Some(before), None) => values[before],
        (None, _) => ABSENT,
    }
}

/// The samples of an `anchored` or `smoothed` range vector with those at its edges put in.
pub(crate) fn extend(times: &[Timestamp], values: &[f64], left: i64, right: i64, extent: Extent) -> Vec<Sample> {
    let Some(edges) = Edges::find(times, values, left, right, extent, false) else {
        return Vec::new();
    };
    let sample = |at, value| Sample {
        at: Timestamp::from_millis(at),
        value,
    };
    let between = edges.range.clone().map(|i| Sample {
        at: times[i],
        value: values[i],
    });
    std::iter::once(sample(left, edges.left))
        .chain(between)
        .chain([sample(right, edges.right)])
        .collect()
}
