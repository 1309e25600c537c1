//! `/debug/pprof/*`, off unless `--web.enable-profiling` is given.

use super::error::ApiError;
use super::lifecycle;
use super::process;
use super::shared::Shared;
use crate::http::edge::text;
use crate::profile::{self, BYTES_NEEDED, NoProfile};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::time::Duration;

/// As Go's.
const DEFAULT_SECONDS: u64 = 30;
const MAX_SECONDS: u64 = 300;

/// `GET /debug/pprof/profile`: what runs in the next seconds.
pub(crate) async fn cpu(State(shared): State<Shared>, request: Request<Body>) -> Response {
    let length = match seconds(&shared, request).await {
        Ok(length) => length,
        Err(refused) => return refused,
    };
    if let Some(left) = memory_left(&shared)
        && left < BYTES_NEEDED
    {
        let why = format!("a profile takes {BYTES_NEEDED} bytes of memory, and {left} are left of --memory.limit\n");
        return text(StatusCode::SERVICE_UNAVAILABLE, why);
    }
    let folder = shared.api.flags.get("storage.tsdb.path").map_or(".", String::as_str);
    match shared
        .cpu
        .profile(length, folder.into(), shared.api.clock.clone())
        .await
    {
        Ok(profile) => file("profile.pb.gz", profile),
        Err(NoProfile::Busy) => text(
            StatusCode::CONFLICT,
            "a profile is being taken; there is one at a time\n",
        ),
        Err(NoProfile::Failed(why)) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("no profile: {why}\n")),
    }
}

/// `GET /debug/pprof/heap`: what each part accounts for now.
pub(crate) async fn heap(State(shared): State<Shared>) -> Response {
    if let Some(refused) = refused(&shared) {
        return refused;
    }
    let listings = lifecycle::listings(&shared);
    match profile::heap(&listings, shared.api.clock.now().millis()) {
        Ok(profile) => file("heap.pb.gz", profile),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("no profile: {error}\n")),
    }
}

fn refused(shared: &Shared) -> Option<Response> {
    let why = "profiles are taken with --web.enable-profiling alone\n";
    (!shared.api.profiling).then(|| text(StatusCode::FORBIDDEN, why))
}

async fn seconds(shared: &Shared, request: Request<Body>) -> Result<Duration, Response> {
    if let Some(refused) = refused(shared) {
        return Err(refused);
    }
    let length = async {
        let params = shared.params(request).await?;
        match params.text("seconds")? {
            "" => Ok(DEFAULT_SECONDS),
            given => match given.parse() {
                Ok(seconds @ 1..=MAX_SECONDS) => Ok(seconds),
                _ => Err(ApiError::parameter(
                    "seconds",
                    format!("a whole number from 1 to {MAX_SECONDS} is expected, not {given:?}"),
                )),
            },
        }
    };
    let length: Result<u64, ApiError> = length.await;
    length.map(Duration::from_secs).map_err(IntoResponse::into_response)
}

/// What is left of the memory limit; `None` if nobody knows.
fn memory_left(shared: &Shared) -> Option<u64> {
    let limit = shared.api.flags.get("memory.limit")?;
    let limit: u64 = limit.trim_end_matches('B').parse().ok()?;
    Some(limit.saturating_sub(process::resident_bytes()?))
}

fn file(name: &str, content: Vec<u8>) -> Response {
    let mut response = Response::new(content.into());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    if let Ok(disposition) = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    response
}
