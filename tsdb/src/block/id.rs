//! Names of blocks: 128 bits, 48 of time and 80 of chance, written so that the order of the texts is that of time.

use std::fmt;
use std::str::FromStr;

/// Names a block: 26 characters, as a ULID is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(u128);

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LEN: usize = 26;

/// A text that names no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a block id")]
pub struct NotABlockId;

impl BlockId {
    /// A name made at a time (milliseconds since the epoch); the lowest 80 bits of `entropy` keep it apart from others
    /// of the same millisecond.
    pub fn new(time_ms: u64, entropy: u128) -> Self {
        Self(u128::from(time_ms & 0xffff_ffff_ffff) << 80 | entropy & ((1 << 80) - 1))
    }

    /// From its bits.
    pub fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// Its bits.
    pub fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |i: usize| self.0 >> (5 * (LEN - 1 - i)) & 31;
        let text: String = (0..LEN)
            .filter_map(|i| DIGITS.get(digit(i) as usize))
            .map(|d| char::from(*d))
            .collect();
        f.pad(&text)
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlockId {
    type Err = NotABlockId;

    fn from_str(text: &str) -> Result<Self, NotABlockId> {
        if text.len() != LEN || !matches!(text.as_bytes().first(), Some(b'0'..=b'7')) {
            return Err(NotABlockId);
        }
        let mut bits = 0u128;
        for byte in text.bytes() {
            let digit = DIGITS.iter().position(|d| *d == byte).ok_or(NotABlockId)?;
            bits = bits << 5 | digit as u128;
        }
        Ok(Self(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_sorts_by_time_and_reads_back() {
        let early = BlockId::new(1_469_918_176_385, 0x1234);
        let late = BlockId::new(1_469_918_176_386, 0);
        assert_eq!(early.to_string(), "01ARYZ6S4100000000000004HM");
        assert!(early < late && early.to_string() < late.to_string());
        for id in [early, late, BlockId::from_bits(u128::MAX), BlockId::from_bits(0)] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        for text in [
            "",
            "wal",
            "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "01ARYZ6S41000000000000L4HM",
            "01ARYZ6S4100000000000004H",
        ] {
            assert_eq!(text.parse::<BlockId>(), Err(NotABlockId), "{text}");
        }
    }
}
