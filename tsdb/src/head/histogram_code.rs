//! One native histogram against the one before it: what the head's open chains and the log's entries are made of.
//!
//! ```text
//!   [head u8: bits 0 and 1 the hint, bit 2: a layout follows] [layout] [code]{count, zero count, sum, buckets}
//! ```
//!
//! The layout and the order of the numbers are those of [`crate::column::histogram`], codes those of [`super::delta`].
//! With a layout, each number is told after 0, else after the same number of the histogram before.

use super::delta;
use crate::codec::{Cursor, Malformed};
use crate::column::histogram::{Layout, get_layout, hint_byte, hint_of, numbers, put_layout};
use tidegauge_model::Histogram;

const LAYOUT: u8 = 4;

/// Appends the code of `new` after `before`; without one, or after one of another layout, the code stands alone. Gives
/// what it builds on.
pub(crate) fn put<'h>(out: &mut Vec<u8>, before: Option<&'h Histogram>, new: &Histogram) -> Option<&'h Histogram> {
    let hint = hint_byte(new.reset_hint);
    let before = before.filter(|b| b.same_layout(new));
    match before {
        Some(before) => {
            out.push(hint);
            for (old, value) in numbers(before).zip(numbers(new)) {
                delta::put(out, old, value, &mut 0);
            }
        }
        None => {
            out.push(hint | LAYOUT);
            put_layout(out, new);
            for value in numbers(new) {
                delta::put(out, 0.0, value, &mut 0);
            }
        }
    }
    before
}

/// Whether a code stands alone.
pub(crate) fn stands_alone(code: &[u8]) -> bool {
    code.first().is_some_and(|head| head & LAYOUT != 0)
}

/// Reads a code: the histogram after `before`.
pub(crate) fn get(cursor: &mut Cursor<'_>, before: Option<&Histogram>) -> Result<Histogram, Malformed> {
    let head = cursor.u8()?;
    let hint = hint_of(head & 3).filter(|_| head <= LAYOUT | 3);
    let hint = hint.ok_or_else(|| cursor.malformed("a histogram of no known form"))?;
    let mut read = Vec::new();
    if head & LAYOUT == 0 {
        let before = before.ok_or_else(|| cursor.malformed("a histogram builds on one that is not known"))?;
        for old in numbers(before) {
            read.push(delta::get(cursor, old)?);
        }
        let mut empty = Histogram {
            positive_buckets: Vec::new(),
            negative_buckets: Vec::new(),
            ..before.clone()
        };
        empty.reset_hint = hint;
        let layout = Layout {
            empty,
            positive: before.positive_buckets.len(),
            negative: before.negative_buckets.len(),
        };
        return fill(cursor, &layout, hint, read);
    }
    let layout = get_layout(cursor)?;
    if layout.numbers() > cursor.remaining() {
        return Err(cursor.malformed("ends too early"));
    }
    for _ in 0..layout.numbers() {
        read.push(delta::get(cursor, 0.0)?);
    }
    fill(cursor, &layout, hint, read)
}

fn fill(
    cursor: &Cursor<'_>,
    layout: &Layout,
    hint: tidegauge_model::ResetHint,
    numbers: Vec<f64>,
) -> Result<Histogram, Malformed> {
    let filled = layout.fill(hint, numbers.into_iter());
    filled.ok_or_else(|| cursor.malformed("ends too early"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::histogram::tests::{any_histogram, same};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chains_round_trip_by_bits(all in prop::collection::vec((any_histogram(), 1usize..4), 1..9)) {
            let chain: Vec<Histogram> = all.iter().flat_map(|(h, n)| (0..*n).map(|i| Histogram {
                sum: h.sum.to_bits().wrapping_add(i as u64) as f64,
                count: h.count + i as f64,
                ..h.clone()
            })).collect();
            let mut out = Vec::new();
            let mut before = None;
            for histogram in &chain {
                put(&mut out, before, histogram);
                before = Some(histogram);
            }
            let mut cursor = Cursor::new(&out);
            let mut before: Option<Histogram> = None;
            for histogram in &chain {
                let read = get(&mut cursor, before.as_ref()).unwrap();
                prop_assert!(same(&read, histogram));
                before = Some(read);
            }
            prop_assert!(cursor.is_empty());
        }

        #[test]
        fn foreign_bytes_do_not_panic(bytes: Vec<u8>, before in any_histogram(), alone: bool) {
            let _ = get(&mut Cursor::new(&bytes), (!alone).then_some(&before));
        }
    }

    #[test]
    fn bytes_are_as_drawn() {
        let one = Histogram {
            count: 3.0,
            sum: 1.5,
            counts: tidegauge_model::Counts::Integer,
            ..Histogram::default()
        };
        let mut out = Vec::new();
        put(&mut out, None, &one);
        // Layout: integers, schema 0, threshold 0, no spans, no bounds; 3 and 0 after 0; 1.5 as 15 tenths.
        assert_eq!(
            out,
            [4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6 << 2, 0, (30 << 2) | 1, 1]
        );
        out.clear();
        put(
            &mut out,
            Some(&one),
            &Histogram {
                count: 4.0,
                ..one.clone()
            },
        );
        assert_eq!(out, [0, 2 << 2, 0, 1, 1]);
    }
}
