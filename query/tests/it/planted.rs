//! Samples that the selectors of an expression meet, made of its matchers.

#![allow(dead_code, reason = "the tests of two crates plant, each in its own way")]

use std::collections::BTreeMap;
use tidegauge_model::{Labels, Matcher, Timestamp};
use tidegauge_query::parser::{DurationExpr, Expr, VectorSelector};

/// From sample to sample.
pub(crate) const EVERY_MS: i64 = 15_000;
/// How many samples each series has.
pub(crate) const SAMPLES: i64 = 60;

/// What values of labels are tried, until one meets the matcher.
const WORDS: &[&str] = &[
    "x",
    "node",
    "1",
    "0",
    "200",
    "500",
    "idle",
    "GET",
    "LIST",
    "eth0",
    "sda",
    "ext4",
    "/",
    "default",
    "a-b",
    "a/b",
    "true",
    "pod/x",
    "kubelet",
    "Running",
    "cpu",
    "memory",
    "http://x",
    "x:9100",
    "10.0.0.1:9100",
    "nvme0n1",
    "x_y",
    "X",
    "",
];

/// A value of a label that meets all matchers on it, the given one before others.
pub(crate) fn value_for(matchers: &[&Matcher], first: Option<&str>) -> Option<String> {
    let listed = matchers
        .iter()
        .filter(|m| !m.is_negative())
        .filter_map(|m| m.literals());
    let listed = listed.flatten().map(str::to_owned);
    let with_prefix = matchers
        .iter()
        .filter(|m| !m.is_negative())
        .flat_map(|m| WORDS.iter().map(move |w| format!("{}{w}", m.prefix())));
    let first = first.into_iter().map(str::to_owned);
    let words = WORDS.iter().map(|w| (*w).to_owned());
    let mut candidates = first.chain(listed).chain(with_prefix).chain(words);
    candidates.find(|value| matchers.iter().all(|m| m.matches(value)))
}

/// Series that a selector meets: one, or for a histogram one for each bucket. They have these further labels.
fn series_for(selector: &VectorSelector, further: &[(String, String)]) -> Option<Vec<Labels>> {
    let mut by_name: BTreeMap<&str, Vec<&Matcher>> = BTreeMap::new();
    for matcher in &selector.matchers {
        by_name.entry(matcher.name()).or_default().push(matcher);
    }
    let mut pairs: BTreeMap<String, String> = BTreeMap::new();
    for (name, matchers) in by_name {
        let first = further.iter().find(|(further, _)| further == name);
        let value = value_for(&matchers, first.map(|(_, value)| value.as_str()))?;
        pairs.insert(name.to_owned(), value);
    }
    for (name, value) in further {
        pairs.entry(name.clone()).or_insert_with(|| value.clone());
    }
    // Labels that most joins and groups name.
    for (name, value) in [("instance", "x:9100"), ("job", "node")] {
        pairs.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    let bucket = pairs.get("__name__").is_some_and(|n| n.ends_with("_bucket"));
    let bounds: &[&str] = if bucket && !pairs.contains_key("le") {
        &["0.1", "1", "+Inf"]
    } else {
        &[""]
    };
    let made = bounds.iter().map(|le| {
        let mut pairs = pairs.clone();
        if !le.is_empty() {
            pairs.insert("le".to_owned(), (*le).to_owned());
        }
        pairs.retain(|_, v| !v.is_empty());
        Labels::from_pairs(pairs).unwrap()
    });
    Some(made.collect())
}

/// What is planted: series with their samples.
#[derive(Debug, Default)]
pub(crate) struct Planted {
    pub(crate) series: BTreeMap<Labels, BTreeMap<Timestamp, f64>>,
    /// How many selectors nothing could be made for.
    pub(crate) unmet: usize,
}

impl Planted {
    /// Plants what all selectors of an expression meet, from a time on.
    pub(crate) fn expression(&mut self, expr: &Expr, start_ms: i64) {
        for selector in expr.selectors() {
            self.selector(selector, &[], start_ms);
        }
    }

    /// Plants what a selector meets, with these further labels.
    pub(crate) fn selector(&mut self, selector: &VectorSelector, further: &[(String, String)], start_ms: i64) {
        let Some(series) = series_for(selector, further) else {
            self.unmet += 1;
            return;
        };
        for labels in series {
            self.samples(selector, labels, start_ms);
        }
    }

    /// The same, unless there is something that it meets already, and that has these further labels.
    pub(crate) fn selector_unless_met(
        &mut self,
        selector: &VectorSelector,
        further: &[(String, String)],
        start_ms: i64,
    ) {
        let is_met = |labels: &&Labels| {
            let mut matchers = selector.matchers.iter();
            let mut further = further.iter();
            matchers.all(|m| m.matches(labels.value(m.name())))
                && further.all(|(name, value)| labels.value(name) == value)
        };
        let met: Vec<Labels> = self.series.keys().filter(is_met).cloned().collect();
        if met.is_empty() {
            return self.selector(selector, further, start_ms);
        }
        for labels in met {
            self.samples(selector, labels, start_ms);
        }
    }

    /// Plants samples where a selector looks, from a time on and before it by its offset.
    fn samples(&mut self, selector: &VectorSelector, labels: Labels, start_ms: i64) {
        let offset_ms = selector.offset.as_ref().and_then(DurationExpr::plain_ms).unwrap_or(0);
        let factor = (labels.value("le").len() + labels.value("__name__").len() % 7 + 1) as f64;
        let samples = self.series.entry(labels).or_default();
        for k in 0..SAMPLES {
            let at = start_ms + k * EVERY_MS;
            samples.insert(Timestamp::from_millis(at), k as f64 * factor);
            samples.insert(Timestamp::from_millis(at - offset_ms), k as f64 * factor);
        }
    }
}
