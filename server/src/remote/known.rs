//! Which label bytes mean which series: what makes the second request of a sender cheap.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem;
use tidegauge_model::SeriesRef;

/// A hash of label bytes, wide enough that two label sets never share one in practice.
pub(crate) type Key = u128;

/// The key of label bytes.
#[inline]
pub(crate) fn key(labels: &[u8]) -> Key {
    xxhash_rust::xxh3::xxh3_128(labels)
}

type Map = HashMap<Key, SeriesRef, BuildHasherDefault<Folded>>;

/// Series by label bytes, at most so many: when the young half is full, the old one is forgotten.
#[derive(Debug)]
pub(crate) struct Known {
    young: Map,
    old: Map,
    half: usize,
}

impl Known {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            young: Map::default(),
            old: Map::default(),
            half: (capacity / 2).max(1),
        }
    }

    /// The series, if it was seen lately.
    #[inline]
    pub(crate) fn get(&mut self, key: Key) -> Option<SeriesRef> {
        if let Some(series) = self.young.get(&key) {
            return Some(*series);
        }
        let series = self.old.remove(&key)?;
        self.insert(key, series);
        Some(series)
    }

    pub(crate) fn insert(&mut self, key: Key, series: SeriesRef) {
        if self.young.len() >= self.half {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, series);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// The keys are hashes already.
#[derive(Debug, Default)]
struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_number_is_bounded() {
        let mut known = Known::new(8);
        let keep = key(b"keep");
        known.insert(keep, SeriesRef::from_bits(7));
        for i in 0..100u32 {
            known.insert(key(&i.to_le_bytes()), SeriesRef::from_bits(u64::from(i)));
            assert_eq!(known.get(keep), Some(SeriesRef::from_bits(7)));
            assert!(known.len() <= 9, "{}", known.len());
        }
        assert_eq!(known.get(key(&0u32.to_le_bytes())), None);
        assert_eq!(known.get(key(&99u32.to_le_bytes())), Some(SeriesRef::from_bits(99)));
    }
}
