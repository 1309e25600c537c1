//! The metrics that there are: what the rules make of the series that were found.

use super::resource::{Resource, Resources};
use super::rule::{Form, Group, QueryRule, Rule, SeriesRule};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tidegauge_model::Timestamp;

/// More metrics are left out: each is a line of what every client of the API server reads.
const MAX_METRICS: usize = 20_000;
/// Names that are listed in a report.
const MAX_LISTED: usize = 100;

/// The metrics at one time.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By the kind of object and the name.
    pub(crate) custom: BTreeMap<(String, String), Arc<Metric>>,
    pub(crate) external: BTreeMap<String, Arc<Metric>>,
    /// One for each rule, in order.
    pub(crate) reports: Vec<Report>,
    /// When the series were looked for.
    pub(crate) at: Timestamp,
}

/// A metric, and how its values are asked for.
#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) rule: Arc<Rule>,
    /// The number of the rule.
    pub(crate) rule_no: usize,
    /// The series that it is made of; the metric's own name if it comes of a query.
    pub(crate) series: String,
    /// The labels of these series.
    pub(crate) carried: Arc<BTreeSet<String>>,
    /// Whose it is; `None` for an external metric.
    pub(crate) resource: Option<Arc<Resource>>,
}

/// What became of a rule, and why of something nothing did.
#[derive(Debug, Default, Clone)]
pub(crate) struct Report {
    /// Series that were found at the last look.
    pub(crate) series: usize,
    /// Names that the filters, or the pattern of the name, leave out.
    pub(crate) left_out: Vec<String>,
    /// Labels and the kinds whose objects they name.
    pub(crate) mapped: BTreeMap<String, String>,
    /// Labels that name no object.
    pub(crate) unmapped: BTreeSet<String>,
    /// Kind, metric and series.
    pub(crate) metrics: Vec<(String, String, String)>,
    pub(crate) problems: Vec<String>,
}

impl Report {
    fn problem(&mut self, text: String) {
        if self.problems.len() < MAX_LISTED && !self.problems.contains(&text) {
            self.problems.push(text);
        }
    }
}

/// What was found for a rule until now.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    pub(super) names: BTreeMap<String, Arc<BTreeSet<String>>>,
    /// At the last look.
    pub(super) series: usize,
    pub(super) problem: Option<String>,
    /// Whether there was a look at all.
    pub(super) looked: bool,
}

impl Known {
    /// Makes metrics of what was seen. Of two rules that make the same metric, the later counts, as upstream.
    pub(super) fn new(rules: &[Arc<Rule>], seen: &[Seen], resources: &Resources, at: Timestamp) -> Self {
        let mut making = Making {
            known: Self { at, ..Self::default() },
            resources,
        };
        let nothing = Seen::default();
        for (no, rule) in rules.iter().enumerate() {
            let mut report = Report::default();
            match &rule.form {
                Form::Query(query) => making.query(no, rule, query, &mut report),
                Form::Series(series) => {
                    making.series(no, rule, series, seen.get(no).unwrap_or(&nothing), &mut report);
                }
            }
            making.known.reports.push(report);
        }
        making.known
    }

    fn len(&self) -> usize {
        self.custom.len() + self.external.len()
    }
}

struct Making<'m> {
    known: Known,
    resources: &'m Resources,
}

impl Making<'_> {
    fn query(&mut self, no: usize, rule: &Arc<Rule>, query: &QueryRule, report: &mut Report) {
        let resource = match &query.object {
            None => None,
            Some((label, kind)) => match self.resources.find_qualified(kind) {
                Some(found) => {
                    report.mapped.insert(label.clone(), found.to_string());
                    Some(Arc::clone(found))
                }
                None => {
                    report.problem(format!("there is no kind {kind:?} of objects in this cluster"));
                    return;
                }
            },
        };
        self.add(
            query.name.clone(),
            Metric {
                rule: Arc::clone(rule),
                rule_no: no,
                series: query.name.clone(),
                carried: Arc::default(),
                resource,
            },
            report,
        );
    }

    fn series(&mut self, no: usize, rule: &Arc<Rule>, told: &SeriesRule, seen: &Seen, report: &mut Report) {
        report.series = seen.series;
        if let Some(problem) = &seen.problem {
            report.problem(problem.clone());
        }
        for unknown in told.mapping.unknown(self.resources) {
            let of = if unknown.group.is_empty() { "" } else { "." };
            report.problem(format!(
                "there is no kind {}{of}{} of objects in this cluster, for which label {} stands",
                unknown.resource, unknown.group, unknown.label
            ));
        }
        if rule.group == Group::Custom && told.mapping.is_empty() {
            report.problem("`resources` says of no label that it names objects: no metric can be made".to_owned());
        }
        if seen.looked && seen.names.is_empty() {
            report.problem(format!("no series matches {}", told.series_query));
        }
        for (series, labels) in &seen.names {
            let name = told.takes(series).then(|| told.naming.name(series)).flatten();
            let Some(name) = name else {
                if report.left_out.len() < MAX_LISTED {
                    report.left_out.push(series.clone());
                }
                continue;
            };
            if name.is_empty() || name.contains(['/', '%', ' ']) {
                report.problem(format!(
                    "series {series} becomes {name:?}, which is no name of a metric"
                ));
                continue;
            }
            let metric = |resource| Metric {
                rule: Arc::clone(rule),
                rule_no: no,
                series: series.clone(),
                carried: Arc::clone(labels),
                resource,
            };
            if rule.group == Group::External {
                self.add(name, metric(None), report);
                continue;
            }
            let resources = self.objects(told, labels, report);
            if resources.is_empty() && !told.mapping.is_empty() {
                report.problem(format!("series {series} has no label that names an object"));
            }
            for resource in resources.into_values() {
                self.add(name.clone(), metric(Some(resource)), report);
            }
        }
    }

    /// The kinds whose objects the labels name.
    fn objects(
        &self,
        told: &SeriesRule,
        labels: &BTreeSet<String>,
        report: &mut Report,
    ) -> BTreeMap<String, Arc<Resource>> {
        let mut found = BTreeMap::new();
        for label in labels {
            match told.mapping.resource_of(label, self.resources) {
                Some(resource) => {
                    let name = resource.to_string();
                    if !report.mapped.contains_key(label) {
                        report.mapped.insert(label.clone(), name.clone());
                    }
                    found.insert(name, resource);
                }
                None if report.unmapped.len() < MAX_LISTED => {
                    report.unmapped.insert(label.clone());
                }
                None => {}
            }
        }
        found
    }

    fn add(&mut self, name: String, metric: Metric, report: &mut Report) {
        if self.known.len() >= MAX_METRICS {
            report.problem(format!(
                "there are more than {MAX_METRICS} metrics: further ones are left out"
            ));
            return;
        }
        let kind = metric.resource.as_ref().map(ToString::to_string);
        let series = metric.series.clone();
        let metric = Arc::new(metric);
        let before = match &kind {
            Some(kind) => self.known.custom.insert((kind.clone(), name.clone()), metric),
            None => self.known.external.insert(name.clone(), metric),
        };
        let told = kind
            .as_ref()
            .map_or_else(|| name.clone(), |kind| format!("{kind}/{name}"));
        if let Some(before) = before {
            let by = match self.known.reports.get(before.rule_no) {
                Some(_) => format!(" by the rule before ({})", before.rule.origin),
                None => String::new(),
            };
            report.problem(format!(
                "{told} is also made of series {}{by}: only {series} is asked for it",
                before.series
            ));
        }
        report.metrics.push((kind.unwrap_or_default(), name, series));
    }
}
