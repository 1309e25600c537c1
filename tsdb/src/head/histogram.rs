//! The head's native histograms, beside the float cells: for each series sealed runs and one open chain.
//!
//! ```text
//!   series -> run | run | ... | open:  times    t0 t1 t2 ...
//!                                      commits  c0 c1 c2 ...      which commit brought it
//!                                      chain    code code code    each after the one before (`histogram_code`)
//! ```
//!
//! A view remembers how many commits there had been and sees what they brought: all of a commit or nothing. Written
//! only by who holds the log and the state, as all of [`super::State`].

use super::histogram_code;
use super::seal::window_start;
use crate::codec::varint::{put, put_signed};
use crate::codec::{Cursor, Malformed};
use crate::column::{
    Encoder, IntegerEncoder, MAX_WEIGHT, decode_histograms, decode_integers, decode_timestamps, encode_timestamps,
    histogram_weight,
};
use crate::timeline::NONE;
use hashbrown::HashMap;
use std::ops::Range;
use std::sync::Arc;
use tidegauge_model::{Histogram, TimeRange, Timestamp};

/// Samples after which an open chain is sealed.
const RUN_SAMPLES: usize = 120;
/// Bytes after which it is.
const RUN_BYTES: usize = 32 << 10;

/// Where the log stands with a series' histograms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) segment: u64,
    /// The column they were written for.
    pub(crate) column: u32,
    /// How many since the last that stands alone.
    pub(crate) since_key: u32,
}

/// A histogram that a commit will store.
#[derive(Debug, Clone)]
pub(crate) struct StagedHistogram {
    pub(crate) series: u32,
    pub(crate) column: u32,
    pub(crate) at: i64,
    pub(crate) histogram: Arc<Histogram>,
}

/// The histograms of the head, by series.
#[derive(Debug, Default)]
pub(crate) struct Histograms {
    series: HashMap<u32, Series>,
    /// Commits that brought histograms.
    commits: u64,
}

#[derive(Debug)]
struct Series {
    runs: Vec<Arc<HistogramRun>>,
    open: Open,
    /// Also once a block has it, as long as the column that owns the series.
    last: (i64, Arc<Histogram>),
    logged: Logged,
}

/// Samples that are not sealed yet.
#[derive(Debug, Default)]
struct Open {
    times: Vec<i64>,
    commits: Vec<u64>,
    chain: Vec<u8>,
    weight: usize,
}

/// A sealed run of one series' histograms.
#[derive(Debug)]
pub(crate) struct HistogramRun {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) count: usize,
    first_commit: u64,
    last_commit: u64,
    /// Times, commits (integers), histograms (a column), and where the first two end.
    bytes: Box<[u8]>,
    times_end: usize,
    commits_end: usize,
}

/// A series as a checkpoint keeps it.
#[derive(Debug)]
pub(crate) struct SavedSeries {
    number: u32,
    runs: Vec<Arc<HistogramRun>>,
    times: Vec<i64>,
    chain: Box<[u8]>,
}

/// Histograms of one series that a view reads: a run or a copy of the open chain.
#[derive(Debug)]
pub(crate) struct HistogramPart {
    source: Source,
    /// Which of the source's samples lie in the range.
    clip: Range<usize>,
    /// Their times.
    pub(crate) times: Vec<Timestamp>,
}

#[derive(Debug)]
enum Source {
    Run(Arc<HistogramRun>),
    Chain(Box<[u8]>),
}

impl HistogramRun {
    fn part(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    pub(crate) fn times(&self, out: &mut Vec<Timestamp>) -> Result<(), Malformed> {
        decode_timestamps(self.part(0..self.times_end), self.count, out)
    }

    pub(crate) fn histograms(&self, out: &mut Vec<Arc<Histogram>>) -> Result<(), Malformed> {
        decode_histograms(self.part(self.commits_end..self.bytes.len()), self.count, out)
    }

    /// How many of its samples a view sees.
    fn seen(&self, commits: u64) -> Result<usize, Malformed> {
        if self.last_commit <= commits {
            return Ok(self.count);
        }
        let mut seen = 0;
        let mut cursor = Cursor::new(self.part(self.times_end..self.commits_end));
        decode_integers(&mut cursor, self.count, |part| {
            seen += part.iter().filter(|c| c.cast_unsigned() <= commits).count();
        })?;
        Ok(seen)
    }
}

impl SavedSeries {
    /// Appends it; `kept_kinds` draws the bytes.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put(out, u64::from(self.number));
        put(out, self.runs.len() as u64);
        for run in &self.runs {
            put_signed(out, run.first);
            put_signed(out, run.last);
            put(out, run.count as u64);
            for part in [run.part(0..run.times_end), run.part(run.commits_end..run.bytes.len())] {
                put(out, part.len() as u64);
                out.extend_from_slice(part);
            }
        }
        put(out, self.times.len() as u64);
        let mut before = 0;
        for at in &self.times {
            put_signed(out, at.wrapping_sub(before));
            before = *at;
        }
        put(out, self.chain.len() as u64);
        out.extend_from_slice(&self.chain);
    }
}

/// So many bytes, as many as they say.
fn get_bytes<'b>(cursor: &mut Cursor<'b>) -> Result<&'b [u8], Malformed> {
    let left = cursor.remaining();
    let length = cursor.bounded(left, "bytes are longer than what is left")?;
    cursor.take(length)
}

impl HistogramRun {
    /// Reads a run back and looks it over.
    fn get(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let (first, last) = (cursor.signed()?, cursor.signed()?);
        let count = cursor.bounded(MAX_WEIGHT, "a run of too many histograms")?;
        let mut bytes = get_bytes(cursor)?.to_vec();
        let times_end = bytes.len();
        // All were there before any view: commit 0.
        IntegerEncoder::default().encode(&vec![0; count], &mut bytes);
        let commits_end = bytes.len();
        bytes.extend_from_slice(get_bytes(cursor)?);
        let run = Self {
            first,
            last,
            count,
            first_commit: 0,
            last_commit: 0,
            bytes: bytes.into(),
            times_end,
            commits_end,
        };
        let mut times = Vec::new();
        run.times(&mut times)?;
        let ends = times.first().zip(times.last()).map(|(a, b)| (a.millis(), b.millis()));
        if ends == Some((first, last)) && times.is_sorted_by(|a, b| a < b) {
            Ok(run)
        } else {
            Err(cursor.malformed("the times of a run are not those it says"))
        }
    }
}

impl Series {
    /// Reads a series back; runs that end before `flushed` lie in blocks.
    fn get(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let left = cursor.remaining();
        let count = cursor.bounded(left, "a count is larger than what is left")?;
        let runs = (0..count).map(|_| HistogramRun::get(cursor).map(Arc::new));
        let runs = runs.collect::<Result<Vec<_>, Malformed>>()?;
        let left = cursor.remaining();
        let count = cursor.bounded(left, "a count is larger than what is left")?;
        let mut at = 0i64;
        let times = (0..count).map(|_| {
            at = at.wrapping_add(cursor.signed()?);
            Ok(at)
        });
        let times = times.collect::<Result<Vec<_>, Malformed>>()?;
        let chain = get_bytes(cursor)?.to_vec();
        let open = decode_chain(&chain, count)?;
        let mut sealed = Vec::new();
        if let (true, Some(run)) = (open.is_empty(), runs.last()) {
            run.histograms(&mut sealed)?;
        }
        let newest = open.last().or(sealed.last()).cloned();
        let last_at = times.last().copied().or(runs.last().map(|r| r.last));
        let last = last_at.zip(newest);
        Ok(Self {
            last: last.ok_or_else(|| cursor.malformed("a series without histograms"))?,
            open: Open {
                weight: open.iter().map(|h| histogram_weight(h)).sum(),
                commits: vec![0; times.len()],
                times,
                chain,
            },
            runs,
            logged: Logged::default(),
        })
    }
}

impl Open {
    fn decode(&self) -> Result<Vec<Arc<Histogram>>, Malformed> {
        decode_chain(&self.chain, self.times.len())
    }

    /// Runs of all samples. One commit may have brought more than fits one run, or samples of several windows.
    fn seal(&self, block_ms: i64, encoder: &mut Encoder) -> Result<Vec<HistogramRun>, Malformed> {
        let all = self.decode()?;
        let mut runs = Vec::new();
        let (mut from, mut weight) = (0, 0);
        for (n, histogram) in all.iter().enumerate() {
            let window = |n: usize| self.times.get(n).map(|t| window_start(*t, block_ms));
            let own = histogram_weight(histogram);
            if n > from && (weight + own > MAX_WEIGHT || window(n) != window(from)) {
                runs.extend(self.run(from..n, &all, encoder));
                (from, weight) = (n, 0);
            }
            weight += own;
        }
        runs.extend(self.run(from..all.len(), &all, encoder));
        Ok(runs)
    }

    fn run(&self, range: Range<usize>, all: &[Arc<Histogram>], encoder: &mut Encoder) -> Option<HistogramRun> {
        let times = self.times.get(range.clone())?;
        let commits = self.commits.get(range.clone())?;
        let (first, last) = (*times.first()?, *times.last()?);
        let (first_commit, last_commit) = (*commits.first()?, *commits.last()?);
        let mut bytes = Vec::new();
        let stamps: Vec<Timestamp> = times.iter().map(|t| Timestamp::from_millis(*t)).collect();
        encode_timestamps(&stamps, &mut bytes);
        let times_end = bytes.len();
        let commits: Vec<i64> = commits.iter().map(|c| c.cast_signed()).collect();
        IntegerEncoder::default().encode(&commits, &mut bytes);
        let commits_end = bytes.len();
        encoder.encode_histograms(all.get(range)?, &mut bytes);
        Some(HistogramRun {
            first,
            last,
            count: times.len(),
            first_commit,
            last_commit,
            bytes: bytes.into(),
            times_end,
            commits_end,
        })
    }
}

fn decode_chain(chain: &[u8], count: usize) -> Result<Vec<Arc<Histogram>>, Malformed> {
    let mut cursor = Cursor::new(chain);
    let mut out: Vec<Arc<Histogram>> = Vec::with_capacity(count);
    for _ in 0..count {
        let next = histogram_code::get(&mut cursor, out.last().map(AsRef::as_ref))?;
        out.push(Arc::new(next));
    }
    Ok(out)
}

impl HistogramPart {
    /// Appends its histograms: one for each of its times.
    pub(crate) fn read(&self, out: &mut Vec<Arc<Histogram>>) -> Result<(), Malformed> {
        let mut all = Vec::new();
        match &self.source {
            Source::Run(run) => run.histograms(&mut all)?,
            Source::Chain(chain) => all = decode_chain(chain, self.clip.end)?,
        }
        out.extend(all.drain(self.clip.start.min(all.len())..self.clip.end.min(all.len())));
        Ok(())
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let copied = match &self.source {
            Source::Run(_) => 0,
            Source::Chain(chain) => chain.len(),
        };
        copied + 8 * self.times.len()
    }
}

impl Histograms {
    /// What a checkpoint keeps: shared, or copied as it is. Runs that end before `flushed` lie in blocks; of a series
    /// that has nothing else it keeps the newest.
    pub(crate) fn save(&self, flushed: i64) -> Vec<SavedSeries> {
        let saved = self.series.iter().map(|(number, s)| {
            let runs: Vec<_> = s.runs.iter().filter(|r| r.last >= flushed).cloned().collect();
            let (mut times, mut chain) = (s.open.times.clone(), s.open.chain.clone());
            if runs.is_empty() && times.is_empty() {
                // A block has it; who reads it back lets go of all but that it was the newest.
                times.push(s.last.0);
                histogram_code::put(&mut chain, None, &s.last.1);
            }
            SavedSeries {
                number: *number,
                runs,
                times,
                chain: chain.into(),
            }
        });
        saved.collect()
    }

    /// Reads back what a checkpoint kept of series below `series`.
    pub(crate) fn load(cursor: &mut Cursor<'_>, series: usize) -> Result<Self, Malformed> {
        let left = cursor.remaining();
        let count = cursor.bounded(left, "a count is larger than what is left")?;
        let mut loaded = Self::default();
        for _ in 0..count {
            let number = cursor.bounded(series.saturating_sub(1), "a series' number is out of range")?;
            loaded.series.insert(number as u32, Series::get(cursor)?);
        }
        Ok(loaded)
    }

    /// Whether none is there or remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// How many commits have brought some: what a view of now remembers.
    pub(crate) fn commits(&self) -> u64 {
        self.commits
    }

    /// The numbers of the series that have some.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.series.iter().filter(|(_, s)| s.holds()).map(|(number, _)| *number)
    }

    /// How many series have some.
    pub(crate) fn len(&self) -> usize {
        self.series.values().filter(|s| s.holds()).count()
    }

    /// The newest of a series, also if only a block has it.
    pub(crate) fn last(&self, series: u32) -> Option<(i64, &Arc<Histogram>)> {
        self.series.get(&series).map(|s| (s.last.0, &s.last.1))
    }

    pub(crate) fn logged(&self, series: u32) -> Logged {
        self.series.get(&series).map(|s| s.logged).unwrap_or_default()
    }

    /// The oldest time of all.
    pub(crate) fn oldest(&self) -> Option<i64> {
        self.series.values().filter_map(Series::oldest).min()
    }

    /// The oldest time at or behind `bound`, as far as runs tell.
    pub(crate) fn oldest_from(&self, bound: i64) -> Option<i64> {
        let all = self.series.values();
        all.flat_map(|s| s.runs.iter().map(|r| r.first).chain(s.open.times.first().copied()))
            .filter(|first| *first >= bound)
            .min()
    }

    /// Chunks: runs and open chains.
    pub(crate) fn chunks(&self) -> u64 {
        let chunks = |s: &Series| (s.runs.len() + usize::from(!s.open.times.is_empty())) as u64;
        self.series.values().map(chunks).sum()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let series = self.series.values().map(|s| {
            let runs = s.runs.iter().map(|r| r.bytes.len() + size_of::<HistogramRun>() + 24);
            let open = s.open.chain.capacity() + 8 * (s.open.times.capacity() + s.open.commits.capacity());
            runs.sum::<usize>() + open + s.last.1.heap_bytes()
        });
        series.sum::<usize>() + self.series.capacity() * (size_of::<Series>() + 8)
    }

    /// Whether the open chain must be sealed before a sample of this time comes.
    pub(crate) fn must_seal(&self, series: u32, at: i64, weight: usize, block_ms: i64) -> bool {
        let Some(open) = self.series.get(&series).map(|s| &s.open) else {
            return false;
        };
        let Some(first) = open.times.first() else { return false };
        open.times.len() >= RUN_SAMPLES
            || open.chain.len() >= RUN_BYTES
            || open.weight + weight > MAX_WEIGHT
            || window_start(at, block_ms) != window_start(*first, block_ms)
    }

    /// Series whose open chain begins before `bound`.
    pub(crate) fn open_before(&self, bound: i64) -> Vec<u32> {
        let open = self.series.iter();
        let due = open.filter(|(_, s)| s.open.times.first().is_some_and(|first| *first < bound));
        due.map(|(number, _)| *number).collect()
    }

    /// Series whose open chain ends before `bound`.
    pub(crate) fn idle_before(&self, bound: i64) -> Vec<u32> {
        let open = self.series.iter();
        let idle = open.filter(|(_, s)| s.open.times.last().is_some_and(|last| *last < bound));
        idle.map(|(number, _)| *number).collect()
    }

    /// The runs that the open chain of a series makes.
    pub(crate) fn plan_seal(&self, series: u32, block_ms: i64, encoder: &mut Encoder) -> Vec<HistogramRun> {
        let Some(s) = self.series.get(&series) else {
            return Vec::new();
        };
        s.open.seal(block_ms, encoder).unwrap_or_else(|error| {
            // It was written by this process: memory is broken. The log still has the samples.
            tracing::error!(%error, "a chain of histograms does not read back");
            Vec::new()
        })
    }

    /// Puts runs in place of the open chain they were made from.
    pub(crate) fn seal(&mut self, series: u32, runs: Vec<HistogramRun>) {
        if let Some(s) = self.series.get_mut(&series).filter(|_| !runs.is_empty()) {
            s.runs.extend(runs.into_iter().map(Arc::new));
            s.open = Open::default();
        }
    }

    /// Stores what a commit planned.
    pub(crate) fn apply(&mut self, staged: Vec<StagedHistogram>, logged: &[(u32, Logged)]) {
        if staged.is_empty() {
            return;
        }
        self.commits += 1;
        for sample in staged {
            let s = self.series.entry(sample.series).or_insert_with(|| Series {
                runs: Vec::new(),
                open: Open::default(),
                last: (i64::MIN, Arc::default()),
                logged: Logged::default(),
            });
            let before = (!s.open.times.is_empty()).then_some(&*s.last.1);
            histogram_code::put(&mut s.open.chain, before, &sample.histogram);
            s.open.times.push(sample.at);
            s.open.commits.push(self.commits);
            s.open.weight += histogram_weight(&sample.histogram);
            s.last = (sample.at, sample.histogram);
        }
        for (series, logged) in logged {
            if let Some(s) = self.series.get_mut(series) {
                s.logged = *logged;
            }
        }
    }

    /// Drops runs that end before `bound`; they lie in blocks. The newest of each series is remembered: it decides of
    /// what kind a stale marker is.
    pub(crate) fn drop_before(&mut self, bound: i64) {
        for s in self.series.values_mut() {
            s.runs.retain(|r| r.last >= bound);
            s.runs.shrink_to_fit();
            if s.open.times.is_empty() {
                s.open = Open::default();
            }
        }
    }

    /// A series' newest sample is not remembered any more.
    pub(crate) fn forget(&mut self, series: u32) {
        if self.series.get(&series).is_some_and(|s| !s.holds()) {
            self.series.remove(&series);
        }
        if self.series.len() < self.series.capacity() / 4 {
            self.series.shrink_to(0);
        }
    }

    /// Series have got new numbers; those that are gone [`NONE`].
    pub(crate) fn renumber(&mut self, new: impl Fn(u32) -> u32) {
        self.series = std::mem::take(&mut self.series)
            .into_iter()
            .map(|(number, s)| (new(number), s))
            .filter(|(number, _)| *number != NONE)
            .collect();
    }

    /// Whether a series may have histograms in a range that a view of `commits` sees.
    pub(crate) fn overlaps(&self, series: u32, range: TimeRange, commits: u64) -> bool {
        self.series.get(&series).is_some_and(|s| {
            let (start, end) = (range.start.millis(), range.end.millis());
            let open = s.open.times.iter().zip(&s.open.commits);
            let mut open = open.filter(|(at, commit)| (start..=end).contains(*at) && **commit <= commits);
            let run = |r: &Arc<HistogramRun>| r.first <= end && start <= r.last && r.first_commit <= commits;
            s.runs.iter().any(run) || open.next().is_some()
        })
    }

    /// What a view of `commits` sees of a series in a range, in order of time.
    pub(crate) fn parts(&self, series: u32, range: TimeRange, commits: u64) -> Result<Vec<HistogramPart>, Malformed> {
        let Some(s) = self.series.get(&series) else {
            return Ok(Vec::new());
        };
        let mut parts = Vec::new();
        let mut push = |source: Source, mut times: Vec<Timestamp>, seen: usize| {
            times.truncate(seen);
            let start = times.partition_point(|t| *t < range.start);
            let end = times.partition_point(|t| *t <= range.end).max(start);
            if start < end {
                let times = times.get(start..end).unwrap_or_default().to_vec();
                let clip = start..end;
                parts.push(HistogramPart { source, clip, times });
            }
        };
        for run in &s.runs {
            if run.first > range.end.millis() || run.last < range.start.millis() {
                continue;
            }
            let mut times = Vec::with_capacity(run.count);
            run.times(&mut times)?;
            push(Source::Run(Arc::clone(run)), times, run.seen(commits)?);
        }
        let seen = s.open.commits.partition_point(|c| *c <= commits);
        let times: Vec<Timestamp> = s.open.times.iter().map(|t| Timestamp::from_millis(*t)).collect();
        let inside = |t: &Timestamp| range.contains(*t);
        if times.iter().take(seen).any(inside) {
            push(Source::Chain(s.open.chain.as_slice().into()), times, seen);
        }
        Ok(parts)
    }

    /// The sealed runs of a series that lie in `start..end`.
    pub(crate) fn runs_in(&self, series: u32, start: i64, end: i64) -> Vec<Arc<HistogramRun>> {
        let runs = self.series.get(&series).map(|s| s.runs.as_slice()).unwrap_or_default();
        let inside = runs.iter().filter(|r| r.first >= start && r.last < end);
        inside.cloned().collect()
    }
}

impl Series {
    /// Whether it has samples, beside the newest that is remembered.
    fn holds(&self) -> bool {
        !self.runs.is_empty() || !self.open.times.is_empty()
    }

    fn oldest(&self) -> Option<i64> {
        let sealed = self.runs.iter().map(|r| r.first).min();
        sealed.into_iter().chain(self.open.times.first().copied()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::EncodingChoice;

    fn one(count: f64) -> Arc<Histogram> {
        Arc::new(Histogram {
            count,
            sum: count,
            ..Histogram::default()
        })
    }

    fn staged(at: i64) -> StagedHistogram {
        StagedHistogram {
            series: 7,
            column: 0,
            at,
            histogram: one(at as f64),
        }
    }

    fn times(histograms: &Histograms, range: TimeRange, commits: u64) -> Vec<i64> {
        let parts = histograms.parts(7, range, commits).unwrap();
        for part in &parts {
            let mut read = Vec::new();
            part.read(&mut read).unwrap();
            assert!(read.iter().zip(&part.times).all(|(h, t)| h.count == t.millis() as f64));
            assert_eq!(read.len(), part.times.len());
        }
        parts.iter().flat_map(|p| p.times.iter().map(|t| t.millis())).collect()
    }

    #[test]
    fn a_view_sees_whole_commits_before_and_after_sealing() {
        let mut histograms = Histograms::default();
        assert!(histograms.is_empty());
        histograms.apply(vec![staged(1), staged(2)], &[]);
        histograms.apply(vec![staged(3)], &[]);
        let check = |histograms: &Histograms| {
            assert_eq!(times(histograms, TimeRange::ALL, 0), []);
            assert_eq!(times(histograms, TimeRange::ALL, 1), [1, 2]);
            assert_eq!(times(histograms, TimeRange::ALL, 2), [1, 2, 3]);
            let from_two = TimeRange::new(Timestamp::from_millis(2), Timestamp::from_millis(9));
            assert_eq!(times(histograms, from_two, 2), [2, 3]);
        };
        check(&histograms);
        let runs = histograms.plan_seal(7, 100, &mut Encoder::new(EncodingChoice::Auto));
        histograms.seal(7, runs);
        check(&histograms);
        histograms.apply(vec![staged(4)], &[]);
        check(&histograms);
        assert_eq!(times(&histograms, TimeRange::ALL, 3), [1, 2, 3, 4]);
        histograms.drop_before(4);
        assert_eq!((histograms.oldest(), histograms.chunks()), (Some(4), 1));
        histograms.renumber(|n| n + 1);
        assert_eq!(histograms.last(8).map(|l| l.0), Some(4));
        let runs = histograms.plan_seal(8, 1000, &mut Encoder::new(EncodingChoice::Auto));
        histograms.seal(8, runs);
        histograms.forget(8);
        assert_eq!((histograms.len(), histograms.is_empty()), (1, false));
        histograms.drop_before(5);
        assert_eq!((histograms.len(), histograms.numbers().count()), (0, 0));
        assert_eq!(histograms.last(8).map(|l| l.0), Some(4), "a block has it");
        let mut out = Vec::new();
        put(&mut out, 1);
        for series in histograms.save(5) {
            series.put(&mut out);
        }
        let loaded = Histograms::load(&mut Cursor::new(&out), 9).unwrap();
        let last = |h: &Histograms| h.last(8).map(|(at, h)| (at, Arc::clone(h)));
        assert_eq!(last(&loaded), last(&histograms));
        histograms.forget(8);
        assert!(histograms.is_empty());
    }

    #[test]
    fn one_commit_of_much_makes_several_runs() {
        let mut histograms = Histograms::default();
        let wide = |at: i64| StagedHistogram {
            histogram: Arc::new(Histogram {
                count: at as f64,
                positive_spans: vec![tidegauge_model::Span {
                    offset: 0,
                    length: 8000,
                }],
                positive_buckets: vec![at as f64; 8000],
                ..Histogram::default()
            }),
            ..staged(at)
        };
        histograms.apply((90..110).map(wide).collect(), &[]);
        let runs = histograms.plan_seal(7, 100, &mut Encoder::new(EncodingChoice::Auto));
        assert_eq!(
            runs.iter().map(|r| (r.first, r.last)).collect::<Vec<_>>(),
            [(90, 97), (98, 99), (100, 107), (108, 109)]
        );
        histograms.seal(7, runs);
        assert_eq!(times(&histograms, TimeRange::ALL, 1), (90..110).collect::<Vec<_>>());
    }

    #[test]
    fn chains_end_by_count_by_size_and_by_window() {
        let mut histograms = Histograms::default();
        histograms.apply(vec![staged(150)], &[]);
        assert!(!histograms.must_seal(7, 199, 30, 100));
        assert!(histograms.must_seal(7, 200, 30, 100));
        assert!(histograms.must_seal(7, 199, MAX_WEIGHT, 100));
        for at in 151..270 {
            histograms.apply(vec![staged(at)], &[]);
        }
        assert!(histograms.must_seal(7, 270, 30, 1000));
        assert_eq!(
            (histograms.open_before(151), histograms.idle_before(150)),
            (vec![7], vec![])
        );
    }
}
