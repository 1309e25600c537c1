//! `rules`, `alerts`, `alertmanagers`, `notifications`: there are none, and the answers say so in the right shape.

use super::error::ApiError;
use super::params::{parse_bool, parse_int};
use super::render::Reply;
use super::shared::Shared;
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;

/// `GET /api/v1/rules`
pub(crate) async fn rules(State(shared): State<Shared>, request: Request<Body>) -> Result<Reply, ApiError> {
    let params = shared.params(request).await?;
    let selectors = params.all("match[]")?;
    super::series::selectors(&shared.api, &selectors).map_err(ApiError::bad_data)?;
    let kind = params.text("type")?;
    if !matches!(kind, "" | "alert" | "record") {
        return Err(ApiError::parameter("type", format!("not supported value {kind:?}")));
    }
    let exclude = params.text("exclude_alerts")?;
    if !exclude.is_empty() {
        parse_bool(exclude)
            .map_err(|why| ApiError::parameter("exclude_alerts", format!("error converting exclude_alerts: {why}")))?;
    }
    let (group_limit, token) = (params.text("group_limit")?, params.text("group_next_token")?);
    if !group_limit.is_empty() {
        let limit = parse_int(group_limit).map_err(|why| {
            let why = format!("group_limit needs to be a valid number: strconv.ParseInt: {why}");
            ApiError::parameter("group_limit", why)
        })?;
        if limit <= 0 {
            return Err(ApiError::parameter(
                "group_limit",
                "group_limit needs to be greater than 0",
            ));
        }
        // There are no groups, so none begins where a token says.
        if !token.is_empty() {
            let why = format!("invalid group_next_token '{token}'. were rule groups changed?");
            return Err(ApiError::parameter("group_next_token", why));
        }
    } else if !token.is_empty() {
        let why = "group_limit needs to be present in order to paginate over the groups";
        return Err(ApiError::parameter("group_next_token", why));
    }
    Ok(Reply::json(|json| {
        json.object(|o| {
            o.key("groups").array(|_| {});
        });
    }))
}

/// `GET /api/v1/alerts`
pub(crate) async fn alerts() -> Reply {
    Reply::json(|json| {
        json.object(|o| {
            o.key("alerts").array(|_| {});
        });
    })
}

/// `GET /api/v1/alertmanagers`
pub(crate) async fn alertmanagers() -> Reply {
    Reply::json(|json| {
        json.object(|o| {
            o.key("activeAlertmanagers").array(|_| {});
            o.key("droppedAlertmanagers").array(|_| {});
        });
    })
}

/// `GET /api/v1/notifications`: what the server tells its users by itself.
pub(crate) async fn notifications() -> Reply {
    Reply::json(|json| {
        json.array(|_| {});
    })
}
