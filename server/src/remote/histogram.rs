//! Native histograms of remote write 1.0.
//!
//! ```text
//!   Histogram   1: count u64, or 2: f64       3: sum f64         4: schema sint32      5: zero threshold f64
//!               6: zero count u64, or 7: f64  8: negative BucketSpan*   9: their deltas sint64*, or 10: counts f64*
//!              11: positive BucketSpan*      12: their deltas sint64*, or 13: counts f64*
//!              14: reset hint (0 unknown, 1 reset, 2 none, 3 gauge)    15: timestamp i64 (milliseconds)
//!              16: custom bounds f64*
//!   BucketSpan  1: offset sint32              2: length u32
//! ```
//!
//! Lists of numbers come packed in one field or one by one. The last of `count` decides whether the histogram is one of
//! integers, whose buckets are told as differences from the bucket before.

use super::wire::{Fields, Value, WireError};
use tidegauge_model::{Counts, Histogram, ResetHint, Span};

/// The most elements of one list: more than any store takes.
const MAX_ELEMENTS: usize = 1 << 16;

/// What a message says before it is known of which kind it is.
#[derive(Debug, Default)]
struct Read {
    histogram: Histogram,
    at_ms: i64,
    positive: Side,
    negative: Side,
}

#[derive(Debug, Default)]
struct Side {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Side {
    fn buckets(self, counts: Counts) -> (Vec<Span>, Vec<f64>) {
        if counts == Counts::Float {
            return (self.spans, self.counts);
        }
        let mut count = 0i64;
        let absolute = self.deltas.iter().map(|delta| {
            count = count.wrapping_add(*delta);
            count as f64
        });
        (self.spans, absolute.collect())
    }
}

/// A histogram and its time in milliseconds. Whether it is valid is for the store to say.
pub(super) fn histogram(message: &[u8]) -> Result<(Histogram, i64), WireError> {
    let mut read = Read::default();
    read.histogram.counts = Counts::Integer;
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        read.field(number, value)?;
    }
    let mut histogram = read.histogram;
    (histogram.positive_spans, histogram.positive_buckets) = read.positive.buckets(histogram.counts);
    (histogram.negative_spans, histogram.negative_buckets) = read.negative.buckets(histogram.counts);
    Ok((histogram, read.at_ms))
}

impl Read {
    fn field(&mut self, number: u64, value: Value<'_>) -> Result<(), WireError> {
        let h = &mut self.histogram;
        match number {
            1 => (h.counts, h.count) = (Counts::Integer, varint(value, "CountInt")? as f64),
            2 => (h.counts, h.count) = (Counts::Float, fixed(value, "CountFloat")?),
            3 => h.sum = fixed(value, "Sum")?,
            4 => h.schema = unzigzag(varint(value, "Schema")?) as i32,
            5 => h.zero_threshold = fixed(value, "ZeroThreshold")?,
            6 => h.zero_count = varint(value, "ZeroCountInt")? as f64,
            7 => h.zero_count = fixed(value, "ZeroCountFloat")?,
            8 => span(&mut self.negative.spans, value)?,
            9 => varints(&mut self.negative.deltas, value, "NegativeDeltas")?,
            10 => floats(&mut self.negative.counts, value, "NegativeCounts")?,
            11 => span(&mut self.positive.spans, value)?,
            12 => varints(&mut self.positive.deltas, value, "PositiveDeltas")?,
            13 => floats(&mut self.positive.counts, value, "PositiveCounts")?,
            14 => {
                h.reset_hint = match varint(value, "ResetHint")? {
                    1 => ResetHint::Reset,
                    2 => ResetHint::NotReset,
                    3 => ResetHint::Gauge,
                    _ => ResetHint::Unknown,
                }
            }
            15 => self.at_ms = varint(value, "Timestamp")?.cast_signed(),
            16 => floats(&mut h.custom_values, value, "CustomValues")?,
            _ => {}
        }
        Ok(())
    }
}

fn wrong(value: Value<'_>, field: &'static str) -> WireError {
    WireError::Type {
        found: value.wire_type(),
        field,
    }
}

fn varint(value: Value<'_>, field: &'static str) -> Result<u64, WireError> {
    match value {
        Value::Varint(number) => Ok(number),
        other => Err(wrong(other, field)),
    }
}

fn fixed(value: Value<'_>, field: &'static str) -> Result<f64, WireError> {
    match value {
        Value::Fixed64(bits) => Ok(f64::from_bits(bits)),
        other => Err(wrong(other, field)),
    }
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

fn push<T>(list: &mut Vec<T>, one: T) -> Result<(), WireError> {
    if list.len() >= MAX_ELEMENTS {
        return Err(WireError::TooMany(MAX_ELEMENTS));
    }
    list.push(one);
    Ok(())
}

fn varints(list: &mut Vec<i64>, value: Value<'_>, field: &'static str) -> Result<(), WireError> {
    if let Value::Varint(one) = value {
        return push(list, unzigzag(one));
    }
    let mut packed = Fields::new(value.bytes(field)?);
    while !packed.is_empty() {
        push(list, unzigzag(packed.varint()?))?;
    }
    Ok(())
}

fn floats(list: &mut Vec<f64>, value: Value<'_>, field: &'static str) -> Result<(), WireError> {
    if let Value::Fixed64(bits) = value {
        return push(list, f64::from_bits(bits));
    }
    let mut packed = Fields::new(value.bytes(field)?);
    while !packed.is_empty() {
        push(list, f64::from_bits(packed.fixed()?))?;
    }
    Ok(())
}

fn span(list: &mut Vec<Span>, value: Value<'_>) -> Result<(), WireError> {
    let mut fields = Fields::new(value.bytes("Spans")?);
    let mut one = Span { offset: 0, length: 0 };
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => one.offset = unzigzag(varint(value, "Offset")?) as i32,
            2 => one.length = varint(value, "Length")? as u32,
            _ => {}
        }
    }
    push(list, one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_come_as_differences_and_floats_as_they_are() {
        // count 6, schema -1 (zigzag 1), zero count 1, positive span 2:3, deltas 1 1 -1 packed, hint gauge, time 9
        let message = b"\x08\x06\x20\x01\x30\x01\x5a\x04\x08\x04\x10\x03\x62\x03\x02\x02\x01\x70\x03\x78\x09";
        let (read, at) = histogram(message).unwrap();
        assert_eq!(at, 9);
        assert_eq!(
            read,
            Histogram {
                counts: Counts::Integer,
                schema: -1,
                count: 6.0,
                zero_count: 1.0,
                positive_spans: vec![Span { offset: 2, length: 3 }],
                positive_buckets: vec![1.0, 2.0, 1.0],
                reset_hint: ResetHint::Gauge,
                ..Histogram::default()
            }
        );
        // count 0.5 as a float; one count, not packed
        let half = 0.5f64.to_bits().to_le_bytes();
        let float = [&b"\x11"[..], &half, b"\x52\x08", &half, b"\x51", &half].concat();
        let (read, _) = histogram(&float).unwrap();
        assert_eq!(
            (read.counts, read.count, read.negative_buckets),
            (Counts::Float, 0.5, vec![0.5, 0.5])
        );
    }

    #[test]
    fn what_is_no_histogram_is_named() {
        let error = |bytes: &[u8]| histogram(bytes).unwrap_err().to_string();
        assert_eq!(error(b"\x09\x01"), "unexpected EOF");
        assert_eq!(error(b"\x0a\x00"), "proto: wrong wireType = 2 for field CountInt");
        let many = [&b"\x62\x81\x80\x04"[..], &[0; (1 << 16) + 1]].concat();
        assert_eq!(
            error(&many),
            "proto: more than 65536 elements in a list of one histogram"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = histogram(&bytes);
        }
    }
}
