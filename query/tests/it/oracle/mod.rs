//! PromQL by the letter: an evaluator that takes one step at a time, and each from scratch.
//!
//! The engine finds windows once, streams rows and shares what is the same at every step; this one does nothing of the
//! kind. It walks the tree for each step and computes each function from its definition over a list of samples. Of the
//! crate it uses the parser and the tree alone, so that a mistake of the engine's cannot be one of its own.
//!
//! | file | what |
//! |---|---|
//! | `walk` | one match over the kinds of node |
//! | `select` | selectors and subqueries: which samples an expression sees |
//! | `ranges`, `extent` | functions of one range vector |
//! | `vectors`, `labels`, `calendar` | functions of instant vectors |
//! | `buckets` | functions of classic histograms |
//! | `info` | `info` |
//! | `groups` | aggregations |
//! | `matching` | binary operators |
//! | `numbers` | sums, quantiles and how Go prints and reads floats |
//! | `compare` | what the engine says beside what this says |
//!
//! Annotations are not its business, nor is the order of results. Where the definition leaves a choice (ties in `topk`,
//! the order in which series are added up) its answer depends on the order of series, which it is told: whoever compares
//! asks it twice, the second time with the order reversed.
//!
//! # Reference
//! The documentation of Prometheus (querying: basics, operators, functions), and `promql/{engine,functions,quantile}.go`
//! where that is silent.

mod buckets;
mod calendar;
pub(crate) mod compare;
mod extent;
mod groups;
mod info;
mod labels;
mod matching;
mod numbers;
mod ranges;
mod select;
mod vectors;
mod walk;

use std::cell::Cell;
use tidegauge_model::Labels;
use tidegauge_query::parser::{DurationContext, Expr, Extent};
use walk::Walk;

/// A series and its samples, rising in time, stale markers among them.
pub(crate) type Series = (Labels, Vec<(i64, f64)>);

/// What an evaluator knows: the data, and the engine's settings that change answers.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) series: Vec<Series>,
    pub(crate) lookback_ms: i64,
    pub(crate) default_step_ms: i64,
    /// `promql-delayed-name-removal`
    pub(crate) delayed_names: bool,
    /// Series stand in the order of their labels, or the other way round.
    pub(crate) reverse: bool,
}

/// What an expression is at one step.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Scalar(f64),
    Text(String),
    Vector(Vec<Item>),
    Ranges(Vec<Ranged>),
}

/// One series of an instant vector.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) labels: Labels,
    pub(crate) value: f64,
    /// The name is to go at the end of the query.
    pub(crate) drop_name: bool,
}

/// One series of a range vector: the samples in `(left, right]`, and those around it that an extent asks for.
#[derive(Debug, Clone)]
pub(crate) struct Ranged {
    pub(crate) labels: Labels,
    pub(crate) drop_name: bool,
    pub(crate) samples: Vec<(i64, f64)>,
    pub(crate) left: i64,
    pub(crate) right: i64,
    pub(crate) extent: Option<Extent>,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The query is wrong on this data: the engine must say so too.
    Refused(String),
    /// This evaluator cannot tell.
    Unsupported(&'static str),
}

pub(crate) type Outcome<T> = Result<T, Failure>;

pub(crate) fn refused<T>(why: impl Into<String>) -> Outcome<T> {
    Err(Failure::Refused(why.into()))
}

/// How many samples one query may look at, counted each time: beyond it a comparison takes too long.
const MOST_WORK: u64 = 20_000_000;

impl Oracle {
    /// Evaluates at one time.
    pub(crate) fn instant(&self, expr: &Expr, at: i64) -> Outcome<Answer> {
        let walk = Walk {
            oracle: self,
            start: at,
            end: at,
            durations: DurationContext {
                step_ms: 0,
                range_ms: 0,
            },
            work_left: Cell::new(MOST_WORK),
        };
        walk.answer(expr, at)
    }

    /// Evaluates at each step from `start` to `end`, both included.
    pub(crate) fn range(&self, expr: &Expr, start: i64, end: i64, step_ms: i64) -> Outcome<Vec<(i64, Answer)>> {
        let walk = Walk {
            oracle: self,
            start,
            end,
            durations: DurationContext {
                step_ms,
                range_ms: end - start,
            },
            work_left: Cell::new(MOST_WORK),
        };
        let mut answers = Vec::new();
        let mut at = start;
        while at <= end {
            answers.push((at, walk.answer(expr, at)?));
            at += step_ms;
        }
        Ok(answers)
    }
}
