//! What is read of history: a value for each sync.

use super::queries;
use super::{BacktestError, Feedback, Options, Source, Steps};
use crate::hpa::quantity::{Format, Quantity};
use crate::hpa::spec::Source as Measured;
use crate::hpa::spec::{Hpa, Metric, Target};

/// All that one autoscaler looks at.
#[derive(Debug)]
pub(super) struct Columns {
    /// How many replicas there were; NaN before anything is known.
    pub(super) replicas: Option<Asked>,
    /// One for each metric.
    pub(super) metrics: Vec<MetricColumns>,
}

/// A query and its values.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) query: String,
    pub(super) values: Vec<f64>,
}

/// What one metric needs.
#[derive(Debug)]
pub(super) struct MetricColumns {
    pub(super) total: Asked,
    /// Pods with a value; none if nobody knows.
    pub(super) count: Option<Vec<f64>>,
    pub(super) request: Option<Requested>,
}

/// What a pod requests.
#[derive(Debug)]
pub(super) enum Requested {
    /// Always so many thousandths.
    Fixed(i64),
    /// As recorded.
    Recorded(Vec<f64>),
}

impl Requested {
    /// Thousandths at a sync.
    pub(super) fn milli(&self, no: usize) -> Option<i64> {
        match self {
            Self::Fixed(milli) => Some(*milli),
            Self::Recorded(values) => values.get(no).copied().filter(|v| !v.is_nan()).map(resource_milli),
        }
    }
}

/// Reads all columns. What there must be is there afterwards.
pub(super) fn read(hpa: &Hpa, options: &Options, steps: Steps, source: &dyn Source) -> Result<Columns, BacktestError> {
    let reader = Reader { steps, source };
    let replicas = replicas(hpa, options, &reader)?;
    let mut metrics = Vec::with_capacity(hpa.metrics.len());
    for metric in &hpa.metrics {
        metrics.push(of_metric(hpa, metric, options, replicas.is_some(), &reader)?);
    }
    Ok(Columns { replicas, metrics })
}

struct Reader<'a> {
    steps: Steps,
    source: &'a dyn Source,
}

impl Reader<'_> {
    fn read(&self, what: &str, query: &str) -> Result<Vec<f64>, BacktestError> {
        let column = self.source.column(query, self.steps);
        column.map_err(|source| BacktestError::Source {
            what: what.to_owned(),
            query: query.to_owned(),
            source,
        })
    }

    /// Fails if there is not a single value.
    fn read_some(&self, what: &str, query: &str) -> Result<Vec<f64>, BacktestError> {
        let values = self.read(what, query)?;
        match is_empty(&values) {
            false => Ok(values),
            true => Err(BacktestError::Nothing {
                what: what.to_owned(),
                query: query.to_owned(),
            }),
        }
    }
}

fn is_empty(values: &[f64]) -> bool {
    values.iter().all(|value| value.is_nan())
}

/// The recorded replicas, by the first query that knows any. What is not known at a time is as before.
fn replicas(hpa: &Hpa, options: &Options, reader: &Reader<'_>) -> Result<Option<Asked>, BacktestError> {
    let needed = options.feedback == Feedback::None || options.replicas_query.is_some();
    let queries = match queries::replicas(hpa, options) {
        Ok(queries) => queries,
        Err(why) if needed => return Err(BacktestError::Question(why)),
        Err(_) => return Ok(None),
    };
    for query in &queries {
        let mut values = reader.read("recorded replicas", query)?;
        if !is_empty(&values) {
            let mut known = f64::NAN;
            for value in &mut values {
                if value.is_nan() {
                    *value = known;
                }
                known = *value;
            }
            let query = query.clone();
            return Ok(Some(Asked { query, values }));
        }
    }
    match needed {
        false => Ok(None),
        true => Err(BacktestError::Nothing {
            what: "how many replicas there were (give --replicas-query)".to_owned(),
            query: queries.join(", nor of "),
        }),
    }
}

fn of_metric(
    hpa: &Hpa,
    metric: &Metric,
    options: &Options,
    has_replicas: bool,
    reader: &Reader<'_>,
) -> Result<MetricColumns, BacktestError> {
    let name = metric.description();
    let asked = queries::metric(hpa, metric, options);
    let asked = asked.map_err(|why| BacktestError::Question(format!("{name}: {why}")))?;
    let is_object = matches!(metric.source, Measured::Object { .. } | Measured::External { .. });
    if is_object && matches!(metric.target, Target::Value(_)) && options.feedback == Feedback::Shared && !has_replicas {
        return Err(BacktestError::Nothing {
            what: format!("how many replicas there were, of which {name} was measured"),
            query: "give --replicas-query, or take --feedback=none".to_owned(),
        });
    }
    let total = reader.read_some(&name, &asked.total)?;
    let count = match &asked.count {
        Some(query) if options.feedback == Feedback::None => Some(reader.read(&name, query)?),
        _ => None,
    };
    let request = match (options.requests.get(metric.name()), &asked.request) {
        (Some(amount), _) if matches!(metric.target, Target::Utilization(_)) => Some(Requested::Fixed(amount.milli())),
        (_, Some(query)) => {
            let what = format!(
                "requests of {} (give --request {}=AMOUNT)",
                metric.name(),
                metric.name()
            );
            Some(Requested::Recorded(reader.read_some(&what, query)?))
        }
        _ => None,
    };
    Ok(MetricColumns {
        total: Asked {
            query: asked.total,
            values: total,
        },
        count,
        request,
    })
}

/// Thousandths of a resource: kept to billionths, then rounded up, as they come from the metrics API.
pub(super) fn resource_milli(value: f64) -> i64 {
    Quantity::from_nano((value * 1e9).round() as i64, Format::Decimal).milli()
}

/// Thousandths of any other metric: cut off, as they come from an adapter.
pub(super) fn metric_milli(value: f64) -> i64 {
    (value * 1000.0) as i64
}
