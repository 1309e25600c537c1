//! The engine: who may run, for how long and on how much; then plan, evaluate, present.

use crate::annotation::Annotations;
use crate::error::QueryError;
use crate::eval::{self, Cx, Output};
use crate::explain::Explain;
use crate::gate::Gate;
use crate::helpers::Helpers;
use crate::metrics::Metrics;
use crate::parser::{Expr, Features, ParseError, ParseOptions, parse};
use crate::plan::Plan;
use crate::value::{InstantSample, QueryOutput, QueryStats, RangeSeries, StatsLevel, Value};
use crate::window::Grid;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tidegauge_model::{Cancel, Meter, Queryable, Sample, Timestamp};

/// The engine's limits and defaults.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// How old a sample an instant selector still takes (`--query.lookback-delta`).
    pub lookback_ms: i64,
    /// How many samples one query may hold at a time (`--query.max-samples`), as upstream counts them
    /// ([`QueryStats::peak_samples`]).
    pub max_samples: u64,
    /// How long one query may take, waiting included (`--query.timeout`).
    pub timeout: Duration,
    /// How many queries may run at a time (`--query.max-concurrency`); others wait.
    pub max_concurrency: usize,
    /// The step of a subquery that names none.
    pub default_subquery_step_ms: i64,
    /// What of the language is switched on.
    pub features: Features,
    /// The share of memory of all queries together.
    pub memory: Meter,
    /// How many threads one heavy query may use; 1 keeps every query on its caller's thread.
    pub threads: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            lookback_ms: 5 * 60 * 1000,
            max_samples: 50_000_000,
            timeout: Duration::from_secs(120),
            max_concurrency: 20,
            default_subquery_step_ms: 60 * 1000,
            features: Features::default(),
            memory: Meter::unlimited("queries"),
            threads: 2,
        }
    }
}

/// A parsed query and how to run it.
#[derive(Debug, Clone)]
pub struct Query {
    /// The text it was parsed from: annotations name places in it.
    pub text: String,
    /// The expression.
    pub expr: Expr,
    /// Instead of [`EngineOptions::lookback_ms`].
    pub lookback_ms: Option<i64>,
    /// Instead of [`EngineOptions::timeout`], if it is shorter.
    pub timeout: Option<Duration>,
    /// Raised when nobody waits for the answer any more.
    pub cancel: Cancel,
    /// What to count.
    pub stats: StatsLevel,
}

impl Query {
    /// A query with the engine's defaults.
    pub fn new(text: impl Into<String>, expr: Expr) -> Self {
        Self {
            text: text.into(),
            expr,
            lookback_ms: None,
            timeout: None,
            cancel: Cancel::new(),
            stats: StatsLevel::Totals,
        }
    }

    /// Parses a text into a query with the engine's defaults.
    ///
    /// # Errors
    /// [`ParseError`] if the text is no expression.
    pub fn parse(text: &str, options: &ParseOptions) -> Result<Self, ParseError> {
        Ok(Self::new(text, parse(text, options)?))
    }
}

/// Evaluates queries. Every method may be called from many threads; each call runs to its end on the caller's.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    gate: Gate,
    metrics: Metrics,
    /// Threads for heavy queries.
    helpers: Helpers,
}

impl Engine {
    /// An engine with these limits. If its threads cannot be started it works without them.
    pub fn new(options: EngineOptions) -> Self {
        Self {
            gate: Gate::new(options.max_concurrency),
            metrics: Metrics::default(),
            helpers: Helpers::new(options.threads),
            options,
        }
    }

    /// The limits it was made with.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Its counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Evaluates at one time.
    ///
    /// # Errors
    /// [`QueryError`]: no part of an answer is given.
    pub fn instant(&self, store: &dyn Queryable, query: &Query, at: Timestamp) -> Result<QueryOutput, QueryError> {
        self.counted(|| self.run(store, query, Grid::instant(at.millis()), Shape::Instant))
    }

    /// Evaluates at each step from `start` to `end`, both included.
    ///
    /// # Errors
    /// [`QueryError`]: no part of an answer is given.
    pub fn range(
        &self,
        store: &dyn Queryable,
        query: &Query,
        start: Timestamp,
        end: Timestamp,
        step_ms: i64,
    ) -> Result<QueryOutput, QueryError> {
        if step_ms <= 0 {
            return Err(QueryError::execution("the step of a range query must be above zero"));
        }
        use crate::parser::ValueType::{Matrix, String};
        let kind = query.expr.value_type();
        if matches!(kind, Matrix | String) {
            let described = kind.described();
            return Err(QueryError::execution(format!(
                "invalid expression type \"{described}\" for range query, must be Scalar or instant Vector"
            )));
        }
        let grid = Grid::new(start.millis(), end.millis(), step_ms);
        self.counted(|| self.run(store, query, grid, Shape::Range { end: end.millis() }))
    }

    /// Runs one query and counts how it ended.
    fn counted(&self, run: impl FnOnce() -> Result<QueryOutput, QueryError>) -> Result<QueryOutput, QueryError> {
        let metrics = &self.metrics;
        Metrics::add(&metrics.queries, 1);
        let result = run();
        match &result {
            Ok(output) => {
                Metrics::add(&metrics.samples, output.stats.samples);
                Metrics::add(&metrics.series, output.stats.series);
                metrics.took(&output.stats);
            }
            Err(error) => {
                Metrics::add(&metrics.failed, 1);
                match error {
                    QueryError::Timeout | QueryError::QueueTimeout => Metrics::add(&metrics.timed_out, 1),
                    QueryError::Canceled => Metrics::add(&metrics.canceled, 1),
                    QueryError::TooManySamples => Metrics::add(&metrics.over_samples, 1),
                    QueryError::Memory(_) => Metrics::add(&metrics.over_memory, 1),
                    QueryError::Parse(_) | QueryError::Execution(_) | QueryError::Storage(_) => {}
                }
            }
        }
        result
    }

    fn run(&self, store: &dyn Queryable, query: &Query, grid: Grid, shape: Shape) -> Result<QueryOutput, QueryError> {
        let began = Instant::now();
        let timeout = query
            .timeout
            .map_or(self.options.timeout, |t| t.min(self.options.timeout));
        let deadline = began.checked_add(timeout);
        self.metrics.waiting.fetch_add(1, Ordering::Relaxed);
        let place = self.gate.enter(deadline, &query.cancel);
        self.metrics.waiting.fetch_sub(1, Ordering::Relaxed);
        let _place = place?;
        let _running = Running::new(&self.metrics);
        let entered = Instant::now();

        let plan = Plan::new(&query.expr, grid, shape, &self.options, query.lookback_ms);
        let plan = plan.map_err(|error| error.placed(&query.text))?;
        let planned = Instant::now();
        if grid.len == 0 {
            return Ok(nothing());
        }
        let querier = store.querier(plan.range)?;
        let cx = Cx::new(&*querier, &plan, query, &self.options, deadline, &self.helpers);
        let output = eval::evaluate(&cx, &plan.root, grid)?;
        let evaluated = Instant::now();
        let value = present(&cx, output, grid, shape)?;
        let mut stats = QueryStats {
            queue: entered - began,
            prepare: planned - entered,
            eval: evaluated - planned,
            sort: evaluated.elapsed(),
            ..QueryStats::default()
        };
        cx.stats_into(&mut stats, &plan.root, grid);
        let explain = (query.stats == StatsLevel::Explain).then(|| Explain::new(&cx.recorder, &plan, grid, &stats));
        let mut annotations = cx.into_annotations();
        annotations.set_text(&query.text);
        Ok(QueryOutput {
            value,
            annotations,
            stats,
            explain,
        })
    }
}

/// The answer of a range query without steps.
fn nothing() -> QueryOutput {
    QueryOutput {
        value: Value::Matrix(Vec::new()),
        annotations: Annotations::default(),
        stats: QueryStats::default(),
        explain: None,
    }
}

/// What kind of query it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// At one time.
    Instant,
    /// At steps; the end as asked for, which the last step may fall short of.
    Range { end: i64 },
}

/// Counts a running query until it is dropped.
struct Running<'a>(&'a Metrics);

impl<'a> Running<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.running.fetch_add(1, Ordering::Relaxed);
        Self(metrics)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Turns what was computed into what is answered.
fn present(cx: &Cx<'_>, output: Output, grid: Grid, shape: Shape) -> Result<Value, QueryError> {
    let at = Timestamp::from_millis(grid.start);
    Ok(match (output, shape) {
        (Output::Text(text), _) => Value::String { at, text },
        (Output::Scalar(values), Shape::Instant) => Value::Scalar(Sample {
            at,
            value: values.first().copied().unwrap_or(f64::NAN),
        }),
        (Output::Scalar(values), Shape::Range { .. }) => Value::Matrix(vec![RangeSeries {
            labels: tidegauge_model::Labels::empty(),
            points: eval::points(&values, grid),
        }]),
        (Output::Vector(table), Shape::Instant) => {
            let table = cx.without_dropped_names(table)?;
            let samples = table.heads.into_iter().zip(table.cells);
            Value::Vector(
                samples
                    .map(|(head, value)| InstantSample {
                        labels: head.labels,
                        at,
                        value,
                    })
                    .collect(),
            )
        }
        (Output::Vector(table), Shape::Range { .. }) => {
            let table = cx.without_dropped_names(table)?;
            let mut series: Vec<RangeSeries> = (0..table.len())
                .map(|row| RangeSeries {
                    labels: table.heads[row].labels.clone(),
                    points: eval::points(table.row(row), grid),
                })
                .collect();
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            Value::Matrix(series)
        }
        (Output::Matrix(mut series), _) => {
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            Value::Matrix(series)
        }
    })
}
