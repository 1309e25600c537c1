//! Postings: for each label pair, and behind those for each label name, the rising numbers of the series that have it.
//!
//! ```text
//!   0         4                               8 + 4 lists
//!   +---------+-------------------------------+---------+
//!   | lists   | offset u32 each, one to end   | bodies  |      offsets into the bodies
//!   +---------+-------------------------------+---------+
//!
//!   body     [count varint] [part step varint, part bytes varint]{parts, if more than one} parts
//!   part     up to 1,024 numbers as integers (see `column`); step: its first number, less that of the part before
//! ```
//!
//! Parts let a short list meet a long one without decoding all of it.

use crate::codec::{Cursor, Malformed, varint};
use crate::column::{IntegerEncoder, decode_integers};

/// Numbers per part.
const PART: usize = 1024;

/// Writes the section list by list.
#[derive(Debug, Default)]
pub(crate) struct PostingsBuilder {
    offsets: Vec<u8>,
    bodies: Vec<u8>,
    count: u32,
    encoder: IntegerEncoder,
    numbers: Vec<i64>,
    parts: Vec<u8>,
}

impl PostingsBuilder {
    /// Appends a list. `None` if the section would pass 4 GiB.
    pub(crate) fn push(&mut self, series: &[u32]) -> Option<()> {
        self.offsets
            .extend_from_slice(&u32::try_from(self.bodies.len()).ok()?.to_le_bytes());
        self.count += 1;
        varint::put(&mut self.bodies, series.len() as u64);
        self.parts.clear();
        let mut before = 0;
        for part in series.chunks(PART) {
            self.numbers.clear();
            self.numbers.extend(part.iter().map(|no| i64::from(*no)));
            let start = self.parts.len();
            self.encoder.encode(&self.numbers, &mut self.parts);
            if series.len() > PART {
                let first = part.first().copied().unwrap_or(0);
                varint::put(&mut self.bodies, u64::from(first - before));
                varint::put(&mut self.bodies, (self.parts.len() - start) as u64);
                before = first;
            }
        }
        self.bodies.extend_from_slice(&self.parts);
        Some(())
    }

    /// The section.
    pub(crate) fn build(mut self) -> Option<Vec<u8>> {
        self.offsets
            .extend_from_slice(&u32::try_from(self.bodies.len()).ok()?.to_le_bytes());
        let mut out = self.count.to_le_bytes().to_vec();
        out.extend_from_slice(&self.offsets);
        out.extend_from_slice(&self.bodies);
        Some(out)
    }
}

/// Reads the section in place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Postings<'b> {
    offsets: &'b [[u8; 4]],
    bodies: &'b [u8],
    /// Series numbers lie below.
    series: u32,
}

/// A list not decoded yet.
#[derive(Debug, Clone)]
pub(crate) struct List<'b> {
    count: usize,
    body: Cursor<'b>,
    series: u32,
}

impl<'b> Postings<'b> {
    pub(crate) fn new(bytes: &'b [u8], series: u32) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let lists = cursor.u32()? as usize;
        let offsets = cursor.take((lists + 1).saturating_mul(4))?.as_chunks().0;
        Ok(Self {
            offsets,
            bodies: cursor.rest(),
            series,
        })
    }

    /// Checks that there is a list for each pair and for each name, one behind another.
    pub(crate) fn check(&self, pairs: u32, names: u32) -> Result<(), Malformed> {
        if self.offsets.len() as u64 != u64::from(pairs) + u64::from(names) + 1 {
            return Err(Malformed::new(0, "postings are not as many as pairs and names"));
        }
        if !self.offsets.iter().map(|o| u32::from_le_bytes(*o)).is_sorted() {
            return Err(Malformed::new(0, "postings overlap"));
        }
        Ok(())
    }

    /// The list of that number.
    pub(crate) fn list(&self, no: u32) -> Result<List<'b>, Malformed> {
        let at = no as usize;
        let bounds = self.offsets.get(at).zip(self.offsets.get(at + 1));
        let bounds = bounds.map(|(a, b)| u32::from_le_bytes(*a) as usize..u32::from_le_bytes(*b) as usize);
        let body = bounds.and_then(|range| self.bodies.get(range));
        let mut body = Cursor::new(body.ok_or(Malformed::new(0, "postings lie outside their section"))?);
        let count = body.bounded(self.series as usize, "more postings than series")?;
        Ok(List {
            count,
            body,
            series: self.series,
        })
    }
}

impl List<'_> {
    /// How many series are in it.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Appends all numbers.
    pub(crate) fn decode(mut self, out: &mut Vec<u32>) -> Result<(), Malformed> {
        let parts = self.count.div_ceil(PART);
        if parts > 1 {
            for _ in 0..2 * parts {
                self.body.varint()?;
            }
        }
        let mut left = self.count;
        out.reserve(left);
        while left > 0 {
            let len = left.min(PART);
            self.decode_part(len, out)?;
            left -= len;
        }
        Ok(())
    }

    /// Decodes a part at the body's place and appends its numbers.
    fn decode_part(&mut self, len: usize, out: &mut Vec<u32>) -> Result<(), Malformed> {
        let mut last = -1i64;
        let mut rising = true;
        decode_integers(&mut self.body, len, |numbers| {
            for no in numbers {
                rising &= last < *no;
                last = *no;
                out.push(*no as u32);
            }
        })?;
        if !rising || last >= i64::from(self.series) {
            return Err(self.body.malformed("postings are not rising or name no series"));
        }
        Ok(())
    }

    /// Those of `wanted` (rising) that are in the list.
    pub(crate) fn intersect(mut self, wanted: &[u32]) -> Result<Vec<u32>, Malformed> {
        if self.count <= PART {
            let mut list = Vec::new();
            self.decode(&mut list)?;
            return Ok(intersect(wanted, &list));
        }
        // The directory goes by in one cursor, the parts in the other.
        let mut directory = self.body.clone();
        let parts = self.count.div_ceil(PART);
        for _ in 0..2 * parts {
            self.body.varint()?;
        }
        let (mut out, mut part, mut rest) = (Vec::new(), Vec::new(), wanted);
        let mut first = directory.varint()?;
        for no in 0..parts {
            let bytes = directory.bounded(self.body.remaining(), "part of postings is too long")?;
            let next = if no + 1 < parts {
                first.saturating_add(directory.varint()?)
            } else {
                u64::from(u32::MAX) + 1
            };
            let here = rest.partition_point(|w| u64::from(*w) < next);
            let (inside, behind) = rest.split_at_checked(here).unwrap_or((rest, &[]));
            let inside = inside
                .get(inside.partition_point(|w| u64::from(*w) < first)..)
                .unwrap_or_default();
            let mut at = self.body.clone();
            self.body.take(bytes)?;
            if !inside.is_empty() {
                part.clear();
                std::mem::swap(&mut self.body, &mut at);
                self.decode_part((self.count - no * PART).min(PART), &mut part)?;
                std::mem::swap(&mut self.body, &mut at);
                out.extend(intersect(inside, &part));
            }
            rest = behind;
            first = next;
            if rest.is_empty() {
                break;
            }
        }
        Ok(out)
    }
}

/// What two rising lists share.
pub(crate) fn intersect(a: &[u32], b: &[u32]) -> Vec<u32> {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut out = Vec::with_capacity(short.len());
    let mut rest = long;
    let gallop = long.len() / 16 > short.len();
    for no in short {
        let skip = if gallop {
            rest.partition_point(|x| x < no)
        } else {
            rest.iter().take_while(|x| *x < no).count()
        };
        rest = rest.get(skip..).unwrap_or_default();
        if rest.first() == Some(no) {
            out.push(*no);
        }
    }
    out
}

/// What the first rising list has and the second has not.
pub(crate) fn subtract(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut rest = b.iter().peekable();
    let kept = a.iter().filter(|no| {
        while rest.next_if(|x| x < no).is_some() {}
        rest.peek() != Some(no)
    });
    kept.copied().collect()
}

/// What either rising list has.
pub(crate) fn unite(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut out = Vec::with_capacity(a.len() + b.len());
    out.extend_from_slice(a);
    out.extend_from_slice(b);
    out.sort_unstable();
    out.dedup();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn section(lists: &[Vec<u32>]) -> Vec<u8> {
        let mut builder = PostingsBuilder::default();
        for list in lists {
            builder.push(list).unwrap();
        }
        builder.build().unwrap()
    }

    #[test]
    fn bytes_are_as_drawn() {
        // three numbers in a line: order 1, state 2, residual 2; one number: 9
        let bytes = section(&[vec![4, 6, 8], vec![9], vec![]]);
        let mut expected = vec![];
        for n in [3u32, 0, 4, 7, 8] {
            expected.extend_from_slice(&n.to_le_bytes());
        }
        expected.extend_from_slice(&[3, 0x21, 4, 4, 1, 0x20, 18, 0]);
        assert_eq!(bytes, expected);
    }

    fn decode(bytes: &[u8], list: u32, series: u32) -> Result<Vec<u32>, Malformed> {
        let mut out = vec![];
        Postings::new(bytes, series)?.list(list)?.decode(&mut out)?;
        Ok(out)
    }

    #[test]
    fn long_lists_are_met_part_by_part() {
        let long: Vec<u32> = (0..10_000).map(|i| i * 3 + i % 2).collect();
        let bytes = section(&[vec![], long.clone()]);
        assert_eq!(decode(&bytes, 1, 30_000).unwrap(), long);
        assert!(decode(&bytes, 1, 29_998).is_err(), "a number beyond the series");
        assert!(decode(&bytes, 2, 30_000).is_err());
        let postings = Postings::new(&bytes, 30_000).unwrap();
        for wanted in [
            vec![],
            vec![0],
            vec![29_998],
            vec![5, 9_000, 9_001, 9_003, 29_999],
            (0..30_000).collect(),
        ] {
            let found = postings.list(1).unwrap().intersect(&wanted).unwrap();
            assert_eq!(found, intersect(&wanted, &long));
        }
    }

    proptest! {
        #[test]
        fn algebra_is_set_algebra(a: BTreeSet<u8>, b: BTreeSet<u8>) {
            let list = |set: &BTreeSet<u8>| set.iter().map(|x| u32::from(*x)).collect::<Vec<_>>();
            let (x, y) = (list(&a), list(&b));
            prop_assert_eq!(intersect(&x, &y), list(&(&a & &b)));
            prop_assert_eq!(subtract(&x, &y), list(&(&a - &b)));
            prop_assert_eq!(unite(&x, &y), list(&(&a | &b)));
        }

        #[test]
        fn lists_round_trip_and_intersect(
            steps in prop::collection::vec((1u32..50, 1usize..400), 0..20), wanted in prop::collection::btree_set(0u32..20_000, 0..50)
        ) {
            let mut at = 0;
            let mut list = vec![];
            for (step, count) in steps {
                for _ in 0..count {
                    list.push(at);
                    at += step;
                }
            }
            let bytes = section(std::slice::from_ref(&list));
            prop_assert_eq!(&decode(&bytes, 0, at.max(1)).unwrap(), &list);
            let wanted: Vec<u32> = wanted.into_iter().collect();
            let found = Postings::new(&bytes, at.max(1)).unwrap().list(0).unwrap().intersect(&wanted).unwrap();
            prop_assert_eq!(found, intersect(&wanted, &list));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, list in 0u32..4, series in 0u32..5000) {
            let _ = decode(&bytes, list, series);
            if let Ok(list) = Postings::new(&bytes, series).and_then(|p| p.list(list)) {
                let _ = list.intersect(&[0, 7, 3000]);
            }
        }
    }
}
