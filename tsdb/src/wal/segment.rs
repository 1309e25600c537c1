//! Frames in a file. Integers are little-endian; `crc` is CRC-32 (IEEE) of everything before it.
//!
//! ```text
//!   0                    20
//!   +--------------------+-------+-------+---                      a segment; its header is drawn in `crate::numbered`
//!   | header "TGWL" [20] | frame | frame | ...
//!   +--------------------+-------+-------+---
//!
//!   0        4      5               5+len    9+len                 a frame; len counts the payload
//!   +--------+------+---------------+--------+
//!   | len    | kind | payload [len] | crc    |
//!   | u32    | u8   |               | u32    |
//!   +--------+------+---------------+--------+
//!   kind 1: the payload is a record;  2: it is the record's length (varint) and the record by zstd; the record is no
//!           longer than 256 times the payload, or 1 MiB
//! ```
//!
//! Bytes at the end of the last segment that hold no whole frame: torn, cut off when it is opened, unless they are as
//! long as a frame that fails its checksum. Anywhere else: damage; reading goes on at the next whole frame.

use crate::codec::{Cursor, ZstdPool, crc32, varint};
use crate::numbered::NumberedFile;
use crc32fast::Hasher;

/// The files of the log. Version 2 added the entries of histograms and exemplars, and what came with them; version 3
/// tells of a column by what differs from the one before. Older versions read as they did.
pub(crate) const FILES: NumberedFile = NumberedFile {
    extension: "seg",
    magic: *b"TGWL",
    version: 3,
};
const FRAME_BYTES: usize = 9;
pub(crate) const PLAIN: u8 = 1;
pub(crate) const PACKED: u8 = 2;
/// Records below it are not worth packing.
const PACK_FROM_BYTES: usize = 96;
/// No record is longer, whatever a frame says.
pub(crate) const MAX_RECORD_BYTES: usize = 1 << 30;
/// A record that packs better than this is left plain, so that a frame cannot ask for much more memory than it takes.
const MAX_PACKING: usize = 256;
/// Records up to this size may pack as well as they like.
const SMALL_RECORD_BYTES: usize = 1 << 20;

/// The longest record that a packed payload may hold.
fn longest_record(payload_bytes: usize) -> usize {
    payload_bytes
        .saturating_mul(MAX_PACKING)
        .clamp(SMALL_RECORD_BYTES, MAX_RECORD_BYTES)
}

/// Turns records into frames; keeps its buffers.
pub(crate) struct Framer {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    packed: Vec<u8>,
    frame: Vec<u8>,
}

impl std::fmt::Debug for Framer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Framer")
    }
}

impl Framer {
    pub(crate) fn new() -> Self {
        Self {
            // Without a compressor frames are plain, which is as good.
            compressor: zstd::bulk::Compressor::new(1).ok(),
            packed: Vec::new(),
            frame: Vec::new(),
        }
    }

    /// The frame of a record.
    pub(crate) fn frame(&mut self, record: &[u8]) -> &[u8] {
        let packed = self.pack(record);
        let (kind, payload) = match packed {
            Some(()) => (PACKED, &self.packed[..]),
            None => (PLAIN, record),
        };
        self.frame.clear();
        // Appenders bound a commit far below 4 GiB.
        self.frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        self.frame.push(kind);
        self.frame.extend_from_slice(payload);
        let crc = crc32(&self.frame);
        self.frame.extend_from_slice(&crc.to_le_bytes());
        &self.frame
    }

    fn pack(&mut self, record: &[u8]) -> Option<()> {
        if record.len() < PACK_FROM_BYTES {
            return None;
        }
        let body = zstd::zstd_safe::compress_bound(record.len());
        self.packed.clear();
        varint::put(&mut self.packed, record.len() as u64);
        let head = self.packed.len();
        self.packed.resize(head + body, 0);
        let room = self.packed.get_mut(head..)?;
        let n = self.compressor.as_mut()?.compress_to_buffer(record, room).ok()?;
        self.packed.truncate(head + n);
        if self.packed.capacity() > (4 << 20) {
            self.packed.shrink_to(n + 64);
        }
        let gains = self.packed.len() < record.len() && record.len() <= longest_record(self.packed.len());
        gains.then_some(())
    }
}

/// What is at a place of a segment.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// A whole frame, its kind and payload, and where it ends.
    Frame { kind: u8, payload: &'a [u8], end: usize },
    /// Nothing more.
    End,
    /// Bytes that are no whole frame; the next one starts at `next`, if there is one.
    Broken { next: Option<usize> },
}

/// Finds the frames of a segment. However it is damaged, the work stays about linear in its length.
#[derive(Debug)]
pub(crate) struct Frames<'b> {
    bytes: &'b [u8],
    /// Made when the first damage is met.
    sums: Option<Sums>,
}

impl<'b> Frames<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, sums: None }
    }

    /// Looks for the frame at `at`.
    pub(crate) fn at(&mut self, at: usize) -> Found<'b> {
        if at >= self.bytes.len() {
            return Found::End;
        }
        if let Some((kind, payload, end)) = self.whole(at) {
            return Found::Frame { kind, payload, end };
        }
        self.sums.get_or_insert_with(|| Sums::of(self.bytes));
        Found::Broken {
            next: (at + 1..self.bytes.len()).find(|at| self.whole(*at).is_some()),
        }
    }

    fn whole(&self, at: usize) -> Option<(u8, &'b [u8], usize)> {
        let len = u32::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?) as usize;
        let kind = *self.bytes.get(at + 4)?;
        let end = at.checked_add(len)?.checked_add(FRAME_BYTES)?;
        if !(kind == PLAIN || kind == PACKED) || len == 0 || end > self.bytes.len() {
            return None;
        }
        let stored = u32::from_le_bytes(*self.bytes.get(end - 4..)?.first_chunk()?);
        let covered = self.bytes.get(at..end - 4)?;
        let sum = match &self.sums {
            Some(sums) if covered.len() > 2 * SUM_EVERY => sums.range(self.bytes, at, end - 4),
            _ => crc32(covered),
        };
        (sum == stored).then_some((kind, covered.get(5..)?, end))
    }
}

/// Bytes between two places whose checksums are kept.
const SUM_EVERY: usize = 4096;

/// Checksums of a file's beginnings, from which that of any part follows without reading all of it: a damaged length
/// may claim megabytes at place after place.
#[derive(Debug)]
struct Sums(Vec<u32>);

impl Sums {
    fn of(bytes: &[u8]) -> Self {
        let mut sums = vec![0];
        let mut hasher = Hasher::new();
        for part in bytes.chunks(SUM_EVERY) {
            hasher.update(part);
            sums.push(hasher.clone().finalize());
        }
        Self(sums)
    }

    /// The checksum of the bytes before `end`.
    fn before(&self, bytes: &[u8], end: usize) -> u32 {
        let kept = end / SUM_EVERY;
        let mut hasher = Hasher::new_with_initial(self.0.get(kept).copied().unwrap_or(0));
        hasher.update(bytes.get(kept * SUM_EVERY..end).unwrap_or_default());
        hasher.finalize()
    }

    fn range(&self, bytes: &[u8], start: usize, end: usize) -> u32 {
        // The sum of a whole is that of its first part, moved on by the length of the second, XOR that of the second.
        let mut moved = Hasher::new_with_initial_len(self.before(bytes, start), start as u64);
        moved.combine(&Hasher::new_with_initial_len(0, (end - start) as u64));
        moved.finalize() ^ self.before(bytes, end)
    }
}

/// Whether bytes that hold no whole frame, at the end of the last segment, are the front of one: what a write leaves
/// that did not get through. If the frame is all there but fails its checksum, it was whole once and is damaged.
pub(crate) fn is_torn(bytes: &[u8], at: usize) -> bool {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(payload) = rest.len().checked_sub(FRAME_BYTES) else {
        return true;
    };
    // The system may have lengthened the file before it wrote the bytes.
    if rest.iter().rev().take(4).all(|b| *b == 0) {
        return true;
    }
    let length = (payload as u32).to_le_bytes();
    if rest.starts_with(&length) {
        return false;
    }
    // With the length that fits the checksum is right: the length is what changed.
    let mut mended = length.to_vec();
    mended.extend_from_slice(rest.get(4..rest.len() - 4).unwrap_or_default());
    !rest.ends_with(&crc32(&mended).to_le_bytes())
}

/// The record of a frame.
pub(crate) fn unpack<'p>(
    kind: u8,
    payload: &'p [u8],
    zstd: &ZstdPool,
) -> Result<std::borrow::Cow<'p, [u8]>, &'static str> {
    if kind == PLAIN {
        return Ok(payload.into());
    }
    let mut cursor = Cursor::new(payload);
    let len = cursor.varint().map_err(|m| m.what)?;
    let len = usize::try_from(len)
        .ok()
        .filter(|l| *l <= longest_record(payload.len()))
        .ok_or("a record is too long")?;
    let record = zstd.decompress(cursor.rest(), len);
    record.map(Into::into).ok_or("a record does not unpack to what it says")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_frame_are_as_drawn() {
        let head = FILES.header(7);
        assert_eq!(head[..16], [b'T', b'G', b'W', b'L', 3, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(FILES.name(7), "00000007.seg");
        let mut framer = Framer::new();
        let frame = framer.frame(b"abc").to_vec();
        assert_eq!(frame[..8], [3, 0, 0, 0, 1, b'a', b'b', b'c']);
        assert_eq!(frame[8..], crc32(&frame[..8]).to_le_bytes());
    }

    #[test]
    fn frames_pack_where_it_pays_and_damage_is_stepped_over() {
        let mut framer = Framer::new();
        let records = [vec![1u8; 500], vec![2; 20], vec![3; 300]];
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for r in &records {
            starts.push(bytes.len());
            bytes.extend_from_slice(framer.frame(r));
        }
        let Found::Frame { kind, payload, end } = Frames::new(&bytes).at(0) else {
            panic!()
        };
        assert_eq!(
            (kind, &*unpack(kind, payload, &ZstdPool::default()).unwrap(), end),
            (PACKED, &records[0][..], starts[1])
        );
        for bit in 0..(starts[2] - starts[1]) * 8 {
            let mut bad = bytes.clone();
            bad[starts[1] + bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(Frames::new(&bad).at(starts[1]), Found::Broken { next: Some(n) } if n == starts[2]),
                "bit {bit}"
            );
        }
        for cut in starts[2] + 1..bytes.len() {
            assert!(matches!(
                Frames::new(&bytes[..cut]).at(starts[2]),
                Found::Broken { next: None }
            ));
        }
    }

    #[test]
    fn a_whole_frame_between_two_damaged_ones_is_found() {
        let mut framer = Framer::new();
        let mut bytes = Vec::new();
        let starts: Vec<usize> = (0..4u8)
            .map(|i| {
                bytes.extend_from_slice(framer.frame(&[i + 1; 40]));
                bytes.len()
            })
            .collect();
        for place in [3, starts[1] + 3] {
            bytes[place] ^= 0xff;
        }
        let mut frames = Frames::new(&bytes);
        assert!(matches!(frames.at(0), Found::Broken { next: Some(n) } if n == starts[0]));
        assert!(matches!(frames.at(starts[0]), Found::Frame { .. }));
        assert!(matches!(frames.at(starts[1]), Found::Broken { next: Some(n) } if n == starts[2]));
    }

    #[test]
    fn sums_of_parts_follow_from_those_of_beginnings() {
        let bytes: Vec<u8> = (0..50_000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let sums = Sums::of(&bytes);
        for (start, end) in [
            (0, 0),
            (0, 50_000),
            (1, 4096),
            (4096, 8192),
            (4095, 12_289),
            (777, 49_999),
            (9, 9),
        ] {
            assert_eq!(
                sums.range(&bytes, start, end),
                crc32(&bytes[start..end]),
                "{start}..{end}"
            );
        }
    }

    /// Every place claims a frame of 16 MiB: reading each of them for its checksum would take an hour.
    #[test]
    fn a_large_damaged_segment_is_searched_in_time() {
        let mut bytes = FILES.header(1);
        bytes.resize(17 << 20, 1);
        bytes.extend_from_slice(&[0xff; 16]);
        let start = bytes.len();
        bytes.extend_from_slice(Framer::new().frame(b"abc"));
        bytes.extend_from_slice(Framer::new().frame(b"def"));
        let began = std::time::Instant::now();
        let found = Frames::new(&bytes).at(crate::numbered::HEADER_BYTES);
        assert!(
            matches!(found, Found::Broken { next: Some(n) } if n == start),
            "{found:?}"
        );
        // Generous: half a million candidates, a few microseconds each.
        assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    }

    #[test]
    fn a_record_that_packs_too_well_is_left_plain() {
        let mut framer = Framer::new();
        for (len, packed) in [(1 << 20, true), (8 << 20, false)] {
            let record = vec![0; len];
            let frame = framer.frame(&record).to_vec();
            assert_eq!(frame[4] == PACKED, packed, "{len}");
            let Found::Frame { kind, payload, .. } = Frames::new(&frame).at(0) else {
                panic!("a frame")
            };
            assert_eq!(&*unpack(kind, payload, &ZstdPool::default()).unwrap(), &record[..]);
        }
        let mut bomb = Vec::new();
        varint::put(&mut bomb, 512 << 20);
        bomb.extend(zstd::bulk::compress(&vec![0; 8 << 20], 1).unwrap());
        assert_eq!(unpack(PACKED, &bomb, &ZstdPool::default()), Err("a record is too long"));
    }
}
