//! Which blocks are kept: by time and by size.
//!
//! By time a block goes once all of it is older than what is kept, counted from the newest sample. By size the oldest
//! go until all that is stored fits: blocks, the log, and what the head has on disk. Snapshots and what lies in
//! quarantine are not counted: the first are asked for, the second waits for a person. Who reads a block that goes
//! reads on.

use crate::block::{BlockId, BlockReader};
use crate::db::Db;
use crate::directory::{CHECKPOINTS, RUNS, WAL};
use crate::fs::{EntryKind, Fs};
use crate::{Error, Metrics};
use std::path::Path;
use std::sync::Arc;

/// A block as retention sees it.
#[derive(Debug, Clone, Copy)]
struct Stored {
    id: BlockId,
    /// Behind its last instant.
    end: i64,
    bytes: u64,
}

/// The blocks that are too old.
fn too_old(blocks: &[Stored], newest: i64, keep_ms: i64) -> Vec<BlockId> {
    if keep_ms == 0 {
        return Vec::new();
    }
    let bound = newest.saturating_sub(keep_ms);
    blocks.iter().filter(|b| b.end <= bound).map(|b| b.id).collect()
}

/// The oldest blocks, as many as must go for the others and `beside` to fit.
fn too_much(blocks: &[Stored], beside: u64, limit: u64) -> Vec<BlockId> {
    if limit == 0 {
        return Vec::new();
    }
    let mut newest_first = blocks.to_vec();
    newest_first.sort_by_key(|b| std::cmp::Reverse((b.end, b.id)));
    let mut sum = beside;
    let over = newest_first.iter().position(|b| {
        sum = sum.saturating_add(b.bytes);
        sum > limit
    });
    let gone = over.and_then(|at| newest_first.get(at..)).unwrap_or_default();
    gone.iter().rev().map(|b| b.id).collect()
}

/// The bytes of all files in a folder; 0 if there is none.
fn folder_bytes(fs: &dyn Fs, dir: &Path) -> Result<u64, Error> {
    let missing_is_none = |e: Error| if e.is_not_found() { Ok(0) } else { Err(e) };
    let entries = match fs.read_dir(dir) {
        Ok(entries) => entries,
        Err(e) => return missing_is_none(e),
    };
    let mut sum = 0u64;
    for entry in entries {
        let path = dir.join(&entry.name);
        sum = sum.saturating_add(match entry.kind {
            EntryKind::Dir => folder_bytes(fs, &path)?,
            EntryKind::File => fs.len(&path).or_else(missing_is_none)?,
        });
    }
    Ok(sum)
}

impl Db {
    /// Deletes blocks that are too old, then the oldest while there is too much. The caller holds `maintenance`.
    pub(crate) fn retain(&self) -> Result<(), Error> {
        self.remove_leftovers()?;
        let (options, metrics) = (&self.head.options, &self.head.metrics);
        let shown = self.blocks.read().clone();
        let mut blocks = self.stored(&shown)?;
        // The oldest go first: whenever it ends, what is left has no gap.
        blocks.sort_by_key(|b| (b.end, b.id));
        let newest = shown.iter().map(|b| b.meta().last.millis()).max();
        let newest = newest.unwrap_or(i64::MIN).max(self.head.state.read().newest);
        let old = too_old(&blocks, newest, options.retention_ms);
        blocks.retain(|b| !old.contains(&b.id));
        let much = match options.retention_bytes {
            0 => Vec::new(),
            limit => too_much(&blocks, self.bytes_beside()?, limit),
        };
        if old.is_empty() && much.is_empty() {
            return Ok(());
        }
        let keep = shown
            .iter()
            .filter(|b| !old.contains(&b.meta().id) && !much.contains(&b.meta().id));
        self.publish(keep.cloned().collect(), self.flushed());
        Metrics::add(&metrics.blocks_deleted, old.len() as u64);
        Metrics::add(&metrics.blocks_deleted_for_size, much.len() as u64);
        for (ids, why) in [(old, "age"), (much, "size")] {
            for id in &ids {
                tracing::info!(block = %id, why, "deleting a block");
            }
            self.leftovers.add(ids);
        }
        self.remove_leftovers()
    }

    fn stored(&self, blocks: &[Arc<BlockReader>]) -> Result<Vec<Stored>, Error> {
        blocks
            .iter()
            .map(|b| {
                let meta = b.meta();
                Ok(Stored {
                    id: meta.id,
                    end: meta.range.end.millis(),
                    bytes: match self.head.options.retention_bytes {
                        0 => meta.bytes,
                        _ => folder_bytes(&*self.fs, &self.dir.join(meta.id.to_string()))?,
                    },
                })
            })
            .collect()
    }

    /// What is stored beside the blocks and counts.
    fn bytes_beside(&self) -> Result<u64, Error> {
        let mut sum = 0u64;
        for folder in [WAL, RUNS, CHECKPOINTS] {
            sum = sum.saturating_add(folder_bytes(&*self.fs, &self.dir.join(folder))?);
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::MemoryFs;

    fn stored(blocks: &[(i64, u64)]) -> Vec<Stored> {
        (0u128..)
            .zip(blocks)
            .map(|(n, (end, bytes))| Stored {
                id: BlockId::from_bits(n),
                end: *end,
                bytes: *bytes,
            })
            .collect()
    }

    fn bits(mut ids: Vec<BlockId>) -> Vec<u128> {
        ids.sort_unstable();
        ids.into_iter().map(BlockId::bits).collect()
    }

    #[test]
    fn a_block_goes_when_all_of_it_is_too_old() {
        let blocks = stored(&[(100, 1), (200, 1), (300, 1)]);
        for (newest, keep, expected) in [
            (300, 0, &[][..]),
            (300, 201, &[]),
            (300, 200, &[0]),
            (300, 101, &[0]),
            (300, 100, &[0, 1]),
            (i64::MIN, 100, &[]),
            (i64::MAX, 1, &[0, 1, 2]),
        ] {
            assert_eq!(bits(too_old(&blocks, newest, keep)), expected, "{newest} {keep}");
        }
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let blocks = stored(&[(300, 10), (100, 1), (200, 10), (200, 5)]);
        for (beside, limit, expected) in [
            (0, 0, &[][..]),
            (0, 26, &[]),
            (0, 25, &[1]),
            (1, 25, &[1, 2]),
            (10, 25, &[1, 2]),
            (10, 24, &[1, 2, 3]),
            (15, 20, &[0, 1, 2, 3]),
            (u64::MAX, 20, &[0, 1, 2, 3]),
        ] {
            assert_eq!(bits(too_much(&blocks, beside, limit)), expected, "{beside} {limit}");
        }
    }

    #[test]
    fn a_folder_is_summed_with_all_below() {
        let disk = MemoryFs::new();
        disk.create_dir_all(Path::new("/a/b")).unwrap();
        disk.plant(Path::new("/a/b/c"), b"12345").unwrap();
        disk.plant(Path::new("/a/d"), b"12").unwrap();
        assert_eq!(folder_bytes(&disk, Path::new("/a")).unwrap(), 7);
        assert_eq!(folder_bytes(&disk, Path::new("/none")).unwrap(), 0);
    }
}
