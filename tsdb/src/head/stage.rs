//! Decides what a commit will do, without doing it: which samples fit, which row of which timeline takes them, what
//! changes against the row before.
//!
//! Works on the state as it is and keeps what it would change beside it, so that the log can be written from the plan
//! first, and a commit that fails leaves no trace.

mod loose;
mod quick;

pub(crate) use loose::Loose;

use super::State;
use super::exemplar::Stored;
use super::histogram::{Logged, StagedHistogram};
use super::staged::{Staged, ranges};
use crate::timeline::NONE;
use hashbrown::{HashMap, HashSet};
use std::sync::Arc;
use tidegauge_model::{Committed, RejectReason, Rejected, SeriesRef, Timestamp, is_stale};

/// Values of a row that are compared at once.
const CHUNK: usize = 16;

/// What times a commit may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Rows begin here.
    pub(crate) oldest: i64,
    pub(crate) newest: i64,
    /// Late samples begin here; `None`: there are none.
    pub(crate) late: Option<i64>,
}

/// A sample that goes beside the timelines.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LateAppend {
    pub(crate) column: u32,
    pub(crate) series: u32,
    pub(crate) at: i64,
    pub(crate) value: f64,
}

/// What becomes of one sample.
pub(super) enum Verdict {
    Accept,
    /// It comes behind the newest one of its series, which is this.
    Late(u32),
    /// It is there already.
    Stored,
    /// A stale marker of a column that does not own its series.
    Foreign,
    Reject(RejectReason),
}

/// A sample on its way into a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    timeline: u32,
    /// `NONE`: a new place is needed.
    place: u32,
    pub(super) column: u32,
    bits: u64,
    pub(super) value: f64,
    ordinal: u64,
    of_row: bool,
}

/// The plan of one commit, in the making.
#[derive(Debug)]
pub(crate) struct Stage<'s> {
    pub(super) state: &'s State,
    pub(super) bounds: Bounds,
    fail_fast: bool,
    pub(super) plan: Plan,
    by_timeline: HashMap<u32, usize>,
    touched: Vec<bool>,
    items: Vec<Item>,
    /// Series and times of the plan's late samples.
    late: HashSet<(u32, i64)>,
}

/// The plan of one commit.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) staged: Vec<Staged>,
    /// Timelines to make, in this order.
    pub(crate) new_timelines: Vec<u32>,
    /// Column to its new timeline and place.
    pub(crate) moved: HashMap<u32, (u32, u32)>,
    /// Series to its new owner.
    pub(crate) owners: HashMap<u32, u32>,
    /// Timelines some column of which lost its series.
    pub(crate) foreign: HashSet<u32>,
    /// In the order they were handed in, one for each series and time.
    pub(crate) late: Vec<LateAppend>,
    pub(crate) histograms: Vec<StagedHistogram>,
    /// Where the newest of each series is among them.
    pub(super) newest_histograms: HashMap<u32, usize>,
    /// Where the log stands with the series of these.
    pub(crate) histograms_logged: Vec<(u32, Logged)>,
    pub(crate) exemplars: Vec<Arc<Stored>>,
    pub(crate) done: Committed,
    pub(crate) stale_dropped: u64,
    /// Late samples of a time that a late sample is stored for.
    pub(crate) late_repeated: u64,
}

impl Plan {
    /// Whether nothing is to be stored.
    pub(crate) fn is_empty(&self) -> bool {
        self.staged.iter().all(|s| s.rows.is_empty())
            && self.late.is_empty()
            && self.histograms.is_empty()
            && self.exemplars.is_empty()
    }

    /// Time of the newest sample to be stored; `i64::MIN` if there is none.
    pub(crate) fn newest(&self) -> i64 {
        let rows = self.staged.iter().filter_map(|s| s.rows.last()).map(|r| r.at);
        let histograms = self.histograms.iter().map(|h| h.at);
        let late = self.late.iter().map(|l| l.at);
        rows.chain(histograms).chain(late).max().unwrap_or(i64::MIN)
    }
}

impl<'s> Stage<'s> {
    pub(crate) fn new(state: &'s State, bounds: Bounds, fail_fast: bool) -> Self {
        Self {
            state,
            bounds,
            fail_fast,
            plan: Plan::default(),
            by_timeline: HashMap::new(),
            touched: Vec::new(),
            items: Vec::new(),
            late: HashSet::new(),
        }
    }

    pub(crate) fn finish(mut self) -> Plan {
        self.plan.done.rejected.sort_by_key(|r| r.ordinal);
        self.plan
    }

    fn staged(&mut self, timeline: u32) -> usize {
        *self.by_timeline.entry(timeline).or_insert_with(|| {
            self.plan
                .staged
                .push(Staged::new(timeline, self.state.timeline(timeline)));
            self.plan.staged.len() - 1
        })
    }

    fn newest(&self, timeline: u32) -> i64 {
        match self.by_timeline.get(&timeline).and_then(|i| self.plan.staged.get(*i)) {
            Some(staged) => staged.newest,
            None => self.state.timeline(timeline).map_or(i64::MIN, |t| t.newest),
        }
    }

    /// Where a column's samples go now; a place that has ended does not count.
    pub(super) fn location(&self, column: u32) -> (u32, u32) {
        let (timeline, place) = match self.plan.moved.get(&column) {
            Some(moved) => *moved,
            None => self
                .state
                .column(column)
                .map_or((NONE, NONE), |c| (c.timeline, c.place)),
        };
        if place == NONE || self.has_ended(timeline, place) {
            return (timeline, NONE);
        }
        (timeline, place)
    }

    fn has_ended(&self, timeline: u32, place: u32) -> bool {
        let now = self.by_timeline.get(&timeline).and_then(|i| self.plan.staged.get(*i));
        now.is_some_and(|s| s.ends.contains_key(&place))
            || self
                .state
                .timeline(timeline)
                .and_then(|t| t.places.get(place as usize))
                .is_some_and(|p| p.end != NONE)
    }

    /// The newest sample of a column, the staged rows included.
    pub(super) fn last_of(&self, column: u32) -> Option<(i64, f64)> {
        let moved = self.plan.moved.get(&column).copied();
        let (timeline, place) = match moved {
            Some(moved) => moved,
            None => self.state.column(column).map(|c| (c.timeline, c.place))?,
        };
        if let Some(staged) = self.by_timeline.get(&timeline).and_then(|i| self.plan.staged.get(*i))
            && place != NONE
            && let Some(row) = staged.last_row(place)
            && !(place < staged.base_places && self.ended_before(timeline, place))
        {
            return Some((row.at, staged.value(self.state.timeline(timeline), place)));
        }
        self.state.last_of(column)
    }

    fn ended_before(&self, timeline: u32, place: u32) -> bool {
        self.state
            .timeline(timeline)
            .and_then(|t| t.places.get(place as usize))
            .is_some_and(|p| p.end != NONE)
    }

    pub(super) fn owner(&self, series: u32) -> u32 {
        match self.plan.owners.get(&series) {
            Some(owner) => *owner,
            None => self.state.series.get(series as usize).map_or(NONE, |s| s.owner),
        }
    }

    /// Whether a sample fits its series. `in_order`: it is known to come after its own column's last one.
    fn verdict(&mut self, item: &Item, at: i64, in_order: bool) -> Verdict {
        let (column, value) = (item.column, item.value);
        let Some(series) = self.state.column(column).map(|c| c.series) else {
            return Verdict::Reject(RejectReason::OutOfOrder);
        };
        if at >= self.bounds.oldest
            && let Some(verdict) = self.float_among_histograms(series, item, at)
        {
            return verdict;
        }
        let owner = self.owner(series);
        if owner == column && in_order {
            return Verdict::Accept;
        }
        if owner != NONE && owner != column && is_stale(value) {
            return Verdict::Foreign;
        }
        if at < self.bounds.oldest {
            return self.behind(item, series, at);
        }
        if owner != NONE
            && let Some((last_at, last)) = self.last_of(owner)
        {
            if at < last_at {
                return self.behind(item, series, at);
            }
            if at == last_at && last.to_bits() == value.to_bits() {
                return Verdict::Stored;
            }
            if at == last_at {
                return Verdict::Reject(duplicate(at, last, value));
            }
        }
        if owner != column {
            self.plan.owners.insert(series, column);
            if owner != NONE {
                let timeline = self.location(owner).0;
                self.plan.foreign.insert(timeline);
            }
        }
        Verdict::Accept
    }

    /// Why a sample cannot be stored that is out of bounds and of a kind that never comes late.
    pub(super) fn out_of_bounds(&self, at: i64) -> Option<RejectReason> {
        if at < self.bounds.oldest {
            return Some(self.never_late(at));
        }
        (at > self.bounds.newest).then_some(RejectReason::TooNew)
    }

    /// Why a sample that is behind, and of a kind that never comes late, is not stored.
    pub(super) fn never_late(&self, at: i64) -> RejectReason {
        match self.bounds.late {
            Some(oldest) if at < oldest => RejectReason::TooOld,
            None if at < self.bounds.oldest => RejectReason::OutOfBounds,
            _ => RejectReason::OutOfOrder,
        }
    }

    /// What becomes of a sample behind the newest one of its series, or of all. A stale marker that a row brings says
    /// that its series ends there: it never comes late.
    pub(super) fn behind(&self, item: &Item, series: u32, at: i64) -> Verdict {
        let inside = self.bounds.late.is_some_and(|oldest| at >= oldest);
        if inside && !(item.of_row && is_stale(item.value)) {
            return Verdict::Late(series);
        }
        Verdict::Reject(self.never_late(at))
    }

    /// Plans a late sample, unless one of its time is there.
    fn put_late(&mut self, item: &Item, series: u32, at: i64) {
        // What cannot be read is told by whoever reads it next.
        let stored = self.state.late.contains(series, at).unwrap_or(true);
        if stored || !self.late.insert((series, at)) {
            self.plan.late_repeated += 1;
            return;
        }
        self.plan.late.push(LateAppend {
            column: item.column,
            series,
            at,
            value: item.value,
        });
    }

    /// Counts a sample that goes no further; `true` if it was accepted.
    pub(super) fn settle(&mut self, item: &Item, at: i64, verdict: &Verdict) -> Result<bool, Rejected> {
        match verdict {
            Verdict::Accept => {
                self.plan.done.samples += 1;
                return Ok(true);
            }
            Verdict::Late(series) => {
                self.plan.done.samples += 1;
                self.put_late(item, *series, at);
            }
            Verdict::Stored => self.plan.done.samples += 1,
            Verdict::Foreign => self.plan.stale_dropped += 1,
            Verdict::Reject(reason) => {
                let rejected = Rejected {
                    ordinal: item.ordinal,
                    series: SeriesRef::from_bits(item.bits),
                    at: Timestamp::from_millis(at),
                    reason: *reason,
                };
                if self.fail_fast {
                    return Err(rejected);
                }
                self.plan.done.rejected.push(rejected);
            }
        }
        Ok(false)
    }

    /// Plans a row of a timeline.
    pub(crate) fn row(
        &mut self,
        timeline: u32,
        at: i64,
        row: &[(SeriesRef, f64)],
        ordinal: u64,
    ) -> Result<(), Rejected> {
        if at > self.bounds.newest {
            for ((series, value), ordinal) in row.iter().zip(ordinal..) {
                let item = item_of(*series, *value, ordinal);
                self.settle(&item, at, &Verdict::Reject(RejectReason::TooNew))?;
            }
            return Ok(());
        }
        if at >= self.bounds.oldest && self.dense_row(timeline, at, row) {
            self.plan.done.samples += row.len() as u64;
            return Ok(());
        }
        if at >= self.bounds.oldest && self.placed_row(timeline, at, row, ordinal)? {
            return Ok(());
        }
        let newest = self.newest(timeline);
        let mut seen = HashSet::with_capacity(row.len());
        let mut items = std::mem::take(&mut self.items);
        items.clear();
        let mut behind = Vec::new();
        for ((series, value), ordinal) in row.iter().zip(ordinal..) {
            let mut item = item_of(*series, *value, ordinal);
            if !seen.insert(item.column) {
                self.settle(&item, at, &Verdict::Reject(RejectReason::Repeated))?;
                continue;
            }
            item.of_row = true;
            if at < self.bounds.oldest {
                let verdict = self.verdict(&item, at, false);
                self.settle(&item, at, &verdict)?;
                continue;
            }
            if at < newest {
                behind.push(Loose {
                    series: *series,
                    at,
                    value: *value,
                    ordinal,
                    of_row: true,
                });
                continue;
            }
            let (on, place) = self.location(item.column);
            item.timeline = timeline;
            item.place = if on == timeline { place } else { NONE };
            let in_order = item.place != NONE && at > newest;
            let verdict = self.verdict(&item, at, in_order);
            if self.settle(&item, at, &verdict)? {
                items.push(item);
            }
        }
        self.put(timeline, at, &items);
        self.items = items;
        self.loose(&mut behind)
    }

    /// The common case: every place of the timeline, in order, later than before.
    fn dense_row(&mut self, timeline: u32, at: i64, row: &[(SeriesRef, f64)]) -> bool {
        let Some(t) = self.state.timeline(timeline) else {
            return false;
        };
        if t.ended > 0
            || row.is_empty()
            || row.len() != t.refs.len()
            || t.foreign
            || self.plan.foreign.contains(&timeline)
        {
            return false;
        }
        let index = self.staged(timeline);
        let Some(staged) = self.plan.staged.get_mut(index) else {
            return false;
        };
        if at <= staged.newest || !staged.ends.is_empty() || !staged.added.is_empty() {
            return false;
        }
        staged.overlay(Some(t));
        let (codes, changes) = (staged.codes.len(), staged.changes.len());
        let mut overlay = staged.last.take();
        let last: &[f64] = overlay.as_deref().unwrap_or(&t.last);
        let mut same = true;
        // A few at a time without a branch: which differ is seen at the end, and most do not.
        let chunks = row.chunks(CHUNK).zip(t.refs.chunks(CHUNK)).zip(last.chunks(CHUNK));
        for (first, ((row, refs), last)) in (0u32..).step_by(CHUNK).zip(chunks) {
            let (mut other, mut differ) = (0, 0u32);
            for (i, (((series, value), bits), last)) in row.iter().zip(refs).zip(last).enumerate() {
                other |= series.bits() ^ bits;
                differ |= u32::from(value.to_bits() != last.to_bits()) << i;
            }
            if other != 0 {
                same = false;
                break;
            }
            while differ != 0 {
                let i = differ.trailing_zeros();
                differ &= differ - 1;
                let (Some((_, value)), Some(last)) = (row.get(i as usize), last.get(i as usize)) else {
                    break;
                };
                let exponent = t.places.get((first + i) as usize).map_or(0, |p| p.exponent);
                staged.push_change(first + i, *last, *value, exponent);
            }
        }
        if !same {
            staged.codes.truncate(codes);
            staged.changes.truncate(changes);
        } else if let Some(last) = &mut overlay {
            for (slot, (_, value)) in last.iter_mut().zip(row) {
                *slot = *value;
            }
        }
        staged.last = overlay;
        if same {
            staged.close_row(at, None);
        }
        same
    }

    /// Adds a row of samples that all fit. Those without a place get one, and end where they were.
    fn put(&mut self, timeline: u32, at: i64, items: &[Item]) {
        if items.is_empty() {
            return;
        }
        let index = self.staged(timeline);
        let t = self.state.timeline(timeline);
        let Some(staged) = self.plan.staged.get_mut(index) else {
            return;
        };
        staged.overlay(t);
        let touched = &mut self.touched;
        touched.clear();
        touched.resize(staged.places() as usize, false);
        let first_change = staged.changes.len();
        let mut held = 0;
        for item in items.iter().filter(|i| i.place != NONE) {
            held += 1;
            if let Some(touched) = touched.get_mut(item.place as usize) {
                *touched = true;
            }
            let old = match &staged.last {
                Some(last) => last.get(item.place as usize).copied().unwrap_or(0.0),
                None => t.and_then(|t| t.last.get(item.place as usize).copied()).unwrap_or(0.0),
            };
            if old.to_bits() != item.value.to_bits() {
                let exponent = t
                    .and_then(|t| t.places.get(item.place as usize))
                    .map_or(0, |p| p.exponent);
                staged.push_change(item.place, old, item.value, exponent);
            }
        }
        self.finish_row(timeline, at, first_change, held, items);
    }

    /// Ends the making of a row: those of `items` without a place get one, which ends the one they have elsewhere.
    /// `self.touched` has the places that are `held`.
    fn finish_row(&mut self, timeline: u32, at: i64, first_change: usize, mut held: u32, items: &[Item]) {
        for item in items.iter().filter(|i| i.place == NONE) {
            self.leave(item.column, timeline);
        }
        let new = items.iter().filter(|i| i.place == NONE).count();
        self.plan.moved.reserve(new);
        let index = self.staged(timeline);
        let t = self.state.timeline(timeline);
        let Some(staged) = self.plan.staged.get_mut(index) else {
            return;
        };
        let later = at > staged.newest;
        for item in items.iter().filter(|i| i.place == NONE) {
            held += 1;
            let place = staged.places();
            staged.added.push(item.bits);
            staged.live += 1;
            self.touched.push(true);
            if let Some(last) = &mut staged.last {
                last.push(0.0);
            }
            staged.push_change(place, 0.0, item.value, 0);
            self.plan.moved.insert(item.column, (timeline, place));
        }
        if let Some(changes) = staged.changes.get_mut(first_change..) {
            changes.sort_unstable_by_key(|c| c.place);
        }
        let presence = if held == staged.live {
            None
        } else {
            Some(ranges(staged, t, &self.touched, later))
        };
        // A stale column that ended here may have been the only one that was missing.
        staged.close_row(at, presence.filter(|_| held != staged.live));
    }

    /// Ends the place a column has now, because it is about to get another.
    fn leave(&mut self, column: u32, to: u32) {
        let (timeline, place) = match self.plan.moved.get(&column) {
            Some(moved) => *moved,
            None => self
                .state
                .column(column)
                .map_or((NONE, NONE), |c| (c.timeline, c.place)),
        };
        if timeline == NONE || (timeline == to && place == NONE) {
            return;
        }
        let series = self.state.column(column).map_or(NONE, |c| c.series);
        let ended = place != NONE && self.ended_before(timeline, place);
        let index = self.staged(timeline);
        if let Some(staged) = self.plan.staged.get_mut(index) {
            if place != NONE && !ended {
                staged.end(place);
            }
            staged.left.push((series, place));
        }
    }
}

pub(super) fn item_of(series: SeriesRef, value: f64, ordinal: u64) -> Item {
    Item {
        timeline: NONE,
        place: NONE,
        column: series.bits() as u32,
        bits: series.bits(),
        value,
        ordinal,
        of_row: false,
    }
}

fn duplicate(at: i64, existing: f64, new: f64) -> RejectReason {
    RejectReason::Duplicate {
        at: Timestamp::from_millis(at),
        existing,
        new,
    }
}
