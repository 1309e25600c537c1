//! What upstream would count for a plan: samples that steps look at, and the most samples held at a time.
//!
//! Upstream holds whole matrices and we do not, but its counts are a contract: `--query.max-samples` is set by them, and
//! `stats` shows them. They follow from what each part gave ([`Recorder`]), whatever order or threads it came by.
//!
//! # Reference
//! Prometheus 3.5 `promql/engine.go`: `currentSamples` of the evaluator, `rangeEval`, `gatherVector`, `evalSubquery`.

use crate::eval::{bare, range_call};
use crate::parser::{AggregateOp, Function};
use crate::plan::{CallNode, Node, Source, Window};
use crate::record::{Done, Key, Leaf, Load, Recorder};
use crate::window::Grid;

/// What a part holds when it is done, and held at most, counted from its own beginning.
pub(crate) fn load(recorder: &Recorder, node: &Node, grid: Grid) -> Load {
    match recorder.with_node(Key::node(node), |done| done.map(|d| d.load)) {
        Some(load) => load,
        None => load_of(recorder, node, grid, None),
    }
}

/// As [`load`], for a node that is not on record yet, with what it gave.
pub(crate) fn load_of(recorder: &Recorder, node: &Node, grid: Grid, gave: Option<&Done>) -> Load {
    let same = |held: u64| Load { held, peak: held };
    match node {
        Node::Text(_) => Load::default(),
        Node::Number(_) => same(grid.len as u64),
        Node::Select(select) => same(recorder.leaf_of(Key::select(select)).values),
        Node::Window(window) => match &window.source {
            Source::Series(select) => same(recorder.leaf_of(Key::select(select)).values),
            Source::Subquery { expr, step_ms, .. } => load(recorder, expr, window.inner_grid(grid, *step_ms)),
        },
        Node::Negate(inner) => load(recorder, inner, grid),
        Node::Once(inner) => once(recorder, inner, grid),
        Node::Aggregate(aggregate) if aggregate.op == AggregateOp::CountValues => {
            stepwise(recorder, &[&aggregate.expr], grid, gave)
        }
        Node::Aggregate(aggregate) => {
            let mut sum = Sum::default();
            sum.add(
                aggregate
                    .param
                    .as_ref()
                    .map_or(Load::default(), |p| load(recorder, p, grid)),
            );
            sum.add(load(recorder, &aggregate.expr, grid));
            let held = gave.map_or(sum.held, |g| g.values);
            Load {
                held,
                peak: sum.peak.max(held),
            }
        }
        Node::Binary(binary) => stepwise(recorder, &[&binary.lhs, &binary.rhs], grid, gave),
        Node::Call(call) => match range_call(call) {
            Some((window, index)) => over_range(recorder, call, window, index, grid),
            None => match (call.function, call.args.first().map(bare)) {
                (Function::LabelReplace | Function::LabelJoin, _) => call
                    .args
                    .first()
                    .map_or(Load::default(), |arg| load(recorder, arg, grid)),
                // It looks at the selector itself, step by step.
                (Function::Timestamp, Some(Node::Select(_))) => gave.map_or(Load::default(), |g| Load {
                    held: g.values,
                    peak: g.values + g.by_step.as_ref().map_or(g.rows, |s| s.last().copied().unwrap_or(0)),
                }),
                _ => {
                    let args: Vec<&Node> = call.args.iter().collect();
                    stepwise(recorder, &args, grid, gave)
                }
            },
        },
    }
}

/// Parts that are evaluated one after the other, each beside what the ones before it left.
#[derive(Debug, Default)]
struct Sum {
    held: u64,
    peak: u64,
}

impl Sum {
    fn add(&mut self, load: Load) {
        self.peak = self.peak.max(self.held + load.peak);
        self.held += load.held;
    }
}

/// What is the same at each step is evaluated once, then repeated.
fn once(recorder: &Recorder, inner: &Node, grid: Grid) -> Load {
    let first = load(recorder, inner, grid.first());
    let values = recorder.with_node(Key::node(inner), |done| done.map_or(first.held, |d| d.values));
    let held = first.held + values * (grid.len as u64).saturating_sub(1);
    Load {
        held,
        peak: first.peak.max(held),
    }
}

/// A function over windows: its arguments, then series by series the values and the window they come from.
fn over_range(recorder: &Recorder, call: &CallNode, window: &Window, index: usize, grid: Grid) -> Load {
    let mut sum = Sum::default();
    let (leaf, inner) = match &window.source {
        Source::Series(select) => (recorder.leaf_of(Key::select(select)), 0),
        Source::Subquery { expr, step_ms, .. } => {
            let inner = load(recorder, expr, window.inner_grid(grid, *step_ms));
            sum.add(inner);
            (recorder.leaf_of(Key::window(window)), inner.held)
        }
    };
    for (at, arg) in call.args.iter().enumerate() {
        if at != index {
            sum.add(load(recorder, arg, grid));
        }
    }
    sum.add(Load {
        held: leaf.values,
        peak: leaf.values + leaf.last_window,
    });
    Load {
        held: sum.held.saturating_sub(inner),
        peak: sum.peak,
    }
}

/// What is computed step by step: all arguments are held, at each step those of the step again, and the results so far.
fn stepwise(recorder: &Recorder, args: &[&Node], grid: Grid, gave: Option<&Done>) -> Load {
    let mut sum = Sum::default();
    let mut gathered = Gathered {
        most: 0,
        each: gave.and_then(|g| g.by_step.as_ref()).map(|steps| vec![0; steps.len()]),
    };
    for arg in args {
        if matches!(bare(arg), Node::Text(_)) {
            continue;
        }
        sum.add(load(recorder, arg, grid));
        gathered.add(recorder, arg);
    }
    let values = gave.map_or(0, |g| g.values);
    let at_a_step = match (&gathered.each, gave.and_then(|g| g.by_step.as_ref())) {
        (Some(each), Some(results)) => {
            let mut so_far = 0;
            let steps = each.iter().zip(results).map(|(gathered, result)| {
                so_far += result;
                so_far + gathered
            });
            steps.max().unwrap_or(0)
        }
        _ => values + gathered.most,
    };
    Load {
        held: values,
        peak: sum.peak.max(sum.held + at_a_step),
    }
}

/// Values of all arguments at one step.
struct Gathered {
    /// At most.
    most: u64,
    /// At each step, as long as all arguments were counted by step.
    each: Option<Vec<u64>>,
}

impl Gathered {
    fn add(&mut self, recorder: &Recorder, arg: &Node) {
        let (inner, repeated) = match arg {
            Node::Once(inner) => (&**inner, true),
            other => (other, false),
        };
        let kept = recorder.with_node(Key::node(inner), |done| {
            done.map(|d| self.add_values(d.rows, d.values, d.by_step.as_deref(), repeated))
        });
        if kept.is_some() {
            return;
        }
        // Its rows were handed on as they came.
        let leaf = match inner {
            Node::Select(select) => recorder.leaf_of(Key::select(select)),
            Node::Call(call) => {
                range_call(call).map_or_else(Leaf::default, |(window, _)| recorder.leaf_of(Key::of_source(window)))
            }
            _ => Leaf::default(),
        };
        self.add_values(leaf.rows, leaf.values, leaf.values_by_step.as_deref(), repeated);
    }

    fn add_values(&mut self, rows: u64, values: u64, by_step: Option<&[u64]>, repeated: bool) {
        self.most += rows;
        match (&mut self.each, by_step) {
            (Some(each), Some(_)) if repeated => each.iter_mut().for_each(|n| *n += values),
            (Some(each), Some(more)) if more.len() == each.len() => {
                each.iter_mut().zip(more).for_each(|(n, more)| *n += more);
            }
            _ => self.each = None,
        }
    }
}

/// Samples that steps look at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) total: u64,
    pub(crate) by_step: Option<Vec<u64>>,
}

impl Seen {
    fn nothing(grid: Grid, by_step: bool) -> Self {
        Self {
            total: 0,
            by_step: by_step.then(|| vec![0; grid.len]),
        }
    }

    fn add(&mut self, other: Self) {
        self.total += other.total;
        if let (Some(mine), Some(theirs)) = (&mut self.by_step, other.by_step) {
            mine.iter_mut().zip(theirs).for_each(|(n, more)| *n += more);
        }
    }
}

/// The samples that the steps of a node look at. Those read for a subquery do not count, but what the subquery makes
/// of them does.
pub(crate) fn seen(recorder: &Recorder, node: &Node, grid: Grid) -> Seen {
    let mut sum = Seen::nothing(grid, recorder.by_step());
    let leaf = |key: Key| {
        let leaf = recorder.leaf_of(key);
        Seen {
            total: leaf.seen,
            by_step: leaf.seen_by_step,
        }
    };
    match node {
        Node::Number(_) | Node::Text(_) => {}
        Node::Select(select) => sum.add(leaf(Key::select(select))),
        Node::Window(window) => match &window.source {
            Source::Series(select) => sum.add(leaf(Key::select(select))),
            Source::Subquery { expr, step_ms, .. } => {
                sum.total = seen(recorder, expr, window.inner_grid(grid, *step_ms)).total;
                if let Some(last) = sum.by_step.as_mut().and_then(|s| s.last_mut()) {
                    *last = sum.total;
                }
            }
        },
        Node::Negate(inner) => sum.add(seen(recorder, inner, grid)),
        Node::Once(inner) => {
            let once = seen(recorder, inner, grid.first()).total;
            sum.total = once * grid.len as u64;
            if let Some(steps) = &mut sum.by_step {
                steps.fill(once);
            }
        }
        Node::Aggregate(aggregate) => {
            if let Some(param) = &aggregate.param {
                sum.add(seen(recorder, param, grid));
            }
            sum.add(seen(recorder, &aggregate.expr, grid));
        }
        Node::Binary(binary) => {
            sum.add(seen(recorder, &binary.lhs, grid));
            sum.add(seen(recorder, &binary.rhs, grid));
        }
        Node::Call(call) => {
            let window = range_call(call);
            for (index, arg) in call.args.iter().enumerate() {
                match window {
                    Some((window, at)) if at == index => sum.add(match &window.source {
                        Source::Series(select) => leaf(Key::select(select)),
                        Source::Subquery { .. } => leaf(Key::window(window)),
                    }),
                    _ => sum.add(seen(recorder, arg, grid)),
                }
            }
        }
    }
    sum
}
