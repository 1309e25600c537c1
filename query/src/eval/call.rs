//! Function calls: arguments evaluated, names dropped or kept, and the functions that look at whole vectors.

use super::aggregate::operand;
use super::collect::{Gather, collect, gather};
use super::row::{MakeSink, Row, Who};
use super::table::{ABSENT, Head, Table, is_absent, is_present};
use super::{Cx, Output, buckets, info, scalar, stream};
use crate::annotation::Note;
use crate::error::QueryError;
use crate::functions::label::{Replace, is_label_name, join, natural};
use crate::functions::math::{self, elementwise, nan_first};
use crate::parser::Function;
use crate::plan::{CallNode, Node, Select, Source, Window};
use crate::window::Grid;
use std::cmp::Ordering;
use tidegauge_model::{Labels, LabelsBuilder, MatchOp, Matcher, reserved::METRIC_NAME};

/// The range vector a function is called with, and which argument it is.
pub(crate) fn range_call(call: &CallNode) -> Option<(&Window, usize)> {
    call.args.iter().enumerate().find_map(|(index, arg)| match bare(arg) {
        Node::Window(window) => Some((&**window, index)),
        _ => None,
    })
}

/// A part without the mark that it is the same at each step.
pub(crate) fn bare(node: &Node) -> &Node {
    let mut node = node;
    while let Node::Once(inner) = node {
        node = inner;
    }
    node
}

/// The scalar arguments by step, but the one at `except`.
pub(crate) fn scalar_args(
    cx: &Cx<'_>,
    call: &CallNode,
    except: usize,
    grid: Grid,
) -> Result<Vec<Vec<f64>>, QueryError> {
    let args = call.args.iter().enumerate().filter(|(index, _)| *index != except);
    args.map(|(_, arg)| scalar(cx, arg, grid)).collect()
}

/// Evaluates a call.
pub(crate) fn call(cx: &Cx<'_>, node: &CallNode, whole: &Node, grid: Grid) -> Result<Output, QueryError> {
    use Function as F;
    if range_call(node).is_some() {
        return range_function(cx, node, whole, grid);
    }
    if let Some(f) = elementwise(node.function) {
        return Ok(Output::Vector(of_time(cx, grid, f)?));
    }
    let table = |index: usize| match node.args.get(index) {
        Some(arg) => operand(cx, arg, grid),
        None => Ok(cx.table(grid.len)),
    };
    let number = |index: usize| match node.args.get(index) {
        Some(arg) => scalar(cx, arg, grid),
        None => Ok(vec![f64::NAN; grid.len]),
    };
    Ok(match node.function {
        F::Time => Output::Scalar(grid.times().map(|t| t as f64 / 1000.0).collect()),
        F::MinOf | F::MaxOf => {
            let f = if node.function == F::MinOf {
                math::min
            } else {
                math::max
            };
            let (a, b) = (number(0)?, number(1)?);
            Output::Scalar(a.into_iter().zip(b).map(|(a, b)| f(a, b)).collect())
        }
        F::Scalar => Output::Scalar(only_value(&table(0)?)),
        F::Vector => {
            let mut out = cx.table(grid.len);
            let head = Head {
                labels: Labels::empty(),
                drop_name: false,
            };
            out.push(head, &number(0)?)?;
            Output::Vector(out)
        }
        F::Absent => Output::Vector(match node.args.first() {
            Some(arg) => absent(cx, node, grid, |make| stream::stream(cx, arg, grid, make))?,
            None => cx.table(grid.len),
        }),
        F::Sort | F::SortDesc | F::SortByLabel | F::SortByLabelDesc => {
            let mut table = table(0)?;
            sort(cx, node, &mut table, grid);
            Output::Vector(table)
        }
        F::LabelReplace | F::LabelJoin => Output::Vector(relabel(cx, node, table(0)?)?),
        F::HistogramQuantile | F::HistogramFraction | F::HistogramQuantiles => {
            Output::Vector(buckets::histogram(cx, node, grid)?)
        }
        F::HistogramAvg | F::HistogramCount | F::HistogramStddev | F::HistogramStdvar | F::HistogramSum => {
            // These look at native histograms only, and the operand has none: reading one is an error.
            table(0)?;
            Output::Vector(cx.table(grid.len))
        }
        F::Info => Output::Vector(info::info(cx, node, grid)?),
        other => {
            let name = other.signature().name;
            return Err(QueryError::execution(format!("{name}() is not supported yet")));
        }
    })
}

/// A text argument.
pub(crate) fn text(node: &CallNode, index: usize) -> &str {
    match node.args.get(index).map(bare) {
        Some(Node::Text(text)) => text,
        _ => "",
    }
}

fn range_function(cx: &Cx<'_>, node: &CallNode, whole: &Node, grid: Grid) -> Result<Output, QueryError> {
    let rows = |make: &MakeSink<'_>| stream::rows(cx, whole, grid, make);
    if node.function == Function::AbsentOverTime {
        return Ok(Output::Vector(absent(cx, node, grid, rows)?));
    }
    let table = collect(cx, grid, rows)?;
    if !cx.features.delayed_name_removal && table.has_twins() {
        return Err(super::table::same_labelset());
    }
    Ok(Output::Vector(table))
}

/// Functions of the calendar without an argument take the time.
fn of_time(cx: &Cx<'_>, grid: Grid, f: fn(f64) -> f64) -> Result<Table, QueryError> {
    let mut out = cx.table(grid.len);
    let values: Vec<f64> = grid.times().map(|t| f(t.div_euclid(1000) as f64)).collect();
    let head = Head {
        labels: Labels::empty(),
        drop_name: false,
    };
    out.push(head, &values)?;
    Ok(out)
}

/// The value of the only series at each step; NaN if there is none or another.
fn only_value(table: &Table) -> Vec<f64> {
    let mut out = vec![ABSENT; table.width];
    for row in 0..table.len() {
        for (cell, value) in out.iter_mut().zip(table.row(row)) {
            if is_present(*value) {
                *cell = if is_absent(*cell) { *value } else { f64::NAN };
            }
        }
    }
    for cell in &mut out {
        if is_absent(*cell) {
            *cell = f64::NAN;
        }
    }
    out
}

/// One series where no other is: `absent`, `absent_over_time`.
fn absent(
    cx: &Cx<'_>,
    node: &CallNode,
    grid: Grid,
    rows: impl FnOnce(&MakeSink<'_>) -> Result<(), QueryError>,
) -> Result<Table, QueryError> {
    let nothing = || Absence(vec![1.0; grid.len]);
    let values = gather(nothing, rows)?.unwrap_or_else(nothing).0;
    let selector = match node.args.first().map(bare) {
        Some(Node::Select(select)) => Some(select),
        Some(Node::Window(window)) => match &window.source {
            Source::Series(select) => Some(select),
            Source::Subquery { .. } => None,
        },
        _ => None,
    };
    let mut out = cx.table(grid.len);
    let head = Head {
        labels: selector.map_or_else(Labels::empty, labels_asked_for),
        drop_name: false,
    };
    out.push(head, &values)?;
    Ok(out)
}

/// 1 at the steps at which no row has a value.
struct Absence(Vec<f64>);

impl Gather for Absence {
    fn row(&mut self, _who: &Who<'_>, row: Row<'_>) -> Result<(), QueryError> {
        for (cell, value) in self.0.iter_mut().zip(row.values) {
            if is_present(*value) {
                *cell = ABSENT;
            }
        }
        Ok(())
    }

    fn merge(&mut self, next: Self) -> Result<(), QueryError> {
        for (cell, other) in self.0.iter_mut().zip(next.0) {
            if is_absent(other) {
                *cell = ABSENT;
            }
        }
        Ok(())
    }
}

/// The labels that a selector asks for by a single `=`.
///
/// What takes series away stands last, in whatever order it was written: upstream's storage has sorted the matchers by then.
fn labels_asked_for(select: &Select) -> Labels {
    let mut builder = LabelsBuilder::new();
    let mut seen: Vec<&str> = Vec::new();
    let takes_away = |m: &&Matcher| m.is_negative() && m.matches_empty();
    let (last, first): (Vec<&Matcher>, Vec<&Matcher>) = select.matchers.iter().partition(takes_away);
    for matcher in first.into_iter().chain(last) {
        let name = matcher.name();
        if name == METRIC_NAME {
            continue;
        }
        if matcher.op() == MatchOp::Equal && !seen.contains(&name) {
            builder.set(name, matcher.value());
            seen.push(name);
        } else {
            builder.remove(name);
        }
    }
    builder.build()
}

fn sort(cx: &Cx<'_>, node: &CallNode, table: &mut Table, grid: Grid) {
    if cx.times.step_ms > 0 {
        cx.warn(Note::SortInRangeQuery, node.span);
    }
    if grid.len != 1 {
        return;
    }
    let names: Vec<&str> = (1..node.args.len()).map(|i| text(node, i)).collect();
    let value = |row: usize| table.cells[row];
    let labels = |row: usize| &table.heads[row].labels;
    // NaN is last either way.
    let by_value = |a: usize, b: usize, flip: bool| match (value(a).is_nan(), value(b).is_nan()) {
        (false, false) if flip => nan_first(value(b), value(a)),
        (false, false) => nan_first(value(a), value(b)),
        (a_nan, b_nan) => a_nan.cmp(&b_nan),
    };
    let by_label = |a: usize, b: usize| {
        let of_names = names.iter().map(|n| natural(labels(a).value(n), labels(b).value(n)));
        of_names
            .into_iter()
            .find(|o| *o != Ordering::Equal)
            .unwrap_or_else(|| labels(a).cmp(labels(b)))
    };
    let mut order: Vec<usize> = (0..table.len()).collect();
    match node.function {
        Function::Sort => order.sort_by(|a, b| by_value(*a, *b, false)),
        Function::SortDesc => order.sort_by(|a, b| by_value(*a, *b, true)),
        Function::SortByLabel => order.sort_by(|a, b| by_label(*a, *b)),
        _ => order.sort_by(|a, b| by_label(*b, *a)),
    }
    table.reorder(&order);
}

/// `label_replace` and `label_join`.
fn relabel(cx: &Cx<'_>, node: &CallNode, mut table: Table) -> Result<Table, QueryError> {
    let target = text(node, 1);
    if node.function == Function::LabelReplace {
        let replace = Replace::new(target, text(node, 2), text(node, 3), text(node, 4))?;
        for head in &mut table.heads {
            if let Some(labels) = replace.apply(&head.labels) {
                head.labels = labels;
                head.drop_name &= replace.target() != METRIC_NAME;
            }
        }
    } else {
        let sources: Vec<&str> = (3..node.args.len()).map(|i| text(node, i)).collect();
        if let Some(bad) = sources.iter().find(|s| !is_label_name(s)) {
            return Err(QueryError::execution(format!(
                "invalid source label name in label_join(): {bad}"
            )));
        }
        if !is_label_name(target) {
            return Err(QueryError::execution(format!(
                "invalid destination label name in label_join(): {target}"
            )));
        }
        for head in &mut table.heads {
            head.labels = join(&head.labels, target, text(node, 2), &sources);
            head.drop_name &= target != METRIC_NAME;
        }
    }
    cx.check()?;
    table.join_twins()?;
    Ok(table)
}
