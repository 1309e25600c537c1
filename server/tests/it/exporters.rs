//! Real exporters, scraped by a real Prometheus and by us: each sample that one stores from a body, the other stores
//! from the same body, as both APIs tell.
//!
//! The exporters are asked once in each format; a mirror then serves what they said to both, byte by byte, first whole
//! and then with series missing.

pub(crate) mod mirror;
mod odd;

use crate::process::{Running, free_port, peer, request, tidegauge};
use mirror::{Mirror, Recorded, record};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegauge_model::testing::HandClock;
use tidegauge_model::{
    ColumnBuf, Histogram, Labels, MatchOp, Matcher, Queryable, ReadContext, SelectHints, TimeRange, Timestamp, Values,
};
use tidegauge_scraper::parse::{Entries, Entry, Format};
use tidegauge_tsdb::{Db, Options};

const TEXT: &str = "text/plain;version=0.0.4";
const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";
const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// What a format is called in job names and in the configuration.
const FORMATS: [(&str, &str, &str); 3] = [
    ("text", TEXT, "PrometheusText0.0.4"),
    ("openmetrics", OPENMETRICS, "OpenMetricsText1.0.0"),
    ("protobuf", PROTOBUF, "PrometheusProto"),
];

fn run(dir: &Path, program: &str, name: &str, port: u16, ready: &str, args: &[String]) -> Running {
    Running::start(&peer(program), args, port, ready, &dir.join(format!("{name}.log")))
}

/// Starts the exporters; gives them with the paths to ask, by name.
fn exporters(dir: &Path) -> (Vec<Running>, Vec<(&'static str, u16, String)>) {
    let listen = |port: u16| format!("--web.listen-address=127.0.0.1:{port}");
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let storage = |name: &str| dir.join(name).display().to_string();
    let [node, source, alerts, push, probe] = std::array::from_fn(|_| free_port());
    let running = vec![
        run(
            dir,
            "prometheus-node-exporter",
            "node",
            node,
            "/metrics",
            &[listen(node)],
        ),
        run(
            dir,
            "prometheus",
            "source",
            source,
            "/-/ready",
            &[
                format!("--config.file={}", file("source.yml", "global: {}\n")),
                format!("--storage.tsdb.path={}", storage("source")),
                listen(source),
            ],
        ),
        run(
            dir,
            "prometheus-alertmanager",
            "alerts",
            alerts,
            "/-/ready",
            &[
                format!(
                    "--config.file={}",
                    file("alerts.yml", "route: {receiver: none}\nreceivers: [{name: none}]\n")
                ),
                format!("--storage.path={}", storage("alerts")),
                "--cluster.listen-address=".to_owned(),
                listen(alerts),
            ],
        ),
        run(dir, "prometheus-pushgateway", "push", push, "/-/ready", &[listen(push)]),
        run(
            dir,
            "prometheus-blackbox-exporter",
            "probe",
            probe,
            "/-/healthy",
            &[
                format!(
                    "--config.file={}",
                    file("probe.yml", "modules: {http_2xx: {prober: http}}\n")
                ),
                listen(probe),
            ],
        ),
    ];
    // Something for histograms of requests to count, and for the gateway to tell.
    for path in ["/metrics", "/api/v1/query?query=up", "/graph"] {
        request(source, "GET", path, &[], &[]).unwrap();
    }
    let pushed = b"# TYPE job_last_success_seconds gauge\njob_last_success_seconds{shard=\"a b\"} 1.5e9\n# TYPE rows summary\nrows{quantile=\"0.5\"} 3\nrows_sum 9\nrows_count 4\n";
    let answer = request(push, "POST", "/metrics/job/batch/instance/i", &[], pushed).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let metrics = "/metrics".to_owned();
    let asked = vec![
        ("node", node, metrics.clone()),
        ("prometheus", source, metrics.clone()),
        ("alertmanager", alerts, metrics.clone()),
        ("pushgateway", push, metrics.clone()),
        ("blackbox", probe, metrics),
        (
            "blackbox_probe",
            probe,
            format!("/probe?module=http_2xx&target=http://127.0.0.1:{node}/metrics"),
        ),
    ];
    (running, asked)
}

/// A body without some of its series: in text every fifth sample line, in protobuf every fifth family.
fn thinned(whole: &Recorded) -> Recorded {
    let body = if whole.content_type.starts_with("application/vnd") {
        let (mut rest, mut kept, mut nth) = (whole.body.as_slice(), Vec::new(), 0);
        while !rest.is_empty() {
            let (length, head) = length(rest);
            let (family, behind) = rest.split_at(head + length);
            nth += 1;
            if nth % 5 != 0 {
                kept.extend_from_slice(family);
            }
            rest = behind;
        }
        kept
    } else {
        let mut nth = 0;
        let kept = whole.body.split_inclusive(|byte| *byte == b'\n').filter(|line| {
            nth += usize::from(!line.starts_with(b"#"));
            line.starts_with(b"#") || nth % 5 != 0
        });
        kept.flatten().copied().collect()
    };
    Recorded { body, ..whole.clone() }
}

/// The length in front of a message, and how many bytes it takes.
fn length(bytes: &[u8]) -> (usize, usize) {
    let head = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let length = bytes[..head]
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
    (length, head)
}

/// The shared expositions as answers.
fn expositions() -> BTreeMap<String, Recorded> {
    let folder = PathBuf::from(std::env::var_os("TIDEGAUGE_SHARED").expect("TIDEGAUGE_SHARED names the shared data"));
    let facts = std::fs::read(folder.join("expositions/expected-samples.json")).unwrap();
    let facts: Value = serde_json::from_slice(&facts).unwrap();
    let files = facts["files"].as_object().unwrap();
    files
        .keys()
        .map(|file| {
            let content_type = match file.as_str() {
                _ if file.ends_with(".pb") => PROTOBUF,
                _ if file.contains(".om.") => OPENMETRICS,
                _ => TEXT,
            };
            let recorded = Recorded {
                content_type: content_type.to_owned(),
                encoding: None,
                body: std::fs::read(folder.join("expositions").join(file)).unwrap(),
            };
            (format!("/shared/{file}"), recorded)
        })
        .collect()
}

fn has_native_histograms(answer: &Recorded) -> bool {
    answer.content_type.starts_with("application/vnd")
        && Entries::new(&answer.body, Format::Protobuf).any(|entry| matches!(entry, Ok(Entry::Histogram(_))))
}

/// A path's job.
fn job_of(path: &str) -> String {
    path.trim_start_matches('/')
        .replace(['/', '.', '?', '&', '=', ':'], "-")
}

/// Both servers, scraping the same mirror.
struct Pair {
    theirs: Running,
    ours: Running,
    mirror: Mirror,
    paths: Vec<String>,
    _dir: tempfile::TempDir,
    store: PathBuf,
}

const AGENTS: [&str; 2] = ["Prometheus", "tidegauge"];

impl Pair {
    /// `keys` gives a path's job more keys.
    fn start(answers: BTreeMap<String, Recorded>, flags: &[&str], keys: impl Fn(&str) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mirror = Mirror::start();
        let paths: Vec<String> = answers.keys().cloned().collect();
        mirror.say(answers);
        let mut config = "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n".to_owned();
        for path in &paths {
            config.push_str(&format!(
                "- job_name: {}\n  metrics_path: {path}\n  static_configs: [{{targets: ['{}']}}]\n{}",
                job_of(path),
                mirror.address,
                keys(path),
            ));
        }
        let start = |program: &Path, name: &str| Running::serve(program, name, dir.path(), &config, flags);
        Self {
            theirs: start(&peer("prometheus"), "theirs"),
            ours: start(&tidegauge(), "ours"),
            mirror,
            paths,
            store: dir.path().join("ours"),
            _dir: dir,
        }
    }

    /// Waits until both have stored what the mirror says now: a scrape begins when the one before is stored.
    fn wait(&mut self) {
        let (mirror, paths) = (&self.mirror, &self.paths);
        for server in [&mut self.theirs, &mut self.ours] {
            let asked = |path: &String| AGENTS.iter().all(|agent| mirror.asked(path, agent).times >= 3);
            server.wait_for(|_| paths.iter().all(asked), "three scrapes of each");
        }
    }

    /// What both say of every job; the first of them that differ.
    fn compare(&self, native: bool) -> usize {
        let (mut wrong, mut samples) = (Vec::new(), 0);
        for path in &self.paths {
            let job = job_of(path);
            let (theirs, histograms) = samples_of(&self.theirs, &format!("{{job=\"{job}\"}}"));
            assert!(native || histograms.is_empty(), "{job}: {histograms:?}");
            let names: BTreeSet<&str> = histograms.keys().map(|l| l["__name__"].as_str()).collect();
            let others: String = names.iter().map(|name| format!(", __name__!=\"{name}\"")).collect();
            let (ours, none) = samples_of(&self.ours, &format!("{{job=\"{job}\"{others}}}"));
            assert!(none.is_empty());
            samples += theirs.len() + histograms.len();
            if theirs != ours {
                let differ = theirs
                    .iter()
                    .filter(|(l, v)| ours.get(*l) != Some(v))
                    .map(|(l, v)| (l, v, ours.get(l)));
                let more = ours
                    .iter()
                    .filter(|(l, _)| !theirs.contains_key(*l))
                    .map(|(l, v)| (l, v, None));
                wrong.push(format!(
                    "{job}: {} and {} series: {:?}",
                    theirs.len(),
                    ours.len(),
                    differ.chain(more).take(5).collect::<Vec<_>>()
                ));
            }
            let (theirs, ours) = (metadata(&self.theirs, &job), metadata(&self.ours, &job));
            let missing: Vec<_> = theirs.difference(&ours).collect();
            let more: Vec<_> = ours.difference(&theirs).collect();
            if !missing.is_empty() || !more.is_empty() {
                wrong.push(format!("{job}: metadata: missing {missing:?}, more {more:?}"));
            }
        }
        assert!(
            wrong.is_empty(),
            "{} of {}:\n{}",
            wrong.len(),
            self.paths.len(),
            wrong.join("\n")
        );
        samples
    }
}

type LabelMap = BTreeMap<String, String>;

fn label_map(metric: &Value) -> LabelMap {
    let pairs = metric.as_object().unwrap().iter();
    pairs
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect()
}

/// The floats and the histograms that a selector finds now. What depends on when a scrape ran is only known to be there.
fn samples_of(server: &Running, selector: &str) -> (BTreeMap<LabelMap, u64>, BTreeMap<LabelMap, Value>) {
    let data = server.api("/api/v1/query", &[("query", selector)]);
    let (mut floats, mut histograms) = (BTreeMap::new(), BTreeMap::new());
    for row in data["result"].as_array().unwrap() {
        let labels = label_map(&row["metric"]);
        if let Some(histogram) = row.get("histogram") {
            histograms.insert(labels, histogram[1].clone());
            continue;
        }
        let timed = matches!(
            labels["__name__"].as_str(),
            "scrape_duration_seconds" | "scrape_series_added"
        );
        let value: f64 = row["value"][1].as_str().unwrap().parse().unwrap();
        let canonical = if value.is_nan() { f64::NAN } else { value };
        floats.insert(labels, if timed { 0 } else { canonical.to_bits() });
    }
    (floats, histograms)
}

/// What is known of a job's metrics: name, type, help, unit.
fn metadata(server: &Running, job: &str) -> BTreeSet<[String; 4]> {
    let data = server.api(
        "/api/v1/targets/metadata",
        &[("match_target", &format!("{{job=\"{job}\"}}"))],
    );
    let one = |row: &Value| ["metric", "type", "help", "unit"].map(|key| row[key].as_str().unwrap().to_owned());
    data.as_array().unwrap().iter().map(one).collect()
}

/// The exemplars of a job, as a set of texts.
fn exemplars(server: &Running, job: &str) -> BTreeSet<String> {
    let range = [("start", "0"), ("end", "4102444800")];
    let query = format!("{{job=\"{job}\"}}");
    let data = server.api("/api/v1/query_exemplars", &[&range[..], &[("query", &query)]].concat());
    let series = data.as_array().unwrap().iter();
    series
        .flat_map(|series| {
            let labels = label_map(&series["seriesLabels"]);
            let list = series["exemplars"].as_array().unwrap().clone();
            list.into_iter().map(move |one| {
                let value: f64 = one["value"].as_str().unwrap().parse().unwrap();
                format!("{labels:?} {:?} {value:?}", label_map(&one["labels"]))
            })
        })
        .collect()
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS and TIDEGAUGE_SHARED"]
fn what_real_exporters_say_is_stored_as_prometheus_stores_it() {
    let dir = tempfile::tempdir().unwrap();
    let (running, asked) = exporters(dir.path());
    let mut answers = expositions();
    for (name, port, path) in &asked {
        for (format, accept, _) in FORMATS {
            let recorded = record(*port, path, accept);
            answers.insert(format!("/{name}/{format}"), recorded);
        }
    }
    drop(running);
    // One that comes packed.
    let packed = answers["/node/text"].clone();
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut to, &packed.body).unwrap();
    let body = to.finish().unwrap();
    let encoding = Some("gzip");
    answers.insert(
        "/node/gzip".to_owned(),
        Recorded {
            encoding,
            body,
            ..packed
        },
    );

    let keys = |path: &str| {
        let format = FORMATS.iter().find(|(name, ..)| path.ends_with(name));
        let protocols = format.map_or_else(String::new, |(_, _, protocol)| {
            format!("  scrape_protocols: [{protocol}]\n")
        });
        format!("  honor_timestamps: false\n{protocols}")
    };
    let flags = ["--enable-feature=exemplar-storage"];
    // Where native histograms are not wanted, upstream stores nothing of them and we their classic part.
    let all = answers.len();
    let mut plain = answers;
    plain.retain(|_, answer| !has_native_histograms(answer));
    assert!(plain.len() < all && plain.contains_key("/node/protobuf") && plain.contains_key("/pushgateway/protobuf"));
    let mut pair = Pair::start(plain.clone(), &flags, keys);
    pair.wait();
    let samples = pair.compare(false);
    assert!(samples > 20_000, "{samples}");
    for path in &pair.paths {
        let [theirs, ours] = AGENTS.map(|agent| pair.mirror.asked(path, agent).accept);
        assert_eq!(theirs, ours, "{path}");
        let job = job_of(path);
        assert_eq!(exemplars(&pair.theirs, &job), exemplars(&pair.ours, &job), "{job}");
    }
    assert!(exemplars(&pair.ours, "shared-sock-shop-front-end-om-txt").len() > 2);

    // Some series vanish.
    let thin = plain.iter().filter(|(_, answer)| answer.encoding.is_none());
    let mut fewer = plain.clone();
    fewer.extend(thin.map(|(path, answer)| (path.clone(), thinned(answer))));
    pair.mirror.say(fewer);
    pair.wait();
    let left = pair.compare(false);
    assert!(left < samples - samples / 10, "{left} of {samples}");
}

#[test]
#[ignore = "needs TIDEGAUGE_PEERS and TIDEGAUGE_SHARED"]
fn native_histograms_are_stored_as_prometheus_stores_them() {
    let dir = tempfile::tempdir().unwrap();
    let (running, asked) = exporters(dir.path());
    let mut answers = expositions();
    answers.retain(|path, _| path.ends_with(".pb") || path.ends_with("sock-shop-front-end.om.txt"));
    let (_, port, path) = &asked[1];
    let recorded = record(*port, path, PROTOBUF);
    drop(running);
    for case in ["native", "classic", "limit", "factor", "custom", "both"] {
        answers.insert(format!("/prometheus/{case}"), recorded.clone());
    }
    let keys = |path: &str| {
        let keys = match path.rsplit('/').next().unwrap() {
            "classic" => "  always_scrape_classic_histograms: true\n",
            "limit" => "  native_histogram_bucket_limit: 3\n",
            "factor" => "  native_histogram_min_bucket_factor: 2\n",
            "custom" | "sock-shop-front-end.om.txt" => "  convert_classic_histograms_to_nhcb: true\n",
            "both" => "  convert_classic_histograms_to_nhcb: true\n  always_scrape_classic_histograms: true\n",
            _ => "",
        };
        format!("  honor_timestamps: false\n{keys}")
    };
    let mut pair = Pair::start(answers, &["--enable-feature=native-histograms"], keys);
    pair.wait();
    pair.compare(true);
    let mut expected = BTreeMap::new();
    for path in &pair.paths {
        let [theirs, ours] = AGENTS.map(|agent| pair.mirror.asked(path, agent).accept);
        assert_eq!(theirs, ours, "{path}");
        let (_, histograms) = samples_of(&pair.theirs, &format!("{{job=\"{}\"}}", job_of(path)));
        assert!(!histograms.is_empty(), "{path}");
        expected.extend(histograms);
    }
    let Pair { ours, store, _dir, .. } = pair;
    ours.kill();
    let stored = stored_histograms(&store);
    let mut wrong = Vec::new();
    for (labels, theirs) in &expected {
        match stored.get(labels) {
            Some(ours) if same(theirs, ours) => {}
            ours => wrong.push(format!("{labels:?}\n  theirs {theirs}\n  ours {ours:?}")),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        expected.len(),
        wrong.join("\n")
    );
    assert_eq!(stored.len(), expected.len());
}

/// The newest histogram of every series in a store that nobody has open.
fn stored_histograms(dir: &Path) -> BTreeMap<LabelMap, Histogram> {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    let clock = Arc::new(HandClock::at(Timestamp::from_millis(now)));
    let db = Db::open(dir, Options::default(), clock).unwrap();
    let any = [Matcher::new(MatchOp::Regex, "__name__", ".+").unwrap()];
    let cx = ReadContext::unlimited();
    let querier = db.querier(TimeRange::ALL).unwrap();
    let groups = querier.select(&any, &SelectHints::range(TimeRange::ALL), &cx).unwrap();
    let mut found = BTreeMap::new();
    let mut buf = ColumnBuf::default();
    for group in &groups {
        for place in 0..group.len() {
            let labels: Labels = group.labels(place).clone();
            if let Values::Histogram(values) = group.read(place, &mut buf).unwrap().values
                && let Some(last) = values.iter().next_back()
            {
                let labels = labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
                found.insert(labels, Histogram::clone(last));
            }
        }
    }
    found
}

/// Whether the API's form of a histogram is that of this one: count, sum, and its buckets by their bounds.
fn same(shown: &Value, stored: &Histogram) -> bool {
    let number = |value: &Value| value.as_str().unwrap().parse::<f64>().unwrap();
    let close = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 * a.abs();
    let bound = |index: i64| match stored.schema {
        -53 => match usize::try_from(index) {
            Ok(at) => stored.custom_values.get(at).copied().unwrap_or(f64::INFINITY),
            Err(_) => f64::NEG_INFINITY,
        },
        schema => (index as f64 * (-f64::from(schema)).exp2()).exp2(),
    };
    let side = |spans: &[tidegauge_model::Span], counts: &[f64]| {
        let mut index = 0i64;
        let mut counts = counts.iter();
        let mut found = Vec::new();
        for span in spans {
            index += i64::from(span.offset);
            for _ in 0..span.length {
                let count = *counts.next().unwrap();
                if count != 0.0 {
                    found.push((bound(index), count));
                }
                index += 1;
            }
        }
        found
    };
    let mut buckets = side(&stored.negative_spans, &stored.negative_buckets);
    buckets.reverse();
    if stored.zero_count != 0.0 {
        buckets.push((stored.zero_threshold, stored.zero_count));
    }
    buckets.extend(side(&stored.positive_spans, &stored.positive_buckets));
    let shown_buckets = shown
        .get("buckets")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let upper = |bucket: &Value| {
        number(&bucket[2]).abs().max(if number(&bucket[1]) < 0.0 {
            number(&bucket[1]).abs()
        } else {
            0.0
        })
    };
    close(number(&shown["count"]), stored.count)
        && close(number(&shown["sum"]), stored.sum)
        && shown_buckets.len() == buckets.len()
        && shown_buckets
            .iter()
            .zip(&buckets)
            .all(|(shown, (bound, count))| close(number(&shown[3]), *count) && close(upper(shown), bound.abs()))
}
