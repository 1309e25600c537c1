//! Objects of `metrics.k8s.io/v1beta1` as JSON.

use super::accept::{Form, Many, Version};
use super::usage::{NodeUsage, PodUsage};
use crate::hpa::quantity::{Format, Quantity};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use tidegauge_model::Timestamp;

/// The group and version of all that is served here.
pub(super) const API_VERSION: &str = "metrics.k8s.io/v1beta1";

/// A pod or node with what it uses.
#[derive(Debug, Clone, Copy)]
pub(super) enum Used<'a> {
    Pod(&'a PodUsage),
    Node(&'a NodeUsage),
}

/// One object of an answer.
#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    pub(super) used: Used<'a>,
    /// The labels of the pod or node, as the API server knows them.
    pub(super) labels: Vec<(&'a str, &'a str)>,
}

/// Objects of one kind, and how they are told.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) kind: Kind,
    /// When it is given: objects are made as they are asked for.
    pub(super) now: Timestamp,
    pub(super) form: Form,
    pub(super) row_object: RowObject,
}

/// The kinds of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pods,
    Nodes,
}

impl Kind {
    /// The name that paths have.
    pub(super) fn resource(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Nodes => "nodes",
        }
    }

    fn name(self, many: Many) -> &'static str {
        match (self, many) {
            (Self::Pods, Many::One) => "PodMetrics",
            (Self::Pods, Many::List) => "PodMetricsList",
            (Self::Nodes, Many::One) => "NodeMetrics",
            (Self::Nodes, Many::List) => "NodeMetricsList",
        }
    }
}

/// What rows of a table bring beside their cells (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum RowObject {
    None,
    #[default]
    Metadata,
    Object,
}

impl Answer {
    /// The JSON of a list.
    ///
    /// # Errors
    /// Those of serde; there are none in memory.
    pub(super) fn list(&self, items: &[Item<'_>]) -> serde_json::Result<Vec<u8>> {
        let created = time(self.now);
        let list = |kind, api_version, items| List {
            kind,
            api_version,
            metadata: Empty {},
            items,
        };
        match self.form {
            Form::Objects => {
                let items = items.iter().map(|item| object(item, None, &created)).collect();
                serde_json::to_vec(&list(self.kind.name(Many::List), API_VERSION, items))
            }
            Form::Metadata(version) => {
                let items = items.iter().map(|item| metadata_of(item, version, &created)).collect();
                serde_json::to_vec(&list("PartialObjectMetadataList", version.as_str(), items))
            }
            Form::Table(version) => serde_json::to_vec(&self.table(items, version, &created)),
        }
    }

    /// The JSON of a single object.
    ///
    /// # Errors
    /// As [`Answer::list`].
    pub(super) fn one(&self, item: &Item<'_>) -> serde_json::Result<Vec<u8>> {
        let created = time(self.now);
        match self.form {
            Form::Objects => serde_json::to_vec(&self.whole(item, &created)),
            Form::Metadata(version) => serde_json::to_vec(&metadata_of(item, version, &created)),
            Form::Table(version) => serde_json::to_vec(&self.table(std::slice::from_ref(item), version, &created)),
        }
    }

    /// An object that says what it is.
    fn whole<'b>(&self, item: &'b Item<'_>, created: &'b str) -> Object<'b> {
        object(item, Some(self.kind.name(Many::One)), created)
    }

    fn table<'b>(&self, items: &'b [Item<'_>], version: Version, created: &'b str) -> Table<'b> {
        let row = |item: &'b Item<'_>| Row {
            cells: cells(item),
            object: match self.row_object {
                RowObject::None => None,
                RowObject::Metadata => Some(metadata_of(item, version, created)),
                RowObject::Object => Some(self.whole(item, created)),
            },
        };
        Table {
            kind: "Table",
            api_version: version.as_str(),
            metadata: Empty {},
            column_definitions: COLUMNS,
            rows: items.iter().map(row).collect(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    items: Vec<Object<'a>>,
}

#[derive(Serialize)]
struct Empty {}

/// An object; of one of which only the metadata is told, the rest is absent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<&'static str>,
    metadata: Metadata<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Resources>,
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<Vec<Container<'a>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    creation_timestamp: &'a str,
    #[serde(skip_serializing_if = "Labels::is_empty")]
    labels: Labels<'a>,
}

struct Labels<'a>(&'a [(&'a str, &'a str)]);

impl Labels<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Container<'a> {
    name: &'a str,
    usage: Resources,
}

#[derive(Serialize)]
struct Resources {
    cpu: String,
    memory: String,
}

impl Resources {
    fn new(cpu_nano: i64, memory_bytes: i64) -> Self {
        Self {
            cpu: Quantity::from_nano(cpu_nano, Format::Decimal).to_string(),
            memory: Quantity::from_whole(memory_bytes, Format::Binary).to_string(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Table<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    column_definitions: [Column; 4],
    rows: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Column {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    format: &'static str,
    description: &'static str,
    priority: i32,
}

#[derive(Serialize)]
struct Row<'a> {
    cells: [String; 4],
    object: Option<Object<'a>>,
}

const COLUMNS: [Column; 4] = [
    column("Name", "name", "Name of the pod or node"),
    column("cpu", "quantity", "Cores in use, averaged over the window"),
    column("memory", "quantity", "Working set in bytes"),
    column("Window", "duration", "Time that the cores in use are an average over"),
];

const fn column(name: &'static str, format: &'static str, description: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format,
        description,
        priority: 0,
    }
}

fn cells(item: &Item<'_>) -> [String; 4] {
    let (name, cpu, memory, window_ms) = match item.used {
        Used::Pod(pod) => {
            let (mut cpu, mut memory) = (0i64, 0i64);
            for container in &pod.containers {
                cpu = cpu.saturating_add(container.cpu_nano);
                memory = memory.saturating_add(container.memory_bytes);
            }
            (&pod.name, cpu, memory, pod.window_ms)
        }
        Used::Node(node) => (&node.name, node.cpu_nano, node.memory_bytes, node.window_ms),
    };
    let used = Resources::new(cpu, memory);
    [name.clone(), used.cpu, used.memory, duration(window_ms)]
}

fn metadata<'a>(item: &'a Item<'_>, created: &'a str) -> Metadata<'a> {
    let (namespace, name) = match item.used {
        Used::Pod(pod) => (Some(pod.namespace.as_str()), pod.name.as_str()),
        Used::Node(node) => (None, node.name.as_str()),
    };
    Metadata {
        name,
        namespace,
        creation_timestamp: created,
        labels: Labels(&item.labels),
    }
}

fn metadata_of<'a>(item: &'a Item<'_>, version: Version, created: &'a str) -> Object<'a> {
    Object {
        kind: Some("PartialObjectMetadata"),
        api_version: Some(version.as_str()),
        metadata: metadata(item, created),
        timestamp: None,
        window: None,
        usage: None,
        containers: None,
    }
}

fn object<'a>(item: &'a Item<'_>, kind: Option<&'static str>, created: &'a str) -> Object<'a> {
    let (at, window_ms, usage, containers) = match item.used {
        Used::Pod(pod) => {
            let containers = pod.containers.iter().map(|container| Container {
                name: &container.name,
                usage: Resources::new(container.cpu_nano, container.memory_bytes),
            });
            (pod.at, pod.window_ms, None, Some(containers.collect()))
        }
        Used::Node(node) => {
            let usage = Resources::new(node.cpu_nano, node.memory_bytes);
            (node.at, node.window_ms, Some(usage), None)
        }
    };
    Object {
        kind,
        api_version: kind.map(|_| API_VERSION),
        metadata: metadata(item, created),
        timestamp: Some(time(at)),
        window: Some(duration(window_ms)),
        usage,
        containers,
    }
}

/// RFC 3339, with the fraction of a second cut off.
pub(in crate::kubeapi) fn time(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_second(at.millis().div_euclid(1000));
    at.unwrap_or_default().to_string()
}

/// A duration as Go prints it: `15.064s`, `1m0s`, `1h0m0.5s`.
fn duration(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    if ms == 0 {
        return "0s".to_owned();
    }
    if ms < 1000 {
        return format!("{sign}{ms}ms");
    }
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    let larger = match (hours, minutes) {
        (0, 0) => String::new(),
        (0, minutes) => format!("{minutes}m"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    };
    let fraction = match ms % 1000 {
        0 => String::new(),
        rest => format!(".{rest:03}").trim_end_matches('0').to_owned(),
    };
    format!("{sign}{larger}{seconds}{fraction}s")
}

#[cfg(test)]
mod tests {
    use super::super::usage::ContainerUsage;
    use super::*;
    use serde_json::{Value, json};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_999);

    fn pod() -> PodUsage {
        let container = |name: &str, cpu_nano, memory_bytes| ContainerUsage {
            name: name.to_owned(),
            cpu_nano,
            memory_bytes,
        };
        PodUsage {
            namespace: "shop".to_owned(),
            name: "web-0".to_owned(),
            at: NOW.saturating_sub(5000),
            window_ms: 15_064,
            containers: vec![
                container("log", 20_000_000, 1000),
                container("web", 29_412_887, 77_594_624),
            ],
        }
    }

    fn item(pod: &PodUsage) -> Item<'_> {
        Item {
            used: Used::Pod(pod),
            labels: vec![("app", "web")],
        }
    }

    fn answer(form: Form, row_object: RowObject) -> Answer {
        Answer {
            kind: Kind::Pods,
            now: NOW,
            form,
            row_object,
        }
    }

    fn json_of(bytes: serde_json::Result<Vec<u8>>) -> Value {
        serde_json::from_slice(&bytes.unwrap()).unwrap()
    }

    #[test]
    fn objects_have_the_documented_shape_and_order() {
        let pod = pod();
        let text = answer(Form::Objects, RowObject::Metadata).one(&item(&pod)).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            r#"{"kind":"PodMetrics","apiVersion":"metrics.k8s.io/v1beta1","metadata":{"name":"web-0","namespace":"shop","#.to_owned()
                + r#""creationTimestamp":"2023-11-14T22:13:20Z","labels":{"app":"web"}},"timestamp":"2023-11-14T22:13:15Z","#
                + r#""window":"15.064s","containers":[{"name":"log","usage":{"cpu":"20m","memory":"1k"}},"#
                + r#"{"name":"web","usage":{"cpu":"29412887n","memory":"74Mi"}}]}"#
        );
        let node = NodeUsage {
            name: "n1".to_owned(),
            at: NOW,
            window_ms: 60_000,
            cpu_nano: 1_000_000_000,
            memory_bytes: 1024,
        };
        let nodes = Answer {
            kind: Kind::Nodes,
            ..answer(Form::Objects, RowObject::Metadata)
        };
        let used = Used::Node(&node);
        let text = nodes.list(&[Item { used, labels: vec![] }]).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            r#"{"kind":"NodeMetricsList","apiVersion":"metrics.k8s.io/v1beta1","metadata":{},"items":[{"metadata":{"name":"n1","#.to_owned()
                + r#""creationTimestamp":"2023-11-14T22:13:20Z"},"timestamp":"2023-11-14T22:13:20Z","window":"1m0s","#
                + r#""usage":{"cpu":"1","memory":"1Ki"}}]}"#
        );
    }

    #[test]
    fn tables_sum_the_containers_and_bring_what_is_asked_for() {
        let pod = pod();
        let partial = json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"name": "web-0", "namespace": "shop", "creationTimestamp": "2023-11-14T22:13:20Z", "labels": {"app": "web"}},
        });
        for (row_object, expected) in [
            (RowObject::None, Value::Null),
            (RowObject::Metadata, partial.clone()),
            (
                RowObject::Object,
                json_of(answer(Form::Objects, RowObject::None).one(&item(&pod))),
            ),
        ] {
            let table = json_of(answer(Form::Table(Version::V1), row_object).list(&[item(&pod)]));
            assert_eq!(
                (&table["kind"], &table["apiVersion"]),
                (&json!("Table"), &json!("meta.k8s.io/v1"))
            );
            let columns: Vec<&Value> = table["columnDefinitions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|c| &c["name"])
                .collect();
            assert_eq!(columns, ["Name", "cpu", "memory", "Window"]);
            let cells = json!(["web-0", "49412887n", "77595624", "15.064s"]);
            assert_eq!(table["rows"], json!([{"cells": cells, "object": expected}]));
        }
        let empty = json_of(answer(Form::Table(Version::V1beta1), RowObject::Metadata).list(&[]));
        assert_eq!(
            (&empty["rows"], &empty["apiVersion"]),
            (&json!([]), &json!("meta.k8s.io/v1beta1"))
        );
        let list = json_of(answer(Form::Metadata(Version::V1), RowObject::Metadata).list(&[item(&pod)]));
        assert_eq!(list["kind"], "PartialObjectMetadataList");
        assert_eq!(list["items"], json!([partial]));
    }

    #[test]
    fn durations_are_as_go_prints_them() {
        for (ms, text) in [
            (0, "0s"),
            (999, "999ms"),
            (1000, "1s"),
            (17_412, "17.412s"),
            (15_060, "15.06s"),
            (60_000, "1m0s"),
            (90_500, "1m30.5s"),
            (3_600_000, "1h0m0s"),
            (-1500, "-1.5s"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }
}
