//! Interned strings: each exists once, in one arena, and is known by a number.

use crate::codec::{Cursor, Malformed, varint};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Makes room in steps of an eighth, so that an arena of hundreds of megabytes is never half empty.
pub(crate) fn reserve<T>(list: &mut Vec<T>, more: usize) {
    if list.capacity() - list.len() < more {
        list.reserve_exact(more.max(list.len() / 8).max(8));
    }
}

/// The table of symbols.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    text: String,
    ends: Vec<u32>,
    table: HashTable<u32>,
}

impl Symbols {
    /// The symbol's text; the empty string for a number that is none.
    pub(crate) fn get(&self, symbol: u32) -> &str {
        slice(&self.text, &self.ends, symbol)
    }

    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        let hash = xxh3_64(text.as_bytes());
        self.table
            .find(hash, |s| slice(&self.text, &self.ends, *s) == text)
            .copied()
    }

    /// The text's number, a new one if needed; `None` if the arena is full (4 GiB).
    pub(crate) fn intern(&mut self, text: &str) -> Option<u32> {
        if let Some(symbol) = self.find(text) {
            return Some(symbol);
        }
        let end = u32::try_from(self.text.len() + text.len()).ok()?;
        let symbol = u32::try_from(self.ends.len()).ok()?;
        if self.text.capacity() - self.text.len() < text.len() {
            self.text.reserve_exact(text.len().max(self.text.len() / 8).max(64));
        }
        self.text.push_str(text);
        reserve(&mut self.ends, 1);
        self.ends.push(end);
        let (all, ends) = (&self.text, &self.ends);
        self.table.insert_unique(xxh3_64(text.as_bytes()), symbol, |s| {
            xxh3_64(slice(all, ends, *s).as_bytes())
        });
        Some(symbol)
    }

    /// Appends all symbols in order of their numbers, for a checkpoint.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        varint::put(out, self.ends.len() as u64);
        varint::put(out, self.text.len() as u64);
        put_numbers(out, &self.ends);
        out.extend_from_slice(self.text.as_bytes());
    }

    /// What [`Symbols::save`] wrote.
    pub(crate) fn load(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let left = cursor.remaining();
        let count = cursor.bounded(left, "more symbols than what is left")?;
        let bytes = cursor.bounded(left, "more text than what is left")?;
        let ends = read_numbers(cursor, count)?;
        let text = std::str::from_utf8(cursor.take(bytes)?).map_err(|_| cursor.malformed("symbols are not UTF-8"))?;
        let text = text.to_owned();
        let mut table = HashTable::with_capacity(count);
        for symbol in 0..count as u32 {
            let hash = |s: &u32| xxh3_64(slice(&text, &ends, *s).as_bytes());
            table.insert_unique(hash(&symbol), symbol, hash);
        }
        Ok(Self { text, ends, table })
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * 4 + self.table.allocation_size()
    }
}

/// Appends numbers as they are, little-endian.
pub(crate) fn put_numbers(out: &mut Vec<u8>, numbers: &[u32]) {
    out.reserve(numbers.len() * 4);
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// What [`put_numbers`] wrote.
pub(crate) fn read_numbers(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<u32>, Malformed> {
    let bytes = count.checked_mul(4).ok_or(cursor.malformed("too many numbers"))?;
    let numbers = cursor.take(bytes)?.as_chunks::<4>().0;
    Ok(numbers.iter().map(|b| u32::from_le_bytes(*b)).collect())
}

fn slice<'a>(text: &'a str, ends: &[u32], symbol: u32) -> &'a str {
    let at = symbol as usize;
    let start = at.checked_sub(1).and_then(|i| ends.get(i)).copied().unwrap_or(0);
    let end = ends.get(at).copied().unwrap_or(start);
    text.get(start as usize..end as usize).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_number() {
        let mut symbols = Symbols::default();
        let numbers: Vec<u32> = (0..1000)
            .map(|i| symbols.intern(&format!("s{}", i % 500)).unwrap())
            .collect();
        assert_eq!(numbers[..500], numbers[500..]);
        assert_eq!(symbols.get(numbers[7]), "s7");
        assert_eq!((symbols.find("s9"), symbols.find("t")), (Some(numbers[9]), None));
        assert_eq!(symbols.get(5000), "");
        let empty = symbols.intern("").unwrap();
        assert_eq!(symbols.get(empty), "");
    }
}
