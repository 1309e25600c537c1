//! Columns of timestamps.
//!
//! ```text
//!   0        1
//!   +--------+------------------------------------------------------------+
//!   | kind   | 0: integers t                                              |
//!   |        | 1: [first signed] [interval varint], integers r            |    t[i] = first + i * interval + r[i]
//!   +--------+------------------------------------------------------------+
//! ```
//!
//! A scraper that keeps to its interval misses each tick by its jitter, which kind 1 packs; where ticks were left out
//! or none were kept to, the integers' own differences do as well.

use super::MAX_VALUES;
use super::integer::{self, IntegerEncoder};
use crate::codec::{Cursor, Malformed, varint};
use tidegauge_model::Timestamp;

const PLAIN: u8 = 0;
const TICKS: u8 = 1;

/// Appends encoded timestamps.
///
/// # Panics
/// If there are more than [`MAX_VALUES`].
pub fn encode_timestamps(timestamps: &[Timestamp], out: &mut Vec<u8>) {
    assert!(
        timestamps.len() <= MAX_VALUES,
        "{} timestamps in one column",
        timestamps.len()
    );
    let Some(first) = timestamps.first() else {
        out.push(PLAIN);
        return;
    };
    let mut encoder = IntegerEncoder::default();
    let plain: Vec<i64> = timestamps.iter().map(|t| t.millis()).collect();
    let start = out.len();
    out.push(PLAIN);
    encoder.encode(&plain, out);

    let interval = usual_interval(timestamps);
    let residuals: Vec<i64> = (0i64..)
        .zip(&plain)
        .map(|(i, t)| t.wrapping_sub(first.millis()).wrapping_sub(i.wrapping_mul(interval)))
        .collect();
    let mut ticks = vec![TICKS];
    varint::put_signed(&mut ticks, first.millis());
    varint::put(&mut ticks, interval as u64);
    encoder.encode(&residuals, &mut ticks);
    if ticks.len() <= out.len() - start {
        out.truncate(start);
        out.extend_from_slice(&ticks);
    }
}

/// The median step, rounded to 100 ms where it is close to that.
fn usual_interval(timestamps: &[Timestamp]) -> i64 {
    let pairs = timestamps.iter().zip(timestamps.iter().skip(1));
    let mut steps: Vec<i64> = pairs.map(|(a, b)| *b - *a).collect();
    if steps.is_empty() {
        return 0;
    }
    let middle = steps.len() / 2;
    let median = *steps.select_nth_unstable(middle).1;
    let round = median.saturating_add(50).div_euclid(100).wrapping_mul(100);
    if round > 0 && median.abs_diff(round) * 20 < round.unsigned_abs() {
        round
    } else {
        median
    }
}

/// Decodes `count` timestamps and appends them to `out`.
///
/// # Errors
/// [`Malformed`] if the bytes are no such column; `out` is as before then.
pub fn decode_timestamps(bytes: &[u8], count: usize, out: &mut Vec<Timestamp>) -> Result<(), Malformed> {
    let start = out.len();
    let result = decode_into(bytes, count, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn decode_into(bytes: &[u8], count: usize, out: &mut Vec<Timestamp>) -> Result<(), Malformed> {
    if count > MAX_VALUES {
        return Err(Malformed::new(0, "too many timestamps in one column"));
    }
    let mut cursor = Cursor::new(bytes);
    let (mut tick, interval) = match cursor.u8()? {
        PLAIN => (0, 0),
        TICKS => (cursor.signed()?, cursor.varint()? as i64),
        _ => return Err(Malformed::new(0, "unknown kind of timestamps")),
    };
    if count > 0 {
        out.reserve(count);
        integer::decode(&mut cursor, count, |numbers| {
            out.extend(numbers.iter().map(|n| {
                let at = Timestamp::from_millis(tick.wrapping_add(*n));
                tick = tick.wrapping_add(interval);
                at
            }));
        })?;
    }
    if cursor.is_empty() {
        Ok(())
    } else {
        Err(cursor.malformed("bytes are left behind the timestamps"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn times(ms: &[i64]) -> Vec<Timestamp> {
        ms.iter().copied().map(Timestamp::from_millis).collect()
    }

    fn encoded(ms: &[i64]) -> Vec<u8> {
        let mut out = vec![];
        encode_timestamps(&times(ms), &mut out);
        out
    }

    fn check(ms: &[i64]) -> usize {
        let (bytes, mut back) = (encoded(ms), vec![]);
        decode_timestamps(&bytes, ms.len(), &mut back).unwrap();
        assert_eq!(back, times(ms));
        bytes.len()
    }

    #[test]
    fn bytes_are_as_drawn() {
        // linear: order 1, state -5, residual 5
        assert_eq!(encoded(&[0, 5, 10, 15]), [0, 0x21, 9, 10]);
        // ticks of 1000 from 1000000; r = 0 1 0 1 0 1 1 0 0 1: one bit each
        let ms: Vec<i64> = (0..10)
            .map(|i| 1_000_000 + 1000 * i + i64::from(0b10_0110_1010u16 >> i & 1))
            .collect();
        assert_eq!(
            encoded(&ms),
            [1, 0x80, 0x89, 0x7a, 0xe8, 0x07, 0, 0, 1, 0b0110_1010, 0b10]
        );
        check(&ms);
    }

    #[test]
    fn jitter_of_two_milliseconds_takes_three_bits() {
        let ms: Vec<i64> = (0..720)
            .map(|i| 1_760_000_000_000 + 5000 * i + (i * 7919) % 5 - 2)
            .collect();
        assert!(check(&ms) < 720 * 3 / 8 + 40);
        let holes: Vec<i64> = ms
            .iter()
            .enumerate()
            .filter(|(i, _)| i % 100 > 3)
            .map(|(_, t)| *t)
            .collect();
        assert!(check(&holes) < holes.len() * 4 / 8 + 60);
    }

    proptest! {
        #[test]
        fn round_trip(ms: Vec<i64>) {
            check(&ms);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>, count in 0usize..500) {
            let _ = decode_timestamps(&bytes, count, &mut vec![]);
        }
    }
}
