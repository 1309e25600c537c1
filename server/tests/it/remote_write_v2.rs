//! `POST /api/v1/write` with messages of remote write 2.0.

use crate::remote_write::{Exemplar, Label, Sample, Series, named, packed, series, value};
use crate::site::{Answer, NOW_MS, Site, Switches};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use prost::Message;
use serde_json::json;
use tidegauge_server::api::ApiLimits;

/// What names the message.
pub(crate) const CONTENT_TYPE: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RequestV2 {
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(crate) symbols: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) series: Vec<SeriesV2>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SeriesV2 {
    #[prost(uint32, repeated, tag = "1")]
    pub(crate) labels: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<Sample>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(crate) histograms: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) exemplars: Vec<ExemplarV2>,
    #[prost(message, optional, tag = "5")]
    pub(crate) metadata: Option<MetadataV2>,
    #[prost(int64, tag = "6")]
    pub(crate) start_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExemplarV2 {
    #[prost(uint32, repeated, tag = "1")]
    pub(crate) labels: Vec<u32>,
    #[prost(double, tag = "2")]
    pub(crate) value: f64,
    #[prost(int64, tag = "3")]
    pub(crate) at_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetadataV2 {
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
    #[prost(uint32, tag = "3")]
    pub(crate) help: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) unit: u32,
}

impl RequestV2 {
    /// An empty one: the first symbol is the empty text.
    pub(crate) fn new() -> Self {
        Self {
            symbols: vec![vec![]],
            series: vec![],
        }
    }

    pub(crate) fn symbol(&mut self, text: &[u8]) -> u32 {
        let place = self.symbols.iter().position(|symbol| symbol == text);
        place.unwrap_or_else(|| {
            self.symbols.push(text.to_vec());
            self.symbols.len() - 1
        }) as u32
    }

    pub(crate) fn labels(&mut self, labels: &[Label]) -> Vec<u32> {
        let both = labels.iter().flat_map(|label| [&label.name, &label.value]);
        both.map(|text| self.symbol(text)).collect()
    }

    /// The message of 2.0 that says what one of 1.0 does.
    pub(crate) fn of(all: &[Series]) -> Self {
        let mut request = Self::new();
        for one in all {
            let labels = request.labels(&one.labels);
            let exemplars = one.exemplars.iter().map(|exemplar| ExemplarV2 {
                labels: request.labels(&exemplar.labels),
                value: exemplar.value,
                at_ms: exemplar.at_ms,
            });
            let exemplars = exemplars.collect();
            request.series.push(SeriesV2 {
                labels,
                samples: one.samples.clone(),
                histograms: one.histograms.clone(),
                exemplars,
                // Writers always send it.
                metadata: Some(MetadataV2::default()),
                start_ms: 0,
            });
        }
        request
    }
}

async fn send(site: &Site, message: &[u8]) -> Answer {
    let body = packed(message);
    let request = Request::post("/api/v1/write")
        .header("content-type", CONTENT_TYPE)
        .header("content-encoding", "snappy")
        .header("content-length", body.len())
        .body(Body::from(body))
        .unwrap();
    site.send(request).await
}

async fn write(site: &Site, all: &[Series]) -> Answer {
    send(site, &RequestV2::of(all).encode_to_vec()).await
}

/// Status, text, and the counts of samples, histograms and exemplars.
#[track_caller]
fn assert_answer(answer: &Answer, status: u16, text: &str, stored: [&str; 3]) {
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (status, text));
    let counts = ["samples", "histograms", "exemplars"]
        .map(|kind| answer.header(&format!("x-prometheus-remote-write-{kind}-written")));
    assert_eq!(counts, stored);
}

const T: i64 = NOW_MS - 10_000;

#[tokio::test]
async fn what_fits_is_stored_and_counted() {
    let site = Site::new();
    for _ in 0..2 {
        let answer = write(&site, &[named("a", &[(T, 2.0)]), named("b", &[(T, 3.0)])]).await;
        assert_answer(&answer, 204, "", ["2", "0", "0"]);
    }
    assert_answer(&write(&site, &[]).await, 204, "", ["0", "0", "0"]);
    assert_answer(&write(&site, &[named("c", &[])]).await, 204, "", ["0", "0", "0"]);
    assert_eq!(
        (value(&site, "a").await, value(&site, "b").await),
        (json!("2"), json!("3"))
    );
    // Another order of symbols and of labels, the same series.
    let mut other = RequestV2::new();
    for text in ["x", "b", "__name__"] {
        other.symbol(text.as_bytes());
    }
    other.series = RequestV2::of(&[named("b", &[(T + 2, 5.0)])]).series;
    other.series[0].labels = vec![3, 2];
    assert_answer(&send(&site, &other.encode_to_vec()).await, 204, "", ["1", "0", "0"]);
    assert_eq!(value(&site, "count_over_time(b[1m])").await, json!("2"));
    let metrics = site.get("/metrics").await.text;
    for line in [
        "tidegauge_remote_write_messages_total{version=\"2.0\"} 5",
        "tidegauge_remote_write_samples_total 5",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn both_versions_write_to_the_same_series() {
    let site = Site::new();
    let labels = [("__name__", "m"), ("job", "j")];
    for step in 0..6 {
        let one = series(&labels, &[(T + step, step as f64)]);
        if step % 2 == 0 {
            assert_answer(&write(&site, &[one]).await, 204, "", ["1", "0", "0"]);
            continue;
        }
        let body = packed(&crate::remote_write::WriteRequest { series: vec![one] }.encode_to_vec());
        let request = Request::post("/api/v1/write").body(Body::from(body)).unwrap();
        assert_eq!(site.send(request).await.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(value(&site, "count_over_time(m[1m])").await, json!("6"));
}

#[tokio::test]
async fn what_does_not_fit_is_told_and_the_rest_is_stored() {
    let site = Site::new();
    write(&site, &[named("a", &[(T, 2.0)]), named("z", &[(T, 2.0)])]).await;
    let answer = write(
        &site,
        &[
            named("before", &[(T, 1.0)]),
            named("a", &[(T - 1, 1.0), (T, 3.0), (T + 1, 4.0)]),
            series(&[("job", "x")], &[(T, 1.0)]),
            series(&[("__name__", "d"), ("l", "1"), ("l", "2")], &[(T, 1.0)]),
            named("z", &[(T - 3_600_001, 1.0)]),
            named("new", &[(NOW_MS + 24 * 3_600_000, 1.0)]),
            named("after", &[(T, 1.0)]),
        ],
    )
    .await;
    let told = format!(
        "out of order sample for series {{__name__=\"a\"}}\n\
         duplicate sample for timestamp {T}; overrides not allowed: existing 2, new value 3 for series {{__name__=\"a\"}}\n\
         invalid metric name or labels, got {{job=\"x\"}}\n\
         invalid labels for series, labels {{__name__=\"d\", l=\"1\", l=\"2\"}}, duplicated label l\n\
         out of bounds for series {{__name__=\"z\"}}\n\
         out of bounds: timestamp is too far in the future for series {{__name__=\"new\"}}\n"
    );
    assert_answer(&answer, 400, &told, ["3", "0", "0"]);
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    for (query, expected) in [("before", "1"), ("a", "4"), ("after", "1"), ("z", "2")] {
        assert_eq!(value(&site, query).await, json!(expected), "{query}");
    }
}

#[tokio::test]
async fn disorder_inside_a_request_is_no_fault_of_what_is_stored() {
    let site = Site::new();
    let disorder = named("a", &[(T, 1.0), (T - 5, 2.0), (T, 9.0), (T + 5, 3.0)]);
    assert_answer(&write(&site, &[disorder]).await, 204, "", ["2", "0", "0"]);
    assert_eq!(value(&site, "count_over_time(a[1m])").await, json!("2"));
    // Of two older ones, one is older than what was stored before.
    let both = named("a", &[(T + 20, 4.0), (T + 10, 5.0), (T + 1, 6.0)]);
    let answer = write(&site, &[both]).await;
    let told = "out of order sample for series {__name__=\"a\"}\n";
    assert_answer(&answer, 400, told, ["1", "0", "0"]);
    assert_eq!(value(&site, "count_over_time(a[1m])").await, json!("3"));
    let metrics = site.get("/metrics").await.text;
    for line in [
        "tidegauge_remote_write_left_out_total{kind=\"unordered_sample\"} 3",
        "tidegauge_remote_write_left_out_total{kind=\"rejected_sample\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn references_that_lead_nowhere_cost_their_series() {
    let site = Site::new();
    for (labels, why) in [
        (vec![1, 99], "reference 99 is outside of a table of 4 symbols"),
        (vec![1, 2, 3], "an odd number of references"),
    ] {
        let mut request = RequestV2::of(&[named("a", &[(T, 1.0)])]);
        request.symbol(b"good");
        let (mut bad, mut good) = (request.series[0].clone(), request.series[0].clone());
        bad.labels = labels;
        good.labels = vec![1, 3];
        request.series = vec![bad, good];
        let answer = send(&site, &request.encode_to_vec()).await;
        let told = format!("parsing labels of a series: {why}\n");
        assert_answer(&answer, 400, &told, ["1", "0", "0"]);
    }
    assert_eq!(
        site.get("/api/v1/label/__name__/values").await.json()["data"],
        json!(["good"])
    );
}

#[tokio::test]
async fn metadata_is_served() {
    let site = Site::new();
    let mut request = RequestV2::of(&[
        named("h_bucket", &[(T, 1.0)]),
        named("h_sum", &[(T, 1.0)]),
        named("c_total", &[(T, 1.0)]),
        named("silent", &[(T, 1.0)]),
    ]);
    let (help, unit) = (request.symbol(b"Helps."), request.symbol(b"seconds"));
    for (place, kind) in [(0, 3), (1, 3), (2, 1)] {
        request.series[place].metadata = Some(MetadataV2 { kind, help, unit });
    }
    // The first time series are resolved, the second time known.
    for step in 0..2 {
        for one in &mut request.series {
            one.samples[0].at_ms = T + step;
        }
        assert_answer(&send(&site, &request.encode_to_vec()).await, 204, "", ["4", "0", "0"]);
        let told = |kind: &str| json!([{"type": kind, "unit": "seconds", "help": "Helps."}]);
        let expected = json!({"c_total": told("counter"), "h": told("histogram")});
        assert_eq!(site.get("/api/v1/metadata").await.json()["data"], expected);
    }
    request.series[2].metadata = Some(MetadataV2 {
        kind: 2,
        help: 99,
        unit: 0,
    });
    request.series[2].samples[0].at_ms = T + 9;
    send(&site, &request.encode_to_vec()).await;
    assert_eq!(
        site.get("/api/v1/metadata?metric=c_total").await.json()["data"],
        json!({"c_total": [{"type": "gauge", "unit": "", "help": ""}]})
    );
    // A message of 1.0 says it beside its series.
    let body = packed(b"\x1a\x0d\x08\x01\x12\x02v1\x22\x05Text.");
    let answer = site
        .send(Request::post("/api/v1/write").body(Body::from(body)).unwrap())
        .await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(
        site.get("/api/v1/metadata?metric=v1").await.json()["data"],
        json!({"v1": [{"type": "counter", "unit": "", "help": "Text."}]})
    );
}

#[tokio::test]
async fn exemplars_and_histograms_are_counted() {
    let site = Site::new();
    site.db.set_max_exemplars(10);
    let exemplar = |at_ms, text: &str| Exemplar {
        labels: vec![Label {
            name: b"trace_id".into(),
            value: text.into(),
        }],
        value: 6.0,
        at_ms,
    };
    let mut both = named("e", &[(T, 1.0)]);
    both.exemplars = vec![exemplar(T + 1, "a"), exemplar(T + 2, "b")];
    // Schema 2, no observations, at `T`.
    let empty = [&[0x20, 4, 0x78][..], &varint(T)].concat();
    let mut histogram = named("h", &[]);
    histogram.histograms = vec![empty];
    assert_answer(
        &write(&site, &[both.clone(), histogram]).await,
        204,
        "",
        ["1", "1", "2"],
    );
    both.samples[0].at_ms = T + 10;
    both.exemplars = vec![exemplar(T, "late"), exemplar(T + 3, "c")];
    let answer = write(&site, &[both]).await;
    let told = "out of order exemplar for series {__name__=\"e\"}\n";
    assert_answer(&answer, 400, told, ["1", "0", "1"]);
    // Schema 9 is none.
    let mut wrong = named("h", &[]);
    wrong.histograms = vec![[&[0x20, 18, 0x78][..], &varint(T + 1)].concat()];
    let answer = write(&site, &[wrong, named("good", &[(T, 1.0)])]).await;
    assert!(
        answer.text.ends_with("for series {__name__=\"h\"}\n"),
        "{}",
        answer.text
    );
    assert_answer(&answer, 400, &answer.text, ["1", "0", "0"]);
}

fn varint(number: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(number.cast_unsigned(), &mut bytes);
    bytes
}

#[tokio::test]
async fn too_much_of_anything_is_refused_clearly() {
    let limits = ApiLimits {
        write_pending_bytes: 1 << 20,
        ..ApiLimits::default()
    };
    let site = Site::with(Switches {
        limits,
        ..Switches::default()
    });
    let many = vec![(T, 1.0); 20_000];
    let samples = RequestV2::of(&[named("a", &many)]).encode_to_vec();
    let symbols = RequestV2 {
        symbols: vec![vec![]; 40_000],
        series: vec![],
    };
    for message in [samples, symbols.encode_to_vec()] {
        let answer = send(&site, &message).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(
            answer.text,
            "one request holds more than 1048576 bytes of samples, symbols and histograms\n"
        );
    }
    // A few bytes that name a long text again and again.
    let site = Site::new();
    let mut request = RequestV2::of(&[named("a", &[(T, 1.0)])]);
    request.symbol(&vec![b'x'; 900_000]);
    let one = SeriesV2 {
        labels: vec![1, 2, 3, 3],
        ..request.series[0].clone()
    };
    request.series = vec![one; 1000];
    let answer = send(&site, &request.encode_to_vec()).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", answer.text.len());
    assert_eq!(
        answer.text,
        "the labels of one request are longer than 536870912 bytes\n"
    );
    assert_eq!(value(&site, "a").await, json!(null));
}

#[tokio::test]
async fn without_memory_a_sender_is_told_to_come_again() {
    let memory = tidegauge_model::Meter::new("remote write", 20_000);
    let limits = ApiLimits {
        write_memory: memory.clone(),
        ..ApiLimits::default()
    };
    let site = Site::with(Switches {
        limits,
        ..Switches::default()
    });
    let many: Vec<(i64, f64)> = (0..2000).map(|i| (T + i, 1.0)).collect();
    let answer = write(&site, &[named("a", &many)]).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), "5");
    assert!(
        answer.text.contains("memory share \"remote write\" is used up"),
        "{}",
        answer.text
    );
    assert_eq!(memory.used(), 0);
    assert_eq!(
        write(&site, &[named("a", &[(T, 1.0)])]).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(memory.used(), 0);
}

#[tokio::test]
async fn bodies_may_come_in_pieces_and_without_a_length() {
    let site = Site::new();
    let body = packed(&RequestV2::of(&[named("a", &[(T, 1.0)])]).encode_to_vec());
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> = body.chunks(7).map(|piece| Ok(piece.to_vec())).collect();
    let request = Request::post("/api/v1/write")
        .header("content-type", CONTENT_TYPE)
        .body(Body::from_stream(futures_util::stream::iter(pieces)))
        .unwrap();
    assert_answer(&site.send(request).await, 204, "", ["1", "0", "0"]);
    let broken: Vec<Result<Vec<u8>, std::io::Error>> = vec![Ok(body), Err(std::io::Error::other("gone"))];
    let request = Request::post("/api/v1/write").body(Body::from_stream(futures_util::stream::iter(broken)));
    assert_eq!(site.send(request.unwrap()).await.status, StatusCode::BAD_REQUEST);
}
