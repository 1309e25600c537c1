//! Functions over range vectors: of stored series and of subqueries.

use super::Cx;
use super::row::{MakeSink, Row, Sink, Who};
use super::selector::{
    BUFFERS, PARTS, StepCounts, check_now_and_then, floats, parts, read, run, select, wants_steps, without_stale,
};
use super::stream::{keeps_name, stream};
use crate::annotation::Note;
use crate::error::QueryError;
use crate::functions::math::go_float;
use crate::functions::{Prepared, Windows, extended, fewest_samples, range_function};
use crate::parser::{Extent, Function, Span as Place};
use crate::plan::{Select, Source, Window};
use crate::record::Key;
use crate::watch::Watch;
use crate::window::{Frame, Grid, Span, Windowing};
use tidegauge_model::{ColumnBuf, Presence, Timestamp, is_stale, reserved::METRIC_NAME};

/// A function over a range vector, ready to run.
pub(crate) struct RangeCall<'n> {
    pub(crate) function: Function,
    /// Its scalar arguments by step.
    pub(crate) params: Vec<Vec<f64>>,
    pub(crate) window: &'n Window,
    pub(crate) place: Place,
}

impl RangeCall<'_> {
    pub(crate) fn rows(&self, cx: &Cx<'_>, grid: Grid, make: &MakeSink<'_>) -> Result<(), QueryError> {
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
                let mut shared = Shared::default();
                shared.find(self, &timestamps, &frame, None, &cx.watch());
                stream(cx, expr, inner, &|part| {
                    Box::new(SubquerySink {
                        call: self,
                        cx,
                        frame: &frame,
                        timestamps: &timestamps,
                        shared: &shared,
                        kept: (Vec::new(), Vec::new()),
                        own: Shared::default(),
                        out: vec![0.0; grid.len],
                        counts: StepCounts::new(cx, Key::window(self.window), grid, cx.recorder.by_step()),
                        names: Names::new(self, cx, None),
                        watch: cx.watch(),
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
        let by_step = wants_steps(cx, &set, grid);
        run(cx, &parts(&set, grid.len), |part, pieces| {
            let mut sink = make(part);
            let mut buf = ColumnBuf::default();
            let (mut shared, mut own) = (Shared::default(), Shared::default());
            let mut shared_of = None;
            let mut kept = (Vec::new(), Vec::new());
            // In place of values that nobody looks at.
            let mut ones = Vec::new();
            let mut out = vec![0.0; grid.len];
            let mut counts = StepCounts::new(cx, Key::select(selector), grid, by_step);
            let watch = cx.watch();
            let mut names = Names::new(self, cx, selector.metric_name());
            for piece in pieces {
                let group = &*set[piece.group];
                if selector.presence_only {
                    ones.resize(group.timestamps().len(), 1.0);
                }
                for series in piece.series.clone() {
                    check_now_and_then(cx, piece, series)?;
                    let (mut times, mut values, mut dense) = (group.timestamps(), ones.as_slice(), true);
                    let mut decoded = 0;
                    if let Presence::Column(column) = read(selector, group, series, &mut buf)? {
                        (times, dense) = (column.timestamps, column.dense);
                        values = floats(&column.values, || group.labels(series))?;
                        if values.is_empty() {
                            continue;
                        }
                        decoded = values.len();
                        dense &= !(column.has_stale && values.iter().any(|v| is_stale(*v)));
                    }
                    counts.read(decoded, dense);
                    let (found, timestamps, values) = if dense {
                        if shared_of != Some(piece.group) {
                            shared.find(self, times, frame, selector.extent, &watch);
                            shared_of = Some(piece.group);
                        }
                        (&shared, times, values)
                    } else {
                        let (timestamps, values) = without_stale(times, values, &mut kept);
                        own.find(self, timestamps, frame, selector.extent, &watch);
                        (&own, timestamps, values)
                    };
                    let windows = Windows {
                        timestamps,
                        values,
                        spans: &found.windowing.spans,
                        frame,
                        range_ms: self.window.range_ms,
                        extent: selector.extent,
                        watch: &watch,
                    };
                    range_function(self.function, &windows, &self.params, &found.prepared, &mut out)?;
                    counts.windows(&found.windowing);
                    self.warn_quantiles(cx, &found.windowing.spans);
                    let row = found.row(&out);
                    if counts.gave(row)? {
                        let who = Who::stored(group, series);
                        names.look(&who);
                        self.send(cx, &who, row, &mut *sink)?;
                    }
                }
            }
            counts.finish();
            sink.finish()
        })
    }

    /// Warns of the quantiles outside 0 to 1 at the steps that see samples.
    fn warn_quantiles(&self, cx: &Cx<'_>, windows: &[Span]) {
        if self.function != Function::QuantileOverTime {
            return;
        }
        let Some(quantiles) = self.params.first() else { return };
        for (q, (first, end)) in quantiles.iter().zip(windows) {
            if first < end && !(0.0..=1.0).contains(q) {
                cx.warn(Note::InvalidQuantile(go_float(*q)), self.place);
            }
        }
    }

    fn send(&self, cx: &Cx<'_>, who: &Who<'_>, row: Row<'_>, sink: &mut dyn Sink) -> Result<(), QueryError> {
        if keeps_name(self.function) {
            sink.row(who, row)
        } else {
            sink.row(&who.without_name(cx.drop_names()), row)
        }
    }
}

/// What times alone say: those of a timeline for all its dense series.
#[derive(Debug, Default)]
struct Shared {
    windowing: Windowing,
    prepared: Prepared,
    /// The function has a value at each step, whatever the samples are.
    full: bool,
}

impl Shared {
    fn find(
        &mut self,
        call: &RangeCall<'_>,
        timestamps: &[Timestamp],
        frame: &Frame,
        extent: Option<Extent>,
        watch: &Watch,
    ) {
        self.windowing.find(timestamps, frame);
        let windows = Windows {
            timestamps,
            values: &[],
            spans: &self.windowing.spans,
            frame,
            range_ms: call.window.range_ms,
            extent,
            watch,
        };
        self.prepared = Prepared::new(call.function, &windows);
        self.full = extent.is_none() && self.windowing.least >= fewest_samples(call.function);
    }

    /// What the function made of a column.
    fn row<'o>(&self, values: &'o [f64]) -> Row<'o> {
        Row {
            values,
            full: self.full,
        }
    }
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
    own: Shared,
    out: Vec<f64>,
    counts: StepCounts<'c, 'q>,
    names: Names<'c, 'q>,
    watch: Watch,
    sink: Box<dyn Sink + 's>,
}

impl Sink for SubquerySink<'_, '_, '_> {
    fn row(&mut self, who: &Who<'_>, row: Row<'_>) -> Result<(), QueryError> {
        self.cx.check()?;
        // A step without a value looks like a stale marker, and is left out like one.
        let (timestamps, values) = if row.full {
            (self.timestamps, row.values)
        } else {
            without_stale(self.timestamps, row.values, &mut self.kept)
        };
        let found = if timestamps.len() == self.timestamps.len() {
            self.shared
        } else {
            self.own.find(self.call, timestamps, self.frame, None, &self.watch);
            &self.own
        };
        let windows = Windows {
            timestamps,
            values,
            spans: &found.windowing.spans,
            frame: self.frame,
            range_ms: self.call.window.range_ms,
            extent: None,
            watch: &self.watch,
        };
        range_function(
            self.call.function,
            &windows,
            &self.call.params,
            &found.prepared,
            &mut self.out,
        )?;
        self.counts.windows(&found.windowing);
        self.call.warn_quantiles(self.cx, &found.windowing.spans);
        let row = found.row(&self.out);
        if self.counts.gave(row)? {
            self.names.look(who);
            self.call.send(self.cx, who, row, &mut *self.sink)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), QueryError> {
        self.counts.finish();
        self.sink.finish()
    }
}
