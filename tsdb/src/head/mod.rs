//! The recent window: labels, timelines with their open rows, sealed runs.
//!
//! ```text
//!   Index   label set <-> series number, postings                      (its own lock; replaced whole by gc)
//!   State   timelines: open rows + sealed runs                         (one lock; written only by who holds the log)
//!           late:      samples that came behind their series' newest
//!           columns:   SeriesRef -> (series, timeline, place)
//!           series:    its columns, its owner
//! ```
//!
//! A **column** is a series as it was resolved on one timeline (its home) or on none. Its values lie on the timeline
//! it is on now: home, or one that the store made for samples with a time of their own. `left` names timelines that
//! hold older samples of a series and no column of it any more. Native histograms lie beside the timelines, by series.

pub(crate) mod append;
pub(crate) mod checkpoint;
pub(crate) mod deleted;
pub(crate) mod delta;
pub(crate) mod exemplar;
pub(crate) mod gc;
pub(crate) mod histogram;
pub(crate) mod histogram_code;
pub(crate) mod kept_kinds;
pub(crate) mod late;
pub(crate) mod postings;
pub(crate) mod publish;
pub(crate) mod replay;
pub(crate) mod resolve;
pub(crate) mod run;
pub(crate) mod runfile;
pub(crate) mod seal;
pub(crate) mod series;
pub(crate) mod stage;
pub(crate) mod stage_histogram;
pub(crate) mod staged;
pub(crate) mod symbols;

use crate::codec::Malformed;
use crate::timeline::{NONE, Timeline};
use deleted::Deletions;
use hashbrown::{HashMap, HashSet};
use histogram::Histograms;
use parking_lot::RwLock;
use series::Index;
use stage::LateAppend;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegauge_model::SeriesRef;

/// One series as it was resolved once.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) series: u32,
    /// The timeline it was resolved on; `NONE` for a loose one.
    pub(crate) home: u32,
    /// Where its samples go; `NONE` before the first.
    pub(crate) timeline: u32,
    /// Its place among the open rows there; `NONE` if it has none.
    pub(crate) place: u32,
    pub(crate) generation: u32,
    /// The next column of the series.
    pub(crate) next: u32,
    /// Its newest sample of before the open rows; `i64::MIN`: none.
    pub(crate) last_at: i64,
    pub(crate) last: f64,
    /// It will be let go unless someone takes it before the next round.
    pub(crate) doomed: AtomicBool,
    pub(crate) free: bool,
}

/// What a series' number leads to beside its labels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeriesState {
    /// The first of its columns.
    pub(crate) first: u32,
    /// The column that owns it; `NONE` before its first sample.
    pub(crate) owner: u32,
}

/// Everything about samples. Written only while the log is held, so that whoever holds the log may plan on it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) timelines: Vec<Option<Timeline>>,
    pub(crate) free_timelines: Vec<u32>,
    pub(crate) timeline_generations: Vec<u32>,
    pub(crate) keys: HashMap<Box<str>, u32>,
    pub(crate) columns: Vec<Column>,
    pub(crate) free_columns: Vec<u32>,
    pub(crate) series: Vec<SeriesState>,
    pub(crate) left: BTreeSet<(u32, u32)>,
    pub(crate) histograms: Histograms,
    /// A timeline without a key by the time of its newest row.
    pub(crate) loose: HashMap<i64, u32>,
    pub(crate) index: Arc<RwLock<Index>>,
    /// Counts indexes; the runs of before keep the old numbers.
    pub(crate) epoch: u64,
    /// For each older epoch still in use, the old number of each series of the next one.
    pub(crate) renumbered: Vec<(u64, Arc<[u32]>)>,
    /// Rows before it are too old: their window is closed.
    pub(crate) min_valid: i64,
    /// Time of the newest row.
    pub(crate) newest: i64,
    pub(crate) deleted: Deletions,
    pub(crate) late: late::Late,
    /// Series whose late samples went to a block while views of before may still read them here.
    pub(crate) late_leaving: HashSet<u32>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            timelines: Vec::new(),
            free_timelines: Vec::new(),
            timeline_generations: Vec::new(),
            keys: HashMap::new(),
            columns: Vec::new(),
            free_columns: Vec::new(),
            series: Vec::new(),
            left: BTreeSet::new(),
            histograms: Histograms::default(),
            loose: HashMap::new(),
            index: Arc::default(),
            epoch: 0,
            renumbered: Vec::new(),
            min_valid: i64::MIN,
            newest: i64::MIN,
            deleted: Deletions::default(),
            late: late::Late::default(),
            late_leaving: HashSet::new(),
        }
    }
}

impl State {
    pub(crate) fn timeline(&self, timeline: u32) -> Option<&Timeline> {
        self.timelines.get(timeline as usize).and_then(Option::as_ref)
    }

    pub(crate) fn timeline_mut(&mut self, timeline: u32) -> Option<&mut Timeline> {
        self.timelines.get_mut(timeline as usize).and_then(Option::as_mut)
    }

    /// What upstream calls chunks: columns of sealed runs, of open rows, and of native histograms.
    pub(crate) fn chunks(&self) -> u64 {
        let of_timelines = self.timelines.iter().flatten().map(|t| {
            let sealed: u64 = t.runs.iter().map(|r| u64::from(r.columns)).sum();
            sealed + t.places.len() as u64
        });
        of_timelines.sum::<u64>() + self.histograms.chunks()
    }

    pub(crate) fn add_timeline(&mut self, key: Option<&str>) -> u32 {
        let made = Some(Timeline::new(key));
        let timeline = match self.free_timelines.pop() {
            Some(free) => {
                if let Some(slot) = self.timelines.get_mut(free as usize) {
                    *slot = made;
                }
                free
            }
            None => {
                self.timelines.push(made);
                self.timeline_generations.push(0);
                (self.timelines.len() - 1) as u32
            }
        };
        if let Some(key) = key {
            self.keys.insert(key.into(), timeline);
        }
        timeline
    }

    /// The bits of a `TimelineRef` or `SeriesRef`: number and generation.
    pub(crate) fn timeline_bits(&self, timeline: u32) -> u64 {
        let generation = self.timeline_generations.get(timeline as usize).copied().unwrap_or(0);
        u64::from(generation) << 32 | u64::from(timeline)
    }

    /// The bits of a reference to a timeline, kept from being let go.
    pub(crate) fn take_timeline(&self, timeline: u32) -> u64 {
        if let Some(t) = self.timeline(timeline)
            && t.doomed.load(Ordering::Relaxed)
        {
            t.doomed.store(false, Ordering::Relaxed);
        }
        self.timeline_bits(timeline)
    }

    /// The timeline of a reference, if it is still the one that was meant; kept from being let go.
    pub(crate) fn timeline_of(&self, bits: u64) -> Option<u32> {
        let timeline = bits as u32;
        let known = self.timeline_bits(timeline) == bits && self.timeline(timeline).is_some();
        (known && self.take_timeline(timeline) == bits).then_some(timeline)
    }

    pub(crate) fn column(&self, column: u32) -> Option<&Column> {
        self.columns.get(column as usize)
    }

    pub(crate) fn column_mut(&mut self, column: u32) -> Option<&mut Column> {
        self.columns.get_mut(column as usize)
    }

    /// The column of a reference, kept from being let go.
    pub(crate) fn column_of(&self, bits: u64) -> Option<(u32, &Column)> {
        let number = bits as u32;
        let column = self.column(number)?;
        if column.free || u64::from(column.generation) != bits >> 32 {
            return None;
        }
        if column.doomed.load(Ordering::Relaxed) {
            column.doomed.store(false, Ordering::Relaxed);
        }
        Some((number, column))
    }

    pub(crate) fn series_ref(&self, column: u32) -> SeriesRef {
        let generation = self.column(column).map_or(0, |c| c.generation);
        SeriesRef::from_bits(u64::from(generation) << 32 | u64::from(column))
    }

    /// The columns of a series.
    pub(crate) fn columns_of(&self, series: u32) -> impl Iterator<Item = (u32, &Column)> + '_ {
        let mut next = self.series.get(series as usize).map_or(NONE, |s| s.first);
        std::iter::from_fn(move || {
            let number = next;
            let column = self.column(number)?;
            next = column.next;
            Some((number, column))
        })
    }

    /// Makes a column of a series on a home (`NONE`: loose).
    pub(crate) fn add_column(&mut self, series: u32, home: u32) -> u32 {
        while self.series.len() <= series as usize {
            symbols::reserve(&mut self.series, 1);
            self.series.push(SeriesState {
                first: NONE,
                owner: NONE,
            });
        }
        let free = self.free_columns.pop();
        let number = free.unwrap_or(self.columns.len() as u32);
        let next = match self.series.get_mut(series as usize) {
            Some(state) => std::mem::replace(&mut state.first, number),
            None => NONE,
        };
        let generation = self.column(number).map_or(0, |c| c.generation);
        if let Some(home) = self.timeline_mut(home) {
            home.homed += 1;
        }
        let made = Column {
            series,
            home,
            timeline: NONE,
            place: NONE,
            generation,
            next,
            last_at: i64::MIN,
            last: 0.0,
            doomed: AtomicBool::new(false),
            free: false,
        };
        match self.columns.get_mut(number as usize) {
            Some(slot) => *slot = made,
            None => {
                symbols::reserve(&mut self.columns, 1);
                self.columns.push(made);
            }
        }
        number
    }

    /// The newest sample of a column, the open rows included.
    pub(crate) fn last_of(&self, column: u32) -> Option<(i64, f64)> {
        let c = self.column(column)?;
        if c.place != NONE
            && let Some(timeline) = self.timeline(c.timeline)
            && let Some(row) = timeline.last_row(c.place)
        {
            let value = timeline.last.get(c.place as usize).copied()?;
            return Some((timeline.times.get(row as usize).copied()?, value));
        }
        (c.last_at != i64::MIN).then_some((c.last_at, c.last))
    }

    /// The number a series of today has in runs of an older epoch; `None` if it did not exist.
    pub(crate) fn series_in_epoch(&self, mut series: u32, epoch: u64) -> Option<u32> {
        for (of, old) in self.renumbered.iter().rev() {
            if *of < epoch {
                break;
            }
            series = old.get(series as usize).copied().filter(|s| *s != NONE)?;
        }
        Some(series)
    }

    /// The late samples in a range of time, by columns of their series.
    pub(crate) fn late_appends(&self, range: &Range<i64>) -> Result<Vec<LateAppend>, Malformed> {
        let mut found = Vec::new();
        for series in self.late.series() {
            let samples = self.late.read(series, range.clone())?;
            let Some((column, _)) = self.columns_of(series).next() else {
                debug_assert!(samples.is_empty(), "a series with late samples is held");
                continue;
            };
            found.extend(samples.into_iter().map(|(at, value)| LateAppend {
                column,
                series,
                at,
                value,
            }));
        }
        Ok(found)
    }

    /// The time of the oldest row in the head; `None` if there is none.
    pub(crate) fn oldest(&self) -> Option<i64> {
        self.timelines
            .iter()
            .flatten()
            .flat_map(|t| {
                t.times
                    .first()
                    .copied()
                    .into_iter()
                    .chain(t.runs.iter().map(|r| r.first))
            })
            .chain(self.histograms.oldest())
            .min()
    }

    /// Bytes that sealing all open rows and moving all runs to files would about free.
    pub(crate) fn sealable_bytes(&self) -> usize {
        self.timelines.iter().flatten().map(Timeline::sealable_bytes).sum()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.timelines.iter().flatten().map(Timeline::heap_bytes).sum::<usize>()
            + self.timelines.capacity() * 8
            + self.columns.capacity() * size_of::<Column>()
            + self.series.capacity() * size_of::<SeriesState>()
            + self.left.len() * 16
            + self.keys.capacity() * 64
            + self.loose.capacity() * 16
            + self.deleted.heap_bytes()
            + self.late.heap_bytes()
            + self.histograms.heap_bytes()
    }
}
