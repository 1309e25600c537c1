//! The series of a block in order of their labels: which pairs they have, and which runs of samples.
//!
//! ```text
//!   directory, 16 bytes per page of 64 series
//!   +------------+----------------+-------------+-----------------+
//!   | offset u32 | stored len u32 | raw len u32 | first chunk u32 |       stored < raw: zstd, else as it is
//!   +------------+----------------+-------------+-----------------+
//!
//!   entry in a page; the first is told against a series without pairs and runs
//!   [pairs n varint] [changed: bit i for pair i]{ceil(n / 8) bytes} [pair step signed]{changed}
//!   [runs << 2 | stale << 1 | same varint] [span step signed]{runs, unless same} [stale: bit i for run i, if stale]
//! ```
//!
//! Steps are to the same place of the series before (0 where it had none). `same`: as many runs as the series before,
//! of the same spans. The chunks of all runs are numbered in order.

use crate::codec::{Cursor, Malformed, ZstdPool, varint};
use std::sync::Arc;

/// Series per page.
pub(crate) const PAGE: usize = 64;
const ENTRY: usize = 16;
/// A packed page's raw length is refused beyond this; larger ones are stored as they are.
const MAX_PACKED_PAGE_BYTES: usize = 1 << 20;
/// Labels of one series are refused beyond this.
const MAX_PAIRS: usize = 1 << 16;

/// One run of samples of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Its rows: see [`crate::block::Span`].
    pub span: u32,
    /// Its values: the number of its chunk in the block.
    pub chunk: u32,
    /// Whether there may be a stale marker among its values.
    pub has_stale: bool,
}

/// Writes the two sections.
#[derive(Debug, Default)]
pub(crate) struct SeriesBuilder {
    pages: Vec<u8>,
    directory: Vec<u8>,
    page: Vec<u8>,
    in_page: usize,
    page_chunk: u32,
    next_chunk: u32,
    pairs: Vec<u32>,
    spans: Vec<u32>,
}

impl SeriesBuilder {
    /// Appends a series. `None` if the section would pass 4 GiB.
    pub(crate) fn push(&mut self, pairs: &[u32], runs: &[Run]) -> Option<()> {
        if self.in_page == PAGE {
            self.flush()?;
        }
        self.in_page += 1;
        let page = &mut self.page;
        varint::put(page, pairs.len() as u64);
        let mask_at = page.len();
        page.resize(mask_at + pairs.len().div_ceil(8), 0);
        for (i, pair) in pairs.iter().enumerate() {
            let before = self.pairs.get(i).copied().unwrap_or(0);
            if *pair != before {
                if let Some(mask) = page.get_mut(mask_at + i / 8) {
                    *mask |= 1 << (i % 8);
                }
                varint::put_signed(page, i64::from(*pair) - i64::from(before));
            }
        }
        let same = runs.len() == self.spans.len() && runs.iter().zip(&self.spans).all(|(r, s)| r.span == *s);
        let stale = runs.iter().any(|r| r.has_stale);
        varint::put(page, (runs.len() as u64) << 2 | u64::from(stale) << 1 | u64::from(same));
        if !same {
            for (i, run) in runs.iter().enumerate() {
                let before = self.spans.get(i).copied().unwrap_or(0);
                varint::put_signed(page, i64::from(run.span) - i64::from(before));
            }
        }
        if stale {
            let mask_at = page.len();
            page.resize(mask_at + runs.len().div_ceil(8), 0);
            for (i, _) in runs.iter().enumerate().filter(|(_, r)| r.has_stale) {
                if let Some(mask) = page.get_mut(mask_at + i / 8) {
                    *mask |= 1 << (i % 8);
                }
            }
        }
        self.next_chunk = self.next_chunk.checked_add(u32::try_from(runs.len()).ok()?)?;
        self.pairs.clear();
        self.pairs.extend_from_slice(pairs);
        self.spans.clear();
        self.spans.extend(runs.iter().map(|r| r.span));
        Some(())
    }

    fn flush(&mut self) -> Option<()> {
        let packed = zstd::bulk::compress(&self.page, 1).unwrap_or_default();
        let gains = !packed.is_empty()
            && packed.len() < self.page.len() - self.page.len() / 8
            && self.page.len() <= MAX_PACKED_PAGE_BYTES;
        let stored = if gains { &packed } else { &self.page };
        for field in [self.pages.len(), stored.len(), self.page.len()] {
            self.directory
                .extend_from_slice(&u32::try_from(field).ok()?.to_le_bytes());
        }
        self.directory.extend_from_slice(&self.page_chunk.to_le_bytes());
        self.pages.extend_from_slice(stored);
        self.page.clear();
        self.pairs.clear();
        self.spans.clear();
        self.in_page = 0;
        self.page_chunk = self.next_chunk;
        Some(())
    }

    /// The pages and their directory.
    pub(crate) fn build(mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        if self.in_page > 0 {
            self.flush()?;
        }
        Some((self.pages, self.directory))
    }
}

/// Keeps decompressed pages from one read to the next.
pub(crate) trait KeptPages: std::fmt::Debug + Sync {
    /// The raw bytes of a page, if they were kept.
    fn kept(&self, page: u32) -> Option<Arc<[u8]>>;

    /// Keeps the raw bytes of a page, for as long as there is room.
    fn keep(&self, page: u32, bytes: &Arc<[u8]>);
}

/// Reads the sections in place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeriesTable<'b> {
    pages: &'b [u8],
    directory: &'b [[u8; ENTRY]],
    count: u32,
    limits: Limits,
    zstd: &'b ZstdPool,
    kept: Option<&'b dyn KeptPages>,
}

/// What the numbers in an entry must stay below.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) pairs: u32,
    pub(crate) spans: u32,
    pub(crate) chunks: u32,
}

impl<'b> SeriesTable<'b> {
    pub(crate) fn new(
        pages: &'b [u8],
        directory: &'b [u8],
        count: u32,
        limits: Limits,
        zstd: &'b ZstdPool,
    ) -> Result<Self, Malformed> {
        let (directory, rest) = directory.as_chunks::<ENTRY>();
        if !rest.is_empty() || directory.len() != (count as usize).div_ceil(PAGE) {
            return Err(Malformed::new(0, "directory of series has another length"));
        }
        Ok(Self {
            pages,
            directory,
            count,
            limits,
            zstd,
            kept: None,
        })
    }

    /// The same, keeping what it decompresses: for whoever reads few series, and likely those again.
    pub(crate) fn keeping(self, kept: &'b dyn KeptPages) -> Self {
        Self {
            kept: Some(kept),
            ..self
        }
    }

    /// Checks that pages follow each other, and their chunks too: nothing is read twice then.
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        let (mut end, mut chunk) = (0u64, 0);
        for (page, entry) in self.directory.iter().enumerate() {
            let [offset, stored, _, first] = fields(entry);
            if u64::from(offset) < end || first < chunk || first > self.limits.chunks {
                return Err(Malformed::new(page * ENTRY, "pages of series overlap"));
            }
            end = u64::from(offset) + u64::from(stored);
            chunk = first;
        }
        Ok(())
    }

    /// The raw bytes of a page and the number of its first chunk.
    fn page(&self, page: usize) -> Result<(PageBytes<'b>, u32), Malformed> {
        let entry = self.directory.get(page).ok_or(Malformed::new(0, "no such series"))?;
        let [offset, stored, raw, chunk] = fields(entry);
        let [offset, stored, raw] = [offset, stored, raw].map(|n| n as usize);
        let bytes = self.pages.get(offset..offset.saturating_add(stored));
        let bytes = bytes.ok_or(Malformed::new(offset, "page of series lies outside its section"))?;
        if stored >= raw {
            return Ok((PageBytes::Borrowed(bytes), chunk));
        }
        if raw > MAX_PACKED_PAGE_BYTES {
            return Err(Malformed::new(offset, "page of series is too large"));
        }
        if let Some(bytes) = self.kept.and_then(|kept| kept.kept(page as u32)) {
            return Ok((PageBytes::Shared(bytes), chunk));
        }
        let bytes = self.zstd.decompress(bytes, raw);
        let bytes = bytes.ok_or(Malformed::new(offset, "page of series does not decompress"))?;
        let bytes: Arc<[u8]> = bytes.into();
        if let Some(kept) = self.kept {
            kept.keep(page as u32, &bytes);
        }
        Ok((PageBytes::Shared(bytes), chunk))
    }

    /// Reads entries, best in rising order.
    pub(crate) fn entries(&self) -> Entries<'b> {
        Entries {
            table: *self,
            bytes: PageBytes::Borrowed(&[]),
            at: 0,
            next: u32::MAX,
            chunk: 0,
            pairs: Vec::new(),
            runs: Vec::new(),
        }
    }
}

#[derive(Debug)]
enum PageBytes<'b> {
    Borrowed(&'b [u8]),
    Shared(Arc<[u8]>),
}

impl PageBytes<'_> {
    fn get(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// Walks over entries; holds the current one.
#[derive(Debug)]
pub(crate) struct Entries<'b> {
    table: SeriesTable<'b>,
    bytes: PageBytes<'b>,
    at: usize,
    /// The series whose entry is at `at`.
    next: u32,
    chunk: u32,
    pairs: Vec<u32>,
    runs: Vec<Run>,
}

impl Entries<'_> {
    /// Goes to the entry of a series. Cheap if it is behind the current one in the same page or in the next.
    pub(crate) fn seek(&mut self, series: u32) -> Result<(), Malformed> {
        if series >= self.table.count {
            return Err(Malformed::new(0, "no such series"));
        }
        let page = series as usize / PAGE;
        let current = (self.next as usize).saturating_sub(1) / PAGE;
        if self.next > series || self.next == u32::MAX || current != page {
            let (bytes, chunk) = self.table.page(page)?;
            self.bytes = bytes;
            self.at = 0;
            self.next = (page * PAGE) as u32;
            self.chunk = chunk;
            self.pairs.clear();
            self.runs.clear();
        }
        while self.next <= series {
            if let Err(error) = self.read() {
                // What was half read is no base for the next entry.
                self.next = u32::MAX;
                return Err(error);
            }
        }
        Ok(())
    }

    /// The current series' label pairs, in order of name.
    pub(crate) fn pairs(&self) -> &[u32] {
        &self.pairs
    }

    /// The current series' runs, in order of time.
    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    fn read(&mut self) -> Result<(), Malformed> {
        let limits = self.table.limits;
        let mut cursor = Cursor::new(self.bytes.get().get(self.at..).unwrap_or_default());
        let pairs = cursor.bounded(MAX_PAIRS, "too many labels")?;
        let mask = cursor.take(pairs.div_ceil(8))?;
        self.pairs.resize(pairs, 0);
        // The names of a series rise, and so do its pairs: none is told twice.
        let mut least = 0;
        for (i, pair) in self.pairs.iter_mut().enumerate() {
            if bit(mask, i) {
                *pair = stepped(*pair, cursor.signed()?);
            }
            if *pair >= limits.pairs || *pair < least {
                return Err(cursor.malformed("no such label pair, or out of order"));
            }
            least = *pair + 1;
        }
        let head = cursor.varint()?;
        let runs = usize::try_from(head >> 2).unwrap_or(usize::MAX);
        if head & 1 == 0 {
            if runs > cursor.remaining() {
                return Err(cursor.malformed("too many runs"));
            }
            let blank = Run {
                span: 0,
                chunk: 0,
                has_stale: false,
            };
            self.runs.resize(runs, blank);
            for run in &mut self.runs {
                run.span = stepped(run.span, cursor.signed()?);
            }
        } else if runs != self.runs.len() {
            return Err(cursor.malformed("runs differ from those they are the same as"));
        }
        let mask = if head & 2 != 0 {
            cursor.take(runs.div_ceil(8))?
        } else {
            &[]
        };
        for (i, run) in self.runs.iter_mut().enumerate() {
            run.has_stale = bit(mask, i);
            run.chunk = self.chunk;
            if run.span >= limits.spans || run.chunk >= limits.chunks {
                return Err(cursor.malformed("no such run"));
            }
            self.chunk += 1;
        }
        self.at += cursor.position();
        self.next += 1;
        Ok(())
    }
}

fn fields(entry: &[u8; ENTRY]) -> [u32; 4] {
    let mut out = [0; 4];
    for (field, bytes) in out.iter_mut().zip(entry.as_chunks::<4>().0) {
        *field = u32::from_le_bytes(*bytes);
    }
    out
}

fn bit(mask: &[u8], i: usize) -> bool {
    mask.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1)
}

fn stepped(value: u32, step: i64) -> u32 {
    u32::try_from(i64::from(value).wrapping_add(step)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        pairs: 1000,
        spans: 100,
        chunks: 100_000,
    };

    fn run(span: u32, chunk: u32, has_stale: bool) -> Run {
        Run { span, chunk, has_stale }
    }

    #[test]
    fn bytes_are_as_drawn() {
        let mut builder = SeriesBuilder::default();
        builder.push(&[3, 9], &[run(0, 0, false), run(1, 1, false)]).unwrap();
        builder.push(&[3, 8], &[run(0, 2, false), run(1, 3, true)]).unwrap();
        let (pages, directory) = builder.build().unwrap();
        assert_eq!(pages, [2, 0b11, 6, 18, 8, 0, 2, 2, 0b10, 1, 11, 0b10]);
        assert_eq!(directory, [0, 0, 0, 0, 12, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn entries_are_found_in_any_order(
            series in prop::collection::vec((prop::collection::btree_set(0u32..1000, 0..12), prop::collection::vec((0u32..3, prop::bool::weighted(0.1)), 0..5)), 1..200),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..50),
        ) {
            let mut builder = SeriesBuilder::default();
            let (mut chunk, mut all) = (0, vec![]);
            for (pairs, runs) in series {
                let runs: Vec<Run> = runs.into_iter().map(|(span, stale)| { chunk += 1; run(span, chunk - 1, stale) }).collect();
                let pairs: Vec<u32> = pairs.into_iter().collect();
                builder.push(&pairs, &runs).unwrap();
                all.push((pairs, runs));
            }
            let (pages, directory) = builder.build().unwrap();
            let zstd = ZstdPool::default();
            let table = SeriesTable::new(&pages, &directory, all.len() as u32, LIMITS, &zstd).unwrap();
            let mut entries = table.entries();
            let indices = (0..all.len()).chain(order.iter().map(|i| i.index(all.len())));
            for i in indices {
                entries.seek(i as u32).unwrap();
                prop_assert_eq!(entries.pairs(), &all[i].0[..]);
                prop_assert_eq!(entries.runs(), &all[i].1[..]);
            }
            prop_assert!(entries.seek(all.len() as u32).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(pages: Vec<u8>, raw in 0u32..300, count in 1u32..64) {
            let mut directory = vec![];
            for n in [0, pages.len() as u32, raw, 0] {
                directory.extend_from_slice(&n.to_le_bytes());
            }
            let zstd = ZstdPool::default();
            let table = SeriesTable::new(&pages, &directory, count, LIMITS, &zstd).unwrap();
            let _ = table.entries().seek(count - 1);
        }
    }
}
