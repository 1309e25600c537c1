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
use tidegauge_model::{LabelTable, Sample, Timestamp};
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
    Series(LabelTable),
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
        let mut first = Vec::with_capacity(pieces.guess());
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
    /// The series, and what is left of the points of the one that was begun.
    Matrix(vec::IntoIter<RangeSeries>, Option<vec::IntoIter<Sample>>),
    Series(Box<SeriesRows>),
    Strings(vec::IntoIter<String>),
    None,
}

/// An answer on its way out.
struct Pieces {
    head: Vec<u8>,
    items: Items,
    times: Times,
    labels: json::LabelSets,
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
                Items::Series(Box::new(SeriesRows::new(series)))
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
            times: Times::default(),
            labels: json::LabelSets::default(),
            any_item: false,
            any_point: false,
            tail: Some(tail),
        }
    }

    fn is_done(&self) -> bool {
        self.tail.is_none()
    }

    /// About how long the first piece will be.
    fn guess(&self) -> usize {
        let items = match &self.items {
            Items::Vector(samples) => samples.len() * 256,
            Items::Matrix(series, _) => {
                let points = series.as_slice().first().map_or(0, |s| s.points.len());
                series.len().saturating_mul(256 + points * 32)
            }
            Items::Series(rows) => (rows.table.len() - rows.next) * 256,
            Items::Strings(strings) => strings.len() * 32,
            Items::None => 0,
        };
        let frame = self.head.len() + self.tail.as_ref().map_or(0, Vec::len);
        items.min(PIECE_BYTES) + frame + 1024
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

    /// Writes one item or what fits of one; says whether there was one.
    fn write_item(&mut self, out: &mut Vec<u8>) -> bool {
        match &mut self.items {
            Items::Vector(samples) => {
                let Some(sample) = samples.next() else { return false };
                comma(out, &mut self.any_item);
                out.extend_from_slice(b"{\"metric\":");
                self.labels.push(out, &sample.labels);
                out.extend_from_slice(b",\"value\":");
                self.times.rewind();
                self.times.push_first(out, sample.at);
                number::push_value(out, sample.value);
                out.extend_from_slice(b"\"]}");
            }
            Items::Matrix(series, points) => {
                if let Some(open) = points {
                    for point in open.by_ref() {
                        if self.any_point {
                            self.times.push(out, point.at);
                        } else {
                            self.times.push_first(out, point.at);
                            self.any_point = true;
                        }
                        number::push_value(out, point.value);
                        if out.len() >= PIECE_BYTES {
                            return true;
                        }
                    }
                    out.extend_from_slice(if self.any_point { b"\"]]}" } else { b"]}" });
                    *points = None;
                    return true;
                }
                let Some(next) = series.next() else { return false };
                comma(out, &mut self.any_item);
                out.extend_from_slice(b"{\"metric\":");
                self.labels.push(out, &next.labels);
                out.extend_from_slice(b",\"values\":[");
                self.any_point = false;
                self.times.rewind();
                *points = Some(next.points.into_iter());
            }
            Items::Series(rows) => {
                if rows.next == rows.table.len() {
                    return false;
                }
                comma(out, &mut self.any_item);
                rows.push(out);
            }
            Items::Strings(strings) => {
                let Some(text) = strings.next() else { return false };
                comma(out, &mut self.any_item);
                json::push_text(out, &text);
            }
            Items::None => return false,
        }
        true
    }
}

/// Series on their way out: each pair is made into text once.
struct SeriesRows {
    table: LabelTable,
    /// `"name":"value"` of each pair, one behind another, and where each ends.
    text: Vec<u8>,
    ends: Vec<usize>,
    /// The row that comes next.
    next: usize,
}

impl SeriesRows {
    fn new(table: LabelTable) -> Self {
        let (mut text, mut ends) = (Vec::new(), Vec::with_capacity(table.pair_count()));
        for pair in 0..table.pair_count() as u32 {
            let (name, value) = table.pair(pair);
            json::push_string(&mut text, name);
            text.push(b':');
            json::push_string(&mut text, value);
            ends.push(text.len());
        }
        Self {
            table,
            text,
            ends,
            next: 0,
        }
    }

    fn pair(&self, pair: u32) -> &[u8] {
        let at = pair as usize;
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before));
        let start = start.copied().unwrap_or(0);
        let end = self.ends.get(at).copied().unwrap_or(start);
        self.text.get(start..end).unwrap_or_default()
    }

    /// Writes the next row.
    fn push(&mut self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (i, pair) in self.table.row(self.next).iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(self.pair(*pair));
        }
        out.push(b'}');
        self.next += 1;
    }
}

/// Times kept as text at most.
const MAX_TIMES: usize = 2048;

/// What stands before the value of a point that is not the first.
const BETWEEN: &[u8] = b"\"],";

/// What stands before the values of one time, `"],[1763748000.5,"`, as text: the series of an answer share their times.
#[derive(Debug, Default)]
struct Times {
    /// Rising.
    known: Vec<(Timestamp, ShortText)>,
    /// Which of them the next point likely has.
    next: usize,
}

/// A few bytes of text.
#[derive(Debug, Clone, Copy)]
struct ShortText {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl ShortText {
    const MAX: usize = 23;

    fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self {
            bytes,
            len: text.len() as u8,
        })
    }

    /// Writes it. A copy of a length that is known takes a fraction of the time of one that is not.
    fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
        out.truncate(out.len() - (Self::MAX - usize::from(self.len)));
    }
}

impl Times {
    /// Another series begins.
    fn rewind(&mut self) {
        self.next = 0;
    }

    /// Writes what stands before the value of a series' first point.
    fn push_first(&mut self, out: &mut Vec<u8>, at: Timestamp) {
        let start = out.len();
        self.push(out, at);
        out.drain(start..start + BETWEEN.len());
    }

    /// Writes what stands between the value before and this one.
    fn push(&mut self, out: &mut Vec<u8>, at: Timestamp) {
        if self.known.get(self.next).is_none_or(|(known, _)| *known != at) {
            match self.known.binary_search_by_key(&at, |(known, _)| *known) {
                Ok(place) => self.next = place,
                Err(_) => return self.learn(out, at),
            }
        }
        if let Some((_, text)) = self.known.get(self.next) {
            text.push(out);
        }
        self.next += 1;
    }

    /// The same of a new time, which is kept if there is room behind those that are known.
    fn learn(&mut self, out: &mut Vec<u8>, at: Timestamp) {
        let start = out.len();
        out.extend_from_slice(BETWEEN);
        out.push(b'[');
        number::push_time(out, at);
        out.extend_from_slice(b",\"");
        let last = self.known.last();
        if self.known.len() < MAX_TIMES
            && last.is_none_or(|(last, _)| *last < at)
            && let Some(text) = ShortText::new(out.get(start..).unwrap_or_default())
        {
            self.known.push((at, text));
            self.next = self.known.len();
        }
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
            number::push_seconds(head, sample.at);
            head.extend_from_slice(b",\"");
            number::push_plain(head, sample.value);
            head.push(b'"');
            Items::None
        }
        Value::String { at, text } => {
            number::push_seconds(head, at);
            head.push(b',');
            json::push_text(head, &text);
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
                            s.seconds(*at).count(*count);
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
    use tidegauge_model::Labels;

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
                r#"{"resultType":"vector","result":[{"metric":{"__name__":"x"},"value":[1.100,"1e+21"]},{"metric":{},"value":[1.100,"NaN"]}]}"#,
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
    fn times_are_written_the_same_whether_known_or_not() {
        let mut times = Times::default();
        let series: [&[i64]; 5] = [
            &[1000, 2500, 4000],
            &[1000, 2500, 4000, 5001],
            &[2500, 5001],
            &[-7, 0, 1000, 9_000_000_000_000_000],
            &[4000],
        ];
        for points in series {
            times.rewind();
            for ms in points {
                let (mut out, mut expected) = (Vec::new(), b"\"],[".to_vec());
                times.push(&mut out, at(*ms));
                number::push_time(&mut expected, at(*ms));
                expected.extend_from_slice(b",\"");
                assert_eq!(String::from_utf8(out), String::from_utf8(expected));
            }
        }
        assert!(times.known.is_sorted_by(|a, b| a.0 < b.0) && times.known.len() == 5);
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
            text(Reply::new(Data::Series(LabelTable::new()))).0,
            r#"{"status":"success","data":[]}"#
        );
        let series = ["x", "a\"b"].map(|host| Labels::from_pairs([("__name__", "up"), ("host", host)]).unwrap());
        assert_eq!(
            text(Reply::new(Data::Series(series.into_iter().collect()))).0,
            r#"{"status":"success","data":[{"__name__":"up","host":"x"},{"__name__":"up","host":"a\"b"}]}"#
        );
    }
}
