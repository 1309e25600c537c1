//! Moves sealed runs from the heap to files, and lets files go that nothing needs.

use crate::db::Db;
use crate::directory::RUNS;
use crate::head::State;
use crate::head::run::Run;
use crate::head::runfile::{self, RunFile};
use crate::{Error, Metrics};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Of the head's share of memory, the part from which on open rows are sealed before their time.
const PRESSED_PART: (u64, u64) = (7, 8);
/// After a failure the disk gets so much time.
const RETRY: Duration = Duration::from_secs(10);
/// Sealing must be worth it: what it may free is at least this part of the share.
const WORTH_PART: u64 = 32;

/// The files of runs that are in use. Kept by whoever holds maintenance.
#[derive(Debug)]
pub(crate) struct RunFiles {
    files: Vec<Arc<RunFile>>,
    /// The number of the next one; none is used twice while the store is open.
    next: u64,
    /// When a run was first seen on the heap.
    waiting: Option<Instant>,
    /// When the last one could not be written.
    failed: Option<Instant>,
    /// That one is damaged was told.
    told: bool,
}

/// Which runs leave the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    /// All, if they have passed a bound.
    Due,
    /// All there are.
    Now,
}

impl RunFiles {
    /// The files that are in use at the start; others have numbers below `next`.
    pub(crate) fn new(files: Vec<Arc<RunFile>>, next: u64) -> Self {
        Self {
            files,
            next,
            waiting: None,
            failed: None,
            told: false,
        }
    }

    /// Whether the last try failed so lately that the disk is left alone.
    fn is_resting(&self, age: Duration) -> bool {
        self.failed.is_some_and(|at| at.elapsed() < age.min(RETRY))
    }

    /// Whether one in use is known to be damaged.
    pub(crate) fn any_damaged(&self) -> bool {
        self.files.iter().any(|f| f.is_damaged())
    }
}

impl State {
    /// The runs on the heap that no block has, by timeline.
    fn heap_runs(&self, flushed: i64) -> Vec<(u32, Arc<Run>)> {
        (0u32..)
            .zip(&self.timelines)
            .flat_map(|(number, t)| t.iter().flat_map(|t| &t.runs).map(move |run| (number, run)))
            .filter(|(_, run)| run.last >= flushed && run.heap().is_some())
            .map(|(number, run)| (number, Arc::clone(run)))
            .collect()
    }

    /// Puts runs in the place of equal ones: (timeline, the one there, the new one).
    fn exchange_runs(&mut self, moved: &[(u32, Arc<Run>, Arc<Run>)]) {
        for (timeline, old, new) in moved {
            let runs = self.timeline_mut(*timeline).map(|t| t.runs.as_mut_slice());
            let slot = runs.and_then(|runs| runs.iter_mut().find(|r| Arc::ptr_eq(r, old)));
            if let Some(slot) = slot {
                *slot = Arc::clone(new);
            }
        }
    }
}

impl Db {
    pub(crate) fn runs_dir(&self) -> PathBuf {
        self.dir.join(RUNS)
    }

    /// Moves sealed runs from the heap to a new file, if it is time. Commits wait only for the exchange.
    pub(crate) fn move_runs(&self, files: &mut RunFiles, which: Move) -> Result<(), Error> {
        if files.is_resting(self.head.options.run_file_age) {
            return Ok(());
        }
        let runs = self.head.state.read().heap_runs(self.flushed());
        if runs.is_empty() {
            files.waiting = None;
            return Ok(());
        }
        let bytes: u64 = runs.iter().map(|(_, run)| run.len() as u64).sum();
        let since = *files.waiting.get_or_insert_with(Instant::now);
        let options = &self.head.options;
        if which == Move::Due && bytes < options.run_file_bytes && since.elapsed() < options.run_file_age {
            return Ok(());
        }
        let number = files.next;
        files.next += 1;
        files.failed = Some(Instant::now());
        let file = runfile::write(&*self.fs, &self.runs_dir(), number, &runs)?;
        files.failed = None;
        let moved: Vec<_> = runs
            .into_iter()
            .zip(file.runs())
            .map(|((timeline, old), (_, new))| {
                let new = Arc::new(old.moved_to(new));
                (timeline, old, new)
            })
            .collect();
        {
            let _log = self.log.lock();
            self.head.state.write().exchange_runs(&moved);
        }
        files.files.push(file);
        files.waiting = None;
        Metrics::add(&self.head.metrics.run_files_written, 1);
        Ok(())
    }

    /// Removes files none of whose runs is needed, neither by the head nor by a reader.
    pub(crate) fn sweep_runs(&self, files: &mut RunFiles) -> Result<(), Error> {
        let (before, mut failed) = (files.files.len(), Ok(()));
        files.files.retain(|file| {
            if Arc::strong_count(file) > 1 {
                return true;
            }
            match self.fs.remove_file(file.path()) {
                Err(e) if !e.is_not_found() => {
                    // It stays in the list: the next round tries again.
                    failed = Err(e);
                    true
                }
                Ok(()) | Err(_) => false,
            }
        });
        failed?;
        let swept = files.files.len() < before;
        if files.any_damaged() && !files.told {
            files.told = true;
            tracing::error!("a file of runs is damaged: the log has its rows, and the next start reads them back");
        }
        Metrics::set(&self.head.metrics.run_files, files.files.len() as u64);
        let bytes = files.files.iter().map(|f| f.len()).sum();
        Metrics::set(&self.head.metrics.run_file_bytes, bytes);
        if swept {
            self.fs.sync_dir(&self.runs_dir())
        } else {
            Ok(())
        }
    }

    /// Whether the head's share of memory is nearly used up, and sealing would help.
    fn is_pressed(&self) -> bool {
        let meter = &self.head.options.head;
        let (part, whole) = PRESSED_PART;
        if meter.used() < meter.limit() / whole * part {
            return false;
        }
        self.head.state.read().sealable_bytes() as u64 >= meter.limit() / WORTH_PART
    }

    /// If memory is short, seals open rows and moves all runs to a file: before new series are refused.
    pub(crate) fn ease(&self, files: &mut RunFiles) -> Result<(), Error> {
        if files.is_resting(self.head.options.run_file_age) || !self.is_pressed() {
            return Ok(());
        }
        self.head.metrics.pressure_seals.fetch_add(1, Ordering::Relaxed);
        self.seal_before(i64::MAX);
        let moved = self.move_runs(files, Move::Now);
        self.head.account();
        moved
    }
}
