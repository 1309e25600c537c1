//! From the tree to what is evaluated: durations and times resolved, parts that are the same at each step marked,
//! for each selector the samples it needs.

mod presence;

use crate::engine::{EngineOptions, Shape};
use crate::error::QueryError;
use crate::parser::{
    Aggregate, AggregateOp, AtModifier, Binary, BinaryOp, Call, DurationContext, DurationError, Expr, ExprKind, Extent,
    Function, Grouping, MatrixSelector, ParseError, Span, Subquery, UnaryOp, VectorMatching, VectorSelector,
};
use crate::window::{Frame, Grid};
use tidegauge_model::{MatchOp, Matcher, TimeRange, reserved::METRIC_NAME};

/// What is evaluated, and the samples it needs.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) root: Node,
    /// All samples any selector needs.
    pub(crate) range: TimeRange,
    pub(crate) lookback_ms: i64,
    pub(crate) times: Times,
}

/// What `start()`, `end()`, `range()` and `step()` stand for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// 0 for an instant query.
    pub(crate) step_ms: i64,
}

/// A part of the plan.
#[derive(Debug)]
pub(crate) enum Node {
    Number(f64),
    Text(String),
    Select(Select),
    /// A range vector: what a range function is called with, or a whole instant query.
    Window(Box<Window>),
    Call(Box<CallNode>),
    Aggregate(Box<AggregateNode>),
    Binary(Box<BinaryNode>),
    Negate(Box<Node>),
    /// The same at each step: evaluated at the first only.
    Once(Box<Node>),
}

/// An instant selector.
#[derive(Debug, Clone)]
pub(crate) struct Select {
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) offset_ms: i64,
    pub(crate) at: Option<i64>,
    pub(crate) extent: Option<Extent>,
    /// Nobody looks at the values: only when there are samples matters.
    pub(crate) presence_only: bool,
}

/// A range selector or a subquery.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) source: Source,
    pub(crate) range_ms: i64,
}

/// Where the samples of a range vector come from.
#[derive(Debug)]
pub(crate) enum Source {
    Series(Select),
    Subquery {
        expr: Node,
        step_ms: i64,
        offset_ms: i64,
        at: Option<i64>,
    },
}

/// A function call.
#[derive(Debug)]
pub(crate) struct CallNode {
    pub(crate) function: Function,
    pub(crate) args: Vec<Node>,
    pub(crate) span: Span,
    pub(crate) arg_spans: Vec<Span>,
}

/// An aggregation.
#[derive(Debug)]
pub(crate) struct AggregateNode {
    pub(crate) op: AggregateOp,
    pub(crate) param: Option<Node>,
    pub(crate) param_span: Span,
    pub(crate) expr: Node,
    pub(crate) grouping: Grouping,
}

/// A binary operation.
#[derive(Debug)]
pub(crate) struct BinaryNode {
    pub(crate) op: BinaryOp,
    pub(crate) lhs: Node,
    pub(crate) rhs: Node,
    pub(crate) return_bool: bool,
    pub(crate) matching: Option<VectorMatching>,
    pub(crate) span: Span,
}

impl Select {
    /// The metric's name, if only one will do.
    pub(crate) fn metric_name(&self) -> Option<&str> {
        self.matchers
            .iter()
            .find(|m| m.op() == MatchOp::Equal && m.name() == METRIC_NAME && !m.value().is_empty())
            .map(Matcher::value)
    }

    /// The window of an instant selector with a modifier.
    pub(crate) fn instant_frame(&self, grid: Grid, lookback_ms: i64, extent: Option<Extent>) -> Frame {
        let ahead_ms = if extent == Some(Extent::Smoothed) {
            lookback_ms
        } else {
            0
        };
        Frame {
            grid,
            at: self.at,
            offset_ms: self.offset_ms,
            back_ms: lookback_ms,
            ahead_ms,
        }
    }
}

impl Window {
    /// The window at each step of what takes this range vector.
    pub(crate) fn frame(&self, grid: Grid, lookback_ms: i64) -> Frame {
        match &self.source {
            Source::Series(select) => {
                let (more_back, ahead_ms) = match select.extent {
                    None => (0, 0),
                    Some(Extent::Anchored) => (lookback_ms, 0),
                    Some(Extent::Smoothed) => (lookback_ms, lookback_ms),
                };
                Frame {
                    grid,
                    at: select.at,
                    offset_ms: select.offset_ms,
                    back_ms: self.range_ms.saturating_add(more_back),
                    ahead_ms,
                }
            }
            Source::Subquery { offset_ms, at, .. } => Frame {
                grid,
                at: *at,
                offset_ms: *offset_ms,
                back_ms: self.range_ms,
                ahead_ms: 0,
            },
        }
    }

    /// The steps at which a subquery is evaluated: multiples of its step within its windows.
    pub(crate) fn inner_grid(&self, grid: Grid, step_ms: i64) -> Grid {
        let range = self.frame(grid, 0).range();
        let left = range.start.millis().saturating_sub(1);
        let mut start = left / step_ms * step_ms;
        if start <= left {
            start = start.saturating_add(step_ms);
        }
        Grid::new(start, range.end.millis(), step_ms)
    }
}

impl Plan {
    pub(crate) fn new(
        expr: &Expr,
        grid: Grid,
        shape: Shape,
        options: &EngineOptions,
        lookback_ms: Option<i64>,
    ) -> Result<Self, QueryError> {
        let times = match shape {
            Shape::Instant => Times {
                start: grid.start,
                end: grid.start,
                step_ms: 0,
            },
            Shape::Range { end } => Times {
                start: grid.start,
                end,
                step_ms: grid.step_ms,
            },
        };
        let lookback_ms = lookback_ms.filter(|ms| *ms > 0).unwrap_or(options.lookback_ms);
        let planner = Planner {
            times,
            durations: DurationContext {
                step_ms: times.step_ms,
                range_ms: times.end.saturating_sub(times.start),
            },
            default_step_ms: options.default_subquery_step_ms.max(1),
        };
        let (root, steps) = planner.node(expr)?;
        let mut root = steps.wrap(root);
        presence::mark(&mut root);
        let mut range = None;
        need(&root, grid, lookback_ms, &mut range);
        Ok(Self {
            root,
            range: range.unwrap_or(TimeRange::new(
                tidegauge_model::Timestamp::from_millis(grid.start),
                tidegauge_model::Timestamp::from_millis(grid.end()),
            )),
            lookback_ms,
            times,
        })
    }
}

/// Widens `range` by what a node needs at these steps.
fn need(node: &Node, grid: Grid, lookback_ms: i64, range: &mut Option<TimeRange>) {
    let mut add = |more: TimeRange| {
        *range = Some(range.map_or(more, |r| TimeRange::new(r.start.min(more.start), r.end.max(more.end))));
    };
    match node {
        Node::Number(_) | Node::Text(_) => {}
        Node::Select(select) => add(select.instant_frame(grid, lookback_ms, select.extent).range()),
        Node::Window(window) => match &window.source {
            Source::Series(_) => add(window.frame(grid, lookback_ms).range()),
            Source::Subquery { expr, step_ms, .. } => {
                let inner = window.inner_grid(grid, *step_ms);
                if inner.len > 0 {
                    need(expr, inner, lookback_ms, range);
                }
            }
        },
        Node::Call(call) => {
            for arg in &call.args {
                need(arg, grid, lookback_ms, range);
            }
        }
        Node::Aggregate(aggregate) => {
            if let Some(param) = &aggregate.param {
                need(param, grid, lookback_ms, range);
            }
            need(&aggregate.expr, grid, lookback_ms, range);
        }
        Node::Binary(binary) => {
            need(&binary.lhs, grid, lookback_ms, range);
            need(&binary.rhs, grid, lookback_ms, range);
        }
        Node::Negate(inner) => need(inner, grid, lookback_ms, range),
        Node::Once(inner) => need(inner, grid.first(), lookback_ms, range),
    }
}

/// Whether a part is the same at each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Steps {
    /// It depends on the step.
    Vary,
    /// It does not, and is worth evaluating once.
    Same,
    /// It does not, but needs no care: literals, and range vectors, which functions evaluate themselves.
    SameAnyway,
}

impl Steps {
    fn is_same(self) -> bool {
        self != Self::Vary
    }

    fn wrap(self, node: Node) -> Node {
        if self == Self::Same {
            Node::Once(Box::new(node))
        } else {
            node
        }
    }
}

struct Planner {
    times: Times,
    durations: DurationContext,
    default_step_ms: i64,
}

impl Planner {
    fn node(&self, expr: &Expr) -> Result<(Node, Steps), QueryError> {
        let expr = expr.unparenthesised();
        Ok(match &expr.kind {
            ExprKind::Number(number) => (Node::Number(number.value), Steps::SameAnyway),
            ExprKind::String(text) => (Node::Text(text.value.clone()), Steps::SameAnyway),
            ExprKind::Vector(selector) => {
                let select = self.select(selector)?;
                let steps = if select.at.is_some() { Steps::Same } else { Steps::Vary };
                (Node::Select(select), steps)
            }
            ExprKind::Matrix(selector) => self.matrix(selector)?,
            ExprKind::Subquery(subquery) => self.subquery(subquery)?,
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate)?,
            ExprKind::Binary(binary) => self.binary(binary, expr.span)?,
            ExprKind::Unary(unary) => {
                let (inner, steps) = self.node(&unary.expr)?;
                match unary.op {
                    UnaryOp::Plus => (inner, steps),
                    UnaryOp::Minus => (Node::Negate(Box::new(inner)), steps),
                }
            }
            ExprKind::Call(call) => self.call(call, expr.span)?,
            // `unparenthesised` leaves none.
            ExprKind::Paren(inner) => self.node(inner)?,
        })
    }

    fn at(&self, at: Option<AtModifier>) -> Option<i64> {
        at.map(|at| match at {
            AtModifier::Timestamp(t) => t.millis(),
            AtModifier::Start => self.times.start,
            AtModifier::End => self.times.end,
        })
    }

    fn select(&self, selector: &VectorSelector) -> Result<Select, QueryError> {
        let offset_ms = match &selector.offset {
            Some(offset) => offset.offset_ms(self.durations).map_err(|e| duration_error(&e))?,
            None => 0,
        };
        Ok(Select {
            matchers: selector.matchers.clone(),
            offset_ms,
            at: self.at(selector.at),
            extent: selector.extent,
            presence_only: false,
        })
    }

    fn matrix(&self, selector: &MatrixSelector) -> Result<(Node, Steps), QueryError> {
        let select = self.select(&selector.vector)?;
        let range_ms = selector
            .range
            .positive_ms(self.durations)
            .map_err(|e| duration_error(&e))?;
        let steps = if select.at.is_some() {
            Steps::SameAnyway
        } else {
            Steps::Vary
        };
        let source = Source::Series(select);
        Ok((Node::Window(Box::new(Window { source, range_ms })), steps))
    }

    fn subquery(&self, subquery: &Subquery) -> Result<(Node, Steps), QueryError> {
        let (expr, steps) = self.node(&subquery.expr)?;
        let expr = if steps.is_same() && !matches!(expr, Node::Window(_)) {
            Node::Once(Box::new(expr))
        } else {
            expr
        };
        let step_ms = match &subquery.step {
            Some(step) => step.positive_ms(self.durations).map_err(|e| duration_error(&e))?,
            None => self.default_step_ms,
        };
        let offset_ms = match &subquery.offset {
            Some(offset) => offset.offset_ms(self.durations).map_err(|e| duration_error(&e))?,
            None => 0,
        };
        let at = self.at(subquery.at);
        let range_ms = subquery
            .range
            .positive_ms(self.durations)
            .map_err(|e| duration_error(&e))?;
        let source = Source::Subquery {
            expr,
            step_ms: if step_ms > 0 { step_ms } else { self.default_step_ms },
            offset_ms,
            at,
        };
        let steps = if at.is_some() { Steps::SameAnyway } else { Steps::Vary };
        Ok((Node::Window(Box::new(Window { source, range_ms })), steps))
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Result<(Node, Steps), QueryError> {
        let (expr, mut steps) = self.node(&aggregate.expr)?;
        let mut param = None;
        let mut param_span = Span::default();
        if let Some(given) = &aggregate.param {
            let (node, param_steps) = self.node(given)?;
            if !param_steps.is_same() {
                steps = Steps::Vary;
            }
            param_span = given.span;
            param = Some((node, param_steps));
        }
        let varies = !steps.is_same();
        let node = AggregateNode {
            op: aggregate.op,
            param: param.map(|(node, s)| if varies { s.wrap(node) } else { node }),
            param_span,
            expr,
            grouping: aggregate.grouping.clone(),
        };
        Ok((Node::Aggregate(Box::new(node)), steps))
    }

    fn binary(&self, binary: &Binary, span: Span) -> Result<(Node, Steps), QueryError> {
        let (mut lhs, left) = self.node(&binary.lhs)?;
        let (mut rhs, right) = self.node(&binary.rhs)?;
        let steps = if left.is_same() && right.is_same() {
            Steps::Same
        } else {
            Steps::Vary
        };
        if steps == Steps::Vary {
            lhs = left.wrap(lhs);
            rhs = right.wrap(rhs);
        } else if let (Node::Number(l), Node::Number(r)) = (&lhs, &rhs) {
            let value = crate::eval::scalar_binary(binary.op, *l, *r);
            return Ok((Node::Number(value), Steps::SameAnyway));
        }
        let node = BinaryNode {
            op: binary.op,
            lhs,
            rhs,
            return_bool: binary.return_bool,
            matching: binary.matching.clone(),
            span,
        };
        Ok((Node::Binary(Box::new(node)), steps))
    }

    fn call(&self, call: &Call, span: Span) -> Result<(Node, Steps), QueryError> {
        let function = call.function.function;
        let fixed = match function {
            Function::Start => Some(self.times.start as f64 / 1000.0),
            Function::End => Some(self.times.end as f64 / 1000.0),
            Function::Range => Some(self.durations.range_ms as f64 / 1000.0),
            Function::Step => Some(self.times.step_ms as f64 / 1000.0),
            Function::Pi => Some(std::f64::consts::PI),
            _ => None,
        };
        if let Some(value) = fixed {
            return Ok((Node::Number(value), Steps::SameAnyway));
        }
        let mut same = !depends_on_step(function);
        let mut args = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            let (node, steps) = self.node(arg)?;
            same &= steps.is_same();
            args.push((node, steps));
        }
        let args = args
            .into_iter()
            .map(|(node, steps)| if same { node } else { steps.wrap(node) })
            .collect();
        let node = CallNode {
            function,
            args,
            span,
            arg_spans: call.args.iter().map(|a| a.unparenthesised().span).collect(),
        };
        let steps = if same { Steps::Same } else { Steps::Vary };
        Ok((Node::Call(Box::new(node)), steps))
    }
}

/// What is wrong with the query itself, although only its steps show it; the engine says where.
fn duration_error(error: &DurationError) -> QueryError {
    QueryError::Parse(ParseError::new("", error.span(), error.to_string()))
}

/// Functions whose value depends on the time of evaluation even if their arguments do not.
fn depends_on_step(function: Function) -> bool {
    use Function as F;
    matches!(
        function,
        F::DaysInMonth
            | F::DayOfMonth
            | F::DayOfWeek
            | F::DayOfYear
            | F::Hour
            | F::Minute
            | F::Month
            | F::Year
            | F::PredictLinear
            | F::Time
            | F::Timestamp
    )
}
