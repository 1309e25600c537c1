//! A stream of bits, most significant first, as Gorilla writes them.

use super::Malformed;

/// Appends bits to a byte vector; the last byte is filled up with zeros by [`BitWriter::finish`].
#[derive(Debug)]
pub(crate) struct BitWriter<'b> {
    out: &'b mut Vec<u8>,
    /// Pending bits, left-aligned.
    pending: u64,
    count: u32,
}

impl<'b> BitWriter<'b> {
    /// Writes behind what `out` holds.
    pub(crate) fn new(out: &'b mut Vec<u8>) -> Self {
        Self {
            out,
            pending: 0,
            count: 0,
        }
    }

    /// Appends the lowest `width` (0 to 64) bits of `value`.
    pub(crate) fn put(&mut self, value: u64, width: u32) {
        if width == 0 {
            return;
        }
        let value = value << (64 - width);
        self.pending |= value >> self.count;
        let total = self.count + width;
        if total < 64 {
            self.count = total;
            return;
        }
        self.out.extend_from_slice(&self.pending.to_be_bytes());
        let written = 64 - self.count;
        self.pending = if written == 64 { 0 } else { value << written };
        self.count = total - 64;
    }

    /// Writes the pending bits.
    pub(crate) fn finish(self) {
        let bytes = self.pending.to_be_bytes();
        self.out.extend(bytes.iter().take(self.count.div_ceil(8) as usize));
    }
}

/// Reads bits from the front of a slice.
#[derive(Debug)]
pub(crate) struct BitReader<'b> {
    bytes: &'b [u8],
    /// Bytes moved into `window` so far.
    at: usize,
    /// Unread bits, left-aligned, zeros behind.
    window: u64,
    count: u32,
}

impl<'b> BitReader<'b> {
    /// Reads from the start of `bytes`.
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            window: 0,
            count: 0,
        }
    }

    /// Fills the window to at least 57 bits, or with all that is left.
    #[inline]
    fn refill(&mut self) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if let Some(next) = rest.first_chunk::<8>() {
            // Whole bytes that fit; the bits beyond them are read again next time.
            let fit = (64 - self.count) / 8;
            let value = u64::from_be_bytes(*next);
            let value = if fit == 8 {
                value
            } else {
                value & !(u64::MAX >> (8 * fit))
            };
            if self.count < 64 {
                self.window |= value >> self.count;
            }
            self.at += fit as usize;
            self.count += 8 * fit;
            return;
        }
        for byte in rest {
            if self.count > 56 {
                return;
            }
            self.window |= u64::from(*byte) << (56 - self.count);
            self.count += 8;
            self.at += 1;
        }
    }

    /// The next `width` (0 to 64) bits.
    #[inline]
    pub(crate) fn take(&mut self, width: u32) -> Result<u64, Malformed> {
        if width > 32 {
            let high = self.take(width - 32)?;
            return Ok(high << 32 | self.take(32)?);
        }
        if width == 0 {
            return Ok(0);
        }
        if self.count < width {
            self.refill();
            if self.count < width {
                return Err(Malformed::new(self.at, "bits end too early"));
            }
        }
        let value = self.window >> (64 - width);
        self.window <<= width;
        self.count -= width;
        Ok(value)
    }

    /// The next bit.
    #[inline]
    pub(crate) fn bit(&mut self) -> Result<bool, Malformed> {
        Ok(self.take(1)? == 1)
    }

    /// Bytes touched so far, a partly read one included.
    pub(crate) fn position(&self) -> usize {
        self.at - (self.count / 8) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bits_go_most_significant_first() {
        let mut out = vec![7];
        let mut writer = BitWriter::new(&mut out);
        writer.put(1, 1);
        writer.put(0b01, 2);
        writer.put(0xff, 8);
        writer.finish();
        assert_eq!(out, [7, 0b1011_1111, 0b1110_0000]);
    }

    proptest! {
        #[test]
        fn round_trip(items in prop::collection::vec((any::<u64>(), 0u32..=64), 0..200)) {
            let mut out = Vec::new();
            let mut writer = BitWriter::new(&mut out);
            for (value, width) in &items {
                writer.put(*value, *width);
            }
            writer.finish();
            let bits: u32 = items.iter().map(|i| i.1).sum();
            prop_assert_eq!(out.len(), bits.div_ceil(8) as usize);
            let mut reader = BitReader::new(&out);
            for (value, width) in items {
                let masked = if width == 64 { value } else { value & ((1 << width) - 1) };
                prop_assert_eq!(reader.take(width).unwrap(), masked);
            }
            prop_assert_eq!(reader.position(), out.len());
            prop_assert!(reader.take(8).is_err());
        }
    }
}
