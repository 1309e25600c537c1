//! `/metrics`: what every part counts, in the text format 0.0.4 or in OpenMetrics 1.0.
//!
//! Each part lists its numbers as [`Listing`] rows; the registry holds a function per part and calls them at scrape
//! time, so nothing is counted twice and nothing is copied until someone asks.

use super::number;
use axum::http::{HeaderMap, header};
use std::fmt;
use std::sync::Arc;
use tidegauge_model::MetricKind;

/// One metric as a crate lists it: name, help, kind, and its samples by labels.
///
/// The samples of a histogram are its buckets (with a label `le`), those of a summary its quantiles; a label with an
/// empty name holds the suffix of the two others, `_sum` and `_count`.
pub type Listing = (
    &'static str,
    &'static str,
    MetricKind,
    Vec<(Vec<(&'static str, String)>, f64)>,
);

type Source = Arc<dyn Fn() -> Vec<Listing> + Send + Sync>;

/// The parts whose numbers `/metrics` shows.
#[derive(Clone, Default)]
pub struct Registry {
    sources: Vec<Source>,
}

impl Registry {
    /// A registry without parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part.
    pub fn add(&mut self, source: impl Fn() -> Vec<Listing> + Send + Sync + 'static) {
        self.sources.push(Arc::new(source));
    }

    /// All listings.
    pub fn gather(&self) -> Vec<Listing> {
        self.sources.iter().flat_map(|source| source()).collect()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({} sources)", self.sources.len())
    }
}

/// How the text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// What the caller likes best; text if it names neither.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let mut best = (0.0, Self::Text);
        let values = headers.get_all(header::ACCEPT).iter();
        for range in values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
        {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let (mut quality, mut version) = (1.0, "");
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name {
                    "q" => quality = value.parse().unwrap_or(0.0),
                    "version" => version = value.trim_matches('"'),
                    _ => {}
                }
            }
            let format = match (kind, version) {
                ("application/openmetrics-text", "" | "0.0.1" | "1.0.0") => Self::OpenMetrics,
                ("text/plain", _) | ("text/*" | "*/*", _) => Self::Text,
                _ => continue,
            };
            // Of what is liked equally, the first.
            if quality > best.0 {
                best = (quality, format);
            }
        }
        best.1
    }

    /// The value of the header `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        }
    }

    fn kind(self, kind: MetricKind) -> &'static str {
        match kind {
            MetricKind::Counter => "counter",
            // The text format knows no others, and neither of these is listed.
            MetricKind::Gauge | MetricKind::Info | MetricKind::StateSet => "gauge",
            MetricKind::Histogram | MetricKind::GaugeHistogram => "histogram",
            MetricKind::Summary => "summary",
            MetricKind::Unknown if self == Self::OpenMetrics => "unknown",
            MetricKind::Unknown => "untyped",
        }
    }

    /// The name of the family whose samples have this name: OpenMetrics leaves the end of a counter's out.
    fn family(self, name: &str, kind: MetricKind) -> &str {
        match (self, kind) {
            (Self::OpenMetrics, MetricKind::Counter) => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        }
    }
}

/// Writes listings by name. A name that two parts list comes once, with the samples of both.
pub(crate) fn write(mut listings: Vec<Listing>, format: Format) -> Vec<u8> {
    listings.sort_by_key(|listing| listing.0);
    let mut out = Vec::new();
    let mut last = "";
    for (name, help, kind, samples) in &listings {
        if *name != last {
            let family = format.family(name, *kind);
            out.extend_from_slice(format!("# HELP {family} ").as_bytes());
            let quotes = if format == Format::OpenMetrics {
                Quotes::Escape
            } else {
                Quotes::Keep
            };
            push_escaped(&mut out, help, quotes);
            out.extend_from_slice(format!("\n# TYPE {family} {}\n", format.kind(*kind)).as_bytes());
        }
        last = name;
        for (labels, value) in samples {
            let suffix = labels
                .iter()
                .find(|(label, _)| label.is_empty())
                .map(|(_, suffix)| suffix.as_str());
            let default = if *kind == MetricKind::Histogram { "_bucket" } else { "" };
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(suffix.unwrap_or(default).as_bytes());
            push_labels(&mut out, labels, format);
            out.push(b' ');
            number::push_value(&mut out, *value);
            out.push(b'\n');
        }
    }
    if format == Format::OpenMetrics {
        out.extend_from_slice(b"# EOF\n");
    }
    out
}

fn push_labels(out: &mut Vec<u8>, labels: &[(&'static str, String)], format: Format) {
    let mut before = b'{';
    for (name, value) in labels.iter().filter(|(name, _)| !name.is_empty()) {
        out.push(before);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        push_escaped(out, value, Quotes::Escape);
        // There, what is a number has a point.
        let is_bound = matches!(*name, "le" | "quantile") && value.bytes().all(|byte| byte.is_ascii_digit());
        if is_bound && format == Format::OpenMetrics {
            out.extend_from_slice(b".0");
        }
        out.push(b'"');
        before = b',';
    }
    if before == b',' {
        out.push(b'}');
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Quotes {
    Keep,
    Escape,
}

fn push_escaped(out: &mut Vec<u8>, text: &str, quotes: Quotes) {
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if quotes == Quotes::Escape => out.extend_from_slice(b"\\\""),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listings() -> Vec<Listing> {
        vec![
            (
                "b_seconds",
                "Time.",
                MetricKind::Histogram,
                vec![
                    (vec![("h", "/x".into()), ("le", "+Inf".into())], 2.0),
                    (vec![("h", "/x".into()), ("", "_sum".into())], 0.5),
                    (vec![("", "_count".into())], 2.0),
                ],
            ),
            (
                "a_total",
                "Things\nwith \\ and \".",
                MetricKind::Counter,
                vec![(vec![], 1e21)],
            ),
            (
                "a_total",
                "Again.",
                MetricKind::Counter,
                vec![(vec![("x", "a\"\\\n".into())], f64::NAN)],
            ),
        ]
    }

    #[test]
    fn the_text_is_what_a_scraper_expects() {
        assert_eq!(
            String::from_utf8(write(listings(), Format::Text)).unwrap(),
            "# HELP a_total Things\\nwith \\\\ and \".\n# TYPE a_total counter\na_total 1e+21\na_total{x=\"a\\\"\\\\\\n\"} NaN\n\
             # HELP b_seconds Time.\n# TYPE b_seconds histogram\nb_seconds_bucket{h=\"/x\",le=\"+Inf\"} 2\n\
             b_seconds_sum{h=\"/x\"} 0.5\nb_seconds_count 2\n"
        );
    }

    #[test]
    fn openmetrics_names_families_and_ends() {
        let mut listings = listings();
        listings[0].3[0].0[1].1 = "8".into();
        assert_eq!(
            String::from_utf8(write(listings, Format::OpenMetrics)).unwrap(),
            "# HELP a Things\\nwith \\\\ and \\\".\n# TYPE a counter\na_total 1e+21\na_total{x=\"a\\\"\\\\\\n\"} NaN\n\
             # HELP b_seconds Time.\n# TYPE b_seconds histogram\nb_seconds_bucket{h=\"/x\",le=\"8.0\"} 2\n\
             b_seconds_sum{h=\"/x\"} 0.5\nb_seconds_count 2\n# EOF\n"
        );
    }

    #[test]
    fn the_format_is_the_one_liked_best() {
        use Format::{OpenMetrics, Text};
        for (accept, format) in [
            ("", Text),
            ("*/*", Text),
            ("text/html", Text),
            ("application/openmetrics-text", OpenMetrics),
            (
                "application/openmetrics-text; version=1.0.0; q=0.3, text/plain;q=0.5",
                Text,
            ),
            (
                "text/plain;version=0.0.4;q=0.2,application/openmetrics-text;version=\"0.0.1\";q=0.4",
                OpenMetrics,
            ),
            ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", Text),
            ("application/openmetrics-text;q=x", Text),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                 text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                OpenMetrics,
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(Format::accepted(&headers), format, "{accept}");
        }
    }
}
