//! The accumulators of aggregations: one row of them per group, into which series are folded as they come.
//!
//! ```text
//!   series' row   v v v v v v      a full row into a full group needs no look at which values are there:
//!                 + + + + + +      those loops have no branches, and take several steps at once
//!   group's row   a a a a a a
//! ```

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
    about: Vec<About>,
    state: State,
    held: Held,
}

/// What is known of a group.
#[derive(Debug, Clone, Copy)]
struct About {
    /// Some series of the group is to lose its name at the end.
    drop_name: bool,
    fill: Fill,
}

/// Which steps of a group have had a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    None,
    Some,
    All,
}

impl Fill {
    fn with(self, full: bool) -> Self {
        match self {
            Self::All => Self::All,
            _ if full => Self::All,
            _ => Self::Some,
        }
    }
}

/// `width` accumulators for each group, one group after the other.
enum State {
    /// [`ABSENT`] says nothing came yet.
    Sum {
        sum: Vec<f64>,
        lost: Vec<f64>,
    },
    /// The least, the greatest, or 1; [`ABSENT`] says nothing came yet.
    One(Vec<f64>),
    Count(Vec<f64>),
    Mean(Means),
    Variance(Vec<Variance>),
    /// The rows of each group, one after the other.
    All(Vec<Vec<f64>>),
}

/// Running means.
#[derive(Default)]
struct Means {
    sum: Vec<f64>,
    lost: Vec<f64>,
    /// 0 says nothing came yet.
    count: Vec<f64>,
    /// The sum became infinite and made way for the mean itself: once for a group, then for each step.
    any_incremental: Vec<bool>,
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

impl State {
    fn new(op: AggregateOp) -> Self {
        use AggregateOp as Op;
        match op {
            Op::Sum => Self::Sum {
                sum: Vec::new(),
                lost: Vec::new(),
            },
            Op::Avg => Self::Mean(Means::default()),
            Op::Count => Self::Count(Vec::new()),
            Op::Stddev | Op::Stdvar => Self::Variance(Vec::new()),
            Op::Quantile => Self::All(Vec::new()),
            _ => Self::One(Vec::new()),
        }
    }

    /// Makes room for one more group; gives how many bytes it takes.
    fn grow(&mut self, width: usize) -> usize {
        let room = |len: usize| len + width;
        match self {
            Self::Sum { sum, lost } => {
                sum.resize(room(sum.len()), ABSENT);
                lost.resize(room(lost.len()), 0.0);
                width * 16
            }
            Self::One(values) => {
                values.resize(room(values.len()), ABSENT);
                width * 8
            }
            Self::Count(counts) => {
                counts.resize(room(counts.len()), 0.0);
                width * 8
            }
            Self::Mean(means) => {
                means.sum.resize(room(means.sum.len()), 0.0);
                means.lost.resize(room(means.lost.len()), 0.0);
                means.count.resize(room(means.count.len()), 0.0);
                means.incremental.resize(room(means.incremental.len()), false);
                means.any_incremental.push(false);
                width * 25
            }
            Self::Variance(values) => {
                values.resize(room(values.len()), Variance::default());
                width * size_of::<Variance>()
            }
            Self::All(rows) => {
                rows.push(Vec::new());
                size_of::<Vec<f64>>()
            }
        }
    }
}

impl Fold {
    pub(crate) fn new(cx: &Cx<'_>, op: AggregateOp, subset: Subset, width: usize) -> Self {
        Self {
            op,
            width,
            groups: Groups::new(subset),
            about: Vec::new(),
            state: State::new(op),
            held: cx.held(),
        }
    }

    /// Makes room for a group if it is new, and notes that a row comes; gives how full the group was before.
    fn open(&mut self, group: usize, drop_name: bool, full: bool) -> Result<Fill, QueryError> {
        if group == self.about.len() {
            let bytes = self.state.grow(self.width);
            let labels = self.groups.labels[group].heap_bytes();
            self.held.grow(0, bytes / 8, labels)?;
            self.about.push(About {
                drop_name: false,
                fill: Fill::None,
            });
        }
        let about = &mut self.about[group];
        about.drop_name |= drop_name;
        let before = about.fill;
        about.fill = before.with(full);
        Ok(before)
    }

    /// Folds in a series.
    pub(crate) fn row(&mut self, who: &Who<'_>, row: Row<'_>) -> Result<(), QueryError> {
        let group = if self.groups.subset().is_nothing() {
            self.groups.only()
        } else {
            self.groups.number_of(|label| who.visit(label))
        };
        let fill = self.open(group, who.drop_name, row.full)?;
        let values = row.values;
        let cells = group * self.width..(group + 1) * self.width;
        match &mut self.state {
            State::Sum { sum, lost } => add_row(&mut sum[cells.clone()], &mut lost[cells], row, fill),
            State::One(all) => one(self.op, &mut all[cells], row, fill),
            State::Count(counts) => {
                for (count, value) in counts[cells].iter_mut().zip(values) {
                    *count += if row.full || is_present(*value) { 1.0 } else { 0.0 };
                }
            }
            State::Mean(means) => means.add_row(group, cells, row, fill),
            State::Variance(all) => {
                for (variance, value) in all[cells].iter_mut().zip(values) {
                    if is_present(*value) {
                        variance.add(*value);
                    }
                }
            }
            State::All(rows) => {
                let present = if row.full {
                    values.len()
                } else {
                    values.iter().filter(|v| is_present(**v)).count()
                };
                self.held.grow(present, values.len(), 0)?;
                rows[group].extend_from_slice(values);
            }
        }
        Ok(())
    }

    /// Folds in what another has folded.
    pub(crate) fn merge(&mut self, mut other: Self) -> Result<(), QueryError> {
        for theirs in 0..other.groups.len() {
            let group = self.groups.number_of_other(&other.groups, theirs);
            let About { drop_name, fill } = other.about[theirs];
            let full = fill == Fill::All;
            let before = self.open(group, drop_name, full)?;
            let (to, from) = (
                group * self.width..(group + 1) * self.width,
                theirs * self.width..(theirs + 1) * self.width,
            );
            match (&mut self.state, &mut other.state) {
                (State::Sum { sum, lost }, State::Sum { sum: s, lost: l }) => {
                    let row = Row {
                        values: &s[from.clone()],
                        full,
                    };
                    add_row(&mut sum[to.clone()], &mut lost[to.clone()], row, before);
                    for (mine, theirs) in lost[to].iter_mut().zip(&l[from]) {
                        *mine += theirs;
                    }
                }
                (State::One(all), State::One(more)) => {
                    let row = Row {
                        values: &more[from],
                        full,
                    };
                    one(self.op, &mut all[to], row, before);
                }
                (State::Count(counts), State::Count(more)) => {
                    for (count, more) in counts[to].iter_mut().zip(&more[from]) {
                        *count += more;
                    }
                }
                (State::Mean(means), State::Mean(more)) => {
                    for (to, from) in to.zip(from) {
                        match (means.get(to), more.get(from)) {
                            (Some(mut mean), Some(other)) => {
                                mean.merge(other);
                                means.set(group, to, mean);
                            }
                            (None, Some(other)) => means.set(group, to, other),
                            (_, None) => {}
                        }
                    }
                }
                (State::Variance(all), State::Variance(more)) => {
                    for (variance, other) in all[to].iter_mut().zip(&more[from]) {
                        variance.merge(*other);
                    }
                }
                (State::All(rows), State::All(more)) => {
                    // Their values are held by them until they are gone.
                    let more = std::mem::take(&mut more[theirs]);
                    if rows[group].is_empty() {
                        rows[group] = more;
                    } else {
                        rows[group].extend_from_slice(&more);
                    }
                }
                _ => {}
            }
        }
        self.held.take_over(other.held);
        Ok(())
    }

    /// The value of each group at each step.
    pub(crate) fn table(self, cx: &Cx<'_>, params: &[f64]) -> Result<Table, QueryError> {
        let cells: Vec<f64> = match self.state {
            State::Sum { mut sum, lost } => {
                for (sum, lost) in sum.iter_mut().zip(lost) {
                    if is_present(*sum) {
                        *sum += lost;
                    }
                }
                sum
            }
            State::One(values) => values,
            State::Count(mut counts) => {
                for count in &mut counts {
                    if *count == 0.0 {
                        *count = ABSENT;
                    }
                }
                counts
            }
            State::Mean(means) => (0..means.sum.len())
                .map(|cell| means.get(cell).map_or(ABSENT, |m| m.value()))
                .collect(),
            State::Variance(all) => {
                let root = self.op == AggregateOp::Stddev;
                let value = |v: &Variance| match v.squares / v.count {
                    _ if v.count == 0.0 => ABSENT,
                    variance if root => variance.sqrt(),
                    variance => variance,
                };
                all.iter().map(value).collect()
            }
            State::All(rows) => quantiles(&rows, self.width, params),
        };
        let mut table = cx.table(self.width);
        for (group, labels) in self.groups.labels.into_iter().enumerate() {
            let About { drop_name, fill } = self.about[group];
            let row = Row {
                values: &cells[group * self.width..(group + 1) * self.width],
                full: fill == Fill::All,
            };
            table.push_row(Head { labels, drop_name }, row)?;
        }
        Ok(table)
    }
}

/// The quantile of each step of each group.
fn quantiles(groups: &[Vec<f64>], width: usize, params: &[f64]) -> Vec<f64> {
    let mut out = Vec::with_capacity(groups.len() * width);
    let mut values = Vec::new();
    for rows in groups {
        for (step, q) in params.iter().enumerate().take(width) {
            values.clear();
            values.extend(rows.iter().skip(step).step_by(width).filter(|v| is_present(**v)));
            out.push(if values.is_empty() {
                ABSENT
            } else {
                quantile(*q, &mut values)
            });
        }
    }
    out
}

/// Adds a row to sums.
fn add_row(sum: &mut [f64], lost: &mut [f64], row: Row<'_>, fill: Fill) {
    let cells = sum.iter_mut().zip(lost).zip(row.values);
    if row.full && fill == Fill::All {
        for ((sum, lost), value) in cells {
            let mut kahan = Kahan { sum: *sum, lost: *lost };
            kahan.add(*value);
            (*sum, *lost) = (kahan.sum, kahan.lost);
        }
        return;
    }
    if row.full && fill == Fill::None {
        sum.copy_from_slice(row.values);
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
    fn get(&self, cell: usize) -> Option<Mean> {
        let acc = Kahan {
            sum: self.sum[cell],
            lost: self.lost[cell],
        };
        (self.count[cell] > 0.0).then(|| Mean::from_parts(acc, self.count[cell], self.incremental[cell]))
    }

    fn set(&mut self, group: usize, cell: usize, mean: Mean) {
        let (acc, incremental) = mean.parts();
        (self.sum[cell], self.lost[cell], self.count[cell]) = (acc.sum, acc.lost, mean.count);
        self.incremental[cell] = incremental;
        self.any_incremental[group] |= incremental;
    }

    fn add_row(&mut self, group: usize, cells: std::ops::Range<usize>, row: Row<'_>, fill: Fill) {
        if row.full && fill == Fill::All && !self.any_incremental[group] {
            let sum = &mut self.sum[cells.clone()];
            let infinite = sum.iter().zip(row.values);
            if !infinite.fold(false, |any, (sum, value)| any | (sum + value).is_infinite()) {
                add_row(sum, &mut self.lost[cells.clone()], row, fill);
                self.count[cells].iter_mut().for_each(|count| *count += 1.0);
                return;
            }
        }
        for (cell, value) in cells.zip(row.values) {
            if is_absent(*value) {
                continue;
            }
            let mean = match self.get(cell) {
                Some(mut mean) => {
                    mean.add(*value);
                    mean
                }
                None => Mean::new(*value),
            };
            self.set(group, cell, mean);
        }
    }
}
