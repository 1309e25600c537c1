//! What the user can set about the store, with defaults and bounds.

use crate::column::EncodingChoice;
use crate::replay::Replay;
use std::sync::Arc;
use std::time::Duration;
use tidegauge_model::Meter;

/// The begin of the year 1: no sample is older, whatever the store holds. A time before it is a mistake of units or of
/// arithmetic, and the first sample of an empty store, which nothing else bounds, must not be one.
pub const EARLIEST_MS: i64 = -62_135_596_800_000;

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
    /// any more. A segment that has ended is synced by the next sync, before the one that is written to. Needs
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
    /// How many bytes blocks, log and head may take on disk: beyond it the oldest blocks go; 0 sets no limit.
    pub retention_bytes: u64,
    /// Width that blocks are merged to at most, in milliseconds; 0: a tenth of the retention, and at most 31 days.
    pub max_block_ms: i64,
    /// When the log is synced.
    pub fsync: Fsync,
    /// How values are encoded in runs and blocks.
    pub encoding: EncodingChoice,
    /// How far behind the newest sample of all a sample may be that comes behind the newest one of its series, in
    /// milliseconds; 0 takes none. [`crate::Db::set_out_of_order_ms`] changes it while the store is open.
    pub out_of_order_ms: i64,
    /// Late samples of windows that are in blocks already are written to blocks of their own once they take this much
    /// memory; at the latest when the next window becomes a block.
    pub late_bytes: usize,
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
    /// At most this many deleted intervals, counted for each series, in the head and in each block; 0 sets no limit. A
    /// deletion that would pass it is refused as a whole.
    pub max_tombstones: u64,
    /// At most this many buckets in one native histogram, and as many spans and custom bounds; no more than
    /// [`crate::column::MAX_BUCKETS`], whatever is set.
    pub max_histogram_buckets: usize,
    /// Exemplars kept in memory over all series, the newest; 0 keeps none. [`crate::Db::set_max_exemplars`] changes it
    /// later.
    pub max_exemplars: usize,
    /// A log segment is closed when it passes this size.
    pub segment_bytes: u64,
    /// Sealed runs go from the heap to a file once they take this many bytes.
    pub run_file_bytes: u64,
    /// Sealed runs go from the heap to a file after so long, however few they are.
    pub run_file_age: Duration,
    /// A checkpoint is written when the log has grown by this much since the one before (and by a quarter of that
    /// one's size): what is behind it is what an opening replays.
    pub checkpoint_log_bytes: u64,
    /// A checkpoint is written after so long, if anything was logged.
    pub checkpoint_age: Duration,
    /// At most this many bytes in one commit's record.
    pub max_commit_bytes: usize,
    /// What decoded parts of blocks may take in memory while they are not in use.
    pub block_cache_bytes: usize,
    /// How often the maintenance thread looks for work; `None` runs no thread ([`crate::Db::maintain`] does it then).
    pub maintenance: Option<Duration>,
    /// Called after each round of maintenance: what it freed may be given back to the system then.
    pub after_round: Option<fn()>,
    /// Told how far the log has been read while the store opens.
    pub replay: Arc<Replay>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            block_ms: 2 * 3600 * 1000,
            retention_ms: 15 * 24 * 3600 * 1000,
            retention_bytes: 0,
            max_block_ms: 0,
            fsync: Fsync::Interval(Duration::from_secs(1)),
            encoding: EncodingChoice::Auto,
            out_of_order_ms: 0,
            late_bytes: 32 << 20,
            max_future_ms: 10 * 60 * 1000,
            head: Meter::unlimited("head"),
            max_series: 0,
            max_series_per_timeline: 0,
            max_timelines: 1_000_000,
            max_labels: 256,
            max_label_bytes: 64 * 1024,
            max_tombstones: 4_000_000,
            max_histogram_buckets: 1024,
            max_exemplars: 0,
            segment_bytes: 64 << 20,
            run_file_bytes: 2 << 20,
            run_file_age: Duration::from_secs(300),
            checkpoint_log_bytes: 4 << 20,
            checkpoint_age: Duration::from_secs(600),
            max_commit_bytes: 256 << 20,
            block_cache_bytes: 16 << 20,
            maintenance: Some(Duration::from_secs(1)),
            after_round: None,
            replay: Arc::default(),
        }
    }
}
