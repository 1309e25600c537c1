//! `*_over_time`, `changes` and `resets` where windows overlap: what neighbours share is computed once, or several
//! windows at a time. Bit for bit what a window by itself gives.

use super::Windows;
use super::math::Kahan;
use crate::eval::ABSENT;
use crate::window::Span;

/// Writes to each step what `finish` makes of the sum of its window.
pub(super) fn sums(windows: &Windows<'_>, overlap: bool, out: &mut [f64], finish: impl Fn(Kahan, &[f64]) -> f64) {
    if overlap && let Some(before) = running_sums(windows.values) {
        windows.each_span(out, |values, (first, end)| {
            finish(Kahan::new(before[end as usize] - before[first as usize]), values)
        });
        return;
    }
    // Each addition waits for the one before: four windows go side by side.
    let mut looked_at = 0;
    for (cells, spans) in out.chunks_exact_mut(4).zip(windows.spans.chunks_exact(4)) {
        let slices: [&[f64]; 4] = std::array::from_fn(|i| windows.slice(spans[i]));
        let common = slices.iter().map(|s| s.len()).min().unwrap_or(0);
        if windows.is_over(&mut looked_at, slices.iter().map(|s| s.len()).sum()) {
            return;
        }
        let mut sums = [Kahan::default(); 4];
        let [a, b, c, d] = slices.map(|s| &s[..common]);
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            for (sum, value) in sums.iter_mut().zip([a, b, c, d]) {
                sum.add(*value);
            }
        }
        for ((cell, mut sum), values) in cells.iter_mut().zip(sums).zip(slices) {
            values[common..].iter().for_each(|v| sum.add(*v));
            *cell = if values.is_empty() { ABSENT } else { finish(sum, values) };
        }
    }
    let done = windows.spans.len() / 4 * 4;
    for (cell, span) in out.iter_mut().zip(windows.spans).skip(done) {
        let values = windows.slice(*span);
        let mut sum = Kahan::default();
        values.iter().for_each(|v| sum.add(*v));
        *cell = if values.is_empty() { ABSENT } else { finish(sum, values) };
    }
}

/// The sums of all values before each, if none of them is rounded: the values are whole, and together below 2^53.
fn running_sums(values: &[f64]) -> Option<Vec<f64>> {
    /// Added and taken away it leaves of a small number the whole part.
    const WHOLE: f64 = 1.5 * (1u64 << 52) as f64;
    let most = (1u64 << 50) as f64 / values.len().max(1) as f64;
    let inexact = |v: &f64| ((v + WHOLE) - WHOLE != *v) | (v.abs() > most) | v.is_nan();
    if values.iter().fold(false, |any, v| any | inexact(v)) {
        return None;
    }
    let mut sums = Vec::with_capacity(values.len() + 1);
    let mut sum = 0.0;
    sums.push(sum);
    sums.extend(values.iter().map(|v| {
        sum += v;
        sum
    }));
    Some(sums)
}

/// Writes to each step the value of its window that is better than all before it: NaN only if all are.
///
/// Of two stretches of values one after the other, the best is the better of their bests. So the best of 1, 2, 4, 8 ...
/// values from each on are found from those of half as many, and a window is two of these stretches, which may overlap.
pub(super) fn extremes(windows: &Windows<'_>, out: &mut [f64], better: impl Fn(f64, f64) -> bool) {
    let best = |a: f64, b: f64| if better(b, a) | a.is_nan() { b } else { a };
    let level = |(first, end): Span| (end - first).checked_ilog2();
    // Which levels there are windows of: a bit for each.
    let levels = windows.spans.iter().filter_map(|span| level(*span));
    let levels = levels.fold(0u32, |all, k| all | 1 << k);
    out.fill(ABSENT);
    let mut bests = windows.values.to_vec();
    let mut next = Vec::with_capacity(bests.len());
    for k in 0..u32::BITS - levels.leading_zeros() {
        let len = 1usize << k;
        if k > 0 {
            let half = len / 2;
            next.clear();
            let later = bests.get(half..).unwrap_or_default();
            next.extend(bests.iter().zip(later).map(|(a, b)| best(*a, *b)));
            std::mem::swap(&mut bests, &mut next);
        }
        if levels & 1 << k == 0 {
            continue;
        }
        for (cell, span) in out.iter_mut().zip(windows.spans) {
            if level(*span) == Some(k) {
                *cell = best(bests[span.0 as usize], bests[span.1 as usize - len]);
            }
        }
    }
}

/// Writes to each step for how many values of its window `counts` holds with the value before.
pub(super) fn pairs(windows: &Windows<'_>, out: &mut [f64], counts: impl Fn(f64, f64) -> bool) {
    let values = windows.values;
    let mut seen = 0u32;
    let mut until = Vec::with_capacity(values.len());
    until.extend(values.first().map(|_| seen));
    until.extend(values.iter().zip(values.get(1..).unwrap_or_default()).map(|(a, b)| {
        seen += u32::from(counts(*a, *b));
        seen
    }));
    windows.each_span(out, |_, (first, end)| {
        f64::from(until[end as usize - 1] - until[first as usize])
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::over_time::evaluate;
    use crate::parser::Function;
    use crate::window::{Frame, Grid};
    use proptest::prelude::*;
    use tidegauge_model::Timestamp;

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            6 => (-20i32..20).prop_map(f64::from),
            3 => -1e3..1e3f64,
            1 => prop_oneof![
                Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(0.0), Just(-0.0), Just(f64::MAX),
                Just(1e100), Just(-1e100), Just(9e15), Just(1e-300),
            ],
        ]
    }

    /// What each window gives by itself, as upstream computes it.
    fn alone(function: Function, values: &[f64]) -> f64 {
        use super::super::math::Mean;
        let Some(first) = values.first() else {
            return ABSENT;
        };
        match function {
            Function::SumOverTime => {
                let mut sum = Kahan::default();
                values.iter().for_each(|v| sum.add(*v));
                sum.total_of_range()
            }
            Function::AvgOverTime => {
                let mut mean = Mean::new(*first);
                values[1..].iter().for_each(|v| mean.add(*v));
                mean.value()
            }
            Function::MinOverTime | Function::MaxOverTime => values.iter().fold(*first, |best, v| {
                let better = if function == Function::MinOverTime {
                    *v < best
                } else {
                    *v > best
                };
                if better || best.is_nan() { *v } else { best }
            }),
            Function::Changes => {
                let changed = |w: &&[f64]| w[0] != w[1] && !(w[0].is_nan() && w[1].is_nan());
                values.windows(2).filter(changed).count() as f64
            }
            _ => values.windows(2).filter(|w| w[1] < w[0]).count() as f64,
        }
    }

    proptest! {
        #[test]
        fn windows_together_give_what_each_gives_alone(
            values in prop_oneof![
                proptest::collection::vec(value(), 0..80),
                proptest::collection::vec((-50i32..50).prop_map(f64::from), 0..80),
            ],
            cuts in proptest::collection::vec((0usize..80, 0usize..40), 1..30),
            overlap in any::<bool>(),
        ) {
            let mut starts: Vec<usize> = cuts.iter().map(|c| c.0.min(values.len())).collect();
            starts.sort_unstable();
            let spans: Vec<Span> = starts
                .iter()
                .zip(&cuts)
                .map(|(start, cut)| (*start as u32, (start + cut.1).min(values.len()) as u32))
                .collect();
            let timestamps: Vec<Timestamp> = (0..values.len() as i64).map(Timestamp::from_millis).collect();
            let frame = Frame { grid: Grid::new(0, spans.len() as i64 - 1, 1), at: None, offset_ms: 0, back_ms: 1, ahead_ms: 0 };
            let watch = crate::watch::Watch::new(tidegauge_model::Cancel::new(), None);
            let windows = Windows {
                timestamps: &timestamps, values: &values, spans: &spans, frame: &frame, range_ms: 1, extent: None, watch: &watch,
            };
            use Function as F;
            for function in [F::SumOverTime, F::AvgOverTime, F::MinOverTime, F::MaxOverTime, F::Changes, F::Resets] {
                let mut out = vec![0.0; spans.len()];
                evaluate(function, &windows, &[], overlap, &mut out).unwrap();
                for (got, span) in out.iter().zip(&spans) {
                    let expect = alone(function, windows.slice(*span));
                    // The bits of a NaN that arithmetic makes are nobody's business.
                    let same = got.to_bits() == expect.to_bits()
                        || got.is_nan() && expect.is_nan() && expect.to_bits() != ABSENT.to_bits();
                    prop_assert!(same, "{function:?} {:?}: {got} for {expect}", windows.slice(*span));
                }
            }
        }
    }
}
