//! What goes wrong in the store, as callers can act on it.

use std::io;
use std::path::{Path, PathBuf};

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb: `open`, `write`, `sync`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// Stored bytes are not what was written.
    #[error("corrupt data in {} at byte {offset}: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A newer tidegauge wrote it.
    #[error("{} has format {found}, this version reads up to {known}", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// The version or feature bits it carries.
        found: u64,
        /// The newest that is known here.
        known: u64,
    },
    /// Another process holds the data directory.
    #[error("{} is locked by another process{}{holder}", path.display(), if holder.is_empty() { "" } else { ": " })]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the lock file says about its holder; may be empty.
        holder: String,
    },
    /// The directory belongs to another program.
    #[error("{} holds files of {owner} ({sign}): it is left untouched", path.display())]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: &'static str,
        /// The entry that shows it.
        sign: String,
    },
    /// What was to be stored breaks a rule of the store.
    #[error("invalid data: {what}")]
    Invalid {
        /// Which rule.
        what: String,
    },
    /// The share of memory is used up.
    #[error(transparent)]
    Memory(#[from] tidegauge_model::OverBudget),
    /// A bound of the format, or one that was set, is passed.
    #[error("{what} is over the limit of {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            offset,
            what: what.into(),
        }
    }

    /// Whether the disk is full: it may heal by itself.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// Whether the disk cannot give back what was written: a bad sector, or a file that ends too early.
    pub fn is_unreadable(&self) -> bool {
        // A folder where a file should be can be opened but not mapped.
        const EIO: i32 = 5;
        const ENODEV: i32 = 19;
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::IsADirectory)
                || matches!(source.raw_os_error(), Some(EIO | ENODEV)))
    }

    /// Whether the file or folder does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
