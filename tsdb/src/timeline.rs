//! A timeline in the head: open rows of samples that share their timestamps.
//!
//! ```text
//!            place 0      place 1      place 2          (a column's place in the shape)
//!   times    last 17      last 3.5     last 0           newest value of each: what the next row is compared with
//!   t0   |   (1)          (3.5)        .                .  not there yet: the column starts at row 2
//!   t1   |   +7            =           .                =  not changed: nothing is stored
//!   t2   |   =             =           (0)
//!   t3   |   +9            =           =    presence [0,1) [2,3): place 1 has no value in this row
//! ```
//!
//! Only changes are stored: a chain of small cells for each place, of (rows passed, code) pairs, see
//! [`crate::head::delta`]. The first code of a chain is the column's first value after zero; a column without a chain
//! has had its `last` value all along. A row holds all places that have not ended, or the ranges in `presence`.
//!
//! Times of rows do not fall. Two rows may share one if no column has a value in both (a sender that splits a target
//! over requests): readers and sealing fold them.

use crate::codec::{Cursor, Malformed, varint};
use crate::head::delta;
use crate::head::run::Run;
use crate::head::symbols::reserve;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Stands for "none" wherever a number of a thing is kept.
pub(crate) const NONE: u32 = u32::MAX;
/// Payload of a cell; with the link it fills half a cache line.
const CELL_BYTES: usize = 28;

/// Which places a row holds: `None` for all that have not ended, else pairs of (first, end).
pub(crate) type Presence = Option<Box<[u32]>>;

/// Where the log stands with a timeline.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Logged {
    /// The segment that knows it; 0: none.
    pub(crate) segment: u64,
    /// The shape that segment knows.
    pub(crate) shape: u32,
    /// How many of its places.
    pub(crate) places: u32,
    /// Rows since the last key row.
    pub(crate) rows: u32,
}

#[derive(Debug, Clone)]
struct Cell {
    bytes: [u8; CELL_BYTES],
    next: u32,
}

/// What changes whenever anything about the places and values of a timeline does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stand {
    shape: u32,
    places: u32,
    /// Rows ever.
    rows: u64,
}

/// What is known of a place beside its newest value.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    head: u32,
    tail: u32,
    /// First row with a value.
    pub(crate) start: u32,
    /// First row after which none comes; `NONE` while it lives.
    pub(crate) end: u32,
    /// Row of the last change.
    changed: u32,
    /// Bytes used in the tail cell.
    used: u8,
    /// The decimal exponent that last fitted.
    pub(crate) exponent: u8,
}

/// Open rows and sealed runs of one timeline.
#[derive(Debug)]
pub(crate) struct Timeline {
    /// Given by the caller; `None` for one that the store made by itself.
    pub(crate) key: Option<Box<str>>,
    /// Rows that were sealed, ever.
    pub(crate) sealed: u64,
    pub(crate) times: Vec<i64>,
    pub(crate) presence: Vec<Presence>,
    /// Distinct times among the open rows.
    pub(crate) groups: u32,
    /// Time of the newest row ever; `i64::MIN` before the first.
    pub(crate) newest: i64,
    /// The `SeriesRef` of each place.
    pub(crate) refs: Vec<u64>,
    pub(crate) last: Vec<f64>,
    pub(crate) places: Vec<Place>,
    cells: Vec<Cell>,
    /// How many places have ended.
    pub(crate) ended: u32,
    /// Changes whenever places are numbered anew.
    pub(crate) shape: u32,
    /// (series, place) of places that ended while their column moved on.
    pub(crate) left: Vec<(u32, u32)>,
    pub(crate) runs: Vec<Arc<Run>>,
    /// Some column here may not own its series.
    pub(crate) foreign: bool,
    pub(crate) logged: Logged,
    /// It will be let go unless someone takes it before the next round.
    pub(crate) doomed: AtomicBool,
    /// Places that ended since the last row that the log has.
    pub(crate) unlogged: Vec<u32>,
    /// How many columns were resolved on it and not let go.
    pub(crate) homed: u32,
}

/// A copy of a column's open part, enough to decode it without a lock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenColumn {
    pub(crate) place: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// The value if nothing ever changed.
    pub(crate) last: f64,
    /// Where its chain was copied to, and how long it is.
    pub(crate) chain: (u32, u32),
}

impl Timeline {
    pub(crate) fn new(key: Option<&str>) -> Self {
        Self {
            key: key.map(Box::from),
            sealed: 0,
            times: Vec::new(),
            presence: Vec::new(),
            groups: 0,
            newest: i64::MIN,
            refs: Vec::new(),
            last: Vec::new(),
            places: Vec::new(),
            cells: Vec::new(),
            ended: 0,
            shape: 0,
            left: Vec::new(),
            runs: Vec::new(),
            foreign: false,
            logged: Logged::default(),
            doomed: AtomicBool::new(false),
            unlogged: Vec::new(),
            homed: 0,
        }
    }

    /// About as many bytes as [`Timeline::save`] takes.
    pub(crate) fn saved_bytes(&self) -> usize {
        64 + self.times.len() * 4 + self.places.len() * 16 + self.cells.len() * CELL_BYTES
    }

    /// Appends all of it but its runs, for a checkpoint.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        let Self {
            key,
            sealed,
            times,
            presence,
            // Counted anew.
            groups: _,
            newest,
            refs,
            last,
            places,
            cells: _,
            ended: _,
            shape: _,
            left,
            // They have a section of their own.
            runs: _,
            foreign,
            // A new process begins a new segment, whose first row tells all of it.
            logged: _,
            unlogged: _,
            doomed: _,
            homed: _,
        } = self;
        let key = key.as_deref();
        varint::put(out, key.map_or(0, |k| k.len() as u64 + 1));
        out.extend_from_slice(key.unwrap_or_default().as_bytes());
        varint::put(out, *sealed);
        varint::put_signed(out, *newest);
        out.push(u8::from(*foreign));
        varint::put(out, times.len() as u64);
        let mut before = 0i64;
        for at in times {
            varint::put_signed(out, at.wrapping_sub(before));
            before = *at;
        }
        for presence in presence {
            put_presence(out, presence);
        }
        varint::put(out, left.len() as u64);
        for (series, place) in left {
            varint::put(out, u64::from(*series));
            varint::put(out, u64::from(*place));
        }
        varint::put(out, places.len() as u64);
        let mut before = 0i64;
        for bits in refs {
            let column = i64::from(*bits as u32);
            varint::put_signed(out, column - before);
            before = column;
        }
        for value in last {
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        for place in places {
            self.put_place(place, out);
        }
    }

    fn put_place(&self, place: &Place, out: &mut Vec<u8>) {
        let Place {
            head,
            tail,
            start,
            end,
            changed,
            used,
            exponent,
        } = place;
        let flags = u8::from(*start != 0)
            | u8::from(*end != NONE) << 1
            | u8::from(*exponent != 0) << 2
            | u8::from(*head != NONE) << 3;
        out.push(flags);
        if *start != 0 {
            varint::put(out, u64::from(*start));
        }
        if *end != NONE {
            varint::put(out, u64::from(*end));
        }
        if *exponent != 0 {
            out.push(*exponent);
        }
        if *head == NONE {
            return;
        }
        varint::put(out, u64::from(*changed));
        let mut len = 0;
        let mut at = *head;
        while let Some(cell) = self.cells.get(at as usize) {
            len += if at == *tail { usize::from(*used) } else { CELL_BYTES };
            at = cell.next;
        }
        varint::put(out, len as u64);
        let mut at = *head;
        while let Some(cell) = self.cells.get(at as usize) {
            let n = if at == *tail { usize::from(*used) } else { CELL_BYTES };
            out.extend_from_slice(cell.bytes.get(..n).unwrap_or_default());
            at = cell.next;
        }
    }

    /// What [`Timeline::save`] wrote.
    pub(crate) fn load(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let count = |cursor: &mut Cursor<'_>| {
            let left = cursor.remaining();
            cursor.bounded(left, "a count is larger than what is left")
        };
        let key = match count(cursor)?.checked_sub(1) {
            Some(n) => {
                let text = std::str::from_utf8(cursor.take(n)?);
                Some(text.map_err(|_| cursor.malformed("a key is not UTF-8"))?)
            }
            None => None,
        };
        let mut t = Self::new(key);
        t.sealed = cursor.varint()?;
        let newest = cursor.signed()?;
        t.foreign = cursor.u8()? != 0;
        let rows = count(cursor)?;
        let mut at = 0i64;
        let times = (0..rows)
            .map(|_| {
                at = at.wrapping_add(cursor.signed()?);
                Ok(at)
            })
            .collect::<Result<Vec<_>, Malformed>>()?;
        if !times.is_sorted() || times.last().is_some_and(|last| *last > newest) || t.sealed > u64::MAX / 2 {
            return Err(cursor.malformed("times of rows fall"));
        }
        for at in times {
            t.push_row(at, read_presence(cursor)?);
        }
        t.newest = newest;
        for _ in 0..count(cursor)? {
            t.left.push((small(cursor)?, small(cursor)?));
        }
        let places = count(cursor)?;
        let mut column = 0i64;
        t.refs.reserve_exact(places);
        for _ in 0..places {
            column = column.wrapping_add(cursor.signed()?);
            let number = u32::try_from(column).map_err(|_| cursor.malformed("a column's number is out of range"))?;
            t.refs.push(u64::from(number));
        }
        let bytes = places.checked_mul(8).ok_or(cursor.malformed("too many places"))?;
        let last = cursor.take(bytes)?.as_chunks::<8>().0;
        t.last = last.iter().map(|b| f64::from_bits(u64::from_le_bytes(*b))).collect();
        t.places.reserve_exact(places);
        for _ in 0..places {
            t.load_place(cursor)?;
        }
        Ok(t)
    }

    fn load_place(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Malformed> {
        let flags = cursor.u8()?;
        let start = if flags & 1 != 0 { small(cursor)? } else { 0 };
        let end = if flags & 2 != 0 { small(cursor)? } else { NONE };
        let mut place = Place {
            head: NONE,
            tail: NONE,
            start,
            end,
            changed: start,
            used: 0,
            exponent: if flags & 4 != 0 { cursor.u8()? } else { 0 },
        };
        if flags & 8 != 0 {
            place.changed = small(cursor)?;
            let left = cursor.remaining();
            let n = cursor.bounded(left, "a chain is longer than what is left")?;
            extend(&mut self.cells, &mut place, cursor.take(n)?);
        }
        // Rows that come are counted on from these.
        if start > place.changed || place.changed > self.rows() || (end != NONE && end > self.rows()) {
            return Err(cursor.malformed("a place tells of rows that are not there"));
        }
        self.ended += u32::from(end != NONE);
        self.places.push(place);
        Ok(())
    }

    pub(crate) fn rows(&self) -> u32 {
        self.times.len() as u32
    }

    /// Where it stands, if no place has ended and no column may have lost its series.
    pub(crate) fn stand(&self) -> Option<Stand> {
        (self.ended == 0 && !self.foreign).then(|| Stand {
            shape: self.shape,
            places: self.places.len() as u32,
            rows: self.sealed + u64::from(self.rows()),
        })
    }

    /// Places that have not ended.
    pub(crate) fn live(&self) -> u32 {
        self.places.len() as u32 - self.ended
    }

    pub(crate) fn push_row(&mut self, at: i64, presence: Presence) {
        debug_assert!(at >= self.newest, "times of rows do not fall");
        if at != self.newest || self.times.is_empty() {
            self.groups += 1;
        }
        self.newest = at;
        self.times.push(at);
        self.presence.push(presence);
    }

    /// Gives a column a place from the newest row on.
    pub(crate) fn add_place(&mut self, series: u64, row: u32, value: f64) {
        reserve(&mut self.refs, 1);
        self.refs.push(series);
        reserve(&mut self.last, 1);
        self.last.push(value);
        reserve(&mut self.places, 1);
        self.places.push(Place {
            head: NONE,
            tail: NONE,
            start: row,
            end: NONE,
            changed: row,
            used: 0,
            exponent: 0,
        });
    }

    pub(crate) fn end_place(&mut self, place: u32, row: u32) {
        if let Some(p) = self.places.get_mut(place as usize)
            && p.end == NONE
        {
            p.end = row;
            self.ended += 1;
        }
    }

    /// Stores that a place has a new value from this row on, by its code after the one before.
    pub(crate) fn change(&mut self, place: u32, row: u32, code: &[u8], value: f64) {
        let at = place as usize;
        let (Some(p), Some(last)) = (self.places.get_mut(at), self.last.get_mut(at)) else {
            return;
        };
        if row == p.start {
            // It went on from sealed rows: this is its first value among the open ones.
            *last = value;
            return;
        }
        let cells = &mut self.cells;
        if p.head == NONE {
            let mut first = Vec::with_capacity(12);
            let mut exponent = p.exponent;
            delta::put(&mut first, 0.0, *last, &mut exponent);
            extend(cells, p, &first);
        }
        let passed = row - p.changed;
        if passed > 1 {
            let (gap, len) = varint::bytes(u64::from(passed - 1) << 2 | delta::GAP);
            extend(cells, p, gap.get(..len).unwrap_or_default());
        }
        extend(cells, p, code);
        p.changed = row;
        *last = value;
    }

    /// Whether a place has a value in a row.
    pub(crate) fn present(&self, place: u32, row: u32) -> bool {
        let Some(p) = self.places.get(place as usize) else {
            return false;
        };
        p.start <= row
            && row < p.end
            && self
                .presence
                .get(row as usize)
                .is_some_and(|presence| holds(presence, place))
    }

    /// The newest open row in which a place has a value.
    pub(crate) fn last_row(&self, place: u32) -> Option<u32> {
        (0..self.rows()).rev().find(|row| self.present(place, *row))
    }

    /// Copies what is needed to read a place; its chain goes to the end of `chains`.
    pub(crate) fn copy_column(&self, place: u32, chains: &mut Vec<u8>) -> Option<OpenColumn> {
        let p = self.places.get(place as usize)?;
        let start = chains.len() as u32;
        let mut cell = p.head;
        while let Some(c) = self.cells.get(cell as usize) {
            let used = if cell == p.tail {
                usize::from(p.used)
            } else {
                CELL_BYTES
            };
            chains.extend_from_slice(c.bytes.get(..used).unwrap_or_default());
            cell = c.next;
        }
        Some(OpenColumn {
            place,
            start: p.start,
            end: p.end,
            last: self.last.get(place as usize).copied()?,
            chain: (start, chains.len() as u32 - start),
        })
    }

    /// Empties the open rows; `keep` says which places go on, numbered anew.
    pub(crate) fn restart(&mut self, keep: &[bool]) {
        let kept = |list: &mut Vec<u64>| {
            let mut flags = keep.iter();
            list.retain(|_| flags.next().copied().unwrap_or(false));
        };
        let changed = keep.iter().any(|k| !k);
        kept(&mut self.refs);
        let mut flags = keep.iter();
        self.last.retain(|_| flags.next().copied().unwrap_or(false));
        let mut flags = keep.iter();
        self.places.retain(|_| flags.next().copied().unwrap_or(false));
        for p in &mut self.places {
            *p = Place {
                head: NONE,
                tail: NONE,
                start: 0,
                end: NONE,
                changed: 0,
                used: 0,
                exponent: p.exponent,
            };
        }
        if changed {
            self.refs.shrink_to_fit();
            self.last.shrink_to_fit();
            self.places.shrink_to_fit();
            self.shape = self.shape.wrapping_add(1);
        }
        self.sealed += u64::from(self.rows());
        self.times.clear();
        self.presence.clear();
        self.groups = 0;
        self.cells.clear();
        self.cells.shrink_to(self.places.len() / 4);
        self.ended = 0;
        self.left.clear();
        if changed {
            self.unlogged.clear();
        }
    }

    /// Bytes of open rows, and of runs on the heap.
    pub(crate) fn sealable_bytes(&self) -> usize {
        let runs = self.runs.iter().filter_map(|r| r.heap());
        self.cells.len() * size_of::<Cell>() + self.times.len() * 24 + runs.map(<[u8]>::len).sum::<usize>()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.times.capacity() * 8
            + self.presence.capacity() * 16
            + self.refs.capacity() * 8
            + self.last.capacity() * 8
            + self.places.capacity() * size_of::<Place>()
            + self.cells.capacity() * size_of::<Cell>()
            + self.left.capacity() * 8
            + self.runs.capacity() * 8
            + self.runs.iter().map(|r| r.heap_bytes()).sum::<usize>()
            + size_of::<Self>()
    }
}

fn small(cursor: &mut Cursor<'_>) -> Result<u32, Malformed> {
    let at = cursor.clone();
    u32::try_from(cursor.varint()?).map_err(|_| at.malformed("a number is too large"))
}

fn put_presence(out: &mut Vec<u8>, presence: &Presence) {
    let Some(edges) = presence else {
        out.push(0);
        return;
    };
    varint::put(out, edges.len() as u64 + 1);
    for edge in edges {
        varint::put(out, u64::from(*edge));
    }
}

fn read_presence(cursor: &mut Cursor<'_>) -> Result<Presence, Malformed> {
    let left = cursor.remaining();
    match cursor.bounded(left, "more edges than what is left")?.checked_sub(1) {
        Some(n) => (0..n).map(|_| small(cursor)).collect::<Result<_, _>>().map(Some),
        None => Ok(None),
    }
}

fn extend(cells: &mut Vec<Cell>, p: &mut Place, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        if p.tail == NONE || usize::from(p.used) == CELL_BYTES {
            let new = cells.len() as u32;
            reserve(cells, 1);
            cells.push(Cell {
                bytes: [0; CELL_BYTES],
                next: NONE,
            });
            match cells.get_mut(p.tail as usize) {
                Some(tail) if p.tail != NONE => tail.next = new,
                _ => p.head = new,
            }
            p.tail = new;
            p.used = 0;
        }
        let Some(cell) = cells.get_mut(p.tail as usize) else {
            return;
        };
        let used = usize::from(p.used);
        let n = bytes.len().min(CELL_BYTES - used);
        let (front, rest) = bytes.split_at(n);
        if let Some(room) = cell.bytes.get_mut(used..used + n) {
            room.copy_from_slice(front);
        }
        p.used += n as u8;
        bytes = rest;
    }
}

/// Whether a row with this presence holds a place (that started and has not ended).
pub(crate) fn holds(presence: &Presence, place: u32) -> bool {
    match presence {
        None => true,
        Some(ranges) => ranges.partition_point(|edge| *edge <= place) % 2 == 1,
    }
}

/// Calls `each` with (row, value) for the rows of an open column below `rows`, whether or not they hold it.
pub(crate) fn decode_open(
    column: &OpenColumn,
    chain: &[u8],
    rows: u32,
    mut each: impl FnMut(u32, f64),
) -> Result<(), Malformed> {
    decode_changes(column, chain, rows, |rows, value| rows.for_each(|row| each(row, value)))
}

/// As [`decode_open`], with rows of one value together.
pub(crate) fn decode_changes(
    column: &OpenColumn,
    chain: &[u8],
    rows: u32,
    mut each: impl FnMut(Range<u32>, f64),
) -> Result<(), Malformed> {
    let end = column.end.min(rows);
    let mut row = column.start;
    if chain.is_empty() {
        each(row..end, column.last);
        return Ok(());
    }
    let mut cursor = Cursor::new(chain);
    let mut values = delta::Values::default();
    let first = cursor.varint()?;
    values.next(&mut cursor, first)?;
    while !cursor.is_empty() {
        let (mut x, mut passed) = (cursor.varint()?, 1);
        if x & 3 == delta::GAP {
            passed = u32::try_from(x >> 2)
                .ok()
                .and_then(|n| n.checked_add(1))
                .ok_or(cursor.malformed("gap too long"))?;
            x = cursor.varint()?;
        }
        let value = values.value();
        values.next(&mut cursor, x)?;
        let until = row.saturating_add(passed);
        each(row..until.min(end), value);
        row = until;
        if row >= end {
            return Ok(());
        }
    }
    each(row..end, values.value());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn open_columns_read_back(
            rows in proptest::collection::vec(prop_oneof![Just(1.0f64), Just(2.0), -5.0..5.0f64, any::<f64>(), Just(0.25)], 1..200),
            start in 0usize..10,
        ) {
            let mut t = Timeline::new(None);
            for row in 0..start + rows.len() {
                t.push_row(row as i64, None);
                let Some(v) = row.checked_sub(start).and_then(|i| rows.get(i)) else { continue };
                if row == start {
                    t.add_place(7, row as u32, *v);
                } else if t.last[0].to_bits() != v.to_bits() {
                    let mut code = Vec::new();
                    let mut k = 0;
                    delta::put(&mut code, t.last[0], *v, &mut k);
                    t.change(0, row as u32, &code, *v);
                }
            }
            let mut chains = vec![1, 2, 3];
            let column = t.copy_column(0, &mut chains).unwrap();
            let chain = &chains[column.chain.0 as usize..];
            for upto in [rows.len(), rows.len() / 2] {
                let mut back = Vec::new();
                decode_open(&column, chain, (start + upto) as u32, |_, v| back.push(v.to_bits())).unwrap();
                prop_assert_eq!(back, rows[..upto].iter().map(|v| v.to_bits()).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn presence_is_by_ranges() {
        let ranges: Presence = Some(Box::new([0, 2, 5, 6]));
        let held: Vec<u32> = (0..8).filter(|p| holds(&ranges, *p)).collect();
        assert_eq!(held, [0, 1, 5]);
        assert!(holds(&None, 9));
    }
}
