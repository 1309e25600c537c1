//! Maintenance: one thread that seals, writes blocks, lets go of what is old, and cuts the log; another that syncs it. A
//! third merges blocks, see `compact`.

use crate::checkpoint::Checkpoints;
use crate::db::Db;
use crate::head::State;
use crate::offload::{Move, RunFiles};
use crate::wal::writer::cause;
use crate::{Error, Metrics};
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A timeline that got no row for so long is sealed.
const IDLE_MS: i64 = 10 * 60 * 1000;
/// The index is built anew when more than one series in so many is gone.
const DEAD_PART: usize = 8;

/// What a round leaves for the next.
#[derive(Debug)]
pub(crate) struct Cleaning {
    /// Head samples before it lie in blocks; their runs go when readers of before are gone.
    pub(crate) runs: Option<(i64, Vec<Weak<()>>)>,
    pub(crate) files: RunFiles,
    pub(crate) checkpoints: Checkpoints,
    /// Columns were marked; those that nobody took go when appenders of before are gone.
    columns: Option<(i64, Weak<()>)>,
}

impl Cleaning {
    /// Nothing is left yet; these files of runs are in use.
    pub(crate) fn new(files: RunFiles, checkpoints: Checkpoints) -> Self {
        Self {
            runs: None,
            files,
            checkpoints,
            columns: None,
        }
    }
}

/// A thread of the store's own. Sleeps most of the time; stopped by its owner.
#[derive(Debug)]
pub(crate) struct Thread {
    signal: Arc<(Mutex<bool>, Condvar)>,
    handle: JoinHandle<()>,
}

impl Thread {
    /// Does `job` every so often, as long as there is a store.
    pub(crate) fn start(db: &Arc<Db>, name: &str, every: Duration, job: fn(&Arc<Db>)) -> Result<Self, Error> {
        let signal = Arc::new((Mutex::new(false), Condvar::new()));
        let (own, weak) = (Arc::clone(&signal), Arc::downgrade(db));
        let every = every.max(Duration::from_millis(1));
        let handle = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || run(&own, &weak, every, job))
            .map_err(|e| Error::io("start maintenance for", &db.dir, e))?;
        Ok(Self { signal, handle })
    }

    pub(crate) fn stop(self) {
        *self.signal.0.lock() = true;
        self.signal.1.notify_all();
        // The last owner of the store may be this thread itself.
        if self.handle.thread().id() != std::thread::current().id() && self.handle.join().is_err() {
            tracing::error!("maintenance ended with a panic");
        }
    }
}

fn run(signal: &(Mutex<bool>, Condvar), db: &Weak<Db>, every: Duration, job: fn(&Arc<Db>)) {
    let mut next = Instant::now() + every;
    loop {
        {
            let mut stop = signal.0.lock();
            while !*stop && !signal.1.wait_until(&mut stop, next).timed_out() {}
            if *stop {
                return;
            }
        }
        let Some(db) = db.upgrade() else { return };
        // From beginning to beginning; one that took longer is followed by the next at once.
        next = Instant::now() + every;
        job(&db);
    }
}

impl Db {
    /// What the thread that syncs does.
    pub(crate) fn sync_or_close(db: &Arc<Self>) {
        // A failed sync has been logged and has closed the log.
        let _synced = db.sync();
    }

    /// What the maintenance thread does.
    pub(crate) fn maintain_or_warn(db: &Arc<Self>) {
        if let Err(e) = db.round() {
            tracing::warn!(error = %e, cause = %cause(&e), "a round of maintenance failed; the next one tries again");
        }
    }

    /// One round: each step leaves the store whole.
    pub(crate) fn round(&self) -> Result<(), Error> {
        let mut cleaning = self.maintenance.lock();
        let done = self.steps(&mut cleaning);
        if done.is_err() {
            Metrics::add(&self.head.metrics.maintenance_failures, 1);
        }
        self.measure();
        drop(cleaning);
        if let Some(after) = self.head.options.after_round {
            after();
        }
        done
    }

    fn steps(&self, cleaning: &mut Cleaning) -> Result<(), Error> {
        self.clean(cleaning);
        self.seal_idle();
        // What cannot leave the heap now does not keep windows from becoming blocks.
        let eased = self.ease(&mut cleaning.files);
        let moved = self.move_runs(&mut cleaning.files, Move::Due);
        let mut written = false;
        while let Some(start) = self.due_window() {
            self.write_window(start, cleaning)?;
            written = true;
        }
        if written || self.late_is_due() {
            self.write_late(cleaning)?;
        }
        self.retain()?;
        self.clean(cleaning);
        self.sweep_runs(&mut cleaning.files)?;
        self.checkpoint_if_due(&cleaning.files, &mut cleaning.checkpoints)?;
        eased.and(moved)
    }

    /// Whether late samples of windows that no row comes to any more take too much memory.
    fn late_is_due(&self) -> bool {
        if self.head.state.read().late.is_empty() {
            return false;
        }
        let bound = self.late_bound();
        self.head.state.read().late.bytes_before(bound) > self.head.options.late_bytes
    }

    /// Seals timelines that no row comes to any more.
    fn seal_idle(&self) {
        let idle = {
            let state = self.head.state.read();
            let bound = state.newest.saturating_sub(IDLE_MS);
            numbers(&state, |t| !t.times.is_empty() && (t.newest < bound || t.live() == 0))
        };
        for timeline in idle {
            self.head.seal(timeline, &mut self.log.lock());
        }
        let idle = {
            let state = self.head.state.read();
            state.histograms.idle_before(state.newest.saturating_sub(IDLE_MS))
        };
        self.seal_histograms(&idle);
    }

    fn seal_histograms(&self, series: &[u32]) {
        for series in series {
            self.head.seal_histograms(*series, &mut self.log.lock());
        }
    }

    /// Seals all open rows of timelines whose oldest one lies before `bound`.
    pub(crate) fn seal_before(&self, bound: i64) {
        let due = numbers(&self.head.state.read(), |t| {
            t.times.first().is_some_and(|first| *first < bound)
        });
        for timeline in due {
            self.head.seal(timeline, &mut self.log.lock());
        }
        let due = self.head.state.read().histograms.open_before(bound);
        self.seal_histograms(&due);
    }

    /// Lets go of what is in blocks, as far as nobody uses it.
    fn clean(&self, cleaning: &mut Cleaning) {
        if let Some((bound, readers)) = &cleaning.runs
            && readers.iter().all(|r| r.strong_count() == 0)
        {
            let bound = *bound;
            cleaning.runs = None;
            let _log = self.log.lock();
            let mut state = self.head.state.write();
            state.drop_runs(bound, self.head.views.oldest_epoch());
            cleaning.columns.get_or_insert((bound, Weak::new())).0 = bound;
        }
        let Some((bound, appenders)) = &cleaning.columns else {
            return;
        };
        if appenders.strong_count() > 0 {
            return;
        }
        let bound = *bound;
        let _numbering = self.numbering.write();
        let mut log = self.log.lock();
        let mut state = self.head.state.write();
        let gone = state.drop_columns(bound);
        for column in &gone {
            if let Some(wal) = &mut log.wal {
                wal.book.forget(*column);
            }
        }
        let idle = state.drop_timelines();
        let marked = idle > 0
            || state
                .columns
                .iter()
                .any(|c| !c.free && c.doomed.load(Ordering::Relaxed));
        cleaning.columns = marked.then(|| (bound, self.appenders.turn()));
        let (dead, all) = (state.dead_series(), state.series.len());
        if !gone.is_empty()
            && dead > all / DEAD_PART
            && let Some(dropped) = state.renumber()
        {
            Metrics::add(&self.head.metrics.series_removed, dropped as u64);
        }
    }

    /// Brings the gauges up to date, and what the meter holds.
    pub(crate) fn measure(&self) {
        self.measure_tombstones();
        self.head.account();
        let metrics = &self.head.metrics;
        let state = self.head.state.read();
        Metrics::set(&metrics.series, state.index.read().len() as u64);
        Metrics::set(
            &metrics.timelines,
            (state.timelines.len() - state.free_timelines.len()) as u64,
        );
        Metrics::set(
            &metrics.columns,
            (state.columns.len() - state.free_columns.len()) as u64,
        );
        Metrics::set(&metrics.chunks, state.chunks());
        Metrics::set(&metrics.late_samples, state.late.len());
        Metrics::set(&metrics.late_bytes, state.late.heap_bytes() as u64);
        let blocks = self.blocks.read().clone();
        Metrics::set(&metrics.blocks_bytes, blocks.iter().map(|b| b.meta().bytes).sum());
        let damaged = blocks.iter().filter(|b| b.is_damaged()).count();
        Metrics::set(&metrics.blocks_damaged, damaged as u64);
        let runs = state.timelines.iter().flatten().flat_map(|t| &t.runs);
        Metrics::set(&metrics.run_bytes, runs.map(|r| r.heap_bytes() as u64).sum());
        Metrics::set(&metrics.min_time, state.oldest().unwrap_or(0).max(0).cast_unsigned());
        let newest = if state.newest == i64::MIN { 0 } else { state.newest };
        Metrics::set(&metrics.max_time, newest.max(0).cast_unsigned());
        Metrics::set(&metrics.histogram_series, state.histograms.len() as u64);
        let exemplars = self.head.exemplars.read();
        Metrics::set(&metrics.exemplars, exemplars.len() as u64);
        Metrics::set(&metrics.exemplar_bytes, exemplars.bytes());
    }
}

fn numbers(state: &State, wanted: impl Fn(&crate::timeline::Timeline) -> bool) -> Vec<u32> {
    (0u32..)
        .zip(&state.timelines)
        .filter(|(_, t)| t.as_ref().is_some_and(&wanted))
        .map(|(number, _)| number)
        .collect()
}
