//! Aggregations that choose among series or count their values: `topk`, `bottomk`, `limitk`, `limit_ratio`,
//! `count_values`.

use super::Cx;
use super::aggregate::operand;
use super::subset::{Groups, Subset};
use super::table::{ABSENT, Head, Table, is_absent, is_present};
use crate::annotation::Note;
use crate::error::QueryError;
use crate::functions::label::{is_label_name, with_label};
use crate::functions::math::{go_float, nan_first, plain_float};
use crate::parser::{AggregateOp, Grouping};
use crate::plan::{AggregateNode, Node};
use crate::window::Grid;
use hashbrown::HashMap;
use std::cmp::Ordering;
use tidegauge_model::Labels;
use xxhash_rust::xxh64::xxh64;

/// Evaluates `topk`, `bottomk`, `limitk` or `limit_ratio`: each step keeps some series of each group.
pub(crate) fn rank(
    cx: &Cx<'_>,
    node: &AggregateNode,
    params: &[f64],
    subset: Subset,
    grid: Grid,
) -> Result<Table, QueryError> {
    let mut table = operand(cx, &node.expr, grid)?;
    let greatest = params.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let least = params.iter().copied().fold(f64::INFINITY, f64::min);
    let any_nan = params.iter().any(|p| p.is_nan());
    if node.op == AggregateOp::LimitRatio {
        if params.iter().all(|p| *p == 0.0) {
            return Ok(cx.table(grid.len));
        }
        if any_nan {
            return Err(QueryError::execution("Ratio value is NaN"));
        }
        warn_ratio(cx, node, least, greatest);
        return limit_ratio(table, params);
    }
    if !any_nan && greatest < 1.0 {
        return Ok(cx.table(grid.len));
    }
    if any_nan {
        return Err(QueryError::execution("Parameter value is NaN"));
    }
    if least <= i64::MIN as f64 {
        return Err(QueryError::execution(format!(
            "Scalar value {} underflows int64",
            go_float(least)
        )));
    }
    if greatest >= i64::MAX as f64 {
        return Err(QueryError::execution(format!(
            "Scalar value {} overflows int64",
            go_float(greatest)
        )));
    }
    let mut groups = Groups::new(subset);
    let numbers: Vec<usize> = table.heads.iter().map(|h| groups.number(&h.labels)).collect();
    let order = choose(cx, node.op, &mut table, &numbers, groups.len(), params)?;
    if grid.len == 1 {
        table.reorder(&order);
    } else {
        table.drop_empty();
    }
    Ok(table)
}

fn warn_ratio(cx: &Cx<'_>, node: &AggregateNode, least: f64, greatest: f64) {
    let warn = |given: f64, used: f64| {
        cx.warn(Note::InvalidRatio(go_float(given), go_float(used)), node.param_span);
    };
    if greatest > 1.0 {
        warn(greatest, 1.0);
    }
    if least < -1.0 {
        warn(least, -1.0);
    }
}

/// Keeps what is chosen and gives the rows of the last step in order of rank, group by group.
fn choose(
    cx: &Cx<'_>,
    op: AggregateOp,
    table: &mut Table,
    numbers: &[usize],
    groups: usize,
    params: &[f64],
) -> Result<Vec<usize>, QueryError> {
    let mut order = Vec::new();
    let mut kept: Vec<Best> = (0..groups).map(|_| Best::default()).collect();
    for (step, param) in params.iter().enumerate().take(table.width) {
        cx.check()?;
        let k = (*param as i64).clamp(0, table.len() as i64) as usize;
        kept.iter_mut().for_each(|b| b.0.clear());
        for (row, number) in numbers.iter().enumerate() {
            let cell = &mut table.cells[row * table.width + step];
            if is_absent(*cell) {
                continue;
            }
            if let Some(loser) = kept[*number].offer(op, k, *cell, row) {
                table.cells[loser * table.width + step] = ABSENT;
            }
        }
        if step + 1 == table.width {
            for best in &mut kept {
                best.sort(op);
                order.extend(best.0.iter().map(|(_, row)| *row));
            }
        }
    }
    Ok(order)
}

/// The rows of a group that are chosen so far: a heap whose first is the next to go (`limitk`: a plain list).
#[derive(Debug, Default)]
struct Best(Vec<(f64, usize)>);

/// Whether `a` goes before `b`: NaN first, then the lesser (`topk`) or the greater (`bottomk`), then who came last.
fn goes_first(op: AggregateOp, a: (f64, usize), b: (f64, usize)) -> bool {
    rank_order(op, a, b) == Ordering::Greater
}

/// Best first: NaN is last for both, who came first wins a tie.
fn rank_order(op: AggregateOp, a: (f64, usize), b: (f64, usize)) -> Ordering {
    let by_value = match (a.0.is_nan(), b.0.is_nan()) {
        (false, false) if op == AggregateOp::Bottomk => nan_first(a.0, b.0),
        _ => nan_first(b.0, a.0),
    };
    by_value.then(a.1.cmp(&b.1))
}

impl Best {
    /// Takes a row if it is among the best `k`; gives the row that is not.
    fn offer(&mut self, op: AggregateOp, k: usize, value: f64, row: usize) -> Option<usize> {
        let heap = &mut self.0;
        if heap.len() < k {
            heap.push((value, row));
            if op != AggregateOp::Limitk {
                self.rise(op);
            }
            return None;
        }
        match heap.first().copied() {
            Some(worst) if op != AggregateOp::Limitk && goes_first(op, worst, (value, row)) => {
                heap[0] = (value, row);
                self.sink(op);
                Some(worst.1)
            }
            _ => Some(row),
        }
    }

    fn rise(&mut self, op: AggregateOp) {
        let heap = &mut self.0;
        let mut at = heap.len() - 1;
        while at > 0 {
            let parent = (at - 1) / 2;
            if !goes_first(op, heap[at], heap[parent]) {
                break;
            }
            heap.swap(at, parent);
            at = parent;
        }
    }

    fn sink(&mut self, op: AggregateOp) {
        let heap = &mut self.0;
        let mut at = 0;
        loop {
            let mut first = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < heap.len() && goes_first(op, heap[child], heap[first]) {
                    first = child;
                }
            }
            if first == at {
                return;
            }
            heap.swap(at, first);
            at = first;
        }
    }

    fn sort(&mut self, op: AggregateOp) {
        if op != AggregateOp::Limitk {
            self.0.sort_by(|a, b| rank_order(op, *a, *b));
        }
    }
}

/// Keeps the share of series whose hash says so: the same ones for the same ratio, the others for its complement.
fn limit_ratio(mut table: Table, params: &[f64]) -> Result<Table, QueryError> {
    let mut bytes = Vec::new();
    for row in 0..table.len() {
        let place = upstream_hash(&table.heads[row].labels, &mut bytes) as f64 / u64::MAX as f64;
        for (cell, ratio) in table.row_mut(row).iter_mut().zip(params) {
            let ratio = ratio.clamp(-1.0, 1.0);
            let keep = if ratio >= 0.0 {
                place < ratio
            } else {
                place >= 1.0 + ratio
            };
            if !keep {
                *cell = ABSENT;
            }
        }
    }
    table.drop_empty();
    Ok(table)
}

/// Upstream's hash of a label set: XXH64 over names and values in order, each after its length. With it the same ratio
/// chooses the same series as there.
///
/// # Reference
/// Prometheus `model/labels`, `labels_stringlabels.go` (the default build): a length below 255 is one byte, a longer
/// one 255 and three bytes, the lowest first.
fn upstream_hash(labels: &Labels, bytes: &mut Vec<u8>) -> u64 {
    bytes.clear();
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        match u8::try_from(text.len()) {
            Ok(len) if len < u8::MAX => bytes.push(len),
            _ => {
                bytes.push(u8::MAX);
                bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
            }
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    xxh64(bytes, 0)
}

/// Evaluates `count_values`: how many series of each group have each value.
pub(crate) fn count_values(cx: &Cx<'_>, node: &AggregateNode, grid: Grid) -> Result<Table, QueryError> {
    let name = match &node.param {
        Some(Node::Text(name)) => name.as_str(),
        _ => "",
    };
    if !is_label_name(name) {
        return Err(QueryError::execution(format!("invalid label name {name:?}")));
    }
    let table = operand(cx, &node.expr, grid)?;
    let mut grouping = node.grouping.clone();
    if let Grouping::By(labels) = &mut grouping {
        labels.push(name.to_owned());
    }
    let subset = match &grouping {
        Grouping::By(labels) => Subset::with(labels),
        Grouping::Without(labels) => Subset::without(labels),
    };
    let mut found: HashMap<Labels, usize> = HashMap::new();
    let mut counts: Vec<(Labels, Vec<f64>)> = Vec::new();
    let mut held = cx.held();
    for row in 0..table.len() {
        cx.check()?;
        // Values of a series repeat: the label set of a value is made once.
        let mut of_value: HashMap<u64, usize> = HashMap::new();
        for (step, value) in table.row(row).iter().enumerate() {
            if !is_present(*value) {
                continue;
            }
            let index = match of_value.get(&value.to_bits()) {
                Some(index) => *index,
                None => {
                    let labels = subset.of(&with_label(&table.heads[row].labels, name, &plain_float(*value)));
                    let index = *found.entry(labels.clone()).or_insert(counts.len());
                    if index == counts.len() {
                        held.grow(0, grid.len, labels.heap_bytes())?;
                        counts.push((labels, vec![ABSENT; grid.len]));
                    }
                    of_value.insert(value.to_bits(), index);
                    index
                }
            };
            let cell = &mut counts[index].1[step];
            *cell = if is_absent(*cell) { 1.0 } else { *cell + 1.0 };
        }
    }
    let mut out = cx.table(grid.len);
    for (labels, values) in counts {
        let head = Head {
            labels,
            drop_name: false,
        };
        out.push(head, &values)?;
    }
    Ok(out)
}
