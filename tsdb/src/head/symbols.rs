//! Interned strings: each exists once, in one arena, and is known by a number.

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

    pub(crate) fn heap_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * 4 + self.table.allocation_size()
    }
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
