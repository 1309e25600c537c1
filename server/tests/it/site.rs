//! A server without sockets: the routes over a store in a temporary directory, with a clock set by hand.

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::response::Response;
use std::collections::BTreeMap;
use std::sync::Arc;
use tempfile::TempDir;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable, Clock, Labels, OnReject, Timestamp};
use tidegauge_query::{Engine, EngineOptions};
use tidegauge_scraper::{Manager, ScrapeOptions};
use tidegauge_server::active::ActiveQueries;
use tidegauge_server::api::{
    ApiLimits, ApiState, BuildInfo, ConfigView, Front, LastReload, Lifecycle, ProtoMessage, Readiness, Registry,
    ReloadReply,
};
use tidegauge_server::hpa::live::Autoscalers;
use tidegauge_server::query_log::QueryLog;
use tidegauge_tsdb::{Db, Options};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

/// The time at which tests happen, unless they say otherwise: that of the recorded answers.
pub(crate) const NOW_MS: i64 = 1_795_225_176_500;

/// What differs from test to test.
pub(crate) struct Switches {
    pub(crate) external_url: &'static str,
    pub(crate) cors_origin: &'static str,
    pub(crate) lifecycle: bool,
    pub(crate) admin_api: bool,
    pub(crate) remote_write: bool,
    pub(crate) ready: Readiness,
    pub(crate) limits: ApiLimits,
    pub(crate) engine: EngineOptions,
    /// Most series in the store.
    pub(crate) max_series: u64,
    /// What tells handlers the time instead of a clock that stands.
    pub(crate) clock: Option<Arc<dyn Clock>>,
    pub(crate) config: Arc<dyn ConfigView>,
    pub(crate) query_log: Arc<QueryLog>,
    pub(crate) active: Arc<ActiveQueries>,
    pub(crate) autoscalers: Autoscalers,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            external_url: "http://example-host:9090/",
            cors_origin: ".*",
            lifecycle: true,
            admin_api: true,
            remote_write: true,
            ready: Readiness::ready(),
            limits: ApiLimits::default(),
            engine: EngineOptions::default(),
            max_series: 0,
            clock: None,
            config: Arc::new(FixedConfig),
            query_log: Arc::default(),
            active: Arc::default(),
            autoscalers: Autoscalers::default(),
        }
    }
}

pub(crate) struct Site {
    pub(crate) app: Arc<Front>,
    pub(crate) db: Arc<Db>,
    pub(crate) scraper: Manager,
    pub(crate) reloads: mpsc::Receiver<ReloadReply>,
    pub(crate) quit: CancellationToken,
    pub(crate) dir: TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    /// As it came.
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 64 << 20).await.unwrap();
        Self {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
            bytes: bytes.into(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

#[derive(Debug)]
struct FixedConfig;

impl ConfigView for FixedConfig {
    fn yaml(&self) -> String {
        "global:\n  scrape_interval: 15s\n".into()
    }

    fn unsupported(&self) -> Vec<String> {
        vec!["rule_files".into()]
    }

    fn last_reload(&self) -> LastReload {
        LastReload {
            successful: true,
            at: Timestamp::from_millis(NOW_MS - 5000),
        }
    }
}

/// Metrics of whatever carries the labels of pods.
#[cfg(feature = "kubernetes")]
fn automatic(db: &Arc<Db>, engine: &Arc<Engine>, clock: &Arc<dyn Clock>) -> Arc<tidegauge_server::kubeapi::Adapter> {
    let own = tidegauge_server::config::HpaMetrics::default();
    tidegauge_server::kubeapi::Adapter::open(db.clone(), engine.clone(), clock.clone(), None, own).unwrap()
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(Switches::default())
    }

    pub(crate) fn with(switches: Switches) -> Self {
        // Once per process; a second choice is refused, which is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(HandClock::at(Timestamp::from_millis(NOW_MS)));
        let options = Options {
            maintenance: None,
            max_series: switches.max_series,
            ..Options::default()
        };
        let db = Db::open(dir.path(), options, clock.clone()).unwrap();
        let (reload, reloads) = mpsc::channel(1);
        let quit = CancellationToken::new();
        let mut metrics = Registry::new();
        let store = db.clone();
        metrics.add(move || store.metrics().list());
        let flag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let scraper = Manager::new(db.clone(), clock.clone(), ScrapeOptions::default());
        let engine = Arc::new(Engine::new(switches.engine));
        let state = ApiState {
            db: db.clone(),
            #[cfg(feature = "kubernetes")]
            adapter: automatic(&db, &engine, &clock),
            engine,
            scraper: scraper.clone(),
            clock: switches.clock.unwrap_or(clock),
            flags: BTreeMap::from([
                flag("storage.tsdb.retention.time", "15d"),
                flag("web.listen-address", "127.0.0.1:9090"),
            ]),
            config: switches.config,
            lifecycle: Lifecycle {
                enabled: switches.lifecycle,
                reload,
                quit: quit.clone(),
            },
            admin_api: switches.admin_api,
            profiling: false,
            remote_write_receiver: switches.remote_write,
            remote_write_messages: ProtoMessage::ALL.to_vec(),
            external_url: Url::parse(switches.external_url).unwrap(),
            cors_origin: switches.cors_origin.parse().unwrap(),
            ready: switches.ready,
            started: Timestamp::from_millis(NOW_MS - 60_000),
            build: BuildInfo::default(),
            replay: Arc::default(),
            query_log: switches.query_log,
            active: switches.active,
            autoscalers: switches.autoscalers,
            metrics,
            limits: switches.limits,
        };
        Self {
            app: Arc::new(Front::new(Arc::new(state))),
            db,
            scraper,
            reloads,
            quit,
            dir,
        }
    }

    /// Stores one series.
    pub(crate) fn store(&self, labels: &[(&str, &str)], samples: &[(i64, f64)]) {
        let mut appender = self.db.appender();
        let series = appender
            .resolve(None, &Labels::from_pairs(labels.iter().copied()).unwrap())
            .unwrap();
        for (at_ms, value) in samples {
            appender
                .append_at(series, Timestamp::from_millis(*at_ms), *value)
                .unwrap();
        }
        appender.commit(OnReject::Fail).unwrap();
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        Answer::of(self.app.answer(request).await).await
    }

    /// As [`Site::send`], past the short way that some reads have.
    pub(crate) async fn send_by_router(&self, request: Request<Body>) -> Answer {
        Answer::of(self.app.route(request).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path).await
    }

    pub(crate) async fn call(&self, method: Method, path: &str) -> Answer {
        self.send(Request::builder().method(method).uri(path).body(Body::empty()).unwrap())
            .await
    }

    pub(crate) async fn post_form(&self, path: &str, form: &str) -> Answer {
        let request = Request::post(path)
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .body(Body::from(form.to_owned()))
            .unwrap();
        self.send(request).await
    }
}

/// Escapes a text for a query string.
pub(crate) fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
