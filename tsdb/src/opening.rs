//! The blocks a store begins with: opened, set aside if they cannot be, removed if others took their place.

use crate::block::{self, BlockCache, BlockId, BlockReader};
use crate::compact::{Leftovers, precedence};
use crate::directory::QUARANTINE;
use crate::fs::Fs;
use crate::wal::writer::cause;
use crate::{Error, Metrics};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Opens the blocks of a data directory, in the order in which readers prefer them.
///
/// What is damaged goes to `quarantine/` and is told; a newer version, and what the system refuses for another reason,
/// ends the start. Blocks that another names as its parents are removed, the last step of the compaction that wrote it.
pub(crate) fn open_blocks(
    fs: &Arc<dyn Fs>,
    dir: &Path,
    cache: &Arc<BlockCache>,
    metrics: &Metrics,
    leftovers: &Leftovers,
) -> Result<Vec<Arc<BlockReader>>, Error> {
    let mut blocks = Vec::new();
    for id in block::list_blocks(&**fs, dir)? {
        match BlockReader::open(fs, &dir.join(id.to_string()), cache) {
            Ok(block) => blocks.push(block),
            Err(e) if is_damage(&e) => set_aside(&**fs, dir, id, &e, metrics)?,
            Err(e) => return Err(e),
        }
    }
    let replaced = replaced(fs, dir, &mut blocks, metrics)?;
    blocks.retain(|b| !replaced.contains(&b.meta().id));
    for id in replaced {
        if let Err(e) = block::remove_block(&**fs, dir, id) {
            tracing::warn!(block = %id, error = %e, cause = %cause(&e), "a block that was merged cannot be removed yet");
            leftovers.add([id]);
        }
    }
    blocks.sort_by_key(|b| precedence(b.meta()));
    Ok(blocks)
}

/// Whether the block itself is at fault, and not the moment.
fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Corrupt { .. }) || error.is_not_found() || error.is_unreadable()
}

/// The blocks that others replace. One that replaces some must be readable: else it goes, and they stay.
fn replaced(
    fs: &Arc<dyn Fs>,
    dir: &Path,
    blocks: &mut Vec<Arc<BlockReader>>,
    metrics: &Metrics,
) -> Result<BTreeSet<BlockId>, Error> {
    let present: BTreeSet<BlockId> = blocks.iter().map(|b| b.meta().id).collect();
    let mut replaced = BTreeSet::new();
    let mut kept = Vec::with_capacity(blocks.len());
    for block in blocks.drain(..) {
        let meta = block.meta();
        let here: Vec<BlockId> = meta.parents.iter().filter(|p| present.contains(p)).copied().collect();
        if !here.is_empty() {
            match block.verify_index() {
                Err(e) if is_damage(&e) => {
                    set_aside(&**fs, dir, meta.id, &e, metrics)?;
                    continue;
                }
                checked => checked?,
            }
        }
        replaced.extend(here);
        kept.push(block);
    }
    *blocks = kept;
    Ok(replaced)
}

/// Moves a block out of the way. Nothing of it is lost.
fn set_aside(fs: &dyn Fs, dir: &Path, id: BlockId, why: &Error, metrics: &Metrics) -> Result<(), Error> {
    let quarantine = dir.join(QUARANTINE);
    fs.create_dir_all(&quarantine)?;
    // One that was put back by hand, and is damaged still, finds its place taken.
    let mut to = quarantine.join(id.to_string());
    for n in 1u32.. {
        if !fs.exists(&to) {
            break;
        }
        to = quarantine.join(format!("{id}.{n}"));
    }
    fs.rename(&dir.join(id.to_string()), &to)?;
    fs.sync_dir(&quarantine)?;
    fs.sync_dir(dir)?;
    Metrics::add(&metrics.blocks_quarantined, 1);
    tracing::error!(block = %id, error = %why, cause = %cause(why), to = %to.display(), "a block cannot be read and was set aside");
    Ok(())
}
