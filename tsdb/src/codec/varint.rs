//! Integers of variable length: seven bits a byte, least significant first, the high bit says that more follow
//! (LEB128). Signed ones are folded first, so that small magnitudes stay short: 0, -1, 1, -2 become 0, 1, 2, 3.

/// The most bytes an integer takes.
pub(crate) const MAX_BYTES: usize = 10;

/// Appends an unsigned integer.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The bytes of an unsigned integer and how many they are, for where a vector would have to be made first.
pub(crate) fn bytes(mut value: u64) -> ([u8; MAX_BYTES], usize) {
    let (mut out, mut len) = ([0; MAX_BYTES], 0);
    for byte in &mut out {
        len += 1;
        if value < 0x80 {
            *byte = value as u8;
            break;
        }
        *byte = value as u8 | 0x80;
        value >>= 7;
    }
    (out, len)
}

/// Appends a signed integer.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, zigzag(value));
}

/// How many bytes [`put`] takes.
pub(crate) fn len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Folds a signed integer into an unsigned one.
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Undoes [`zigzag`].
pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::super::Cursor;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encoding_is_as_drawn() {
        for (value, bytes) in [
            (0, &[0][..]),
            (127, &[127]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(len(value), bytes.len());
            let (short, len) = super::bytes(value);
            assert_eq!(&short[..len], bytes);
        }
        assert_eq!([0, -1, 1, -2, i64::MIN].map(zigzag), [0, 1, 2, 3, u64::MAX]);
    }

    proptest! {
        #[test]
        fn round_trip(values: Vec<u64>, signed: Vec<i64>) {
            let mut out = Vec::new();
            values.iter().for_each(|v| put(&mut out, *v));
            signed.iter().for_each(|v| put_signed(&mut out, *v));
            let mut cursor = Cursor::new(&out);
            for v in values {
                prop_assert_eq!(cursor.varint().unwrap(), v);
            }
            for v in signed {
                prop_assert_eq!(cursor.signed().unwrap(), v);
            }
            prop_assert!(cursor.is_empty());
        }
    }
}
