//! A rule: which series become which metrics of which objects, and what is asked for them.

use super::condition;
use super::mapping::Mapping;
use super::naming::{Filter, Naming};
use super::template::{Template, Value};
use crate::kubeapi::selector::Requirement;
use std::fmt;
use tidegauge_model::Matcher;

/// The fields of a template for queries.
const FIELDS: [&str; 5] = [
    "Series",
    "LabelMatchers",
    "LabelValuesByName",
    "GroupBy",
    "GroupBySlice",
];

/// Which API a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Group {
    /// `custom.metrics.k8s.io`
    Custom,
    /// `external.metrics.k8s.io`
    External,
}

/// Where a rule was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// In the file of `--kubernetes.adapter-config`, at this line.
    Adapter(usize),
    /// Under `tidegauge.hpa_metrics` of the configuration, at this line.
    Configuration(usize),
    /// It comes with the program.
    Automatic,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adapter(line) => write!(f, "adapter configuration, line {line}"),
            Self::Configuration(line) => write!(f, "tidegauge.hpa_metrics, line {line}"),
            Self::Automatic => f.write_str("automatic"),
        }
    }
}

/// A rule.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) group: Group,
    pub(crate) origin: Origin,
    /// What it was read from: equal texts are the same rule, wherever they stand.
    pub(crate) text: String,
    pub(crate) form: Form,
}

/// The two ways to write a rule.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// prometheus-adapter's: series are looked for and named.
    Series(Box<SeriesRule>),
    /// Ours: one query for one name.
    Query(Box<QueryRule>),
}

/// A rule as prometheus-adapter has it.
#[derive(Debug, Clone)]
pub(crate) struct SeriesRule {
    /// `seriesQuery`, as it was written.
    pub(crate) series_query: String,
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) naming: Naming,
    pub(crate) mapping: Mapping,
    pub(crate) query: MetricsQuery,
}

impl SeriesRule {
    /// Whether its filters let a series of this name through.
    pub(crate) fn takes(&self, series: &str) -> bool {
        self.filters.iter().all(|filter| filter.takes(series))
    }
}

/// A rule of `tidegauge.hpa_metrics`.
#[derive(Debug, Clone)]
pub(crate) struct QueryRule {
    /// The metric.
    pub(crate) name: String,
    pub(crate) query: MetricsQuery,
    /// The label that names the object, and the kind of it as it was written; `None` for an external metric.
    pub(crate) object: Option<(String, String)>,
    /// The label of the namespace; `None` if the result is everybody's.
    pub(crate) namespace: Option<String>,
    /// Over what the query looks back, if that is told.
    pub(crate) window_ms: Option<i64>,
}

/// A query with places for what is known only when it is asked.
#[derive(Debug, Clone)]
pub(crate) struct MetricsQuery {
    /// As it was written.
    pub(crate) text: String,
    template: Template,
}

impl MetricsQuery {
    /// # Errors
    /// What is wrong with the template.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        Ok(Self {
            text: text.to_owned(),
            template: Template::parse(text, &FIELDS).map_err(|error| error.to_string())?,
        })
    }

    /// Whether what is asked is put into it; if not, it is asked for everything and the answer is searched.
    pub(crate) fn is_narrowed(&self) -> bool {
        self.template.has_actions()
    }

    /// The PromQL to ask.
    ///
    /// # Errors
    /// What keeps the template from being filled, or cannot be asked of series.
    pub(crate) fn fill(&self, series: &str, conditions: &[Requirement], group_by: &[&str]) -> Result<String, String> {
        let text = |text: &str| Value::Text(text.to_owned());
        let by_label = condition::values_by_label(conditions);
        let by_label = by_label.into_iter().map(|(label, values)| (label, Value::Text(values)));
        let group_by: Vec<String> = group_by.iter().map(|label| condition::label_name(label)).collect();
        let fields = [
            ("Series", text(series)),
            ("LabelMatchers", Value::Text(condition::matchers(conditions)?)),
            ("LabelValuesByName", Value::Map(by_label.collect())),
            ("GroupBy", Value::Text(group_by.join(","))),
            ("GroupBySlice", Value::texts(group_by)),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        let filled = self.template.fill(&Value::Map(fields.into()));
        match filled.map_err(|error| error.to_string())? {
            empty if empty.trim().is_empty() => Err("the template makes an empty query".to_owned()),
            query => Ok(query),
        }
    }
}
