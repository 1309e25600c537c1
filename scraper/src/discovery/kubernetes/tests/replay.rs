//! What is expected: all objects at a time, and the groups that they make from nothing.

use super::super::Kind;
use super::super::object::{Key, Object};
use super::super::role::{self, Attach, Lookup};
use super::finder::Shared;
use super::{Api, Finder, options};
use crate::discovery::TargetGroup;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All objects at a time.
#[derive(Default, Clone)]
pub(super) struct World(BTreeMap<(Kind, Key), Arc<Object>>);

impl Lookup for World {
    fn get(&self, kind: Kind, key: &Key) -> Option<Arc<Object>> {
        self.0.get(&(kind, key.clone())).map(Arc::clone)
    }
}

impl World {
    fn put(&mut self, kind: Kind, object: &Value) {
        let mut object = kind.object(object.to_string().as_bytes()).unwrap();
        object.take_version();
        self.0.insert((kind, object.key()), Arc::new(object));
    }

    /// There is of this kind what a list says.
    pub(super) fn list(&mut self, kind: Kind, list: &str) {
        self.0.retain(|(of, _), _| *of != kind);
        let list: Value = serde_json::from_str(list).unwrap();
        for item in list["items"].as_array().unwrap() {
            self.put(kind, item);
        }
    }

    /// What a line of a watch says happens.
    pub(super) fn event(&mut self, kind: Kind, line: &str) {
        let event: Value = serde_json::from_str(line).unwrap();
        let object = &event["object"];
        match event["type"].as_str().unwrap() {
            "ADDED" | "MODIFIED" => self.put(kind, object),
            "DELETED" => {
                let text = |name: &str| Arc::from(object["metadata"][name].as_str().unwrap_or_default());
                let key = Key {
                    namespace: text("namespace"),
                    name: text("name"),
                };
                self.0.remove(&(kind, key));
            }
            "BOOKMARK" | "ERROR" => {}
            other => panic!("{other}"),
        }
    }

    /// The groups that these objects make.
    pub(super) fn groups(&self, role: Kind, attach: Attach) -> BTreeMap<String, TargetGroup> {
        let objects = self.0.iter().filter(|((kind, _), _)| *kind == role);
        let groups = objects.map(|(_, object)| role::group(object, attach, self));
        let groups = groups.filter(|group| !group.targets.is_empty());
        groups.map(|group| (group.source.clone(), group)).collect()
    }
}

/// A pod's JSON.
pub(super) fn pod(name: &str, version: u64, ip: &str) -> String {
    format!(
        r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"shop","uid":"u-{name}","resourceVersion":"{version}","labels":{{"app":"web"}}}},"spec":{{"nodeName":"n1","containers":[{{"name":"web","image":"web:1","ports":[{{"name":"http","containerPort":80,"protocol":"TCP"}}]}}]}},"status":{{"phase":"Running","podIP":"{ip}","conditions":[{{"type":"Ready","status":"True"}}]}}}}"#
    )
}

/// An event's line.
pub(super) fn line(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

pub(super) fn bookmark(version: u64) -> String {
    line(
        "BOOKMARK",
        &format!(
            r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"resourceVersion":"{version}"}},"spec":{{"containers":null}}}}"#
        ),
    )
}

fn path(kind: Kind) -> String {
    kind.path(None)
}

/// Objects of our own file by kind, as lists.
fn own_lists() -> BTreeMap<Kind, String> {
    let text = include_str!("../../../../../testdata/kubernetes/objects.json");
    let values: Vec<Value> = serde_json::from_str(text).unwrap();
    let of = |kind: Kind| {
        let items: Vec<String> = values
            .iter()
            .filter(|value| value["kind"].as_str().unwrap().eq_ignore_ascii_case(kind.as_str()))
            .map(Value::to_string)
            .collect();
        super::api::list("100", &items)
    };
    Kind::ALL.into_iter().map(|kind| (kind, of(kind))).collect()
}

/// Every role, over the same watches: after each event the groups are those that all objects make from nothing.
#[tokio::test]
async fn after_every_event_the_groups_are_those_of_all_objects() {
    let api = Api::start().await;
    let shared = Shared::new(options());
    let mut world = World::default();
    for (kind, list) in own_lists() {
        api.set_list(&path(kind), list.clone());
        world.list(kind, &list);
    }
    let attach = Attach {
        node: true,
        namespace: true,
        only_known_nodes: false,
    };
    let mut finders: Vec<(Kind, Attach, Finder)> = Vec::new();
    for role in [Kind::Pod, Kind::Endpoints, Kind::EndpointSlice] {
        let yaml = format!(
            "{{role: {}, attach_metadata: {{node: true, namespace: true}}}}",
            role.as_str()
        );
        finders.push((role, attach, Finder::start(&shared, &api.url, &yaml)));
    }
    for role in &Kind::ALL[..6] {
        let yaml = format!("role: {}", role.as_str());
        finders.push((*role, Attach::default(), Finder::start(&shared, &api.url, &yaml)));
    }
    for (role, attach, finder) in &mut finders {
        finder.until(&world.groups(*role, *attach)).await;
    }
    // One watch of each kind that discovery reads, whoever asks.
    for &kind in &Kind::ALL[..7] {
        api.asked(&format!("{}?watch=true", path(kind)), 2).await;
        assert_eq!(shared.metrics.kubernetes.watches.get(kind), 1);
        let lists = api
            .requests()
            .iter()
            .filter(|r| r.starts_with(&format!("{}?limit=", path(kind))))
            .count();
        assert_eq!(lists, 1, "{kind:?}");
    }

    let edited = |kind: Kind, name: &str, edit: &dyn Fn(&mut Value)| {
        let list: Value = serde_json::from_str(&own_lists()[&kind]).unwrap();
        let items = list["items"].as_array().unwrap();
        let item = items.iter().find(|item| item["metadata"]["name"] == name);
        let mut item = item.unwrap().clone();
        edit(&mut item);
        item.to_string()
    };
    let same = |_: &mut Value| {};
    let events = [
        (Kind::Pod, line("ADDED", &pod("web-3", 101, "10.1.0.3"))),
        (
            Kind::Pod,
            line(
                "MODIFIED",
                &edited(Kind::Pod, "web-1", &|pod| pod["status"]["phase"] = "Failed".into()),
            ),
        ),
        // Nothing that labels need.
        (
            Kind::Pod,
            line(
                "MODIFIED",
                &edited(Kind::Pod, "web-2", &|pod| pod["spec"]["x"] = 1.into()),
            ),
        ),
        (Kind::Service, line("DELETED", &edited(Kind::Service, "web", &same))),
        (
            Kind::Service,
            line(
                "ADDED",
                &edited(Kind::Service, "web", &|s| s["metadata"]["labels"]["new"] = "1".into()),
            ),
        ),
        (
            Kind::Node,
            line(
                "MODIFIED",
                &edited(Kind::Node, "n1", &|n| n["metadata"]["labels"]["zone"] = "b".into()),
            ),
        ),
        (
            Kind::Namespace,
            line(
                "MODIFIED",
                &edited(Kind::Namespace, "shop", &|n| n["metadata"]["labels"] = Value::Null),
            ),
        ),
        (Kind::Pod, line("DELETED", &edited(Kind::Pod, "web-1", &same))),
        (
            Kind::Endpoints,
            line(
                "MODIFIED",
                &edited(Kind::Endpoints, "web", &|e| e["subsets"] = Value::Null),
            ),
        ),
        (
            Kind::EndpointSlice,
            line("DELETED", &edited(Kind::EndpointSlice, "web-abc", &same)),
        ),
        (Kind::Node, line("DELETED", &edited(Kind::Node, "n1", &same))),
        (
            Kind::Ingress,
            line(
                "MODIFIED",
                &edited(Kind::Ingress, "door", &|i| i["spec"]["tls"] = Value::Null),
            ),
        ),
        (
            Kind::Pod,
            line(
                "MODIFIED",
                &edited(Kind::Pod, "web-2", &|pod| pod["status"]["podIP"] = "".into()),
            ),
        ),
        (
            Kind::Endpoints,
            line("MODIFIED", &edited(Kind::Endpoints, "web", &same)),
        ),
    ];
    for (kind, line) in events {
        world.event(kind, &line);
        api.write(&path(kind), line).await;
        for (role, attach, finder) in &mut finders {
            finder.until(&world.groups(*role, *attach)).await;
        }
    }
    // Nobody listens any more: the watches end, and nothing is held.
    drop(finders);
    shared.tasks.close();
    tokio::time::timeout(super::finder::PATIENCE, shared.tasks.wait())
        .await
        .unwrap();
    for kind in Kind::ALL {
        let metrics = &shared.metrics.kubernetes;
        let held = (
            metrics.watches.get(kind),
            metrics.objects.get(kind),
            metrics.object_bytes.get(kind),
        );
        assert_eq!(held, (0, 0, 0), "{kind:?}");
    }
}
