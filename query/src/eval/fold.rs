//! The accumulators of aggregations: one row of them per group, into which series are folded as they come.
//!
//! ```text
//!   series' row   v v v v v v      a full row into a full group needs no look at which values are there:
//!                 + + + + + +      those loops have no branches, and take several steps at once
//!   group's row   a a a a a a
//! ```
//!
//! Each group's row lies by itself: what one part has of a group that no other has seen is moved, not copied.

use super::collect::Gather;
use super::row::{Row, Who};
use super::subset::{Groups, Subset};
use super::table::{ABSENT, Head, Table, is_absent, is_present};
use super::{Cx, Held};
use crate::error::QueryError;
use crate::functions::math::{Kahan, Mean, quantile};
use crate::parser::AggregateOp;

/// The accumulators of all groups seen.
pub(crate) struct Fold {
    op: AggregateOp,
    width: usize,
    groups: Groups,
    accs: Vec<Group>,
    held: Held,
}

/// The accumulators of a group, and what is known of it.
struct Group {
    /// Some series of it is to lose its name at the end.
    drop_name: bool,
    fill: Fill,
    acc: Acc,
}

/// Which steps of a group have had a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    None,
    Some,
    All,
}

/// An accumulator for each step.
enum Acc {
    /// [`ABSENT`] as sum says nothing came yet.
    Sum {
        sum: Vec<f64>,
        lost: Vec<f64>,
    },
    /// The least, the greatest, or 1; [`ABSENT`] says nothing came yet.
    One(Vec<f64>),
    /// Values by step, and rows with one at each step.
    Count(Vec<f64>, f64),
    Mean(Means),
    Variance(Vec<Variance>),
    /// The rows themselves, one after the other.
    All(Vec<f64>),
}

/// Running means.
struct Means {
    sum: Vec<f64>,
    lost: Vec<f64>,
    /// 0 says nothing came yet.
    count: Vec<f64>,
    /// Where the sum became infinite and made way for the mean itself; empty if nowhere.
    incremental: Vec<bool>,
}

/// Welford's running variance.
#[derive(Debug, Clone, Copy, Default)]
struct Variance {
    count: f64,
    mean: f64,
    /// The sum of squared distances from the mean.
    squares: f64,
}

impl Variance {
    fn add(&mut self, value: f64) {
        if self.count == 0.0 {
            let squares = if value.is_finite() { 0.0 } else { f64::NAN };
            *self = Self {
                count: 1.0,
                mean: value,
                squares,
            };
            return;
        }
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    /// Chan's parallel update.
    fn merge(&mut self, other: Self) {
        if other.count == 0.0 {
            return;
        }
        if self.count == 0.0 {
            *self = other;
            return;
        }
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        self.mean += delta * other.count / count;
        self.squares += other.squares + delta * delta * self.count * other.count / count;
        self.count = count;
    }
}

impl Fold {
    pub(crate) fn new(cx: &Cx<'_>, op: AggregateOp, subset: Subset, width: usize) -> Self {
        Self {
            op,
            width,
            groups: Groups::new(subset),
            accs: Vec::new(),
            held: cx.held(),
        }
    }

    /// The value of each group at each step.
    pub(crate) fn table(self, cx: &Cx<'_>, params: &[f64]) -> Result<Table, QueryError> {
        let mut table = cx.table(self.width);
        table.cells.reserve_exact(self.accs.len() * self.width);
        for (labels, group) in self.groups.labels.into_iter().zip(self.accs) {
            let values = group.acc.finish(self.op, params);
            let row = Row {
                values: &values,
                full: group.fill == Fill::All,
            };
            let drop_name = group.drop_name;
            table.push_row(Head { labels, drop_name }, row)?;
        }
        Ok(table)
    }
}

impl Gather for Fold {
    fn row(&mut self, who: &Who<'_>, row: Row<'_>) -> Result<(), QueryError> {
        let number = if self.groups.subset().is_nothing() {
            self.groups.only()
        } else {
            self.groups.number_of(|label| who.visit(label))
        };
        if number == self.accs.len() {
            let acc = Acc::new(self.op, self.width);
            self.held
                .grow(0, acc.bytes() / 8, self.groups.labels[number].heap_bytes())?;
            self.accs.push(Group {
                drop_name: false,
                fill: Fill::None,
                acc,
            });
        }
        let group = &mut self.accs[number];
        group.drop_name |= who.drop_name;
        if let Acc::All(_) = group.acc {
            self.held.grow(row.present(), row.values.len(), 0)?;
        }
        group.acc.add(self.op, row, group.fill);
        group.fill = match group.fill {
            Fill::All => Fill::All,
            _ if row.full => Fill::All,
            _ => Fill::Some,
        };
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<(), QueryError> {
        for (theirs, more) in other.accs.into_iter().enumerate() {
            let number = self.groups.number_of_other(&other.groups, theirs);
            let Some(group) = self.accs.get_mut(number) else {
                self.accs.push(more);
                continue;
            };
            group.drop_name |= more.drop_name;
            group.acc.merge(self.op, more.acc, (group.fill, more.fill));
            if more.fill == Fill::All {
                group.fill = Fill::All;
            }
        }
        self.held.take_over(other.held);
        Ok(())
    }
}

impl Acc {
    fn new(op: AggregateOp, width: usize) -> Self {
        use AggregateOp as Op;
        match op {
            Op::Sum => Self::Sum {
                sum: vec![ABSENT; width],
                lost: vec![0.0; width],
            },
            Op::Avg => Self::Mean(Means {
                sum: vec![0.0; width],
                lost: vec![0.0; width],
                count: vec![0.0; width],
                incremental: Vec::new(),
            }),
            Op::Count => Self::Count(vec![0.0; width], 0.0),
            Op::Stddev | Op::Stdvar => Self::Variance(vec![Variance::default(); width]),
            Op::Quantile => Self::All(Vec::new()),
            _ => Self::One(vec![ABSENT; width]),
        }
    }

    fn bytes(&self) -> usize {
        let cells = match self {
            Self::Sum { sum, .. } => sum.len() * 2,
            Self::One(values) | Self::Count(values, _) | Self::All(values) => values.len(),
            Self::Mean(means) => means.sum.len() * 3,
            Self::Variance(values) => values.len() * 3,
        };
        cells * size_of::<f64>() + size_of::<Group>()
    }

    /// Adds a row to what has been filled so far.
    fn add(&mut self, op: AggregateOp, row: Row<'_>, fill: Fill) {
        match self {
            Self::Sum { sum, lost } => add_row(sum, lost, row, fill),
            Self::One(all) => one(op, all, row, fill),
            Self::Count(_, full) if row.full => *full += 1.0,
            Self::Count(counts, _) => {
                for (count, value) in counts.iter_mut().zip(row.values) {
                    *count += if is_present(*value) { 1.0 } else { 0.0 };
                }
            }
            Self::Mean(means) => means.add_row(row, fill),
            Self::Variance(all) => {
                for (variance, value) in all.iter_mut().zip(row.values) {
                    if is_present(*value) {
                        variance.add(*value);
                    }
                }
            }
            Self::All(rows) => rows.extend_from_slice(row.values),
        }
    }

    /// Adds what another part has of the group.
    fn merge(&mut self, op: AggregateOp, other: Self, (fill, theirs): (Fill, Fill)) {
        let row = |values| Row {
            values,
            full: theirs == Fill::All,
        };
        match (self, other) {
            (Self::Sum { sum, lost }, Self::Sum { sum: s, lost: l }) => {
                add_row(sum, lost, row(&s), fill);
                for (mine, theirs) in lost.iter_mut().zip(l) {
                    *mine += theirs;
                }
            }
            (Self::One(all), Self::One(more)) => one(op, all, row(&more), fill),
            (Self::Count(counts, full), Self::Count(more, more_full)) => {
                *full += more_full;
                for (count, more) in counts.iter_mut().zip(more) {
                    *count += more;
                }
            }
            (Self::Mean(means), Self::Mean(more)) => {
                for step in 0..means.sum.len() {
                    match (means.get(step), more.get(step)) {
                        (Some(mut mean), Some(other)) => {
                            mean.merge(other);
                            means.set(step, mean);
                        }
                        (None, Some(other)) => means.set(step, other),
                        (_, None) => {}
                    }
                }
            }
            (Self::Variance(all), Self::Variance(more)) => {
                for (variance, other) in all.iter_mut().zip(more) {
                    variance.merge(other);
                }
            }
            (Self::All(rows), Self::All(more)) => rows.extend_from_slice(&more),
            _ => {}
        }
    }

    /// The value at each step.
    fn finish(self, op: AggregateOp, params: &[f64]) -> Vec<f64> {
        match self {
            Self::Sum { mut sum, lost } => {
                for (sum, lost) in sum.iter_mut().zip(lost) {
                    if is_present(*sum) {
                        *sum += lost;
                    }
                }
                sum
            }
            Self::One(values) => values,
            Self::Count(mut counts, full) => {
                for count in &mut counts {
                    *count += full;
                    if *count == 0.0 {
                        *count = ABSENT;
                    }
                }
                counts
            }
            Self::Mean(means) => (0..means.sum.len())
                .map(|step| means.get(step).map_or(ABSENT, |m| m.value()))
                .collect(),
            Self::Variance(all) => {
                let root = op == AggregateOp::Stddev;
                let value = |v: &Variance| match v.squares / v.count {
                    _ if v.count == 0.0 => ABSENT,
                    variance if root => variance.sqrt(),
                    variance => variance,
                };
                all.iter().map(value).collect()
            }
            Self::All(rows) => quantiles(&rows, params),
        }
    }
}

/// The quantile of each step of a group's rows.
fn quantiles(rows: &[f64], params: &[f64]) -> Vec<f64> {
    let mut values = Vec::new();
    let of_step = |(step, q): (usize, &f64)| {
        values.clear();
        let all = rows.iter().skip(step).step_by(params.len());
        values.extend(all.filter(|v| is_present(**v)));
        if values.is_empty() {
            ABSENT
        } else {
            quantile(*q, &mut values)
        }
    };
    params.iter().enumerate().map(of_step).collect()
}

/// Adds a row to sums.
fn add_row(sum: &mut [f64], lost: &mut [f64], row: Row<'_>, fill: Fill) {
    if row.full && fill == Fill::None {
        sum.copy_from_slice(row.values);
        return;
    }
    let full = row.full && fill == Fill::All;
    let cells = sum.iter_mut().zip(lost).zip(row.values);
    if full {
        for ((sum, lost), value) in cells {
            let mut kahan = Kahan { sum: *sum, lost: *lost };
            kahan.add(*value);
            (*sum, *lost) = (kahan.sum, kahan.lost);
        }
        return;
    }
    for ((sum, lost), value) in cells {
        if is_absent(*value) {
            continue;
        }
        if is_absent(*sum) {
            *sum = *value;
            continue;
        }
        let mut kahan = Kahan { sum: *sum, lost: *lost };
        kahan.add(*value);
        (*sum, *lost) = (kahan.sum, kahan.lost);
    }
}

/// `min`, `max`, `group`.
fn one(op: AggregateOp, all: &mut [f64], row: Row<'_>, fill: Fill) {
    match op {
        AggregateOp::Min => each(
            all,
            row,
            fill,
            |best, v| if best > v || best.is_nan() { v } else { best },
        ),
        AggregateOp::Max => each(
            all,
            row,
            fill,
            |best, v| if best < v || best.is_nan() { v } else { best },
        ),
        _ if fill == Fill::All => {}
        _ if row.full => all.fill(1.0),
        _ => {
            for (cell, value) in all.iter_mut().zip(row.values) {
                if is_present(*value) {
                    *cell = 1.0;
                }
            }
        }
    }
}

/// Combines a row with what is there.
fn each(all: &mut [f64], row: Row<'_>, fill: Fill, f: impl Fn(f64, f64) -> f64) {
    let cells = all.iter_mut().zip(row.values);
    if row.full && fill == Fill::All {
        cells.for_each(|(cell, value)| *cell = f(*cell, *value));
        return;
    }
    for (cell, value) in cells {
        if is_absent(*value) {
            continue;
        }
        *cell = if is_absent(*cell) { *value } else { f(*cell, *value) };
    }
}

impl Means {
    fn get(&self, step: usize) -> Option<Mean> {
        let acc = Kahan {
            sum: self.sum[step],
            lost: self.lost[step],
        };
        let incremental = self.incremental.get(step).copied().unwrap_or(false);
        (self.count[step] > 0.0).then(|| Mean::from_parts(acc, self.count[step], incremental))
    }

    fn set(&mut self, step: usize, mean: Mean) {
        let (acc, incremental) = mean.parts();
        (self.sum[step], self.lost[step], self.count[step]) = (acc.sum, acc.lost, mean.count);
        if incremental {
            self.incremental.resize(self.sum.len(), false);
            self.incremental[step] = true;
        }
    }

    fn add_row(&mut self, row: Row<'_>, fill: Fill) {
        if row.full && fill == Fill::All && self.incremental.is_empty() {
            let totals = self.sum.iter().zip(row.values);
            if !totals.fold(false, |any, (sum, value)| any | (sum + value).is_infinite()) {
                add_row(&mut self.sum, &mut self.lost, row, fill);
                self.count.iter_mut().for_each(|count| *count += 1.0);
                return;
            }
        }
        for (step, value) in row.values.iter().enumerate().filter(|(_, v)| is_present(**v)) {
            let mean = match self.get(step) {
                Some(mut mean) => {
                    mean.add(*value);
                    mean
                }
                None => Mean::new(*value),
            };
            self.set(step, mean);
        }
    }
}
