//! The outermost layer around every handler.

use super::panics::Asked;
use super::{Excess, Metrics, measured};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

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

/// Turns away what leads to no handler, turns a panic into a 500, counts the answer and its length.
pub(crate) async fn around<F: Future<Output = Response>>(
    edge: &Edge,
    route: &str,
    request: Request,
    run: impl FnOnce(Request) -> F,
) -> Response {
    let started = Instant::now();
    let response = if let Some(response) = turned_away(edge, &request) {
        response
    } else {
        let asked = Asked::of(&request);
        match AssertUnwindSafe(run(request)).catch_unwind().await {
            Ok(response) => response,
            Err(panic) => {
                edge.metrics.panicked();
                asked.log(&*panic);
                failed(route)
            }
        }
    };
    edge.metrics
        .observe(route, response.status().as_u16(), started.elapsed());
    measured::count(&edge.metrics, route, response)
}

/// The answer to a URL that is too long or none, or that leads elsewhere once its path is written as it should be.
fn turned_away(edge: &Edge, request: &Request) -> Option<Response> {
    let uri = request.uri();
    if uri.path_and_query().map_or(0, |uri| uri.as_str().len()) > edge.uri_bytes {
        edge.metrics.refused(Excess::Url);
        let most = edge.uri_bytes;
        let why = format!("URI Too Long: path and query have more than {most} bytes (--web.max-url-size)\n");
        return Some(text(StatusCode::URI_TOO_LONG, why));
    }
    if !is_escaped(uri.path()) {
        return Some(text(StatusCode::BAD_REQUEST, "400 Bad Request"));
    }
    let mut place = cleaned(uri.path())?;
    if let Some(query) = uri.query() {
        place = format!("{place}?{query}");
    }
    Some(moved(&place, request.method()))
}

/// Whether each `%` of a path begins an escape.
fn is_escaped(path: &str) -> bool {
    path.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().first_chunk::<2>();
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// A path without empty segments and those of one or two dots; `None` if it has none. It begins with a single slash, so
/// it leads to no other host.
fn cleaned(path: &str) -> Option<String> {
    let odd = |segment: &str| matches!(segment, "" | "." | "..");
    let inner = path.strip_prefix('/')?;
    let body = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() || !body.split('/').any(odd) {
        return None;
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in inner.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let mut clean = format!("/{}", kept.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    Some(clean)
}

/// From a path to how it should be written, in upstream's words.
fn moved(place: &str, method: &Method) -> Response {
    let mut response = Response::new(axum::body::Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(place) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if matches!(*method, Method::GET | Method::HEAD) {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, html);
    }
    if *method == Method::GET {
        let place = place.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let place = place.replace('"', "&#34;").replace('\'', "&#39;");
        *response.body_mut() = format!("<a href=\"{place}\">Moved Permanently</a>.\n\n").into();
    }
    response
}

/// The answer to what should never happen, in the form that the clients of a route read.
fn failed(route: &str) -> Response {
    const WHY: &str = "unexpected error: the handler failed; see the log";
    if route.starts_with("/api/v1/") && route != "/api/v1/write" {
        return crate::api::internal_error(WHY);
    }
    text(StatusCode::INTERNAL_SERVER_ERROR, format!("{WHY}\n"))
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

    #[test]
    fn paths_are_cleaned() {
        for (path, clean) in [
            ("//api/v1/query", Some("/api/v1/query")),
            ("/api/v1//query", Some("/api/v1/query")),
            ("/api/./v1/x/../query", Some("/api/v1/query")),
            ("/api/v1/query//", Some("/api/v1/query/")),
            ("/..//..", Some("/")),
            ("//", Some("/")),
            ("//other.example/", Some("/other.example/")),
            ("/", None),
            ("/api/v1/query/", None),
            ("/api/.../..v1", None),
            ("*", None),
        ] {
            assert_eq!(cleaned(path).as_deref(), clean, "{path}");
        }
    }

    #[test]
    fn what_leads_to_no_handler_is_turned_away() {
        let edge = Edge {
            metrics: Arc::default(),
            uri_bytes: 40,
            prefix: "".into(),
        };
        let answer = |method: Method, uri: &str| {
            let request = axum::http::Request::builder().method(method).uri(uri);
            turned_away(&edge, &request.body(Body::empty()).unwrap())
        };
        let status = |uri: &str| answer(Method::GET, uri).map(|answer| answer.status().as_u16());
        assert_eq!(status("/api/v1/label/a%2Fb%ff/values"), None);
        assert_eq!(status("/api/v1/label/%zz/values"), Some(400));
        assert_eq!(status("/api/v1/label/%"), Some(400));
        assert_eq!(status(&format!("/{}", "x".repeat(40))), Some(414));
        let moved = answer(Method::POST, "//query?x=//&y='").unwrap();
        assert_eq!(moved.status(), StatusCode::MOVED_PERMANENTLY);
        assert_eq!(moved.headers()[header::LOCATION], "/query?x=//&y='");
        assert!(!moved.headers().contains_key(header::CONTENT_TYPE));
    }

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
            .route("/api/v1/x", get(broken))
            .route("/x", get(broken))
            .layer(from_fn_with_state(edge.clone(), guard))
            .with_state(());
        for (path, kind) in [("/api/v1/x", "application/json"), ("/x", "text/plain; charset=utf-8")] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let answer = app.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(answer.headers()[header::CONTENT_TYPE], kind);
        }
        let long = Request::get(format!("/x?{}", "1".repeat(100)))
            .body(Body::empty())
            .unwrap();
        assert_eq!(app.oneshot(long).await.unwrap().status(), StatusCode::URI_TOO_LONG);
        let listings = edge.metrics.list();
        let value = |name: &str| listings.iter().find(|listing| listing.0 == name).unwrap().3[0].1;
        assert_eq!(
            (
                value("tidegauge_http_panics_total"),
                value("tidegauge_http_requests_refused_total")
            ),
            (2.0, 1.0)
        );
    }
}
