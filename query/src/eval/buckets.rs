//! `histogram_quantile`, `histogram_fraction`, `histogram_quantiles` over the buckets of classic histograms.

use super::Cx;
use super::aggregate::operand;
use super::call::text;
use super::scalar;
use super::selector::{PARTS, is_heavy};
use super::subset::{Groups, Subset};
use super::table::{ABSENT, Head, Table, without_metadata};
use crate::annotation::{Note, Repair};
use crate::error::QueryError;
use crate::functions::bound::parse_bound;
use crate::functions::histogram::{Buckets, Raised, fraction, quantile};
use crate::functions::label::with_label;
use crate::functions::math::go_float;
use crate::parser::{Function, Span};
use crate::plan::CallNode;
use crate::window::Grid;
use parking_lot::Mutex;
use tidegauge_model::{Labels, reserved::BUCKET, reserved::METRIC_NAME};

/// Evaluates a histogram function.
pub(crate) fn histogram(cx: &Cx<'_>, node: &CallNode, grid: Grid) -> Result<Table, QueryError> {
    let number = |index: usize| match node.args.get(index) {
        Some(arg) => scalar(cx, arg, grid),
        None => Ok(vec![f64::NAN; grid.len]),
    };
    let place = |index: usize| node.arg_spans.get(index).copied().unwrap_or_default();
    let vector = match node.function {
        Function::HistogramQuantile => 1,
        Function::HistogramFraction => 2,
        _ => 0,
    };
    let Some(arg) = node.args.get(vector) else {
        return Ok(cx.table(grid.len));
    };
    let table = operand(cx, arg, grid)?;
    let histograms = Histograms::new(cx, &table, place(vector), grid);
    let mut out = cx.table(grid.len);
    match node.function {
        Function::HistogramQuantile => {
            let q = number(0)?;
            warn_quantiles(cx, &q, place(0));
            histograms.quantiles(cx, &q, place(1), None, &mut out)?;
        }
        Function::HistogramFraction => {
            let (lower, upper) = (number(0)?, number(1)?);
            histograms.each(cx, &mut out, None, place(vector), |step, buckets| {
                (fraction(lower[step], upper[step], buckets), None)
            })?;
        }
        _ => {
            let name = text(node, 1);
            for index in 2..node.args.len() {
                let q = number(index)?;
                warn_quantiles(cx, &q, place(index));
                histograms.quantiles(cx, &q, place(0), Some(name), &mut out)?;
            }
        }
    }
    cx.join_twins(&mut out)?;
    Ok(out)
}

fn warn_quantiles(cx: &Cx<'_>, quantiles: &[f64], place: Span) {
    for q in quantiles {
        if q.is_nan() || !(0.0..=1.0).contains(q) {
            cx.warn(Note::InvalidQuantile(go_float(*q)), place);
        }
    }
}

/// How many histograms are computed at a time.
const BATCH: usize = 1024;

/// The buckets of a vector by histogram.
struct Histograms<'t> {
    table: &'t Table,
    grid: Grid,
    /// Labels without `le`.
    labels: Vec<Labels>,
    drop_name: Vec<bool>,
    /// Upper bound and row of each bucket, in order of bound.
    buckets: Vec<Vec<(f64, usize)>>,
}

/// What was computed of some histograms.
#[derive(Default)]
struct Made {
    /// A row for each.
    cells: Vec<f64>,
    /// Whose counts had to be repaired.
    repaired: Vec<(usize, Repair)>,
}

impl<'t> Histograms<'t> {
    fn new(cx: &Cx<'_>, table: &'t Table, place: Span, grid: Grid) -> Self {
        // All labels but `le`; the name counts too.
        let mut groups = Groups::new(Subset::Without(vec![BUCKET.to_owned()]));
        let mut buckets: Vec<Vec<(f64, usize)>> = Vec::new();
        let mut drop_name = Vec::new();
        for (row, head) in table.heads.iter().enumerate() {
            let le = head.labels.value(BUCKET);
            let Some(bound) = parse_bound(le) else {
                let metric = head.labels.value(METRIC_NAME);
                cx.warn(Note::BadBucketLabel(le.to_owned(), metric.to_owned()), place);
                continue;
            };
            let number = groups.number(&head.labels);
            if number == buckets.len() {
                buckets.push(Vec::new());
                drop_name.push(head.drop_name);
            }
            buckets[number].push((bound, row));
        }
        for bounds in &mut buckets {
            bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        Self {
            table,
            grid,
            labels: groups.labels,
            drop_name,
            buckets,
        }
    }

    fn quantiles(
        &self,
        cx: &Cx<'_>,
        q: &[f64],
        place: Span,
        name: Option<&str>,
        out: &mut Table,
    ) -> Result<(), QueryError> {
        self.each(cx, out, name.map(|n| (n, q)), place, |step, buckets| {
            quantile(q[step], buckets)
        })
    }

    /// Computes a value of each histogram at each step. With a name and quantiles, each series gets that label with
    /// its quantile as value.
    fn each(
        &self,
        cx: &Cx<'_>,
        out: &mut Table,
        label: Option<(&str, &[f64])>,
        place: Span,
        f: impl Fn(usize, &mut Buckets) -> (f64, Option<Raised>) + Sync,
    ) -> Result<(), QueryError> {
        let width = self.table.width;
        let count = self.buckets.len();
        // Some at a time, each time cut into parts that helpers may take.
        for first in (0..count).step_by(BATCH) {
            let batch = first..count.min(first + BATCH);
            let rows: usize = self.buckets[batch.clone()].iter().map(Vec::len).sum();
            let parts = if is_heavy((rows * width) as u64) { PARTS } else { 1 };
            let _room = cx.room(self.grid, batch.len())?;
            let made: Vec<Mutex<Made>> = (0..parts).map(|_| Mutex::default()).collect();
            let cut = |part: usize| batch.start + batch.len() * part / parts;
            cx.helpers.share(parts, |part| {
                *made[part].lock() = self.make(cx, cut(part)..cut(part + 1), &f)?;
                Ok(())
            })?;
            for (part, made) in made.into_iter().enumerate() {
                let Made { cells, repaired } = made.into_inner();
                for (number, repair) in repaired {
                    let name = self.labels[number].value(METRIC_NAME);
                    cx.repaired(if cx.features.delayed_name_removal { name } else { "" }, place, &repair);
                }
                for (number, row) in (cut(part)..cut(part + 1)).zip(cells.chunks_exact(width.max(1))) {
                    self.push(cx, out, number, row, label)?;
                }
            }
        }
        Ok(())
    }

    fn make(
        &self,
        cx: &Cx<'_>,
        numbers: std::ops::Range<usize>,
        f: &impl Fn(usize, &mut Buckets) -> (f64, Option<Raised>),
    ) -> Result<Made, QueryError> {
        let mut made = Made::default();
        made.cells.reserve_exact(numbers.len() * self.table.width);
        let mut buckets = Buckets::default();
        for number in numbers {
            cx.check()?;
            let bounds = &self.buckets[number];
            let rows: Vec<(f64, &[f64])> = bounds
                .iter()
                .map(|(bound, row)| (*bound, self.table.row(*row)))
                .collect();
            let rising = bounds.windows(2).all(|w| matches!(w, [(a, _), (b, _)] if a < b));
            let mut repair = Repair::default();
            for step in 0..self.table.width {
                buckets.fill(&rows, step, rising);
                let (value, raised) = if buckets.is_empty() {
                    (ABSENT, None)
                } else {
                    f(step, &mut buckets)
                };
                made.cells.push(value);
                if let Some(raised) = raised {
                    repair.add(
                        self.grid.at(step),
                        raised.min_bucket,
                        raised.max_bucket,
                        raised.max_diff,
                    );
                }
            }
            if repair.count > 0 {
                made.repaired.push((number, repair));
            }
        }
        Ok(made)
    }

    fn push(
        &self,
        cx: &Cx<'_>,
        out: &mut Table,
        number: usize,
        row: &[f64],
        label: Option<(&str, &[f64])>,
    ) -> Result<(), QueryError> {
        let (mut labels, mut drop_name) = (self.labels[number].clone(), self.drop_name[number]);
        if cx.features.delayed_name_removal {
            drop_name = true;
        } else {
            labels = without_metadata(&labels);
        }
        let Some((name, quantiles)) = label else {
            return out.push(Head { labels, drop_name }, row);
        };
        // The quantile may differ from step to step: one series for each.
        let mut distinct: Vec<u64> = quantiles.iter().map(|q| q.to_bits()).collect();
        distinct.sort_unstable();
        distinct.dedup();
        for bits in distinct {
            let values: Vec<f64> = row
                .iter()
                .zip(quantiles)
                .map(|(value, q)| if q.to_bits() == bits { *value } else { ABSENT })
                .collect();
            let labels = with_label(&labels, name, &open_metrics_float(f64::from_bits(bits)));
            out.push(Head { labels, drop_name }, &values)?;
        }
        Ok(())
    }
}

/// A float as OpenMetrics writes it in labels: always with a point or an exponent.
fn open_metrics_float(value: f64) -> String {
    let text = go_float(value);
    if text.contains(['.', 'e', 'N', 'I']) {
        text
    } else {
        format!("{text}.0")
    }
}
