//! What a request asks for, in the words in which Kubernetes grants it: verb, group, resource, namespace, name.
//!
//! Read off the path as every API server of Kubernetes does, so that a role written for one holds for this one, too:
//!
//! ```text
//!   /apis/GROUP/VERSION[/namespaces/NAMESPACE]/RESOURCE[/NAME[/SUBRESOURCE]]
//!   .../namespaces/shop/pods            list pods
//!   .../namespaces/shop/pods/*/requests get pods/requests, name *
//!   .../namespaces/shop/queue_length    list queue_length
//! ```

use axum::http::Method;
use percent_encoding::percent_decode_str;

/// The path of a request, decoded segment by segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(Vec<String>);

impl Path {
    /// Takes a path apart.
    ///
    /// # Errors
    /// What is wrong with a segment that would be read differently here and where the request is answered: a slash or a
    /// byte of 0 within it, dots alone, or what is no UTF-8.
    pub(super) fn read(path: &str) -> Result<Self, &'static str> {
        let mut segments = Vec::new();
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            let Ok(segment) = percent_decode_str(segment).decode_utf8() else {
                return Err("a segment of the path is no UTF-8");
            };
            if segment.contains(['/', '\0']) || matches!(&*segment, "." | "..") {
                return Err("a segment of the path holds a slash, a byte of 0, or dots alone");
            }
            segments.push(segment.into_owned());
        }
        Ok(Self(segments))
    }

    /// The segments.
    pub(super) fn segments(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attributes {
    /// A resource of a group.
    Resource(Resource),
    /// A path that is none.
    Path {
        /// The verb, which is the method in small letters.
        verb: String,
        /// The path, decoded.
        path: String,
    },
}

/// A resource that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Resource {
    pub(super) verb: &'static str,
    pub(super) group: String,
    pub(super) version: String,
    /// Empty for what lies in no namespace, and for all of them.
    pub(super) namespace: String,
    pub(super) resource: String,
    pub(super) subresource: String,
    pub(super) name: String,
}

impl Attributes {
    /// Reads a request.
    pub(super) fn of(method: &Method, path: &Path, query: Option<&str>) -> Self {
        let segments = path.segments();
        let (group, version, rest) = match segments.as_slice() {
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => {
                let path = format!("/{}", segments.join("/"));
                return Self::Path {
                    verb: method.as_str().to_ascii_lowercase(),
                    path,
                };
            }
        };
        let (namespace, parts) = match rest {
            ["namespaces", namespace, parts @ ..] => match parts {
                // The namespace itself, or what hangs on it.
                [] | ["status" | "finalize", ..] => (*namespace, rest),
                parts => (*namespace, parts),
            },
            parts => ("", parts),
        };
        let at = |i: usize| parts.get(i).copied().unwrap_or_default().to_owned();
        let mut found = Resource {
            verb: verb(method),
            group: group.to_owned(),
            version: version.to_owned(),
            namespace: namespace.to_owned(),
            resource: at(0),
            name: at(1),
            subresource: at(2),
        };
        if found.name.is_empty() {
            found.name_the_kind(query.unwrap_or_default());
        }
        Self::Resource(found)
    }
}

impl Resource {
    /// Without a name, what gets or deletes means many; unless the query names one.
    fn name_the_kind(&mut self, query: &str) {
        let parameter = |wanted: &str| {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find(|(name, _)| name == wanted).map(|(_, value)| value)
        };
        match self.verb {
            "get" => {
                self.verb = match parameter("watch").as_deref() {
                    Some("1" | "t" | "T" | "true" | "TRUE" | "True" | "") => "watch",
                    _ => "list",
                };
                let selector = parameter("fieldSelector").unwrap_or_default();
                let named = selector.split(',').find_map(|part| {
                    let (field, value) = part.split_once('=')?;
                    (field.trim() == "metadata.name").then(|| value.trim_start_matches('=').trim().to_owned())
                });
                self.name = named.unwrap_or_default();
            }
            "delete" => self.verb = "deletecollection",
            _ => {}
        }
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Verb, group, resource with subresource, namespace, name.
    fn read(method: &Method, uri: &str) -> String {
        let (path, query) = uri
            .split_once('?')
            .map_or((uri, None), |(path, query)| (path, Some(query)));
        match Attributes::of(method, &Path::read(path).unwrap(), query) {
            Attributes::Path { verb, path } => format!("{verb} {path}"),
            Attributes::Resource(r) => {
                let sub = if r.subresource.is_empty() {
                    String::new()
                } else {
                    format!("/{}", r.subresource)
                };
                format!(
                    "{} {}/{} {}{sub} [{}] ({})",
                    r.verb, r.group, r.version, r.resource, r.namespace, r.name
                )
            }
        }
    }

    #[test]
    fn requests_are_read_as_kubernetes_reads_them() {
        let m = "/apis/metrics.k8s.io/v1beta1";
        let c = "/apis/custom.metrics.k8s.io/v1beta2";
        let e = "/apis/external.metrics.k8s.io/v1beta1";
        for (uri, read_as) in [
            (format!("{m}/nodes"), "list metrics.k8s.io/v1beta1 nodes [] ()"),
            (format!("{m}/nodes/n1"), "get metrics.k8s.io/v1beta1 nodes [] (n1)"),
            (
                format!("{m}/pods?labelSelector=a"),
                "list metrics.k8s.io/v1beta1 pods [] ()",
            ),
            (
                format!("{m}/pods?watch=true"),
                "watch metrics.k8s.io/v1beta1 pods [] ()",
            ),
            (
                format!("{m}/namespaces/shop/pods"),
                "list metrics.k8s.io/v1beta1 pods [shop] ()",
            ),
            (
                format!("{m}/namespaces/shop/pods/"),
                "list metrics.k8s.io/v1beta1 pods [shop] ()",
            ),
            (
                format!("{m}/namespaces/shop/pods/a"),
                "get metrics.k8s.io/v1beta1 pods [shop] (a)",
            ),
            (
                format!("{m}/namespaces/shop/pods?fieldSelector=metadata.name%3Da"),
                "list metrics.k8s.io/v1beta1 pods [shop] (a)",
            ),
            (
                format!("{c}/namespaces/shop/pods/%2A/http_requests?labelSelector=x"),
                "get custom.metrics.k8s.io/v1beta2 pods/http_requests [shop] (*)",
            ),
            (
                format!("{c}/namespaces/shop/services/web/hits"),
                "get custom.metrics.k8s.io/v1beta2 services/hits [shop] (web)",
            ),
            (
                format!("{c}/namespaces/shop/metrics/hits"),
                "get custom.metrics.k8s.io/v1beta2 metrics [shop] (hits)",
            ),
            (
                format!("{c}/nodes/n1/load"),
                "get custom.metrics.k8s.io/v1beta2 nodes/load [] (n1)",
            ),
            (
                format!("{c}/namespaces/shop"),
                "get custom.metrics.k8s.io/v1beta2 namespaces [shop] (shop)",
            ),
            (
                format!("{e}/namespaces/shop/queue_length?labelSelector=q"),
                "list external.metrics.k8s.io/v1beta1 queue_length [shop] ()",
            ),
            (m.to_owned(), "get /apis/metrics.k8s.io/v1beta1"),
            ("/apis".to_owned(), "get /apis"),
            ("/".to_owned(), "get /"),
            ("/openapi/v2".to_owned(), "get /openapi/v2"),
        ] {
            assert_eq!(read(&Method::GET, &uri), read_as, "{uri}");
        }
        let pods = format!("{m}/namespaces/shop/pods");
        assert!(read(&Method::POST, &pods).starts_with("create "));
        assert!(read(&Method::DELETE, &pods).starts_with("deletecollection "));
        assert!(read(&Method::DELETE, &format!("{pods}/a")).starts_with("delete "));
    }

    #[test]
    fn a_path_that_could_be_read_in_two_ways_is_refused() {
        for path in ["/apis/a%2Fb", "/apis/%2e%2e/x", "/apis/./x", "/apis/%00", "/apis/%ff"] {
            assert!(Path::read(path).is_err(), "{path}");
        }
        assert_eq!(Path::read("//apis/a%20b//").unwrap().segments(), ["apis", "a b"]);
    }
}
