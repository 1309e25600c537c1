//! Reads a block: index and directories in place, frames through the cache.

mod check;
mod survey;

use super::cache::{BlockCache, Item, Key, Part};
use super::frames::{Frame, FrameDirectory};
use super::layout::{HISTOGRAMS, Layout, Section};
use super::spans::{Span, Spans};
use super::{BLOCK_FILE, BlockMeta, deleted};
use crate::Error;
use crate::codec::Malformed;
use crate::column;
use crate::fs::{FileBytes, Fs, ReadFile};
use crate::index::pairs::{Pairs, Scan};
use crate::index::postings::Postings;
use crate::index::select::Index;
use crate::index::series::{Entries, Limits, Run, SeriesTable};
use crate::tombstones::{Intervals, Tombstones};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
pub(crate) use survey::Survey;
use tidegauge_model::{ColumnKind, Histogram, Labels, Limited, Matcher, Timestamp};

/// Names a series of one block; the order is that of the labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesNo(u32);

impl SeriesNo {
    /// The series of that rank.
    pub const fn new(rank: u32) -> Self {
        Self(rank)
    }

    /// Its rank: the series of a block are 0 up to [`BlockReader::series_count`].
    pub const fn rank(self) -> u32 {
        self.0
    }
}

/// An open block, with what was deleted of it when it was opened. Reading needs no lock but that of the cache; it goes
/// on after the folder was removed.
#[derive(Debug)]
pub struct BlockReader {
    path: PathBuf,
    file: Arc<dyn ReadFile>,
    bytes: Arc<FileBytes>,
    layout: Layout,
    meta: BlockMeta,
    cache: Arc<BlockCache>,
    owner: Arc<Owner>,
    deleted: Tombstones,
}

/// Whose items in the cache are a block's; shared by readers that differ in what is deleted.
#[derive(Debug)]
struct Owner {
    cache: Arc<BlockCache>,
    number: u64,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.cache.forget(self.number);
    }
}

impl BlockReader {
    /// Opens the block in that folder and verifies its index and its tombstones; values are verified when they are read.
    ///
    /// A block whose tombstones cannot be read is not opened: what was deleted must not come back by itself.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`], [`Error::NewerVersion`].
    pub fn open(fs: &Arc<dyn Fs>, dir: &Path, cache: &Arc<BlockCache>) -> Result<Arc<Self>, Error> {
        let path = dir.join(BLOCK_FILE);
        let file = fs.open(&path)?;
        let bytes = fs.map(&path)?;
        let layout = Layout::read(&path, &bytes)?;
        let meta_at = layout.range(Section::Meta).start as u64;
        let meta = BlockMeta::decode(layout.of(Section::Meta, &bytes), bytes.len() as u64);
        let meta = meta.map_err(|e| e.in_file(&path, meta_at))?;
        let deleted = deleted::read(&**fs, dir, &meta)?;
        let reader = Self {
            path,
            file,
            bytes: Arc::new(bytes),
            layout,
            meta,
            cache: Arc::clone(cache),
            owner: Arc::new(Owner {
                cache: Arc::clone(cache),
                number: cache.new_owner(),
            }),
            deleted,
        };
        reader.check_counts()?;
        Ok(Arc::new(reader))
    }

    /// The same block with other tombstones.
    pub(crate) fn with_deleted(&self, deleted: Tombstones) -> Arc<Self> {
        Arc::new(Self {
            path: self.path.clone(),
            file: Arc::clone(&self.file),
            bytes: Arc::clone(&self.bytes),
            layout: self.layout.clone(),
            meta: self.meta.clone(),
            cache: Arc::clone(&self.cache),
            owner: Arc::clone(&self.owner),
            deleted,
        })
    }

    pub(crate) fn tombstones(&self) -> &Tombstones {
        &self.deleted
    }

    /// Whether something was deleted that still lies in the block's file.
    pub fn has_deleted(&self) -> bool {
        !self.deleted.is_empty()
    }

    /// What was deleted of a series; `None` if nothing was. The other methods do not look at it: runs, values and labels
    /// are those of the file.
    pub fn deleted(&self, series: SeriesNo) -> Option<&Intervals> {
        self.deleted.get(series.0)
    }

    /// The counts that views rely on are those of the sections, and what sections point to lies one behind another: so the
    /// work of reading all of it is bounded by the file's length.
    fn check_counts(&self) -> Result<(), Error> {
        let spans = self.spans();
        if (spans.timeline_count(), spans.span_count()) != (self.meta.timelines, self.meta.spans) {
            return Err(self.corrupt(Section::Spans, Malformed::new(0, "spans have another count")));
        }
        self.frames()?
            .check()
            .map_err(|e| self.corrupt(Section::FrameDirectory, e))?;
        self.table()?
            .check()
            .map_err(|e| self.corrupt(Section::SeriesDirectory, e))?;
        let Index { pairs, postings, .. } = self.index()?;
        pairs.check().map_err(|e| self.corrupt(Section::Pairs, e))?;
        postings
            .check(pairs.pair_count(), pairs.name_count())
            .map_err(|e| self.corrupt(Section::Postings, e))
    }

    fn corrupt(&self, section: Section, error: Malformed) -> Error {
        error.in_file(&self.path, self.layout.range(section).start as u64)
    }

    fn of(&self, section: Section) -> &[u8] {
        self.layout.of(section, &self.bytes)
    }

    fn pairs(&self) -> Result<Pairs<'_>, Error> {
        Pairs::new(self.of(Section::Pairs)).map_err(|e| self.corrupt(Section::Pairs, e))
    }

    fn index(&self) -> Result<Index<'_>, Error> {
        let series = self.meta.series;
        let postings = Postings::new(self.of(Section::Postings), series);
        Ok(Index {
            pairs: self.pairs()?,
            postings: postings.map_err(|e| self.corrupt(Section::Postings, e))?,
            series,
        })
    }

    fn table(&self) -> Result<SeriesTable<'_>, Error> {
        let limits = Limits {
            pairs: self.pairs()?.pair_count(),
            spans: self.meta.spans,
            chunks: self.meta.chunks,
        };
        let (pages, directory) = (self.of(Section::Series), self.of(Section::SeriesDirectory));
        let table = SeriesTable::new(pages, directory, self.meta.series, limits, self.cache.zstd());
        table.map_err(|e| self.corrupt(Section::SeriesDirectory, e))
    }

    fn frames(&self) -> Result<FrameDirectory<'_>, Error> {
        let directory = FrameDirectory::new(self.of(Section::FrameDirectory), self.meta.chunks);
        directory.map_err(|e| self.corrupt(Section::FrameDirectory, e))
    }

    fn spans(&self) -> Spans<'_> {
        Spans {
            columns: self.of(Section::Timelines),
            timeline_directory: self.of(Section::TimelineDirectory),
            presence: self.of(Section::Presence),
            spans: self.of(Section::Spans),
        }
    }

    /// What the block says about itself.
    pub fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many series there are.
    pub fn series_count(&self) -> u32 {
        self.meta.series
    }

    /// The series that meet all matchers, rising; all of them if there are no matchers.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn select(&self, matchers: &[Matcher]) -> Result<Vec<SeriesNo>, Error> {
        let found = self.index()?.select(matchers);
        let found = found.map_err(|e| self.corrupt(Section::Postings, e))?;
        Ok(found.into_iter().map(SeriesNo).collect())
    }

    /// Reads labels and runs of many series; best asked in rising order.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn entries(&self) -> Result<SeriesEntries<'_>, Error> {
        Ok(SeriesEntries {
            reader: self,
            pairs: self.pairs()?,
            entries: self.table()?.entries(),
            known: Vec::new(),
        })
    }

    /// The labels of one series.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn labels(&self, series: SeriesNo) -> Result<Labels, Error> {
        self.entries()?.seek(series)?.labels()
    }

    /// The runs of one series, in order of time.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn runs(&self, series: SeriesNo) -> Result<Vec<Run>, Error> {
        Ok(self.entries()?.seek(series)?.runs().to_vec())
    }

    /// The rows of a run, by [`Run::span`]. Runs of equal spans have equal timestamps.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn span(&self, no: u32) -> Result<Span, Error> {
        let span = self.spans().span(no).map_err(|e| self.corrupt(Section::Spans, e))?;
        if span.kind == ColumnKind::Histogram && !self.has_histograms() {
            let error = Malformed::new(0, "span of histograms in a block without");
            return Err(self.corrupt(Section::Spans, error));
        }
        Ok(span)
    }

    /// Whether some series may have native histograms.
    pub fn has_histograms(&self) -> bool {
        self.layout.features & HISTOGRAMS != 0
    }

    /// Calls `each` with every range of a span's rows that have a value, in order.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn rows(&self, span: &Span, mut each: impl FnMut(Range<u32>)) -> Result<(), Error> {
        let rows = self
            .spans()
            .rows(span, |r| each(r.start..r.start.saturating_add(r.len)));
        rows.map_err(|e| self.corrupt(Section::Presence, e))
    }

    /// The timestamps of a timeline, strictly rising.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn timestamps(&self, timeline: u32) -> Result<Arc<[Timestamp]>, Error> {
        let key = Key {
            owner: self.owner.number,
            part: Part::Timeline(timeline),
        };
        if let Some(Item::Timeline(timestamps)) = self.cache.get(key) {
            return Ok(timestamps);
        }
        let timestamps = self.spans().timestamps(timeline);
        let timestamps: Arc<[Timestamp]> = timestamps.map_err(|e| self.corrupt(Section::Timelines, e))?.into();
        self.cache.put(key, Item::Timeline(Arc::clone(&timestamps)));
        Ok(timestamps)
    }

    /// Appends the timestamps of a span's values.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn span_timestamps(&self, span: &Span, out: &mut Vec<Timestamp>) -> Result<(), Error> {
        let timestamps = self.timestamps(span.timeline)?;
        let start = out.len();
        self.rows(span, |rows| {
            out.extend_from_slice(
                timestamps
                    .get(rows.start as usize..rows.end as usize)
                    .unwrap_or_default(),
            );
        })?;
        if out.len() - start == span.count as usize {
            return Ok(());
        }
        out.truncate(start);
        let error = Malformed::new(0, "span lies outside its timeline");
        Err(self.corrupt(Section::Spans, error))
    }

    /// Appends the values of a run of floats ([`Span::kind`]): as many as its span counts.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`]; the latter also for a run of histograms.
    pub fn read_values(&self, run: &Run, out: &mut Vec<f64>) -> Result<(), Error> {
        self.read_chunk(run, |chunk, count| column::decode(chunk, count, out))
    }

    /// Appends the values of a run of histograms ([`Span::kind`]): as many as its span counts.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`]; the latter also for a run of floats.
    pub fn read_histograms(&self, run: &Run, out: &mut Vec<Arc<Histogram>>) -> Result<(), Error> {
        self.read_chunk(run, |chunk, count| column::decode_histograms(chunk, count, out))
    }

    fn read_chunk(&self, run: &Run, decode: impl FnOnce(&[u8], usize) -> Result<(), Malformed>) -> Result<(), Error> {
        let count = self.span(run.span)?.count as usize;
        let frames = self.frames()?;
        let frame_no = frames.frame_of(run.chunk);
        let frame_no = frame_no.map_err(|e| self.corrupt(Section::FrameDirectory, e))?;
        let entry = frames
            .get(frame_no)
            .map_err(|e| self.corrupt(Section::FrameDirectory, e))?;
        let frame = self.frame(&frames, frame_no)?;
        let chunk = frame.chunk(run.chunk.wrapping_sub(entry.first_chunk));
        let decoded = chunk.and_then(|chunk| decode(chunk, count));
        decoded.map_err(|e| {
            e.in_file(
                &self.path,
                self.layout.range(Section::Frames).start as u64 + entry.offset,
            )
        })
    }

    fn frame(&self, frames: &FrameDirectory<'_>, no: u32) -> Result<Arc<Frame>, Error> {
        let key = Key {
            owner: self.owner.number,
            part: Part::Frame(no),
        };
        if let Some(Item::Frame(frame)) = self.cache.get(key) {
            return Ok(frame);
        }
        let frame = Arc::new(self.read_frame(frames, no)?);
        self.cache.put(key, Item::Frame(Arc::clone(&frame)));
        Ok(frame)
    }

    fn read_frame(&self, frames: &FrameDirectory<'_>, no: u32) -> Result<Frame, Error> {
        let entry = frames.get(no).map_err(|e| self.corrupt(Section::FrameDirectory, e))?;
        let section = self.layout.range(Section::Frames);
        let end = entry.offset.checked_add(entry.stored as u64);
        if end.is_none_or(|end| end > section.len() as u64) {
            let error = Malformed::new(0, "frame lies outside its section");
            return Err(self.corrupt(Section::FrameDirectory, error));
        }
        let at = section.start as u64 + entry.offset;
        let mut stored = vec![0; entry.stored];
        self.file.read_exact_at(at, &mut stored)?;
        let decoded = Frame::decode(&entry, stored, self.cache.zstd());
        decoded.map_err(|e| e.in_file(&self.path, at))
    }

    /// How many bytes each section takes, for people.
    pub fn describe(&self) -> String {
        self.layout.describe()
    }

    /// Reads and decodes all of the block past the cache, and compares what its parts say of each other. Beside one error
    /// there may be others: [`crate::verify`] tells all.
    ///
    /// # Errors
    /// The first damage found.
    pub fn verify(&self) -> Result<(), Error> {
        let mut first = None;
        self.check(
            &mut |error| {
                first.get_or_insert(error);
            },
            &mut |_| {},
        );
        first.map_or(Ok(()), Err)
    }

    /// The labels of the series that match, sorted; at most `limit` (0: all).
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn series(&self, matchers: &[Matcher], limit: usize) -> Result<Limited<Vec<Labels>>, Error> {
        let found = self.select(matchers)?;
        let mut entries = self.entries()?;
        let mut items = Vec::new();
        for no in &found {
            if limit > 0 && items.len() == limit {
                break;
            }
            items.push(entries.seek(*no)?.labels()?);
        }
        let truncated = items.len() < found.len();
        Ok(Limited { items, truncated })
    }

    /// The label names of the series that match, sorted; at most `limit` (0: all).
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn label_names(&self, matchers: &[Matcher], limit: usize) -> Result<Limited<Vec<String>>, Error> {
        let index = self.index()?;
        let found = (!matchers.is_empty()).then(|| index.select(matchers)).transpose();
        let found = found.map_err(|e| self.corrupt(Section::Postings, e))?;
        let mut items = Vec::new();
        for no in 0..index.pairs.name_count() {
            let name = index.pairs.name(no).map_err(|e| self.corrupt(Section::Pairs, e))?;
            if let Some(found) = &found {
                let met = index.with_name(&name).and_then(|list| list.intersect(found));
                if met.map_err(|e| self.corrupt(Section::Postings, e))?.is_empty() {
                    continue;
                }
            }
            items.push(name.name.to_owned());
        }
        Ok(limited(items, limit))
    }

    /// The values of a label among the series that match, sorted; at most `limit` (0: all).
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn label_values(&self, name: &str, matchers: &[Matcher], limit: usize) -> Result<Limited<Vec<String>>, Error> {
        let pairs = self.pairs()?;
        let entry = pairs.find_name(name).map_err(|e| self.corrupt(Section::Pairs, e))?;
        let mut items = Vec::new();
        let Some(name) = entry else {
            return Ok(limited(items, limit));
        };
        let wanted = match matchers {
            [] => None,
            _ => Some(self.pairs_of(&self.select(matchers)?, &name.pairs)?),
        };
        let scanned = pairs.scan(&name, "", |pair, value| {
            if wanted.as_ref().is_none_or(|wanted| wanted.contains(&pair)) {
                items.push(value.to_owned());
            }
            if limit > 0 && items.len() > limit {
                return Scan::Stop;
            }
            Scan::Next
        });
        scanned.map_err(|e| self.corrupt(Section::Pairs, e))?;
        Ok(limited(items, limit))
    }

    /// Which pairs of a range the series have.
    fn pairs_of(&self, series: &[SeriesNo], range: &Range<u32>) -> Result<BTreeSet<u32>, Error> {
        let mut entries = self.entries()?;
        let mut found = BTreeSet::new();
        let mut last = None;
        for no in series {
            let entry = entries.seek(*no)?;
            let pair = entry.pairs().iter().find(|p| range.contains(p)).copied();
            if pair != last {
                found.extend(pair);
                last = pair;
            }
        }
        Ok(found)
    }
}

fn limited(mut items: Vec<String>, limit: usize) -> Limited<Vec<String>> {
    let truncated = limit > 0 && items.len() > limit;
    if truncated {
        items.truncate(limit);
    }
    Limited { items, truncated }
}

/// Reads many series one after another; see [`BlockReader::entries`].
#[derive(Debug)]
pub struct SeriesEntries<'r> {
    reader: &'r BlockReader,
    pairs: Pairs<'r>,
    entries: Entries<'r>,
    /// The pairs made into text last, by place: neighbours share most.
    known: Vec<KnownPair>,
}

#[derive(Debug, Default)]
struct KnownPair {
    pair: Option<u32>,
    name: u32,
    value: String,
}

/// The current series of [`SeriesEntries`].
#[derive(Debug)]
pub struct SeriesEntry<'e, 'r>(&'e mut SeriesEntries<'r>);

impl<'r> SeriesEntries<'r> {
    /// Goes to a series. Cheap if it is little behind the current one.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn seek(&mut self, series: SeriesNo) -> Result<SeriesEntry<'_, 'r>, Error> {
        let found = self.entries.seek(series.0);
        found.map_err(|e| self.reader.corrupt(Section::Series, e))?;
        Ok(SeriesEntry(self))
    }

    fn labels(&mut self) -> Result<Labels, Malformed> {
        let ids = self.entries.pairs();
        if self.known.len() < ids.len() {
            self.known.resize_with(ids.len(), KnownPair::default);
        }
        for (known, pair) in self.known.iter_mut().zip(ids) {
            if known.pair != Some(*pair) {
                known.pair = None;
                known.name = self.pairs.get(*pair, &mut known.value)?;
                known.pair = Some(*pair);
            }
        }
        let mut texts = Vec::with_capacity(ids.len());
        for known in self.known.iter().take(ids.len()) {
            texts.push((self.pairs.name(known.name)?.name, known.value.as_str()));
        }
        if !texts.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(Malformed::new(0, "labels of a series are not in order"));
        }
        Ok(Labels::from_sorted(texts))
    }
}

impl SeriesEntry<'_, '_> {
    /// Its runs, in order of time.
    pub fn runs(&self) -> &[Run] {
        self.0.entries.runs()
    }

    /// Its labels.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn labels(&mut self) -> Result<Labels, Error> {
        let labels = self.0.labels();
        labels.map_err(|e| self.0.reader.corrupt(Section::Pairs, e))
    }

    fn pairs(&self) -> &[u32] {
        self.0.entries.pairs()
    }
}
