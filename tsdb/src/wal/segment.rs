//! Frames in a file. Integers are little-endian; `crc` is CRC-32 (IEEE) of everything before it.
//!
//! ```text
//!   0        4          8          16       20                     a segment's header; number is that of its name
//!   +--------+----------+----------+--------+
//!   | "TGWL" | version  | number   | crc    |
//!   |        | u32      | u64      | u32    |
//!   +--------+----------+----------+--------+
//!
//!   0        4      5               5+len    9+len                 a frame; len counts the payload
//!   +--------+------+---------------+--------+
//!   | len    | kind | payload [len] | crc    |
//!   | u32    | u8   |               | u32    |
//!   +--------+------+---------------+--------+
//!   kind 1: the payload is a record;  2: it is the record's length (varint) and the record by zstd
//! ```
//!
//! Bytes at the end of the last segment that hold no whole frame: torn, cut off when it is opened, unless they are as
//! long as a frame that fails its checksum. Anywhere else: damage; reading goes on at the next whole frame.

use crate::codec::{Cursor, crc32, varint};

pub(crate) const MAGIC: [u8; 4] = *b"TGWL";
/// Version 2 added the entries of histograms and exemplars, and what came with them; version 1 reads as it did.
pub(crate) const VERSION: u32 = 2;
pub(crate) const HEADER_BYTES: usize = 20;
const FRAME_BYTES: usize = 9;
pub(crate) const PLAIN: u8 = 1;
pub(crate) const PACKED: u8 = 2;
/// Records below it are not worth packing.
const PACK_FROM_BYTES: usize = 96;
/// No record is longer, whatever a frame says.
pub(crate) const MAX_RECORD_BYTES: usize = 1 << 30;

pub(crate) fn name(number: u64) -> String {
    format!("{number:08}.seg")
}

pub(crate) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

pub(crate) fn header(number: u64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    let crc = crc32(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// What the start of a segment says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Header {
    Good,
    Newer(u32),
    /// Too short or not ours.
    Bad,
}

pub(crate) fn check_header(bytes: &[u8], expected: u64) -> Header {
    let mut cursor = Cursor::new(bytes);
    let (Ok(magic), Ok(version), Ok(found)) = (cursor.array::<4>(), cursor.u32(), cursor.u64()) else {
        return Header::Bad;
    };
    let sum = bytes.get(..HEADER_BYTES - 4).map(crc32);
    if magic != MAGIC || cursor.u32().ok() != sum || found != expected {
        return Header::Bad;
    }
    if version > VERSION {
        Header::Newer(version)
    } else {
        Header::Good
    }
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
        (self.packed.len() < record.len()).then_some(())
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

/// Looks for the frame at `at`.
pub(crate) fn frame_at(bytes: &[u8], at: usize) -> Found<'_> {
    if at >= bytes.len() {
        return Found::End;
    }
    match whole(bytes, at) {
        Some((kind, payload, end)) => Found::Frame { kind, payload, end },
        None => Found::Broken {
            next: (at + 1..bytes.len()).find(|at| likely(bytes, *at) && whole(bytes, *at).is_some()),
        },
    }
}

fn lengths(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let len = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize;
    let kind = *bytes.get(at + 4)?;
    let end = at.checked_add(len)?.checked_add(FRAME_BYTES)?;
    ((kind == PLAIN || kind == PACKED) && len > 0 && end <= bytes.len()).then_some((kind, end))
}

/// Whether a frame may begin here and another one after it: so few places are tried in earnest.
fn likely(bytes: &[u8], at: usize) -> bool {
    lengths(bytes, at).is_some_and(|(_, end)| end == bytes.len() || lengths(bytes, end).is_some())
}

fn whole(bytes: &[u8], at: usize) -> Option<(u8, &[u8], usize)> {
    let (kind, end) = lengths(bytes, at)?;
    let sum = u32::from_le_bytes(*bytes.get(end - 4..)?.first_chunk()?);
    let covered = bytes.get(at..end - 4)?;
    (crc32(covered) == sum).then_some((kind, covered.get(5..)?, end))
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
pub(crate) fn unpack(kind: u8, payload: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, &'static str> {
    if kind == PLAIN {
        return Ok(payload.into());
    }
    let mut cursor = Cursor::new(payload);
    let len = cursor.varint().map_err(|m| m.what)?;
    let len = usize::try_from(len)
        .ok()
        .filter(|l| *l <= MAX_RECORD_BYTES)
        .ok_or("a record is too long")?;
    let record = zstd::bulk::decompress(cursor.rest(), len).map_err(|_| "a record does not unpack")?;
    if record.len() != len {
        return Err("a record has another length than it says");
    }
    Ok(record.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_frame_are_as_drawn() {
        let head = header(7);
        assert_eq!(head[..16], [b'T', b'G', b'W', b'L', 2, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(head[16..], crc32(&head[..16]).to_le_bytes());
        assert_eq!(check_header(&head, 7), Header::Good);
        assert_eq!(check_header(&head, 8), Header::Bad);
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
        let Found::Frame { kind, payload, end } = frame_at(&bytes, 0) else {
            panic!()
        };
        assert_eq!(
            (kind, &*unpack(kind, payload).unwrap(), end),
            (PACKED, &records[0][..], starts[1])
        );
        for bit in 0..(starts[2] - starts[1]) * 8 {
            let mut bad = bytes.clone();
            bad[starts[1] + bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(frame_at(&bad, starts[1]), Found::Broken { next: Some(n) } if n == starts[2]),
                "bit {bit}"
            );
        }
        for cut in starts[2] + 1..bytes.len() {
            assert!(matches!(
                frame_at(&bytes[..cut], starts[2]),
                Found::Broken { next: None }
            ));
        }
    }

    #[test]
    fn names_carry_numbers() {
        assert_eq!((name(7), number("00000007.seg")), ("00000007.seg".to_owned(), Some(7)));
        assert_eq!(
            (number("00000000"), number("x.seg"), number("0000000a.seg")),
            (None, None, None)
        );
    }
}
