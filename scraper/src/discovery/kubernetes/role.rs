//! From objects to targets, role by role: pure functions of one object and what it refers to.

mod endpoints;
mod ingress;
mod node;
mod pod;
mod service;
mod slice;

use super::kind::Kind;
use super::labels::{MetaLabels, join_host_port};
use super::object::{Container, EndpointSlice, Key, Object, Pod, Port, TargetRef};
use crate::discovery::TargetGroup;
use std::sync::Arc;
use tidegauge_model::Labels;

/// The label that names a slice's service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Where objects that others refer to are looked up.
pub(super) trait Lookup {
    /// An object, if there is one and its kind is watched.
    fn get(&self, kind: Kind, key: &Key) -> Option<Arc<Object>>;
}

/// What is added to targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attach {
    /// Labels and annotations of the node.
    pub(super) node: bool,
    /// Labels and annotations of the namespace.
    pub(super) namespace: bool,
    /// Pods on nodes that are not known are left out, since nodes are selected.
    pub(super) only_known_nodes: bool,
}

impl Attach {
    fn nodes(self) -> bool {
        self.node || self.only_known_nodes
    }
}

/// The name of an object's group.
pub(super) fn source(role: Kind, key: &Key) -> String {
    let role = if role == Kind::Service { "svc" } else { role.as_str() };
    if key.namespace.is_empty() {
        format!("{role}/{}", key.name)
    } else {
        format!("{role}/{}/{}", key.namespace, key.name)
    }
}

/// The group of an object that is not there.
pub(super) fn empty_group(role: Kind, key: &Key) -> TargetGroup {
    TargetGroup {
        source: source(role, key),
        targets: Vec::new(),
        labels: Labels::empty(),
    }
}

/// The targets of an object.
pub(super) fn group(object: &Object, attach: Attach, lookup: &dyn Lookup) -> TargetGroup {
    let mut group = empty_group(object.kind(), &object.key());
    let mut labels = MetaLabels::default();
    group.targets = match object {
        Object::Node(node) => node::targets(node, &mut labels),
        Object::Pod(pod) => pod::targets(pod, attach, lookup, &mut labels),
        Object::Service(service) => service::targets(service, &mut labels),
        Object::Endpoints(endpoints) => endpoints::targets(endpoints, attach, lookup, &mut labels),
        Object::EndpointSlice(slice) => slice::targets(slice, attach, lookup, &mut labels),
        Object::Ingress(ingress) => ingress::targets(ingress, &mut labels),
        Object::Namespace(_) | Object::HorizontalPodAutoscaler(_) | Object::ConfigMap(_) => Vec::new(),
    };
    if group.targets.is_empty() {
        return group;
    }
    let namespace = &object.meta().namespace;
    if attach.namespace
        && let Some(namespace) = lookup.get(Kind::Namespace, &cluster_key(namespace))
    {
        labels.pairs(Kind::Namespace, namespace.meta());
    }
    group.labels = labels.build();
    group
}

/// What an object refers to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refers<'a> {
    /// Namespace and name, as in the others.
    Pod(&'a Arc<str>, &'a Arc<str>),
    Service(&'a Arc<str>, &'a str),
    Node(&'a Arc<str>),
}

/// Whether any of what this object's targets are made of, but itself, is what `changed` says.
pub(super) fn refers(object: &Object, attach: Attach, mut changed: impl FnMut(Refers<'_>) -> bool) -> bool {
    let mut to = |target: Option<&TargetRef>, node: Option<&Arc<str>>| {
        let to_target = target.is_some_and(|target| match &*target.kind {
            "Pod" => changed(Refers::Pod(&target.namespace, &target.name)),
            "Node" if attach.node => changed(Refers::Node(&target.name)),
            _ => false,
        });
        to_target || (attach.node && node.is_some_and(|node| changed(Refers::Node(node))))
    };
    match object {
        Object::Pod(pod) => attach.nodes() && changed(Refers::Node(&pod.node_name)),
        Object::Endpoints(endpoints) => {
            endpoints
                .addresses()
                .any(|address| to(address.target_ref.as_ref(), address.node_name.as_ref()))
                || changed(Refers::Service(&endpoints.meta.namespace, &endpoints.meta.name))
        }
        Object::EndpointSlice(slice) => {
            slice
                .endpoints
                .iter()
                .any(|endpoint| to(endpoint.target_ref.as_ref(), endpoint.node_name.as_ref()))
                || slice_service(slice).is_some_and(|name| changed(Refers::Service(&slice.meta.namespace, name)))
        }
        _ => false,
    }
}

fn slice_service(slice: &EndpointSlice) -> Option<&str> {
    slice.meta.labels.get(SERVICE_NAME)
}

/// The key of a node or a namespace.
fn cluster_key(name: &Arc<str>) -> Key {
    Key {
        namespace: Arc::from(""),
        name: Arc::clone(name),
    }
}

/// Adds the labels of a node. An unknown one adds nothing.
fn attach_node(labels: &mut MetaLabels, name: &Arc<str>, lookup: &dyn Lookup) {
    if let Some(node) = lookup.get(Kind::Node, &cluster_key(name)) {
        labels.object(Kind::Node, node.meta());
    }
}

/// Adds the labels of the service of this name.
fn attach_service(labels: &mut MetaLabels, namespace: &Arc<str>, name: &str, lookup: &dyn Lookup) {
    let key = Key {
        namespace: Arc::clone(namespace),
        name: Arc::from(name),
    };
    if let Some(service) = lookup.get(Kind::Service, &key) {
        labels.object(Kind::Service, service.meta());
    }
}

/// What is said of a container whatever port of it is meant.
fn container_labels(labels: &mut MetaLabels, container: &Container) {
    labels
        .set("pod_container_name", &container.name)
        .set("pod_container_image", &container.image)
        .set_flag("pod_container_init", Some(container.init));
}

fn port_labels(labels: &mut MetaLabels, name: &str, number: i32, protocol: &str) {
    labels
        .set("pod_container_port_name", name)
        .set("pod_container_port_number", &number.to_string())
        .set("pod_container_port_protocol", protocol);
}

/// Ports that have targets: number and protocol.
type Covered = Vec<(i32, Arc<str>)>;

/// The pods behind the addresses of a service, each with the ports that have targets already.
#[derive(Debug, Default)]
struct Backing {
    pods: Vec<(Arc<Object>, Covered)>,
}

impl Backing {
    /// If the target is a pod, adds what is known of it, and of the containers whose port it is; says whether there is
    /// such a container.
    fn attach_pod(
        &mut self,
        labels: &mut MetaLabels,
        target: Option<&TargetRef>,
        port: Option<i32>,
        protocol: &Arc<str>,
        lookup: &dyn Lookup,
    ) -> bool {
        let Some(target) = target.filter(|target| &*target.kind == "Pod") else {
            return false;
        };
        let key = Key {
            namespace: Arc::clone(&target.namespace),
            name: Arc::clone(&target.name),
        };
        let Some(object) = lookup.get(Kind::Pod, &key) else {
            return false;
        };
        let Object::Pod(pod) = &*object else { return false };
        labels.pod(pod);
        let mut declared_any = false;
        for container in &pod.containers {
            if let Some(declared) = container.ports.iter().find(|declared| Some(declared.number) == port) {
                declared_any = true;
                container_labels(labels, container);
                port_labels(labels, &declared.name, declared.number, &declared.protocol);
            }
        }
        let covered = port.map(|number| (number, Arc::clone(protocol)));
        match self.pods.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &object)) {
            Some((_, ports)) => ports.extend(covered),
            None => self.pods.push((object, covered.into_iter().collect())),
        }
        declared_any
    }

    /// A target for each port that containers declare and the service does not have.
    fn undeclared(self, targets: &mut Vec<Labels>) {
        for (object, covered) in &self.pods {
            let Object::Pod(pod) = &**object else { continue };
            if pod.ip.is_empty() {
                continue;
            }
            for (container, port) in container_ports(pod) {
                let is_covered = covered
                    .iter()
                    .any(|(number, protocol)| *number == port.number && *protocol == port.protocol);
                if is_covered {
                    continue;
                }
                let mut labels = MetaLabels::at(&join_host_port(&pod.ip, port.number));
                container_labels(&mut labels, container);
                port_labels(&mut labels, &port.name, port.number, &port.protocol);
                labels.pod(pod);
                targets.push(labels.build());
            }
        }
    }
}

fn container_ports(pod: &Pod) -> impl Iterator<Item = (&Container, &Port)> {
    pod.containers
        .iter()
        .flat_map(|container| container.ports.iter().map(move |port| (container, port)))
}

#[cfg(test)]
mod tests;
