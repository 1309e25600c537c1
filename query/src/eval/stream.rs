//! Rows as they come: from the store through range functions into whatever takes them, without a table between.

use super::call::{range_call, scalar_args};
use super::range::RangeCall;
use super::row::{MakeSink, Row, Who};
use super::selector::{Take, instant_rows};
use super::{Cx, Output, each, evaluate};
use crate::error::QueryError;
use crate::parser::{Function, Grouping};
use crate::plan::{Node, Source, Window};
use crate::record::Key;
use crate::window::Grid;
use tidegauge_model::reserved::METRIC_NAME;

/// Sends the rows of a node to sinks, in the order of parts and of rows within them.
pub(crate) fn stream(cx: &Cx<'_>, node: &Node, grid: Grid, make: &MakeSink<'_>) -> Result<(), QueryError> {
    if may_make_twins(cx, node) || says_what_is_absent(node) {
        return feed(evaluate(cx, node, grid)?, make);
    }
    rows(cx, node, grid, make)
}

/// As [`stream`], but series that have become one by losing their names come as they are.
pub(crate) fn rows(cx: &Cx<'_>, node: &Node, grid: Grid, make: &MakeSink<'_>) -> Result<(), QueryError> {
    let began = cx.recorder.begin();
    if each::operand(node).is_some() {
        let done = each::rows(cx, node, grid, make)?;
        return cx.record_rows(node, grid, done, began);
    }
    match node {
        Node::Select(select) => {
            instant_rows(cx, select, grid, Take::Value, make)?;
            cx.recorder.took(Key::select(select), began);
            Ok(())
        }
        Node::Call(call) => match range_call(call) {
            Some((window, index)) => {
                let params = scalar_args(cx, call, index, grid)?;
                let range = RangeCall {
                    function: call.function,
                    params,
                    window,
                    place: call.arg_spans.first().copied().unwrap_or_default(),
                };
                range.rows(cx, grid, make)?;
                cx.recorder.took(Key::of_source(window), began);
                Ok(())
            }
            None => feed(evaluate(cx, node, grid)?, make),
        },
        _ => feed(evaluate(cx, node, grid)?, make),
    }
}

/// Sends the rows of a table to one sink.
fn feed(output: Output, make: &MakeSink<'_>) -> Result<(), QueryError> {
    let mut sink = make(0);
    if let Output::Vector(table) = output {
        for row in 0..table.len() {
            sink.row(&Who::known(&table.heads[row]), Row::look(table.row(row)))?;
        }
    }
    sink.finish()
}

/// Whether the node gives a series where its range vector has none.
fn says_what_is_absent(node: &Node) -> bool {
    matches!(node, Node::Call(call) if call.function == Function::AbsentOverTime)
}

/// Whether series may become one when the node takes their names away.
fn may_make_twins(cx: &Cx<'_>, node: &Node) -> bool {
    if cx.features.delayed_name_removal {
        return false;
    }
    if let Some(operand) = each::operand(node) {
        // A metric may have several types, which go with its name.
        let alike = is_one_metric(operand) && !cx.features.type_and_unit_labels;
        return each::drops_names(node) && !alike;
    }
    let Node::Call(call) = node else {
        return false;
    };
    match range_call(call) {
        Some((window, _)) => !keeps_name(call.function) && !source_is_one_metric(window),
        None => false,
    }
}

fn source_is_one_metric(window: &Window) -> bool {
    match &window.source {
        Source::Series(select) => select.metric_name().is_some(),
        Source::Subquery { expr, .. } => is_one_metric(expr),
    }
}

/// Whether the series of a node differ in more than their names.
fn is_one_metric(node: &Node) -> bool {
    if let Some(operand) = each::operand(node) {
        return each::drops_names(node) || is_one_metric(operand);
    }
    match node {
        Node::Select(select) => select.metric_name().is_some(),
        Node::Aggregate(aggregate) => match &aggregate.grouping {
            Grouping::By(labels) => !labels.iter().any(|l| l == METRIC_NAME),
            Grouping::Without(_) => true,
        },
        Node::Call(call) => match range_call(call) {
            Some((window, _)) => !keeps_name(call.function) || source_is_one_metric(window),
            None => false,
        },
        Node::Negate(inner) | Node::Once(inner) => is_one_metric(inner),
        Node::Number(_) | Node::Text(_) | Node::Window(_) | Node::Binary(_) => false,
    }
}

/// The functions that act like an offset.
pub(crate) fn keeps_name(function: Function) -> bool {
    matches!(function, Function::LastOverTime | Function::FirstOverTime)
}
