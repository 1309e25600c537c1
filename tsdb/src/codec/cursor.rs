//! A reader over foreign bytes that checks every step.

use super::{Malformed, varint};

/// Reads from the front of a slice; remembers where it is for error messages.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    /// Reads from the start of `bytes`.
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &'b [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// How many bytes are left.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// An error at this place.
    pub(crate) fn malformed(&self, what: &'static str) -> Malformed {
        Malformed::new(self.at, what)
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'b [u8], Malformed> {
        let end = self.at.checked_add(len);
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(bytes) => {
                self.at += len;
                Ok(bytes)
            }
            None => Err(self.malformed("ends too early")),
        }
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        match self.rest().first_chunk() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(self.malformed("ends too early")),
        }
    }

    /// One byte.
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    /// Four bytes, little-endian.
    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian.
    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// Eight bytes, little-endian, two's complement.
    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    /// An unsigned integer of variable length.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        // Most are one byte.
        match self.bytes.get(self.at) {
            Some(byte) if byte & 0x80 == 0 => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (i, byte) in self.rest().iter().take(varint::MAX_BYTES).enumerate() {
            let part = u64::from(byte & 0x7f);
            if i == varint::MAX_BYTES - 1 && part > 1 {
                return Err(self.malformed("integer is too large"));
            }
            value |= part << (7 * i);
            if byte & 0x80 == 0 {
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(self.malformed("integer does not end"))
    }

    /// A signed integer of variable length.
    pub(crate) fn signed(&mut self) -> Result<i64, Malformed> {
        self.varint().map(varint::unzigzag)
    }

    /// An unsigned integer of variable length that is to be at most `max`.
    pub(crate) fn bounded(&mut self, max: usize, what: &'static str) -> Result<usize, Malformed> {
        let start = self.at;
        match usize::try_from(self.varint()?) {
            Ok(value) if value <= max => Ok(value),
            _ => Err(Malformed::new(start, what)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_past_the_end() {
        let mut cursor = Cursor::new(&[1, 2, 3]);
        assert_eq!(cursor.take(2).unwrap(), [1, 2]);
        assert_eq!(cursor.take(2), Err(Malformed::new(2, "ends too early")));
        assert_eq!(cursor.u32(), Err(Malformed::new(2, "ends too early")));
        assert_eq!(cursor.take(usize::MAX), Err(Malformed::new(2, "ends too early")));
        assert_eq!(cursor.u8().unwrap(), 3);
        assert!(cursor.is_empty() && cursor.u8().is_err());
    }

    #[test]
    fn endless_large_and_out_of_bound_integers_are_refused() {
        assert!(Cursor::new(&[0x80; 3]).varint().is_err());
        assert!(Cursor::new(&[0x80; 20]).varint().is_err());
        let mut large = [0xff; 10];
        large[9] = 2;
        assert!(Cursor::new(&large).varint().is_err());
        assert_eq!(Cursor::new(&[5]).bounded(4, "x"), Err(Malformed::new(0, "x")));
        assert_eq!(Cursor::new(&[5]).bounded(5, "x"), Ok(5));
    }
}
