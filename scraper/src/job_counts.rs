//! What is counted of each job and of each interval, under the names that upstream gives it, so that its dashboards
//! and alerts go on.

use crate::config::ScrapeConfig;
use crate::metrics::{Count, Family};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tidegauge_model::{MetricKind, Summary, SummarySamples};

/// Upstream's, for both summaries.
const QUANTILES: [f64; 5] = [0.01, 0.05, 0.5, 0.9, 0.99];

/// Counts by job and by interval.
#[derive(Debug, Default)]
pub(crate) struct JobCounts {
    jobs: Mutex<BTreeMap<String, Job>>,
    /// How long it was from scrape to scrape, by what was planned; never forgotten, and bounded by what configurations
    /// name.
    intervals: Mutex<BTreeMap<Duration, Summary>>,
    /// Jobs begun.
    pub(crate) begun: Count,
    /// Times that a job went on with another configuration.
    pub(crate) changed: Count,
}

/// What is counted of a job as long as there is one.
#[derive(Debug, Default)]
struct Job {
    targets: u64,
    target_limit: u64,
    failed: u64,
    syncs: Summary,
}

impl JobCounts {
    /// The targets of a job were brought up to date; so many of those that were found could not be made.
    pub(crate) fn synced(&self, config: &ScrapeConfig, begun: Instant, targets: usize, failed: u64) {
        let now = Instant::now();
        let mut jobs = self.jobs.lock();
        let job = jobs.entry(config.job_name.clone()).or_default();
        job.targets = targets as u64;
        job.target_limit = config.target_limit;
        job.failed += failed;
        job.syncs.observe_time(now, now - begun);
    }

    /// A job that is gone has no numbers.
    pub(crate) fn forget(&self, job: &str) {
        self.jobs.lock().remove(job);
    }

    /// A target's scrape began so long after the one before.
    pub(crate) fn scraped_after(&self, planned: Duration, passed: Duration) {
        let mut intervals = self.intervals.lock();
        intervals
            .entry(planned)
            .or_default()
            .observe_time(Instant::now(), passed);
    }

    /// All of them, as they are now.
    pub(crate) fn list(&self) -> Vec<Family> {
        use MetricKind::{Counter, Gauge};
        let now = Instant::now();
        let mut jobs = self.jobs.lock();
        let by_job = |name: &str| vec![("scrape_job", name.to_owned())];
        let number = |of: fn(&Job) -> f64, jobs: &BTreeMap<String, Job>| {
            jobs.iter().map(|(name, job)| (by_job(name), of(job))).collect()
        };
        let one = |count: &Count| vec![(Vec::new(), count.get() as f64)];
        let families: [(_, _, _, SummarySamples); 6] = [
            (
                "prometheus_target_scrape_pools_total",
                "Total number of scrape pools that were begun.",
                Counter,
                one(&self.begun),
            ),
            (
                "prometheus_target_scrape_pool_reloads_total",
                "Total number of times that a scrape pool went on with another configuration.",
                Counter,
                one(&self.changed),
            ),
            (
                "prometheus_target_scrape_pool_targets",
                "Current number of targets in this scrape pool.",
                Gauge,
                number(|job| job.targets as f64, &jobs),
            ),
            (
                "prometheus_target_scrape_pool_target_limit",
                "Maximum number of targets allowed in this scrape pool.",
                Gauge,
                number(|job| job.target_limit as f64, &jobs),
            ),
            (
                "prometheus_target_scrape_pool_sync_total",
                "Total number of syncs that were executed on a scrape pool.",
                Counter,
                number(|job| job.syncs.count() as f64, &jobs),
            ),
            (
                "prometheus_target_sync_failed_total",
                "Total number of targets that could not be made when a scrape pool was brought up to date.",
                Counter,
                number(|job| job.failed as f64, &jobs),
            ),
        ];
        let syncs = jobs
            .iter_mut()
            .flat_map(|(name, job)| job.syncs.samples(now, &by_job(name), &QUANTILES));
        let mut families: Vec<Family> = families.into();
        families.push((
            "prometheus_target_sync_length_seconds",
            "Actual interval to sync the scrape pool.",
            MetricKind::Summary,
            syncs.collect(),
        ));
        let mut intervals = self.intervals.lock();
        let lengths = intervals
            .iter_mut()
            .flat_map(|(planned, summary)| summary.samples(now, &[("interval", in_go(*planned))], &QUANTILES));
        families.push((
            "prometheus_target_interval_length_seconds",
            "Actual intervals between scrapes.",
            MetricKind::Summary,
            lengths.collect(),
        ));
        families
    }
}

/// An interval as upstream's label has it: `15s`, `1m0s`, `1h0m0s`, `500ms`.
fn in_go(interval: Duration) -> String {
    let (seconds, ms) = (interval.as_secs(), interval.subsec_millis());
    if seconds == 0 && ms > 0 {
        return format!("{ms}ms");
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut rest = format!("{}", seconds % 60);
    if ms > 0 {
        rest.push_str(format!(".{ms:03}").trim_end_matches('0'));
    }
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_written_as_upstream_does() {
        for (ms, text) in [
            (0, "0s"),
            (5, "5ms"),
            (500, "500ms"),
            (1500, "1.5s"),
            (15_000, "15s"),
            (60_000, "1m0s"),
            (61_250, "1m1.25s"),
            (3_600_000, "1h0m0s"),
            (90_061_000, "25h1m1s"),
        ] {
            assert_eq!(in_go(Duration::from_millis(ms)), text);
        }
    }
}
