//! The tree of a PromQL expression.
//!
//! Every expression carries the bytes of the query it was made from. The tree is what the text says and no more:
//! parentheses stay, and only a sign before a number is folded into it, as upstream does. Its height is bounded by
//! [`ParseOptions::max_depth`](super::ParseOptions::max_depth), so walking it by recursion is safe.

use super::duration::DurationExpr;
use super::signature::Signature;
use super::span::Span;
use std::fmt;
use tidegauge_model::{Matcher, Timestamp};

/// What an expression evaluates to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number.
    Scalar,
    /// A text.
    String,
    /// An instant vector: a value per series.
    Vector,
    /// A range vector: many samples per series.
    Matrix,
}

impl ValueType {
    /// As the HTTP API names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "vector",
            Self::Matrix => "matrix",
        }
    }

    /// As error messages name it.
    pub const fn described(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
        }
    }
}

/// An expression and where it stands.
#[derive(Debug, Clone)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Its bytes in the query, modifiers included.
    pub span: Span,
}

/// The kinds of expression.
#[derive(Debug, Clone)]
pub enum ExprKind {
    /// `1.5`, `0x1f`, `Inf`, `5m`
    Number(NumberLiteral),
    /// `"text"`
    String(StringLiteral),
    /// `up{job="node"} offset 5m`
    Vector(VectorSelector),
    /// `up{job="node"}[5m]`
    Matrix(MatrixSelector),
    /// `expr[1h:1m]`
    Subquery(Subquery),
    /// `sum by (job) (expr)`
    Aggregate(Aggregate),
    /// `a + on (job) b`
    Binary(Binary),
    /// `-expr`
    Unary(Unary),
    /// `rate(expr)`
    Call(Call),
    /// `(expr)`
    Paren(Box<Expr>),
}

impl Expr {
    /// An expression at a place.
    pub fn new(kind: ExprKind, span: Span) -> Self {
        Self { kind, span }
    }

    /// What it evaluates to.
    pub fn value_type(&self) -> ValueType {
        // A loop where there is nothing to decide: parentheses may be deep.
        let mut expr = self;
        loop {
            expr = match &expr.kind {
                ExprKind::Paren(inner) => inner,
                ExprKind::Unary(unary) => &unary.expr,
                ExprKind::Number(_) => return ValueType::Scalar,
                ExprKind::String(_) => return ValueType::String,
                ExprKind::Vector(_) | ExprKind::Aggregate(_) => return ValueType::Vector,
                ExprKind::Matrix(_) | ExprKind::Subquery(_) => return ValueType::Matrix,
                ExprKind::Call(call) => return call.function.returns,
                ExprKind::Binary(binary) => {
                    let scalar =
                        |e: &Self| matches!(e.kind, ExprKind::Number(_)) || e.value_type() == ValueType::Scalar;
                    return if scalar(&binary.rhs) && scalar(&binary.lhs) {
                        ValueType::Scalar
                    } else {
                        ValueType::Vector
                    };
                }
            };
        }
    }

    /// The expression inside any number of parentheses.
    pub fn unparenthesised(&self) -> &Self {
        let mut expr = self;
        while let ExprKind::Paren(inner) = &expr.kind {
            expr = inner;
        }
        expr
    }

    /// The selectors of series in it, from left to right, those of ranges included.
    pub fn selectors(&self) -> Vec<&VectorSelector> {
        let (mut found, mut todo) = (Vec::new(), vec![self]);
        while let Some(expr) = todo.pop() {
            match &expr.kind {
                ExprKind::Vector(selector) => found.push(selector),
                ExprKind::Matrix(matrix) => found.push(&matrix.vector),
                _ => todo.extend(expr.children().into_iter().rev()),
            }
        }
        found
    }

    /// The expressions directly below, from left to right as written (an aggregation's parameter before its operand).
    pub fn children(&self) -> Vec<&Self> {
        match &self.kind {
            ExprKind::Number(_) | ExprKind::String(_) | ExprKind::Vector(_) | ExprKind::Matrix(_) => Vec::new(),
            ExprKind::Subquery(s) => vec![&s.expr],
            ExprKind::Aggregate(a) => a.param.as_deref().into_iter().chain([&*a.expr]).collect(),
            ExprKind::Binary(b) => vec![&b.lhs, &b.rhs],
            ExprKind::Unary(u) => vec![&u.expr],
            ExprKind::Call(c) => c.args.iter().collect(),
            ExprKind::Paren(inner) => vec![inner],
        }
    }
}

/// Two expressions are equal if they say the same, wherever they stand.
impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl PartialEq for ExprKind {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a == b,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Vector(a), Self::Vector(b)) => a == b,
            (Self::Matrix(a), Self::Matrix(b)) => a == b,
            (Self::Subquery(a), Self::Subquery(b)) => a == b,
            (Self::Aggregate(a), Self::Aggregate(b)) => a == b,
            (Self::Binary(a), Self::Binary(b)) => a == b,
            (Self::Unary(a), Self::Unary(b)) => a == b,
            (Self::Call(a), Self::Call(b)) => a == b,
            (Self::Paren(a), Self::Paren(b)) => a == b,
            _ => false,
        }
    }
}

/// A number. Equal to another if it is written alike and has the same bits (or both are NaN).
#[derive(Debug, Clone, Copy)]
pub struct NumberLiteral {
    /// Its value; that of a duration is in seconds.
    pub value: f64,
    /// Whether it was written as a duration (`5m`) or as a number; a sign before it does not change that.
    pub notation: Notation,
}

/// How a number was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// `300`, `0x12c`, `3e2`
    Number,
    /// `5m`
    Duration,
}

impl PartialEq for NumberLiteral {
    fn eq(&self, other: &Self) -> bool {
        let same = self.value.to_bits() == other.value.to_bits() || self.value.is_nan() && other.value.is_nan();
        same && self.notation == other.notation
    }
}

/// A text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StringLiteral {
    /// The text, escapes resolved; bytes that are no UTF-8 (`"\xff"`) stand as U+FFFD.
    pub value: String,
    /// The bytes of a text that is no UTF-8; `None` for all others.
    pub bytes: Option<Box<[u8]>>,
}

/// Which series, at one instant. Equal to another whatever the order of the matchers.
#[derive(Debug, Clone)]
pub struct VectorSelector {
    /// The metric name, if it stands before the braces. One in quotes within them is a matcher like any other.
    pub name: Option<String>,
    /// All matchers in the order written, the one on the metric name (if `name` is set) last.
    pub matchers: Vec<Matcher>,
    /// `offset 5m`
    pub offset: Option<DurationExpr>,
    /// `@ 123.4`
    pub at: Option<AtModifier>,
    /// `anchored` or `smoothed`
    pub extent: Option<Extent>,
}

impl VectorSelector {
    fn sorted_matchers(&self) -> Vec<(&str, &str, &str)> {
        let mut sorted: Vec<_> = self
            .matchers
            .iter()
            .map(|m| (m.name(), m.op().as_str(), m.value()))
            .collect();
        sorted.sort_unstable();
        sorted
    }
}

impl PartialEq for VectorSelector {
    fn eq(&self, other: &Self) -> bool {
        let rest = |s: &Self| (s.name.clone(), s.at, s.extent);
        rest(self) == rest(other) && self.offset == other.offset && self.sorted_matchers() == other.sorted_matchers()
    }
}

/// The `@` modifier: the time to evaluate at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtModifier {
    /// `@ 1609746000`
    Timestamp(Timestamp),
    /// `@ start()`
    Start,
    /// `@ end()`
    End,
}

/// How a selector treats the edges of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extent {
    /// With the last sample at or before the start of the range.
    Anchored,
    /// With values interpolated at the edges.
    Smoothed,
}

impl Extent {
    /// As PromQL writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anchored => "anchored",
            Self::Smoothed => "smoothed",
        }
    }
}

/// Which series, over a range. Its offset, `@` and extent are those of `vector`.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    /// The series.
    pub vector: VectorSelector,
    /// How far back.
    pub range: DurationExpr,
}

/// An expression evaluated at steps over a range.
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Box<Expr>,
    /// How far back.
    pub range: DurationExpr,
    /// The step; the engine's default if there is none.
    pub step: Option<DurationExpr>,
    /// `offset 5m`
    pub offset: Option<DurationExpr>,
    /// `@ 123.4`
    pub at: Option<AtModifier>,
}

/// An aggregation over series.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// How.
    pub op: AggregateOp,
    /// The parameter of `topk`, `bottomk`, `limitk`, `limit_ratio`, `quantile` and `count_values`.
    pub param: Option<Box<Expr>>,
    /// What is aggregated.
    pub expr: Box<Expr>,
    /// Into which groups; `By` no labels if nothing is said.
    pub grouping: Grouping,
}

/// What makes a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grouping {
    /// The values of these labels.
    By(Vec<String>),
    /// The values of all labels but these and the metric name.
    Without(Vec<String>),
}

impl Grouping {
    /// The labels named.
    pub fn labels(&self) -> &[String] {
        match self {
            Self::By(labels) | Self::Without(labels) => labels,
        }
    }
}

/// The aggregation operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are PromQL's own names")]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Sum,
        Self::Avg,
        Self::Count,
        Self::Min,
        Self::Max,
        Self::Group,
        Self::Stddev,
        Self::Stdvar,
        Self::Topk,
        Self::Bottomk,
        Self::CountValues,
        Self::Quantile,
        Self::Limitk,
        Self::LimitRatio,
    ];

    /// As PromQL writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Count => "count",
            Self::Min => "min",
            Self::Max => "max",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Topk => "topk",
            Self::Bottomk => "bottomk",
            Self::CountValues => "count_values",
            Self::Quantile => "quantile",
            Self::Limitk => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// The type of its parameter, if it takes one.
    pub const fn param(self) -> Option<ValueType> {
        match self {
            Self::Topk | Self::Bottomk | Self::Quantile | Self::Limitk | Self::LimitRatio => Some(ValueType::Scalar),
            Self::CountValues => Some(ValueType::String),
            _ => None,
        }
    }

    /// Whether it needs the experimental functions switched on.
    pub const fn is_experimental(self) -> bool {
        matches!(self, Self::Limitk | Self::LimitRatio)
    }
}

/// Two expressions and an operator between.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// What stands on its left.
    pub lhs: Box<Expr>,
    /// What stands on its right.
    pub rhs: Box<Expr>,
    /// Whether a comparison gives 0 or 1 (`bool`) instead of dropping series.
    pub return_bool: bool,
    /// How series of the two sides find each other; `None` unless both are vectors.
    pub matching: Option<VectorMatching>,
}

/// The binary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
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
    /// `atan2`
    Atan2,
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `and`
    And,
    /// `or`
    Or,
    /// `unless`
    Unless,
    /// `</`: histograms trimmed to what lies below a bound.
    TrimUpper,
    /// `>/`: histograms trimmed to what lies above a bound.
    TrimLower,
}

impl BinaryOp {
    /// As PromQL writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
        }
    }

    /// Whether it compares: `== != < <= > >=`.
    pub const fn is_comparison(self) -> bool {
        matches!(self, Self::Eq | Self::Ne | Self::Lt | Self::Le | Self::Gt | Self::Ge)
    }

    /// Whether it works on sets of series: `and or unless`.
    pub const fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

/// How series of two vectors find each other. Fills are compared by bits.
#[derive(Debug, Clone)]
pub struct VectorMatching {
    /// How many may match how many.
    pub cardinality: Cardinality,
    /// Whether `labels` are those that count or those that do not.
    pub match_on: MatchOn,
    /// The labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// The labels that `group_left` or `group_right` takes from the "one" side.
    pub include: Vec<String>,
    /// `fill_left`, or `fill`: what stands for a series that is missing on the left.
    pub fill_left: Option<f64>,
    /// `fill_right`, or `fill`: what stands for a series that is missing on the right.
    pub fill_right: Option<f64>,
}

impl PartialEq for VectorMatching {
    fn eq(&self, other: &Self) -> bool {
        let fills = |m: &Self| (m.fill_left.map(f64::to_bits), m.fill_right.map(f64::to_bits));
        (self.cardinality, self.match_on) == (other.cardinality, other.match_on)
            && (&self.labels, &self.include) == (&other.labels, &other.include)
            && fills(self) == fills(other)
    }
}

/// How many series of one side may match how many of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cardinality {
    /// Each with one.
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

impl Cardinality {
    /// As the HTTP API names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneToOne => "one-to-one",
            Self::ManyToOne => "many-to-one",
            Self::OneToMany => "one-to-many",
            Self::ManyToMany => "many-to-many",
        }
    }
}

/// Whether the labels listed are those that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOn {
    /// `on`: only these labels count.
    On,
    /// `ignoring`: all labels but these count. Also what is meant if nothing is said.
    Ignoring,
}

/// A sign before an expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Unary {
    /// Which.
    pub op: UnaryOp,
    /// Before what.
    pub expr: Box<Expr>,
}

/// The signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `+`
    Plus,
    /// `-`
    Minus,
}

impl UnaryOp {
    /// As PromQL writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plus => "+",
            Self::Minus => "-",
        }
    }
}

/// A function and its arguments, which are as many and of the types that its signature asks for.
#[derive(Clone, PartialEq)]
pub struct Call {
    /// The function, from the table of signatures.
    pub function: &'static Signature,
    /// What it is called with.
    pub args: Vec<Expr>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("function", &self.function.name)
            .field("args", &self.args)
            .finish()
    }
}
