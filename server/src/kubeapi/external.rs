//! `external.metrics.k8s.io`: numbers that belong to no object of the cluster.
//!
//! ```text
//!   /                                  which metrics there are
//!   /namespaces/NS/METRIC              the series that `labelSelector` meets; an autoscaler adds them up
//! ```

use super::adapter::Problem;
use super::custom::{Quantified, entry, failed, query_value, resource_list};
use super::resource::time;
use super::{Failure, Selector, Sources};
use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegauge_model::Timestamp;

const GROUP_VERSION: &str = "external.metrics.k8s.io/v1beta1";

/// A value of an external metric: one of those that are added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// What tells it from the others.
    pub labels: Vec<(String, String)>,
    /// The value in thousandths.
    pub milli: i64,
    /// When.
    pub at: Timestamp,
    /// Over what it was taken, where that is known.
    pub window_ms: Option<i64>,
    /// The PromQL that was asked.
    pub query: Arc<str>,
}

/// The values of a metric. None at all is no failure: the metric is there, and has no series now.
///
/// # Errors
/// [`Failure`]: there is no such metric, or its query gives something that is no number.
pub async fn values(
    sources: &Sources,
    namespace: &str,
    metric: &str,
    selector: &Selector,
) -> Result<Vec<Value>, Failure> {
    let adapter = &sources.adapter;
    let answer = adapter
        .external(Some(&sources.cluster), metric, namespace, selector)
        .await
        .map_err(|problem| match problem {
            Problem::Unknown => Failure::not_found(format!(
                "the server could not find the metric {metric} for namespaces {namespace}"
            )),
            Problem::Failed(why) => failed(&why),
        })?;
    let values = answer.rows.into_iter().map(|row| Value {
        labels: row.labels,
        milli: row.milli,
        at: answer.at,
        window_ms: answer.window_ms,
        query: Arc::clone(&answer.query),
    });
    Ok(values.collect())
}

/// The paths of the group. Who asks has been let in already.
pub fn routes(sources: Arc<Sources>) -> Router {
    Router::new()
        .route(&format!("/apis/{GROUP_VERSION}"), get(resources))
        .route(
            &format!("/apis/{GROUP_VERSION}/namespaces/{{namespace}}/{{metric}}"),
            get(answer),
        )
        .method_not_allowed_fallback(async || Failure::method_not_allowed())
        .with_state(sources)
}

async fn resources(State(sources): State<Arc<Sources>>) -> Result<Response, Failure> {
    let known = sources.adapter.all(Some(&sources.cluster)).await;
    let names = known.external.keys();
    let entries: Vec<Json> = names.map(|name| entry(name, true, "ExternalMetricValueList")).collect();
    Ok(json(resource_list(GROUP_VERSION, &entries).to_string().into_bytes()))
}

async fn answer(
    State(sources): State<Arc<Sources>>,
    Path((namespace, metric)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let text = query_value(&query.unwrap_or_default(), "labelSelector");
    let selector =
        Selector::parse(&text).map_err(|why| Failure::bad_request(format!("unable to parse requirement: {why}")))?;
    let values = values(&sources, &namespace, &metric, &selector).await?;
    Ok(json(list(&metric, &values)))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Map<String, Json>,
    items: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    metric_name: &'a str,
    metric_labels: BTreeMap<&'a str, &'a str>,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<i64>,
    value: Quantified,
}

fn list(metric: &str, values: &[Value]) -> Vec<u8> {
    let items = values.iter().map(|value| Item {
        metric_name: metric,
        metric_labels: value
            .labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
        timestamp: time(value.at),
        window: value.window_ms.map(|window| window / 1000),
        value: Quantified(value.milli),
    });
    let list = List {
        kind: "ExternalMetricValueList",
        api_version: GROUP_VERSION,
        metadata: Map::new(),
        items: items.collect(),
    };
    serde_json::to_vec(&list).unwrap_or_default()
}

fn json(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
