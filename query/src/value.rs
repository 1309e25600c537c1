//! What a query answers.

use crate::annotation::Annotations;
use crate::explain::Explain;
use std::time::Duration;
use tidegauge_model::{Labels, Sample, Timestamp};

/// The value of an expression.
#[derive(Debug, Clone)]
pub enum Value {
    /// A number at the time of evaluation. A range query turns it into a [`Value::Matrix`] of one series.
    Scalar(Sample),
    /// A string at the time of evaluation; only of instant queries.
    String {
        /// When it was evaluated.
        at: Timestamp,
        /// The string.
        text: String,
    },
    /// One sample per series; only of instant queries. In no particular order unless the query sorts.
    Vector(Vec<InstantSample>),
    /// Samples over time per series: of every range query (sorted by labels then), and of an instant
    /// query whose expression is a range selector or a subquery.
    Matrix(Vec<RangeSeries>),
}

impl Value {
    /// The API's name of the kind: `scalar`, `string`, `vector` or `matrix`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "scalar",
            Self::String { .. } => "string",
            Self::Vector(_) => "vector",
            Self::Matrix(_) => "matrix",
        }
    }
}

/// A series' value at one time.
#[derive(Debug, Clone)]
pub struct InstantSample {
    /// The series.
    pub labels: Labels,
    /// When: the time of evaluation.
    pub at: Timestamp,
    /// The value.
    pub value: f64,
}

/// A series' values over time.
#[derive(Debug, Clone)]
pub struct RangeSeries {
    /// The series.
    pub labels: Labels,
    /// Its samples, rising in time; at least one.
    pub points: Vec<Sample>,
}

/// What came of a query.
#[derive(Debug, Clone)]
pub struct QueryOutput {
    /// The value.
    pub value: Value,
    /// What the user should know about it.
    pub annotations: Annotations,
    /// What it took.
    pub stats: QueryStats,
    /// How it was evaluated, if that was asked for.
    pub explain: Option<Explain>,
}

/// How much a query counts while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StatsLevel {
    /// Totals only.
    #[default]
    Totals,
    /// Samples per step too (`stats=all`).
    PerStep,
    /// And what each part of the plan did ([`QueryOutput::explain`]).
    Explain,
}

/// What a query took.
#[derive(Debug, Clone, Default)]
pub struct QueryStats {
    /// Time spent waiting for a place among the running queries.
    pub queue: Duration,
    /// Time spent on planning: constants, ranges, hints.
    pub prepare: Duration,
    /// Time spent on evaluation, reading included.
    pub eval: Duration,
    /// Time spent on sorting the result.
    pub sort: Duration,
    /// Samples that the steps looked at, a sample counted for each step that sees it. As upstream counts, what a
    /// subquery reads is not among them, but what it makes of it is.
    pub samples: u64,
    /// The most samples held at a time as upstream counts them, which holds more than is held here: it is what
    /// [`EngineOptions::max_samples`](crate::EngineOptions::max_samples) bounds.
    pub peak_samples: u64,
    /// Samples looked at by step, if asked for.
    pub samples_per_step: Option<Vec<(Timestamp, u64)>>,
    /// Series read.
    pub series: u64,
    /// The most bytes held at a time.
    pub peak_bytes: u64,
}
