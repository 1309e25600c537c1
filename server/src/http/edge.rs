//! The outermost layer around every handler.

use super::{Metrics, measured};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

/// A request that failed is logged up to this many bytes.
const LOGGED_BYTES: usize = 1000;

/// What the edge needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    /// Counts requests.
    pub(crate) metrics: Arc<Metrics>,
    /// Bytes of path and query a request may have.
    pub(crate) uri_bytes: usize,
    /// What all routes lie below; not part of a handler's name.
    pub(crate) prefix: Arc<str>,
}

/// [`around`] what a router comes to next.
pub(crate) async fn guard(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let route = path.as_ref().map_or("other", |path| {
        path.as_str().strip_prefix(&*edge.prefix).unwrap_or(path.as_str())
    });
    around(&edge, route, request, |request| next.run(request)).await
}

/// Refuses overlong URLs, turns a panic into a 500, counts the answer and its length.
pub(crate) async fn around<F: Future<Output = Response>>(
    edge: &Edge,
    route: &str,
    request: Request,
    run: impl FnOnce(Request) -> F,
) -> Response {
    let started = Instant::now();
    let response = if request.uri().path_and_query().map_or(0, |uri| uri.as_str().len()) > edge.uri_bytes {
        text(StatusCode::URI_TOO_LONG, "URI Too Long\n")
    } else {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        match AssertUnwindSafe(run(request)).catch_unwind().await {
            Ok(response) => response,
            Err(panic) => {
                edge.metrics.panicked();
                let uri = uri.path_and_query().map_or("", |uri| uri.as_str());
                // As far as it serves to find the defect. It is of ASCII alone.
                let uri = uri.get(..LOGGED_BYTES).unwrap_or(uri);
                tracing::error!(
                    request = format!("{method} {uri}"),
                    panic = panic_text(&*panic),
                    "a handler panicked; this is a defect"
                );
                crate::api::internal_error("unexpected error: the handler failed; see the log")
            }
        }
    };
    edge.metrics
        .observe(route, response.status().as_u16(), started.elapsed());
    measured::count(&edge.metrics, route, response)
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Plain text, as upstream's router answers what it does not know.
pub(crate) fn text(status: StatusCode, text: impl Into<axum::body::Body>) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower::ServiceExt;

    #[tokio::test]
    async fn a_panic_is_answered_and_counted() {
        let edge = Edge {
            metrics: Arc::default(),
            uri_bytes: 100,
            prefix: "".into(),
        };
        async fn broken() -> Response {
            panic!("on purpose")
        }
        let app: Router = Router::new()
            .route("/x", get(broken))
            .layer(from_fn_with_state(edge.clone(), guard))
            .with_state(());
        let answer = app
            .clone()
            .oneshot(Request::get("/x").body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
        let listings = edge.metrics.list();
        let value = |name: &str| listings.iter().find(|listing| listing.0 == name).unwrap().3[0].1;
        assert_eq!(
            (
                value("tidegauge_http_panics_total"),
                value("tidegauge_http_requests_total")
            ),
            (1.0, 1.0)
        );
    }
}
