//! What the functions of PromQL compute, family by family, on slices. How they are called is `parser::Signature`;
//! how their arguments are evaluated and what becomes of the series' names is `eval::call`.
//!
//! | file | takes | gives |
//! |---|---|---|
//! | `rate`, `extended` | a column and its windows | a value per step, from differences of counters and gauges |
//! | `over_time` | a column and its windows | a value per step, from all values of a window |
//! | `bound` | the text of `le` | the number it says |
//! | `histogram` | the buckets of one classic histogram at one step | a quantile or a fraction |
//! | `math`, `time` | one number | one number |
//! | `label` | label sets | label sets |

pub(crate) mod bound;
pub(crate) mod extended;
pub(crate) mod histogram;
pub(crate) mod label;
pub(crate) mod math;
pub(crate) mod over_time;
pub(crate) mod rate;
pub(crate) mod time;

use crate::error::QueryError;
use crate::parser::{Extent, Function};
use crate::watch::Watch;
use crate::window::{Frame, Span};
use tidegauge_model::Timestamp;

/// A column without stale markers, and the samples each step sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows<'a> {
    pub(crate) timestamps: &'a [Timestamp],
    pub(crate) values: &'a [f64],
    pub(crate) spans: &'a [Span],
    pub(crate) frame: &'a Frame,
    /// The width the user wrote; the frame's is wider if the selector is `anchored` or `smoothed`.
    pub(crate) range_ms: i64,
    pub(crate) extent: Option<Extent>,
    /// Asked now and then whether to go on.
    pub(crate) watch: &'a Watch,
}

/// After how many samples it is asked whether to go on.
const ASK_EVERY: usize = 1 << 20;

impl<'a> Windows<'a> {
    /// Times and values of a step's window.
    pub(crate) fn at(&self, step: usize) -> (&'a [Timestamp], &'a [f64]) {
        let (first, end) = self.spans[step];
        let window = first as usize..end as usize;
        (&self.timestamps[window.clone()], &self.values[window])
    }

    /// Writes to each step with samples what `f` makes of its window; [`crate::eval::ABSENT`] elsewhere.
    pub(crate) fn each(&self, out: &mut [f64], mut f: impl FnMut(&[Timestamp], &[f64], usize) -> f64) {
        let mut looked_at = 0;
        for (step, cell) in out.iter_mut().enumerate() {
            let (timestamps, values) = self.at(step);
            looked_at += values.len();
            if looked_at >= ASK_EVERY {
                looked_at = 0;
                if self.watch.is_over() {
                    return;
                }
            }
            *cell = if values.is_empty() {
                crate::eval::ABSENT
            } else {
                f(timestamps, values, step)
            };
        }
    }
}

/// Evaluates a range function at each step. `params` are its scalar arguments by step, in their order.
///
/// # Errors
/// A parameter that the function refuses; or it is time to stop, and `out` is not complete.
pub(crate) fn range_function(
    function: Function,
    windows: &Windows<'_>,
    params: &[Vec<f64>],
    prepared: Option<&rate::Extrapolations>,
    out: &mut [f64],
) -> Result<(), QueryError> {
    by_step(function, windows, params, prepared, out)?;
    windows.watch.check()
}

fn by_step(
    function: Function,
    windows: &Windows<'_>,
    params: &[Vec<f64>],
    prepared: Option<&rate::Extrapolations>,
    out: &mut [f64],
) -> Result<(), QueryError> {
    use Function as F;
    if windows.extent.is_some() {
        return extended::evaluate(function, windows, out);
    }
    match function {
        F::Rate | F::Increase | F::Delta => {
            let made;
            let extrapolations = match prepared {
                Some(prepared) => prepared,
                None => {
                    let unit = rate_unit(function);
                    let Windows {
                        timestamps,
                        spans,
                        frame,
                        range_ms,
                        ..
                    } = *windows;
                    made = rate::Extrapolations::new(timestamps, spans, frame, range_ms, unit);
                    &made
                }
            };
            rate::extrapolated(windows, extrapolations, function != F::Delta, out);
        }
        F::Irate => rate::last_two(windows, rate::LastTwo::PerSecond, out),
        F::Idelta => rate::last_two(windows, rate::LastTwo::Difference, out),
        _ => return over_time::evaluate(function, windows, params, out),
    }
    Ok(())
}

/// What `rate`, `increase` and `delta` give their difference as.
pub(crate) fn rate_unit(function: Function) -> rate::Unit {
    if function == Function::Rate {
        rate::Unit::PerSecond
    } else {
        rate::Unit::Whole
    }
}
