//! One query and when it is asked for.

use crate::generate::{DataOptions, Rng};
use std::fmt;
use tidegauge_query::parser::{DurationExpr, ExprKind, Subquery, ValueType};
use tidegauge_query::{ParseOptions, parse};

/// A query.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) text: String,
    pub(super) when: When,
}

impl Case {
    /// What is directly below the expression, each part a query for the times at which the whole looks at it.
    pub(super) fn parts(&self, options: &ParseOptions) -> Vec<Self> {
        let Ok(expr) = parse(&self.text, options) else {
            return Vec::new();
        };
        let whole = expr.unparenthesised();
        let below = if matches!(whole.kind, ExprKind::Subquery(_)) {
            vec![whole]
        } else {
            whole.children()
        };
        let mut parts = Vec::new();
        for child in below {
            let (child, when) = match &child.unparenthesised().kind {
                ExprKind::Subquery(subquery) => (&*subquery.expr, self.when.within(subquery)),
                _ => (child, self.when),
            };
            let is_query = match child.value_type() {
                ValueType::String => false,
                ValueType::Matrix => !when.is_range(),
                ValueType::Scalar | ValueType::Vector => true,
            };
            let text = child.to_string();
            // The second argument of `info` may select everything, which no query may.
            if is_query && parse(&text, options).is_ok() {
                parts.push(Self { text, when });
            }
        }
        parts
    }
}

/// The times it is evaluated at, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    At(i64),
    Range { start: i64, end: i64, step: i64 },
}

impl When {
    /// A time or a range within the data or around it, on its grid or off.
    pub(super) fn random(rng: &mut Rng, data: &DataOptions, is_range: bool) -> Self {
        let mut start = rng.between(data.start_ms - 60_000, data.end_ms + 60_000);
        match rng.below(3) {
            0 => {}
            1 => start -= (start - data.start_ms).rem_euclid(data.interval_ms),
            _ => start -= start.rem_euclid(60_000),
        }
        if !is_range {
            return Self::At(start);
        }
        let step = rng.pick(&[15_000, 30_000, 60_000, 60_000, 17_000, 300_000, 7_001, 120_000]);
        Self::Range {
            start,
            end: start + step * rng.between(0, 30) + rng.pick(&[0, 0, 1, 1000]),
            step,
        }
    }

    /// The times at which a subquery is evaluated, if its durations are plain.
    fn within(self, subquery: &Subquery) -> Self {
        let ms = |seconds: f64| (seconds * 1000.0) as i64;
        let (start, end) = match self {
            Self::At(at) => (at, at),
            Self::Range { start, end, .. } => (start, end),
        };
        let offset = subquery.offset.as_ref().and_then(DurationExpr::as_number).map_or(0, ms);
        let range = subquery.range.as_number().map_or(60_000, ms);
        let step = subquery
            .step
            .as_ref()
            .and_then(DurationExpr::as_number)
            .map_or(60_000, ms)
            .max(1);
        let first = start - offset - range;
        Self::Range {
            start: first - first.rem_euclid(step) + step,
            end: (end - offset).max(first + step),
            step,
        }
    }

    pub(super) fn is_range(self) -> bool {
        matches!(self, Self::Range { .. })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.when {
            When::At(at) => write!(f, "{} at {at}", self.text),
            When::Range { start, end, step } => write!(f, "{} from {start} to {end} by {step}", self.text),
        }
    }
}
