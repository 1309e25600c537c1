//! What was deleted and still lies on disk or in the head: intervals of time by series number.
//!
//! A deletion takes effect by hiding: readers leave deleted samples out, and so do blocks that are written from then on
//! (a flush, a compaction, [`crate::Db::clean_tombstones`]). Numbers are those of one block, or of the head's index.
//!
//! ```text
//!   list of intervals   [n varint] { [gap: varint] [length varint] }         milliseconds, n times
//!                         gap: from the end of the interval before, 2 or more; of the first: its start, a signed varint
//!   all                 [lists varint] {list} [series varint] { [step of the number varint] [list's number varint] }
//! ```
//!
//! Intervals include both ends, rise, and do not touch. Numbers of series rise; the first step counts from 0.

use crate::codec::varint::{put, put_signed};
use crate::codec::{Cursor, Malformed};
use hashbrown::HashMap;
use std::sync::{Arc, OnceLock};
use tidegauge_model::{TimeRange, Timestamp};

/// Deleted time: sorted intervals that include both ends and do not touch. A clone shares them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Intervals(Arc<[TimeRange]>);

impl Intervals {
    /// No time at all.
    pub fn none() -> Self {
        static NONE: OnceLock<Intervals> = OnceLock::new();
        NONE.get_or_init(|| Self(Arc::new([]))).clone()
    }

    /// The time that any of these ranges holds; empty ones hold none.
    pub fn of(ranges: impl IntoIterator<Item = TimeRange>) -> Self {
        let mut all: Vec<TimeRange> = ranges.into_iter().filter(|r| !r.is_empty()).collect();
        all.sort_unstable();
        let mut merged: Vec<TimeRange> = Vec::with_capacity(all.len());
        for range in all {
            match merged.last_mut() {
                // Times are whole milliseconds: nothing lies between 5 and 6.
                Some(last) if range.start <= last.end.saturating_add(1) => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        Self(merged.into())
    }

    /// These and one more.
    #[must_use]
    pub fn with(&self, range: TimeRange) -> Self {
        Self::of(self.0.iter().copied().chain([range]))
    }

    /// The intervals, rising.
    pub fn as_slice(&self) -> &[TimeRange] {
        &self.0
    }

    /// Whether nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first interval that does not end before `at`.
    fn next(&self, at: Timestamp) -> Option<&TimeRange> {
        self.0.get(self.0.partition_point(|r| r.end < at))
    }

    /// Whether a time is deleted.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.next(at).is_some_and(|r| r.start <= at)
    }

    /// Whether all of a range is deleted.
    pub fn cover(&self, range: TimeRange) -> bool {
        self.next(range.start)
            .is_some_and(|r| r.start <= range.start && range.end <= r.end)
    }

    /// Whether some of a range is deleted.
    pub fn overlap(&self, range: TimeRange) -> bool {
        !range.is_empty() && self.next(range.start).is_some_and(|r| r.start <= range.end)
    }

    /// Whether any of these times, which rise, is left.
    pub fn leave_any(&self, times: &[Timestamp]) -> bool {
        let mut rest = times;
        while let Some(first) = rest.first() {
            match self.next(*first) {
                Some(r) if r.start <= *first => {
                    rest = rest.get(rest.partition_point(|t| *t <= r.end)..).unwrap_or_default();
                }
                _ => return true,
            }
        }
        false
    }

    /// What of it does not lie before `bound`.
    fn not_before(&self, bound: Timestamp) -> Self {
        if self.0.first().is_none_or(|r| r.start >= bound) {
            return self.clone();
        }
        Self::of(
            self.0
                .iter()
                .map(|r| TimeRange::new(r.start.max(bound), r.end.max(bound)))
                .zip(self.0.iter())
                .filter(|(_, r)| r.end >= bound)
                .map(|(cut, _)| cut),
        )
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.0.len() as u64);
        let mut before: Option<Timestamp> = None;
        for r in self.0.iter() {
            match before {
                None => put_signed(out, r.start.millis()),
                Some(end) => put(out, r.start.millis().abs_diff(end.millis())),
            }
            put(out, r.end.millis().abs_diff(r.start.millis()));
            before = Some(r.end);
        }
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let left = cursor.remaining();
        let n = cursor.bounded(left, "more intervals than bytes")?;
        let mut all: Vec<TimeRange> = Vec::with_capacity(n);
        for _ in 0..n {
            let at = cursor.clone();
            let start = match all.last() {
                None => Some(cursor.signed()?),
                Some(before) => {
                    let gap = cursor.varint()?;
                    before.end.millis().checked_add_unsigned(gap).filter(|_| gap > 1)
                }
            };
            let length = cursor.varint()?;
            let end = start.and_then(|start| start.checked_add_unsigned(length));
            let (Some(start), Some(end)) = (start, end) else {
                return Err(at.malformed("intervals touch, or pass the end of time"));
            };
            all.push(TimeRange::new(
                Timestamp::from_millis(start),
                Timestamp::from_millis(end),
            ));
        }
        Ok(Self(all.into()))
    }
}

/// Deleted intervals by series number. Series with equal ones share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tombstones {
    /// Number of the series and of its list, by rising number.
    series: Vec<(u32, u32)>,
    lists: Vec<Intervals>,
}

/// Puts tombstones together, in rising order of series.
#[derive(Debug, Default)]
struct Builder {
    made: Tombstones,
    known: HashMap<Intervals, u32>,
}

impl Builder {
    fn push(&mut self, series: u32, intervals: Intervals) {
        if intervals.is_empty() {
            return;
        }
        let lists = &mut self.made.lists;
        let list = *self.known.entry(intervals).or_insert_with_key(|intervals| {
            lists.push(intervals.clone());
            (lists.len() - 1) as u32
        });
        self.made.series.push((series, list));
    }
}

impl Tombstones {
    /// Whether nothing is deleted.
    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// What is deleted of a series; `None`: nothing.
    pub(crate) fn get(&self, series: u32) -> Option<&Intervals> {
        let at = self.series.binary_search_by_key(&series, |s| s.0).ok()?;
        self.lists.get(self.series.get(at)?.1 as usize)
    }

    /// Series with what is deleted of them, rising.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Intervals)> {
        self.series
            .iter()
            .filter_map(|(series, list)| Some((*series, self.lists.get(*list as usize)?)))
    }

    /// Deleted intervals, counted for each series.
    pub(crate) fn len(&self) -> u64 {
        self.iter()
            .map(|(_, intervals)| intervals.as_slice().len() as u64)
            .sum()
    }

    /// These and more: a range for each of some series, by rising number.
    pub(crate) fn with(&self, more: &[(u32, TimeRange)]) -> Self {
        let mut builder = Builder::default();
        let mut old = self.iter().peekable();
        for (series, range) in more {
            while let Some((number, intervals)) = old.next_if(|(number, _)| number < series) {
                builder.push(number, intervals.clone());
            }
            let before = old.next_if(|(number, _)| number == series);
            builder.push(
                *series,
                match before {
                    Some((_, intervals)) => intervals.with(*range),
                    None => Intervals::of([*range]),
                },
            );
        }
        old.for_each(|(number, intervals)| builder.push(number, intervals.clone()));
        builder.made
    }

    /// Without what lies before `bound`.
    pub(crate) fn not_before(&self, bound: Timestamp) -> Self {
        let mut builder = Builder::default();
        for (series, intervals) in self.iter() {
            builder.push(series, intervals.not_before(bound));
        }
        builder.made
    }

    /// With other numbers; `None` for a series that is gone. The order of numbers stays.
    pub(crate) fn renumbered(&self, number: impl Fn(u32) -> Option<u32>) -> Self {
        let mut builder = Builder::default();
        for (series, intervals) in self.iter() {
            if let Some(series) = number(series) {
                builder.push(series, intervals.clone());
            }
        }
        builder.made
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let lists = self.lists.iter().map(|l| 32 + std::mem::size_of_val(l.as_slice()));
        self.series.capacity() * 8 + lists.sum::<usize>()
    }

    /// Appends them as drawn above.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.lists.len() as u64);
        self.lists.iter().for_each(|list| list.encode(out));
        put(out, self.series.len() as u64);
        let mut before = 0;
        for (series, list) in &self.series {
            put(out, u64::from(series - before));
            put(out, u64::from(*list));
            before = *series;
        }
    }

    /// Reads them back; numbers of series must lie below `series_count`.
    pub(crate) fn decode(cursor: &mut Cursor<'_>, series_count: u32) -> Result<Self, Malformed> {
        let left = cursor.remaining();
        let n = cursor.bounded(left, "more lists than bytes")?;
        let lists = (0..n)
            .map(|_| Intervals::decode(cursor))
            .collect::<Result<Vec<_>, _>>()?;
        let left = cursor.remaining();
        let n = cursor.bounded(left, "more series than bytes")?;
        let mut series: Vec<(u32, u32)> = Vec::with_capacity(n);
        for _ in 0..n {
            let at = cursor.clone();
            let step = cursor.varint()?;
            let number = match series.last() {
                Some((before, _)) if step > 0 => u64::from(*before).checked_add(step),
                Some(_) => None,
                None => Some(step),
            };
            let list = cursor.varint()?;
            match number.filter(|n| *n < u64::from(series_count) && list < lists.len() as u64) {
                Some(number) => series.push((number as u32, list as u32)),
                None => return Err(at.malformed("no such series or list, or series do not rise")),
            }
        }
        Ok(Self { series, lists })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn range(start: i64, end: i64) -> TimeRange {
        TimeRange::new(Timestamp::from_millis(start), Timestamp::from_millis(end))
    }

    fn of(ranges: &[(i64, i64)]) -> Intervals {
        Intervals::of(ranges.iter().map(|(a, b)| range(*a, *b)))
    }

    const ENDS: (i64, i64) = (i64::MIN, i64::MAX);

    #[test]
    fn intervals_are_merged() {
        for (given, kept) in [
            (&[][..], &[][..]),
            (&[(5, 4)], &[]),
            (&[(1, 3)], &[(1, 3)]),
            (&[(5, 9), (1, 3)], &[(1, 3), (5, 9)]),
            (&[(4, 9), (1, 3)], &[(1, 9)]),
            (&[(1, 9), (2, 3)], &[(1, 9)]),
            (&[(1, 3), (1, 9), (9, 12)], &[(1, 12)]),
            (&[(1, 1), (3, 3), (2, 2)], &[(1, 3)]),
            (
                &[(i64::MAX, i64::MAX), (i64::MIN, i64::MIN)],
                &[(i64::MIN, i64::MIN), (i64::MAX, i64::MAX)],
            ),
            (&[(i64::MAX, i64::MAX), (0, i64::MAX)], &[(0, i64::MAX)]),
            (&[ENDS, (1, 2)], &[ENDS]),
        ] {
            let merged: Vec<TimeRange> = kept.iter().map(|(a, b)| range(*a, *b)).collect();
            assert_eq!(of(given).as_slice(), merged, "{given:?}");
        }
    }

    #[test]
    fn ranges_are_covered_overlapped_and_missed() {
        let some = of(&[(10, 20), (30, 40)]);
        for (asked, cover, overlap) in [
            ((10, 20), true, true),
            ((12, 12), true, true),
            ((9, 12), false, true),
            ((15, 35), false, true),
            ((20, 21), false, true),
            ((21, 29), false, false),
            ((41, i64::MAX), false, false),
            ((i64::MIN, 9), false, false),
            ((i64::MIN, i64::MAX), false, true),
            ((13, 12), true, false),
        ] {
            let asked = range(asked.0, asked.1);
            assert_eq!((some.cover(asked), some.overlap(asked)), (cover, overlap), "{asked:?}");
        }
    }

    #[test]
    fn what_lies_before_a_bound_goes() {
        let some = of(&[(10, 20), (30, 40)]);
        for (bound, kept) in [
            (10, &[(10, 20), (30, 40)][..]),
            (15, &[(15, 20), (30, 40)]),
            (21, &[(30, 40)]),
            (40, &[(40, 40)]),
            (41, &[]),
        ] {
            assert_eq!(some.not_before(Timestamp::from_millis(bound)), of(kept), "{bound}");
        }
        assert_eq!(of(&[ENDS]).not_before(Timestamp::MAX), of(&[(i64::MAX, i64::MAX)]));
    }

    #[test]
    fn bytes_are_as_drawn() {
        let stones = Tombstones::default().with(&[(3, range(-1, 9)), (4, range(-1, 9)), (9, range(5, 5))]);
        let stones = stones.with(&[(9, range(300, 301))]);
        let mut out = Vec::new();
        stones.encode(&mut out);
        assert_eq!(out, [2, 1, 1, 10, 2, 10, 0, 0xa7, 2, 1, 3, 3, 0, 1, 0, 5, 1]);
        assert_eq!((stones.len(), stones.lists.len()), (4, 2));
        assert_eq!(Tombstones::decode(&mut Cursor::new(&out), 10), Ok(stones));
        assert!(Tombstones::decode(&mut Cursor::new(&out), 9).is_err(), "series 9 of 9");
        for (bad, why) in [
            (&[1, 2, 0, 5, 1, 5, 0][..], "intervals touch"),
            (
                &[1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0],
                "past the end of time",
            ),
            (&[1, 1, 0, 5, 2, 3, 0, 0, 0], "a series twice"),
            (&[1, 1, 0, 5, 1, 3, 1], "no such list"),
            (&[200, 1], "more lists than bytes"),
        ] {
            assert!(Tombstones::decode(&mut Cursor::new(bad), 100).is_err(), "{why}");
        }
    }

    proptest! {
        #[test]
        fn intervals_are_sets_of_times(given in prop::collection::vec((0i64..60, -2i64..9), 0..8), asked in (0i64..60, -2i64..20), times: BTreeSet<u8>) {
            let ranges: Vec<TimeRange> = given.iter().map(|(a, n)| range(*a, a + n)).collect();
            let set: BTreeSet<i64> = ranges.iter().flat_map(|r| r.start.millis()..=r.end.millis()).collect();
            let made = Intervals::of(ranges);
            let back: Vec<i64> = made.as_slice().iter().flat_map(|r| r.start.millis()..=r.end.millis()).collect();
            prop_assert_eq!(&back, &set.iter().copied().collect::<Vec<_>>());
            prop_assert!(made.as_slice().windows(2).all(|w| w[0].end.millis() + 1 < w[1].start.millis()));
            let asked = range(asked.0, asked.0 + asked.1);
            let inside: Vec<i64> = (asked.start.millis()..=asked.end.millis()).collect();
            prop_assert_eq!(made.overlap(asked), inside.iter().any(|t| set.contains(t)));
            if !asked.is_empty() {
                prop_assert_eq!(made.cover(asked), inside.iter().all(|t| set.contains(t)));
            }
            for t in 0..70 {
                prop_assert_eq!(made.contains(Timestamp::from_millis(t)), set.contains(&t));
            }
            let times: Vec<Timestamp> = times.iter().map(|t| Timestamp::from_millis(i64::from(*t))).collect();
            prop_assert_eq!(made.leave_any(&times), times.iter().any(|t| !set.contains(&t.millis())));
        }

        #[test]
        fn tombstones_read_back(given in prop::collection::vec((0u32..20, 0i64..60, 0i64..9), 0..30), bound in 0i64..70) {
            let mut stones = Tombstones::default();
            for (series, at, n) in &given {
                stones = stones.with(&[(*series, range(*at, at + n))]);
            }
            for series in 0..21 {
                let own = Intervals::of(given.iter().filter(|g| g.0 == series).map(|g| range(g.1, g.1 + g.2)));
                prop_assert_eq!(stones.get(series).cloned().unwrap_or_else(Intervals::none), own.clone());
                let later = stones.not_before(Timestamp::from_millis(bound));
                let left = later.get(series);
                for t in 0..80 {
                    let at = Timestamp::from_millis(t);
                    prop_assert_eq!(left.is_some_and(|l| l.contains(at)), t >= bound && own.contains(at));
                }
            }
            let mut out = Vec::new();
            stones.encode(&mut out);
            prop_assert_eq!(Tombstones::decode(&mut Cursor::new(&out), 20), Ok(stones));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Tombstones::decode(&mut Cursor::new(&bytes), 1000);
        }
    }
}
