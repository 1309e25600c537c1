//! How a query was evaluated: the plan as a tree, with what each part read, gave and took.
//!
//! ```text
//! sum by (job)                       3.1 ms   300 rows in, 4 out, 244 values, 34 KiB held
//! `- rate                            streamed: 300 rows, 18300 values
//!    `- http_requests_total[5m]      300 series on 12 timelines, 600 chunks, 72000 samples read, ...
//! ```
//!
//! A part that is streamed hands each series on as soon as it is made, and its time is part of the time of whatever
//! takes its rows. Nothing here runs unless a query asks for it.

use crate::eval::{bare, range_call};
use crate::parser::{Cardinality, Extent, Grouping, MatchOn, VectorMatching, duration_text, matcher_text};
use crate::plan::{AggregateNode, BinaryNode, CallNode, Node, Plan, Select, Source, Window};
use crate::record::{Key, Leaf, Recorder};
use crate::value::QueryStats;
use crate::window::Grid;
use std::fmt;
use std::time::Duration;
use tidegauge_model::{MatchOp, Matcher, Timestamp, reserved::METRIC_NAME};

/// How a query was evaluated.
#[derive(Debug, Clone)]
pub struct Explain {
    /// The first step.
    pub start: Timestamp,
    /// Milliseconds from one step to the next; 0 if there is one only.
    pub step_ms: i64,
    /// How many steps there are.
    pub steps: u64,
    /// How old a sample an instant selector still takes.
    pub lookback_ms: i64,
    /// What the whole took.
    pub stats: QueryStats,
    /// The outermost part.
    pub root: ExplainPart,
}

/// One part of the plan.
#[derive(Debug, Clone)]
pub struct ExplainPart {
    /// What it does, as PromQL writes it, without what lies below it.
    pub what: String,
    /// At how many steps it was evaluated.
    pub steps: u64,
    /// Whether it is the same at each step, so that it was evaluated at the first only.
    pub once: bool,
    /// Whether its rows went on one by one. `wall` has then what takes the rows in it too.
    pub streamed: bool,
    /// Series (one for a scalar) that the parts below gave.
    pub rows_in: u64,
    /// Series it gave.
    pub rows: u64,
    /// Values it gave, over all steps.
    pub values: u64,
    /// From its beginning to its end, with all below it.
    pub wall: Duration,
    /// Bytes the query held when it was done; nothing is known of streamed parts.
    pub held_bytes: Option<u64>,
    /// What was read, if it reads.
    pub selection: Option<Selection>,
    /// What it is made of.
    pub parts: Vec<ExplainPart>,
}

/// What was read for a selector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Series that match and may have samples.
    pub series: u64,
    /// Lists of timestamps that they share.
    pub timelines: u64,
    /// Encoded runs of values.
    pub chunks: u64,
    /// Samples decoded.
    pub samples: u64,
    /// Samples that steps looked at, one counted for each step that sees it.
    pub seen: u64,
    /// Series for which the windows found once for their timeline hold.
    pub windows_shared: u64,
    /// Series with gaps or stale markers, whose windows were found for them alone.
    pub windows_own: u64,
    /// How long the store took to find the series.
    pub select: Duration,
}

impl Explain {
    pub(crate) fn new(recorder: &Recorder, plan: &Plan, grid: Grid, stats: &QueryStats) -> Self {
        Self {
            start: Timestamp::from_millis(grid.start),
            step_ms: if grid.len > 1 { grid.step_ms } else { 0 },
            steps: grid.len as u64,
            lookback_ms: plan.lookback_ms,
            stats: stats.clone(),
            root: Teller { recorder }.part(&plan.root, grid),
        }
    }
}

/// Turns what is on record into parts.
struct Teller<'r> {
    recorder: &'r Recorder,
}

impl Teller<'_> {
    fn part(&self, node: &Node, grid: Grid) -> ExplainPart {
        if let Node::Once(inner) = node {
            let mut part = self.part(inner, grid.first());
            part.once = true;
            return part;
        }
        let (what, parts) = match node {
            Node::Number(value) => (value.to_string(), Vec::new()),
            Node::Text(text) => (format!("{text:?}"), Vec::new()),
            Node::Select(select) => return self.selector(select, None, Some(node), grid),
            Node::Window(window) => return self.window(window, grid),
            Node::Call(call) => (call.function.signature().name.to_owned(), self.args(call, grid)),
            Node::Aggregate(aggregate) => (aggregate_text(aggregate), self.operands(aggregate, grid)),
            Node::Binary(binary) => (
                binary_text(binary),
                vec![self.part(&binary.lhs, grid), self.part(&binary.rhs, grid)],
            ),
            Node::Negate(inner) | Node::Once(inner) => ("-".to_owned(), vec![self.part(inner, grid)]),
        };
        let leaf = match node {
            Node::Call(call) => range_call(call).map(|(window, _)| self.recorder.leaf_of(Key::of_source(window))),
            _ => None,
        };
        self.finished(what, node, leaf, grid, parts)
    }

    fn args(&self, call: &CallNode, grid: Grid) -> Vec<ExplainPart> {
        let shown = call.args.iter().filter(|arg| !matches!(bare(arg), Node::Text(_)));
        shown.map(|arg| self.part(arg, grid)).collect()
    }

    fn operands(&self, aggregate: &AggregateNode, grid: Grid) -> Vec<ExplainPart> {
        let param = aggregate
            .param
            .iter()
            .filter(|p| !matches!(bare(p), Node::Text(_) | Node::Number(_)));
        let mut parts: Vec<ExplainPart> = param.map(|p| self.part(p, grid)).collect();
        parts.push(self.part(&aggregate.expr, grid));
        parts
    }

    fn window(&self, window: &Window, grid: Grid) -> ExplainPart {
        match &window.source {
            Source::Series(select) => self.selector(select, Some(window.range_ms), None, grid),
            Source::Subquery {
                expr,
                step_ms,
                offset_ms,
                at,
            } => {
                let inner = window.inner_grid(grid, *step_ms);
                let range = format!("[{}:{}]", duration_text(window.range_ms), duration_text(*step_ms));
                let what = format!("subquery {range}{}", when_text(*offset_ms, *at));
                let part = self.part(expr, inner);
                ExplainPart {
                    steps: inner.len as u64,
                    rows_in: part.rows,
                    rows: part.rows,
                    values: part.values,
                    wall: part.wall,
                    streamed: true,
                    parts: vec![part],
                    ..empty(what)
                }
            }
        }
    }

    fn selector(&self, select: &Select, range_ms: Option<i64>, node: Option<&Node>, grid: Grid) -> ExplainPart {
        let leaf = self.recorder.leaf_of(Key::select(select));
        let what = selector_text(select, range_ms);
        let selection = Selection {
            series: leaf.series,
            timelines: leaf.timelines,
            chunks: leaf.chunks,
            samples: leaf.read,
            seen: leaf.seen,
            windows_shared: leaf.windows_shared,
            windows_own: leaf.windows_own,
            select: leaf.select,
        };
        let mut part = match node {
            Some(node) => self.finished(what, node, Some(leaf), grid, Vec::new()),
            None => ExplainPart {
                steps: grid.len as u64,
                rows: leaf.windows_shared + leaf.windows_own,
                values: leaf.read,
                streamed: true,
                wall: leaf.select,
                ..empty(what)
            },
        };
        part.selection = Some(selection);
        part
    }

    /// A part with what is on record of its node, or of the leaf if its rows were streamed.
    fn finished(
        &self,
        what: String,
        node: &Node,
        leaf: Option<Leaf>,
        grid: Grid,
        parts: Vec<ExplainPart>,
    ) -> ExplainPart {
        let done = self.recorder.node_of(Key::node(node));
        let leaf = leaf.unwrap_or_default();
        let mut part = ExplainPart {
            steps: grid.len as u64,
            rows_in: parts.iter().map(|p| p.rows).sum(),
            rows: leaf.rows,
            values: leaf.values,
            wall: leaf.wall,
            streamed: done.as_ref().is_none_or(|done| done.streamed),
            parts,
            ..empty(what)
        };
        if let Some(done) = done {
            part.rows = done.rows;
            part.values = done.values;
            part.wall = done.wall;
            part.held_bytes = (!done.streamed).then_some(done.held_bytes);
        }
        part
    }
}

fn empty(what: String) -> ExplainPart {
    ExplainPart {
        what,
        steps: 0,
        once: false,
        streamed: false,
        rows_in: 0,
        rows: 0,
        values: 0,
        wall: Duration::ZERO,
        held_bytes: None,
        selection: None,
        parts: Vec::new(),
    }
}

fn selector_text(select: &Select, range_ms: Option<i64>) -> String {
    let name = select.metric_name().unwrap_or("");
    let is_name = |m: &&Matcher| m.name() == METRIC_NAME && m.op() == MatchOp::Equal && m.value() == name;
    let others: Vec<String> = select
        .matchers
        .iter()
        .filter(|m| !is_name(m))
        .map(matcher_text)
        .collect();
    let mut text = name.to_owned();
    if !others.is_empty() || name.is_empty() {
        text.push_str(&format!("{{{}}}", others.join(",")));
    }
    if let Some(range_ms) = range_ms {
        text.push_str(&format!("[{}]", duration_text(range_ms)));
    }
    match select.extent {
        Some(Extent::Anchored) => text.push_str(" anchored"),
        Some(Extent::Smoothed) => text.push_str(" smoothed"),
        None => {}
    }
    text + &when_text(select.offset_ms, select.at)
}

/// ` @ 12.5 offset 5m`
fn when_text(offset_ms: i64, at: Option<i64>) -> String {
    let mut text = String::new();
    if let Some(at) = at {
        text.push_str(&format!(" @ {}", Timestamp::from_millis(at).seconds()));
    }
    if offset_ms != 0 {
        text.push_str(&format!(" offset {}", duration_text(offset_ms)));
    }
    text
}

fn aggregate_text(aggregate: &AggregateNode) -> String {
    let param = match aggregate.param.as_ref().map(bare) {
        Some(Node::Number(value)) => format!(" ({value})"),
        Some(Node::Text(text)) => format!(" ({text:?})"),
        _ => String::new(),
    };
    let grouping = match &aggregate.grouping {
        Grouping::By(labels) if labels.is_empty() => String::new(),
        Grouping::By(labels) => format!(" by ({})", labels.join(", ")),
        Grouping::Without(labels) => format!(" without ({})", labels.join(", ")),
    };
    format!("{}{param}{grouping}", aggregate.op.as_str())
}

fn binary_text(binary: &BinaryNode) -> String {
    let mut text = binary.op.as_str().to_owned();
    if binary.return_bool {
        text.push_str(" bool");
    }
    if let Some(matching) = &binary.matching {
        text.push_str(&matching_text(matching));
    }
    text
}

fn matching_text(matching: &VectorMatching) -> String {
    let labels = matching.labels.join(", ");
    let mut text = match matching.match_on {
        MatchOn::On => format!(" on ({labels})"),
        MatchOn::Ignoring if labels.is_empty() => String::new(),
        MatchOn::Ignoring => format!(" ignoring ({labels})"),
    };
    let include = matching.include.join(", ");
    match matching.cardinality {
        Cardinality::ManyToOne => text.push_str(&format!(" group_left ({include})")),
        Cardinality::OneToMany => text.push_str(&format!(" group_right ({include})")),
        Cardinality::OneToOne | Cardinality::ManyToMany => {}
    }
    text
}

impl fmt::Display for Explain {
    /// The whole for a terminal, a line for each part.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = &self.stats;
        write!(f, "steps    {}, first at {}", self.steps, self.start.seconds())?;
        if self.step_ms > 0 {
            write!(f, ", one every {}", duration_text(self.step_ms))?;
        }
        writeln!(f, ", lookback {}", duration_text(self.lookback_ms))?;
        writeln!(
            f,
            "time     {} queue, {} prepare, {} eval, {} sort",
            Span(stats.queue),
            Span(stats.prepare),
            Span(stats.eval),
            Span(stats.sort)
        )?;
        writeln!(
            f,
            "samples  {} seen by steps, {} at most as --query.max-samples counts",
            stats.samples, stats.peak_samples
        )?;
        writeln!(f, "memory   {} at most", Bytes(stats.peak_bytes))?;
        writeln!(f)?;
        let mut lines = Vec::new();
        self.root.lines("", "", &mut lines);
        let width = lines
            .iter()
            .map(|(left, _)| left.chars().count())
            .max()
            .unwrap_or(0)
            .min(70);
        for (left, right) in &lines {
            let fill = width.saturating_sub(left.chars().count());
            writeln!(f, "{left}{:fill$}  {right}", "")?;
        }
        Ok(())
    }
}

impl ExplainPart {
    /// Left and right half of the lines of this part and all below it.
    fn lines(&self, first: &str, rest: &str, out: &mut Vec<(String, String)>) {
        out.push((format!("{first}{}", self.what), self.facts()));
        if let Some(selection) = &self.selection {
            out.push((rest.to_owned(), selection.facts()));
        }
        for (index, part) in self.parts.iter().enumerate() {
            let last = index + 1 == self.parts.len();
            let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            part.lines(&format!("{rest}{branch}"), &format!("{rest}{below}"), out);
        }
    }

    fn facts(&self) -> String {
        let mut text = if self.streamed {
            "streamed".to_owned()
        } else {
            Span(self.wall).to_string()
        };
        if self.once {
            text.push_str(", once for all steps");
        }
        if self.parts.is_empty() {
            text.push_str(&format!(", {}", Count(self.rows, "row")));
        } else {
            text.push_str(&format!(", {} in, {} out", Count(self.rows_in, "row"), self.rows));
        }
        text.push_str(&format!(", {}", Count(self.values, "value")));
        if let Some(held) = self.held_bytes {
            text.push_str(&format!(", {} held", Bytes(held)));
        }
        text
    }
}

impl Selection {
    fn facts(&self) -> String {
        let mut text = format!(
            "{} series on {}, {}, {}, found in {}",
            self.series,
            Count(self.timelines, "timeline"),
            Count(self.chunks, "chunk"),
            Count(self.samples, "sample"),
            Span(self.select)
        );
        text.push_str(&match (self.windows_shared, self.windows_own) {
            (_, 0) => "; windows shared".to_owned(),
            (0, _) => "; windows of each series".to_owned(),
            (shared, own) => format!("; windows shared by {shared}, own for {own}"),
        });
        text
    }
}

/// So many of something.
struct Count(u64, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// A length of time for people.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds >= 1.0 {
            write!(f, "{seconds:.2} s")
        } else if seconds >= 1e-3 {
            write!(f, "{:.2} ms", seconds * 1e3)
        } else {
            write!(f, "{:.0} us", seconds * 1e6)
        }
    }
}

/// An amount of memory for people.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..1024 => write!(f, "{} B", self.0),
            1024..1_048_576 => write!(f, "{:.1} KiB", bytes / 1024.0),
            _ => write!(f, "{:.1} MiB", bytes / 1_048_576.0),
        }
    }
}
