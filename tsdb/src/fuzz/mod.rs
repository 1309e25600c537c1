//! Decoders under foreign bytes: what fuzz targets and their tests on stable feed.
//!
//! A target takes any bytes whatever and gives them to a decoder in every way that the store does. It must come back:
//! no panic, no allocation beyond [`Target::most_bytes`], no endless work. What the decoder says of the bytes is its
//! own affair. So that a mutated file gets past its checksums, targets also try it with the checksums set right
//! (`reseal`).
//!
//! A new one: write the function, add it to [`TARGETS`] with its seeds and its bound, and a file of five lines to
//! `fuzz/fuzz_targets`. The tests here pick it up from the table.

mod block;
mod chunk;
mod head;
mod histogram;
mod index;
mod log;
mod reseal;
mod tombstones;

#[cfg(test)]
mod tests;

use tidegauge_model::{Clock, Timestamp};

/// The clock of stores under test: it stands, behind all that seeds hold.
#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(4_000_000_000_000)
    }
}

/// A decoder, and what it is tried with.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name; that of its file in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Feeds it. Must not panic, whatever the bytes.
    pub run: fn(&[u8]),
    /// Valid inputs, to be mutated.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes that may be allocated at a time: a number, and how many more for each byte of the input.
    pub bound: (usize, usize),
}

impl Target {
    /// The most bytes that may be allocated at a time over an input of that length.
    pub fn most_bytes(&self, input_bytes: usize) -> usize {
        self.bound.0 + self.bound.1 * input_bytes
    }
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "tsdb_chunk",
        run: chunk::run,
        seeds: chunk::seeds,
        // The values of one chunk, and as many again where it grew.
        bound: (64 << 10, 4),
    },
    Target {
        name: "tsdb_timestamps",
        run: chunk::run_timestamps,
        seeds: chunk::timestamp_seeds,
        // A regular timeline takes a few bytes, however long it is: the bound is that of the format.
        bound: (8 << 20, 4),
    },
    Target {
        name: "tsdb_histogram",
        run: histogram::run,
        seeds: histogram::seeds,
        // The histograms of one column, their numbers before that, and the column of these.
        bound: (4 << 20, 64),
    },
    Target {
        name: "tsdb_index",
        run: index::run,
        seeds: index::seeds,
        // One page of series at a time may be packed, at most to this size.
        bound: (2 << 20, 64),
    },
    Target {
        name: "tsdb_block",
        run: block::run,
        seeds: block::seeds,
        // A frame, a page and a timeline at a time, decoded and once more in the cache.
        bound: (40 << 20, 64),
    },
    Target {
        name: "tsdb_wal",
        run: log::run,
        seeds: log::seeds,
        bound: (4 << 20, 256),
    },
    Target {
        name: "tsdb_record",
        run: log::run_record,
        seeds: log::record_seeds,
        bound: (4 << 20, 256),
    },
    Target {
        name: "tsdb_checkpoint",
        run: head::run_checkpoint,
        seeds: head::checkpoint_seeds,
        bound: (16 << 20, 256),
    },
    Target {
        name: "tsdb_runs",
        run: head::run_runs,
        seeds: head::runs_seeds,
        // One column at a time, of as many values as a column may have.
        bound: (40 << 20, 64),
    },
    Target {
        name: "tsdb_tombstones",
        run: tombstones::run,
        seeds: tombstones::seeds,
        // The store of the block beside them, and the block that cleaning writes.
        bound: (40 << 20, 64),
    },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name)
}
