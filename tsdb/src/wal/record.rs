//! What a frame means: entries, one after another, of one commit.
//!
//! ```text
//!   1 timeline  number, key: length + 1 and text, or 0 if the store made it
//!   2 column    number, home timeline + 1 or 0, pairs, then for each: name, value     (texts: length, UTF-8)
//!               as versions 1 and 2 of the log have it; read, not written
//!   3 shape     timeline, kept, added, then for each added place its column: zigzag step from the one before
//!   4 row       timeline, zigzag step of its time, flags u8, [ranges], [ended], values
//!                 flags bit 0: key row; its time steps from 0, and it gives all that is known of the timeline
//!                       bit 1: ranges: how many edges, then steps; absent: all places that have not ended
//!                       bit 2: ended: how many, then steps: places that hold nothing from this row on
//!                       bit 3: changed places as a bitmap; else how many, then steps
//!                 values: a code after the place's value before, for each place that changed; in a key row, a code
//!                       after 0 for every place of the shape
//!   5 late      column + 1, how many, then for each: zigzag step of its time from the one before, the first from 0; its
//!               value: a code after the value before, the first after 0
//!               or: 0, zigzag start, zigzag end: blocks have the late samples of these times that were told so far
//!   6 histogram column, length, then so many bytes: code, zigzag step of its time
//!                 code: see `crate::head::histogram_code`; one that stands alone has a time that steps from 0, others
//!                       build on the column's histogram before
//!   7 exemplar  column, zigzag time, flags u8, value u64 (bits), pairs as in a column
//!                 flags bit 0: the time is its own, else that of its sample
//!   8 deletion  zigzag start, zigzag end (both included), matchers, then for each: operator u8, name, value
//!                 operator 0 `=`, 1 `!=`, 2 `=~`, 3 `!~`; all must hold. What lies in the log before it is meant
//!   9 column    number, home timeline + 1 or 0, pairs, then for each beside the pair at its place in the column that the
//!               record told of before:
//!                 0: the same;  1: its name, then a value;  else length of the name + 2, the name, a value
//!                 only names and pairs of up to 128 bytes are told by a number
//! ```
//!
//! 5 to 8 are of version 2 of the log, 9 is of version 3. All numbers are varints. Codes are those of [`crate::head::delta`]. A place
//! that is new in this row changes from 0.

use super::writer::Book;
use crate::codec::varint::{put, put_signed};
use crate::codec::{Cursor, Malformed};
use crate::head::State;
use crate::head::delta;
use crate::head::exemplar::Stored;
use crate::head::histogram::{Logged as HistogramsLogged, StagedHistogram};
use crate::head::histogram_code;
use crate::head::late::LateSample;
use crate::head::series::Index;
use crate::head::stage::{LateAppend, Plan};
use crate::head::staged::Staged;
use crate::timeline::{Logged, NONE, Timeline};
use hashbrown::HashMap;
use std::ops::Range;
use std::sync::Arc;
use tidegauge_model::{Histogram, Labels, MatchOp, Matcher, TimeRange, Timestamp};

const TIMELINE: u8 = 1;
const COLUMN: u8 = 2;
const SHAPE: u8 = 3;
const ROW: u8 = 4;
const DELETION: u8 = 8;
const COLUMN_BESIDE: u8 = 9;
/// In an entry 9: the pair, or its name, is that of the column before.
const SAME_PAIR: u64 = 0;
const SAME_NAME: u64 = 1;
/// Names begin here: their length plus this.
const OTHER_NAME: usize = 2;
/// The longest text that stands for itself a second time: a log cannot ask for much more memory than it takes.
const MAX_REPEATED_BYTES: usize = 128;
const OPERATORS: [MatchOp; 4] = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
const LATE: u8 = 5;
const HISTOGRAM: u8 = 6;
const EXEMPLAR: u8 = 7;
const OWN_TIME: u8 = 1;
pub(crate) const KEY: u8 = 1;
pub(crate) const RANGES: u8 = 2;
pub(crate) const ENDED: u8 = 4;
pub(crate) const BITMAP: u8 = 8;
/// Rows from one key row of a timeline to the next.
pub(crate) const KEY_ROWS: u32 = 64;

/// Appends the record of a commit; gives where the log then stands with each timeline of the plan.
pub(crate) fn encode(
    plan: &Plan,
    state: &State,
    index: &Index,
    book: &mut Book,
    out: &mut Vec<u8>,
) -> Vec<(u32, Logged)> {
    // Before the rows: a row that cannot be read hides what is behind it in the record.
    let mut late: Vec<LateAppend> = plan.late.clone();
    late.sort_by_key(|l| (l.column, l.at));
    let mut entries = Entries::new(state, index, book, out);
    entries.late(&late);
    let staged = plan.staged.iter().filter(|s| !s.rows.is_empty());
    staged.map(|s| (s.timeline, entries.timeline_rows(s))).collect()
}

/// Appends the record that follows late samples into blocks: those of these times that the log told of so far are
/// there, but for the `rest`, which follows.
pub(crate) fn encode_late_done(
    range: &Range<i64>,
    rest: &[LateAppend],
    state: &State,
    index: &Index,
    book: &mut Book,
    out: &mut Vec<u8>,
) {
    out.push(LATE);
    put(out, 0);
    put_signed(out, range.start);
    put_signed(out, range.end);
    Entries::new(state, index, book, out).late(rest);
}

/// Appends entries to a record.
pub(crate) struct Entries<'a> {
    state: &'a State,
    index: &'a Index,
    book: &'a mut Book,
    out: &'a mut Vec<u8>,
    /// The pairs of the column told last.
    told: Vec<u32>,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(state: &'a State, index: &'a Index, book: &'a mut Book, out: &'a mut Vec<u8>) -> Self {
        Self {
            state,
            index,
            book,
            out,
            told: Vec::new(),
        }
    }

    fn timeline_rows(&mut self, staged: &Staged) -> Logged {
        let t = self.state.timeline(staged.timeline);
        let mut logged = t.map(|t| t.logged).unwrap_or_default();
        let shape = t.map_or(0, |t| t.shape);
        let mut at = t.map_or(0, |t| t.newest);
        if logged.segment != self.book.segment {
            self.timeline(staged.timeline, t.and_then(|t| t.key.as_deref()));
        }
        for number in 0..staged.rows.len() {
            let Some(row) = staged.rows.get(number) else { break };
            let current = logged.segment == self.book.segment && logged.shape == shape;
            let key = number == 0 && (!current || logged.rows >= KEY_ROWS);
            let known = if key { 0 } else { logged.places };
            if row.places > known || key {
                self.shape(staged, t, known, row.places, key);
            }
            if key {
                self.key_row(staged, t);
                logged.rows = 0;
            } else {
                self.row(staged, number, at);
                logged.rows += 1;
            }
            logged = Logged {
                segment: self.book.segment,
                shape,
                places: row.places,
                rows: logged.rows,
            };
            at = row.at;
        }
        logged
    }

    fn timeline(&mut self, timeline: u32, key: Option<&str>) {
        self.out.push(TIMELINE);
        put(self.out, u64::from(timeline));
        match key {
            Some(key) => {
                put(self.out, key.len() as u64 + 1);
                self.out.extend_from_slice(key.as_bytes());
            }
            None => put(self.out, 0),
        }
    }

    fn column(&mut self, column: u32) {
        let Some(c) = self.state.column(column) else { return };
        self.out.push(COLUMN_BESIDE);
        put(self.out, u64::from(column));
        put(self.out, if c.home == NONE { 0 } else { u64::from(c.home) + 1 });
        let pairs: Vec<u32> = self.index.pairs_of(c.series).collect();
        put(self.out, pairs.len() as u64);
        for (place, pair) in pairs.iter().enumerate() {
            self.pair_beside(*pair, self.told.get(place).copied());
        }
        self.told = pairs;
    }

    /// Series are told of in families: most pairs are those of the series before.
    fn pair_beside(&mut self, pair: u32, told: Option<u32>) {
        let (name, value) = self.index.pair_texts(pair);
        if told == Some(pair) && name.len() + value.len() <= MAX_REPEATED_BYTES {
            return put(self.out, SAME_PAIR);
        }
        if name.len() <= MAX_REPEATED_BYTES && told.is_some_and(|told| self.index.pair_texts(told).0 == name) {
            put(self.out, SAME_NAME);
        } else {
            put(self.out, (name.len() + OTHER_NAME) as u64);
            self.out.extend_from_slice(name.as_bytes());
        }
        put_text(self.out, value);
    }

    fn pairs(&mut self, labels: &Labels) {
        put(self.out, labels.len() as u64);
        for (name, value) in labels.iter() {
            put_text(self.out, name);
            put_text(self.out, value);
        }
    }

    /// Writes a column if the segment does not know it. A home is a timeline too, and must be known before the column
    /// that names it: it is written as well, unless it is the one whose rows are on their way.
    fn define(&mut self, column: u32, key: bool, on: u32) {
        if !self.book.define(column, key) {
            return;
        }
        let home = self.state.column(column).map_or(NONE, |c| c.home);
        if home != NONE && home != on {
            let key = self.state.timeline(home).and_then(|t| t.key.as_deref());
            self.timeline(home, key);
        }
        self.column(column);
    }

    /// Late samples, by column and in order of time.
    fn late(&mut self, samples: &[LateAppend]) {
        for samples in samples.chunk_by(|a, b| a.column == b.column) {
            self.late_of_column(samples);
        }
    }

    fn late_of_column(&mut self, samples: &[LateAppend]) {
        let Some(column) = samples.first().map(|l| l.column) else {
            return;
        };
        self.define(column, true, NONE);
        self.out.push(LATE);
        put(self.out, u64::from(column) + 1);
        put(self.out, samples.len() as u64);
        let (mut at, mut value, mut exponent) = (0i64, 0.0, 0);
        for late in samples {
            put_signed(self.out, late.at.wrapping_sub(at));
            delta::put(self.out, value, late.value, &mut exponent);
            (at, value) = (late.at, late.value);
        }
    }

    fn shape(&mut self, staged: &Staged, t: Option<&Timeline>, known: u32, places: u32, key: bool) {
        let old = t.map_or(&[][..], |t| t.refs.as_slice());
        let columns = || {
            old.iter()
                .chain(&staged.added)
                .take(places as usize)
                .skip(known as usize)
                .map(|bits| *bits as u32)
        };
        for column in columns() {
            self.define(column, key, staged.timeline);
        }
        self.out.push(SHAPE);
        put(self.out, u64::from(staged.timeline));
        put(self.out, u64::from(known));
        put(self.out, u64::from(places - known));
        let mut before = 0i64;
        for column in columns() {
            put_signed(self.out, i64::from(column) - before);
            before = i64::from(column);
        }
    }

    fn row_head(&mut self, timeline: u32, step: i64, flags: u8) {
        self.out.push(ROW);
        put(self.out, u64::from(timeline));
        put_signed(self.out, step);
        self.out.push(flags);
    }

    fn steps(&mut self, numbers: &[u32]) {
        put(self.out, numbers.len() as u64);
        let mut before = 0;
        for number in numbers {
            put(self.out, u64::from(number.wrapping_sub(before)));
            before = *number;
        }
    }

    fn key_row(&mut self, staged: &Staged, t: Option<&Timeline>) {
        let Some(row) = staged.rows.first() else { return };
        let first = staged.base_rows;
        let mut ended: Vec<u32> = t
            .map(|t| {
                (0u32..)
                    .zip(&t.places)
                    .filter(|(_, p)| p.end != NONE)
                    .map(|(i, _)| i)
                    .collect()
            })
            .unwrap_or_default();
        ended.extend(
            staged
                .ends
                .iter()
                .filter(|(_, row)| **row <= first)
                .map(|(place, _)| *place),
        );
        ended.sort_unstable();
        ended.dedup();
        let flags = KEY | if row.presence.is_some() { RANGES } else { 0 } | if ended.is_empty() { 0 } else { ENDED };
        self.row_head(staged.timeline, row.at, flags);
        if let Some(ranges) = &row.presence {
            self.steps(ranges);
        }
        if !ended.is_empty() {
            self.steps(&ended);
        }
        let mut changes = staged.changes(0).iter().peekable();
        let last = t.map_or(&[][..], |t| t.last.as_slice());
        for place in 0..row.places {
            let value = match changes.next_if(|c| c.place == place) {
                Some(change) => change.value,
                None => last.get(place as usize).copied().unwrap_or(0.0),
            };
            let mut exponent = t.and_then(|t| t.places.get(place as usize)).map_or(0, |p| p.exponent);
            delta::put(self.out, 0.0, value, &mut exponent);
        }
    }

    fn row(&mut self, staged: &Staged, number: usize, before: i64) {
        let Some(row) = staged.rows.get(number) else { return };
        let changes = staged.changes(number);
        let bitmap_bytes = row.places.div_ceil(8) as usize;
        let bitmap = changes.len() > bitmap_bytes;
        let flags = if row.presence.is_some() { RANGES } else { 0 }
            | if row.ended.is_empty() { 0 } else { ENDED }
            | if bitmap { BITMAP } else { 0 };
        self.row_head(staged.timeline, row.at.wrapping_sub(before), flags);
        if let Some(ranges) = &row.presence {
            self.steps(ranges);
        }
        if !row.ended.is_empty() {
            self.steps(&row.ended);
        }
        if bitmap {
            let start = self.out.len();
            self.out.resize(start + bitmap_bytes, 0);
            for change in changes {
                if let Some(byte) = self.out.get_mut(start + change.place as usize / 8) {
                    *byte |= 1 << (change.place % 8);
                }
            }
        } else {
            put(self.out, changes.len() as u64);
            let mut before = 0;
            for change in changes {
                put(self.out, u64::from(change.place - before));
                before = change.place;
            }
        }
        for change in changes {
            self.out.extend_from_slice(staged.code(change));
        }
    }

    /// Appends histograms; gives where the log then stands with their series.
    pub(crate) fn histograms(&mut self, staged: &[StagedHistogram]) -> Vec<(u32, HistogramsLogged)> {
        let state = self.state;
        let mut logged: HashMap<u32, (HistogramsLogged, i64, &Histogram)> = HashMap::new();
        let mut body = Vec::new();
        for sample in staged {
            let before = match logged.get(&sample.series) {
                Some((logged, at, histogram)) => Some((*logged, *at, *histogram)),
                None => {
                    let last = state.histograms.last(sample.series);
                    last.map(|(at, histogram)| (state.histograms.logged(sample.series), at, &**histogram))
                }
            };
            let segment = self.book.segment;
            let before = before.filter(|(logged, ..)| {
                (logged.segment, logged.column) == (segment, sample.column) && logged.since_key < KEY_ROWS
            });
            body.clear();
            let built_on = histogram_code::put(&mut body, before.map(|b| b.2), &sample.histogram);
            let (base, since_key) = match before.filter(|_| built_on.is_some()) {
                Some((logged, at, _)) => (at, logged.since_key + 1),
                None => (0, 0),
            };
            put_signed(&mut body, sample.at.wrapping_sub(base));
            self.define(sample.column, since_key == 0, NONE);
            let out = &mut *self.out;
            out.push(HISTOGRAM);
            put(out, u64::from(sample.column));
            put(out, body.len() as u64);
            out.extend_from_slice(&body);
            let now = HistogramsLogged {
                segment,
                column: sample.column,
                since_key,
            };
            logged.insert(sample.series, (now, sample.at, &sample.histogram));
        }
        logged
            .into_iter()
            .map(|(series, (logged, ..))| (series, logged))
            .collect()
    }

    /// Appends exemplars.
    pub(crate) fn exemplars(&mut self, stored: &[Arc<Stored>]) {
        for one in stored {
            self.define(one.column, false, NONE);
            self.out.push(EXEMPLAR);
            put(self.out, u64::from(one.column));
            put_signed(self.out, one.at);
            self.out.push(if one.exemplar.at.is_some() { OWN_TIME } else { 0 });
            self.out.extend_from_slice(&one.exemplar.value.to_bits().to_le_bytes());
            self.pairs(&one.exemplar.labels);
        }
    }
}

/// Appends the record of a deletion.
pub(crate) fn encode_deletion(matchers: &[Matcher], range: TimeRange, out: &mut Vec<u8>) {
    out.push(DELETION);
    put_signed(out, range.start.millis());
    put_signed(out, range.end.millis());
    put(out, matchers.len() as u64);
    for matcher in matchers {
        let operator = (0u8..).zip(OPERATORS).find(|(_, op)| *op == matcher.op());
        out.push(operator.map_or(0, |(code, _)| code));
        put_text(out, matcher.name());
        put_text(out, matcher.value());
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// One entry, read back. Values of rows are read by whoever knows the values before.
#[derive(Debug)]
pub(crate) enum Read<'a> {
    Timeline {
        timeline: u32,
        key: Option<&'a str>,
    },
    Column {
        column: u32,
        home: Option<u32>,
        pairs: Vec<(&'a str, &'a str)>,
    },
    Shape {
        timeline: u32,
        kept: u32,
        added: Vec<u32>,
    },
    Row {
        timeline: u32,
        step: i64,
        flags: u8,
    },
    Deletion {
        matchers: Vec<Matcher>,
        range: TimeRange,
    },
    Late {
        column: u32,
        samples: Vec<LateSample>,
    },
    LateDone(Range<i64>),
    Histogram {
        column: u32,
        body: &'a [u8],
    },
    Exemplar {
        column: u32,
        at: i64,
        own_time: bool,
        value: f64,
        pairs: Vec<(&'a str, &'a str)>,
    },
}

fn number(cursor: &mut Cursor<'_>) -> Result<u32, Malformed> {
    let at = cursor.clone();
    u32::try_from(cursor.varint()?).map_err(|_| at.malformed("a number is too large"))
}

fn count(cursor: &mut Cursor<'_>) -> Result<usize, Malformed> {
    let left = cursor.remaining();
    cursor.bounded(left, "a count is larger than what is left")
}

fn text<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Malformed> {
    let n = count(cursor)?;
    text_of(n, cursor)
}

/// A text whose length is known.
fn text_of<'a>(bytes: usize, cursor: &mut Cursor<'a>) -> Result<&'a str, Malformed> {
    std::str::from_utf8(cursor.take(bytes)?).map_err(|_| cursor.malformed("text is not UTF-8"))
}

fn matcher(cursor: &mut Cursor<'_>) -> Result<Matcher, Malformed> {
    let at = cursor.clone();
    let operator = OPERATORS.get(usize::from(cursor.u8()?)).copied();
    let (name, value) = (text(cursor)?, text(cursor)?);
    let made = operator.and_then(|op| Matcher::new(op, name, value).ok());
    made.ok_or_else(|| at.malformed("not a matcher"))
}

/// Numbers given by their steps. A step may be negative (wrapped).
pub(crate) fn read_steps(cursor: &mut Cursor<'_>) -> Result<Vec<u32>, Malformed> {
    let n = count(cursor)?;
    let mut before = 0u32;
    (0..n)
        .map(|_| {
            before = before.wrapping_add(number(cursor)?);
            Ok(before)
        })
        .collect()
}

/// The pairs of the column that a record told of last.
pub(crate) type Told<'a> = Vec<(&'a str, &'a str)>;

/// Reads the next entry of a record; of a row only its head.
pub(crate) fn read<'a>(cursor: &mut Cursor<'a>, told: &mut Told<'a>) -> Result<Read<'a>, Malformed> {
    match cursor.u8()? {
        TIMELINE => {
            let timeline = number(cursor)?;
            let left = cursor.remaining();
            let n = cursor.bounded(left, "a key is longer than what is left")?;
            let key = match n.checked_sub(1) {
                Some(n) => {
                    Some(std::str::from_utf8(cursor.take(n)?).map_err(|_| cursor.malformed("a key is not UTF-8"))?)
                }
                None => None,
            };
            Ok(Read::Timeline { timeline, key })
        }
        COLUMN => {
            let column = number(cursor)?;
            let home = number(cursor)?.checked_sub(1);
            let pairs = read_pairs(cursor)?;
            Ok(Read::Column { column, home, pairs })
        }
        COLUMN_BESIDE => {
            let column = number(cursor)?;
            let home = number(cursor)?.checked_sub(1);
            let pairs = read_pairs_beside(cursor, told)?;
            told.clone_from(&pairs);
            Ok(Read::Column { column, home, pairs })
        }
        SHAPE => {
            let (timeline, kept, n) = (number(cursor)?, number(cursor)?, count(cursor)?);
            let mut before = 0i64;
            let added = (0..n)
                .map(|_| {
                    before = before.wrapping_add(cursor.signed()?);
                    u32::try_from(before).map_err(|_| cursor.malformed("a column's number is out of range"))
                })
                .collect::<Result<_, Malformed>>()?;
            Ok(Read::Shape { timeline, kept, added })
        }
        ROW => Ok(Read::Row {
            timeline: number(cursor)?,
            step: cursor.signed()?,
            flags: cursor.u8()?,
        }),
        DELETION => {
            let start = Timestamp::from_millis(cursor.signed()?);
            let range = TimeRange::new(start, Timestamp::from_millis(cursor.signed()?));
            let n = count(cursor)?;
            let matchers = (0..n).map(|_| matcher(cursor)).collect::<Result<_, _>>()?;
            Ok(Read::Deletion { matchers, range })
        }
        LATE => match number(cursor)?.checked_sub(1) {
            Some(column) => Ok(Read::Late {
                column,
                samples: read_late(cursor)?,
            }),
            None => Ok(Read::LateDone(cursor.signed()?..cursor.signed()?)),
        },
        HISTOGRAM => {
            let (column, length) = (number(cursor)?, count(cursor)?);
            let body = cursor.take(length)?;
            Ok(Read::Histogram { column, body })
        }
        EXEMPLAR => {
            let (column, at, flags) = (number(cursor)?, cursor.signed()?, cursor.u8()?);
            Ok(Read::Exemplar {
                column,
                at,
                own_time: flags & OWN_TIME != 0,
                value: f64::from_bits(cursor.u64()?),
                pairs: read_pairs(cursor)?,
            })
        }
        _ => Err(cursor.malformed("an entry of no known kind")),
    }
}

fn read_late(cursor: &mut Cursor<'_>) -> Result<Vec<LateSample>, Malformed> {
    let n = count(cursor)?;
    let (mut at, mut value) = (0i64, 0.0);
    (0..n)
        .map(|_| {
            at = at.wrapping_add(cursor.signed()?);
            value = delta::get(cursor, value)?;
            Ok((at, value))
        })
        .collect()
}

fn read_pairs<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<(&'a str, &'a str)>, Malformed> {
    let n = count(cursor)?;
    (0..n).map(|_| Ok((text(cursor)?, text(cursor)?))).collect()
}

fn read_pairs_beside<'a>(cursor: &mut Cursor<'a>, told: &Told<'a>) -> Result<Told<'a>, Malformed> {
    let n = count(cursor)?;
    (0..n)
        .map(|place| {
            let left = cursor.remaining();
            let code = cursor.bounded(left + OTHER_NAME, "a name is longer than what is left")?;
            let told = told.get(place).copied();
            let name = match (code as u64, told, code.checked_sub(OTHER_NAME)) {
                (SAME_PAIR, Some(pair), _) if pair.0.len() + pair.1.len() <= MAX_REPEATED_BYTES => return Ok(pair),
                (SAME_NAME, Some((name, _)), _) if name.len() <= MAX_REPEATED_BYTES => name,
                (.., Some(length)) => text_of(length, cursor)?,
                _ => return Err(cursor.malformed("a pair is that of no column")),
            };
            Ok((name, text(cursor)?))
        })
        .collect()
}

/// Reads a histogram and its time after those before; `None` if it builds on what is not known.
pub(crate) fn read_histogram(
    body: &[u8],
    before: Option<(i64, &Histogram)>,
) -> Result<Option<(i64, Histogram)>, Malformed> {
    let alone = histogram_code::stands_alone(body);
    if !alone && before.is_none() {
        return Ok(None);
    }
    let mut cursor = Cursor::new(body);
    let histogram = histogram_code::get(&mut cursor, before.map(|b| b.1))?;
    let base = before.filter(|_| !alone).map_or(0, |b| b.0);
    let at = base.wrapping_add(cursor.signed()?);
    if cursor.is_empty() {
        Ok(Some((at, histogram)))
    } else {
        Err(cursor.malformed("bytes are left behind a histogram"))
    }
}

/// The places that changed in a row.
pub(crate) fn read_changed(cursor: &mut Cursor<'_>, flags: u8, places: u32) -> Result<Vec<u32>, Malformed> {
    if flags & BITMAP == 0 {
        return read_steps(cursor);
    }
    let bytes = cursor.take(places.div_ceil(8) as usize)?;
    Ok((0..places)
        .filter(|p| bytes.get(*p as usize / 8).is_some_and(|b| b >> (p % 8) & 1 == 1))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(record: &[u8]) -> Result<Vec<Vec<(String, String)>>, Malformed> {
        let (mut cursor, mut told, mut columns) = (Cursor::new(record), Told::new(), Vec::new());
        while !cursor.is_empty() {
            if let Read::Column { pairs, .. } = read(&mut cursor, &mut told)? {
                let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                columns.push(pairs.into_iter().map(owned).collect());
            }
        }
        Ok(columns)
    }

    /// The record that defines a series for each of these label sets.
    fn defined(sets: &[Vec<(String, String)>]) -> Vec<u8> {
        let (mut state, mut index, mut book, mut out) =
            (State::default(), Index::default(), Book::default(), Vec::new());
        let columns: Vec<u32> = sets
            .iter()
            .filter_map(|pairs| {
                let labels = Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))).ok()?;
                let series = index.add(&labels)?;
                Some(state.add_column(series, NONE))
            })
            .collect();
        let mut entries = Entries::new(&state, &index, &mut book, &mut out);
        columns.iter().for_each(|column| entries.define(*column, false, NONE));
        out
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn columns_are_told_beside_the_one_before() {
        let long = "v".repeat(MAX_REPEATED_BYTES);
        let sets = [
            pairs(&[("a", "1"), ("b", "2"), ("c", &long)]),
            pairs(&[("a", "1"), ("b", "3"), ("c", &long)]),
            pairs(&[("b", "3")]),
            pairs(&[("a", "1"), ("b", "3"), ("c", ""), ("d", "ü")]),
        ];
        let record = defined(&sets);
        assert_eq!(columns(&record).unwrap()[..2], sets[..2]);
        assert_eq!(columns(&record).unwrap()[2], sets[2]);
        // Of the second column: the same pair, the same name with a value of a byte, the same name with the long one.
        let second = [&[9, 1, 0, 3, 0, 1, 1, b'3', 1, 128, 1][..], long.as_bytes()].concat();
        let at = record.windows(second.len()).position(|bytes| bytes == second);
        assert!(at.is_some(), "{record:?}");
    }

    #[test]
    fn what_refers_to_no_column_is_malformed() {
        let long = "n".repeat(MAX_REPEATED_BYTES + 1);
        let name = [&[9, 0, 0, 1, 131, 1][..], long.as_bytes(), &[0]].concat();
        for (record, good) in [
            (vec![9, 0, 0, 1, 3, b'a', 1, b'b', 9, 1, 0, 1, 0], true),
            (vec![9, 0, 0, 1, 0], false),
            (vec![9, 0, 0, 1, 1, 1, b'b'], false),
            (vec![9, 0, 0, 1, 3, b'a', 1, b'b', 9, 1, 0, 2, 0, 0], false),
            (vec![9, 0, 0, 1, 3, 0xff, 1, b'b'], false),
            (vec![9, 0, 0, 1, 200, b'a'], false),
            (name.clone(), true),
            ([&name[..], &[9, 1, 0, 1, 0]].concat(), false),
            ([&name[..], &[9, 1, 0, 1, 1, 0]].concat(), false),
        ] {
            assert_eq!(columns(&record).is_ok(), good, "{record:?}");
        }
    }
}
