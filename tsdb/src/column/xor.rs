//! Gorilla's XOR encoding of floats, bit by bit as published.
//!
//! ```text
//!   first value          64 bits
//!   each further one     x = bits ^ bits of the value before
//!     0                  x is 0
//!     10 m               x fits the window of significant bits of the last 11: m is those bits
//!     11 l:5 n:6 m:n     a new window: l zeros in front (at most 31), n significant bits (64 is written as 0)
//! ```
//!
//! # Reference
//! Pelkonen et al., *Gorilla: a fast, scalable, in-memory time series database*, VLDB 2015, section 4.1.2.

use crate::codec::bits::{BitReader, BitWriter};
use crate::codec::{Cursor, Malformed};

/// Appends the values.
pub(super) fn encode(values: &[f64], out: &mut Vec<u8>) {
    let mut bits = BitWriter::new(out);
    let mut rest = values.iter().map(|v| v.to_bits());
    let Some(mut previous) = rest.next() else { return };
    bits.put(previous, 64);
    let (mut leading, mut trailing) = (u32::MAX, 0);
    for value in rest {
        let x = value ^ previous;
        previous = value;
        if x == 0 {
            bits.put(0, 1);
        } else if leading != u32::MAX && x.leading_zeros() >= leading && x.trailing_zeros() >= trailing {
            bits.put(0b10, 2);
            bits.put(x >> trailing, 64 - leading - trailing);
        } else {
            leading = x.leading_zeros().min(31);
            trailing = x.trailing_zeros();
            let significant = 64 - leading - trailing;
            bits.put(0b11, 2);
            bits.put(u64::from(leading), 5);
            bits.put(u64::from(significant), 6);
            bits.put(x >> trailing, significant);
        }
    }
    bits.finish();
}

/// Fills `out`.
pub(super) fn decode(cursor: &mut Cursor<'_>, out: &mut [f64]) -> Result<(), Malformed> {
    let mut bits = BitReader::new(cursor.rest());
    let Some((first, rest)) = out.split_first_mut() else {
        return Ok(());
    };
    let mut previous = bits.take(64)?;
    *first = f64::from_bits(previous);
    let (mut significant, mut trailing) = (0, 0);
    for value in rest {
        if bits.bit()? {
            if bits.bit()? {
                let window = bits.take(11)? as u32;
                let leading = window >> 6;
                significant = window & 63;
                if significant == 0 {
                    significant = 64;
                }
                if leading + significant > 64 {
                    return Err(cursor.malformed("xor window is over 64 bits"));
                }
                trailing = 64 - leading - significant;
            }
            previous ^= bits.take(significant)? << trailing;
        }
        *value = f64::from_bits(previous);
    }
    cursor.take(bits.position())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_as_published() {
        let mut out = Vec::new();
        encode(&[12.0, 12.0, 24.0, 15.0, 12.0], &mut out);
        // 12 = 0x4028.., 24 = 0x4038.., 15 = 0x402e..
        let expected = [
            // 12 whole
            "0100000000101000000000000000000000000000000000000000000000000000",
            // the same
            "0",
            // x = 0x0010..: 11 zeros, 1 significant bit
            "11 01011 000001 1",
            // x = 0x0016..: 11 zeros, 4 significant bits
            "11 01011 000100 1011",
            // x = 0x0006..: fits the window
            "10 0011",
        ];
        let bits: String = expected.concat().replace(' ', "");
        let bytes: Vec<u8> = bits
            .as_bytes()
            .chunks(8)
            .map(|c| c.iter().enumerate().fold(0, |b, (i, bit)| b | (bit - b'0') << (7 - i)))
            .collect();
        assert_eq!(out, bytes);
    }

    #[test]
    fn foreign_bits_are_refused() {
        for bytes in [&[0; 7][..], &[0; 8], &[0xff; 30]] {
            assert!(decode(&mut Cursor::new(bytes), &mut [0.0; 20]).is_err());
        }
    }
}
