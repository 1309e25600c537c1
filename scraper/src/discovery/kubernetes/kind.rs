//! The kinds of objects that are read, and where the API has them.

use super::object::{Document, EndpointSlice, Endpoints, Ingress, Namespace, Node, Object, Pod, Service};
use crate::config::KubernetesRole;
use kube_core::WatchEvent;
use serde::de::DeserializeOwned;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A machine.
    Node,
    /// Containers that run together.
    Pod,
    /// A name for pods.
    Service,
    /// A service's addresses, all in one object.
    Endpoints,
    /// A service's addresses, in pieces.
    EndpointSlice,
    /// Paths from outside to services.
    Ingress,
    /// Read only for the labels that `attach_metadata` adds.
    Namespace,
    /// How many replicas there should be. Discovery has no use for it.
    HorizontalPodAutoscaler,
    /// Settings. Discovery has no use for it.
    ConfigMap,
}

impl From<KubernetesRole> for Kind {
    fn from(role: KubernetesRole) -> Self {
        match role {
            KubernetesRole::Node => Self::Node,
            KubernetesRole::Pod => Self::Pod,
            KubernetesRole::Service => Self::Service,
            KubernetesRole::Endpoints => Self::Endpoints,
            KubernetesRole::EndpointSlice => Self::EndpointSlice,
            KubernetesRole::Ingress => Self::Ingress,
        }
    }
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 9] = [
        Self::Node,
        Self::Pod,
        Self::Service,
        Self::Endpoints,
        Self::EndpointSlice,
        Self::Ingress,
        Self::Namespace,
        Self::HorizontalPodAutoscaler,
        Self::ConfigMap,
    ];

    /// As roles, labels and metrics name it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Pod => "pod",
            Self::Service => "service",
            Self::Endpoints => "endpoints",
            Self::EndpointSlice => "endpointslice",
            Self::Ingress => "ingress",
            Self::Namespace => "namespace",
            Self::HorizontalPodAutoscaler => "horizontalpodautoscaler",
            Self::ConfigMap => "configmap",
        }
    }

    /// As the API and RBAC rules name it.
    pub(super) fn resource(self) -> &'static str {
        match self {
            Self::Node => "nodes",
            Self::Pod => "pods",
            Self::Service => "services",
            Self::Endpoints => "endpoints",
            Self::EndpointSlice => "endpointslices",
            Self::Ingress => "ingresses",
            Self::Namespace => "namespaces",
            Self::HorizontalPodAutoscaler => "horizontalpodautoscalers",
            Self::ConfigMap => "configmaps",
        }
    }

    /// The API group, as RBAC rules name it: the core group is the empty text.
    pub(super) fn group(self) -> &'static str {
        match self {
            Self::EndpointSlice => "discovery.k8s.io",
            Self::Ingress => "networking.k8s.io",
            Self::HorizontalPodAutoscaler => "autoscaling",
            _ => "",
        }
    }

    /// The version that is read.
    fn version(self) -> &'static str {
        match self {
            Self::HorizontalPodAutoscaler => "v2",
            _ => "v1",
        }
    }

    /// Whether its objects are in namespaces.
    pub(super) fn namespaced(self) -> bool {
        !matches!(self, Self::Node | Self::Namespace)
    }

    /// The path of the collection.
    pub(super) fn path(self, namespace: Option<&str>) -> String {
        let root = match self.group() {
            "" => "/api/v1".to_owned(),
            group => format!("/apis/{group}/{}", self.version()),
        };
        match namespace.filter(|_| self.namespaced()) {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}", self.resource()),
            None => format!("{root}/{}", self.resource()),
        }
    }

    /// Reads one object.
    pub(super) fn object(self, json: &[u8]) -> Result<Object, serde_json::Error> {
        match self {
            Self::Node => read(json, Object::Node),
            Self::Pod => read(json, Object::Pod),
            Self::Service => read(json, Object::Service),
            Self::Endpoints => read(json, Object::Endpoints),
            Self::EndpointSlice => read(json, Object::EndpointSlice),
            Self::Ingress => read(json, Object::Ingress),
            Self::Namespace => read(json, Object::Namespace),
            Self::HorizontalPodAutoscaler => read(json, Object::HorizontalPodAutoscaler),
            Self::ConfigMap => read(json, Object::ConfigMap),
        }
    }

    /// Reads one event of a watch.
    pub(super) fn event(self, json: &[u8]) -> Result<WatchEvent<Object>, serde_json::Error> {
        match self {
            Self::Node => read_event::<Node>(json, Object::Node),
            Self::Pod => read_event::<Pod>(json, Object::Pod),
            Self::Service => read_event::<Service>(json, Object::Service),
            Self::Endpoints => read_event::<Endpoints>(json, Object::Endpoints),
            Self::EndpointSlice => read_event::<EndpointSlice>(json, Object::EndpointSlice),
            Self::Ingress => read_event::<Ingress>(json, Object::Ingress),
            Self::Namespace => read_event::<Namespace>(json, Object::Namespace),
            Self::HorizontalPodAutoscaler => read_event::<Document>(json, Object::HorizontalPodAutoscaler),
            Self::ConfigMap => read_event::<Document>(json, Object::ConfigMap),
        }
    }
}

fn read<T: DeserializeOwned>(json: &[u8], wrap: fn(T) -> Object) -> Result<Object, serde_json::Error> {
    serde_json::from_slice(json).map(wrap)
}

fn read_event<T: DeserializeOwned>(
    json: &[u8],
    wrap: fn(T) -> Object,
) -> Result<WatchEvent<Object>, serde_json::Error> {
    Ok(match serde_json::from_slice(json)? {
        WatchEvent::Added(object) => WatchEvent::Added(wrap(object)),
        WatchEvent::Modified(object) => WatchEvent::Modified(wrap(object)),
        WatchEvent::Deleted(object) => WatchEvent::Deleted(wrap(object)),
        WatchEvent::Bookmark(bookmark) => WatchEvent::Bookmark(bookmark),
        WatchEvent::Error(status) => WatchEvent::Error(status),
    })
}
