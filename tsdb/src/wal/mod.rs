//! The log: what was acknowledged since the last block, so that a killed process loses nothing.
//!
//! ```text
//!   wal/00000007.seg   [header][frame][frame]...      frame = one commit
//!   record             what a frame means: timelines, columns, shapes, rows
//!   segment            how frames lie in a file; what damage looks like
//!   writer             appends, syncs, cuts
//!   reader             replays
//! ```
//!
//! Each segment stands alone: whatever a frame refers to is defined earlier in the same segment. The log is cut by
//! deleting segments whose rows all lie in blocks; checkpoints only save replaying them. `docs/formats/wal.md` draws the
//! bytes.

pub(crate) mod reader;
pub(crate) mod record;
pub(crate) mod segment;
pub(crate) mod writer;
