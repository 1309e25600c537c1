//! The store: a data directory behind the two doors of `tidegauge-model`.
//!
//! ```text
//!   Appender ──commit──> wal (one frame) ──> head: open rows ──seal──> runs ──every 2 h──> block folder <─┐ merged
//!                                              |              (heap, then file)                | └────────┘ by time
//!   Querier <──────────── select: one group for each list of timelines and runs ───────────────┘
//! ```
//!
//! # The data directory
//!
//! ```text
//!   tidegauge            what this folder is, and the version of its layout
//!   lock                 held by the one process that serves it
//!   wal/00000007.seg     commits that no block holds yet
//!   runs/00000003.runs   sealed runs that left the heap; the log has their rows
//!   checkpoint/00000007.ckpt  the head where that segment begins: saves replaying the ones before
//!   01J...               a block: one window of time, or several that were merged
//!     block              its samples and index, immutable
//!     tombstones         what was deleted of it; exchanged as a whole, absent if nothing was
//!   01J....tmp           one that is being written or removed; what a crash left goes at the next start
//!   quarantine/01J...    blocks that cannot be read: set aside, never deleted
//!   snapshots/<name>/    blocks as a snapshot found them
//! ```
//!
//! # Locks
//!
//! Taken downwards only.
//!
//! | rank | lock | guards | held while |
//! |---|---|---|---|
//! | 1 | `Db::compacting` | which blocks are merged | blocks are merged; not taken by maintenance |
//! | 2 | `Db::maintenance` | rounds of maintenance, snapshots, deletions, the list of blocks | a block is written; merged ones are exchanged |
//! | 3 | `Db::leftovers` | blocks that are not shown any more | they are removed |
//! | 4 | `Db::numbering` | what numbers series have | read: a view selects; write: the index is built anew |
//! | 5 | `Db::syncing` | the one sync beside the log | the disk syncs; not taken by commits |
//! | 6 | `Db::log` | the log, and the right to change rows | one commit is planned, written and published |
//! | 7 | `Head::state` | timelines, columns, owners | read: a plan is made, a reader copies; write: a plan is applied |
//! | 8 | `State::index` | labels and postings | labels are looked up or added |
//! | 9 | `Head::exemplars` | the ring of exemplars | some are added; those of a range are listed |
//! | 10 | `Db::blocks` | the list of blocks | the list is copied or exchanged |
//!
//! # What is acknowledged
//!
//! A commit returns when its frame is with the operating system and its samples are visible. **A process crash loses
//! nothing acknowledged; a power cut loses at most the interval** of [`Fsync::Interval`] (one second unless set), nothing
//! with [`Fsync::Always`], and what the system had not written yet with [`Fsync::Never`]. Whatever is lost, a commit is
//! lost whole. A sync that fails closes the store to writes: what the disk holds is unknown from then on.
//!
//! # The life of a sample
//!
//! A commit is planned on the state as it is ([`Appender`](tidegauge_model::Appender) says what may be refused),
//! written to the log as one frame, and published by one short write of the state: a reader sees all of it or none.
//! About 120 rows of a timeline are sealed into a run, fewer if memory is short. Runs leave the heap for mapped files,
//! and checkpoints say where opening may begin. When a window of [`Options::block_ms`] is complete, its runs become a
//! block, and the segments of the log that only hold such rows are deleted. Native histograms lie beside the rows and
//! go the same way, but for files of runs. Exemplars ([`Options::max_exemplars`]) live in memory, in the log and in
//! checkpoints.
//!
//! No sample is older than [`EARLIEST_MS`], further ahead of the clock than [`Options::max_future_ms`], or half a window
//! and more behind the newest one of all.
//!
//! A sample that comes behind the newest one of its series, inside [`Options::out_of_order_ms`], goes beside the
//! timelines: to the block of its window when that is written, or, if it is, to a block of its own. Blocks may overlap;
//! of several samples of one time, the one that was stored first stays.
//!
//! Blocks are merged into wider ones (up to [`Options::max_block_ms`]) by a thread that the head does not wait for, and
//! go whole, by [`Options::retention_ms`] and [`Options::retention_bytes`].
//!
//! What is deleted is hidden at once by tombstones, of the head and of each block, and left out of blocks written from
//! then on; [`Db::clean_tombstones`] takes it off the disk.
//!
//! # Looking in from outside
//!
//! [`verify`] reads every byte of a directory and says what is damaged; [`analyze`] says what takes the room. Both take
//! no lock and change nothing. [`fs::OverlayFs`] lets a tool open a store and keep the changes to itself. The crate's
//! `README.md` has a quick start, `examples/` whole programs.

#![deny(missing_docs)]

#[cfg(feature = "allocator")]
pub mod allocator;
mod analyze;
pub mod block;
mod checkpoint;
mod codec;
pub mod column;
mod compact;
mod db;
mod delete;
mod directory;
mod error;
mod flush;
pub mod fs;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod head;
mod index;
mod maintain;
mod metrics;
mod numbered;
mod offload;
mod opening;
mod options;
mod replay;
mod select;
mod snapshot;
mod timeline;
mod tombstones;
mod verify;
mod wal;

pub use analyze::{Analysis, AnalyzeOptions, BytesUse, ChurnWindow, CodecUse, LabelUse, MetricUse, PairUse, analyze};
pub use codec::Malformed;
pub use db::{Db, SnapshotHead, Stats};
pub use delete::{Cleaned, Deleted};
pub use error::Error;
pub use metrics::{MetricFamily, Metrics};
pub use options::{EARLIEST_MS, Fsync, Options};
pub use replay::Replay;
pub use tombstones::Intervals;
pub use verify::{Finding, Progress, Report, verify};

/// The quick start of the README, compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
