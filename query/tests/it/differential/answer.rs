//! What a query answers, in one form for both sides.

use serde_json::Value as Json;
use std::collections::BTreeMap;
use tidegauge_model::Labels;
use tidegauge_query::{QueryError, QueryOutput, Value};

/// An answer: a result or an error, and what is said beside it.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) result: Result<Outcome, Refusal>,
    pub(super) warnings: Vec<String>,
    pub(super) infos: Vec<String>,
}

/// A result.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Scalar(i64, f64),
    Text(i64, String),
    /// Samples in the order they came in.
    Vector(Vec<(Labels, i64, f64)>),
    /// Series in the order they came in.
    Matrix(Vec<(Labels, Vec<(i64, f64)>)>),
}

/// Why there is no result: the API's `errorType`, and the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) kind: String,
    pub(super) text: String,
}

impl Outcome {
    /// The API's name of the kind.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Scalar(..) => "scalar",
            Self::Text(..) => "string",
            Self::Vector(_) => "vector",
            Self::Matrix(_) => "matrix",
        }
    }

    /// The samples by series; `None` if a series occurs twice.
    pub(super) fn by_series(&self) -> Option<BTreeMap<Labels, Vec<(i64, f64)>>> {
        let mut all = BTreeMap::new();
        let mut add = |labels: &Labels, points: Vec<(i64, f64)>| all.insert(labels.clone(), points).is_none();
        let unique = match self {
            Self::Scalar(at, value) => add(&Labels::empty(), vec![(*at, *value)]),
            Self::Text(..) => true,
            Self::Vector(samples) => samples
                .iter()
                .all(|(labels, at, value)| add(labels, vec![(*at, *value)])),
            Self::Matrix(series) => series.iter().all(|(labels, points)| add(labels, points.clone())),
        };
        unique.then_some(all)
    }
}

impl Answer {
    /// Ours.
    pub(super) fn of(result: Result<QueryOutput, QueryError>) -> Self {
        match result {
            Ok(output) => Self {
                warnings: output.annotations.warnings(),
                infos: output.annotations.infos(),
                result: Ok(outcome(output.value)),
            },
            Err(error) => Self::refusal(
                match error {
                    QueryError::Parse(_) => "bad_data",
                    QueryError::Execution(_) | QueryError::TooManySamples | QueryError::Memory(_) => "execution",
                    QueryError::Timeout | QueryError::QueueTimeout => "timeout",
                    QueryError::Canceled => "canceled",
                    QueryError::Storage(_) => "internal",
                },
                error.to_string(),
            ),
        }
    }

    pub(super) fn refusal(kind: &str, text: impl Into<String>) -> Self {
        Self {
            result: Err(Refusal {
                kind: kind.to_owned(),
                text: text.into(),
            }),
            warnings: Vec::new(),
            infos: Vec::new(),
        }
    }

    /// What Prometheus' API says.
    pub(super) fn from_json(json: &Json) -> Self {
        let texts = |name: &str| {
            let list = json[name].as_array().cloned().unwrap_or_default();
            list.iter().filter_map(|t| t.as_str().map(str::to_owned)).collect()
        };
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        if json["status"] != "success" {
            return Self::refusal(&text("errorType"), text("error"));
        }
        let (data, result) = (&json["data"], &json["data"]["result"]);
        let items = || result.as_array().into_iter().flatten();
        let outcome = match data["resultType"].as_str().unwrap_or_default() {
            "scalar" => {
                let (at, value) = point(result);
                Outcome::Scalar(at, value)
            }
            "string" => Outcome::Text(millis(&result[0]), result[1].as_str().unwrap_or_default().to_owned()),
            "vector" => Outcome::Vector(
                items()
                    .map(|item| {
                        let (at, value) = point(&item["value"]);
                        (labels(&item["metric"]), at, value)
                    })
                    .collect(),
            ),
            "matrix" => Outcome::Matrix(
                items()
                    .map(|item| {
                        let points = item["values"].as_array().into_iter().flatten();
                        (labels(&item["metric"]), points.map(point).collect())
                    })
                    .collect(),
            ),
            other => panic!("a result of type {other:?}: {json}"),
        };
        Self {
            result: Ok(outcome),
            warnings: texts("warnings"),
            infos: texts("infos"),
        }
    }
}

fn outcome(value: Value) -> Outcome {
    match value {
        Value::Scalar(sample) => Outcome::Scalar(sample.at.millis(), sample.value),
        Value::String { at, text } => Outcome::Text(at.millis(), text),
        Value::Vector(samples) => Outcome::Vector(
            samples
                .into_iter()
                .map(|s| (s.labels, s.at.millis(), s.value))
                .collect(),
        ),
        Value::Matrix(series) => Outcome::Matrix(
            series
                .into_iter()
                .map(|s| (s.labels, s.points.iter().map(|p| (p.at.millis(), p.value)).collect()))
                .collect(),
        ),
    }
}

fn labels(json: &Json) -> Labels {
    let pairs = json.as_object().into_iter().flatten();
    Labels::from_pairs(pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()))).unwrap()
}

fn point(json: &Json) -> (i64, f64) {
    let text = json[1].as_str().unwrap_or_default();
    (
        millis(&json[0]),
        text.parse().unwrap_or_else(|e| panic!("{text:?}: {e}")),
    )
}

fn millis(json: &Json) -> i64 {
    (json.as_f64().expect("a time") * 1000.0).round() as i64
}
