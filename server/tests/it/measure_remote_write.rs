//! What a sample costs the receiver, in 1.0 and in 2.0: run with `--release -- --ignored --nocapture measure_remote_write`.
//! `TIDEGAUGE_MEASURE_ROUNDS` and `TIDEGAUGE_MEASURE_VERSION` choose one load, so that instructions can be counted by the
//! difference of two runs.

use crate::remote_write::{Series, WriteRequest, packed, series};
use crate::remote_write_v2::{CONTENT_TYPE, MetadataV2, RequestV2};
use crate::site::{NOW_MS, Site};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use prost::Message;
use std::time::{Duration, Instant};

const SERIES: usize = 20_000;
/// Series in one request.
const REQUEST: usize = 5000;
const STEP_MS: i64 = 15_000;

/// Series as an exporter in a cluster has them, some thirty of a metric.
fn load(from: usize, round: i64) -> Vec<Series> {
    (from..from + REQUEST)
        .map(|i| {
            let (metric, pod, path) = (
                format!("app_requests_{:03}_total", i / 30),
                format!("checkout-6f7d8c9b5-{:05}", i % 97),
                format!("/api/v1/orders/{}", i % 30),
            );
            let labels = [
                ("__name__", metric.as_str()),
                ("code", "200"),
                ("container", "app"),
                ("instance", "10.0.0.17:8080"),
                ("job", "shop/checkout"),
                ("method", "GET"),
                ("namespace", "shop"),
                ("node", "node-3"),
                ("path", path.as_str()),
                ("pod", pod.as_str()),
            ];
            let value = (round * (i as i64 % 11)) as f64;
            series(&labels, &[(NOW_MS - 3_000_000 + round * STEP_MS, value)])
        })
        .collect()
}

fn body(is_v2: bool, all: Vec<Series>) -> Vec<u8> {
    if !is_v2 {
        return packed(&WriteRequest { series: all }.encode_to_vec());
    }
    let mut request = quick_v2(&all);
    let help = request.symbols.len() as u32;
    request.symbols.push(b"Requests that were answered, by code.".to_vec());
    for one in &mut request.series {
        one.metadata = Some(MetadataV2 { kind: 1, help, unit: 0 });
    }
    packed(&request.encode_to_vec())
}

/// As [`RequestV2::of`], for many symbols.
fn quick_v2(all: &[Series]) -> RequestV2 {
    let mut places = std::collections::HashMap::from([(Vec::new(), 0u32)]);
    let mut request = RequestV2::of(&[]);
    for one in all {
        let mut copy = RequestV2::of(&[Series {
            labels: vec![],
            ..one.clone()
        }])
        .series
        .remove(0);
        for text in one.labels.iter().flat_map(|label| [&label.name, &label.value]) {
            let next = places.len() as u32;
            let place = *places.entry(text.clone()).or_insert_with(|| {
                request.symbols.push(text.clone());
                next
            });
            copy.labels.push(place);
        }
        request.series.push(copy);
    }
    request
}

/// Seconds and bytes of the rounds after the first, which makes the series.
async fn run(is_v2: bool, rounds: i64) -> (Duration, usize) {
    let site = Site::new();
    let content_type = if is_v2 { CONTENT_TYPE } else { "application/x-protobuf" };
    let (mut spent, mut bytes) = (Duration::ZERO, 0);
    for round in 0..rounds {
        for from in (0..SERIES).step_by(REQUEST) {
            let body = body(is_v2, load(from, round));
            bytes += body.len();
            let request = Request::post("/api/v1/write")
                .header("content-type", content_type)
                .header("content-length", body.len())
                .body(Body::from(body))
                .unwrap();
            let began = Instant::now();
            let answer = site.send(request).await;
            if round > 0 {
                spent += began.elapsed();
            }
            assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text);
        }
    }
    (spent, bytes)
}

#[tokio::test]
#[ignore = "figures: run with --release -- --ignored --nocapture"]
async fn measure_remote_write_by_version() {
    let rounds = std::env::var("TIDEGAUGE_MEASURE_ROUNDS").map_or(40, |text| text.parse().unwrap());
    let only = std::env::var("TIDEGAUGE_MEASURE_VERSION").unwrap_or_default();
    for (name, is_v2) in [("1.0", false), ("2.0", true)] {
        if !only.is_empty() && only != name {
            continue;
        }
        let (spent, bytes) = run(is_v2, rounds).await;
        let samples = (SERIES as i64 * (rounds - 1).max(1)) as f64;
        println!(
            "{name}: {:.0} ns per sample, {:.1} bytes per sample on the wire",
            spent.as_nanos() as f64 / samples,
            bytes as f64 / (SERIES as i64 * rounds) as f64
        );
    }
}
