//! What the functions of PromQL compute, family by family, on slices. How they are called is `parser::Signature`;
//! how their arguments are evaluated and what becomes of the series' names is `eval::call`.
//!
//! | file | takes | gives |
//! |---|---|---|
//! | `rate`, `extended` | a column and its windows | a value per step, from differences of counters and gauges |
//! | `over_time`, `sliding` | a column and its windows | a value per step, from all values of a window |
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
mod sliding;
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

    /// Asks now and then, by how many samples are looked at, whether it is time to stop.
    fn is_over(&self, looked_at: &mut usize, more: usize) -> bool {
        *looked_at += more;
        if *looked_at < ASK_EVERY {
            return false;
        }
        *looked_at = 0;
        self.watch.is_over()
    }

    /// The values of a window.
    pub(crate) fn slice(&self, (first, end): Span) -> &'a [f64] {
        &self.values[first as usize..end as usize]
    }

    /// Whether a sample is seen by three steps or more, on average.
    fn overlap(&self) -> bool {
        let (Some((first, _)), Some((_, end))) = (self.spans.first(), self.spans.last()) else {
            return false;
        };
        let seen: u64 = self.spans.iter().map(|(first, end)| u64::from(end - first)).sum();
        seen >= u64::from(end.saturating_sub(*first)) * 3 && seen > 0
    }

    /// As [`Windows::each`], for who needs no times.
    fn each_span(&self, out: &mut [f64], mut f: impl FnMut(&[f64], Span) -> f64) {
        for (cell, span) in out.iter_mut().zip(self.spans) {
            let values = self.slice(*span);
            *cell = if values.is_empty() {
                crate::eval::ABSENT
            } else {
                f(values, *span)
            };
        }
    }

    /// Writes to each step with samples what `f` makes of its window; [`crate::eval::ABSENT`] elsewhere.
    pub(crate) fn each(&self, out: &mut [f64], mut f: impl FnMut(&[Timestamp], &[f64], usize) -> f64) {
        let mut looked_at = 0;
        for (step, cell) in out.iter_mut().enumerate() {
            let (timestamps, values) = self.at(step);
            if self.is_over(&mut looked_at, values.len()) {
                return;
            }
            *cell = if values.is_empty() {
                crate::eval::ABSENT
            } else {
                f(timestamps, values, step)
            };
        }
    }
}

/// What a function makes of windows before it sees values: the same for every series of a timeline.
#[derive(Debug, Default)]
pub(crate) enum Prepared {
    /// Nothing.
    #[default]
    Nothing,
    /// Windows share most of their samples.
    Overlap,
    /// `rate`, `increase`, `delta`.
    Extrapolations(rate::Extrapolations),
}

impl Prepared {
    /// Looks at the times and spans of windows alone.
    pub(crate) fn new(function: Function, windows: &Windows<'_>) -> Self {
        use Function as F;
        if windows.extent.is_some() {
            return Self::Nothing;
        }
        match function {
            F::Rate | F::Increase | F::Delta => {
                let unit = if function == F::Rate {
                    rate::Unit::PerSecond
                } else {
                    rate::Unit::Whole
                };
                Self::Extrapolations(rate::Extrapolations::new(windows, unit))
            }
            _ if windows.overlap() => Self::Overlap,
            _ => Self::Nothing,
        }
    }
}

/// How many samples a window must have for a function to have a value there, whatever they are.
pub(crate) fn fewest_samples(function: Function) -> u32 {
    use Function as F;
    match function {
        F::Rate
        | F::Increase
        | F::Delta
        | F::Irate
        | F::Idelta
        | F::Deriv
        | F::PredictLinear
        | F::DoubleExponentialSmoothing => 2,
        _ => 1,
    }
}

/// Evaluates a range function at each step. `params` are its scalar arguments by step, in their order; `prepared` is of
/// the same function and windows.
///
/// # Errors
/// A parameter that the function refuses; or it is time to stop, and `out` is not complete.
pub(crate) fn range_function(
    function: Function,
    windows: &Windows<'_>,
    params: &[Vec<f64>],
    prepared: &Prepared,
    out: &mut [f64],
) -> Result<(), QueryError> {
    by_step(function, windows, params, prepared, out)?;
    windows.watch.check()
}

fn by_step(
    function: Function,
    windows: &Windows<'_>,
    params: &[Vec<f64>],
    prepared: &Prepared,
    out: &mut [f64],
) -> Result<(), QueryError> {
    use Function as F;
    if windows.extent.is_some() {
        return extended::evaluate(function, windows, out);
    }
    match (function, prepared) {
        (_, Prepared::Extrapolations(prepared)) => {
            rate::extrapolated(windows, prepared, function != F::Delta, out);
        }
        (F::Irate, _) => rate::last_two(windows, rate::LastTwo::PerSecond, out),
        (F::Idelta, _) => rate::last_two(windows, rate::LastTwo::Difference, out),
        _ => {
            let overlap = matches!(prepared, Prepared::Overlap);
            return over_time::evaluate(function, windows, params, overlap, out);
        }
    }
    Ok(())
}
