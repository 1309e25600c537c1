//! Walks over the series of a block and says what each costs: see [`crate::analyze`].

use super::super::frames::Frame;
use super::super::layout::Section;
use super::{BlockReader, SeriesEntries, SeriesNo};
use crate::Error;
use crate::column::Codec;
use crate::index::pairs::Scan;
use tidegauge_model::{Labels, Timestamp};

/// Bytes of a block's file by what they are for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SectionBytes {
    pub(crate) values: u64,
    pub(crate) timestamps: u64,
    pub(crate) index: u64,
    /// Header, description and table of contents.
    pub(crate) rest: u64,
}

/// One chunk of a series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SurveyedChunk {
    pub(crate) codec: Option<Codec>,
    pub(crate) samples: u32,
    /// Bytes as encoded.
    pub(crate) encoded: usize,
    /// Its share of the bytes that its frame takes in the file.
    pub(crate) stored: f64,
}

/// One series.
#[derive(Debug)]
pub(crate) struct SurveyedSeries {
    pub(crate) labels: Labels,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) chunks: Vec<SurveyedChunk>,
}

/// Gives the series of a block one after another; holds one frame at a time.
#[derive(Debug)]
pub(crate) struct Survey<'r> {
    block: &'r BlockReader,
    entries: SeriesEntries<'r>,
    next: u32,
    frame: Option<(u32, Frame)>,
}

impl<'r> Survey<'r> {
    pub(crate) fn new(block: &'r BlockReader) -> Result<Self, Error> {
        Ok(Self {
            block,
            entries: block.entries()?,
            next: 0,
            frame: None,
        })
    }

    /// The next series that has samples, in order of labels.
    pub(crate) fn next(&mut self) -> Result<Option<SurveyedSeries>, Error> {
        while self.next < self.block.series_count() {
            let mut entry = self.entries.seek(SeriesNo(self.next))?;
            self.next += 1;
            let (labels, runs) = (entry.labels()?, entry.runs().to_vec());
            let mut times = None::<(Timestamp, Timestamp)>;
            let mut chunks = Vec::with_capacity(runs.len());
            for run in runs {
                let span = self.block.span(run.span)?;
                times = Some(times.map_or((span.first, span.last), |(first, last)| {
                    (first.min(span.first), last.max(span.last))
                }));
                chunks.push(self.chunk(run.chunk, span.count)?);
            }
            if let Some((first, last)) = times {
                return Ok(Some(SurveyedSeries {
                    labels,
                    first,
                    last,
                    chunks,
                }));
            }
        }
        Ok(None)
    }

    fn chunk(&mut self, no: u32, samples: u32) -> Result<SurveyedChunk, Error> {
        let block = self.block;
        let frames = block.frames()?;
        let in_directory = |e| block.corrupt(Section::FrameDirectory, e);
        let frame_no = frames.frame_of(no).map_err(in_directory)?;
        let entry = frames.get(frame_no).map_err(in_directory)?;
        let frame = match self.frame.take() {
            Some((held, frame)) if held == frame_no => frame,
            _ => block.read_frame(&frames, frame_no)?,
        };
        let chunk = frame
            .chunk(no.saturating_sub(entry.first_chunk))
            .map_err(|e| block.corrupt(Section::Frames, e))?;
        let surveyed = SurveyedChunk {
            codec: Codec::of(chunk),
            samples,
            encoded: chunk.len(),
            stored: entry.stored as f64 * chunk.len() as f64 / frame.chunk_bytes().max(1) as f64,
        };
        self.frame = Some((frame_no, frame));
        Ok(surveyed)
    }
}

impl BlockReader {
    /// What the bytes of the file are for.
    pub(crate) fn section_bytes(&self) -> SectionBytes {
        let mut bytes = SectionBytes::default();
        for section in Section::ALL {
            let field = match section {
                Section::Frames => &mut bytes.values,
                Section::Timelines | Section::TimelineDirectory | Section::Presence | Section::Spans => {
                    &mut bytes.timestamps
                }
                Section::FrameDirectory
                | Section::Pairs
                | Section::Postings
                | Section::Series
                | Section::SeriesDirectory => &mut bytes.index,
                Section::Meta => &mut bytes.rest,
            };
            *field += self.of(section).len() as u64;
        }
        let told = bytes.values + bytes.timestamps + bytes.index;
        bytes.rest = (self.bytes.len() as u64).saturating_sub(told);
        bytes
    }

    /// Calls `each` with name and value of every label pair, in order.
    pub(crate) fn each_pair(&self, mut each: impl FnMut(&str, &str)) -> Result<(), Error> {
        let pairs = self.pairs()?;
        let damaged = |e| self.corrupt(Section::Pairs, e);
        for no in 0..pairs.name_count() {
            let name = pairs.name(no).map_err(damaged)?;
            let scanned = pairs.scan(&name, "", |_, value| {
                each(name.name, value);
                Scan::Next
            });
            scanned.map_err(damaged)?;
        }
        Ok(())
    }
}
