//! What goes wrong, as Kubernetes tells it: an object of the kind `Status`.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A request that gets no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    code: StatusCode,
    reason: &'static str,
    message: String,
    details: Option<Details>,
}

/// The object that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
}

impl Failure {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    /// There is nothing there; in these words.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    /// There is no such object: `podmetrics.metrics.k8s.io "shop/web-1" not found`.
    pub fn no_object(group: &str, resource: &str, name: &str) -> Self {
        let of = if group.is_empty() { "" } else { "." };
        let details = Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: resource.to_owned(),
        };
        Self {
            details: Some(details),
            ..Self::not_found(format!("{resource}{of}{group} {name:?} not found"))
        }
    }

    /// There is nothing under this path, in the API server's own words.
    pub fn no_path() -> Self {
        Self {
            details: Some(Details {
                name: String::new(),
                group: String::new(),
                kind: String::new(),
            }),
            ..Self::not_found("the server could not find the requested resource")
        }
    }

    /// What is asked cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// Nobody knows who asks.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    /// Who asks may not.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// Nothing can be done in this way.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// Nothing can be done in this way with these objects.
    pub fn unsupported(verb: &str, group: &str, resource: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind \"{resource}.{group}\"");
        Self {
            message,
            details: Some(Details {
                name: String::new(),
                group: group.to_owned(),
                kind: resource.to_owned(),
            }),
            ..Self::method_not_allowed()
        }
    }

    /// It should be answered, and cannot be.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// It can be answered later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// The status of the answer.
    pub fn code(&self) -> StatusCode {
        self.code
    }

    /// In words.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// As it is sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: serde_json::Map<String, serde_json::Value>,
    status: &'static str,
    message: &'a str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Details>,
    code: u16,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = Status {
            kind: "Status",
            api_version: "v1",
            metadata: serde_json::Map::new(),
            status: "Failure",
            message: &self.message,
            reason: self.reason,
            details: self.details.as_ref(),
            code: self.code.as_u16(),
        };
        let body = serde_json::to_vec(&status).unwrap_or_default();
        (self.code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    async fn sent(failure: Failure) -> String {
        let body = to_bytes(failure.into_response().into_body(), 4096).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn it_is_told_as_the_api_server_tells_it() {
        assert_eq!(
            sent(Failure::no_object("metrics.k8s.io", "podmetrics", "shop/web-1")).await,
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"podmetrics.metrics.k8s.io \"shop/web-1\" not found","reason":"NotFound","details":{"name":"shop/web-1","group":"metrics.k8s.io","kind":"podmetrics"},"code":404}"#
        );
        assert_eq!(
            sent(Failure::unauthorized()).await,
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}"#
        );
        assert_eq!(Failure::no_object("", "pods", "x").message(), "pods \"x\" not found");
    }
}
