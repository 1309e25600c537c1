//! Starts every part in order, keeps them running, and stops them in reverse.
//!
//! ```text
//!   start: configuration -> listener (answers "starting") -> store -> engine -> scraper -> routes -> ready
//!   stop:  scraper -> requests -> store
//! ```
//!
//! The configuration comes first, because it is what is wrong most often; the listener opens before the store, so that
//! a probe is answered while the log is read back. A reload goes through the same code as a start.

#[cfg(feature = "kubernetes")]
mod kubernetes;
mod options;

pub use options::{AppOptions, Encoding, FsyncChoice};

use crate::access::{Access, AccessFiles};
use crate::active::ActiveQueries;
use crate::api::{self, ApiLimits, ApiState, BuildInfo, Lifecycle, Listing, Readiness, Registry, ReloadReply};
use crate::budget::Shares;
use crate::clock::SystemClock;
use crate::config::{Config, PromDuration, Reloader, Source};
use crate::features;
use crate::gate::Gate;
#[cfg(not(feature = "kubernetes"))]
use crate::hpa::live::Autoscalers;
use crate::http::{self, Secure, ServeOptions, Traffic};
#[cfg(feature = "kubernetes")]
use crate::kubeapi::{Adapter, serving::Serving};
use crate::query_log::QueryLog;
use crate::site::{Site, bind};
use anyhow::{Context, anyhow};
#[cfg(feature = "kubernetes")]
use kubernetes::Kubernetes;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tidegauge_model::{Clock, Meter, Timestamp};
use tidegauge_query::{Engine, EngineOptions};
use tidegauge_scraper::{Manager, ScrapeOptions};
use tidegauge_tsdb::column::EncodingChoice;
use tidegauge_tsdb::{Db, Error as StoreError, Fsync, Options as StoreOptions, Replay};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Requests to reload that may wait; a further one waits at the sender.
const RELOADS_WAITING: usize = 4;
/// Ten years.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Time that scrapes have to end at shutdown.
const SCRAPE_GRACE: Duration = Duration::from_secs(2);
/// Time that requests have to end at shutdown. Both together leave the store time within ten seconds.
const REQUEST_GRACE: Duration = Duration::from_secs(4);

/// What a request of remote write may be made into until it is stored, for each byte that it may have.
const PENDING_PER_BYTE: u64 = 4;

/// What was started.
#[derive(Debug, Clone)]
pub struct Started {
    /// Where a browser on this machine finds the page.
    pub url: Url,
    /// The addresses that are listened on.
    pub addresses: Vec<SocketAddr>,
    /// Where the data is.
    pub data_dir: PathBuf,
}

/// Has the first SIGTERM or SIGINT cancel `shutdown`; the second ends the process at once.
///
/// # Errors
/// If the system refuses the handlers.
pub fn stop_on_signals(shutdown: &CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if shutdown.is_cancelled() {
                tracing::warn!(signal = name, "second signal: ending at once");
                std::process::exit(1);
            }
            tracing::info!(signal = name, "shutting down; a second signal ends the process at once");
            shutdown.cancel();
        }
    });
    Ok(())
}

/// Runs until `shutdown` is cancelled. `announce` is called once everything answers.
///
/// # Errors
/// What kept it from starting, or the store from closing, in a sentence that says what to do.
pub async fn run(
    options: AppOptions,
    shutdown: CancellationToken,
    announce: impl FnOnce(&Started),
) -> anyhow::Result<()> {
    // The provider is chosen once per process; a second choice is refused, which is fine.
    drop(rustls::crypto::ring::default_provider().install_default());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let begun = clock.now();
    // What is asked for comes before anything else is touched; the built-in configuration needs the address.
    let asked = match &options.config_file {
        Some(path) => Some(Source::File(path.clone(), options.presets.clone())),
        None if options.presets.kubernetes => Some(Source::Presets(options.presets.clone())),
        None => None,
    };
    let loaded = asked.as_ref().map(Source::load).transpose()?;
    let access = match options.access == AccessFiles::default() {
        true => None,
        false => Some(Access::open(options.access.clone(), clock.clone())?),
    };
    let listeners = bind("web.listen-address", &options.listen).await?;
    #[cfg(feature = "kubernetes")]
    let metrics_apis = match &options.kubernetes.serving {
        Some(apis) => bind("kubernetes.api.listen-address", std::slice::from_ref(&apis.listen))
            .await?
            .pop(),
        None => None,
    };
    let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
    let site = Site::new(
        &options,
        &addresses,
        access.as_ref().is_some_and(|access| access.uses_tls()),
    )?;
    warn_if_open(access.as_deref(), &addresses);
    let source = asked.unwrap_or_else(|| Source::BuiltIn(format!("{}{}", site.local, site.prefix)));
    let loaded = match loaded {
        Some(config) => config,
        None => source.load()?,
    };
    let config = Reloader::new(source, loaded, clock.clone());

    let web = Web {
        access,
        traffic: Arc::default(),
        replay: Arc::default(),
        query_log: Arc::default(),
    };
    let gate = Gate::new(web.access.clone(), &site.prefix, options.access_log, web.replay.clone());
    let stop_http = CancellationToken::new();
    let mut servers = serve(listeners, &gate, &options, &web, &stop_http);
    let running = match Running::start(&options, config, &clock, begun, &site, &web, &shutdown).await {
        Ok(running) => running,
        Err(error) => {
            stop_http.cancel();
            return Err(error);
        }
    };
    let Running {
        db,
        scraper,
        config,
        state,
        reloads,
        exemplars,
        #[cfg(feature = "kubernetes")]
        serving,
        mut looks,
    } = running;
    #[cfg(feature = "kubernetes")]
    if let (Some(serving), Some(listener)) = (serving, metrics_apis) {
        servers.spawn(serving.serve(listener, serve_options(&options, &web), stop_http.clone()));
    }
    gate.open(api::Front::new(state.clone()));
    state.ready.set_ready();
    let data_dir = fs::canonicalize(&options.data_dir).unwrap_or(options.data_dir.clone());
    announce(&Started {
        url: site.page.clone(),
        addresses,
        data_dir,
    });
    tracing::info!(address = %site.local, "ready");

    let reloaded = Reloaded {
        scraper: scraper.clone(),
        #[cfg(feature = "kubernetes")]
        adapter: state.adapter.clone(),
        db: db.clone(),
        exemplars,
        web,
    };
    control(&shutdown, reloads, &config, reloaded, &mut servers).await?;

    state.ready.set_not_ready("shutting down");
    if tokio::time::timeout(SCRAPE_GRACE, scraper.stop()).await.is_err() {
        tracing::warn!(grace = ?SCRAPE_GRACE, "scrapes still running at shutdown were left");
    }
    stop_http.cancel();
    while servers.join_next().await.is_some() {}
    // It may be that a listener ended, and nobody asked for it.
    shutdown.cancel();
    while looks.join_next().await.is_some() {}
    tokio::task::spawn_blocking(move || db.close())
        .await?
        .context("cannot close the store cleanly")?;
    tracing::info!("stopped");
    Ok(())
}

/// Everything that runs behind the routes.
struct Running {
    db: Arc<Db>,
    scraper: Manager,
    config: Arc<Reloader>,
    state: Arc<ApiState>,
    reloads: mpsc::Receiver<ReloadReply>,
    /// Whether exemplars are kept.
    exemplars: bool,
    /// The metrics APIs of Kubernetes, if they are served.
    #[cfg(feature = "kubernetes")]
    serving: Option<Serving>,
    /// Looks at autoscalers of a cluster, until shutdown.
    looks: JoinSet<()>,
}

impl Running {
    async fn start(
        options: &AppOptions,
        config: Reloader,
        clock: &Arc<dyn Clock>,
        begun: Timestamp,
        site: &Site,
        web: &Web,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let shares = Shares::new(options.memory_limit_bytes);
        tracing::info!(
            bytes = options.memory_limit_bytes,
            set_by = options.memory_source,
            "memory limit"
        );

        let features = features::read(&options.features);
        let mut store = store_options(options, &config.config(), shares.head.clone());
        if features.exemplar_storage {
            store.max_exemplars = config.config().max_exemplars();
        }
        store.replay = web.replay.clone();
        let (dir, store_clock) = (options.data_dir.clone(), clock.clone());
        let db = tokio::task::spawn_blocking(move || Db::open(&dir, store, store_clock))
            .await?
            .map_err(|e| advise(&e, options))?;
        tell_replay(&db);
        let active = active_queries(options);
        let engine = Arc::new(Engine::new(EngineOptions {
            lookback_ms: i64::try_from(options.lookback.millis()).unwrap_or(i64::MAX),
            max_samples: options.max_samples,
            timeout: options.query_timeout.get(),
            max_concurrency: options.max_concurrency.max(1),
            features: features.promql,
            memory: shares.queries.clone(),
            threads: std::thread::available_parallelism().map_or(1, usize::from).min(2),
            ..EngineOptions::default()
        }));
        let scraper = Manager::new(
            db.clone(),
            clock.clone(),
            ScrapeOptions {
                bodies: shares.bodies.clone(),
                extra_metrics: features.extra_scrape_metrics,
                native_histograms: features.native_histograms,
                own_thread: true,
                timestamp_tolerance: options.timestamp_tolerance.get(),
                compressed_nearby: options.compress_nearby,
                max_metadata_per_target: options.max_metadata,
                discovery: options.discovery.clone(),
                ..ScrapeOptions::default()
            },
        );
        let config = Arc::new(config);
        let loaded = config.config();
        scraper
            .apply(loaded.jobs().to_vec(), loaded.external_labels())
            .context("cannot start scraping")?;
        let query_log = Path::new(&loaded.global().query_log_file);
        web.query_log.reopen(query_log).map_err(|problem| anyhow!(problem))?;

        let (reload, reloads) = mpsc::channel(RELOADS_WAITING);
        let mut registry = Registry::new();
        let (a, b, c, d) = (db.clone(), engine.clone(), scraper.clone(), config.clone());
        registry.add(move || a.metrics().list());
        registry.add(move || b.metrics().list());
        registry.add(move || c.list());
        registry.add(move || d.list());
        let remote_write = shares.bodies.child("remote write", shares.bodies.limit());
        registry.add(move || shares.list());
        registry.add(web.listings());
        #[cfg(feature = "kubernetes")]
        let kubernetes = Kubernetes::open(
            options,
            &loaded,
            (&db, &engine, clock, &scraper),
            &mut registry,
            shutdown,
        )?;
        let state = Arc::new(ApiState {
            db: db.clone(),
            engine,
            #[cfg(feature = "kubernetes")]
            adapter: kubernetes.adapter,
            scraper: scraper.clone(),
            clock: clock.clone(),
            flags: flags_in_effect(options, site),
            config: config.clone(),
            lifecycle: Lifecycle {
                enabled: options.lifecycle,
                reload,
                quit: shutdown.clone(),
            },
            admin_api: options.admin_api,
            profiling: options.profiling,
            remote_write_receiver: options.remote_write_receiver,
            remote_write_messages: options.remote_write_messages.clone(),
            external_url: site.external.clone(),
            cors_origin: options.cors_origin.clone(),
            ready: Readiness::not_ready("starting"),
            started: begun,
            replay: web.replay.clone(),
            query_log: web.query_log.clone(),
            active,
            #[cfg(feature = "kubernetes")]
            autoscalers: kubernetes.autoscalers,
            #[cfg(not(feature = "kubernetes"))]
            autoscalers: Autoscalers::default(),
            build: BuildInfo::default(),
            metrics: registry,
            limits: ApiLimits {
                form_bytes: options.max_form_bytes,
                uri_bytes: options.max_url_bytes,
                write_bytes: options.max_write_bytes,
                write_decoded_bytes: options.max_write_bytes,
                write_pending_bytes: (options.max_write_bytes as u64).saturating_mul(PENDING_PER_BYTE),
                write_memory: remote_write,
                ..ApiLimits::default()
            },
        });
        Ok(Self {
            db,
            scraper,
            config,
            state,
            reloads,
            exemplars: features.exemplar_storage,
            #[cfg(feature = "kubernetes")]
            serving: kubernetes.serving,
            #[cfg(feature = "kubernetes")]
            looks: kubernetes.looks,
            #[cfg(not(feature = "kubernetes"))]
            looks: JoinSet::new(),
        })
    }
}

/// The parts that follow a reload.
#[derive(Clone)]
struct Reloaded {
    scraper: Manager,
    #[cfg(feature = "kubernetes")]
    adapter: Arc<Adapter>,
    db: Arc<Db>,
    /// Whether exemplars are kept.
    exemplars: bool,
    web: Web,
}

impl Reloaded {
    fn take(&self, new: &Config) -> Result<(), String> {
        // What can fail comes first: a reload is taken whole or not at all.
        self.web.query_log.reopen(Path::new(&new.global().query_log_file))?;
        #[cfg(feature = "kubernetes")]
        let metrics = self.adapter.load(new.hpa_metrics().clone())?;
        let applied = self.scraper.apply(new.jobs().to_vec(), new.external_labels());
        applied.map_err(|e| e.to_string())?;
        #[cfg(feature = "kubernetes")]
        self.adapter.take(metrics);
        self.db.set_out_of_order_ms(out_of_order_ms(new));
        if self.exemplars {
            self.db.set_max_exemplars(new.max_exemplars());
        }
        Ok(())
    }
}

/// Serves reloads until it is time to stop, or a listener fails.
async fn control(
    shutdown: &CancellationToken,
    mut reloads: mpsc::Receiver<ReloadReply>,
    config: &Arc<Reloader>,
    parts: Reloaded,
    servers: &mut JoinSet<std::io::Result<()>>,
) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        let reply = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = hangup.recv() => None,
            Some(reply) = reloads.recv() => Some(reply),
            Some(ended) = servers.join_next() => {
                tracing::error!(?ended, "a listener ended; shutting down");
                return Ok(());
            }
        };
        // Told in the log if it cannot be used; what the configuration says is another matter.
        if let Some(access) = &parts.web.access {
            drop(access.reload().await);
        }
        let (config, parts) = (config.clone(), parts.clone());
        let done = tokio::task::spawn_blocking(move || config.reload(|new| parts.take(new)))
            .await
            .unwrap_or_else(|e| Err(e.to_string()));
        if let Some(reply) = reply {
            // Whoever asked may have gone.
            drop(reply.send(done));
        }
    }
}

/// What requests come through, from the listener to the log of queries.
#[derive(Clone)]
struct Web {
    access: Option<Arc<Access>>,
    traffic: Arc<Traffic>,
    replay: Arc<Replay>,
    query_log: Arc<QueryLog>,
}

impl Web {
    fn listings(&self) -> impl Fn() -> Vec<Listing> + Send + Sync + 'static {
        let web = self.clone();
        move || {
            let mut listings = web.traffic.list();
            listings.extend(web.query_log.list());
            if let Some(access) = &web.access {
                listings.extend(access.list());
            }
            listings
        }
    }
}

/// Whoever reaches the listener may read everything; with the switches for it, also write and stop.
fn warn_if_open(access: Option<&Access>, addresses: &[SocketAddr]) {
    if access.is_some_and(|access| !access.is_open()) {
        return;
    }
    for address in addresses.iter().filter(|address| !address.ip().is_loopback()) {
        tracing::warn!(
            %address,
            "anyone who reaches this address may ask: --web.config.file or --web.read-token-file and \
             --web.write-token-file say who may"
        );
    }
}

/// The flags as `status/flags` shows them: one that follows another has the value that follows.
fn flags_in_effect(options: &AppOptions, site: &Site) -> BTreeMap<String, String> {
    let mut flags = options.flags.clone();
    let prefix = format!("/{}", site.prefix.trim_start_matches('/'));
    flags.insert("web.route-prefix".to_owned(), prefix);
    flags
}

/// The file of queries that run; those that the last run left are told.
fn active_queries(options: &AppOptions) -> Arc<ActiveQueries> {
    match ActiveQueries::open(&options.data_dir, options.max_concurrency.max(1)) {
        Ok((active, unfinished)) => {
            if !unfinished.is_empty() {
                tracing::warn!(queries = ?unfinished, "these queries did not end in the last run");
            }
            Arc::new(active)
        }
        Err(error) => {
            tracing::warn!(%error, "queries that run are not written down: a crash will not name them");
            Arc::default()
        }
    }
}

fn serve(
    listeners: Vec<TcpListener>,
    gate: &Gate,
    options: &AppOptions,
    web: &Web,
    stop: &CancellationToken,
) -> JoinSet<std::io::Result<()>> {
    let mut servers = JoinSet::new();
    for listener in listeners {
        servers.spawn(http::serve(
            listener,
            gate.clone(),
            serve_options(options, web),
            stop.clone(),
        ));
    }
    servers
}

fn serve_options(options: &AppOptions, web: &Web) -> ServeOptions {
    ServeOptions {
        max_connections: options.max_connections.max(1),
        max_head_bytes: options.max_head_bytes,
        read_timeout: or_never(options.read_timeout),
        write_timeout: or_never(options.write_timeout),
        grace: REQUEST_GRACE,
        secure: web.access.clone().map(|access| access as Arc<dyn Secure>),
        traffic: web.traffic.clone(),
    }
}

/// A time limit of 0 is none, as upstream.
fn or_never(limit: PromDuration) -> Duration {
    if limit.is_zero() { NEVER } else { limit.get() }
}

fn millis(span: PromDuration) -> i64 {
    i64::try_from(span.millis()).unwrap_or(i64::MAX)
}

fn out_of_order_ms(config: &Config) -> i64 {
    millis(config.out_of_order())
}

fn store_options(options: &AppOptions, config: &Config, head: Meter) -> StoreOptions {
    StoreOptions {
        out_of_order_ms: out_of_order_ms(config),
        block_ms: millis(options.min_block),
        max_block_ms: options.max_block.map_or(0, millis),
        retention_ms: options.retention.map_or(0, millis),
        retention_bytes: options.retention_bytes,
        fsync: match options.fsync {
            FsyncChoice::Always => Fsync::Always,
            FsyncChoice::Every(span) => Fsync::Interval(span.get()),
            FsyncChoice::Never => Fsync::Never,
        },
        encoding: match options.encoding {
            Encoding::Auto => EncodingChoice::Auto,
            Encoding::Gorilla => EncodingChoice::Gorilla,
        },
        max_series: options.max_series,
        max_series_per_timeline: options.max_series_per_target,
        max_histogram_buckets: options.max_histogram_buckets,
        max_tombstones: options.max_tombstones,
        head,
        after_round: Some(tidegauge_tsdb::allocator::give_back),
        ..StoreOptions::default()
    }
}

/// One line about what the log gave back, in the first start too. What is damaged was told place by place.
fn tell_replay(db: &Db) {
    let metrics = db.metrics();
    let of = |gauge: &AtomicU64| gauge.load(Ordering::Relaxed);
    let (torn, damaged) = (of(&metrics.wal_torn), of(&metrics.wal_damaged));
    let unreadable = of(&metrics.wal_rows_lost);
    let (segments, rows) = (of(&metrics.wal_segments), of(&metrics.replay_rows));
    let (series, blocks) = (of(&metrics.series), of(&metrics.blocks));
    let took = format!("{}ms", of(&metrics.replay_milliseconds));
    if torn + damaged + unreadable == 0 {
        tracing::info!(rows, series, segments, blocks, took, "store opened, its log replayed");
    } else {
        tracing::warn!(
            rows,
            series,
            segments,
            blocks,
            took,
            torn_ends = torn,
            damaged_places = damaged,
            unreadable_rows = unreadable,
            "store opened, its log replayed as far as it could be read; the lines before this name the places"
        );
    }
}

/// What a user can do about a store that does not open.
fn advise(error: &StoreError, options: &AppOptions) -> anyhow::Error {
    let dir = options.data_dir.display();
    let advice = match error {
        StoreError::Locked { .. } => "stop that process, or choose another folder with --storage.tsdb.path",
        StoreError::ForeignDirectory { .. } => "choose another folder with --storage.tsdb.path",
        StoreError::Io { .. } => "check that the folder can be written, or choose another with --storage.tsdb.path",
        StoreError::NewerVersion { .. } => "run the newer version, or choose another folder with --storage.tsdb.path",
        StoreError::Invalid { .. } => "correct that setting",
        StoreError::Memory(_) => "raise --memory.limit",
        StoreError::Corrupt { .. } | StoreError::Limit { .. } => "move the file away to start without it",
    };
    let cause = std::error::Error::source(error).map_or_else(String::new, |s| format!(": {s}"));
    anyhow!("cannot open the data folder {dir}: {error}{cause}; {advice}")
}
