//! Custom and external metrics: rules make them of series, as prometheus-adapter does, reading its file as it is.
//!
//! ```text
//!   adapter file, tidegauge.hpa_metrics, automatic --load--> Rules
//!                                                              |  look: which series does the index have?
//!                                                              v
//!   kind, name, namespace, objects --find--> Metric --fill--> PromQL --engine--> rows --find--> thousandths by object
//! ```
//!
//! A metric is there as soon as its series are: what is not known is looked for, at most once a second. One that was
//! there stays as long as its rule does. A row that is not the one value of one object is never made into one: what came
//! of each query is kept, and `/api/v1/hpa/metrics` tells it.

mod answer;
mod asking;
mod condition;
mod discovery;
mod file;
mod index;
mod journal;
mod known;
mod load;
mod look;
mod mapping;
mod mend;
mod naming;
mod report;
mod resource;
mod rule;
mod rules;
mod template;
#[cfg(test)]
mod tests;

pub(crate) use asking::Problem;
pub(crate) use known::Known;
pub use load::{Loaded, check_rules};
pub(crate) use resource::{Resource, Resources};

use crate::api::Listing;
use crate::config::HpaMetrics;
use journal::Journal;
use load::Loading;
use look::Looked;
use parking_lot::{Mutex, RwLock};
use rules::Rules;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tidegauge_model::{Clock, MetricKind, Queryable};
use tidegauge_query::{Engine, ParseOptions};
use tokio::sync::Semaphore;

/// Queries at a time. They are short, and scrapes need the threads too.
const PLACES: usize = 4;

/// Makes metrics of series.
pub struct Adapter {
    store: Arc<dyn Queryable>,
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    /// `--kubernetes.adapter-config`
    file: Option<PathBuf>,
    in_force: RwLock<Arc<Rules>>,
    loading: Mutex<Loading>,
    /// Written by whoever holds `looked`.
    known: RwLock<Arc<Known>>,
    looked: Arc<tokio::sync::Mutex<Looked>>,
    resources: RwLock<Arc<Resources>>,
    /// When the kinds were asked for, and whether they were told.
    learned: tokio::sync::Mutex<Option<(Instant, bool)>>,
    parsed: Mutex<asking::Parsed>,
    journal: Mutex<Journal>,
    places: Semaphore,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    custom: AtomicU64,
    external: AtomicU64,
    custom_failed: AtomicU64,
    external_failed: AtomicU64,
    looks: AtomicU64,
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adapter")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Adapter {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// What is wrong with the rules, and where.
    pub fn open(
        store: Arc<dyn Queryable>,
        engine: Arc<Engine>,
        clock: Arc<dyn Clock>,
        file: Option<PathBuf>,
        own: HpaMetrics,
    ) -> Result<Arc<Self>, String> {
        let adapter = Self {
            store,
            engine,
            clock,
            file,
            in_force: RwLock::default(),
            loading: Mutex::default(),
            known: RwLock::default(),
            looked: Arc::default(),
            resources: RwLock::default(),
            learned: tokio::sync::Mutex::default(),
            parsed: Mutex::default(),
            journal: Mutex::default(),
            places: Semaphore::new(PLACES),
            counts: Counts::default(),
        };
        adapter.take(adapter.load(own)?);
        Ok(Arc::new(adapter))
    }

    fn parse_options(&self) -> ParseOptions {
        ParseOptions {
            features: self.engine.options().features,
            ..ParseOptions::default()
        }
    }

    /// The kinds of objects that are known.
    pub(crate) fn resources(&self) -> Arc<Resources> {
        Arc::clone(&self.resources.read())
    }

    /// For `/metrics`.
    pub(crate) fn list(&self) -> Vec<Listing> {
        let counts = &self.counts;
        let groups = |custom: f64, external: f64| {
            vec![
                (vec![("group", "custom".to_owned())], custom),
                (vec![("group", "external".to_owned())], external),
            ]
        };
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        let known = Arc::clone(&self.known.read());
        let good = self.loading.lock().problem.is_none();
        vec![
            (
                "tidegauge_hpa_metrics_known",
                "Custom and external metrics that there are.",
                MetricKind::Gauge,
                groups(known.custom.len() as f64, known.external.len() as f64),
            ),
            (
                "tidegauge_hpa_metrics_queries_total",
                "Queries for the values of custom and external metrics.",
                MetricKind::Counter,
                groups(of(&counts.custom), of(&counts.external)),
            ),
            (
                "tidegauge_hpa_metrics_failed_queries_total",
                "Queries for the values of custom and external metrics that gave no value.",
                MetricKind::Counter,
                groups(of(&counts.custom_failed), of(&counts.external_failed)),
            ),
            (
                "tidegauge_hpa_metrics_looks_total",
                "How often the series of all rules of metrics were looked for.",
                MetricKind::Counter,
                vec![(Vec::new(), of(&counts.looks))],
            ),
            (
                "tidegauge_hpa_metrics_rules_last_reload_successful",
                "Whether the last load of the rules of metrics succeeded.",
                MetricKind::Gauge,
                vec![(Vec::new(), f64::from(u8::from(good)))],
            ),
        ]
    }
}
