//! `POST /api/v1/write`, row by row of what was observed of Prometheus 3.5.3.

use crate::process::{Running, free_port, request, tidegauge};
use crate::site::{Answer, NOW_MS, Site, Switches, escape};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use prost::Message;
use serde_json::json;
use tidegauge_server::api::ApiLimits;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) series: Vec<Series>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Series {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) exemplars: Vec<Exemplar>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(crate) histograms: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<Label>,
    #[prost(double, tag = "2")]
    pub(crate) value: f64,
    #[prost(int64, tag = "3")]
    pub(crate) at_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Label {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sample {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
    #[prost(int64, tag = "2")]
    pub(crate) at_ms: i64,
}

pub(crate) fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Series {
    Series {
        labels: labels
            .iter()
            .map(|(n, v)| Label {
                name: n.as_bytes().into(),
                value: v.as_bytes().into(),
            })
            .collect(),
        samples: samples
            .iter()
            .map(|(at_ms, value)| Sample {
                value: *value,
                at_ms: *at_ms,
            })
            .collect(),
        exemplars: vec![],
        histograms: vec![],
    }
}

pub(crate) fn named(name: &str, samples: &[(i64, f64)]) -> Series {
    series(&[("__name__", name)], samples)
}

pub(crate) fn packed(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}

async fn send(site: &Site, body: Vec<u8>) -> Answer {
    let request = Request::post("/api/v1/write")
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .header("content-length", body.len())
        .body(Body::from(body))
        .unwrap();
    site.send(request).await
}

async fn write(site: &Site, series: Vec<Series>) -> Answer {
    send(site, packed(&WriteRequest { series }.encode_to_vec())).await
}

#[track_caller]
fn assert_answer(answer: &Answer, status: u16, text: &str) {
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (status, text));
    if !text.is_empty() {
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    }
}

pub(crate) async fn value(site: &Site, query: &str) -> serde_json::Value {
    let path = format!("/api/v1/query?time={}&query={}", NOW_MS / 1000, escape(query));
    site.get(&path)
        .await
        .json()
        .pointer("/data/result/0/value/1")
        .cloned()
        .unwrap_or_default()
}

const T: i64 = NOW_MS - 10_000;

#[tokio::test]
async fn good_samples_are_kept_and_may_be_repeated() {
    let site = Site::new();
    for _ in 0..2 {
        let answer = write(&site, vec![named("a", &[(T, 2.0)]), named("b", &[(T, 3.0)])]).await;
        assert_answer(&answer, 204, "");
    }
    assert_answer(
        &write(&site, vec![named("a", &[(T + 1, 1.0), (T + 2, 2.0)])]).await,
        204,
        "",
    );
    assert_eq!(
        (value(&site, "a").await, value(&site, "b").await),
        (json!("2"), json!("3"))
    );
    assert_answer(&write(&site, vec![]).await, 204, "");
    assert_answer(&write(&site, vec![named("c", &[])]).await, 204, "");
    let metrics = site.get("/metrics").await.text;
    assert!(
        metrics.contains("tidegauge_remote_write_requests_total{outcome=\"stored\"} 5"),
        "{metrics}"
    );
    assert!(metrics.contains("tidegauge_remote_write_samples_total 6"), "{metrics}");
}

#[tokio::test]
async fn labels_may_come_in_any_order() {
    let site = Site::new();
    assert_answer(
        &write(
            &site,
            vec![series(
                &[("z", "1"), ("__name__", "x"), ("a", "2"), ("e", "")],
                &[(T, 1.0)],
            )],
        )
        .await,
        204,
        "",
    );
    assert_answer(
        &write(
            &site,
            vec![series(&[("__name__", "x"), ("a", "2"), ("z", "1")], &[(T + 1, 2.0)])],
        )
        .await,
        204,
        "",
    );
    let found = site.get("/api/v1/series?match[]=x").await.json();
    assert_eq!(found["data"], json!([{"__name__": "x", "a": "2", "z": "1"}]));
    assert_eq!(value(&site, "count_over_time(x[1m])").await, json!("2"));
}

#[tokio::test]
async fn series_with_invalid_labels_are_dropped_and_the_rest_kept() {
    let site = Site::new();
    let mut not_utf8 = named("a", &[(T, 1.0)]);
    not_utf8.labels.push(Label {
        name: b"x".to_vec(),
        value: b"\xff".to_vec(),
    });
    for bad in [
        series(&[("job", "x")], &[(T, 1.0)]),
        series(&[("__name__", "n"), ("", "x")], &[(T, 1.0)]),
        series(&[("__name__", "n"), ("a", "1"), ("a", "2")], &[(T, 1.0)]),
        not_utf8,
    ] {
        let answer = write(&site, vec![bad, named("good", &[(T, 1.0)])]).await;
        assert_answer(&answer, 204, "");
    }
    assert_eq!(
        site.get("/api/v1/label/__name__/values").await.json()["data"],
        json!(["good"])
    );
    let metrics = site.get("/metrics").await.text;
    assert!(
        metrics.contains("tidegauge_remote_write_series_left_out_total{reason=\"invalid_labels\"} 4"),
        "{metrics}"
    );
}

#[tokio::test]
async fn one_sample_that_does_not_fit_keeps_all_of_the_request_out() {
    let site = Site::new();
    assert_answer(&write(&site, vec![named("a", &[(T, 2.0)])]).await, 204, "");
    let around = |bad: Series| vec![named("before", &[(T, 1.0)]), bad, named("after", &[(T, 1.0)])];
    for (bad, text) in [
        (named("a", &[(T - 1, 1.0)]), "out of order sample\n".to_owned()),
        (
            named("a", &[(T, 3.0)]),
            format!("duplicate sample for timestamp {T}; overrides not allowed: existing 2, new value 3\n"),
        ),
        // Half a block's window behind the newest sample of all.
        (named("old", &[(T - 3_600_001, 1.0)]), "out of bounds\n".to_owned()),
        (named("a", &[(T - 3_600_001, 1.0)]), "out of bounds\n".to_owned()),
        (
            named("new", &[(NOW_MS + 24 * 3_600_000, 1.0)]),
            "out of bounds: timestamp is too far in the future\n".to_owned(),
        ),
    ] {
        assert_answer(&write(&site, around(bad)).await, 400, &text);
    }
    for name in ["before", "after"] {
        assert_eq!(value(&site, name).await, json!(null), "{name} was kept");
    }
    assert_eq!(value(&site, "a").await, json!("2"));
    assert_answer(
        &write(
            &site,
            vec![named("a", &[(T + 1, 4.0)]), named("old", &[(T - 3_599_999, 1.0)])],
        )
        .await,
        204,
        "",
    );
}

/// What Prometheus 3.5.3 answered to the same requests, with `out_of_order_time_window: 1h`.
#[tokio::test]
async fn inside_the_window_samples_may_come_late() {
    let site = Site::new();
    site.db.set_out_of_order_ms(3_600_000);
    let seed = named("a", &[(T - 10_000, 1.0), (T - 5000, 2.0), (T, 3.0)]);
    assert_answer(&write(&site, vec![seed]).await, 204, "");
    let duplicate = format!("duplicate sample for timestamp {T}; overrides not allowed: existing 3, new value 4\n");
    for (request, status, text) in [
        (vec![named("a", &[(T - 7000, 50.0)])], 204, ""),
        (vec![named("a", &[(T - 7000, 51.0)])], 204, ""),
        (vec![named("a", &[(T, 4.0)])], 400, duplicate.as_str()),
        (vec![named("a", &[(T, 3.0)])], 204, ""),
        (vec![named("a", &[(T - 3_600_001, 4.0)])], 400, "too old sample\n"),
        (vec![named("a", &[(T - 3_600_000, 4.0)])], 204, ""),
        (vec![named("b", &[(T - 3_599_000, 4.0)])], 204, ""),
        (vec![named("c", &[(T - 3_700_000, 4.0)])], 400, "too old sample\n"),
        (
            vec![named(
                "d",
                &[
                    (T - 1000, 1.0),
                    (T - 3000, 2.0),
                    (T - 1000, 5.0),
                    (T - 3000, 6.0),
                    (T, 7.0),
                ],
            )],
            204,
            "",
        ),
        (
            vec![named("e", &[(T - 1000, 1.0), (T - 3_700_000, 2.0)])],
            400,
            "too old sample\n",
        ),
    ] {
        let told = format!("{request:?}");
        let answer = write(&site, request).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (status, text), "{told}");
    }
    for (query, expected) in [
        ("count_over_time(a[2h])", "5"),
        ("sum_over_time(a[2h])", "60"),
        ("count_over_time(d[1m])", "3"),
        ("sum_over_time(d[1m])", "10"),
        ("count_over_time(b[2h])", "1"),
    ] {
        assert_eq!(value(&site, query).await, json!(expected), "{query}");
    }
    assert_eq!(value(&site, "e").await, json!(null));
    // A window narrower than half a block's: what is in bounds, and behind another of its request, is left out.
    site.db.set_out_of_order_ms(300_000);
    for (request, status, text) in [
        (named("a", &[(T - 600_000, 1.0)]), 400, "too old sample\n"),
        (named("z", &[(T - 600_000, 1.0)]), 204, ""),
        (named("y", &[(T - 1000, 1.0), (T - 600_000, 2.0)]), 204, ""),
    ] {
        assert_answer(&write(&site, vec![request]).await, status, text);
    }
    assert_eq!(value(&site, "count_over_time(y[1h])").await, json!("1"));
    site.db.set_out_of_order_ms(0);
    assert_answer(
        &write(&site, vec![named("a", &[(T - 1, 1.0)])]).await,
        400,
        "out of order sample\n",
    );
    assert_eq!(
        value(&site, "count_over_time(a[2h])").await,
        json!("5"),
        "what is stored stays"
    );
    let metrics = site.get("/metrics").await.text;
    for line in [
        "tidegauge_tsdb_head_late_samples_appended_total 3",
        "tidegauge_tsdb_head_late_samples_repeated_total 2",
        "tidegauge_tsdb_head_too_old_samples_total",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[test]
fn the_window_is_read_from_the_file_and_follows_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prometheus.yml");
    let set = |text: &str| std::fs::write(&file, text).unwrap();
    set("storage: {tsdb: {out_of_order_time_window: 10m}}\n");
    let port = free_port();
    let args = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", dir.path().join("data").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-remote-write-receiver".to_owned(),
        "--web.enable-lifecycle".to_owned(),
    ];
    let running = Running::start(&tidegauge(), &args, port, "/-/ready", &dir.path().join("log"));
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let send = |back_ms: i64| {
        let body = packed(
            &WriteRequest {
                series: vec![named("a", &[(now - back_ms, back_ms as f64)])],
            }
            .encode_to_vec(),
        );
        let headers = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
        ];
        let answer = request(port, "POST", "/api/v1/write", &headers, &body).unwrap();
        (answer.status, answer.body.trim().to_owned())
    };
    let reload = || assert_eq!(request(port, "POST", "/-/reload", &[], b"").unwrap().status, 200);
    assert_eq!(send(0), (204, String::new()));
    assert_eq!(send(599_000), (204, String::new()));
    assert_eq!(send(601_000), (400, "too old sample".to_owned()));
    set("storage: {tsdb: {out_of_order_time_window: 20m}}\n");
    reload();
    assert_eq!(send(601_000), (204, String::new()));
    set("global: {}\n");
    reload();
    assert_eq!(send(602_000), (400, "out of order sample".to_owned()));
    let answer = running.api("/api/v1/query", &[("query", "count_over_time(a[1h])")]);
    assert_eq!(answer.pointer("/result/0/value/1"), Some(&json!("3")));
    let metrics = running.get("/metrics").unwrap();
    assert!(
        !metrics
            .body
            .contains("section=\"storage.tsdb.out_of_order_time_window\"")
    );
}

#[tokio::test]
async fn disorder_inside_a_request_costs_only_the_older_sample() {
    for (request, expected) in [
        (vec![named("a", &[(T, 1.0), (T - 5, 2.0), (T + 5, 3.0)])], ["2", "3"]),
        (vec![named("a", &[(T, 1.0)]), named("a", &[(T + 1, 2.0)])], ["2", "2"]),
        (vec![named("a", &[(T + 1, 1.0)]), named("a", &[(T, 2.0)])], ["1", "1"]),
        (vec![named("a", &[(T, 1.0)]), named("a", &[(T, 2.0)])], ["1", "1"]),
        (vec![named("a", &[(T, 1.0), (T, 1.0)])], ["1", "1"]),
    ] {
        let site = Site::new();
        let told = format!("{request:?}");
        assert_answer(&write(&site, request).await, 204, "");
        let kept = [
            value(&site, "count_over_time(a[1m])").await,
            value(&site, "last_over_time(a[1m])").await,
        ];
        assert_eq!(kept, expected.map(|v| json!(v)), "{told}");
    }
    // What is stored counts before that.
    let site = Site::new();
    assert_answer(&write(&site, vec![named("a", &[(T, 1.0)])]).await, 204, "");
    for samples in [[(T - 1, 2.0), (T + 1, 3.0)], [(T + 1, 3.0), (T - 1, 2.0)]] {
        let answer = write(&site, vec![named("a", &samples)]).await;
        assert_answer(&answer, 400, "out of order sample\n");
    }
    assert_eq!(value(&site, "count_over_time(a[1m])").await, json!("1"));
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let site = Site::new();
    for (body, text) in [
        (b"not snappy".to_vec(), "snappy: corrupt input\n"),
        (vec![], "snappy: corrupt input\n"),
        (b"\xff\xff\xff\xff\xff\x0fa".to_vec(), "snappy: corrupt input\n"),
        (packed(b"\x0a\xff\xff"), "unexpected EOF\n"),
        (packed(&[0xff; 12]), "proto: integer overflow\n"),
        (packed(b"\x08\x01"), "proto: wrong wireType = 0 for field Timeseries\n"),
    ] {
        assert_answer(&send(&site, body).await, 400, text);
    }
    for (content_type, encoding, status) in [
        ("text/plain", "snappy", 415),
        (
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            "snappy",
            204,
        ),
        ("application/x-protobuf;x", "snappy", 415),
        ("application/x-protobuf", "gzip", 415),
        ("application/x-protobuf;proto=prometheus.WriteRequest", "", 204),
        ("", "snappy", 204),
    ] {
        let mut request = Request::post("/api/v1/write");
        for (name, value) in [("content-type", content_type), ("content-encoding", encoding)] {
            if !value.is_empty() {
                request = request.header(name, value);
            }
        }
        let answer = site.send(request.body(Body::from(packed(b""))).unwrap()).await;
        assert_eq!(
            answer.status.as_u16(),
            status,
            "{content_type} {encoding}: {}",
            answer.text
        );
    }
    let get = site.get("/api/v1/write").await;
    assert_eq!((get.status.as_u16(), get.header("allow")), (405, "OPTIONS, POST"));
}

#[tokio::test]
async fn large_bodies_are_cut_at_the_limits() {
    let limits = ApiLimits {
        write_bytes: 1000,
        write_decoded_bytes: 5000,
        ..ApiLimits::default()
    };
    let site = Site::with(Switches {
        limits,
        ..Switches::default()
    });
    assert_eq!(send(&site, vec![7; 1001]).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let bomb = send(&site, packed(&[0; 6000])).await;
    assert_answer(&bomb, 400, "snappy: decoded length 6000 exceeds limit 5000\n");
    let without_length = Request::post("/api/v1/write").header("content-type", "application/x-protobuf");
    let answer = site.send(without_length.body(Body::from(vec![7; 1001])).unwrap()).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

/// A histogram of no observations, with this schema (zigzag), at `T`.
fn empty_histogram(schema: u8) -> Vec<u8> {
    let mut message = vec![0x20, schema, 0x78];
    let mut at = T.cast_unsigned();
    while at >= 0x80 {
        message.push(at as u8 | 0x80);
        at >>= 7;
    }
    message.push(at as u8);
    message
}

#[tokio::test]
async fn native_histograms_are_stored_and_a_query_that_meets_one_says_so() {
    let site = Site::new();
    let mut histogram = named("h", &[]);
    histogram.histograms.push(empty_histogram(2));
    let answer = write(&site, vec![histogram.clone(), named("good", &[(T, 1.0)])]).await;
    assert_answer(&answer, 204, "");
    let again = write(&site, vec![histogram]).await;
    assert_answer(&again, 204, "");
    assert_eq!(value(&site, "good").await, json!("1"));
    let met = site.get(&format!("/api/v1/query?query=h&time={}", T / 1000 + 1)).await;
    assert_eq!(met.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", met.text);
    assert!(met.text.contains("histogram"), "{}", met.text);
    let series = site.get("/api/v1/series?match[]=h").await.json();
    assert_eq!(series["data"], json!([{"__name__": "h"}]));
}

#[tokio::test]
async fn what_is_no_histogram_is_told_and_the_rest_is_kept() {
    let site = Site::new();
    let mut histogram = named("h", &[]);
    histogram.histograms.push(empty_histogram(2 * 9));
    let answer = write(&site, vec![histogram, named("good", &[(T, 1.0)])]).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(
        answer.text.contains("1 samples stored") && answer.text.contains("1 invalid histograms"),
        "{}",
        answer.text
    );
    assert_eq!(value(&site, "good").await, json!("1"));
}

#[tokio::test]
async fn exemplars_are_stored_and_found_by_the_querys_selectors() {
    let site = Site::new();
    site.db.set_max_exemplars(10);
    let mut traced = named("traced", &[(T, 1.0)]);
    traced.exemplars.push(Exemplar {
        labels: vec![Label {
            name: b"trace_id".into(),
            value: b"abc".into(),
        }],
        value: 6.0,
        at_ms: T + 5,
    });
    let mut unknown = named("unknown", &[]);
    unknown.exemplars.clone_from(&traced.exemplars);
    assert_answer(&write(&site, vec![traced, unknown]).await, 204, "");
    let span = format!("start={}&end={}", T / 1000, T / 1000 + 1);
    let found = site
        .get(&format!("/api/v1/query_exemplars?query=traced%2Bup&{span}"))
        .await;
    let expect = format!(
        "{{\"status\":\"success\",\"data\":[{{\"seriesLabels\":{{\"__name__\":\"traced\"}},\"exemplars\":[{{\"labels\":\
         {{\"trace_id\":\"abc\"}},\"value\":\"6\",\"timestamp\":{}.505}}]}}]}}",
        T / 1000
    );
    assert_eq!(found.text, expect);
    let none = site.get(&format!("/api/v1/query_exemplars?query=unknown&{span}")).await;
    assert_eq!(none.text, "{\"status\":\"success\",\"data\":[]}");
}

#[tokio::test]
async fn the_receiver_is_off_unless_asked_for() {
    let site = Site::with(Switches {
        remote_write: false,
        ..Switches::default()
    });
    let answer = write(&site, vec![]).await;
    assert_answer(
        &answer,
        404,
        "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n",
    );
}

#[tokio::test]
async fn more_series_than_are_remembered_still_arrive() {
    let limits = ApiLimits {
        write_cached_series: 10,
        ..ApiLimits::default()
    };
    let site = Site::with(Switches {
        limits,
        ..Switches::default()
    });
    for step in 0..3 {
        let all = (0..50)
            .map(|i| series(&[("__name__", "m"), ("i", &i.to_string())], &[(T + step, 1.0)]))
            .collect();
        assert_answer(&write(&site, all).await, 204, "");
    }
    assert_eq!(value(&site, "sum(count_over_time(m[1m]))").await, json!("150"));
}

#[tokio::test]
async fn over_the_most_series_a_new_one_is_refused_and_those_there_go_on() {
    let site = Site::with(Switches {
        max_series: 2,
        ..Switches::default()
    });
    assert_answer(
        &write(&site, vec![named("a", &[(T, 1.0)]), named("b", &[(T, 2.0)])]).await,
        204,
        "",
    );
    let answer = write(
        &site,
        vec![
            named("a", &[(T + 1, 3.0)]),
            named("c", &[(T + 1, 4.0)]),
            named("b", &[(T + 1, 5.0)]),
        ],
    )
    .await;
    assert!(answer.status.is_client_error(), "{answer:?}");
    assert!(
        answer.text.contains("max_series") && answer.text.contains('2'),
        "{answer:?}"
    );
    assert_eq!(
        (
            value(&site, "a").await,
            value(&site, "b").await,
            value(&site, "c").await
        ),
        (json!("3"), json!("5"), json!(null))
    );
    let metrics = site.get("/metrics").await.text;
    assert!(
        metrics.contains("tidegauge_tsdb_head_series_refused_total 1"),
        "{metrics}"
    );
}
