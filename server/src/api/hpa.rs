//! `hpa/*`: autoscalers rehearsed on what is stored, and the metrics that there are for them. Ours; Prometheus has no such
//! endpoints.

use super::error::ApiError;
use super::params::Params;
use super::render::{Data, Reply};
use super::shared::Shared;
use super::state::ApiState;
use crate::hpa::backtest::{self, BacktestError, EngineSource, Options, Report, SourceError};
use crate::hpa::{Hpa, manifest};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request, header};
use axum::response::{IntoResponse, Response};
use std::time::Instant;
use tidegauge_query::QueryError;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Text,
    Svg,
}

/// `POST /api/v1/hpa/backtest`
pub(crate) async fn backtest(State(shared): State<Shared>, request: Request<Body>) -> Result<Response, ApiError> {
    let params = shared.params(request).await?;
    params.well_formed()?;
    let hpas = manifests(&params)?;
    let times = Options::new(params.time("from")?, params.time("to")?);
    let options = options(&params, times)?;
    let form = match params.text("format")? {
        "" | "json" => Form::Json,
        "text" => Form::Text,
        "svg" => Form::Svg,
        other => {
            let why = format!("{other:?} is not one of json, text and svg");
            return Err(ApiError::parameter("format", why));
        }
    };
    let bytes = backtest::bytes(&hpas, &options)?;
    let run = move |source: &EngineSource<'_>| backtest::run(&hpas, &options, source);
    let report = over_history(&shared, &params, bytes, run).await?;
    Ok(answer(&report, form))
}

/// What is made of recorded history. The bytes that it holds are taken first.
pub(super) async fn over_history<T: Send + 'static>(
    shared: &Shared,
    params: &Params,
    bytes: u64,
    make: impl FnOnce(&EngineSource<'_>) -> Result<T, BacktestError> + Send + 'static,
) -> Result<T, ApiError> {
    let job = move |api: &ApiState, cancel| {
        let engine = api.engine.options();
        let _held = engine.memory.lease(bytes).map_err(QueryError::Memory)?;
        let source = EngineSource {
            engine: &api.engine,
            store: &*api.db,
            cancel,
            deadline: Instant::now().checked_add(engine.timeout),
        };
        Ok(make(&source)?)
    };
    shared.read_for(params, None, job).await
}

/// `GET /api/v1/hpa/metrics`
#[cfg(feature = "kubernetes")]
pub(crate) async fn metrics(State(shared): State<Shared>) -> Result<Response, ApiError> {
    shared.ready()?;
    let report = shared.api.adapter.report().await;
    Ok(Reply::new(Data::Json(report.to_string().into_bytes())).into_response())
}

/// The same of a program that knows no cluster.
#[cfg(not(feature = "kubernetes"))]
pub(crate) async fn metrics(State(shared): State<Shared>) -> Result<Response, ApiError> {
    shared.ready()?;
    Err(ApiError::unavailable(
        "this program was built without Kubernetes: it makes no metrics for autoscalers",
    ))
}

fn answer(report: &Report, form: Form) -> Response {
    let (kind, text) = match form {
        Form::Json => {
            let data = report.json().to_string();
            return Reply::new(Data::Json(data.into_bytes())).into_response();
        }
        Form::Text => ("text/plain; charset=utf-8", report.text()),
        Form::Svg => ("image/svg+xml", report.svg()),
    };
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
}

pub(super) fn manifests(params: &Params) -> Result<Vec<Hpa>, ApiError> {
    let mut hpas = Vec::new();
    for text in params.all("manifest")? {
        hpas.extend(manifest::read(text).map_err(|error| {
            let error = anyhow::Error::from(error);
            ApiError::parameter("manifest", format!("{error:#}"))
        })?);
    }
    if hpas.is_empty() {
        return Err(ApiError::parameter("manifest", "a HorizontalPodAutoscaler is needed"));
    }
    Ok(hpas)
}

/// What the parameters say of a rehearsal whose times are known.
pub(super) fn options(params: &Params, mut options: Options) -> Result<Options, ApiError> {
    let settings = &mut options.settings;
    for (name, into) in [
        ("step", &mut settings.sync_ms),
        ("downscale_stabilization", &mut settings.downscale_stabilization_ms),
        ("rate_window", &mut options.rate_window_ms),
        ("ready_after", &mut options.ready_after_ms),
        ("thrash", &mut options.thrash_ms),
    ] {
        if let Some(duration) = params.optional_duration(name)? {
            *into = duration.millis();
        }
    }
    let tolerance = params.text("tolerance")?;
    if !tolerance.is_empty() {
        let read = tolerance.parse().ok().filter(|t: &f64| t.is_finite() && *t >= 0.0);
        settings.tolerance = read.ok_or_else(|| ApiError::parameter("tolerance", "it is a number from 0 on"))?;
    }
    let feedback = params.text("feedback")?;
    if !feedback.is_empty() {
        options.feedback = feedback
            .parse()
            .map_err(|why: String| ApiError::parameter("feedback", why))?;
    }
    let given = |name: &str| {
        params
            .text(name)
            .map(|text| (!text.is_empty()).then(|| text.to_owned()))
    };
    options.replicas_query = given("replicas_query")?;
    options.pods = given("pods")?;
    if !params.text("explain_at")?.is_empty() {
        options.explain_at = Some(params.time("explain_at")?);
    }
    let pair = |name: &str, text: &str| {
        let pair = text
            .split_once('=')
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        pair.ok_or_else(|| ApiError::parameter(name, format!("{text:?} has no =")))
    };
    for text in params.all("metric_query")? {
        let (metric, query) = pair("metric_query", text)?;
        options.metric_queries.insert(metric, query);
    }
    for text in params.all("request")? {
        let (resource, amount) = pair("request", text)?;
        let amount = amount.parse().map_err(|error| ApiError::parameter("request", error))?;
        options.requests.insert(resource, amount);
    }
    Ok(options)
}

impl From<BacktestError> for ApiError {
    fn from(error: BacktestError) -> Self {
        match error {
            BacktestError::Source {
                source: SourceError::Query(error),
                ..
            } => error.into(),
            error => {
                let error = anyhow::Error::from(error);
                Self::bad_data(format!("{error:#}"))
            }
        }
    }
}
