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
//! (under the locks, so be brief) or in [`Captured::sections`] (without), and an arm in [`load::Loading::section`].

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod load;

pub(crate) use load::{Restored, read};

use super::exemplar::Exemplars;
use super::kept_kinds::KeptKinds;
use super::late::Late;
use super::run::Run;
use super::runfile::RunFile;
use super::series::Index;
use super::{Column, State};
use crate::Error;
use crate::codec::crc32;
use crate::codec::varint::{put, put_signed};
use crate::fs::{self, Fs};
use crate::numbered::NumberedFile;
use crate::timeline::{NONE, Timeline};
use crate::wal::writer::SegmentInfo;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parking_lot::RwLock;
use std::path::Path;
use std::sync::Arc;

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
