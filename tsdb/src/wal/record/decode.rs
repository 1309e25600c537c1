//! Entries, read back. Their form is drawn in [`super`].

use super::{
    BITMAP, COLUMN, COLUMN_BESIDE, DELETION, EXEMPLAR, HISTOGRAM, LATE, MAX_REPEATED_BYTES, OPERATORS, OTHER_NAME,
    OWN_TIME, ROW, SAME_NAME, SAME_PAIR, SHAPE, TIMELINE,
};
use crate::codec::{Cursor, Malformed};
use crate::head::delta;
use crate::head::histogram_code;
use crate::head::late::LateSample;
use std::ops::Range;
use tidegauge_model::{Histogram, Matcher, TimeRange, Timestamp};

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
