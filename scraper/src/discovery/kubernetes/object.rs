//! Kubernetes objects, as much of them as labels, targets and the metrics APIs need.
//!
//! The API sends some kilobytes an object, most of it of no use here (managed fields above all). What is read is what is
//! kept: serde skips the rest while it reads, and no JSON outlives that. Texts that many objects share are `Arc<str>`
//! and folded by the [`Interner`]; those of one object alone are `Box<str>`.
//!
//! `From<Wire..>` turns the nesting of the API into the flat form kept here. What the scraper itself has no use for is
//! kept as its JSON ([`Document`]).

mod address;
mod wire;

pub(super) use address::{Address, EndpointPort, EndpointSlice, Endpoints, SliceEndpoint, SlicePort, TargetRef};

use super::intern::Interner;
use super::kind::Kind;
use serde::{Deserialize, Deserializer};
use std::sync::Arc;
use tidegauge_model::Timestamp;

/// What tells an object from others of its kind. The namespace of nodes and namespaces is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
}

/// Labels or annotations, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pairs(Box<[(Arc<str>, Arc<str>)]>);

impl Pairs {
    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    fn intern(&mut self, interner: &mut Interner) {
        for (name, value) in &mut self.0 {
            interner.fold(name);
            interner.fold(value);
        }
    }

    fn heap_bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| 32 + name.len() + value.len()).sum()
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let map: Option<std::collections::BTreeMap<Arc<str>, Arc<str>>> = Deserialize::deserialize(from)?;
        Ok(Self(map.unwrap_or_default().into_iter().collect()))
    }
}

/// What every object has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub(super) name: Arc<str>,
    pub(super) namespace: Arc<str>,
    pub(super) uid: Box<str>,
    /// Taken out before the object is kept: it changes with every write, whether or not labels do.
    pub(super) resource_version: Box<str>,
    pub(super) labels: Pairs,
    pub(super) annotations: Pairs,
    /// The owner that controls it.
    #[serde(rename = "ownerReferences", deserialize_with = "wire::controller")]
    pub(super) controller: Option<Owner>,
    #[serde(rename = "deletionTimestamp", deserialize_with = "wire::is_there")]
    pub(super) deleting: bool,
}

impl Meta {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace; empty for nodes.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its labels.
    pub fn labels(&self) -> &Pairs {
        &self.labels
    }

    /// Its annotations.
    pub fn annotations(&self) -> &Pairs {
        &self.annotations
    }
}

/// An object that another belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) kind: Arc<str>,
    pub(super) name: Arc<str>,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "wire::Node")]
pub struct Node {
    pub(super) meta: Meta,
    pub(super) provider_id: Box<str>,
    /// By type, in the order of the list.
    pub(super) addresses: Box<[(Arc<str>, Box<str>)]>,
    pub(super) kubelet_port: i32,
    /// Type and status, in lower case.
    pub(super) conditions: Box<[(Arc<str>, Arc<str>)]>,
}

impl Node {
    /// Its name and labels.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }
}

/// Containers that run together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "wire::Pod")]
pub struct Pod {
    pub(super) meta: Meta,
    pub(super) node_name: Arc<str>,
    pub(super) ip: Box<str>,
    pub(super) host_ip: Arc<str>,
    pub(super) phase: Arc<str>,
    /// `true`, `false` or `unknown`.
    pub(super) ready: Arc<str>,
    pub(super) ready_since: Option<Timestamp>,
    pub(super) started: Option<Timestamp>,
    pub(super) requests: Requests,
    /// The usual ones, then init containers.
    pub(super) containers: Box<[Container]>,
}

impl Pod {
    /// Its name, namespace and labels.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The node it is on; empty before it is on one.
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub fn phase(&self) -> &str {
        &self.phase
    }

    /// Its condition Ready: `true`, `false` or `unknown`, and since when. `None` if it has none.
    pub fn ready(&self) -> Option<(&str, Timestamp)> {
        Some((&*self.ready, self.ready_since?))
    }

    /// When the kubelet took it.
    pub fn started(&self) -> Option<Timestamp> {
        self.started
    }

    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.meta.deleting
    }

    /// What it requests as a whole, apart from its containers.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The usual ones, then init containers.
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }
}

/// Amounts of resources by their names, as they are written: `cpu` and `250m`.
pub type Requests = Pairs;

/// One of a pod's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub(super) name: Arc<str>,
    pub(super) image: Arc<str>,
    pub(super) id: Box<str>,
    pub(super) init: bool,
    pub(super) sidecar: bool,
    pub(super) requests: Requests,
    pub(super) ports: Box<[Port]>,
}

impl Container {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it runs before the others.
    pub fn is_init(&self) -> bool {
        self.init
    }

    /// Whether it is an init container that goes on beside the others (`restartPolicy: Always`).
    pub fn is_sidecar(&self) -> bool {
        self.sidecar
    }

    /// What it requests.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }
}

/// A port of a container or of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Port {
    pub(super) name: Arc<str>,
    pub(super) number: i32,
    pub(super) protocol: Arc<str>,
}

/// A name for pods.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "wire::Service")]
pub(super) struct Service {
    pub(super) meta: Meta,
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    pub(super) kind: Arc<str>,
    pub(super) cluster_ip: Box<str>,
    pub(super) external_name: Box<str>,
    pub(super) load_balancer_ip: Box<str>,
    pub(super) ports: Box<[Port]>,
}

/// Paths from outside to services.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "wire::Ingress")]
pub(super) struct Ingress {
    pub(super) meta: Meta,
    pub(super) class: Arc<str>,
    /// Hosts that are served with TLS; `*.` may begin them.
    pub(super) tls_hosts: Box<[Box<str>]>,
    pub(super) rules: Box<[IngressRule]>,
}

/// One host of an ingress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IngressRule {
    pub(super) host: Box<str>,
    /// `None` where the rule says nothing of HTTP.
    pub(super) paths: Option<Box<[Box<str>]>>,
}

/// A namespace: nothing but its labels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(super) struct Namespace {
    #[serde(rename = "metadata")]
    pub(super) meta: Meta,
}

/// An object of a kind that the scraper has no use for itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(from = "wire::Document")]
pub struct Document {
    pub(super) meta: Meta,
    pub(super) json: Box<str>,
}

impl Document {
    /// Its name, namespace and labels.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// All of it as JSON, without its version and who manages which field.
    pub fn json(&self) -> &str {
        &self.json
    }
}

/// An object of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Object {
    Node(Node),
    Pod(Pod),
    Service(Service),
    Endpoints(Endpoints),
    EndpointSlice(EndpointSlice),
    Ingress(Ingress),
    Namespace(Namespace),
    HorizontalPodAutoscaler(Document),
    ConfigMap(Document),
}

impl Object {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Node(_) => Kind::Node,
            Self::Pod(_) => Kind::Pod,
            Self::Service(_) => Kind::Service,
            Self::Endpoints(_) => Kind::Endpoints,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Ingress(_) => Kind::Ingress,
            Self::Namespace(_) => Kind::Namespace,
            Self::HorizontalPodAutoscaler(_) => Kind::HorizontalPodAutoscaler,
            Self::ConfigMap(_) => Kind::ConfigMap,
        }
    }

    pub(super) fn meta(&self) -> &Meta {
        match self {
            Self::Node(object) => &object.meta,
            Self::Pod(object) => &object.meta,
            Self::Service(object) => &object.meta,
            Self::Endpoints(object) => &object.meta,
            Self::EndpointSlice(object) => &object.meta,
            Self::Ingress(object) => &object.meta,
            Self::Namespace(object) => &object.meta,
            Self::HorizontalPodAutoscaler(object) | Self::ConfigMap(object) => &object.meta,
        }
    }

    fn meta_mut(&mut self) -> &mut Meta {
        match self {
            Self::Node(object) => &mut object.meta,
            Self::Pod(object) => &mut object.meta,
            Self::Service(object) => &mut object.meta,
            Self::Endpoints(object) => &mut object.meta,
            Self::EndpointSlice(object) => &mut object.meta,
            Self::Ingress(object) => &mut object.meta,
            Self::Namespace(object) => &mut object.meta,
            Self::HorizontalPodAutoscaler(object) | Self::ConfigMap(object) => &mut object.meta,
        }
    }

    pub(super) fn key(&self) -> Key {
        let meta = self.meta();
        Key {
            namespace: Arc::clone(&meta.namespace),
            name: Arc::clone(&meta.name),
        }
    }

    /// The version of this state of the object, which is not kept with it.
    pub(super) fn take_version(&mut self) -> Box<str> {
        std::mem::take(&mut self.meta_mut().resource_version)
    }

    /// Lets equal texts of many objects be one.
    pub(super) fn intern(&mut self, interner: &mut Interner) {
        let meta = self.meta_mut();
        interner.fold(&mut meta.namespace);
        meta.labels.intern(interner);
        meta.annotations.intern(interner);
        if let Some(owner) = &mut meta.controller {
            interner.fold(&mut owner.kind);
            interner.fold(&mut owner.name);
        }
        match self {
            Self::Pod(pod) => {
                for text in [&mut pod.node_name, &mut pod.host_ip, &mut pod.phase, &mut pod.ready] {
                    interner.fold(text);
                }
                pod.requests.intern(interner);
                for container in &mut pod.containers {
                    interner.fold(&mut container.name);
                    interner.fold(&mut container.image);
                    container.requests.intern(interner);
                    fold_ports(&mut container.ports, interner);
                }
            }
            Self::Service(service) => {
                interner.fold(&mut service.kind);
                fold_ports(&mut service.ports, interner);
            }
            Self::Endpoints(endpoints) => endpoints.intern(interner),
            Self::EndpointSlice(slice) => slice.intern(interner),
            Self::Node(_)
            | Self::Ingress(_)
            | Self::Namespace(_)
            | Self::HorizontalPodAutoscaler(_)
            | Self::ConfigMap(_) => {}
        }
    }

    /// About how many bytes it takes; texts that are shared are counted each time.
    pub(super) fn bytes(&self) -> usize {
        let meta = self.meta();
        let owner = meta.controller.as_ref().map_or(0, |o| o.kind.len() + o.name.len());
        let texts = meta.name.len() + meta.uid.len() + meta.labels.heap_bytes() + meta.annotations.heap_bytes() + owner;
        let own = match self {
            Self::Node(node) => 64 * (node.addresses.len() + node.conditions.len()) + node.provider_id.len(),
            Self::Pod(pod) => {
                let container = |c: &Container| {
                    let texts = c.name.len() + c.image.len() + c.id.len() + c.requests.heap_bytes();
                    size_of::<Container>() + texts + ports_bytes(&c.ports)
                };
                pod.ip.len() + pod.requests.heap_bytes() + pod.containers.iter().map(container).sum::<usize>()
            }
            Self::Service(service) => service.cluster_ip.len() + ports_bytes(&service.ports),
            Self::Endpoints(endpoints) => endpoints.heap_bytes(),
            Self::EndpointSlice(slice) => slice.heap_bytes(),
            Self::Ingress(ingress) => 64 * (ingress.rules.len() + ingress.tls_hosts.len()),
            Self::Namespace(_) => 0,
            Self::HorizontalPodAutoscaler(document) | Self::ConfigMap(document) => document.json.len(),
        };
        size_of::<Self>() + texts + own
    }
}

fn fold_ports(ports: &mut [Port], interner: &mut Interner) {
    for port in ports {
        interner.fold(&mut port.name);
        interner.fold(&mut port.protocol);
    }
}

fn ports_bytes(ports: &[Port]) -> usize {
    ports.iter().map(|port| size_of::<Port>() + port.name.len()).sum()
}
