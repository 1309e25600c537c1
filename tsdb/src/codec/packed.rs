//! Unsigned integers in blocks of 64, each packed to the width that is cheapest for it; the few that are wider keep
//! their high bits apart as exceptions (patched frame of reference).
//!
//! ```text
//!   0              1                                                        `packed`: little-endian words of 64 bits,
//!   +--------------+-------------+------------------------------------+     values lie in them from bit 0 upwards,
//!   | width | x<<7 | packed      | if x: count u8, (place u8, high v)*|     cut to ceil(len * width / 8) bytes;
//!   +--------------+-------------+------------------------------------+     len is 64 but in the last block
//!                    value = packed | high << width
//! ```

use super::{Cursor, Malformed, varint};

/// Values per block.
pub(crate) const BLOCK: usize = 64;

const EXCEPTIONS: u8 = 0x80;

/// A block being decoded: the values beyond `len` in the last one are rubbish.
pub(crate) type Block = [u64; BLOCK];

fn width_of(value: u64) -> usize {
    (64 - value.leading_zeros()) as usize
}

/// The best width of a block and the bytes the block then takes.
fn plan(block: &[u64]) -> (usize, usize) {
    let all = block.iter().fold(0, |a, b| a | b);
    let widest = width_of(all);
    let plain = 1 + (block.len() * widest).div_ceil(8);
    // Small blocks of narrow values cannot gain: an exception alone takes two bytes and its count one.
    if widest <= 1 {
        return (widest, plain);
    }
    let mut by_width = [0u8; 65];
    for value in block {
        if let Some(count) = by_width.get_mut(width_of(*value)) {
            *count += 1;
        }
    }
    let mut best = (widest, plain);
    let mut exceptions = 0;
    for width in (0..widest).rev() {
        exceptions += usize::from(by_width.get(width + 1).copied().unwrap_or(0));
        if exceptions > block.len() / 4 {
            break;
        }
        let highs = by_width.iter().enumerate().skip(width + 1).take(widest - width);
        let high_bytes: usize = highs.map(|(w, n)| usize::from(*n) * (w - width).div_ceil(7)).sum();
        let bytes = 2 + exceptions + high_bytes + (block.len() * width).div_ceil(8);
        if bytes < best.1 {
            best = (width, bytes);
        }
    }
    best
}

/// How many bytes [`encode`] takes.
pub(crate) fn encoded_len(values: &[u64]) -> usize {
    values.chunks(BLOCK).map(|block| plan(block).1).sum()
}

/// Appends the values.
pub(crate) fn encode(values: &[u64], out: &mut Vec<u8>) {
    for block in values.chunks(BLOCK) {
        let (width, _) = plan(block);
        let wide = |value: u64| width < 64 && value >> width != 0;
        let exceptions = block.iter().filter(|v| wide(**v)).count();
        out.push(width as u8 | if exceptions > 0 { EXCEPTIONS } else { 0 });
        pack(block, width, out);
        if exceptions > 0 {
            out.push(exceptions as u8);
            for (place, value) in block.iter().enumerate().filter(|(_, v)| wide(**v)) {
                out.push(place as u8);
                varint::put(out, value >> width);
            }
        }
    }
}

fn pack(block: &[u64], width: usize, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let mask = u64::MAX >> (64 - width);
    let (mut word, mut filled) = (0u128, 0usize);
    let mut left = (block.len() * width).div_ceil(8);
    for value in block {
        word |= u128::from(value & mask) << filled;
        filled += width;
        if filled >= 64 {
            out.extend_from_slice(&(word as u64).to_le_bytes());
            left -= 8;
            word >>= 64;
            filled -= 64;
        }
    }
    out.extend(word.to_le_bytes().iter().take(left));
}

/// Decodes `count` values block by block; `each` gets a block and how many of its values count.
///
/// # Errors
/// [`Malformed`]; `each` may have seen some blocks then.
#[inline]
pub(crate) fn decode(
    cursor: &mut Cursor<'_>,
    count: usize,
    mut each: impl FnMut(&mut Block, usize),
) -> Result<(), Malformed> {
    let mut block: Block = [0; BLOCK];
    let mut done = 0;
    while done < count {
        let len = (count - done).min(BLOCK);
        decode_block(cursor, len, &mut block)?;
        each(&mut block, len);
        done += len;
    }
    Ok(())
}

fn decode_block(cursor: &mut Cursor<'_>, len: usize, block: &mut Block) -> Result<(), Malformed> {
    let head = cursor.u8()?;
    let width = usize::from(head & !EXCEPTIONS);
    if width > 64 {
        return Err(cursor.malformed("packed width is over 64"));
    }
    let bytes = cursor.take((len * width).div_ceil(8))?;
    if bytes.len() == 8 * width {
        unpack(width, bytes, block);
    } else {
        let mut padded = [0u8; 8 * BLOCK];
        padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        unpack(width, padded.get(..8 * width).unwrap_or_default(), block);
    }
    if head & EXCEPTIONS != 0 {
        for _ in 0..cursor.bounded(len, "more exceptions than values")? {
            let place = usize::from(cursor.u8()?);
            let high = cursor.varint()?;
            let value = block.get_mut(..len).and_then(|block| block.get_mut(place));
            let value = value.ok_or_else(|| cursor.malformed("exception lies outside its block"))?;
            *value |= high.checked_shl(width as u32).unwrap_or(0);
        }
    }
    Ok(())
}

/// Unpacks 64 values of `W` bits; the width is a constant so that shifts and masks are, too.
#[inline]
#[expect(
    clippy::indexing_slicing,
    reason = "indices follow from the constant W: at most W <= 64, in an array of 65"
)]
fn unpack_width<const W: usize>(bytes: &[u8], block: &mut Block) {
    let mut words = [0u64; BLOCK + 1];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0).take(W) {
        *word = u64::from_le_bytes(*bytes);
    }
    let mask = if W == 0 { 0 } else { u64::MAX >> (64 - W) };
    for (i, out) in block.iter_mut().enumerate() {
        let (word, shift) = (i * W / 64, i * W % 64);
        let mut value = words[word] >> shift;
        if shift + W > 64 {
            value |= words[word + 1] << (64 - shift);
        }
        *out = value & mask;
    }
}

macro_rules! unpack_widths {
    ($($width:literal)*) => {
        /// Unpacks 64 values from `8 * width` bytes.
        fn unpack(width: usize, bytes: &[u8], block: &mut Block) {
            match width {
                $($width => {
                    #[inline(never)]
                    fn unpack(bytes: &[u8], block: &mut Block) {
                        unpack_width::<$width>(bytes, block);
                    }
                    unpack(bytes, block);
                })*
                _ => *block = [0; BLOCK],
            }
        }
    };
}
unpack_widths!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39
    40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode_all(bytes: &[u8], count: usize) -> Result<Vec<u64>, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let mut out = Vec::new();
        decode(&mut cursor, count, |block, len| out.extend_from_slice(&block[..len]))?;
        assert!(cursor.is_empty());
        Ok(out)
    }

    #[test]
    fn bytes_are_as_drawn() {
        let mut out = Vec::new();
        encode(&[1, 2, 3, 0, 1], &mut out);
        assert_eq!(out, [2, 0b0011_1001, 0b01]);
        out.clear();
        let mut values = [1; 16];
        values[3] = 0x1ff;
        encode(&values, &mut out);
        assert_eq!(out, [1 | 0x80, 0xff, 0xff, 1, 3, 0x7f | 0x80, 1]);
        assert_eq!(decode_all(&out, 16).unwrap(), values);
    }

    #[test]
    fn foreign_bytes_are_refused() {
        for (bytes, count) in [
            (&[65][..], 64),
            (&[0xff], 1),
            (&[0x81, 0, 9, 0], 8),
            (&[0x81, 0, 1, 200, 1], 8),
            (&[0x81, 0, 1, 8, 1], 8),
            (&[7, 1, 2], 64),
            (&[], 1),
        ] {
            assert!(decode_all(bytes, count).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(values in prop::collection::vec(
            (0u32..=64, any::<u64>()).prop_map(|(w, v)| if w == 64 { v } else { v & ((1 << w) - 1) }), 0..300)
        ) {
            let mut out = Vec::new();
            encode(&values, &mut out);
            prop_assert_eq!(out.len(), encoded_len(&values));
            prop_assert_eq!(decode_all(&out, values.len()).unwrap(), values);
        }

        #[test]
        fn narrow_values_with_outliers_round_trip(width in 0u32..64, seed in prop::collection::vec(any::<u64>(), 1..200), at: usize) {
            let mut values: Vec<u64> = seed.iter().map(|v| v & ((1 << width) - 1)).collect();
            let at = at % values.len();
            values[at] = seed[at];
            let mut out = Vec::new();
            encode(&values, &mut out);
            prop_assert_eq!(out.len(), encoded_len(&values));
            prop_assert_eq!(decode_all(&out, values.len()).unwrap(), values);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>, count in 0usize..500) {
            let mut cursor = Cursor::new(&bytes);
            let _ = decode(&mut cursor, count, |_, _| {});
        }
    }
}
