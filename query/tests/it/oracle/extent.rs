//! `anchored` and `smoothed`: the value at an edge of the range is that of the sample before it, or on the line between
//! the samples around it.

use super::ranges::{changes, resets, seconds};
use super::{Failure, Outcome, Ranged, refused};
use tidegauge_query::parser::{Extent, Function};

type Sample = (i64, f64);

/// The value on the line between two samples; a counter that fell started from zero.
fn on_line(a: Sample, b: Sample, at: i64, counter: bool) -> f64 {
    let from = if counter && b.1 < a.1 { 0.0 } else { a.1 };
    from + (b.1 - from) * (at - a.0) as f64 / (b.0 - a.0) as f64
}

/// A smoothed instant selector: at a sample its value, between two that of the line, after the last that of the last.
pub(super) fn value_at(samples: &[Sample], at: i64) -> Option<f64> {
    let before = samples.iter().rfind(|s| s.0 < at);
    let after = samples.iter().find(|s| s.0 >= at);
    match (before, after) {
        (_, Some(exact)) if exact.0 == at => Some(exact.1),
        (Some(a), Some(b)) => Some(on_line(*a, *b, at, false)),
        (Some(a), None) => Some(a.1),
        (None, _) => None,
    }
}

/// What a function makes of a range with values at its edges.
pub(super) fn function(function: Function, one: &Ranged, extent: Extent) -> Outcome<Option<f64>> {
    use Function as F;
    let counter = match (function, extent) {
        (F::Rate | F::Increase, _) => true,
        (F::Delta, _) | (F::Resets | F::Changes, Extent::Anchored) => false,
        _ => return refused("not a function for anchored or smoothed ranges"),
    };
    let samples = &one.samples;
    let in_range: Vec<Sample> = samples
        .iter()
        .filter(|s| s.0 > one.left && s.0 <= one.right)
        .copied()
        .collect();
    let before = samples.iter().rfind(|s| s.0 <= one.left).copied();
    let after = samples.iter().find(|s| s.0 > one.right).copied();
    let points = match extent {
        Extent::Anchored => {
            let Some(first) = in_range.first() else {
                return Ok(None);
            };
            let edge = before.unwrap_or(*first).1;
            [edge]
                .into_iter()
                .chain(in_range.iter().map(|s| s.1))
                .collect::<Vec<_>>()
        }
        Extent::Smoothed => match smoothed_points(one, before, after, &in_range, counter)? {
            Some(points) => points,
            None => return Ok(None),
        },
    };
    let difference = points[points.len() - 1] - points[0];
    Ok(Some(match function {
        F::Resets => resets(&points),
        F::Changes => changes(&points),
        F::Delta => difference,
        _ => {
            let lost: f64 = points.windows(2).filter(|w| w[1] < w[0]).map(|w| w[0]).sum();
            let rise = difference + lost;
            if function == F::Rate {
                rise / seconds(one.right - one.left)
            } else {
                rise
            }
        }
    }))
}

/// The values at the left edge, in the range, and at the right edge.
fn smoothed_points(
    one: &Ranged,
    before: Option<Sample>,
    after: Option<Sample>,
    in_range: &[Sample],
    counter: bool,
) -> Outcome<Option<Vec<f64>>> {
    let next = in_range.first().copied().or(after);
    let Some(next) = next else {
        return Ok(None);
    };
    if before.is_none() && in_range.is_empty() {
        // Upstream's answer depends on a sample that is not in the range.
        return Err(Failure::Unsupported("a smoothed range before the first sample"));
    }
    let left = match before {
        Some(b) if b.0 < one.left => on_line(b, next, one.left, counter),
        Some(b) => b.1,
        None => next.1,
    };
    let last = in_range.last().copied().or(before).unwrap_or(next);
    let right = match after {
        _ if last.0 == one.right => last.1,
        Some(a) => on_line(last, a, one.right, counter),
        None => last.1,
    };
    let between = in_range.iter().filter(|s| s.0 < one.right).map(|s| s.1);
    Ok(Some([left].into_iter().chain(between).chain([right]).collect()))
}
