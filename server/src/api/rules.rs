//! `rules`, `alerts`, `alertmanagers`, `notifications`: there are none, and the answers say so in the right shape.

use super::error::ApiError;
use super::render::Reply;
use super::shared::Shared;
use super::values::{parse_bool, parse_int};
use crate::quoted::quoted;
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;

/// `GET /api/v1/rules`
pub(crate) async fn rules(State(shared): State<Shared>, request: Request<Body>) -> Result<Reply, ApiError> {
    let params = shared.params(request).await?;
    params.well_formed()?;
    let selectors = params.all("match[]")?;
    super::series::selectors(&shared.api, &selectors).map_err(ApiError::bad_data)?;
    let kind = params.text("type")?.to_lowercase();
    if !matches!(kind.as_str(), "" | "alert" | "record") {
        return Err(ApiError::parameter(
            "type",
            format!("not supported value {}", quoted(kind)),
        ));
    }
    let exclude = params.text("exclude_alerts")?.to_lowercase();
    if !exclude.is_empty() {
        parse_bool(&exclude)
            .map_err(|why| ApiError::parameter("exclude_alerts", format!("error converting exclude_alerts: {why}")))?;
    }
    page(params.text("group_limit")?, params.text("group_next_token")?)?;
    Ok(Reply::json(|json| {
        json.object(|o| {
            o.key("groups").array(|_| {});
        });
    }))
}

/// Checks which page of the groups is asked for. There are no groups, so none begins where a token says.
fn page(limit: &str, token: &str) -> Result<(), ApiError> {
    if limit.is_empty() {
        let why = "group_limit needs to be present in order to paginate over the groups";
        return match token {
            "" => Ok(()),
            _ => Err(ApiError::parameter("group_next_token", why)),
        };
    }
    let limit = parse_int(limit)
        .and_then(|number| i32::try_from(number).map_err(|_| format!("parsing {}: value out of range", quoted(limit))));
    let bad_limit = |why: String| ApiError::parameter("group_limit", why);
    match limit {
        Err(why) => {
            let why = format!("group_limit needs to be a valid number: strconv.ParseInt: {why}");
            Err(bad_limit(why))
        }
        Ok(..=0) => Err(bad_limit("group_limit needs to be greater than 0".to_owned())),
        Ok(_) if token.is_empty() => Ok(()),
        Ok(_) => {
            let why = format!("invalid group_next_token '{token}'. were rule groups changed?");
            Err(ApiError::parameter("group_next_token", why))
        }
    }
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
