//! A sample that stands for others, with a way to its trace; and the door out for them.

use crate::{Labels, Matcher, ReadContext, SelectError, TimeRange, Timestamp};
use std::cmp::Ordering;

/// The most characters that the label names and values of one exemplar may have together.
///
/// # Reference
/// OpenMetrics 1.0, section Exemplars.
pub const MAX_EXEMPLAR_CHARS: usize = 128;

/// One exemplar of a series.
#[derive(Debug, Clone)]
pub struct Exemplar {
    /// The exemplar's own labels, such as `trace_id`.
    pub labels: Labels,
    /// The observed value.
    pub value: f64,
    /// When it was observed; `None` if the exposition did not say.
    pub at: Option<Timestamp>,
}

impl Exemplar {
    /// Characters of its labels.
    pub fn label_chars(&self) -> usize {
        let chars = |text: &str| text.chars().count();
        self.labels.iter().map(|(name, value)| chars(name) + chars(value)).sum()
    }

    /// Whether `newer`, stored or scraped at `newer_at`, says the same as this one, stored at `at`. Two that do not
    /// say when they were observed are the same at any time: a target shows its last one scrape by scrape.
    pub fn is_repeated_by(&self, at: Timestamp, newer: &Self, newer_at: Timestamp) -> bool {
        let timeless = self.at.is_none() && newer.at.is_none();
        self.labels == newer.labels && (timeless || at == newer_at) && self.value == newer.value
    }

    /// The order exemplars of a series are taken in: by time, then value, then labels. Upstream compares hashes of the
    /// labels, which is an order as good as any.
    pub fn order(&self, at: Timestamp, newer: &Self, newer_at: Timestamp) -> Ordering {
        let value = || self.value.partial_cmp(&newer.value).unwrap_or(Ordering::Equal);
        at.cmp(&newer_at)
            .then_with(value)
            .then_with(|| self.labels.cmp(&newer.labels))
    }
}

/// The exemplars of one series.
#[derive(Debug, Clone)]
pub struct SeriesExemplars {
    /// The series.
    pub labels: Labels,
    /// Its exemplars in the order they were stored; each says when.
    pub exemplars: Vec<Exemplar>,
}

/// A store that answers for exemplars.
pub trait ExemplarQueryable: Send + Sync {
    /// The exemplars within `range` (both ends included) of series that meet all matchers of any selector, by series
    /// in order of their labels. Empty if exemplars are not kept.
    ///
    /// # Errors
    /// [`SelectError`]: cancelled or over budget.
    fn exemplars(
        &self,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        cx: &ReadContext,
    ) -> Result<Vec<SeriesExemplars>, SelectError>;
}
