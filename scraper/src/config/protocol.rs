//! What formats a scrape asks for, and how names beyond the classic character set are treated.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// One of `scrape_protocols`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScrapeProtocol {
    /// Delimited protobuf. Read in the configuration; never asked for, as it is not parsed here.
    PrometheusProto,
    /// The text format of 2014.
    PrometheusText0_0_4,
    /// The text format with quoted UTF-8 names.
    PrometheusText1_0_0,
    /// OpenMetrics before its release.
    OpenMetricsText0_0_1,
    /// OpenMetrics.
    OpenMetricsText1_0_0,
}

impl ScrapeProtocol {
    /// All, as upstream's messages list them.
    pub const ALL: [Self; 5] = [
        Self::OpenMetricsText0_0_1,
        Self::OpenMetricsText1_0_0,
        Self::PrometheusProto,
        Self::PrometheusText0_0_4,
        Self::PrometheusText1_0_0,
    ];

    /// What is asked for when nothing is configured, the most wanted first.
    pub const DEFAULT: [Self; 4] = [
        Self::OpenMetricsText1_0_0,
        Self::OpenMetricsText0_0_1,
        Self::PrometheusText1_0_0,
        Self::PrometheusText0_0_4,
    ];

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PrometheusProto => "PrometheusProto",
            Self::PrometheusText0_0_4 => "PrometheusText0.0.4",
            Self::PrometheusText1_0_0 => "PrometheusText1.0.0",
            Self::OpenMetricsText0_0_1 => "OpenMetricsText0.0.1",
            Self::OpenMetricsText1_0_0 => "OpenMetricsText1.0.0",
        }
    }

    /// The media type asked for; `None` for what is not parsed here.
    pub(crate) fn media_type(self) -> Option<&'static str> {
        match self {
            Self::PrometheusProto => None,
            Self::PrometheusText0_0_4 => Some("text/plain;version=0.0.4"),
            Self::PrometheusText1_0_0 => Some("text/plain;version=1.0.0"),
            Self::OpenMetricsText0_0_1 => Some("application/openmetrics-text;version=0.0.1"),
            Self::OpenMetricsText1_0_0 => Some("application/openmetrics-text;version=1.0.0"),
        }
    }

    /// Whether the format knows escaping of UTF-8 names.
    pub(crate) fn escapes(self) -> bool {
        matches!(self, Self::PrometheusText1_0_0 | Self::OpenMetricsText1_0_0)
    }
}

/// A text enum of the configuration: its words, and what upstream says about others.
macro_rules! words {
    ($name:ident, $unknown:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                let unknown: fn(&str) -> String = $unknown;
                Self::ALL
                    .into_iter()
                    .find(|known| known.as_str() == text)
                    .ok_or_else(|| serde::de::Error::custom(unknown(&text)))
            }
        }
    };
}

words!(ScrapeProtocol, |text| {
    let known = ScrapeProtocol::ALL.map(ScrapeProtocol::as_str).join(" ");
    format!("unknown scrape protocol {text}, supported: [{known}]")
});

/// Which metric and label names are valid: `metric_name_validation_scheme`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameValidation {
    /// Any UTF-8.
    #[default]
    Utf8,
    /// The classic `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    Legacy,
}

impl NameValidation {
    const ALL: [Self; 2] = [Self::Utf8, Self::Legacy];

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "utf8",
            Self::Legacy => "legacy",
        }
    }
}

words!(NameValidation, |text| format!(
    "unrecognized ValidationScheme: {text:?}, must be either 'legacy' or 'utf8'"
));

/// How a target is asked to write names that are not classic: `metric_name_escaping_scheme`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameEscaping {
    /// As they are.
    AllowUtf8,
    /// With underscores.
    Underscores,
    /// With `_dot_`.
    Dots,
    /// With code points.
    Values,
}

impl NameEscaping {
    const ALL: [Self; 4] = [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values];

    /// The name in the configuration and in the `Accept` header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }
}

words!(NameEscaping, |text| format!(
    "unknown name escaping method specified, must be one of 'allow-utf-8', 'underscores', 'dots', or 'values', got {text:?}"
));
