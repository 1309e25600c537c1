//! `hpa`, `hpa/{namespace}/{name}/explain`, `hpa/explain`: autoscalers of the cluster, and why they are where they are.
//! Ours; Prometheus has no such endpoints.

use super::error::ApiError;
use super::hpa::{manifests, options, over_history};
use super::params::Params;
use super::render::{Data, Reply};
use super::shared::Shared;
use crate::hpa::backtest::{self, EngineSource};
use crate::hpa::explain::Explained;
use crate::hpa::live::{Id, LookOnce};
use crate::hpa::{Hpa, Settings};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request, Uri, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Text,
}

impl Form {
    fn read(params: &Params) -> Result<Self, ApiError> {
        match params.text("format")? {
            "" | "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            other => Err(ApiError::parameter(
                "format",
                format!("{other:?} is not one of json and text"),
            )),
        }
    }
}

/// `GET /api/v1/hpa`
pub(crate) async fn list(State(shared): State<Shared>) -> Result<Reply, ApiError> {
    shared.ready()?;
    Ok(json_reply(&shared.api.autoscalers.board.json()))
}

/// `GET /api/v1/hpa/{namespace}/{name}/explain`
pub(crate) async fn explain(State(shared): State<Shared>, request: Request<Body>) -> Result<Response, ApiError> {
    let id = id(request.uri())?;
    let params = shared.params(request).await?;
    let form = Form::read(&params)?;
    let board = &shared.api.autoscalers.board;
    let Some(explained) = board.explain(&id) else {
        let problems = board.problems();
        let why = match problems.is_empty() {
            true => String::new(),
            false => format!(": {}", problems.join("; ")),
        };
        return Err(ApiError::not_found(format!(
            "there is no HorizontalPodAutoscaler {id} here{why}"
        )));
    };
    Ok(answer(&explained.json, explained.text, form))
}

/// The autoscaler that a path names: the two segments before the last.
fn id(uri: &Uri) -> Result<Id, ApiError> {
    let mut segments = uri.path().rsplit('/').skip(1);
    let mut segment = |what: &str| {
        let escaped = percent_decode_str(segments.next().unwrap_or_default());
        let text = escaped.decode_utf8();
        text.map_err(|_| ApiError::bad_data(format!("the {what} of the autoscaler is not valid UTF-8")))
    };
    let name = segment("name")?;
    let namespace = segment("namespace")?;
    Ok(Id::new(&namespace, &name))
}

/// `GET|POST /api/v1/hpa/explain`
pub(crate) async fn explain_manifest(
    State(shared): State<Shared>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let params = shared.params(request).await?;
    params.well_formed()?;
    let form = Form::read(&params)?;
    let mut hpas = manifests(&params)?;
    let (Some(hpa), true) = (hpas.pop(), hpas.is_empty()) else {
        return Err(ApiError::parameter(
            "manifest",
            "one HorizontalPodAutoscaler is explained at a time",
        ));
    };
    let recorded = !params.text("time")?.is_empty();
    let options = self::recorded(&shared, &params)?;
    match shared.api.autoscalers.once.clone().filter(|_| !recorded) {
        Some(cluster) => Ok(in_cluster(hpa, &*cluster, form).await),
        None => {
            let bytes = backtest::bytes(std::slice::from_ref(&hpa), &options)?;
            let explain = move |source: &EngineSource<'_>| backtest::explain(&hpa, &options, source);
            let Explained { json, text } = over_history(&shared, &params, bytes, explain).await?;
            let data = json!({"source": "recorded", "error": Value::Null, "decision": json, "text": text});
            Ok(answer(&data, text, form))
        }
    }
}

/// What the parameters say of a look at what is recorded.
fn recorded(shared: &Shared, params: &Params) -> Result<backtest::Options, ApiError> {
    let at = params.time_or("time", shared.api.clock.now())?;
    options(params, backtest::just_before(at, &Settings::default()))
}

/// One look at what there is in the cluster.
async fn in_cluster(hpa: Hpa, cluster: &dyn LookOnce, form: Form) -> Response {
    let look = cluster.look_once(hpa).await;
    let text = look.text();
    let data = json!({"source": "cluster", "error": look.error(), "decision": look.json(), "text": text});
    answer(&data, text, form)
}

fn json_reply(data: &Value) -> Reply {
    Reply::new(Data::Json(data.to_string().into_bytes()))
}

fn answer(json: &Value, text: String, form: Form) -> Response {
    match form {
        Form::Json => json_reply(json).into_response(),
        Form::Text => {
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
    }
}
