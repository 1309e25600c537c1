//! Files with a number: in their name, and in a header that each of them begins with. Integers are little-endian.
//!
//! ```text
//!   0        4          8          16       20
//!   +--------+----------+----------+--------+
//!   | magic  | version  | number   | crc    |     number: that of the file's name
//!   |        | u32      | u64      | u32    |     crc: CRC-32 (IEEE) of the 16 bytes before it
//!   +--------+----------+----------+--------+
//! ```
//!
//! A file that grows (a segment of the log) may be found with half a header; others are written under another name
//! ([`crate::fs::publish`]), so that what is there is whole.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::Error;
use crate::codec::{Cursor, crc32};
use crate::fs::{EntryKind, Fs, UNFINISHED};
use std::path::Path;

/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 20;

/// One kind of numbered file.
#[derive(Debug)]
pub(crate) struct NumberedFile {
    /// What names end with, behind a dot.
    pub(crate) extension: &'static str,
    pub(crate) magic: [u8; 4],
    /// The one that is written; all up to it are read.
    pub(crate) version: u32,
}

/// What the start of a file says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Header {
    Good,
    /// Of a version that is not known yet.
    Newer(u32),
    /// Too short or not ours.
    Bad,
}

/// The files of one kind in a folder.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Rising.
    pub(crate) numbers: Vec<u64>,
    /// Names of files, of whatever kind, whose writing did not come to its end.
    pub(crate) unfinished: Vec<String>,
}

impl NumberedFile {
    pub(crate) fn name(&self, number: u64) -> String {
        format!("{number:08}.{}", self.extension)
    }

    /// The number in a file's name, if it is a name of this kind.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        let number = name.strip_suffix(self.extension)?.strip_suffix('.')?.parse().ok()?;
        // Not one that we would write in another way: its file would not be found again.
        (self.name(number) == name).then_some(number)
    }

    pub(crate) fn list(&self, fs: &dyn Fs, dir: &Path) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        for entry in fs.read_dir(dir)?.into_iter().filter(|e| e.kind == EntryKind::File) {
            match self.number(&entry.name) {
                Some(number) => listing.numbers.push(number),
                None if entry.name.ends_with(UNFINISHED) => listing.unfinished.push(entry.name),
                None => {}
            }
        }
        // By name, the ninth digit comes before the eighth.
        listing.numbers.sort_unstable();
        Ok(listing)
    }

    pub(crate) fn header(&self, number: u64) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        let crc = crc32(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Looks at the start of the file of that number.
    pub(crate) fn check(&self, bytes: &[u8], number: u64) -> Header {
        let mut cursor = Cursor::new(bytes);
        let (Ok(magic), Ok(version), Ok(found), Ok(sum)) =
            (cursor.array::<4>(), cursor.u32(), cursor.u64(), cursor.u32())
        else {
            return Header::Bad;
        };
        let good = magic == self.magic && found == number && bytes.get(..HEADER_BYTES - 4).map(crc32) == Some(sum);
        match version > self.version {
            _ if !good => Header::Bad,
            true => Header::Newer(version),
            false => Header::Good,
        }
    }

    /// Refuses a file whose header is not good.
    pub(crate) fn require(&self, path: &Path, bytes: &[u8], number: u64) -> Result<(), Error> {
        match self.check(bytes, number) {
            Header::Good => Ok(()),
            Header::Newer(found) => Err(self.newer(path, found)),
            Header::Bad if bytes.len() < HEADER_BYTES => Err(Error::corrupt(path, 0, "it has no whole header")),
            Header::Bad => Err(Error::corrupt(path, 0, "the header is damaged")),
        }
    }

    /// What is said of a file that a newer version wrote.
    pub(crate) fn newer(&self, path: &Path, found: u32) -> Error {
        Error::NewerVersion {
            path: path.to_owned(),
            found: u64::from(found),
            known: u64::from(self.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::MemoryFs;

    const FILES: NumberedFile = NumberedFile {
        extension: "seg",
        magic: *b"ABCD",
        version: 2,
    };

    #[test]
    fn header_is_as_drawn() {
        let head = FILES.header(7);
        assert_eq!(head[..16], [b'A', b'B', b'C', b'D', 2, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(head[16..], crc32(&head[..16]).to_le_bytes());
        assert_eq!(head.len(), HEADER_BYTES);
    }

    #[test]
    fn a_header_is_good_newer_or_bad() {
        let head = FILES.header(7);
        assert_eq!(FILES.check(&head, 7), Header::Good);
        assert_eq!(FILES.check(&head, 8), Header::Bad);
        for cut in 0..head.len() {
            assert_eq!(FILES.check(&head[..cut], 7), Header::Bad, "{cut}");
        }
        for bit in 0..head.len() * 8 {
            let mut bad = head.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FILES.check(&bad, 7), Header::Bad, "bit {bit}");
        }
        let newer = NumberedFile { version: 3, ..FILES }.header(7);
        assert_eq!(FILES.check(&newer, 7), Header::Newer(3));
        let older = NumberedFile { version: 1, ..FILES }.header(7);
        assert_eq!(FILES.check(&older, 7), Header::Good);
        let path = Path::new("f");
        assert!(FILES.require(path, &head, 7).is_ok());
        for (bytes, number, told) in [
            (&head[..19], 7, "it has no whole header"),
            (&head[..], 8, "the header is damaged"),
            (&newer[..], 7, "f has format 3, this version reads up to 2"),
        ] {
            let refused = FILES.require(path, bytes, number).unwrap_err().to_string();
            assert!(refused.ends_with(told), "{refused}");
        }
    }

    #[test]
    fn names_carry_numbers() {
        assert_eq!(FILES.name(7), "00000007.seg");
        for (name, number) in [
            ("00000007.seg", Some(7)),
            ("123456789.seg", Some(123_456_789)),
            ("18446744073709551615.seg", Some(u64::MAX)),
            ("18446744073709551616.seg", None),
            ("00000007", None),
            ("00000007seg", None),
            ("00000007.seg.tmp", None),
            ("x.seg", None),
            ("0000000a.seg", None),
            ("000000007.seg", None),
            ("7.seg", None),
            ("+0000007.seg", None),
            ("00000007.runs", None),
        ] {
            assert_eq!(FILES.number(name), number, "{name}");
        }
    }

    #[test]
    fn a_folder_is_listed_by_number() {
        let disk = MemoryFs::new();
        let dir = Path::new("/d");
        disk.create_dir_all(&dir.join("00000003.seg")).unwrap();
        for name in [
            "100000000.seg",
            "99999999.seg",
            "00000004.seg",
            "00000005.seg.tmp",
            "notes",
        ] {
            disk.plant(&dir.join(name), b"").unwrap();
        }
        let listing = FILES.list(&disk, dir).unwrap();
        assert_eq!(listing.numbers, [4, 99_999_999, 100_000_000]);
        assert_eq!(listing.unfinished, ["00000005.seg.tmp"]);
    }
}
