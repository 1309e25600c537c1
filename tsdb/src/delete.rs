//! Deleting: what was asked for is hidden at once, everywhere, and taken off the disk when blocks are rewritten.
//!
//! ```text
//!   delete ──> blocks: tombstones files, one by one ──> log: what was asked for, synced ──> shown, all at once
//! ```
//!
//! What is stored when a deletion is made is deleted, what comes later is not. A deletion is held until no window is
//! being written, so each block is either there to be marked, or written without what the head hides.

use crate::block::{BlockId, BlockReader, deleted};
use crate::compact::Replaced;
use crate::db::Db;
use crate::head::append::Log;
use crate::tombstones::Tombstones;
use crate::wal::record;
use crate::{Error, Metrics};
use hashbrown::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tidegauge_model::{Matcher, TimeRange};

/// What a deletion met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Series of the head that now hide samples.
    pub head_series: u64,
    /// Blocks whose tombstones changed.
    pub blocks: u64,
    /// Series of these blocks that now hide samples, counted in each.
    pub block_series: u64,
}

/// What cleaning did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Blocks written anew without what was deleted.
    pub rewritten: u64,
    /// Blocks removed because nothing was left of them.
    pub removed: u64,
    /// Blocks left as they are because they are damaged. What was deleted of them stays hidden.
    pub damaged: u64,
}

impl Db {
    /// Deletes the samples of all series that meet every matcher, in a range that includes both ends.
    ///
    /// When it returns, the deletion survives a power cut whatever [`crate::Options::fsync`] says, and views made from
    /// then on show all of it; views made before show nothing of it. Samples that are appended later stay, also those
    /// in the range. The next sample of a series must still be newer than its newest one, deleted or not. Label names
    /// and values are known to the index until the samples are gone from the disk.
    ///
    /// # Errors
    /// [`Error::Limit`] if the head or a block would hide more than [`crate::Options::max_tombstones`] intervals,
    /// [`Error::Memory`] if there is no room for them; nothing is deleted then. [`Error::Io`], or [`Error::Invalid`] if
    /// the log takes nothing any more: blocks before the failure keep what was deleted of them; repeating completes it.
    pub fn delete(&self, matchers: &[Matcher], range: TimeRange) -> Result<Deleted, Error> {
        if range.is_empty() {
            return Ok(Deleted::default());
        }
        let _maintenance = self.maintenance.lock();
        usable(&mut self.log.lock())?;
        let marks = self.marks(matchers, range)?;
        self.room_in_head(matchers, range)?;
        let mut blocks: Vec<Arc<BlockReader>> = self.blocks.read().to_vec();
        let mut done = Deleted::default();
        let mut written = Ok(());
        for (at, series, tombstones) in marks {
            let Some(block) = blocks.get_mut(at) else { continue };
            let id = block.meta().id;
            written = deleted::write(&*self.fs, &self.dir.join(id.to_string()), id, &tombstones);
            if written.is_err() {
                break;
            }
            *block = block.with_deleted(tombstones);
            done.blocks += 1;
            done.block_series += series;
        }
        let hidden = written.and_then(|()| self.delete_in_head(matchers, range, &blocks));
        if hidden.is_err() && done.blocks > 0 {
            // What is shown is what would be found at the next start.
            self.publish(blocks, self.flushed());
        }
        done.head_series = hidden?;
        Metrics::add(&self.head.metrics.deletions, 1);
        self.measure();
        tracing::info!(
            head_series = done.head_series,
            blocks = done.blocks,
            block_series = done.block_series,
            from_ms = range.start.millis(),
            to_ms = range.end.millis(),
            "deleted"
        );
        Ok(done)
    }

    /// The tombstones each block is to have, by its place in the list, and how many series they concern.
    fn marks(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<(usize, u64, Tombstones)>, Error> {
        let blocks = self.blocks.read().clone();
        let mut lease = self.head.options.head.lease(0)?;
        let mut marks = Vec::new();
        for (at, block) in blocks.iter().enumerate() {
            let hidden = hidden_in(block, matchers, range)?;
            if hidden.is_empty() {
                continue;
            }
            let tombstones = block.tombstones().with(&hidden);
            self.check_bound(&tombstones)?;
            lease.grow(tombstones.heap_bytes() as u64)?;
            marks.push((at, hidden.len() as u64, tombstones));
        }
        Ok(marks)
    }

    /// Fails before anything is written if the head has no room for the deletion.
    fn room_in_head(&self, matchers: &[Matcher], range: TimeRange) -> Result<(), Error> {
        let _log = self.log.lock();
        let state = self.head.state.read();
        let hidden = state.deleted_by(matchers, range, self.flushed());
        let tombstones = state.deleted.tombstones().with(&hidden);
        self.check_bound(&tombstones)?;
        self.head.options.head.lease(tombstones.heap_bytes() as u64)?;
        Ok(())
    }

    fn check_bound(&self, tombstones: &Tombstones) -> Result<(), Error> {
        let limit = self.head.options.max_tombstones;
        if limit > 0 && tombstones.len() > limit {
            return Err(Error::Limit {
                what: "deleted intervals",
                limit,
            });
        }
        Ok(())
    }

    /// Writes the deletion to the log, then shows it in the head and in these blocks; gives the head's series.
    fn delete_in_head(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        blocks: &[Arc<BlockReader>],
    ) -> Result<u64, Error> {
        // The system tells a failed sync once: not to a sync beside the log while this one runs.
        let _syncing = self.syncing.lock();
        let mut log = self.log.lock();
        let (hidden, (late, lost)) = {
            let state = self.head.state.read();
            let late = state.late_without(matchers, range);
            (
                state.deleted_by(matchers, range, self.flushed()),
                late.map_err(|e| e.in_file(&self.dir, 0))?,
            )
        };
        // Also if the head has nothing of it: the log may hold rows that no block has any more at the next start.
        let mut entry = Vec::new();
        record::encode_deletion(matchers, range, &mut entry);
        let wal = usable(&mut log)?;
        wal.prepare()?;
        wal.append(&entry, i64::MIN, false)?;
        wal.sync()?;
        let mut state = self.head.state.write();
        state.delete(&hidden);
        state.late = late;
        *self.blocks.write() = blocks.into();
        let known = |series: &&u32| hidden.binary_search_by_key(*series, |h| h.0).is_err();
        Ok((hidden.len() + lost.iter().filter(known).count()) as u64)
    }

    /// Rewrites every block of which something was deleted without it, and removes those of which nothing is left.
    /// Samples of both kinds keep their place in the order in which blocks are preferred. A crash on the way loses
    /// nothing and brings nothing back; what is deleted meanwhile is cleaned too. Ends early if the store is closed.
    ///
    /// # Errors
    /// [`Error`]: blocks done before it stay done. A block found damaged is none: it is told, and left as it is.
    pub fn clean_tombstones(&self) -> Result<Cleaned, Error> {
        let mut compacting = self.compacting.lock();
        let mut done = Cleaned::default();
        let due: Vec<BlockId> = {
            let blocks = self.blocks.read();
            blocks.iter().filter(|b| b.has_deleted()).map(|b| b.meta().id).collect()
        };
        for id in due {
            match self.replace_one(&mut compacting, id)? {
                Replaced::Rewritten => done.rewritten += 1,
                Replaced::Removed => done.removed += 1,
                Replaced::Damaged => {
                    done.damaged += 1;
                    continue;
                }
                Replaced::Gone => continue,
                Replaced::Stopped => break,
            }
            Metrics::add(&self.head.metrics.blocks_cleaned, 1);
        }
        self.measure();
        Ok(done)
    }
}

impl Db {
    /// Brings up to date how much is deleted, and what knowing it takes beside the head's state.
    pub(crate) fn measure_tombstones(&self) {
        let blocks = self.blocks.read().clone();
        let in_blocks = || blocks.iter().map(|b| b.tombstones());
        let bytes = in_blocks().map(|t| t.heap_bytes() as u64).sum();
        self.head.beside.store(bytes, Ordering::Relaxed);
        let in_head = self.head.state.read().deleted.tombstones().len();
        let all = in_head + in_blocks().map(Tombstones::len).sum::<u64>();
        Metrics::set(&self.head.metrics.tombstones, all);
    }
}

/// The log, if it takes records.
fn usable(log: &mut Log) -> Result<&mut crate::wal::writer::Wal, Error> {
    let invalid = |what: &str| Error::Invalid { what: what.to_owned() };
    let wal = log.wal.as_mut().ok_or_else(|| invalid("the store is closed"))?;
    match wal.poisoned() {
        Some(why) => Err(invalid(why)),
        None => Ok(wal),
    }
}

/// What a deletion hides of a block: the part of the range it has samples in, for each series that has some there and
/// shows them.
fn hidden_in(block: &BlockReader, matchers: &[Matcher], range: TimeRange) -> Result<Vec<(u32, TimeRange)>, Error> {
    let meta = block.meta();
    let range = TimeRange::new(range.start.max(meta.first), range.end.min(meta.last));
    if range.is_empty() || meta.samples == 0 {
        return Ok(Vec::new());
    }
    let mut entries = block.entries()?;
    let mut spans: HashMap<u32, TimeRange> = HashMap::new();
    let mut hidden = Vec::new();
    for no in block.select(matchers)? {
        let known = block.deleted(no);
        let mut shows = false;
        for run in entries.seek(no)?.runs() {
            let own = match spans.get(&run.span) {
                Some(own) => *own,
                None => {
                    let span = block.span(run.span)?;
                    let own = TimeRange::new(span.first.max(range.start), span.last.min(range.end));
                    spans.insert(run.span, own);
                    own
                }
            };
            shows |= !own.is_empty() && !known.is_some_and(|k| k.cover(own));
        }
        if shows {
            hidden.push((no.rank(), range));
        }
    }
    Ok(hidden)
}
