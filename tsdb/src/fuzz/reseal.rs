//! Sets the checksums of a file right, as far as its tables still say where they are, so that what is behind them is
//! read. Knows the formats from `docs/formats`, not from the code under test.

use crate::codec::crc32;
use std::ops::Range;

const ENTRY: usize = 24;
const FOOTER: usize = 24;

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u64::from_le_bytes(*bytes)).ok()
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..).and_then(|b| b.first_chunk_mut()) {
        *place = value.to_le_bytes();
    }
}

fn range(offset: usize, length: usize) -> Option<Range<usize>> {
    Some(offset..offset.checked_add(length)?)
}

/// A block's file.
pub(super) fn block(bytes: &mut [u8]) -> Option<()> {
    let footer = bytes.len().checked_sub(FOOTER)?;
    for (at, text) in [(0, b"TIDEBLK1"), (footer + 16, b"1KLBEDIT")] {
        *bytes.get_mut(at..)?.first_chunk_mut()? = *text;
    }
    put(bytes, 8, 1);
    put(bytes, 12, 0);
    let toc = word(bytes, footer)?;
    let entries = (footer.checked_sub(toc)?) / ENTRY;
    let section = |bytes: &[u8], no: usize| {
        let at = toc + no * ENTRY;
        range(word(bytes, at + 8)?, word(bytes, at + 16)?)
    };
    if let (Some(frames), Some(directory)) = (section(bytes, 0), section(bytes, 1)) {
        for at in directory.step_by(ENTRY) {
            let stored = word(bytes, at).and_then(|offset| {
                let start = frames.start.checked_add(offset)?;
                bytes.get(range(start, half(bytes, at + 8)? as usize)?)
            });
            match stored.map(crc32) {
                Some(crc) => put(bytes, at + 20, crc),
                None => break,
            }
        }
    }
    for no in 1..entries {
        if let Some(crc) = section(bytes, no).and_then(|r| bytes.get(r)).map(crc32) {
            put(bytes, toc + no * ENTRY + 4, crc);
        }
    }
    let covered = [bytes.get(..16)?, bytes.get(toc..footer + 12)?].concat();
    put(bytes, footer + 12, crc32(&covered));
    Some(())
}

/// The header of a numbered file.
fn header(bytes: &mut [u8], magic: &[u8; 4], version: u32, number: u64) -> Option<()> {
    *bytes.first_chunk_mut()? = *magic;
    put(bytes, 4, version);
    *bytes.get_mut(8..)?.first_chunk_mut()? = number.to_le_bytes();
    let crc = crc32(bytes.get(..16)?);
    put(bytes, 16, crc);
    Some(())
}

/// A segment of the log, of that number.
pub(super) fn segment(bytes: &mut [u8], number: u64) -> Option<()> {
    let version = half(bytes, 4).filter(|version| *version <= 2).unwrap_or(1);
    header(bytes, b"TGWL", version, number)?;
    let mut at = 20usize;
    while let Some(len) = half(bytes, at) {
        let end = at.checked_add(5)?.checked_add(len as usize)?;
        let sum = crc32(bytes.get(at..end)?);
        put(bytes, end, sum);
        at = end.checked_add(4)?;
    }
    Some(())
}

/// A checkpoint of that number.
pub(super) fn checkpoint(bytes: &mut [u8], number: u64) -> Option<()> {
    header(bytes, b"TGCK", 1, number)?;
    let mut at = 20usize;
    while let Some(len) = word(bytes, at.checked_add(4)?) {
        let end = at.checked_add(12)?.checked_add(len)?;
        let Some(sum) = bytes.get(at..end).map(crc32) else {
            break;
        };
        put(bytes, end, sum);
        at = end.checked_add(4)?;
    }
    Some(())
}

/// A file of runs, of that number.
pub(super) fn runs(bytes: &mut [u8], number: u64) -> Option<()> {
    const PAGE: usize = 4096;
    let footer = bytes.len().checked_sub(20)?;
    header(bytes, b"TGRN", 1, number)?;
    *bytes.get_mut(footer + 16..)?.first_chunk_mut()? = *b"TGRE";
    let directory = word(bytes, footer)?;
    let sums = footer.checked_sub(directory.div_ceil(PAGE).checked_mul(4)?)?;
    for page in 0..directory.div_ceil(PAGE) {
        let sum = crc32(bytes.get(page * PAGE..((page + 1) * PAGE).min(directory))?);
        put(bytes, sums + page * 4, sum);
    }
    let identity = crc32(bytes.get(directory..footer + 12)?);
    put(bytes, footer + 12, identity);
    Some(())
}

/// The tombstones of the block of that id.
pub(super) fn tombstones(bytes: &mut [u8], id: u128) -> Option<()> {
    *bytes.first_chunk_mut()? = *b"TIDETMB1";
    put(bytes, 8, 1);
    *bytes.get_mut(12..)?.first_chunk_mut()? = id.to_le_bytes();
    let end = bytes.len().checked_sub(4).filter(|end| *end >= 28)?;
    let crc = crc32(bytes.get(..end)?);
    put(bytes, end, crc);
    Some(())
}
