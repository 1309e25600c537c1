//! A checkpoint on its way in: its sections one by one, then what they say of each other.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::{FILES, FREE, HAS_HOME, HAS_LAST, HAS_PLACE, HAS_TIMELINE, Kind, OWNS, Steps};
use crate::Error;
use crate::codec::{Cursor, Malformed, crc32};
use crate::fs::Fs;
use crate::head::histogram::Histograms;
use crate::head::kept_kinds::{self, SavedExemplar};
use crate::head::late::Late;
use crate::head::run::{Run, RunMeta};
use crate::head::runfile::RunFile;
use crate::head::series::Index;
use crate::head::{Column, SeriesState, State};
use crate::numbered::HEADER_BYTES;
use crate::timeline::{NONE, Timeline};
use crate::tombstones::Tombstones;
use crate::wal::writer::SegmentInfo;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parking_lot::RwLock;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What a checkpoint gives back.
#[derive(Debug, Default)]
pub(crate) struct Restored {
    pub(crate) state: State,
    /// The segment from which replay goes on.
    pub(crate) from: u64,
    /// The segments before it.
    pub(crate) segments: Vec<SegmentInfo>,
    /// The files of runs that are in use.
    pub(crate) files: Vec<Arc<RunFile>>,
    pub(crate) exemplars: Vec<SavedExemplar>,
}

/// Reads a checkpoint; samples before `flushed` lie in blocks.
pub(crate) fn read(fs: &dyn Fs, path: &Path, number: u64, runs_dir: &Path, flushed: i64) -> Result<Restored, Error> {
    let bytes = fs.map(path)?;
    FILES.require(path, &bytes, number)?;
    let mut cursor = Cursor::new(&bytes);
    cursor.take(HEADER_BYTES).map_err(|e| e.in_file(path, 0))?;
    let mut loading = Loading {
        restored: Restored {
            from: number,
            ..Restored::default()
        },
        runs: Vec::new(),
        done: Vec::new(),
    };
    while !cursor.is_empty() {
        let at = cursor.position();
        let section = read_section(&mut cursor).map_err(|e| e.in_file(path, 0))?;
        let base = at as u64 + 12;
        loading
            .section(section.0, section.1)
            .map_err(|e| e.in_file(path, base))?;
    }
    loading.finish(fs, path, runs_dir, flushed)
}

fn read_section<'b>(cursor: &mut Cursor<'b>) -> Result<(Kind, &'b [u8]), Malformed> {
    let start = cursor.clone();
    let kind = cursor.u32()?;
    let length = cursor.u64()?;
    let length = usize::try_from(length).map_err(|_| start.malformed("a section is longer than the file"))?;
    let payload = cursor.take(length)?;
    let whole = start.rest().get(..length.saturating_add(12)).unwrap_or_default();
    if crc32(whole) != cursor.u32()? {
        return Err(start.malformed("a section fails its checksum"));
    }
    let kind = Kind::of(kind).ok_or(start.malformed("a section of no known kind"))?;
    Ok((kind, payload))
}

/// A run as its section names it.
#[derive(Debug)]
enum Named {
    Heap(Run),
    File { number: u64, identity: u32, nth: usize },
}

/// A checkpoint on its way in.
struct Loading {
    restored: Restored,
    runs: Vec<(u32, i64, Named)>,
    done: Vec<Kind>,
}

fn count(cursor: &mut Cursor<'_>) -> Result<usize, Malformed> {
    let left = cursor.remaining();
    cursor.bounded(left, "a count is larger than what is left")
}

fn number32(cursor: &mut Cursor<'_>) -> Result<u32, Malformed> {
    let at = cursor.clone();
    u32::try_from(cursor.varint()?).map_err(|_| at.malformed("a number is too large"))
}

impl Loading {
    fn section(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Malformed> {
        let mut cursor = Cursor::new(payload);
        if self.done.contains(&kind) {
            return Err(cursor.malformed("a section comes twice"));
        }
        self.done.push(kind);
        let cursor = &mut cursor;
        match kind {
            Kind::Log => self.log(cursor)?,
            Kind::Labels => self.restored.state.index = Arc::new(RwLock::new(Index::load(cursor)?)),
            Kind::Renumbered => self.renumbered(cursor)?,
            Kind::Timelines => self.restored.state.load_timelines(cursor)?,
            Kind::Columns => self.restored.state.load_columns(cursor)?,
            Kind::Moved => self.restored.state.load_moved(cursor)?,
            Kind::Runs => self.runs(cursor)?,
            Kind::Deleted => self.deleted(cursor)?,
            Kind::Late => self.restored.state.late = Late::load(cursor)?,
            Kind::Histograms => {
                // Labels come first.
                let series = self.restored.state.index.read().len();
                self.restored.state.histograms = Histograms::load(cursor, series)?;
            }
            Kind::Exemplars => self.restored.exemplars = kept_kinds::get_exemplars(cursor)?,
        }
        if cursor.is_empty() {
            Ok(())
        } else {
            Err(cursor.malformed("bytes are left behind a section"))
        }
    }

    fn log(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        // Kept where `finish` compares it with what blocks hold now.
        self.restored.state.min_valid = cursor.signed()?;
        self.restored.state.newest = cursor.signed()?;
        self.restored.state.epoch = cursor.varint()?;
        for _ in 0..count(cursor)? {
            self.restored.segments.push(SegmentInfo {
                number: cursor.varint()?,
                newest: cursor.signed()?,
                late: cursor.varint()?,
            });
        }
        Ok(())
    }

    fn renumbered(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        for _ in 0..count(cursor)? {
            let epoch = cursor.varint()?;
            let n = count(cursor)?;
            let bytes = n.checked_mul(4).ok_or(cursor.malformed("a list is too long"))?;
            let numbers = cursor.take(bytes)?.as_chunks::<4>().0;
            let old: Arc<[u32]> = numbers.iter().map(|b| u32::from_le_bytes(*b)).collect();
            self.restored.state.renumbered.push((epoch, old));
        }
        Ok(())
    }

    /// Numbers of series are those of the labels, which come first.
    fn deleted(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let state = &mut self.restored.state;
        let series = state.index.read().len() as u32;
        let tombstones = Tombstones::decode(cursor, series)?;
        state.deleted.set(state.epoch, tombstones);
        Ok(())
    }

    fn runs(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let files = (0..count(cursor)?)
            .map(|_| Ok((cursor.varint()?, cursor.u32()?)))
            .collect::<Result<Vec<_>, Malformed>>()?;
        for _ in 0..count(cursor)? {
            let (timeline, last) = (number32(cursor)?, cursor.signed()?);
            let named = match cursor.varint()?.checked_sub(1) {
                Some(file) => {
                    let file = usize::try_from(file).ok().and_then(|f| files.get(f));
                    let (number, identity) = *file.ok_or(cursor.malformed("a run of no known file"))?;
                    let nth = number32(cursor)? as usize;
                    Named::File { number, identity, nth }
                }
                None => {
                    let meta = RunMeta {
                        last,
                        epoch: cursor.varint()?,
                        first: cursor.signed()?,
                        base: cursor.varint()?,
                        rows: number32(cursor)?,
                        columns: number32(cursor)?,
                        times_bytes: number32(cursor)?,
                    };
                    let n = count(cursor)?;
                    Named::Heap(Run::on_heap(meta, cursor.take(n)?))
                }
            };
            self.runs.push((timeline, last, named));
        }
        Ok(())
    }

    /// Puts the runs in place, and looks over what sections say of each other.
    fn finish(mut self, fs: &dyn Fs, path: &Path, runs_dir: &Path, flushed: i64) -> Result<Restored, Error> {
        let unusable = |what: &str| Err(Error::corrupt(path, 0, what));
        if Kind::ALL.iter().any(|k| !self.done.contains(k)) {
            return unusable("a section is missing");
        }
        let state = &mut self.restored.state;
        if state.min_valid > flushed {
            return unusable("it leaves out what blocks held that are gone");
        }
        state.min_valid = flushed;
        state.deleted.drop_before(flushed);
        if !state.names_only_what_is_there() {
            return unusable("its sections do not fit each other");
        }
        state.count_homes();
        let mut files: HashMap<u64, Arc<RunFile>> = HashMap::new();
        for (timeline, last, named) in self.runs {
            if last < flushed {
                continue;
            }
            let run = match named {
                Named::Heap(run) => Some(run),
                Named::File { number, identity, nth } => {
                    let file = match files.entry(number) {
                        Entry::Occupied(slot) => Arc::clone(slot.get()),
                        Entry::Vacant(slot) => Arc::clone(slot.insert(RunFile::open(fs, runs_dir, number)?)),
                    };
                    let fits = |(of, run): &(u32, Run)| *of == timeline && run.last == last;
                    let known = file.identity == identity;
                    file.run(nth).filter(fits).filter(|_| known).map(|(_, run)| run)
                }
            };
            match (run, state.timeline_mut(timeline)) {
                (Some(run), Some(t)) => t.runs.push(Arc::new(run)),
                _ => return unusable("it names a run that is not there"),
            }
        }
        self.restored.files = files.into_values().collect();
        Ok(self.restored)
    }
}

impl State {
    fn load_timelines(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        for number in 0..count(cursor)? as u32 {
            let slot = match cursor.u8()? {
                0 => None,
                1 => Some(Timeline::load(cursor)?),
                _ => return Err(cursor.malformed("a slot is neither empty nor taken")),
            };
            match &slot {
                None => self.free_timelines.push(number),
                Some(t) => {
                    if let Some(key) = &t.key {
                        self.keys.insert(key.clone(), number);
                    }
                }
            }
            self.timelines.push(slot);
            self.timeline_generations.push(0);
        }
        Ok(())
    }

    fn load_columns(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let n = count(cursor)?;
        self.columns.reserve_exact(n);
        // Labels come first.
        let none = SeriesState {
            first: NONE,
            owner: NONE,
        };
        self.series = vec![none; self.index.read().len()];
        let mut before = Steps::default();
        for number in 0..n as u32 {
            let flags = cursor.u8()?;
            let mut column = Column {
                series: NONE,
                home: NONE,
                timeline: NONE,
                place: NONE,
                generation: 0,
                next: NONE,
                last_at: i64::MIN,
                last: 0.0,
                doomed: AtomicBool::new(false),
                free: flags == FREE,
            };
            if column.free {
                self.free_columns.push(number);
                self.columns.push(column);
                continue;
            }
            let small = |cursor: &mut Cursor<'_>, before: &mut i64| {
                *before = before.wrapping_add(cursor.signed()?);
                u32::try_from(*before).map_err(|_| cursor.malformed("a number is out of range"))
            };
            column.series = small(cursor, &mut before.series)?;
            if flags & HAS_HOME != 0 {
                column.home = small(cursor, &mut before.home)?;
            }
            if flags & HAS_TIMELINE != 0 {
                column.timeline = small(cursor, &mut before.timeline)?;
            }
            if flags & HAS_PLACE != 0 {
                column.place = small(cursor, &mut before.place)?;
            }
            if flags & HAS_LAST != 0 {
                before.last_at = before.last_at.wrapping_add(cursor.signed()?);
                column.last_at = before.last_at;
                column.last = f64::from_bits(cursor.u64()?);
            }
            self.chain(number, &mut column, flags & OWNS != 0)
                .ok_or(cursor.malformed("a series' number is out of range"))?;
            self.columns.push(column);
        }
        Ok(())
    }

    /// Enters a column at its series.
    fn chain(&mut self, number: u32, column: &mut Column, owns: bool) -> Option<()> {
        let series = self.series.get_mut(column.series as usize)?;
        column.next = std::mem::replace(&mut series.first, number);
        if owns {
            series.owner = number;
        }
        Some(())
    }

    fn load_moved(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        for _ in 0..count(cursor)? {
            let left = (number32(cursor)?, number32(cursor)?);
            self.left.insert(left);
        }
        for _ in 0..count(cursor)? {
            let (at, timeline) = (cursor.signed()?, number32(cursor)?);
            self.loose.insert(at, timeline);
        }
        Ok(())
    }

    /// How many columns each timeline is the home of.
    fn count_homes(&mut self) {
        for column in self.columns.iter().filter(|c| !c.free) {
            if let Some(Some(home)) = self.timelines.get_mut(column.home as usize) {
                home.homed += 1;
            }
        }
    }

    /// Whether columns name timelines that there are, and late samples series that have a column.
    fn names_only_what_is_there(&self) -> bool {
        let there = |timeline: u32| timeline == NONE || self.timeline(timeline).is_some();
        let mut columns = self.columns.iter().filter(|c| !c.free);
        let held = |series: u32| self.series.get(series as usize).is_some_and(|s| s.first != NONE);
        columns.all(|c| there(c.timeline) && there(c.home)) && self.late.series().all(held)
    }
}
