//! One value against the one before it: what open streams of the head and rows of the log are made of.
//!
//! ```text
//!   x = varint; mode = x & 3
//!   0  whole numbers:  new = old + unzigzag(x >> 2)
//!   1  decimals:       a byte k follows (1 to 17); new = (round(old * 10^k) + unzigzag(x >> 2)) / 10^k
//!   2  any bits:       x >> 2 = (zero bytes in front) << 3 | (zero bytes behind); the bytes between of
//!                      bits(old) XOR bits(new) follow, most significant first
//!   3  not a value:    x >> 2 rows pass without a change; the value's code follows (streams only)
//! ```
//!
//! Modes 0 and 1 are used only where they give back the exact bits, so every value survives: both zeros, every NaN.

use crate::codec::varint::{put as put_varint, unzigzag, zigzag};
use crate::codec::{Cursor, Malformed};

const MAX_EXPONENT: u8 = 17;
/// Doubles above it do not count by ones.
const MAX_MANTISSA: f64 = 9_007_199_254_740_992.0;

const POWERS: [f64; 18] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
];

pub(crate) const GAP: u64 = 3;
/// The most bytes a code takes.
pub(crate) const MAX_BYTES: usize = 12;

/// The exponent that a code was made with, if it is one of decimals.
pub(crate) fn exponent(code: &[u8]) -> Option<u8> {
    (code.first()? & 3 == 1).then(|| code.last().copied()).flatten()
}

/// Rounds to the nearest whole number, to the even one of two: a call into the C library where the processor's own
/// instruction cannot be relied on, two additions for all but huge numbers.
#[inline]
fn round(x: f64) -> f64 {
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    if x.abs() < 2_251_799_813_685_248.0 {
        (x + SHIFT) - SHIFT
    } else {
        x.round_ties_even()
    }
}

/// The value as a whole number, if it is one by its bits.
#[inline]
fn whole(value: f64) -> Option<i64> {
    let whole = value as i64;
    (value.abs() < MAX_MANTISSA && (whole as f64).to_bits() == value.to_bits()).then_some(whole)
}

/// The whole number that, divided by `10^k`, is `value` by its bits.
#[inline]
fn mantissa(value: f64, k: u8) -> Option<i64> {
    let power = *POWERS.get(usize::from(k))?;
    let scaled = round(value * power);
    let whole = scaled as i64;
    // No NaN is below anything.
    (scaled.abs() < MAX_MANTISSA && (whole as f64 / power).to_bits() == value.to_bits()).then_some(whole)
}

/// Appends the code of `new` after `old`. `k` is where to start looking for an exponent: the last one that fitted.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, old: f64, new: f64, k: &mut u8) {
    if let (Some(a), Some(b)) = (whole(old), whole(new)) {
        put_varint(out, zigzag(b - a) << 2);
        return;
    }
    put_slow(out, old, new, k);
}

fn put_slow(out: &mut Vec<u8>, old: f64, new: f64, k: &mut u8) {
    let both = |k: u8| Some((mantissa(old, k)?, mantissa(new, k)?));
    let hit = if *k > 0 && both(*k).is_some() {
        Some(*k)
    } else {
        (1..=MAX_EXPONENT).find(|k| both(*k).is_some())
    };
    if let Some(exponent) = hit
        && let Some((a, b)) = both(exponent)
    {
        *k = exponent;
        put_varint(out, zigzag(b - a) << 2 | 1);
        out.push(exponent);
        return;
    }
    let bits = old.to_bits() ^ new.to_bits();
    let front = (bits.leading_zeros() / 8).min(7);
    let behind = (bits.trailing_zeros() / 8).min(7 - front);
    put_varint(out, u64::from(front << 3 | behind) << 2 | 2);
    out.extend_from_slice(&bits.to_be_bytes()[front as usize..8 - behind as usize]);
}

/// Reads a code: the value after `old`.
#[inline]
pub(crate) fn get(reader: &mut Cursor<'_>, old: f64) -> Result<f64, Malformed> {
    let x = reader.varint()?;
    get_rest(reader, old, x)
}

/// Reads what follows the first varint of a code.
#[inline]
pub(crate) fn get_rest(reader: &mut Cursor<'_>, old: f64, x: u64) -> Result<f64, Malformed> {
    match x & 3 {
        0 => {
            let whole = (old as i64).wrapping_add(unzigzag(x >> 2));
            Ok(whole as f64)
        }
        1 => {
            let k = reader.u8()?;
            let power = *POWERS
                .get(usize::from(k))
                .ok_or(reader.malformed("exponent out of range"))?;
            let whole = (round(old * power) as i64).wrapping_add(unzigzag(x >> 2));
            Ok(whole as f64 / power)
        }
        2 => {
            let (front, behind) = ((x >> 5) & 7, (x >> 2) & 7);
            let Some(n) = 8u64.checked_sub(front + behind) else {
                return Err(reader.malformed("widths out of range"));
            };
            let mut bits = 0u64;
            for byte in reader.take(n as usize)? {
                bits = bits << 8 | u64::from(*byte);
            }
            Ok(f64::from_bits(old.to_bits() ^ (bits << (8 * behind).min(63))))
        }
        _ => Err(reader.malformed("a gap where a value should be")),
    }
}

/// Reads codes one after another.
#[derive(Debug, Default)]
pub(crate) struct Values {
    value: f64,
    /// The whole number that the value is over the exponent, if the last code was one of decimals: the next one counts
    /// from it, and need not find it again.
    decimal: Option<(u8, i64)>,
}

impl Values {
    /// The value of the last code; 0 before the first.
    pub(crate) fn value(&self) -> f64 {
        self.value
    }

    /// Reads what follows the first varint of a code.
    #[inline]
    pub(crate) fn next(&mut self, reader: &mut Cursor<'_>, x: u64) -> Result<(), Malformed> {
        if x & 3 == 1
            && let Some((k, whole)) = self.decimal
            && reader.rest().first() == Some(&k)
            && let Some(power) = POWERS.get(usize::from(k))
        {
            reader.u8()?;
            let whole = whole.wrapping_add(unzigzag(x >> 2));
            self.value = whole as f64 / power;
            self.decimal = Some((k, whole));
            return Ok(());
        }
        let k = if x & 3 == 1 {
            reader.rest().first().copied()
        } else {
            None
        };
        self.value = get_rest(reader, self.value, x)?;
        self.decimal = k.and_then(|k| Some((k, round(self.value * POWERS.get(usize::from(k))?) as i64)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(old: f64, new: f64) -> usize {
        let mut out = Vec::new();
        let mut k = 0;
        put(&mut out, old, new, &mut k);
        let mut reader = Cursor::new(&out);
        let back = get(&mut reader, old).unwrap();
        assert_eq!(back.to_bits(), new.to_bits(), "{old} -> {new}");
        assert!(reader.is_empty());
        out.len()
    }

    #[test]
    fn codes_are_pinned() {
        let mut out = Vec::new();
        let mut k = 0;
        put(&mut out, 5.0, 7.0, &mut k);
        put(&mut out, 0.5, 0.75, &mut k);
        put(&mut out, 0.0, f64::from_bits(0x7ff0_0000_0000_0002), &mut k);
        assert_eq!(out, [0x10, 0xc9, 0x01, 2, 0x02, 0x7f, 0xf0, 0, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn odd_values_survive() {
        let odd = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.1,
            1e300,
            -1e-300,
            f64::MIN_POSITIVE,
            5e-324,
            f64::MAX,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            f64::from_bits(0x7ff0_0000_0000_0002),
            f64::from_bits(0xffff_ffff_ffff_ffff),
            9_007_199_254_740_991.0,
            9_007_199_254_740_992.0,
            9_007_199_254_740_993.0,
            -9_007_199_254_740_991.0,
            12_345.678_9,
            1e17,
            0.000_001,
        ];
        for a in odd {
            for b in odd {
                round_trip(a, b);
            }
        }
        assert_eq!(round_trip(1000.0, 1010.0), 1);
    }

    #[test]
    fn rounding_is_to_even() {
        for x in [
            0.5,
            1.5,
            2.5,
            -0.5,
            -1.5,
            0.49999999999999994,
            1e15,
            2_251_799_813_685_247.5,
            4.5e15,
            -7.0,
            0.0,
        ] {
            assert_eq!(round(x) as i64, x.round_ties_even() as i64, "{x}");
        }
    }

    proptest! {
        #[test]
        fn rounding_is_that_of_the_standard(bits: u64, small in -1e16f64..1e16) {
            for x in [f64::from_bits(bits), small, small / 3.0, small / 1e9] {
                prop_assert_eq!(round(x) as i64, x.round_ties_even() as i64);
                prop_assert_eq!(round(x).is_nan(), x.is_nan());
            }
        }

        #[test]
        fn every_pair_of_bits_survives(a: u64, b: u64) {
            round_trip(f64::from_bits(a), f64::from_bits(b));
        }

        #[test]
        fn decimals_survive(a in -1_000_000_000i64..1_000_000_000, b in -1_000_000_000i64..1_000_000_000, k in 0u32..10) {
            let power = 10f64.powi(k as i32);
            round_trip(a as f64 / power, b as f64 / power);
        }

        /// A chain: each value after the one before, with the exponent that fitted last.
        #[test]
        fn chains_survive_by_bits(values in prop::collection::vec(prop_oneof![
            any::<u64>(),
            prop::sample::select(vec![0, 1, 1 << 63, 0x7ff0_0000_0000_0002, 0x7ff0_0000_0000_0001, 0x7ff8_0000_0000_0000, 0xffff_ffff_ffff_ffff,
                0x7ff0_0000_0000_0000, 0xfff0_0000_0000_0000, 0x000f_ffff_ffff_ffff, 0x3fb9_9999_9999_999a, 0x4340_0000_0000_0000]),
            (-5000i32..5000).prop_map(|v| (f64::from(v) / 100.0).to_bits()),
        ], 0..if cfg!(miri) { 40 } else { 5000 })) {
            let (mut chain, mut last, mut k) = (Vec::new(), 0.0, 0);
            for bits in &values {
                put(&mut chain, last, f64::from_bits(*bits), &mut k);
                last = f64::from_bits(*bits);
            }
            let (mut cursor, mut last) = (Cursor::new(&chain), 0.0);
            for bits in &values {
                last = get(&mut cursor, last).unwrap();
                prop_assert_eq!(last.to_bits(), *bits);
            }
            prop_assert!(cursor.is_empty());
            let (mut cursor, mut read) = (Cursor::new(&chain), Values::default());
            for bits in &values {
                let x = cursor.varint().unwrap();
                read.next(&mut cursor, x).unwrap();
                prop_assert_eq!(read.value().to_bits(), *bits);
            }
            prop_assert!(cursor.is_empty());
        }

        #[test]
        fn foreign_bytes_do_not_panic(bytes: Vec<u8>, old: u64) {
            let mut reader = Cursor::new(&bytes);
            while get(&mut reader, f64::from_bits(old)).is_ok() && !reader.is_empty() {}
        }
    }
}
