//! What becomes of a new sample line: its label set with the target's, relabelled, within limits. The slow path.

use crate::config::ScrapeConfig;
use crate::histogram::HistogramRules;
use crate::naming::NameScheme;
use crate::parse::{Entries, Pair, ParseError, SampleLine, ScrapeProtocol};
use crate::predict::Slot;
use crate::relabel::{self, RelabelConfig};
use crate::report::ReportKind;
use tidegauge_model::{Labels, LabelsBuilder, Timestamp};

/// What decides which series a line stands for. Two jobs with equal rules give a target the same series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SampleRules {
    pub(crate) honor_labels: bool,
    pub(crate) honor_timestamps: bool,
    pub(crate) track_timestamps_staleness: bool,
    pub(crate) metric_relabel: Vec<RelabelConfig>,
    pub(crate) scheme: NameScheme,
    pub(crate) fallback: Option<ScrapeProtocol>,
    /// The limits: 0 is none.
    pub(crate) sample_limit: u64,
    pub(crate) label_limit: u64,
    pub(crate) label_name_length_limit: u64,
    pub(crate) label_value_length_limit: u64,
    pub(crate) histograms: HistogramRules,
    pub(crate) report: ReportKind,
}

impl SampleRules {
    pub(crate) fn new(config: &ScrapeConfig, report: ReportKind) -> Self {
        Self {
            honor_labels: config.honor_labels,
            honor_timestamps: config.honor_timestamps,
            track_timestamps_staleness: config.track_timestamps_staleness,
            metric_relabel: config.metric_relabel_configs.clone(),
            scheme: config.metric_name_validation_scheme.unwrap_or_default(),
            fallback: config.fallback_scrape_protocol,
            sample_limit: config.sample_limit,
            label_limit: config.label_limit,
            label_name_length_limit: config.label_name_length_limit,
            label_value_length_limit: config.label_value_length_limit,
            histograms: HistogramRules::new(config),
            report: match config.extra_scrape_metrics {
                Some(true) => ReportKind::Extra,
                Some(false) => ReportKind::Usual,
                None => report,
            },
        }
    }

    /// Whether a sample's series lives beside the target's timeline and gets no stale markers.
    pub(crate) fn stands_apart(&self, at: Option<Timestamp>) -> bool {
        at.is_some() && !self.track_timestamps_staleness
    }

    /// Whether what a line stood for last time still holds for a sample with or without a time of its own.
    pub(crate) fn fits(&self, slot: Slot, at: Option<Timestamp>) -> bool {
        match slot {
            Slot::Dropped => true,
            Slot::Series(_) => !self.stands_apart(at),
            Slot::Stamped(_) => self.stands_apart(at),
        }
    }
}

/// Why a line cannot be a series. It fails the whole scrape, as upstream does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SampleError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("missing metric name (__name__ label)")]
    NoName,
    #[error("invalid metric name or label names: {0}")]
    Names(Labels),
    #[error("{0}")]
    LabelLimit(String),
}

/// Makes label sets of lines; keeps its room from one to the next.
#[derive(Debug)]
pub(crate) struct SampleLabels<'a, 'b> {
    rules: &'a SampleRules,
    target: &'a Labels,
    pairs: Vec<Pair<'b>>,
    made: Labels,
}

impl<'a, 'b> SampleLabels<'a, 'b> {
    pub(crate) fn new(rules: &'a SampleRules, target: &'a Labels) -> Self {
        Self {
            rules,
            target,
            pairs: Vec::new(),
            made: Labels::empty(),
        }
    }

    /// The label set of the line that was yielded last; `None` if relabelling drops it.
    ///
    /// # Errors
    /// [`SampleError`].
    pub(crate) fn of(&mut self, entries: &Entries<'b>, line: &SampleLine<'b>) -> Result<Option<&Labels>, SampleError> {
        entries.all_pairs(line, &mut self.pairs)?;
        let labels = self.with_target();
        let labels = if self.rules.metric_relabel.is_empty() {
            labels
        } else {
            match relabel::apply(&self.rules.metric_relabel, labels) {
                Some(labels) if !labels.is_empty() => labels,
                _ => return Ok(None),
            }
        };
        self.check(&labels)?;
        self.made = labels;
        Ok(Some(&self.made))
    }

    /// The line's labels and the target's; who wins where both have one is the job's choice. An empty label of the line
    /// is none, and yet wins where it may: the Pushgateway has its pushed groups without `instance` that way.
    fn with_target(&self) -> Labels {
        let clash = self.target.iter().any(|(name, _)| self.own(name).is_some());
        if !clash {
            let own = self.pairs.iter().filter(|(_, value)| !value.is_empty());
            let own = own.map(|(name, value)| (&**name, &**value));
            return Labels::from_sorted(Merge {
                a: own.peekable(),
                b: self.target.iter().peekable(),
            });
        }
        let mut labels = LabelsBuilder::new();
        for (name, value) in &self.pairs {
            labels.set(name, value);
        }
        if self.rules.honor_labels {
            for (name, value) in self.target.iter().filter(|(name, _)| self.own(name).is_none()) {
                labels.set(name, value);
            }
            return labels.build();
        }
        let mut exported = Vec::new();
        for (name, value) in self.target.iter() {
            exported.extend(self.own(name).filter(|own| !own.is_empty()).map(|own| (name, own)));
            labels.set(name, value);
        }
        // The shortest name first, as upstream does, so that `exported_exported_x` goes to who needs it.
        exported.sort_by_key(|(name, _)| name.len());
        for (name, value) in exported {
            let mut name = format!("exported_{name}");
            while !labels.get(&name).is_empty() {
                name = format!("exported_{name}");
            }
            labels.set(&name, value);
        }
        labels.build()
    }

    fn own(&self, name: &str) -> Option<&str> {
        let at = self.pairs.binary_search_by(|(own, _)| (**own).cmp(name)).ok()?;
        self.pairs.get(at).map(|(_, value)| &**value)
    }

    fn check(&self, labels: &Labels) -> Result<(), SampleError> {
        let rules = self.rules;
        let name = labels.metric_name().ok_or(SampleError::NoName)?;
        // Not before relabelling: it may mend a name, spoil one, or drop the sample.
        let scheme = rules.scheme;
        if !scheme.allows_metric(name) || !labels.iter().all(|(name, _)| scheme.allows_label(name)) {
            return Err(SampleError::Names(labels.clone()));
        }
        let (label_limit, name_limit, value_limit) = (
            rules.label_limit,
            rules.label_name_length_limit,
            rules.label_value_length_limit,
        );
        if label_limit == 0 && name_limit == 0 && value_limit == 0 {
            return Ok(());
        }
        let metric = cut(name);
        let count = labels.len() as u64;
        if label_limit > 0 && count > label_limit {
            return Err(SampleError::LabelLimit(format!(
                "label_limit exceeded (metric: {metric}, number of labels: {count}, limit: {label_limit})"
            )));
        }
        for (name, value) in labels.iter() {
            let (label, length) = (cut(name), name.len() as u64);
            if name_limit > 0 && length > name_limit {
                return Err(SampleError::LabelLimit(format!(
                    "label_name_length_limit exceeded (metric: {metric}, label name: {label}, length: {length}, \
                     limit: {name_limit})"
                )));
            }
            let length = value.len() as u64;
            if value_limit > 0 && length > value_limit {
                let value = cut(value);
                return Err(SampleError::LabelLimit(format!(
                    "label_value_length_limit exceeded (metric: {metric}, label name: {label}, value: {value:?}, \
                     length: {length}, limit: {value_limit})"
                )));
            }
        }
        Ok(())
    }
}

/// The first 50 characters, as upstream quotes what is too long.
fn cut(text: &str) -> &str {
    text.char_indices()
        .nth(50)
        .and_then(|(at, _)| text.get(..at))
        .unwrap_or(text)
}

/// Two sorted lists of pairs without a name in common, as one.
struct Merge<A: Iterator, B: Iterator> {
    a: std::iter::Peekable<A>,
    b: std::iter::Peekable<B>,
}

impl<'t, A, B> Iterator for Merge<A, B>
where
    A: Iterator<Item = (&'t str, &'t str)>,
    B: Iterator<Item = (&'t str, &'t str)>,
{
    type Item = (&'t str, &'t str);

    fn next(&mut self) -> Option<Self::Item> {
        match (self.a.peek(), self.b.peek()) {
            (Some((a, _)), Some((b, _))) if a > b => self.b.next(),
            (Some(_), _) => self.a.next(),
            (None, _) => self.b.next(),
        }
    }
}

impl Default for SampleRules {
    fn default() -> Self {
        Self::new(&ScrapeConfig::default(), ReportKind::Usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{Entry, Format};

    fn labels_of(rules: &SampleRules, line: &str) -> Result<Option<String>, SampleError> {
        let target = Labels::from_pairs([("instance", "h:1"), ("job", "node")]).unwrap();
        let body = format!("{line} 1\n");
        let mut entries = Entries::new(body.as_bytes(), Format::PrometheusText);
        let Some(Ok(Entry::Sample(line))) = entries.next() else {
            panic!("no sample in {line}")
        };
        SampleLabels::new(rules, &target)
            .of(&entries, &line)
            .map(|labels| labels.map(ToString::to_string))
    }

    #[test]
    fn clashing_labels_are_exported_or_honoured() {
        let usual = SampleRules::default();
        let honour = SampleRules {
            honor_labels: true,
            ..SampleRules::default()
        };
        for (rules, line, labels) in [
            (&usual, "a", r#"{__name__="a", instance="h:1", job="node"}"#),
            (
                &usual,
                r#"a{z="1",b="2"}"#,
                r#"{__name__="a", b="2", instance="h:1", job="node", z="1"}"#,
            ),
            (
                &usual,
                r#"a{job="x"}"#,
                r#"{__name__="a", exported_job="x", instance="h:1", job="node"}"#,
            ),
            (
                &usual,
                r#"a{job="x",exported_job="y"}"#,
                r#"{__name__="a", exported_exported_job="x", exported_job="y", instance="h:1", job="node"}"#,
            ),
            (&honour, r#"a{job="x"}"#, r#"{__name__="a", instance="h:1", job="x"}"#),
            (&honour, r#"a{job="",b=""}"#, r#"{__name__="a", instance="h:1"}"#),
            (
                &usual,
                r#"a{job="",b=""}"#,
                r#"{__name__="a", instance="h:1", job="node"}"#,
            ),
        ] {
            assert_eq!(labels_of(rules, line).unwrap().as_deref(), Some(labels), "{line}");
        }
    }

    #[test]
    fn limits_speak_as_upstream_does() {
        let rules = |label, name, value| SampleRules {
            label_limit: label,
            label_name_length_limit: name,
            label_value_length_limit: value,
            ..SampleRules::default()
        };
        for (rules, problem) in [
            (
                rules(3, 0, 0),
                "label_limit exceeded (metric: a, number of labels: 4, limit: 3)",
            ),
            (
                rules(0, 3, 0),
                "label_name_length_limit exceeded (metric: a, label name: __name__, length: 8, limit: 3)",
            ),
            (
                rules(4, 8, 3),
                "label_value_length_limit exceeded (metric: a, label name: job, value: \"node\", length: 4, limit: 3)",
            ),
        ] {
            assert_eq!(labels_of(&rules, r#"a{b="c"}"#).unwrap_err().to_string(), problem);
        }
        assert!(labels_of(&rules(4, 8, 4), r#"a{b="c"}"#).is_ok());
    }

    /// As Prometheus 3.5.3 answered for each of them.
    #[test]
    fn names_are_looked_at_after_relabelling() {
        let rules = |relabel: &str| SampleRules {
            scheme: NameScheme::Legacy,
            metric_relabel: serde_yaml_ng::from_str(relabel).unwrap(),
            ..SampleRules::default()
        };
        let (none, drop) = (
            rules("[]"),
            rules("[{source_labels: [__name__], regex: 'a[.]b|x|', action: drop}]"),
        );
        let mend = rules(
            "[{source_labels: [__name__], regex: 'a[.]b|', target_label: __name__, replacement: mended},
              {regex: 'l[.]m', action: labeldrop}]",
        );
        let spoil = rules("[{target_label: __name__, replacement: 'c.d'}]");
        let own = r#"instance="h:1", job="node""#;
        let name_of = |name: &str| Ok(Some(format!("{{__name__={name:?}, {own}}}")));
        let bad = |labels: &str| Err(format!("invalid metric name or label names: {{{labels}}}"));
        for (rules, line, expect) in [
            (
                &none,
                r#"{"a.b"}"#,
                bad(r#"__name__="a.b", instance="h:1", job="node""#),
            ),
            (&drop, r#"{"a.b"}"#, Ok(None)),
            (&mend, r#"{"a.b"}"#, name_of("mended")),
            (
                &none,
                r#"x{"l.m"="v"}"#,
                bad(r#"__name__="x", instance="h:1", job="node", "l.m"="v""#),
            ),
            (&drop, r#"x{"l.m"="v"}"#, Ok(None)),
            (&mend, r#"x{"l.m"="v"}"#, name_of("x")),
            (&none, r#"{""}"#, Err("missing metric name (__name__ label)".to_owned())),
            (&drop, r#"{""}"#, Ok(None)),
            (&mend, r#"{""}"#, name_of("mended")),
            (&none, "x", name_of("x")),
            (&spoil, "x", bad(r#"__name__="c.d", instance="h:1", job="node""#)),
        ] {
            let found = labels_of(rules, line).map_err(|problem| problem.to_string());
            assert_eq!(found, expect, "{line}");
        }
    }
}
