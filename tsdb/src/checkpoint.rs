//! When checkpoints are written and which one the store opens from.

use crate::db::Db;
use crate::directory::{CHECKPOINTS, RUNS};
use crate::fs::{Fs, remove};
use crate::head::checkpoint::{self, Restored};
use crate::head::runfile;
use crate::numbered::NumberedFile;
use crate::offload::RunFiles;
use crate::wal::writer::cause;
use crate::{Error, Metrics};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// How many are kept: should the newest be damaged, the one before saves most of the time.
const KEPT: usize = 2;
/// The log must have grown by this part of the last checkpoint, so that checkpoints cost less than the log itself.
const WORTH_PART: u64 = 4;

/// What is known of checkpoints between rounds. Kept by whoever holds maintenance.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    /// Bytes of the log that the newest one does not spare, as the log's counter tells them.
    logged: u64,
    /// Bytes of the log that were replayed behind it.
    replayed: u64,
    /// Its length.
    bytes: u64,
    since: Instant,
}

impl Checkpoints {
    /// A store that replayed so many bytes.
    pub(crate) fn new(replayed: u64) -> Self {
        Self {
            logged: 0,
            replayed,
            bytes: 0,
            since: Instant::now(),
        }
    }
}

/// The numbers of the files in a folder, rising; those that were not finished go.
fn whole(fs: &dyn Fs, dir: &Path, files: &NumberedFile) -> Result<Vec<u64>, Error> {
    let listing = files.list(fs, dir)?;
    for name in &listing.unfinished {
        remove(fs, &dir.join(name));
    }
    Ok(listing.numbers)
}

/// Reads the newest checkpoint that can be used, and removes what none needs. Without one the log is replayed whole.
pub(crate) fn restore(fs: &dyn Fs, dir: &Path, flushed: i64, metrics: &Metrics) -> Result<(Restored, RunFiles), Error> {
    let folder = dir.join(CHECKPOINTS);
    let runs_dir = dir.join(RUNS);
    let mut restored = Restored::default();
    for number in whole(fs, &folder, &checkpoint::FILES)?.iter().rev() {
        let path = folder.join(checkpoint::FILES.name(*number));
        match checkpoint::read(fs, &path, *number, &runs_dir, flushed) {
            Ok(found) => {
                restored = found;
                break;
            }
            Err(e) => {
                tracing::warn!(error = %e, cause = %cause(&e), "a checkpoint is of no use: more of the log is replayed");
                Metrics::add(&metrics.checkpoints_unusable, 1);
                remove(fs, &path);
            }
        }
    }
    let numbers = whole(fs, &runs_dir, &runfile::FILES)?;
    for number in &numbers {
        if !restored.files.iter().any(|f| f.number == *number) {
            remove(fs, &runs_dir.join(runfile::FILES.name(*number)));
        }
    }
    let files = std::mem::take(&mut restored.files);
    let next = numbers.last().map_or(0, |n| *n) + 1;
    Ok((restored, RunFiles::new(files, next)))
}

impl Db {
    fn checkpoints_dir(&self) -> PathBuf {
        self.dir.join(CHECKPOINTS)
    }

    /// Bytes of the log that an opening would replay.
    fn behind(&self, checkpoints: &Checkpoints) -> u64 {
        let written = self.head.metrics.wal_bytes.load(Ordering::Relaxed);
        checkpoints.replayed + written.saturating_sub(checkpoints.logged)
    }

    /// Before the store closes: the next start is to replay nothing.
    pub(crate) fn last_checkpoint(&self) -> Result<(), Error> {
        let mut cleaning = self.maintenance.lock();
        if cleaning.files.any_damaged() {
            return self.drop_checkpoints();
        }
        if self.behind(&cleaning.checkpoints) == 0 {
            return Ok(());
        }
        self.write_checkpoint(&mut cleaning.checkpoints)
    }

    fn is_checkpoint_due(&self, checkpoints: &Checkpoints) -> bool {
        let behind = self.behind(checkpoints);
        let options = &self.head.options;
        let enough = options.checkpoint_log_bytes.max(checkpoints.bytes / WORTH_PART);
        behind >= enough || behind > 0 && checkpoints.since.elapsed() >= options.checkpoint_age
    }

    /// Writes a checkpoint, if it is time.
    pub(crate) fn checkpoint_if_due(&self, files: &RunFiles, checkpoints: &mut Checkpoints) -> Result<(), Error> {
        if files.any_damaged() {
            return self.drop_checkpoints();
        }
        if !self.is_checkpoint_due(checkpoints) {
            return Ok(());
        }
        let done = self.write_checkpoint(checkpoints);
        if done.is_err() {
            Metrics::add(&self.head.metrics.checkpoints_failed, 1);
            // Not again in the next round: each try ends a segment.
            *checkpoints = Checkpoints {
                logged: self.head.metrics.wal_bytes.load(Ordering::Relaxed),
                replayed: 0,
                bytes: checkpoints.bytes,
                since: Instant::now(),
            };
        }
        done
    }

    /// Writes a checkpoint now. The log is held while what may change is copied, not while it is written.
    pub(crate) fn write_checkpoint(&self, checkpoints: &mut Checkpoints) -> Result<(), Error> {
        let metrics = &self.head.metrics;
        let (captured, number, logged) = {
            let mut log = self.log.lock();
            let began = Instant::now();
            let Some(wal) = log.wal.as_mut().filter(|w| w.poisoned().is_none()) else {
                return Ok(());
            };
            wal.begin_segment()?;
            let (number, ended) = wal.position();
            let state = self.head.state.read();
            let captured = checkpoint::capture(&state, &self.head.exemplars.read(), ended, self.flushed());
            let logged = metrics.wal_bytes.load(Ordering::Relaxed);
            let held = began.elapsed().as_micros() as u64;
            Metrics::set(&metrics.checkpoint_hold_microseconds, held);
            (captured, number, logged)
        };
        // The log is the truth: what it holds up to here lasts before something builds on it.
        self.sync()?;
        let folder = self.checkpoints_dir();
        let bytes = captured.write(&*self.fs, &folder, number)?;
        *checkpoints = Checkpoints {
            logged,
            replayed: 0,
            bytes,
            since: Instant::now(),
        };
        Metrics::add(&metrics.checkpoints_written, 1);
        Metrics::set(&metrics.checkpoint_bytes, bytes);
        let numbers = checkpoint::FILES.list(&*self.fs, &folder)?.numbers;
        for old in numbers.iter().rev().skip(KEPT) {
            remove(&*self.fs, &folder.join(checkpoint::FILES.name(*old)));
        }
        Ok(())
    }

    /// A file of runs is damaged: the next start must read all of the log.
    pub(crate) fn drop_checkpoints(&self) -> Result<(), Error> {
        let folder = self.checkpoints_dir();
        let numbers = checkpoint::FILES.list(&*self.fs, &folder)?.numbers;
        for number in &numbers {
            remove(&*self.fs, &folder.join(checkpoint::FILES.name(*number)));
        }
        if numbers.is_empty() {
            Ok(())
        } else {
            self.fs.sync_dir(&folder)
        }
    }
}
