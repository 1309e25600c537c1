//! Types: what each expression evaluates to, and whether it may stand where it does.

use super::ast::{
    Aggregate, Binary, Call, Cardinality, Expr, ExprKind, MatchOn, Subquery, Unary, ValueType, VectorMatching,
    VectorSelector,
};
use super::error::ParseError;
use super::lex::is_space;
use super::quote::quoted;
use super::signature::{Function, Variadic};
use super::span::Span;
use tidegauge_model::reserved;

/// Checks an expression of `text` and gives its type. Completes the matching of binary expressions on the way: set
/// operators match many to many, and what is no vector matches nothing.
pub(crate) fn check(text: &str, expr: &mut Expr) -> Result<ValueType, ParseError> {
    Checker { text }.expr(expr)
}

/// Whether a selector may select everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Empty {
    Refused,
    /// In the second argument of `info` it only narrows.
    Allowed,
}

struct Checker<'t> {
    text: &'t str,
}

type Checked<T = ()> = Result<T, ParseError>;

impl Checker<'_> {
    fn fail<T>(&self, span: Span, message: impl Into<String>) -> Checked<T> {
        Err(ParseError::new(self.text, span, message.into()))
    }

    fn expr(&self, expr: &mut Expr) -> Checked<ValueType> {
        let span = expr.span;
        match &mut expr.kind {
            ExprKind::Number(_) => Ok(ValueType::Scalar),
            ExprKind::String(_) => Ok(ValueType::String),
            ExprKind::Vector(selector) => {
                self.selector(selector, span, Empty::Refused)?;
                Ok(ValueType::Vector)
            }
            ExprKind::Matrix(matrix) => {
                // The selector itself ends where the brackets start, but nobody sees the end.
                self.selector(&matrix.vector, span, Empty::Refused)?;
                Ok(ValueType::Matrix)
            }
            ExprKind::Subquery(subquery) => self.subquery(subquery, span),
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate),
            ExprKind::Binary(binary) => self.binary(binary, span),
            ExprKind::Unary(unary) => self.unary(unary, span),
            ExprKind::Call(call) => self.call(call, span),
            ExprKind::Paren(inner) => self.expr(inner),
        }
    }

    fn selector(&self, selector: &VectorSelector, span: Span, empty: Empty) -> Checked {
        if let Some(name) = &selector.name {
            // The last matcher is the one made of the name.
            let others = selector.matchers.split_last().map_or(&[][..], |(_, others)| others);
            return match others.iter().find(|m| m.name() == reserved::METRIC_NAME) {
                None => Ok(()),
                Some(other) => self.fail(
                    span,
                    format!(
                        "metric name must not be set twice: {} or {}",
                        quoted(name),
                        quoted(other.value())
                    ),
                ),
            };
        }
        if empty == Empty::Refused && selector.matchers.iter().all(tidegauge_model::Matcher::matches_empty) {
            return self.fail(span, "vector selector must contain at least one non-empty matcher");
        }
        Ok(())
    }

    fn subquery(&self, subquery: &mut Subquery, span: Span) -> Checked<ValueType> {
        let inner = self.expr(&mut subquery.expr)?;
        if inner != ValueType::Vector {
            let message = format!(
                "subquery is only allowed on instant vector, got {} instead",
                inner.as_str()
            );
            return self.fail(span, message);
        }
        Ok(ValueType::Matrix)
    }

    fn unary(&self, unary: &mut Unary, span: Span) -> Checked<ValueType> {
        let inner = self.expr(&mut unary.expr)?;
        if !matches!(inner, ValueType::Scalar | ValueType::Vector) {
            let message = format!(
                "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                quoted(inner.described())
            );
            return self.fail(span, message);
        }
        Ok(inner)
    }

    fn aggregate(&self, aggregate: &mut Aggregate) -> Checked<ValueType> {
        self.expect(&mut aggregate.expr, ValueType::Vector, "aggregation expression")?;
        if let (Some(param), Some(wanted)) = (&mut aggregate.param, aggregate.op.param()) {
            self.expect(param, wanted, "aggregation parameter")?;
        }
        Ok(ValueType::Vector)
    }

    fn expect(&self, expr: &mut Expr, wanted: ValueType, context: &str) -> Checked {
        let found = self.expr(expr)?;
        if found == wanted {
            return Ok(());
        }
        let (wanted, found) = (wanted.described(), found.described());
        self.fail(expr.span, format!("expected type {wanted} in {context}, got {found}"))
    }

    fn binary(&self, binary: &mut Binary, span: Span) -> Checked<ValueType> {
        let left = self.expr(&mut binary.lhs)?;
        let right = self.expr(&mut binary.rhs)?;
        let scalars = left == ValueType::Scalar && right == ValueType::Scalar;
        if binary.return_bool && !binary.op.is_comparison() {
            return self.fail(
                self.operator_span(binary),
                "bool modifier can only be used on comparison operators",
            );
        }
        if binary.op.is_comparison() && !binary.return_bool && scalars {
            return self.fail(
                self.operator_span(binary),
                "comparisons between scalars must use BOOL modifier",
            );
        }
        self.matched_labels(binary)?;
        for (side, found) in [(&binary.lhs, left), (&binary.rhs, right)] {
            if !matches!(found, ValueType::Scalar | ValueType::Vector) {
                return self.fail(
                    side.span,
                    "binary expression must contain only scalar and instant vector types",
                );
            }
        }
        let vectors = left == ValueType::Vector && right == ValueType::Vector;
        if let Some(matching) = &mut binary.matching {
            if !vectors {
                self.matching_of_scalars(matching, span)?;
                binary.matching = None;
            } else if binary.op.is_set() {
                self.matching_of_sets(matching, binary.op.as_str(), span)?;
            }
        }
        if !vectors && binary.op.is_set() {
            let message = format!(
                "set operator {} not allowed in binary scalar expression",
                quoted(binary.op.as_str())
            );
            return self.fail(span, message);
        }
        Ok(if scalars { ValueType::Scalar } else { ValueType::Vector })
    }

    /// A label cannot both make series match and be taken from one of them.
    fn matched_labels(&self, binary: &Binary) -> Checked {
        let Some(matching) = binary.matching.as_ref().filter(|m| m.match_on == MatchOn::On) else {
            return Ok(());
        };
        match matching.labels.iter().find(|label| matching.include.contains(label)) {
            None => Ok(()),
            Some(label) => self.fail(
                self.operator_span(binary),
                format!("label {} must not occur in ON and GROUP clause at once", quoted(label)),
            ),
        }
    }

    fn matching_of_scalars(&self, matching: &VectorMatching, span: Span) -> Checked {
        if !matching.labels.is_empty() {
            return self.fail(span, "vector matching only allowed between instant vectors");
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return self.fail(span, "filling in missing series only allowed between instant vectors");
        }
        Ok(())
    }

    fn matching_of_sets(&self, matching: &mut VectorMatching, op: &str, span: Span) -> Checked {
        if matching.cardinality != Cardinality::OneToOne && matching.cardinality != Cardinality::ManyToMany {
            return self.fail(span, format!("no grouping allowed for {} operation", quoted(op)));
        }
        matching.cardinality = Cardinality::ManyToMany;
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return self.fail(span, "filling in missing series not allowed for set operators");
        }
        Ok(())
    }

    /// What stands between the operands, blanks apart; its end is the last byte, as upstream reports it.
    fn operator_span(&self, binary: &Binary) -> Span {
        let between = Span::new(binary.lhs.span.end, binary.rhs.span.start).of(self.text);
        let start = between.trim_start_matches(is_space);
        let start_at = binary.lhs.span.end + (between.len() - start.len()) as u32;
        let len = start.trim_end_matches(is_space).len();
        Span::new(start_at, start_at + len.saturating_sub(1) as u32)
    }

    fn call(&self, call: &mut Call, span: Span) -> Checked<ValueType> {
        let function = call.function;
        self.count_arguments(call, span)?;
        let call_context = || format!("call to function {}", quoted(function.name));
        if function.function == Function::Info
            && let Some(narrowing) = call.args.get(1)
        {
            let found = narrowing.value_type();
            if found != ValueType::Vector {
                let (wanted, found) = (ValueType::Vector.described(), found.described());
                return self.fail(
                    span,
                    format!("expected type {wanted} in {}, got {found}", call_context()),
                );
            }
            match &narrowing.kind {
                ExprKind::Vector(selector) if selector.name.is_none() => {}
                ExprKind::Vector(_) => {
                    return self.fail(
                        narrowing.span,
                        "expected label selectors only, got vector selector instead",
                    );
                }
                _ => return self.fail(narrowing.span, "expected label selectors only"),
            }
        }
        for (position, arg) in call.args.iter_mut().enumerate() {
            let Some(wanted) = function.arg(position) else { break };
            if function.function == Function::Info
                && position == 1
                && let ExprKind::Vector(selector) = &arg.kind
            {
                self.selector(selector, arg.span, Empty::Allowed)?;
                continue;
            }
            let found = self.expr(arg)?;
            if found != wanted {
                let (wanted, found) = (wanted.described(), found.described());
                return self.fail(
                    arg.span,
                    format!("expected type {wanted} in {}, got {found}", call_context()),
                );
            }
        }
        Ok(function.returns)
    }

    fn count_arguments(&self, call: &Call, span: Span) -> Checked {
        let (function, given) = (call.function, call.args.len());
        let (min, max) = (function.min_args(), function.max_args());
        let (bound, expected) = match max {
            _ if function.variadic == Variadic::Exact && given != min => ("", min),
            _ if given < min => ("at least ", min),
            Some(max) if given > max => ("at most ", max),
            _ => return Ok(()),
        };
        let name = quoted(function.name);
        self.fail(
            span,
            format!("expected {bound}{expected} argument(s) in call to {name}, got {given}"),
        )
    }
}
