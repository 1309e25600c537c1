//! Writes a block: series in order, one pass, published by rename.

use super::frames::FrameBuilder;
use super::layout;
use super::spans::{Rows, SpanBuilder};
use super::symbols::Symbols;
use super::{BLOCK_FILE, BlockMeta, BlockSpec, TEMPORARY};
use crate::Error;
use crate::codec::crc32;
use crate::column::{Encoder, MAX_BUCKETS, MAX_VALUES, MAX_WEIGHT, histogram_weight};
use crate::fs::{Fs, WriteFile};
use crate::index::pairs;
use crate::index::postings::PostingsBuilder;
use crate::index::series::{Run, SeriesBuilder};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegauge_model::{ColumnKind, Histogram, Labels, Timestamp, is_stale};

/// The most values in one chunk.
pub const MAX_CHUNK_VALUES: usize = 2048;
/// Frames are synced each time so many bytes were written.
const SETTLE_BYTES: u64 = 64 << 20;

/// Consecutive values of a series on one timeline: floats, or whatever else it says.
#[derive(Debug)]
pub struct SeriesRun<'a, T = f64> {
    /// The timeline, as [`BlockWriter::timeline`] numbered it.
    pub timeline: u32,
    /// The row of the first bit of `presence`, or of the first value.
    pub first_row: u32,
    /// Which rows have a value: bit `i % 64` of word `i / 64` stands for row `first_row + i`. `None`: each row from
    /// `first_row` on, as many as there are values.
    pub presence: Option<&'a [u64]>,
    /// The values, one for each row that has one.
    pub values: &'a [T],
}

impl<T> Clone for SeriesRun<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SeriesRun<'_, T> {}

/// Consecutive native histograms of a series on one timeline.
pub type HistogramRun<'a> = SeriesRun<'a, Arc<Histogram>>;

/// Writes one block. Dropped before [`BlockWriter::finish`], it takes away what it wrote.
#[derive(Debug)]
pub struct BlockWriter {
    fs: Arc<dyn Fs>,
    parent: PathBuf,
    temporary: PathBuf,
    file: Option<Box<dyn WriteFile>>,
    spec: BlockSpec,
    encoder: Encoder,
    frames: FrameBuilder,
    frame_bytes: u64,
    /// Of these, how many were synced.
    settled: u64,
    spans: SpanBuilder,
    symbols: Symbols,
    last_labels: Option<Labels>,
    /// The runs of all series, and where each series' end.
    runs: Vec<Run>,
    run_ends: Vec<u32>,
    samples: u64,
    first: Timestamp,
    last: Timestamp,
    chunk: Chunk,
    /// Feature bits; told in the header, which comes with the first bytes.
    features: u32,
}

/// The chunk being gathered.
#[derive(Debug, Default)]
struct Chunk {
    timeline: u32,
    /// Which part of the timeline it lies in: chunks of all series break at the same rows.
    part: u32,
    kind: ColumnKind,
    rows: Vec<Rows>,
    values: Vec<f64>,
    histograms: Vec<Arc<Histogram>>,
    /// Of the histograms.
    weight: usize,
}

impl Chunk {
    fn clear(&mut self) {
        self.rows.clear();
        self.values.clear();
        self.histograms.clear();
        self.weight = 0;
    }
}

/// A value that chunks are made of.
trait Value: Sized {
    const KIND: ColumnKind;
    /// How many values from the front still fit the chunk.
    fn fitting(chunk: &Chunk, values: &[Self]) -> usize;
    fn gather(chunk: &mut Chunk, values: &[Self]);
}

impl Value for f64 {
    const KIND: ColumnKind = ColumnKind::Float;

    fn fitting(_: &Chunk, values: &[Self]) -> usize {
        values.len()
    }

    fn gather(chunk: &mut Chunk, values: &[Self]) {
        chunk.values.extend_from_slice(values);
    }
}

impl Value for Arc<Histogram> {
    const KIND: ColumnKind = ColumnKind::Histogram;

    fn fitting(chunk: &Chunk, values: &[Self]) -> usize {
        let mut weight = chunk.weight;
        let fits = |h: &&Self| {
            weight += histogram_weight(h);
            weight <= MAX_WEIGHT
        };
        values.iter().take_while(fits).count()
    }

    fn gather(chunk: &mut Chunk, values: &[Self]) {
        chunk.weight += values.iter().map(|h| histogram_weight(h)).sum::<usize>();
        chunk.histograms.extend_from_slice(values);
    }
}

fn invalid(what: impl Into<String>) -> Error {
    Error::Invalid { what: what.into() }
}

fn over(what: &'static str) -> Error {
    Error::Limit {
        what,
        limit: u64::from(u32::MAX),
    }
}

impl BlockWriter {
    /// Begins a block in the folder `parent`, under a temporary name.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(fs: &Arc<dyn Fs>, parent: &Path, spec: BlockSpec) -> Result<Self, Error> {
        let temporary = parent.join(format!("{}{TEMPORARY}", spec.id));
        let begun = fs
            .create_dir_all(&temporary)
            .and_then(|()| fs.create(&temporary.join(BLOCK_FILE)));
        let file = begun.inspect_err(|_| {
            // Best effort, as when a writer is dropped.
            let _ = fs.remove_dir_all(&temporary);
        })?;
        Ok(Self {
            fs: Arc::clone(fs),
            parent: parent.to_owned(),
            temporary,
            file: Some(file),
            encoder: Encoder::new(spec.encoding),
            frames: FrameBuilder::new(spec.level),
            frame_bytes: 0,
            settled: 0,
            spans: SpanBuilder::default(),
            symbols: Symbols::default(),
            last_labels: None,
            runs: Vec::new(),
            run_ends: Vec::new(),
            samples: 0,
            first: spec.range.end,
            last: spec.range.start,
            chunk: Chunk::default(),
            features: 0,
            spec,
        })
    }

    /// Says that series may have histograms, before any series comes: older readers will refuse the block.
    #[must_use]
    pub fn with_histograms(mut self) -> Self {
        self.features |= layout::HISTOGRAMS;
        self
    }

    /// Adds a timeline, or finds the one of equal content, and gives its number. Only rows that series have values at
    /// must lie in the block's range.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is empty, does not rise strictly or has more than 2^20 rows.
    pub fn timeline(&mut self, timestamps: &[Timestamp]) -> Result<u32, Error> {
        if timestamps.is_empty() || timestamps.len() > MAX_VALUES {
            return Err(invalid(format!("a timeline of {} rows", timestamps.len())));
        }
        if !timestamps.is_sorted_by(|a, b| a < b) {
            return Err(invalid("a timeline does not rise"));
        }
        self.spans.timeline(timestamps).ok_or(over("timelines of a block"))
    }

    /// Adds a series. Its runs follow each other in time; those that meet on one timeline are joined. A series without
    /// values is left out.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the labels are not behind those of the series before, or runs are not in order, name no
    /// rows, or lie outside the block's range; [`Error::Io`]. The block cannot be finished then.
    pub fn series(&mut self, labels: &Labels, runs: &[SeriesRun<'_>]) -> Result<(), Error> {
        self.series_of_kinds(labels, runs, &[])
    }

    /// Adds a series that may hold both kinds. The runs of each kind follow each other in time; the block lists those of
    /// floats first.
    ///
    /// # Errors
    /// As [`BlockWriter::series`]; [`Error::Invalid`] also if a histogram is not valid, or the block was not begun
    /// [`BlockWriter::with_histograms`].
    pub fn series_of_kinds(
        &mut self,
        labels: &Labels,
        runs: &[SeriesRun<'_>],
        histograms: &[HistogramRun<'_>],
    ) -> Result<(), Error> {
        if self.last_labels.as_ref().is_some_and(|last| last >= labels) {
            return Err(invalid(format!("series {labels} is not behind the one before")));
        }
        if !histograms.is_empty() && self.features & layout::HISTOGRAMS == 0 {
            return Err(invalid("histograms in a block that was begun without"));
        }
        let first_run = self.runs.len();
        self.chunk.clear();
        let added = self.add_runs(runs).and_then(|()| {
            for histogram in histograms.iter().flat_map(|run| run.values) {
                histogram.validate(MAX_BUCKETS).map_err(|e| invalid(e.to_string()))?;
            }
            self.add_runs(histograms)
        });
        added.map_err(|e| match e {
            Error::Invalid { what } => invalid(format!("series {labels}: {what}")),
            other => other,
        })?;
        if self.runs.len() > first_run {
            self.symbols.push(labels).ok_or(over("label pairs of a block"))?;
            let end = u32::try_from(self.runs.len()).map_err(|_| over("chunks of a block"))?;
            self.run_ends.push(end);
            self.last_labels = Some(labels.clone());
        }
        Ok(())
    }

    fn add_runs<T: Value>(&mut self, runs: &[SeriesRun<'_, T>]) -> Result<(), Error> {
        let mut last = None;
        for run in runs {
            self.add_run(run, &mut last)?;
        }
        self.flush_chunk(&mut last)
    }

    fn add_run<T: Value>(&mut self, run: &SeriesRun<'_, T>, last: &mut Option<Timestamp>) -> Result<(), Error> {
        let timeline_rows = self.spans.rows_of(run.timeline);
        let timeline_rows = timeline_rows.ok_or_else(|| invalid("no such timeline"))?;
        let mut values = run.values;
        let mut result = Ok(());
        each_present(run, |rows| {
            if result.is_err() {
                return;
            }
            let end = (rows.start as usize).checked_add(rows.len as usize);
            let taken = values.split_at_checked(rows.len as usize);
            result = match taken {
                Some((taken, rest)) if end.is_some_and(|end| end <= timeline_rows) => {
                    values = rest;
                    self.add_rows(run.timeline, timeline_rows, rows, taken, last)
                }
                _ => Err(invalid("rows without values, or outside their timeline")),
            };
        });
        result?;
        if values.is_empty() {
            Ok(())
        } else {
            Err(invalid("more values than rows"))
        }
    }

    /// Adds rows that all have a value, cut where chunks break.
    fn add_rows<T: Value>(
        &mut self,
        timeline: u32,
        timeline_rows: usize,
        mut rows: Rows,
        mut values: &[T],
        last: &mut Option<Timestamp>,
    ) -> Result<(), Error> {
        // The parts of a timeline are of about equal length.
        let part_rows = timeline_rows.div_ceil(timeline_rows.div_ceil(MAX_CHUNK_VALUES).max(1)) as u32;
        while rows.len > 0 {
            let part = rows.start / part_rows.max(1);
            if !self.chunk.rows.is_empty() && (self.chunk.timeline, self.chunk.part) != (timeline, part) {
                self.flush_chunk(last)?;
            }
            let len = rows.len.min((part + 1) * part_rows - rows.start);
            let taken = values.get(..len as usize).unwrap_or(values);
            let len = match T::fitting(&self.chunk, taken) {
                0 if !self.chunk.rows.is_empty() => {
                    self.flush_chunk(last)?;
                    continue;
                }
                // One alone always fits.
                fitting => len.min(fitting.max(1) as u32),
            };
            let (taken, rest) = values.split_at_checked(len as usize).unwrap_or((values, &[]));
            let chunk = &mut self.chunk;
            (chunk.timeline, chunk.part, chunk.kind) = (timeline, part, T::KIND);
            match chunk.rows.last_mut() {
                Some(before) if before.start + before.len == rows.start => before.len += len,
                Some(before) if before.start + before.len > rows.start => return Err(invalid("runs overlap")),
                _ => chunk.rows.push(Rows { start: rows.start, len }),
            }
            T::gather(chunk, taken);
            values = rest;
            rows = Rows {
                start: rows.start + len,
                len: rows.len - len,
            };
        }
        Ok(())
    }

    /// Encodes the gathered chunk, if there is one.
    fn flush_chunk(&mut self, last: &mut Option<Timestamp>) -> Result<(), Error> {
        let chunk = &mut self.chunk;
        if chunk.rows.is_empty() {
            return Ok(());
        }
        let (span, begin, end) = self
            .spans
            .span(chunk.timeline, chunk.kind, &chunk.rows)
            .ok_or(over("spans of a block"))?;
        if !self.spec.range.contains(begin) || !self.spec.range.contains(end) {
            return Err(invalid(format!(
                "samples of {begin:?} to {end:?} are outside the block"
            )));
        }
        if last.is_some_and(|last| last >= begin) {
            return Err(invalid("runs are not in order of time"));
        }
        *last = Some(end);
        self.first = self.first.min(begin);
        self.last = self.last.max(end);
        self.samples += (chunk.values.len() + chunk.histograms.len()) as u64;
        self.runs.push(Run {
            span,
            chunk: u32::try_from(self.runs.len()).map_err(|_| over("chunks of a block"))?,
            has_stale: chunk.values.iter().any(|v| is_stale(*v)) || chunk.histograms.iter().any(|h| h.is_stale()),
        });
        let encoder = &mut self.encoder;
        let frame = self.frames.push(|out| match chunk.kind {
            ColumnKind::Float => encoder.encode(&chunk.values, out),
            ColumnKind::Histogram => encoder.encode_histograms(&chunk.histograms, out),
        });
        chunk.clear();
        match frame {
            Some(frame) => {
                self.frame_bytes += frame.len() as u64;
                self.write(&frame)?;
                self.settle()
            }
            None => Ok(()),
        }
    }

    /// A large block goes to the disk bit by bit: neither does its last sync take long, nor does it fill the system's
    /// memory with what nobody reads soon.
    fn settle(&mut self) -> Result<(), Error> {
        if self.frame_bytes - self.settled < SETTLE_BYTES {
            return Ok(());
        }
        self.settled = self.frame_bytes;
        match &mut self.file {
            Some(file) => {
                file.sync()?;
                file.forget_cached();
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.file {
            Some(file) => {
                if file.is_empty() {
                    file.write_all(&layout::header(self.features))?;
                }
                file.write_all(bytes)
            }
            None => Ok(()),
        }
    }

    /// Writes the index, syncs everything and gives the block its name.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Limit`] if a section passes 4 GiB. There is no block then.
    pub fn finish(mut self) -> Result<BlockMeta, Error> {
        let meta = self.complete()?;
        self.publish()?;
        Ok(meta)
    }

    /// Whether no series was taken so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.run_ends.is_empty()
    }

    /// Writes the index and syncs all of it, under the temporary name still.
    pub(crate) fn complete(&mut self) -> Result<BlockMeta, Error> {
        let (last_frame, frame_directory) = self.frames.finish();
        self.write(&last_frame)?;
        let (timelines, spans) = self.spans.counts();
        let mut meta = BlockMeta {
            id: self.spec.id,
            range: self.spec.range,
            first: self.first.min(self.last),
            last: self.last,
            samples: self.samples,
            series: u32::try_from(self.run_ends.len()).map_err(|_| over("series of a block"))?,
            chunks: u32::try_from(self.runs.len()).map_err(|_| over("chunks of a block"))?,
            timelines,
            spans,
            level: self.spec.level,
            parents: self.spec.parents.clone(),
            bytes: 0,
        };
        let span_sections = std::mem::take(&mut self.spans).build();
        let index = self.build_index().ok_or(over("bytes of a section"))?;
        let sections = [
            frame_directory,
            span_sections.columns,
            span_sections.timeline_directory,
            span_sections.presence,
            span_sections.spans,
            index.pairs,
            index.postings,
            index.pages,
            index.directory,
            meta.encode(),
        ];
        // The frames come first and have a crc each.
        let mut table = vec![(self.frame_bytes + last_frame.len() as u64, 0)];
        for bytes in sections {
            self.write(&bytes)?;
            table.push((bytes.len() as u64, crc32(&bytes)));
        }
        self.write(&layout::ending(self.features, &table))?;
        if let Some(file) = &mut self.file {
            file.sync()?;
            file.forget_cached();
            meta.bytes = file.len();
        }
        self.fs.sync_dir(&self.temporary)?;
        Ok(meta)
    }

    /// Gives the completed block its name. If that does not last for sure, it is taken away again.
    pub(crate) fn publish(mut self) -> Result<(), Error> {
        let path = self.parent.join(self.spec.id.to_string());
        self.fs.rename(&self.temporary, &path)?;
        if let Err(e) = self.fs.sync_dir(&self.parent) {
            let taken_back = self.fs.rename(&path, &self.temporary);
            if taken_back.is_err() {
                self.file = None;
            }
            return Err(e);
        }
        // From here on there is nothing to take away.
        self.file = None;
        Ok(())
    }

    fn build_index(&mut self) -> Option<IndexSections> {
        let (symbols, runs) = (std::mem::take(&mut self.symbols), std::mem::take(&mut self.runs));
        let sorted = symbols.sort();
        let mut builder = SeriesBuilder::default();
        let mut start = 0;
        let mut ranks = Vec::new();
        for (series, end) in self.run_ends.iter().enumerate() {
            let end = *end as usize;
            ranks.clear();
            ranks.extend(sorted.pairs_of(series));
            builder.push(&ranks, runs.get(start..end)?)?;
            start = end;
        }
        let (pages, directory) = builder.build()?;
        let mut postings = PostingsBuilder::default();
        sorted.each_posting(|list| postings.push(list))?;
        Some(IndexSections {
            pairs: pairs::build(&sorted.pairs())?,
            postings: postings.build()?,
            pages,
            directory,
        })
    }
}

struct IndexSections {
    pairs: Vec<u8>,
    postings: Vec<u8>,
    pages: Vec<u8>,
    directory: Vec<u8>,
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Best effort: what stays behind is swept up at the next start.
            let _ = self.fs.remove_dir_all(&self.temporary);
        }
    }
}

/// Calls `each` with every run of rows that have a value.
fn each_present<T>(run: &SeriesRun<'_, T>, mut each: impl FnMut(Rows)) {
    let Some(words) = run.presence else {
        if !run.values.is_empty() {
            let len = u32::try_from(run.values.len()).unwrap_or(u32::MAX);
            each(Rows {
                start: run.first_row,
                len,
            });
        }
        return;
    };
    // Runs are joined by the caller, so word by word will do.
    for (base, word) in (run.first_row..).step_by(64).zip(words) {
        let mut rest = *word;
        while rest != 0 {
            let skip = rest.trailing_zeros();
            let len = (rest >> skip).trailing_ones();
            each(Rows {
                start: base.saturating_add(skip),
                len,
            });
            rest &= u64::MAX.checked_shl(skip + len).unwrap_or(0);
        }
    }
}
