//! Successful answers as JSON, written piece by piece.
//!
//! ```text
//!   {"status":"success","data":HEAD item , item , ... TAIL ,"warnings":[...],"infos":[...]}
//! ```
//!
//! The first piece is made at once; if it is the whole, it is sent with its length. Otherwise the rest is made when the
//! client has taken what came before, and each series is let go once it is written: the text of a large answer
//! never exists as a whole.

use super::{json, number};
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::{iter, vec};
use tidegauge_model::{Labels, Sample};
use tidegauge_query::{InstantSample, QueryStats, RangeSeries, Value};

/// How much is written before it is handed on.
const PIECE_BYTES: usize = 64 << 10;

/// A successful answer.
#[derive(Debug)]
pub(crate) struct Reply {
    data: Data,
    warnings: Vec<String>,
    infos: Vec<String>,
}

/// What stands under `data`.
#[derive(Debug)]
pub(crate) enum Data {
    /// JSON text as it is.
    Json(Vec<u8>),
    /// The result of a query.
    Value(Value, Option<QueryStats>),
    /// A list of series.
    Series(Vec<Labels>),
    /// A list of strings.
    Strings(Vec<String>),
}

impl Reply {
    pub(crate) fn new(data: Data) -> Self {
        Self {
            data,
            warnings: Vec::new(),
            infos: Vec::new(),
        }
    }

    /// One JSON value, written by `write`.
    pub(crate) fn json(write: impl FnOnce(&mut json::Json)) -> Self {
        let mut out = json::Json::new();
        write(&mut out);
        Self::new(Data::Json(out.finish()))
    }

    /// With the texts that go beside the data.
    pub(crate) fn with_notes(mut self, warnings: Vec<String>, infos: Vec<String>) -> Self {
        self.warnings.extend(warnings);
        self.infos.extend(infos);
        self
    }

    /// Adds upstream's words for an answer that was cut.
    pub(crate) fn truncated_if(mut self, truncated: bool) -> Self {
        if truncated {
            self.warnings.push("results truncated due to limit".into());
        }
        self
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut pieces = Pieces::new(self);
        let mut first = Vec::new();
        pieces.write(&mut first);
        let body = if pieces.is_done() {
            Body::from(first)
        } else {
            let all = iter::once(Bytes::from(first)).chain(pieces);
            Body::from_stream(stream::iter(all.map(Ok::<_, Infallible>)))
        };
        let mut response = Response::new(body);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// What is left to write of the items under `data`.
enum Items {
    Vector(vec::IntoIter<InstantSample>),
    Matrix(vec::IntoIter<RangeSeries>, Option<vec::IntoIter<Sample>>),
    Series(vec::IntoIter<Labels>),
    Strings(vec::IntoIter<String>),
    None,
}

/// An answer on its way out.
struct Pieces {
    head: Vec<u8>,
    items: Items,
    /// Whether an item of the list (or a point of the series) was written, so that a comma is due.
    any_item: bool,
    any_point: bool,
    /// `None` once it is written.
    tail: Option<Vec<u8>>,
}

impl Pieces {
    fn new(reply: Reply) -> Self {
        let mut head = b"{\"status\":\"success\",\"data\":".to_vec();
        let mut tail = Vec::new();
        let items = match reply.data {
            Data::Json(text) => {
                head.extend_from_slice(&text);
                Items::None
            }
            Data::Value(value, stats) => value_items(value, stats.as_ref(), &mut head, &mut tail),
            Data::Series(series) => {
                list_frame(&mut head, &mut tail);
                Items::Series(series.into_iter())
            }
            Data::Strings(strings) => {
                list_frame(&mut head, &mut tail);
                Items::Strings(strings.into_iter())
            }
        };
        push_notes(&mut tail, "warnings", &reply.warnings);
        push_notes(&mut tail, "infos", &reply.infos);
        tail.push(b'}');
        Self {
            head,
            items,
            any_item: false,
            any_point: false,
            tail: Some(tail),
        }
    }

    fn is_done(&self) -> bool {
        self.tail.is_none()
    }

    /// Writes the next piece.
    fn write(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.head);
        while out.len() < PIECE_BYTES {
            if !self.write_item(out) {
                out.extend(self.tail.take().unwrap_or_default());
                return;
            }
        }
    }

    /// Writes one item or one point of one; says whether there was one.
    fn write_item(&mut self, out: &mut Vec<u8>) -> bool {
        match &mut self.items {
            Items::Vector(samples) => {
                let Some(sample) = samples.next() else { return false };
                comma(out, &mut self.any_item);
                out.extend_from_slice(b"{\"metric\":");
                json::push_labels(out, &sample.labels);
                out.extend_from_slice(b",\"value\":");
                push_point(
                    out,
                    Sample {
                        at: sample.at,
                        value: sample.value,
                    },
                );
                out.push(b'}');
            }
            Items::Matrix(series, points) => {
                if let Some(open) = points {
                    if let Some(point) = open.next() {
                        comma(out, &mut self.any_point);
                        push_point(out, point);
                    } else {
                        out.extend_from_slice(b"]}");
                        *points = None;
                    }
                    return true;
                }
                let Some(next) = series.next() else { return false };
                comma(out, &mut self.any_item);
                out.extend_from_slice(b"{\"metric\":");
                json::push_labels(out, &next.labels);
                out.extend_from_slice(b",\"values\":[");
                self.any_point = false;
                *points = Some(next.points.into_iter());
            }
            Items::Series(series) => {
                let Some(labels) = series.next() else { return false };
                comma(out, &mut self.any_item);
                json::push_labels(out, &labels);
            }
            Items::Strings(strings) => {
                let Some(text) = strings.next() else { return false };
                comma(out, &mut self.any_item);
                json::push_string(out, &text);
            }
            Items::None => return false,
        }
        true
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.is_done() {
            return None;
        }
        let mut out = Vec::with_capacity(PIECE_BYTES + 1024);
        self.write(&mut out);
        Some(out.into())
    }
}

fn list_frame(head: &mut Vec<u8>, tail: &mut Vec<u8>) {
    head.push(b'[');
    tail.push(b']');
}

/// `resultType` stands before `result`: Grafana's parser reads the one to know the other.
fn value_items(value: Value, stats: Option<&QueryStats>, head: &mut Vec<u8>, tail: &mut Vec<u8>) -> Items {
    head.extend_from_slice(b"{\"resultType\":\"");
    head.extend_from_slice(value.kind().as_bytes());
    head.extend_from_slice(b"\",\"result\":[");
    tail.push(b']');
    if let Some(stats) = stats {
        tail.extend_from_slice(b",\"stats\":");
        push_stats(tail, stats);
    }
    tail.push(b'}');
    match value {
        Value::Scalar(sample) => {
            number::push_time(head, sample.at);
            head.extend_from_slice(b",\"");
            number::push_plain(head, sample.value);
            head.push(b'"');
            Items::None
        }
        Value::String { at, text } => {
            number::push_time(head, at);
            head.push(b',');
            json::push_string(head, &text);
            Items::None
        }
        Value::Vector(samples) => Items::Vector(samples.into_iter()),
        Value::Matrix(series) => Items::Matrix(series.into_iter(), None),
    }
}

fn comma(out: &mut Vec<u8>, any: &mut bool) {
    if *any {
        out.push(b',');
    }
    *any = true;
}

fn push_point(out: &mut Vec<u8>, point: Sample) {
    out.push(b'[');
    number::push_time(out, point.at);
    out.extend_from_slice(b",\"");
    number::push_value(out, point.value);
    out.extend_from_slice(b"\"]");
}

fn push_notes(out: &mut Vec<u8>, name: &str, notes: &[String]) {
    if notes.is_empty() {
        return;
    }
    out.push(b',');
    json::push_string(out, name);
    out.push(b':');
    let mut list = json::Json::new();
    list.array(|a| {
        for note in notes {
            a.string(note);
        }
    });
    out.extend(list.finish());
}

fn push_stats(out: &mut Vec<u8>, stats: &QueryStats) {
    let mut json = json::Json::new();
    let total = stats.prepare + stats.eval + stats.sort;
    json.object(|o| {
        o.key("timings").object(|t| {
            t.key("evalTotalTime").float(total.as_secs_f64());
            t.key("resultSortTime").float(stats.sort.as_secs_f64());
            t.key("queryPreparationTime").float(stats.prepare.as_secs_f64());
            t.key("innerEvalTime").float(stats.eval.as_secs_f64());
            t.key("execQueueTime").float(stats.queue.as_secs_f64());
            t.key("execTotalTime").float((total + stats.queue).as_secs_f64());
        });
        o.key("samples").object(|s| {
            if let Some(steps) = &stats.samples_per_step {
                s.key("totalQueryableSamplesPerStep").array(|s| {
                    for (at, count) in steps {
                        s.array(|s| {
                            s.time(*at).count(*count);
                        });
                    }
                });
            }
            s.key("totalQueryableSamples").count(stats.samples);
            s.key("peakSamples").count(stats.peak_samples);
        });
    });
    out.extend(json.finish());
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegauge_model::Timestamp;

    fn text(reply: Reply) -> (String, usize) {
        let pieces: Vec<Bytes> = Pieces::new(reply).collect();
        (String::from_utf8(pieces.concat()).unwrap(), pieces.len())
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn labels(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)]).unwrap()
    }

    #[test]
    fn each_kind_of_value_has_its_shape() {
        let scalar = Value::Scalar(Sample {
            at: at(4000),
            value: 1e21,
        });
        let string = Value::String {
            at: at(4500),
            text: "a\"b".into(),
        };
        let vector = Value::Vector(vec![
            InstantSample {
                labels: labels("x"),
                at: at(1100),
                value: 1e21,
            },
            InstantSample {
                labels: Labels::empty(),
                at: at(1100),
                value: f64::NAN,
            },
        ]);
        let points = |ms: &[i64]| {
            ms.iter()
                .map(|ms| Sample {
                    at: at(*ms),
                    value: 0.5,
                })
                .collect()
        };
        let matrix = Value::Matrix(vec![
            RangeSeries {
                labels: labels("x"),
                points: points(&[1000, 2000]),
            },
            RangeSeries {
                labels: labels("y"),
                points: points(&[1001]),
            },
        ]);
        for (value, expected) in [
            (
                scalar,
                r#"{"resultType":"scalar","result":[4,"1000000000000000000000"]}"#,
            ),
            (string, r#"{"resultType":"string","result":[4.5,"a\"b"]}"#),
            (
                vector,
                r#"{"resultType":"vector","result":[{"metric":{"__name__":"x"},"value":[1.1,"1e+21"]},{"metric":{},"value":[1.1,"NaN"]}]}"#,
            ),
            (
                matrix,
                r#"{"resultType":"matrix","result":[{"metric":{"__name__":"x"},"values":[[1,"0.5"],[2,"0.5"]]},{"metric":{"__name__":"y"},"values":[[1.001,"0.5"]]}]}"#,
            ),
            (Value::Vector(vec![]), r#"{"resultType":"vector","result":[]}"#),
            (Value::Matrix(vec![]), r#"{"resultType":"matrix","result":[]}"#),
        ] {
            let (written, _) = text(Reply::new(Data::Value(value, None)));
            assert_eq!(written, format!("{{\"status\":\"success\",\"data\":{expected}}}"));
        }
    }

    #[test]
    fn notes_and_statistics_have_their_places() {
        let stats = QueryStats {
            samples: 2,
            peak_samples: 3,
            ..QueryStats::default()
        };
        let reply = Reply::new(Data::Value(Value::Vector(vec![]), Some(stats)))
            .with_notes(vec!["w".into()], vec!["i".into()])
            .truncated_if(true);
        assert_eq!(
            text(reply).0,
            r#"{"status":"success","data":{"resultType":"vector","result":[],"stats":{"timings":{"evalTotalTime":0,"resultSortTime":0,"queryPreparationTime":0,"innerEvalTime":0,"execQueueTime":0,"execTotalTime":0},"samples":{"totalQueryableSamples":2,"peakSamples":3}}},"warnings":["w","results truncated due to limit"],"infos":["i"]}"#
        );
    }

    #[test]
    fn large_answers_come_in_pieces() {
        let points: Vec<Sample> = (0..20_000)
            .map(|i| Sample {
                at: at(i),
                value: i as f64,
            })
            .collect();
        let series = vec![
            RangeSeries {
                labels: labels("x"),
                points
            };
            3
        ];
        let (written, pieces) = text(Reply::new(Data::Value(Value::Matrix(series), None)));
        assert!(pieces > 10, "{pieces} pieces");
        let back: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(
            back["data"]["result"][2]["values"][19_999],
            serde_json::json!([19.999, "19999"])
        );

        let (written, pieces) = text(Reply::new(Data::Strings(vec!["x".repeat(1000); 200])));
        assert!(pieces > 2 && written.ends_with("x\"]}"));
        assert_eq!(
            text(Reply::new(Data::Series(vec![]))).0,
            r#"{"status":"success","data":[]}"#
        );
    }
}
