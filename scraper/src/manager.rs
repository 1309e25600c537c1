//! Owns every pool: applies configurations, answers what is being scraped, stops it all.

use crate::config::ScrapeConfig;
use crate::error::ScrapeError;
use crate::metrics::Metrics;
use crate::target::{DroppedTarget, TargetStatus};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tidegauge_model::{Appendable, Clock, Labels, Metadata, Meter};

/// Limits and choices of scraping that are not in the file's sections.
#[derive(Debug, Clone)]
pub struct ScrapeOptions {
    /// The share of memory for bodies that are being read.
    pub bodies: Meter,
    /// The longest body (as it comes and inflated) where a job sets no `body_size_limit`.
    pub max_body_bytes: u64,
    /// Spreads this server's scrapes differently from those of another with the same targets.
    pub offset_seed: u64,
    /// What `User-Agent` says.
    pub user_agent: String,
    /// Whether every scrape also reports its timeout, limits and body size.
    pub extra_metrics: bool,
    /// A scrape that starts this near to its planned time is stamped with the planned time.
    pub timestamp_tolerance: Duration,
    /// How many scrapes are parsed and appended at the same time.
    pub parallel_appends: usize,
    /// How many metric families' metadata is kept per target.
    pub max_metadata_per_target: usize,
    /// How many dropped targets a job keeps to be shown, where it does not say.
    pub max_dropped_targets: usize,
}

impl Default for ScrapeOptions {
    fn default() -> Self {
        Self {
            bodies: Meter::new("scrape bodies", 256 << 20),
            max_body_bytes: 64 << 20,
            offset_seed: 0,
            user_agent: concat!("tidegauge/", env!("CARGO_PKG_VERSION")).to_owned(),
            extra_metrics: false,
            timestamp_tolerance: Duration::from_millis(2),
            parallel_appends: std::thread::available_parallelism().map_or(2, usize::from),
            max_metadata_per_target: 10_000,
            max_dropped_targets: 10_000,
        }
    }
}

/// What is being scraped, as `/api/v1/targets` shows it.
#[derive(Debug, Clone, Default)]
pub struct TargetsSnapshot {
    /// Targets being scraped, by pool, then by labels.
    pub active: Vec<TargetStatus>,
    /// Targets that relabelling dropped.
    pub dropped: Vec<DroppedTarget>,
    /// How many were dropped, by pool; more than are listed where a limit cut the list. Every pool is in it.
    pub dropped_counts: BTreeMap<String, usize>,
}

/// Type, help and unit of a metric, as one target declared it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetMetadata {
    /// The target's labels.
    pub target: Labels,
    /// The metric family's name.
    pub metric: Arc<str>,
    /// What was declared.
    pub metadata: Arc<Metadata>,
}

/// A handle to all of scraping. Clones are the same manager.
#[derive(Debug, Clone)]
pub struct Manager {
    metrics: Arc<Metrics>,
}

impl Manager {
    /// A manager without jobs.
    pub fn new(store: Arc<dyn Appendable>, clock: Arc<dyn Clock>, options: ScrapeOptions) -> Self {
        let _ = (store, clock, options);
        Self {
            metrics: Arc::default(),
        }
    }

    /// Makes these jobs (complete, see [`crate::config::finish`]) the ones that run. Targets that stay are not
    /// disturbed; those that went get stale markers a little more than two intervals later. To be called within a
    /// tokio runtime. Nothing changes if it fails.
    ///
    /// # Errors
    /// [`ScrapeError`].
    pub fn apply(&self, jobs: Vec<ScrapeConfig>, external_labels: &Labels) -> Result<(), ScrapeError> {
        let _ = (jobs, external_labels);
        Ok(())
    }

    /// What is being scraped.
    pub fn targets(&self) -> TargetsSnapshot {
        TargetsSnapshot::default()
    }

    /// The names of the pools (jobs), sorted.
    pub fn pools(&self) -> Vec<String> {
        Vec::new()
    }

    /// The metadata of a metric, or of all, by target.
    pub fn metadata(&self, metric: Option<&str>) -> Vec<TargetMetadata> {
        let _ = metric;
        Vec::new()
    }

    /// The scraper's counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Stops all of it and waits: scrapes under way are dropped or finish their commit. Writes no stale markers, since
    /// the targets are expected to be scraped again after a restart.
    pub async fn stop(&self) {}
}
