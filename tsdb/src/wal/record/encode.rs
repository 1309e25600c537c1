//! Entries, written. Their form is drawn in [`super`].

use super::{
    BITMAP, COLUMN_BESIDE, DELETION, ENDED, EXEMPLAR, HISTOGRAM, KEY, KEY_ROWS, LATE, MAX_REPEATED_BYTES, OPERATORS,
    OTHER_NAME, OWN_TIME, RANGES, ROW, SAME_NAME, SAME_PAIR, SHAPE, TIMELINE,
};
use crate::codec::varint::{put, put_signed};
use crate::head::State;
use crate::head::delta;
use crate::head::exemplar::Stored;
use crate::head::histogram::{Logged as HistogramsLogged, StagedHistogram};
use crate::head::histogram_code;
use crate::head::series::Index;
use crate::head::stage::{LateAppend, Plan};
use crate::head::staged::Staged;
use crate::timeline::{Logged, NONE, Timeline};
use crate::wal::writer::Book;
use hashbrown::HashMap;
use std::ops::Range;
use std::sync::Arc;
use tidegauge_model::{Histogram, Labels, Matcher, TimeRange};

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
    pub(super) fn define(&mut self, column: u32, key: bool, on: u32) {
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
