//! A sample that stands for others, with a way to its trace.

use crate::{Labels, Timestamp};

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
