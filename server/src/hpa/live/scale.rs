//! The scale of what an autoscaler scales: where it is, and what it says.

use crate::hpa::formula::Scale;
use crate::hpa::spec::ObjectRef;
use serde::Deserialize;

/// A resource of the API whose objects have a scale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The API group; empty for the core.
    pub group: String,
    /// The version it is asked in.
    pub version: String,
    /// `deployments`.
    pub plural: String,
}

/// Kinds that every cluster has: group, kind, plural. They are served as v1, whatever version an autoscaler names.
const KNOWN: [(&str, &str, &str); 4] = [
    ("apps", "Deployment", "deployments"),
    ("apps", "StatefulSet", "statefulsets"),
    ("apps", "ReplicaSet", "replicasets"),
    ("", "ReplicationController", "replicationcontrollers"),
];

/// A group and a version out of `apps/v1` or `v1`.
fn group_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

impl Resource {
    /// That of a kind that every cluster has.
    pub fn known(target: &ObjectRef) -> Option<Self> {
        let (group, _) = group_version(&target.api_version);
        let known = KNOWN.iter().find(|(g, kind, _)| *g == group && *kind == target.kind)?;
        Some(Self {
            group: group.to_owned(),
            version: "v1".to_owned(),
            plural: known.2.to_owned(),
        })
    }

    /// Where the API lists what the group of a target has; `None` if no such group can be.
    pub fn list_path(target: &ObjectRef) -> Option<String> {
        let (group, version) = group_version(&target.api_version);
        let is_name = |text: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
            !text.is_empty() && text.bytes().all(allowed)
        };
        match group {
            "" if is_name(version) => Some(format!("/api/{version}")),
            group if is_name(group) && is_name(version) => Some(format!("/apis/{group}/{version}")),
            _ => None,
        }
    }

    /// Finds a kind in what the API lists of its group.
    ///
    /// # Errors
    /// If it is not there, or its objects have no scale.
    pub fn listed(target: &ObjectRef, list: &[u8]) -> Result<Self, String> {
        let list: List = serde_json::from_slice(list).map_err(|error| format!("the list of resources: {error}"))?;
        let (group, version) = group_version(&target.api_version);
        let found = list
            .resources
            .iter()
            .find(|one| one.kind == target.kind && !one.name.contains('/'));
        let Some(found) = found else {
            return Err(no_match(target));
        };
        let scale = format!("{}/scale", found.name);
        if !list.resources.iter().any(|one| one.name == scale) {
            return Err(format!("{}.{group} have no scale", found.name));
        }
        Ok(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: found.name.clone(),
        })
    }

    /// The path of the scale of an object. Names come from objects of the cluster, whose names are checked there.
    pub fn scale_path(&self, namespace: &str, name: &str) -> String {
        let Self { group, version, plural } = self;
        let root = match group.as_str() {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        let escaped = |text: &str| percent_encoding::utf8_percent_encode(text, ESCAPED).to_string();
        format!(
            "{root}/namespaces/{}/{plural}/{}/scale",
            escaped(namespace),
            escaped(name)
        )
    }

    /// As rules of RBAC name its scale: `deployments/scale.apps`.
    pub fn scale_permission(&self) -> String {
        match self.group.as_str() {
            "" => format!("{}/scale", self.plural),
            group => format!("{}/scale.{group}", self.plural),
        }
    }
}

/// What has no place in a segment of a path.
const ESCAPED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What the controller says of a kind that is nowhere.
pub fn no_match(target: &ObjectRef) -> String {
    let (group, _) = group_version(&target.api_version);
    format!("no matches for kind {:?} in group {group:?}", target.kind)
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    resources: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    #[serde(default)]
    kind: String,
}

/// What a scale says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetScale {
    /// How many replicas.
    pub replicas: Scale,
    /// Which pods are its own, as the text of a label selector.
    pub selector: String,
}

impl TargetScale {
    /// Reads an `autoscaling/v1` Scale.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let read: ScaleJson = serde_json::from_slice(json).map_err(|error| format!("the scale: {error}"))?;
        Ok(Self {
            replicas: Scale {
                spec: read.spec.replicas,
                status: read.status.replicas,
            },
            selector: read.status.selector,
        })
    }
}

#[derive(Deserialize)]
struct ScaleJson {
    #[serde(default)]
    spec: Replicas,
    #[serde(default)]
    status: ScaleStatus,
}

#[derive(Deserialize, Default)]
struct Replicas {
    #[serde(default)]
    replicas: i32,
}

#[derive(Deserialize, Default)]
struct ScaleStatus {
    #[serde(default)]
    replicas: i32,
    #[serde(default)]
    selector: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(api_version: &str, kind: &str) -> ObjectRef {
        ObjectRef {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: "web".to_owned(),
        }
    }

    #[test]
    fn usual_kinds_are_known_whatever_version_is_named() {
        for (api_version, kind, path, permission) in [
            (
                "apps/v1",
                "Deployment",
                "/apis/apps/v1/namespaces/shop/deployments/web/scale",
                "deployments/scale.apps",
            ),
            (
                "apps/v1beta2",
                "StatefulSet",
                "/apis/apps/v1/namespaces/shop/statefulsets/web/scale",
                "statefulsets/scale.apps",
            ),
            (
                "v1",
                "ReplicationController",
                "/api/v1/namespaces/shop/replicationcontrollers/web/scale",
                "replicationcontrollers/scale",
            ),
        ] {
            let known = Resource::known(&target(api_version, kind)).unwrap();
            assert_eq!(known.scale_path("shop", "web"), path);
            assert_eq!(known.scale_permission(), permission);
        }
        for (api_version, kind) in [("v1", "Deployment"), ("", "Deployment"), ("apps/v1", "DaemonSet")] {
            assert_eq!(
                Resource::known(&target(api_version, kind)),
                None,
                "{api_version} {kind}"
            );
        }
    }

    #[test]
    fn other_kinds_are_found_in_what_the_api_lists() {
        let list = br#"{"kind":"APIResourceList","groupVersion":"argoproj.io/v1alpha1","resources":[
            {"name":"rollouts","kind":"Rollout","namespaced":true},{"name":"rollouts/scale","kind":"Scale"},
            {"name":"rollouts/status","kind":"Rollout"},{"name":"workflows","kind":"Workflow"}]}"#;
        let rollout = target("argoproj.io/v1alpha1", "Rollout");
        assert_eq!(Resource::list_path(&rollout).unwrap(), "/apis/argoproj.io/v1alpha1");
        let found = Resource::listed(&rollout, list).unwrap();
        assert_eq!(
            found.scale_path("shop", "a/b"),
            "/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/a%2Fb/scale"
        );
        assert_eq!(found.scale_permission(), "rollouts/scale.argoproj.io");
        for (kind, why) in [
            ("Workflow", "workflows.argoproj.io have no scale"),
            ("Nothing", "no matches for kind \"Nothing\" in group \"argoproj.io\""),
        ] {
            assert_eq!(
                Resource::listed(&target("argoproj.io/v1alpha1", kind), list),
                Err(why.to_owned())
            );
        }
        assert!(Resource::listed(&rollout, b"{").is_err());
        for odd in ["", "a/b/c", "../x/v1", "a b/v1"] {
            assert_eq!(Resource::list_path(&target(odd, "X")), None, "{odd}");
        }
    }

    #[test]
    fn a_scale_says_how_many_and_which() {
        let json = br#"{"kind":"Scale","spec":{"replicas":6},"status":{"replicas":5,"selector":"app=web"}}"#;
        let read = TargetScale::read(json).unwrap();
        assert_eq!(read.replicas, Scale { spec: 6, status: 5 });
        assert_eq!(read.selector, "app=web");
        // No replicas are left out of the JSON.
        let none = TargetScale::read(br#"{"spec":{},"status":{"replicas":0}}"#).unwrap();
        assert_eq!(none.replicas, Scale { spec: 0, status: 0 });
        assert!(TargetScale::read(b"7").is_err());
    }
}
