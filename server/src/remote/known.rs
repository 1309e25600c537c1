//! Which label bytes mean which series: what makes the second request of a sender cheap.
//!
//! ```text
//!   entries   (hash, length, series) in the order in which they were first seen       read along while a sender repeats itself
//!   table     entry by hash                                                           where it does not
//! ```
//!
//! A sender names its series in much the same order each time. So each request keeps a finger on the entry behind the
//! last one found: it tells where the next label bytes end, and one comparison tells whether they are the ones. That
//! reads memory in order, where a table of many series misses the cache at each look.

use hashbrown::HashTable;
use parking_lot::{RwLock, RwLockReadGuard};
use std::mem;
use tidegauge_model::SeriesRef;

/// A hash of label bytes, wide enough that two label sets never share one in practice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    low: u64,
    high: u32,
    len: u32,
}

impl Key {
    /// The key of a series whose labels are symbols. Its length is that of no label bytes.
    pub(super) fn of_symbols(low: u64, high: u32) -> Self {
        Self { low, high, len: 0 }
    }
}

/// The key of label bytes.
#[inline]
pub(crate) fn key(labels: &[u8]) -> Key {
    let hash = xxhash_rust::xxh3::xxh3_128(labels);
    Key {
        low: hash as u64,
        high: (hash >> 64) as u32,
        // Bodies are far shorter than 4 GiB; the length only helps the hash.
        len: labels.len() as u32,
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Key,
    series: SeriesRef,
}

/// Series by label bytes, at most so many: when the young half is full, the old one is forgotten.
#[derive(Debug)]
pub(crate) struct Known {
    young: Half,
    old: Half,
    half: usize,
}

#[derive(Debug, Default)]
struct Half {
    entries: Vec<Entry>,
    table: HashTable<u32>,
}

impl Half {
    fn find(&self, key: Key) -> Option<usize> {
        let same = |at: &u32| self.entries.get(*at as usize).is_some_and(|e| e.key == key);
        self.table.find(key.low, same).map(|at| *at as usize)
    }

    /// Adds an entry that is not there, or gives the one that is its new series.
    fn insert(&mut self, key: Key, series: SeriesRef) -> usize {
        if let Some(at) = self.find(key) {
            if let Some(entry) = self.entries.get_mut(at) {
                entry.series = series;
            }
            return at;
        }
        let at = self.entries.len();
        if self.entries.capacity() == at {
            // By an eighth, not doubled: this may be tens of megabytes.
            self.entries.reserve_exact((at / 8).max(64));
        }
        self.entries.push(Entry { key, series });
        let entries = &self.entries;
        let hash = |at: &u32| entries.get(*at as usize).map_or(0, |e| e.key.low);
        self.table.insert_unique(key.low, at as u32, hash);
        at
    }
}

impl Known {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            young: Half::default(),
            old: Half::default(),
            half: (capacity / 2).clamp(1, 1 << 31),
        }
    }

    fn insert(&mut self, key: Key, series: SeriesRef) -> usize {
        if self.young.entries.len() >= self.half {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, series)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.entries.len() + self.old.entries.len()
    }
}

/// One request's way through what is known. Readers go side by side; it lets go while something is entered.
#[derive(Debug)]
pub(crate) struct Finger<'k> {
    known: &'k RwLock<Known>,
    held: Option<RwLockReadGuard<'k, Known>>,
    /// The entry that should come next.
    next: usize,
}

impl<'k> Finger<'k> {
    pub(crate) fn new(known: &'k RwLock<Known>) -> Self {
        Self {
            known,
            held: None,
            next: 0,
        }
    }

    fn held(&mut self) -> &Known {
        self.held.get_or_insert_with(|| self.known.read())
    }

    /// The series whose label bytes a message begins with, if it is the one that should come, and how many bytes these
    /// are. They end where `end` follows: the tag of what comes behind labels.
    #[inline]
    pub(crate) fn expected(&mut self, message: &[u8], end: u8) -> Option<(SeriesRef, usize)> {
        let next = self.next;
        let entry = *self.held().young.entries.get(next)?;
        let (labels, rest) = message.split_at_checked(entry.key.len as usize)?;
        if rest.first() != Some(&end) || key(labels) != entry.key {
            return None;
        }
        self.next += 1;
        Some((entry.series, labels.len()))
    }

    /// The series, if it was seen lately.
    #[inline]
    pub(crate) fn find(&mut self, key: Key) -> Option<SeriesRef> {
        let next = self.next;
        if let Some(entry) = self.held().young.entries.get(next)
            && entry.key == key
        {
            let series = entry.series;
            self.next += 1;
            return Some(series);
        }
        self.search(key)
    }

    fn search(&mut self, key: Key) -> Option<SeriesRef> {
        let known = self.held();
        if let Some(at) = known.young.find(key) {
            let series = known.young.entries.get(at)?.series;
            self.next = at + 1;
            return Some(series);
        }
        let series = known.old.find(key).and_then(|at| known.old.entries.get(at))?.series;
        self.insert(key, series);
        Some(series)
    }

    pub(crate) fn insert(&mut self, key: Key, series: SeriesRef) {
        self.rest();
        self.next = self.known.write().insert(key, series) + 1;
    }

    /// Lets others enter what they found, until the next look.
    pub(crate) fn rest(&mut self) {
        self.held = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_number_is_bounded() {
        let known = RwLock::new(Known::new(8));
        let mut finger = Finger::new(&known);
        let keep = key(b"keep");
        finger.insert(keep, SeriesRef::from_bits(7));
        for i in 0..100u32 {
            finger.insert(key(&i.to_le_bytes()), SeriesRef::from_bits(u64::from(i)));
            assert_eq!(finger.find(keep), Some(SeriesRef::from_bits(7)));
            finger.rest();
            assert!(known.read().len() <= 9, "{}", known.read().len());
        }
        assert_eq!(finger.find(key(&0u32.to_le_bytes())), None);
        assert_eq!(finger.find(key(&99u32.to_le_bytes())), Some(SeriesRef::from_bits(99)));
    }

    #[test]
    fn a_sender_that_repeats_itself_is_followed() {
        let known = RwLock::new(Known::new(100));
        let mut finger = Finger::new(&known);
        let names: Vec<Vec<u8>> = (1..=20u8).map(|i| vec![i; usize::from(i)]).collect();
        for (name, bits) in names.iter().zip(0..) {
            finger.insert(key(name), SeriesRef::from_bits(bits));
        }
        let mut finger = Finger::new(&known);
        let follow = |finger: &mut Finger<'_>, at: usize| {
            let mut message = names[at].clone();
            message.extend_from_slice(b"\x12\x00and what follows");
            finger.expected(&message, 0x12)
        };
        assert_eq!(follow(&mut finger, 0), Some((SeriesRef::from_bits(0), 1)));
        assert_eq!(follow(&mut finger, 1), Some((SeriesRef::from_bits(1), 2)));
        assert_eq!(
            finger.expected(&[&names[2][..], b"\x0a"].concat(), 0x12),
            None,
            "another label"
        );
        assert_eq!(follow(&mut finger, 9), None);
        assert_eq!(finger.find(key(&names[9])), Some(SeriesRef::from_bits(9)));
        assert_eq!(follow(&mut finger, 10), Some((SeriesRef::from_bits(10), 11)));
        finger.insert(key(&names[18]), SeriesRef::from_bits(99));
        assert_eq!(follow(&mut finger, 19), Some((SeriesRef::from_bits(19), 20)));
        assert_eq!(follow(&mut finger, 19), None, "behind the last one");
        assert_eq!(finger.find(key(&names[18])), Some(SeriesRef::from_bits(99)));
    }
}
