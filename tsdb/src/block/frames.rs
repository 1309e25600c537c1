//! Frames: the values of neighbouring series, compressed together.
//!
//! ```text
//!   directory, 24 bytes per frame                                            offset: from the start of the frames
//!   +------------+----------------+-------------+-----------------+---------+
//!   | offset u64 | stored len u32 | raw len u32 | first chunk u32 | crc u32 |     crc: of the stored bytes
//!   +------------+----------------+-------------+-----------------+---------+
//!
//!   a frame, raw (stored by zstd where stored < raw)
//!   [chunk length varint]{chunks} [chunk]{chunks}                            a chunk is a column of floats
//! ```

use crate::codec::{Cursor, Malformed, ZstdPool, crc32, varint};

/// A frame is closed once it holds this many raw bytes of chunks, or [`MAX_CHUNKS`].
const TARGET_BYTES: usize = 16 << 10;
/// The same where chunks are of several windows: as many series as before stay together, whose values are alike.
const MERGED_TARGET_BYTES: usize = 64 << 10;
const MAX_CHUNKS: usize = 255;
/// A frame's raw length is refused beyond this.
const MAX_RAW_BYTES: usize = 1 << 20;
const LEVEL: i32 = 1;
const ENTRY: usize = 24;

/// Gathers chunks into frames.
#[derive(Debug)]
pub(super) struct FrameBuilder {
    target_bytes: usize,
    lengths: Vec<u8>,
    chunks: Vec<u8>,
    in_frame: usize,
    next_chunk: u32,
    offset: u64,
    directory: Vec<u8>,
}

impl FrameBuilder {
    /// For a block of that level.
    pub(super) fn new(level: u8) -> Self {
        Self {
            target_bytes: if level == 0 { TARGET_BYTES } else { MERGED_TARGET_BYTES },
            lengths: Vec::new(),
            chunks: Vec::new(),
            in_frame: 0,
            next_chunk: 0,
            offset: 0,
            directory: Vec::new(),
        }
    }

    /// Appends a chunk; gives the bytes of a frame that is full.
    pub(super) fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Option<Vec<u8>> {
        let start = self.chunks.len();
        encode(&mut self.chunks);
        varint::put(&mut self.lengths, (self.chunks.len() - start) as u64);
        self.in_frame += 1;
        let full = self.chunks.len() >= self.target_bytes || self.in_frame == MAX_CHUNKS;
        full.then(|| self.close())
    }

    /// The last frame, and the directory.
    pub(super) fn finish(&mut self) -> (Vec<u8>, Vec<u8>) {
        let last = if self.in_frame > 0 { self.close() } else { Vec::new() };
        (last, std::mem::take(&mut self.directory))
    }

    fn close(&mut self) -> Vec<u8> {
        let mut raw = std::mem::take(&mut self.lengths);
        raw.append(&mut self.chunks);
        let packed = zstd::bulk::compress(&raw, LEVEL).unwrap_or_default();
        let raw_len = raw.len();
        // A little gain is not worth the time it takes to undo.
        let gains = !packed.is_empty() && packed.len() < raw_len - raw_len / 32;
        let stored = if gains { packed } else { raw };
        self.directory.extend_from_slice(&self.offset.to_le_bytes());
        for field in [stored.len() as u32, raw_len as u32, self.next_chunk, crc32(&stored)] {
            self.directory.extend_from_slice(&field.to_le_bytes());
        }
        self.offset += stored.len() as u64;
        self.next_chunk += self.in_frame as u32;
        self.in_frame = 0;
        stored
    }
}

/// Where a frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameEntry {
    pub(super) offset: u64,
    pub(super) stored: usize,
    raw: usize,
    pub(super) first_chunk: u32,
    crc: u32,
    /// How many chunks it holds.
    chunks: usize,
}

/// Reads the directory in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameDirectory<'b> {
    entries: &'b [[u8; ENTRY]],
    chunks: u32,
}

fn first_chunk(entry: &[u8; ENTRY]) -> u32 {
    let field = entry.as_chunks::<4>().0.get(4);
    field.map_or(0, |f| u32::from_le_bytes(*f))
}

impl<'b> FrameDirectory<'b> {
    pub(super) fn new(bytes: &'b [u8], chunks: u32) -> Result<Self, Malformed> {
        let (entries, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(Malformed::new(0, "directory of frames has another length"));
        }
        Ok(Self { entries, chunks })
    }

    /// Checks that frames and their chunks follow each other, none twice.
    pub(super) fn check(&self) -> Result<(), Malformed> {
        let (mut offset, mut chunk) = (0, 0);
        for no in 0..self.entries.len() as u32 {
            let entry = self.get(no)?;
            if entry.offset < offset || entry.first_chunk != chunk || entry.chunks == 0 {
                return Err(Malformed::new(no as usize * ENTRY, "frames overlap"));
            }
            offset = entry.offset.saturating_add(entry.stored as u64);
            chunk += entry.chunks as u32;
        }
        if chunk != self.chunks {
            return Err(Malformed::new(0, "frames do not hold all chunks"));
        }
        Ok(())
    }

    /// How many frames there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of the frame that holds a chunk.
    pub(super) fn frame_of(&self, chunk: u32) -> Result<u32, Malformed> {
        let behind = self.entries.partition_point(|e| first_chunk(e) <= chunk);
        let frame = behind.checked_sub(1).filter(|_| chunk < self.chunks);
        frame.map(|f| f as u32).ok_or(Malformed::new(0, "no such chunk"))
    }

    pub(super) fn get(&self, frame: u32) -> Result<FrameEntry, Malformed> {
        let at = frame as usize;
        let entry = self.entries.get(at).ok_or(Malformed::new(0, "no such frame"))?;
        let next_chunk = self.entries.get(at + 1).map_or(self.chunks, first_chunk);
        let mut cursor = Cursor::new(entry);
        let mut entry = FrameEntry {
            offset: cursor.u64()?,
            stored: cursor.u32()? as usize,
            raw: cursor.u32()? as usize,
            first_chunk: cursor.u32()?,
            crc: cursor.u32()?,
            chunks: 0,
        };
        entry.chunks = next_chunk.saturating_sub(entry.first_chunk) as usize;
        if entry.stored > entry.raw || entry.raw > MAX_RAW_BYTES || entry.chunks > MAX_CHUNKS {
            return Err(Malformed::new(at * ENTRY, "frame is over its bounds"));
        }
        Ok(entry)
    }
}

/// A frame's chunks.
#[derive(Debug)]
pub(super) struct Frame {
    raw: Box<[u8]>,
    /// Where each chunk ends; the first begins where the lengths end.
    bounds: Box<[u32]>,
}

impl Frame {
    /// Checks and decompresses the stored bytes.
    pub(super) fn decode(entry: &FrameEntry, stored: Vec<u8>, zstd: &ZstdPool) -> Result<Self, Malformed> {
        if crc32(&stored) != entry.crc {
            return Err(Malformed::new(0, "frame fails its checksum"));
        }
        let raw = if stored.len() < entry.raw {
            let raw = zstd.decompress(&stored, entry.raw);
            raw.ok_or(Malformed::new(0, "frame does not decompress"))?
        } else {
            stored
        };
        let mut cursor = Cursor::new(&raw);
        let mut lengths = Vec::with_capacity(entry.chunks);
        for _ in 0..entry.chunks {
            lengths.push(cursor.bounded(raw.len(), "chunk is too long")?);
        }
        let mut end = cursor.position();
        let mut bounds = vec![end as u32];
        for length in lengths {
            end += length;
            bounds.push(end as u32);
        }
        if end != raw.len() {
            return Err(cursor.malformed("chunks do not fill their frame"));
        }
        Ok(Self {
            raw: raw.into(),
            bounds: bounds.into(),
        })
    }

    /// The bytes of the chunk at that place in the frame.
    pub(super) fn chunk(&self, place: u32) -> Result<&[u8], Malformed> {
        let place = place as usize;
        let bounds = self.bounds.get(place).zip(self.bounds.get(place + 1));
        let chunk = bounds.and_then(|(start, end)| self.raw.get(*start as usize..*end as usize));
        chunk.ok_or(Malformed::new(0, "no such chunk"))
    }

    /// Bytes of all chunks, before compression.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.raw.len() - self.bounds.first().map_or(0, |first| *first as usize)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.raw.len() + 4 * self.bounds.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_as_drawn() {
        let mut builder = FrameBuilder::new(0);
        assert_eq!(builder.push(|out| out.extend([7, 8, 9])), None);
        assert_eq!(builder.push(|out| out.extend([5])), None);
        let (frame, directory) = builder.finish();
        assert_eq!(frame, [3, 1, 7, 8, 9, 5]);
        let mut expected = vec![0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0];
        expected.extend_from_slice(&crc32(&frame).to_le_bytes());
        assert_eq!(directory, expected);

        let view = FrameDirectory::new(&directory, 2).unwrap();
        assert_eq!(view.frame_of(1), Ok(0));
        assert!(view.frame_of(2).is_err() && view.get(1).is_err());
        let zstd = ZstdPool::default();
        let decoded = Frame::decode(&view.get(0).unwrap(), frame.clone(), &zstd).unwrap();
        assert_eq!(decoded.chunk(1).unwrap(), [5]);
        assert!(decoded.chunk(2).is_err());
        let mut damaged = frame;
        damaged[4] ^= 1;
        assert!(Frame::decode(&view.get(0).unwrap(), damaged, &zstd).is_err());
    }

    #[test]
    fn frames_close_by_size_and_by_count() {
        let mut builder = FrameBuilder::new(0);
        let mut frames = vec![];
        for i in 0..600u32 {
            frames.extend(builder.push(|out| out.extend(i.to_le_bytes())));
        }
        frames.extend(builder.push(|out| out.extend((0..20_000u32).map(|i| ((i * i) >> 7) as u8))));
        let (last, directory) = builder.finish();
        assert!(last.is_empty());
        assert_eq!(frames.len(), 3);
        let view = FrameDirectory::new(&directory, 601).unwrap();
        assert_eq!(
            [0, 254, 255, 509, 510, 600].map(|c| view.frame_of(c).unwrap()),
            [0, 0, 1, 1, 2, 2]
        );
        let zstd = ZstdPool::default();
        let frame = Frame::decode(&view.get(1).unwrap(), frames[1].clone(), &zstd).unwrap();
        assert_eq!(frame.chunk(300 - 255).unwrap(), 300u32.to_le_bytes());
        for (level, frames) in [(0, 12), (1, 3)] {
            let mut builder = FrameBuilder::new(level);
            let closed = (0..24).filter_map(|_| builder.push(|out| out.extend([7; 8 << 10])));
            assert_eq!(closed.count(), frames);
        }
    }
}
