//! Which series match, and where their samples lie.
//!
//! ```text
//!   key of a series = a path:   start ── (block 0, span 3) ── (block 1, span 5) ── (head, timeline 7)
//! ```
//!
//! Series of one target have one path, so a path is a number, and to go on along it a lookup. A series that is in
//! several places is told to be one by its number in the head; one that the head does not have, by its labels.

use super::group::Named;
use super::view::{View, select_error};
use crate::block::{BlockReader, Run as BlockRun, SeriesNo};
use crate::head::State;
use crate::head::series::Index;
use crate::timeline::NONE;
use crate::tombstones::Intervals;
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::sync::Arc;
use tidegauge_model::{ColumnKind, Labels, Matcher, ReadContext, SelectError, TimeRange};

/// Stands for the number of a block where samples of the head are meant.
pub(super) const HEAD: u32 = u32::MAX;
/// The same for late samples of the head, which are of one series: its number takes the place of the timeline.
pub(super) const LATE: u32 = u32::MAX - 1;

/// A part of a key: the block's number and the span, or [`HEAD`] and the timeline.
pub(super) type KeyPart = (u32, u32);

/// A series of one kind.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) kind: ColumnKind,
    /// Its path in [`Search::keys`].
    pub(super) key: u32,
    pub(super) name: Named,
    /// Its number in the head, if it has samples there.
    pub(super) series: Option<u32>,
    /// The last of its runs in [`Search::runs`].
    last_run: u32,
    /// What was deleted of it, by source.
    pub(super) deleted: Vec<(u32, Intervals)>,
}

impl Found {
    pub(super) fn deleted_in(&self, source: u32) -> Option<&Intervals> {
        self.deleted.iter().find(|d| d.0 == source).map(|d| &d.1)
    }
}

/// Paths.
#[derive(Debug)]
pub(super) struct Keys {
    /// The path that one goes on from, and by what. The first is the path of no parts.
    nodes: Vec<(u32, KeyPart)>,
    next: HashMap<(u32, KeyPart), u32>,
    /// What was looked up last: neighbours mostly go the same way.
    last: ((u32, KeyPart), u32),
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            nodes: vec![(NONE, (NONE, NONE))],
            next: HashMap::new(),
            last: ((NONE, (NONE, NONE)), NONE),
        }
    }
}

impl Keys {
    /// The path one step on.
    fn then(&mut self, key: u32, part: KeyPart) -> u32 {
        if self.last.0 == (key, part) {
            return self.last.1;
        }
        let nodes = &mut self.nodes;
        let next = *self.next.entry((key, part)).or_insert_with(|| {
            nodes.push((key, part));
            (nodes.len() - 1) as u32
        });
        self.last = ((key, part), next);
        next
    }

    /// The parts of a path, in order.
    pub(super) fn parts(&self, mut key: u32) -> Vec<KeyPart> {
        let mut parts = Vec::new();
        while let Some((before, part)) = self.nodes.get(key as usize).filter(|(before, _)| *before != NONE) {
            parts.push(*part);
            key = *before;
        }
        parts.reverse();
        parts
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Search {
    pub(super) found: Vec<Found>,
    pub(super) keys: Keys,
    /// Runs in blocks, each with the one before of its series.
    runs: Vec<(BlockRun, u32)>,
    by_number: HashMap<(u32, ColumnKind), u32>,
    by_labels: HashMap<(Labels, ColumnKind), u32>,
    /// Whether a series may be in several sources.
    several: bool,
    /// How many were found in the sources before: no source has a series twice, so only these can be met again.
    earlier: usize,
    /// How many of those are in the tables, which are made when they are first needed.
    listed: usize,
    /// The one to be met next, if this source has them in the order of the one before.
    expected: usize,
}

impl Search {
    /// Puts the runs of a series that lie in blocks into `out`, in the order of its key.
    pub(super) fn runs_of(&self, found: &Found, out: &mut Vec<BlockRun>) {
        out.clear();
        let mut at = found.last_run;
        while let Some((run, before)) = self.runs.get(at as usize) {
            out.push(*run);
            at = *before;
        }
        out.reverse();
    }

    /// From here on series are those of another source: so many, most of which may have been found elsewhere.
    fn begin_source(&mut self, series: usize) {
        self.found.reserve(series.saturating_sub(self.found.len()));
        (self.earlier, self.expected) = (self.found.len(), 0);
    }

    /// The number of a series among those found, a new one if it was not found before.
    fn place(&mut self, name: Named, kind: ColumnKind) -> u32 {
        if let Some(known) = self.known(&name, kind) {
            self.expected = known as usize + 1;
            return known;
        }
        self.found.push(Found {
            kind,
            key: 0,
            name,
            series: None,
            last_run: NONE,
            deleted: Vec::new(),
        });
        (self.found.len() - 1) as u32
    }

    /// The number of a series that an earlier source has.
    fn known(&mut self, name: &Named, kind: ColumnKind) -> Option<u32> {
        if !self.several || self.earlier == 0 {
            return None;
        }
        if let (Named::Head(number), Some(expected)) = (name, self.found.get(self.expected))
            && self.expected < self.earlier
            && expected.kind == kind
            && matches!(expected.name, Named::Head(other) if other == *number)
        {
            return Some(self.expected as u32);
        }
        self.list();
        match name {
            Named::Head(number) => self.by_number.get(&(*number, kind)).copied(),
            Named::Labels(labels) => self.by_labels.get(&(labels.clone(), kind)).copied(),
        }
    }

    /// Enters what earlier sources have into the tables.
    fn list(&mut self) {
        let new = self.found.get(self.listed..self.earlier).unwrap_or_default();
        if new.is_empty() {
            return;
        }
        self.by_number.reserve(new.len());
        for (found, place) in new.iter().zip(self.listed as u32..) {
            match &found.name {
                Named::Head(number) => self.by_number.insert((*number, found.kind), place),
                Named::Labels(labels) => self.by_labels.insert((labels.clone(), found.kind), place),
            };
        }
        self.listed = self.earlier;
    }

    fn add_run(&mut self, place: u32, block: u32, run: BlockRun) {
        if let Some(found) = self.found.get_mut(place as usize) {
            found.key = self.keys.then(found.key, (block, run.span));
            self.runs.push((run, found.last_run));
            found.last_run = (self.runs.len() - 1) as u32;
        }
    }

    fn add_part(&mut self, place: u32, part: KeyPart) {
        if let Some(found) = self.found.get_mut(place as usize) {
            found.key = self.keys.then(found.key, part);
        }
    }
}

/// What of a block's spans lies in a range, and of what kind their values are; each is looked at once.
struct Spans<'r> {
    block: &'r BlockReader,
    range: TimeRange,
    known: HashMap<u32, Option<(TimeRange, ColumnKind)>>,
    last: (u32, Option<(TimeRange, ColumnKind)>),
}

impl<'r> Spans<'r> {
    fn new(block: &'r BlockReader, range: TimeRange) -> Self {
        Self {
            block,
            range,
            known: HashMap::new(),
            last: (NONE, None),
        }
    }

    fn hit(&mut self, no: u32) -> Result<Option<(TimeRange, ColumnKind)>, SelectError> {
        if self.last.0 == no {
            return Ok(self.last.1);
        }
        let hit = match self.known.get(&no) {
            Some(hit) => *hit,
            None => {
                let span = self.block.span(no).map_err(|e| select_error(&e))?;
                let own = TimeRange::new(span.first.max(self.range.start), span.last.min(self.range.end));
                let hit = (!own.is_empty()).then_some((own, span.kind));
                self.known.insert(no, hit);
                hit
            }
        };
        self.last = (no, hit);
        Ok(hit)
    }
}

/// Names series of a block: by their numbers in the head, where it has them.
pub(super) struct Names<'r> {
    numbers: crate::block::HeadNumbers<'r>,
    index: Arc<RwLock<Index>>,
}

impl<'r> Names<'r> {
    /// The caller holds on to how series are numbered.
    pub(super) fn new(view: &View<'_>, block: &'r BlockReader) -> Self {
        let state = view.db.head.state.read();
        Self {
            numbers: block.head_numbers(state.epoch),
            index: Arc::clone(&state.index),
        }
    }

    /// The number of a series, if it was found out before.
    pub(super) fn known(&mut self, no: SeriesNo) -> Option<u32> {
        self.numbers.get(no)
    }

    /// The name of a series whose labels have to be read to know it.
    pub(super) fn learn(&mut self, no: SeriesNo, labels: Labels) -> Named {
        let found = self.index.read().find(&labels);
        match found {
            Some(number) => {
                self.numbers.set(no, number);
                Named::Head(number)
            }
            None => Named::Labels(labels),
        }
    }
}

impl View<'_> {
    /// The series that match and have samples in the range, of the blocks that `wanted` takes and of the head. The
    /// caller holds on to how series are numbered.
    pub(super) fn find(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        wanted: impl Fn(&BlockReader) -> bool,
        cx: &ReadContext,
    ) -> Result<Search, SelectError> {
        let blocks = || self.blocks_in(range).filter(|(_, block)| wanted(block));
        let in_head = !self.head_range(range).is_empty() || !self.late.is_empty();
        let mut search = Search {
            several: blocks().count() + usize::from(in_head) > 1,
            ..Search::default()
        };
        for (number, block) in blocks() {
            self.find_in_block(number as u32, block, matchers, range, &mut search, cx)?;
        }
        if in_head {
            self.find_in_head(matchers, range, &mut search);
        }
        Ok(search)
    }

    fn find_in_block(
        &self,
        number: u32,
        block: &BlockReader,
        matchers: &[Matcher],
        range: TimeRange,
        search: &mut Search,
        cx: &ReadContext,
    ) -> Result<(), SelectError> {
        let series = block.select(matchers).map_err(|e| select_error(&e))?;
        let mut entries = block.kept_entries().map_err(|e| select_error(&e))?;
        let mut spans = Spans::new(block, range);
        let mut names = Names::new(self, block);
        let mut runs: Vec<(BlockRun, ColumnKind)> = Vec::new();
        search.begin_source(series.len());
        for (n, no) in series.into_iter().enumerate() {
            if n % 1024 == 0 {
                cx.cancel.check()?;
            }
            let mut entry = entries.seek(no).map_err(|e| select_error(&e))?;
            let deleted = block.deleted(no).filter(|d| d.overlap(range));
            runs.clear();
            for run in entry.runs() {
                let hit = spans.hit(run.span)?;
                let left = hit.filter(|(own, _)| !deleted.is_some_and(|d| d.cover(*own)));
                runs.extend(left.map(|(_, kind)| (*run, kind)));
            }
            let mut name = None;
            for kind in [ColumnKind::Float, ColumnKind::Histogram] {
                if !runs.iter().any(|r| r.1 == kind) {
                    continue;
                }
                let name = match &name {
                    Some(name) => name,
                    None => {
                        let made = match names.known(no) {
                            Some(number) => Named::Head(number),
                            None => names.learn(no, entry.labels().map_err(|e| select_error(&e))?),
                        };
                        name.insert(made)
                    }
                };
                let place = search.place(name.clone(), kind);
                for (run, _) in runs.iter().filter(|r| r.1 == kind) {
                    search.add_run(place, number, *run);
                }
                if let Some(found) = search.found.get_mut(place as usize) {
                    found.deleted.extend(deleted.map(|d| (number, d.clone())));
                }
            }
        }
        Ok(())
    }

    fn find_in_head(&self, matchers: &[Matcher], range: TimeRange, search: &mut Search) {
        let (all, range) = (range, self.head_range(range));
        let state = self.db.head.state.read();
        let index = Arc::clone(&state.index);
        let index = index.read();
        let start = range.start.millis();
        let mut hit = Hits::new(self, &state, range);
        let mut timelines: Vec<u32> = Vec::new();
        let selected = index.select(matchers);
        search.begin_source(selected.len());
        for series in selected {
            timelines.clear();
            timelines.extend(
                state
                    .columns_of(series)
                    .filter(|(_, c)| c.timeline != NONE && (c.place != NONE || c.last_at >= start))
                    // It may keep its place among the open rows for samples that have not come.
                    .filter(|(n, c)| c.last_at >= start || state.last_of(*n).is_some_and(|(at, _)| at >= start))
                    .map(|(_, c)| c.timeline),
            );
            if !state.left.is_empty() {
                timelines.extend(state.left.range((series, 0)..=(series, NONE)).map(|(_, t)| *t));
            }
            if timelines.len() > 1 {
                timelines.sort_unstable();
                timelines.dedup();
            }
            timelines.retain(|t| hit.get(*t));
            let late = self.has_late(&state, series, all);
            let deleted = self.deleted.get(&state, series).filter(|d| d.overlap(range));
            if deleted.is_some_and(|d| d.cover(range)) && !late {
                continue;
            }
            let histograms = state.histograms.overlaps(series, range, self.histograms);
            for (kind, hit) in [
                (ColumnKind::Float, late || !timelines.is_empty()),
                (ColumnKind::Histogram, histograms),
            ] {
                if !hit {
                    continue;
                }
                let place = search.place(Named::Head(series), kind);
                if kind == ColumnKind::Float {
                    for timeline in &timelines {
                        search.add_part(place, (HEAD, *timeline));
                    }
                    if late {
                        search.add_part(place, (LATE, series));
                    }
                }
                if let Some(found) = search.found.get_mut(place as usize) {
                    found.series = Some(series);
                    found.deleted.extend(deleted.map(|d| (HEAD, d.clone())));
                }
            }
        }
    }
}

/// Which timelines of the head have rows in a range; each is looked at once.
struct Hits<'s> {
    view: &'s View<'s>,
    state: &'s State,
    range: TimeRange,
    known: Vec<Option<bool>>,
}

impl<'s> Hits<'s> {
    fn new(view: &'s View<'_>, state: &'s State, range: TimeRange) -> Self {
        Self {
            view,
            state,
            range,
            known: vec![None; state.timelines.len()],
        }
    }

    fn get(&mut self, timeline: u32) -> bool {
        let Some(known) = self.known.get_mut(timeline as usize) else {
            return false;
        };
        *known.get_or_insert_with(|| self.view.overlaps(self.state, timeline, self.range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_of_several_sources_is_found_once_in_whatever_order() {
        let named = |text: &str| -> Vec<(Named, ColumnKind)> {
            let labels = |c: char| Labels::from_pairs([("a", c.to_string())]).unwrap();
            text.chars()
                .map(|c| match c {
                    '0'..='9' => (Named::Head(c as u32 - '0' as u32), ColumnKind::Float),
                    'a'..='f' => (Named::Head(c as u32 - 'a' as u32), ColumnKind::Histogram),
                    other => (Named::Labels(labels(other)), ColumnKind::Float),
                })
                .collect()
        };
        for (places, expected) in [
            (&["123"][..], &[&[0, 1, 2][..]][..]),
            (&["123", "123", "123"], &[&[0, 1, 2], &[0, 1, 2], &[0, 1, 2]]),
            (&["123", "321"], &[&[0, 1, 2], &[2, 1, 0]]),
            (
                &["135", "12345", "54321"],
                &[&[0, 1, 2], &[0, 3, 1, 4, 2], &[2, 4, 1, 3, 0]],
            ),
            (&["1x2", "12y", "yx21b"], &[&[0, 1, 2], &[0, 2, 3], &[3, 1, 2, 0, 4]]),
            (&["1b", "b1", "12"], &[&[0, 1], &[1, 0], &[0, 2]]),
            (&["", "12"], &[&[], &[0, 1]]),
        ] {
            let mut search = Search {
                several: places.len() > 1,
                ..Search::default()
            };
            let found: Vec<Vec<u32>> = places
                .iter()
                .map(|place| {
                    let series = named(place);
                    search.begin_source(series.len());
                    series
                        .into_iter()
                        .map(|(name, kind)| search.place(name, kind))
                        .collect()
                })
                .collect();
            assert_eq!(found, expected, "{places:?}");
        }
    }

    #[test]
    fn equal_paths_are_one_number_and_read_back() {
        let mut keys = Keys::default();
        let walk = |keys: &mut Keys, parts: &[KeyPart]| parts.iter().fold(0, |key, part| keys.then(key, *part));
        let paths: [&[KeyPart]; 5] = [
            &[],
            &[(0, 3)],
            &[(0, 3), (1, 5)],
            &[(1, 5), (0, 3)],
            &[(0, 3), (1, 5), (HEAD, 7)],
        ];
        let numbers: Vec<u32> = paths.iter().map(|parts| walk(&mut keys, parts)).collect();
        for (parts, number) in paths.iter().zip(&numbers) {
            assert_eq!(walk(&mut keys, parts), *number);
            assert_eq!(keys.parts(*number), *parts);
        }
        let mut distinct = numbers.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), numbers.len());
    }
}
