//! What the tests of scraping stand on: a target that says what it is told to, and a manager over a store in memory.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, Uri};
use parking_lot::Mutex;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegauge_model::testing::MemoryStore;
use tidegauge_model::{
    Appendable, Clock, ColumnBuf, Labels, MatchOp, Matcher, Queryable, ReadContext, SelectHints, TimeRange, Timestamp,
    Values, is_stale,
};
use tidegauge_scraper::config::{GlobalConfig, ScrapeConfig, finish};
use tidegauge_scraper::{Discovered, Manager, ScrapeOptions, TargetStatus, discover_once};

/// Wall time as the tests see it: runs from a fixed point.
#[derive(Debug)]
struct RunningClock(Instant);

impl Clock for RunningClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + self.0.elapsed().as_millis() as i64)
    }
}

/// What a target answers.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

/// The content type most targets send.
pub(super) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Reply {
    pub(super) fn text(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", TEXT.to_owned())],
            body: body.into(),
        }
    }

    pub(super) fn typed(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            headers: vec![("content-type", content_type.to_owned())],
            ..Self::text(body)
        }
    }
}

/// A target on loopback whose reply can be changed.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    reply: Mutex<Reply>,
    seen: Mutex<Vec<(Uri, HeaderMap)>>,
}

impl Target {
    pub(super) async fn start(reply: Reply) -> Self {
        let shared = Arc::new(Shared {
            reply: Mutex::new(reply),
            seen: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let address = serve(router).await;
        Self { address, shared }
    }

    pub(super) fn say(&self, reply: Reply) {
        *self.shared.reply.lock() = reply;
    }

    pub(super) fn seen(&self) -> usize {
        self.shared.seen.lock().len()
    }

    pub(super) fn requests(&self) -> Vec<(Uri, HeaderMap)> {
        self.shared.seen.lock().clone()
    }

    pub(super) fn last_request(&self) -> (Uri, HeaderMap) {
        self.shared.seen.lock().last().cloned().expect("a request")
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response<Body> {
    shared.seen.lock().push((uri, headers));
    let reply = shared.reply.lock().clone();
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap();
    for (name, value) in reply.headers {
        response.headers_mut().append(name, value.parse().unwrap());
    }
    response
}

/// Serves on a free port until the test ends.
pub(super) async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A manager over a store in memory.
pub(super) struct Rig {
    pub(super) store: Arc<MemoryStore>,
    pub(super) manager: Manager,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(ScrapeOptions::default())
    }

    pub(super) fn with(options: ScrapeOptions) -> Self {
        let store = Arc::new(MemoryStore::new());
        let door: Arc<dyn Appendable> = Arc::<MemoryStore>::clone(&store);
        Self {
            manager: manager(door, options),
            store,
        }
    }

    pub(super) fn apply(&self, yaml: &str) {
        self.manager.apply(jobs(yaml), &Labels::empty()).unwrap();
    }

    /// The series a metric has, as text, with all their samples.
    pub(super) fn series(&self, metric: &str) -> Vec<(String, Vec<(i64, f64)>)> {
        series(&self.store, metric)
    }

    /// The samples of a metric that has one series; none if it has none.
    pub(super) fn one(&self, metric: &str) -> Vec<(i64, f64)> {
        samples(&self.store, metric)
    }

    /// The newest value of a metric that has one series.
    pub(super) fn last(&self, metric: &str) -> Option<f64> {
        self.one(metric).last().map(|(_, value)| *value)
    }

    pub(super) fn ends_stale(&self, metric: &str) -> bool {
        self.last(metric).is_some_and(is_stale)
    }

    pub(super) fn target(&self) -> TargetStatus {
        let mut active = self.manager.targets().active;
        assert_eq!(active.len(), 1, "{active:?}");
        active.remove(0)
    }

    /// Waits for the only target to fail; gives its error.
    pub(super) async fn error(&self) -> String {
        eventually("an error", || !self.target().last_error.is_empty()).await;
        self.target().last_error
    }

    pub(super) fn metric(&self, name: &str) -> f64 {
        let all = self.manager.metrics().list();
        let family = all
            .iter()
            .find(|family| family.0 == name)
            .expect("a metric of that name");
        family.3.iter().map(|(_, value)| value).sum()
    }

    /// Waits until so many more scrapes have ended.
    pub(super) async fn scrapes(&self, more: usize) {
        let until = self.metric("tidegauge_scrape_scrapes_total") + more as f64;
        eventually("scrapes", || self.metric("tidegauge_scrape_scrapes_total") >= until).await;
    }
}

/// The series a metric has in a store, as text, with all their samples.
fn series(store: &MemoryStore, metric: &str) -> Vec<(String, Vec<(i64, f64)>)> {
    let matchers = [Matcher::new(MatchOp::Equal, "__name__", metric).unwrap()];
    let querier = store.querier(TimeRange::ALL).unwrap();
    let cx = ReadContext::unlimited();
    let groups = querier
        .select(&matchers, &SelectHints::range(TimeRange::ALL), &cx)
        .unwrap();
    let mut buf = ColumnBuf::default();
    let mut series: Vec<_> = groups
        .iter()
        .map(|group| {
            let column = group.read(0, &mut buf).unwrap();
            let Values::Float(values) = column.values else {
                panic!("no floats")
            };
            let samples = column.timestamps.iter().map(|t| t.millis()).zip(values.iter().copied());
            (group.labels(0).to_string(), samples.collect())
        })
        .collect();
    series.sort_by(|a: &(String, Vec<(i64, f64)>), b| a.0.cmp(&b.0));
    series
}

/// The samples of a metric that has one series in a store; none if it has none.
pub(super) fn samples(store: &MemoryStore, metric: &str) -> Vec<(i64, f64)> {
    let mut series = series(store, metric);
    assert!(series.len() <= 1, "{series:?}");
    series.pop().map(|(_, samples)| samples).unwrap_or_default()
}

pub(super) fn manager(store: Arc<dyn Appendable>, options: ScrapeOptions) -> Manager {
    // Installed already by another test of this process: just as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Manager::new(store, Arc::new(RunningClock(Instant::now())), options)
}

pub(super) fn jobs(yaml: &str) -> Vec<ScrapeConfig> {
    let jobs = serde_yaml_ng::from_str(yaml).unwrap_or_else(|problem| panic!("{problem}\n{yaml}"));
    finish(jobs, &GlobalConfig::absent()).unwrap()
}

/// What a job's discovery finds.
pub(super) async fn find(job: &ScrapeConfig, options: &ScrapeOptions, wait: Duration) -> Discovered {
    let _ = rustls::crypto::ring::default_provider().install_default();
    discover_once(job, options, Arc::new(RunningClock(Instant::now())), wait).await
}

/// A job of one target that is scraped often, with more keys below it.
pub(super) fn job(address: SocketAddr, keys: &str) -> String {
    let mut yaml = String::new();
    writeln!(
        yaml,
        "- job_name: test\n  scrape_interval: 50ms\n  scrape_timeout: 50ms"
    )
    .unwrap();
    writeln!(yaml, "  static_configs: [{{targets: ['{address}']}}]").unwrap();
    for line in keys.lines() {
        writeln!(yaml, "  {line}").unwrap();
    }
    yaml
}

/// Waits for something that comes by itself.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut looks = tokio::time::interval(Duration::from_millis(3));
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        looks.tick().await;
    }
}
