//! `queries.active`: which queries run, in a file, so that a start after a crash can name them.
//!
//! ```text
//!   0    1            1+1000        1+2000
//!   +---+------------+-------------+----
//!   | [ | slot 0     | slot 1      | ...     a slot: {"query":"...","timestamp_sec":...}, and zeros to its end;
//!   +---+------------+-------------+----     free if its first byte is zero
//! ```
//!
//! As upstream's, of the same size. A query that was short when it was asked for last is not written: it would take as
//! long as the write. The file is written in place and not synced: it survives the process, which is what it is for.

use parking_lot::Mutex;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

const NAME: &str = "queries.active";
const SLOT_BYTES: usize = 1000;
/// A larger file is not ours.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The queries that run.
#[derive(Debug, Default)]
pub struct ActiveQueries {
    file: Option<File>,
    free: Mutex<Vec<usize>>,
}

/// A query that runs; no more once this is dropped.
#[derive(Debug)]
pub(crate) struct Active {
    of: Arc<ActiveQueries>,
    slot: usize,
}

impl ActiveQueries {
    /// Begins a new file in the folder of the data, for so many queries at a time. Gives the queries that the file before
    /// still held.
    ///
    /// # Errors
    /// The system's: then queries are not written down, and all else goes on.
    pub fn open(folder: &Path, slots: usize) -> io::Result<(Self, Vec<String>)> {
        let path = folder.join(NAME);
        let unfinished = read(&path).unwrap_or_default();
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        file.set_len((1 + slots * SLOT_BYTES) as u64)?;
        file.write_all_at(b"[", 0)?;
        let active = Self {
            file: Some(file),
            // The first is taken first.
            free: Mutex::new((0..slots).rev().collect()),
        };
        Ok((active, unfinished))
    }

    /// Writes a query down. Nothing if there is no file, or no slot left.
    pub(crate) fn begin(self: &Arc<Self>, query: &str, seconds: i64) -> Option<Active> {
        let file = self.file.as_ref()?;
        let slot = self.free.lock().pop()?;
        // Held from here on, so that the slot is free again whatever comes.
        let active = Active {
            of: Arc::clone(self),
            slot,
        };
        let mut entry = entry(query, seconds);
        entry.resize(SLOT_BYTES, 0);
        file.write_all_at(&entry, offset(slot)).ok()?;
        Some(active)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if let Some(file) = &self.of.file {
            // What stays behind the first byte is of no account.
            drop(file.write_all_at(&[0], offset(self.slot)));
        }
        self.of.free.lock().push(self.slot);
    }
}

fn offset(slot: usize) -> u64 {
    (1 + slot * SLOT_BYTES) as u64
}

/// What a slot holds: shorter than a slot, the query cut if need be.
fn entry(query: &str, seconds: i64) -> Vec<u8> {
    let mut kept = query.len().min(SLOT_BYTES);
    loop {
        while !query.is_char_boundary(kept) {
            kept -= 1;
        }
        let cut = query.get(..kept).unwrap_or_default();
        let text = json!({"query": cut, "timestamp_sec": seconds}).to_string() + ",";
        if text.len() < SLOT_BYTES || kept == 0 {
            return text.into_bytes();
        }
        // Escapes make it longer than it is.
        kept -= (text.len() - SLOT_BYTES + 1).div_ceil(6).min(kept);
    }
}

/// The queries that a file holds.
fn read(path: &Path) -> io::Result<Vec<String>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    let slots = bytes.get(1..).unwrap_or_default().chunks(SLOT_BYTES);
    Ok(slots
        .filter_map(|slot| {
            let end = slot.iter().position(|b| *b == 0)?;
            let text = slot.get(..end)?.strip_suffix(b",")?;
            let value: serde_json::Value = serde_json::from_slice(text).ok()?;
            Some(value.get("query")?.as_str()?.to_owned())
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> (Arc<ActiveQueries>, Vec<String>) {
        let (active, unfinished) = ActiveQueries::open(dir, 2).unwrap();
        (Arc::new(active), unfinished)
    }

    #[test]
    fn what_did_not_end_is_named_by_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let (active, unfinished) = open(dir.path());
        assert!(unfinished.is_empty());
        let long = active.begin(&"\"".repeat(5000), 7).unwrap();
        let short = active.begin("up", 8).unwrap();
        assert!(active.begin("one too many", 9).is_none());
        drop(long);
        let third = active.begin("rate(x[1m])", 10).unwrap();
        assert_eq!(std::fs::metadata(dir.path().join(NAME)).unwrap().len(), 2001);
        // The process ends here.
        std::mem::forget((short, third));
        let (active, unfinished) = open(dir.path());
        assert_eq!(unfinished, ["rate(x[1m])", "up"]);
        drop(active.begin("up", 11));
        assert!(open(dir.path()).1.is_empty());
    }

    #[test]
    fn the_bytes_are_upstreams() {
        let dir = tempfile::tempdir().unwrap();
        let (active, _) = open(dir.path());
        let _one = active.begin("up", 7).unwrap();
        let bytes = std::fs::read(dir.path().join(NAME)).unwrap();
        let expected = b"[{\"query\":\"up\",\"timestamp_sec\":7},\0\0";
        assert_eq!(&bytes[..expected.len()], expected);
    }

    #[test]
    fn long_queries_are_cut_and_odd_files_hold_none() {
        for query in ["x".repeat(5000), "\u{1}".repeat(5000), "é".repeat(999), String::new()] {
            let entry = entry(&query, i64::MIN);
            assert!(entry.len() < SLOT_BYTES, "{}", entry.len());
            assert!(serde_json::from_slice::<serde_json::Value>(entry.strip_suffix(b",").unwrap()).is_ok());
        }
        let dir = tempfile::tempdir().unwrap();
        for odd in [
            &b""[..],
            b"[",
            b"[{\"query\":\"up\"},",
            &[0xff; 3000],
            b"[{\"query\":7},\0",
        ] {
            std::fs::write(dir.path().join(NAME), odd).unwrap();
            assert!(open(dir.path()).1.is_empty());
        }
    }
}
