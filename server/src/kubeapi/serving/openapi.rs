//! What is served, as OpenAPI documents: `kubectl explain podmetrics` reads them, and the API server puts them into its own.
//!
//! Version 2 is one document of all groups, version 3 one for each group's version. Both are made of the same tables.

use super::groups::Group;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

/// The versions of OpenAPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Two,
    Three,
}

/// A path below that of a group's version, the kind of its answer, and what it does.
type Operation = (&'static str, &'static str, &'static str);

const METRICS: &[Operation] = &[
    ("/nodes", "NodeMetricsList", "list"),
    ("/nodes/{name}", "NodeMetrics", "get"),
    ("/pods", "PodMetricsList", "list"),
    ("/namespaces/{namespace}/pods", "PodMetricsList", "list"),
    ("/namespaces/{namespace}/pods/{name}", "PodMetrics", "get"),
];
const CUSTOM: &[Operation] = &[
    ("/{resource}/{name}/{metric}", "MetricValueList", "get"),
    (
        "/namespaces/{namespace}/{resource}/{name}/{metric}",
        "MetricValueList",
        "get",
    ),
    ("/namespaces/{namespace}/metrics/{metric}", "MetricValueList", "get"),
];
const EXTERNAL: &[Operation] = &[("/namespaces/{namespace}/{metric}", "ExternalMetricValueList", "list")];

/// The routes of the documents, for these groups.
pub(super) fn routes(groups: &[Group]) -> Router {
    let versions = || {
        groups
            .iter()
            .flat_map(|group| group.versions().iter().map(|version| (*group, *version)))
    };
    let whole = json!({
        "swagger": "2.0",
        "info": info(),
        "paths": merged(versions().map(|(group, version)| paths(Form::Two, group, version))),
        "definitions": merged(versions().map(|(group, version)| schemas(Form::Two, group, version))),
    });
    let mut router = Router::new().route("/openapi/v2", get(async move || document(&whole)));
    let mut index = Map::new();
    for (group, version) in versions() {
        let at = format!("apis/{}/{version}", group.name());
        let one = json!({
            "openapi": "3.0.0",
            "info": info(),
            "paths": paths(Form::Three, group, version),
            "components": {"schemas": schemas(Form::Three, group, version)},
        });
        // Callers keep what they have read until this is another.
        let hash = format!("{:016X}", xxh3_64(one.to_string().as_bytes()));
        let url = format!("/openapi/v3/{at}?hash={hash}");
        router = router.route(&format!("/openapi/v3/{at}"), get(async move || document(&one)));
        index.insert(at, json!({"serverRelativeURL": url}));
    }
    router.route("/openapi/v3", get(async move || Json(json!({"paths": index}))))
}

fn document(json: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], json.to_string()).into_response()
}

fn info() -> Value {
    json!({"title": "tidegauge", "version": concat!("v", env!("CARGO_PKG_VERSION"))})
}

fn merged(parts: impl Iterator<Item = Map<String, Value>>) -> Map<String, Value> {
    parts.flatten().collect()
}

/// What a schema is called in a document.
fn name(group: Group, version: &str, kind: &str) -> String {
    format!("io.tidegauge.{}.{version}.{kind}", group.word())
}

fn reference(form: Form, group: Group, version: &str, kind: &str) -> Value {
    let place = match form {
        Form::Two => "definitions",
        Form::Three => "components/schemas",
    };
    json!({"$ref": format!("#/{place}/{}", name(group, version, kind))})
}

/// The paths of a group's version.
fn paths(form: Form, group: Group, version: &str) -> Map<String, Value> {
    let (operations, selectors): (_, &[&str]) = match group {
        Group::Metrics => (METRICS, &["labelSelector", "fieldSelector"]),
        Group::Custom => (CUSTOM, &["labelSelector", "metricLabelSelector"]),
        Group::External => (EXTERNAL, &["labelSelector"]),
    };
    let path = |(rest, kind, action): &Operation| {
        let named = rest
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Value> = named.map(|name| parameter(form, "path", name)).collect();
        if *action == "list" || group == Group::Custom {
            parameters.extend(selectors.iter().map(|name| parameter(form, "query", name)));
        }
        let schema = reference(form, group, version, kind);
        let ok = match form {
            Form::Two => json!({"description": "OK", "schema": schema}),
            Form::Three => json!({"description": "OK", "content": {"application/json": {"schema": schema}}}),
        };
        let mut operation = json!({
            "operationId": operation_id(group, version, rest, action),
            "parameters": parameters,
            "responses": {"200": ok, "401": {"description": "Unauthorized"}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk(group, version, kind.trim_end_matches("List")),
        });
        if form == Form::Two {
            operation["produces"] = json!(["application/json"]);
            operation["schemes"] = json!(["https"]);
        }
        (
            format!("/apis/{}/{version}{rest}", group.name()),
            json!({"get": operation}),
        )
    };
    operations.iter().map(path).collect()
}

/// `listMetricsV1beta1NamespacesNamespacePods`: of none but this path.
fn operation_id(group: Group, version: &str, path: &str, action: &str) -> String {
    let words = [group.word(), version].into_iter().chain(path.split('/'));
    let words = words
        .map(|word| word.trim_matches(['{', '}']))
        .filter(|word| !word.is_empty());
    words.fold(action.to_owned(), |mut id, word| {
        let (first, rest) = word.split_at(1);
        id.push_str(&first.to_ascii_uppercase());
        id.push_str(rest);
        id
    })
}

fn parameter(form: Form, place: &str, name: &str) -> Value {
    let mut parameter = json!({"name": name, "in": place, "required": place == "path"});
    match form {
        Form::Two => parameter["type"] = "string".into(),
        Form::Three => parameter["schema"] = json!({"type": "string"}),
    }
    parameter
}

fn gvk(group: Group, version: &str, kind: &str) -> Value {
    json!({"group": group.name(), "version": version, "kind": kind})
}

/// The kinds of a group's version, by their names in a document.
fn schemas(form: Form, group: Group, version: &str) -> Map<String, Value> {
    let kinds = match (group, version) {
        (Group::Metrics, _) => metrics(form, version),
        (Group::Custom, "v1beta1") => custom(
            form,
            version,
            &[("metricName", text()), ("selector", object())],
            "window",
        ),
        (Group::Custom, _) => custom(form, version, &[("metric", object())], "windowSeconds"),
        (Group::External, _) => external(form, version),
    };
    kinds
        .into_iter()
        .map(|(kind, description, fields, whole)| {
            let fields: Map<String, Value> = fields
                .into_iter()
                .map(|(name, schema)| (name.to_owned(), schema))
                .collect();
            let mut schema = json!({"description": description, "type": "object", "properties": fields});
            if whole {
                schema["properties"]["apiVersion"] = text();
                schema["properties"]["kind"] = text();
                schema["properties"]["metadata"] = object();
                schema["x-kubernetes-group-version-kind"] = json!([gvk(group, version, kind)]);
            }
            (name(group, version, kind), schema)
        })
        .collect()
}

/// A kind, what it is, its fields, and whether it is an object of its own.
type Kind = (&'static str, &'static str, Vec<(&'static str, Value)>, bool);

fn metrics(form: Form, version: &str) -> Vec<Kind> {
    let of = |kind: &str| reference(form, Group::Metrics, version, kind);
    let common = || {
        vec![
            ("timestamp", described(time(), "When it was measured.")),
            (
                "window",
                described(text(), "Over how long cpu is an average, as in 15s."),
            ),
        ]
    };
    let usage = || ("usage", described(amounts(), "cpu in cores and memory in bytes."));
    let items = |kind: &str| vec![("items", list(&of(kind)))];
    vec![
        (
            "NodeMetrics",
            "What a node uses.",
            [common(), vec![usage()]].concat(),
            true,
        ),
        ("NodeMetricsList", "What nodes use.", items("NodeMetrics"), true),
        (
            "PodMetrics",
            "What the containers of a pod use.",
            [common(), vec![("containers", list(&of("ContainerMetrics")))]].concat(),
            true,
        ),
        (
            "PodMetricsList",
            "What the containers of pods use.",
            items("PodMetrics"),
            true,
        ),
        (
            "ContainerMetrics",
            "What a container uses.",
            vec![("name", text()), usage()],
            false,
        ),
    ]
}

fn custom(form: Form, version: &str, metric: &[(&'static str, Value)], window: &'static str) -> Vec<Kind> {
    let mut fields = metric.to_vec();
    fields.extend([
        (
            "describedObject",
            described(object(), "Whose it is: kind, namespace, name, apiVersion."),
        ),
        ("timestamp", described(time(), "When it was measured.")),
        (
            window,
            described(json!({"type": "integer", "format": "int64"}), "Over how many seconds."),
        ),
        ("value", described(text(), "A quantity.")),
    ]);
    let items = vec![("items", list(&reference(form, Group::Custom, version, "MetricValue")))];
    vec![
        ("MetricValue", "A metric of an object.", fields, true),
        ("MetricValueList", "A metric of objects.", items, true),
    ]
}

fn external(form: Form, version: &str) -> Vec<Kind> {
    let fields = vec![
        ("metricName", text()),
        ("metricLabels", amounts()),
        ("timestamp", described(time(), "When it was measured.")),
        (
            "window",
            described(json!({"type": "integer", "format": "int64"}), "Over how many seconds."),
        ),
        ("value", described(text(), "A quantity.")),
    ];
    let items = vec![(
        "items",
        list(&reference(form, Group::External, version, "ExternalMetricValue")),
    )];
    vec![
        (
            "ExternalMetricValue",
            "A metric of nothing in the cluster.",
            fields,
            true,
        ),
        (
            "ExternalMetricValueList",
            "Its rows; autoscalers add them up.",
            items,
            true,
        ),
    ]
}

fn text() -> Value {
    json!({"type": "string"})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn object() -> Value {
    json!({"type": "object"})
}

fn amounts() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

fn list(of: &Value) -> Value {
    json!({"type": "array", "items": of})
}

fn described(mut schema: Value, description: &str) -> Value {
    schema["description"] = description.into();
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use std::collections::BTreeSet;
    use tower::ServiceExt;

    async fn told(groups: &[Group], path: &str) -> Value {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = routes(groups).oneshot(request).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &"application/json".parse().unwrap()),
            "{path}"
        );
        serde_json::from_slice(&to_bytes(answer.into_body(), 1 << 20).await.unwrap()).unwrap()
    }

    /// What a document refers to.
    fn references(json: &Value, found: &mut BTreeSet<String>) {
        match json {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    fn is_whole(document: &Value) {
        let mut found = BTreeSet::new();
        references(document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
        let operations = document["paths"].as_object().unwrap().values();
        let ids: Vec<&str> = operations
            .map(|path| path["get"]["operationId"].as_str().unwrap())
            .collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    }

    #[tokio::test]
    async fn documents_are_whole_and_of_what_is_served() {
        let all = told(&Group::ALL, "/openapi/v2").await;
        is_whole(&all);
        assert_eq!(all["paths"].as_object().unwrap().len(), 5 + 2 * 3 + 1);
        let index = told(&Group::ALL, "/openapi/v3").await;
        let mut paths = 0;
        for (at, told_of) in index["paths"].as_object().unwrap() {
            let url = told_of["serverRelativeURL"].as_str().unwrap();
            assert!(url.starts_with(&format!("/openapi/v3/{at}?hash=")), "{url}");
            let document = told(&Group::ALL, url).await;
            is_whole(&document);
            paths += document["paths"].as_object().unwrap().len();
        }
        assert_eq!(paths, 5 + 2 * 3 + 1);
        let some = told(&[Group::External], "/openapi/v2").await;
        let paths: Vec<&String> = some["paths"].as_object().unwrap().keys().collect();
        assert_eq!(
            paths,
            ["/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}"]
        );
    }
}
