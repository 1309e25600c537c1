//! A view of the store: what it sees, what it finds, how that is grouped.

use super::group::{Cell, Group, Named, Part, Source, clip, in_run, malformed};
use super::histograms::Gathering;
use crate::Error;
use crate::block::{BlockReader, Run as BlockRun};
use crate::db::Db;
use crate::head::State;
use crate::head::deleted::HeadTombstones;
use crate::head::series::Index;
use crate::timeline::{NONE, OpenColumn, Timeline};
use crate::tombstones::Intervals;
use crate::wal::writer::cause;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use tidegauge_model::{
    ColumnKind, Labels, Limited, Matcher, Querier, ReadContext, SelectError, SelectHints, SeriesSet, TimeRange,
    Timestamp,
};

/// How much of a timeline a view sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    rows: u64,
    newest: i64,
}

/// What each living view sees.
#[derive(Debug, Default)]
pub(crate) struct Views(Mutex<Vec<Weak<[Seen]>>>);

impl Views {
    /// Enters a view. The caller holds the state that it saw.
    fn enter(&self, seen: &Arc<[Seen]>) {
        let mut views = self.0.lock();
        views.retain(|v| v.strong_count() > 0);
        views.push(Arc::downgrade(seen));
    }

    /// How many rows of a timeline each view sees.
    pub(crate) fn rows(&self, timeline: u32) -> Vec<u64> {
        let mut views = self.0.lock();
        views.retain(|v| v.strong_count() > 0);
        let living = views.iter().filter_map(Weak::upgrade);
        living
            .filter_map(|seen| seen.get(timeline as usize).map(|s| s.rows))
            .collect()
    }
}

/// A view of the store.
#[derive(Debug)]
pub(crate) struct View<'a> {
    db: &'a Db,
    range: TimeRange,
    blocks: Arc<[Arc<BlockReader>]>,
    /// Head samples before it lie in blocks.
    flushed: i64,
    seen: Arc<[Seen]>,
    /// How many commits had brought histograms.
    histograms: u64,
    /// What was deleted of the head when it was made; blocks bring their own. Later deletions do not show.
    deleted: Arc<HeadTombstones>,
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
        db.head.views.enter(&seen);
        Self {
            db,
            range,
            blocks: db.blocks.read().clone(),
            flushed: db.flushed(),
            seen,
            histograms: state.histograms.commits(),
            deleted: state.deleted.current(),
            _epoch: db.readers.current(),
        }
    }

    fn clip(&self, range: TimeRange) -> TimeRange {
        TimeRange::new(range.start.max(self.range.start), range.end.min(self.range.end))
    }

    fn blocks_in(&self, range: TimeRange) -> impl Iterator<Item = (usize, &Arc<BlockReader>)> {
        self.blocks
            .iter()
            .enumerate()
            .filter(move |(_, b)| b.meta().range.overlaps(&range))
    }

    /// The range of the head's samples that no block has.
    fn head_range(&self, range: TimeRange) -> TimeRange {
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

/// A part of a series before it is grouped: its place in the key, and the cell.
type Key = Vec<(u32, u32)>;
const HEAD: u32 = u32::MAX;

#[derive(Debug, Default)]
struct Found {
    kind: ColumnKind,
    key: Key,
    blocks: Vec<BlockRun>,
    series: Option<u32>,
    labels: Option<Labels>,
    /// What was deleted of it, by source.
    deleted: Vec<(u32, Intervals)>,
}

impl Found {
    fn deleted_in(&self, source: u32) -> Option<&Intervals> {
        self.deleted.iter().find(|d| d.0 == source).map(|d| &d.1)
    }
}

/// Where a series of one kind is among what was found.
type ByLabels = HashMap<(Labels, ColumnKind), usize>;

impl View<'_> {
    fn find(&self, matchers: &[Matcher], range: TimeRange, cx: &ReadContext) -> Result<Vec<Found>, SelectError> {
        let mut found: Vec<Found> = Vec::new();
        let mut by_labels = ByLabels::new();
        for (number, block) in self.blocks_in(range) {
            let series = block.select(matchers).map_err(|e| select_error(&e))?;
            let mut entries = block.entries().map_err(|e| select_error(&e))?;
            // Of each span, what lies in the range, and of what kind its values are.
            let mut overlaps: HashMap<u32, Option<(TimeRange, ColumnKind)>> = HashMap::new();
            for (n, no) in series.into_iter().enumerate() {
                if n % 1024 == 0 {
                    cx.cancel.check()?;
                }
                let mut entry = entries.seek(no).map_err(|e| select_error(&e))?;
                let deleted = block.deleted(no).filter(|d| d.overlap(range));
                let mut runs = Vec::with_capacity(entry.runs().len());
                let mut histograms = Vec::new();
                for run in entry.runs() {
                    let hit = match overlaps.get(&run.span) {
                        Some(hit) => *hit,
                        None => {
                            let span = block.span(run.span).map_err(|e| select_error(&e))?;
                            let hit = TimeRange::new(span.first.max(range.start), span.last.min(range.end));
                            let hit = (!hit.is_empty()).then_some((hit, span.kind));
                            overlaps.insert(run.span, hit);
                            hit
                        }
                    };
                    let left = hit.filter(|(own, _)| !deleted.is_some_and(|d| d.cover(*own)));
                    match left.map(|(_, kind)| kind) {
                        Some(ColumnKind::Float) => runs.push(*run),
                        Some(ColumnKind::Histogram) => histograms.push(*run),
                        None => {}
                    }
                }
                for (kind, runs) in [(ColumnKind::Float, runs), (ColumnKind::Histogram, histograms)] {
                    if runs.is_empty() {
                        continue;
                    }
                    let labels = entry.labels().map_err(|e| select_error(&e))?;
                    let at = *by_labels.entry((labels.clone(), kind)).or_insert_with(|| {
                        found.push(Found {
                            kind,
                            labels: Some(labels),
                            ..Found::default()
                        });
                        found.len() - 1
                    });
                    if let Some(f) = found.get_mut(at) {
                        f.key.extend(runs.iter().map(|r| (number as u32, r.span)));
                        f.blocks.extend(runs);
                        f.deleted.extend(deleted.map(|d| (number as u32, d.clone())));
                    }
                }
            }
        }
        Ok(self.find_in_head(matchers, range, found, &by_labels))
    }

    fn find_in_head(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        mut found: Vec<Found>,
        by_labels: &ByLabels,
    ) -> Vec<Found> {
        let range = self.head_range(range);
        if range.is_empty() {
            return found;
        }
        let state = self.db.head.state.read();
        let index = state.index.read();
        let start = range.start.millis();
        for series in index.select(matchers) {
            let mut timelines: Vec<u32> = state
                .columns_of(series)
                .filter(|(_, c)| c.timeline != NONE && (c.place != NONE || c.last_at >= start))
                // It may keep its place among the open rows for samples that have not come.
                .filter(|(n, c)| c.last_at >= start || state.last_of(*n).is_some_and(|(at, _)| at >= start))
                .map(|(_, c)| c.timeline)
                .chain(state.left.range((series, 0)..=(series, NONE)).map(|(_, t)| *t))
                .collect();
            timelines.sort_unstable();
            timelines.dedup();
            timelines.retain(|t| self.overlaps(&state, *t, range));
            let deleted = self.deleted.get(&state, series).filter(|d| d.overlap(range));
            if deleted.is_some_and(|d| d.cover(range)) {
                continue;
            }
            let histograms = state.histograms.overlaps(series, range, self.histograms);
            for (kind, hit) in [
                (ColumnKind::Float, !timelines.is_empty()),
                (ColumnKind::Histogram, histograms),
            ] {
                if !hit {
                    continue;
                }
                let known = if by_labels.is_empty() {
                    None
                } else {
                    by_labels.get(&(index.labels(series), kind))
                };
                let at = known.copied().unwrap_or_else(|| {
                    found.push(Found {
                        kind,
                        ..Found::default()
                    });
                    found.len() - 1
                });
                if let Some(f) = found.get_mut(at) {
                    f.series = Some(series);
                    if kind == ColumnKind::Float {
                        f.key.extend(timelines.iter().map(|t| (HEAD, *t)));
                    }
                    f.deleted.extend(deleted.map(|d| (HEAD, d.clone())));
                }
            }
        }
        found
    }

    /// Adds the series of histograms, each a group of its own.
    fn histogram_groups(
        &self,
        found: &[Found],
        range: TimeRange,
        cx: &ReadContext,
        out: &mut SeriesSet,
    ) -> Result<(), SelectError> {
        for one in found {
            cx.cancel.check()?;
            let mut gathering = Gathering::new(range);
            for ((block, _), run) in one.key.iter().zip(&one.blocks) {
                if let Some(reader) = self.blocks.get(*block as usize) {
                    gathering.block(reader, *run, one.deleted_in(*block))?;
                }
            }
            let mut labels = one.labels.clone();
            if let Some(series) = one.series {
                let state = self.db.head.state.read();
                let parts = state.histograms.parts(series, self.head_range(range), self.histograms);
                gathering.head(parts.map_err(|e| malformed(&e))?, one.deleted_in(HEAD));
                labels = labels.or_else(|| Some(state.index.read().labels(series)));
            }
            let series = gathering.finish(labels.unwrap_or_else(Labels::empty), cx)?;
            if let Some(series) = series {
                out.push(Box::new(series));
            }
        }
        Ok(())
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

    fn overlaps(&self, state: &State, timeline: u32, range: TimeRange) -> bool {
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
    fn groups(&self, found: &mut [Found], range: TimeRange, cx: &ReadContext) -> Result<SeriesSet, SelectError> {
        found.sort_by(|a, b| (a.kind, &a.key, &a.deleted).cmp(&(b.kind, &b.key, &b.deleted)));
        let mut out: SeriesSet = Vec::new();
        let floats = found.partition_point(|f| f.kind == ColumnKind::Float);
        let (floats, histograms) = found.split_at_checked(floats).unwrap_or_default();
        self.histogram_groups(histograms, range, cx, &mut out)?;
        for members in floats.chunk_by(|a, b| a.key == b.key && a.deleted == b.deleted) {
            cx.cancel.check()?;
            let Some(first) = members.first() else { continue };
            for mut group in self.group(&first.key, members, range, cx)? {
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
        key: &Key,
        members: &[Found],
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
        for (nth, (source, id)) in key.iter().enumerate() {
            let known = group.parts.len();
            if *source == HEAD {
                self.head_parts(&state, *id, range, &mut group.parts, &mut shapes, &mut part_times)?;
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
        for member in members {
            group.names.push(match (&member.labels, member.series) {
                (Some(labels), _) => Named::Labels(labels.clone()),
                (None, series) => Named::Head(series.unwrap_or(NONE)),
            });
            for shape in &shapes {
                let cell = match shape {
                    Shape::Block(nth) => match member.blocks.get(*nth) {
                        Some(run) => Cell::Block(*run),
                        None => Cell::Head(NONE),
                    },
                    Shape::Run => Cell::Head(member.series.unwrap_or(NONE)),
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

/// How the cells of a part are made.
enum Shape {
    Block(usize),
    Run,
    Open(u32),
}

impl Querier for View<'_> {
    fn select(&self, matchers: &[Matcher], hints: &SelectHints, cx: &ReadContext) -> Result<SeriesSet, SelectError> {
        cx.cancel.check()?;
        let range = self.clip(hints.range);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let _numbering = self.db.numbering.read();
        let mut found = self.find(matchers, range, cx)?;
        self.groups(&mut found, range, cx)
    }

    fn series(
        &self,
        matchers: &[Matcher],
        limit: usize,
        cx: &ReadContext,
    ) -> Result<Limited<Vec<Labels>>, SelectError> {
        cx.cancel.check()?;
        let _numbering = self.db.numbering.read();
        let found = self.find(matchers, self.range, cx)?;
        let (mut cut, whole): (Vec<Found>, Vec<Found>) = found.into_iter().partition(|f| !f.deleted.is_empty());
        let mut all = Vec::with_capacity(whole.len());
        // Deletions may leave nothing of a series.
        for group in self.groups(&mut cut, self.range, cx)? {
            all.extend((0..group.len()).map(|series| group.labels(series)));
        }
        let index = Arc::clone(&self.db.head.state.read().index);
        let index = index.read();
        let rest = whole.into_iter();
        all.extend(rest.map(|f| f.labels.unwrap_or_else(|| index.labels(f.series.unwrap_or(NONE)))));
        all.sort_unstable();
        all.dedup();
        Ok(limited(all, limit))
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
        let mut values = BTreeSet::new();
        for (_, block) in self.blocks_in(self.range) {
            values.extend(
                block
                    .label_values(name, matchers, 0)
                    .map_err(|e| select_error(&e))?
                    .items,
            );
        }
        let _numbering = self.db.numbering.read();
        if let Some((index, series)) = self.head_series(matchers) {
            values.extend(index.read().label_values(name, series.as_deref()));
        }
        Ok(limited(values.into_iter().collect(), limit))
    }
}

/// The index, and series by its numbers; `None`: all it has.
type HeadSeries = (Arc<RwLock<Index>>, Option<Vec<u32>>);

impl View<'_> {
    /// The head's series that match and may have samples in the view's range; `None` in place of all there are.
    fn head_series(&self, matchers: &[Matcher]) -> Option<HeadSeries> {
        let range = self.head_range(self.range);
        if range.is_empty() {
            return None;
        }
        let state = self.db.head.state.read();
        let index = Arc::clone(&state.index);
        // Asked once for each timeline, not for each series.
        let timelines = 0..state.timelines.len() as u32;
        let hit: Vec<bool> = timelines.map(|t| self.overlaps(&state, t, range)).collect();
        let is_hit = |timeline: u32| hit.get(timeline as usize).copied().unwrap_or(false);
        let whole = state.oldest().is_some_and(|oldest| range.start.millis() <= oldest)
            && state.timelines.iter().zip(&hit).all(|(t, hit)| *hit || t.is_none())
            && state.histograms.is_empty()
            && state.series.len() == index.read().len()
            && state.series.iter().all(|s| s.owner != NONE);
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
                    || state.histograms.overlaps(*series, range, self.histograms)
            });
        }
        drop(state);
        let series = Some(series);
        Some((index, series))
    }
}

fn limited<T>(mut items: Vec<T>, limit: usize) -> Limited<Vec<T>> {
    let truncated = limit > 0 && items.len() > limit;
    if truncated {
        items.truncate(limit);
    }
    Limited { items, truncated }
}
