//! Random classic histograms, and what is wrong with some.

use super::data::{DataOptions, marked, named, times};
use super::random::Rng;
use super::schema::Oddity;
use std::collections::BTreeMap;
use tidegauge_model::Labels;

const GOOD: &[&[&str]] = &[
    &["0.1", "0.5", "1", "2.5", "10", "+Inf"],
    &[
        "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf",
    ],
    &["-10", "-1", "0", "1", "10", "+Inf"],
];
/// A bound of NaN is not among them: upstream leaves open in which order it sorts.
const ODD: &[&[&str]] = &[
    // No upper end.
    &["0.1", "0.5", "1"],
    // One bound twice.
    &["0.1", "1", "1.0", "1e0", "+Inf"],
    // Not a number, not there.
    &["0.1", "abc", "1", "+Inf"],
    &["0.5", "", "Inf"],
    // Hardly any buckets.
    &["+Inf"],
    &["1", "+Inf"],
    &["-Inf", "0", "+Inf"],
    &["0x1p-2", "1_000", "+Inf"],
];

/// Adds the buckets of one histogram.
pub(crate) fn buckets(
    rng: &mut Rng,
    options: &DataOptions,
    name: &str,
    labels: &[(&str, &str)],
    oddity: Oddity,
    series: &mut BTreeMap<Labels, Vec<(i64, f64)>>,
) {
    let odd = oddity == Oddity::Any;
    let kinds = if odd && rng.percent(80) { ODD } else { GOOD };
    let bounds = rng.pick(kinds);
    let marks = times(rng, options);
    let mut counts = vec![0.0; bounds.len()];
    let mut columns = vec![Vec::with_capacity(marks.len()); bounds.len()];
    let empty = rng.percent(5);
    for _ in &marks {
        if rng.percent(2) {
            counts.fill(0.0);
        }
        let mut more = 0;
        for (count, column) in counts.iter_mut().zip(&mut columns) {
            if !empty {
                more += rng.between(0, 6);
            }
            *count += more as f64;
            column.push(*count);
        }
    }
    let is_uneven = odd && rng.percent(40);
    for (bound, mut column) in bounds.iter().zip(columns) {
        if is_uneven {
            spoil(rng, &mut column);
        }
        series.insert(named(name, labels, &[("le", bound)]), marked(&marks, &column));
    }
}

/// Buckets that fall, by a lot or by what a float loses.
fn spoil(rng: &mut Rng, column: &mut [f64]) {
    for value in column {
        match rng.below(20) {
            0 => *value -= 10.0,
            1 => *value *= 1.0 - 1e-13,
            2 => *value = f64::NAN,
            3 => *value += 3.0,
            _ => {}
        }
    }
}
