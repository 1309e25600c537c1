//! A sealed run: consecutive rows of one timeline in one block's window, encoded column by column.
//!
//! Lies on the heap until maintenance moves it to a file of runs ([`super::runfile`]); the log has the rows until a
//! block does. Integers are little-endian; `n` columns:
//!
//! ```text
//!   +-------------------+--------------------+------------+---------------------------------------------+
//!   | series [u32; n]   | end of chunk [u32; n] | times   | chunk 0 | chunk 1 | ...                     |
//!   | rising            | from the first chunk  | encoded | flags u8 | edges, if bit 0 | column bytes   |
//!   +-------------------+--------------------+------------+---------------------------------------------+
//!
//!   flags  bit 0: the column has no value in some rows; `edges` follows: how many (varint), then steps (varints)
//!          from edge to edge of the row ranges that hold one: first, end, first, end, ...
//!          bit 1: some value may be a stale marker
//! ```

use super::runfile::RunFile;
use crate::Error;
use crate::codec::{Cursor, Malformed, varint};
use crate::column::{self, Encoder};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tidegauge_model::{Timestamp, is_stale};

const HAS_GAPS: u8 = 1;
const HAS_STALE: u8 = 2;

/// A sealed run.
#[derive(Debug)]
pub(crate) struct Run {
    /// Which head index its series numbers are of.
    pub(crate) epoch: u64,
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) rows: u32,
    pub(crate) columns: u32,
    /// The row of its timeline it begins with, counted over all rows ever.
    pub(crate) base: u64,
    /// What views of before must not see in it.
    pub(crate) hidden: Box<[Arc<Hidden>]>,
    pub(crate) times_bytes: u32,
    bytes: Bytes,
    whole: OnceLock<bool>,
}

/// Where a run's bytes lie.
#[derive(Debug)]
enum Bytes {
    Heap(Box<[u8]>),
    Mapped { file: Arc<RunFile>, at: Range<usize> },
}

/// What is known of a run beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunMeta {
    pub(crate) epoch: u64,
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) base: u64,
    pub(crate) rows: u32,
    pub(crate) columns: u32,
    pub(crate) times_bytes: u32,
}

/// Values of one time that a view must not see: it was made between two commits that share the time, before they were
/// sealed into one.
#[derive(Debug)]
pub(crate) struct Hidden {
    /// How many rows of the timeline the view saw.
    pub(crate) seen: u64,
    /// The row of the run, the last that the view sees of.
    pub(crate) row: u32,
    /// The series that got their value in it later, rising, by the run's numbers.
    pub(crate) series: Box<[u32]>,
}

/// One column of a run, still encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk<'a> {
    pub(crate) has_stale: bool,
    pub(crate) dense: bool,
    edges: &'a [u8],
    column: &'a [u8],
    /// Where `column` begins in the run.
    at: usize,
}

/// Builds a run; columns come in rising order of series.
#[derive(Debug, Default)]
pub(crate) struct RunWriter {
    series: Vec<u32>,
    ends: Vec<u32>,
    chunks: Vec<u8>,
    values: Vec<f64>,
}

impl RunWriter {
    /// Adds a column: (row, value) in rising order of rows.
    pub(crate) fn column(&mut self, series: u32, samples: &[(u32, f64)], rows: u32, encoder: &mut Encoder) {
        debug_assert!(self.series.last().is_none_or(|last| *last < series), "columns rise");
        self.values.clear();
        self.values.extend(samples.iter().map(|s| s.1));
        let dense = samples.len() == rows as usize;
        let stale = self.values.iter().any(|v| is_stale(*v));
        self.chunks
            .push(if dense { 0 } else { HAS_GAPS } | if stale { HAS_STALE } else { 0 });
        if !dense {
            let mut edges: Vec<u32> = Vec::new();
            for (row, _) in samples {
                match edges.last_mut() {
                    Some(end) if *end == *row => *end += 1,
                    _ => edges.extend([*row, row + 1]),
                }
            }
            varint::put(&mut self.chunks, edges.len() as u64);
            let mut before = 0;
            for edge in edges {
                varint::put(&mut self.chunks, u64::from(edge - before));
                before = edge;
            }
        }
        encoder.encode(&self.values, &mut self.chunks);
        self.series.push(series);
        self.ends.push(self.chunks.len() as u32);
    }

    /// The run, and an empty writer; `None` if there is no column.
    pub(crate) fn finish(
        &mut self,
        times: &[Timestamp],
        epoch: u64,
        base: u64,
        hidden: Box<[Arc<Hidden>]>,
    ) -> Option<Run> {
        let (first, last) = (times.first()?.millis(), times.last()?.millis());
        if self.series.is_empty() {
            return None;
        }
        let mut encoded = Vec::new();
        column::encode_timestamps(times, &mut encoded);
        let mut bytes = Vec::with_capacity(self.series.len() * 8 + encoded.len() + self.chunks.len());
        for number in self.series.iter().chain(&self.ends) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&encoded);
        bytes.extend_from_slice(&self.chunks);
        let run = Run {
            epoch,
            first,
            last,
            rows: times.len() as u32,
            columns: self.series.len() as u32,
            base,
            hidden,
            times_bytes: encoded.len() as u32,
            bytes: Bytes::Heap(bytes.into()),
            whole: OnceLock::new(),
        };
        self.series.clear();
        self.ends.clear();
        self.chunks.clear();
        Some(run)
    }
}

impl Run {
    fn new(meta: RunMeta, hidden: Box<[Arc<Hidden>]>, bytes: Bytes) -> Self {
        Self {
            epoch: meta.epoch,
            first: meta.first,
            last: meta.last,
            rows: meta.rows,
            columns: meta.columns,
            base: meta.base,
            hidden,
            times_bytes: meta.times_bytes,
            bytes,
            whole: OnceLock::new(),
        }
    }

    /// A run that was read back.
    pub(crate) fn on_heap(meta: RunMeta, bytes: &[u8]) -> Self {
        Self::new(meta, Box::default(), Bytes::Heap(bytes.into()))
    }

    /// A run whose bytes lie in a file.
    pub(crate) fn in_file(meta: RunMeta, file: Arc<RunFile>, at: Range<usize>) -> Self {
        Self::new(meta, Box::default(), Bytes::Mapped { file, at })
    }

    /// The same run, read from `other`'s bytes; what views must not see stays hidden.
    pub(crate) fn moved_to(&self, other: Self) -> Self {
        Self {
            hidden: self.hidden.clone(),
            ..other
        }
    }

    pub(crate) fn meta(&self) -> RunMeta {
        RunMeta {
            epoch: self.epoch,
            first: self.first,
            last: self.last,
            base: self.base,
            rows: self.rows,
            columns: self.columns,
            times_bytes: self.times_bytes,
        }
    }

    /// Its bytes, if they are on the heap.
    pub(crate) fn heap(&self) -> Option<&[u8]> {
        match &self.bytes {
            Bytes::Heap(bytes) => Some(bytes),
            Bytes::Mapped { .. } => None,
        }
    }

    /// The file its bytes lie in, and where.
    pub(crate) fn file(&self) -> Option<(&Arc<RunFile>, usize)> {
        match &self.bytes {
            Bytes::Heap(_) => None,
            Bytes::Mapped { file, at } => Some((file, at.start)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.bytes {
            Bytes::Heap(bytes) => bytes.len(),
            Bytes::Mapped { at, .. } => at.len(),
        }
    }

    fn slice(&self, part: Range<usize>) -> Result<&[u8], Malformed> {
        let outside = Malformed::new(part.start, "a part lies outside its run");
        match &self.bytes {
            Bytes::Heap(bytes) => bytes.get(part).ok_or(outside),
            Bytes::Mapped { file, at } => {
                let start = at.start.checked_add(part.start).ok_or(outside)?;
                let end = at
                    .start
                    .checked_add(part.end)
                    .filter(|end| *end <= at.end)
                    .ok_or(outside)?;
                file.slice(start..end).map_err(|what| Malformed::new(part.start, what))
            }
        }
    }

    /// An error in its bytes, with the file it is in.
    pub(crate) fn corrupt(&self, error: &Malformed) -> Error {
        match &self.bytes {
            Bytes::Heap(_) => error.in_file(Path::new("head"), 0),
            Bytes::Mapped { file, at } => {
                file.mark_damaged();
                error.in_file(file.path(), at.start as u64)
            }
        }
    }

    fn number(&self, at: usize) -> Result<u32, Malformed> {
        let bytes = self.slice(at * 4..at * 4 + 4)?;
        Ok(bytes.first_chunk().map_or(0, |b| u32::from_le_bytes(*b)))
    }

    /// The series of a column.
    pub(crate) fn series(&self, column: u32) -> Result<u32, Malformed> {
        self.number(column as usize)
    }

    /// The column of a series.
    pub(crate) fn find(&self, series: u32) -> Result<Option<u32>, Malformed> {
        let numbers = self.slice(0..self.columns as usize * 4)?.as_chunks::<4>().0;
        let at = numbers.partition_point(|n| u32::from_le_bytes(*n) < series);
        let there = numbers.get(at).is_some_and(|n| u32::from_le_bytes(*n) == series);
        Ok(there.then_some(at as u32))
    }

    pub(crate) fn chunk(&self, column: u32) -> Result<Chunk<'_>, Malformed> {
        let (n, at) = (self.columns as usize, column as usize);
        let base = n * 8 + self.times_bytes as usize;
        let start = if at == 0 { 0 } else { self.number(n + at - 1)? as usize };
        let end = self.number(n + at)? as usize;
        let bytes = self.slice(base + start..base + end)?;
        let mut cursor = Cursor::new(bytes);
        let flags = cursor.u8()?;
        let dense = flags & HAS_GAPS == 0;
        let mut edges = &[][..];
        if !dense {
            let count = cursor.varint()?;
            let from = cursor.rest();
            for _ in 0..count {
                cursor.varint()?;
            }
            edges = from.get(..from.len() - cursor.remaining()).unwrap_or_default();
        }
        Ok(Chunk {
            has_stale: flags & HAS_STALE != 0,
            dense,
            edges,
            column: cursor.rest(),
            at: base + start + cursor.position(),
        })
    }

    /// Whether each column has a value in each row, and none that is a stale marker. Asked first, it looks at all columns.
    pub(crate) fn is_whole(&self) -> Result<bool, Malformed> {
        if let Some(whole) = self.whole.get() {
            return Ok(*whole);
        }
        let mut whole = true;
        for column in 0..self.columns {
            let chunk = self.chunk(column)?;
            if !chunk.dense || chunk.has_stale {
                whole = false;
                break;
            }
        }
        Ok(*self.whole.get_or_init(|| whole))
    }

    pub(crate) fn times(&self, out: &mut Vec<Timestamp>) -> Result<(), Malformed> {
        let start = self.columns as usize * 8;
        let bytes = self.slice(start..start + self.times_bytes as usize)?;
        column::decode_timestamps(bytes, self.rows as usize, out)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let hidden: usize = self.hidden.iter().map(|h| h.series.len() * 4 + 48).sum();
        self.heap().map_or(0, <[u8]>::len) + size_of::<Self>() + 32 + hidden
    }
}

impl Chunk<'_> {
    /// The ranges of rows that hold a value; one that covers all if it is dense.
    pub(crate) fn ranges(&self, rows: u32) -> Vec<(u32, u32)> {
        if self.dense {
            return vec![(0, rows)];
        }
        let mut cursor = Cursor::new(self.edges);
        let (mut edge, mut out) = (0u32, Vec::new());
        while let (Ok(a), Ok(b)) = (cursor.varint(), cursor.varint()) {
            let start = edge.saturating_add(a as u32).min(rows);
            edge = start.saturating_add(b as u32).min(rows);
            out.push((start, edge));
        }
        out
    }

    /// Appends the values, one for each row that holds one.
    pub(crate) fn values(&self, rows: u32, out: &mut Vec<f64>) -> Result<(), Malformed> {
        let count = if self.dense {
            rows
        } else {
            self.ranges(rows).iter().map(|(a, b)| b - a).sum()
        };
        column::decode(self.column, count as usize, out).map_err(|e| Malformed::new(self.at + e.offset, e.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegauge_model::stale_marker;

    #[test]
    fn columns_read_back_with_their_gaps() {
        let times: Vec<Timestamp> = (0..10).map(|i| Timestamp::from_millis(1000 + i * 5000)).collect();
        let mut writer = RunWriter::default();
        let mut encoder = Encoder::default();
        let dense: Vec<(u32, f64)> = (0..10).map(|i| (i, f64::from(i) * 0.5)).collect();
        let gaps = [(1, -0.0), (2, 7.0), (5, stale_marker())];
        writer.column(3, &dense, 10, &mut encoder);
        writer.column(9, &gaps, 10, &mut encoder);
        let run = writer.finish(&times, 0, 0, Box::default()).unwrap();
        assert_eq!(
            [3, 9, 4, 99].map(|s| run.find(s).unwrap()),
            [Some(0), Some(1), None, None]
        );
        let mut back = Vec::new();
        run.times(&mut back).unwrap();
        assert_eq!(back, times);
        assert!(!run.is_whole().unwrap() && !run.is_whole().unwrap());
        writer.column(3, &dense, 10, &mut encoder);
        assert!(writer.finish(&times, 0, 0, Box::default()).unwrap().is_whole().unwrap());
        let a = run.chunk(0).unwrap();
        assert!(a.dense && !a.has_stale);
        let b = run.chunk(1).unwrap();
        assert_eq!(
            (b.dense, b.has_stale, b.ranges(10)),
            (false, true, vec![(1, 3), (5, 6)])
        );
        let mut values = Vec::new();
        b.values(10, &mut values).unwrap();
        let bits: Vec<u64> = values.iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, gaps.map(|g| g.1.to_bits()));
    }
}
