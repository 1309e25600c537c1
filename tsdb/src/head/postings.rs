//! Label pairs and, for each, the series that carry it.
//!
//! A list is the first series' number, then the steps to the next ones as varints: numbers are given out rising and
//! a series is entered when it is made, so a list only ever grows at its end.

use super::symbols::reserve;
use crate::codec::{Cursor, Malformed, varint};
use hashbrown::{HashMap, HashTable};

/// A label pair is a number that stands for (name symbol, value symbol).
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    pairs: Vec<(u32, u32)>,
    table: HashTable<u32>,
    lists: Vec<List>,
    /// The pairs of each label name, by the name's symbol.
    names: HashMap<u32, Vec<u32>>,
    list_bytes: usize,
}

#[derive(Debug)]
struct List {
    first: u32,
    last: u32,
    count: u32,
    steps: Vec<u8>,
}

fn hash(pair: (u32, u32)) -> u64 {
    (u64::from(pair.0) << 32 | u64::from(pair.1))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

impl Pairs {
    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    pub(crate) fn get(&self, pair: u32) -> (u32, u32) {
        self.pairs.get(pair as usize).copied().unwrap_or((u32::MAX, u32::MAX))
    }

    pub(crate) fn find(&self, name: u32, value: u32) -> Option<u32> {
        self.table
            .find(hash((name, value)), |p| {
                self.pairs.get(*p as usize) == Some(&(name, value))
            })
            .copied()
    }

    pub(crate) fn intern(&mut self, name: u32, value: u32) -> u32 {
        if let Some(pair) = self.find(name, value) {
            return pair;
        }
        // Fewer pairs than symbols squared, and series limits keep both below 2^32.
        let pair = self.pairs.len() as u32;
        reserve(&mut self.pairs, 1);
        self.pairs.push((name, value));
        reserve(&mut self.lists, 1);
        self.lists.push(List {
            first: 0,
            last: 0,
            count: 0,
            steps: Vec::new(),
        });
        let pairs = &self.pairs;
        self.table.insert_unique(hash((name, value)), pair, |p| {
            hash(pairs.get(*p as usize).copied().unwrap_or_default())
        });
        self.names.entry(name).or_default().push(pair);
        pair
    }

    /// Enters a series. Series come in rising order.
    pub(crate) fn enter(&mut self, pair: u32, series: u32) {
        let Some(list) = self.lists.get_mut(pair as usize) else {
            return;
        };
        if list.count == 0 {
            list.first = series;
        } else {
            debug_assert!(series > list.last, "postings grow at their end");
            let before = list.steps.capacity();
            reserve(&mut list.steps, 5);
            varint::put(&mut list.steps, u64::from(series.wrapping_sub(list.last)));
            self.list_bytes += list.steps.capacity() - before;
        }
        list.last = series;
        list.count += 1;
    }

    /// How many series carry the pair.
    pub(crate) fn count(&self, pair: u32) -> u32 {
        self.lists.get(pair as usize).map_or(0, |l| l.count)
    }

    /// Appends the series that carry the pair, rising.
    pub(crate) fn list(&self, pair: u32, out: &mut Vec<u32>) {
        let Some(list) = self.lists.get(pair as usize) else {
            return;
        };
        if list.count == 0 {
            return;
        }
        out.reserve(list.count as usize);
        let mut series = list.first;
        out.push(series);
        let mut steps = Cursor::new(&list.steps);
        while let Ok(step) = steps.varint() {
            series = series.wrapping_add(step as u32);
            out.push(series);
        }
    }

    /// The pairs of a label name.
    pub(crate) fn of_name(&self, name: u32) -> &[u32] {
        self.names.get(&name).map_or(&[], Vec::as_slice)
    }

    /// The symbols of all label names.
    pub(crate) fn names(&self) -> impl Iterator<Item = u32> + '_ {
        self.names.keys().copied()
    }

    /// Appends the pairs in order of their numbers, for a checkpoint. The lists are made anew from the series.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        varint::put(out, self.pairs.len() as u64);
        for (name, value) in &self.pairs {
            out.extend_from_slice(&name.to_le_bytes());
            out.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// What [`Pairs::save`] wrote, with empty lists.
    pub(crate) fn load(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let left = cursor.remaining();
        let count = cursor.bounded(left, "more pairs than what is left")?;
        let bytes = count.checked_mul(8).ok_or(cursor.malformed("too many pairs"))?;
        let pairs = cursor.take(bytes)?.as_chunks::<8>().0;
        let mut made = Self {
            table: HashTable::with_capacity(count),
            ..Self::default()
        };
        made.pairs.reserve_exact(count);
        made.lists.reserve_exact(count);
        for bytes in pairs {
            let mut halves = Cursor::new(bytes);
            made.intern(halves.u32()?, halves.u32()?);
        }
        if made.pairs.len() == count {
            Ok(made)
        } else {
            Err(cursor.malformed("a pair comes twice"))
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.pairs.capacity() * 8
            + self.table.allocation_size()
            + self.lists.capacity() * size_of::<List>()
            + self.list_bytes
            + self.pairs.len() * 6
            + self.names.capacity() * 40
    }
}

/// The union of sorted lists.
pub(crate) fn union(mut lists: Vec<Vec<u32>>) -> Vec<u32> {
    match lists.len() {
        0 => Vec::new(),
        1 => lists.pop().unwrap_or_default(),
        _ => {
            let mut all: Vec<u32> = lists.concat();
            all.sort_unstable();
            all.dedup();
            all
        }
    }
}

/// What both sorted lists hold.
pub(crate) fn intersect(a: &[u32], b: &[u32]) -> Vec<u32> {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut out = Vec::with_capacity(short.len());
    let mut rest = long;
    for x in short {
        let skip = gallop(rest, *x);
        rest = rest.get(skip..).unwrap_or_default();
        match rest.first() {
            Some(y) if y == x => out.push(*x),
            Some(_) => {}
            None => break,
        }
    }
    out
}

/// What `a` holds and `b` does not; both sorted.
pub(crate) fn subtract(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut rest = b;
    a.iter()
        .copied()
        .filter(|x| {
            let skip = gallop(rest, *x);
            rest = rest.get(skip..).unwrap_or_default();
            rest.first() != Some(x)
        })
        .collect()
}

/// How many entries at the front are below `x`: steps that double, then a binary search.
fn gallop(list: &[u32], x: u32) -> usize {
    let mut high = 1;
    while list.get(high - 1).is_some_and(|y| *y < x) {
        high *= 2;
    }
    let (low, high) = (high / 2, (high - 1).min(list.len()));
    low + list.get(low..high).unwrap_or_default().partition_point(|y| *y < x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn lists_grow_and_read_back() {
        let mut pairs = Pairs::default();
        let (a, b) = (pairs.intern(1, 2), pairs.intern(1, 3));
        assert_eq!(
            (pairs.intern(1, 2), pairs.find(1, 3), pairs.find(2, 1)),
            (a, Some(b), None)
        );
        for s in [0, 1, 5, 1000, 1_000_000] {
            pairs.enter(a, s);
        }
        pairs.enter(b, 7);
        let mut out = Vec::new();
        pairs.list(a, &mut out);
        assert_eq!(out, [0, 1, 5, 1000, 1_000_000]);
        assert_eq!((pairs.count(a), pairs.count(b), pairs.of_name(1)), (5, 1, &[a, b][..]));
    }

    proptest! {
        #[test]
        fn algebra_is_set_algebra(a: BTreeSet<u8>, b: BTreeSet<u8>) {
            let list = |s: &BTreeSet<u8>| s.iter().map(|x| u32::from(*x)).collect::<Vec<_>>();
            let (x, y) = (list(&a), list(&b));
            prop_assert_eq!(intersect(&x, &y), list(&(&a & &b)));
            prop_assert_eq!(subtract(&x, &y), list(&(&a - &b)));
            prop_assert_eq!(union(vec![x, y]), list(&(&a | &b)));
        }
    }
}
