//! From the text of a query to its tree, and back.
//!
//! ```text
//!   text --lex--> tokens --reader, expr--> tree --check--> tree, well typed --print, pretty--> text
//! ```
//!
//! The language is that of Prometheus 3; what stands behind feature flags there does here too ([`Features`]).
//! Errors are upstream's, word for word where that is possible. Length and height are bounded ([`ParseOptions`]), so no
//! text can exhaust the stack, neither here nor where the tree is walked or dropped.
//!
//! ```
//! use tidegauge_query::parser::{ParseOptions, parse};
//!
//! let expr = parse("sum(rate(http_requests_total[5m])) BY(job)", &ParseOptions::default())?;
//! assert_eq!(expr.to_string(), "sum by (job) (rate(http_requests_total[5m]))");
//!
//! let error = parse("rate(up)", &ParseOptions::default()).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     r#"1:6: parse error: expected type range vector in call to function "rate", got instant vector"#
//! );
//! # Ok::<(), tidegauge_query::ParseError>(())
//! ```

mod ast;
mod check;
mod duration;
mod error;
mod expr;
mod features;
mod grouping;
mod lex;
mod modifier;
mod number;
mod options;
mod pretty;
mod print;
mod quote;
mod range;
mod reader;
mod selector;
mod signature;
mod span;
#[cfg(test)]
mod tests;

pub use ast::{
    Aggregate, AggregateOp, AtModifier, Binary, BinaryOp, Call, Cardinality, Expr, ExprKind, Extent, Grouping, MatchOn,
    MatrixSelector, Notation, NumberLiteral, StringLiteral, Subquery, Unary, UnaryOp, ValueType, VectorMatching,
    VectorSelector,
};
pub use duration::{DurationContext, DurationError, DurationExpr, DurationKind, DurationOp};
pub use error::ParseError;
pub use features::Features;
pub(crate) use number::duration_text;
pub use options::{ParseOptions, parse, parse_metric, parse_metric_prefix, parse_metric_selector};
pub(crate) use print::matcher_text;
pub use signature::{Availability, Function, Signature, Variadic};
pub use span::{Place, Span};
