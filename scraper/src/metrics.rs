//! The scraper's own counters.

use crate::discovery::Counts;
use crate::job_counts::JobCounts;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegauge_model::MetricKind;

/// One metric family as the server renders it: name, help, kind, and samples with their labels.
pub type Family = (
    &'static str,
    &'static str,
    MetricKind,
    Vec<(Vec<(&'static str, String)>, f64)>,
);

/// A number that goes up, or up and down; relaxed, as nothing else hangs on it.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn inc(&self) {
        self.add(1);
    }

    pub(crate) fn dec(&self) {
        self.sub(1);
    }

    pub(crate) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $field:ident: $kind:ident $name:literal $help:literal;)*) => {
        /// Counters and gauges of scraping.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $(pub(crate) $field: Count,)*
            /// Of discovery, under upstream's names.
            pub(crate) sd: Counts,
            /// Of jobs, under upstream's names.
            pub(crate) jobs: JobCounts,
            #[cfg(feature = "kubernetes")]
            pub(crate) kubernetes: crate::discovery::kubernetes::KubernetesMetrics,
        }

        impl Metrics {
            /// All of them, as they are now.
            pub fn list(&self) -> Vec<Family> {
                let own = vec![$(($name, $help, MetricKind::$kind, vec![(Vec::new(), self.$field.get() as f64)]),)*];
                let all = own.into_iter().chain(self.sd.list()).chain(self.jobs.list());
                #[cfg(feature = "kubernetes")]
                let all = all.chain(self.kubernetes.list());
                all.collect()
            }
        }
    };
}

metrics! {
    pools: Gauge "tidegauge_scrape_pools" "Scrape pools, one per job.";
    targets: Gauge "tidegauge_scrape_targets" "Targets that are being scraped.";
    scrapes: Counter "tidegauge_scrape_scrapes_total" "Scrapes finished, well or not.";
    failures: Counter "tidegauge_scrape_failures_total" "Scrapes that failed.";
    skipped: Counter "tidegauge_scrape_missed_total" "Scrapes left out because the one before had not finished in time.";
    samples: Counter "tidegauge_scrape_samples_total" "Samples scraped and stored.";
    body_bytes: Counter "tidegauge_scrape_body_bytes_total" "Bytes of bodies after inflating.";
    wire_bytes: Counter "tidegauge_scrape_wire_bytes_total" "Bytes of bodies as they came.";
    out_of_order: Counter "tidegauge_scrape_samples_out_of_order_total" "Samples refused because they were older than their series' newest.";
    duplicates: Counter "tidegauge_scrape_samples_duplicate_total" "Samples refused because their series had another value for the same time.";
    out_of_bounds: Counter "tidegauge_scrape_samples_out_of_bounds_total" "Samples refused because they were too old or too far in the future.";
    refused_series: Counter "tidegauge_scrape_series_refused_total" "Series refused by a limit of the store.";
    refused_histograms: Counter "tidegauge_scrape_histograms_refused_total" "Native histograms refused because they had more buckets than the store takes.";
    refused_metadata: Counter "tidegauge_scrape_metadata_refused_total" "Metric families whose metadata was left out because a target declares more than are kept.";
    over_sample_limit: Counter "tidegauge_scrape_over_sample_limit_total" "Scrapes that failed because of sample_limit.";
    over_bucket_limit: Counter "tidegauge_scrape_over_bucket_limit_total" "Scrapes that failed because of native_histogram_bucket_limit.";
    over_label_limit: Counter "tidegauge_scrape_over_label_limit_total" "Scrapes that failed because of a limit on labels.";
    over_body_limit: Counter "tidegauge_scrape_over_body_limit_total" "Scrapes that failed because the body was too long.";
    over_budget: Counter "tidegauge_scrape_over_budget_total" "Scrapes that failed because the memory for bodies was used up.";
    over_target_limit: Counter "tidegauge_scrape_over_target_limit_total" "Times a job found more targets than its target_limit.";
    bad_targets: Counter "tidegauge_scrape_bad_targets_total" "Targets that discovery found and that could not be made scrapeable.";
    commit_failures: Counter "tidegauge_scrape_commit_failures_total" "Scrapes that the store could not write.";
    predicted_lines: Counter "tidegauge_scrape_lines_predicted_total" "Lines whose series was known from the scrape before.";
    slow_lines: Counter "tidegauge_scrape_lines_slow_total" "Lines whose series had to be parsed and looked up.";
    sd_updates: Counter "tidegauge_sd_updates_total" "Target groups received from discovery.";
    sd_failures: Counter "tidegauge_sd_failures_total" "Times discovery failed to read its source, or a part of it.";
    sd_unhealthy: Gauge "tidegauge_sd_unhealthy_providers" "Sections of discovery whose source could not be read the last time.";
    sd_targets: Gauge "tidegauge_sd_targets" "Targets in the groups that discovery has found, of all jobs; those of static_configs are not counted.";
    sd_bytes: Gauge "tidegauge_sd_groups_bytes" "Bytes that these groups take.";
    sd_refused: Counter "tidegauge_sd_groups_refused_total" "Target groups left out because all of them together would have passed a limit.";
    duplicate_targets: Gauge "tidegauge_scrape_duplicate_targets" "Targets whose labels are those of another target of their job.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_help_follow_the_rules() {
        let metrics = Metrics::default();
        metrics.scrapes.add(3);
        metrics.targets.inc();
        metrics.targets.dec();
        for (name, help, kind, samples) in metrics.list() {
            let named = ["tidegauge_", "prometheus_sd_", "prometheus_target_"].map(|begin| name.starts_with(begin));
            assert!(named.contains(&true) && help.ends_with('.'), "{name}: {help}");
            assert_eq!(name.ends_with("_total"), kind == MetricKind::Counter, "{name}");
            assert_eq!(
                samples.last().map_or(0.0, |sample| sample.1),
                if name == "tidegauge_scrape_scrapes_total" {
                    3.0
                } else {
                    0.0
                }
            );
        }
    }
}
