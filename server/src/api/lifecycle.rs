//! `/-/*`: is it up, reload, quit; and `/metrics`, `/version`.

use super::exposition::{self, Format, Listing};
use super::process;
use super::shared::Shared;
use super::upstream;
use crate::http::edge::text;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a reload may take before its caller is told that it goes on without them.
const RELOAD_PATIENCE: Duration = Duration::from_secs(60);

/// `/-/healthy`: the process answers. Upstream's words, as probes may look for them.
pub(crate) async fn healthy() -> Response {
    text(StatusCode::OK, "Prometheus Server is Healthy.\n")
}

/// `/-/ready`
pub(crate) async fn ready(State(shared): State<Shared>) -> Response {
    match shared.api.ready.why_not() {
        None => text(StatusCode::OK, "Prometheus Server is Ready.\n"),
        Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("Service Unavailable: {why}\n")),
    }
}

/// `POST|PUT /-/reload`: answers once the new configuration is in force, or says why it is not.
pub(crate) async fn reload(State(shared): State<Shared>, method: Method) -> Response {
    if let Some(refused) = refused(&shared, &method) {
        return refused;
    }
    let (reply, answer) = oneshot::channel();
    if shared.api.lifecycle.reload.send(reply).await.is_err() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping\n");
    }
    match tokio::time::timeout(RELOAD_PATIENCE, answer).await {
        Ok(Ok(Ok(()))) => StatusCode::OK.into_response(),
        Ok(Ok(Err(why))) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("failed to reload config: {why}\n"),
        ),
        Ok(Err(_)) => text(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping\n"),
        Err(_) => text(
            StatusCode::GATEWAY_TIMEOUT,
            "the reload has not ended yet; see the log\n",
        ),
    }
}

/// `POST|PUT /-/quit`
pub(crate) async fn quit(State(shared): State<Shared>, method: Method) -> Response {
    if let Some(refused) = refused(&shared, &method) {
        return refused;
    }
    shared.api.lifecycle.quit.cancel();
    text(StatusCode::OK, "Requesting termination... Goodbye!")
}

fn refused(shared: &Shared, method: &Method) -> Option<Response> {
    if !matches!(*method, Method::POST | Method::PUT) {
        return Some(text(
            StatusCode::METHOD_NOT_ALLOWED,
            "Only POST or PUT requests allowed",
        ));
    }
    (!shared.api.lifecycle.enabled).then(|| text(StatusCode::FORBIDDEN, "Lifecycle API is not enabled."))
}

/// `GET /metrics`, in the format that the caller likes best.
pub(crate) async fn metrics(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let mut listings = listings(&shared);
    listings.extend(upstream::of_server(&shared.api));
    listings.extend(upstream::renamed(&listings));
    let format = Format::accepted(&headers);
    let mut response = Response::new(exposition::write(listings, format).into());
    let content_type = HeaderValue::from_static(format.content_type());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// What every part counts, under our own names.
pub(super) fn listings(shared: &Shared) -> Vec<Listing> {
    let mut listings = shared.api.metrics.gather();
    listings.extend(shared.http.list());
    listings.extend(shared.receiver.metrics().list(shared.receiver.declared()));
    listings.extend(process::list());
    listings.extend(shared.api.build.list());
    listings
}
