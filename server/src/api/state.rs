//! What the handlers know of the rest of the program. Filled by start-up, shared by every request.

use super::exposition::{Listing, Registry};
use crate::active::ActiveQueries;
use crate::hpa::live::Autoscalers;
use crate::http::CorsOrigin;
#[cfg(feature = "kubernetes")]
use crate::kubeapi::Adapter;
use crate::query_log::QueryLog;
use crate::remote::ProtoMessage;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tidegauge_model::{Clock, Meter, MetricKind, Timestamp};
use tidegauge_query::Engine;
use tidegauge_scraper::Manager;
use tidegauge_tsdb::{Db, Replay};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use url::Url;

/// Everything an API handler may use.
pub struct ApiState {
    /// The store.
    pub db: Arc<Db>,
    /// Evaluates queries over it.
    pub engine: Arc<Engine>,
    /// Knows the targets.
    pub scraper: Manager,
    /// Makes metrics for autoscalers of what is stored.
    #[cfg(feature = "kubernetes")]
    pub adapter: Arc<Adapter>,
    /// Tells the time of a query that does not say.
    pub clock: Arc<dyn Clock>,
    /// Every upstream flag with its effective value (`status/flags`).
    pub flags: BTreeMap<String, String>,
    /// The configuration in force.
    pub config: Arc<dyn ConfigView>,
    /// Reload and quit.
    pub lifecycle: Lifecycle,
    /// Whether `admin/tsdb/*` is served.
    pub admin_api: bool,
    /// Whether `/debug/pprof/*` is served.
    pub profiling: bool,
    /// Whether `POST /api/v1/write` is served.
    pub remote_write_receiver: bool,
    /// The messages it takes.
    pub remote_write_messages: Vec<ProtoMessage>,
    /// The address users know; its path is the prefix that all routes lie below.
    pub external_url: Url,
    /// Whose pages may read the answers of `/api/v1`.
    pub cors_origin: CorsOrigin,
    /// Whether queries can be answered yet.
    pub ready: Readiness,
    /// When the process began.
    pub started: Timestamp,
    /// What `status/buildinfo` says.
    pub build: BuildInfo,
    /// How far the log was read at the start.
    pub replay: Arc<Replay>,
    /// Where queries are logged.
    pub query_log: Arc<QueryLog>,
    /// Which queries run.
    pub active: Arc<ActiveQueries>,
    /// The autoscalers of the cluster.
    pub autoscalers: Autoscalers,
    /// What `/metrics` shows.
    pub metrics: Registry,
    /// Bounds on single requests.
    pub limits: ApiLimits,
}

impl fmt::Debug for ApiState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiState")
            .field("external_url", &self.external_url.as_str())
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

/// The configuration as the API shows it.
pub trait ConfigView: Send + Sync {
    /// The configuration in force as YAML, defaults filled in, secrets masked.
    fn yaml(&self) -> String;
    /// The sections that are valid but have no effect in this build.
    fn unsupported(&self) -> Vec<String>;
    /// How the last load went.
    fn last_reload(&self) -> LastReload;
}

/// How the last load of the configuration went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastReload {
    /// Whether it was taken.
    pub successful: bool,
    /// When a configuration was last taken.
    pub at: Timestamp,
}

/// What a reload answers: the text is shown to whoever asked.
pub type ReloadReply = oneshot::Sender<Result<(), String>>;

/// The two switches of a running server.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    /// Whether `/-/reload` and `/-/quit` are served.
    pub enabled: bool,
    /// Takes requests to reload. Bounded; a sender waits while it is full.
    pub reload: mpsc::Sender<ReloadReply>,
    /// Cancelled to ask for shutdown.
    pub quit: CancellationToken,
}

/// Whether the server can answer, and if not, why.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<RwLock<Option<String>>>);

impl Readiness {
    /// Ready from the start, as tests are.
    pub fn ready() -> Self {
        Self::default()
    }

    /// Not ready, for a reason that users read.
    pub fn not_ready(why: impl Into<String>) -> Self {
        Self(Arc::new(RwLock::new(Some(why.into()))))
    }

    /// From now on ready.
    pub fn set_ready(&self) {
        *self.0.write() = None;
    }

    /// From now on not ready.
    pub fn set_not_ready(&self, why: impl Into<String>) {
        *self.0.write() = Some(why.into());
    }

    /// Why it is not ready; `None` if it is.
    pub fn why_not(&self) -> Option<String> {
        self.0.read().clone()
    }
}

/// What `status/buildinfo` and the build metrics say. The keys are upstream's, the strings ours.
#[derive(Debug, Clone)]
pub struct BuildInfo {
    /// The version of Prometheus whose API this is: clients switch features by it.
    pub version: String,
    /// Our own version.
    pub product_version: String,
    /// The commit.
    pub revision: String,
    /// The branch.
    pub branch: String,
    /// Who built it: here, the product.
    pub build_user: String,
    /// When it was built.
    pub build_date: String,
    /// The compiler.
    pub compiler: String,
}

impl Default for BuildInfo {
    fn default() -> Self {
        let product_version = env!("CARGO_PKG_VERSION").to_owned();
        Self {
            version: "3.5.0".into(),
            revision: option_env!("TIDEGAUGE_REVISION").unwrap_or("unknown").into(),
            branch: format!("tidegauge-{product_version}"),
            build_user: "tidegauge".into(),
            build_date: option_env!("TIDEGAUGE_BUILD_DATE").unwrap_or("unknown").into(),
            compiler: format!("rustc {}", env!("CARGO_PKG_RUST_VERSION")),
            product_version,
        }
    }
}

impl BuildInfo {
    /// The metrics that tell versions apart: ours, and the one by which others look for a Prometheus.
    pub(crate) fn list(&self) -> Vec<Listing> {
        let common = |version: &str| {
            vec![
                ("version", version.to_owned()),
                ("revision", self.revision.clone()),
                ("branch", self.branch.clone()),
                ("goversion", self.compiler.clone()),
                ("goarch", go_architecture().to_owned()),
                ("goos", std::env::consts::OS.to_owned()),
                ("tags", "unknown".to_owned()),
            ]
        };
        vec![
            (
                "prometheus_build_info",
                "Always 1; its labels say which version of Prometheus this server is compatible with.",
                MetricKind::Gauge,
                vec![(common(&self.version), 1.0)],
            ),
            (
                "tidegauge_build_info",
                "Always 1; its labels say which version of tidegauge this is.",
                MetricKind::Gauge,
                vec![(common(&self.product_version), 1.0)],
            ),
        ]
    }
}

/// The processor as upstream's label calls it.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Bounds on single requests.
#[derive(Debug, Clone)]
pub struct ApiLimits {
    /// Bytes of a form body (upstream: 10 MiB).
    pub form_bytes: usize,
    /// Bytes of a remote-write body as it arrives.
    pub write_bytes: usize,
    /// Bytes of a remote-write body after decompression (upstream: 32 MiB).
    pub write_decoded_bytes: usize,
    /// Bytes of what one remote-write request is made into until it is stored: samples, histograms, symbols.
    pub write_pending_bytes: u64,
    /// Pays for all remote-write requests under way.
    pub write_memory: Meter,
    /// Bytes of path and query of a request.
    pub uri_bytes: usize,
    /// Label sets remembered between remote-write requests.
    pub write_cached_series: usize,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            form_bytes: 10 << 20,
            write_bytes: 32 << 20,
            write_decoded_bytes: 32 << 20,
            write_pending_bytes: 128 << 20,
            write_memory: Meter::new("remote write", 192 << 20),
            uri_bytes: 64 << 10,
            write_cached_series: 1 << 20,
        }
    }
}
