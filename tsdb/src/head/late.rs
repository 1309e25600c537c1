//! Late samples: those that came behind the newest one of their series, inside the out-of-order window.
//!
//! ```text
//!   shard 0..32 ── series ──> column:  chunk | chunk | chunk     encoded, apart in time, in order of time
//!                                      open: times, values       sorted; may lie among the chunks
//! ```
//!
//! They stay beside the timelines, which only grow, until a block takes them: that of their window, or, if that window
//! is in a block already, a block of their own. One sample for a time: what came first stays. A clone is a view that
//! later samples do not change: it shares everything that nobody writes to.
//!
//! In a checkpoint (all numbers are varints, times are zigzag):
//!
//! ```text
//!   columns, then for each: series, chunks, open samples
//!     a chunk:        first time, last time, samples, bytes of times, bytes of all, the bytes (see `crate::column`)
//!     an open sample: step of its time from the one before, the first from 0; bits u64
//! ```

use super::seal::window_start;
use crate::codec::varint::{put, put_signed};
use crate::codec::{Cursor, Malformed};
use crate::column::{self, Encoder};
use crate::timeline::NONE;
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use tidegauge_model::Timestamp;

const SHARDS: usize = 32;
/// Open samples of a series after which they are encoded.
const CHUNK_SAMPLES: usize = 120;

/// A sample of a series.
pub(crate) type LateSample = (i64, f64);

type Shard = HashMap<u32, Arc<LateColumn>>;

/// The late samples that no block holds, by the number of their series.
#[derive(Debug, Clone, Default)]
pub(crate) struct Late {
    /// None before the first sample.
    shards: Vec<Arc<Shard>>,
    samples: u64,
}

#[derive(Debug, Clone, Default)]
struct LateColumn {
    chunks: Vec<Arc<LateChunk>>,
    times: Vec<i64>,
    values: Vec<f64>,
}

#[derive(Debug)]
struct LateChunk {
    first: i64,
    last: i64,
    samples: u32,
    times_bytes: u32,
    bytes: Box<[u8]>,
}

impl Late {
    /// Whether there is no late sample.
    pub(crate) fn is_empty(&self) -> bool {
        self.samples == 0
    }

    pub(crate) fn len(&self) -> u64 {
        self.samples
    }

    fn column(&self, series: u32) -> Option<&Arc<LateColumn>> {
        self.shards.get(series as usize % SHARDS)?.get(&series)
    }

    fn columns(&self) -> impl Iterator<Item = (u32, &Arc<LateColumn>)> {
        self.shards.iter().flat_map(|s| s.iter().map(|(n, c)| (*n, c)))
    }

    /// The series that have late samples, in no order.
    pub(crate) fn series(&self) -> impl Iterator<Item = u32> + '_ {
        self.columns().map(|(series, _)| series)
    }

    /// Whether a series has a late sample of this time.
    pub(crate) fn contains(&self, series: u32, at: i64) -> Result<bool, Malformed> {
        self.column(series).map_or(Ok(false), |c| c.contains(at))
    }

    /// Whether a series may have late samples from `start` to `end`, both included.
    pub(crate) fn overlaps(&self, series: u32, start: i64, end: i64) -> bool {
        self.column(series).is_some_and(|c| c.overlaps(start, end))
    }

    /// The late samples of a series in a range of time, in order of time.
    pub(crate) fn read(&self, series: u32, range: Range<i64>) -> Result<Vec<LateSample>, Malformed> {
        let Some(column) = self.column(series) else {
            return Ok(Vec::new());
        };
        let mut samples = column.read(range.start, range.end)?;
        samples.retain(|s| range.contains(&s.0));
        Ok(samples)
    }

    /// Adds a sample, unless there is one of that time.
    pub(crate) fn insert(&mut self, series: u32, at: i64, value: f64) -> Result<bool, Malformed> {
        if self.contains(series, at)? {
            return Ok(false);
        }
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, Arc::default);
        }
        let Some(shard) = self.shards.get_mut(series as usize % SHARDS) else {
            return Ok(false);
        };
        Arc::make_mut(Arc::make_mut(shard).entry(series).or_default()).insert(at, value)?;
        self.samples += 1;
        Ok(true)
    }

    /// The time of the oldest sample.
    pub(crate) fn oldest(&self) -> Option<i64> {
        self.columns().filter_map(|(_, c)| c.first()).min()
    }

    /// The windows before `bound` that hold samples, by where they begin.
    pub(crate) fn windows(&self, bound: i64, block_ms: i64) -> Result<BTreeSet<i64>, Malformed> {
        let mut windows = BTreeSet::new();
        for (_, column) in self.columns() {
            let same = |first: i64, last: i64| window_start(first, block_ms) == window_start(last, block_ms);
            for chunk in column.chunks.iter().filter(|c| c.first < bound) {
                if same(chunk.first, chunk.last) {
                    windows.insert(window_start(chunk.first, block_ms));
                    continue;
                }
                let mut samples = Vec::new();
                chunk.read(&mut samples)?;
                windows.extend(samples.iter().map(|s| window_start(s.0, block_ms)));
            }
            windows.extend(column.times.iter().map(|at| window_start(*at, block_ms)));
        }
        windows.retain(|start| *start < bound);
        Ok(windows)
    }

    /// Bytes of samples before `bound`, about.
    pub(crate) fn bytes_before(&self, bound: i64) -> usize {
        let before =
            |(_, c): (u32, &Arc<LateColumn>)| c.first().is_some_and(|first| first < bound).then(|| c.heap_bytes());
        self.columns().filter_map(before).sum()
    }

    /// Drops the samples in a range of time that `taken`, a view of before, has too; gives the series that lost some.
    pub(crate) fn take_out(&mut self, taken: &Self, range: Range<i64>) -> Result<Vec<u32>, Malformed> {
        let mut lost = Vec::new();
        for (series, theirs) in taken
            .columns()
            .filter(|(_, c)| c.overlaps(range.start, range.end.saturating_sub(1)))
        {
            let Some(own) = self.column(series) else { continue };
            let whole = Arc::ptr_eq(own, theirs)
                && own.first().is_some_and(|first| first >= range.start)
                && own.last().is_some_and(|last| last < range.end);
            let before = own.len();
            let rest = if whole {
                LateColumn::default()
            } else {
                let gone: HashSet<i64> = theirs.read(range.start, range.end)?.iter().map(|s| s.0).collect();
                let mut samples = own.read(i64::MIN, i64::MAX)?;
                samples.retain(|s| !range.contains(&s.0) || !gone.contains(&s.0));
                LateColumn::of(&samples)
            };
            if rest.len() < before {
                self.replace(series, before, rest);
                lost.push(series);
            }
        }
        Ok(lost)
    }

    /// Drops the samples of some series in a range of time; gives the series that lost some.
    pub(crate) fn delete(&mut self, series: &[u32], range: &Range<i64>) -> Result<Vec<u32>, Malformed> {
        let mut lost = Vec::new();
        for series in series {
            let own = self.column(*series);
            let Some(own) = own.filter(|c| c.overlaps(range.start, range.end.saturating_sub(1))) else {
                continue;
            };
            let before = own.len();
            let mut samples = own.read(i64::MIN, i64::MAX)?;
            samples.retain(|s| !range.contains(&s.0));
            if samples.len() < before {
                self.replace(*series, before, LateColumn::of(&samples));
                lost.push(*series);
            }
        }
        Ok(lost)
    }

    /// Exchanges a column that held `before` samples for what is left of it.
    fn replace(&mut self, series: u32, before: usize, rest: LateColumn) {
        self.samples -= (before - rest.len()) as u64;
        let Some(shard) = self.shards.get_mut(series as usize % SHARDS).map(Arc::make_mut) else {
            return;
        };
        if rest.len() == 0 {
            shard.remove(&series);
        } else {
            shard.insert(series, Arc::new(rest));
        }
    }

    /// Drops all samples in a range of time: the log says that blocks have them.
    pub(crate) fn void(&mut self, range: Range<i64>) -> Result<(), Malformed> {
        let all = self.clone();
        self.take_out(&all, range).map(drop)
    }

    /// Series got new numbers; `NONE` for those that are gone, which hold nothing.
    pub(crate) fn renumber(&mut self, new_of: &[u32]) {
        let mut shards: Vec<Shard> = self.shards.iter().map(|_| Shard::default()).collect();
        for (series, column) in self.columns() {
            let new = new_of.get(series as usize).copied().unwrap_or(NONE);
            debug_assert_ne!(new, NONE, "a series with late samples is held");
            if let Some(shard) = shards.get_mut(new as usize % SHARDS) {
                shard.insert(new, Arc::clone(column));
            }
        }
        self.shards = shards.into_iter().map(Arc::new).collect();
    }

    /// As bytes, for a checkpoint.
    pub(crate) fn save(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, self.series().count() as u64);
        for (series, column) in self.columns() {
            put(&mut out, u64::from(series));
            column.save(&mut out);
        }
        out
    }

    /// Reads what [`Late::save`] wrote.
    pub(crate) fn load(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let mut late = Self {
            shards: (0..SHARDS).map(|_| Arc::default()).collect(),
            samples: 0,
        };
        let left = cursor.remaining();
        for _ in 0..cursor.bounded(left, "more columns than bytes")? {
            let series = u32::try_from(cursor.varint()?).map_err(|_| cursor.malformed("a number is too large"))?;
            let column = LateColumn::load(cursor)?;
            late.samples += column.len() as u64;
            let shard = late.shards.get_mut(series as usize % SHARDS).map(Arc::make_mut);
            let before = shard.and_then(|s| s.insert(series, Arc::new(column)));
            if before.is_some() {
                return Err(cursor.malformed("a series comes twice"));
            }
        }
        Ok(late)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let entry = size_of::<(u32, Arc<LateColumn>)>() * 2;
        self.columns().map(|(_, c)| c.heap_bytes() + entry).sum()
    }
}

impl LateColumn {
    fn of(samples: &[LateSample]) -> Self {
        let mut column = Self::default();
        let (whole, rest) = samples.split_at(samples.len() / CHUNK_SAMPLES * CHUNK_SAMPLES);
        let mut encoder = Encoder::default();
        column.chunks = whole
            .chunks(CHUNK_SAMPLES)
            .filter_map(|samples| LateChunk::of(samples, &mut encoder))
            .map(Arc::new)
            .collect();
        (column.times, column.values) = rest.iter().copied().unzip();
        column
    }

    fn len(&self) -> usize {
        self.times.len() + self.chunks.iter().map(|c| c.samples as usize).sum::<usize>()
    }

    fn first(&self) -> Option<i64> {
        let chunk = self.chunks.first().map(|c| c.first);
        chunk.into_iter().chain(self.times.first().copied()).min()
    }

    fn last(&self) -> Option<i64> {
        let chunk = self.chunks.last().map(|c| c.last);
        chunk.into_iter().chain(self.times.last().copied()).max()
    }

    /// The chunks that overlap a range, both ends included.
    fn among(&self, start: i64, end: i64) -> Range<usize> {
        let from = self.chunks.partition_point(|c| c.last < start);
        let to = self.chunks.partition_point(|c| c.first <= end);
        from..to.max(from)
    }

    fn overlaps(&self, start: i64, end: i64) -> bool {
        let open = self.times.partition_point(|at| *at < start);
        !self.among(start, end).is_empty() || self.times.get(open).is_some_and(|at| *at <= end)
    }

    fn contains(&self, at: i64) -> Result<bool, Malformed> {
        if self.times.binary_search(&at).is_ok() {
            return Ok(true);
        }
        let mut samples = Vec::new();
        for chunk in self.chunks.get(self.among(at, at)).unwrap_or_default() {
            chunk.read(&mut samples)?;
        }
        Ok(samples.iter().any(|s| s.0 == at))
    }

    fn insert(&mut self, at: i64, value: f64) -> Result<(), Malformed> {
        let place = self.times.partition_point(|t| *t < at);
        self.times.insert(place, at);
        self.values.insert(place, value);
        if self.times.len() >= CHUNK_SAMPLES {
            self.encode()?;
        }
        Ok(())
    }

    /// Encodes the open samples, with the chunks that they lie among.
    fn encode(&mut self) -> Result<(), Malformed> {
        let (Some(first), Some(last)) = (self.times.first(), self.times.last()) else {
            return Ok(());
        };
        let among = self.among(*first, *last);
        let mut samples: Vec<LateSample> = self.times.iter().copied().zip(self.values.iter().copied()).collect();
        for chunk in self.chunks.get(among.clone()).unwrap_or_default() {
            chunk.read(&mut samples)?;
        }
        samples.sort_unstable_by_key(|s| s.0);
        let mut encoder = Encoder::default();
        let made: Vec<_> = samples
            .chunks(CHUNK_SAMPLES)
            .filter_map(|samples| LateChunk::of(samples, &mut encoder))
            .map(Arc::new)
            .collect();
        self.chunks.splice(among, made);
        self.times = Vec::new();
        self.values = Vec::new();
        Ok(())
    }

    /// All samples of the chunks that overlap a range, and the open ones in it, in order of time.
    fn read(&self, start: i64, end: i64) -> Result<Vec<LateSample>, Malformed> {
        let mut samples = Vec::new();
        for chunk in self.chunks.get(self.among(start, end)).unwrap_or_default() {
            chunk.read(&mut samples)?;
        }
        let open = self.times.iter().copied().zip(self.values.iter().copied());
        samples.extend(open.filter(|s| s.0 >= start && s.0 <= end));
        samples.sort_by_key(|s| s.0);
        Ok(samples)
    }

    fn save(&self, out: &mut Vec<u8>) {
        put(out, self.chunks.len() as u64);
        put(out, self.times.len() as u64);
        for chunk in &self.chunks {
            put_signed(out, chunk.first);
            put_signed(out, chunk.last);
            for number in [chunk.samples as usize, chunk.times_bytes as usize, chunk.bytes.len()] {
                put(out, number as u64);
            }
            out.extend_from_slice(&chunk.bytes);
        }
        let mut before = 0;
        for (at, value) in self.times.iter().zip(&self.values) {
            put_signed(out, at.wrapping_sub(before));
            out.extend_from_slice(&value.to_bits().to_le_bytes());
            before = *at;
        }
    }

    fn load(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let left = cursor.remaining();
        let chunks = cursor.bounded(left, "more chunks than bytes")?;
        let open = cursor.bounded(left, "more samples than bytes")?;
        let mut column = Self::default();
        let mut samples = Vec::new();
        for _ in 0..chunks {
            let (first, last) = (cursor.signed()?, cursor.signed()?);
            let count = cursor.bounded(CHUNK_SAMPLES, "more samples than a chunk holds")?;
            let times_bytes = cursor.bounded(left, "more times than bytes")?;
            let bytes = cursor.bounded(left, "a chunk is cut short")?;
            let chunk = LateChunk {
                first,
                last,
                samples: count as u32,
                times_bytes: times_bytes as u32,
                bytes: cursor.take(bytes)?.into(),
            };
            let before = samples.len();
            chunk.read(&mut samples)?;
            let ends = (samples.get(before).map(|s| s.0), samples.last().map(|s| s.0));
            if ends != (Some(first), Some(last)) {
                return Err(cursor.malformed("a chunk of late samples has other times"));
            }
            column.chunks.push(Arc::new(chunk));
        }
        let mut at = 0i64;
        for _ in 0..open {
            at = at.wrapping_add(cursor.signed()?);
            column.times.push(at);
            column.values.push(f64::from_bits(cursor.u64()?));
        }
        let rises = |times: &[i64]| times.is_sorted_by(|a, b| a < b);
        if !rises(&column.times) || !samples.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(cursor.malformed("late samples do not rise"));
        }
        Ok(column)
    }

    fn heap_bytes(&self) -> usize {
        let chunks: usize = self
            .chunks
            .iter()
            .map(|c| c.bytes.len() + size_of::<LateChunk>() + 24)
            .sum();
        chunks + (self.times.capacity() + self.values.capacity()) * 8 + size_of::<Self>() + 16
    }
}

impl LateChunk {
    fn of(samples: &[LateSample], encoder: &mut Encoder) -> Option<Self> {
        let (first, last) = (samples.first()?.0, samples.last()?.0);
        let times: Vec<Timestamp> = samples.iter().map(|s| Timestamp::from_millis(s.0)).collect();
        let values: Vec<f64> = samples.iter().map(|s| s.1).collect();
        let mut bytes = Vec::new();
        column::encode_timestamps(&times, &mut bytes);
        let times_bytes = bytes.len() as u32;
        encoder.encode(&values, &mut bytes);
        Some(Self {
            first,
            last,
            samples: samples.len() as u32,
            times_bytes,
            bytes: bytes.into(),
        })
    }

    fn read(&self, out: &mut Vec<LateSample>) -> Result<(), Malformed> {
        let parts = self.bytes.split_at_checked(self.times_bytes as usize);
        let (times_of, values_of) = parts.ok_or(Malformed::new(0, "a late chunk is cut short"))?;
        let (mut times, mut values) = (Vec::new(), Vec::new());
        column::decode_timestamps(times_of, self.samples as usize, &mut times)?;
        column::decode(values_of, self.samples as usize, &mut values)?;
        out.extend(times.iter().map(|t| t.millis()).zip(values));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Everything of a series, values by bits.
    fn all(late: &Late, series: u32) -> Vec<(i64, u64)> {
        let samples = late.read(series, i64::MIN..i64::MAX).unwrap();
        samples.iter().map(|s| (s.0, s.1.to_bits())).collect()
    }

    proptest! {
        #[test]
        fn what_came_first_stays_and_views_do_not_change(
            steps in proptest::collection::vec((0u32..3, -500i64..500, any::<f64>(), 0u32..60), 1..900),
        ) {
            let (mut late, mut expect) = (Late::default(), BTreeMap::<(u32, i64), u64>::new());
            let mut views = Vec::new();
            for (series, at, value, what) in steps {
                match what {
                    0 => views.push((late.clone(), expect.clone())),
                    1 => {
                        if let Some((taken, _)) = views.first() {
                            late.take_out(taken, at..at + 100).unwrap();
                            for s in 0..3 {
                                for (t, _) in all(taken, s) {
                                    if (at..at + 100).contains(&t) {
                                        expect.remove(&(s, t));
                                    }
                                }
                            }
                        }
                    }
                    _ => {
                        let new = late.insert(series, at, value).unwrap();
                        prop_assert_eq!(new, !expect.contains_key(&(series, at)));
                        expect.entry((series, at)).or_insert(value.to_bits());
                    }
                }
            }
            views.push((late.clone(), expect));
            for (late, expect) in &views {
                for series in 0..3 {
                    let of = expect.range((series, i64::MIN)..=(series, i64::MAX));
                    let of: Vec<(i64, u64)> = of.map(|((_, t), v)| (*t, *v)).collect();
                    prop_assert_eq!(all(late, series), of.clone());
                    let some = late.read(series, -100..100).unwrap();
                    let within = of.iter().filter(|s| (-100..100).contains(&s.0));
                    prop_assert_eq!(some.len(), within.count());
                    prop_assert!(some.is_empty() || late.overlaps(series, -100, 99));
                }
                let saved = late.save();
                let loaded = Late::load(&mut Cursor::new(&saved)).unwrap();
                prop_assert_eq!((all(&loaded, 1), loaded.len()), (all(late, 1), late.len()));
                for cut in (0..saved.len()).step_by(7) {
                    prop_assert!(Late::load(&mut Cursor::new(&saved[..cut])).is_err());
                }
                prop_assert_eq!(late.len(), expect.len() as u64);
                prop_assert_eq!(late.oldest(), expect.keys().map(|k| k.1).min());
                let windows: BTreeSet<i64> = expect.keys().map(|k| window_start(k.1, 50)).filter(|w| *w < 70).collect();
                prop_assert_eq!(late.windows(70, 50).unwrap(), windows);
            }
        }
    }

    #[test]
    fn many_samples_take_little_room_and_renumbering_keeps_them() {
        let mut late = Late::default();
        for i in 0..12_000i64 {
            // Backwards and in disorder.
            let at = 1_000_000 - (i ^ 5) * 1000;
            assert!(late.insert(40, at, 7.0).unwrap());
        }
        assert!(late.heap_bytes() < 12_000 * 3, "{}", late.heap_bytes());
        let before = all(&late, 40);
        assert!(before.is_sorted() && before.len() == 12_000);
        let new_of: Vec<u32> = (0..41).map(|n| if n == 40 { 3 } else { NONE }).collect();
        late.renumber(&new_of);
        assert_eq!((all(&late, 3), all(&late, 40).len()), (before, 0));
        late.void(i64::MIN..i64::MAX).unwrap();
        assert!(late.is_empty() && late.series().next().is_none());
    }
}
