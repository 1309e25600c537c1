//! The file of a block's tombstones. Integers are little-endian; `crc` is CRC-32 (IEEE) of everything before it.
//!
//! ```text
//!   0           8            12           28                                 end - 4
//!   +-----------+------------+------------+----------------------------------+---------+
//!   | "TIDETMB1"| version u32| block's id | intervals by series number, see  | crc u32 |
//!   |           | = 1        | 16 bytes   | `tombstones`                     |         |
//!   +-----------+------------+------------+----------------------------------+---------+
//! ```
//!
//! Written beside the one before under a temporary name, synced, renamed over it, the folder synced. No file: nothing
//! is deleted. A wrong magic, id, crc or number is `Corrupt`, a higher version `NewerVersion`, and the block is not
//! served then.

use super::{BlockId, BlockMeta, TOMBSTONES_FILE};
use crate::Error;
use crate::codec::{Cursor, Malformed, crc32};
use crate::fs::{self, Fs, UNFINISHED};
use crate::tombstones::Tombstones;
use std::path::Path;

const MAGIC: &[u8; 8] = b"TIDETMB1";
const VERSION: u32 = 1;
const CRC_BYTES: usize = 4;

/// The name they are written under before they count.
pub(crate) fn unfinished() -> String {
    format!("{TOMBSTONES_FILE}{UNFINISHED}")
}

fn encode(id: BlockId, tombstones: &Tombstones) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&id.bits().to_le_bytes());
    tombstones.encode(&mut out);
    out.extend_from_slice(&crc32(&out).to_le_bytes());
    out
}

fn decode(path: &Path, bytes: &[u8], meta: &BlockMeta) -> Result<Tombstones, Error> {
    let corrupt = |e: Malformed| e.in_file(path, 0);
    let body = bytes
        .len()
        .checked_sub(CRC_BYTES)
        .and_then(|n| bytes.split_at_checked(n));
    let Some((body, crc)) = body else {
        return Err(Error::corrupt(path, 0, "ends too early"));
    };
    if crc != crc32(body).to_le_bytes() {
        return Err(Error::corrupt(path, 0, "the checksum of the tombstones is wrong"));
    }
    let mut cursor = Cursor::new(body);
    if cursor.array().map_err(corrupt)? != *MAGIC {
        return Err(Error::corrupt(path, 0, "not a file of tombstones"));
    }
    let version = cursor.u32().map_err(corrupt)?;
    if version > VERSION {
        return Err(Error::NewerVersion {
            path: path.to_owned(),
            found: u64::from(version),
            known: u64::from(VERSION),
        });
    }
    let id = BlockId::from_bits(u128::from_le_bytes(cursor.array().map_err(corrupt)?));
    if id != meta.id {
        return Err(Error::corrupt(
            path,
            12,
            format!("these are the tombstones of block {id}"),
        ));
    }
    let tombstones = Tombstones::decode(&mut cursor, meta.series).map_err(corrupt)?;
    if !cursor.is_empty() {
        return Err(corrupt(cursor.malformed("bytes are left behind the tombstones")));
    }
    Ok(tombstones)
}

/// Reads the tombstones of a block; none if there is no file.
pub(crate) fn read(fs: &dyn Fs, dir: &Path, meta: &BlockMeta) -> Result<Tombstones, Error> {
    let path = dir.join(TOMBSTONES_FILE);
    // Asked by opening: a disk that does not answer must not pass for a block without tombstones.
    match fs.map(&path) {
        Ok(bytes) => decode(&path, &bytes, meta),
        Err(e) if e.is_not_found() => Ok(Tombstones::default()),
        Err(e) => Err(e),
    }
}

/// Exchanges the tombstones of a block. When it returns they last; if it fails, those of before do, or these.
pub(crate) fn write(fs: &dyn Fs, dir: &Path, id: BlockId, tombstones: &Tombstones) -> Result<(), Error> {
    let bytes = encode(id, tombstones);
    fs::publish(fs, dir, TOMBSTONES_FILE, |file| file.write_all(&bytes)).map(drop)
}
