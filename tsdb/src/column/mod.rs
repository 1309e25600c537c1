//! Columns: a run of floats or of timestamps as few bytes that decode fast.
//!
//! ```text
//!   0                        1
//!   +------------------------+------------------------------------------------------------------+
//!   | exponent | codec<<5    | payload                                                          |
//!   +------------------------+------------------------------------------------------------------+
//!
//!   0 decimal    integers m                          value = m / 10^exponent              (see `integer`, `decimal`)
//!   1 patched    [n varint] [gap varint]{n} [bits ^ stale marker varint]{n}, integers for the other values
//!                n < count values are given by their bits; gap: place, less the place before and one
//!   2 corrected  integers m, integers u              bits = bits of m / 10^exponent, plus u
//!   3 xor        Gorilla's bit stream                                                     (see `xor`)
//!   4 constant   [bits u64]                          every value is this one
//!   5 bits       integers                            bits = the integer
//!   6 raw        [bits u64]{count}
//!   7 histogram  no floats but native histograms                                          (see `histogram`)
//! ```
//!
//! Everything is exact by bits: NaN payloads, negative zero, subnormals. The count of values is known from outside.
//! What encodes by [`EncodingChoice::Auto`] looks at a run for decimals first, which most metrics are; if it is none,
//! the codec that is smallest on a sample of the run takes it.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod decimal;
pub(crate) mod histogram;
mod integer;
mod timestamp;
mod xor;

pub use histogram::{MAX_BUCKETS, MAX_WEIGHT, decode_histograms, weight as histogram_weight};
pub(crate) use integer::{IntegerEncoder, decode as decode_integers};
pub use timestamp::{decode_timestamps, encode_timestamps};

use crate::codec::{Cursor, Malformed, varint};
use decimal::Decimals;
use tidegauge_model::STALE_BITS;

/// The most values in one column.
pub const MAX_VALUES: usize = 1 << 20;

/// Which encodings may be used for values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncodingChoice {
    /// Whichever is smallest.
    #[default]
    Auto,
    /// Gorilla's XOR for everything, as published.
    Gorilla,
}

/// The kind of a column, bits 5 to 7 of its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Codec {
    /// Integers over a power of ten.
    Decimal = 0,
    /// The same with exceptions.
    Patched = 1,
    /// Decimals with a correction in units of the last place.
    Corrected = 2,
    /// Gorilla.
    Xor = 3,
    /// One value.
    Constant = 4,
    /// Bit patterns as integers.
    Bits = 5,
    /// As they are.
    Raw = 6,
    /// Native histograms.
    Histogram = 7,
}

impl Codec {
    const ALL: [Self; 8] = [
        Self::Decimal,
        Self::Patched,
        Self::Corrected,
        Self::Xor,
        Self::Constant,
        Self::Bits,
        Self::Raw,
        Self::Histogram,
    ];

    /// The codec of an encoded column.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        bytes
            .first()
            .and_then(|tag| Self::ALL.get(usize::from(tag >> 5)).copied())
    }

    fn tag(self, exponent: u8) -> u8 {
        (self as u8) << 5 | exponent
    }
}

/// Appends an encoded run of values.
///
/// # Panics
/// If there are more than [`MAX_VALUES`].
pub fn encode(values: &[f64], choice: EncodingChoice, out: &mut Vec<u8>) {
    Encoder::new(choice).encode(values, out);
}

/// Encodes runs of values; keeps its buffers from one to the next.
#[derive(Debug, Default)]
pub struct Encoder {
    choice: EncodingChoice,
    decimals: Decimals,
    integers: IntegerEncoder,
    numbers: Vec<i64>,
    trial: Vec<u8>,
}

/// Values that codecs are tried on.
const SAMPLE: usize = 96;
/// The exponents that corrected decimals are tried with.
const CORRECTED_EXPONENTS: [u8; 4] = [0, 3, 6, 9];

impl Encoder {
    /// An encoder of that choice.
    pub fn new(choice: EncodingChoice) -> Self {
        Self {
            choice,
            ..Self::default()
        }
    }

    /// Appends an encoded run of values.
    ///
    /// # Panics
    /// If there are more than [`MAX_VALUES`].
    pub fn encode(&mut self, values: &[f64], out: &mut Vec<u8>) {
        assert!(values.len() <= MAX_VALUES, "{} values in one column", values.len());
        let start = out.len();
        match self.choice {
            EncodingChoice::Gorilla => self.put(Codec::Xor, 0, values, out),
            EncodingChoice::Auto => self.put_smallest(values, out),
        }
        // No codec is to be worse than none, but for its tag.
        if self.choice == EncodingChoice::Auto && out.len() - start > 1 + 8 * values.len() {
            out.truncate(start);
            self.put(Codec::Raw, 0, values, out);
        }
    }

    fn put_smallest(&mut self, values: &[f64], out: &mut Vec<u8>) {
        let Some(first) = values.first() else {
            self.put(Codec::Raw, 0, values, out);
            return;
        };
        if values.iter().all(|v| v.to_bits() == first.to_bits()) {
            // One value says all: a constant's length is known from outside.
            let start = out.len();
            if self.decimals.split(&[*first]) && self.decimals.exceptions.is_empty() {
                self.put_decimals(out);
            }
            if out.len() == start || out.len() - start > 9 {
                out.truncate(start);
                self.put(Codec::Constant, 0, values, out);
            }
            return;
        }
        let decimal = self.decimals.split(values);
        if decimal && self.decimals.exceptions.is_empty() {
            self.put_decimals(out);
            return;
        }
        let misfits = self.decimals.exceptions.iter().filter(|e| e.1 != STALE_BITS).count();
        if decimal && misfits * 16 <= values.len() {
            self.put_decimals(out);
            return;
        }
        let (codec, exponent) = self.try_codecs(values);
        self.put(codec, exponent, values, out);
    }

    /// The codec that is smallest on a sample from the middle of the run.
    fn try_codecs(&mut self, values: &[f64]) -> (Codec, u8) {
        let skip = values.len().saturating_sub(SAMPLE) / 2;
        let sample = values.get(skip..).unwrap_or_default();
        let sample = sample.get(..SAMPLE).unwrap_or(sample);
        let corrected = CORRECTED_EXPONENTS.iter().map(|k| (Codec::Corrected, *k));
        let others = [(Codec::Patched, 0), (Codec::Xor, 0), (Codec::Bits, 0)];
        let mut trial = std::mem::take(&mut self.trial);
        let mut best = (usize::MAX, (Codec::Raw, 0));
        for (codec, exponent) in others.into_iter().chain(corrected) {
            trial.clear();
            self.put(codec, exponent, sample, &mut trial);
            if trial.len() < best.0 {
                best = (trial.len(), (codec, exponent));
            }
        }
        self.trial = trial;
        best.1
    }

    /// Writes the run by this codec; raw if the codec cannot take it.
    fn put(&mut self, codec: Codec, exponent: u8, values: &[f64], out: &mut Vec<u8>) {
        let start = out.len();
        out.push(codec.tag(exponent));
        let done = match codec {
            Codec::Decimal | Codec::Patched => {
                out.truncate(start);
                !values.is_empty() && self.decimals.split(values) && {
                    self.put_decimals(out);
                    true
                }
            }
            Codec::Corrected => self.put_corrected(exponent, values, out),
            Codec::Xor => {
                xor::encode(values, out);
                true
            }
            Codec::Constant => {
                let first = values.first().map_or(0, |v| v.to_bits());
                out.extend_from_slice(&first.to_le_bytes());
                true
            }
            Codec::Bits => {
                self.numbers.clear();
                self.numbers.extend(values.iter().map(|v| v.to_bits() as i64));
                self.integers.encode(&self.numbers, out);
                true
            }
            Codec::Raw | Codec::Histogram => false,
        };
        if !done {
            out.truncate(start);
            out.push(Codec::Raw.tag(0));
            out.extend(values.iter().flat_map(|v| v.to_bits().to_le_bytes()));
        }
    }

    /// Writes what `decimals` holds.
    fn put_decimals(&mut self, out: &mut Vec<u8>) {
        let Decimals {
            exponent,
            mantissas,
            exceptions,
        } = &self.decimals;
        if exceptions.is_empty() {
            out.push(Codec::Decimal.tag(*exponent));
        } else {
            out.push(Codec::Patched.tag(*exponent));
            varint::put(out, exceptions.len() as u64);
            let mut next = 0;
            for (place, _) in exceptions {
                varint::put(out, (place - next) as u64);
                next = place + 1;
            }
            for (_, bits) in exceptions {
                varint::put(out, bits ^ STALE_BITS);
            }
        }
        self.integers.encode(mantissas, out);
    }

    fn put_corrected(&mut self, exponent: u8, values: &[f64], out: &mut Vec<u8>) -> bool {
        let power = decimal::power(exponent);
        let mut corrections = Vec::with_capacity(values.len());
        self.numbers.clear();
        for value in values {
            let Some(nearest) = decimal::nearest(*value, power) else {
                return false;
            };
            let close = nearest as f64 / power;
            self.numbers.push(nearest);
            corrections.push(value.to_bits().wrapping_sub(close.to_bits()) as i64);
        }
        if values.is_empty() {
            return false;
        }
        self.integers.encode(&self.numbers, out);
        self.integers.encode(&corrections, out);
        true
    }
}

/// Decodes a run of `count` values and appends them to `out`.
///
/// # Errors
/// [`Malformed`] if the bytes are not such a run; `out` is as before then.
pub fn decode(bytes: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), Malformed> {
    let start = out.len();
    let mut cursor = Cursor::new(bytes);
    let result = decode_from(&mut cursor, count, out).and_then(|()| {
        if cursor.is_empty() {
            Ok(())
        } else {
            Err(cursor.malformed("bytes are left behind the values"))
        }
    });
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Decodes a run that other bytes may follow.
fn decode_from(cursor: &mut Cursor<'_>, count: usize, out: &mut Vec<f64>) -> Result<(), Malformed> {
    if count > MAX_VALUES {
        return Err(Malformed::new(0, "too many values in one column"));
    }
    let codec = Codec::of(cursor.rest()).ok_or_else(|| cursor.malformed("unknown codec"))?;
    let exponent = cursor.u8()? & 31;
    if exponent > decimal::MAX_EXPONENT {
        return Err(Malformed::new(0, "decimal exponent is too large"));
    }
    let start = out.len();
    match codec {
        Codec::Constant => {
            let value = f64::from_bits(cursor.u64()?);
            out.resize(start + count, value);
        }
        Codec::Decimal => decode_decimals(cursor, exponent, count, out)?,
        Codec::Patched => {
            let exceptions = cursor.bounded(count.saturating_sub(1), "more exceptions than values")?;
            let mut places = Vec::with_capacity(exceptions.min(cursor.remaining()));
            let mut next = 0;
            for _ in 0..exceptions {
                let place = next + cursor.bounded(count, "exception lies outside its run")?;
                places.push(place);
                next = place + 1;
            }
            if next > count {
                return Err(cursor.malformed("exception lies outside its run"));
            }
            let mut patterns = cursor.clone();
            for _ in 0..exceptions {
                cursor.varint()?;
            }
            decode_decimals(cursor, exponent, count - exceptions, out)?;
            spread(out, start, &places);
            for place in places {
                let bits = patterns.varint()? ^ STALE_BITS;
                if let Some(value) = out.get_mut(start + place) {
                    *value = f64::from_bits(bits);
                }
            }
        }
        Codec::Corrected => {
            decode_decimals(cursor, exponent, count, out)?;
            let mut done = start;
            decode_integers(cursor, count, |corrections| {
                let values = out.get_mut(done..).unwrap_or_default();
                for (value, correction) in values.iter_mut().zip(corrections) {
                    *value = f64::from_bits(value.to_bits().wrapping_add(*correction as u64));
                }
                done += corrections.len();
            })?;
        }
        Codec::Xor => {
            // Each value but the first takes a bit at least.
            if count > 8 * cursor.remaining() {
                return Err(cursor.malformed("ends too early"));
            }
            out.resize(start + count, 0.0);
            xor::decode(cursor, out.get_mut(start..).unwrap_or_default())?;
        }
        Codec::Bits => {
            out.reserve(count);
            decode_integers(cursor, count, |numbers| {
                out.extend(numbers.iter().map(|n| f64::from_bits(*n as u64)));
            })?;
        }
        Codec::Raw => {
            let words = cursor.take(8 * count)?.as_chunks::<8>().0;
            out.extend(words.iter().map(|w| f64::from_bits(u64::from_le_bytes(*w))));
        }
        Codec::Histogram => return Err(cursor.malformed("histograms where floats should be")),
    }
    Ok(())
}

fn decode_decimals(cursor: &mut Cursor<'_>, exponent: u8, count: usize, out: &mut Vec<f64>) -> Result<(), Malformed> {
    let power = decimal::power(exponent);
    if let Some(mantissa) = integer::constant(cursor) {
        let mut value = [0.0];
        decimal::fill(&[mantissa], power, &mut value);
        out.resize(out.len() + count, value[0]);
        return Ok(());
    }
    let mut done = out.len();
    out.resize(done + count, 0.0);
    decode_integers(cursor, count, |mantissas| {
        let values = out.get_mut(done..done + mantissas.len()).unwrap_or_default();
        decimal::fill(mantissas, power, values);
        done += mantissas.len();
    })
}

/// Makes room at `places` (rising) among the values from `start` on, by moving what follows them back.
fn spread(values: &mut Vec<f64>, start: usize, places: &[usize]) {
    let mut end = values.len();
    values.resize(end + places.len(), 0.0);
    for (before, place) in places.iter().enumerate().rev() {
        // In front of this place lie `before` others that have no value yet.
        let from = start + place - before;
        if from <= end {
            values.copy_within(from..end, from + before + 1);
            end = from;
        }
    }
}

#[cfg(test)]
mod tests;
