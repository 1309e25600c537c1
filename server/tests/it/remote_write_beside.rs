//! The same remote-write requests, in 1.0 and in 2.0, to a real Prometheus and to us: the same status, text and headers,
//! and the same is stored afterwards.
//!
//! Where an answer or what is stored cannot be equal, `remote_write_gaps.txt` says so and why; a row of it that is equal
//! after all fails, too.

use crate::process::{Answer, Running, peer, request, tidegauge};
use crate::remote_write::{Exemplar, Label, Series, WriteRequest, named, packed, series};
use crate::remote_write_v2::{CONTENT_TYPE, MetadataV2, RequestV2};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Headers that are compared.
const HEADERS: [&str; 7] = [
    "content-type",
    "allow",
    "x-content-type-options",
    "retry-after",
    "x-prometheus-remote-write-samples-written",
    "x-prometheus-remote-write-histograms-written",
    "x-prometheus-remote-write-exemplars-written",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    fn name(self) -> &'static str {
        match self {
            Self::V1 => "1.0",
            Self::V2 => "2.0",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::V1 => "application/x-protobuf",
            Self::V2 => CONTENT_TYPE,
        }
    }

    fn encode(self, all: &[Series]) -> Vec<u8> {
        match self {
            Self::V1 => WriteRequest { series: all.to_vec() }.encode_to_vec(),
            Self::V2 => RequestV2::of(all).encode_to_vec(),
        }
    }
}

/// One request.
struct Case {
    name: String,
    method: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Case {
    fn of(version: Version, name: &str, body: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            method: "POST",
            headers: vec![
                ("Content-Type", version.content_type().to_owned()),
                ("Content-Encoding", "snappy".to_owned()),
            ],
            body,
        }
    }
}

fn label(name: &[u8], value: &[u8]) -> Label {
    Label {
        name: name.to_vec(),
        value: value.to_vec(),
    }
}

fn bytes_labelled(labels: &[(&[u8], &[u8])], at_ms: i64) -> Series {
    let mut one = named("x", &[(at_ms, 1.0)]);
    one.labels = labels.iter().map(|(name, value)| label(name, value)).collect();
    one
}

/// A histogram by its fields: see the messages' definition. Integer counts unless `floats`.
struct Histogram {
    at_ms: i64,
    schema: i64,
    count: u64,
    buckets: Vec<i64>,
    custom: Vec<f64>,
    floats: bool,
}

impl Histogram {
    fn simple(at_ms: i64, count: u64) -> Self {
        Self {
            at_ms,
            schema: 1,
            count,
            buckets: vec![count.cast_signed()],
            custom: vec![],
            floats: false,
        }
    }

    fn encode(&self) -> Vec<u8> {
        use prost::encoding::{double, encode_varint, int64, sint32, sint64, uint64};
        let mut to = Vec::new();
        if self.floats {
            double::encode(2, &(self.count as f64), &mut to);
        } else {
            uint64::encode(1, &self.count, &mut to);
        }
        double::encode(3, &4.5, &mut to);
        sint32::encode(4, &(self.schema as i32), &mut to);
        let span = [&[0x08, 0x00, 0x10][..], &[self.buckets.len() as u8]].concat();
        to.push(11 << 3 | 2);
        encode_varint(span.len() as u64, &mut to);
        to.extend(span);
        if self.floats {
            let counts: Vec<f64> = self.buckets.iter().map(|delta| *delta as f64).collect();
            double::encode_packed(13, &counts, &mut to);
        } else {
            sint64::encode_packed(12, &self.buckets, &mut to);
        }
        int64::encode(15, &self.at_ms, &mut to);
        double::encode_packed(16, &self.custom, &mut to);
        to
    }
}

fn histograms(name: &str, all: &[Histogram]) -> Series {
    let mut one = named(name, &[]);
    one.histograms = all.iter().map(Histogram::encode).collect();
    one
}

fn traced(name: &str, samples: &[(i64, f64)], exemplars: &[(i64, &str)]) -> Series {
    let mut one = named(name, samples);
    one.exemplars = exemplars
        .iter()
        .map(|(at_ms, id)| Exemplar {
            labels: vec![label(b"trace_id", id.as_bytes())],
            value: 2.0,
            at_ms: *at_ms,
        })
        .collect();
    one
}

/// Requests whose series both versions can tell.
fn common(t: i64) -> Vec<(&'static str, Vec<Series>)> {
    let hour = 3_600_000;
    let mut all = samples(t);
    all.extend(labels(t));
    all.extend(exemplars(t));
    all.extend(native(t));
    all.extend([
        (
            "older than the head takes",
            vec![named("old", &[(t - hour - 60_000, 1.0)])],
        ),
        (
            "older than the head takes, of a series that is there",
            vec![named("a", &[(t - hour - 60_000, 1.0)])],
        ),
        (
            "an hour behind, nearly",
            vec![named("old_enough", &[(t - hour + 60_000, 1.0)])],
        ),
        ("too far ahead", vec![named("ahead", &[(t + 24 * hour, 1.0)])]),
        (
            "too far ahead, then now",
            vec![named("ahead2", &[(t + 24 * hour, 1.0), (t, 1.0)])],
        ),
        ("time zero", vec![named("zero", &[(0, 1.0)])]),
        ("time before zero", vec![named("before_zero", &[(-1, 1.0)])]),
        ("the last time there is", vec![named("last", &[(i64::MAX, 1.0)])]),
        ("the first time there is", vec![named("first", &[(i64::MIN, 1.0)])]),
        ("nine minutes ahead", vec![named("soon", &[(t + 540_000, 1.0)])]),
        ("behind that", vec![named("a", &[(t + 30_000, 1.0)])]),
    ]);
    all
}

fn samples(t: i64) -> Vec<(&'static str, Vec<Series>)> {
    let odd = [
        1.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        f64::MIN_POSITIVE / 2.0,
    ];
    let odd: Vec<(i64, f64)> = (0..).zip(odd).map(|(step, value)| (t + step, value)).collect();
    let many: Vec<(i64, f64)> = (0..500).map(|step| (t - 10_000 + step, step as f64)).collect();
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    vec![
        ("a sample", vec![named("a", &[(t, 2.0)]), named("b", &[(t, 3.0)])]),
        ("the same again", vec![named("a", &[(t, 2.0)]), named("b", &[(t, 3.0)])]),
        ("the same time, another value", vec![named("a", &[(t, 5.0)])]),
        ("older", vec![named("a", &[(t - 1, 5.0)])]),
        (
            "older, between good ones",
            vec![
                named("c", &[(t, 1.0)]),
                named("a", &[(t - 1, 5.0)]),
                named("d", &[(t, 1.0)]),
            ],
        ),
        (
            "two misfits",
            vec![
                named("a", &[(t - 1, 5.0), (t, 6.0), (t + 1, 7.0)]),
                named("b", &[(t - 9, 1.0)]),
            ],
        ),
        (
            "newer",
            vec![named("a", &[(t + 10, 1.0)]), named("c", &[(t + 10, 1.0)])],
        ),
        ("no request", vec![]),
        ("no samples", vec![named("none", &[])]),
        ("in order", vec![named("o", &[(t, 1.0), (t + 1, 2.0)])]),
        ("in disorder", vec![named("p", &[(t, 1.0), (t - 5, 2.0), (t + 5, 3.0)])]),
        ("one time, two values", vec![named("q", &[(t, 1.0), (t, 2.0)])]),
        ("one time, one value twice", vec![named("r", &[(t, 1.0), (t, 1.0)])]),
        (
            "one series twice",
            vec![named("s", &[(t, 1.0)]), named("s", &[(t + 1, 2.0)])],
        ),
        (
            "one series twice, in disorder",
            vec![named("u", &[(t + 1, 1.0)]), named("u", &[(t, 2.0)])],
        ),
        (
            "in disorder, behind what is stored",
            vec![named("a", &[(t + 20, 1.0), (t + 5, 1.0)])],
        ),
        (
            "behind what is stored, then newer",
            vec![named("a", &[(t + 5, 1.0), (t + 30, 1.0)])],
        ),
        ("odd values", vec![named("odd", &odd)]),
        ("odd values again", vec![named("odd", &odd)]),
        ("a marker", vec![named("gone", &[(t, 1.0), (t + 1, stale)])]),
        ("a marker again", vec![named("gone", &[(t + 1, stale)])]),
        ("a value at a marker", vec![named("gone", &[(t + 1, 4.0)])]),
        ("many samples", vec![named("many", &many)]),
    ]
}

fn labels(t: i64) -> Vec<(&'static str, Vec<Series>)> {
    let long = "v".repeat(70_000);
    let names: Vec<String> = (0..300).map(|i| format!("l{i:03}")).collect();
    let mut wide = vec![("__name__", "wide")];
    wide.extend(names.iter().map(|name| (name.as_str(), "v")));
    let good = || named("good", &[(t, 1.0)]);
    vec![
        ("no name", vec![series(&[("job", "x")], &[(t, 1.0)]), good()]),
        ("no labels", vec![series(&[], &[(t, 1.0)]), good()]),
        ("no labels and no samples", vec![series(&[], &[])]),
        ("no name and no samples", vec![series(&[("job", "x")], &[])]),
        ("an empty metric name", vec![named("", &[(t, 1.0)]), good()]),
        (
            "an empty label name",
            vec![series(&[("", "x"), ("__name__", "n")], &[(t, 1.0)]), good()],
        ),
        (
            "a label twice",
            vec![
                series(&[("__name__", "n"), ("a", "1"), ("a", "2")], &[(t, 1.0)]),
                good(),
            ],
        ),
        (
            "a label twice, one value",
            vec![series(&[("__name__", "n"), ("a", "1"), ("a", "1")], &[(t, 1.0)])],
        ),
        (
            "two names",
            vec![series(&[("__name__", "n"), ("__name__", "o")], &[(t, 1.0)])],
        ),
        (
            "labels in disorder",
            vec![series(&[("z", "1"), ("a", "2"), ("__name__", "zad")], &[(t, 1.0)])],
        ),
        (
            "labels in order",
            vec![series(&[("__name__", "zad"), ("a", "2"), ("z", "1")], &[(t + 1, 1.0)])],
        ),
        (
            "an empty value",
            vec![series(&[("__name__", "ev"), ("e", "")], &[(t, 1.0)])],
        ),
        ("without it", vec![named("ev", &[(t, 2.0)])]),
        (
            "a value that is no text",
            vec![bytes_labelled(&[(b"__name__", b"x"), (b"a", b"\xff\xfe")], t), good()],
        ),
        (
            "a name that is no text",
            vec![bytes_labelled(&[(b"__name__", b"x"), (b"\xff", b"a")], t), good()],
        ),
        (
            "a metric name that is no text",
            vec![bytes_labelled(&[(b"__name__", b"x\xff")], t), good()],
        ),
        (
            "a metric name of any text",
            vec![named("my.metric \u{e9}", &[(t, 1.0)])],
        ),
        (
            "a label name of any text",
            vec![series(
                &[("__name__", "any"), ("my label", "1"), ("\u{e9}", "2")],
                &[(t, 1.0)],
            )],
        ),
        (
            "values to be quoted",
            vec![series(
                &[
                    ("my label", "a\"b\\c\nd\te\u{7}\u{1}"),
                    ("u", "\u{e9}\u{1f600}\u{ad}\u{2028}\u{7f}"),
                ],
                &[(t, 1.0)],
            )],
        ),
        (
            "a misfit whose value is empty",
            vec![series(&[("__name__", "a"), ("e", "")], &[(t - 1, 1.0)])],
        ),
        (
            "misfits and bad labels",
            vec![
                named("a", &[(t - 1, 1.0)]),
                series(&[("job", "x")], &[(t, 1.0)]),
                named("b", &[(t - 1, 1.0)]),
                good(),
            ],
        ),
        (
            "a long value",
            vec![series(&[("__name__", "long"), ("v", &long)], &[(t, 1.0)]), good()],
        ),
        ("many labels", vec![series(&wide, &[(t, 1.0)]), good()]),
    ]
}

fn exemplars(t: i64) -> Vec<(&'static str, Vec<Series>)> {
    let long = "x".repeat(200);
    let mut bare = traced("ex_bare", &[(t, 1.0)], &[(t, "x")]);
    bare.exemplars[0].labels.clear();
    vec![
        ("an exemplar", vec![traced("ex", &[(t, 1.0)], &[(t, "one")])]),
        ("an exemplar again", vec![traced("ex", &[(t + 1, 1.0)], &[(t, "one")])]),
        (
            "newer exemplars",
            vec![traced("ex", &[(t + 2, 1.0)], &[(t + 1, "two"), (t + 2, "three")])],
        ),
        (
            "an older exemplar",
            vec![
                traced("ex", &[(t + 3, 1.0)], &[(t - 1, "old")]),
                named("good", &[(t + 1, 1.0)]),
            ],
        ),
        (
            "an exemplar without a sample",
            vec![traced("ex", &[], &[(t + 4, "four")])],
        ),
        (
            "an exemplar of an unknown series",
            vec![traced("ex_unknown", &[], &[(t + 4, "four")])],
        ),
        (
            "an exemplar that is too long",
            vec![traced("ex", &[(t + 5, 1.0)], &[(t + 5, &long)])],
        ),
        ("an exemplar without labels", vec![bare]),
        (
            "an exemplar without a time",
            vec![traced("ex_zero", &[(t, 1.0)], &[(0, "zero")])],
        ),
    ]
}

fn native(t: i64) -> Vec<(&'static str, Vec<Series>)> {
    let simple = Histogram::simple;
    let custom = |custom: &[f64]| Histogram {
        schema: -53,
        custom: custom.to_vec(),
        ..simple(t, 3)
    };
    vec![
        ("a histogram", vec![histograms("hist", &[simple(t, 3)])]),
        ("a histogram again", vec![histograms("hist", &[simple(t, 3)])]),
        (
            "another histogram of that time",
            vec![histograms("hist", &[simple(t, 4)])],
        ),
        (
            "an older histogram",
            vec![histograms("hist", &[simple(t - 1, 4)]), named("good", &[(t + 2, 1.0)])],
        ),
        (
            "newer histograms",
            vec![histograms("hist", &[simple(t + 1, 4), simple(t + 2, 5)])],
        ),
        (
            "a histogram of floats",
            vec![histograms(
                "hist_f",
                &[Histogram {
                    floats: true,
                    ..simple(t, 3)
                }],
            )],
        ),
        (
            "a histogram of own buckets",
            vec![histograms("hist_c", &[custom(&[1.0, 2.0])])],
        ),
        (
            "own buckets out of order",
            vec![histograms("hist_c2", &[custom(&[2.0, 1.0])])],
        ),
        (
            "a schema that is none",
            vec![histograms(
                "hist_s",
                &[Histogram {
                    schema: 9,
                    ..simple(t, 3)
                }],
            )],
        ),
        (
            "counts that do not add up",
            vec![histograms(
                "hist_n",
                &[Histogram {
                    count: 9,
                    ..simple(t, 3)
                }],
            )],
        ),
        ("a float where a histogram is", vec![named("hist", &[(t + 2, 1.0)])]),
        ("a float behind a histogram", vec![named("hist", &[(t + 1, 1.0)])]),
        (
            "a histogram where a float is",
            vec![histograms("good", &[simple(t, 3)])],
        ),
        (
            "a histogram too far ahead",
            vec![histograms("hist_a", &[simple(t + 90_000_000, 3)])],
        ),
        (
            "a histogram too old",
            vec![histograms("hist_o", &[simple(t - 90_000_000, 3)])],
        ),
        ("both kinds in one series", {
            let mut both = histograms("hist_both", &[simple(t + 1, 3)]);
            both.samples = named("x", &[(t, 1.0)]).samples;
            vec![both]
        }),
    ]
}

/// Bodies that are none, and headers.
fn rough(version: Version) -> Vec<Case> {
    let of = |name: &str, body: Vec<u8>| Case::of(version, name, body);
    let mut cases = vec![
        of("not snappy", b"not snappy".to_vec()),
        of("no body", vec![]),
        of("cut snappy", packed(&[7; 100])[..5].to_vec()),
        of("more than it claims", [&[1u8][..], &packed(&[7; 100])[1..]].concat()),
        of("far more claimed than there is", b"\xff\xff\xff\xff\x0fabc".to_vec()),
        of("framed snappy", b"\xff\x06\x00\x00sNaPpY".to_vec()),
        of("a cut field", packed(b"\x0a\xff\xff")),
        of("an endless number", packed(&[0xff; 12])),
        of("a group", packed(b"\x0b")),
        of(
            "unknown fields",
            packed(b"\x78\x01\x7a\x01a\x79\x01\x02\x03\x04\x05\x06\x07\x08\x7d\x01\x02\x03\x04"),
        ),
        match version {
            Version::V1 => of("a series that is a number", packed(b"\x08\x01")),
            Version::V2 => of("a series that is a number", packed(b"\x28\x01")),
        },
        match version {
            Version::V1 => of("a sample that is a number", packed(b"\x0a\x02\x10\x01")),
            Version::V2 => of("a sample that is a number", packed(b"\x2a\x02\x10\x01")),
        },
    ];
    let empty = packed(b"");
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        cases.push(Case {
            method,
            ..of(method, vec![])
        });
    }
    let v1_body = packed(&Version::V1.encode(&[]));
    for encoding in ["gzip", "zstd", "SNAPPY", "identity", "snappy, gzip"] {
        let mut case = of(&format!("encoding {encoding}"), empty.clone());
        case.headers[1].1 = encoding.to_owned();
        cases.push(case);
    }
    cases.push({
        let mut case = of("no encoding", empty.clone());
        case.headers.truncate(1);
        case
    });
    cases.push({
        let mut case = of("any version", empty.clone());
        case.headers
            .push(("X-Prometheus-Remote-Write-Version", "99".to_owned()));
        case
    });
    if version == Version::V1 {
        for content_type in [
            "text/plain",
            "application/json",
            "application/x-protobuf;x",
            "application/x-protobuf;a=b",
            "application/x-protobuf;a=b=c",
            "application/x-protobuf ;a=b",
            "application/x-protobuf;proto=prometheus.WriteRequest",
            "application/x-protobuf;proto=foo",
            "application/x-protobuf;proto=",
            "Application/X-Protobuf",
            "application/x-protobuf;proto=prometheus.WriteRequest;proto=foo",
        ] {
            let mut case = of(&format!("type {content_type}"), v1_body.clone());
            case.headers[0].1 = content_type.to_owned();
            cases.push(case);
        }
        cases.push({
            let mut case = of("no type", v1_body);
            case.headers.remove(0);
            case
        });
    }
    cases
}

/// What only 2.0 can say.
fn only_v2(t: i64) -> Vec<(&'static str, Vec<u8>)> {
    let of = |name: &str, change: &dyn Fn(&mut RequestV2)| {
        let mut request = RequestV2::of(&[named(name, &[(t, 1.0)])]);
        change(&mut request);
        request.encode_to_vec()
    };
    let later = {
        let all = RequestV2::of(&[named("symbols_later", &[(t, 1.0)])]);
        let symbols = RequestV2 {
            series: vec![],
            ..all.clone()
        };
        let series = RequestV2 { symbols: vec![], ..all };
        [series.encode_to_vec(), symbols.encode_to_vec()].concat()
    };
    let unpacked =
        b"\x22\x00\x22\x08__name__\x22\x08unpacked\x2a\x11\x08\x01\x08\x02\x12\x0b\x09\0\0\0\0\0\0\xf0\x3f\x10\x05";
    vec![
        (
            "a reference that leads nowhere",
            of("nowhere", &|r| r.series[0].labels[1] = 99),
        ),
        (
            "an odd number of references",
            of("odd_refs", &|r| {
                r.series[0].labels.pop();
            }),
        ),
        ("no references", of("no_refs", &|r| r.series[0].labels.clear())),
        ("symbols behind the series", later),
        ("references one by one, and a time long ago", unpacked.to_vec()),
        (
            "a first symbol that is not empty",
            of("first", &|r| r.symbols[0] = b"x".to_vec()),
        ),
        (
            "a symbol twice",
            of("twice", &|r| {
                r.symbols.push(b"__name__".to_vec());
                r.series[0].labels[0] = r.symbols.len() as u32 - 1;
            }),
        ),
        (
            "metadata",
            of("meta_total", &|r| {
                let (help, unit) = (r.symbol(b"Help."), r.symbol(b"seconds"));
                r.series[0].metadata = Some(MetadataV2 { kind: 1, help, unit });
            }),
        ),
        ("no metadata", of("no_meta", &|r| r.series[0].metadata = None)),
        (
            "metadata of an unknown type",
            of("odd_meta", &|r| {
                r.series[0].metadata = Some(MetadataV2 {
                    kind: 99,
                    ..MetadataV2::default()
                });
            }),
        ),
        (
            "metadata that leads nowhere",
            of("lost_meta", &|r| {
                r.series[0].metadata = Some(MetadataV2 {
                    help: 99,
                    ..MetadataV2::default()
                });
            }),
        ),
        ("a start", of("started_total", &|r| r.series[0].start_ms = t - 60_000)),
        (
            "a start behind the sample",
            of("started_late_total", &|r| r.series[0].start_ms = t + 60_000),
        ),
        (
            "a message of 1.0",
            Version::V1.encode(&[named("v1_as_v2", &[(t, 1.0)])]),
        ),
    ]
}

fn cases(version: Version, t: i64) -> Vec<Case> {
    let mut all: Vec<Case> = common(t)
        .into_iter()
        .map(|(name, series)| Case::of(version, name, packed(&version.encode(&series))))
        .collect();
    let more = match version {
        Version::V1 => vec![(
            "a message of 2.0",
            Version::V2.encode(&[named("v2_as_v1", &[(t, 1.0)])]),
        )],
        Version::V2 => only_v2(t),
    };
    all.extend(
        more.into_iter()
            .map(|(name, message)| Case::of(version, name, packed(&message))),
    );
    if version == Version::V2 {
        // A space is allowed before a parameter.
        let body = packed(&Version::V2.encode(&[named("spaced", &[(t, 1.0)])]));
        let mut case = Case::of(version, "type with a space", body);
        case.headers[0].1 = CONTENT_TYPE.replace(';', "; ");
        all.push(case);
    }
    all.extend(rough(version));
    all
}

/// Both keep what is new in the protocol.
fn start(program: &Path, name: &str, dir: &Path) -> Running {
    let flags = [
        "--web.enable-remote-write-receiver",
        "--enable-feature=exemplar-storage,native-histograms",
    ];
    Running::serve(program, name, dir, "global: {}\n", &flags)
}

/// What a client sees of an answer.
fn seen(answer: Option<Answer>) -> String {
    let Some(answer) = answer else {
        return "no answer".to_owned();
    };
    let headers = HEADERS.map(|name| format!("{name}: {}", answer.header(name)));
    format!("{} {:?} {}", answer.status, answer.body, headers.join(", "))
}

/// All samples, exemplars and series that are stored. Histograms by the names of their series alone.
fn stored(server: &Running, t: i64) -> BTreeMap<String, String> {
    let end = (t / 1000 + 700).to_string();
    let samples = [
        ("query", "{__name__=~\".+\",__name__!~\"hist.*\"}[3h]"),
        ("time", end.as_str()),
    ];
    let rows = server.api("/api/v1/query", &samples)["result"]
        .as_array()
        .unwrap()
        .clone();
    let mut found: BTreeMap<String, String> = rows
        .into_iter()
        .map(|row| (row["metric"].to_string(), row["values"].to_string()))
        .collect();
    let start = (t / 1000 - 10_000).to_string();
    let range = [("start", start.as_str()), ("end", end.as_str())];
    let histograms = [&[("match[]", "{__name__=~\"hist.*\"}")], &range[..]].concat();
    for series in server.api("/api/v1/series", &histograms).as_array().unwrap() {
        found.insert(series.to_string(), "a histogram".to_owned());
    }
    let exemplars = [&[("query", "{__name__=~\"ex.*\"}")], &range[..]].concat();
    for row in server.api("/api/v1/query_exemplars", &exemplars).as_array().unwrap() {
        found.insert(
            format!("exemplars of {}", row["seriesLabels"]),
            row["exemplars"].to_string(),
        );
    }
    found
}

/// What differs between two servers' stores, in words.
fn difference(theirs: &BTreeMap<String, String>, ours: &BTreeMap<String, String>) -> BTreeSet<String> {
    let names: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    names
        .into_iter()
        .filter(|name| theirs.get(*name) != ours.get(*name))
        .map(|name| {
            let cut =
                |found: Option<&String>| found.map_or("nothing".to_owned(), |all| all.chars().take(300).collect());
            let name_cut: String = name.chars().take(200).collect();
            format!(
                "{name_cut}: theirs {} ours {}",
                cut(theirs.get(name)),
                cut(ours.get(name))
            )
        })
        .collect()
}

/// Cases that may differ, by version and name.
fn gaps() -> BTreeSet<(String, String)> {
    include_str!("remote_write_gaps.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .flat_map(|line| {
            let parts: Vec<&str> = line.splitn(3, " | ").collect();
            let [versions, name, why] = parts.as_slice() else {
                panic!("no reason: {line}")
            };
            assert!(why.len() > 10, "no reason: {line}");
            let name = (*name).to_owned();
            versions
                .split(' ')
                .map(move |version| (version.to_owned(), name.clone()))
        })
        .collect()
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS"]
fn requests_are_answered_and_stored_as_prometheus_does() {
    let mut gaps = gaps();
    let mut wrong = Vec::new();
    for version in [Version::V1, Version::V2] {
        let dir = tempfile::tempdir().unwrap();
        let theirs = start(&peer("prometheus"), "prometheus", dir.path());
        let ours = start(&tidegauge(), "tidegauge", dir.path());
        let t = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64 - 20_000;
        let cases = cases(version, t);
        assert!(cases.len() >= 60, "{}", cases.len());
        println!("{}: {} requests", version.name(), cases.len());
        let mut known = BTreeSet::new();
        for case in cases {
            let headers: Vec<(&str, &str)> = case.headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            // A server that answers before it has read all may close too early for the answer to be seen.
            let ask = |server: &Running| {
                (0..5).find_map(|_| request(server.port, case.method, "/api/v1/write", &headers, &case.body))
            };
            let [a, b] = [&theirs, &ours].map(|server| seen(ask(server)));
            let differ = difference(&stored(&theirs, t), &stored(&ours, t));
            let mut told: Vec<String> = differ.difference(&known).cloned().collect();
            known = differ;
            if a != b {
                told.push(format!("\n  theirs {a}\n  ours   {b}"));
            }
            let is_gap = gaps.remove(&(version.name().to_owned(), case.name.clone()));
            if is_gap == told.is_empty() {
                let what = if is_gap {
                    "is equal after all".to_owned()
                } else {
                    told.join("\n  ")
                };
                wrong.push(format!("{} | {} | {what}", version.name(), case.name));
            }
        }
    }
    wrong.extend(gaps.into_iter().map(|gap| format!("no such case: {gap:?}")));
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
