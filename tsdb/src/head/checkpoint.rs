//! A checkpoint: the head as it was where a segment of the log begins, so that opening replays only from there on.
//! Integers are little-endian; texts, varints and steps are those of the log.
//!
//! ```text
//!   0        4          8          16     20
//!   +--------+----------+----------+------+---------+---------+---
//!   | "TGCK" | version  | number   | crc  | section | section | ...
//!   |        | u32 = 1  | u64      | u32  |         |         |
//!   +--------+----------+----------+------+---------+---------+---
//!
//!   section:  kind u32 | length u64 | payload [length] | crc u32 of what the section has before it
//! ```
//!
//! `docs/formats/checkpoint.md` draws the payloads. The log stays the truth: a checkpoint that is damaged, that lacks a
//! section or has one of no known kind, or that needs a file of runs that is not there, is not used, and costs only time.
//!
//! **To add state to the head**: the compiler stops at the patterns in [`capture`], [`State::put_columns`] and
//! `Timeline::save`, which name every field. What must come back gets a section: a [`Kind`], a payload in [`capture`]
//! (under the locks, so be brief) or in [`Captured::sections`] (without), and an arm in [`Loading::section`].

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use super::exemplar::Exemplars;
use super::histogram::Histograms;
use super::kept_kinds::{self, KeptKinds, SavedExemplar};
use super::late::Late;
use super::run::{Run, RunMeta};
use super::runfile::RunFile;
use super::series::Index;
use super::{Column, SeriesState, State};
use crate::Error;
use crate::codec::varint::{put, put_signed};
use crate::codec::{Cursor, Malformed, crc32};
use crate::fs::{self, Fs};
use crate::numbered::{HEADER_BYTES, NumberedFile};
use crate::timeline::{NONE, Timeline};
use crate::tombstones::Tombstones;
use crate::wal::writer::SegmentInfo;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parking_lot::RwLock;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Checkpoints, by the number of the segment that replay goes on with.
pub(crate) const FILES: NumberedFile = NumberedFile {
    extension: "ckpt",
    magic: *b"TGCK",
    version: 1,
};

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Kind {
    Log = 1,
    Labels = 2,
    Renumbered = 3,
    Timelines = 4,
    Columns = 5,
    Moved = 6,
    Runs = 7,
    Deleted = 8,
    Histograms = 9,
    Exemplars = 10,
    Late = 11,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Log,
        Self::Labels,
        Self::Renumbered,
        Self::Timelines,
        Self::Columns,
        Self::Moved,
        Self::Runs,
        Self::Deleted,
        Self::Histograms,
        Self::Exemplars,
        Self::Late,
    ];

    fn of(kind: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|k| *k as u32 == kind)
    }
}

/// The head at one moment: what may change is encoded, what cannot is shared.
#[derive(Debug)]
pub(crate) struct Captured {
    log: Vec<u8>,
    timelines: Vec<u8>,
    columns: Vec<u8>,
    moved: Vec<u8>,
    index: Arc<RwLock<Index>>,
    renumbered: Vec<(u64, Arc<[u32]>)>,
    runs: Vec<(u32, Arc<Run>)>,
    deleted: Vec<u8>,
    late: Late,
    kinds: KeptKinds,
}

/// Takes the head as it is. The caller holds the log, which has just begun a segment; `segments` are those before it,
/// and samples before `flushed` lie in blocks.
pub(crate) fn capture(state: &State, exemplars: &Exemplars, segments: &[SegmentInfo], flushed: i64) -> Captured {
    let State {
        timelines,
        // Given anew from the slots that are empty.
        free_timelines: _,
        free_columns: _,
        // References do not outlive the process.
        timeline_generations: _,
        // From the timelines' keys.
        keys: _,
        columns: _,
        series: _,
        left: _,
        histograms,
        loose: _,
        index,
        epoch,
        renumbered,
        // From the blocks.
        min_valid: _,
        newest,
        deleted,
        late,
        // Views do not outlive the process.
        late_leaving: _,
    } = state;
    let mut tombstones = Vec::new();
    deleted.tombstones().encode(&mut tombstones);
    let mut log = Vec::new();
    put_signed(&mut log, flushed);
    put_signed(&mut log, *newest);
    put(&mut log, *epoch);
    put(&mut log, segments.len() as u64);
    for segment in segments {
        put(&mut log, segment.number);
        put_signed(&mut log, segment.newest);
        put(&mut log, segment.late);
    }
    let mut slots = Vec::with_capacity(timelines.iter().flatten().map(Timeline::saved_bytes).sum());
    put(&mut slots, timelines.len() as u64);
    let mut runs = Vec::new();
    for (number, slot) in (0u32..).zip(timelines) {
        slots.push(u8::from(slot.is_some()));
        let Some(t) = slot else { continue };
        t.save(&mut slots);
        let wanted = t.runs.iter().filter(|r| r.last >= flushed);
        runs.extend(wanted.map(|r| (number, Arc::clone(r))));
    }
    Captured {
        log,
        timelines: slots,
        columns: state.put_columns(),
        moved: state.put_moved(),
        index: Arc::clone(index),
        renumbered: renumbered.clone(),
        runs,
        deleted: tombstones,
        late: late.clone(),
        kinds: KeptKinds::capture(histograms, exemplars, flushed),
    }
}

const FREE: u8 = 1;
const OWNS: u8 = 2;
const HAS_HOME: u8 = 4;
const HAS_TIMELINE: u8 = 8;
const HAS_PLACE: u8 = 16;
const HAS_LAST: u8 = 32;

/// Numbers that are mostly those of the column before, or one more.
#[derive(Default)]
struct Steps {
    series: i64,
    home: i64,
    timeline: i64,
    place: i64,
    last_at: i64,
}

impl State {
    fn put_columns(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.columns.len() * 16 + 10);
        put(&mut out, self.columns.len() as u64);
        let mut before = Steps::default();
        for (number, column) in (0u32..).zip(&self.columns) {
            let Column {
                series,
                home,
                timeline,
                place,
                // References do not outlive the process.
                generation: _,
                // Columns of a series are chained anew.
                next: _,
                last_at,
                last,
                doomed: _,
                free,
            } = column;
            if *free {
                out.push(FREE);
                continue;
            }
            let owns = self.series.get(*series as usize).is_some_and(|s| s.owner == number);
            let flags = [
                (OWNS, owns),
                (HAS_HOME, *home != NONE),
                (HAS_TIMELINE, *timeline != NONE),
                (HAS_PLACE, *place != NONE),
                (HAS_LAST, *last_at != i64::MIN),
            ];
            let flags = flags.iter().filter(|f| f.1).fold(0, |all, f| all | f.0);
            out.push(flags);
            let mut step = |number: i64, before: &mut i64| {
                put_signed(&mut out, number.wrapping_sub(*before));
                *before = number;
            };
            step(i64::from(*series), &mut before.series);
            if flags & HAS_HOME != 0 {
                step(i64::from(*home), &mut before.home);
            }
            if flags & HAS_TIMELINE != 0 {
                step(i64::from(*timeline), &mut before.timeline);
            }
            if flags & HAS_PLACE != 0 {
                step(i64::from(*place), &mut before.place);
            }
            if flags & HAS_LAST != 0 {
                step(*last_at, &mut before.last_at);
                out.extend_from_slice(&last.to_bits().to_le_bytes());
            }
        }
        out
    }

    fn put_moved(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, self.left.len() as u64);
        for (series, timeline) in &self.left {
            put(&mut out, u64::from(*series));
            put(&mut out, u64::from(*timeline));
        }
        put(&mut out, self.loose.len() as u64);
        for (at, timeline) in &self.loose {
            put_signed(&mut out, *at);
            put(&mut out, u64::from(*timeline));
        }
        out
    }
}

impl Captured {
    /// The payloads of all sections.
    fn sections(self) -> Vec<(Kind, Vec<u8>)> {
        let mut labels = Vec::new();
        // Series that came since are in it too, without a column: they are let go in time.
        self.index.read().save(&mut labels);
        let mut renumbered = Vec::new();
        put(&mut renumbered, self.renumbered.len() as u64);
        for (epoch, old) in &self.renumbered {
            put(&mut renumbered, *epoch);
            put(&mut renumbered, old.len() as u64);
            for number in old.iter() {
                renumbered.extend_from_slice(&number.to_le_bytes());
            }
        }
        vec![
            (Kind::Log, self.log),
            (Kind::Labels, labels),
            (Kind::Renumbered, renumbered),
            (Kind::Timelines, self.timelines),
            (Kind::Columns, self.columns),
            (Kind::Moved, self.moved),
            (Kind::Runs, put_runs(&self.runs)),
            (Kind::Deleted, self.deleted),
            (Kind::Histograms, self.kinds.histograms()),
            (Kind::Exemplars, self.kinds.exemplars()),
            (Kind::Late, self.late.save()),
        ]
    }

    /// Writes the checkpoint; gives its length.
    pub(crate) fn write(self, fs: &dyn Fs, dir: &Path, number: u64) -> Result<u64, Error> {
        fs::publish(fs, dir, &FILES.name(number), |file| {
            file.write_all(&FILES.header(number))?;
            for (kind, payload) in self.sections() {
                let mut section = Vec::with_capacity(payload.len() + 16);
                section.extend_from_slice(&(kind as u32).to_le_bytes());
                section.extend_from_slice(&(payload.len() as u64).to_le_bytes());
                section.extend_from_slice(&payload);
                drop(payload);
                section.extend_from_slice(&crc32(&section).to_le_bytes());
                file.write_all(&section)?;
            }
            Ok(())
        })
    }
}

/// Runs: those of files by the file and their place in it, those on the heap as they are.
fn put_runs(runs: &[(u32, Arc<Run>)]) -> Vec<u8> {
    let mut files: Vec<&Arc<RunFile>> = Vec::new();
    let mut nth: HashMap<u64, usize> = HashMap::new();
    for (file, _) in runs.iter().filter_map(|(_, run)| run.file()) {
        if let Entry::Vacant(slot) = nth.entry(file.number) {
            slot.insert(files.len());
            files.push(file);
        }
    }
    let mut out = Vec::new();
    put(&mut out, files.len() as u64);
    for file in &files {
        put(&mut out, file.number);
        out.extend_from_slice(&file.identity.to_le_bytes());
    }
    put(&mut out, runs.len() as u64);
    for (timeline, run) in runs {
        put(&mut out, u64::from(*timeline));
        put_signed(&mut out, run.last);
        let placed = run
            .file()
            .and_then(|(file, start)| Some((nth.get(&file.number)?, file.nth(start)?)));
        match (placed, run.heap()) {
            (Some((file, place)), _) => {
                put(&mut out, *file as u64 + 1);
                put(&mut out, u64::from(place));
            }
            (None, bytes) => {
                put(&mut out, 0);
                let meta = run.meta();
                put(&mut out, meta.epoch);
                put_signed(&mut out, meta.first);
                put(&mut out, meta.base);
                for number in [meta.rows, meta.columns, meta.times_bytes] {
                    put(&mut out, u64::from(number));
                }
                let bytes = bytes.unwrap_or_default();
                put(&mut out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
        }
    }
    out
}

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
