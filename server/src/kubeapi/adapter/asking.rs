//! From a metric and its objects to values.

use super::Adapter;
use super::answer::{self, Wanted, milli, selected};
use super::condition;
use super::journal;
use super::known::{Known, Metric};
use super::look::LOOK_EVERY;
use super::resource::Resource;
use super::rule::{Form, Group};
use crate::kubeapi::Selector;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidegauge_model::{Labels, Timestamp};
use tidegauge_query::{InstantSample, Query, Value};
use tidegauge_scraper::Cluster;

/// The longest time of a query: whoever asks waits no longer for the API server.
const LONGEST: Duration = Duration::from_secs(10);
/// As much text of parsed queries is kept; beyond that all are forgotten. What is parsed takes some times more.
const MAX_PARSED_BYTES: usize = 2 << 20;

/// Why there are no values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// There is no such metric, or it has no query for these objects.
    Unknown,
    /// It cannot be asked for, or what came of it is none.
    Failed(String),
}

/// The values of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) at: Timestamp,
    /// Over what the query looks back, where that is known.
    pub(crate) window_ms: Option<i64>,
    /// PromQL.
    pub(crate) query: Arc<str>,
    /// In thousandths, in the order in which the objects were asked for; those without a value are left out.
    pub(crate) values: Vec<(String, i64)>,
    /// What kept others from having one.
    pub(crate) problem: Option<String>,
}

/// The values of an external metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExternalAnswer {
    pub(crate) at: Timestamp,
    pub(crate) window_ms: Option<i64>,
    pub(crate) query: Arc<str>,
    pub(crate) rows: Vec<ExternalRow>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExternalRow {
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) milli: i64,
}

/// Queries that were asked before: an autoscaler asks the same for as long as its pods are the same.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    by_text: HashMap<String, Arc<Query>>,
    bytes: usize,
}

/// A query and what came of it.
struct Asked {
    at: Timestamp,
    rows: Vec<InstantSample>,
}

impl Adapter {
    /// The values of a metric of objects.
    ///
    /// # Errors
    /// [`Problem`].
    pub(crate) async fn custom(
        self: &Arc<Self>,
        cluster: Option<&Cluster>,
        resource: &Resource,
        metric: &str,
        namespace: Option<&str>,
        names: &[String],
        selector: &Selector,
    ) -> Result<Answer, Problem> {
        let kind = resource.to_string();
        let key = (kind.clone(), metric.to_owned());
        let found = self.find(cluster, |known| known.custom.get(&key).cloned()).await;
        let found = found.filter(|_| !names.is_empty()).ok_or(Problem::Unknown)?;
        self.counts.custom.fetch_add(1, Ordering::Relaxed);
        let mut note = journal::Query {
            at: self.clock.now(),
            namespace: namespace.unwrap_or_default().to_owned(),
            text: String::new(),
            rows: 0,
            values: 0,
            problem: None,
        };
        let answer = self
            .custom_of(&found, resource, namespace, names, selector, &mut note)
            .await;
        note.problem = match &answer {
            Ok(answer) => answer.problem.clone(),
            Err(why) => Some(why.clone()),
        };
        if note.problem.is_some() {
            self.counts.custom_failed.fetch_add(1, Ordering::Relaxed);
        }
        self.journal.lock().note(Group::Custom, &kind, metric, note);
        answer.map_err(Problem::Failed)
    }

    async fn custom_of(
        self: &Arc<Self>,
        metric: &Metric,
        resource: &Resource,
        namespace: Option<&str>,
        names: &[String],
        selector: &Selector,
        note: &mut journal::Query,
    ) -> Result<Answer, String> {
        let resources = self.resources();
        let (label, namespace_label, query, window_ms) = match &metric.rule.form {
            Form::Series(told) => {
                let label = told.mapping.label_for(resource, &metric.carried, &resources)?;
                let within = match namespace {
                    None => None,
                    Some(_) => {
                        let namespaces = resources.find("", "namespaces").ok_or("there are no namespaces")?;
                        Some(told.mapping.label_for(namespaces, &metric.carried, &resources)?)
                    }
                };
                (label, within, &told.query, None)
            }
            Form::Query(told) => {
                let (label, _) = told.object.as_ref().ok_or("the rule is for an external metric")?;
                let within = namespace.and_then(|_| told.namespace.clone());
                (label.clone(), within, &told.query, told.window_ms)
            }
        };
        let namespace = namespace_label.as_deref().zip(namespace);
        let mut conditions = selector.requirements().to_vec();
        if let Some((label, namespace)) = namespace {
            conditions.push(condition::names(label, &[namespace.to_owned()]));
        }
        conditions.push(condition::names(&label, names));
        let text: Arc<str> = match query.is_narrowed() {
            true => query.fill(&metric.series, &conditions, &[&label])?.into(),
            false => query.text.as_str().into(),
        };
        text.as_ref().clone_into(&mut note.text);
        let asked = self.ask(&text).await?;
        note.rows = asked.rows.len();
        let wanted = Wanted {
            label: &label,
            names,
            namespace,
            selector: (!query.is_narrowed()).then_some(selector),
        };
        let matched = wanted.find(&asked.rows)?;
        note.values = matched.values.len();
        Ok(Answer {
            at: asked.at,
            window_ms,
            query: text,
            values: matched.values,
            problem: matched.problem,
        })
    }

    /// The values of an external metric.
    ///
    /// # Errors
    /// [`Problem`].
    pub(crate) async fn external(
        self: &Arc<Self>,
        cluster: Option<&Cluster>,
        metric: &str,
        namespace: &str,
        selector: &Selector,
    ) -> Result<ExternalAnswer, Problem> {
        let found = self.find(cluster, |known| known.external.get(metric).cloned()).await;
        let found = found.ok_or(Problem::Unknown)?;
        self.counts.external.fetch_add(1, Ordering::Relaxed);
        let mut note = journal::Query {
            at: self.clock.now(),
            namespace: namespace.to_owned(),
            text: String::new(),
            rows: 0,
            values: 0,
            problem: None,
        };
        let answer = self.external_of(&found, namespace, selector, &mut note).await;
        note.problem = match &answer {
            Ok(answer) if answer.rows.is_empty() => Some("the query gave no series".to_owned()),
            Ok(_) => None,
            Err(why) => Some(why.clone()),
        };
        if note.problem.is_some() {
            self.counts.external_failed.fetch_add(1, Ordering::Relaxed);
        }
        self.journal.lock().note(Group::External, "", metric, note);
        answer.map_err(Problem::Failed)
    }

    async fn external_of(
        self: &Arc<Self>,
        metric: &Metric,
        namespace: &str,
        selector: &Selector,
        note: &mut journal::Query,
    ) -> Result<ExternalAnswer, String> {
        let (within, query, window_ms) = match &metric.rule.form {
            Form::Series(told) => {
                let label = told.mapping.namespace_label(&metric.carried, &self.resources());
                (told.mapping.namespaced.then_some(label), &told.query, None)
            }
            Form::Query(told) => (told.namespace.clone(), &told.query, told.window_ms),
        };
        let mut conditions = selector.requirements().to_vec();
        if let Some(label) = &within {
            conditions.push(condition::names(label, &[namespace.to_owned()]));
        }
        let text: Arc<str> = match query.is_narrowed() {
            true => query.fill(&metric.series, &conditions, &[])?.into(),
            false => query.text.as_str().into(),
        };
        text.as_ref().clone_into(&mut note.text);
        let asked = self.ask(&text).await?;
        note.rows = asked.rows.len();
        let of_another = |labels: &Labels| {
            !query.is_narrowed()
                && (within
                    .as_ref()
                    .is_some_and(|label| labels.get(label) != Some(namespace))
                    || !selected(selector, labels))
        };
        let mut rows = Vec::new();
        for row in asked.rows.iter().filter(|row| !of_another(&row.labels)) {
            // All rows are added up: a sum without one of them would be another number.
            let milli = milli(row.value).ok_or_else(|| format!("the value of {} is {}", row.labels, row.value))?;
            rows.push(ExternalRow {
                labels: answer::told(&row.labels),
                milli,
            });
        }
        note.values = rows.len();
        Ok(ExternalAnswer {
            at: asked.at,
            window_ms,
            query: text,
            rows,
        })
    }

    /// A metric that is known, or found by a look.
    async fn find(
        self: &Arc<Self>,
        cluster: Option<&Cluster>,
        of: impl Fn(&Known) -> Option<Arc<Metric>>,
    ) -> Option<Arc<Metric>> {
        self.look_at_file().await;
        let rules = Arc::clone(&self.in_force.read());
        let current = |metric: &Arc<Metric>| {
            let of_rule = rules.all.get(metric.rule_no);
            of_rule.is_some_and(|rule| Arc::ptr_eq(rule, &metric.rule))
        };
        let known = Arc::clone(&self.known.read());
        if let Some(metric) = of(&known).filter(current) {
            return Some(metric);
        }
        of(&*self.look(LOOK_EVERY, cluster).await)
    }

    /// Evaluates a query now.
    async fn ask(self: &Arc<Self>, text: &str) -> Result<Asked, String> {
        let query = self.parsed(text)?;
        let _place = self.places.acquire().await.map_err(|_| "the server is stopping")?;
        let adapter = Arc::clone(self);
        let at = self.clock.now();
        let run = move || adapter.engine.instant(&*adapter.store, &query, at);
        let output = tokio::task::spawn_blocking(run).await;
        let output = output.map_err(|_| "the query was given up")?;
        let rows = match output.map_err(|error| error.to_string())?.value {
            Value::Vector(rows) => rows,
            Value::Scalar(sample) => vec![InstantSample {
                labels: Labels::empty(),
                at,
                value: sample.value,
            }],
            other => return Err(format!("the query gives a {}, not a vector", other.kind())),
        };
        Ok(Asked { at, rows })
    }

    fn parsed(&self, text: &str) -> Result<Arc<Query>, String> {
        if let Some(query) = self.parsed.lock().by_text.get(text) {
            return Ok(Arc::clone(query));
        }
        let query = Query::parse(text, &self.parse_options()).map_err(|error| error.to_string())?;
        let query = Arc::new(Query {
            timeout: Some(LONGEST),
            ..query
        });
        let mut parsed = self.parsed.lock();
        if parsed.bytes + text.len() > MAX_PARSED_BYTES {
            *parsed = Parsed::default();
        }
        parsed.bytes += text.len();
        parsed.by_text.insert(text.to_owned(), Arc::clone(&query));
        Ok(query)
    }

    /// What is wrong with the query of a metric, before anybody asks it.
    pub(super) fn rehearsed(&self, metric: &Metric) -> Option<String> {
        let resources = self.resources();
        let (query, label) = match (&metric.rule.form, &metric.resource) {
            (Form::Series(told), Some(resource)) => {
                let label = told.mapping.label_for(resource, &metric.carried, &resources);
                (&told.query, label.ok()?)
            }
            (Form::Series(told), None) => (&told.query, String::new()),
            (Form::Query(told), _) => (
                &told.query,
                told.object.as_ref().map(|o| o.0.clone()).unwrap_or_default(),
            ),
        };
        let mut conditions = vec![condition::names("namespace", &["default".to_owned()])];
        let mut group_by = Vec::new();
        if !label.is_empty() {
            conditions.push(condition::names(&label, &["x".to_owned()]));
            group_by.push(label.as_str());
        }
        let told = |problem: String| format!("metricsQuery: {problem}");
        match query.fill(&metric.series, &conditions, &group_by) {
            Ok(text) => self.parsed(&text).err().map(told),
            Err(problem) => Some(told(problem)),
        }
    }
}
