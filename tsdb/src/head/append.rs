//! The door in: collects the samples of one commit, then plans, logs and publishes it.

use super::exemplar::{Exemplars, PendingExemplar};
use super::publish::apply;
use super::replay::Replay;
use super::seal::must_seal;
use super::stage::{Bounds, Loose, Plan, Stage};
use super::stage_histogram::PendingHistogram;
use super::{State, symbols};
use crate::column::{Encoder, EncodingChoice, MAX_BUCKETS, histogram_weight};
use crate::db::Db;
use crate::select::Views;
use crate::timeline::{Logged, NONE};
use crate::wal::record;
use crate::wal::writer::{Wal, WriteError, cause};
use crate::{EARLIEST_MS, Metrics, Options};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tidegauge_model::{
    AppendError, Appender, CommitError, Committed, Exemplar, Histogram, Labels, MAX_EXEMPLAR_CHARS, OnReject,
    RejectReason, SeriesRef, TimelineRef, Timestamp,
};

/// The recent window, and the rules for what may enter it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) state: RwLock<State>,
    pub(crate) views: Views,
    pub(crate) exemplars: RwLock<Exemplars>,
    /// Bytes the meter holds for the head.
    pub(super) accounted: AtomicU64,
    /// Bytes that are not in the state and that the meter pays for with it: tombstones of blocks.
    pub(crate) beside: AtomicU64,
    pub(crate) options: Options,
    /// How far behind the newest row a late sample may be; may change at any time.
    pub(crate) out_of_order_ms: AtomicI64,
    pub(crate) metrics: Arc<Metrics>,
    pub(super) replay: Replay,
}

/// The log and what only its holder uses.
#[derive(Debug)]
pub(crate) struct Log {
    /// `None` once the store is closed.
    pub(crate) wal: Option<Wal>,
    pub(crate) encoder: Encoder,
    record: Vec<u8>,
}

impl Log {
    pub(crate) fn new(wal: Wal, encoding: EncodingChoice) -> Self {
        Self {
            wal: Some(wal),
            encoder: Encoder::new(encoding),
            record: Vec::new(),
        }
    }
}

impl Head {
    pub(crate) fn new(options: Options, metrics: Arc<Metrics>) -> Self {
        Self {
            state: RwLock::default(),
            views: Views::default(),
            exemplars: RwLock::new(Exemplars::new(options.max_exemplars)),
            accounted: AtomicU64::new(0),
            beside: AtomicU64::new(0),
            replay: Replay::new(options.encoding),
            out_of_order_ms: AtomicI64::new(options.out_of_order_ms),
            options,
            metrics,
        }
    }

    /// Brings what the meter holds to what the head takes.
    pub(crate) fn account(&self) {
        let (state_bytes, index) = {
            let state = self.state.read();
            (state.heap_bytes(), Arc::clone(&state.index))
        };
        let bytes = (state_bytes + index.read().heap_bytes()) as u64 + self.beside.load(Ordering::Relaxed);
        let held = self.accounted.load(Ordering::Relaxed);
        if bytes > held {
            // Refused: existing series go on, and new ones will be refused by the same meter.
            if self.options.head.take(bytes - held).is_ok() {
                self.accounted.fetch_add(bytes - held, Ordering::Relaxed);
            }
        } else if held > bytes {
            self.options.head.give_back(held - bytes);
            self.accounted.fetch_sub(held - bytes, Ordering::Relaxed);
        }
        Metrics::set(&self.metrics.head_bytes, bytes);
    }
}

#[derive(Debug)]
struct PendingRow {
    timeline: u32,
    at: i64,
    start: usize,
    end: usize,
    ordinal: u64,
}

/// The samples of one commit.
#[derive(Debug)]
pub(crate) struct HeadAppender<'a> {
    db: &'a Db,
    /// Columns it has seen are not let go while it lives.
    _epoch: Arc<()>,
    rows: Vec<PendingRow>,
    values: Vec<(SeriesRef, f64)>,
    loose: Vec<Loose>,
    histograms: Vec<PendingHistogram>,
    exemplars: Vec<PendingExemplar>,
    ordinal: u64,
}

impl<'a> HeadAppender<'a> {
    pub(crate) fn new(db: &'a Db) -> Self {
        Self {
            db,
            _epoch: db.appenders.current(),
            rows: Vec::new(),
            values: Vec::new(),
            loose: Vec::new(),
            histograms: Vec::new(),
            exemplars: Vec::new(),
            ordinal: 0,
        }
    }

    /// Seals what must be closed before these samples come.
    fn seal_first(&self, log: &mut Log) {
        let block_ms = self.db.head.options.block_ms;
        let mut due: Vec<u32> = Vec::new();
        let mut histograms: Vec<u32> = Vec::new();
        {
            let state = self.db.head.state.read();
            due.extend(
                self.rows
                    .iter()
                    .filter(|r| must_seal(&state, r.timeline, r.at, block_ms))
                    .map(|r| r.timeline),
            );
            let mut before = (NONE, i64::MIN);
            for sample in &self.loose {
                let timeline = state.column(sample.series.bits() as u32).map_or(NONE, |c| c.timeline);
                if (timeline, sample.at) != before && must_seal(&state, timeline, sample.at, block_ms) {
                    due.push(timeline);
                }
                before = (timeline, sample.at);
            }
            for one in &self.histograms {
                let column = state.column(one.series.bits() as u32);
                let weight = histogram_weight(&one.histogram);
                let series = column.map(|c| c.series);
                histograms.extend(series.filter(|s| state.histograms.must_seal(*s, one.at, weight, block_ms)));
            }
        }
        due.sort_unstable();
        due.dedup();
        for timeline in due {
            self.db.head.seal(timeline, log);
        }
        histograms.sort_unstable();
        histograms.dedup();
        for series in histograms {
            self.db.head.seal_histograms(series, log);
        }
    }

    fn plan(
        &mut self,
        on_reject: OnReject,
        bounds: Bounds,
        log: &mut Log,
    ) -> Result<(Plan, Vec<(u32, Logged)>), CommitError> {
        let state = self.db.head.state.read();
        let mut stage = Stage::new(&state, bounds, on_reject == OnReject::Fail);
        for row in &self.rows {
            let values = self.values.get(row.start..row.end).unwrap_or_default();
            stage
                .row(row.timeline, row.at, values, row.ordinal)
                .map_err(CommitError::Rejected)?;
        }
        stage.loose(&mut self.loose).map_err(CommitError::Rejected)?;
        stage.histograms(&self.histograms).map_err(CommitError::Rejected)?;
        let mut plan = stage.finish();
        let index = state.index.read();
        if !self.exemplars.is_empty() {
            let labels_of = |column: u32| state.column(column).map(|c| index.labels(c.series));
            let ring = self.db.head.exemplars.read();
            let exemplars = ring.plan(&self.exemplars, labels_of, &self.db.head.options.head);
            plan.exemplars = exemplars.stored;
            plan.done.exemplars = exemplars.counts;
            plan.done.late_exemplars = exemplars.late;
        }
        log.record.clear();
        let logged = match &mut log.wal {
            Some(wal) => {
                let logged = record::encode(&plan, &state, &index, &mut wal.book, &mut log.record);
                let mut more = record::Entries::new(&state, &index, &mut wal.book, &mut log.record);
                plan.histograms_logged = more.histograms(&plan.histograms);
                more.exemplars(&plan.exemplars);
                logged
            }
            None => Vec::new(),
        };
        Ok((plan, logged))
    }

    fn run(mut self, on_reject: OnReject) -> Result<Committed, CommitError> {
        let head = &self.db.head;
        let mut guard = self.db.log.lock();
        let log = &mut *guard;
        match &mut log.wal {
            Some(wal) => wal.prepare().map_err(refused)?,
            None => return Err(CommitError::Closed("the store is closed".into())),
        }
        self.seal_first(log);
        let bounds = self.bounds();
        let (mut plan, logged) = self.plan(on_reject, bounds, log)?;
        let stores = !plan.is_empty();
        if let (true, Some(wal)) = (stores, &mut log.wal) {
            if log.record.len() > head.options.max_commit_bytes {
                wal.book.take_back();
                return Err(CommitError::Log(format!(
                    "one commit of {} bytes is over the limit of {}",
                    log.record.len(),
                    head.options.max_commit_bytes
                )));
            }
            wal.append(&log.record, plan.newest(), !plan.late.is_empty())
                .map_err(refused)?;
        }
        if log.record.capacity() > (4 << 20) {
            log.record = Vec::new();
        }
        let done = plan.done.clone();
        let (dropped, late) = (plan.stale_dropped, (plan.late.len() as u64, plan.late_repeated));
        let histograms = plan.histograms.len() as u64;
        if stores {
            let exemplars = std::mem::take(&mut plan.exemplars);
            let mut state = head.state.write();
            apply(&mut state, plan, &logged);
            if !exemplars.is_empty() {
                head.exemplars.write().apply(exemplars);
            }
        }
        drop(guard);
        Metrics::add(&head.metrics.histograms_appended, histograms);
        count(&head.metrics, &done, dropped, late);
        Ok(done)
    }

    /// What times this commit may use. Rows begin half a window behind the newest one of before it, so that a window
    /// that is written gets none; if there is none, the first sample that was handed in counts. Nothing is older than
    /// [`EARLIEST_MS`].
    fn bounds(&self) -> Bounds {
        let head = &self.db.head;
        let latest = self.db.clock.now().saturating_add(head.options.max_future_ms).millis();
        let (min_valid, newest) = {
            let state = head.state.read();
            (state.min_valid, state.newest)
        };
        let first = || {
            let rows = self.rows.iter().map(|r| (r.ordinal, r.at));
            let all = rows.chain(self.loose.iter().map(|l| (l.ordinal, l.at)));
            let all = all.chain(self.histograms.iter().map(|h| (h.ordinal, h.at)));
            all.filter(|(_, at)| (EARLIEST_MS..=latest).contains(at))
                .min()
                .map(|(_, at)| at)
        };
        let newest = match newest {
            i64::MIN => first().unwrap_or(i64::MIN),
            newest => newest,
        };
        // What blocks hold is older.
        let newest = newest.max(min_valid.saturating_sub(1));
        let window = head.out_of_order_ms.load(Ordering::Relaxed);
        Bounds {
            oldest: min_valid
                .max(newest.saturating_sub(head.options.block_ms / 2))
                .max(EARLIEST_MS),
            newest: latest,
            late: (window > 0).then(|| newest.saturating_sub(window).max(EARLIEST_MS)),
        }
    }
}

fn refused(error: WriteError) -> CommitError {
    match error {
        WriteError::Failed(e) if e.is_disk_full() => {
            CommitError::Log(format!("{e}: {}; appends go on once there is room", cause(&e)))
        }
        WriteError::Failed(e) => CommitError::Log(format!("{e}: {}", cause(&e))),
        WriteError::Poisoned(why) => CommitError::Closed(why),
    }
}

fn count(metrics: &Metrics, done: &Committed, stale_dropped: u64, (late, late_repeated): (u64, u64)) {
    Metrics::add(&metrics.commits, 1);
    Metrics::add(&metrics.samples_appended, done.samples);
    Metrics::add(&metrics.stale_dropped, stale_dropped);
    Metrics::add(&metrics.late_appended, late);
    Metrics::add(&metrics.late_repeated, late_repeated);
    for rejected in &done.rejected {
        let counter = match rejected.reason {
            RejectReason::OutOfOrder => &metrics.rejected_out_of_order,
            RejectReason::Duplicate { .. }
            | RejectReason::HistogramExists { .. }
            | RejectReason::DuplicateHistogram { .. } => &metrics.rejected_duplicate,
            RejectReason::Repeated => &metrics.rejected_repeated,
            RejectReason::OutOfBounds => &metrics.rejected_out_of_bounds,
            RejectReason::TooOld => &metrics.rejected_too_old,
            RejectReason::TooNew => &metrics.rejected_too_new,
        };
        Metrics::add(counter, 1);
    }
    for (counter, n) in [
        (&metrics.exemplars_appended, done.exemplars.stored),
        (&metrics.exemplars_repeated, done.exemplars.repeated),
        (&metrics.exemplars_out_of_order, done.exemplars.out_of_order),
        (&metrics.exemplars_refused, done.exemplars.refused),
    ] {
        if n > 0 {
            Metrics::add(counter, n);
        }
    }
}

impl Appender for HeadAppender<'_> {
    fn timeline(&mut self, key: &str) -> Result<TimelineRef, AppendError> {
        self.db.head.timeline(self.db, key)
    }

    fn resolve(&mut self, timeline: Option<TimelineRef>, labels: &Labels) -> Result<SeriesRef, AppendError> {
        self.db.head.resolve(timeline, labels)
    }

    fn append_row(
        &mut self,
        timeline: TimelineRef,
        at: Timestamp,
        row: &[(SeriesRef, f64)],
    ) -> Result<(), AppendError> {
        let state = self.db.head.state.read();
        let number = state.timeline_of(timeline.bits()).ok_or(AppendError::StaleTimeline)?;
        let refs = state.timeline(number).map_or(&[][..], |t| t.refs.as_slice());
        let same = refs.len() == row.len() && refs.iter().zip(row).all(|(bits, (series, _))| *bits == series.bits());
        if !same
            && let Some(place) = row
                .iter()
                .position(|(series, _)| state.column_of(series.bits()).is_none())
        {
            return Err(AppendError::StaleRef { place });
        }
        drop(state);
        let start = self.values.len();
        symbols::reserve(&mut self.values, row.len());
        self.values.extend_from_slice(row);
        self.rows.push(PendingRow {
            timeline: number,
            at: at.millis(),
            start,
            end: self.values.len(),
            ordinal: self.ordinal,
        });
        self.ordinal += row.len() as u64;
        Ok(())
    }

    fn append_at(&mut self, series: SeriesRef, at: Timestamp, value: f64) -> Result<(), AppendError> {
        self.append_many(&[(series, at, value)])
    }

    fn append_many(&mut self, samples: &[(SeriesRef, Timestamp, f64)]) -> Result<(), AppendError> {
        let state = self.db.head.state.read();
        symbols::reserve(&mut self.loose, samples.len());
        for (place, (series, at, value)) in samples.iter().enumerate() {
            if state.column_of(series.bits()).is_none() {
                return Err(AppendError::StaleRef { place });
            }
            self.loose.push(Loose {
                series: *series,
                at: at.millis(),
                value: *value,
                ordinal: self.ordinal,
                of_row: false,
            });
            self.ordinal += 1;
        }
        Ok(())
    }

    fn append_histogram(
        &mut self,
        series: SeriesRef,
        at: Timestamp,
        histogram: Arc<Histogram>,
    ) -> Result<(), AppendError> {
        let head = &self.db.head;
        if let Err(error) = histogram.validate(head.options.max_histogram_buckets.min(MAX_BUCKETS)) {
            Metrics::add(&head.metrics.histograms_invalid, 1);
            return Err(error.into());
        }
        if head.state.read().column_of(series.bits()).is_none() {
            return Err(AppendError::StaleRef { place: 0 });
        }
        self.histograms.push(PendingHistogram {
            series,
            at: at.millis(),
            histogram,
            ordinal: self.ordinal,
        });
        self.ordinal += 1;
        Ok(())
    }

    fn append_exemplar(&mut self, series: SeriesRef, at: Timestamp, exemplar: &Exemplar) -> Result<(), AppendError> {
        let chars = exemplar.label_chars();
        if chars > MAX_EXEMPLAR_CHARS {
            Metrics::add(&self.db.head.metrics.exemplars_too_long, 1);
            return Err(AppendError::ExemplarLabels {
                chars,
                limit: MAX_EXEMPLAR_CHARS,
            });
        }
        if self.db.head.state.read().column_of(series.bits()).is_none() {
            return Err(AppendError::StaleRef { place: 0 });
        }
        if self.db.head.exemplars.read().is_on() {
            self.exemplars.push(PendingExemplar {
                column: series.bits() as u32,
                at: at.millis(),
                exemplar: exemplar.clone(),
            });
        }
        Ok(())
    }

    fn commit(self: Box<Self>, on_reject: OnReject) -> Result<Committed, CommitError> {
        let metrics = &self.db.head.metrics;
        (*self)
            .run(on_reject)
            .inspect_err(|_| Metrics::add(&metrics.commits_failed, 1))
    }
}
