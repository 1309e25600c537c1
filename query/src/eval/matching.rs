//! One-to-one and many-to-one matching of two vectors.
//!
//! Series of both sides fall into groups by the labels that count. Within a group and step, one side has at most one
//! value; which series that is may differ from step to step. A missing side may be filled with a number.

use super::binary::{changes_meaning, refuses_floats, sample_binary, subset_of};
use super::subset::Groups;
use super::table::{ABSENT, Head, METADATA_LABELS, Table, is_absent, is_present, same_labelset, without_metadata};
use super::{Cx, Held};
use crate::error::QueryError;
use crate::parser::{BinaryOp, Cardinality, MatchOn, VectorMatching};
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
        fills,
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
    fills: (Option<f64>, Option<f64>),
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
        if members.iter().all(|group| group.one.len() < 2) {
            return Ok(());
        }
        let active = active_steps(self.many, self.one, self.fills);
        let mut worst: Option<(usize, usize, usize, usize)> = None;
        for (number, group) in members.iter().enumerate().filter(|(_, g)| g.one.len() > 1) {
            self.cx.check()?;
            let mut owners: Vec<Option<usize>> = vec![None; self.one.width];
            for row in &group.one {
                let steps = self.one.row(*row).iter().zip(&mut owners).zip(&active);
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
        if self.matching.cardinality == Cardinality::OneToOne && many.len() > 1 {
            self.check_only_pair(&many, &one)?;
        }
        for (l, left) in many.iter().enumerate() {
            for (r, right) in one.iter().enumerate() {
                if !(left.filled && right.filled) {
                    self.pair(number, (&many, &one), (l, r), out)?;
                }
            }
        }
        Ok(())
    }

    /// # Errors
    /// More than one pair of a group meets at a step: of one to one there is one, whatever its result would be called.
    fn check_only_pair(&self, many: &[Part<'_>], one: &[Part<'_>]) -> Result<(), QueryError> {
        let mut taken = vec![false; self.many.width];
        for left in many {
            for right in one.iter().filter(|right| !(left.filled && right.filled)) {
                for (step, taken) in taken.iter_mut().enumerate() {
                    if meet(left, right, step) && std::mem::replace(taken, true) {
                        return Err(self.several_matches());
                    }
                }
            }
        }
        Ok(())
    }

    fn several_matches(&self) -> QueryError {
        QueryError::execution(match self.matching.cardinality {
            Cardinality::OneToOne => {
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
            }
            _ => "multiple matches for labels: grouping labels must ensure unique matches",
        })
    }

    fn pair(
        &self,
        number: usize,
        sides: (&[Part<'_>], &[Part<'_>]),
        pair: (usize, usize),
        out: &mut Outcome,
    ) -> Result<(), QueryError> {
        let (left, right) = (&sides.0[pair.0], &sides.1[pair.1]);
        if !(0..self.many.width).any(|step| meet(left, right, step)) {
            return Ok(());
        }
        let labels = self.labels(left.labels, right.labels);
        let (result, fresh) = out.row(labels, self.many.width)?;
        if !fresh {
            self.check_free(number, sides, pair, result)?;
        }
        result.take(number, pair);
        let (op, return_bool) = (self.node.op, self.node.return_bool);
        let (l, r) = if self.swapped { (right, left) } else { (left, right) };
        let steps = result.values.iter_mut().zip(l.values.iter().zip(r.values.iter()));
        match op {
            BinaryOp::Add => each_meeting(steps, |l, r| l + r),
            BinaryOp::Sub => each_meeting(steps, |l, r| l - r),
            BinaryOp::Mul => each_meeting(steps, |l, r| l * r),
            BinaryOp::Div => each_meeting(steps, |l, r| l / r),
            _ => each_meeting(steps, |l, r| sample_binary(op, return_bool, l, r)),
        }
        Ok(())
    }

    /// # Errors
    /// At a step at which a pair meets, another pair of its group has met in the same series, or another group gave it
    /// a value.
    fn check_free(
        &self,
        number: usize,
        sides: (&[Part<'_>], &[Part<'_>]),
        (left, right): (usize, usize),
        result: &ResultRow,
    ) -> Result<(), QueryError> {
        let (left, right) = (&sides.0[left], &sides.1[right]);
        let earlier = if result.group == number {
            result.pairs.as_slice()
        } else {
            &[]
        };
        for step in (0..self.many.width).filter(|step| meet(left, right, *step)) {
            if earlier.iter().any(|(l, r)| meet(&sides.0[*l], &sides.1[*r], step)) {
                return Err(self.several_matches());
            }
            let (l, r) = (left.values[step], right.values[step]);
            let (l, r) = if self.swapped { (r, l) } else { (l, r) };
            let kept = is_present(sample_binary(self.node.op, self.node.return_bool, l, r));
            if kept && is_present(result.values[step]) {
                return Err(same_labelset());
            }
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

/// Whether both sides have a value at a step.
#[inline]
fn meet(left: &Part<'_>, right: &Part<'_>, step: usize) -> bool {
    is_present(left.values[step]) && is_present(right.values[step])
}

/// Writes what `f` makes of two values where both are there.
fn each_meeting<'v>(steps: impl Iterator<Item = (&'v mut f64, (&'v f64, &'v f64))>, f: impl Fn(f64, f64) -> f64) {
    for (cell, (l, r)) in steps {
        if is_present(*l) && is_present(*r) {
            let value = f(*l, *r);
            if is_present(value) {
                *cell = value;
            }
        }
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
    /// The group that came to it last, and its pairs that did, whether or not a comparison kept a value.
    group: usize,
    pairs: Vec<(usize, usize)>,
}

impl ResultRow {
    fn take(&mut self, group: usize, pair: (usize, usize)) {
        if self.group != group {
            self.pairs.clear();
            self.group = group;
        }
        self.pairs.push(pair);
    }
}

impl Outcome {
    /// The series with these labels, and whether it is new.
    fn row(&mut self, labels: Labels, width: usize) -> Result<(&mut ResultRow, bool), QueryError> {
        let next = self.rows.len();
        let row = *self.by_labels.entry(labels.clone()).or_insert(next);
        let fresh = row == next;
        if fresh {
            self.held.grow(0, width, labels.heap_bytes() + size_of::<ResultRow>())?;
            self.rows.push(ResultRow {
                labels,
                values: vec![ABSENT; width],
                group: usize::MAX,
                pairs: Vec::new(),
            });
        }
        Ok((&mut self.rows[row], fresh))
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
