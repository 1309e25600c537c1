//! One-to-one and many-to-one matching of two vectors.
//!
//! Series of both sides fall into groups by the labels that count. Within a group and step, one side has at most one
//! value; which series that is may differ from step to step. A missing side may be filled with a number.

use super::binary::{changes_meaning, refuses_floats, sample_binary, subset_of};
use super::subset::Groups;
use super::table::{ABSENT, Head, METADATA_LABELS, Table, is_absent, is_present, same_labelset, without_metadata};
use super::{Cx, Held};
use crate::error::QueryError;
use crate::parser::{Cardinality, MatchOn, VectorMatching};
use crate::plan::BinaryNode;
use hashbrown::HashMap;
use tidegauge_model::{Labels, LabelsBuilder};

/// Applies an operator to the series of two vectors that match.
pub(crate) fn match_vectors(
    cx: &Cx<'_>,
    node: &BinaryNode,
    matching: &VectorMatching,
    lhs: &Table,
    rhs: &Table,
) -> Result<Table, QueryError> {
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
    let fills = (matching.fill_left, matching.fill_right);
    if many.len() == 0 && one.len() == 0 || ((many.len() == 0 || one.len() == 0) && fills == (None, None)) {
        return Ok(cx.table(lhs.width));
    }
    if refuses_floats(cx, node) {
        return Ok(cx.table(lhs.width));
    }
    let mut groups = Groups::new(subset_of(matching));
    let mut members: Vec<Members> = Vec::new();
    for (table, side) in [(many, 0), (one, 1)] {
        for row in 0..table.len() {
            let number = groups.number(&table.heads[row].labels);
            if number == members.len() {
                members.push(Members::default());
            }
            let group = &mut members[number];
            if side == 0 {
                group.many.push(row);
            } else {
                group.one.push(row);
            }
        }
    }
    let join = Join {
        cx,
        node,
        matching,
        many,
        one,
        swapped,
        active: active_steps(many, one, fills),
    };
    join.check_one_side(&members, &groups)?;
    let mut out = Outcome {
        rows: Vec::new(),
        by_labels: HashMap::new(),
        held: cx.held(),
    };
    for (number, group) in members.iter().enumerate() {
        cx.check()?;
        join.group(number, group, &groups.labels[number], &mut out)?;
    }
    out.table(cx, lhs.width, node)
}

/// The series of a group on each side.
#[derive(Debug, Default)]
struct Members {
    many: Vec<usize>,
    one: Vec<usize>,
}

/// At which steps anything can match: both sides have values, or one has and the other is filled.
fn active_steps(many: &Table, one: &Table, fills: (Option<f64>, Option<f64>)) -> Vec<bool> {
    if fills != (None, None) {
        return vec![true; many.width];
    }
    let any = |table: &Table| {
        let mut any = vec![false; table.width];
        for row in 0..table.len() {
            for (mark, value) in any.iter_mut().zip(table.row(row)) {
                *mark |= is_present(*value);
            }
        }
        any
    };
    any(many).iter().zip(any(one)).map(|(a, b)| *a && b).collect()
}

struct Join<'j, 'q> {
    cx: &'j Cx<'q>,
    node: &'j BinaryNode,
    matching: &'j VectorMatching,
    many: &'j Table,
    one: &'j Table,
    /// The "many" side stands on the right.
    swapped: bool,
    active: Vec<bool>,
}

/// A series that takes part: its values, the steps at which it may, and its labels.
struct Part<'t> {
    labels: &'t Labels,
    values: std::borrow::Cow<'t, [f64]>,
    filled: bool,
}

impl Join<'_, '_> {
    /// # Errors
    /// Two series of the "one" side have the same matching labels at the same step: the text names them in their
    /// order, those of the first such step first.
    fn check_one_side(&self, members: &[Members], groups: &Groups) -> Result<(), QueryError> {
        let mut worst: Option<(usize, usize, usize, usize)> = None;
        for (number, group) in members.iter().enumerate().filter(|(_, g)| g.one.len() > 1) {
            self.cx.check()?;
            let mut owners: Vec<Option<usize>> = vec![None; self.one.width];
            for row in &group.one {
                let steps = self.one.row(*row).iter().zip(&mut owners).zip(&self.active);
                for (step, ((value, owner), active)) in steps.enumerate() {
                    if !active || is_absent(*value) {
                        continue;
                    }
                    match owner {
                        None => *owner = Some(*row),
                        Some(first) => {
                            let found = (step, *row, *first, number);
                            worst = Some(worst.map_or(found, |w| w.min(found)));
                        }
                    }
                }
            }
        }
        let Some((_, second, first, number)) = worst else {
            return Ok(());
        };
        let side = if self.swapped { "left" } else { "right" };
        let labels = |row: usize| &self.one.heads[row].labels;
        let (a, b) = (labels(first).min(labels(second)), labels(first).max(labels(second)));
        Err(QueryError::execution(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{a}, {b}];\
             many-to-many matching not allowed: matching labels must be unique on one side",
            groups.labels[number],
        )))
    }

    fn group(
        &self,
        number: usize,
        group: &Members,
        group_labels: &Labels,
        out: &mut Outcome,
    ) -> Result<(), QueryError> {
        let mut many: Vec<Part<'_>> = group.many.iter().map(|row| part(self.many, *row)).collect();
        let mut one: Vec<Part<'_>> = group.one.iter().map(|row| part(self.one, *row)).collect();
        // As upstream, the fills belong to the sides after they have been swapped.
        let (fill_many, fill_one) = (self.matching.fill_left, self.matching.fill_right);
        let filled_one = fill_one.map(|value| filler(&one, value, self.many.width, group_labels));
        let filled_many = fill_many.map(|value| filler(&many, value, self.many.width, group_labels));
        one.extend(filled_one);
        many.extend(filled_many);
        // Of one to one there is one pair at a step, whatever its result would be called.
        let is_one_to_one = self.matching.cardinality == Cardinality::OneToOne && many.len() > 1;
        let mut taken = vec![false; if is_one_to_one { self.many.width } else { 0 }];
        for left in &many {
            for right in &one {
                if !(left.filled && right.filled) {
                    self.pair(number, left, right, &mut taken, out)?;
                }
            }
        }
        Ok(())
    }

    /// Matches two series. `taken` says at which steps the group has had its only pair, if it may have only one.
    fn pair(
        &self,
        number: usize,
        left: &Part<'_>,
        right: &Part<'_>,
        taken: &mut [bool],
        out: &mut Outcome,
    ) -> Result<(), QueryError> {
        let meets = |step: usize| is_present(left.values[step]) && is_present(right.values[step]) && self.active[step];
        let Some(first) = (0..self.many.width).find(|step| meets(*step)) else {
            return Ok(());
        };
        let labels = self.labels(left.labels, right.labels);
        let row = out.row(labels, self.many.width)?;
        let result = &mut out.rows[row];
        for step in first..self.many.width {
            if !meets(step) {
                continue;
            }
            let is_taken = taken.get_mut(step).is_some_and(|taken| std::mem::replace(taken, true));
            if is_taken || result.matched[step] == number as u32 + 1 {
                return Err(QueryError::execution(match self.matching.cardinality {
                    Cardinality::OneToOne => {
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                    }
                    _ => "multiple matches for labels: grouping labels must ensure unique matches",
                }));
            }
            result.matched[step] = number as u32 + 1;
            let (l, r) = (left.values[step], right.values[step]);
            let (l, r) = if self.swapped { (r, l) } else { (l, r) };
            let value = sample_binary(self.node.op, self.node.return_bool, l, r);
            if is_absent(value) {
                continue;
            }
            let cell = &mut result.values[step];
            if is_present(*cell) {
                return Err(same_labelset());
            }
            *cell = value;
        }
        Ok(())
    }

    /// The labels of the result of two series.
    fn labels(&self, many: &Labels, one: &Labels) -> Labels {
        let matching = self.matching;
        let keeps = |name: &str| {
            if changes_meaning(self.node.op) && METADATA_LABELS.contains(&name) {
                return false;
            }
            if matching.cardinality != Cardinality::OneToOne {
                return true;
            }
            let listed = matching.labels.iter().any(|l| l == name);
            listed == (matching.match_on == MatchOn::On)
        };
        let mut labels = Labels::from_sorted(many.iter().filter(|(name, _)| keeps(name)));
        if !matching.include.is_empty() {
            let mut builder = LabelsBuilder::from_labels(&labels);
            for name in &matching.include {
                builder.set(name, one.value(name));
            }
            labels = builder.build();
        }
        if self.node.return_bool && !self.cx.features.delayed_name_removal {
            labels = without_metadata(&labels);
        }
        labels
    }
}

fn part(table: &Table, row: usize) -> Part<'_> {
    Part {
        labels: &table.heads[row].labels,
        values: table.row(row).into(),
        filled: false,
    }
}

/// A series that is there where none of a side's is.
fn filler<'t>(side: &[Part<'_>], value: f64, width: usize, labels: &'t Labels) -> Part<'t> {
    let mut values = vec![value; width];
    for part in side {
        for (cell, there) in values.iter_mut().zip(part.values.iter()) {
            if is_present(*there) {
                *cell = ABSENT;
            }
        }
    }
    Part {
        labels,
        values: values.into(),
        filled: true,
    }
}

/// The series of the result.
struct Outcome {
    rows: Vec<ResultRow>,
    by_labels: HashMap<Labels, usize>,
    held: Held,
}

struct ResultRow {
    labels: Labels,
    values: Vec<f64>,
    /// The group (from 1) that matched at each step, whether or not a comparison kept the value.
    matched: Vec<u32>,
}

impl Outcome {
    fn row(&mut self, labels: Labels, width: usize) -> Result<usize, QueryError> {
        let next = self.rows.len();
        let row = *self.by_labels.entry(labels.clone()).or_insert(next);
        if row == next {
            self.held.grow(0, width * 2, labels.heap_bytes())?;
            self.rows.push(ResultRow {
                labels,
                values: vec![ABSENT; width],
                matched: vec![0; width],
            });
        }
        Ok(row)
    }

    fn table(self, cx: &Cx<'_>, width: usize, node: &BinaryNode) -> Result<Table, QueryError> {
        let mut table = cx.table(width);
        for row in self.rows {
            let head = Head {
                labels: row.labels,
                drop_name: node.return_bool,
            };
            table.push(head, &row.values)?;
        }
        Ok(table)
    }
}
