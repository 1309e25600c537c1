//! What the user can set about the store, with defaults and bounds.

use crate::column::EncodingChoice;
use std::time::Duration;
use tidegauge_model::Meter;

/// When the log is forced to the disk.
///
/// A commit is acknowledged once its record is with the operating system. So a process crash loses nothing acknowledged,
/// whatever the choice; with the default a power cut loses at most the interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before each commit returns: a power cut costs nothing.
    Always,
    /// In the background, beginning this often, while commits go on: a power cut loses at most the interval (and what
    /// came while the disk was still at the sync before). A sync that fails closes the log: nothing is acknowledged
    /// any more. Segments are synced when they end, before the next one takes a record. Needs
    /// [`Options::maintenance`]; without, it is up to [`crate::Db::sync`].
    Interval(Duration),
    /// When the system likes; blocks are still synced before they are published.
    Never,
}

/// How the store works. `Default` is what the server runs with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Width of a block's window in milliseconds. Windows are aligned to multiples of it.
    pub block_ms: i64,
    /// How long blocks are kept, in milliseconds behind the newest sample; 0 keeps them for ever.
    pub retention_ms: i64,
    /// When the log is synced.
    pub fsync: Fsync,
    /// How values are encoded in runs and blocks.
    pub encoding: EncodingChoice,
    /// How far behind its series' newest sample a sample may come. Only 0 is supported: [`crate::Db::open`] refuses
    /// another value.
    pub out_of_order_ms: i64,
    /// How far ahead of the clock a sample may be; beyond it, it is refused as too new.
    pub max_future_ms: i64,
    /// Pays for the head. When it is used up, new series are refused and existing ones go on.
    pub head: Meter,
    /// At most this many series in the head; 0 sets no limit.
    pub max_series: u64,
    /// At most this many series of one timeline (a scraped target) in the head; 0 sets no limit. The newcomer is refused,
    /// those that are there go on. A series that has gone counts until the head has let go of it.
    pub max_series_per_timeline: u64,
    /// At most this many timelines in the head, those the store finds by itself among them.
    pub max_timelines: u64,
    /// At most this many labels in one label set.
    pub max_labels: usize,
    /// At most this many bytes in one label name or value.
    pub max_label_bytes: usize,
    /// A log segment is closed when it passes this size.
    pub segment_bytes: u64,
    /// At most this many bytes in one commit's record.
    pub max_commit_bytes: usize,
    /// What decoded parts of blocks may take in memory while they are not in use.
    pub block_cache_bytes: usize,
    /// How often the maintenance thread looks for work; `None` runs no thread ([`crate::Db::maintain`] does it then).
    pub maintenance: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            block_ms: 2 * 3600 * 1000,
            retention_ms: 15 * 24 * 3600 * 1000,
            fsync: Fsync::Interval(Duration::from_secs(1)),
            encoding: EncodingChoice::Auto,
            out_of_order_ms: 0,
            max_future_ms: 10 * 60 * 1000,
            head: Meter::unlimited("head"),
            max_series: 0,
            max_series_per_timeline: 0,
            max_timelines: 1_000_000,
            max_labels: 256,
            max_label_bytes: 64 * 1024,
            segment_bytes: 64 << 20,
            max_commit_bytes: 256 << 20,
            block_cache_bytes: 16 << 20,
            maintenance: Some(Duration::from_secs(1)),
        }
    }
}
