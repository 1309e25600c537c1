//! From a tree back to text: the canonical form on one line.
//!
//! What is printed parses back to an equal tree.

use super::ast::{
    Aggregate, AtModifier, Binary, BinaryOp, Call, Cardinality, Expr, ExprKind, Extent, Grouping, MatchOn,
    MatrixSelector, Notation, NumberLiteral, StringLiteral, Subquery, Unary, VectorMatching, VectorSelector,
};
use super::duration::{DurationExpr, DurationKind, DurationOp};
use super::number::{whole_ms, write_duration, write_number, write_short_number};
use super::quote::{write_quoted, write_quoted_bytes};
use std::fmt::{self, Display, Formatter, Write};
use tidegauge_model::{Matcher, reserved};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(number) => write!(f, "{number}"),
            ExprKind::String(string) => write!(f, "{string}"),
            ExprKind::Vector(vector) => write!(f, "{vector}"),
            ExprKind::Matrix(matrix) => write!(f, "{matrix}"),
            ExprKind::Subquery(subquery) => write!(f, "{}{}", subquery.expr, SubqueryTail(subquery)),
            ExprKind::Aggregate(aggregate) => write!(f, "{aggregate}"),
            ExprKind::Binary(binary) => write!(f, "{} {} {}", LeftOperand(binary), Operator(binary), binary.rhs),
            ExprKind::Unary(unary) => write!(f, "{unary}"),
            ExprKind::Call(call) => write!(f, "{call}"),
            ExprKind::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.notation {
            Notation::Number => write_number(f, self.value),
            Notation::Duration => write_seconds(f, self.value),
        }
    }
}

/// Writes seconds as a duration, a sign before it if need be.
fn write_seconds(f: &mut Formatter<'_>, seconds: f64) -> fmt::Result {
    if seconds.is_sign_negative() {
        f.write_char('-')?;
    }
    write_duration(f, whole_ms(seconds).unsigned_abs())
}

impl Display for StringLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.bytes {
            Some(bytes) => write_quoted_bytes(f, bytes),
            None => write_quoted(f, &self.value),
        }
    }
}

/// A name that needs no quotes: letters, digits and underscores.
fn is_plain_label(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn write_label(f: &mut impl Write, name: &str) -> fmt::Result {
    if is_plain_label(name) {
        f.write_str(name)
    } else {
        write_quoted(f, name)
    }
}

/// A label's name, in quotes if need be.
pub(crate) fn label_shown(name: &str) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_label(&mut text, name);
    text
}

/// `(a, "b c")`
struct LabelList<'e>(&'e [String]);

impl Display for LabelList<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('(')?;
        for (i, label) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            // Upstream prints it bare, and cannot read that back.
            if label.eq_ignore_ascii_case("without") || is_number_word(label) {
                write_quoted(f, label)?;
            } else {
                write_label(f, label)?;
            }
        }
        f.write_char(')')
    }
}

/// Words that are numbers where a label is expected.
fn is_number_word(word: &str) -> bool {
    word.eq_ignore_ascii_case("inf") || word.eq_ignore_ascii_case("nan")
}

/// A matcher as upstream prints it: its name in quotes only if need be.
pub(crate) fn matcher_text(matcher: &Matcher) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_label(&mut text, matcher.name());
    text.push_str(matcher.op().as_str());
    let _ = write_quoted(&mut text, matcher.value());
    text
}

/// Name and matchers, without modifiers.
struct Selection<'e>(&'e VectorSelector);

impl Display for Selection<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let selector = self.0;
        let name = selector.name.as_deref().unwrap_or("");
        f.write_str(name)?;
        let is_name =
            |m: &Matcher| m.name() == reserved::METRIC_NAME && !name.is_empty() && *m == Matcher::equal(m.name(), name);
        let mut matchers: Vec<String> = selector
            .matchers
            .iter()
            .filter(|m| !is_name(m))
            .map(matcher_text)
            .collect();
        if matchers.is_empty() && !name.is_empty() {
            return Ok(());
        }
        matchers.sort_unstable();
        write!(f, "{{{}}}", matchers.join(","))
    }
}

fn write_at(f: &mut Formatter<'_>, at: Option<AtModifier>) -> fmt::Result {
    match at {
        None => Ok(()),
        Some(AtModifier::Timestamp(at)) => {
            let (sign, ms) = (if at.millis() < 0 { "-" } else { "" }, at.millis().unsigned_abs());
            write!(f, " @ {sign}{}.{:03}", ms / 1000, ms % 1000)
        }
        Some(AtModifier::Start) => f.write_str(" @ start()"),
        Some(AtModifier::End) => f.write_str(" @ end()"),
    }
}

fn write_extent(f: &mut Formatter<'_>, extent: Option<Extent>) -> fmt::Result {
    match extent {
        None => Ok(()),
        Some(extent) => write!(f, " {}", extent.as_str()),
    }
}

fn write_offset(f: &mut Formatter<'_>, offset: Option<&DurationExpr>) -> fmt::Result {
    match offset {
        None => Ok(()),
        Some(offset) => write!(f, " offset {}", WithUnits(offset)),
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Selection(self))?;
        write_at(f, self.at)?;
        write_extent(f, self.extent)?;
        write_offset(f, self.offset.as_ref())
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", Selection(&self.vector), WithUnits(&self.range))?;
        write_extent(f, self.vector.extent)?;
        write_at(f, self.vector.at)?;
        write_offset(f, self.vector.offset.as_ref())
    }
}

/// `[1h:1m] @ 5.000 offset 1m`
pub(crate) struct SubqueryTail<'e>(pub(crate) &'e Subquery);

impl Display for SubqueryTail<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:", WithUnits(&self.0.range))?;
        if let Some(step) = &self.0.step {
            write!(f, "{}", WithUnits(step))?;
        }
        f.write_char(']')?;
        write_at(f, self.0.at)?;
        write_offset(f, self.0.offset.as_ref())
    }
}

/// A duration by itself, which has units however it was written.
struct WithUnits<'e>(&'e DurationExpr);

impl Display for WithUnits<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            DurationKind::Literal(number) => write_seconds(f, number.value),
            _ => write!(f, "{}", self.0),
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DurationKind::Literal(number) => write!(f, "{number}"),
            DurationKind::Step => f.write_str("step()"),
            DurationKind::Range => f.write_str("range()"),
            DurationKind::Negated(inner) => write!(f, "-{inner}"),
            DurationKind::Paren(inner) => write!(f, "({inner})"),
            DurationKind::Arithmetic { op, lhs, rhs } => match op {
                DurationOp::MinOf | DurationOp::MaxOf => write!(f, "{}({lhs}, {rhs})", op.as_str()),
                _ => write!(f, "{lhs} {} {rhs}", op.as_str()),
            },
        }
    }
}

/// `sum by (a) `: an aggregation up to its parenthesis.
pub(crate) struct AggregateHead<'e>(pub(crate) &'e Aggregate);

impl Display for AggregateHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        match &self.0.grouping {
            Grouping::Without(labels) => write!(f, " without {} ", LabelList(labels)),
            Grouping::By(labels) if labels.is_empty() => Ok(()),
            Grouping::By(labels) => write!(f, " by {} ", LabelList(labels)),
        }
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", AggregateHead(self))?;
        if let Some(param) = &self.param {
            write!(f, "{param}, ")?;
        }
        write!(f, "{})", self.expr)
    }
}

/// What stands on the left of an operator.
pub(crate) struct LeftOperand<'e>(pub(crate) &'e Binary);

impl Display for LeftOperand<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if has_loose_sign(self.0) {
            return f.write_str("Inf");
        }
        write!(f, "{}", self.0.lhs)
    }
}

/// Whether the left operand prints with a sign that would be read as standing before the whole: `+Inf ^ 2`.
pub(crate) fn has_loose_sign(binary: &Binary) -> bool {
    binary.op == BinaryOp::Pow && matches!(&binary.lhs.kind, ExprKind::Number(n) if n.value == f64::INFINITY)
}

/// `+ on (a) group_left (b)`: an operator and its modifiers.
pub(crate) struct Operator<'e>(pub(crate) &'e Binary);

impl Display for Operator<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        if self.0.return_bool {
            f.write_str(" bool")?;
        }
        match &self.0.matching {
            Some(matching) => write!(f, "{matching}"),
            None => Ok(()),
        }
    }
}

/// With a blank before each modifier; nothing if the matching is as it would be without any.
impl Display for VectorMatching {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let group = match self.cardinality {
            Cardinality::ManyToOne => Some("group_left"),
            Cardinality::OneToMany => Some("group_right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if self.match_on == MatchOn::On || !self.labels.is_empty() || group.is_some() {
            let word = match self.match_on {
                MatchOn::On => "on",
                MatchOn::Ignoring => "ignoring",
            };
            write!(f, " {word} {}", LabelList(&self.labels))?;
        }
        if let Some(group) = group {
            write!(f, " {group} {}", LabelList(&self.include))?;
        }
        let (left, right) = (self.fill_left, self.fill_right);
        if left.is_some() && left.map(f64::to_bits) == right.map(f64::to_bits) {
            return write_fill(f, "fill", left);
        }
        write_fill(f, "fill_left", left)?;
        write_fill(f, "fill_right", right)
    }
}

fn write_fill(f: &mut Formatter<'_>, word: &str, value: Option<f64>) -> fmt::Result {
    let Some(value) = value else { return Ok(()) };
    write!(f, " {word} (")?;
    write_short_number(f, value)?;
    f.write_char(')')
}

impl Display for Unary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.op.as_str(), self.expr)
    }
}

impl Display for Call {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.function.name)?;
        for (i, arg) in self.args.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{arg}")?;
        }
        f.write_char(')')
    }
}
