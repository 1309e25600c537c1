//! Evaluation: one file per kind of node, columns in, columns out.
//!
//! ```text
//!   selector --rows--> [ range function ] --rows--> [ each value ] --rows--> [ aggregation ]   streamed, see `stream`
//!        \                                  \                     \
//!         `----------------------------------`--------------------- Table                      else: all by all steps
//! ```
//!
//! A row is a series' values at all steps, [`ABSENT`](table::ABSENT) where there is none.

mod aggregate;
mod best;
mod binary;
mod buckets;
mod call;
mod collect;
mod each;
mod fold;
mod info;
mod matching;
mod range;
mod rank;
mod row;
mod selector;
mod stream;
mod subset;
mod table;
mod whole;

pub(crate) use binary::{changes_meaning, scalar_binary};
pub(crate) use call::{bare, range_call};
pub(crate) use each::is_elementwise;
pub(crate) use table::{ABSENT, is_absent};

use crate::account;
use crate::annotation::{Annotations, Note, Repair};
use crate::engine::{EngineOptions, Query};
use crate::error::QueryError;
use crate::helpers::Helpers;
use crate::parser::{Features, Span};
use crate::plan::{Node, Plan, Times};
use crate::record::{Began, Done, Key, Recorder};
use crate::value::{QueryStats, RangeSeries};
use crate::watch::Watch;
use crate::window::Grid;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use table::{DropNames, Table, is_present, without_metadata};
use tidegauge_model::{Lease, Meter, Querier, ReadContext, Sample, Timestamp};

/// What a node evaluates to at all steps.
#[derive(Debug)]
pub(crate) enum Output {
    /// A number at each step.
    Scalar(Vec<f64>),
    /// A text.
    Text(String),
    /// Series.
    Vector(Table),
    /// Series with times of their own: a whole query that is a range vector.
    Matrix(Vec<RangeSeries>),
}

/// What evaluation shares: the view of the store, the limits, what is counted and what is noted.
pub(crate) struct Cx<'q> {
    pub(crate) querier: &'q dyn Querier,
    pub(crate) read: ReadContext,
    pub(crate) lookback_ms: i64,
    pub(crate) features: Features,
    pub(crate) times: Times,
    pub(crate) helpers: &'q Helpers,
    deadline: Option<Instant>,
    limits: Limits,
    /// What each part of the plan does.
    pub(crate) recorder: Recorder,
    notes: Mutex<Annotations>,
}

/// What one query may hold. Shared by everything that holds.
#[derive(Debug, Clone)]
struct Limits(std::sync::Arc<LimitsInner>);

#[derive(Debug)]
struct LimitsInner {
    meter: Meter,
    max_samples: u64,
    samples: AtomicU64,
    peak_bytes: AtomicU64,
}

/// Samples and bytes held until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    limits: Limits,
    samples: u64,
    lease: Option<Lease>,
    /// Bytes of the lease not yet spoken for: the meter is asked in larger pieces than rows.
    spare: u64,
    /// Taken over from others.
    others: Vec<Lease>,
}

/// So many steps are never too many by themselves.
const MANY_STEPS: u64 = 100_000;

/// Bytes asked of the meter at a time.
const LEASE_BYTES: u64 = 256 << 10;

impl Held {
    /// Counts more: samples, and the cells and label bytes they take.
    pub(crate) fn grow(&mut self, samples: usize, cells: usize, label_bytes: usize) -> Result<(), QueryError> {
        let inner = &*self.limits.0;
        let samples = samples as u64;
        let held = inner.samples.fetch_add(samples, Ordering::Relaxed) + samples;
        self.samples += samples;
        if held > inner.max_samples {
            return Err(QueryError::TooManySamples);
        }
        self.grow_bytes((cells * size_of::<f64>() + label_bytes + 32) as u64)
    }

    /// Counts more bytes.
    pub(crate) fn grow_bytes(&mut self, bytes: u64) -> Result<(), QueryError> {
        if bytes <= self.spare {
            self.spare -= bytes;
            return Ok(());
        }
        let inner = &*self.limits.0;
        let needed = bytes - self.spare;
        let lease = match &mut self.lease {
            Some(lease) => lease,
            None => self.lease.insert(inner.meter.lease(0)?),
        };
        // More than needed, so that the meter is not asked for each row; just what is needed if that is refused.
        let ample = needed.max(lease.bytes().min(LEASE_BYTES));
        let taken = match lease.grow(ample) {
            Ok(()) => ample,
            Err(_) if ample > needed => {
                lease.grow(needed)?;
                needed
            }
            Err(over) => return Err(over.into()),
        };
        inner.peak_bytes.fetch_max(inner.meter.used(), Ordering::Relaxed);
        self.spare = self.spare + taken - bytes;
        Ok(())
    }
}

impl Held {
    /// Counts what another held.
    pub(crate) fn take_over(&mut self, mut other: Self) {
        self.samples += std::mem::take(&mut other.samples);
        self.others.extend(other.lease.take());
        self.others.append(&mut other.others);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.limits.0.samples.fetch_sub(self.samples, Ordering::Relaxed);
    }
}

impl<'q> Cx<'q> {
    pub(crate) fn new(
        querier: &'q dyn Querier,
        plan: &Plan,
        query: &Query,
        options: &EngineOptions,
        deadline: Option<Instant>,
        helpers: &'q Helpers,
    ) -> Self {
        let meter = options.memory.child("query", options.memory.limit());
        Self {
            querier,
            read: ReadContext {
                cancel: query.cancel.clone(),
                meter: meter.clone(),
            },
            lookback_ms: plan.lookback_ms,
            features: options.features,
            times: plan.times,
            helpers,
            deadline,
            limits: Limits(std::sync::Arc::new(LimitsInner {
                meter,
                max_samples: options.max_samples,
                samples: AtomicU64::new(0),
                peak_bytes: AtomicU64::new(0),
            })),
            recorder: Recorder::new(query.stats),
            notes: Mutex::new(Annotations::default()),
        }
    }

    /// # Errors
    /// It is time to stop: the deadline has passed or nobody waits.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        if self.read.cancel.is_cancelled() {
            return Err(QueryError::Canceled);
        }
        if self.deadline.is_some_and(|d| Instant::now() >= d) {
            return Err(QueryError::Timeout);
        }
        Ok(())
    }

    /// What long loops ask whether to go on.
    pub(crate) fn watch(&self) -> Watch {
        Watch::new(self.read.cancel.clone(), self.deadline)
    }

    /// Nothing held yet.
    pub(crate) fn held(&self) -> Held {
        Held {
            limits: self.limits.clone(),
            samples: 0,
            lease: None,
            spare: 0,
            others: Vec::new(),
        }
    }

    /// Pays for values that are held while a node is evaluated, and refuses more steps than there may be samples.
    pub(crate) fn room(&self, grid: Grid, values: usize) -> Result<Held, QueryError> {
        // Few samples may lie at many steps; but there is an end to steps too.
        if grid.len as u64 > self.limits.0.max_samples.max(MANY_STEPS) {
            return Err(QueryError::TooManySamples);
        }
        let mut held = self.held();
        held.grow_bytes((grid.len as u64).saturating_mul((values * size_of::<f64>()) as u64))?;
        Ok(held)
    }

    /// A table without series.
    pub(crate) fn table(&self, width: usize) -> Table {
        Table::new(width, self.held())
    }

    /// When names that have lost their meaning go.
    pub(crate) fn drop_names(&self) -> DropNames {
        if self.features.delayed_name_removal {
            DropNames::AtTheEnd
        } else {
            DropNames::Now
        }
    }

    /// # Errors
    /// That many samples are more than a query may hold.
    pub(crate) fn allows(&self, samples: u64) -> Result<(), QueryError> {
        if samples > self.limits.0.max_samples {
            return Err(QueryError::TooManySamples);
        }
        Ok(())
    }

    /// Takes down what a node gave.
    ///
    /// # Errors
    /// With it the query holds more samples than it may.
    fn record(&self, node: &Node, grid: Grid, output: &Output, began: Began) -> Result<(), QueryError> {
        let done = match output {
            Output::Scalar(values) => Done {
                rows: 1,
                values: values.len() as u64,
                by_step: self.recorder.by_step().then(|| vec![1; values.len()]),
                ..Done::default()
            },
            Output::Text(_) => Done::default(),
            Output::Vector(table) => Done {
                rows: table.len() as u64,
                values: table.cells.iter().filter(|v| is_present(**v)).count() as u64,
                by_step: self
                    .wants_steps(table.cells.len() as u64)
                    .then(|| table.present_by_step()),
                ..Done::default()
            },
            Output::Matrix(series) => Done {
                rows: series.len() as u64,
                values: series.iter().map(|s| s.points.len() as u64).sum(),
                ..Done::default()
            },
        };
        self.record_done(node, grid, done, began)
    }

    /// Takes down what a node gave whose rows went on one by one.
    ///
    /// # Errors
    /// As [`Cx::record`].
    pub(crate) fn record_rows(&self, node: &Node, grid: Grid, mut done: Done, began: Began) -> Result<(), QueryError> {
        if !self.wants_steps(done.rows.saturating_mul(grid.len as u64)) {
            done.by_step = None;
        }
        self.record_done(node, grid, done, began)
    }

    fn record_done(&self, node: &Node, grid: Grid, mut done: Done, began: Began) -> Result<(), QueryError> {
        if done.by_step.is_some() {
            // Once for these, and once for those of the leaf that may lie below.
            let bytes = (grid.len as u64).saturating_mul(2 * size_of::<u64>() as u64);
            self.recorder.keep(self.limits.0.meter.lease(bytes)?);
        }
        done.wall = began.elapsed();
        done.held_bytes = self.limits.0.meter.used();
        done.load = account::load_of(&self.recorder, node, grid, Some(&done));
        let peak = done.load.peak;
        self.recorder.done(Key::node(node), done);
        self.allows(peak)
    }

    /// Whether it matters at which steps values of so many cells lie: somebody asked, or the limit is not far.
    pub(crate) fn wants_steps(&self, cells: u64) -> bool {
        self.recorder.by_step() || cells > self.limits.0.max_samples / 16
    }

    pub(crate) fn warn(&self, note: Note, span: Span) {
        self.notes.lock().warn(note, span.start as usize);
    }

    pub(crate) fn info(&self, note: Note, span: Span) {
        self.notes.lock().info(note, span.start as usize);
    }

    pub(crate) fn repaired(&self, metric: &str, span: Span, repair: &Repair) {
        self.notes.lock().repaired(metric, span.start as usize, repair);
    }

    /// What was noted.
    pub(crate) fn into_annotations(self) -> Annotations {
        self.notes.into_inner()
    }

    /// What was counted.
    pub(crate) fn stats_into(&self, stats: &mut QueryStats, root: &Node, grid: Grid) {
        let inner = &*self.limits.0;
        let seen = account::seen(&self.recorder, root, grid);
        stats.samples = seen.total;
        stats.series = self.recorder.series();
        stats.peak_samples = account::load(&self.recorder, root, grid).peak;
        stats.peak_bytes = inner.peak_bytes.load(Ordering::Relaxed);
        stats.samples_per_step = seen.by_step.map(|counts| {
            let times = grid.times().map(Timestamp::from_millis);
            times.zip(counts).collect()
        });
    }

    /// Joins series that have become one by losing their names. Names that go at the end of the query join then, if
    /// only one step is looked at.
    ///
    /// # Errors
    /// Two of them have a value at the same step.
    pub(crate) fn join_twins(&self, table: &mut Table) -> Result<(), QueryError> {
        if self.features.delayed_name_removal && table.width == 1 {
            return Ok(());
        }
        table.join_twins()
    }

    /// Takes away the names that were to go at the end of the query.
    ///
    /// # Errors
    /// Series become one that have a value at the same step.
    pub(crate) fn without_dropped_names(&self, mut table: Table) -> Result<Table, QueryError> {
        if self.features.delayed_name_removal {
            for head in &mut table.heads {
                if head.drop_name {
                    head.labels = without_metadata(&head.labels);
                }
            }
            table.join_twins()?;
        }
        Ok(table)
    }
}

/// The steps that have a value.
pub(crate) fn points(values: &[f64], grid: Grid) -> Vec<Sample> {
    let present = values.iter().filter(|v| is_present(**v)).count();
    let mut points = Vec::with_capacity(present);
    let mut at = grid.start;
    for value in values {
        if is_present(*value) {
            points.push(Sample {
                at: Timestamp::from_millis(at),
                value: *value,
            });
        }
        at = at.saturating_add(grid.step_ms);
    }
    points
}

/// Evaluates a node at each step.
pub(crate) fn evaluate(cx: &Cx<'_>, node: &Node, grid: Grid) -> Result<Output, QueryError> {
    cx.check()?;
    let _room = cx.room(grid, 1)?;
    let began = cx.recorder.begin();
    let output = evaluate_part(cx, node, grid)?;
    cx.record(node, grid, &output, began)?;
    Ok(output)
}

fn evaluate_part(cx: &Cx<'_>, node: &Node, grid: Grid) -> Result<Output, QueryError> {
    if each::operand(node).is_some() {
        return Ok(Output::Vector(each::table(cx, node, grid)?));
    }
    Ok(match node {
        Node::Number(value) => Output::Scalar(vec![*value; grid.len]),
        Node::Text(text) => Output::Text(text.clone()),
        Node::Select(_) => Output::Vector(collect::collect(cx, grid, |make| stream::rows(cx, node, grid, make))?),
        Node::Window(window) => Output::Matrix(whole::window(cx, window, grid)?),
        Node::Call(call) => call::call(cx, call, node, grid)?,
        Node::Aggregate(aggregate) => Output::Vector(aggregate::aggregate(cx, aggregate, grid)?),
        Node::Binary(binary) => binary::binary(cx, binary, grid)?,
        Node::Negate(inner) => match evaluate(cx, inner, grid)? {
            Output::Scalar(mut values) => {
                values.iter_mut().for_each(|v| *v = -*v);
                Output::Scalar(values)
            }
            other => other,
        },
        Node::Once(inner) => repeat(cx, evaluate(cx, inner, grid.first())?, grid.len)?,
    })
}

/// Makes what holds at one step hold at all.
fn repeat(cx: &Cx<'_>, once: Output, len: usize) -> Result<Output, QueryError> {
    Ok(match once {
        Output::Scalar(values) => Output::Scalar(vec![values.first().copied().unwrap_or(f64::NAN); len]),
        Output::Vector(table) if len != 1 => {
            let mut all = cx.table(len);
            for (head, value) in table.heads.into_iter().zip(table.cells) {
                all.push(head, &vec![value; len])?;
            }
            Output::Vector(all)
        }
        other => other,
    })
}

/// The value of a scalar by step.
pub(crate) fn scalar(cx: &Cx<'_>, node: &Node, grid: Grid) -> Result<Vec<f64>, QueryError> {
    match evaluate(cx, node, grid)? {
        Output::Scalar(values) => Ok(values),
        _ => Err(QueryError::execution("expected a scalar")),
    }
}
