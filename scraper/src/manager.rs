//! Owns every pool: applies configurations, answers what is being scraped, stops it all.

use crate::config::{ConfigError, ScrapeConfig};
#[cfg(feature = "kubernetes")]
use crate::discovery::kubernetes::{Cluster, ClusterAt};
use crate::discovery::{Context, DiscoveryOptions, ProviderStatus};
use crate::error::ScrapeError;
use crate::metadata::Interner;
use crate::metrics::{Family, Metrics};
use crate::pool::{Job, Pool};
use crate::relabel::{self, RelabelConfig};
use crate::target::{DroppedTarget, TargetStatus};
use crate::thread;
use crate::walk::Buffers;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidegauge_model::{Appendable, Clock, Labels, Metadata, Meter, MetricKind};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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
    /// Whether native histograms are scraped as such where a job does not say.
    pub native_histograms: bool,
    /// A scrape that starts this near to its planned time is stamped with the planned time.
    pub timestamp_tolerance: Duration,
    /// Whether targets on this machine are asked to compress their bodies as well. There the bytes cost less to send
    /// than to pack and unpack.
    pub compressed_nearby: bool,
    /// Whether targets are scraped on a thread of their own, and not on those of the runtime that applies
    /// configurations.
    pub own_thread: bool,
    /// How many scrapes of large bodies are parsed and appended at the same time.
    pub parallel_appends: usize,
    /// How many metric families' metadata is kept per target.
    pub max_metadata_per_target: usize,
    /// How many dropped targets a job keeps to be shown, where it does not say.
    pub max_dropped_targets: usize,
    /// How targets are found.
    pub discovery: DiscoveryOptions,
}

impl Default for ScrapeOptions {
    fn default() -> Self {
        Self {
            bodies: Meter::new("scrape bodies", 256 << 20),
            max_body_bytes: 64 << 20,
            offset_seed: 0,
            user_agent: concat!("tidegauge/", env!("CARGO_PKG_VERSION")).to_owned(),
            extra_metrics: false,
            native_histograms: false,
            timestamp_tolerance: Duration::from_millis(2),
            compressed_nearby: false,
            own_thread: false,
            parallel_appends: std::thread::available_parallelism().map_or(2, usize::from),
            max_metadata_per_target: 10_000,
            max_dropped_targets: 10_000,
            discovery: DiscoveryOptions::default(),
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

/// What one rule does to a target's labels, after those before it.
#[derive(Debug, Clone, PartialEq)]
pub struct RelabelStep {
    /// The rule.
    pub rule: RelabelConfig,
    /// The labels after it; none once a rule has dropped the target.
    pub output: Labels,
    /// Whether the target is still there.
    pub keep: bool,
}

/// What every pool and loop shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: ScrapeOptions,
    pub(crate) metrics: Arc<Metrics>,
    /// What providers of targets are made with.
    pub(crate) discovery: Context,
    /// Every task there is, blocking ones as well, so that stopping can wait for them.
    pub(crate) tasks: TaskTracker,
    /// Cancelled once, at the end.
    pub(crate) shutdown: CancellationToken,
    /// Where loops run; `None`: on the runtime they are started from.
    thread: Option<Handle>,
    /// How many scrapes may be appended at a time.
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) buffers: Lent<Buffers>,
    pub(crate) raw_buffers: Lent<Vec<u8>>,
    pub(crate) interner: Interner,
    /// Hash of the external labels: what tells this server from a twin with the same configuration.
    external_hash: AtomicU64,
}

impl Shared {
    /// Starts a target's loop.
    pub(crate) fn spawn_loop(&self, run: impl Future<Output = ()> + Send + 'static) {
        match &self.thread {
            Some(thread) => self.tasks.spawn_on(run, thread),
            None => self.tasks.spawn(run),
        };
    }

    pub(crate) fn offset_seed(&self) -> u64 {
        self.options.offset_seed ^ self.external_hash.load(Ordering::Relaxed)
    }
}

/// The door to the store, with a `Debug` that shows nothing of it.
pub(crate) struct Store(Arc<dyn Appendable>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl std::ops::Deref for Store {
    type Target = dyn Appendable;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// Buffers lent from one scrape to the next: a few are kept, none is waited for.
#[derive(Debug)]
pub(crate) struct Lent<T> {
    free: Mutex<Vec<T>>,
    keep: usize,
}

/// A buffer that can be used again.
pub(crate) trait Reuse: Default {
    /// Empties it and gives back what an uncommon use needed.
    fn trim(&mut self);
}

/// A body's buffer that grew beyond this is given back to the allocator.
const KEPT_RAW_BYTES: usize = 512 << 10;

impl Reuse for Vec<u8> {
    fn trim(&mut self) {
        self.clear();
        self.shrink_to(KEPT_RAW_BYTES);
    }
}

impl<T: Reuse> Lent<T> {
    fn new(keep: usize) -> Self {
        Self {
            free: Mutex::new(Vec::new()),
            keep,
        }
    }

    pub(crate) fn take(&self) -> T {
        self.free.lock().pop().unwrap_or_default()
    }

    pub(crate) fn give(&self, mut buffer: T) {
        buffer.trim();
        let mut free = self.free.lock();
        if free.len() < self.keep {
            free.push(buffer);
        }
    }
}

/// A handle to all of scraping. Clones are the same manager.
#[derive(Debug, Clone)]
pub struct Manager {
    shared: Arc<Shared>,
    /// By job. Held while a configuration is applied or looked at; never across an await.
    pools: Arc<Mutex<BTreeMap<String, Arc<Pool>>>>,
}

impl Manager {
    /// A manager without jobs.
    pub fn new(store: Arc<dyn Appendable>, clock: Arc<dyn Clock>, options: ScrapeOptions) -> Self {
        let parallel = options.parallel_appends.max(1);
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let own_thread = options
            .own_thread
            .then(|| thread::start(shutdown.clone(), tasks.clone()));
        let metrics = Arc::<Metrics>::default();
        let discovery = Context::new(&options, &metrics, &clock, &tasks, &shutdown);
        let shared = Shared {
            store: Store(store),
            clock,
            metrics,
            discovery,
            thread: own_thread.and_then(|started| {
                started
                    .inspect_err(|problem| tracing::warn!(%problem, "no thread of its own for scraping"))
                    .ok()
            }),
            tasks,
            shutdown,
            permits: Arc::new(Semaphore::new(parallel)),
            buffers: Lent::new(parallel),
            raw_buffers: Lent::new(4 * parallel),
            interner: Interner::default(),
            external_hash: AtomicU64::new(0),
            options,
        };
        Self {
            shared: Arc::new(shared),
            pools: Arc::default(),
        }
    }

    /// Makes these jobs (complete, see [`crate::config::finish`]) the ones that run. Targets that stay are not
    /// disturbed; those that went get stale markers a little more than two intervals later. To be called within a
    /// tokio runtime. Nothing changes if it fails.
    ///
    /// # Errors
    /// [`ScrapeError`].
    pub fn apply(&self, jobs: Vec<ScrapeConfig>, external_labels: &Labels) -> Result<(), ScrapeError> {
        if self.shared.shutdown.is_cancelled() {
            return Err(ScrapeError::Stopped);
        }
        let mut pools = self.pools.lock();
        let mut names = BTreeSet::new();
        let mut changed = Vec::new();
        for mut config in jobs {
            if self.shared.options.native_histograms {
                config = config.with_native_histograms();
            }
            if !names.insert(config.job_name.clone()) {
                return Err(ConfigError::DuplicateJob(config.job_name).into());
            }
            if pools
                .get(&config.job_name)
                .is_some_and(|pool| pool.job().config == config)
            {
                continue;
            }
            let name = config.job_name.clone();
            let job = Job::new(config, &self.shared).map_err(|problem| ScrapeError::Client { job: name, problem })?;
            changed.push(job);
        }
        // From here on nothing can fail.
        self.shared
            .external_hash
            .store(external_labels.stable_hash(), Ordering::Relaxed);
        pools.retain(|name, pool| {
            let stays = names.contains(name);
            if !stays {
                pool.close();
            }
            stays
        });
        for job in changed {
            match pools.get(&job.name) {
                Some(pool) => pool.change(job),
                None => {
                    pools.insert(job.name.clone(), Pool::start(&self.shared, job));
                }
            }
        }
        Ok(())
    }

    /// What is being scraped.
    pub fn targets(&self) -> TargetsSnapshot {
        let mut snapshot = TargetsSnapshot::default();
        for (name, pool) in &*self.pools.lock() {
            snapshot.active.extend(pool.active());
            let (dropped, count) = pool.dropped();
            snapshot.dropped.extend(dropped);
            snapshot.dropped_counts.insert(name.clone(), count);
        }
        snapshot
    }

    /// The names of the pools (jobs), sorted.
    pub fn pools(&self) -> Vec<String> {
        self.pools.lock().keys().cloned().collect()
    }

    /// How the providers of all jobs fare, by job.
    pub fn discovery(&self) -> Vec<ProviderStatus> {
        self.pools.lock().values().flat_map(|pool| pool.discovery()).collect()
    }

    /// What a job's `relabel_configs` make of labels, rule by rule; `None` if there is no such job.
    pub fn relabel_steps(&self, pool: &str, labels: Labels) -> Option<Vec<RelabelStep>> {
        let job = self.pools.lock().get(pool)?.job();
        let mut left = Some(labels);
        let steps = job.config.relabel_configs.iter().map(|rule| {
            left = left
                .take()
                .and_then(|labels| relabel::apply(std::slice::from_ref(rule), labels));
            RelabelStep {
                rule: rule.clone(),
                output: left.clone().unwrap_or_default(),
                keep: left.is_some(),
            }
        });
        Some(steps.collect())
    }

    /// The metadata of a metric, or of all, by target, in the order of its body.
    pub fn metadata(&self, metric: Option<&str>) -> Vec<TargetMetadata> {
        let mut metadata = Vec::new();
        for pool in self.pools.lock().values() {
            pool.metadata(metric, &mut metadata);
        }
        metadata
    }

    /// An API server for others than discovery; they share its watches. Blocks on a kubeconfig.
    ///
    /// # Errors
    /// What there cannot be obeyed.
    #[cfg(feature = "kubernetes")]
    pub fn cluster(&self, at: ClusterAt) -> Result<Cluster, String> {
        Cluster::new(&self.shared.discovery.kubernetes, at)
    }

    /// The scraper's counters.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// What is counted, and what is remembered of each job's metrics, for `/metrics`.
    pub fn list(&self) -> Vec<Family> {
        let pools = self.pools.lock();
        let entries = pools
            .iter()
            .map(|(name, pool)| (vec![("scrape_job", name.clone())], pool.metadata_entries() as f64));
        let mut families = self.shared.metrics.list();
        families.push((
            "prometheus_target_metadata_cache_entries",
            "Total number of metric metadata entries of a scrape pool's targets.",
            MetricKind::Gauge,
            entries.collect(),
        ));
        families
    }

    /// Stops all of it and waits: scrapes under way are dropped or finish their commit. Writes no stale markers, since
    /// the targets are expected to be scraped again after a restart.
    pub async fn stop(&self) {
        self.shared.shutdown.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}
