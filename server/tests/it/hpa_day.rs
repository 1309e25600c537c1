//! A day of one Deployment, played: its pods' use is stored as the kubelet gives it, the metrics API makes `kubectl top` of it,
//! the autoscaler looks at each sync, and what it wants is done.
//!
//! The service computes, and each pod may use 200m. At nine the load comes, and the one pod there is goes to its limit; a
//! second one comes, and the load settles unevenly. At six it goes.

use crate::apiserver::ApiServer;
use crate::sources::sources;
use std::fmt::Write as _;
use std::sync::Arc;
use tempfile::TempDir;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{Appendable, Labels, OnReject, Timestamp};
use tidegauge_query::{Engine, EngineOptions};
use tidegauge_scraper::{ClusterAt, Manager, ScrapeOptions};
use tidegauge_server::hpa::explain;
use tidegauge_server::hpa::formula::{Request, Scale};
use tidegauge_server::hpa::live::scale::TargetScale;
use tidegauge_server::hpa::live::{Sighted, Sourced, look};
use tidegauge_server::hpa::pods::{Phase, Pod, Ready, Status};
use tidegauge_server::hpa::{Decision, History, Hpa, Path, Settings, manifest};
use tidegauge_server::kubeapi::{Sources, resource};
use tidegauge_tsdb::{Db, Fsync, Options};

/// Midnight.
const BEGIN: i64 = 1_760_054_400_000;
const STEP: i64 = 15_000;
/// The kubelet is scraped, and this much later the controller looks.
const LATER: i64 = 5_000;
/// How long a new pod takes until it is ready.
const START: i64 = 25_000;
const HPA: &str = "apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: scrypt-server, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: scrypt-server}
  minReplicas: 1
  maxReplicas: 10
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
";

/// Hours, minutes, seconds of the day as milliseconds.
fn clock(hours: i64, minutes: i64, seconds: i64) -> i64 {
    ((hours * 60 + minutes) * 60 + seconds) * 1000
}

fn hms(at: i64) -> String {
    let seconds = at / 1000;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A pod of the Deployment.
struct Running {
    name: String,
    started: i64,
    /// Core seconds since it began.
    used: f64,
}

impl Running {
    fn ready_at(&self) -> i64 {
        self.started + START
    }
}

/// Thousandths that each pod uses at a time of the day. What it used before stays with the first pod for two minutes after
/// the second is there: connections are kept.
fn load(at: i64, pods: &[Running]) -> Vec<f64> {
    let ready = pods.iter().filter(|pod| pod.ready_at() <= at).count();
    let settled = pods.get(1).is_some_and(|second| second.ready_at() + 120_000 <= at);
    let mut each = match at {
        // It creeps up, to just within the tolerance.
        _ if at < clock(9, 0, 0) => vec![20.0 + 85.0 * at as f64 / clock(9, 0, 0) as f64],
        _ if at < clock(18, 0, 0) && settled => vec![115.0, 15.0],
        _ if at < clock(18, 0, 0) => vec![194.0, 1.0],
        _ => vec![10.0, 10.0],
    };
    each.truncate(ready);
    each
}

/// The Deployment, its pods and what is stored of them.
struct Day {
    api: ApiServer,
    sources: Sources,
    clock: Arc<HandClock>,
    db: Arc<Db>,
    pods: Vec<Running>,
    named: usize,
    hpa: Hpa,
    history: History,
    settings: Settings,
    /// Changes: when, from, to.
    changes: Vec<(i64, i32, i32)>,
    _dir: TempDir,
}

impl Day {
    async fn new() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let (dir, api) = (tempfile::tempdir().expect("a folder"), ApiServer::plain());
        let hand = Arc::new(HandClock::at(Timestamp::from_millis(BEGIN)));
        let options = Options {
            fsync: Fsync::Never,
            retention_ms: 0,
            maintenance: None,
            ..Options::default()
        };
        let db = Db::open(&dir.path().join("data"), options, hand.clone()).expect("a store");
        let engine = Arc::new(Engine::new(EngineOptions::default()));
        let scraper = Manager::new(db.clone(), hand.clone(), ScrapeOptions::default());
        let at = ClusterAt::Kubeconfig(api.kubeconfig(dir.path(), "t"));
        let cluster = scraper.cluster(at).expect("a cluster");
        let mut day = Self {
            api,
            sources: sources(db.clone(), engine, hand.clone(), cluster),
            clock: hand,
            db,
            pods: Vec::new(),
            named: 0,
            hpa: manifest::read(HPA).expect("a manifest").remove(0),
            history: History::default(),
            settings: Settings::default(),
            changes: Vec::new(),
            _dir: dir,
        };
        // The first one has been there since yesterday.
        day.start(-clock(10, 0, 0));
        day.known().await;
        day
    }

    fn start(&mut self, at: i64) {
        self.named += 1;
        let name = format!("scrypt-server-59988f6b74-{}", self.named);
        self.api.put(&name, "127.0.0.1", 1);
        self.pods.push(Running {
            name,
            started: at,
            used: 0.0,
        });
    }

    /// Waits until the metrics API knows of the pods there are, and of no others.
    async fn known(&self) {
        loop {
            let mut seen = Vec::new();
            self.sources.pods.each(|pod| seen.push(pod.meta().name().to_owned()));
            seen.sort();
            if self.pods.iter().map(|pod| &pod.name).eq(&seen) {
                return;
            }
            self.sources.pods.changed().await;
        }
    }

    /// The kubelet's answer at a time, one row, stamped by when it measured: a second before.
    fn scrape(&mut self, at: i64) {
        let each = load(at - STEP, &self.pods);
        let mut appender = self.db.appender();
        let stamped = Timestamp::from_millis(BEGIN + at - 1000);
        for (pod, milli) in self.pods.iter_mut().zip(each) {
            pod.used += milli / 1000.0 * (STEP as f64 / 1000.0);
            for (name, value) in [
                ("container_cpu_usage_seconds_total", pod.used),
                ("container_memory_working_set_bytes", 11.5 * 1024.0 * 1024.0),
                (
                    "container_start_time_seconds",
                    (BEGIN + pod.started + 2000) as f64 / 1000.0,
                ),
            ] {
                let labels = [
                    ("__name__", name),
                    ("container", "scrypt-server"),
                    ("instance", "node-1"),
                    ("job", "kubelet-resource"),
                    ("namespace", "shop"),
                    ("pod", pod.name.as_str()),
                ];
                let labels = Labels::from_pairs(labels).expect("labels");
                let series = appender.resolve(None, &labels).expect("a series");
                appender.append_at(series, stamped, value).expect("it is taken");
            }
        }
        appender.commit(OnReject::Fail).expect("it is written");
    }

    /// What the API server says of the pods.
    fn seen(&self, at: i64) -> Vec<Pod> {
        let seen = self.pods.iter().map(|pod| {
            let is_ready = pod.ready_at() <= at;
            Pod {
                name: pod.name.as_str().into(),
                phase: if is_ready { Phase::Running } else { Phase::Pending },
                deleting: false,
                started: Some(Timestamp::from_millis(BEGIN + pod.started)),
                ready: is_ready.then(|| Ready {
                    status: Status::True,
                    since: Timestamp::from_millis(BEGIN + pod.ready_at()),
                }),
            }
        });
        seen.collect()
    }

    /// One sync: it looks, and what it wants is done.
    async fn sync(&mut self, at: i64) -> (Decision, String) {
        let now = Timestamp::from_millis(BEGIN + at);
        self.clock.set(now);
        let current = i32::try_from(self.pods.len()).expect("few");
        let scale = TargetScale {
            replicas: Scale {
                spec: current,
                status: current,
            },
            selector: "name=scrypt-server".to_owned(),
        };
        let pods = self.seen(at);
        let sighted = Sighted {
            now,
            hpa: &self.hpa,
            settings: &self.settings,
            scale: &scale,
            pods: &pods,
            requests: &|_, _, _| Request::Milli(200),
            barred: None,
        };
        let decided = look(&sighted, &Sourced::new(&self.sources), &mut self.history);
        let told = explain::Told {
            hpa: &self.hpa,
            settings: &self.settings,
            queries: &decided.queries,
            pods: &decided.pods,
            missing: &decided.missing,
        };
        let text = explain::text(&decided.decision, told);
        let desired = decided.decision.desired;
        if desired != current {
            self.changes.push((at, current, desired));
            let wanted = usize::try_from(desired).expect("not below none");
            while self.pods.len() < wanted {
                self.start(at);
            }
            // The youngest goes first.
            for gone in self.pods.drain(wanted.min(self.pods.len())..) {
                self.api.delete(&gone.name);
            }
            self.known().await;
        }
        (decided.decision, text)
    }

    /// `kubectl top pods`, as it rounds.
    fn top(&self) -> Vec<(String, i64, i64)> {
        let used = resource::pods(&self.sources, Some("shop"), |_, _| true).expect("it can be read");
        let rows = used.into_iter().map(|pod| {
            let cpu: i64 = pod.containers.iter().map(|one| one.cpu_nano).sum();
            let memory: i64 = pod.containers.iter().map(|one| one.memory_bytes).sum();
            (pod.name, (cpu + 999_999) / 1_000_000, memory >> 20)
        });
        rows.collect()
    }
}

fn table(rows: &[(String, i64, i64)]) -> String {
    let mut out = format!("{:<34}{:<13}{}\n", "NAME", "CPU(cores)", "MEMORY(bytes)");
    for (name, milli, mib) in rows {
        let _ = writeln!(out, "{name:<34}{:<13}{mib}Mi", format!("{milli}m"));
    }
    out
}

/// Percent of requests that counted first, if metrics were looked at.
fn ratio(decision: &Decision) -> Option<f64> {
    decision.metrics.first()?.trace.first.map(|first| first.ratio)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_a_deployment_goes_as_its_autoscaler_wants_it() {
    let mut day = Day::new().await;
    let mut shown = Vec::new();
    let mut stabilized = 0;
    let moments = [
        clock(8, 59, 45),
        clock(9, 1, 0),
        clock(12, 0, 0),
        clock(18, 3, 0),
        clock(23, 0, 0),
    ];
    for step in 1..24 * 240 {
        let at = step * STEP;
        day.scrape(at);
        let before = day.pods.len();
        let (decision, text) = day.sync(at + LATER).await;
        let top = day.top();
        if day.pods.len() != before || moments.contains(&at) {
            println!("{} {}{text}", hms(at + LATER), table(&top));
            shown.push((at, top.iter().map(|row| row.1).collect::<Vec<_>>(), ratio(&decision)));
        }
        if let Path::Metrics { stabilized: held, .. } = &decision.path
            && held.replicas != held.desired
        {
            stabilized += 1;
        }
    }
    // Pods, changes, and what was seen at each.
    let expected: Vec<(i64, Vec<i64>, Option<f64>)> = vec![
        // 52 % of 50 %: within the tolerance, all morning.
        (clock(8, 59, 45), vec![105], Some(1.04)),
        // The first sync that sees 97 %: ceil(1 x 1.94) = 2.
        (clock(9, 0, 15), vec![194], Some(1.94)),
        // The second was measured before it was ready for so long. If it uses nothing, 48 % are near enough.
        (clock(9, 1, 0), vec![194, 1], Some(1.94)),
        // 32 % of 50 %: ceil(2 x 0.64) = 2.
        (clock(12, 0, 0), vec![115, 15], Some(0.64)),
        // 5 %, and one would do; two were wanted less than five minutes ago.
        (clock(18, 3, 0), vec![10, 10], Some(0.1)),
        (clock(18, 5, 15), vec![10], Some(0.1)),
        (clock(23, 0, 0), vec![10], Some(0.1)),
    ];
    assert_eq!(shown, expected);
    // Up by the first look at it, twenty seconds after; down five minutes after the last look that wanted two.
    assert_eq!(day.changes, [(clock(9, 0, 20), 1, 2), (clock(18, 5, 20), 2, 1)],);
    assert_eq!(stabilized, 20, "looks that wanted one and had to keep two");
}
