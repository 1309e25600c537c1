//! Appends frames to the newest segment, syncs by policy, cuts what blocks have.
//!
//! A write that fails leaves no half frame behind: the file is cut back to where it was, at the latest before the next
//! write, so a full disk heals by itself. A sync that fails is final: what the disk holds is unknown from then on, and
//! the writer refuses everything ([`Wal::poisoned`]).

use super::segment::{self, Framer};
use crate::fs::{Fs, SyncFile, WriteFile};
use crate::{Error, Fsync, Metrics};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// What a segment has defined so far.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) segment: u64,
    defined: Bits,
    /// Defined twice, so that one bad frame does not cost the column the rest of the segment.
    confirmed: Bits,
    /// What the commit on its way has defined: taken back if it fails.
    recent: Vec<(u32, Definition)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Definition {
    First,
    Second,
}

#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn get(&self, at: u32) -> bool {
        self.0
            .get(at as usize / 64)
            .is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn set(&mut self, at: u32, on: bool) {
        let word = at as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word = *word & !(1 << (at % 64)) | u64::from(on) << (at % 64);
        }
    }
}

impl Book {
    /// Whether a column must be written now: it is new to the segment, or new to its key rows.
    pub(crate) fn define(&mut self, column: u32, key: bool) -> bool {
        if !self.defined.get(column) {
            self.defined.set(column, true);
            self.recent.push((column, Definition::First));
            return true;
        }
        // The first key row after the first definition repeats it.
        if key && !self.confirmed.get(column) {
            self.confirmed.set(column, true);
            self.recent.push((column, Definition::Second));
            return true;
        }
        false
    }

    /// A column's number now means another series.
    pub(crate) fn forget(&mut self, column: u32) {
        self.defined.set(column, false);
        self.confirmed.set(column, false);
    }

    pub(crate) fn keep(&mut self) {
        self.recent.clear();
    }

    pub(crate) fn take_back(&mut self) {
        for (column, definition) in std::mem::take(&mut self.recent) {
            match definition {
                Definition::First => self.defined.set(column, false),
                Definition::Second => self.confirmed.set(column, false),
            }
        }
    }
}

/// A segment on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentInfo {
    pub(crate) number: u64,
    /// Time of the newest sample in it; `i64::MIN` if it has none.
    pub(crate) newest: i64,
    /// Number of the newest record with late samples in it, counted over all segments; 0: it has none.
    pub(crate) late: u64,
}

/// Why a record was not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// It may heal.
    Failed(Error),
    /// It will not: restart.
    Poisoned(String),
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Failed(error) => error,
            WriteError::Poisoned(what) => Self::Invalid { what },
        }
    }
}

/// A segment that takes no records any more and was not synced since its last one.
#[derive(Debug, Clone)]
struct Ended {
    segment: u64,
    file: Arc<dyn SyncFile>,
}

/// A sync that runs while the log is written to.
#[derive(Debug)]
pub(crate) struct Syncing {
    begun: Instant,
    fs: Arc<dyn Fs>,
    /// Segments that ended since the last sync.
    ended: Vec<Ended>,
    file: Arc<dyn SyncFile>,
    /// Where the log stood.
    segment: u64,
    written: u64,
    /// The folder is to be synced, too.
    dir: Option<PathBuf>,
}

impl Syncing {
    /// Forces to the disk what was written before it began. The log need not be held.
    pub(crate) fn run(&self) -> Result<(), Error> {
        // In order, so that what lasts is the front of the log.
        self.ended.iter().try_for_each(|e| e.file.sync())?;
        self.file.sync()?;
        self.dir.as_ref().map_or(Ok(()), |dir| self.fs.sync_dir(dir))
    }
}

/// The log. Whoever holds it is the one writer of the head.
#[derive(Debug)]
pub(crate) struct Wal {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    fsync: Fsync,
    segment_bytes: u64,
    file: Box<dyn WriteFile>,
    /// Length up to which the newest segment is good; what lies beyond must be cut.
    good: u64,
    segments: Vec<SegmentInfo>,
    ended: Vec<Ended>,
    pub(crate) book: Book,
    framer: Framer,
    poisoned: Option<String>,
    /// Written since the last sync.
    dirty: bool,
    /// Counts writes.
    written: u64,
    /// The folder's names may not last yet.
    dirty_dir: bool,
    /// Records with late samples so far.
    late: u64,
    /// Blocks have the late samples of records up to this one, but for those that are not before the head's begin.
    late_done: u64,
    metrics: Arc<Metrics>,
}

impl Wal {
    /// Starts a new segment after those that were read, with number `least` at the least.
    pub(crate) fn start(
        fs: Arc<dyn Fs>,
        dir: &Path,
        fsync: Fsync,
        segment_bytes: u64,
        old: Vec<SegmentInfo>,
        least: u64,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Error> {
        let number = next_number(old.last().map_or(0, |s| s.number))?.max(least);
        let file = create(&*fs, dir, number)?;
        let mut wal = Self {
            good: file.len(),
            late: old.iter().map(|s| s.late).max().unwrap_or(0),
            late_done: 0,
            fs,
            dir: dir.to_owned(),
            fsync,
            segment_bytes,
            file,
            segments: old,
            ended: Vec::new(),
            book: Book {
                segment: number,
                ..Book::default()
            },
            framer: Framer::new(),
            poisoned: None,
            dirty: true,
            written: 0,
            dirty_dir: true,
            metrics,
        };
        wal.segments.push(SegmentInfo {
            number,
            newest: i64::MIN,
            late: 0,
        });
        wal.tell_segments();
        if fsync != Fsync::Never {
            wal.sync()?;
        }
        Ok(wal)
    }

    /// Why nothing is taken any more, if so.
    pub(crate) fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    /// Before a commit: goes on to a new segment if this one is full, cuts what a failed write left.
    pub(crate) fn prepare(&mut self) -> Result<(), WriteError> {
        if let Some(why) = &self.poisoned {
            return Err(WriteError::Poisoned(why.clone()));
        }
        self.heal().map_err(|e| self.failed(e))?;
        if self.good >= self.segment_bytes {
            self.rotate()?;
        }
        Ok(())
    }

    fn heal(&mut self) -> Result<(), Error> {
        if self.file.len() != self.good {
            self.file.truncate(self.good)?;
        }
        Ok(())
    }

    /// What everyone is told from now on, this one too.
    fn closed(&self, error: &Error) -> WriteError {
        WriteError::Poisoned(self.poisoned.clone().unwrap_or_else(|| error.to_string()))
    }

    fn failed(&self, error: Error) -> WriteError {
        self.metrics.wal_errors.fetch_add(1, Ordering::Relaxed);
        WriteError::Failed(error)
    }

    /// Ends the newest segment and starts another.
    pub(crate) fn rotate(&mut self) -> Result<(), WriteError> {
        if let Some(why) = &self.poisoned {
            return Err(WriteError::Poisoned(why.clone()));
        }
        self.heal().map_err(|e| self.failed(e))?;
        let number = next_number(self.book.segment).map_err(|e| self.failed(e))?;
        let file = create(&*self.fs, &self.dir, number).map_err(|e| self.failed(e))?;
        if self.dirty {
            // Not here: commits wait for whoever holds the log.
            self.ended.push(Ended {
                segment: self.book.segment,
                file: self.file.syncer(),
            });
        }
        self.good = file.len();
        self.file = file;
        self.dirty = true;
        self.dirty_dir = true;
        self.book = Book {
            segment: number,
            ..Book::default()
        };
        self.segments.push(SegmentInfo {
            number,
            newest: i64::MIN,
            late: 0,
        });
        self.tell_segments();
        Ok(())
    }

    fn tell_segments(&self) {
        Metrics::set(&self.metrics.wal_segments, self.segments.len() as u64);
        Metrics::set(&self.metrics.wal_segment, self.book.segment);
    }

    /// Writes a record of samples up to `newest`; when it returns, a killed process loses nothing of it, and with
    /// `always` neither does a power cut.
    pub(crate) fn append(&mut self, record: &[u8], newest: i64, has_late: bool) -> Result<(), WriteError> {
        let frame = self.framer.frame(record);
        let bytes = frame.len() as u64;
        if let Err(e) = self.file.write_all(frame) {
            self.book.take_back();
            // If this fails too, `prepare` tries again.
            let healed = self.heal();
            tracing::debug!(error = %e, cut_back = healed.is_ok(), "the log could not be written");
            return Err(self.failed(e));
        }
        self.dirty = true;
        self.written += 1;
        if self.fsync == Fsync::Always
            && let Err(e) = self.sync()
        {
            let failed = self.closed(&e);
            // The commit fails: try to keep it from coming back.
            self.book.take_back();
            if let Err(e) = self.heal() {
                tracing::debug!(error = %e, "the log could not be cut back");
            }
            return Err(failed);
        }
        self.good += bytes;
        self.book.keep();
        self.late += u64::from(has_late);
        if let Some(last) = self.segments.last_mut() {
            last.newest = last.newest.max(newest);
            if has_late {
                last.late = self.late;
            }
        }
        Metrics::add(&self.metrics.wal_bytes, bytes);
        Metrics::add(&self.metrics.wal_records, 1);
        Ok(())
    }

    /// Forces what was written to the disk. A failure is final.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        if !self.dirty && self.ended.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        let mut synced = self.ended.iter().try_for_each(|e| e.file.sync());
        if synced.is_ok() {
            synced = self.file.sync();
        }
        if synced.is_ok() && self.dirty_dir {
            synced = self.fs.sync_dir(&self.dir);
        }
        if let Err(e) = synced {
            self.poison(&e);
            return Err(e);
        }
        self.ended.clear();
        self.dirty = false;
        self.dirty_dir = false;
        Metrics::add(&self.metrics.wal_syncs, 1);
        self.metrics.synced(begun);
        Ok(())
    }

    fn poison(&mut self, error: &Error) {
        let why = format!("{error}: {}; restart to go on", cause(error));
        tracing::error!(error = %why, "the log cannot be synced: no samples are taken any more, reads go on");
        self.poisoned = Some(why);
        self.metrics.wal_errors.fetch_add(1, Ordering::Relaxed);
        Metrics::set(&self.metrics.wal_poisoned, 1);
    }

    /// What is to be synced beside the log; `None` if nothing is.
    pub(crate) fn begin_sync(&self) -> Option<Syncing> {
        (self.dirty || !self.ended.is_empty()).then(|| Syncing {
            begun: Instant::now(),
            fs: Arc::clone(&self.fs),
            ended: self.ended.clone(),
            file: self.file.syncer(),
            segment: self.book.segment,
            written: self.written,
            dir: self.dirty_dir.then(|| self.dir.clone()),
        })
    }

    /// Takes note of how a sync ended. A failure is final, as with [`Wal::sync`].
    pub(crate) fn end_sync(&mut self, syncing: &Syncing, synced: Result<(), Error>) -> Result<(), Error> {
        if let Err(e) = synced {
            self.poison(&e);
            return Err(e);
        }
        Metrics::add(&self.metrics.wal_syncs, 1);
        self.metrics.synced(syncing.begun);
        self.ended
            .retain(|e| !syncing.ended.iter().any(|done| done.segment == e.segment));
        // A segment that ended meanwhile is synced by the next one.
        if syncing.segment == self.book.segment {
            self.dirty = syncing.written != self.written;
            self.dirty_dir &= syncing.dir.is_none();
        }
        Ok(())
    }

    /// Takes note that blocks have all late samples before the head's begin that the log told of so far.
    pub(crate) fn late_is_in_blocks(&mut self) {
        self.late_done = self.late;
    }

    /// Deletes the oldest segments whose samples all lie before `bound`, late ones of which are in blocks.
    pub(crate) fn cut(&mut self, bound: i64) -> Result<(), Error> {
        while let [first, _, ..] = self.segments.as_slice() {
            if first.newest >= bound || first.late > self.late_done {
                break;
            }
            let path = self.dir.join(segment::FILES.name(first.number));
            match self.fs.remove_file(&path) {
                Err(e) if !e.is_not_found() => return Err(e),
                Ok(()) | Err(_) => {}
            }
            self.ended.retain(|e| e.segment != first.number);
            self.segments.remove(0);
        }
        self.tell_segments();
        self.fs.sync_dir(&self.dir)
    }

    /// Whether the newest segment holds a row.
    pub(crate) fn has_rows(&self) -> bool {
        self.segments.last().is_some_and(|s| s.newest != i64::MIN)
    }

    /// Ends the newest segment if it holds anything.
    pub(crate) fn begin_segment(&mut self) -> Result<(), WriteError> {
        if self.has_rows() { self.rotate() } else { Ok(()) }
    }

    /// The number of the newest segment, and those before it.
    pub(crate) fn position(&self) -> (u64, &[SegmentInfo]) {
        let ended = self.segments.split_last().map_or(&[][..], |(_, ended)| ended);
        (self.book.segment, ended)
    }
}

/// The innermost words of an error.
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

fn next_number(number: u64) -> Result<u64, Error> {
    number.checked_add(1).ok_or(Error::Limit {
        what: "the number of a segment of the log",
        limit: u64::MAX,
    })
}

fn create(fs: &dyn Fs, dir: &Path, number: u64) -> Result<Box<dyn WriteFile>, Error> {
    let path = dir.join(segment::FILES.name(number));
    let mut file = fs.create(&path)?;
    if let Err(e) = file.write_all(&segment::FILES.header(number)) {
        // A segment without a header would look like damage.
        drop(file);
        if let Err(e) = fs.remove_file(&path) {
            tracing::debug!(error = %e, "a segment without a header stays behind");
        }
        return Err(e);
    }
    Ok(file)
}
