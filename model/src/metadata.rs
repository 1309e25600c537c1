//! What an exposition says about a metric beside its samples.

use std::fmt;

/// A metric's type, by the names of the HTTP API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MetricKind {
    /// Only ever rises, until it restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Classic or native histogram.
    Histogram,
    /// A histogram whose counts may fall (OpenMetrics).
    GaugeHistogram,
    /// Quantiles computed by the client.
    Summary,
    /// Constant facts in labels (OpenMetrics).
    Info,
    /// One of several states (OpenMetrics).
    StateSet,
    /// Not declared.
    #[default]
    Unknown,
}

impl MetricKind {
    /// The name in the API's JSON and in OpenMetrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Type, help and unit of a metric family, as one target declared it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Metadata {
    /// Its type.
    pub kind: MetricKind,
    /// Its help text, unescaped.
    pub help: String,
    /// Its unit (OpenMetrics), else empty.
    pub unit: String,
}
