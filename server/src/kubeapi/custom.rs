//! `custom.metrics.k8s.io`: numbers that objects of the cluster have.
//!
//! ```text
//!   /                                              which metrics there are, of which kinds of objects
//!   /namespaces/NS/RESOURCE/NAME/METRIC            of one object, or of all (`*`) that `labelSelector` meets
//!   /namespaces/NS/metrics/METRIC                  of the namespace itself
//!   /RESOURCE/NAME/METRIC                          of objects without a namespace
//! ```
//!
//! `metricLabelSelector` says which series count.
//!
//! # Reference
//! `k8s.io/metrics`, prometheus-adapter 0.12.

mod form;
mod objects;
mod routes;

pub(crate) use form::{Quantified, entry, resource_list};
pub(crate) use objects::Lists;
pub(crate) use routes::query_value;
pub use routes::routes;

use super::adapter::{Adapter, Problem, Resource};
use super::{Failure, Selector, Sources};
use std::sync::Arc;
use tidegauge_model::Timestamp;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// The namespace of the objects; `None` for objects that lie in none.
    pub namespace: Option<&'a str>,
    /// Their kind: `pods`, `deployments.apps`.
    pub resource: &'a str,
    /// Which of them.
    pub objects: Objects<'a>,
    /// The metric.
    pub metric: &'a str,
    /// Which of its series count.
    pub metric_selector: &'a Selector,
}

/// Which objects.
#[derive(Debug, Clone, Copy)]
pub enum Objects<'a> {
    /// The one of this name.
    Named(&'a str),
    /// Those with such labels.
    Selected(&'a Selector),
}

/// The value that a metric has for an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The object's name.
    pub object: String,
    /// The value in thousandths.
    pub milli: i64,
    /// When.
    pub at: Timestamp,
    /// Over what it was taken, where that is known.
    pub window_ms: Option<i64>,
    /// The PromQL that was asked.
    pub query: Arc<str>,
}

/// The values of a metric, in order of the objects' names. An object without one is left out of several, and a failure
/// alone.
///
/// # Errors
/// [`Failure`]: there is no such metric, or its query gives no value that could be trusted.
pub async fn values(sources: &Sources, asked: &Asked<'_>) -> Result<Vec<Value>, Failure> {
    let adapter = &sources.adapter;
    let resource = resource(sources, adapter, asked).await?;
    of_kind(sources, adapter, &resource, asked).await
}

/// The kind that is asked for.
async fn resource(sources: &Sources, adapter: &Arc<Adapter>, asked: &Asked<'_>) -> Result<Arc<Resource>, Failure> {
    if let Some(found) = adapter.resources().find_qualified(asked.resource) {
        return Ok(Arc::clone(found));
    }
    // A look asks the API server which kinds there are, if a rule speaks of others than the usual ones.
    adapter.all(Some(&sources.cluster)).await;
    let resources = adapter.resources();
    let found = resources.find_qualified(asked.resource).cloned();
    found.ok_or_else(|| no_metric(asked.metric, asked.resource))
}

async fn of_kind(
    sources: &Sources,
    adapter: &Arc<Adapter>,
    resource: &Resource,
    asked: &Asked<'_>,
) -> Result<Vec<Value>, Failure> {
    let names = match asked.objects {
        Objects::Named(name) => vec![name.to_owned()],
        Objects::Selected(selector) => objects::names(sources, resource, asked.namespace, selector).await?,
    };
    let answer = adapter
        .custom(
            Some(&sources.cluster),
            resource,
            asked.metric,
            asked.namespace,
            &names,
            asked.metric_selector,
        )
        .await
        .map_err(|problem| match problem {
            Problem::Unknown => no_metric(asked.metric, &resource.to_string()),
            Problem::Failed(why) => failed(&why),
        })?;
    if let Objects::Named(name) = asked.objects
        && answer.values.is_empty()
    {
        let message = format!(
            "the server could not find the metric {} for {resource} {name}",
            asked.metric
        );
        return Err(Failure::not_found(message));
    }
    let values = answer.values.into_iter().map(|(object, milli)| Value {
        object,
        milli,
        at: answer.at,
        window_ms: answer.window_ms,
        query: Arc::clone(&answer.query),
    });
    Ok(values.collect())
}

/// There is no such metric.
fn no_metric(metric: &str, resource: &str) -> Failure {
    Failure::not_found(format!("the server could not find the metric {metric} for {resource}"))
}

/// It is there, and cannot be had.
pub(crate) fn failed(why: &str) -> Failure {
    Failure::internal(format!("Internal error occurred: unable to fetch metrics: {why}"))
}
