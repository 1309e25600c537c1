//! An immutable block: a folder with one file, published by rename.
//!
//! Sketch of the door (being built; names and shapes are meant to stay):
//!
//! ```text
//! BlockId                     26 characters, sorts by time: BlockId::new(time_ms: u64, entropy: u128), Display, FromStr
//! BlockRange { start, end }   Timestamps, end excluded
//! EncodingChoice              Auto | Gorilla
//! BlockSpec { id, range, encoding, level: u8, parents: Vec<BlockId> }      level 0: cut from the head
//!
//! BlockWriter::create(fs: &Arc<dyn Fs>, parent: &Path, spec: BlockSpec) -> Result<BlockWriter, Error>
//!   .timeline(&mut self, &[Timestamp]) -> Result<u32, Error>     strictly rising; equal content gives the same number
//!   .series(&mut self, &Labels, &[SeriesRun]) -> Result<(), Error>     in rising order of Labels; merges runs
//!   .finish(self) -> Result<BlockMeta, Error>                     (dropping without finish removes the temporary folder)
//! SeriesRun<'a> { timeline: u32, first_row: u32, presence: Option<&'a [u64]>, values: &'a [f64] }
//!     presence: bit i of word i/64: row first_row + i has a value; None: all of first_row .. first_row + values.len()
//!     runs of a series must not overlap in time; rows of one series rise in time over the runs
//! BlockMeta { id, range, first, last: Timestamp of samples, level, parents, series, samples, chunks, timelines, bytes }
//!
//! BlockReader::open(fs: &Arc<dyn Fs>, dir: &Path, cache: &Arc<BlockCache>) -> Result<Arc<BlockReader>, Error>
//! BlockCache::new(bytes)      decoded frames and timelines of all blocks together
//!   .meta() -> &BlockMeta
//!   .select(&[Matcher]) -> Result<Vec<SeriesNo>, Error>          rising; SeriesNo(u32), order = order of Labels
//!   .series_count() -> u32                                       SeriesNo are 0..count: iterate all for compaction
//!   .visit(&[SeriesNo], Labels wanted?, FnMut(SeriesNo, ..))     cheap batch form of labels + runs
//!   .labels(SeriesNo) -> Result<Labels, Error>
//!   .runs(SeriesNo) -> Result<Vec<Run>, Error>
//!   .span(SpanNo) -> Result<Span, Error>
//!   .timestamps(timeline: u32) -> Result<Arc<[Timestamp]>, Error>
//!   .read_values(&Run, &mut Vec<f64>) -> Result<(), Error>       appends run.count values
//!   .label_names(&[Matcher], limit), .label_values(name, &[Matcher], limit) -> Result<Limited<Vec<String>>, Error>
//! Run { span: SpanNo, chunk: u32, has_stale: bool }
//! Span { timeline, first_row, rows, count, first: Timestamp, last: Timestamp, presence: Option<..> }
//!     series with equal lists of SpanNo have equal timestamps: group by it. Dense: presence is None.
//!
//! column::encode(&[f64], EncodingChoice, &mut Vec<u8>); column::decode(&[u8], count, &mut Vec<f64>) -> Result<(), Malformed>
//! column::encode_timestamps(&[Timestamp], &mut Vec<u8>); column::decode_timestamps(&[u8], count, &mut Vec<Timestamp>)
//! codec: varint::{put, put_signed}, Cursor<'_> (bounds-checked reader), crc::crc32, Malformed { offset, what }
//! ```
