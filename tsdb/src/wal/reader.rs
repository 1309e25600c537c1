//! Reads the log back into the head when the store opens.

use super::record::{self, ENDED, KEY, RANGES, Read};
use super::segment::{self, Found};
use super::writer::SegmentInfo;
use crate::Replay;
use crate::codec::{Cursor, Malformed, ZstdPool};
use crate::fs::Fs;
use crate::head::append::Head;
use crate::head::delta;
use crate::head::replay::{HeadHistogram, HeadRow, LoggedChange};
use crate::head::stage::Bounds;
use crate::numbered::{HEADER_BYTES, Header};
use crate::timeline::{Presence, Stand, holds};
use crate::{Error, Metrics};
use hashbrown::HashMap;
use std::path::Path;
use std::sync::Arc;
use tidegauge_model::{Exemplar, Histogram, Labels, SeriesRef, Timestamp};

/// Sanity bound on the numbers a log may name, so that a frame cannot ask for all memory.
pub(crate) const MAX_PLACES: usize = 1 << 24;

/// Replays the segments from number `from` on; gives what is known of all, and how many bytes were read. `known` are
/// those before, as a checkpoint tells: one that it does not name had been cut.
pub(crate) fn replay(
    fs: &dyn Fs,
    dir: &Path,
    from: u64,
    known: &[SegmentInfo],
    head: &mut Head,
    (metrics, progress): (&Metrics, &Replay),
) -> Result<(Vec<SegmentInfo>, u64), Error> {
    let numbers = segment::FILES.list(fs, dir)?.numbers;
    let mut segments: Vec<SegmentInfo> = Vec::with_capacity(numbers.len());
    let zstd = ZstdPool::default();
    // Records with late samples so far.
    let mut late = 0u64;
    let mut read = 0;
    let first = numbers.iter().copied().find(|number| *number >= from);
    if let (Some(first), Some(last)) = (first, numbers.last()) {
        progress.reads(first, *last);
    }
    for (i, number) in numbers.iter().enumerate() {
        if *number < from {
            let known = known.iter().find(|s| s.number == *number).copied();
            let known = known.unwrap_or(SegmentInfo {
                number: *number,
                newest: i64::MIN,
                late: 0,
            });
            late = late.max(known.late);
            segments.push(known);
            continue;
        }
        progress.at(*number);
        let path = dir.join(segment::FILES.name(*number));
        let mut one = Segment {
            fs,
            path: &path,
            number: *number,
            last: i + 1 == numbers.len(),
            head: &mut *head,
            metrics,
            zstd: &zstd,
            newest: i64::MIN,
            has_late: false,
            read: 0,
        };
        one.replay()?;
        read += one.read;
        // Those of one segment count as one: it is cut as a whole.
        late += u64::from(one.has_late);
        segments.push(SegmentInfo {
            number: *number,
            newest: one.newest,
            late: if one.has_late { late } else { 0 },
        });
    }
    Ok((segments, read))
}

struct Segment<'a> {
    fs: &'a dyn Fs,
    path: &'a Path,
    number: u64,
    last: bool,
    head: &'a mut Head,
    metrics: &'a Metrics,
    zstd: &'a ZstdPool,
    newest: i64,
    has_late: bool,
    /// Bytes of good frames.
    read: u64,
}

impl Segment<'_> {
    fn replay(&mut self) -> Result<(), Error> {
        let bytes = self.fs.map(self.path)?;
        let mut at = HEADER_BYTES;
        match segment::FILES.check(&bytes, self.number) {
            Header::Good => {}
            Header::Newer(found) => return Err(segment::FILES.newer(self.path, found)),
            // An earlier start cut it, for it had no whole header.
            Header::Bad if bytes.is_empty() => return Ok(()),
            Header::Bad if self.last && bytes.len() < HEADER_BYTES => {
                return self.cut(0, "it has no whole header");
            }
            Header::Bad => self.damage(0, "the header is damaged"),
        }
        let mut book = Dictionary::default();
        let mut frames = segment::Frames::new(&bytes);
        loop {
            match frames.at(at) {
                Found::End => return Ok(()),
                Found::Frame { kind, payload, end } => {
                    let read = segment::unpack(kind, payload, self.zstd).and_then(|record| {
                        let late = &mut self.has_late;
                        book.replay(&record, self.head, &mut self.newest, late, self.metrics)
                            .map_err(|m| m.what)
                    });
                    if let Err(what) = read {
                        self.damage(at as u64, what);
                        book.lose_track();
                    }
                    self.read += (end - at) as u64;
                    at = end;
                }
                Found::Broken { next: Some(next) } => {
                    self.damage(at as u64, "no whole frame");
                    book.lose_track();
                    at = next;
                }
                Found::Broken { next: None } if self.last && segment::is_torn(&bytes, at) => {
                    drop(bytes);
                    return self.cut(at as u64, "the last frame is torn");
                }
                Found::Broken { next: None } => {
                    self.damage(at as u64, "the rest holds no whole frame");
                    return Ok(());
                }
            }
        }
    }

    fn cut(&self, at: u64, what: &str) -> Result<(), Error> {
        tracing::warn!(path = %self.path.display(), offset = at, "cut off the torn end of the log: {what}");
        Metrics::add(&self.metrics.wal_torn, 1);
        self.fs.append(self.path)?.truncate(at)
    }

    fn damage(&self, at: u64, what: &str) {
        tracing::error!(path = %self.path.display(), offset = at, "the log is damaged: {what}; going on behind it");
        Metrics::add(&self.metrics.wal_damaged, 1);
    }
}

/// What a segment has said so far. Its numbers are those of the process that wrote it.
#[derive(Debug, Default)]
struct Dictionary {
    timelines: HashMap<u32, Track>,
    columns: HashMap<u32, Described>,
    /// What a row changes; kept for its room.
    changes: Vec<LoggedChange>,
    /// The newest histogram of each column.
    histograms: HashMap<u32, (i64, Arc<Histogram>)>,
}

#[derive(Debug)]
struct Described {
    home: Option<u32>,
    labels: Labels,
    series: Option<SeriesRef>,
}

#[derive(Debug, Default)]
struct Track {
    key: Option<String>,
    /// The head's timeline, once it is needed.
    timeline: Option<u32>,
    at: i64,
    /// Whether places and values are known: from a key row on.
    known: bool,
    columns: Vec<u32>,
    refs: Vec<Option<SeriesRef>>,
    last: Vec<f64>,
    ended: Vec<bool>,
    any_ended: bool,
    presence: Presence,
    /// How the head's timeline looked when it last had the same places and values as this track.
    in_step: Option<Stand>,
}

impl Dictionary {
    fn lose_track(&mut self) {
        for track in self.timelines.values_mut() {
            track.known = false;
            track.columns.clear();
        }
        self.histograms.clear();
    }

    fn replay(
        &mut self,
        record: &[u8],
        head: &mut Head,
        newest: &mut i64,
        has_late: &mut bool,
        metrics: &Metrics,
    ) -> Result<(), Malformed> {
        let mut cursor = Cursor::new(record);
        let (mut rows, mut waiting, mut late, mut count) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut deletions = Vec::new();
        let mut histograms: Vec<HeadHistogram> = Vec::new();
        let mut exemplars: Vec<(SeriesRef, i64, Exemplar)> = Vec::new();
        let mut told = record::Told::new();
        while !cursor.is_empty() {
            match record::read(&mut cursor, &mut told)? {
                Read::Timeline { timeline, key } => {
                    let track = self.timelines.entry(timeline).or_default();
                    if track.key.as_deref() != key {
                        *track = Track {
                            key: key.map(str::to_owned),
                            ..Track::default()
                        };
                    }
                }
                Read::Column { column, home, pairs } => {
                    let labels = Labels::from_pairs(pairs).map_err(|_| cursor.malformed("not a label set"))?;
                    if self
                        .columns
                        .get(&column)
                        .is_none_or(|c| c.labels != labels || c.home != home)
                    {
                        self.columns.insert(
                            column,
                            Described {
                                home,
                                labels,
                                series: None,
                            },
                        );
                        self.histograms.remove(&column);
                    }
                }
                Read::Deletion { matchers, range } => deletions.push((matchers, range)),
                Read::Shape { timeline, kept, added } => self.shape(timeline, kept, added, &cursor)?,
                Read::Row { timeline, step, flags } => {
                    // Rows of one record come in their order: behind one that waits, all wait.
                    if rows.is_empty()
                        && let Some(at) = self.follow(timeline, step, flags, &mut cursor, head)?
                    {
                        *newest = (*newest).max(at);
                        count += 1;
                        continue;
                    }
                    let Some(at) = self.row(timeline, step, flags, &mut cursor)? else {
                        // Without a key row its length is unknown: the rest of the record is lost too.
                        Metrics::add(&metrics.wal_rows_lost, 1);
                        break;
                    };
                    *newest = (*newest).max(at);
                    count += 1;
                    if at >= head.oldest_valid() {
                        waiting.push(timeline);
                        rows.extend(self.resolved(timeline, at, head));
                    }
                }
                Read::Late { column, samples } => late.push((Some(column), 0..0, samples)),
                Read::LateDone(range) => late.push((None, range, Vec::new())),
                Read::Histogram { column, body } => {
                    let before = self.histograms.get(&column).map(|(at, h)| (*at, &**h));
                    let Some((at, histogram)) = record::read_histogram(body, before)? else {
                        Metrics::add(&metrics.wal_rows_lost, 1);
                        continue;
                    };
                    let histogram = Arc::new(histogram);
                    self.histograms.insert(column, (at, Arc::clone(&histogram)));
                    *newest = (*newest).max(at);
                    if at >= head.oldest_valid() {
                        histograms.extend(self.column(column, head).map(|series| (series, at, histogram)));
                    }
                }
                Read::Exemplar {
                    column,
                    at,
                    own_time,
                    value,
                    pairs,
                } => {
                    let exemplar = Exemplar {
                        labels: Labels::from_pairs(pairs).map_err(|_| cursor.malformed("not a label set"))?,
                        value,
                        at: own_time.then_some(Timestamp::from_millis(at)),
                    };
                    exemplars.extend(self.column(column, head).map(|series| (series, at, exemplar)));
                }
            }
        }
        for (column, done, samples) in late {
            let Some(column) = column else {
                head.replay_late_done(done)?;
                continue;
            };
            *has_late = true;
            *newest = samples.iter().map(|s| s.0).fold(*newest, i64::max);
            count += samples.len() as u64;
            match self.column(column, head) {
                Some(series) => head.replay_late(series, &samples)?,
                // Damage took its definition.
                None => Metrics::add(&metrics.wal_rows_lost, samples.len() as u64),
            }
        }
        // All rows of a record, or none if it is damaged.
        let bounds = Bounds {
            oldest: i64::MIN,
            newest: i64::MAX,
            late: None,
        };
        // A record has the rows of each timeline together; a series may have gone from one to another in it.
        rows.sort_by_key(|(_, at, _)| *at);
        head.replay_rows(&rows, bounds);
        for timeline in &waiting {
            let Some(track) = self.timelines.get_mut(timeline) else {
                continue;
            };
            let same = track.presence.is_none() && !track.any_ended;
            track.in_step = track
                .timeline
                .filter(|_| same)
                .and_then(|number| head.stand_with(number, &track.refs, &track.last));
        }
        head.replay_histograms(&histograms, bounds);
        for (series, at, exemplar) in exemplars {
            head.replay_exemplar(series, at, exemplar);
        }
        for (matchers, range) in &deletions {
            head.replay_deletion(matchers, *range)?;
        }
        Metrics::add(&metrics.replay_rows, count);
        Ok(())
    }

    /// Takes a row straight into the head, change by change, if its timeline there is just as this track says and all
    /// places have a value. `None`: it must go the long way; the cursor is where it was.
    fn follow(
        &mut self,
        timeline: u32,
        step: i64,
        flags: u8,
        cursor: &mut Cursor<'_>,
        head: &mut Head,
    ) -> Result<Option<i64>, Malformed> {
        let Some(track) = self.timelines.get_mut(&timeline) else {
            return Ok(None);
        };
        let at = track.at.wrapping_add(step);
        let (Some(stand), Some(number), true) = (track.in_step, track.timeline, track.known) else {
            return Ok(None);
        };
        if flags & (KEY | RANGES | ENDED) != 0 || at < head.oldest_valid() {
            return Ok(None);
        }
        let Some(stand) = head.ready_for(number, at, stand) else {
            track.in_step = None;
            return Ok(None);
        };
        track.known = false;
        self.changes.clear();
        for place in record::read_changed(cursor, flags, track.last.len() as u32)? {
            let last = track
                .last
                .get_mut(place as usize)
                .ok_or(cursor.malformed("a row changes a place that is none"))?;
            let code = cursor.rest();
            *last = delta::get(cursor, *last)?;
            let code = code.get(..code.len() - cursor.remaining()).unwrap_or_default();
            self.changes.push(LoggedChange::new(place, *last, code));
        }
        track.at = at;
        track.known = true;
        track.presence = None;
        track.in_step = Some(head.replay_changes(number, at, &self.changes, stand));
        Ok(Some(at))
    }

    fn shape(&mut self, timeline: u32, kept: u32, added: Vec<u32>, cursor: &Cursor<'_>) -> Result<(), Malformed> {
        let track = self.timelines.entry(timeline).or_default();
        track.in_step = None;
        if kept as usize > track.columns.len() {
            // After damage: the next key row brings the whole shape.
            track.known = false;
            return Ok(());
        }
        if track.columns.len() + added.len() > MAX_PLACES {
            return Err(cursor.malformed("a shape is too large"));
        }
        if kept == 0 {
            track.ended.clear();
            track.any_ended = false;
            track.last.clear();
            track.refs.clear();
        }
        track.columns.truncate(kept as usize);
        track.columns.extend(added);
        let n = track.columns.len();
        track.last.resize(n, 0.0);
        track.ended.resize(n, false);
        track.refs.resize(n, None);
        Ok(())
    }

    /// Reads a row into its track and gives its time; `None` if what it builds on is not known.
    fn row(&mut self, timeline: u32, step: i64, flags: u8, cursor: &mut Cursor<'_>) -> Result<Option<i64>, Malformed> {
        let Some(track) = self.timelines.get_mut(&timeline) else {
            return Ok(None);
        };
        let key = flags & KEY != 0;
        if !key && !track.known {
            return Ok(None);
        }
        track.known = false;
        track.in_step = None;
        let base = if key { 0 } else { track.at };
        let at = base.wrapping_add(step);
        let presence = if flags & RANGES != 0 {
            Some(record::read_steps(cursor)?.into())
        } else {
            None
        };
        let ended = if flags & ENDED != 0 {
            record::read_steps(cursor)?
        } else {
            Vec::new()
        };
        for place in ended {
            if let Some(ended) = track.ended.get_mut(place as usize) {
                *ended = true;
                track.any_ended = true;
            }
        }
        if key {
            for last in &mut track.last {
                *last = delta::get(cursor, 0.0)?;
            }
        } else {
            for place in record::read_changed(cursor, flags, track.last.len() as u32)? {
                let last = track
                    .last
                    .get_mut(place as usize)
                    .ok_or(cursor.malformed("a row changes a place that is none"))?;
                *last = delta::get(cursor, *last)?;
            }
        }
        track.at = at;
        track.known = true;
        track.presence = presence;
        Ok(Some(at))
    }

    /// The row that a track holds now, in terms of the head.
    fn resolved(&mut self, timeline: u32, at: i64, head: &mut Head) -> Option<HeadRow> {
        let number = self.head_timeline(timeline, head);
        let places = self.timelines.get(&timeline)?.refs.len() as u32;
        for place in 0..places {
            let track = self.timelines.get(&timeline)?;
            if track.refs.get(place as usize).is_some_and(Option::is_none) {
                // A column that damage took stays unknown until it is defined again.
                let series = self.series(timeline, place, head);
                let slot = self
                    .timelines
                    .get_mut(&timeline)
                    .and_then(|t| t.refs.get_mut(place as usize));
                if let Some(slot) = slot {
                    *slot = series;
                }
            }
        }
        let track = self.timelines.get(&timeline)?;
        let all = track.presence.is_none() && !track.any_ended;
        let values = (0u32..)
            .zip(track.refs.iter().zip(&track.last))
            .filter(|(place, _)| {
                all || holds(&track.presence, *place) && !track.ended.get(*place as usize).copied().unwrap_or(true)
            })
            .filter_map(|(_, (series, value))| Some(((*series)?, *value)))
            .collect();
        Some((number, at, values))
    }

    fn head_timeline(&mut self, timeline: u32, head: &mut Head) -> u32 {
        let track = self.timelines.entry(timeline).or_default();
        *track
            .timeline
            .get_or_insert_with(|| head.replay_timeline(timeline, track.key.as_deref()))
    }

    fn series(&mut self, timeline: u32, place: u32, head: &mut Head) -> Option<SeriesRef> {
        let track = self.timelines.get(&timeline)?;
        let column = *track.columns.get(place as usize)?;
        self.column(column, head)
    }

    /// The head's column for one of the segment's.
    fn column(&mut self, column: u32, head: &mut Head) -> Option<SeriesRef> {
        let described = self.columns.get(&column)?;
        let (home, labels, known) = (described.home, described.labels.clone(), described.series);
        let series = match known {
            Some(series) => series,
            None => {
                let home = home.map(|home| self.head_timeline(home, head));
                head.replay_column(home, &labels)?
            }
        };
        if let Some(described) = self.columns.get_mut(&column) {
            described.series = Some(series);
        }
        Some(series)
    }
}
