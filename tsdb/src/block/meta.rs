//! What a block says about itself.
//!
//! ```text
//!   [id 16] [range start i64] [range end i64] [first i64] [last i64] [samples u64]
//!   [series u32] [chunks u32] [timelines u32] [spans u32] [level u8] [parents u8] [parent id 16]{parents}
//! ```

use super::BlockId;
use crate::codec::{Cursor, Malformed};
use crate::column::EncodingChoice;
use tidegauge_model::{TimeRange, Timestamp};

/// The time a block answers for: `start` is in it, `end` is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRange {
    /// First instant.
    pub start: Timestamp,
    /// First instant behind it.
    pub end: Timestamp,
}

impl BlockRange {
    /// From `start` up to, but without, `end`.
    pub const fn new(start: Timestamp, end: Timestamp) -> Self {
        Self { start, end }
    }

    /// Whether an instant lies in it.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }

    /// Whether it shares an instant with a query's range.
    pub fn overlaps(&self, range: &TimeRange) -> bool {
        self.start <= range.end && range.start < self.end && self.start < self.end && !range.is_empty()
    }
}

/// What a block is to be.
#[derive(Debug, Clone)]
pub struct BlockSpec {
    /// Its name.
    pub id: BlockId,
    /// The time it answers for; all samples must lie in it.
    pub range: BlockRange,
    /// How values are encoded.
    pub encoding: EncodingChoice,
    /// How often its samples were compacted: 0 for a block cut from the head.
    pub level: u8,
    /// The blocks it was compacted from, which it replaces; at most 255.
    pub parents: Vec<BlockId>,
}

/// What a block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMeta {
    /// Its name.
    pub id: BlockId,
    /// The time it answers for.
    pub range: BlockRange,
    /// Time of the earliest sample; equal to the range's start if there is none.
    pub first: Timestamp,
    /// Time of the latest sample; equal to the range's start if there is none.
    pub last: Timestamp,
    /// Samples.
    pub samples: u64,
    /// Series.
    pub series: u32,
    /// Encoded runs of samples.
    pub chunks: u32,
    /// Distinct columns of timestamps.
    pub timelines: u32,
    /// Distinct sets of rows.
    pub spans: u32,
    /// How often its samples were compacted.
    pub level: u8,
    /// The blocks it replaces.
    pub parents: Vec<BlockId>,
    /// Size of its file in bytes.
    pub bytes: u64,
}

impl BlockMeta {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.id.bits().to_le_bytes().to_vec();
        for at in [self.range.start, self.range.end, self.first, self.last] {
            out.extend_from_slice(&at.millis().to_le_bytes());
        }
        out.extend_from_slice(&self.samples.to_le_bytes());
        for count in [self.series, self.chunks, self.timelines, self.spans] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        let parents = u8::try_from(self.parents.len()).unwrap_or(u8::MAX);
        out.extend_from_slice(&[self.level, parents]);
        for parent in self.parents.iter().take(usize::from(parents)) {
            out.extend_from_slice(&parent.bits().to_le_bytes());
        }
        out
    }

    pub(super) fn decode(bytes: &[u8], file_bytes: u64) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let id = |cursor: &mut Cursor<'_>| cursor.array().map(u128::from_le_bytes).map(BlockId::from_bits);
        let time = |cursor: &mut Cursor<'_>| cursor.i64().map(Timestamp::from_millis);
        let mut meta = Self {
            id: id(&mut cursor)?,
            range: BlockRange::new(time(&mut cursor)?, time(&mut cursor)?),
            first: time(&mut cursor)?,
            last: time(&mut cursor)?,
            samples: cursor.u64()?,
            series: cursor.u32()?,
            chunks: cursor.u32()?,
            timelines: cursor.u32()?,
            spans: cursor.u32()?,
            level: cursor.u8()?,
            parents: Vec::new(),
            bytes: file_bytes,
        };
        for _ in 0..cursor.u8()? {
            meta.parents.push(id(&mut cursor)?);
        }
        if cursor.is_empty() {
            Ok(meta)
        } else {
            Err(cursor.malformed("bytes are left behind the block's description"))
        }
    }
}
