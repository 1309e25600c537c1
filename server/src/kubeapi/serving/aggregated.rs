//! All groups, versions and resources in one document: aggregated discovery, `apidiscovery.k8s.io`.
//!
//! It is made of the lists of resources that the groups tell, so that both always say the same.

use super::groups::Group;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tower::ServiceExt;

/// The most that a list of resources may have.
const MAX_BYTES: usize = 16 << 20;
/// The versions of the document, the newest first.
const VERSIONS: [&str; 2] = ["v2", "v2beta1"];

/// The version of the document that a caller wants most, if they want it at all.
pub(super) fn wanted(headers: &HeaderMap) -> Option<&'static str> {
    let values = headers.get_all(header::ACCEPT).iter();
    let mut ranges = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    ranges.find_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let mut version = None;
        let (json, mut group, mut list) = (parts.next() == Some("application/json"), false, false);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name {
                "g" => group = value == "apidiscovery.k8s.io",
                "as" => list = value == "APIGroupDiscoveryList",
                "v" => version = VERSIONS.into_iter().find(|known| *known == value),
                _ => {}
            }
        }
        version.filter(|_| json && group && list)
    })
}

/// The document. A group's version that does not tell its resources is said to be stale.
pub(super) async fn document(groups: &[Group], routes: &Router, version: &str) -> Response {
    let mut items = Vec::new();
    for group in groups {
        let mut versions = Vec::new();
        for version in group.versions() {
            versions.push(match resources(routes, *group, version).await {
                Some(list) => json!({"version": version, "resources": nested(&list), "freshness": "Current"}),
                None => json!({"version": version, "freshness": "Stale"}),
            });
        }
        items.push(json!({"metadata": {"name": group.name()}, "versions": versions}));
    }
    let document = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    });
    let kind = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    (
        [(header::CONTENT_TYPE, kind), (header::VARY, "Accept".to_owned())],
        document.to_string(),
    )
        .into_response()
}

/// The resources of a group's version, as whoever answers for it tells them.
async fn resources(routes: &Router, group: Group, version: &str) -> Option<Vec<Value>> {
    let path = format!("/apis/{}/{version}", group.name());
    let request = Request::get(path).body(Body::empty()).ok()?;
    let answer = routes.clone().oneshot(request).await.ok()?;
    if answer.status() != StatusCode::OK {
        return None;
    }
    let body = to_bytes(answer.into_body(), MAX_BYTES).await.ok()?;
    let mut list: Value = serde_json::from_slice(&body).ok()?;
    match list.get_mut("resources")?.take() {
        Value::Array(resources) => Some(resources),
        _ => None,
    }
}

/// Resources with what hangs on each of them below it.
fn nested(list: &[Value]) -> Vec<Value> {
    let mut found: Vec<(&str, Map<String, Value>, Vec<Value>)> = Vec::new();
    for told in list {
        let name = told["name"].as_str().unwrap_or_default();
        let (parent, sub) = name
            .split_once('/')
            .map_or((name, None), |(parent, sub)| (parent, Some(sub)));
        let at = found
            .iter()
            .position(|(known, ..)| *known == parent)
            .unwrap_or_else(|| {
                found.push((parent, of_none(parent, told), Vec::new()));
                found.len() - 1
            });
        let Some((_, resource, subs)) = found.get_mut(at) else {
            continue;
        };
        match sub {
            None => describe(resource, told),
            Some(sub) => subs.push(json!({"subresource": sub, "responseKind": kind(told), "verbs": told["verbs"]})),
        }
    }
    let whole = |(_, mut resource, subs): (&str, Map<String, Value>, Vec<Value>)| {
        if !subs.is_empty() {
            resource.insert("subresources".to_owned(), subs.into());
        }
        Value::Object(resource)
    };
    found.into_iter().map(whole).collect()
}

/// A resource that is there for what hangs on it alone, as long as nothing else is told of it.
fn of_none(name: &str, told: &Value) -> Map<String, Value> {
    let mut resource = Map::new();
    resource.insert("resource".to_owned(), name.into());
    resource.insert(
        "responseKind".to_owned(),
        json!({"group": "", "version": "", "kind": ""}),
    );
    let scope = if told["namespaced"] == true {
        "Namespaced"
    } else {
        "Cluster"
    };
    resource.insert("scope".to_owned(), scope.into());
    resource.insert("singularResource".to_owned(), "".into());
    resource.insert("verbs".to_owned(), Value::Null);
    resource
}

fn describe(resource: &mut Map<String, Value>, told: &Value) {
    resource.insert("responseKind".to_owned(), kind(told));
    resource.insert(
        "singularResource".to_owned(),
        told["singularName"].as_str().unwrap_or_default().into(),
    );
    for key in ["verbs", "shortNames", "categories"] {
        if let Some(value) = told.get(key) {
            resource.insert(key.to_owned(), value.clone());
        }
    }
}

fn kind(told: &Value) -> Value {
    let of = |key: &str| told[key].as_str().unwrap_or_default();
    json!({"group": of("group"), "version": of("version"), "kind": of("kind")})
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Json;
    use axum::routing::get;

    #[test]
    fn the_document_is_for_those_who_want_it() {
        let of = "application/json;g=apidiscovery.k8s.io;as=APIGroupDiscoveryList;v=";
        let (new, old) = (format!("{of}v2"), format!("{of}v2beta1"));
        for (values, version) in [
            (vec![new.clone()], Some("v2")),
            (vec![format!("{old},{new},application/json")], Some("v2beta1")),
            (vec!["*/*".to_owned(), old], Some("v2beta1")),
            (vec!["application/json;as=Table;v=v1;g=meta.k8s.io".to_owned()], None),
            (vec![new.replace("v2", "v9")], None),
            (vec![new.replace("json", "vnd.kubernetes.protobuf")], None),
            (vec![], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(header::ACCEPT, value.parse().unwrap());
            }
            assert_eq!(wanted(&headers), version, "{values:?}");
        }
    }

    #[tokio::test]
    async fn it_says_what_the_lists_say() {
        let list = json!({"resources": [
            {"name": "pods/http_requests", "singularName": "", "namespaced": true, "kind": "MetricValueList", "verbs": ["get"]},
            {"name": "pods/errors", "singularName": "", "namespaced": true, "kind": "MetricValueList", "verbs": ["get"]},
            {"name": "nodes", "singularName": "node", "namespaced": false, "kind": "NodeMetrics", "verbs": ["get", "list"]},
        ]});
        let routes = Router::new().route("/apis/custom.metrics.k8s.io/v1beta1", get(async move || Json(list)));
        let answer = document(&[Group::Custom], &routes, "v2").await;
        assert_eq!(
            answer.headers()[header::CONTENT_TYPE],
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        );
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let told: Value = serde_json::from_slice(&body).unwrap();
        let kind = |kind: &str| json!({"group": "", "version": "", "kind": kind});
        let sub = |name: &str| json!({"subresource": name, "responseKind": kind("MetricValueList"), "verbs": ["get"]});
        assert_eq!(told["apiVersion"], "apidiscovery.k8s.io/v2");
        assert_eq!(
            told["items"],
            json!([{"metadata": {"name": "custom.metrics.k8s.io"}, "versions": [
                {"version": "v1beta2", "freshness": "Stale"},
                {"version": "v1beta1", "freshness": "Current", "resources": [
                    {"resource": "pods", "responseKind": kind(""), "scope": "Namespaced", "singularResource": "", "verbs": null,
                        "subresources": [sub("http_requests"), sub("errors")]},
                    {"resource": "nodes", "responseKind": kind("NodeMetrics"), "scope": "Cluster", "singularResource": "node",
                        "verbs": ["get", "list"]},
                ]},
            ]}])
        );
    }
}
