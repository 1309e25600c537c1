//! `histogram_quantile`, `histogram_fraction`, `histogram_quantiles` over the buckets of classic histograms.

use super::Cx;
use super::aggregate::operand;
use super::call::text;
use super::scalar;
use super::subset::{Groups, Subset};
use super::table::{ABSENT, Head, Table, is_present, without_metadata};
use crate::annotation::{Note, Repair};
use crate::error::QueryError;
use crate::functions::bound::parse_bound;
use crate::functions::histogram::{Bucket, Raised, fraction, quantile};
use crate::functions::label::with_label;
use crate::functions::math::go_float;
use crate::parser::{Function, Span};
use crate::plan::CallNode;
use crate::window::Grid;
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

/// The buckets of a vector by histogram.
struct Histograms<'t> {
    table: &'t Table,
    grid: Grid,
    /// Labels without `le`.
    labels: Vec<Labels>,
    drop_name: Vec<bool>,
    /// Upper bound and row of each bucket.
    buckets: Vec<Vec<(f64, usize)>>,
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
        mut f: impl FnMut(usize, &mut Vec<Bucket>) -> (f64, Option<Raised>),
    ) -> Result<(), QueryError> {
        let width = self.table.width;
        let mut row = vec![ABSENT; width];
        let mut buckets = Vec::new();
        for (number, bounds) in self.buckets.iter().enumerate() {
            cx.check()?;
            let mut repair = Repair::default();
            for (step, cell) in row.iter_mut().enumerate() {
                buckets.clear();
                buckets.extend(bounds.iter().filter_map(|(bound, row)| {
                    let count = self.table.cells[row * width + step];
                    is_present(count).then_some(Bucket { bound: *bound, count })
                }));
                *cell = ABSENT;
                if !buckets.is_empty() {
                    let (value, raised) = f(step, &mut buckets);
                    *cell = value;
                    if let Some(raised) = raised {
                        repair.add(
                            self.grid.at(step),
                            raised.min_bucket,
                            raised.max_bucket,
                            raised.max_diff,
                        );
                    }
                }
            }
            if repair.count > 0 {
                let name = self.labels[number].value(METRIC_NAME);
                cx.repaired(if cx.features.delayed_name_removal { name } else { "" }, place, &repair);
            }
            self.push(cx, out, number, &row, label)?;
        }
        Ok(())
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
