//! The door in: collects the samples of one commit, then plans, logs and publishes it.

use super::exemplar::{Exemplars, PendingExemplar};
use super::kept_kinds::{self, SavedExemplar};
use super::late::LateSample;
use super::seal::{self, window_start};
use super::stage::{Bounds, Loose, Plan, Stage};
use super::stage_histogram::PendingHistogram;
use super::{State, delta, symbols};
use crate::codec::Malformed;
use crate::column::{Encoder, EncodingChoice, MAX_BUCKETS, histogram_weight};
use crate::db::Db;
use crate::select::Views;
use crate::timeline::{Logged, NONE, Stand, Timeline};
use crate::wal::record;
use crate::wal::writer::{Wal, WriteError, cause};
use crate::{EARLIEST_MS, Metrics, Options};
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tidegauge_model::{
    AppendError, Appender, CommitError, Committed, Exemplar, Histogram, Labels, MAX_EXEMPLAR_CHARS, Matcher, OnReject,
    RejectReason, SeriesRef, TimeRange, TimelineRef, Timestamp,
};

/// Distinct times after which open rows are sealed.
const RUN_ROWS: u32 = 120;
/// What a new series is taken to cost beside its labels, until maintenance counts again.
const SERIES_BYTES: u64 = 200;

/// A row of the log in terms of the head: timeline, time, values.
pub(crate) type HeadRow = (u32, i64, Vec<(SeriesRef, f64)>);

/// A change of a place as the log has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoggedChange {
    place: u32,
    value: f64,
    code: [u8; delta::MAX_BYTES],
    bytes: u8,
}

impl LoggedChange {
    /// `code` is one that was read: it is not longer than codes are.
    pub(crate) fn new(place: u32, value: f64, code: &[u8]) -> Self {
        let mut own = [0; delta::MAX_BYTES];
        let bytes = code.len().min(delta::MAX_BYTES);
        for (to, from) in own.iter_mut().zip(code) {
            *to = *from;
        }
        Self {
            place,
            value,
            code: own,
            bytes: bytes as u8,
        }
    }
}

/// A histogram of the log in terms of the head: series, time, value.
pub(crate) type HeadHistogram = (SeriesRef, i64, Arc<Histogram>);

/// The recent window, and the rules for what may enter it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) state: RwLock<State>,
    pub(crate) views: Views,
    pub(crate) exemplars: RwLock<Exemplars>,
    /// Bytes the meter holds for the head.
    accounted: AtomicU64,
    /// Bytes that are not in the state and that the meter pays for with it: tombstones of blocks.
    pub(crate) beside: AtomicU64,
    pub(crate) options: Options,
    /// How far behind the newest row a late sample may be; may change at any time.
    pub(crate) out_of_order_ms: AtomicI64,
    pub(crate) metrics: Arc<Metrics>,
    replay: Replay,
}

/// What replay keeps from one segment to the next.
#[derive(Debug, Default)]
struct Replay {
    loose: HashMap<u32, u32>,
    encoder: Encoder,
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
            replay: Replay {
                loose: HashMap::new(),
                encoder: Encoder::new(options.encoding),
            },
            out_of_order_ms: AtomicI64::new(options.out_of_order_ms),
            options,
            metrics,
        }
    }

    pub(crate) fn oldest_valid(&mut self) -> i64 {
        self.state.get_mut().min_valid
    }

    /// Begins with what a checkpoint gave back; samples before `flushed` lie in blocks.
    pub(crate) fn restore(&mut self, restored: State, flushed: i64) {
        let state = self.state.get_mut();
        *state = restored;
        state.min_valid = flushed;
        let timelines = (0u32..).zip(&state.timelines);
        let known: Vec<(u32, bool, Option<i64>)> = timelines
            .filter_map(|(number, t)| t.as_ref().map(|t| (number, t.key.is_none(), t.times.first().copied())))
            .collect();
        for (number, loose, first) in known {
            if loose {
                self.replay.loose.insert(number, number);
            }
            // What a block has taken since must not stay among the open rows.
            if first.is_some_and(|first| first < flushed)
                && let Some(sealed) = seal::plan(state, number, self.options.block_ms, &[], &mut self.replay.encoder)
            {
                seal::apply(state, sealed);
            }
        }
        for series in state.histograms.open_before(flushed) {
            let runs = state
                .histograms
                .plan_seal(series, self.options.block_ms, &mut self.replay.encoder);
            state.histograms.seal(series, runs);
        }
        state.drop_runs(flushed, None);
    }

    /// Puts the exemplars of a checkpoint back.
    pub(crate) fn restore_exemplars(&mut self, saved: Vec<SavedExemplar>) {
        kept_kinds::restore_exemplars(self.exemplars.get_mut(), saved, &self.options.head);
    }

    /// The timeline that the log knows by this number.
    pub(crate) fn replay_timeline(&mut self, number: u32, key: Option<&str>) -> u32 {
        let state = self.state.get_mut();
        match key {
            Some(key) => match state.keys.get(key) {
                Some(timeline) => *timeline,
                None => state.add_timeline(Some(key)),
            },
            None => *self
                .replay
                .loose
                .entry(number)
                .or_insert_with(|| state.add_timeline(None)),
        }
    }

    pub(crate) fn replay_column(&mut self, home: Option<u32>, labels: &Labels) -> Option<SeriesRef> {
        let state = self.state.get_mut();
        let index = Arc::clone(&state.index);
        let mut index = index.write();
        let series = match index.find(labels) {
            Some(series) => series,
            None => index.add(labels)?,
        };
        drop(index);
        let home = home.unwrap_or(NONE);
        let found = state
            .columns_of(series)
            .find(|(_, c)| c.home == home)
            .map(|(number, _)| number);
        let column = found.unwrap_or_else(|| state.add_column(series, home));
        Some(state.series_ref(column))
    }

    /// Puts the rows of one record where the log says they were.
    pub(crate) fn replay_rows(&mut self, rows: &[HeadRow], bounds: Bounds) {
        let block_ms = self.options.block_ms;
        let state = self.state.get_mut();
        for (timeline, at, _) in rows {
            if must_seal(state, *timeline, *at, block_ms)
                && let Some(sealed) = seal::plan(state, *timeline, block_ms, &[], &mut self.replay.encoder)
            {
                seal::apply(state, sealed);
            }
        }
        let mut stage = Stage::new(state, bounds, false);
        for (timeline, at, row) in rows {
            // Nothing is refused: the same rules took it before.
            let taken = stage.row(*timeline, *at, row, 0);
            debug_assert!(taken.is_ok(), "nothing fails fast here");
        }
        let plan = stage.finish();
        apply(state, plan, &[]);
    }

    /// Where a timeline stands, if it has these places, all of them, with these values.
    pub(crate) fn stand_with(&mut self, timeline: u32, refs: &[Option<SeriesRef>], last: &[f64]) -> Option<Stand> {
        let t = self.state.get_mut().timeline(timeline)?;
        let same = t.refs.len() == refs.len()
            && t.refs
                .iter()
                .zip(refs)
                .all(|(bits, r)| r.is_some_and(|r| r.bits() == *bits))
            && t.last.iter().zip(last).all(|(a, b)| a.to_bits() == b.to_bits());
        t.stand().filter(|_| same)
    }

    /// Whether a timeline still stands where it did and can take a row of this time; seals before it, if that is due.
    pub(crate) fn ready_for(&mut self, timeline: u32, at: i64, stand: Stand) -> Option<Stand> {
        let block_ms = self.options.block_ms;
        let state = self.state.get_mut();
        let fits = |state: &State| {
            let t = state.timeline(timeline)?;
            (at > t.newest && t.stand() == Some(stand)).then_some(stand)
        };
        fits(state)?;
        if must_seal(state, timeline, at, block_ms)
            && let Some(sealed) = seal::plan(state, timeline, block_ms, &[], &mut self.replay.encoder)
        {
            seal::apply(state, sealed);
        }
        fits(state)
    }

    /// Takes a row that was found to fit ([`Head::ready_for`]); all places have a value in it.
    pub(crate) fn replay_changes(&mut self, timeline: u32, at: i64, changes: &[LoggedChange], stand: Stand) -> Stand {
        let state = self.state.get_mut();
        state.newest = state.newest.max(at);
        let Some(t) = state.timelines.get_mut(timeline as usize).and_then(Option::as_mut) else {
            return stand;
        };
        let (row, before, loose) = (t.rows(), t.newest, t.key.is_none());
        t.push_row(at, None);
        for change in changes {
            let code = change.code.get(..usize::from(change.bytes)).unwrap_or_default();
            t.change(change.place, row, code, change.value);
            if let (Some(place), Some(exponent)) = (t.places.get_mut(change.place as usize), delta::exponent(code)) {
                place.exponent = exponent;
            }
        }
        let stand = t.stand().unwrap_or(stand);
        if loose {
            if state.loose.get(&before) == Some(&timeline) {
                state.loose.remove(&before);
            }
            state.loose.insert(at, timeline);
        }
        stand
    }

    /// Hides again what was deleted when the log stood here.
    pub(crate) fn replay_deletion(&mut self, matchers: &[Matcher], range: TimeRange) -> Result<(), Malformed> {
        let state = self.state.get_mut();
        let hidden = state.deleted_by(matchers, range, state.min_valid);
        state.delete(&hidden);
        state.late = state.late_without(matchers, range)?.0;
        Ok(())
    }

    /// Puts late samples of one record where they were.
    pub(crate) fn replay_late(&mut self, series: SeriesRef, samples: &[LateSample]) -> Result<(), Malformed> {
        let state = self.state.get_mut();
        let Some(series) = state.column_of(series.bits()).map(|(_, c)| c.series) else {
            return Ok(());
        };
        for (at, value) in samples {
            state.late.insert(series, *at, *value)?;
        }
        Ok(())
    }

    /// Blocks have the late samples of these times that the log told of so far.
    pub(crate) fn replay_late_done(&mut self, range: Range<i64>) -> Result<(), Malformed> {
        self.state.get_mut().late.void(range)
    }

    /// Puts the histograms of one record back.
    pub(crate) fn replay_histograms(&mut self, all: &[HeadHistogram], bounds: Bounds) {
        if all.is_empty() {
            return;
        }
        let block_ms = self.options.block_ms;
        let state = self.state.get_mut();
        for (series, at, histogram) in all {
            let Some(series) = state.column(series.bits() as u32).map(|c| c.series) else {
                continue;
            };
            let weight = histogram_weight(histogram);
            if state.histograms.must_seal(series, *at, weight, block_ms) {
                let runs = state.histograms.plan_seal(series, block_ms, &mut self.replay.encoder);
                state.histograms.seal(series, runs);
            }
        }
        let mut stage = Stage::new(state, bounds, false);
        for (series, at, histogram) in all {
            stage.logged_histogram(*series, *at, histogram);
        }
        let plan = stage.finish();
        apply(state, plan, &[]);
    }

    /// Puts an exemplar of the log back; the rules decided when it was written.
    pub(crate) fn replay_exemplar(&mut self, series: SeriesRef, at: i64, exemplar: Exemplar) {
        let pending = PendingExemplar {
            column: series.bits() as u32,
            at,
            exemplar,
        };
        let state = self.state.get_mut();
        let index = state.index.read();
        let labels_of = |column: u32| state.column(column).map(|c| index.labels(c.series));
        let ring = self.exemplars.get_mut();
        let plan = ring.plan(&[pending], labels_of, &self.options.head);
        ring.apply(plan.stored);
    }

    /// Replay is over: what only it needed goes.
    pub(crate) fn replayed(&mut self) {
        self.replay = Replay::default();
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

    fn timeline(&self, db: &Db, key: &str) -> Result<TimelineRef, AppendError> {
        {
            let state = self.state.read();
            if let Some(timeline) = state.keys.get(key) {
                return Ok(TimelineRef::from_bits(state.take_timeline(*timeline)));
            }
        }
        if key.len() > self.options.max_label_bytes {
            return Err(AppendError::Limit {
                name: "timeline key bytes",
                limit: self.options.max_label_bytes as u64,
            });
        }
        // Whoever holds the log relies on the numbers of timelines.
        let _log = db.log.lock();
        let mut state = self.state.write();
        if let Some(timeline) = state.keys.get(key) {
            return Ok(TimelineRef::from_bits(state.take_timeline(*timeline)));
        }
        let count = (state.timelines.len() - state.free_timelines.len()) as u64;
        if count >= self.options.max_timelines {
            return Err(AppendError::Limit {
                name: "max_timelines",
                limit: self.options.max_timelines,
            });
        }
        let bytes = size_of::<Timeline>() as u64 + key.len() as u64 * 2 + 64;
        self.options.head.take(bytes)?;
        self.accounted.fetch_add(bytes, Ordering::Relaxed);
        let timeline = state.add_timeline(Some(key));
        Ok(TimelineRef::from_bits(state.timeline_bits(timeline)))
    }

    fn resolve(&self, timeline: Option<TimelineRef>, labels: &Labels) -> Result<SeriesRef, AppendError> {
        let home_of = |state: &State| match timeline {
            Some(timeline) => state.timeline_of(timeline.bits()).ok_or(AppendError::StaleTimeline),
            None => Ok(NONE),
        };
        let existing = |state: &State, series: u32, home: u32| {
            let (number, column) = state.columns_of(series).find(|(_, c)| c.home == home)?;
            column.doomed.store(false, Ordering::Relaxed);
            Some(state.series_ref(number))
        };
        {
            let state = self.state.read();
            let home = home_of(&state)?;
            let series = state.index.read().find(labels);
            if let Some(found) = series.and_then(|s| existing(&state, s, home)) {
                return Ok(found);
            }
        }
        self.check_labels(labels)?;
        let mut state = self.state.write();
        let home = home_of(&state)?;
        let index = Arc::clone(&state.index);
        let mut index = index.write();
        let known = index.find(labels);
        if let Some(found) = known.and_then(|series| existing(&state, series, home)) {
            return Ok(found);
        }
        self.check_room(&state, home)?;
        let series = match known {
            Some(series) => series,
            None => self.add_series(&mut index, labels)?,
        };
        drop(index);
        let column = state.add_column(series, home);
        Ok(state.series_ref(column))
    }

    fn check_labels(&self, labels: &Labels) -> Result<(), AppendError> {
        if labels.is_empty() {
            return Err(AppendError::Labels("a series needs at least one label".into()));
        }
        let (max_labels, max_bytes) = (self.options.max_labels, self.options.max_label_bytes);
        for (n, (name, value)) in labels.iter().enumerate() {
            if n >= max_labels {
                return Err(AppendError::Limit {
                    name: "labels of a series",
                    limit: max_labels as u64,
                });
            }
            if name.len().max(value.len()) > max_bytes {
                return Err(AppendError::Labels(format!(
                    "the name or value of label {:?} is longer than {max_bytes} bytes",
                    name.chars().take(64).collect::<String>()
                )));
            }
        }
        Ok(())
    }

    /// Whether one more series may have this timeline as its home.
    fn check_room(&self, state: &State, home: u32) -> Result<(), AppendError> {
        let limit = self.options.max_series_per_timeline;
        if limit == 0 || state.timeline(home).is_none_or(|t| u64::from(t.homed) < limit) {
            return Ok(());
        }
        Metrics::add(&self.metrics.timeline_series_refused, 1);
        Err(AppendError::Limit {
            name: "max_series_per_timeline",
            limit,
        })
    }

    fn add_series(&self, index: &mut super::series::Index, labels: &Labels) -> Result<u32, AppendError> {
        let refuse = |error| {
            Metrics::add(&self.metrics.series_refused, 1);
            error
        };
        let limit = self.options.max_series;
        if limit > 0 && index.len() as u64 >= limit {
            return Err(refuse(AppendError::Limit {
                name: "max_series",
                limit,
            }));
        }
        let bytes = labels.heap_bytes() as u64 / 2 + SERIES_BYTES;
        self.options.head.take(bytes).map_err(|e| refuse(e.into()))?;
        self.accounted.fetch_add(bytes, Ordering::Relaxed);
        let series = index.add(labels).ok_or_else(|| {
            refuse(AppendError::Limit {
                name: "bytes of all labels",
                limit: u64::from(u32::MAX),
            })
        })?;
        Metrics::add(&self.metrics.series_created, 1);
        Metrics::set(&self.metrics.series, index.len() as u64);
        Ok(series)
    }
}

/// Whether open rows must be closed before a row of this time comes.
fn must_seal(state: &State, timeline: u32, at: i64, block_ms: i64) -> bool {
    let Some(t) = state.timeline(timeline) else {
        return false;
    };
    let Some(first) = t.times.first() else {
        return false;
    };
    at > t.newest && (t.groups >= RUN_ROWS || window_start(at, block_ms) != window_start(*first, block_ms))
}

/// Publishes a plan.
pub(crate) fn apply(state: &mut State, plan: Plan, logged: &[(u32, Logged)]) {
    for expected in plan.new_timelines {
        let made = state.add_timeline(None);
        debug_assert_eq!(made, expected, "timelines are made only by who holds the log");
    }
    for staged in &plan.staged {
        for (series, _) in &staged.left {
            state.left.insert((*series, staged.timeline));
        }
        let newest = staged.rows.last().map(|r| r.at);
        state.newest = state.newest.max(newest.unwrap_or(i64::MIN));
        let Some(t) = state
            .timelines
            .get_mut(staged.timeline as usize)
            .and_then(Option::as_mut)
        else {
            continue;
        };
        let mut added = staged.added.iter();
        let before = t.newest;
        for (number, row) in staged.rows.iter().enumerate() {
            let at_row = t.rows();
            t.push_row(row.at, row.presence.clone());
            for change in staged.changes(number) {
                if change.place as usize >= t.places.len() {
                    if let Some(bits) = added.next() {
                        t.add_place(*bits, at_row, change.value);
                    }
                    continue;
                }
                t.change(change.place, at_row, staged.code(change), change.value);
                if let Some(place) = t.places.get_mut(change.place as usize) {
                    place.exponent = change.exponent;
                }
            }
        }
        for (place, row) in &staged.ends {
            t.end_place(*place, *row);
        }
        t.unlogged.clone_from(&staged.untold);
        t.left.extend(staged.left.iter().filter(|(_, place)| *place != NONE));
        let loose = t.key.is_none();
        if let (true, Some(newest)) = (loose, newest) {
            if state.loose.get(&before) == Some(&staged.timeline) {
                state.loose.remove(&before);
            }
            state.loose.insert(newest, staged.timeline);
        }
    }
    for (column, (timeline, place)) in plan.moved {
        if let Some(c) = state.column_mut(column) {
            c.timeline = timeline;
            c.place = place;
        }
    }
    for (series, owner) in plan.owners {
        if let Some(s) = state.series.get_mut(series as usize) {
            s.owner = owner;
        }
    }
    for late in plan.late {
        let added = state.late.insert(late.series, late.at, late.value);
        debug_assert!(matches!(added, Ok(true)), "a plan has what is not there");
    }
    for timeline in plan.foreign {
        if let Some(t) = state.timeline_mut(timeline) {
            t.foreign = true;
        }
    }
    for (timeline, logged) in logged {
        if let Some(t) = state.timeline_mut(*timeline) {
            t.logged = *logged;
        }
    }
    let newest = plan.histograms.iter().map(|h| h.at).max();
    state.newest = state.newest.max(newest.unwrap_or(i64::MIN));
    state.histograms.apply(plan.histograms, &plan.histograms_logged);
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

impl Head {
    /// Seals the open rows of one timeline.
    pub(crate) fn seal(&self, timeline: u32, log: &mut Log) {
        let sealed = {
            let state = self.state.read();
            // A view that is made from here on sees every row: none comes while the log is held.
            let seen = self.views.rows(timeline);
            seal::plan(&state, timeline, self.options.block_ms, &seen, &mut log.encoder)
        };
        if let Some(sealed) = sealed {
            seal::apply(&mut self.state.write(), sealed);
            Metrics::add(&self.metrics.runs_sealed, 1);
        }
    }

    /// Seals the open histograms of one series.
    pub(crate) fn seal_histograms(&self, series: u32, log: &mut Log) {
        let runs = {
            let state = self.state.read();
            state
                .histograms
                .plan_seal(series, self.options.block_ms, &mut log.encoder)
        };
        Metrics::add(&self.metrics.runs_sealed, runs.len() as u64);
        self.state.write().histograms.seal(series, runs);
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
