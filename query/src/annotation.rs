//! Warnings and infos: what a user should know about an answer that is none the less an answer.

use crate::functions::math::{go_float, go_float_below};
use crate::functions::time::rfc3339;
use crate::parser::Place;
use std::collections::BTreeMap;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The answer may be wrong or incomplete.
    Warning,
    /// The query may not mean what its author thinks.
    Info,
}

/// How many texts of a kind an answer carries; how many more there are is said in another. `const` in upstream too.
const MOST_TEXTS: usize = 10;

/// The annotations of one query, each text once, in the order of the text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotations {
    /// What is said about which byte of the query; the numbers a merged text needs beside it.
    notes: BTreeMap<(Severity, Note, usize), Repair>,
    /// The query, to turn bytes into `line:column`.
    text: String,
}

/// What is said; the texts are upstream's, people search for them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Note {
    /// A quantile outside 0 to 1.
    InvalidQuantile(String),
    /// A ratio outside -1 to 1: the ratio given, the ratio used.
    InvalidRatio(String, String),
    /// A bucket without a readable `le`: label value, metric name.
    BadBucketLabel(String, String),
    /// Buckets whose counts fall; the numbers are in the [`Repair`].
    ForcedMonotonicity(String),
    /// `rate` and friends over what is not named as a counter.
    PossibleNonCounter(String),
    /// The type label says it is no counter: metric name and type.
    PossibleNonCounterType(String, String),
    /// `sort` in a range query.
    SortInRangeQuery,
    /// Anything else, in full.
    Other(String),
}

/// How far buckets had to be raised to rise, over the whole query.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Repair {
    pub(crate) min_ms: i64,
    pub(crate) max_ms: i64,
    pub(crate) count: u64,
    pub(crate) min_bucket: f64,
    pub(crate) max_bucket: f64,
    pub(crate) max_diff: f64,
}

impl Repair {
    /// Counts one repaired histogram at one time.
    pub(crate) fn add(&mut self, ms: i64, min_bucket: f64, max_bucket: f64, max_diff: f64) {
        self.merge(&Self {
            min_ms: ms,
            max_ms: ms,
            count: 1,
            min_bucket,
            max_bucket,
            max_diff,
        });
    }

    fn merge(&mut self, other: &Self) {
        if self.count == 0 {
            *self = *other;
            return;
        }
        if other.count == 0 {
            return;
        }
        self.min_ms = self.min_ms.min(other.min_ms);
        self.max_ms = self.max_ms.max(other.max_ms);
        self.count += other.count;
        self.min_bucket = self.min_bucket.min(other.min_bucket);
        self.max_bucket = self.max_bucket.max(other.max_bucket);
        self.max_diff = self.max_diff.max(other.max_diff);
    }
}

impl Annotations {
    /// Warnings, as the API returns them: `PromQL warning: ... (line:column)`.
    pub fn warnings(&self) -> Vec<String> {
        self.texts(Severity::Warning)
    }

    /// Infos, as the API returns them: `PromQL info: ... (line:column)`.
    pub fn infos(&self) -> Vec<String> {
        self.texts(Severity::Info)
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    fn texts(&self, severity: Severity) -> Vec<String> {
        let kind = match severity {
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        let mut texts: Vec<String> = self
            .notes
            .iter()
            .filter(|((s, _, _), _)| *s == severity)
            .map(|((_, note, place), repair)| {
                let byte = u32::try_from(*place).unwrap_or(u32::MAX);
                format!("PromQL {kind}: {} ({})", note.text(repair), Place::at(&self.text, byte))
            })
            .collect();
        texts.sort_unstable();
        texts.dedup();
        if let Some(more) = texts.len().checked_sub(MOST_TEXTS).filter(|more| *more > 0) {
            texts.truncate(MOST_TEXTS);
            texts.push(format!("{more} more {kind} annotations omitted"));
        }
        texts
    }

    pub(crate) fn set_text(&mut self, text: &str) {
        text.clone_into(&mut self.text);
    }

    pub(crate) fn warn(&mut self, note: Note, place: usize) {
        self.notes.entry((Severity::Warning, note, place)).or_default();
    }

    pub(crate) fn info(&mut self, note: Note, place: usize) {
        self.notes.entry((Severity::Info, note, place)).or_default();
    }

    pub(crate) fn repaired(&mut self, metric: &str, place: usize, repair: &Repair) {
        let key = (Severity::Info, Note::ForcedMonotonicity(metric.to_owned()), place);
        self.notes.entry(key).or_default().merge(repair);
    }
}

impl Note {
    fn text(&self, repair: &Repair) -> String {
        match self {
            Self::InvalidQuantile(q) => format!("quantile value should be between 0 and 1, got {q}"),
            Self::InvalidRatio(given, used) => {
                format!("ratio value should be between -1 and 1, got {given}, capping to {used}")
            }
            Self::BadBucketLabel(value, metric) => format!(
                "bucket label \"le\" is missing or has a malformed value of {value:?}{}",
                for_metric(metric)
            ),
            Self::ForcedMonotonicity(metric) => format!(
                "input to histogram_quantile needed to be fixed for monotonicity (see {GUIDE}){}, from buckets {} to {}, \
                 with a max diff of {}, over {} samples from {} to {}",
                for_metric(metric),
                go_float(repair.min_bucket),
                go_float(repair.max_bucket),
                two_digits(repair.max_diff),
                repair.count,
                rfc3339(repair.min_ms),
                rfc3339(repair.max_ms)
            ),
            Self::PossibleNonCounter(metric) => {
                format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {metric:?}")
            }
            Self::PossibleNonCounterType(metric, kind) => format!(
                "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {kind:?}: {metric:?}"
            ),
            Self::SortInRangeQuery => {
                "sort is ineffective for range queries since results are always ordered by labels".to_owned()
            }
            Self::Other(text) => text.clone(),
        }
    }
}

/// Where upstream explains the repair.
const GUIDE: &str = "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile";

fn for_metric(metric: &str) -> String {
    if metric.is_empty() {
        String::new()
    } else {
        format!(" for metric name {metric:?}")
    }
}

/// A float with two significant digits (Go's `%.2g`).
fn two_digits(value: f64) -> String {
    go_float_below(1e2, format!("{value:.1e}").parse().unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_ten_of_a_kind_are_told() {
        let mut notes = Annotations::default();
        for q in 10..22 {
            notes.warn(Note::InvalidQuantile(q.to_string()), 0);
        }
        let warnings = notes.warnings();
        assert_eq!(warnings.len(), 11);
        assert!(warnings[0].ends_with("got 10 (1:1)"));
        assert_eq!(warnings[10], "2 more warning annotations omitted");
        assert_eq!(two_digits(1234.0), "1.2e+03");
        assert_eq!(two_digits(12.34), "12");
    }

    #[test]
    fn texts_are_upstream_s_and_occur_once() {
        let mut notes = Annotations::default();
        notes.set_text("sum(\n  rate(x[5m]))");
        notes.info(Note::PossibleNonCounter("x".into()), 12);
        notes.info(Note::PossibleNonCounter("x".into()), 12);
        let mut other = Repair::default();
        other.add(0, 1.0, 2.0, 0.123);
        other.add(60_000, 0.5, 2.0, 0.1);
        notes.repaired("", 0, &other);
        notes.warn(Note::InvalidQuantile("NaN".into()), 0);
        assert_eq!(
            notes.warnings(),
            ["PromQL warning: quantile value should be between 0 and 1, got NaN (1:1)"]
        );
        assert_eq!(
            notes.infos(),
            [
                format!(
                    "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see {GUIDE}), from buckets \
                     0.5 to 2, with a max diff of 0.12, over 2 samples from 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z (1:1)"
                ),
                "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"x\" (2:8)".into(),
            ]
        );
    }
}
