//! `rate`, `increase`, `delta`, `irate`, `idelta`.

use super::Windows;
use crate::eval::ABSENT;
use crate::window::Span;

/// What a window's times alone say about extrapolation: the same for every series of a timeline.
#[derive(Debug)]
pub(crate) struct Extrapolations {
    steps: Vec<Extrapolation>,
    /// Of each step what is needed at every step, one behind another so that loops take several at once.
    intervals: Vec<f64>,
    to_starts: Vec<f64>,
    factors: Vec<f64>,
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
        let steps: Vec<Extrapolation> = (0..windows.spans.len())
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
        Self {
            intervals: steps.iter().map(|e| e.interval).collect(),
            to_starts: steps.iter().map(|e| e.to_start).collect(),
            factors: steps.iter().map(|e| e.factor).collect(),
            steps,
            all,
            per,
        }
    }
}

/// What is known of some steps.
struct Known<'e> {
    steps: &'e [Extrapolation],
    intervals: &'e [f64],
    to_starts: &'e [f64],
    factors: &'e [f64],
}

impl Extrapolations {
    /// Steps that are computed together.
    fn chunks(&self) -> impl Iterator<Item = Known<'_>> {
        let of_times = self.intervals.chunks(TOGETHER).zip(self.to_starts.chunks(TOGETHER));
        let steps = self.steps.chunks(TOGETHER).zip(self.factors.chunks(TOGETHER));
        of_times
            .zip(steps)
            .map(|((intervals, to_starts), (steps, factors))| Known {
                steps,
                intervals,
                to_starts,
                factors,
            })
    }

    /// Takes the values out that come of windows without two samples.
    fn take_out_short(&self, spans: &[Span], cells: &mut [f64]) {
        if self.all {
            return;
        }
        for (cell, (first, end)) in cells.iter_mut().zip(spans) {
            if end - first < 2 {
                *cell = ABSENT;
            }
        }
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
    /// What a counter's rise is multiplied with: it began at zero or above.
    #[inline]
    fn by(&self, start: f64, rise: f64, per: f64) -> f64 {
        if !may_begin_near_zero(start, rise, self.interval, self.to_start) {
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

/// Whether a counter may have been at zero less than `to_start` before its first sample.
///
/// Seconds since it was zero are `interval * (start / rise)`. Nearly always these are far more than `to_start`, and a
/// product says so without a division: by the margin for certain, unless it is too small to be exact.
#[inline]
fn may_begin_near_zero(start: f64, rise: f64, interval: f64, to_start: f64) -> bool {
    let far = start * interval;
    let is_far = (far > to_start * rise * MARGIN) & (far > SMALL);
    (rise > 0.0) & (start >= 0.0) & !is_far
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
    let values = windows.values;
    let moves = Moves::of(values);
    if !moves.changes && values.first().is_some_and(|v| v.is_finite()) {
        // Nothing less nothing, whatever it is multiplied with.
        out.fill(0.0);
        extrapolations.take_out_short(windows.spans, out);
        return;
    }
    // Resets are rare: most columns have none, of others they are found once.
    if !moves.falls {
        rises(windows, extrapolations, out);
        return;
    }
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
        .zip(extrapolations.chunks());
    for ((cells, spans), known) in chunks {
        let (mut starts, mut rises) = ([0.0; TOGETHER], [0.0; TOGETHER]);
        for ((start, rise), (first, end)) in starts.iter_mut().zip(&mut rises).zip(spans) {
            // Of a window without two samples whatever comes of it is taken out below.
            let value = |at: usize| windows.values.get(at).copied().unwrap_or(0.0);
            *start = value(*first as usize);
            *rise = value((*end as usize).wrapping_sub(1)) - *start;
        }
        // First without a branch, as if none of them had begun near zero; then those that may have.
        let mut near = false;
        let of_times = known.intervals.iter().zip(known.to_starts).zip(known.factors);
        for (((cell, start), rise), ((interval, to_start), factor)) in
            cells.iter_mut().zip(starts).zip(rises).zip(of_times)
        {
            near |= may_begin_near_zero(start, rise, *interval, *to_start);
            *cell = rise * factor;
        }
        if near {
            for (((cell, start), rise), e) in cells.iter_mut().zip(starts).zip(rises).zip(known.steps) {
                *cell = rise * e.by(start, rise, extrapolations.per);
            }
        }
        extrapolations.take_out_short(spans, cells);
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

/// What values do from one to the next.
struct Moves {
    /// Some value is below the one before.
    falls: bool,
    /// Some value has other bits than the one before.
    changes: bool,
}

impl Moves {
    /// Looks at all of them: without a way out the loop takes several at once.
    fn of(values: &[f64]) -> Self {
        let after = values.get(1..).unwrap_or_default();
        let (falls, bits) = values.iter().zip(after).fold((false, 0), |(falls, bits), (a, b)| {
            (falls | (b < a), bits | (a.to_bits() ^ b.to_bits()))
        });
        Self {
            falls,
            changes: bits != 0,
        }
    }
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
        fn shortcuts_give_what_windows_give_one_by_one(
            times in proptest::collection::btree_set(0i64..2_000, 1..60),
            values in proptest::collection::vec(prop_oneof![0.0..50.0f64, Just(0.0), Just(-0.0), Just(7.5)], 60),
            still in any::<bool>(), start in 0i64..500, step in 1i64..90, len in 1usize..40, range_ms in 1i64..600,
        ) {
            let timestamps: Vec<_> = times.iter().map(|t| Timestamp::from_millis(*t)).collect();
            let values: Vec<f64> = (0..timestamps.len()).map(|i| if still { values[0] } else { values[i] }).collect();
            let mut rising = values.clone();
            rising.sort_by(f64::total_cmp);
            let frame = Frame { grid: Grid { start, step_ms: step, len }, at: None, offset_ms: 0, back_ms: range_ms, ahead_ms: 0 };
            let mut found = Vec::new();
            spans(&timestamps, &frame, &mut found);
            for values in [values, rising] {
                let windows = Windows {
                    timestamps: &timestamps,
                    values: &values,
                    spans: &found,
                    frame: &frame,
                    range_ms,
                    extent: None,
                    watch: &crate::watch::Watch::new(tidegauge_model::Cancel::new(), None),
                };
                let known = Extrapolations::new(&windows, Unit::PerSecond);
                let mut out = vec![1.0; len];
                extrapolated(&windows, &known, true, &mut out);
                for (cell, (span, e)) in out.iter().zip(found.iter().zip(&known.steps)) {
                    let (first, end) = (span.0 as usize, span.1 as usize);
                    let seen = &values[first..end];
                    let [a, .., b] = seen else {
                        prop_assert!(crate::eval::is_absent(*cell));
                        continue;
                    };
                    let resets: f64 = seen.windows(2).filter(|w| w[1] < w[0]).map(|w| w[0]).fold(b - a, |sum, v| sum + v);
                    prop_assert_eq!(cell.to_bits(), (resets * e.by(*a, resets, known.per)).to_bits());
                }
            }
        }

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
