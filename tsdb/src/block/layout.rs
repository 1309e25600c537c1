//! The frame of a block file: header, sections, table of contents, footer.
//!
//! ```text
//!   0           8            12             16
//!   +-----------+------------+--------------+-------------- ... ---+-----+--------+
//!   | "TIDEBLK1"| version u32| features u32 | sections             | TOC | footer |
//!   +-----------+------------+--------------+-------------- ... ---+-----+--------+
//!
//!   TOC entry, 24 bytes, one per section in the order of `Section`
//!   +----------+----------+--------------+--------------+
//!   | kind u32 | crc u32  | offset u64   | length u64   |        crc: of the section; 0 for the frames, which have
//!   +----------+----------+--------------+--------------+        one each in their directory
//!
//!   footer, 24 bytes, at the end of the file
//!   +----------------+-------------+-----------+--------------+
//!   | TOC offset u64 | entries u32 | crc u32   | "1KLBEDIT"   |  crc: of the header, the TOC and the 12 bytes before
//!   +----------------+-------------+-----------+--------------+
//! ```
//!
//! A wrong magic, crc or place is `Corrupt`; a higher version or an unknown feature bit is `NewerVersion`.

use crate::Error;
use crate::codec::{Cursor, Malformed, crc32};
use std::ops::Range;
use std::path::Path;

pub(super) const MAGIC: &[u8; 8] = b"TIDEBLK1";
pub(super) const END_MAGIC: &[u8; 8] = b"1KLBEDIT";
pub(super) const VERSION: u32 = 1;
/// Feature bit: some spans are of native histograms.
pub(super) const HISTOGRAMS: u32 = 1;
const KNOWN_FEATURES: u32 = HISTOGRAMS;
pub(super) const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 24;
const FOOTER_BYTES: usize = 24;

/// The parts of a block file, in file order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Section {
    Frames = 0,
    FrameDirectory = 1,
    Timelines = 2,
    TimelineDirectory = 3,
    Presence = 4,
    Spans = 5,
    Pairs = 6,
    Postings = 7,
    Series = 8,
    SeriesDirectory = 9,
    Meta = 10,
}

pub(super) const SECTIONS: usize = Section::ALL.len();

impl Section {
    pub(super) const ALL: [Self; 11] = [
        Self::Frames,
        Self::FrameDirectory,
        Self::Timelines,
        Self::TimelineDirectory,
        Self::Presence,
        Self::Spans,
        Self::Pairs,
        Self::Postings,
        Self::Series,
        Self::SeriesDirectory,
        Self::Meta,
    ];
}

/// Where the sections lie.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    sections: [Range<usize>; SECTIONS],
    /// Feature bits of the header.
    pub(super) features: u32,
}

impl Layout {
    pub(super) fn range(&self, section: Section) -> Range<usize> {
        self.sections.get(section as usize).cloned().unwrap_or_default()
    }

    /// `Frames 100, FrameDirectory 24, ...`
    pub(super) fn describe(&self) -> String {
        let sizes = Section::ALL.map(|s| format!("{s:?} {}", self.range(s).len()));
        sizes.join(", ")
    }

    /// Where the table of contents begins in a file of that length.
    pub(super) fn contents_at(file_bytes: usize) -> usize {
        file_bytes.saturating_sub(FOOTER_BYTES + SECTIONS * ENTRY_BYTES)
    }

    /// The bytes of a section, in the file they were found in.
    pub(super) fn of<'b>(&self, section: Section, file: &'b [u8]) -> &'b [u8] {
        file.get(self.range(section)).unwrap_or_default()
    }

    /// Reads header, footer and TOC, and checks the crc of every section but the frames.
    pub(super) fn read(path: &Path, file: &[u8]) -> Result<Self, Error> {
        let features = check_header(path, file)?;
        let sections = Self::parse(file).map_err(|e| e.in_file(path, 0))?;
        Ok(Self { sections, features })
    }

    fn parse(file: &[u8]) -> Result<[Range<usize>; SECTIONS], Malformed> {
        let footer_at = file.len().checked_sub(FOOTER_BYTES);
        let footer_at = footer_at.ok_or(Malformed::new(file.len(), "block ends too early"))?;
        let footer = file.get(footer_at..).unwrap_or_default();
        let mut cursor = Cursor::new(footer);
        let (toc_at, entries, crc) = (cursor.u64()?, cursor.u32()?, cursor.u32()?);
        if cursor.rest() != END_MAGIC {
            return Err(Malformed::new(footer_at + 16, "block has no end mark"));
        }
        let toc = usize::try_from(toc_at).ok().and_then(|at| file.get(at..footer_at));
        let toc = toc.filter(|toc| toc.len() == SECTIONS * ENTRY_BYTES && entries as usize == SECTIONS);
        let toc = toc.ok_or(Malformed::new(footer_at, "block has no table of contents"))?;
        let header = file.get(..HEADER_BYTES).unwrap_or_default();
        if crc != toc_crc(header, toc, footer.get(..12).unwrap_or_default()) {
            return Err(Malformed::new(footer_at + 12, "table of contents fails its checksum"));
        }
        let mut cursor = Cursor::new(toc);
        let mut ranges: [Range<usize>; SECTIONS] = Default::default();
        for (kind, range) in ranges.iter_mut().enumerate() {
            *range = read_entry(&mut cursor, kind, file).map_err(|e| Malformed {
                offset: footer_at - toc.len() + e.offset,
                ..e
            })?;
        }
        Ok(ranges)
    }
}

/// Checks the header and gives its feature bits.
fn check_header(path: &Path, file: &[u8]) -> Result<u32, Error> {
    let mut cursor = Cursor::new(file);
    let header = |cursor: &mut Cursor<'_>| Ok((cursor.array::<8>()?, cursor.u32()?, cursor.u32()?));
    let (magic, version, features) = header(&mut cursor).map_err(|e: Malformed| e.in_file(path, 0))?;
    if magic != *MAGIC {
        return Err(Error::corrupt(path, 0, "not a block file"));
    }
    for (found, known, newer) in [
        (version, VERSION, version > VERSION),
        (features, KNOWN_FEATURES, features & !KNOWN_FEATURES != 0),
    ] {
        if newer {
            return Err(Error::NewerVersion {
                path: path.to_owned(),
                found: u64::from(found),
                known: u64::from(known),
            });
        }
    }
    Ok(features)
}

fn read_entry(cursor: &mut Cursor<'_>, kind: usize, file: &[u8]) -> Result<Range<usize>, Malformed> {
    let (found, crc, offset, length) = (cursor.u32()?, cursor.u32()?, cursor.u64()?, cursor.u64()?);
    let bad = |what| Err(cursor.malformed(what));
    if found as usize != kind {
        return bad("sections are out of order");
    }
    let end = offset.checked_add(length).and_then(|end| usize::try_from(end).ok());
    let range = usize::try_from(offset).ok().zip(end).map(|(start, end)| start..end);
    let Some((range, bytes)) = range.and_then(|r| file.get(r.clone()).map(|bytes| (r, bytes))) else {
        return bad("section lies outside the file");
    };
    if kind != Section::Frames as usize && crc32(bytes) != crc {
        return bad("section fails its checksum");
    }
    Ok(range)
}

fn toc_crc(header: &[u8], toc: &[u8], footer: &[u8]) -> u32 {
    crc32(&[header, toc, footer].concat())
}

pub(super) fn header(features: u32) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&features.to_le_bytes());
    out
}

/// TOC and footer behind sections of these lengths and checksums, which are all of [`Section`] in its order.
pub(super) fn ending(features: u32, sections: &[(u64, u32)]) -> Vec<u8> {
    assert_eq!(sections.len(), SECTIONS, "a section is missing");
    let mut out = Vec::new();
    let mut offset = HEADER_BYTES as u64;
    for (kind, (length, crc)) in (0u32..).zip(sections) {
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        offset += length;
    }
    let mut footer = offset.to_le_bytes().to_vec();
    footer.extend_from_slice(&(SECTIONS as u32).to_le_bytes());
    let crc = toc_crc(&header(features), &out, &footer);
    out.extend_from_slice(&footer);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(END_MAGIC);
    out
}
