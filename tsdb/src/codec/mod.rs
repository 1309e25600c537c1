//! The bricks of every file format here: integers of variable length, bit streams, packed blocks, checksums, and the
//! bounds-checked cursor that all decoders read through.
//!
//! Decoders never panic and never allocate more than their input justifies; what does not fit is [`Malformed`], which
//! whoever knows the file turns into [`crate::Error::Corrupt`].

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub(crate) mod bits;
pub(crate) mod crc;
pub(crate) mod cursor;
pub(crate) mod packed;
pub(crate) mod varint;
pub(crate) mod zstd_pool;

pub(crate) use crc::crc32;
pub(crate) use cursor::Cursor;
pub(crate) use zstd_pool::ZstdPool;

use crate::Error;
use std::path::Path;

/// Bytes that no encoder of ours wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct Malformed {
    /// Where, from the start of what was decoded.
    pub offset: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl Malformed {
    pub(crate) fn new(offset: usize, what: &'static str) -> Self {
        Self { offset, what }
    }

    /// The same as an error of a file, in which the decoded bytes begin at `base`.
    pub(crate) fn in_file(self, path: &Path, base: u64) -> Error {
        Error::corrupt(path, base.saturating_add(self.offset as u64), self.what)
    }
}
