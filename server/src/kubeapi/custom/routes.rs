//! The paths of the group.

use super::super::{Failure, Selector, Sources};
use super::form::{self, Version};
use super::{Asked, Objects, of_kind, resource};
use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

/// All of them. Who asks has been let in already.
pub fn routes(sources: Arc<Sources>) -> Router {
    [("v1beta1", Version::V1Beta1), ("v1beta2", Version::V1Beta2)]
        .into_iter()
        .fold(Router::new(), |router, (name, version)| {
            let root = format!("/apis/custom.metrics.k8s.io/{name}");
            let at = |rest: &str| format!("{root}{rest}");
            router
                .route(
                    &root,
                    get(move |State(sources): State<Arc<Sources>>| async move {
                        let known = sources.adapter.all(Some(&sources.cluster)).await;
                        Ok::<_, Failure>(json(form::resources(version, &known).to_string().into_bytes()))
                    }),
                )
                .route(
                    &at("/namespaces/{namespace}/metrics/{metric}"),
                    get(
                        move |sources: State<Arc<Sources>>,
                              Path((namespace, metric)): Path<(String, String)>,
                              query: RawQuery| {
                            answer(
                                sources,
                                version,
                                None,
                                "namespaces".to_owned(),
                                namespace,
                                metric,
                                query,
                            )
                        },
                    ),
                )
                .route(
                    &at("/namespaces/{namespace}/{resource}/{name}/{metric}"),
                    get(
                        move |sources: State<Arc<Sources>>,
                              Path((namespace, resource, name, metric)): Path<(String, String, String, String)>,
                              query: RawQuery| {
                            answer(sources, version, Some(namespace), resource, name, metric, query)
                        },
                    ),
                )
                .route(
                    &at("/{resource}/{name}/{metric}"),
                    get(
                        move |sources: State<Arc<Sources>>,
                              Path((resource, name, metric)): Path<(String, String, String)>,
                              query: RawQuery| {
                            answer(sources, version, None, resource, name, metric, query)
                        },
                    ),
                )
        })
        .method_not_allowed_fallback(async || Failure::method_not_allowed())
        .with_state(sources)
}

async fn answer(
    State(sources): State<Arc<Sources>>,
    version: Version,
    namespace: Option<String>,
    kind: String,
    name: String,
    metric: String,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = query.unwrap_or_default();
    let selector = |name: &str| {
        let text = query_value(&query, name);
        Selector::parse(&text).map_err(|why| Failure::bad_request(format!("unable to parse requirement: {why}")))
    };
    let (labels, series) = (selector("labelSelector")?, selector("metricLabelSelector")?);
    let asked = Asked {
        namespace: namespace.as_deref(),
        resource: &kind,
        objects: match name.as_str() {
            "*" => Objects::Selected(&labels),
            name => Objects::Named(name),
        },
        metric: &metric,
        metric_selector: &series,
    };
    let adapter = &sources.adapter;
    let resource = resource(&sources, adapter, &asked).await?;
    let values = of_kind(&sources, adapter, &resource, &asked).await?;
    let list = form::list(version, &resource, asked.namespace, &metric, &series, &values);
    Ok(json(list))
}

/// A parameter of a request; empty if there is none.
pub(crate) fn query_value(query: &str, name: &str) -> String {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let found = pairs.find(|(key, _)| key == name);
    found.map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn json(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
