//! Functions over range vectors: of stored series and of subqueries.

use super::Cx;
use super::row::{MakeSink, Sink, Who};
use super::selector::{BUFFERS, PARTS, StepCounts, floats, parts, run, select, span_total, without_stale};
use super::stream::{keeps_name, stream};
use crate::annotation::Note;
use crate::error::QueryError;
use crate::functions::math::go_float;
use crate::functions::{Windows, extended, range_function, rate::Extrapolations, rate_unit};
use crate::parser::{Extent, Function, Span as Place};
use crate::plan::{Select, Source, Window};
use crate::record::Key;
use crate::watch::Watch;
use crate::window::{Frame, Grid, Span, spans};
use tidegauge_model::{ColumnBuf, Timestamp, is_stale, reserved::METRIC_NAME};

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
                        counts: StepCounts::new(cx, Key::window(self.window), grid),
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
        run(cx, &parts(&set, grid.len), |part, pieces| {
            let mut sink = make(part);
            let mut buf = ColumnBuf::default();
            let mut own = Vec::new();
            let mut kept = (Vec::new(), Vec::new());
            let mut out = vec![0.0; grid.len];
            let mut counts = StepCounts::new(cx, Key::select(selector), grid);
            let watch = cx.watch();
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
                    counts.read(values.len(), column.dense && !stale);
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
                        watch: &watch,
                    };
                    range_function(self.function, &windows, &self.params, prepared, &mut out)?;
                    counts.windows(found, total);
                    self.warn_quantiles(cx, found);
                    if counts.gave(&out)? {
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
    watch: Watch,
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
            watch: &self.watch,
        };
        range_function(self.call.function, &windows, &self.call.params, prepared, &mut self.out)?;
        self.counts.windows(found, total);
        self.call.warn_quantiles(self.cx, found);
        if self.counts.gave(&self.out)? {
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
