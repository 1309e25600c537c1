//! Native histograms: the second kind of value a sample can have.
//!
//! Storage keeps them whole; until the engine evaluates them, a query that meets one says so in an error.

/// Whether a histogram is known to follow a counter reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResetHint {
    /// Nothing is known; compare with the sample before.
    #[default]
    Unknown,
    /// A reset lies between the sample before and this one.
    Reset,
    /// No reset lies between.
    NotReset,
    /// A gauge: resets mean nothing.
    Gauge,
}

/// A run of adjacent buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Gap to the end of the span before, or the index of the first bucket.
    pub offset: i32,
    /// How many buckets.
    pub length: u32,
}

/// A native histogram with float counts; integer ones are exact in it up to 2^53.
///
/// # Reference
/// Prometheus `model/histogram.FloatHistogram`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// Resolution: -4 to 8, or -53 for custom bounds.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Where the positive buckets lie.
    pub positive_spans: Vec<Span>,
    /// Their absolute counts.
    pub positive_buckets: Vec<f64>,
    /// Where the negative buckets lie.
    pub negative_spans: Vec<Span>,
    /// Their absolute counts.
    pub negative_buckets: Vec<f64>,
    /// Upper bounds with schema -53, without `+Inf`.
    pub custom_values: Vec<f64>,
    /// What is known about a reset.
    pub reset_hint: ResetHint,
}
