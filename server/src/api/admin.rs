//! `admin/tsdb/*`, off unless `--web.enable-admin-api` is given.

use super::error::{ApiError, ErrorKind};
use super::params::parse_bool;
use super::render::Reply;
use super::shared::Shared;
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use std::error::Error;
use tidegauge_tsdb::SnapshotHead;

/// `POST|PUT /api/v1/admin/tsdb/snapshot`
pub(crate) async fn snapshot(State(shared): State<Shared>, request: Request<Body>) -> Result<Reply, ApiError> {
    enabled(&shared)?;
    let params = shared.params(request).await?;
    let skip = params.text("skip_head")?;
    let head = match skip {
        "" => SnapshotHead::Include,
        text => match parse_bool(text) {
            Ok(true) => SnapshotHead::Skip,
            Ok(false) => SnapshotHead::Include,
            Err(why) => {
                return Err(ApiError::parameter(
                    "skip_head",
                    format!("unable to parse boolean: {why}"),
                ));
            }
        },
    };
    let name = shared
        .read(None, move |api, _| {
            api.db
                .snapshot(head)
                .map_err(|error| ApiError::internal(format!("create snapshot: {}", chain(&error))))
        })
        .await?;
    Ok(Reply::json(|json| {
        json.object(|o| {
            o.key("name").string(&name);
        });
    }))
}

/// `POST|PUT /api/v1/admin/tsdb/delete_series`: checked, then refused, as the store keeps no tombstones.
pub(crate) async fn delete_series(State(shared): State<Shared>, request: Request<Body>) -> Result<Reply, ApiError> {
    enabled(&shared)?;
    let params = shared.params(request).await?;
    params.well_formed()?;
    let texts = params.all("match[]")?;
    if texts.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    params.range()?;
    super::series::selectors(&shared.api, &texts).map_err(|why| ApiError::parameter("match[]", why))?;
    Err(not_built("deleting series"))
}

/// `POST|PUT /api/v1/admin/tsdb/clean_tombstones`: refused, as there are none.
pub(crate) async fn clean_tombstones(State(shared): State<Shared>) -> Result<Reply, ApiError> {
    enabled(&shared)?;
    shared.ready()?;
    Err(not_built("cleaning tombstones"))
}

fn enabled(shared: &Shared) -> Result<(), ApiError> {
    if shared.api.admin_api {
        Ok(())
    } else {
        Err(ApiError::unavailable("admin APIs disabled"))
    }
}

fn not_built(what: &str) -> ApiError {
    ApiError::new(
        ErrorKind::NotBuilt,
        format!("{what} is not supported by this version of tidegauge"),
    )
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
