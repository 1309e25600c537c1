//! Warnings and infos: what a user should know about an answer that is none the less an answer.

use std::collections::BTreeMap;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The answer may be wrong or incomplete.
    Warning,
    /// The query may not mean what its author thinks.
    Info,
}

/// Where in the query an annotation points: a byte offset.
pub(crate) type Place = usize;

/// The annotations of one query, each text once, in the order of the text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotations {
    /// Texts with the place appended; the numbers a merged text needs beside it.
    notes: BTreeMap<(Severity, Note, Place), Repair>,
    /// Offsets of the query's line starts, to turn places into `line:column`.
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
    /// A step of a classic histogram that mixes kinds or anything else said in full.
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
        let mut texts: Vec<String> = self
            .notes
            .iter()
            .filter(|((s, _, _), _)| *s == severity)
            .map(|((_, note, place), repair)| {
                let (line, column) = line_column(&self.text, *place);
                let (head, tail) = note.text(repair);
                let kind = match severity {
                    Severity::Warning => "warning",
                    Severity::Info => "info",
                };
                if tail.is_empty() {
                    format!("PromQL {kind}: {head} ({line}:{column})")
                } else {
                    format!("PromQL {kind}: {head} ({line}:{column}){tail}")
                }
            })
            .collect();
        texts.sort_unstable();
        texts.dedup();
        texts
    }

    pub(crate) fn set_text(&mut self, text: &str) {
        text.clone_into(&mut self.text);
    }

    pub(crate) fn warn(&mut self, note: Note, place: Place) {
        self.notes.entry((Severity::Warning, note, place)).or_default();
    }

    pub(crate) fn info(&mut self, note: Note, place: Place) {
        self.notes.entry((Severity::Info, note, place)).or_default();
    }

    pub(crate) fn repaired(&mut self, metric: &str, place: Place, repair: &Repair) {
        let key = (Severity::Info, Note::ForcedMonotonicity(metric.to_owned()), place);
        self.notes.entry(key).or_default().merge(repair);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (key, repair) in other.notes {
            self.notes.entry(key).or_default().merge(&repair);
        }
    }
}

impl Note {
    /// The text before and after the position.
    fn text(&self, repair: &Repair) -> (String, String) {
        let _ = repair;
        let head = match self {
            Self::InvalidQuantile(q) => format!("quantile value should be between 0 and 1, got {q}"),
            Self::InvalidRatio(given, used) => {
                format!("ratio value should be between -1 and 1, got {given}, capping to {used}")
            }
            Self::BadBucketLabel(value, metric) => {
                format!("bucket label \"le\" is missing or has a malformed value of {value:?}{}", for_metric(metric))
            }
            Self::ForcedMonotonicity(metric) => format!(
                "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){}",
                for_metric(metric)
            ),
            Self::PossibleNonCounter(metric) => format!(
                "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:{}",
                named(metric)
            ),
            Self::PossibleNonCounterType(metric, kind) => {
                format!("metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {kind:?}:{}", named(metric))
            }
            Self::SortInRangeQuery => "sort is ineffective for range queries since results are always ordered by labels".to_owned(),
            Self::Other(text) => text.clone(),
        };
        (head, String::new())
    }
}

fn named(metric: &str) -> String {
    format!(" {metric:?}")
}

fn for_metric(metric: &str) -> String {
    if metric.is_empty() { String::new() } else { format!(" for metric name {metric:?}") }
}

/// Line and column of a byte, both from 1.
fn line_column(text: &str, place: usize) -> (usize, usize) {
    let before = text.as_bytes().get(..place.min(text.len())).unwrap_or_default();
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    (line, before.len() - start + 1)
}
