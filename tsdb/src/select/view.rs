//! A view of the store: what it sees, what it finds, how that is grouped.

use super::find::{Found, HEAD, LATE, Search};
use super::group::{Cell, Group, Named, Part, Source, clip, in_run, malformed};
use super::histograms::{Gathering, HistogramSeries};
use super::list::Values;
use crate::Error;
use crate::block::BlockReader;
use crate::db::Db;
use crate::head::deleted::HeadTombstones;
use crate::head::late::Late;
use crate::head::series::Index;
use crate::head::{SeriesState, State};
use crate::index::pairs::Scan;
use crate::timeline::{NONE, OpenColumn, Timeline};
use crate::wal::writer::cause;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use tidegauge_model::{
    ColumnKind, LabelTable, Labels, Limited, Matcher, Querier, ReadContext, SelectError, SelectHints, SeriesGroup,
    SeriesSet, TimeRange, Timestamp,
};

/// How much of a timeline a view sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    rows: u64,
    newest: i64,
}

/// What each living view sees, and which numbers series had when it was made.
#[derive(Debug, Default)]
pub(crate) struct Views(Mutex<Vec<(Weak<[Seen]>, u64)>>);

impl Views {
    /// Enters a view. The caller holds the state that it saw.
    fn enter(&self, seen: &Arc<[Seen]>, epoch: u64) {
        let mut views = self.0.lock();
        views.retain(|v| v.0.strong_count() > 0);
        views.push((Arc::downgrade(seen), epoch));
    }

    /// The oldest epoch that a view is of.
    pub(crate) fn oldest_epoch(&self) -> Option<u64> {
        let views = self.0.lock();
        views.iter().filter(|v| v.0.strong_count() > 0).map(|v| v.1).min()
    }

    /// How many rows of a timeline each view sees.
    pub(crate) fn rows(&self, timeline: u32) -> Vec<u64> {
        let mut views = self.0.lock();
        views.retain(|v| v.0.strong_count() > 0);
        let living = views.iter().filter_map(|v| v.0.upgrade());
        living
            .filter_map(|seen| seen.get(timeline as usize).map(|s| s.rows))
            .collect()
    }
}

/// A view of the store.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(super) db: &'a Db,
    pub(super) range: TimeRange,
    blocks: Arc<[Arc<BlockReader>]>,
    /// Head samples before it lie in blocks.
    flushed: i64,
    seen: Arc<[Seen]>,
    pub(super) late: Late,
    /// Whose numbers the late samples go by.
    epoch: u64,
    /// How many commits had brought histograms.
    pub(super) histograms: u64,
    /// What was deleted of the head when it was made; blocks bring their own. Later deletions do not show.
    pub(super) deleted: Arc<HeadTombstones>,
    /// While it lives, what was dropped from the head stays.
    _epoch: Arc<()>,
}

impl<'a> View<'a> {
    pub(crate) fn new(db: &'a Db, range: TimeRange) -> Self {
        let state = db.head.state.read();
        let seen: Arc<[Seen]> = state
            .timelines
            .iter()
            .map(|t| match t {
                Some(t) => Seen {
                    rows: t.sealed + u64::from(t.rows()),
                    newest: t.newest,
                },
                None => Seen {
                    rows: 0,
                    newest: i64::MIN,
                },
            })
            .collect();
        db.head.views.enter(&seen, state.epoch);
        Self {
            db,
            range,
            blocks: db.blocks.read().clone(),
            flushed: db.flushed(),
            seen,
            late: state.late.clone(),
            epoch: state.epoch,
            histograms: state.histograms.commits(),
            deleted: state.deleted.current(),
            _epoch: db.readers.current(),
        }
    }

    fn clip(&self, range: TimeRange) -> TimeRange {
        TimeRange::new(range.start.max(self.range.start), range.end.min(self.range.end))
    }

    pub(super) fn blocks_in(&self, range: TimeRange) -> impl Iterator<Item = (usize, &Arc<BlockReader>)> {
        self.blocks
            .iter()
            .enumerate()
            .filter(move |(_, b)| b.meta().range.overlaps(&range))
    }

    /// The range of the head's samples that no block has.
    pub(super) fn head_range(&self, range: TimeRange) -> TimeRange {
        TimeRange::new(range.start.max(Timestamp::from_millis(self.flushed)), range.end)
    }
}

pub(crate) fn select_error(error: &Error) -> SelectError {
    match error {
        Error::Corrupt { path, offset, what } => SelectError::Corrupt {
            path: path.display().to_string(),
            offset: *offset,
            what: what.clone(),
        },
        Error::Io { path, .. } => SelectError::Io {
            path: path.display().to_string(),
            cause: cause(error),
        },
        other => SelectError::Io {
            path: String::new(),
            cause: other.to_string(),
        },
    }
}

impl View<'_> {
    /// Whether a series may have late samples in a range, wherever it begins.
    pub(super) fn has_late(&self, state: &State, series: u32, range: TimeRange) -> bool {
        let old = (!self.late.is_empty()).then(|| state.series_in_epoch(series, self.epoch));
        let old = old.flatten();
        old.is_some_and(|s| self.late.overlaps(s, range.start.millis(), range.end.millis()))
    }

    /// Makes a series of histograms a group of its own; `None` if nothing of it is in the range.
    fn histogram_group(
        &self,
        search: &Search,
        one: &Found,
        range: TimeRange,
        cx: &ReadContext,
    ) -> Result<Option<HistogramSeries>, SelectError> {
        let mut gathering = Gathering::new(range);
        let mut runs = Vec::new();
        search.runs_of(one, &mut runs);
        for ((block, _), run) in search.keys.parts(one.key).iter().zip(&runs) {
            if let Some(reader) = self.blocks.get(*block as usize) {
                gathering.block(reader, *run, one.deleted_in(*block))?;
            }
        }
        let state = self.db.head.state.read();
        if let Some(series) = one.series {
            let parts = state.histograms.parts(series, self.head_range(range), self.histograms);
            gathering.head(parts.map_err(|e| malformed(&e))?, one.deleted_in(HEAD));
        }
        let labels = match &one.name {
            Named::Labels(labels) => labels.clone(),
            Named::Head(number) => state.index.read().labels(*number),
        };
        drop(state);
        gathering.finish(labels, cx)
    }

    fn seen(&self, timeline: u32) -> Seen {
        self.seen.get(timeline as usize).copied().unwrap_or(Seen {
            rows: 0,
            newest: i64::MIN,
        })
    }

    /// How many of the open rows the view sees.
    fn open_rows(&self, timeline: u32, t: &Timeline) -> u32 {
        u32::try_from(self.seen(timeline).rows.saturating_sub(t.sealed)).map_or(t.rows(), |n| n.min(t.rows()))
    }

    pub(super) fn overlaps(&self, state: &State, timeline: u32, range: TimeRange) -> bool {
        if range.is_empty() {
            return false;
        }
        let Some(t) = state.timeline(timeline) else {
            return false;
        };
        let end = range.end.millis().min(self.seen(timeline).newest);
        let start = range.start.millis();
        let rows = self.open_rows(timeline, t) as usize;
        let open = t.times.get(..rows).unwrap_or_default();
        open.first().is_some_and(|first| *first <= end) && open.last().is_some_and(|last| *last >= start)
            || t.runs
                .iter()
                .any(|r| r.base < self.seen(timeline).rows && r.first <= end && r.last >= start)
    }

    /// Groups of series of one kind with equal keys, and with equal deletions.
    pub(super) fn groups(&self, search: &Search, range: TimeRange, cx: &ReadContext) -> Result<SeriesSet, SelectError> {
        let order = in_order(&search.found);
        let mut out: SeriesSet = Vec::new();
        for members in order.chunk_by(|a, b| (a.kind, a.key) == (b.kind, b.key) && a.deleted == b.deleted) {
            cx.cancel.check()?;
            let Some(first) = members.first() else { continue };
            if first.kind == ColumnKind::Histogram {
                for one in members {
                    cx.cancel.check()?;
                    let series = self.histogram_group(search, one, range, cx)?;
                    out.extend(series.map(|series| Box::new(series) as Box<dyn SeriesGroup>));
                }
                continue;
            }
            for mut group in self.group(search, members, range, cx)? {
                if group.has_deleted() {
                    group.drop_deleted(cx)?;
                }
                if !group.times.is_empty() && !group.names.is_empty() {
                    out.push(Box::new(group));
                }
            }
        }
        Ok(out)
    }

    /// Makes a group of series with equal keys and equal deletions.
    fn group(
        &self,
        search: &Search,
        members: &[&Found],
        range: TimeRange,
        cx: &ReadContext,
    ) -> Result<Vec<Group>, SelectError> {
        let state = self.db.head.state.read();
        let mut group = Group {
            times: Vec::new(),
            parts: Vec::new(),
            names: Vec::with_capacity(members.len()),
            cells: Vec::new(),
            open: Vec::new(),
            chains: Vec::new(),
            index: Arc::clone(&state.index),
            _lease: None,
        };
        // For each part, how a member's cell is made: the n-th block run, a head run, or the open rows of a timeline.
        let mut shapes: Vec<Shape> = Vec::new();
        let mut part_times: Vec<Vec<Timestamp>> = Vec::new();
        let of = |source: u32| members.first().and_then(|m| m.deleted_in(source));
        let key = members.first().map_or_else(Vec::new, |m| search.keys.parts(m.key));
        for (nth, (source, id)) in key.iter().enumerate() {
            let known = group.parts.len();
            if *source == HEAD {
                self.head_parts(&state, *id, range, &mut group.parts, &mut shapes, &mut part_times)?;
            } else if *source == LATE {
                let series = state.series_in_epoch(*id, self.epoch).unwrap_or(NONE);
                let range = range.start.millis()..range.end.millis().saturating_add(1);
                let samples = self.late.read(series, range).map_err(|e| malformed(&e))?;
                let (times, values): (Vec<Timestamp>, Vec<f64>) = samples
                    .iter()
                    .map(|(at, value)| (Timestamp::from_millis(*at), *value))
                    .unzip();
                group.parts.push(Part {
                    clip: 0..times.len(),
                    source: Source::Plain(values),
                    at: 0,
                    deleted: None,
                });
                shapes.push(Shape::Plain);
                part_times.push(times);
            } else if let Some(reader) = self.blocks.get(*source as usize) {
                let span = reader.span(*id).map_err(|e| select_error(&e))?;
                let mut times = Vec::with_capacity(span.count as usize);
                reader
                    .span_timestamps(&span, &mut times)
                    .map_err(|e| select_error(&e))?;
                let clip = clip(&times, range);
                group.parts.push(Part {
                    source: Source::Block(Arc::clone(reader)),
                    clip,
                    at: 0,
                    deleted: None,
                });
                shapes.push(Shape::Block(nth));
                part_times.push(times);
            }
            if let Some(deleted) = of(*source) {
                let made = group.parts.iter_mut().skip(known);
                made.for_each(|part| part.deleted = Some(deleted.clone()));
            }
        }
        let mut runs = Vec::new();
        group.cells.reserve(members.len() * shapes.len());
        for member in members {
            group.names.push(member.name.clone());
            search.runs_of(member, &mut runs);
            for shape in &shapes {
                let cell = match shape {
                    Shape::Block(nth) => match runs.get(*nth) {
                        Some(run) => Cell::Block(*run),
                        None => Cell::Head(NONE),
                    },
                    Shape::Run => Cell::Head(member.series.unwrap_or(NONE)),
                    Shape::Plain => Cell::Plain,
                    Shape::Open(timeline) => group.copy_open(&state, *timeline, member.series.unwrap_or(NONE)),
                };
                group.cells.push(cell);
            }
        }
        drop(state);
        let bytes = group.chains.len()
            + group.cells.len() * size_of::<Cell>()
            + group.names.len() * 16
            + group.open.len() * size_of::<OpenColumn>()
            + part_times.iter().map(|t| t.len() * 8).sum::<usize>();
        group._lease = Some(cx.meter.lease(bytes as u64)?);
        group.lay_out(&part_times, cx)
    }

    fn head_parts(
        &self,
        state: &State,
        timeline: u32,
        range: TimeRange,
        parts: &mut Vec<Part>,
        shapes: &mut Vec<Shape>,
        part_times: &mut Vec<Vec<Timestamp>>,
    ) -> Result<(), SelectError> {
        let Some(t) = state.timeline(timeline) else {
            return Ok(());
        };
        let range = self.head_range(range);
        let seen = self.seen(timeline);
        let end = range.end.min(Timestamp::from_millis(seen.newest));
        let range = TimeRange::new(range.start, end);
        for run in t
            .runs
            .iter()
            .filter(|r| r.base < seen.rows && r.first <= end.millis() && r.last >= range.start.millis())
        {
            let mut times = Vec::with_capacity(run.rows as usize);
            run.times(&mut times).map_err(|e| in_run(run, &e))?;
            let clip = clip(&times, range);
            let renumbered = state
                .renumbered
                .iter()
                .rev()
                .take_while(|(e, _)| *e >= run.epoch)
                .map(|(_, old)| Arc::clone(old))
                .collect();
            parts.push(Part {
                source: Source::Run {
                    run: Arc::clone(run),
                    hidden: run.hidden.iter().find(|h| h.seen == seen.rows).map(Arc::clone),
                    renumbered,
                },
                clip,
                at: 0,
                deleted: None,
            });
            shapes.push(Shape::Run);
            part_times.push(times);
        }
        let rows = self.open_rows(timeline, t) as usize;
        let mut times: Vec<Timestamp> = Vec::with_capacity(rows);
        let mut group_of = Vec::with_capacity(rows);
        for at in t.times.get(..rows).unwrap_or_default() {
            let at = Timestamp::from_millis(*at);
            if times.last() != Some(&at) {
                times.push(at);
            }
            group_of.push((times.len() - 1) as u32);
        }
        let clip = clip(&times, range);
        if !clip.is_empty() {
            let presence = t.presence.get(..rows).unwrap_or_default().to_vec();
            parts.push(Part {
                source: Source::Open { group_of, presence },
                clip,
                at: 0,
                deleted: None,
            });
            shapes.push(Shape::Open(timeline));
            part_times.push(times);
        }
        Ok(())
    }
}

/// Series by kind, path and what was deleted of them; those that agree in all of it in the order in which they were found.
fn in_order(found: &[Found]) -> Vec<&Found> {
    // Numbers are sorted, and series looked at again only where something was deleted.
    let mut order: Vec<(ColumnKind, u32, u32)> = (0..).zip(found).map(|(at, f)| (f.kind, f.key, at)).collect();
    order.sort_unstable();
    let mut order: Vec<&Found> = order.iter().filter_map(|o| found.get(o.2 as usize)).collect();
    for alike in order.chunk_by_mut(|a, b| (a.kind, a.key) == (b.kind, b.key)) {
        if alike.iter().any(|f| !f.deleted.is_empty()) {
            alike.sort_by(|a, b| a.deleted.cmp(&b.deleted));
        }
    }
    order
}

/// How the cells of a part are made.
enum Shape {
    Block(usize),
    Run,
    Open(u32),
    Plain,
}

impl Querier for View<'_> {
    fn select(&self, matchers: &[Matcher], hints: &SelectHints, cx: &ReadContext) -> Result<SeriesSet, SelectError> {
        cx.cancel.check()?;
        let range = self.clip(hints.range);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let _numbering = self.db.numbering.read();
        let search = self.find(matchers, range, |_| true, cx)?;
        self.groups(&search, range, cx)
    }

    fn series(
        &self,
        matchers: &[Matcher],
        limit: usize,
        cx: &ReadContext,
    ) -> Result<Limited<Vec<Labels>>, SelectError> {
        let found = self.series_table(matchers, limit, cx)?;
        Ok(Limited {
            items: (0..found.items.len()).map(|row| found.items.labels(row)).collect(),
            truncated: found.truncated,
        })
    }

    fn series_table(
        &self,
        matchers: &[Matcher],
        limit: usize,
        cx: &ReadContext,
    ) -> Result<Limited<LabelTable>, SelectError> {
        cx.cancel.check()?;
        let _numbering = self.db.numbering.read();
        let mut table = self.list(matchers, cx)?;
        let truncated = limit > 0 && table.len() > limit;
        if truncated {
            table.truncate(limit);
        }
        Ok(Limited {
            items: table,
            truncated,
        })
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        limit: usize,
        cx: &ReadContext,
    ) -> Result<Limited<Vec<String>>, SelectError> {
        cx.cancel.check()?;
        let mut names = BTreeSet::new();
        for (_, block) in self.blocks_in(self.range) {
            names.extend(block.label_names(matchers, 0).map_err(|e| select_error(&e))?.items);
        }
        let _numbering = self.db.numbering.read();
        if let Some((index, series)) = self.head_series(matchers) {
            names.extend(index.read().label_names(series.as_deref()));
        }
        Ok(limited(names.into_iter().collect(), limit))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        limit: usize,
        cx: &ReadContext,
    ) -> Result<Limited<Vec<String>>, SelectError> {
        cx.cancel.check()?;
        let mut values = Values::default();
        for (_, block) in self.blocks_in(self.range) {
            values.begin();
            block
                .each_label_value(name, matchers, |value| values.push(value).map(|()| Scan::Next))
                .map_err(|e| select_error(&e))?;
        }
        let _numbering = self.db.numbering.read();
        if let Some((index, series)) = self.head_series(matchers) {
            values.add_all(index.read().label_values(name, series.as_deref()));
        }
        Ok(limited(values.finish(), limit))
    }
}

/// The index, and series by its numbers; `None`: all it has.
type HeadSeries = (Arc<RwLock<Index>>, Option<Vec<u32>>);

impl View<'_> {
    /// The head's series that match and may have samples in the view's range; `None` in place of all there are.
    fn head_series(&self, matchers: &[Matcher]) -> Option<HeadSeries> {
        let range = self.head_range(self.range);
        if range.is_empty() && self.late.is_empty() {
            return None;
        }
        let state = self.db.head.state.read();
        let index = Arc::clone(&state.index);
        // Asked once for each timeline, not for each series.
        let timelines = 0..state.timelines.len() as u32;
        let hit: Vec<bool> = timelines.map(|t| self.overlaps(&state, t, range)).collect();
        let is_hit = |timeline: u32| hit.get(timeline as usize).copied().unwrap_or(false);
        let whole = !range.is_empty()
            && state.oldest().is_some_and(|oldest| range.start.millis() <= oldest)
            && state.timelines.iter().zip(&hit).all(|(t, hit)| *hit || t.is_none())
            && state.histograms.is_empty()
            && state.series.len() == index.read().len()
            && all_owned(&state.series);
        if whole && matchers.is_empty() {
            drop(state);
            return Some((index, None));
        }
        let mut series = index.read().select(matchers);
        if !whole {
            let start = range.start.millis();
            series.retain(|series| {
                state
                    .columns_of(*series)
                    .any(|(_, c)| (c.place != NONE || c.last_at >= start) && is_hit(c.timeline))
                    || !state.left.is_empty()
                        && state
                            .left
                            .range((*series, 0)..=(*series, NONE))
                            .any(|(_, t)| is_hit(*t))
                    || self.has_late(&state, *series, self.range)
                    || state.histograms.overlaps(*series, range, self.histograms)
            });
        }
        drop(state);
        let series = Some(series);
        Some((index, series))
    }
}

/// Whether each series has samples of its own. Many at a time: this looks at all there are.
fn all_owned(series: &[SeriesState]) -> bool {
    series
        .chunks(256)
        .all(|some| some.iter().fold(true, |all, s| all & (s.owner != NONE)))
}

fn limited<T>(mut items: Vec<T>, limit: usize) -> Limited<Vec<T>> {
    let truncated = limit > 0 && items.len() > limit;
    if truncated {
        items.truncate(limit);
    }
    Limited { items, truncated }
}
