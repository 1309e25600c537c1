//! What a request needs leave for.

use axum::http::Method;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Ask.
    Read,
    /// Ask, store, delete, take profiles, reload and stop.
    Write,
}

/// Below these, any method needs the role to write.
const WRITES: [&str; 6] = [
    "/api/v1/write",
    "/api/v1/otlp",
    "/api/v1/admin",
    "/-/reload",
    "/-/quit",
    "/debug",
];

/// Below `/api/v1/`, what is asked by POST as well.
const ASKED_BY_POST: [&str; 14] = [
    "query",
    "query_range",
    "query_exemplars",
    "format_query",
    "parse_query",
    "explain",
    "hpa/backtest",
    "hpa/explain",
    "series",
    "labels",
    "read",
    "rules",
    "alerts",
    "status/buildinfo",
];

impl Role {
    /// The role that a method and a path below the prefix need. What is not known to be a question needs the higher one.
    pub(super) fn needed(method: &Method, path: &str) -> Self {
        let below = |root: &str| {
            path.strip_prefix(root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if WRITES.iter().any(|root| below(root)) {
            return Self::Write;
        }
        let asks = match *method {
            Method::GET | Method::HEAD | Method::OPTIONS => true,
            Method::POST => path
                .strip_prefix("/api/v1/")
                .is_some_and(|rest| ASKED_BY_POST.contains(&rest)),
            _ => false,
        };
        if asks { Self::Read } else { Self::Write }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_need_to_read_and_all_else_to_write() {
        let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
        for (method, path, role) in [
            (&get, "/", Role::Read),
            (&get, "/metrics", Role::Read),
            (&get, "/-/ready", Role::Read),
            (&get, "/api/v1/query", Role::Read),
            (&post, "/api/v1/query", Role::Read),
            (&post, "/api/v1/status/buildinfo", Role::Read),
            (&post, "/api/v1/hpa/backtest", Role::Read),
            (&post, "/api/v1/hpa/explain", Role::Read),
            (&Method::OPTIONS, "/api/v1/labels", Role::Read),
            (&post, "/api/v1/write", Role::Write),
            (&get, "/api/v1/write", Role::Write),
            (&post, "/api/v1/otlp/v1/metrics", Role::Write),
            (&get, "/api/v1/admin/tsdb/snapshot", Role::Write),
            (&put, "/api/v1/admin/tsdb/delete_series", Role::Write),
            (&post, "/-/reload", Role::Write),
            (&get, "/-/quit", Role::Write),
            (&get, "/debug/pprof/heap", Role::Write),
            (&post, "/api/v1/what_comes_next", Role::Write),
            (&put, "/api/v1/query", Role::Write),
            (&delete, "/api/v1/series", Role::Write),
            (&get, "/api/v1/writers", Role::Read),
        ] {
            assert_eq!(Role::needed(method, path), role, "{method} {path}");
        }
    }

    /// What the description of the API says a token needs.
    #[test]
    fn roles_are_as_the_document_names_them() {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.yaml"));
        let document: serde_json::Value = serde_yaml_ng::from_str(text).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let mut seen = 0;
        for (path, item) in paths {
            for (method, operation) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
                let security = operation.get("security").unwrap_or(&document["security"]);
                let named = security
                    .as_array()
                    .unwrap()
                    .iter()
                    .find_map(|way| way.get("bearer")?[0].as_str());
                let method: Method = method.to_ascii_uppercase().parse().unwrap();
                let role = match named.unwrap() {
                    "read" => Role::Read,
                    "write" => Role::Write,
                    other => panic!("{other}"),
                };
                assert_eq!(Role::needed(&method, path), role, "{method} {path}");
                seen += 1;
            }
        }
        assert!(seen > 50);
    }
}
