//! The store's own counters and gauges, for the server to render.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tidegauge_model::{MetricKind, Summary};

/// Upstream's.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// One family as the server renders it: name, help, kind, and for each label set a value.
pub type MetricFamily = (
    &'static str,
    &'static str,
    MetricKind,
    Vec<(Vec<(&'static str, String)>, f64)>,
);

macro_rules! metrics {
    ($($field:ident $kind:ident $name:literal $help:literal $(/ $per:literal)?,)*) => {
        /// Counters and gauges of one store. Relaxed throughout: each stands for itself.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $(#[doc = $help] pub $field: AtomicU64,)*
            /// How long it took to force the log to the disk.
            pub(crate) sync_times: Mutex<Summary>,
        }

        impl Metrics {
            /// All families with their values now.
            pub fn list(&self) -> Vec<MetricFamily> {
                vec![
                    $((
                        $name,
                        $help,
                        MetricKind::$kind,
                        vec![(Vec::new(), self.$field.load(Ordering::Relaxed) as f64 $(/ $per)?)],
                    ),)*
                    (
                        "tidegauge_tsdb_wal_sync_duration_seconds",
                        "How long it took to force the log to the disk, quantiles over the last minutes.",
                        MetricKind::Summary,
                        self.sync_times.lock().samples(Instant::now(), &[], &QUANTILES),
                    ),
                ]
            }
        }
    };
}

metrics! {
    samples_appended Counter "tidegauge_tsdb_head_samples_appended_total" "Samples that commits stored.",
    histograms_appended Counter "tidegauge_tsdb_head_histograms_appended_total" "Native histograms that commits stored, stale markers of such series among them.",
    histograms_invalid Counter "tidegauge_tsdb_head_invalid_histograms_total" "Native histograms refused because they are not valid or have too many buckets.",
    histogram_series Gauge "tidegauge_tsdb_head_histogram_series" "Series in the head that hold native histograms.",
    exemplars_appended Counter "tidegauge_tsdb_exemplars_appended_total" "Exemplars that commits stored.",
    exemplars_repeated Counter "tidegauge_tsdb_exemplars_repeated_total" "Exemplars left out because the newest of their series says the same.",
    exemplars_out_of_order Counter "tidegauge_tsdb_exemplars_out_of_order_total" "Exemplars left out because a newer one of their series is stored.",
    exemplars_refused Counter "tidegauge_tsdb_exemplars_refused_total" "Exemplars left out because the head's memory share is used up.",
    exemplars_too_long Counter "tidegauge_tsdb_exemplars_too_long_total" "Exemplars refused because their labels are too long.",
    exemplars Gauge "tidegauge_tsdb_exemplars" "Exemplars that are kept.",
    exemplar_bytes Gauge "tidegauge_tsdb_exemplar_bytes" "Bytes of memory the kept exemplars account for.",
    commits Counter "tidegauge_tsdb_head_commits_total" "Commits that succeeded.",
    commits_failed Counter "tidegauge_tsdb_head_commits_failed_total" "Commits that failed as a whole.",
    rejected_out_of_order Counter "tidegauge_tsdb_head_out_of_order_samples_total" "Samples refused because a newer one of their series is stored.",
    rejected_duplicate Counter "tidegauge_tsdb_head_duplicate_samples_total" "Samples refused because another value of the same time is stored.",
    rejected_repeated Counter "tidegauge_tsdb_head_repeated_samples_total" "Samples refused because their series occurs twice in one row.",
    rejected_out_of_bounds Counter "tidegauge_tsdb_head_out_of_bounds_samples_total" "Samples refused because they lie too far behind the newest one of all, and none may come late.",
    rejected_too_old Counter "tidegauge_tsdb_head_too_old_samples_total" "Samples refused because they lie before the out-of-order window.",
    rejected_too_new Counter "tidegauge_tsdb_head_too_new_samples_total" "Samples refused because they lie too far in the future.",
    stale_dropped Counter "tidegauge_tsdb_head_foreign_stale_markers_total" "Stale markers dropped because another timeline owns the series.",
    late_appended Counter "tidegauge_tsdb_head_late_samples_appended_total" "Samples stored although a newer one of their series was, inside the out-of-order window.",
    late_repeated Counter "tidegauge_tsdb_head_late_samples_repeated_total" "Late samples dropped because a late sample of the same time is stored.",
    late_samples Gauge "tidegauge_tsdb_head_late_samples" "Late samples that no block holds yet.",
    late_bytes Gauge "tidegauge_tsdb_head_late_bytes" "Bytes of memory that late samples take.",
    late_blocks Counter "tidegauge_tsdb_late_blocks_written_total" "Blocks written of late samples alone.",
    series_refused Counter "tidegauge_tsdb_head_series_refused_total" "New series refused by a limit or by the memory share.",
    timeline_series_refused Counter "tidegauge_tsdb_head_timeline_series_refused_total" "New series refused because their timeline (target) has as many as it may.",
    series Gauge "tidegauge_tsdb_head_series" "Series in the head.",
    series_created Counter "tidegauge_tsdb_head_series_created_total" "Series made in the head.",
    series_removed Counter "tidegauge_tsdb_head_series_removed_total" "Series dropped from the head.",
    timelines Gauge "tidegauge_tsdb_head_timelines" "Timelines in the head.",
    columns Gauge "tidegauge_tsdb_head_columns" "Columns in the head.",
    chunks Gauge "tidegauge_tsdb_head_chunks" "Columns of sealed runs and columns of open rows in the head, native histograms' chunks among them.",
    head_bytes Gauge "tidegauge_tsdb_head_memory_bytes" "Bytes of memory the head accounts for.",
    runs_sealed Counter "tidegauge_tsdb_head_runs_sealed_total" "Runs of rows sealed into encoded columns.",
    run_bytes Gauge "tidegauge_tsdb_head_run_bytes" "Bytes of sealed runs on the heap.",
    run_files Gauge "tidegauge_tsdb_head_run_files" "Files of sealed runs that no block holds yet.",
    run_file_bytes Gauge "tidegauge_tsdb_head_run_file_bytes" "Bytes of the files of sealed runs.",
    run_files_written Counter "tidegauge_tsdb_head_run_files_written_total" "Files of sealed runs written.",
    pressure_seals Counter "tidegauge_tsdb_head_pressure_seals_total" "Times open rows were sealed early because memory was short.",
    min_time Gauge "tidegauge_tsdb_head_min_time_seconds" "Start of what the head holds." / 1e3,
    max_time Gauge "tidegauge_tsdb_head_max_time_seconds" "Time of the newest sample." / 1e3,
    wal_bytes Counter "tidegauge_tsdb_wal_written_bytes_total" "Bytes written to the log.",
    wal_records Counter "tidegauge_tsdb_wal_records_total" "Records written to the log.",
    wal_syncs Counter "tidegauge_tsdb_wal_syncs_total" "Times the log was forced to the disk.",
    wal_errors Counter "tidegauge_tsdb_wal_errors_total" "Writes or syncs of the log that failed.",
    wal_poisoned Gauge "tidegauge_tsdb_wal_poisoned" "Whether a sync of the log failed, so that appends are refused until restart.",
    wal_segments Gauge "tidegauge_tsdb_wal_segments" "Segments of the log on disk.",
    wal_segment Gauge "tidegauge_tsdb_wal_segment" "Number of the segment of the log that is being written.",
    wal_torn Counter "tidegauge_tsdb_wal_torn_tails_total" "Torn tails of the log that were cut when it was opened.",
    wal_damaged Counter "tidegauge_tsdb_wal_damaged_records_total" "Damaged places of the log found when it was opened.",
    wal_rows_lost Counter "tidegauge_tsdb_wal_unreadable_rows_total" "Rows of the log that could not be read because of damage before them.",
    replay_rows Counter "tidegauge_tsdb_wal_replayed_rows_total" "Rows read back from the log when it was opened.",
    replay_milliseconds Gauge "tidegauge_tsdb_wal_replay_seconds" "How long reading the log back took." / 1e3,
    checkpoints_written Counter "tidegauge_tsdb_checkpoints_written_total" "Checkpoints written.",
    checkpoints_failed Counter "tidegauge_tsdb_checkpoints_failed_total" "Checkpoints that could not be written.",
    checkpoints_unusable Counter "tidegauge_tsdb_checkpoints_unusable_total" "Checkpoints that were of no use when the store was opened.",
    checkpoint_bytes Gauge "tidegauge_tsdb_checkpoint_bytes" "Size of the newest checkpoint.",
    checkpoint_hold_microseconds Gauge "tidegauge_tsdb_checkpoint_hold_seconds" "How long commits waited for the newest checkpoint." / 1e6,
    blocks Gauge "tidegauge_tsdb_blocks" "Blocks that are served.",
    blocks_written Counter "tidegauge_tsdb_blocks_written_total" "Blocks written from the head.",
    blocks_deleted Counter "tidegauge_tsdb_blocks_deleted_total" "Blocks deleted because of their age.",
    blocks_deleted_for_size Counter "tidegauge_tsdb_blocks_deleted_for_size_total" "Blocks deleted because too much was stored.",
    blocks_bytes Gauge "tidegauge_tsdb_blocks_bytes" "Bytes of the blocks that are served.",
    retention_bytes Gauge "tidegauge_tsdb_retention_limit_bytes" "Bytes that may be stored; 0 is no limit.",
    retention_ms Gauge "tidegauge_tsdb_retention_limit_seconds" "How long samples are kept; 0 is for ever." / 1e3,
    blocks_damaged Gauge "tidegauge_tsdb_blocks_damaged" "Blocks that are served as far as they can be read: damage was found in them since the start.",
    blocks_quarantined Counter "tidegauge_tsdb_blocks_quarantined_total" "Blocks set aside because they cannot be read.",
    compactions Counter "tidegauge_tsdb_compactions_total" "Blocks written in the place of others.",
    compactions_failed Counter "tidegauge_tsdb_compactions_failed_total" "Compactions that failed; they are tried again.",
    compaction_read_bytes Counter "tidegauge_tsdb_compaction_read_bytes_total" "Bytes of the blocks that others were written in the place of.",
    compaction_written_bytes Counter "tidegauge_tsdb_compaction_written_bytes_total" "Bytes of the blocks written in the place of others.",
    compaction_milliseconds Counter "tidegauge_tsdb_compaction_seconds_total" "How long compaction took in all." / 1e3,
    deletions Counter "tidegauge_tsdb_deletions_total" "Deletions of series that were asked for and done.",
    tombstones Gauge "tidegauge_tsdb_tombstones" "Deleted intervals, counted for each series, whose samples still lie on the disk or in the head.",
    blocks_cleaned Counter "tidegauge_tsdb_blocks_cleaned_total" "Blocks rewritten or removed to clean what was deleted of them.",
    maintenance_failures Counter "tidegauge_tsdb_maintenance_failures_total" "Rounds of maintenance that failed.",
}

impl Metrics {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn synced(&self, begun: Instant) {
        let now = Instant::now();
        self.sync_times.lock().observe_time(now, now - begun);
    }

    pub(crate) fn set(gauge: &AtomicU64, n: u64) {
        gauge.store(n, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_helped() {
        let list = Metrics::default().list();
        let names: std::collections::BTreeSet<_> = list.iter().map(|f| f.0).collect();
        assert_eq!(names.len(), list.len());
        assert!(
            list.iter()
                .all(|f| f.1.ends_with('.') && f.0.starts_with("tidegauge_tsdb_"))
        );
    }
}
