//! Which selectors nobody wants values of: only when they have samples matters to what takes them.
//!
//! ```text
//!   count by (job) (m)      count(-m > bool 1)      count_over_time(m[5m])      sum(a unless b)
//!                   ^              ^                                ^                          ^
//! ```
//!
//! The store may know that without decoding ([`SeriesGroup::presence`](tidegauge_model::SeriesGroup::presence)).

use super::{BinaryNode, CallNode, Node, Source, Window};
use crate::eval::{changes_meaning, is_elementwise, range_call};
use crate::parser::{AggregateOp, BinaryOp, Function};

/// Marks the selectors below a node whose values do not matter.
pub(super) fn mark(node: &mut Node) {
    match node {
        Node::Number(_) | Node::Text(_) | Node::Select(_) => {}
        Node::Window(window) => {
            if let Source::Subquery { expr, .. } = &mut window.source {
                mark(expr);
            }
        }
        Node::Call(call) => {
            if looks_at_presence(call)
                && let Some(arg) = call.args.first_mut()
            {
                ignore_values(arg);
            }
            call.args.iter_mut().for_each(mark);
        }
        Node::Aggregate(aggregate) => {
            if matches!(aggregate.op, AggregateOp::Count | AggregateOp::Group) {
                ignore_values(&mut aggregate.expr);
            }
            aggregate.param.iter_mut().for_each(mark);
            mark(&mut aggregate.expr);
        }
        Node::Binary(binary) => {
            if matches!(binary.op, BinaryOp::And | BinaryOp::Unless) {
                ignore_values(&mut binary.rhs);
            }
            mark(&mut binary.lhs);
            mark(&mut binary.rhs);
        }
        Node::Negate(inner) | Node::Once(inner) => mark(inner),
    }
}

/// Whether a function gives the same whatever the values of its first argument are.
fn looks_at_presence(call: &CallNode) -> bool {
    use Function as F;
    matches!(
        call.function,
        F::Absent
            | F::AbsentOverTime
            | F::CountOverTime
            | F::PresentOverTime
            | F::TsOfFirstOverTime
            | F::TsOfLastOverTime
            | F::Timestamp
    )
}

/// Marks the selectors of which only the presence shows in the presence of a node's values.
fn ignore_values(node: &mut Node) {
    match node {
        // A value that is interpolated may be there or not by the values around it.
        Node::Select(select) => select.presence_only = select.extent.is_none(),
        Node::Window(window) => ignore_window(window),
        Node::Negate(inner) | Node::Once(inner) => ignore_values(inner),
        Node::Call(call) => ignore_argument(call),
        Node::Aggregate(aggregate) => {
            use AggregateOp as Op;
            match aggregate.op {
                Op::Sum | Op::Avg | Op::Min | Op::Max | Op::Stddev | Op::Stdvar | Op::Quantile => {
                    ignore_values(&mut aggregate.expr);
                }
                // Those of `count` and `group` are ignored anyway; the others choose series by their values, or by hashes.
                Op::Count | Op::Group | Op::Topk | Op::Bottomk | Op::Limitk | Op::LimitRatio | Op::CountValues => {}
            }
        }
        Node::Binary(binary) => {
            if keeps_all(binary) {
                ignore_values(&mut binary.lhs);
                ignore_values(&mut binary.rhs);
            }
        }
        Node::Number(_) | Node::Text(_) => {}
    }
}

/// Whether an operator has a value wherever its operands meet, whatever they are.
fn keeps_all(binary: &BinaryNode) -> bool {
    binary.return_bool || changes_meaning(binary.op) || binary.op.is_set()
}

fn ignore_argument(call: &mut CallNode) {
    let window = range_call(call).map(|(_, index)| index);
    let of_one_vector = is_elementwise(call.function) || call.function == Function::Timestamp;
    // Functions over windows have a value by how many samples there are.
    if let Some(arg) = window.or(of_one_vector.then_some(0)).and_then(|i| call.args.get_mut(i)) {
        ignore_values(arg);
    }
}

fn ignore_window(window: &mut Window) {
    match &mut window.source {
        Source::Series(select) => select.presence_only = select.extent.is_none(),
        Source::Subquery { expr, .. } => ignore_values(expr),
    }
}
