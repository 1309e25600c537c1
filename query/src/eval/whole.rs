//! A whole query that is a range vector: samples with their own times.

use super::selector::{floats, select, without_stale};
use super::{Cx, Output, evaluate, points};
use crate::error::QueryError;
use crate::functions::extended;
use crate::plan::{Select, Source, Window};
use crate::record::Key;
use crate::value::RangeSeries;
use crate::window::{Grid, spans};
use tidegauge_model::{ColumnBuf, Sample};

/// The samples in a range vector's window at the first step.
pub(crate) fn window(cx: &Cx<'_>, window: &Window, grid: Grid) -> Result<Vec<RangeSeries>, QueryError> {
    match &window.source {
        Source::Series(selector) => stored(cx, window, selector, grid),
        Source::Subquery { expr, step_ms, .. } => {
            let inner = window.inner_grid(grid, *step_ms);
            if inner.len == 0 {
                return Ok(Vec::new());
            }
            Ok(match evaluate(cx, expr, inner)? {
                Output::Vector(table) => {
                    let table = cx.without_dropped_names(table)?;
                    (0..table.len())
                        .map(|row| RangeSeries {
                            labels: table.heads[row].labels.clone(),
                            points: points(table.row(row), inner),
                        })
                        .collect()
                }
                Output::Scalar(values) => vec![RangeSeries {
                    labels: tidegauge_model::Labels::empty(),
                    points: points(&values, inner),
                }],
                Output::Text(_) | Output::Matrix(_) => Vec::new(),
            })
        }
    }
}

fn stored(cx: &Cx<'_>, window: &Window, selector: &Select, grid: Grid) -> Result<Vec<RangeSeries>, QueryError> {
    let grid = grid.first();
    let frame = window.frame(grid, cx.lookback_ms);
    let set = select(cx, selector, &frame, "", window.range_ms)?;
    let mut out = Vec::new();
    let mut buf = ColumnBuf::default();
    let mut held = cx.held();
    for group in &set {
        for series in 0..group.len() {
            cx.check()?;
            let column = group.read(series, &mut buf)?;
            let values = floats(&column.values, || group.labels(series))?;
            let mut kept = (Vec::new(), Vec::new());
            let (timestamps, values) = without_stale(column.timestamps, values, &mut kept);
            let mut found = Vec::new();
            spans(timestamps, &frame, &mut found);
            let Some((first, end)) = found.first() else {
                continue;
            };
            let seen = *first as usize..*end as usize;
            let (timestamps, values) = (&timestamps[seen.clone()], &values[seen]);
            let points = match selector.extent {
                Some(extent) => {
                    let right = frame.right(0);
                    extended::extend(timestamps, values, right.saturating_sub(window.range_ms), right, extent)
                }
                None => timestamps
                    .iter()
                    .zip(values)
                    .map(|(at, value)| Sample { at: *at, value: *value })
                    .collect(),
            };
            if points.is_empty() {
                continue;
            }
            let count = points.len() as u64;
            cx.recorder.leaf(Key::select(selector), |leaf| leaf.whole(count));
            cx.allows(count)?;
            let labels = group.labels(series);
            held.grow(points.len(), points.len() * 2, labels.heap_bytes())?;
            out.push(RangeSeries { labels, points });
        }
    }
    Ok(out)
}
