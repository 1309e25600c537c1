//! `rate`, `increase`, `delta`, `irate`, `idelta`.

use super::Windows;
use crate::eval::ABSENT;
use crate::window::{Frame, Span};
use tidegauge_model::Timestamp;

/// What a window's times alone say about extrapolation: the same for every series of a timeline.
#[derive(Debug)]
pub(crate) struct Extrapolations {
    steps: Vec<Extrapolation>,
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
    pub(crate) fn new(timestamps: &[Timestamp], spans: &[Span], frame: &Frame, range_ms: i64, unit: Unit) -> Self {
        let per = match unit {
            Unit::PerSecond => range_ms as f64 / 1000.0,
            Unit::Whole => 1.0,
        };
        let steps = spans
            .iter()
            .enumerate()
            .map(|(step, (first, end))| {
                let times = &timestamps[*first as usize..*end as usize];
                let (Some(first), Some(last)) = (times.first(), times.last()) else {
                    return Extrapolation::NONE;
                };
                if times.len() < 2 {
                    return Extrapolation::NONE;
                }
                let right = frame.right(step);
                let left = right.saturating_sub(range_ms);
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
        Self { steps, per }
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

fn factor(interval: f64, to_start: f64, to_end: f64, per: f64) -> f64 {
    let factor = (interval + to_start + to_end) / interval;
    if per == 1.0 { factor } else { factor / per }
}

/// `rate`, `increase` (counters) and `delta` (gauges).
pub(crate) fn extrapolated(windows: &Windows<'_>, extrapolations: &Extrapolations, counter: bool, out: &mut [f64]) {
    let values = windows.values;
    // Resets are rare: found once, then each window adds up its own, in order of time.
    let resets: Vec<u32> = if counter {
        (1..values.len())
            .filter(|i| values[*i] < values[*i - 1])
            .map(|i| i as u32)
            .collect()
    } else {
        Vec::new()
    };
    let mut from = 0;
    for ((cell, (first, end)), e) in out.iter_mut().zip(windows.spans).zip(&extrapolations.steps) {
        if end - first < 2 {
            *cell = ABSENT;
            continue;
        }
        let start = values[*first as usize];
        let mut result = values[*end as usize - 1] - start;
        if !counter {
            *cell = result * e.factor;
            continue;
        }
        while from < resets.len() && resets[from] <= *first {
            from += 1;
        }
        for reset in resets[from..].iter().take_while(|r| *r < end) {
            result += values[*reset as usize - 1];
        }
        let mut by = e.factor;
        if result > 0.0 && start >= 0.0 {
            let to_zero = e.interval * (start / result);
            if to_zero < e.to_start {
                by = factor(e.interval, to_zero, e.to_end, extrapolations.per);
            }
        }
        *cell = result * by;
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
        let known = Extrapolations::new(&timestamps, &found, &frame, range_ms, unit);
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
}
