//! Timelines and spans: when the samples of a run were.
//!
//! ```text
//!   timeline directory, 32 bytes each                       timelines: columns of timestamps, one behind another
//!   +------------+---------+----------+-----------+----------+
//!   | offset u64 | len u32 | rows u32 | first i64 | last i64 |
//!   +------------+---------+----------+-----------+----------+
//!
//!   spans, 40 bytes each                                    presence: bytes of the spans with gaps
//!   +--------------+---------------+----------+-----------+-----------+----------+------------+---------+
//!   | timeline u32 | first row u32 | rows u32 | count u32 | first i64 | last i64 | offset u32 | len u32 |
//!   +--------------+---------------+----------+-----------+-----------+----------+------------+---------+
//!     rows from `first row` on; `count` of them have a value: all, if len is 0, else by presence:
//!   [rows with a value varint] ([rows without varint] [rows with varint])*
//!     the top bit of `count` says that the values are native histograms
//! ```
//!
//! Series of one target share both: a block holds few of either.

use super::writer::MAX_CHUNK_VALUES;
use crate::codec::{Cursor, Malformed, varint};
use crate::column::{MAX_VALUES, decode_timestamps, encode_timestamps};
use hashbrown::HashMap;
use std::hash::{Hash, Hasher};
use tidegauge_model::{ColumnKind, Timestamp};
use xxhash_rust::xxh3::Xxh3;

const TIMELINE_ENTRY: usize = 32;
const SPAN_ENTRY: usize = 40;
/// Set in the count of a span of histograms.
const HISTOGRAMS: u32 = 1 << 31;

/// The rows of a timeline that a run has values at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The timeline, by its number in the block.
    pub timeline: u32,
    /// The first row, which has a value.
    pub first_row: u32,
    /// How many rows, those without a value included.
    pub rows: u32,
    /// How many values.
    pub count: u32,
    /// Time of the first value.
    pub first: Timestamp,
    /// Time of the last value.
    pub last: Timestamp,
    /// Of what kind the values are.
    pub kind: ColumnKind,
    presence: (u32, u32),
}

impl Span {
    /// Whether each of the rows has a value.
    pub fn is_dense(&self) -> bool {
        self.presence.1 == 0
    }
}

/// What is known of a timeline without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimelineBounds {
    /// How many rows it has.
    pub(crate) rows: u32,
    /// Time of the first row.
    pub(crate) first: Timestamp,
    /// Time of the last row.
    pub(crate) last: Timestamp,
}

/// A run of rows that all have a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Rows {
    pub(super) start: u32,
    pub(super) len: u32,
}

/// Gathers timelines and spans; both are kept once.
#[derive(Debug, Default)]
pub(super) struct SpanBuilder {
    columns: Vec<u8>,
    timeline_directory: Vec<u8>,
    timeline_count: u32,
    /// By a hash of their content.
    timeline_numbers: HashMap<u64, Vec<u32>>,
    /// The timeline looked at last. All others are kept as they are written: a block of a month has millions of rows.
    last: Option<(u32, Vec<Timestamp>)>,
    presence: Vec<u8>,
    spans: Vec<u8>,
    span_count: u32,
    span_numbers: HashMap<(u32, ColumnKind, Box<[Rows]>), u32>,
}

/// The sections, in file order.
pub(super) struct SpanSections {
    pub(super) columns: Vec<u8>,
    pub(super) timeline_directory: Vec<u8>,
    pub(super) presence: Vec<u8>,
    pub(super) spans: Vec<u8>,
}

impl SpanBuilder {
    /// The number of a timeline. It must rise strictly and have between 1 and [`MAX_VALUES`] rows.
    pub(super) fn timeline(&mut self, timestamps: &[Timestamp]) -> Option<u32> {
        // Callers tend to ask again for the one they asked for last.
        if let Some((no, last)) = &self.last
            && last == timestamps
        {
            return Some(*no);
        }
        let mut hasher = Xxh3::new();
        timestamps.hash(&mut hasher);
        let hash = hasher.finish();
        let alike = self.timeline_numbers.get(&hash).cloned().unwrap_or_default();
        for no in alike {
            if self.timestamps(no)? == timestamps {
                return Some(no);
            }
        }
        let no = self.timeline_count;
        let mut column = Vec::new();
        encode_timestamps(timestamps, &mut column);
        let directory = &mut self.timeline_directory;
        directory.extend_from_slice(&(self.columns.len() as u64).to_le_bytes());
        directory.extend_from_slice(&u32::try_from(column.len()).ok()?.to_le_bytes());
        directory.extend_from_slice(&u32::try_from(timestamps.len()).ok()?.to_le_bytes());
        for at in [timestamps.first()?, timestamps.last()?] {
            directory.extend_from_slice(&at.millis().to_le_bytes());
        }
        self.columns.extend_from_slice(&column);
        self.timeline_count = no.checked_add(1)?;
        self.timeline_numbers.entry(hash).or_default().push(no);
        self.last = Some((no, timestamps.to_vec()));
        Some(no)
    }

    /// What was written so far, to be read.
    fn written(&self) -> Spans<'_> {
        Spans {
            columns: &self.columns,
            timeline_directory: &self.timeline_directory,
            presence: &self.presence,
            spans: &self.spans,
        }
    }

    /// The timestamps of a timeline.
    fn timestamps(&mut self, timeline: u32) -> Option<&[Timestamp]> {
        if self.last.as_ref().is_none_or(|(no, _)| *no != timeline) {
            self.last = Some((timeline, self.written().timestamps(timeline).ok()?));
        }
        self.last.as_ref().map(|(_, times)| times.as_slice())
    }

    /// How many rows a timeline has.
    pub(super) fn rows_of(&self, timeline: u32) -> Option<usize> {
        self.written().bounds(timeline).ok().map(|b| b.rows as usize)
    }

    pub(super) fn counts(&self) -> (u32, u32) {
        (self.timeline_count, self.span_count)
    }

    /// The number of a span, and when its first and last rows are. `rows` must rise without touching and lie in the
    /// timeline.
    pub(super) fn span(
        &mut self,
        timeline: u32,
        kind: ColumnKind,
        rows: &[Rows],
    ) -> Option<(u32, Timestamp, Timestamp)> {
        let key = (timeline, kind, rows);
        if let Some(no) = self.span_numbers.get(&SpanKey(key)) {
            let span = self.written().span(*no).ok()?;
            return Some((*no, span.first, span.last));
        }
        let (first, last) = (rows.first()?, rows.last()?);
        let last_row = last.start + last.len - 1;
        let times = self.timestamps(timeline)?;
        let (begin, end) = (*times.get(first.start as usize)?, *times.get(last_row as usize)?);
        let start = self.presence.len();
        if rows.len() > 1 {
            let mut next = None;
            for run in rows {
                if let Some(next) = next {
                    varint::put(&mut self.presence, u64::from(run.start - next));
                }
                varint::put(&mut self.presence, u64::from(run.len));
                next = Some(run.start + run.len);
            }
        }
        let count: u32 = rows.iter().map(|r| r.len).sum();
        let count = match kind {
            ColumnKind::Float => count,
            ColumnKind::Histogram => count | HISTOGRAMS,
        };
        for field in [timeline, first.start, last_row + 1 - first.start, count] {
            self.spans.extend_from_slice(&field.to_le_bytes());
        }
        for at in [begin, end] {
            self.spans.extend_from_slice(&at.millis().to_le_bytes());
        }
        for field in [start, self.presence.len() - start] {
            self.spans.extend_from_slice(&u32::try_from(field).ok()?.to_le_bytes());
        }
        let no = self.span_count;
        self.span_count = no.checked_add(1)?;
        self.span_numbers.insert((timeline, kind, rows.into()), no);
        Some((no, begin, end))
    }

    pub(super) fn build(self) -> SpanSections {
        SpanSections {
            columns: self.columns,
            timeline_directory: self.timeline_directory,
            presence: self.presence,
            spans: self.spans,
        }
    }
}

/// Lets a span be looked up without a copy of its rows.
struct SpanKey<'a>((u32, ColumnKind, &'a [Rows]));

impl Hash for SpanKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl hashbrown::Equivalent<(u32, ColumnKind, Box<[Rows]>)> for SpanKey<'_> {
    fn equivalent(&self, key: &(u32, ColumnKind, Box<[Rows]>)) -> bool {
        self.0 == (key.0, key.1, &*key.2)
    }
}

/// Reads timelines and spans in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spans<'b> {
    pub(super) columns: &'b [u8],
    pub(super) timeline_directory: &'b [u8],
    pub(super) presence: &'b [u8],
    pub(super) spans: &'b [u8],
}

impl Spans<'_> {
    pub(super) fn timeline_count(&self) -> u32 {
        (self.timeline_directory.len() / TIMELINE_ENTRY) as u32
    }

    pub(super) fn span_count(&self) -> u32 {
        (self.spans.len() / SPAN_ENTRY) as u32
    }

    /// How many rows a timeline has, and from when to when.
    pub(super) fn bounds(&self, timeline: u32) -> Result<TimelineBounds, Malformed> {
        let directory = self.timeline_directory.as_chunks::<TIMELINE_ENTRY>().0;
        let entry = directory.get(timeline as usize);
        let mut cursor = Cursor::new(entry.ok_or(Malformed::new(0, "no such timeline"))?);
        let (_offset, _len) = (cursor.u64()?, cursor.u32()?);
        Ok(TimelineBounds {
            rows: cursor.u32()?,
            first: Timestamp::from_millis(cursor.i64()?),
            last: Timestamp::from_millis(cursor.i64()?),
        })
    }

    /// Decodes a timeline.
    pub(super) fn timestamps(&self, timeline: u32) -> Result<Vec<Timestamp>, Malformed> {
        let entry = self
            .timeline_directory
            .as_chunks::<TIMELINE_ENTRY>()
            .0
            .get(timeline as usize);
        let mut cursor = Cursor::new(entry.ok_or(Malformed::new(0, "no such timeline"))?);
        let (offset, len, rows) = (cursor.u64()?, cursor.u32()?, cursor.u32()? as usize);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.columns.get(start..start.saturating_add(len as usize));
        let bytes = bytes.ok_or(Malformed::new(0, "timeline lies outside its section"))?;
        let mut timestamps = Vec::new();
        decode_timestamps(bytes, rows, &mut timestamps)?;
        if rows > MAX_VALUES || !timestamps.is_sorted_by(|a, b| a < b) {
            return Err(Malformed::new(start, "timeline does not rise"));
        }
        Ok(timestamps)
    }

    /// Whether a timeline is as its entry says and lies behind the one before, which ends at `start`; gives where it
    /// ends, with an error too.
    pub(super) fn check_timeline(&self, timeline: u32, start: u64) -> Result<u64, (u64, Malformed)> {
        let entries = self.timeline_directory.as_chunks::<TIMELINE_ENTRY>().0;
        let entry = entries.get(timeline as usize).map_or(&[][..], |e| e.as_slice());
        let mut cursor = Cursor::new(entry);
        let mut fields = || {
            Ok((
                cursor.u64()?,
                cursor.u32()?,
                cursor.u32()?,
                cursor.i64()?,
                cursor.i64()?,
            ))
        };
        let (offset, len, rows, first, last) = fields().map_err(|e| (start, e))?;
        let end = offset.saturating_add(u64::from(len));
        let bad = |what| Err((end, Malformed::new(usize::try_from(offset).unwrap_or(usize::MAX), what)));
        let times = self.timestamps(timeline).map_err(|e| (end, e))?;
        if offset != start {
            return bad("timeline is not behind the one before");
        }
        let ends = [times.first(), times.last()].map(|t| t.map(|t| t.millis()));
        if times.len() != rows as usize || ends != [Some(first), Some(last)] {
            return bad("timeline does not begin and end when its entry says");
        }
        Ok(end)
    }

    /// The span of that number.
    pub(super) fn span(&self, no: u32) -> Result<Span, Malformed> {
        let entry = self.spans.as_chunks::<SPAN_ENTRY>().0.get(no as usize);
        let mut cursor = Cursor::new(entry.ok_or(Malformed::new(0, "no such span"))?);
        let (timeline, first_row, rows, count) = (cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let span = Span {
            timeline,
            first_row,
            rows,
            count: count & !HISTOGRAMS,
            kind: if count & HISTOGRAMS == 0 {
                ColumnKind::Float
            } else {
                ColumnKind::Histogram
            },
            first: Timestamp::from_millis(cursor.i64()?),
            last: Timestamp::from_millis(cursor.i64()?),
            presence: (cursor.u32()?, cursor.u32()?),
        };
        // Readers make room for so many values.
        if span.count > span.rows || span.count as usize > MAX_CHUNK_VALUES {
            return Err(Malformed::new(
                (no as usize).saturating_mul(SPAN_ENTRY),
                "span has more values than rows, or than a chunk may have",
            ));
        }
        Ok(span)
    }

    /// Calls `each` with every run of rows of a span that have a value, in order.
    pub(super) fn rows(&self, span: &Span, mut each: impl FnMut(Rows)) -> Result<(), Malformed> {
        let (offset, len) = (span.presence.0 as usize, span.presence.1 as usize);
        if len == 0 {
            if span.rows != span.count {
                return Err(Malformed::new(0, "dense span has another count"));
            }
            each(Rows {
                start: span.first_row,
                len: span.rows,
            });
            return Ok(());
        }
        let bytes = self.presence.get(offset..offset.saturating_add(len));
        let mut cursor = Cursor::new(bytes.ok_or(Malformed::new(offset, "presence lies outside its section"))?);
        let rows = span.rows as usize;
        let (mut at, mut count) = (0, 0);
        loop {
            let present = cursor.bounded(rows.saturating_sub(at), "presence is longer than its span")?;
            if present == 0 {
                return Err(cursor.malformed("presence has an empty run"));
            }
            each(Rows {
                start: span.first_row.saturating_add(at as u32),
                len: present as u32,
            });
            at += present;
            count += present;
            if cursor.is_empty() {
                break;
            }
            at += cursor.bounded(rows.saturating_sub(at), "presence is longer than its span")?;
        }
        if at != rows || count != span.count as usize {
            return Err(cursor.malformed("presence does not fill its span"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(runs: &[(u32, u32)]) -> Vec<Rows> {
        runs.iter()
            .map(|(start, len)| Rows {
                start: *start,
                len: *len,
            })
            .collect()
    }

    #[test]
    fn bytes_are_as_drawn_and_equal_content_is_kept_once() {
        let mut builder = SpanBuilder::default();
        let times: Vec<Timestamp> = [0, 5, 10, 15].map(Timestamp::from_millis).into();
        assert_eq!(builder.timeline(&times), Some(0));
        assert_eq!(builder.timeline(&times[1..]), Some(1));
        assert_eq!(builder.timeline(&times), Some(0));
        let when = |first, last| (Timestamp::from_millis(first), Timestamp::from_millis(last));
        for (kind, runs, no, (first, last)) in [
            (ColumnKind::Float, &[(0, 4)][..], 0, when(0, 15)),
            (ColumnKind::Float, &[(1, 1), (3, 1)], 1, when(5, 15)),
            (ColumnKind::Float, &[(0, 4)], 0, when(0, 15)),
            (ColumnKind::Histogram, &[(0, 4)], 2, when(0, 15)),
        ] {
            assert_eq!(builder.span(0, kind, &rows(runs)), Some((no, first, last)));
        }
        assert_eq!((builder.rows_of(1), builder.rows_of(2)), (Some(3), None));
        let sections = builder.build();
        assert_eq!(sections.columns, [0, 0x21, 9, 10, 0, 0x21, 0, 10]);
        assert_eq!(sections.timeline_directory.len(), 64);
        let words = |bytes: &[u8]| -> Vec<u32> { bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect() };
        assert_eq!(words(&sections.timeline_directory[32..]), [4, 0, 4, 3, 5, 0, 15, 0]);
        assert_eq!(
            words(&sections.spans),
            [
                [0, 0, 4, 4, 0, 0, 15, 0, 0, 0],
                [0, 1, 3, 2, 5, 0, 15, 0, 0, 3],
                [0, 0, 4, 4 | HISTOGRAMS, 0, 0, 15, 0, 3, 0]
            ]
            .concat()
        );
        assert_eq!(sections.presence, [1, 1, 1]);

        let view = Spans {
            columns: &sections.columns,
            timeline_directory: &sections.timeline_directory,
            presence: &sections.presence,
            spans: &sections.spans,
        };
        assert_eq!((view.timeline_count(), view.span_count()), (2, 3));
        assert_eq!(
            (view.span(2).unwrap().kind, view.span(2).unwrap().count),
            (ColumnKind::Histogram, 4)
        );
        assert_eq!(view.timestamps(1).unwrap(), times[1..]);
        let (span, mut found) = (view.span(1).unwrap(), vec![]);
        view.rows(&span, |r| found.push(r)).unwrap();
        assert_eq!(found, rows(&[(1, 1), (3, 1)]));
        assert!(!span.is_dense() && view.span(0).unwrap().is_dense());
        assert!(view.span(3).is_err() && view.timestamps(2).is_err());
        let broken = Span { rows: 4, ..span };
        assert!(view.rows(&broken, |_| {}).is_err());
    }
}
