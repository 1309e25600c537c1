//! What every request comes to first: who may ask, then the routes, or what is said until there are any.
//!
//! ```text
//!   listener -> gate: access (if it is bounded) -> routes, or "starting" with how far the log was read
//!                 '-> one line in the log, if that is asked for
//! ```

use crate::access::Access;
use crate::api;
use crate::http::Caller;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll};
use std::time::Instant;
use tidegauge_tsdb::Replay;
use tower::Service;

/// A path is logged up to this many bytes.
const LOGGED_BYTES: usize = 256;

/// Lets requests through to the routes once there are any; before that, says that the process is alive and starting.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    front: OnceLock<api::Front>,
    access: Option<Arc<Access>>,
    prefix: String,
    log: bool,
    replay: Arc<Replay>,
}

impl Gate {
    /// Without routes yet, which will lie below `prefix`.
    pub(crate) fn new(access: Option<Arc<Access>>, prefix: &str, log: bool, replay: Arc<Replay>) -> Self {
        Self(Arc::new(Inner {
            front: OnceLock::new(),
            access,
            prefix: prefix.to_owned(),
            log,
            replay,
        }))
    }

    pub(crate) fn open(&self, front: api::Front) {
        drop(self.0.front.set(front));
    }
}

impl Inner {
    async fn answer(&self, request: Request) -> Response {
        let Some(access) = &self.access else {
            return self.routes(request).await;
        };
        access
            .around(&self.prefix, request, |request| self.routes(request))
            .await
    }

    async fn routes(&self, request: Request) -> Response {
        match self.front.get() {
            Some(front) => front.answer(request).await,
            None => self.starting(&request),
        }
    }

    /// One line for a request. The path alone: what is asked for may be long, and is nobody's business here.
    async fn logged(&self, request: Request) -> Response {
        let (begun, method) = (Instant::now(), request.method().clone());
        let path = request.uri().path();
        let cut = path.char_indices().map(|(at, _)| at).find(|at| *at >= LOGGED_BYTES);
        let path = path.get(..cut.unwrap_or(path.len())).unwrap_or_default().to_owned();
        let (version, client) = (request.version(), Caller::ip(request.extensions()));
        let response = self.answer(request).await;
        tracing::info!(
            client = client.map_or_else(String::new, |ip| ip.to_string()),
            method = method.as_str(),
            path,
            version = ?version,
            status = response.status().as_u16(),
            took = ?begun.elapsed(),
            "request"
        );
        response
    }

    fn starting(&self, request: &Request) -> Response {
        let path = request.uri().path();
        let path = path.strip_prefix(&*self.prefix).unwrap_or(path);
        match path {
            "/-/healthy" => return "Prometheus Server is Healthy.\n".into_response(),
            "/api/v1/status/walreplay" => return api::replay_state(&self.replay).into_response(),
            _ => {}
        }
        let (_, last, current) = self.replay.segments();
        let why = match last {
            0 => "service unavailable: the store is being opened".to_owned(),
            last => format!(
                "service unavailable: the store is being opened, segment {current} of {last} of its log is read"
            ),
        };
        if path.starts_with("/api/v1/") {
            return api::starting(&why);
        }
        if !path.starts_with("/-/") && path != "/metrics" {
            return page(&why);
        }
        (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
    }
}

/// For people: asks again by itself.
fn page(why: &str) -> Response {
    let text = format!(
        "<!doctype html><meta charset=utf-8><title>tidegauge</title>\n<h1>tidegauge is starting</h1>\n<p>{why}.</p>\n"
    );
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFRESH, "1"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Service<Request> for Gate {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let gate = Arc::clone(&self.0);
        Box::pin(async move {
            Ok(match gate.log {
                true => gate.logged(request).await,
                false => gate.answer(request).await,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt;

    #[tokio::test]
    async fn until_the_store_is_open_every_client_is_told_in_its_own_form() {
        let replay = Arc::new(Replay::default());
        replay.reads(3, 9);
        replay.at(4);
        let gate = Gate::new(None, "/p", false, replay);
        let why = "service unavailable: the store is being opened, segment 4 of 9 of its log is read";
        let text = "text/plain; charset=utf-8";
        for (path, status, content_type, body) in [
            ("/p/-/healthy", 200, text, "Prometheus Server is Healthy.\n".to_owned()),
            ("/p/-/ready", 503, text, format!("{why}\n")),
            ("/p/metrics", 503, text, format!("{why}\n")),
            (
                "/p/api/v1/status/walreplay",
                200,
                "application/json",
                r#"{"status":"success","data":{"min":3,"max":9,"current":4}}"#.to_owned(),
            ),
            (
                "/p/api/v1/query?query=up",
                503,
                "application/json",
                format!(r#"{{"status":"error","errorType":"unavailable","error":"{why}"}}"#),
            ),
        ] {
            let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
            let response = gate.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{path}");
            assert_eq!(response.headers()["content-type"], content_type, "{path}");
            let bytes = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
            assert_eq!(bytes, body, "{path}");
        }
        let request = Request::get("/p/query").body(axum::body::Body::empty()).unwrap();
        let response = gate.oneshot(request).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers()["refresh"].as_bytes()),
            (503, &b"1"[..])
        );
        let bytes = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        assert!(String::from_utf8_lossy(&bytes).contains(why));
    }
}
