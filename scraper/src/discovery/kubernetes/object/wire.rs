//! The API's nesting, while it is read.
//!
//! Lists and maps that are empty are often `null` there, hence [`nullable`].

use super::{Container, IngressRule, Meta, Owner, Pairs, Port};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::sync::Arc;
use tidegauge_model::Timestamp;

/// `null` is what is not there.
pub(super) fn nullable<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Whether there is anything.
pub(super) fn is_there<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    let found: Option<serde::de::IgnoredAny> = Option::deserialize(from)?;
    Ok(found.is_some())
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OwnerReference {
    kind: Arc<str>,
    name: Arc<str>,
    controller: Option<bool>,
}

/// Of all owners the one that controls.
pub(super) fn controller<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Owner>, D::Error> {
    let owners: Vec<OwnerReference> = nullable(from)?;
    let owner = owners.into_iter().find(|owner| owner.controller == Some(true));
    Ok(owner.map(|owner| Owner {
        kind: owner.kind,
        name: owner.name,
    }))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WirePort {
    name: Arc<str>,
    container_port: i32,
    port: i32,
    #[serde(deserialize_with = "nullable")]
    protocol: Arc<str>,
}

fn ports(wire: Vec<WirePort>, number: fn(&WirePort) -> i32) -> Box<[Port]> {
    wire.into_iter()
        .map(|port| Port {
            number: number(&port),
            name: port.name,
            protocol: port.protocol,
        })
        .collect()
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(deserialize_with = "time")]
    last_transition_time: Option<Timestamp>,
}

/// A time as the API writes it; nothing if it cannot be read.
fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    let text: Option<String> = Option::deserialize(from)?;
    let read = |text: String| text.parse::<jiff::Timestamp>().ok();
    Ok(text
        .and_then(read)
        .map(|time| Timestamp::from_millis(time.as_millisecond())))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Node {
    metadata: Meta,
    #[serde(deserialize_with = "nullable")]
    spec: NodeSpec,
    #[serde(deserialize_with = "nullable")]
    status: NodeStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeSpec {
    #[serde(rename = "providerID")]
    provider_id: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct NodeStatus {
    #[serde(deserialize_with = "nullable")]
    addresses: Vec<NodeAddress>,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
    #[serde(deserialize_with = "nullable")]
    daemon_endpoints: DaemonEndpoints,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: Arc<str>,
    address: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DaemonEndpoints {
    #[serde(deserialize_with = "nullable")]
    kubelet_endpoint: DaemonEndpoint,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DaemonEndpoint {
    #[serde(rename = "Port")]
    port: i32,
}

impl From<Node> for super::Node {
    fn from(wire: Node) -> Self {
        let addresses = wire.status.addresses.into_iter();
        let conditions = wire.status.conditions.into_iter();
        Self {
            meta: wire.metadata,
            provider_id: wire.spec.provider_id,
            addresses: addresses.map(|a| (a.kind, a.address)).collect(),
            kubelet_port: wire.status.daemon_endpoints.kubelet_endpoint.port,
            conditions: conditions
                .map(|c| (Arc::from(c.kind.to_lowercase()), Arc::from(c.status.to_lowercase())))
                .collect(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Pod {
    metadata: Meta,
    #[serde(deserialize_with = "nullable")]
    spec: PodSpec,
    #[serde(deserialize_with = "nullable")]
    status: PodStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Resources {
    requests: Pairs,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Arc<str>,
    #[serde(deserialize_with = "nullable")]
    resources: Resources,
    #[serde(deserialize_with = "nullable")]
    containers: Vec<WireContainer>,
    #[serde(deserialize_with = "nullable")]
    init_containers: Vec<WireContainer>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireContainer {
    name: Arc<str>,
    image: Arc<str>,
    #[serde(deserialize_with = "nullable")]
    restart_policy: String,
    #[serde(deserialize_with = "nullable")]
    resources: Resources,
    #[serde(deserialize_with = "nullable")]
    ports: Vec<WirePort>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    #[serde(rename = "podIP")]
    pod_ip: Box<str>,
    #[serde(rename = "hostIP")]
    host_ip: Arc<str>,
    phase: Arc<str>,
    #[serde(deserialize_with = "time")]
    start_time: Option<Timestamp>,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
    #[serde(deserialize_with = "nullable")]
    container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "nullable")]
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ContainerStatus {
    name: Box<str>,
    #[serde(rename = "containerID")]
    id: Box<str>,
}

impl From<Pod> for super::Pod {
    fn from(wire: Pod) -> Self {
        let PodStatus {
            container_statuses,
            init_container_statuses,
            ..
        } = wire.status;
        let ready = wire.status.conditions.into_iter().find(|c| c.kind == "Ready");
        let usual = containers(wire.spec.containers, container_statuses, false);
        let init = containers(wire.spec.init_containers, init_container_statuses, true);
        Self {
            meta: wire.metadata,
            requests: wire.spec.resources.requests,
            started: wire.status.start_time,
            ready_since: ready.as_ref().and_then(|c| c.last_transition_time),
            node_name: wire.spec.node_name,
            ip: wire.status.pod_ip,
            host_ip: wire.status.host_ip,
            phase: wire.status.phase,
            ready: ready.map_or_else(|| Arc::from("unknown"), |c| Arc::from(c.status.to_lowercase())),
            containers: usual.chain(init).collect(),
        }
    }
}

fn containers(
    wire: Vec<WireContainer>,
    mut statuses: Vec<ContainerStatus>,
    init: bool,
) -> impl Iterator<Item = Container> {
    wire.into_iter().map(move |container| {
        let status = statuses.iter_mut().find(|status| *status.name == *container.name);
        Container {
            id: status.map(|status| std::mem::take(&mut status.id)).unwrap_or_default(),
            name: container.name,
            image: container.image,
            init,
            sidecar: init && container.restart_policy == "Always",
            requests: container.resources.requests,
            ports: ports(container.ports, |port| port.container_port),
        }
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Service {
    metadata: Meta,
    #[serde(deserialize_with = "nullable")]
    spec: ServiceSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "type")]
    kind: Arc<str>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Box<str>,
    external_name: Box<str>,
    #[serde(rename = "loadBalancerIP")]
    load_balancer_ip: Box<str>,
    #[serde(deserialize_with = "nullable")]
    ports: Vec<WirePort>,
}

impl From<Service> for super::Service {
    fn from(wire: Service) -> Self {
        Self {
            meta: wire.metadata,
            kind: wire.spec.kind,
            cluster_ip: wire.spec.cluster_ip,
            external_name: wire.spec.external_name,
            load_balancer_ip: wire.spec.load_balancer_ip,
            ports: ports(wire.spec.ports, |port| port.port),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Ingress {
    metadata: Meta,
    #[serde(deserialize_with = "nullable")]
    spec: IngressSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct IngressSpec {
    #[serde(deserialize_with = "nullable")]
    ingress_class_name: Arc<str>,
    #[serde(deserialize_with = "nullable")]
    tls: Vec<IngressTls>,
    #[serde(deserialize_with = "nullable")]
    rules: Vec<WireRule>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct IngressTls {
    #[serde(deserialize_with = "nullable")]
    hosts: Vec<Box<str>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireRule {
    host: Box<str>,
    http: Option<RuleHttp>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RuleHttp {
    #[serde(deserialize_with = "nullable")]
    paths: Vec<RulePath>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RulePath {
    path: Box<str>,
}

impl From<Ingress> for super::Ingress {
    fn from(wire: Ingress) -> Self {
        let rule = |rule: WireRule| IngressRule {
            host: rule.host,
            paths: rule.http.map(|http| http.paths.into_iter().map(|p| p.path).collect()),
        };
        Self {
            meta: wire.metadata,
            class: wire.spec.ingress_class_name,
            tls_hosts: wire.spec.tls.into_iter().flat_map(|tls| tls.hosts).collect(),
            rules: wire.spec.rules.into_iter().map(rule).collect(),
        }
    }
}

#[derive(Deserialize, Default)]
pub(super) struct Document(Value);

impl From<Document> for super::Document {
    fn from(Document(mut value): Document) -> Self {
        // What is no object, or has no name, is refused where it is put in.
        let meta = value.get("metadata").and_then(|meta| Meta::deserialize(meta).ok());
        if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.remove("managedFields");
            meta.remove("resourceVersion");
        }
        Self {
            meta: meta.unwrap_or_default(),
            json: value.to_string().into_boxed_str(),
        }
    }
}
