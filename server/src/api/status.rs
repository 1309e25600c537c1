//! `status/*`: configuration, flags, what runs, and what the store holds.

use super::error::ApiError;
use super::json::Json;
use super::render::Reply;
use super::shared::Shared;
use super::state::BuildInfo;
use super::values::parse_int;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request, header};
use axum::response::{IntoResponse, Response};
use tidegauge_model::Timestamp;
use tidegauge_tsdb::Replay;

/// Entries in each list of `status/tsdb`, unless asked otherwise; upstream's number.
const DEFAULT_TSDB_LIMIT: usize = 10;

/// `GET /api/v1/status/config`
pub(crate) async fn config(State(shared): State<Shared>) -> Reply {
    let yaml = shared.api.config.yaml();
    Reply::json(|json| {
        json.object(|o| {
            o.key("yaml").string(&yaml);
        });
    })
    .with_notes(unsupported(&shared), Vec::new())
}

/// Sections of the configuration that have no effect, as warnings beside it.
fn unsupported(shared: &Shared) -> Vec<String> {
    shared
        .api
        .config
        .unsupported()
        .iter()
        .map(|section| format!("configuration section without effect in this version: {section}"))
        .collect()
}

/// `GET /api/v1/status/flags`
pub(crate) async fn flags(State(shared): State<Shared>) -> Reply {
    Reply::json(|json| {
        json.object(|o| {
            for (name, value) in &shared.api.flags {
                o.key(name).string(value);
            }
        });
    })
}

/// `GET /api/v1/status/runtimeinfo`. What only upstream's runtime has is there with its value for "none".
pub(crate) async fn runtime_info(State(shared): State<Shared>) -> Reply {
    let api = &shared.api;
    let reload = api.config.last_reload();
    let directory = std::env::current_dir()
        .map(|dir| dir.display().to_string())
        .unwrap_or_default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let flag = |name| api.flags.get(name).map_or("", String::as_str);
    let retention: Vec<&str> = [flag("storage.tsdb.retention.time"), flag("storage.tsdb.retention.size")]
        .into_iter()
        .filter(|bound| !matches!(*bound, "" | "0s" | "0B"))
        .collect();
    let corrupt = corruptions(&shared);
    Reply::json(|json| {
        json.object(|o| {
            o.key("startTime").string(&rfc3339(api.started));
            o.key("CWD").string(&directory);
            o.key("hostname").string(&hostname());
            o.key("serverTime").string(&rfc3339(api.clock.now()));
            o.key("reloadConfigSuccess").boolean(reload.successful);
            o.key("lastConfigTime").string(&rfc3339(reload.at));
            o.key("corruptionCount").count(corrupt);
            o.key("goroutineCount")
                .count(tokio::runtime::Handle::current().metrics().num_alive_tasks() as u64);
            o.key("GOMAXPROCS").count(threads);
            o.key("GOMEMLIMIT").count(
                api.flags
                    .get("memory.limit")
                    .and_then(|bytes| bytes.trim_end_matches('B').parse().ok())
                    .unwrap_or(0),
            );
            o.key("GOGC").string("");
            o.key("GODEBUG").string("");
            o.key("storageRetention").string(&retention.join(" or "));
        });
    })
}

/// Damaged places found in the log and among the blocks.
fn corruptions(shared: &Shared) -> u64 {
    let damaged = [
        "tidegauge_tsdb_wal_damaged_records_total",
        "tidegauge_tsdb_blocks_damaged",
        "tidegauge_tsdb_blocks_quarantined_total",
    ];
    let listings = shared.api.db.metrics().list();
    let found = listings.iter().filter(|listing| damaged.contains(&listing.0));
    found
        .flat_map(|listing| &listing.3)
        .map(|(_, value)| *value as u64)
        .sum()
}

/// The machine's name as the kernel knows it.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// `GET /api/v1/status/buildinfo`. Grafana takes a key `features` for Mimir: there is none.
pub(crate) async fn build_info(State(shared): State<Shared>) -> Reply {
    Reply::json(|json| push_build(json, &shared.api.build))
}

/// `GET /version`: the same, bare.
pub(crate) async fn version(State(shared): State<Shared>) -> Response {
    let mut json = Json::new();
    push_build(&mut json, &shared.api.build);
    let mut text = json.finish();
    text.push(b'\n');
    let mut response = Response::new(Body::from(text));
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

fn push_build(json: &mut Json, build: &BuildInfo) {
    json.object(|o| {
        o.key("version").string(&build.version);
        o.key("revision").string(&build.revision);
        o.key("branch").string(&build.branch);
        o.key("buildUser").string(&build.build_user);
        o.key("buildDate").string(&build.build_date);
        o.key("goVersion").string(&build.compiler);
    });
}

/// `GET /api/v1/status/walreplay`: the log is read back before the listener opens, so there is nothing to count.
pub(crate) async fn wal_replay(State(shared): State<Shared>) -> Reply {
    replay_state(&shared.api.replay)
}

/// How far the log was read: the numbers of its first, last and current segment.
pub(crate) fn replay_state(replay: &Replay) -> Reply {
    let (first, last, current) = replay.segments();
    Reply::json(|json| {
        json.object(|o| {
            o.key("min")
                .count(first)
                .key("max")
                .count(last)
                .key("current")
                .count(current);
        });
    })
}

/// `GET /api/v1/status/tsdb`
pub(crate) async fn tsdb(State(shared): State<Shared>, request: Request<Body>) -> Result<Response, ApiError> {
    let params = shared.params(request).await?;
    let text = params.text("limit")?;
    let limit = match parse_int(text) {
        _ if text.is_empty() => DEFAULT_TSDB_LIMIT,
        Ok(limit @ 1..) => usize::try_from(limit).unwrap_or(usize::MAX),
        _ => return Err(ApiError::bad_data("limit must be a positive number")),
    };
    shared
        .read(None, move |api, _| {
            let stats = api.db.stats(limit);
            let reply = Reply::json(|json| {
                json.object(|o| {
                    o.key("headStats").object(|h| {
                        h.key("numSeries").count(stats.num_series);
                        h.key("numLabelPairs").count(stats.num_label_pairs);
                        h.key("chunkCount").count(stats.chunk_count);
                        // Upstream's values for an empty head.
                        h.key("minTime")
                            .integer(stats.min_time.map_or(i64::MAX, Timestamp::millis));
                        h.key("maxTime")
                            .integer(stats.max_time.map_or(i64::MIN, Timestamp::millis));
                    });
                    counts(o, "seriesCountByMetricName", &stats.series_count_by_metric_name);
                    counts(o, "labelValueCountByLabelName", &stats.label_value_count_by_label_name);
                    counts(o, "memoryInBytesByLabelName", &stats.memory_in_bytes_by_label_name);
                    counts(o, "seriesCountByLabelValuePair", &stats.series_count_by_label_pair);
                });
            });
            Ok(reply.into_response())
        })
        .await
}

fn counts(json: &mut Json, key: &str, list: &[(String, u64)]) {
    json.key(key).array(|a| {
        for (name, value) in list {
            a.object(|o| {
                o.key("name").string(name).key("value").count(*value);
            });
        }
    });
}

/// A time as upstream's JSON has it; its zero time where there is none.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.millis()).map_or_else(|_| ZERO_TIME.into(), |t| t.to_string())
}

/// What upstream prints for "never".
pub(crate) const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(
            rfc3339(Timestamp::from_millis(1_795_225_163_140)),
            "2026-11-21T01:39:23.14Z"
        );
        assert_eq!(
            rfc3339(Timestamp::from_millis(1_795_225_163_000)),
            "2026-11-21T01:39:23Z"
        );
        assert_eq!(rfc3339(Timestamp::MIN), ZERO_TIME);
    }
}
