//! Reads a segment of the log as a start would, without a head to put it into.

use super::{File, Finding, Visit, at};
use crate::Error;
use crate::codec::ZstdPool;
use crate::codec::{Cursor, Malformed};
use crate::head::delta;
use crate::numbered::{HEADER_BYTES, Header};
use crate::wal::reader::MAX_PLACES;
use crate::wal::record::{self, ENDED, KEY, RANGES, Read};
use crate::wal::segment::{self, Found};
use hashbrown::{HashMap, HashSet};
use tidegauge_model::{Histogram, Labels};

/// Checks the header, every frame and every entry. Takes as much memory as the segment.
pub(super) fn check(visit: &mut Visit<'_>, file: &File) -> Result<(), Error> {
    let mut bytes = Vec::new();
    visit.read_through(&file.path, |piece| bytes.extend_from_slice(piece))?;
    visit.report.segments += 1;
    let number = file.segment().unwrap_or(0);
    let last = number == visit.last_segment;
    match segment::FILES.check(&bytes, number) {
        Header::Good => {}
        Header::Newer(found) => return Err(segment::FILES.newer(&file.path, found)),
        // A start cut it, for it had no whole header.
        Header::Bad if bytes.is_empty() => return Ok(()),
        Header::Bad if last && bytes.len() < HEADER_BYTES => {
            let what = "the log ends in a segment without a whole header: the next start goes on without it";
            visit.report.note(&file.path, Some(0), what);
            return Ok(());
        }
        Header::Bad => problem(visit, file, 0, "the header is damaged"),
    }
    frames(visit, file, &bytes, last);
    Ok(())
}

fn problem(visit: &mut Visit<'_>, file: &File, offset: usize, what: &'static str) {
    let finding = at(&file.path, 0, Malformed::new(offset, what));
    visit.report.problem(finding);
}

fn frames(visit: &mut Visit<'_>, file: &File, bytes: &[u8], last: bool) {
    let mut place = HEADER_BYTES;
    let mut book = Book::default();
    let mut found = segment::Frames::new(bytes);
    let zstd = ZstdPool::default();
    loop {
        match found.at(place) {
            Found::End => break,
            Found::Frame { kind, payload, end } => {
                visit.report.frames += 1;
                let read = segment::unpack(kind, payload, &zstd).and_then(|r| book.record(&r).map_err(|m| m.what));
                if let Err(what) = read {
                    let what = format!("a frame of the log does not decode: {what}");
                    let (path, offset) = (file.path.clone(), Some(place as u64));
                    visit.report.problem(Finding { path, offset, what });
                    book.lose_track();
                }
                place = end;
            }
            Found::Broken { next: Some(next) } => {
                problem(visit, file, place, "no whole frame of the log");
                book.lose_track();
                place = next;
            }
            Found::Broken { next: None } if last && segment::is_torn(bytes, place) => {
                let what = "the last frame of the log is not whole: it is being written, or the next start cuts it off";
                visit.report.note(&file.path, Some(place as u64), what);
                break;
            }
            Found::Broken { next: None } => {
                problem(visit, file, place, "the rest of the segment holds no whole frame");
                break;
            }
        }
    }
    visit.report.rows += book.rows;
}

/// What a segment has defined so far.
#[derive(Debug, Default)]
struct Book {
    timelines: HashMap<u32, Track>,
    columns: HashSet<u32>,
    /// The last histogram of each column, which the next one builds on.
    histograms: HashMap<u32, (i64, Histogram)>,
    rows: u64,
    /// Behind damage: what is missing may have been in it.
    lost: bool,
}

#[derive(Debug, Default)]
struct Track {
    places: usize,
    /// Whether a row may build on the one before.
    known: bool,
}

impl Book {
    fn lose_track(&mut self) {
        self.lost = true;
        self.timelines.values_mut().for_each(|t| t.known = false);
        self.histograms.clear();
    }

    fn record(&mut self, record: &[u8]) -> Result<(), Malformed> {
        let mut cursor = Cursor::new(record);
        let mut told = record::Told::new();
        while !cursor.is_empty() {
            match record::read(&mut cursor, &mut told)? {
                Read::Timeline { timeline, .. } => drop(self.timelines.entry(timeline).or_default()),
                Read::Column { column, home, pairs } => {
                    let sorted = pairs.is_sorted_by(|a, b| a.0 < b.0);
                    if !sorted {
                        return Err(cursor.malformed("labels of a column are not in order"));
                    }
                    if home.is_some_and(|home| !self.lost && !self.timelines.contains_key(&home)) {
                        return Err(cursor.malformed("a column is of a timeline that is not defined"));
                    }
                    self.columns.insert(column);
                }
                Read::Shape { timeline, kept, added } => self.shape(timeline, kept as usize, &added, &cursor)?,
                Read::Row { timeline, flags, .. } => {
                    if !self.row(timeline, flags, &mut cursor)? {
                        // Its length is unknown without the rows before: the rest of the record is lost with them.
                        return Ok(());
                    }
                    self.rows += 1;
                }
                Read::Late { column, .. } => {
                    if !(self.lost || self.columns.contains(&column)) {
                        return Err(cursor.malformed("late samples of no column"));
                    }
                }
                // Decoded whole by what read them.
                Read::LateDone(_) | Read::Deletion { .. } => {}
                Read::Histogram { column, body } => {
                    let before = self.histograms.get(&column).map(|(at, h)| (*at, h));
                    match record::read_histogram(body, before)? {
                        Some(histogram) => drop(self.histograms.insert(column, histogram)),
                        None if self.lost => {}
                        None => return Err(cursor.malformed("a histogram builds on one that is not there")),
                    }
                }
                Read::Exemplar { column, pairs, .. } => {
                    let labels = Labels::from_pairs(pairs);
                    if labels.is_err() || !(self.lost || self.columns.contains(&column)) {
                        return Err(cursor.malformed("an exemplar of no column, or without good labels"));
                    }
                }
            }
        }
        Ok(())
    }

    fn shape(&mut self, timeline: u32, kept: usize, added: &[u32], cursor: &Cursor<'_>) -> Result<(), Malformed> {
        let mut columns = added.iter();
        let defined = self.timelines.contains_key(&timeline) && columns.all(|c| self.columns.contains(c));
        if !(defined || self.lost) {
            return Err(cursor.malformed("a shape names what is not defined"));
        }
        let track = self.timelines.entry(timeline).or_default();
        if kept > track.places {
            track.known = false;
            return match self.lost {
                true => Ok(()),
                false => Err(cursor.malformed("a shape keeps more places than there are")),
            };
        }
        track.places = kept.saturating_add(added.len());
        if track.places > MAX_PLACES {
            return Err(cursor.malformed("a shape is too large"));
        }
        Ok(())
    }

    /// Reads a row; `false` if it builds on one that damage took.
    fn row(&mut self, timeline: u32, flags: u8, cursor: &mut Cursor<'_>) -> Result<bool, Malformed> {
        let key = flags & KEY != 0;
        let track = self.timelines.get_mut(&timeline).filter(|t| key || t.known);
        let Some(track) = track else {
            return match self.lost {
                true => Ok(false),
                false => Err(cursor.malformed("a row builds on one that is not there")),
            };
        };
        track.known = false;
        for flag in [RANGES, ENDED] {
            if flags & flag != 0 {
                record::read_steps(cursor)?;
            }
        }
        let values = if key {
            track.places
        } else {
            let places = u32::try_from(track.places).unwrap_or(u32::MAX);
            let changed = record::read_changed(cursor, flags, places)?;
            if changed.iter().any(|place| *place >= places) {
                return Err(cursor.malformed("a row changes a place that is none"));
            }
            changed.len()
        };
        for _ in 0..values {
            // A code is as long whatever the value before was.
            delta::get(cursor, 0.0)?;
        }
        track.known = true;
        Ok(true)
    }
}
