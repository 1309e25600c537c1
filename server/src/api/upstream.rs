//! What we count, once more under the names that Prometheus gives it, so that dashboards and alerts for Prometheus
//! itself show this server: only where both mean the same.
//!
//! Names whose kind or labels come from nothing else of ours are listed where they are counted.

use super::exposition::Listing;
use super::state::ApiState;
use std::collections::HashMap;
use tidegauge_model::MetricKind;

/// One of our metrics as a part of one of theirs.
struct Part {
    ours: &'static str,
    label: Option<(&'static str, &'static str)>,
    factor: f64,
}

const fn of(ours: &'static str) -> Part {
    Part {
        ours,
        label: None,
        factor: 1.0,
    }
}

const fn times(ours: &'static str, factor: f64) -> Part {
    Part {
        ours,
        label: None,
        factor,
    }
}

const fn typed(ours: &'static str, kind: &'static str) -> Part {
    labelled(ours, "type", kind)
}

const fn labelled(ours: &'static str, label: &'static str, value: &'static str) -> Part {
    Part {
        ours,
        label: Some((label, value)),
        factor: 1.0,
    }
}

/// Their name, what it says, and the sum of what of ours it is. The kind is that of the first part.
type Row = (&'static str, &'static str, &'static [Part]);

// A row is easier to read on two lines than on ten.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("net_conntrack_listener_conn_accepted_total", "Total number of connections that the listener accepted.",
        &[labelled("tidegauge_http_connections_accepted_total", "listener_name", "http")]),
    ("net_conntrack_listener_conn_closed_total", "Total number of accepted connections that were closed.",
        &[labelled("tidegauge_http_connections_accepted_total", "listener_name", "http"),
          Part { factor: -1.0, ..labelled("tidegauge_http_connections", "listener_name", "http") }]),
    ("prometheus_config_last_reload_success_timestamp_seconds", "Timestamp of the last successful configuration reload.",
        &[of("tidegauge_config_last_reload_success_timestamp_seconds")]),
    ("prometheus_config_last_reload_successful", "Whether the last configuration reload attempt was successful.",
        &[of("tidegauge_config_last_reload_successful")]),
    ("prometheus_engine_queries", "The current number of queries being executed or waiting.",
        &[of("tidegauge_query_running"), of("tidegauge_query_waiting")]),
    ("prometheus_engine_query_duration_seconds", "Query timings.", &[of("tidegauge_query_duration_seconds")]),
    ("prometheus_engine_query_log_enabled", "State of the query log.", &[of("tidegauge_query_log_enabled")]),
    ("prometheus_engine_query_log_failures_total", "The number of query log failures.",
        &[of("tidegauge_query_log_failures_total")]),
    ("prometheus_engine_query_samples_total", "The total number of samples loaded by all queries.",
        &[of("tidegauge_query_samples_total")]),
    ("prometheus_http_request_duration_seconds", "Histogram of latencies for HTTP requests.",
        &[of("tidegauge_http_request_duration_seconds")]),
    ("prometheus_http_requests_total", "Counter of HTTP requests.", &[of("tidegauge_http_requests_total")]),
    ("prometheus_http_response_size_bytes", "Histogram of response size for HTTP requests.",
        &[of("tidegauge_http_response_size_bytes")]),
    ("prometheus_target_scrape_pool_exceeded_label_limits_total", "Total number of times scrape pools hit the label limits.",
        &[of("tidegauge_scrape_over_label_limit_total")]),
    ("prometheus_target_scrape_pool_exceeded_target_limit_total", "Total number of times scrape pools hit the target limit.",
        &[of("tidegauge_scrape_over_target_limit_total")]),
    ("prometheus_target_scrapes_exceeded_body_size_limit_total", "Total number of scrapes that hit the body size limit.",
        &[of("tidegauge_scrape_over_body_limit_total")]),
    ("prometheus_target_scrapes_exceeded_native_histogram_bucket_limit_total",
        "Total number of scrapes that hit the native histogram bucket limit.", &[of("tidegauge_scrape_over_bucket_limit_total")]),
    ("prometheus_target_scrapes_exceeded_sample_limit_total", "Total number of scrapes that hit the sample limit.",
        &[of("tidegauge_scrape_over_sample_limit_total")]),
    ("prometheus_target_scrapes_sample_duplicate_timestamp_total",
        "Total number of samples rejected due to duplicate timestamps but different values.",
        &[of("tidegauge_scrape_samples_duplicate_total")]),
    ("prometheus_target_scrapes_sample_out_of_bounds_total",
        "Total number of samples rejected due to timestamp falling outside of the time bounds.",
        &[of("tidegauge_scrape_samples_out_of_bounds_total")]),
    ("prometheus_target_scrapes_sample_out_of_order_total",
        "Total number of samples rejected due to not being in the expected order.",
        &[of("tidegauge_scrape_samples_out_of_order_total")]),
    ("prometheus_tsdb_blocks_loaded", "Number of currently loaded data blocks.", &[of("tidegauge_tsdb_blocks")]),
    ("prometheus_tsdb_checkpoint_creations_failed_total", "Total number of checkpoint creations that failed.",
        &[of("tidegauge_tsdb_checkpoints_failed_total")]),
    ("prometheus_tsdb_checkpoint_creations_total", "Total number of checkpoint creations attempted.",
        &[of("tidegauge_tsdb_checkpoints_written_total"), of("tidegauge_tsdb_checkpoints_failed_total")]),
    ("prometheus_tsdb_compactions_failed_total", "Total number of compactions that failed.",
        &[of("tidegauge_tsdb_compactions_failed_total")]),
    ("prometheus_tsdb_compactions_total", "Total number of blocks written from the head and in the place of others.",
        &[of("tidegauge_tsdb_blocks_written_total"), of("tidegauge_tsdb_compactions_total")]),
    ("prometheus_tsdb_data_replay_duration_seconds", "Time taken to replay the data on disk.",
        &[of("tidegauge_tsdb_wal_replay_seconds")]),
    ("prometheus_tsdb_exemplar_exemplars_appended_total", "Total number of appended exemplars.",
        &[of("tidegauge_tsdb_exemplars_appended_total")]),
    ("prometheus_tsdb_exemplar_exemplars_in_storage", "Number of exemplars currently in storage.",
        &[of("tidegauge_tsdb_exemplars")]),
    ("prometheus_tsdb_exemplar_out_of_order_exemplars_total", "Total number of out-of-order exemplar ingestion failed attempts.",
        &[of("tidegauge_tsdb_exemplars_out_of_order_total")]),
    ("prometheus_tsdb_head_chunks", "Total number of chunks in the head block.", &[of("tidegauge_tsdb_head_chunks")]),
    ("prometheus_tsdb_head_max_time", "Maximum timestamp of the head block, in milliseconds.",
        &[times("tidegauge_tsdb_head_max_time_seconds", 1e3)]),
    ("prometheus_tsdb_head_max_time_seconds", "Maximum timestamp of the head block.",
        &[of("tidegauge_tsdb_head_max_time_seconds")]),
    ("prometheus_tsdb_head_min_time", "Minimum time bound of the head block, in milliseconds.",
        &[times("tidegauge_tsdb_head_min_time_seconds", 1e3)]),
    ("prometheus_tsdb_head_min_time_seconds", "Minimum time bound of the head block.",
        &[of("tidegauge_tsdb_head_min_time_seconds")]),
    ("prometheus_tsdb_head_out_of_order_samples_appended_total", "Total number of appended out-of-order samples.",
        &[typed("tidegauge_tsdb_head_late_samples_appended_total", "float")]),
    ("prometheus_tsdb_head_samples_appended_total", "Total number of appended samples.",
        &[typed("tidegauge_tsdb_head_samples_appended_total", "float"),
          typed("tidegauge_tsdb_head_histograms_appended_total", "histogram")]),
    ("prometheus_tsdb_head_series", "Total number of series in the head block.", &[of("tidegauge_tsdb_head_series")]),
    ("prometheus_tsdb_head_series_created_total", "Total number of series created in the head.",
        &[of("tidegauge_tsdb_head_series_created_total")]),
    ("prometheus_tsdb_head_series_removed_total", "Total number of series removed in the head.",
        &[of("tidegauge_tsdb_head_series_removed_total")]),
    ("prometheus_tsdb_out_of_bound_samples_total", "Total number of samples too far behind the newest, without late ones allowed.",
        &[typed("tidegauge_tsdb_head_out_of_bounds_samples_total", "float")]),
    ("prometheus_tsdb_out_of_order_samples_total", "Total number of out-of-order samples refused, without late ones allowed.",
        &[typed("tidegauge_tsdb_head_out_of_order_samples_total", "float")]),
    ("prometheus_tsdb_retention_limit_bytes", "Max number of bytes to be retained in the tsdb blocks, configured; 0 is no limit.",
        &[of("tidegauge_tsdb_retention_limit_bytes")]),
    ("prometheus_tsdb_retention_limit_seconds", "How long to retain samples in storage.",
        &[of("tidegauge_tsdb_retention_limit_seconds")]),
    ("prometheus_tsdb_storage_blocks_bytes", "The number of bytes that are currently used for local storage by all blocks.",
        &[of("tidegauge_tsdb_blocks_bytes")]),
    ("prometheus_tsdb_too_old_samples_total", "Total number of samples before the out-of-order window.",
        &[typed("tidegauge_tsdb_head_too_old_samples_total", "float")]),
    ("prometheus_tsdb_wal_corruptions_total", "Total number of WAL corruptions.",
        &[of("tidegauge_tsdb_wal_damaged_records_total")]),
    ("prometheus_tsdb_wal_fsync_duration_seconds", "Duration of write log fsync.",
        &[of("tidegauge_tsdb_wal_sync_duration_seconds")]),
    ("prometheus_tsdb_wal_record_parts_bytes_written_total", "Total number of bytes written to the write log, headers included.",
        &[of("tidegauge_tsdb_wal_written_bytes_total")]),
    ("prometheus_tsdb_wal_segment_current", "Write log segment index that is currently being written to.",
        &[of("tidegauge_tsdb_wal_segment")]),
    ("prometheus_tsdb_wal_writes_failed_total", "Total number of write log writes that failed.",
        &[of("tidegauge_tsdb_wal_errors_total")]),
];

/// What of the listings Prometheus has under names of its own.
pub(super) fn renamed(listings: &[Listing]) -> Vec<Listing> {
    let by_name: HashMap<&str, &Listing> = listings.iter().map(|listing| (listing.0, listing)).collect();
    let rows = ROWS.iter().filter_map(|(theirs, help, parts)| {
        let kind = by_name.get(parts.first()?.ours)?.2;
        let mut samples: Vec<(Vec<(&'static str, String)>, f64)> = Vec::new();
        for part in *parts {
            let Some((.., found)) = by_name.get(part.ours) else {
                continue;
            };
            for (labels, value) in found {
                let (labels, value) = (relabelled(labels, part), value * part.factor);
                // What has a single part may have many samples, which are not looked through.
                let same = match parts.len() {
                    1 => None,
                    _ => samples.iter().position(|(known, _)| *known == labels),
                };
                match same.and_then(|at| samples.get_mut(at)) {
                    Some((_, sum)) => *sum += value,
                    None => samples.push((labels, value)),
                }
            }
        }
        Some((*theirs, *help, kind, samples))
    });
    rows.collect()
}

fn relabelled(labels: &[(&'static str, String)], part: &Part) -> Vec<(&'static str, String)> {
    let own = labels.iter().map(|(name, value)| match *name {
        // A route with a variable: `{name}` here, `:name` there.
        "handler" => ("handler", value.replace('{', ":").replace('}', "")),
        name => (name, value.clone()),
    });
    let added = part.label.iter().map(|(name, value)| (*name, (*value).to_owned()));
    own.chain(added).collect()
}

/// What is a setting or a state, not a count.
pub(super) fn of_server(api: &ApiState) -> Vec<Listing> {
    let one = |value| vec![(Vec::new(), value)];
    vec![
        (
            "prometheus_engine_queries_concurrent_max",
            "The max number of concurrent queries.",
            MetricKind::Gauge,
            one(api.engine.options().max_concurrency as f64),
        ),
        (
            "prometheus_ready",
            "Whether startup was fully completed and the server is ready for normal operation.",
            MetricKind::Gauge,
            one(f64::from(u8::from(api.ready.why_not().is_none()))),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order_and_helped() {
        assert!(ROWS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(
            ROWS.iter()
                .all(|(_, help, parts)| help.ends_with('.') && !parts.is_empty())
        );
    }

    #[test]
    fn parts_are_summed_by_their_labels() {
        let one = |name, kind, labels: Vec<(&'static str, String)>, value| (name, "Help.", kind, vec![(labels, value)]);
        let (counter, gauge) = (MetricKind::Counter, MetricKind::Gauge);
        let listings = [
            one("tidegauge_http_connections_accepted_total", counter, vec![], 7.0),
            one("tidegauge_http_connections", gauge, vec![], 2.0),
            one("tidegauge_tsdb_head_samples_appended_total", counter, vec![], 5.0),
            one("tidegauge_tsdb_head_histograms_appended_total", counter, vec![], 1.0),
            one(
                "tidegauge_http_requests_total",
                counter,
                vec![("handler", "/api/v1/label/{name}/values".into())],
                3.0,
            ),
        ];
        let found = renamed(&listings);
        let of = |name: &str| {
            let listing = found.iter().find(|listing| listing.0 == name).unwrap();
            let samples: Vec<_> = listing
                .3
                .iter()
                .map(|(labels, value)| (labels[0].1.as_str(), *value))
                .collect();
            (listing.2, samples)
        };
        assert_eq!(
            of("net_conntrack_listener_conn_closed_total"),
            (counter, vec![("http", 5.0)])
        );
        assert_eq!(
            of("prometheus_tsdb_head_samples_appended_total"),
            (counter, vec![("float", 5.0), ("histogram", 1.0)])
        );
        assert_eq!(
            of("prometheus_http_requests_total"),
            (counter, vec![("/api/v1/label/:name/values", 3.0)])
        );
        assert!(found.iter().all(|listing| listing.0 != "prometheus_tsdb_head_series"));
    }
}
