//! `/api/v1/hpa/metrics`: which metrics there are, and why one is not.

use super::Adapter;
use super::journal::Query;
use super::known::{Known, Report};
use super::load::Loading;
use super::rule::{Form, Group, Origin, Rule};
use crate::api::rfc3339;
use serde_json::{Value, json};
use std::sync::Arc;

/// Metrics that are listed for one rule.
const MAX_LISTED: usize = 1000;

impl Adapter {
    /// What became of each rule, and of the last queries.
    pub async fn report(self: &Arc<Self>) -> Value {
        let known = self.all(None).await;
        let rules = Arc::clone(&self.in_force.read());
        let reports = rules.all.iter().zip(&known.reports);
        let told: Vec<Value> = reports
            .enumerate()
            .map(|(no, (rule, report))| self.rule(no, rule, report, &known))
            .collect();
        let loading = self.loading.lock();
        json!({
            "source": source(self, &loading),
            "automatic": rules.automatic,
            "notes": rules.notes,
            "lookedAt": rfc3339(known.at),
            "metrics": known.custom.len() + known.external.len(),
            "rules": told,
        })
    }

    fn rule(&self, no: usize, rule: &Rule, report: &Report, known: &Known) -> Value {
        let (series_query, metrics_query) = match &rule.form {
            Form::Series(told) => (Some(&told.series_query), &told.query.text),
            Form::Query(told) => (None, &told.query.text),
        };
        let group = match rule.group {
            Group::Custom => "custom",
            Group::External => "external",
        };
        let (origin, line) = match rule.origin {
            Origin::Adapter(line) => ("adapter", Some(line)),
            Origin::Configuration(line) => ("configuration", Some(line)),
            Origin::Automatic => ("automatic", None),
        };
        let mut problems = report.problems.clone();
        if let Some(problem) = self.first(no, report, known) {
            problems.push(problem);
        }
        let listed = report.metrics.iter().take(MAX_LISTED);
        let metrics: Vec<Value> = listed.map(|metric| self.metric(no, rule, metric, known)).collect();
        json!({
            "group": group,
            "origin": origin,
            "line": line,
            "seriesQuery": series_query,
            "metricsQuery": metrics_query,
            "seriesFound": report.series,
            "seriesLeftOut": report.left_out,
            "labels": report.mapped,
            "otherLabels": report.unmapped,
            "metricsMade": report.metrics.len(),
            "metrics": metrics,
            "problems": problems,
        })
    }

    /// What is wrong with the rule's query, tried with the first of its metrics.
    fn first(&self, no: usize, report: &Report, known: &Known) -> Option<String> {
        let (kind, name, _) = report.metrics.first()?;
        let metric = match kind.as_str() {
            "" => known.external.get(name),
            kind => known.custom.get(&(kind.to_owned(), name.clone())),
        };
        self.rehearsed(metric.filter(|metric| metric.rule_no == no)?)
    }

    fn metric(&self, no: usize, rule: &Rule, metric: &(String, String, String), known: &Known) -> Value {
        let (kind, name, series) = metric;
        let in_force = match kind.as_str() {
            "" => known.external.get(name),
            kind => known.custom.get(&(kind.to_owned(), name.clone())),
        };
        let shadowed = in_force.is_some_and(|one| one.rule_no != no || one.series != *series);
        let asked = self.journal.lock().of(rule.group, kind, name);
        let told = |query: Option<Arc<Query>>| query.filter(|_| !shadowed).map(|query| told(&query));
        json!({
            "resource": (!kind.is_empty()).then_some(kind),
            "name": name,
            "series": series,
            "shadowed": shadowed,
            "lastQuery": told(asked.last),
            "lastFailure": told(asked.failed),
        })
    }
}

fn told(query: &Query) -> Value {
    json!({
        "at": rfc3339(query.at),
        "namespace": query.namespace,
        "query": query.text,
        "series": query.rows,
        "values": query.values,
        "problem": query.problem,
    })
}

fn source(adapter: &Adapter, loading: &Loading) -> Value {
    json!({
        "file": adapter.file,
        "loadedAt": rfc3339(loading.at),
        "problem": loading.problem,
    })
}
