//! An immutable block: a folder with one file, published by rename, and what was deleted of it since.
//!
//! ```text
//!   01ARYZ6S41...        folder, named by its BlockId
//!     block              frames | timelines, spans | pairs, postings, series | meta | table of contents
//!     tombstones         deleted intervals by series; exchanged whole, absent if there are none
//!   01ARYZ6S42....tmp    folder of a block that was not finished: of no use
//! ```
//!
//! Words: a **timeline** is a column of timestamps, kept once; a **span** is a set of its rows, kept once; a series has
//! **runs**, each a span and a **chunk** of as many values; neighbouring chunks are compressed together in a **frame**.
//! A span says of what kind its runs' values are: floats or native histograms. Series are in order of their labels. The bytes are drawn in `docs/formats/block.md` and in the files here.
//!
//! [`BlockWriter`] takes timelines and series and publishes the block; [`BlockReader`] maps the index, verifying each
//! section when it is used first, and reads frames through a [`BlockCache`] that all blocks share, verifying each.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod cache;
pub(crate) mod deleted;
mod frames;
mod id;
mod layout;
mod meta;
mod reader;
mod spans;
mod symbols;
mod writer;

pub use crate::index::series::Run;
pub use cache::BlockCache;
pub use id::{BlockId, NotABlockId};
pub use meta::{BlockMeta, BlockRange, BlockSpec};
pub(crate) use reader::FrameStream;
pub use reader::{BlockReader, SeriesEntries, SeriesEntry, SeriesNo};
pub(crate) use reader::{HeadNumbers, Survey};
pub use spans::Span;
pub use writer::{BlockWriter, HistogramRun, MAX_CHUNK_VALUES, SeriesRun};

use crate::Error;
use crate::fs::{EntryKind, Fs};
use std::path::Path;

/// The block itself, in its folder.
pub const BLOCK_FILE: &str = "block";
/// What was deleted of it, beside it.
pub const TOMBSTONES_FILE: &str = "tombstones";
/// What the name of an unfinished block's folder ends with.
pub const TEMPORARY: &str = ".tmp";

/// The blocks in a folder, in order of their names.
///
/// # Errors
/// [`Error::Io`].
pub fn list_blocks(fs: &dyn Fs, parent: &Path) -> Result<Vec<BlockId>, Error> {
    let entries = fs.read_dir(parent)?;
    let dirs = entries.iter().filter(|e| e.kind == EntryKind::Dir);
    Ok(dirs.filter_map(|e| e.name.parse().ok()).collect())
}

/// Removes the folders of blocks, and the tombstones in them, that were not finished; gives how many there were.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_unfinished(fs: &dyn Fs, parent: &Path) -> Result<usize, Error> {
    let mut removed = 0;
    for entry in fs.read_dir(parent)? {
        let id = entry.name.strip_suffix(TEMPORARY).map(str::parse::<BlockId>);
        if entry.kind == EntryKind::Dir && matches!(id, Some(Ok(_))) {
            fs.remove_dir_all(&parent.join(&entry.name))?;
            removed += 1;
        } else if entry.kind == EntryKind::Dir && entry.name.parse::<BlockId>().is_ok() {
            let unfinished = parent.join(&entry.name).join(deleted::unfinished());
            if fs.exists(&unfinished) {
                fs.remove_file(&unfinished)?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// Removes a block. It is gone as a whole: first its name, then its content. Who has it open reads on. After a failure
/// it may be asked for again.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_block(fs: &dyn Fs, parent: &Path, id: BlockId) -> Result<(), Error> {
    let (path, temporary) = (parent.join(id.to_string()), parent.join(format!("{id}{TEMPORARY}")));
    if fs.exists(&path) {
        fs.rename(&path, &temporary)?;
    }
    fs.sync_dir(parent)?;
    if fs.exists(&temporary) {
        fs.remove_dir_all(&temporary)?;
    }
    Ok(())
}

/// Gives a block a second home in another folder by hard links, as snapshots do; what is deleted here later stays there.
/// The caller syncs that folder.
///
/// # Errors
/// [`Error::Io`].
pub fn link_block(fs: &dyn Fs, parent: &Path, id: BlockId, to_parent: &Path) -> Result<(), Error> {
    let (from, to) = (parent.join(id.to_string()), to_parent.join(id.to_string()));
    fs.create_dir_all(&to)?;
    fs.hard_link(&from.join(BLOCK_FILE), &to.join(BLOCK_FILE))?;
    match fs.hard_link(&from.join(TOMBSTONES_FILE), &to.join(TOMBSTONES_FILE)) {
        Err(e) if !e.is_not_found() => return Err(e),
        Ok(()) | Err(_) => {}
    }
    fs.sync_dir(&to)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::recording as recorded;
