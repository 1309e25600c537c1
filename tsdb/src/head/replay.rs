//! What a start puts back: the head of a checkpoint, then the log behind it, record by record. The rules took all of it
//! before, so nothing is refused.

use super::append::Head;
use super::exemplar::PendingExemplar;
use super::kept_kinds::{self, SavedExemplar};
use super::late::LateSample;
use super::publish::apply;
use super::seal::{self, must_seal};
use super::stage::{Bounds, Stage};
use super::{State, delta};
use crate::codec::Malformed;
use crate::column::{Encoder, EncodingChoice, histogram_weight};
use crate::timeline::{NONE, Stand};
use hashbrown::HashMap;
use std::ops::Range;
use std::sync::Arc;
use tidegauge_model::{Exemplar, Histogram, Labels, Matcher, SeriesRef, TimeRange};

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

/// What replay keeps from one segment to the next.
#[derive(Debug, Default)]
pub(super) struct Replay {
    loose: HashMap<u32, u32>,
    encoder: Encoder,
}

impl Replay {
    pub(super) fn new(encoding: EncodingChoice) -> Self {
        Self {
            loose: HashMap::new(),
            encoder: Encoder::new(encoding),
        }
    }
}

impl Head {
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
}
