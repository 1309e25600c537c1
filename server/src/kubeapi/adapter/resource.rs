//! The kinds of objects there are, by the names that rules and requests use for them.
//!
//! The usual ones are known by heart, so that rules are understood before the API server has answered, and without one.
//! What the API server says is put over them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A kind of objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Resource {
    /// `apps`; empty for the core.
    pub(crate) group: String,
    /// `v1`: the version that the API server prefers.
    pub(crate) version: String,
    /// `deployments`
    pub(crate) plural: String,
    /// `deployment`
    pub(crate) singular: String,
    /// `Deployment`
    pub(crate) kind: String,
    /// Whether its objects lie in namespaces.
    pub(crate) namespaced: bool,
}

impl Resource {
    fn usual((group, version, plural, singular, kind, namespaced): Usual) -> Self {
        let [group, version, plural, singular, kind] = [group, version, plural, singular, kind].map(str::to_owned);
        Self {
            group,
            version,
            plural,
            singular,
            kind,
            namespaced,
        }
    }

    /// `apps/v1`, `v1`.
    pub(crate) fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Whether it is this one of the core.
    pub(crate) fn is_core(&self, plural: &str) -> bool {
        self.group.is_empty() && self.plural == plural
    }
}

impl fmt::Display for Resource {
    /// `deployments.apps`, `pods`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.plural)?;
        match self.group.as_str() {
            "" => Ok(()),
            group => write!(f, ".{group}"),
        }
    }
}

/// Group, version, plural, singular, kind, namespaced.
type Usual = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    bool,
);

/// In the order in which a name without a group is looked for.
const USUAL: [Usual; 20] = [
    ("", "v1", "pods", "pod", "Pod", true),
    ("", "v1", "services", "service", "Service", true),
    ("", "v1", "namespaces", "namespace", "Namespace", false),
    ("", "v1", "nodes", "node", "Node", false),
    (
        "",
        "v1",
        "persistentvolumeclaims",
        "persistentvolumeclaim",
        "PersistentVolumeClaim",
        true,
    ),
    (
        "",
        "v1",
        "persistentvolumes",
        "persistentvolume",
        "PersistentVolume",
        false,
    ),
    (
        "",
        "v1",
        "replicationcontrollers",
        "replicationcontroller",
        "ReplicationController",
        true,
    ),
    ("", "v1", "endpoints", "endpoints", "Endpoints", true),
    ("", "v1", "configmaps", "configmap", "ConfigMap", true),
    ("", "v1", "secrets", "secret", "Secret", true),
    ("", "v1", "serviceaccounts", "serviceaccount", "ServiceAccount", true),
    ("apps", "v1", "deployments", "deployment", "Deployment", true),
    ("apps", "v1", "statefulsets", "statefulset", "StatefulSet", true),
    ("apps", "v1", "daemonsets", "daemonset", "DaemonSet", true),
    ("apps", "v1", "replicasets", "replicaset", "ReplicaSet", true),
    ("batch", "v1", "jobs", "job", "Job", true),
    ("batch", "v1", "cronjobs", "cronjob", "CronJob", true),
    ("networking.k8s.io", "v1", "ingresses", "ingress", "Ingress", true),
    (
        "discovery.k8s.io",
        "v1",
        "endpointslices",
        "endpointslice",
        "EndpointSlice",
        true,
    ),
    (
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
        "horizontalpodautoscaler",
        "HorizontalPodAutoscaler",
        true,
    ),
];

/// More kinds than this are not taken from an API server.
const MAX_RESOURCES: usize = 10_000;

/// The kinds that are known.
#[derive(Debug, Clone)]
pub(crate) struct Resources {
    /// In order of preference.
    all: Vec<Arc<Resource>>,
    /// By plural and singular, in lower case: places in `all`, rising.
    by_name: HashMap<String, Vec<usize>>,
}

impl Default for Resources {
    /// The usual ones.
    fn default() -> Self {
        Self::new(std::iter::empty())
    }
}

impl Resources {
    /// The usual ones and these, which count where both know a kind.
    pub(crate) fn new(told: impl IntoIterator<Item = Resource>) -> Self {
        let mut all: Vec<Resource> = USUAL.into_iter().map(Resource::usual).collect();
        for one in told {
            let full = all.len() >= MAX_RESOURCES;
            match all.iter_mut().find(|r| r.group == one.group && r.plural == one.plural) {
                Some(known) => *known = one,
                None if full => break,
                None => all.push(one),
            }
        }
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, one) in all.iter().enumerate() {
            let plural = by_name.entry(one.plural.to_lowercase()).or_default();
            plural.push(at);
            if one.singular != one.plural {
                by_name.entry(one.singular.to_lowercase()).or_default().push(at);
            }
        }
        Self {
            all: all.into_iter().map(Arc::new).collect(),
            by_name,
        }
    }

    /// All of them, in order of preference.
    pub(crate) fn all(&self) -> &[Arc<Resource>] {
        &self.all
    }

    /// The kind of this name, plural or singular, in this group; in any if none is told.
    pub(crate) fn find(&self, group: &str, name: &str) -> Option<&Arc<Resource>> {
        self.first(name, |one| group.is_empty() || one.group == group)
    }

    /// The same, where the group is written as in a label: with `_` for what a label may not hold.
    pub(crate) fn find_sanitized(&self, group: &str, name: &str) -> Option<&Arc<Resource>> {
        self.first(name, |one| group.is_empty() || sanitized(&one.group) == group)
    }

    /// The kind as a request names it: `pods`, `deployments.apps`.
    pub(crate) fn find_qualified(&self, text: &str) -> Option<&Arc<Resource>> {
        match text.split_once('.') {
            Some((name, group)) => self.find(group, name),
            None => self.find("", text),
        }
    }

    fn first(&self, name: &str, fits: impl Fn(&Resource) -> bool) -> Option<&Arc<Resource>> {
        let places = self.by_name.get(&name.to_lowercase())?;
        let mut found = places.iter().filter_map(|at| self.all.get(*at));
        found.find(|one| fits(one))
    }
}

/// A group as it stands in labels.
pub(crate) fn sanitized(group: &str) -> String {
    group.replace(['.', '-'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_found_by_every_name() {
        let brand = Resource {
            group: "cheese.io".to_owned(),
            version: "v1alpha1".to_owned(),
            plural: "brands".to_owned(),
            singular: "brand".to_owned(),
            kind: "Brand".to_owned(),
            namespaced: true,
        };
        let newer = Resource {
            version: "v2beta9".to_owned(),
            ..Resource::usual(USUAL[17])
        };
        let resources = Resources::new([brand, newer]);
        for (text, found) in [
            ("pods", Some("pods v1")),
            ("pod", Some("pods v1")),
            ("Pod", Some("pods v1")),
            ("deployment", Some("deployments.apps apps/v1")),
            ("deployments.apps", Some("deployments.apps apps/v1")),
            ("deployments.extensions", None),
            (
                "ingresses.networking.k8s.io",
                Some("ingresses.networking.k8s.io networking.k8s.io/v2beta9"),
            ),
            ("brand", Some("brands.cheese.io cheese.io/v1alpha1")),
            ("endpoints", Some("endpoints v1")),
            ("instance", None),
            ("", None),
        ] {
            let one = resources.find_qualified(text);
            let one = one.map(|r| format!("{r} {}", r.api_version()));
            assert_eq!(one.as_deref(), found, "{text}");
        }
        let by_label = resources.find_sanitized("networking_k8s_io", "ingress").unwrap();
        assert_eq!(by_label.kind, "Ingress");
        assert!(Resources::default().find("", "brand").is_none());
    }
}
