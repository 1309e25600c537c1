//! Classic histograms, collected from their lines into native ones with custom bounds
//! (`convert_classic_histograms_to_nhcb`).
//!
//! ```text
//!   # TYPE x histogram
//!   x_bucket{a="1",le="1.0"} 2   --.
//!   x_bucket{a="1",le="+Inf"} 3    |-- one group: same name but for the suffix, same labels but for `le`
//!   x_sum{a="1"} 4.5               |
//!   x_count{a="1"} 3             --'
//!   x_bucket{a="2",le="1.0"} 1   <-- another group: before this line comes  x{a="1"} as a native histogram
//! ```
//!
//! The lines of a group are swallowed unless classic ones are wanted too. A group that does not make a histogram (its
//! counts fall, its count is another one than that of the last bucket) is lost with them, as upstream loses it. Lines
//! that follow a native histogram of the same labels are of that one, and no group.
//!
//! # Reference
//! Prometheus 3.5, `model/textparse/nhcbparse.go`.

use super::entries::{Entries, Entry, Escaped, RawExemplar, SampleLine};
use super::error::ParseError;
use super::fingerprint::Fingerprint;
use super::number::go_float;
use super::series::Pair;
use std::borrow::Cow;
use std::cmp::Ordering;
use tidegauge_model::{CUSTOM_SCHEMA, Counts, Histogram, MetricKind, Span, reserved};

type Step<'b> = Option<Result<Entry<'b>, ParseError>>;

/// What is known of the histogram at hand.
#[derive(Debug)]
pub(super) struct Collate<'b> {
    keep_classic: bool,
    /// The family declared last.
    family: Option<Escaped<'b>>,
    kind: MetricKind,
    state: State,
    group: Group<'b>,
    /// What stands for the labels of the group, and for those of the line at hand: each text with its length in front.
    base: Vec<u8>,
    line_base: Vec<u8>,
    /// The labels of the line at hand.
    pairs: Vec<Pair<'b>>,
    /// Whether that line tells when its histogram began, as a sample: swallowed with the group, as upstream does.
    created: bool,
    /// What ended a group: the next entry, once the group is told.
    held: Option<Step<'b>>,
    made: Option<Made<'b>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No group.
    Idle,
    /// No group; `base` is that of a native histogram.
    Native,
    /// `group` is being collected, of `base`.
    Collecting,
}

/// A histogram made of a group.
#[derive(Debug)]
pub(super) struct Made<'b> {
    pub(super) key: Fingerprint,
    pub(super) pairs: Vec<Pair<'b>>,
    pub(super) histogram: Histogram,
    pub(super) exemplars: Vec<RawExemplar<'b>>,
}

/// What the lines of a group say.
#[derive(Debug, Default)]
struct Group<'b> {
    /// The last of them.
    line: Option<SampleLine<'b>>,
    pairs: Vec<Pair<'b>>,
    exemplars: Vec<RawExemplar<'b>>,
    /// Bounds and cumulative counts as they came.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

/// What a line says of its histogram.
#[derive(Debug, Clone, Copy)]
enum Role {
    Bucket(f64),
    Sum,
    Count,
}

const SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

/// The next entry of a body whose classic histograms are collected.
pub(super) fn next<'b>(walk: &mut Entries<'b>, expected: Fingerprint) -> Step<'b> {
    let mut collate = walk.collate.take()?;
    let step = collate.next(walk, expected);
    walk.collate = Some(collate);
    step
}

impl<'b> Collate<'b> {
    pub(super) fn new(keep_classic: bool) -> Self {
        Self {
            keep_classic,
            family: None,
            kind: MetricKind::Unknown,
            state: State::Idle,
            group: Group::default(),
            base: Vec::new(),
            line_base: Vec::new(),
            pairs: Vec::new(),
            created: false,
            held: None,
            made: None,
        }
    }

    /// The histogram told last, if one made here was.
    pub(super) fn made(&self) -> Option<&Made<'b>> {
        self.made.as_ref()
    }

    fn next(&mut self, walk: &mut Entries<'b>, expected: Fingerprint) -> Step<'b> {
        loop {
            self.made = None;
            self.created = false;
            let step = match self.held.take() {
                Some(step) => {
                    // What was expected of it is long past.
                    walk.as_expected = false;
                    step
                }
                None => walk.next_written(expected),
            };
            let role = match &step {
                // Start timestamps may stand between the lines of a group.
                Some(Err(_) | Ok(Entry::Created { .. })) => return step,
                Some(Ok(Entry::Sample(line))) if self.kind == MetricKind::Histogram => match self.role(walk, line) {
                    Ok(role) => role,
                    Err(problem) => return Some(Err(problem)),
                },
                _ => {
                    self.line_base.clear();
                    None
                }
            };
            let same = !self.line_base.is_empty() && self.line_base == self.base;
            if self.state == State::Collecting && !same {
                self.held = Some(step);
                match self.close() {
                    Some(told) => {
                        let key = self.made.as_ref().map(|made| made.key);
                        walk.as_expected = !expected.is_none() && key == Some(expected);
                        return Some(Ok(told));
                    }
                    None => continue,
                }
            }
            let (Some(Ok(Entry::Sample(line))), Some(role)) = (&step, role) else {
                if self.created && !self.keep_classic {
                    continue;
                }
                self.watch(walk, &step);
                return step;
            };
            if same && self.state == State::Native {
                return step;
            }
            self.take(walk, *line, role);
            if self.keep_classic {
                return step;
            }
        }
    }

    /// Notes what an entry that is no line of a group says of those that follow.
    fn watch(&mut self, walk: &Entries<'b>, step: &Step<'b>) {
        match step {
            Some(Ok(Entry::Type { metric, kind })) => (self.family, self.kind) = (Some(*metric), *kind),
            // Labels that cannot be read are told when they are read for the series.
            Some(Ok(Entry::Histogram(line))) if walk.written_pairs(line, &mut self.pairs).is_ok() => {
                base_of(&self.pairs, "", &mut self.base);
                self.state = State::Native;
            }
            _ => {}
        }
    }

    /// What a line of a histogram family says, and its base; `None` if it is no line of the histogram declared.
    fn role(&mut self, walk: &Entries<'b>, line: &SampleLine<'b>) -> Result<Option<Role>, ParseError> {
        self.line_base.clear();
        walk.written_pairs(line, &mut self.pairs)?;
        let of = |label: &str| {
            let pair = self.pairs.iter().find(|(name, _)| name == label)?;
            Some(&*pair.1)
        };
        let name = of(reserved::METRIC_NAME).unwrap_or_default();
        let of_family = |stem: &str| self.family.is_some_and(|family| family.text() == stem);
        self.created = name.strip_suffix("_created").is_some_and(of_family);
        let Some((suffix, stem)) = split(name) else {
            return Ok(None);
        };
        if !of_family(stem) {
            return Ok(None);
        }
        let role = match suffix {
            "_sum" => Some(Role::Sum),
            "_count" => Some(Role::Count),
            _ => of(reserved::BUCKET)
                .and_then(|le| go_float(le.as_bytes()).ok())
                .filter(|bound| !bound.is_nan())
                .map(Role::Bucket),
        };
        base_of(&self.pairs, suffix, &mut self.line_base);
        Ok(role)
    }

    /// Adds a line to its group.
    fn take(&mut self, walk: &Entries<'b>, line: SampleLine<'b>, role: Role) {
        if self.state != State::Collecting {
            self.state = State::Collecting;
            std::mem::swap(&mut self.base, &mut self.line_base);
            self.group = Group {
                pairs: base_pairs(&self.pairs),
                ..Group::default()
            };
        }
        let group = &mut self.group;
        group.line = Some(line);
        group.exemplars.extend(walk.written_exemplars());
        match role {
            Role::Bucket(bound) => group.buckets.push((bound, line.value)),
            Role::Sum => group.sum = line.value,
            Role::Count => group.count = Some(line.value),
        }
    }

    /// Ends the group; gives its histogram if it makes one.
    fn close(&mut self) -> Option<Entry<'b>> {
        self.state = State::Idle;
        let group = std::mem::take(&mut self.group);
        let line = group.line?;
        let histogram = group.histogram()?;
        self.made = Some(Made {
            key: Fingerprint::of(&self.base),
            pairs: group.pairs,
            histogram,
            // Exemplars of native histograms say when they were observed, or are none.
            exemplars: group.exemplars.into_iter().filter(|one| one.at.is_some()).collect(),
        });
        Some(Entry::Histogram(line))
    }
}

/// The suffix of a name of a classic histogram's series, and what is in front of it.
fn split(name: &str) -> Option<(&'static str, &str)> {
    SUFFIXES
        .into_iter()
        .find_map(|suffix| Some((suffix, name.strip_suffix(suffix)?)))
}

/// Writes what stands for the labels of a histogram, given those of a line of it.
fn base_of(pairs: &[Pair<'_>], suffix: &str, base: &mut Vec<u8>) {
    base.clear();
    let labels = pairs.iter().filter(|(_, value)| !value.is_empty());
    for (name, value) in labels.filter(|(name, _)| name != reserved::BUCKET) {
        let value: &str = match &**name {
            reserved::METRIC_NAME => value.strip_suffix(suffix).unwrap_or(value),
            _ => value,
        };
        for text in [name, value] {
            base.extend_from_slice(&(text.len() as u64).to_le_bytes());
            base.extend_from_slice(text.as_bytes());
        }
    }
}

/// The labels of a histogram, given those of a line of it.
fn base_pairs<'b>(pairs: &[Pair<'b>]) -> Vec<Pair<'b>> {
    let stem = |name: &Cow<'b, str>| match name {
        Cow::Borrowed(name) => Cow::Borrowed(split(name).map_or(*name, |(_, stem)| stem)),
        Cow::Owned(name) => Cow::Owned(split(name).map_or(name.as_str(), |(_, stem)| stem).to_owned()),
    };
    pairs
        .iter()
        .filter(|(name, _)| name != reserved::BUCKET)
        .map(|(name, value)| match &**name {
            reserved::METRIC_NAME => (name.clone(), stem(value)),
            _ => (name.clone(), value.clone()),
        })
        .collect()
}

impl Group<'_> {
    /// The native histogram it makes: of integers if all counts are, else of floats.
    fn histogram(&self) -> Option<Histogram> {
        let mut buckets = self.buckets.clone();
        buckets.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal));
        // A bound told twice keeps its first count.
        buckets.dedup_by(|next, kept| next.0 == kept.0);
        let count = self.count.or(buckets.last().map(|(_, count)| *count))?;
        let falls = |pair: &[(f64, f64)]| matches!(pair, [(_, below), (_, above)] if above < below);
        if count < 0.0 || buckets.iter().any(|(_, count)| *count < 0.0) || buckets.windows(2).any(falls) {
            return None;
        }
        if buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
            buckets.push((f64::INFINITY, count));
        }
        if buckets.last().is_none_or(|(_, last)| *last != count) {
            return None;
        }
        let integers = buckets.iter().all(|(_, count)| count.fract() == 0.0);
        let mut before = 0.0;
        let mut histogram = Histogram {
            counts: if integers { Counts::Integer } else { Counts::Float },
            schema: CUSTOM_SCHEMA,
            count,
            sum: self.sum,
            positive_spans: vec![Span {
                offset: 0,
                length: u32::try_from(buckets.len()).ok()?,
            }],
            positive_buckets: buckets
                .iter()
                .map(|(_, count)| count - std::mem::replace(&mut before, *count))
                .collect(),
            custom_values: buckets
                .iter()
                .map(|(bound, _)| *bound)
                .filter(|bound| *bound != f64::INFINITY)
                .collect(),
            ..Histogram::default()
        };
        histogram.compact(if integers { 2 } else { 0 });
        histogram.validate(usize::MAX).is_ok().then_some(histogram)
    }
}
