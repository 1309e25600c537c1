//! Aggregations that hold one accumulator row per group and fold series as they come; and the way to those that need
//! all series (`rank`, `count_values`).

use super::collect::{Parts, by_part};
use super::row::{Sink, Who};
use super::stream::stream;
use super::subset::{Groups, Subset};
use super::table::{ABSENT, Head, Table, is_absent, is_present};
use super::{Cx, Held, Output, evaluate, rank};
use crate::annotation::Note;
use crate::error::QueryError;
use crate::functions::math::{Kahan, Mean, go_float, quantile};
use crate::parser::{AggregateOp, Grouping};
use crate::plan::{AggregateNode, Node};
use crate::window::Grid;

/// Evaluates an aggregation.
pub(crate) fn aggregate(cx: &Cx<'_>, node: &AggregateNode, grid: Grid) -> Result<Table, QueryError> {
    let subset = match &node.grouping {
        Grouping::By(labels) => Subset::with(labels),
        Grouping::Without(labels) => Subset::without(labels),
    };
    use AggregateOp as Op;
    match node.op {
        Op::CountValues => rank::count_values(cx, node, grid),
        Op::Topk | Op::Bottomk | Op::Limitk | Op::LimitRatio => {
            let params = param(cx, node, grid)?;
            rank::rank(cx, node, &params, subset, grid)
        }
        Op::Quantile => {
            let params = param(cx, node, grid)?;
            warn_quantiles(cx, node, &params);
            fold(cx, node, &subset, grid, &params)
        }
        Op::Sum | Op::Avg | Op::Count | Op::Min | Op::Max | Op::Group | Op::Stddev | Op::Stdvar => {
            fold(cx, node, &subset, grid, &[])
        }
    }
}

/// The scalar parameter by step.
fn param(cx: &Cx<'_>, node: &AggregateNode, grid: Grid) -> Result<Vec<f64>, QueryError> {
    match &node.param {
        Some(param) => super::scalar(cx, param, grid),
        None => Ok(vec![f64::NAN; grid.len]),
    }
}

fn warn_quantiles(cx: &Cx<'_>, node: &AggregateNode, params: &[f64]) {
    let least = params.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = params.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let warn = |q: f64| cx.warn(Note::InvalidQuantile(go_float(q)), node.param_span);
    if params.iter().any(|q| q.is_nan()) {
        warn(f64::NAN);
    }
    if greatest > 1.0 {
        warn(greatest);
    }
    if least < 0.0 {
        warn(least);
    }
}

fn fold(cx: &Cx<'_>, node: &AggregateNode, subset: &Subset, grid: Grid, params: &[f64]) -> Result<Table, QueryError> {
    let parts = Parts::default();
    let new = |part| FoldSink {
        part,
        fold: Fold::new(cx, node.op, subset.clone(), grid.len),
        parts: &parts,
    };
    let mut folds = by_part(&parts, new, |make| stream(cx, &node.expr, grid, make))?.into_iter();
    let Some(mut all) = folds.next() else {
        return Ok(cx.table(grid.len));
    };
    for more in folds {
        all.merge(&more)?;
    }
    all.table(cx, params)
}

struct FoldSink<'p> {
    part: usize,
    fold: Fold,
    parts: &'p Parts<Fold>,
}

impl Sink for FoldSink<'_> {
    fn row(&mut self, who: &Who<'_>, values: &[f64]) -> Result<(), QueryError> {
        self.fold.row(who, values)
    }

    fn finish(self: Box<Self>) -> Result<(), QueryError> {
        self.parts.lock().push((self.part, self.fold));
        Ok(())
    }
}

/// The accumulators of all groups seen.
struct Fold {
    op: AggregateOp,
    width: usize,
    groups: Groups,
    /// Whether some series of the group is to lose its name at the end.
    drop_name: Vec<bool>,
    state: State,
    held: Held,
}

/// `width` accumulators for each group, one group after the other. [`ABSENT`] in the first says nothing came yet.
enum State {
    Sum { sum: Vec<f64>, lost: Vec<f64> },
    One(Vec<f64>),
    Mean(Vec<Option<Mean>>),
    Variance(Vec<Variance>),
    All(Vec<Vec<f64>>),
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
    fn new(cx: &Cx<'_>, op: AggregateOp, subset: Subset, width: usize) -> Self {
        use AggregateOp as Op;
        let state = match op {
            Op::Sum => State::Sum {
                sum: Vec::new(),
                lost: Vec::new(),
            },
            Op::Avg => State::Mean(Vec::new()),
            Op::Stddev | Op::Stdvar => State::Variance(Vec::new()),
            Op::Quantile => State::All(Vec::new()),
            _ => State::One(Vec::new()),
        };
        Self {
            op,
            width,
            groups: Groups::new(subset),
            drop_name: Vec::new(),
            state,
            held: cx.held(),
        }
    }

    /// Makes room for a group if it is new.
    fn open(&mut self, group: usize, drop_name: bool) -> Result<usize, QueryError> {
        if group == self.drop_name.len() {
            let room = self.groups.len() * self.width;
            let each = match &mut self.state {
                State::Sum { sum, lost } => {
                    sum.resize(room, ABSENT);
                    lost.resize(room, 0.0);
                    16
                }
                State::One(values) => {
                    values.resize(room, ABSENT);
                    8
                }
                State::Mean(values) => {
                    values.resize(room, None);
                    size_of::<Option<Mean>>()
                }
                State::Variance(values) => {
                    values.resize(room, Variance::default());
                    size_of::<Variance>()
                }
                State::All(values) => {
                    values.resize(room, Vec::new());
                    size_of::<Vec<f64>>()
                }
            };
            let labels = self.groups.labels[group].heap_bytes();
            self.held.grow(0, self.width * each / 8, labels)?;
            self.drop_name.push(false);
        }
        self.drop_name[group] |= drop_name;
        Ok(group * self.width)
    }

    fn row(&mut self, who: &Who<'_>, values: &[f64]) -> Result<(), QueryError> {
        let group = if self.groups.subset().is_nothing() {
            self.groups.only()
        } else {
            self.groups.number(who.labels())
        };
        let start = self.open(group, who.drop_name)?;
        let cells = start..start + self.width;
        use AggregateOp as Op;
        match &mut self.state {
            State::Sum { sum, lost } => add_row(&mut sum[cells.clone()], &mut lost[cells], values),
            State::One(all) => {
                let all = &mut all[cells];
                match self.op {
                    Op::Min => each(all, values, |best, v| if best > v || best.is_nan() { v } else { best }),
                    Op::Max => each(all, values, |best, v| if best < v || best.is_nan() { v } else { best }),
                    Op::Count => count_row(all, values),
                    _ => {
                        for (cell, value) in all.iter_mut().zip(values) {
                            if is_present(*value) {
                                *cell = 1.0;
                            }
                        }
                    }
                }
            }
            State::Mean(means) => {
                for (mean, value) in means[cells].iter_mut().zip(values) {
                    if is_absent(*value) {
                        continue;
                    }
                    match mean {
                        Some(mean) => mean.add(*value),
                        None => *mean = Some(Mean::new(*value)),
                    }
                }
            }
            State::Variance(all) => {
                for (variance, value) in all[cells].iter_mut().zip(values) {
                    if is_present(*value) {
                        variance.add(*value);
                    }
                }
            }
            State::All(all) => {
                let mut more = 0;
                for (seen, value) in all[cells].iter_mut().zip(values) {
                    if is_present(*value) {
                        seen.push(*value);
                        more += 1;
                    }
                }
                self.held.grow(more, more, 0)?;
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: &Self) -> Result<(), QueryError> {
        for (theirs, labels) in other.groups.labels.iter().enumerate() {
            let group = self.groups.number_of_group(labels);
            let start = self.open(group, other.drop_name[theirs])?;
            let (to, from) = (
                start..start + self.width,
                theirs * self.width..(theirs + 1) * self.width,
            );
            match (&mut self.state, &other.state) {
                (State::Sum { sum, lost }, State::Sum { sum: s, lost: l }) => {
                    add_row(&mut sum[to.clone()], &mut lost[to.clone()], &s[from.clone()]);
                    for (mine, theirs) in lost[to].iter_mut().zip(&l[from]) {
                        *mine += theirs;
                    }
                }
                (State::One(all), State::One(more)) => {
                    let (all, more) = (&mut all[to], &more[from]);
                    match self.op {
                        AggregateOp::Min => {
                            each(all, more, |best, v| if best > v || best.is_nan() { v } else { best });
                        }
                        AggregateOp::Max => {
                            each(all, more, |best, v| if best < v || best.is_nan() { v } else { best });
                        }
                        AggregateOp::Count => each(all, more, |a, b| a + b),
                        _ => each(all, more, |a, _| a),
                    }
                }
                (State::Mean(all), State::Mean(more)) => {
                    for (mean, other) in all[to].iter_mut().zip(&more[from]) {
                        match (&mut *mean, other) {
                            (Some(mean), Some(other)) => mean.merge(*other),
                            (None, other) => *mean = *other,
                            (Some(_), None) => {}
                        }
                    }
                }
                (State::Variance(all), State::Variance(more)) => {
                    for (variance, other) in all[to].iter_mut().zip(&more[from]) {
                        variance.merge(*other);
                    }
                }
                (State::All(all), State::All(more)) => {
                    for (seen, other) in all[to].iter_mut().zip(&more[from]) {
                        self.held.grow(other.len(), other.len(), 0)?;
                        seen.extend_from_slice(other);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The value of each group at each step.
    fn table(self, cx: &Cx<'_>, params: &[f64]) -> Result<Table, QueryError> {
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
            State::Mean(means) => means.iter().map(|m| m.map_or(ABSENT, |m| m.value())).collect(),
            State::Variance(all) => {
                let root = self.op == AggregateOp::Stddev;
                let value = |v: &Variance| match v.squares / v.count {
                    _ if v.count == 0.0 => ABSENT,
                    variance if root => variance.sqrt(),
                    variance => variance,
                };
                all.iter().map(value).collect()
            }
            State::All(all) => all
                .into_iter()
                .enumerate()
                .map(|(i, mut values)| match params.get(i % self.width.max(1)) {
                    Some(q) if !values.is_empty() => quantile(*q, &mut values),
                    _ => ABSENT,
                })
                .collect(),
        };
        let mut table = cx.table(self.width);
        for (group, labels) in self.groups.labels.into_iter().enumerate() {
            let head = Head {
                labels,
                drop_name: self.drop_name[group],
            };
            table.push(head, &cells[group * self.width..(group + 1) * self.width])?;
        }
        Ok(table)
    }
}

/// Adds a row to sums.
fn add_row(sum: &mut [f64], lost: &mut [f64], values: &[f64]) {
    for ((sum, lost), value) in sum.iter_mut().zip(lost).zip(values) {
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

/// Combines a row with what is there.
fn each(all: &mut [f64], values: &[f64], f: impl Fn(f64, f64) -> f64) {
    for (cell, value) in all.iter_mut().zip(values) {
        if is_absent(*value) {
            continue;
        }
        *cell = if is_absent(*cell) { *value } else { f(*cell, *value) };
    }
}

fn count_row(all: &mut [f64], values: &[f64]) {
    for (cell, value) in all.iter_mut().zip(values) {
        if is_present(*value) {
            *cell = if is_absent(*cell) { 1.0 } else { *cell + 1.0 };
        }
    }
}

/// The operand as a table.
pub(crate) fn operand(cx: &Cx<'_>, node: &Node, grid: Grid) -> Result<Table, QueryError> {
    match evaluate(cx, node, grid)? {
        Output::Vector(table) => Ok(table),
        _ => Err(QueryError::execution("expected an instant vector")),
    }
}
