//! What looks at one value at a time: signs, functions of a number, a vector and a number, bounds. Rows in, rows out.
//!
//! ```text
//!   rows of the operand --row--> [ each value changed, or dropped ] --row--> aggregation, or a table that keeps all
//! ```
//!
//! There is one way through: who wants a table collects the rows.

use super::binary::{arithmetic, changes_meaning, compare, refuses_floats, sample_binary};
use super::call::bare;
use super::collect::collect;
use super::row::{MakeSink, Row, Sink, Who};
use super::selector::{PARTS, Take, instant_rows};
use super::stream::stream;
use super::table::{ABSENT, Table, is_absent, is_present};
use super::{Cx, scalar};
use crate::error::QueryError;
use crate::functions::math::{self, elementwise};
use crate::parser::{BinaryOp, Function, ValueType};
use crate::plan::{BinaryNode, CallNode, Node};
use crate::record::Done;
use crate::window::Grid;
use parking_lot::Mutex;

/// Whether a function makes of each value another, or none, and looks at nothing else.
pub(crate) fn is_elementwise(function: Function) -> bool {
    use Function as F;
    matches!(function, F::Clamp | F::ClampMin | F::ClampMax | F::Round) || elementwise(function).is_some()
}

/// The vector that a node takes value by value, if it is such a node.
pub(crate) fn operand(node: &Node) -> Option<&Node> {
    match node {
        Node::Negate(inner) => Some(&**inner).filter(|inner| !is_scalar(inner)),
        Node::Binary(binary) => match (is_scalar(&binary.lhs), is_scalar(&binary.rhs)) {
            (false, true) => Some(&binary.lhs),
            (true, false) => Some(&binary.rhs),
            _ => None,
        },
        Node::Call(call) if is_elementwise(call.function) || call.function == Function::Timestamp => call.args.first(),
        _ => None,
    }
}

/// Whether a node has one number at each step.
fn is_scalar(node: &Node) -> bool {
    match node {
        Node::Number(_) => true,
        Node::Negate(inner) | Node::Once(inner) => is_scalar(inner),
        Node::Binary(binary) => is_scalar(&binary.lhs) && is_scalar(&binary.rhs),
        Node::Call(call) => call.function.signature().returns == ValueType::Scalar,
        Node::Text(_) | Node::Select(_) | Node::Window(_) | Node::Aggregate(_) => false,
    }
}

/// Whether what such a node gives is no longer what the metric was.
pub(crate) fn drops_names(node: &Node) -> bool {
    match node {
        Node::Binary(binary) => changes_meaning(binary.op) || binary.return_bool,
        _ => true,
    }
}

/// The series of such a node as a table.
pub(crate) fn table(cx: &Cx<'_>, node: &Node, grid: Grid) -> Result<Table, QueryError> {
    let mut table = collect(cx, grid, |make| rows(cx, node, grid, make).map(|_| ()))?;
    if drops_names(node) {
        cx.join_twins(&mut table)?;
    }
    Ok(table)
}

/// Sends the rows of such a node, and tells what they were. Series that have become one by losing their names come as
/// they are.
pub(crate) fn rows(cx: &Cx<'_>, node: &Node, grid: Grid, make: &MakeSink<'_>) -> Result<Done, QueryError> {
    let Some(vector) = operand(node) else {
        return Err(QueryError::execution("expected an instant vector"));
    };
    let change = Change::new(cx, node, grid)?;
    let gave = Mutex::new(Gave::new(grid));
    let _room = cx.room(grid, PARTS * 2)?;
    let make_mine = |part: usize| -> Box<dyn Sink + '_> {
        Box::new(Changing {
            cx,
            change: &change,
            drops_names: drops_names(node),
            out: vec![0.0; grid.len],
            mine: Gave::new(grid),
            all: &gave,
            sink: make(part),
        })
    };
    match (&change, bare(vector)) {
        // It looks at the selector itself: the time of a sample is not that of the step.
        (Change::Time { of_sample: true, .. }, Node::Select(select)) => {
            instant_rows(cx, select, grid, Take::Time, &make_mine)?;
        }
        _ => stream(cx, vector, grid, &make_mine)?,
    }
    Ok(gave.into_inner().done())
}

/// What becomes of a value.
enum Change<'n> {
    Sign,
    Function(fn(f64) -> f64),
    /// To the nearest multiple.
    Round(Vec<f64>),
    Clamp {
        least: Vec<f64>,
        greatest: Vec<f64>,
    },
    /// The time of its step in place of it; or it is the time of a sample already.
    Time {
        grid: Grid,
        of_sample: bool,
    },
    Operator {
        node: &'n BinaryNode,
        scalar: Vec<f64>,
        vector: Side,
    },
}

/// On which side the vector stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl<'n> Change<'n> {
    fn new(cx: &Cx<'_>, node: &'n Node, grid: Grid) -> Result<Self, QueryError> {
        Ok(match node {
            Node::Binary(node) => {
                let (vector, number) = if is_scalar(&node.rhs) {
                    (Side::Left, &node.rhs)
                } else {
                    (Side::Right, &node.lhs)
                };
                Self::Operator {
                    node,
                    scalar: scalar(cx, number, grid)?,
                    vector,
                }
            }
            Node::Call(call) => Self::of_call(cx, call, grid)?,
            _ => Self::Sign,
        })
    }

    fn of_call(cx: &Cx<'_>, call: &CallNode, grid: Grid) -> Result<Self, QueryError> {
        use Function as F;
        let param = |index: usize, default: f64| match call.args.get(index) {
            Some(arg) => scalar(cx, arg, grid),
            None => Ok(vec![default; grid.len]),
        };
        let all = |value: f64| vec![value; grid.len];
        Ok(match call.function {
            F::Round => Self::Round(param(1, 1.0)?),
            F::ClampMin => Self::Clamp {
                least: param(1, f64::NAN)?,
                greatest: all(f64::INFINITY),
            },
            F::ClampMax => Self::Clamp {
                least: all(f64::NEG_INFINITY),
                greatest: param(1, f64::NAN)?,
            },
            F::Clamp => Self::Clamp {
                least: param(1, f64::NAN)?,
                greatest: param(2, f64::NAN)?,
            },
            F::Timestamp => Self::Time {
                grid,
                of_sample: matches!(call.args.first().map(bare), Some(Node::Select(_))),
            },
            function => match elementwise(function) {
                Some(f) => Self::Function(f),
                None => {
                    return Err(QueryError::execution(format!(
                        "{} is no function of one value",
                        function.signature().name
                    )));
                }
            },
        })
    }

    /// Writes what becomes of a row's values.
    fn apply<'r>(&self, row: Row<'r>, out: &'r mut [f64]) -> Row<'r> {
        match self {
            Self::Sign => map(row, out, |v| -v),
            Self::Function(f) => map(row, out, f),
            Self::Round(nearest) => map_with(row, nearest, out, |value, nearest| {
                let inverse = 1.0 / nearest;
                (value * inverse + 0.5).floor() / inverse
            }),
            Self::Clamp { least, greatest } => {
                for (((cell, value), least), greatest) in out.iter_mut().zip(row.values).zip(least).zip(greatest) {
                    // Nothing lies between bounds that are the wrong way round; one that is NaN is not.
                    *cell = if is_absent(*value) || greatest < least {
                        ABSENT
                    } else {
                        math::max(*least, math::min(*greatest, *value))
                    };
                }
                Row {
                    values: out,
                    full: false,
                }
            }
            Self::Time { of_sample: true, .. } => row,
            Self::Time { grid, .. } => {
                for ((cell, value), at) in out.iter_mut().zip(row.values).zip(grid.times()) {
                    *cell = if is_present(*value) { at as f64 / 1000.0 } else { ABSENT };
                }
                Row {
                    values: out,
                    full: row.full,
                }
            }
            Self::Operator { node, scalar, vector } => operate(node, *vector, row, scalar, out),
        }
    }
}

/// A vector's row and a number at each step.
fn operate<'r>(node: &BinaryNode, vector: Side, row: Row<'r>, scalar: &[f64], out: &'r mut [f64]) -> Row<'r> {
    let op = node.op;
    let sides = |value: f64, scalar: f64| match vector {
        Side::Left => (value, scalar),
        Side::Right => (scalar, value),
    };
    if op.is_comparison() && !node.return_bool {
        // The vector's value is kept, on whichever side it stands.
        for ((cell, value), scalar) in out.iter_mut().zip(row.values).zip(scalar) {
            let (l, r) = sides(*value, *scalar);
            *cell = if compare(op, l, r) & is_present(*value) {
                *value
            } else {
                ABSENT
            };
        }
        return Row {
            values: out,
            full: false,
        };
    }
    match (op, vector) {
        (BinaryOp::Add, _) => map_with(row, scalar, out, |v, s| v + s),
        (BinaryOp::Mul, _) => map_with(row, scalar, out, |v, s| v * s),
        (BinaryOp::Sub, Side::Left) => map_with(row, scalar, out, |v, s| v - s),
        (BinaryOp::Sub, Side::Right) => map_with(row, scalar, out, |v, s| s - v),
        (BinaryOp::Div, Side::Left) => map_with(row, scalar, out, |v, s| v / s),
        _ if op.is_comparison() => map_with(row, scalar, out, |v, s| {
            let (l, r) = sides(v, s);
            sample_binary(op, true, l, r)
        }),
        _ => map_with(row, scalar, out, |v, s| {
            let (l, r) = sides(v, s);
            arithmetic(op, l, r)
        }),
    }
}

/// Writes what `f` makes of each value that is there.
fn map<'r>(row: Row<'r>, out: &'r mut [f64], f: impl Fn(f64) -> f64) -> Row<'r> {
    let cells = out.iter_mut().zip(row.values);
    if row.full {
        cells.for_each(|(cell, value)| *cell = f(*value));
    } else {
        cells.for_each(|(cell, value)| *cell = if is_present(*value) { f(*value) } else { ABSENT });
    }
    Row {
        values: out,
        full: row.full,
    }
}

/// As [`map`], with a number for each step.
fn map_with<'r>(row: Row<'r>, numbers: &[f64], out: &'r mut [f64], f: impl Fn(f64, f64) -> f64) -> Row<'r> {
    let cells = out.iter_mut().zip(row.values).zip(numbers);
    if row.full {
        cells.for_each(|((cell, value), number)| *cell = f(*value, *number));
    } else {
        cells.for_each(|((cell, value), number)| {
            *cell = if is_present(*value) { f(*value, *number) } else { ABSENT };
        });
    }
    Row {
        values: out,
        full: row.full,
    }
}

/// Takes the rows of a part, changes them and sends them on.
struct Changing<'c, 'q, 's> {
    cx: &'c Cx<'q>,
    change: &'c Change<'c>,
    drops_names: bool,
    out: Vec<f64>,
    mine: Gave,
    all: &'c Mutex<Gave>,
    sink: Box<dyn Sink + 's>,
}

impl Sink for Changing<'_, '_, '_> {
    fn row(&mut self, who: &Who<'_>, row: Row<'_>) -> Result<(), QueryError> {
        if let Change::Operator { node, .. } = self.change
            && refuses_floats(self.cx, node)
        {
            return Ok(());
        }
        let made = self.change.apply(row, &mut self.out);
        let present = made.present();
        if present == 0 {
            return Ok(());
        }
        let made = Row {
            full: present == made.values.len(),
            ..made
        };
        self.mine.add(made, present);
        if self.drops_names {
            self.sink.row(&who.without_name(self.cx.drop_names()), made)
        } else {
            self.sink.row(who, made)
        }
    }

    fn finish(self: Box<Self>) -> Result<(), QueryError> {
        self.all.lock().merge(self.mine);
        self.sink.finish()
    }
}

/// What rows a node has given.
struct Gave {
    rows: u64,
    values: u64,
    /// Rows with a value at each step, which are not in `by_step`.
    full: u64,
    by_step: Vec<u64>,
}

impl Gave {
    fn new(grid: Grid) -> Self {
        Self {
            rows: 0,
            values: 0,
            full: 0,
            by_step: vec![0; grid.len],
        }
    }

    fn add(&mut self, row: Row<'_>, present: usize) {
        self.rows += 1;
        self.values += present as u64;
        if row.full {
            self.full += 1;
        } else {
            row.count_into(&mut self.by_step);
        }
    }

    fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.values += other.values;
        self.full += other.full;
        self.by_step
            .iter_mut()
            .zip(other.by_step)
            .for_each(|(n, more)| *n += more);
    }

    fn done(mut self) -> Done {
        self.by_step.iter_mut().for_each(|n| *n += self.full);
        Done {
            rows: self.rows,
            values: self.values,
            by_step: Some(self.by_step),
            streamed: true,
            ..Done::default()
        }
    }
}
