//! `admin/tsdb/*`, off unless `--web.enable-admin-api` is given.

use super::error::ApiError;
use super::query::parse_options;
use super::render::Reply;
use super::shared::Shared;
use super::values::parse_bool;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use std::error::Error;
use tidegauge_query::parser::parse_metric_selector;
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

/// `POST|PUT /api/v1/admin/tsdb/delete_series`
///
/// # Reference
/// Prometheus 3.5 `web/api/v1`, `deleteSeries`, but that nothing is deleted unless all selectors parse, and that `{}` is
/// refused, which deletes nothing there.
pub(crate) async fn delete_series(
    State(shared): State<Shared>,
    request: Request<Body>,
) -> Result<StatusCode, ApiError> {
    enabled(&shared)?;
    let params = shared.params(request).await?;
    params.well_formed()?;
    let texts = params.all("match[]")?;
    if texts.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let range = params.range()?;
    let options = parse_options(&shared.api);
    let selectors = texts
        .iter()
        .map(|text| parse_metric_selector(text, &options))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|why| ApiError::parameter("match[]", why))?;
    if selectors.iter().any(Vec::is_empty) {
        return Err(ApiError::bad_data("match[] must contain at least one matcher"));
    }
    shared
        .read(None, move |api, _| {
            for matchers in &selectors {
                let deleted = api.db.delete(matchers, range);
                deleted.map_err(|error| ApiError::internal(chain(&error)))?;
            }
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

/// `POST|PUT /api/v1/admin/tsdb/clean_tombstones`
pub(crate) async fn clean_tombstones(State(shared): State<Shared>) -> Result<StatusCode, ApiError> {
    enabled(&shared)?;
    shared.ready()?;
    shared
        .read(None, |api, _| {
            let cleaned = api.db.clean_tombstones();
            cleaned.map_err(|error| ApiError::internal(chain(&error)))?;
            Ok(StatusCode::NO_CONTENT)
        })
        .await
}

fn enabled(shared: &Shared) -> Result<(), ApiError> {
    if shared.api.admin_api {
        Ok(())
    } else {
        Err(ApiError::unavailable("admin APIs disabled"))
    }
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
