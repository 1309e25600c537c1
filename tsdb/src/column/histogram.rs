//! A run of native histograms as one column: codec 7.
//!
//! ```text
//!   [7<<5] then groups, until all histograms are told: neighbours with the same layout
//!
//!   group   [histograms n varint] [layout] [hints u8] [hint u8]{n, if hints is 4} [form u8] numbers
//!     hints   0 to 3: that hint for all   4: one for each
//!     form 0  a column of floats for each of: count, zero count, sum, positive buckets, negative buckets; n values in
//!             each, so that what changes little from one histogram to the next takes little
//!     form 1  one column of floats: those numbers of the first histogram, of the second, ...
//!
//!   layout  [counts u8: 0 integer, 1 float] [schema signed] [zero threshold u64] [spans] [spans] [bounds]
//!     spans   [how many varint] ([offset signed] [length varint]){how many}          positive, then negative
//!     bounds  [how many varint] [bits u64]{how many}
//! ```
//!
//! Hints: 0 unknown, 1 reset, 2 not reset, 3 gauge. Columns of floats are those of the module above, each at least two
//! bytes. Everything is exact by bits.

use super::{Codec, Encoder, decode_from};
use crate::codec::{Cursor, Malformed, varint};
use std::sync::Arc;
use tidegauge_model::{Counts, Histogram, ResetHint, Span};

/// The most buckets of one histogram, both sides together; the same bound holds for its spans and its custom bounds.
pub const MAX_BUCKETS: usize = 8192;
/// The most that the [`weight`]s of the histograms in one column may come to: readers refuse more.
pub const MAX_WEIGHT: usize = 1 << 16;
/// What a histogram without buckets weighs: part of the format, and no less than what it takes in memory.
const WEIGHT: usize = 24;
/// Fewer histograms than this go into one column of floats.
const COLUMNS_FROM: usize = 6;
const BY_COLUMN: u8 = 0;
const BY_ROW: u8 = 1;
const EACH_HINT: u8 = 4;

/// How much room a histogram takes once it is read, in numbers.
pub fn weight(histogram: &Histogram) -> usize {
    let spans = histogram.positive_spans.len() + histogram.negative_spans.len();
    WEIGHT + histogram.buckets() + spans + histogram.custom_values.len()
}

pub(crate) const fn hint_byte(hint: ResetHint) -> u8 {
    match hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    }
}

pub(crate) fn hint_of(byte: u8) -> Option<ResetHint> {
    let all = [
        ResetHint::Unknown,
        ResetHint::Reset,
        ResetHint::NotReset,
        ResetHint::Gauge,
    ];
    all.get(usize::from(byte)).copied()
}

/// Appends all of a histogram but its counts, sum and hint.
pub(crate) fn put_layout(out: &mut Vec<u8>, histogram: &Histogram) {
    out.push(match histogram.counts {
        Counts::Integer => 0,
        Counts::Float => 1,
    });
    varint::put_signed(out, i64::from(histogram.schema));
    out.extend_from_slice(&histogram.zero_threshold.to_bits().to_le_bytes());
    for spans in [&histogram.positive_spans, &histogram.negative_spans] {
        varint::put(out, spans.len() as u64);
        for span in spans {
            varint::put_signed(out, i64::from(span.offset));
            varint::put(out, u64::from(span.length));
        }
    }
    varint::put(out, histogram.custom_values.len() as u64);
    for bound in &histogram.custom_values {
        out.extend_from_slice(&bound.to_bits().to_le_bytes());
    }
}

/// A layout, and how many buckets it has on either side.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// A histogram without counts.
    pub(crate) empty: Histogram,
    pub(crate) positive: usize,
    pub(crate) negative: usize,
}

impl Layout {
    /// Count, zero count, sum, buckets.
    pub(crate) fn numbers(&self) -> usize {
        3 + self.positive + self.negative
    }

    /// The histogram of these numbers.
    pub(crate) fn fill(&self, hint: ResetHint, mut numbers: impl Iterator<Item = f64>) -> Option<Histogram> {
        Some(Histogram {
            count: numbers.next()?,
            zero_count: numbers.next()?,
            sum: numbers.next()?,
            positive_buckets: numbers.by_ref().take(self.positive).collect(),
            negative_buckets: numbers.take(self.negative).collect(),
            reset_hint: hint,
            ..self.empty.clone()
        })
    }
}

/// The numbers that a layout leaves open, in the order of [`Layout::fill`].
pub(crate) fn numbers(histogram: &Histogram) -> impl Iterator<Item = f64> + '_ {
    [histogram.count, histogram.zero_count, histogram.sum]
        .into_iter()
        .chain(histogram.positive_buckets.iter().copied())
        .chain(histogram.negative_buckets.iter().copied())
}

/// Reads a layout.
pub(crate) fn get_layout(cursor: &mut Cursor<'_>) -> Result<Layout, Malformed> {
    let counts = match cursor.u8()? {
        0 => Counts::Integer,
        1 => Counts::Float,
        _ => return Err(cursor.malformed("counts are of no known kind")),
    };
    let schema = i32::try_from(cursor.signed()?).map_err(|_| cursor.malformed("schema is out of range"))?;
    let zero_threshold = f64::from_bits(cursor.u64()?);
    let (positive_spans, positive) = get_spans(cursor)?;
    let (negative_spans, negative) = get_spans(cursor)?;
    let bounds = cursor.bounded(cursor.remaining() / 8, "more bounds than bytes")?;
    if bounds.max(positive + negative) > MAX_BUCKETS {
        return Err(cursor.malformed("too many buckets in one histogram"));
    }
    let words = cursor.take(8 * bounds)?.as_chunks::<8>().0;
    let empty = Histogram {
        counts,
        schema,
        zero_threshold,
        positive_spans,
        negative_spans,
        custom_values: words.iter().map(|w| f64::from_bits(u64::from_le_bytes(*w))).collect(),
        ..Histogram::default()
    };
    Ok(Layout {
        empty,
        positive,
        negative,
    })
}

/// Spans, and how many buckets they have.
fn get_spans(cursor: &mut Cursor<'_>) -> Result<(Vec<Span>, usize), Malformed> {
    let count = cursor.bounded((cursor.remaining() / 2).min(MAX_BUCKETS), "more spans than bytes")?;
    let mut buckets = 0;
    let mut spans = Vec::with_capacity(count);
    for _ in 0..count {
        let offset = i32::try_from(cursor.signed()?).map_err(|_| cursor.malformed("span is out of range"))?;
        let length = cursor.bounded(MAX_BUCKETS, "too many buckets in one histogram")?;
        buckets += length;
        spans.push(Span {
            offset,
            length: length as u32,
        });
    }
    if buckets > MAX_BUCKETS {
        return Err(cursor.malformed("too many buckets in one histogram"));
    }
    Ok((spans, buckets))
}

impl Encoder {
    /// Appends an encoded run of histograms, which are valid ([`Histogram::validate`]).
    ///
    /// # Panics
    /// If there are so many that their [`weight`]s come to more than [`MAX_WEIGHT`], or one has other buckets than its
    /// spans say.
    pub fn encode_histograms(&mut self, histograms: &[Arc<Histogram>], out: &mut Vec<u8>) {
        let total: usize = histograms.iter().map(|h| weight(h)).sum();
        assert!(total <= MAX_WEIGHT, "histograms of {total} numbers in one column");
        out.push(Codec::Histogram.tag(0));
        for group in histograms.chunk_by(|a, b| a.same_layout(b)) {
            self.put_group(group, out);
        }
    }

    fn put_group(&mut self, group: &[Arc<Histogram>], out: &mut Vec<u8>) {
        let Some(first) = group.first() else { return };
        for (spans, buckets) in [
            (&first.positive_spans, first.positive_buckets.len()),
            (&first.negative_spans, first.negative_buckets.len()),
        ] {
            let needed: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
            assert_eq!(needed, buckets as u64, "spans speak of other buckets");
        }
        varint::put(out, group.len() as u64);
        put_layout(out, first);
        if group.iter().all(|h| h.reset_hint == first.reset_hint) {
            out.push(hint_byte(first.reset_hint));
        } else {
            out.push(EACH_HINT);
            out.extend(group.iter().map(|h| hint_byte(h.reset_hint)));
        }
        let rows: Vec<f64> = group.iter().flat_map(|h| numbers(h)).collect();
        if group.len() < COLUMNS_FROM {
            out.push(BY_ROW);
            self.encode(&rows, out);
            return;
        }
        out.push(BY_COLUMN);
        let width = rows.len() / group.len();
        let mut column = Vec::with_capacity(group.len());
        for place in 0..width {
            column.clear();
            column.extend(rows.iter().skip(place).step_by(width));
            self.encode(&column, out);
        }
    }
}

/// Decodes a run of `count` histograms and appends them to `out`.
///
/// # Errors
/// [`Malformed`] if the bytes are not such a run; `out` is as before then.
pub fn decode_histograms(bytes: &[u8], count: usize, out: &mut Vec<Arc<Histogram>>) -> Result<(), Malformed> {
    let start = out.len();
    let result = decode_groups(bytes, count, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn decode_groups(bytes: &[u8], count: usize, out: &mut Vec<Arc<Histogram>>) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(bytes);
    if Codec::of(bytes) != Some(Codec::Histogram) {
        return Err(cursor.malformed("floats where histograms should be"));
    }
    cursor.u8()?;
    let (mut left, mut room) = (count, MAX_WEIGHT);
    while left > 0 {
        let n = cursor.bounded(left, "more histograms than their span has")?;
        if n == 0 {
            return Err(cursor.malformed("a group without histograms"));
        }
        let layout = get_layout(&mut cursor)?;
        let taken = n.checked_mul(layout.positive + layout.negative + weight(&layout.empty));
        room = taken
            .and_then(|taken| room.checked_sub(taken))
            .ok_or_else(|| cursor.malformed("histograms are too large for one column"))?;
        decode_group(&mut cursor, n, &layout, out)?;
        left -= n;
    }
    if cursor.is_empty() {
        Ok(())
    } else {
        Err(cursor.malformed("bytes are left behind the histograms"))
    }
}

fn decode_group(
    cursor: &mut Cursor<'_>,
    n: usize,
    layout: &Layout,
    out: &mut Vec<Arc<Histogram>>,
) -> Result<(), Malformed> {
    let bad_hint = cursor.malformed("a hint of no known kind");
    let hints: Vec<ResetHint> = match cursor.u8()? {
        EACH_HINT => {
            let hints = cursor.take(n)?.iter().map(|b| hint_of(*b));
            hints.collect::<Option<_>>().ok_or(bad_hint)?
        }
        one => vec![hint_of(one).ok_or(bad_hint)?; n],
    };
    let width = layout.numbers();
    let form = cursor.u8()?;
    let mut values = Vec::new();
    match form {
        BY_ROW => decode_from(cursor, n * width, &mut values)?,
        BY_COLUMN => {
            if 2 * width > cursor.remaining() {
                return Err(cursor.malformed("ends too early"));
            }
            for _ in 0..width {
                decode_from(cursor, n, &mut values)?;
            }
        }
        _ => return Err(cursor.malformed("numbers of no known form")),
    }
    for (row, hint) in hints.into_iter().enumerate() {
        let (skip, step) = if form == BY_ROW { (row * width, 1) } else { (row, n) };
        let numbers = values.iter().copied().skip(skip).step_by(step);
        let histogram = layout.fill(hint, numbers).ok_or(cursor.malformed("ends too early"))?;
        out.push(Arc::new(histogram));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::column::EncodingChoice;
    use proptest::prelude::*;

    /// Valid histograms with some of everything.
    pub(crate) fn any_histogram() -> impl Strategy<Value = Histogram> {
        let spans = || prop::collection::vec((0i32..4, 0u32..5), 0..4);
        let hint = (0u8..4).prop_map(|b| hint_of(b).unwrap());
        let odd = prop_oneof![
            Just(0u64),
            Just(0.0f64.to_bits()),
            Just((-0.0f64).to_bits()),
            Just(tidegauge_model::STALE_BITS),
            any::<u64>(),
            (0i64..1000).prop_map(|v| (v as f64 / 4.0).to_bits()),
        ];
        let counts = prop::collection::vec(0u32..1000, 40);
        let kind = prop_oneof![Just(0u8), Just(1), Just(2)];
        (kind, -4i32..9, spans(), spans(), counts, odd, hint).prop_map(
            |(kind, schema, positive, negative, counts, sum, reset_hint)| {
                let (schema, negative) = if kind == 2 { (-53, vec![]) } else { (schema, negative) };
                let spans = |s: &[(i32, u32)]| -> Vec<Span> {
                    s.iter()
                        .map(|(offset, length)| Span {
                            offset: *offset,
                            length: *length,
                        })
                        .collect()
                };
                let scale = if kind == 1 { 0.25 } else { 1.0 };
                let mut rest = counts.iter().map(|c| f64::from(*c) * scale);
                let len = |s: &[(i32, u32)]| s.iter().map(|s| s.1 as usize).sum::<usize>();
                let positive_buckets: Vec<f64> = rest.by_ref().take(len(&positive)).collect();
                let negative_buckets: Vec<f64> = rest.by_ref().take(len(&negative)).collect();
                let zero_count = if kind == 2 { 0.0 } else { rest.next().unwrap() };
                Histogram {
                    counts: if kind == 1 { Counts::Float } else { Counts::Integer },
                    schema,
                    zero_threshold: if kind == 2 { 0.0 } else { 1e-128 },
                    zero_count,
                    count: positive_buckets.iter().chain(&negative_buckets).sum::<f64>() + zero_count,
                    sum: f64::from_bits(sum),
                    positive_spans: spans(&positive),
                    negative_spans: spans(&negative),
                    positive_buckets,
                    negative_buckets,
                    custom_values: if kind == 2 {
                        (0..40).map(f64::from).collect()
                    } else {
                        vec![]
                    },
                    reset_hint,
                }
            },
        )
    }

    pub(crate) fn same(a: &Histogram, b: &Histogram) -> bool {
        a.same_bits(b) && a.reset_hint == b.reset_hint
    }

    fn encode(histograms: &[Arc<Histogram>]) -> Vec<u8> {
        let mut out = Vec::new();
        Encoder::new(EncodingChoice::Auto).encode_histograms(histograms, &mut out);
        out
    }

    fn decode(bytes: &[u8], count: usize) -> Result<Vec<Arc<Histogram>>, Malformed> {
        let mut out = Vec::new();
        decode_histograms(bytes, count, &mut out).map(|()| out)
    }

    #[test]
    fn bytes_are_as_drawn() {
        let one = |count: f64| {
            Arc::new(Histogram {
                counts: Counts::Integer,
                schema: 1,
                zero_threshold: 0.5,
                count,
                sum: count,
                positive_spans: vec![Span { offset: -1, length: 2 }],
                positive_buckets: vec![count - 1.0, 1.0],
                reset_hint: ResetHint::Reset,
                ..Histogram::default()
            })
        };
        let half = 0.5f64.to_bits().to_le_bytes();
        let layout = |n: u8| [&[0xe0, n, 0, 2][..], &half, &[1, 1, 2, 0, 0]].concat();
        // One histogram, by row: count 1, zero count 0, sum 1, buckets 0 1.
        let mut row = Vec::new();
        Encoder::default().encode(&[1.0, 0.0, 1.0, 0.0, 1.0], &mut row);
        assert_eq!(encode(&[one(1.0)]), [&layout(1)[..], &[1, 1], &row].concat());
        // Seven, by column: each of the columns is a line, which takes its tag and what it begins with.
        let seven: Vec<_> = (1..8).map(|c| one(f64::from(c))).collect();
        let rising = [0, 0x21, 0, 2];
        let buckets = [0, 0x21, 1, 2];
        let expect = [
            &layout(7)[..],
            &[1, 0],
            &rising,
            &[0, 0x20, 0],
            &rising,
            &buckets,
            &[0, 0x20, 2],
        ];
        assert_eq!(encode(&seven), expect.concat());
        assert!(
            decode(&encode(&seven), 7)
                .unwrap()
                .iter()
                .zip(&seven)
                .all(|(a, b)| same(a, b))
        );
    }

    #[test]
    fn weights_cover_what_histograms_take() {
        assert!(size_of::<Histogram>() <= 8 * WEIGHT);
        let most = 2 * MAX_BUCKETS + MAX_BUCKETS + MAX_BUCKETS + WEIGHT;
        assert!(most <= MAX_WEIGHT, "one alone always fits");
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let good = encode(&[Arc::new(Histogram::stale())]);
        assert!(decode(&good, 1).is_ok());
        assert!(decode(&good, 2).is_err() && decode(&good, 0).is_err());
        assert!(decode(&[0x80, 0, 0], 1).is_err(), "floats");
        assert!(super::super::decode(&good, 1, &mut Vec::new()).is_err(), "histograms");
        for cut in 0..good.len() {
            assert!(decode(&good[..cut], 1).is_err());
        }
        // Eight thousand buckets in a few bytes: more than the bytes behind them can tell.
        let zero = 0.0f64.to_bits().to_le_bytes();
        let wide = [
            &[0xe0, 200, 16, 0, 0][..],
            &zero,
            &[1, 0, 128, 64, 0, 0],
            &[0, 0, 0, 32, 0],
        ]
        .concat();
        assert!(decode(&wide, 2064).is_err());
    }

    proptest! {
        #[test]
        fn round_trip_by_bits(
            distinct in prop::collection::vec(any_histogram(), 1..4),
            picks in prop::collection::vec((0usize..4, 0u8..4, 0u32..9), 1..60),
            gorilla: bool,
        ) {
            let all: Vec<Arc<Histogram>> = picks.iter().map(|(i, hint, more)| {
                let mut histogram = distinct[i % distinct.len()].clone();
                histogram.reset_hint = if *more == 0 { hint_of(*hint).unwrap() } else { histogram.reset_hint };
                histogram.count += f64::from(*more);
                if let Some(last) = histogram.positive_buckets.last_mut() {
                    *last += f64::from(*more);
                }
                Arc::new(histogram)
            }).collect();
            let mut bytes = Vec::new();
            let choice = if gorilla { EncodingChoice::Gorilla } else { EncodingChoice::Auto };
            Encoder::new(choice).encode_histograms(&all, &mut bytes);
            let read = decode(&bytes, all.len()).unwrap();
            prop_assert_eq!(read.len(), all.len());
            for (a, b) in read.iter().zip(&all) {
                prop_assert!(same(a, b), "{:?} {:?}", a, b);
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_swell(bytes: Vec<u8>, count in 0usize..3000, tagged: bool) {
            let bytes = if tagged { [&[0xe0][..], &bytes].concat() } else { bytes };
            if let Ok(read) = decode(&bytes, count) {
                prop_assert!(read.iter().map(|h| weight(h)).sum::<usize>() <= MAX_WEIGHT);
            }
        }

        #[test]
        fn a_changed_byte_does_not_make_it_panic(one in any_histogram(), at: usize, byte: u8, n in 1usize..9) {
            let one = Arc::new(one);
            let all = vec![one; n];
            let mut bytes = encode(&all);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(read) = decode(&bytes, n) {
                prop_assert!(read.iter().map(|h| weight(h)).sum::<usize>() <= MAX_WEIGHT);
            }
        }
    }
}
