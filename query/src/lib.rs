//! PromQL: parser and engine. Synchronous; reads through the door of `model`.
//!
//! ```text
//!   text --parser--> tree --plan--> nodes --eval--> series by steps --engine--> Value
//!                                     |
//!                                     `--- Querier::select: columns by timeline ---> window, functions
//! ```
//!
//! [`Engine`] evaluates a [`Query`] at one time or at many and gives a [`QueryOutput`] or a [`QueryError`]. What each part of
//! the plan did is on record while it runs: statistics, the limit on samples and [`Explain`] are read off it.

#![forbid(unsafe_code)]

mod account;
mod annotation;
mod engine;
mod error;
mod eval;
mod explain;
mod functions;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod gate;
mod helpers;
mod metrics;
pub mod parser;
mod plan;
mod record;
mod value;
mod watch;
mod window;

pub use annotation::{Annotations, Severity};
pub use engine::{Engine, EngineOptions, Query};
pub use error::QueryError;
pub use explain::{Explain, ExplainPart, Selection};
pub use metrics::{MetricRow, Metrics};
pub use parser::{Features, ParseError, ParseOptions, parse};
pub use value::{InstantSample, QueryOutput, QueryStats, RangeSeries, StatsLevel, Value};
