//! Random series.

use super::histogram::buckets;
use super::random::Rng;
use super::schema::{FAMILIES, Family, Shape};
use std::collections::BTreeMap;
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{Labels, Timestamp, stale_marker};

/// When samples are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DataOptions {
    /// The time of the first samples.
    pub(crate) start_ms: i64,
    /// No sample is later.
    pub(crate) end_ms: i64,
    /// The usual time between two samples of a series.
    pub(crate) interval_ms: i64,
}

impl Default for DataOptions {
    /// An hour every 15 s.
    fn default() -> Self {
        let start_ms = 1_700_000_000_000;
        Self {
            start_ms,
            end_ms: start_ms + 3_600_000,
            interval_ms: 15_000,
        }
    }
}

/// Series and their samples: sorted by labels, the samples of each rising in time, stale markers among them.
#[derive(Debug, Clone)]
pub(crate) struct DataSet {
    pub(crate) series: Vec<(Labels, Vec<(i64, f64)>)>,
}

impl DataSet {
    /// The same in the in-memory store.
    pub(crate) fn in_memory(&self) -> MemoryStore {
        let store = MemoryStore::new();
        for (labels, samples) in &self.series {
            for (at, value) in samples {
                store.insert(labels, Timestamp::from_millis(*at), *value);
            }
        }
        store
    }
}

/// Makes the samples of every family.
pub(crate) fn data(rng: &mut Rng, options: &DataOptions) -> DataSet {
    let mut series = BTreeMap::new();
    for family in FAMILIES {
        for labels in combinations(family.labels) {
            // Not every combination is there, but every family is.
            if !labels.is_empty() && rng.percent(6) {
                continue;
            }
            match family.shape {
                Shape::Buckets(oddity) => buckets(rng, options, family.name, &labels, oddity, &mut series),
                Shape::Info => info(rng, options, family, &labels, &mut series),
                shape => {
                    let times = times(rng, options);
                    let values = values(rng, shape, times.len(), options);
                    series.insert(named(family.name, &labels, &[]), marked(&times, &values));
                }
            }
        }
    }
    DataSet {
        series: series.into_iter().filter(|(_, samples)| !samples.is_empty()).collect(),
    }
}

/// The label set of a series.
pub(crate) fn named(name: &str, labels: &[(&str, &str)], more: &[(&str, &str)]) -> Labels {
    let pairs = [("__name__", name)]
        .into_iter()
        .chain(labels.iter().copied())
        .chain(more.iter().copied());
    Labels::from_pairs(pairs).unwrap()
}

fn combinations(labels: &[(&'static str, &[&'static str])]) -> Vec<Vec<(&'static str, &'static str)>> {
    let mut all = vec![Vec::new()];
    for (name, values) in labels {
        all = all
            .into_iter()
            .flat_map(|set: Vec<_>| {
                values
                    .iter()
                    .map(move |v| set.iter().copied().chain([(*name, *v)]).collect())
            })
            .collect();
    }
    all
}

/// A time at which something is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Sample(i64),
    Stale(i64),
}

/// When the samples of a series come.
pub(crate) fn times(rng: &mut Rng, options: &DataOptions) -> Vec<Mark> {
    let DataOptions {
        start_ms,
        end_ms,
        interval_ms,
    } = *options;
    let (mut start, mut end) = (start_ms, end_ms);
    let (mut interval, mut jitter, mut gaps) = (interval_ms, 0, 0);
    match rng.below(10) {
        0..=3 => {}
        4 => jitter = interval / 3,
        5 => gaps = 3,
        6 => (jitter, gaps) = (interval / 20, 5),
        7 => interval *= 4,
        8 => start += rng.between(0, end_ms - start_ms),
        _ => end -= rng.between(0, (end_ms - start_ms) / 2),
    }
    if rng.percent(5) {
        // Off the grid of the others.
        start += rng.between(1, interval);
    }
    let mut marks = Vec::new();
    let mut at = start;
    while at <= end {
        if rng.percent(gaps) {
            if rng.percent(60) {
                marks.push(Mark::Stale(at));
            }
            at += interval * rng.between(1, 40);
            continue;
        }
        let moved = at + if jitter > 0 { rng.between(-jitter, jitter) } else { 0 };
        if moved <= end_ms {
            marks.push(Mark::Sample(moved));
        }
        at += interval;
    }
    if end < end_ms && rng.percent(70) && at <= end_ms {
        marks.push(Mark::Stale(at));
    }
    marks
}

/// Values at the times that want some.
pub(crate) fn marked(times: &[Mark], values: &[f64]) -> Vec<(i64, f64)> {
    times
        .iter()
        .zip(values)
        .map(|(mark, value)| match mark {
            Mark::Sample(at) => (*at, *value),
            Mark::Stale(at) => (*at, stale_marker()),
        })
        .collect()
}

fn values(rng: &mut Rng, shape: Shape, count: usize, options: &DataOptions) -> Vec<f64> {
    let mut value = match shape {
        Shape::Counter => rng.between(0, 1000) as f64,
        Shape::FloatCounter => rng.between(0, 100_000) as f64 / 100.0,
        Shape::Gauge => rng.between(-500, 4000) as f64 / 100.0,
        Shape::Bytes => rng.between(1 << 20, 1 << 34) as f64,
        Shape::Constant => rng.pick(&[1.0, 50.0, 1e6, 0.25, -3.0]),
        _ => 0.0,
    };
    let busy = rng.percent(70);
    (0..count)
        .map(|i| {
            match shape {
                Shape::Counter | Shape::FloatCounter if rng.percent(2) => value = 0.0,
                Shape::Counter if busy || rng.percent(20) => value += rng.between(0, 30) as f64,
                Shape::FloatCounter if busy || rng.percent(20) => value += rng.between(0, 1500) as f64 / 100.0,
                Shape::Gauge => value += rng.between(-50, 50) as f64 / 100.0,
                Shape::Small => value = rng.between(-4, 12) as f64,
                Shape::Bytes if busy || rng.percent(20) => value += (rng.between(-1000, 1000) * 4096) as f64,
                Shape::Up => value = f64::from(u8::from(!rng.percent(7))),
                Shape::Special => value = special(rng),
                Shape::Clock => value = clock(rng, options, i),
                _ => {}
            }
            value
        })
        .collect()
}

fn special(rng: &mut Rng) -> f64 {
    match rng.below(24) {
        0 | 1 => f64::NAN,
        2 | 3 => f64::INFINITY,
        4 => f64::NEG_INFINITY,
        5 => -0.0,
        6 => 0.0,
        7 => f64::MAX,
        8 => -f64::MAX,
        9 => f64::MIN_POSITIVE,
        10 => 5e-324,
        11 => 1e100,
        12 => 0.1,
        13 => (1u64 << 53) as f64 + 2.0,
        // A NaN with something in it, which is not the stale marker.
        14 => f64::from_bits(0x7ff8_0000_0000_0abc),
        n => rng.between(-10, 10) as f64 / if n < 20 { 1.0 } else { 8.0 },
    }
}

/// Times as values: now, and leap years, ends of years, times before 1970.
fn clock(rng: &mut Rng, options: &DataOptions, i: usize) -> f64 {
    match rng.below(10) {
        0 => rng.between(-3_000_000_000, 5_000_000_000) as f64,
        1 => rng.pick(&[
            951_782_400.0,
            1_709_164_799.0,
            1_709_164_800.0,
            4_107_542_400.0,
            -1.0,
            0.0,
            1e12,
        ]),
        _ => (options.start_ms / 1000 + 15 * i as i64) as f64 + rng.pick(&[0.0, 0.5, 0.999]),
    }
}

/// An info metric: of the series that differ in the last label one is there at a time, mostly.
fn info(
    rng: &mut Rng,
    options: &DataOptions,
    family: &Family,
    labels: &[(&'static str, &'static str)],
    series: &mut BTreeMap<Labels, Vec<(i64, f64)>>,
) {
    let is_first = family
        .labels
        .last()
        .zip(labels.last())
        .is_none_or(|((_, values), (_, value))| values.first() == Some(value));
    // The same for both of a target, so that one begins where the other ends.
    let target: u64 = labels
        .iter()
        .rev()
        .skip(1)
        .flat_map(|(_, v)| v.bytes())
        .map(u64::from)
        .sum();
    let steps = (options.end_ms - options.start_ms) / options.interval_ms;
    let change = options.start_ms + options.interval_ms * ((target * 37) as i64 % steps.max(1));
    let marks: Vec<Mark> = (0..=steps)
        .map(|k| options.start_ms + k * options.interval_ms)
        .filter_map(|at| match (is_first, at < change) {
            (true, true) | (false, false) => Some(Mark::Sample(at)),
            (true, false) if at == change && !target.is_multiple_of(4) => Some(Mark::Stale(at)),
            _ => None,
        })
        .filter(|_| !rng.percent(1))
        .collect();
    let values = vec![1.0; marks.len()];
    series.insert(named(family.name, labels, &[]), marked(&marks, &values));
}
