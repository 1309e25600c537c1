//! Reads a whole data directory and says what is wrong with it.
//!
//! Nothing is opened for writing and no lock is taken, so it works on a directory that is served (its blocks never
//! change, and its log only grows), on one that is not, on a snapshot, and on the folder of one block.
//!
//! What a file is follows from its path; [`KINDS`] is the list. A new kind of file is one more line there.

mod head;
mod log;

use crate::block::{BLOCK_FILE, BlockCache, BlockId, BlockReader, TEMPORARY, TOMBSTONES_FILE};
use crate::directory::{self, CHECKPOINTS, LOCK, MARKER, QUARANTINE, RUNS, SNAPSHOTS, WAL};
use crate::fs::{EntryKind, Fs};
use crate::head::{checkpoint, runfile};
use crate::wal::segment;
use crate::{Error, codec::Malformed};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folders below each other deeper than this are not ours.
const MAX_DEPTH: usize = 6;
/// Bytes read at a time.
const PIECE_BYTES: usize = 1 << 20;
/// Timelines of one block are kept decoded up to this size.
const CACHE_BYTES: usize = 8 << 20;

/// What [`verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Files read.
    pub files: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Blocks among them.
    pub blocks: u64,
    /// Samples decoded from blocks.
    pub samples: u64,
    /// Segments of the log among them.
    pub segments: u64,
    /// Frames of the log that are whole.
    pub frames: u64,
    /// Rows read from these.
    pub rows: u64,
    /// What is damaged, at most [`Report::MAX_LISTED`].
    pub problems: Vec<Finding>,
    /// Damage found beyond the list.
    pub problems_unlisted: u64,
    /// What is worth knowing and no damage: files of other programs, the torn end of a log that a start cuts off.
    pub notes: Vec<Finding>,
    /// Notes beyond the list.
    pub notes_unlisted: u64,
}

/// One thing found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file or folder.
    pub path: PathBuf,
    /// Where in it, in bytes from its start.
    pub offset: Option<u64>,
    /// What it is.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "{} at byte {offset}: {}", self.path.display(), self.what),
            None => write!(f, "{}: {}", self.path.display(), self.what),
        }
    }
}

impl Finding {
    pub(crate) fn of(path: &Path, error: &Error) -> Self {
        let (path, offset, what) = match error {
            Error::Corrupt { path, offset, what } => (path.as_path(), Some(*offset), what.clone()),
            Error::Io { action, path, source } => (path.as_path(), None, format!("cannot {action} it: {source}")),
            other => (path, None, other.to_string()),
        };
        Self {
            path: path.to_owned(),
            offset,
            what,
        }
    }
}

impl Report {
    /// At most this many problems, and as many notes, are listed; the others are counted.
    pub const MAX_LISTED: usize = 1000;

    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, finding: Finding) {
        if self.problems.len() < Self::MAX_LISTED {
            self.problems.push(finding);
        } else {
            self.problems_unlisted += 1;
        }
    }

    fn note(&mut self, path: &Path, offset: Option<u64>, what: &str) {
        if self.notes.len() < Self::MAX_LISTED {
            self.notes.push(Finding {
                path: path.to_owned(),
                offset,
                what: what.to_owned(),
            });
        } else {
            self.notes_unlisted += 1;
        }
    }
}

/// How far [`verify`] is. A block's bytes count twice: once read, once decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done.
    pub done: u64,
    /// Bytes there are.
    pub total: u64,
}

/// Reads every byte of a data directory, of a snapshot, or of one block's folder, and decodes all of it: each section
/// and frame of each block, that its labels are sorted, its postings agree with its series, its spans lie within their
/// timelines and its counts are true; each frame and entry of the log. `progress` is called now and then.
///
/// Takes as much memory as the largest segment of the log, or one block's postings and timelines.
pub fn verify(fs: &Arc<dyn Fs>, dir: &Path, progress: &mut dyn FnMut(Progress)) -> Report {
    let mut visit = Visit {
        fs,
        report: Report::default(),
        progress,
        at: Progress { done: 0, total: 0 },
        last_segment: 0,
    };
    let mut files = Vec::new();
    visit.list(dir, &mut Vec::new(), &mut files);
    visit.at.total = files.iter().map(|f| f.bytes * f.passes()).sum();
    visit.last_segment = files.iter().filter_map(File::segment).max().unwrap_or(0);
    for file in &files {
        let done = visit.at.done;
        visit.file(file);
        // Whatever a check left out by an error is done with, too.
        visit.at.done = done + file.bytes * file.passes();
        (visit.progress)(visit.at);
    }
    visit.report
}

/// A file, and its path within the data directory.
#[derive(Debug)]
struct File {
    path: PathBuf,
    parts: Vec<String>,
    bytes: u64,
}

impl File {
    /// Its path within the directory or the snapshot it belongs to.
    fn place(&self) -> Vec<&str> {
        let parts: Vec<&str> = self.parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            [SNAPSHOTS, _, rest @ ..] => rest.to_vec(),
            _ => parts,
        }
    }

    fn kind(&self) -> Option<&'static Kind> {
        let place = self.place();
        KINDS.iter().find(|kind| (kind.holds)(&place))
    }

    fn passes(&self) -> u64 {
        self.kind().map_or(0, |kind| kind.passes)
    }

    fn name(&self) -> Option<&str> {
        self.parts.last().map(String::as_str)
    }

    fn segment(&self) -> Option<u64> {
        match self.place().as_slice() {
            [WAL, name] => segment::FILES.number(name),
            _ => None,
        }
    }
}

/// A kind of file.
struct Kind {
    /// Whether it is the one of this path.
    holds: fn(&[&str]) -> bool,
    /// How often `check` goes over the bytes, for the progress.
    passes: u64,
    /// Reads it.
    check: fn(&mut Visit<'_>, &File) -> Result<(), Error>,
}

/// All kinds there are. The lock says nothing and is not read.
const KINDS: &[Kind] = &[
    Kind {
        holds: |place| matches!(place, [MARKER]),
        passes: 1,
        check: |visit, file| directory::check_marker(&**visit.fs, &file.path),
    },
    Kind {
        holds: |place| matches!(place, [LOCK]),
        passes: 0,
        check: |_, _| Ok(()),
    },
    Kind {
        holds: |place| matches!(place, [WAL, name] if segment::FILES.number(name).is_some()),
        passes: 1,
        check: log::check,
    },
    Kind {
        holds: |place| matches!(place, [RUNS, name] if runfile::FILES.number(name).is_some()),
        passes: 1,
        check: head::check_runs,
    },
    Kind {
        holds: |place| matches!(place, [CHECKPOINTS, name] if checkpoint::FILES.number(name).is_some()),
        passes: 1,
        check: head::check_checkpoint,
    },
    Kind {
        holds: |place| match place {
            [BLOCK_FILE] => true,
            [id, BLOCK_FILE] => id.parse::<BlockId>().is_ok(),
            _ => false,
        },
        passes: 2,
        check: check_block,
    },
    Kind {
        holds: |place| match place {
            [TOMBSTONES_FILE] => true,
            [id, TOMBSTONES_FILE] => id.parse::<BlockId>().is_ok(),
            _ => false,
        },
        passes: 1,
        check: check_tombstones,
    },
];

/// Opening a block reads what was deleted of it.
fn check_tombstones(visit: &mut Visit<'_>, file: &File) -> Result<(), Error> {
    visit.read_through(&file.path, |_| {})?;
    let dir = file.path.parent().unwrap_or(Path::new("."));
    BlockReader::open(visit.fs, dir, &BlockCache::new(CACHE_BYTES)).map(drop)
}

struct Visit<'a> {
    fs: &'a Arc<dyn Fs>,
    report: Report,
    progress: &'a mut dyn FnMut(Progress),
    at: Progress,
    last_segment: u64,
}

impl Visit<'_> {
    /// Gathers the files below a folder.
    fn list(&mut self, dir: &Path, parts: &mut Vec<String>, files: &mut Vec<File>) {
        let entries = match self.fs.read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if e.is_not_found() && !parts.is_empty() => return,
            Err(e) => return self.report.problem(Finding::of(dir, &e)),
        };
        let named_as_block = parts.last().is_some_and(|name| name.parse::<BlockId>().is_ok());
        if named_as_block && !entries.iter().any(|e| e.name == BLOCK_FILE) {
            let what = "the folder of a block holds no block".to_owned();
            let (path, offset) = (dir.to_owned(), None);
            self.report.problem(Finding { path, offset, what });
        }
        for entry in entries {
            let path = dir.join(&entry.name);
            if entry.name.ends_with(TEMPORARY) {
                self.report.note(
                    &path,
                    None,
                    "not finished: of no use, the store removes it when it opens",
                );
                continue;
            }
            if parts.is_empty() && entry.name == QUARANTINE {
                self.report.note(&path, None, "set aside as damaged before: not read");
                continue;
            }
            parts.push(entry.name);
            match entry.kind {
                EntryKind::Dir if parts.len() < MAX_DEPTH => self.list(&path, parts, files),
                EntryKind::Dir => self.report.note(&path, None, "folders are too deep: not read"),
                EntryKind::File => self.add(path, parts.clone(), files),
            }
            parts.pop();
        }
    }

    fn add(&mut self, path: PathBuf, parts: Vec<String>, files: &mut Vec<File>) {
        match self.fs.len(&path) {
            Ok(bytes) => files.push(File { path, parts, bytes }),
            Err(e) if e.is_not_found() => {}
            Err(e) => self.report.problem(Finding::of(&path, &e)),
        }
    }

    fn file(&mut self, file: &File) {
        let Some(kind) = file.kind() else {
            return self
                .report
                .note(&file.path, None, "not a file of this version: not read");
        };
        self.report.files += 1;
        self.report.bytes += file.bytes;
        match (kind.check)(self, file) {
            Ok(()) => {}
            // A store that is served lets go of blocks and segments.
            Err(e) if e.is_not_found() && !self.fs.exists(&file.path) => {
                self.report
                    .note(&file.path, None, "went away while the folder was read");
            }
            Err(e) => self.report.problem(Finding::of(&file.path, &e)),
        }
    }

    fn step(&mut self, bytes: u64) {
        self.at.done += bytes;
        (self.progress)(self.at);
    }

    /// Reads all of a file without mapping it: a bad sector is an error here, and would be a signal there.
    fn read_through(&mut self, path: &Path, mut each: impl FnMut(&[u8])) -> Result<(), Error> {
        let file = self.fs.open(path)?;
        let mut piece = Vec::new();
        let mut at = 0;
        while at < file.len() {
            let n = (file.len() - at).min(PIECE_BYTES as u64);
            piece.resize(usize::try_from(n).unwrap_or(PIECE_BYTES), 0);
            file.read_exact_at(at, &mut piece).map_err(|e| match e {
                Error::Io { path, source, .. } => Error::corrupt(&path, at, format!("cannot be read: {source}")),
                other => other,
            })?;
            each(&piece);
            at += n;
            self.step(n);
        }
        Ok(())
    }
}

fn check_block(visit: &mut Visit<'_>, file: &File) -> Result<(), Error> {
    visit.read_through(&file.path, |_| {})?;
    let dir = file.path.parent().unwrap_or(Path::new("."));
    let cache = BlockCache::new(CACHE_BYTES);
    let block = BlockReader::open(visit.fs, dir, &cache)?;
    visit.report.blocks += 1;
    let name = dir.file_name().and_then(|name| name.to_str());
    let named: Option<BlockId> = name.and_then(|name| name.parse().ok());
    if let Some(named) = named
        && named != block.meta().id
    {
        let what = format!(
            "the block says it is {}, its folder is named otherwise",
            block.meta().id
        );
        visit
            .report
            .problem(Finding::of(&file.path, &Error::corrupt(&file.path, 0, what)));
    }
    let mut errors = Vec::new();
    let (mut listed, mut unlisted) = (0, 0);
    let samples = block.check(
        &mut |error| {
            listed += 1;
            if listed <= Report::MAX_LISTED {
                errors.push(error);
            } else {
                unlisted += 1;
            }
        },
        &mut |bytes| visit.step(bytes),
    );
    visit.report.samples += samples;
    for error in errors {
        visit.report.problem(Finding::of(&file.path, &error));
    }
    visit.report.problems_unlisted += unlisted;
    Ok(())
}

/// Damage at a place of a file whose bytes were read in another way than from its start.
fn at(path: &Path, base: usize, error: Malformed) -> Finding {
    Finding {
        path: path.to_owned(),
        offset: Some((base + error.offset) as u64),
        what: error.what.to_owned(),
    }
}
