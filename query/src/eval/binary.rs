//! Binary operators: numbers, two vectors matched by a part of their labels, sets. A vector and a number: [`super::each`].

use super::matching::match_vectors;
use super::subset::{Groups, Subset};
use super::table::{ABSENT, Table, is_present};
use super::{Cx, Output, evaluate};
use crate::annotation::Note;
use crate::error::QueryError;
use crate::parser::{BinaryOp, MatchOn, VectorMatching};
use crate::plan::BinaryNode;
use crate::window::Grid;

/// Evaluates a binary operation.
pub(crate) fn binary(cx: &Cx<'_>, node: &BinaryNode, grid: Grid) -> Result<Output, QueryError> {
    let lhs = evaluate(cx, &node.lhs, grid)?;
    let rhs = evaluate(cx, &node.rhs, grid)?;
    Ok(match (lhs, rhs) {
        (Output::Scalar(mut l), Output::Scalar(r)) => {
            for (l, r) in l.iter_mut().zip(r) {
                *l = scalar_binary(node.op, *l, r);
            }
            Output::Scalar(l)
        }
        (Output::Vector(l), Output::Vector(r)) => Output::Vector(match (&node.matching, node.op.is_set()) {
            (Some(matching), true) => set(cx, node.op, matching, l, r)?,
            (matching, _) => {
                let plain = plain_matching();
                match_vectors(cx, node, matching.as_ref().unwrap_or(&plain), &l, &r)?
            }
        }),
        _ => return Err(QueryError::execution("operands must be scalars or instant vectors")),
    })
}

/// What holds if the query says nothing: each with one, by all labels.
fn plain_matching() -> VectorMatching {
    VectorMatching {
        cardinality: crate::parser::Cardinality::OneToOne,
        match_on: MatchOn::Ignoring,
        labels: Vec::new(),
        include: Vec::new(),
        fill_left: None,
        fill_right: None,
    }
}

/// Whether the result is no longer what the metric was.
pub(crate) fn changes_meaning(op: BinaryOp) -> bool {
    use BinaryOp as Op;
    matches!(
        op,
        Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Mod | Op::Pow | Op::Atan2
    )
}

/// `l op r` for two numbers; a comparison gives 0 or 1.
pub(crate) fn scalar_binary(op: BinaryOp, l: f64, r: f64) -> f64 {
    if op.is_comparison() {
        f64::from(compare(op, l, r))
    } else {
        arithmetic(op, l, r)
    }
}

#[inline]
pub(crate) fn arithmetic(op: BinaryOp, l: f64, r: f64) -> f64 {
    match op {
        BinaryOp::Add => l + r,
        BinaryOp::Sub => l - r,
        BinaryOp::Mul => l * r,
        BinaryOp::Div => l / r,
        BinaryOp::Mod => l % r,
        BinaryOp::Pow => l.powf(r),
        BinaryOp::Atan2 => l.atan2(r),
        // The others have no value for numbers.
        _ => f64::NAN,
    }
}

#[inline]
pub(crate) fn compare(op: BinaryOp, l: f64, r: f64) -> bool {
    match op {
        BinaryOp::Eq => l == r,
        BinaryOp::Ne => l != r,
        BinaryOp::Lt => l < r,
        BinaryOp::Le => l <= r,
        BinaryOp::Gt => l > r,
        BinaryOp::Ge => l >= r,
        _ => false,
    }
}

/// `l op r` for two samples, [`ABSENT`] if a comparison drops them.
#[inline]
pub(crate) fn sample_binary(op: BinaryOp, return_bool: bool, l: f64, r: f64) -> f64 {
    if !op.is_comparison() {
        arithmetic(op, l, r)
    } else if return_bool {
        f64::from(compare(op, l, r))
    } else if compare(op, l, r) {
        l
    } else {
        ABSENT
    }
}

/// Says that an operator takes no floats (`</`, `>/` are for histograms); whether it is so.
pub(crate) fn refuses_floats(cx: &Cx<'_>, node: &BinaryNode) -> bool {
    let refuses = matches!(node.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
    if refuses {
        let op = node.op.as_str();
        let text = format!("incompatible sample types encountered for binary operator \"{op}\": float {op} float");
        cx.info(Note::Other(text), node.span);
    }
    refuses
}

/// The labels by which series of two vectors find each other.
pub(crate) fn subset_of(matching: &VectorMatching) -> Subset {
    match matching.match_on {
        MatchOn::On => Subset::with(&matching.labels),
        MatchOn::Ignoring => Subset::without(&matching.labels),
    }
}

/// `and`, `or`, `unless`.
fn set(
    cx: &Cx<'_>,
    op: BinaryOp,
    matching: &VectorMatching,
    mut lhs: Table,
    mut rhs: Table,
) -> Result<Table, QueryError> {
    let mut groups = Groups::new(subset_of(matching));
    let left: Vec<usize> = lhs.heads.iter().map(|h| groups.number(&h.labels)).collect();
    let right: Vec<usize> = rhs.heads.iter().map(|h| groups.number(&h.labels)).collect();
    let (of, numbers) = if op == BinaryOp::Or {
        (&lhs, &left)
    } else {
        (&rhs, &right)
    };
    let mut held = cx.held();
    held.grow_bytes((groups.len() * lhs.width) as u64)?;
    let mut seen = vec![false; groups.len() * lhs.width];
    for (row, number) in numbers.iter().enumerate() {
        cx.check()?;
        let marks = &mut seen[number * of.width..(number + 1) * of.width];
        for (mark, value) in marks.iter_mut().zip(of.row(row)) {
            *mark |= is_present(*value);
        }
    }
    let mask = |table: &mut Table, numbers: &[usize], keep: bool| {
        for (row, number) in numbers.iter().enumerate() {
            let marks = &seen[number * table.width..(number + 1) * table.width];
            for (cell, mark) in table.row_mut(row).iter_mut().zip(marks) {
                if *mark != keep {
                    *cell = ABSENT;
                }
            }
        }
        table.drop_empty();
    };
    match op {
        BinaryOp::And => mask(&mut lhs, &left, true),
        BinaryOp::Unless => mask(&mut lhs, &left, false),
        _ => {
            mask(&mut rhs, &right, false);
            lhs.append(rhs);
            if lhs.width > 1 || !cx.features.delayed_name_removal {
                lhs.join_twins()?;
            }
        }
    }
    Ok(lhs)
}
