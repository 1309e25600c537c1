//! Durations: of ranges, steps and offsets, plain or computed.

use super::ast::{Notation, NumberLiteral};
use super::number::whole_ms;
use super::span::Span;

/// A duration, or (behind `promql-duration-expr`) an expression that gives one.
#[derive(Debug, Clone)]
pub struct DurationExpr {
    /// What it is.
    pub kind: DurationKind,
    /// Its bytes in the query.
    pub span: Span,
}

/// The kinds of duration. Everything is in seconds.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationKind {
    /// `5m`, `300`, `-7m`
    Literal(NumberLiteral),
    /// `step()`: the query's step.
    Step,
    /// `range()`: from the query's start to its end.
    Range,
    /// `-step()`
    Negated(Box<DurationExpr>),
    /// `5m + 1h`
    Arithmetic {
        /// The operator.
        op: DurationOp,
        /// What stands on its left.
        lhs: Box<DurationExpr>,
        /// What stands on its right.
        rhs: Box<DurationExpr>,
    },
    /// `(5m)`
    Paren(Box<DurationExpr>),
}

/// What joins two durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DurationOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `min_of(a, b)`
    MinOf,
    /// `max_of(a, b)`
    MaxOf,
}

impl DurationOp {
    /// As PromQL writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::MinOf => "min_of",
            Self::MaxOf => "max_of",
        }
    }
}

/// What `step()` and `range()` stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurationContext {
    /// The query's step in milliseconds; for an instant query what the engine sets.
    pub step_ms: i64,
    /// From the query's start to its end, in milliseconds.
    pub range_ms: i64,
}

/// Why a computed duration is none. Its place is that of the expression at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// `5m / 0`
    #[error("division by zero")]
    DivisionByZero(Span),
    /// `5m % 0`
    #[error("modulo by zero")]
    ModuloByZero(Span),
    /// A range or step that is zero or negative.
    #[error("duration must be greater than 0")]
    NotPositive(Span),
    /// More than 292 years.
    #[error("duration is out of range")]
    OutOfRange(Span),
}

impl DurationError {
    /// Where the fault is.
    pub fn span(&self) -> Span {
        match self {
            Self::DivisionByZero(span)
            | Self::ModuloByZero(span)
            | Self::NotPositive(span)
            | Self::OutOfRange(span) => *span,
        }
    }
}

/// Longer durations do not fit into 64 bits of nanoseconds, which is what upstream counts in.
const MAX_SECONDS: f64 = 9_223_372_036.0;

impl DurationExpr {
    /// A plain duration, as if written with units.
    pub fn from_millis(ms: i64, span: Span) -> Self {
        let value = (ms / 1000) as f64 + (ms % 1000) as f64 / 1e3;
        Self {
            kind: DurationKind::Literal(NumberLiteral {
                value,
                notation: Notation::Duration,
            }),
            span,
        }
    }

    /// The milliseconds of a duration in which nothing is computed: `5m`, `-(5m)`; `None` for all others.
    pub fn plain_ms(&self) -> Option<i64> {
        match &self.kind {
            DurationKind::Literal(number) => Some(whole_ms(number.value)),
            DurationKind::Negated(inner) => inner.plain_ms().map(i64::wrapping_neg),
            DurationKind::Paren(inner) => inner.plain_ms(),
            DurationKind::Step | DurationKind::Range | DurationKind::Arithmetic { .. } => None,
        }
    }

    /// A plain number by itself says the same as the duration it is worth: `[300]` and `[5m]`.
    pub(crate) fn with_units(mut self) -> Self {
        if let DurationKind::Literal(number) = &mut self.kind {
            number.notation = Notation::Duration;
        }
        self
    }

    /// The milliseconds of a range or of a step.
    ///
    /// # Errors
    /// [`DurationError`] if it divides by zero, or is not greater than zero.
    pub fn positive_ms(&self, context: DurationContext) -> Result<i64, DurationError> {
        let seconds = self.eval(context)?;
        if seconds <= 0.0 {
            return Err(DurationError::NotPositive(self.span));
        }
        self.ms_of(seconds)
    }

    /// The milliseconds of an offset, which may be negative.
    ///
    /// # Errors
    /// [`DurationError`] if it divides by zero.
    pub fn offset_ms(&self, context: DurationContext) -> Result<i64, DurationError> {
        self.ms_of(self.eval(context)?)
    }

    fn ms_of(&self, seconds: f64) -> Result<i64, DurationError> {
        if let DurationKind::Literal(number) = &self.kind {
            return Ok(whole_ms(number.value));
        }
        if seconds.is_nan() || seconds.abs() > MAX_SECONDS {
            return Err(DurationError::OutOfRange(self.span));
        }
        // What is computed is cut, not rounded, as upstream does.
        Ok((seconds * 1000.0) as i64)
    }

    fn eval(&self, context: DurationContext) -> Result<f64, DurationError> {
        Ok(match &self.kind {
            DurationKind::Literal(number) => number.value,
            DurationKind::Step => context.step_ms as f64 / 1000.0,
            DurationKind::Range => context.range_ms as f64 / 1000.0,
            DurationKind::Negated(inner) => -inner.eval(context)?,
            DurationKind::Paren(inner) => inner.eval(context)?,
            DurationKind::Arithmetic { op, lhs, rhs } => {
                let (l, r) = (lhs.eval(context)?, rhs.eval(context)?);
                match op {
                    DurationOp::Add => l + r,
                    DurationOp::Sub => l - r,
                    DurationOp::Mul => l * r,
                    DurationOp::Div if r == 0.0 => return Err(DurationError::DivisionByZero(rhs.span)),
                    DurationOp::Div => l / r,
                    DurationOp::Mod if r == 0.0 => return Err(DurationError::ModuloByZero(rhs.span)),
                    DurationOp::Mod => l % r,
                    DurationOp::Pow => l.powf(r),
                    DurationOp::MinOf => l.min(r),
                    DurationOp::MaxOf => l.max(r),
                }
            }
        })
    }
}

/// Equal if they say the same, wherever they stand.
impl PartialEq for DurationExpr {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}
