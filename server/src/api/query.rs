//! `query`, `query_range`, `query_exemplars`, `format_query`, `parse_query`.

use super::error::ApiError;
use super::json::Json;
use super::params::Params;
use super::render::{Data, Reply};
use super::shared::Shared;
use super::state::ApiState;
use super::tree;
use super::values::SignedDuration;
use crate::query_log::{Asker, Logged};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use std::time::Duration;
use tidegauge_model::{Cancel, ExemplarQueryable, SeriesExemplars, Timestamp};
use tidegauge_query::parser::{ParseOptions, ValueType};
use tidegauge_query::{ParseError, Query, QueryError, QueryOutput, StatsLevel, Value};

/// A range query has at most this many steps; `const` in upstream too.
const MAX_POINTS: i64 = 11_000;

/// `GET|POST /api/v1/query`
pub(crate) async fn instant(State(shared): State<Shared>, request: Request<Body>) -> Result<Response, ApiError> {
    let asker = asker(&shared, &request);
    let params = shared.params(request).await?;
    let limit = params.limit()?;
    let at = params.time_or("time", shared.api.clock.now())?;
    let asked = Asked::read(&params)?;
    let query = asked.query(&shared.api, &params)?;
    let with_stats = asked.stats;
    let wait = asked.timeout;
    shared
        .read_for(&params, wait, move |api, cancel| {
            let query = Query { cancel, ..query };
            let output = api.engine.instant(&*api.db, &query, at);
            log(api, asker.as_ref(), &query, (at, at, 0), &output);
            let output = output?;
            Ok(reply(output, limit, with_stats, api).into_response())
        })
        .await
}

/// `GET|POST /api/v1/query_range`
pub(crate) async fn range(State(shared): State<Shared>, request: Request<Body>) -> Result<Response, ApiError> {
    let asker = asker(&shared, &request);
    let params = shared.params(request).await?;
    let limit = params.limit()?;
    let (start, end, step) = steps(&params)?;
    let asked = Asked::read(&params)?;
    let query = asked.query(&shared.api, &params)?;
    for_range(&query)?;
    let with_stats = asked.stats;
    let wait = asked.timeout;
    shared
        .read_for(&params, wait, move |api, cancel| {
            let query = Query { cancel, ..query };
            let output = api.engine.range(&*api.db, &query, start, end, step);
            log(api, asker.as_ref(), &query, (start, end, step), &output);
            let output = output?;
            Ok(reply(output, limit, with_stats, api).into_response())
        })
        .await
}

/// Who asks, if queries are logged.
fn asker(shared: &Shared, request: &Request<Body>) -> Option<Asker> {
    shared.api.query_log.is_open().then(|| Asker::of(request))
}

/// Logs a query over the times from `start` to `end`, if queries are logged.
fn log(
    api: &ApiState,
    asker: Option<&Asker>,
    query: &Query,
    (start, end, step_ms): (Timestamp, Timestamp, i64),
    outcome: &Result<QueryOutput, QueryError>,
) {
    let Some(asker) = asker else { return };
    let logged = Logged {
        query: &query.text,
        start,
        end,
        step_ms,
        outcome: outcome
            .as_ref()
            .map(|output| &output.stats)
            .map_err(QueryError::to_string),
    };
    api.query_log.write(api.clock.now(), asker, &logged);
}

/// Fails for an expression that a range query cannot have.
pub(super) fn for_range(query: &Query) -> Result<(), ApiError> {
    let kind = query.expr.value_type();
    if matches!(kind, ValueType::Matrix | ValueType::String) {
        let kind = kind.described();
        let why = format!("invalid expression type \"{kind}\" for range query, must be Scalar or instant Vector");
        return Err(ApiError::parameter("query", why));
    }
    Ok(())
}

/// `start`, `end` and `step` (in milliseconds) of a range query, checked in upstream's order.
pub(super) fn steps(params: &Params) -> Result<(Timestamp, Timestamp, i64), ApiError> {
    let start = params.time("start")?;
    let end = params.time("end")?;
    if end < start {
        return Err(ApiError::parameter(
            "end",
            "end timestamp must not be before start time",
        ));
    }
    let step = params.duration("step")?;
    // Upstream takes steps under a millisecond and then divides by zero.
    if step.millis() <= 0 {
        let why = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", why));
    }
    let span_ns = i128::from(end.millis()) * 1_000_000 - i128::from(start.millis()) * 1_000_000;
    if span_ns / i128::from(step.nanos()) > i128::from(MAX_POINTS) {
        return Err(ApiError::bad_data(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    Ok((start, end, step.millis()))
}

/// What both kinds of query can ask for beside the query itself, in upstream's order of checks.
pub(super) struct Asked {
    pub(super) timeout: Option<Duration>,
    lookback_ms: Option<i64>,
    stats: Stats,
}

/// Which statistics go with the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stats {
    None,
    /// Any other text than `all`: without the samples of each step.
    Totals,
    All,
}

impl Asked {
    pub(super) fn read(params: &Params) -> Result<Self, ApiError> {
        let timeout = params.optional_duration("timeout")?.map(SignedDuration::span);
        let lookback = params.optional_duration("lookback_delta").map_err(|error| {
            // Upstream's one parameter error without the usual prefix.
            let text = error.to_string();
            let why = text
                .strip_prefix("invalid parameter \"lookback_delta\": ")
                .unwrap_or(&text);
            ApiError::bad_data(format!("error parsing lookback delta duration: {why}"))
        })?;
        Ok(Self {
            timeout,
            lookback_ms: lookback.map(SignedDuration::millis).filter(|ms| *ms > 0),
            stats: match params.text("stats")? {
                "" => Stats::None,
                "all" => Stats::All,
                _ => Stats::Totals,
            },
        })
    }

    pub(super) fn query(&self, api: &ApiState, params: &Params) -> Result<Query, ApiError> {
        let query = Query::parse(params.text("query")?, &parse_options(api)).map_err(bad_query)?;
        Ok(Query {
            lookback_ms: self.lookback_ms,
            timeout: self.timeout,
            // Peaks are exact only with what each step gave.
            stats: if self.stats == Stats::None {
                StatsLevel::Totals
            } else {
                StatsLevel::PerStep
            },
            cancel: Cancel::new(),
            ..query
        })
    }
}

/// What this server's parser accepts.
pub(crate) fn parse_options(api: &ApiState) -> ParseOptions {
    ParseOptions {
        features: api.engine.options().features,
        ..ParseOptions::default()
    }
}

fn bad_query(error: ParseError) -> ApiError {
    ApiError::parameter("query", error)
}

fn reply(output: QueryOutput, limit: usize, with_stats: Stats, api: &ApiState) -> Reply {
    let QueryOutput {
        mut value,
        annotations,
        mut stats,
        ..
    } = output;
    if with_stats != Stats::All || !api.engine.options().features.per_step_stats {
        stats.samples_per_step = None;
    }
    let truncated = match &mut value {
        Value::Vector(samples) if limit > 0 && samples.len() > limit => {
            samples.truncate(limit);
            true
        }
        Value::Matrix(series) if limit > 0 && series.len() > limit => {
            series.truncate(limit);
            true
        }
        _ => false,
    };
    let stats = (with_stats != Stats::None).then_some(stats);
    Reply::new(Data::Value(value, stats))
        .with_notes(annotations.warnings(), annotations.infos())
        .truncated_if(truncated)
}

/// `GET|POST /api/v1/query_exemplars`: those of the series that any selector of the query meets. An expression without
/// one is answered by nothing at all, as upstream does.
pub(crate) async fn exemplars(State(shared): State<Shared>, request: Request<Body>) -> Result<Response, ApiError> {
    let params = shared.params(request).await?;
    let range = params.range()?;
    if range.is_empty() {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let expr = tidegauge_query::parse(params.text("query")?, &parse_options(&shared.api))
        .map_err(|error| ApiError::bad_data(error.to_string()))?;
    let selectors: Vec<_> = expr.selectors().into_iter().map(|s| s.matchers.clone()).collect();
    if selectors.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let context = shared.clone();
    shared
        .read_for(&params, None, move |api, cancel| {
            let found = api.db.exemplars(&selectors, range, &context.context(cancel))?;
            let reply = Reply::json(|json| {
                json.array(|json| found.iter().for_each(|series| push_exemplars(json, series)));
            });
            Ok(reply.into_response())
        })
        .await
}

fn push_exemplars(json: &mut Json, series: &SeriesExemplars) {
    json.object(|json| {
        json.key("seriesLabels").labels(&series.labels);
        json.key("exemplars").array(|json| {
            for exemplar in &series.exemplars {
                json.object(|json| {
                    json.key("labels").labels(&exemplar.labels);
                    json.key("value").number_text(exemplar.value);
                    json.key("timestamp").time(exemplar.at.unwrap_or(Timestamp::MIN));
                });
            }
        });
    });
}

/// `GET|POST /api/v1/format_query`
pub(crate) async fn format(State(shared): State<Shared>, request: Request<Body>) -> Result<Reply, ApiError> {
    let params = shared.params(request).await?;
    let expr = tidegauge_query::parse(params.text("query")?, &parse_options(&shared.api)).map_err(bad_query)?;
    Ok(Reply::json(|json| {
        json.string(&expr.pretty());
    }))
}

/// `GET|POST /api/v1/parse_query`
pub(crate) async fn tree(State(shared): State<Shared>, request: Request<Body>) -> Result<Reply, ApiError> {
    let params = shared.params(request).await?;
    let expr = tidegauge_query::parse(params.text("query")?, &parse_options(&shared.api)).map_err(bad_query)?;
    Ok(Reply::json(|json| tree::push(json, &expr)))
}
