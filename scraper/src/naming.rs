//! Which metric and label names are allowed, and how a target is asked to escape those that are not.

use std::fmt;

/// Which names a scrape accepts (`metric_name_validation_scheme`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NameScheme {
    /// Any UTF-8 text that is not empty.
    #[default]
    Utf8,
    /// ASCII letters, digits, underscores and, in metric names, colons; no digit first.
    Legacy,
}

impl NameScheme {
    /// Whether this is a metric name.
    pub fn allows_metric(self, name: &str) -> bool {
        match self {
            Self::Utf8 => !name.is_empty(),
            Self::Legacy => is_legacy(name, |b| b == b'_' || b == b':'),
        }
    }

    /// Whether this is a label name.
    pub fn allows_label(self, name: &str) -> bool {
        match self {
            Self::Utf8 => !name.is_empty(),
            Self::Legacy => is_legacy(name, |b| b == b'_'),
        }
    }
}

fn is_legacy(name: &str, punctuation: impl Fn(u8) -> bool) -> bool {
    name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || punctuation(b))
}

/// How a target is asked to write names that are not legacy names (`metric_name_escaping_scheme`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EscapingScheme {
    /// As they are.
    #[default]
    AllowUtf8,
    /// Each foreign character as an underscore.
    Underscores,
    /// Dots as `_dot_`, underscores doubled.
    Dots,
    /// Each foreign character as its code point in `U__` notation.
    Values,
}

impl EscapingScheme {
    /// The name in configuration and in the `Accept` header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }
}

impl fmt::Display for EscapingScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_names_are_ascii_words() {
        for (name, metric, label) in [
            ("up", true, true),
            ("a:b", true, false),
            ("_x9", true, true),
            ("9x", false, false),
            ("a.b", false, false),
            ("", false, false),
            ("ä", false, false),
        ] {
            assert_eq!(NameScheme::Legacy.allows_metric(name), metric, "{name}");
            assert_eq!(NameScheme::Legacy.allows_label(name), label, "{name}");
            assert_eq!(NameScheme::Utf8.allows_label(name), !name.is_empty(), "{name}");
        }
    }
}
