//! All disk access of the store: a small trait, the real disk, a disk in memory, and one that fails on demand.
//!
//! ```text
//!   block, wal, db ──> dyn Fs ──┬── RealFs      std::fs, memory maps, flock
//!                               ├── MemoryFs    for tests; `crash` forgets whatever was not synced
//!                               ├── FaultFs     MemoryFs that fails or tears the n-th change, is full, or refuses
//!                               └── OverlayFs   another one, read; its changes stay in memory
//! ```
//!
//! The promises are those of POSIX and no more: bytes last once their file is synced, and a name lasts once its
//! folder is synced. A rename replaces its target atomically. Every error names its path.

mod fault;
mod memory;
mod overlay;
mod publish;
mod real;

pub use fault::{Fault, FaultFs, Refusal};
pub use memory::MemoryFs;
pub use overlay::OverlayFs;
pub(crate) use publish::{UNFINISHED, publish, remove};
pub use real::RealFs;

use crate::Error;
use std::any::Any;
use std::fmt;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

/// A file system, as much of one as the store needs.
///
/// # Errors
/// All methods give [`Error::Io`] with the path, and `lock` also [`Error::Locked`].
pub trait Fs: Send + Sync + fmt::Debug {
    /// Makes a new file for writing; an existing one is emptied.
    fn create(&self, path: &Path) -> Result<Box<dyn WriteFile>, Error>;

    /// Opens a file for writing at its end; makes it if there is none.
    fn append(&self, path: &Path) -> Result<Box<dyn WriteFile>, Error>;

    /// Opens a file for reading at any place.
    fn open(&self, path: &Path) -> Result<Arc<dyn ReadFile>, Error>;

    /// The whole of a file, mapped if the system can. The file must not be changed or cut while the map lives.
    fn map(&self, path: &Path) -> Result<FileBytes, Error>;

    /// Moves a file or folder; a file at the new place is replaced.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), Error>;

    /// Gives a file a second name.
    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), Error>;

    /// Removes a file. Who has it open or mapped reads on, here and below.
    fn remove_file(&self, path: &Path) -> Result<(), Error>;

    /// Removes a folder with all it holds.
    fn remove_dir_all(&self, path: &Path) -> Result<(), Error>;

    /// Makes a folder and those above it, where missing.
    fn create_dir_all(&self, path: &Path) -> Result<(), Error>;

    /// What a folder holds, sorted by name.
    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>, Error>;

    /// Makes the names in a folder last: what was made, renamed and removed in it.
    fn sync_dir(&self, path: &Path) -> Result<(), Error>;

    /// The length of a file in bytes.
    fn len(&self, path: &Path) -> Result<u64, Error>;

    /// Whether there is a file or folder of this name.
    fn exists(&self, path: &Path) -> bool;

    /// Takes the lock file for this process, with `note` as its content for whoever finds it taken; held until dropped.
    fn lock(&self, path: &Path, note: &str) -> Result<LockGuard, Error>;
}

/// A file being written, at its end.
pub trait WriteFile: Send + Sync + fmt::Debug {
    /// Appends all of `bytes`. After an error any part of them may be in the file.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error>;

    /// Makes the content last (`fdatasync`).
    ///
    /// # Errors
    /// [`Error::Io`]; what was written since the last sync may be lost then, whatever a second call says.
    fn sync(&mut self) -> Result<(), Error>;

    /// A handle that syncs the same file while it is written to.
    fn syncer(&self) -> Arc<dyn SyncFile>;

    /// The length in bytes, which is where the next write goes.
    fn len(&self) -> u64;

    /// Whether nothing is in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cuts the file to `len` bytes; the next write goes there.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn truncate(&mut self, len: u64) -> Result<(), Error>;

    /// Tells the system that what was written and synced will not be read soon, so that it need not stay in memory.
    fn forget_cached(&self) {}
}

/// Makes a file last beside its writer. What a call covers is what was written before it began.
pub trait SyncFile: Send + Sync + fmt::Debug {
    /// Makes the content last (`fdatasync`).
    ///
    /// # Errors
    /// [`Error::Io`]; as with [`WriteFile::sync`], a second call tells nothing. The system tells an error once, to
    /// this handle or to the writer: whoever syncs both lets one wait for the other.
    fn sync(&self) -> Result<(), Error>;
}

/// A file open for reading.
pub trait ReadFile: Send + Sync + fmt::Debug {
    /// Fills `buf` from the bytes at `offset`.
    ///
    /// # Errors
    /// [`Error::Io`], also where the file ends before `buf` is full (`UnexpectedEof`).
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error>;

    /// The length in bytes when it was opened.
    fn len(&self) -> u64;

    /// Whether nothing was in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells the system that these bytes will not be read again soon, so that they need not stay in memory.
    fn forget_cached(&self, _bytes: Range<u64>) {}
}

/// The bytes of a file: on the heap, or mapped.
pub struct FileBytes(Bytes);

enum Bytes {
    Owned(Box<[u8]>),
    Mapped(memmap2::Mmap),
}

impl FileBytes {
    /// Bytes on the heap.
    pub fn owned(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(Bytes::Owned(bytes.into()))
    }

    pub(crate) fn mapped(map: memmap2::Mmap) -> Self {
        Self(Bytes::Mapped(map))
    }

    /// Tells the system that they will not be read soon, so that a map need not stay in memory. Reading goes on as
    /// before.
    pub fn forget_cached(&self) {
        if let Bytes::Mapped(map) = &self.0 {
            real::forget_map(map);
        }
    }

    /// How many of the bytes count as heap.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Bytes::Owned(bytes) => bytes.len(),
            Bytes::Mapped(_) => 0,
        }
    }
}

impl Deref for FileBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Owned(bytes) => bytes,
            Bytes::Mapped(map) => map,
        }
    }
}

impl fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Bytes::Owned(_) => "owned",
            Bytes::Mapped(_) => "mapped",
        };
        write!(f, "FileBytes({kind}, {} bytes)", self.len())
    }
}

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name, without the folder. Names that are not UTF-8 are left out of listings: none of ours is.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
}

/// What a name in a folder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A file, or anything else that is no folder.
    File,
    /// A folder.
    Dir,
}

/// Holds a lock file until it is dropped.
pub struct LockGuard(#[expect(dead_code, reason = "held for its drop")] Box<dyn Any + Send + Sync>);

impl LockGuard {
    pub(crate) fn new(held: impl Any + Send + Sync) -> Self {
        Self(Box::new(held))
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockGuard")
    }
}

#[cfg(test)]
mod tests;
