//! Fewer and wider blocks: compaction, and what goes for good.
//!
//! ```text
//!   plan ──> merge ──> <id>.tmp, complete and synced ──┬─ under the maintenance lock, if the parents are still shown:
//!   (times only)   (no lock but `compacting`)          │   rename, show it in their place, remove them
//!                                                      └─ else: taken away, planned anew
//! ```
//!
//! A thread of its own merges, so that windows of the head become blocks on time however long a merge takes; it looks
//! before each series whether the store is being closed. A crash leaves the parents, or the new block and perhaps some
//! parents, which go when the store is opened: the new block names them.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod column;
mod merge;
pub(crate) mod plan;
pub(crate) mod retention;
mod timelines;
mod walk;

use crate::block::{self, BlockId, BlockMeta, BlockRange, BlockReader, BlockSpec, BlockWriter};
use crate::db::Db;
use crate::wal::writer::cause;
use crate::{Error, Metrics};
use parking_lot::Mutex;
use plan::{Candidate, max_block_ms, plan, widths};
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// After a compaction failed, the thread waits so long, and twice as long each time it fails again.
const RETRY: Duration = Duration::from_secs(30);
const RETRY_MAX: Duration = Duration::from_secs(3600);

/// The store is being closed: what was begun is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopped;

/// What the thread that compacts remembers.
#[derive(Debug, Default)]
pub(crate) struct Compacting {
    /// Not before; and how long it waited last.
    wait: Option<(Instant, Duration)>,
}

/// What could not be removed yet. Until it is, no block takes the place of another: one removed later would come back
/// at the next start if nobody names it any more.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    blocks: Mutex<VecDeque<BlockId>>,
    /// Whether there may be temporary folders.
    unfinished: AtomicBool,
}

impl Leftovers {
    pub(crate) fn note_unfinished(&self) {
        self.unfinished.store(true, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, blocks: impl IntoIterator<Item = BlockId>) {
        self.blocks.lock().extend(blocks);
    }
}

/// The order in which readers and merges prefer blocks that hold a sample of the same series and time: what was
/// compacted most often, then what was made first. That is the sample that was there before.
pub(crate) fn precedence(meta: &BlockMeta) -> impl Ord + use<> {
    (Reverse(meta.level), eldest(meta))
}

/// The first block that its samples come from, as far as it tells: one that is only written anew keeps its place.
fn eldest(meta: &BlockMeta) -> BlockId {
    meta.parents.iter().copied().fold(meta.id, BlockId::min)
}

/// How the rewriting of a block ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replaced {
    Rewritten,
    /// Nothing was left of it.
    Removed,
    /// It stays as it is.
    Damaged,
    /// It was not there any more.
    Gone,
    Stopped,
}

/// How a merge ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Merged {
    Done,
    /// Of what was merged nothing is left.
    Removed,
    /// Blocks were deleted or changed meanwhile.
    Outdated,
    Stopped,
}

impl Db {
    /// Merges blocks until nothing is due, and gives how many new ones there are. For tests and tools; a thread does it
    /// by itself.
    ///
    /// # Errors
    /// [`Error`]: what was begun is taken away, all blocks stay as they are. A block in which damage was found is left
    /// out the next time.
    pub fn compact(&self) -> Result<usize, Error> {
        let _compacting = self.compacting.lock();
        self.compact_until(&|| self.closing.load(Ordering::Relaxed))
    }

    /// Writes a block anew, without what was deleted of it; again if more of it was deleted meanwhile.
    pub(crate) fn replace_one(&self, _held: &mut Compacting, id: BlockId) -> Result<Replaced, Error> {
        let stop = || self.closing.load(Ordering::Relaxed);
        loop {
            self.tidy()?;
            let block = self.blocks.read().iter().find(|b| b.meta().id == id).cloned();
            let Some(block) = block else { return Ok(Replaced::Gone) };
            if block.is_damaged() {
                return Ok(Replaced::Damaged);
            }
            return Ok(match self.replace(std::slice::from_ref(&block), &stop) {
                Ok(Merged::Done) => Replaced::Rewritten,
                Ok(Merged::Removed) => Replaced::Removed,
                Ok(Merged::Outdated) => continue,
                Ok(Merged::Stopped) => Replaced::Stopped,
                Err(e) if block.is_damaged() => {
                    tracing::warn!(block = %id, error = %e, cause = %cause(&e), "a block is not rewritten because it is damaged");
                    Metrics::add(&self.head.metrics.compactions_failed, 1);
                    Replaced::Damaged
                }
                Err(e) => {
                    Metrics::add(&self.head.metrics.compactions_failed, 1);
                    return Err(e);
                }
            });
        }
    }

    /// What the thread does.
    pub(crate) fn compact_or_warn(db: &Arc<Self>) {
        let mut own = db.compacting.lock();
        if own.wait.is_some_and(|(until, _)| Instant::now() < until) {
            return;
        }
        // Nobody else may have the store any more.
        let stop = || db.closing.load(Ordering::Relaxed) || Arc::strong_count(db) == 1;
        match db.compact_until(&stop) {
            Ok(_) => own.wait = None,
            Err(e) => {
                let pause = own.wait.map_or(RETRY, |(_, last)| (last * 2).min(RETRY_MAX));
                own.wait = Some((Instant::now() + pause, pause));
                let pause_seconds = pause.as_secs();
                tracing::warn!(error = %e, cause = %cause(&e), pause_seconds, "compaction failed; it is tried again");
            }
        }
    }

    /// The caller holds `compacting`.
    fn compact_until(&self, stop: &dyn Fn() -> bool) -> Result<usize, Error> {
        let metrics = &self.head.metrics;
        let mut done = 0;
        let ended = loop {
            if let Err(e) = self.tidy() {
                break Err(e);
            }
            let due = self.due_blocks();
            if due.is_empty() || stop() {
                break Ok(done);
            }
            match self.replace(&due, stop) {
                Ok(Merged::Done | Merged::Removed) => done += 1,
                Ok(Merged::Outdated | Merged::Stopped) => break Ok(done),
                // Others may be due once damaged blocks are left out.
                Err(e) if due.iter().any(|b| b.is_damaged()) => {
                    tracing::warn!(error = %e, "blocks are not compacted because one of them is damaged");
                    Metrics::add(&metrics.compactions_failed, 1);
                }
                Err(e) => break Err(e),
            }
        };
        if ended.is_err() {
            Metrics::add(&metrics.compactions_failed, 1);
        }
        ended
    }

    /// The blocks to merge next.
    fn due_blocks(&self) -> Vec<Arc<BlockReader>> {
        let options = &self.head.options;
        let blocks = self.blocks.read().clone();
        let candidates: Vec<Candidate> = blocks
            .iter()
            .map(|b| Candidate {
                id: b.meta().id,
                start: b.meta().range.start.millis(),
                end: b.meta().range.end.millis(),
                damaged: b.is_damaged(),
            })
            .collect();
        let widest = max_block_ms(options.max_block_ms, options.retention_ms);
        let due = plan(&candidates, &widths(options.block_ms, widest));
        blocks.iter().filter(|b| due.contains(&b.meta().id)).cloned().collect()
    }

    /// Writes one block in the place of several. The caller holds `compacting`.
    fn replace(&self, parents: &[Arc<BlockReader>], stop: &dyn Fn() -> bool) -> Result<Merged, Error> {
        let began = Instant::now();
        let done = self.try_replace(parents, stop);
        let metrics = &self.head.metrics;
        Metrics::add(&metrics.compaction_milliseconds, began.elapsed().as_millis() as u64);
        match &done {
            Ok(Merged::Done | Merged::Removed) => Metrics::add(&metrics.compactions, 1),
            Ok(_) => {}
            Err(_) => self.leftovers.note_unfinished(),
        }
        done
    }

    fn try_replace(&self, parents: &[Arc<BlockReader>], stop: &dyn Fn() -> bool) -> Result<Merged, Error> {
        let mut parents = parents.to_vec();
        parents.sort_by_key(|b| precedence(b.meta()));
        let Some(spec) = self.spec(&parents) else {
            return Ok(Merged::Outdated);
        };
        let mut writer = BlockWriter::create(&self.fs, &self.dir, spec)?;
        if parents.iter().any(|p| p.has_histograms()) {
            writer = writer.with_histograms();
        }
        if merge::merge(&parents, &mut writer, stop)?.is_err() {
            return Ok(Merged::Stopped);
        }
        let meta = if writer.is_empty() {
            None
        } else {
            Some(writer.complete()?)
        };
        let _maintenance = self.maintenance.lock();
        let shown = self.blocks.read().clone();
        // A deletion exchanges a block for the same one with tombstones.
        if !parents.iter().all(|p| shown.iter().any(|b| Arc::ptr_eq(p, b))) {
            return Ok(Merged::Outdated);
        }
        let mut blocks: Vec<Arc<BlockReader>> = shown
            .iter()
            .filter(|b| !parents.iter().any(|p| Arc::ptr_eq(p, b)))
            .cloned()
            .collect();
        if let Some(meta) = &meta {
            writer.publish()?;
            let opened = BlockReader::open(&self.fs, &self.dir.join(meta.id.to_string()), &self.cache);
            // What cannot be read back must not take the place of what can.
            blocks.push(opened.inspect_err(|_| self.leftovers.add([meta.id]))?);
        }
        self.publish(blocks, self.flushed());
        self.tell(&parents, meta.as_ref());
        self.leftovers.add(parents.iter().map(|p| p.meta().id));
        // If it fails, the next round tries again, before anything else.
        let removed = self.remove_leftovers();
        if let Err(e) = removed {
            tracing::warn!(error = %e, cause = %cause(&e), "blocks that were merged cannot be removed yet");
        }
        Ok(if meta.is_some() { Merged::Done } else { Merged::Removed })
    }

    fn spec(&self, parents: &[Arc<BlockReader>]) -> Option<BlockSpec> {
        let metas = || parents.iter().map(|p| p.meta());
        let level = metas().map(|m| m.level).max()?;
        let mut named: Vec<BlockId> = metas().map(|m| m.id).collect();
        let first = metas().map(eldest).min()?;
        if !named.contains(&first) {
            named.push(first);
        }
        Some(BlockSpec {
            id: self.block_id(&self.dir),
            range: BlockRange::new(
                metas().map(|m| m.range.start).min()?,
                metas().map(|m| m.range.end).max()?,
            ),
            encoding: self.head.options.encoding,
            // What is only written anew does not come before others that share its times.
            level: level.saturating_add(u8::from(parents.len() > 1)),
            parents: named,
        })
    }

    fn tell(&self, parents: &[Arc<BlockReader>], meta: Option<&BlockMeta>) {
        let read: u64 = parents.iter().map(|p| p.meta().bytes).sum();
        let written = meta.map_or(0, |m| m.bytes);
        Metrics::add(&self.head.metrics.compaction_read_bytes, read);
        Metrics::add(&self.head.metrics.compaction_written_bytes, written);
        let parents: Vec<String> = parents.iter().map(|p| p.meta().id.to_string()).collect();
        let (parents, block) = (parents.join(","), meta.map_or(String::new(), |m| m.id.to_string()));
        let samples = meta.map_or(0, |m| m.samples);
        tracing::info!(
            parents,
            block,
            samples,
            read_bytes = read,
            written_bytes = written,
            "compacted blocks"
        );
    }

    /// Removes what could not be removed before. The caller holds `compacting`.
    fn tidy(&self) -> Result<(), Error> {
        let _maintenance = self.maintenance.lock();
        self.remove_leftovers()?;
        if self.leftovers.unfinished.swap(false, Ordering::Relaxed) {
            // With both locks held nobody writes a block.
            block::remove_unfinished(&*self.fs, &self.dir).inspect_err(|_| self.leftovers.note_unfinished())?;
        }
        Ok(())
    }

    /// Removes blocks that are not shown any more. The caller holds `maintenance`.
    pub(crate) fn remove_leftovers(&self) -> Result<(), Error> {
        let mut blocks = self.leftovers.blocks.lock();
        while let Some(id) = blocks.front() {
            block::remove_block(&*self.fs, &self.dir, *id)?;
            blocks.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
