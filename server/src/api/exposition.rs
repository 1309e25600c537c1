//! `/metrics`: what every part counts, in the text format 0.0.4.
//!
//! Each part lists its numbers as [`Listing`] rows; the registry holds a function per part and calls them at scrape
//! time, so nothing is counted twice and nothing is copied until someone asks.

use super::number;
use std::fmt;
use std::sync::Arc;
use tidegauge_model::MetricKind;

/// One metric as a crate lists it: name, help, kind, and its samples by labels.
///
/// The samples of a histogram are its buckets (with a label `le`); a label with an empty name holds the suffix of
/// the two others, `_sum` and `_count`.
pub type Listing = (
    &'static str,
    &'static str,
    MetricKind,
    Vec<(Vec<(&'static str, String)>, f64)>,
);

/// The content type of [`write_text`].
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

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

/// Writes listings by name. A name that two parts list comes once, with the samples of both.
pub(crate) fn write_text(mut listings: Vec<Listing>) -> Vec<u8> {
    listings.sort_by_key(|listing| listing.0);
    let mut out = Vec::new();
    let mut last = "";
    for (name, help, kind, samples) in &listings {
        if *name != last {
            out.extend_from_slice(format!("# HELP {name} ").as_bytes());
            push_escaped(&mut out, help, Quotes::Keep);
            out.extend_from_slice(format!("\n# TYPE {name} {}\n", text_kind(*kind)).as_bytes());
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
            push_labels(&mut out, labels);
            out.push(b' ');
            number::push_value(&mut out, *value);
            out.push(b'\n');
        }
    }
    out
}

/// The format knows four kinds.
fn text_kind(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge | MetricKind::Info | MetricKind::StateSet => "gauge",
        MetricKind::Histogram | MetricKind::GaugeHistogram => "histogram",
        MetricKind::Summary => "summary",
        MetricKind::Unknown => "untyped",
    }
}

fn push_labels(out: &mut Vec<u8>, labels: &[(&'static str, String)]) {
    let mut before = b'{';
    for (name, value) in labels.iter().filter(|(name, _)| !name.is_empty()) {
        out.push(before);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        push_escaped(out, value, Quotes::Escape);
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

    #[test]
    fn the_text_is_what_a_scraper_expects() {
        let listings: Vec<Listing> = vec![
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
        ];
        assert_eq!(
            String::from_utf8(write_text(listings)).unwrap(),
            "# HELP a_total Things\\nwith \\\\ and \".\n# TYPE a_total counter\na_total 1e+21\na_total{x=\"a\\\"\\\\\\n\"} NaN\n\
             # HELP b_seconds Time.\n# TYPE b_seconds histogram\nb_seconds_bucket{h=\"/x\",le=\"+Inf\"} 2\n\
             b_seconds_sum{h=\"/x\"} 0.5\nb_seconds_count 2\n"
        );
    }
}
