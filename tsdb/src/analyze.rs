//! What takes the room: series by metric and label, bytes by metric, section and codec, and how series come and go.
//!
//! Reads blocks only and takes no lock: it works beside a store that serves them. The series of all blocks are merged
//! in order of their labels, so that a series of several blocks counts once, and nothing is held but counters: one for
//! each metric and label name, and 16 bytes for each label pair, up to [`AnalyzeOptions::max_tracked`].

use crate::Error;
use crate::block::{self, BlockCache, BlockId, BlockMeta, BlockReader, Survey};
use crate::column::Codec;
use crate::fs::Fs;
use crate::verify::Finding;
use hashbrown::HashMap;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;
use std::sync::Arc;
use tidegauge_model::{Labels, Timestamp};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A series whose first or last sample is this near to the ends of the data did not start or stop there.
const MARGIN_MS: i64 = 5 * 60 * 1000;
/// At most this many windows of churn; they get wider for it.
const MAX_WINDOWS: i64 = 1000;
const CACHE_BYTES: usize = 8 << 20;

/// What [`analyze`] looks at, and how much it tells.
#[derive(Debug, Clone)]
pub struct AnalyzeOptions {
    /// The blocks; all of the folder if empty.
    pub blocks: Vec<BlockId>,
    /// At most this many entries in each list.
    pub limit: usize,
    /// Width of the windows that starts and stops of series are counted in, in milliseconds.
    pub window_ms: i64,
    /// At most this many metrics, label names and label pairs are counted each (16 bytes and more in memory for each);
    /// what comes behind them in order of labels is left out of the lists and counted in [`Analysis::untracked`].
    pub max_tracked: usize,
}

impl Default for AnalyzeOptions {
    fn default() -> Self {
        Self {
            blocks: Vec::new(),
            limit: 20,
            window_ms: 2 * 3600 * 1000,
            max_tracked: 4 << 20,
        }
    }
}

/// Bytes of block files by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BytesUse {
    /// All of the files.
    pub total: u64,
    /// Frames of values.
    pub values: u64,
    /// Timelines, and which of their rows series have.
    pub timestamps: u64,
    /// Labels, postings, the table of series, and where frames lie.
    pub index: u64,
}

/// What one encoding takes.
#[derive(Debug, Clone, PartialEq)]
pub struct CodecUse {
    /// Its name; `xor` is Gorilla's.
    pub codec: String,
    /// Chunks in it.
    pub chunks: u64,
    /// Samples of these.
    pub samples: u64,
    /// Bytes as encoded.
    pub encoded_bytes: u64,
    /// Bytes in the file, after frames were compressed.
    pub stored_bytes: f64,
}

/// What one metric takes.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricUse {
    /// Its name; empty for series without one.
    pub name: String,
    /// Series.
    pub series: u64,
    /// Samples.
    pub samples: u64,
    /// Bytes of its values in the files. Timestamps and index are shared among metrics and not in it.
    pub value_bytes: f64,
}

/// How a label is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelUse {
    /// Its name.
    pub name: String,
    /// Distinct values.
    pub values: u64,
    /// Bytes of these.
    pub value_bytes: u64,
    /// Series that have it.
    pub series: u64,
}

/// How a label pair is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairUse {
    /// The label's name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Series that have it.
    pub series: u64,
    /// Those that started or stopped within the data.
    pub churned: u64,
}

/// How series come and go in a window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChurnWindow {
    /// Its start.
    pub start: Timestamp,
    /// First instant behind it.
    pub end: Timestamp,
    /// Series between their first and their last sample in it.
    pub series: u64,
    /// Series whose first sample is in it, the data's first five minutes apart.
    pub started: u64,
    /// Series whose last sample is in it, the data's last five minutes apart.
    pub stopped: u64,
}

/// What [`analyze`] found. Lists are cut to [`AnalyzeOptions::limit`] entries, largest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Analysis {
    /// The blocks looked at, by time.
    pub blocks: Vec<BlockMeta>,
    /// Blocks that cannot be read, and why.
    pub unreadable: Vec<Finding>,
    /// Time of the first and of the last sample.
    pub times: Option<(Timestamp, Timestamp)>,
    /// Samples.
    pub samples: u64,
    /// Distinct series.
    pub series: u64,
    /// Distinct metric names.
    pub metrics: u64,
    /// Distinct label names.
    pub label_names: u64,
    /// Distinct label pairs.
    pub label_pairs: u64,
    /// Names and pairs, as often as series have them, that were not counted because of
    /// [`AnalyzeOptions::max_tracked`]; the three counts before are too small and lists may lack entries then.
    pub untracked: u64,
    /// Where the bytes are.
    pub bytes: BytesUse,
    /// Values by their encoding, most bytes first.
    pub codecs: Vec<CodecUse>,
    /// Metrics by series.
    pub metrics_by_series: Vec<MetricUse>,
    /// Metrics by bytes of values.
    pub metrics_by_bytes: Vec<MetricUse>,
    /// Labels by distinct values.
    pub labels_by_values: Vec<LabelUse>,
    /// Labels by bytes of their values.
    pub labels_by_bytes: Vec<LabelUse>,
    /// Label pairs by series.
    pub pairs_by_series: Vec<PairUse>,
    /// Label pairs by series that started or stopped.
    pub pairs_by_churn: Vec<PairUse>,
    /// Coming and going by windows of time.
    pub churn: Vec<ChurnWindow>,
}

impl Analysis {
    /// Bytes of the files per sample; nothing if there are no samples.
    pub fn bytes_per_sample(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.bytes.total as f64 / self.samples as f64)
    }
}

/// Analyzes the blocks in a folder: a data directory, one that is served too, or a snapshot. What no block holds yet
/// is not in it.
///
/// # Errors
/// [`Error`]: the folder cannot be listed, a block that was asked for is not there, or a block turns out damaged
/// while it is read ([`crate::verify`] tells all of it).
pub fn analyze(fs: &Arc<dyn Fs>, dir: &Path, options: &AnalyzeOptions) -> Result<Analysis, Error> {
    let mut analysis = Analysis::default();
    let blocks = open(fs, dir, options, &mut analysis)?;
    for block in &blocks {
        let (meta, bytes) = (block.meta().clone(), block.section_bytes());
        analysis.samples += meta.samples;
        if meta.samples > 0 {
            let (first, last) = analysis.times.unwrap_or((meta.first, meta.last));
            analysis.times = Some((first.min(meta.first), last.max(meta.last)));
        }
        analysis.bytes.total += meta.bytes;
        analysis.bytes.values += bytes.values;
        analysis.bytes.timestamps += bytes.timestamps;
        analysis.bytes.index += bytes.index;
        analysis.blocks.push(meta);
    }
    let mut count = Count::new(options, analysis.times);
    merge(&blocks, &mut count)?;
    count.tell(&blocks, &mut analysis)?;
    Ok(analysis)
}

fn open(
    fs: &Arc<dyn Fs>,
    dir: &Path,
    options: &AnalyzeOptions,
    analysis: &mut Analysis,
) -> Result<Vec<Arc<BlockReader>>, Error> {
    let cache = BlockCache::new(CACHE_BYTES);
    let there = block::list_blocks(&**fs, dir)?;
    if let Some(missing) = options.blocks.iter().find(|id| !there.contains(id)) {
        return Err(Error::Invalid {
            what: format!("there is no block {missing} in {}", dir.display()),
        });
    }
    let wanted = |id: &BlockId| options.blocks.is_empty() || options.blocks.contains(id);
    let mut blocks = Vec::new();
    for id in there.into_iter().filter(wanted) {
        let path = dir.join(id.to_string());
        match BlockReader::open(fs, &path, &cache) {
            Ok(block) => blocks.push(block),
            Err(e) => analysis.unreadable.push(Finding::of(&path, &e)),
        }
    }
    blocks.sort_by_key(|b| (b.meta().range.start, b.meta().id));
    Ok(blocks)
}

/// Goes over the series of all blocks in order of labels.
fn merge(blocks: &[Arc<BlockReader>], count: &mut Count) -> Result<(), Error> {
    let mut streams = Vec::with_capacity(blocks.len());
    let mut heads = BinaryHeap::new();
    let mut current = Vec::new();
    for (no, block) in blocks.iter().enumerate() {
        let mut stream = Survey::new(block)?;
        let head = stream.next()?;
        if let Some(series) = &head {
            heads.push(Reverse((series.labels.clone(), no)));
        }
        streams.push(stream);
        current.push(head);
    }
    while let Some(Reverse((labels, no))) = heads.pop() {
        let mut whole = OneSeries::default();
        let mut next = Some(no);
        while let Some(no) = next {
            if let (Some(stream), Some(slot)) = (streams.get_mut(no), current.get_mut(no)) {
                if let Some(part) = slot.take() {
                    whole.add(part.first, part.last);
                    for chunk in part.chunks {
                        whole.samples += u64::from(chunk.samples);
                        whole.value_bytes += chunk.stored;
                        count.chunk(chunk.codec, chunk.samples, chunk.encoded, chunk.stored);
                    }
                }
                *slot = stream.next()?;
                if let Some(series) = slot {
                    heads.push(Reverse((series.labels.clone(), no)));
                }
            }
            next = match heads.peek() {
                Some(Reverse((other, no))) if *other == labels => Some(*no),
                _ => None,
            };
            if next.is_some() {
                heads.pop();
            }
        }
        count.series(&labels, &whole);
    }
    Ok(())
}

/// A series over all blocks.
#[derive(Debug, Default)]
struct OneSeries {
    times: Option<(Timestamp, Timestamp)>,
    samples: u64,
    value_bytes: f64,
}

impl OneSeries {
    fn add(&mut self, first: Timestamp, last: Timestamp) {
        let (a, b) = self.times.unwrap_or((first, last));
        self.times = Some((a.min(first), b.max(last)));
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct CodecCount {
    chunks: u64,
    samples: u64,
    encoded: u64,
    stored: f64,
}

#[derive(Debug, Default, Clone, Copy)]
struct MetricCount {
    series: u64,
    samples: u64,
    bytes: f64,
}

#[derive(Debug, Default, Clone, Copy)]
struct LabelCount {
    values: u64,
    bytes: u64,
    series: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct PairCount {
    series: u32,
    churned: u32,
}

/// The counters.
#[derive(Debug)]
struct Count {
    limit: usize,
    max_tracked: usize,
    window_ms: i64,
    times: Option<(Timestamp, Timestamp)>,
    series: u64,
    untracked: u64,
    codecs: BTreeMap<Option<Codec>, CodecCount>,
    metrics: HashMap<Box<str>, MetricCount>,
    labels: HashMap<Box<str>, LabelCount>,
    /// By a hash of name and value: the texts are looked up again for those that are told.
    pairs: HashMap<u64, PairCount>,
    /// By number of the window: all first samples and all last ones, and those that count as starts and stops.
    windows: BTreeMap<i64, [u64; 4]>,
}

fn pair_hash(name: &str, value: &str) -> u64 {
    xxh3_64_with_seed(value.as_bytes(), xxh3_64_with_seed(name.as_bytes(), 0))
}

/// The counter of a key, made if there is room.
fn slot<'m, T: Default>(map: &'m mut HashMap<Box<str>, T>, key: &str, most: usize) -> Option<&'m mut T> {
    if !map.contains_key(key) {
        if map.len() >= most {
            return None;
        }
        map.insert(key.into(), T::default());
    }
    map.get_mut(key)
}

fn by_name<T>(map: &HashMap<Box<str>, T>) -> impl Iterator<Item = (&str, &T)> {
    map.iter().map(|(name, count)| (&**name, count))
}

impl Count {
    fn new(options: &AnalyzeOptions, times: Option<(Timestamp, Timestamp)>) -> Self {
        let width = options.window_ms.max(1);
        let span = times.map_or(0, |(first, last)| last.millis().saturating_sub(first.millis()));
        Self {
            limit: options.limit,
            max_tracked: options.max_tracked,
            window_ms: width.saturating_mul(1 + span / width / MAX_WINDOWS),
            times,
            series: 0,
            untracked: 0,
            codecs: BTreeMap::new(),
            metrics: HashMap::new(),
            labels: HashMap::new(),
            pairs: HashMap::new(),
            windows: BTreeMap::new(),
        }
    }

    fn chunk(&mut self, codec: Option<Codec>, samples: u32, encoded: usize, stored: f64) {
        let count = self.codecs.entry(codec).or_default();
        count.chunks += 1;
        count.samples += u64::from(samples);
        count.encoded += encoded as u64;
        count.stored += stored;
    }

    fn series(&mut self, labels: &Labels, whole: &OneSeries) {
        self.series += 1;
        let churned = self.time(whole);
        match slot(&mut self.metrics, labels.metric_name().unwrap_or(""), self.max_tracked) {
            Some(metric) => {
                metric.series += 1;
                metric.samples += whole.samples;
                metric.bytes += whole.value_bytes;
            }
            None => self.untracked += 1,
        }
        for (name, value) in labels.iter() {
            let hash = pair_hash(name, value);
            let fresh = !self.pairs.contains_key(&hash);
            if fresh && self.pairs.len() >= self.max_tracked {
                self.untracked += 1;
                continue;
            }
            let pair = self.pairs.entry(hash).or_default();
            pair.series = pair.series.saturating_add(1);
            pair.churned = pair.churned.saturating_add(u32::from(churned));
            if let Some(label) = slot(&mut self.labels, name, self.max_tracked) {
                label.series += 1;
                label.values += u64::from(fresh);
                label.bytes += if fresh { value.len() as u64 } else { 0 };
            }
        }
    }

    /// Counts start and stop of a series; tells whether it had one.
    fn time(&mut self, whole: &OneSeries) -> bool {
        let (Some((first, last)), Some((begin, end))) = (whole.times, self.times) else {
            return false;
        };
        let width = self.window_ms;
        let starts = first.millis().saturating_sub(begin.millis()) > MARGIN_MS;
        let stops = end.millis().saturating_sub(last.millis()) > MARGIN_MS;
        for (at, all, told, counts) in [(first, 0, 2, starts), (last, 1, 3, stops)] {
            let window = self.windows.entry(at.millis().div_euclid(width)).or_default();
            for (place, add) in [(all, true), (told, counts)] {
                if let Some(count) = window.get_mut(place) {
                    *count += u64::from(add);
                }
            }
        }
        starts || stops
    }

    fn tell(self, blocks: &[Arc<BlockReader>], analysis: &mut Analysis) -> Result<(), Error> {
        analysis.series = self.series;
        analysis.metrics = self.metrics.len() as u64;
        analysis.label_names = self.labels.len() as u64;
        analysis.label_pairs = self.pairs.len() as u64;
        analysis.untracked = self.untracked;
        analysis.churn = self.churn();
        let mut codecs: Vec<CodecUse> = self
            .codecs
            .iter()
            .map(|(codec, count)| CodecUse {
                codec: codec.map_or("unknown".to_owned(), |c| format!("{c:?}").to_lowercase()),
                chunks: count.chunks,
                samples: count.samples,
                encoded_bytes: count.encoded,
                stored_bytes: count.stored,
            })
            .collect();
        codecs.sort_by(|a, b| b.stored_bytes.total_cmp(&a.stored_bytes));
        analysis.codecs = codecs;
        let metric = |(name, count): (&str, &MetricCount)| MetricUse {
            name: name.to_owned(),
            series: count.series,
            samples: count.samples,
            value_bytes: count.bytes,
        };
        let by_series = top(by_name(&self.metrics), self.limit, |(_, m)| m.series, |(name, _)| *name);
        analysis.metrics_by_series = by_series.into_iter().map(metric).collect();
        let by_bytes = top(
            by_name(&self.metrics),
            self.limit,
            |(_, m)| m.bytes as u64,
            |(name, _)| *name,
        );
        analysis.metrics_by_bytes = by_bytes.into_iter().map(metric).collect();
        let label = |(name, count): (&str, &LabelCount)| LabelUse {
            name: name.to_owned(),
            values: count.values,
            value_bytes: count.bytes,
            series: count.series,
        };
        let by_values = top(by_name(&self.labels), self.limit, |(_, l)| l.values, |(name, _)| *name);
        analysis.labels_by_values = by_values.into_iter().map(label).collect();
        let by_bytes = top(by_name(&self.labels), self.limit, |(_, l)| l.bytes, |(name, _)| *name);
        analysis.labels_by_bytes = by_bytes.into_iter().map(label).collect();
        self.tell_pairs(blocks, analysis)
    }

    /// The pairs are known by their hashes: reads the texts of those that are told.
    fn tell_pairs(&self, blocks: &[Arc<BlockReader>], analysis: &mut Analysis) -> Result<(), Error> {
        let by_series = top(
            self.pairs.iter(),
            self.limit,
            |(_, p)| u64::from(p.series),
            |(hash, _)| *hash,
        );
        let churning = self.pairs.iter().filter(|(_, p)| p.churned > 0);
        let by_churn = top(churning, self.limit, |(_, p)| u64::from(p.churned), |(hash, _)| *hash);
        let mut texts: HashMap<u64, (String, String)> = HashMap::new();
        let wanted: hashbrown::HashSet<u64> = by_series.iter().chain(&by_churn).map(|(hash, _)| **hash).collect();
        for block in blocks {
            block.each_pair(|name, value| {
                let hash = pair_hash(name, value);
                if wanted.contains(&hash) && !texts.contains_key(&hash) {
                    texts.insert(hash, (name.to_owned(), value.to_owned()));
                }
            })?;
        }
        let pair = |(hash, count): (&u64, &PairCount)| {
            let (name, value) = texts.get(hash).cloned().unwrap_or_default();
            PairUse {
                name,
                value,
                series: u64::from(count.series),
                churned: u64::from(count.churned),
            }
        };
        analysis.pairs_by_series = by_series.into_iter().map(pair).collect();
        analysis.pairs_by_churn = by_churn.into_iter().map(pair).collect();
        // Equal counts in order of text, not of hash.
        analysis
            .pairs_by_series
            .sort_by(|a, b| (b.series, &a.name, &a.value).cmp(&(a.series, &b.name, &b.value)));
        analysis
            .pairs_by_churn
            .sort_by(|a, b| (b.churned, &a.name, &a.value).cmp(&(a.churned, &b.name, &b.value)));
        Ok(())
    }

    fn churn(&self) -> Vec<ChurnWindow> {
        let (Some((first, _)), Some((last, _))) = (self.windows.first_key_value(), self.windows.last_key_value())
        else {
            return Vec::new();
        };
        let mut series = 0u64;
        let windows = (*first..=*last).map(|no| {
            let [firsts, lasts, started, stopped] = self.windows.get(&no).copied().unwrap_or_default();
            series += firsts;
            let window = ChurnWindow {
                start: Timestamp::from_millis(no.saturating_mul(self.window_ms)),
                end: Timestamp::from_millis((no + 1).saturating_mul(self.window_ms)),
                series,
                started,
                stopped,
            };
            series = series.saturating_sub(lasts);
            window
        });
        windows.collect()
    }
}

/// The largest `limit` items, largest first, equal ones by their second key.
fn top<T: Copy, K: Ord>(
    items: impl Iterator<Item = T>,
    limit: usize,
    size: impl Fn(&T) -> u64,
    then: impl Fn(&T) -> K,
) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    let key = |item: &T| (Reverse(size(item)), then(item));
    for item in items {
        kept.push(item);
        if kept.len() >= limit.saturating_mul(2).saturating_add(64) {
            kept.sort_by_key(&key);
            kept.truncate(limit);
        }
    }
    kept.sort_by_key(&key);
    kept.truncate(limit);
    kept
}
