//! The section `kubernetes_sd_configs`.

use super::discovery::Section;
use super::http::http_section;
use super::is_false;
use super::selector::{check_fields, check_labels};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::{Path, PathBuf};

/// What becomes a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KubernetesRole {
    /// The ports of containers.
    Pod,
    /// The ports of services.
    Service,
    /// The addresses behind services.
    Endpoints,
    /// The addresses behind services, in pieces.
    EndpointSlice,
    /// The kubelets.
    Node,
    /// Paths from outside.
    Ingress,
}

impl KubernetesRole {
    const ALL: [Self; 6] = [
        Self::Pod,
        Self::Service,
        Self::Endpoints,
        Self::EndpointSlice,
        Self::Node,
        Self::Ingress,
    ];

    /// As the file names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Service => "service",
            Self::Endpoints => "endpoints",
            Self::EndpointSlice => "endpointslice",
            Self::Node => "node",
            Self::Ingress => "ingress",
        }
    }

    /// The roles whose objects may be selected for this one.
    fn selectable(self) -> &'static [Self] {
        match self {
            Self::Pod => &[Self::Pod, Self::Node],
            Self::Service => &[Self::Service],
            Self::Endpoints => &[Self::Pod, Self::Service, Self::Endpoints],
            Self::EndpointSlice => &[Self::Pod, Self::Service, Self::EndpointSlice],
            Self::Node => &[Self::Node],
            Self::Ingress => &[Self::Ingress],
        }
    }
}

impl<'de> Deserialize<'de> for KubernetesRole {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let role = Self::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| serde::de::Error::custom(format_args!("unknown Kubernetes SD role {text:?}")))
    }
}

impl Serialize for KubernetesRole {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

/// `namespaces`: where objects are looked for. Neither key: everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesNamespaces {
    /// The namespace that this server runs in.
    pub own_namespace: bool,
    /// These.
    pub names: Vec<String>,
}

impl KubernetesNamespaces {
    fn is_everywhere(&self) -> bool {
        !self.own_namespace && self.names.is_empty()
    }
}

/// One of `selectors`: which objects of a role are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSelector {
    /// Whose objects.
    pub role: KubernetesRole,
    /// A label selector.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// A field selector.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// `attach_metadata`: what is added to targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesAttach {
    /// Labels and annotations of the node. Roles pod, endpoints and endpointslice.
    pub node: bool,
    /// Labels and annotations of the namespace: a key of later versions.
    #[serde(skip_serializing_if = "is_false")]
    pub namespace: bool,
}

impl KubernetesAttach {
    fn is_nothing(&self) -> bool {
        !self.node && !self.namespace
    }
}

http_section! {
    /// One of `kubernetes_sd_configs`: objects of the Kubernetes API that become targets.
    #[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct KubernetesSdConfig {
        before {
            /// The API server; empty for the one of the cluster that this server runs in.
            #[serde(skip_serializing_if = "String::is_empty", serialize_with = "super::http::url_without_password")]
            pub api_server: String,
            /// What becomes a target. Always given, once the section was checked.
            pub role: Option<KubernetesRole>,
            /// A file that says where the API server is and who we are there.
            #[serde(serialize_with = "path_or_empty", deserialize_with = "path_unless_empty")]
            pub kubeconfig_file: Option<PathBuf>,
        }
        after {
            /// Where objects are looked for.
            #[serde(skip_serializing_if = "KubernetesNamespaces::is_everywhere")]
            pub namespaces: KubernetesNamespaces,
            /// Which objects are asked for.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            pub selectors: Vec<KubernetesSelector>,
            /// What is added to targets.
            #[serde(skip_serializing_if = "KubernetesAttach::is_nothing")]
            pub attach_metadata: KubernetesAttach,
        }
        defaults {
            api_server: String::new(),
            role: None,
            kubeconfig_file: None,
            namespaces: KubernetesNamespaces::default(),
            selectors: Vec::new(),
            attach_metadata: KubernetesAttach::default(),
        }
    }
}

/// Upstream always shows this key.
fn path_or_empty<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.as_deref().map(Path::to_string_lossy).unwrap_or_default())
}

/// As it is shown, so it may be read again.
fn path_unless_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    let path = Option::<PathBuf>::deserialize(from)?;
    Ok(path.filter(|path| !path.as_os_str().is_empty()))
}

impl Section for KubernetesSdConfig {
    const KEY: &'static str = "kubernetes_sd_configs";

    /// The checks of upstream, in its order and words.
    fn check(&self) -> Result<(), String> {
        let Some(role) = self.role else {
            return fail("role missing (one of: pod, service, endpoints, endpointslice, node, ingress)");
        };
        self.check_http().map_err(|problem| problem.message)?;
        let has_server = !self.api_server.is_empty();
        let has_file = self.kubeconfig_file.is_some();
        let has_http = self.http() != Self::default().http();
        if has_server && has_file {
            return fail("cannot use 'kubeconfig_file' and 'api_server' simultaneously");
        }
        if has_file && has_http {
            return fail("cannot use a custom HTTP client configuration together with 'kubeconfig_file'");
        }
        if !has_server && has_http {
            return fail("to use custom HTTP client configuration please provide the 'api_server' URL explicitly");
        }
        if has_server && self.namespaces.own_namespace {
            return fail("cannot use 'api_server' and 'namespaces.own_namespace' simultaneously");
        }
        if has_file && self.namespaces.own_namespace {
            return fail("cannot use 'kubeconfig_file' and 'namespaces.own_namespace' simultaneously");
        }
        check_selectors(role, &self.selectors)
    }

    fn settle(&mut self) {
        self.settle_http();
    }

    fn set_directory(&mut self, folder: &Path) {
        self.set_http_directory(folder);
        if let Some(file) = &mut self.kubeconfig_file {
            *file = folder.join(&file);
        }
    }
}

fn fail(problem: &str) -> Result<(), String> {
    Err(problem.to_owned())
}

fn check_selectors(role: KubernetesRole, selectors: &[KubernetesSelector]) -> Result<(), String> {
    for (at, selector) in selectors.iter().enumerate() {
        if selectors.iter().take(at).any(|earlier| earlier.role == selector.role) {
            return Err(format!("duplicated selector role: {}", selector.role.as_str()));
        }
        if !role.selectable().contains(&selector.role) {
            let roles: Vec<&str> = role.selectable().iter().map(|role| role.as_str()).collect();
            return Err(format!(
                "{} role supports only {} selectors",
                role.as_str(),
                roles.join(", ")
            ));
        }
        check_fields(&selector.field)?;
        check_labels(&selector.label)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(yaml: &str) -> String {
        match serde_yaml_ng::from_str::<KubernetesSdConfig>(yaml) {
            Ok(section) => section.check().err().unwrap_or_default(),
            Err(problem) => problem.to_string(),
        }
    }

    #[test]
    fn sections_are_checked_as_upstream_does() {
        for (yaml, expected) in [
            ("{role: pod}", ""),
            ("{role: pod, kubeconfig_file: ''}", ""),
            (
                "{}",
                "role missing (one of: pod, service, endpoints, endpointslice, node, ingress)",
            ),
            ("{role: vacation}", "unknown Kubernetes SD role \"vacation\""),
            ("{role: pod, namespaces: {foo: x}}", "unknown field `foo`"),
            (
                "{role: pod, bearer_token: x}",
                "to use custom HTTP client configuration please provide the 'api_server' URL explicitly",
            ),
            ("{role: pod, bearer_token: x, api_server: 'https://h'}", ""),
            (
                "{role: pod, follow_redirects: false, kubeconfig_file: f}",
                "cannot use a custom HTTP client configuration together with 'kubeconfig_file'",
            ),
            (
                "{role: pod, api_server: 'http://h', kubeconfig_file: f}",
                "cannot use 'kubeconfig_file' and 'api_server' simultaneously",
            ),
            (
                "{role: pod, api_server: 'http://h', namespaces: {own_namespace: true}}",
                "cannot use 'api_server' and 'namespaces.own_namespace' simultaneously",
            ),
            (
                "{role: pod, selectors: [{role: pod}, {role: pod}]}",
                "duplicated selector role: pod",
            ),
            (
                "{role: pod, selectors: [{role: service}]}",
                "pod role supports only pod, node selectors",
            ),
            (
                "{role: endpointslice, selectors: [{role: node}]}",
                "endpointslice role supports only pod, service, endpointslice selectors",
            ),
            (
                "{role: pod, selectors: [{role: pod, field: 'a-b'}]}",
                "invalid selector: 'a-b'; can't understand 'a-b'",
            ),
        ] {
            let told = problem(yaml);
            assert!(
                told.contains(expected) && (!told.is_empty() || expected.is_empty()),
                "{yaml}: {told:?}"
            );
        }
    }

    #[test]
    fn what_is_shown_is_what_upstream_shows() {
        let shown = |yaml: &str| {
            let section: KubernetesSdConfig = serde_yaml_ng::from_str(yaml).unwrap();
            serde_yaml_ng::to_string(&section).unwrap()
        };
        assert_eq!(
            shown("role: node"),
            "role: node\nkubeconfig_file: ''\nfollow_redirects: true\nenable_http2: true\n"
        );
        let all = shown(
            "{role: pod, api_server: 'https://me:hunter2@h', bearer_token: hunter2, namespaces: {names: [a]}, \
             attach_metadata: {node: true}, selectors: [{role: pod, label: a=b}]}",
        );
        assert!(!all.contains("hunter2"), "{all}");
        let tail = "namespaces:\n  own_namespace: false\n  names:\n  - a\nselectors:\n- role: pod\n  label: a=b\nattach_metadata:\n  node: true\n";
        assert!(all.ends_with(tail), "{all}");
    }
}
