//! `rate`, `increase`, `delta`, `irate`, `idelta`.

use super::Windows;
use crate::eval::ABSENT;
use crate::window::Span;

/// What a window's times alone say about extrapolation: the same for every series of a timeline.
#[derive(Debug)]
pub(crate) struct Extrapolations {
    steps: Vec<Extrapolation>,
    /// Each window has two samples or more.
    all: bool,
    /// What the factor is divided by: the range in seconds for a rate, else 1.
    per: f64,
}

/// What a difference is given as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Per second (`rate`).
    PerSecond,
    /// Over the whole range (`increase`, `delta`).
    Whole,
}

#[derive(Debug, Clone, Copy)]
struct Extrapolation {
    /// Seconds from the first sample to the last.
    interval: f64,
    /// Seconds added before the first sample unless the counter would have been below zero then.
    to_start: f64,
    /// Seconds added after the last sample.
    to_end: f64,
    /// What the difference is multiplied with if `to_start` holds.
    factor: f64,
}

/// A gap up to this many average intervals wide is bridged to the edge of the window.
const THRESHOLD: f64 = 1.1;

impl Extrapolations {
    /// # Reference
    /// Prometheus `promql/functions.go` `extrapolatedRate`.
    pub(crate) fn new(windows: &Windows<'_>, unit: Unit) -> Self {
        let per = match unit {
            Unit::PerSecond => windows.range_ms as f64 / 1000.0,
            Unit::Whole => 1.0,
        };
        let steps = (0..windows.spans.len())
            .map(|step| {
                let (first, end) = windows.spans[step];
                let times = &windows.timestamps[first as usize..end as usize];
                let ([first, .., last], right) = (times, windows.frame.right(step)) else {
                    return Extrapolation::NONE;
                };
                let left = right.saturating_sub(windows.range_ms);
                let mut to_start = (first.millis() - left) as f64 / 1000.0;
                let mut to_end = (right - last.millis()) as f64 / 1000.0;
                let interval = (last.millis() - first.millis()) as f64 / 1000.0;
                let average = interval / (times.len() - 1) as f64;
                if to_start >= average * THRESHOLD {
                    to_start = average / 2.0;
                }
                if to_end >= average * THRESHOLD {
                    to_end = average / 2.0;
                }
                let factor = factor(interval, to_start, to_end, per);
                Extrapolation {
                    interval,
                    to_start,
                    to_end,
                    factor,
                }
            })
            .collect();
        let all = windows.spans.iter().all(|(first, end)| end - first > 1);
        Self { steps, all, per }
    }
}

impl Extrapolation {
    const NONE: Self = Self {
        interval: 0.0,
        to_start: 0.0,
        to_end: 0.0,
        factor: 0.0,
    };
}

impl Extrapolation {
    /// Whether a counter may have been at zero less than `to_start` before its first sample.
    ///
    /// Seconds since it was zero are `interval * (start / rise)`. Nearly always these are far more than `to_start`, and a
    /// product says so without a division: by the margin for certain, unless it is too small to be exact.
    #[inline]
    fn may_begin_near_zero(&self, start: f64, rise: f64) -> bool {
        let far = start * self.interval;
        let is_far = (far > self.to_start * rise * MARGIN) & (far > SMALL);
        (rise > 0.0) & (start >= 0.0) & !is_far
    }

    /// What a counter's rise is multiplied with: it began at zero or above.
    #[inline]
    fn by(&self, start: f64, rise: f64, per: f64) -> f64 {
        if !self.may_begin_near_zero(start, rise) {
            return self.factor;
        }
        let to_zero = self.interval * (start / rise);
        if to_zero < self.to_start {
            factor(self.interval, to_zero, self.to_end, per)
        } else {
            self.factor
        }
    }
}

/// More than rounding makes of three operations.
const MARGIN: f64 = 1.000_001;
/// Below it products may have lost digits.
const SMALL: f64 = 1e-280;

fn factor(interval: f64, to_start: f64, to_end: f64, per: f64) -> f64 {
    let factor = (interval + to_start + to_end) / interval;
    if per == 1.0 { factor } else { factor / per }
}

/// `rate`, `increase` (counters) and `delta` (gauges).
pub(crate) fn extrapolated(windows: &Windows<'_>, extrapolations: &Extrapolations, counter: bool, out: &mut [f64]) {
    let steps = out.iter_mut().zip(windows.spans).zip(&extrapolations.steps);
    if !counter {
        for ((cell, span), e) in steps {
            *cell = ends(windows.values, *span).map_or(ABSENT, |(start, end)| (end - start) * e.factor);
        }
        return;
    }
    // Resets are rare: most columns have none, of others they are found once.
    if !falls(windows.values) {
        rises(windows, extrapolations, out);
        return;
    }
    let values = windows.values;
    let resets: Vec<u32> = (1..values.len())
        .filter(|i| values[*i] < values[*i - 1])
        .map(|i| i as u32)
        .collect();
    let mut from = 0;
    for ((cell, span), e) in steps {
        let Some((start, end)) = ends(values, *span) else {
            *cell = ABSENT;
            continue;
        };
        let mut result = end - start;
        while from < resets.len() && resets[from] <= span.0 {
            from += 1;
        }
        for reset in resets[from..].iter().take_while(|r| **r < span.1) {
            result += values[*reset as usize - 1];
        }
        *cell = result * e.by(start, result, extrapolations.per);
    }
}

/// How many steps are computed together.
const TOGETHER: usize = 16;

/// `rate` and `increase` of a counter without resets.
fn rises(windows: &Windows<'_>, extrapolations: &Extrapolations, out: &mut [f64]) {
    let chunks = out
        .chunks_mut(TOGETHER)
        .zip(windows.spans.chunks(TOGETHER))
        .zip(extrapolations.steps.chunks(TOGETHER));
    for ((cells, spans), steps) in chunks {
        let (mut starts, mut rises) = ([0.0; TOGETHER], [0.0; TOGETHER]);
        for ((start, rise), span) in starts.iter_mut().zip(&mut rises).zip(spans) {
            // A window without two samples is far from zero, and is taken out below.
            if let Some((first, last)) = ends(windows.values, *span) {
                (*start, *rise) = (first, last - first);
            }
        }
        // First without a branch, as if none of them had begun near zero; then those that may have.
        let mut near = false;
        for (((cell, start), rise), e) in cells.iter_mut().zip(starts).zip(rises).zip(steps) {
            near |= e.may_begin_near_zero(start, rise);
            *cell = rise * e.factor;
        }
        if near {
            for (((cell, start), rise), e) in cells.iter_mut().zip(starts).zip(rises).zip(steps) {
                *cell = rise * e.by(start, rise, extrapolations.per);
            }
        }
        if !extrapolations.all {
            for (cell, (first, end)) in cells.iter_mut().zip(spans) {
                if end - first < 2 {
                    *cell = ABSENT;
                }
            }
        }
    }
}

/// The first and the last value of a window with two samples or more.
#[inline]
fn ends(values: &[f64], (first, end): Span) -> Option<(f64, f64)> {
    if end - first < 2 {
        return None;
    }
    Some((*values.get(first as usize)?, *values.get(end as usize - 1)?))
}

/// Whether some value is below the one before. Looks at all of them: without a way out the loop takes several at once.
fn falls(values: &[f64]) -> bool {
    let after = values.get(1..).unwrap_or_default();
    values.iter().zip(after).fold(false, |falls, (a, b)| falls | (b < a))
}

/// What is made of the last two samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastTwo {
    /// `irate`: a fall is a reset to zero.
    PerSecond,
    /// `idelta`
    Difference,
}

/// `irate` and `idelta`.
pub(crate) fn last_two(windows: &Windows<'_>, what: LastTwo, out: &mut [f64]) {
    windows.each(out, |times, values, _| {
        let ([.., t0, t1], [.., v0, v1]) = (times, values) else {
            return ABSENT;
        };
        match what {
            LastTwo::Difference => v1 - v0,
            LastTwo::PerSecond => {
                let rise = if v1 < v0 { *v1 } else { v1 - v0 };
                rise / ((*t1 - *t0) as f64 / 1000.0)
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::{Frame, Grid, spans};
    use proptest::prelude::*;
    use tidegauge_model::Timestamp;

    fn rate(samples: &[(i64, f64)], range_ms: i64, at: i64, counter: bool, per_second: bool) -> f64 {
        let timestamps: Vec<_> = samples.iter().map(|s| Timestamp::from_millis(s.0)).collect();
        let values: Vec<_> = samples.iter().map(|s| s.1).collect();
        let frame = Frame {
            grid: Grid::instant(at),
            at: None,
            offset_ms: 0,
            back_ms: range_ms,
            ahead_ms: 0,
        };
        let mut found = Vec::new();
        spans(&timestamps, &frame, &mut found);
        let windows = Windows {
            timestamps: &timestamps,
            values: &values,
            spans: &found,
            frame: &frame,
            range_ms,
            extent: None,
            watch: &crate::watch::Watch::new(tidegauge_model::Cancel::new(), None),
        };
        let mut out = [0.0];
        let unit = if per_second { Unit::PerSecond } else { Unit::Whole };
        let known = Extrapolations::new(&windows, unit);
        extrapolated(&windows, &known, counter, &mut out);
        out[0]
    }

    #[test]
    fn edges_are_bridged_when_near_and_resets_added() {
        let every_minute: Vec<(i64, f64)> = (0..6).map(|i| (i * 60_000, 10.0 * i as f64)).collect();
        assert_eq!(rate(&every_minute, 300_000, 300_000, true, false), 50.0);
        assert_eq!(rate(&every_minute, 300_000, 300_000, true, true), 50.0 / 300.0);
        // A reset between 20 and 5.
        let reset = [(60_000, 10.0), (120_000, 20.0), (180_000, 5.0), (240_000, 15.0)];
        assert_eq!(rate(&reset, 240_000, 240_000, true, false), 25.0 * (240.0 / 180.0));
        // Far from the left edge: half an interval only; but a counter starts at zero.
        assert_eq!(
            rate(&[(540_000, 100.0), (600_000, 200.0)], 600_000, 600_000, true, false),
            150.0
        );
        assert!((rate(&[(540_000, 10.0), (600_000, 110.0)], 600_000, 600_000, true, false) - 110.0).abs() < 1e-9);
        assert_eq!(
            rate(&[(540_000, 10.0), (600_000, 110.0)], 600_000, 600_000, false, false),
            150.0
        );
        assert!(crate::eval::is_absent(rate(&[(1, 1.0)], 100, 100, true, true)));
    }

    proptest! {
        #[test]
        fn the_product_says_what_the_division_says(
            start in prop_oneof![0.0..1e3f64, 0.0..1e-300f64, 0.0..f64::MAX, Just(f64::INFINITY), Just(f64::NAN), -5.0..5.0f64],
            rise in prop_oneof![0.0..1e3f64, 0.0..1e-300f64, 0.0..f64::MAX, Just(f64::INFINITY), Just(f64::NAN), -5.0..5.0f64],
            near in proptest::option::of(0.999_999..1.000_001f64),
            interval in 0.001..1e6f64, to_start in 0.0..1e5f64,
        ) {
            let e = Extrapolation { interval, to_start, to_end: 1.0, factor: 3.0 };
            // Close to where the answer changes.
            let rise = near.map_or(rise, |near| start * interval / to_start * near);
            let to_zero = interval * (start / rise);
            let expect = if rise > 0.0 && start >= 0.0 && to_zero < to_start {
                factor(interval, to_zero, 1.0, 60.0)
            } else {
                3.0
            };
            prop_assert_eq!(e.by(start, rise, 60.0).to_bits(), expect.to_bits());
        }
    }
}
