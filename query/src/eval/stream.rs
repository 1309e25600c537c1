//! Rows as they come: from the store through range functions into whatever takes them, without a table between.
//!
//! ```text
//!   select --parts--> part 0: [ group 0: series 0.. ][ group 1 ]  --row--> sink 0 --finish-->
//!                     part 1: [ group 1 ][ group 2 ]              --row--> sink 1 --finish-->   in order of part
//! ```
//!
//! How work is cut into parts depends on the data alone, so the same query on the same data gives the same bits
//! however many threads take part.

use super::call::range_call;
use super::table::{DropNames, Head, is_present, without_metadata};
use super::{Cx, Output, evaluate};
use crate::annotation::Note;
use crate::error::QueryError;
use crate::functions::{Windows, extended, range_function, rate::Extrapolations, rate_unit};
use crate::parser::{Extent, Function, Grouping, Span as Place};
use crate::plan::{Node, Select, Source, Window};
use crate::window::{Frame, Grid, NONE, Span, newest, spans};
use rayon::prelude::*;
use std::cell::OnceCell;
use std::ops::Range;
use tidegauge_model::{
    ColumnBuf, Labels, SelectHints, SeriesGroup, SeriesSet, Timestamp, Values, is_stale, reserved::METRIC_NAME,
};

/// Takes the rows of one part.
pub(crate) trait Sink {
    /// Takes a series' values, of which at least one is there.
    fn row(&mut self, who: &Who<'_>, values: &[f64]) -> Result<(), QueryError>;

    /// Takes the end of the part.
    fn finish(self: Box<Self>) -> Result<(), QueryError>;
}

/// Makes the sink of a part.
pub(crate) type MakeSink<'s> = dyn Fn(usize) -> Box<dyn Sink + 's> + Sync + 's;

/// The series of a row; its labels are made only if somebody asks.
pub(crate) struct Who<'a> {
    origin: Origin<'a>,
    /// The name is taken away.
    cut: bool,
    /// The name is to go at the end.
    pub(crate) drop_name: bool,
    made: OnceCell<Labels>,
}

enum Origin<'a> {
    Stored(&'a dyn SeriesGroup, usize),
    Known(&'a Labels),
    Other(&'a Who<'a>),
}

impl<'a> Who<'a> {
    fn new(origin: Origin<'a>, cut: bool, drop_name: bool) -> Self {
        Self {
            origin,
            cut,
            drop_name,
            made: OnceCell::new(),
        }
    }

    /// A series of the store.
    fn stored(group: &'a dyn SeriesGroup, series: usize) -> Self {
        Self::new(Origin::Stored(group, series), false, false)
    }

    /// A series of a table.
    fn known(head: &'a Head) -> Self {
        Self::new(Origin::Known(&head.labels), false, head.drop_name)
    }

    /// The same series after something that changes what the metric means.
    fn without_name(&'a self, when: DropNames) -> Self {
        match when {
            DropNames::Now => Self::new(Origin::Other(self), true, false),
            DropNames::AtTheEnd => Self::new(Origin::Other(self), false, true),
        }
    }

    /// Its labels.
    pub(crate) fn labels(&self) -> &Labels {
        self.made.get_or_init(|| {
            let labels = match &self.origin {
                Origin::Stored(group, series) => group.labels(*series),
                Origin::Known(labels) => (*labels).clone(),
                Origin::Other(who) => who.labels().clone(),
            };
            if self.cut { without_metadata(&labels) } else { labels }
        })
    }

    /// Its head in a table.
    pub(crate) fn head(&self) -> Head {
        Head {
            labels: self.labels().clone(),
            drop_name: self.drop_name,
        }
    }
}

/// Sends the rows of a node to sinks, in the order of parts and of rows within them.
pub(crate) fn stream(cx: &Cx<'_>, node: &Node, grid: Grid, make: &MakeSink<'_>) -> Result<(), QueryError> {
    if may_make_twins(cx, node) {
        return feed(evaluate(cx, node, grid)?, make);
    }
    rows(cx, node, grid, make)
}

/// As [`stream`], but series that have become one by losing their names come as they are.
pub(crate) fn rows(cx: &Cx<'_>, node: &Node, grid: Grid, make: &MakeSink<'_>) -> Result<(), QueryError> {
    match node {
        Node::Select(select) => instant_rows(cx, select, grid, Take::Value, make),
        Node::Call(call) => match range_call(call) {
            Some((window, index)) => {
                let params = super::call::scalar_args(cx, call, index, grid)?;
                let range = RangeCall {
                    function: call.function,
                    params,
                    window,
                    place: call.arg_spans.first().copied().unwrap_or_default(),
                };
                range.rows(cx, grid, make)
            }
            None => feed(evaluate(cx, node, grid)?, make),
        },
        _ => feed(evaluate(cx, node, grid)?, make),
    }
}

/// Sends the rows of a table to one sink.
fn feed(output: Output, make: &MakeSink<'_>) -> Result<(), QueryError> {
    let mut sink = make(0);
    if let Output::Vector(table) = output {
        for row in 0..table.len() {
            sink.row(&Who::known(&table.heads[row]), table.row(row))?;
        }
    }
    sink.finish()
}

/// Whether series may become one when the node takes their names away.
fn may_make_twins(cx: &Cx<'_>, node: &Node) -> bool {
    if cx.features.delayed_name_removal {
        return false;
    }
    let Node::Call(call) = node else {
        return false;
    };
    match range_call(call) {
        Some((window, _)) => !keeps_name(call.function) && !source_is_one_metric(window),
        None => false,
    }
}

fn source_is_one_metric(window: &Window) -> bool {
    match &window.source {
        Source::Series(select) => select.metric_name().is_some(),
        Source::Subquery { expr, .. } => is_one_metric(expr),
    }
}

/// Whether the series of a node differ in more than their names.
fn is_one_metric(node: &Node) -> bool {
    match node {
        Node::Select(select) => select.metric_name().is_some(),
        Node::Aggregate(aggregate) => match &aggregate.grouping {
            Grouping::By(labels) => !labels.iter().any(|l| l == METRIC_NAME),
            Grouping::Without(_) => true,
        },
        Node::Call(call) => match range_call(call) {
            Some((window, _)) => source_is_one_metric(window),
            None => false,
        },
        Node::Negate(inner) | Node::Once(inner) => is_one_metric(inner),
        Node::Number(_) | Node::Text(_) | Node::Window(_) | Node::Binary(_) => false,
    }
}

/// The functions that act like an offset.
pub(crate) fn keeps_name(function: Function) -> bool {
    matches!(function, Function::LastOverTime | Function::FirstOverTime)
}

/// A stretch of series of one group.
struct Piece {
    group: usize,
    series: Range<usize>,
}

/// How many parts a heavy query is cut into. Each may hold accumulators of its own, so there are few.
const PARTS: usize = 4;
/// From how much work on (samples and steps) it is cut.
const HEAVY: u64 = 150_000;
/// The most series of a group that go together; each piece finds the windows of its timeline anew.
const PIECE: usize = 64;

/// How many values per step a part works with.
const BUFFERS: usize = 4;

/// Cuts the series of a selection into parts of about equal work.
fn parts(set: &SeriesSet, steps: usize) -> Vec<Vec<Piece>> {
    let work = |group: &dyn SeriesGroup| (group.timestamps().len() + steps) as u64;
    let total: u64 = set.iter().map(|g| work(&**g) * g.len() as u64).sum();
    let count = if total < HEAVY { 1 } else { PARTS };
    let share = total / count as u64 + 1;
    let mut parts: Vec<Vec<Piece>> = (0..count).map(|_| Vec::new()).collect();
    let mut done = 0u64;
    for (index, group) in set.iter().enumerate() {
        let mut start = 0;
        while start < group.len() {
            let end = (start + PIECE).min(group.len());
            let part = usize::try_from(done / share).unwrap_or(0).min(count - 1);
            parts[part].push(Piece {
                group: index,
                series: start..end,
            });
            done += work(&**group) * (end - start) as u64;
            start = end;
        }
    }
    parts
}

/// Runs each part, on two threads if there are several, and gives the first error in order of part.
fn run(
    cx: &Cx<'_>,
    parts: &[Vec<Piece>],
    part: impl Fn(usize, &[Piece]) -> Result<(), QueryError> + Sync,
) -> Result<(), QueryError> {
    let run_one = |(index, pieces): (usize, &Vec<Piece>)| part(index, pieces);
    match cx.pool {
        Some(pool) if parts.len() > 1 => {
            let results: Vec<_> = pool.install(|| parts.par_iter().enumerate().map(run_one).collect());
            results.into_iter().collect()
        }
        _ => parts.iter().enumerate().try_for_each(run_one),
    }
}

/// Asks the store for the series of a selector.
pub(crate) fn select(
    cx: &Cx<'_>,
    select: &Select,
    frame: &Frame,
    func: &str,
    window_ms: i64,
) -> Result<SeriesSet, QueryError> {
    cx.check()?;
    let hints = SelectHints {
        range: frame.range(),
        step_ms: if frame.grid.len > 1 { frame.grid.step_ms } else { 0 },
        func: func.to_owned(),
        window_ms,
        labels_only: false,
    };
    let set = cx.querier.select(&select.matchers, &hints, &cx.read)?;
    cx.count_series(set.iter().map(|g| g.len() as u64).sum());
    Ok(set)
}

/// A column's floats.
pub(crate) fn floats<'v>(values: &Values<'v>, labels: impl Fn() -> Labels) -> Result<&'v [f64], QueryError> {
    match values {
        Values::Float(values) => Ok(values),
        Values::Histogram([]) => Ok(&[]),
        Values::Histogram(_) => Err(QueryError::execution(format!(
            "native histograms cannot be evaluated yet, and {} is one",
            labels()
        ))),
    }
}

/// What of the newest sample is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    Value,
    /// Its time in seconds (`timestamp`).
    Time,
}

/// The rows of an instant selector.
pub(crate) fn instant_rows(
    cx: &Cx<'_>,
    selector: &Select,
    grid: Grid,
    take: Take,
    make: &MakeSink<'_>,
) -> Result<(), QueryError> {
    if selector.extent == Some(Extent::Anchored) {
        return Err(QueryError::execution(
            "anchored modifier can only be used with range vectors",
        ));
    }
    let frame = selector.instant_frame(grid, cx.lookback_ms);
    let set = select(cx, selector, &frame, "", 0)?;
    let smoothed = selector.extent == Some(Extent::Smoothed);
    let _room = cx.room(grid, PARTS * BUFFERS)?;
    run(cx, &parts(&set, grid.len), |part, pieces| {
        let mut sink = make(part);
        let mut buf = ColumnBuf::default();
        let (mut shared, mut own) = (Vec::new(), Vec::new());
        let mut row = vec![0.0; grid.len];
        let mut counts = StepCounts::new(cx, grid);
        for piece in pieces {
            let group = &*set[piece.group];
            shared.clear();
            for series in piece.series.clone() {
                cx.check()?;
                let column = group.read(series, &mut buf)?;
                let values = floats(&column.values, || group.labels(series))?;
                if values.is_empty() {
                    continue;
                }
                if smoothed {
                    smoothed_row(column.timestamps, values, &frame, &mut row);
                } else {
                    let found = if column.dense {
                        if shared.is_empty() {
                            newest(column.timestamps, &frame, &mut shared);
                        }
                        &shared
                    } else {
                        newest(column.timestamps, &frame, &mut own);
                        &own
                    };
                    for (cell, index) in row.iter_mut().zip(found) {
                        *cell = if *index == NONE {
                            super::ABSENT
                        } else {
                            values[*index as usize]
                        };
                    }
                    if take == Take::Time {
                        for (cell, index) in row.iter_mut().zip(found) {
                            if is_present(*cell) {
                                *cell = column.timestamps[*index as usize].seconds();
                            }
                        }
                    }
                }
                if counts.present(&row) {
                    sink.row(&Who::stored(group, series), &row)?;
                }
            }
        }
        counts.finish();
        sink.finish()
    })
}

fn smoothed_row(timestamps: &[Timestamp], values: &[f64], frame: &Frame, row: &mut [f64]) {
    let mut kept = (Vec::new(), Vec::new());
    let (timestamps, values) = without_stale(timestamps, values, &mut kept);
    let mut found = Vec::new();
    spans(timestamps, frame, &mut found);
    for (step, (cell, (first, end))) in row.iter_mut().zip(&found).enumerate() {
        let window = *first as usize..*end as usize;
        *cell = extended::smoothed_value(&timestamps[window.clone()], &values[window], frame.right(step));
    }
}

/// The samples that are no stale markers.
pub(crate) fn without_stale<'a>(
    timestamps: &'a [Timestamp],
    values: &'a [f64],
    kept: &'a mut (Vec<Timestamp>, Vec<f64>),
) -> (&'a [Timestamp], &'a [f64]) {
    if !values.iter().any(|v| is_stale(*v)) {
        return (timestamps, values);
    }
    kept.0.clear();
    kept.1.clear();
    for (t, v) in timestamps.iter().zip(values) {
        if !is_stale(*v) {
            kept.0.push(*t);
            kept.1.push(*v);
        }
    }
    (&kept.0, &kept.1)
}

/// Counts the samples that steps look at.
struct StepCounts<'c, 'q> {
    cx: &'c Cx<'q>,
    total: u64,
    by_step: Option<Vec<u64>>,
}

impl<'c, 'q> StepCounts<'c, 'q> {
    fn new(cx: &'c Cx<'q>, grid: Grid) -> Self {
        Self {
            cx,
            total: 0,
            by_step: cx.counts_steps().then(|| vec![0; grid.len]),
        }
    }

    /// Counts the values of a row that are there; whether any is.
    fn present(&mut self, row: &[f64]) -> bool {
        let count = row.iter().filter(|v| is_present(**v)).count() as u64;
        self.total += count;
        if let Some(by_step) = &mut self.by_step {
            for (n, value) in by_step.iter_mut().zip(row) {
                *n += u64::from(is_present(*value));
            }
        }
        count > 0
    }

    /// Counts what windows hold.
    fn windows(&mut self, spans: &[Span], total: u64) {
        self.total += total;
        if let Some(by_step) = &mut self.by_step {
            for (n, (first, end)) in by_step.iter_mut().zip(spans) {
                *n += u64::from(end - first);
            }
        }
    }

    fn finish(self) {
        self.cx.count_samples(self.total);
        if let Some(by_step) = &self.by_step {
            self.cx.count_steps(by_step);
        }
    }
}

fn span_total(spans: &[Span]) -> u64 {
    spans.iter().map(|(first, end)| u64::from(end - first)).sum()
}

/// A function over a range vector, ready to run.
struct RangeCall<'n> {
    function: Function,
    params: Vec<Vec<f64>>,
    window: &'n Window,
    place: Place,
}

impl RangeCall<'_> {
    fn rows(&self, cx: &Cx<'_>, grid: Grid, make: &MakeSink<'_>) -> Result<(), QueryError> {
        let frame = self.window.frame(grid, cx.lookback_ms);
        match &self.window.source {
            Source::Series(selector) => self.stored_rows(cx, selector, &frame, make),
            Source::Subquery { expr, step_ms, .. } => {
                let inner = self.window.inner_grid(grid, *step_ms);
                if inner.len == 0 {
                    return make(0).finish();
                }
                let _room = (cx.room(inner, BUFFERS)?, cx.room(grid, PARTS * BUFFERS)?);
                let timestamps: Vec<Timestamp> = inner.times().map(Timestamp::from_millis).collect();
                let mut shared = Vec::new();
                spans(&timestamps, &frame, &mut shared);
                let shared = Shared {
                    total: span_total(&shared),
                    extrapolations: self.extrapolations(&timestamps, &shared, &frame, None),
                    spans: shared,
                };
                stream(cx, expr, inner, &|part| {
                    Box::new(SubquerySink {
                        call: self,
                        cx,
                        frame: &frame,
                        timestamps: &timestamps,
                        shared: &shared,
                        kept: (Vec::new(), Vec::new()),
                        own: Vec::new(),
                        out: vec![0.0; grid.len],
                        counts: StepCounts::new(cx, grid),
                        names: Names::new(self, cx, None),
                        sink: make(part),
                    })
                })
            }
        }
    }

    fn stored_rows(
        &self,
        cx: &Cx<'_>,
        selector: &Select,
        frame: &Frame,
        make: &MakeSink<'_>,
    ) -> Result<(), QueryError> {
        if let Some(extent) = selector.extent {
            extended::check(self.function, extent)?;
        }
        let grid = frame.grid;
        let name = self.function.signature().name;
        let set = select(cx, selector, frame, name, self.window.range_ms)?;
        let _room = cx.room(grid, PARTS * BUFFERS)?;
        run(cx, &parts(&set, grid.len), |part, pieces| {
            let mut sink = make(part);
            let mut buf = ColumnBuf::default();
            let mut own = Vec::new();
            let mut kept = (Vec::new(), Vec::new());
            let mut out = vec![0.0; grid.len];
            let mut counts = StepCounts::new(cx, grid);
            let mut names = Names::new(self, cx, selector.metric_name());
            for piece in pieces {
                let group = &*set[piece.group];
                let mut shared: Option<Shared> = None;
                for series in piece.series.clone() {
                    cx.check()?;
                    let column = group.read(series, &mut buf)?;
                    let values = floats(&column.values, || group.labels(series))?;
                    if values.is_empty() {
                        continue;
                    }
                    let stale = column.has_stale && values.iter().any(|v| is_stale(*v));
                    let (found, total, prepared, timestamps, values) = if column.dense && !stale {
                        let shared = shared.get_or_insert_with(|| {
                            let mut found = Vec::new();
                            spans(column.timestamps, frame, &mut found);
                            Shared {
                                total: span_total(&found),
                                extrapolations: self.extrapolations(column.timestamps, &found, frame, selector.extent),
                                spans: found,
                            }
                        });
                        (
                            &shared.spans,
                            shared.total,
                            shared.extrapolations.as_ref(),
                            column.timestamps,
                            values,
                        )
                    } else {
                        let (timestamps, values) = without_stale(column.timestamps, values, &mut kept);
                        spans(timestamps, frame, &mut own);
                        (&own, span_total(&own), None, timestamps, values)
                    };
                    let windows = Windows {
                        timestamps,
                        values,
                        spans: found,
                        frame,
                        range_ms: self.window.range_ms,
                        extent: selector.extent,
                    };
                    range_function(self.function, &windows, &self.params, prepared, &mut out)?;
                    counts.windows(found, total);
                    if out.iter().any(|v| is_present(*v)) {
                        let who = Who::stored(group, series);
                        names.look(&who);
                        self.send(cx, &who, &out, &mut *sink)?;
                    }
                }
            }
            counts.finish();
            sink.finish()
        })
    }

    fn extrapolations(
        &self,
        timestamps: &[Timestamp],
        spans: &[Span],
        frame: &Frame,
        extent: Option<Extent>,
    ) -> Option<Extrapolations> {
        use Function as F;
        if extent.is_some() || !matches!(self.function, F::Rate | F::Increase | F::Delta) {
            return None;
        }
        let unit = rate_unit(self.function);
        Some(Extrapolations::new(
            timestamps,
            spans,
            frame,
            self.window.range_ms,
            unit,
        ))
    }

    fn send(&self, cx: &Cx<'_>, who: &Who<'_>, out: &[f64], sink: &mut dyn Sink) -> Result<(), QueryError> {
        if keeps_name(self.function) {
            sink.row(who, out)
        } else {
            sink.row(&who.without_name(cx.drop_names()), out)
        }
    }
}

/// What a timeline's times alone say, for all its dense series.
struct Shared {
    spans: Vec<Span>,
    total: u64,
    extrapolations: Option<Extrapolations>,
}

/// Notes metrics that do not look like counters.
struct Names<'c, 'q> {
    cx: &'c Cx<'q>,
    place: Place,
    watch: bool,
    /// The name if it is the same for all.
    fixed: Option<String>,
    /// Name and type label of the last series that was noted.
    last: Option<(String, String)>,
    seen: bool,
}

impl<'c, 'q> Names<'c, 'q> {
    fn new(call: &RangeCall<'_>, cx: &'c Cx<'q>, fixed: Option<&str>) -> Self {
        let by_type = cx.features.type_and_unit_labels;
        Self {
            cx,
            place: call.place,
            watch: matches!(call.function, Function::Rate | Function::Increase),
            fixed: fixed.filter(|_| !by_type).map(str::to_owned),
            last: None,
            seen: false,
        }
    }

    fn look(&mut self, who: &Who<'_>) {
        if !self.watch || (self.seen && self.fixed.is_some()) {
            return;
        }
        self.seen = true;
        if let Some(name) = &self.fixed {
            self.note(name, "");
            return;
        }
        let labels = who.labels();
        let (name, kind) = (labels.value(METRIC_NAME), labels.value("__type__"));
        if self.last.as_ref().is_some_and(|(n, k)| n == name && k == kind) {
            return;
        }
        self.note(name, kind);
        self.last = Some((name.to_owned(), kind.to_owned()));
    }

    fn note(&self, name: &str, kind: &str) {
        if name.is_empty() {
            return;
        }
        if self.cx.features.type_and_unit_labels {
            if kind != "counter" && kind != "histogram" {
                let note = Note::PossibleNonCounterType(name.to_owned(), kind.to_owned());
                self.cx.info(note, self.place);
            }
        } else if !["_total", "_sum", "_count", "_bucket"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            self.cx.info(Note::PossibleNonCounter(name.to_owned()), self.place);
        }
    }
}

/// Takes the rows of a subquery's expression, sends on those of the function over it.
struct SubquerySink<'c, 'q, 's> {
    call: &'c RangeCall<'c>,
    cx: &'c Cx<'q>,
    frame: &'c Frame,
    timestamps: &'c [Timestamp],
    shared: &'c Shared,
    kept: (Vec<Timestamp>, Vec<f64>),
    own: Vec<Span>,
    out: Vec<f64>,
    counts: StepCounts<'c, 'q>,
    names: Names<'c, 'q>,
    sink: Box<dyn Sink + 's>,
}

impl Sink for SubquerySink<'_, '_, '_> {
    fn row(&mut self, who: &Who<'_>, values: &[f64]) -> Result<(), QueryError> {
        self.cx.check()?;
        // A step without a value looks like a stale marker, and is left out like one.
        let (timestamps, values) = without_stale(self.timestamps, values, &mut self.kept);
        let all = timestamps.len() == self.timestamps.len();
        if !all {
            spans(timestamps, self.frame, &mut self.own);
        }
        let (found, total, prepared) = if all {
            (
                &self.shared.spans,
                self.shared.total,
                self.shared.extrapolations.as_ref(),
            )
        } else {
            (&self.own, span_total(&self.own), None)
        };
        let windows = Windows {
            timestamps,
            values,
            spans: found,
            frame: self.frame,
            range_ms: self.call.window.range_ms,
            extent: None,
        };
        range_function(self.call.function, &windows, &self.call.params, prepared, &mut self.out)?;
        self.counts.windows(found, total);
        if self.out.iter().any(|v| is_present(*v)) {
            self.names.look(who);
            self.call.send(self.cx, who, &self.out, &mut *self.sink)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), QueryError> {
        self.counts.finish();
        self.sink.finish()
    }
}
